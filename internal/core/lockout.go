package core

import (
	"cmp"
	"maps"
	"sort"
	"strings"
	"sync"
	"time"

	"arca/internal/bounded"
	"arca/internal/engine"
	"arca/internal/mount"
)

// A Lockout says when a user is locked out, for one type of auth method or all,
// as the stanza user_lockout of the configuration has it.
type Lockout struct {
	Type         string // all, userpass, ldap, approle
	Threshold    int
	Duration     time.Duration
	CounterReset time.Duration
	Disable      bool
}

// The defaults of https://developer.hashicorp.com/vault/docs/concepts/user-lockout.
const (
	lockoutThreshold = 5
	lockoutTime      = 15 * time.Minute
	// maxLockouts bounds how many names are remembered.
	maxLockouts = 1 << 16
)

// A user is a name of one auth mount.
type user struct{ accessor, name string }

// failures are those of one user.
type failures struct {
	nsID, nsPath string
	count        int
	last         time.Time
	reset        time.Duration // how long they count
	until        time.Time     // locked; zero: not
}

func (f *failures) over(now time.Time) bool {
	return !now.Before(f.last.Add(f.reset)) && !now.Before(f.until)
}

// lockouts counts wrong passwords, in memory: a restart forgets them.
type lockouts struct {
	mu    sync.Mutex
	users map[user]*failures // guarded by mu
}

// lockoutOf is the rule for a mount; ok is false when its users are never locked out.
func (c *Core) lockoutOf(m *mount.Entry) (l Lockout, ok bool) {
	switch m.Type {
	case "userpass", "ldap", "approle":
	default:
		return l, false
	}
	l = Lockout{Threshold: lockoutThreshold, Duration: lockoutTime, CounterReset: lockoutTime}
	for _, typ := range [...]string{"all", m.Type} {
		for _, set := range c.cfg.Lockouts {
			if set.Type == typ {
				l = set
			}
		}
	}
	if t := m.Config.Lockout; t != nil {
		l.Disable = t.Disable
		if t.Threshold > 0 {
			l.Threshold = int(min(t.Threshold, 1<<30))
		}
		if t.Duration > 0 {
			l.Duration = t.Duration
		}
		if t.CounterReset > 0 {
			l.CounterReset = t.CounterReset
		}
	}
	return l, !l.Disable && l.Threshold > 0
}

// A try is a login that counts when it fails: of whom, and by which rule. Nobody's does not count.
type try struct {
	user user
	rule Lockout
}

// trying is the login that the request tries, if it is one that counts.
func (h *handling) trying() (t try) {
	if h.route == nil || !h.route.Login || h.entry == nil {
		return t
	}
	rule, ok := h.c.lockoutOf(h.entry)
	if !ok {
		return t
	}
	if name := h.route.LoginName(h.call); name != "" {
		t = try{user{h.entry.Accessor, name}, rule}
	}
	return t
}

// checkLockout refuses a login for a user who is locked out.
func (h *handling) checkLockout() error {
	h.try = h.trying()
	if h.try.user.name == "" {
		return nil
	}
	l := &h.a.lockouts
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locked(h.try.user, h.now) {
		return errNoToken
	}
	return nil
}

// lockedOut reports whether a user of a mount is locked out.
func (a *Active) lockedOut(m *mount.Entry, u user, now time.Time) bool {
	if _, ok := a.core.lockoutOf(m); u.name == "" || !ok {
		return false
	}
	l := &a.lockouts
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locked(u, now)
}

// locked reports whether a user is locked out. mu is held.
func (l *lockouts) locked(u user, now time.Time) bool {
	f := l.users[u]
	return f != nil && now.Before(f.until)
}

// judgeLogin counts a wrong password. What a login has found out counts for nothing when the user was locked out while it
// looked: otherwise those who guess all at once had as many guesses as there are requests.
func (h *handling) judgeLogin(err error) error {
	u, rule := h.try.user, h.try.rule
	if u.name == "" {
		return err
	}
	l := &h.a.lockouts
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.users[u]
	switch {
	case l.locked(u, h.now):
		return errNoToken
	case !engine.IsBadCredentials(err):
		return err
	case f == nil || f.over(h.now):
		if l.users == nil {
			l.users = map[user]*failures{}
		}
		bounded.MakeRoom(l.users, maxLockouts, func(f *failures) bool { return f.over(h.now) },
			func(a, b *failures) int { return cmp.Or(a.until.Compare(b.until), a.last.Compare(b.last)) })
		f = &failures{nsID: h.ns.ID, nsPath: h.ns.Path}
		l.users[u] = f
	}
	f.count++
	f.last, f.reset = h.now, rule.CounterReset
	if f.count >= rule.Threshold {
		f.until = h.now.Add(rule.Duration)
		h.c.meters.lockedOut.Add(1)
		h.c.log.Warn("a user is locked out after too many wrong passwords", "mount", h.entry.Path, "namespace", h.ns.Path, "until", f.until)
	}
	return err
}

// forgiveLogin forgets a user's wrong passwords after one who was let in.
func (h *handling) forgiveLogin() {
	u := h.try.user
	if h.try.user.name == "" {
		return
	}
	l := &h.a.lockouts
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.locked(u, h.now) {
		delete(l.users, u)
	}
}

// A LockedUser is a user who is locked out.
type LockedUser struct{ NamespaceID, NamespacePath, Accessor, Name string }

// LockedUsers lists who is locked out in a namespace and those below, in order;
// accessor narrows it to one mount, "" does not.
func (a *Active) LockedUsers(nsPath, accessor string, now time.Time) []LockedUser {
	l := &a.lockouts
	l.mu.Lock()
	var out []LockedUser
	for u, f := range l.users {
		if now.Before(f.until) && strings.HasPrefix(f.nsPath, nsPath) && (accessor == "" || accessor == u.accessor) {
			out = append(out, LockedUser{f.nsID, f.nsPath, u.accessor, u.name})
		}
	}
	l.mu.Unlock()
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		return a.NamespacePath+"\x00"+a.Accessor+"\x00"+a.Name < b.NamespacePath+"\x00"+b.Accessor+"\x00"+b.Name
	})
	return out
}

// UnlockUser lets a user of this namespace or one below try again.
func (a *Active) UnlockUser(nsPath, accessor, name string) {
	l := &a.lockouts
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.users, func(u user, f *failures) bool { // by any spelling that the method takes for the same
		return u.accessor == accessor && strings.EqualFold(u.name, name) && strings.HasPrefix(f.nsPath, nsPath)
	})
}
