package kmip

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/telemetry"
	"arca/internal/ttlv"
)

// How many objects and certificates there are, for sys/metrics. The active node looks at
// some of them each minute, in the order of their keys, and tells what a walk through all
// has found when it ends: a million objects cost a minute no more than 20,000 do, and
// nothing where nobody asks.
const (
	censusAtOnce = 20_000    // records a minute, of all mounts
	censusAsked  = time.Hour // it goes on for so long after metrics were asked for
	maxCensus    = 500       // series of a gauge, of a mount
	maxKinds     = 10_000    // that a walk tells apart
	credentials  = "cred/"   // the first part of a walk,
	objects      = "o/"      // and the second
	day          = 24 * time.Hour
)

// A census goes through the mounts, one after the other.
type census struct {
	asked atomic.Int64 // when gauges were asked for last, in Unix seconds

	walks map[string]*walk // by id of the mount; of the goroutine that counts
	next  string           // id of the mount to go on with

	mu   sync.Mutex
	told map[string]*found // by id of the mount; guarded by mu
}

// A walk is one that has not ended.
type walk struct {
	dir, after string // the last key seen
	tally
}

// A tally is what a walk has found.
type tally struct {
	objects map[objectKind]int
	roles   map[roleID]*expiry
}

// A found is what a walk has found when it ended, by names.
type found struct {
	objects []objectsFound
	roles   []roleFound
}

type (
	objectsFound struct {
		scope      string
		typ, state uint32
		n          int
	}
	roleFound struct {
		scope, role string
		expiry
	}
	objectKind struct {
		scope      string // id
		typ, state uint32 // state 0 is none
	}
	roleID struct{ scope, role string }
	expiry struct {
		n           int       // certificates that are valid
		first, last time.Time // when they end
	}
)

func newWalk() *walk {
	return &walk{dir: credentials, tally: tally{map[objectKind]int{}, map[roleID]*expiry{}}}
}

// count goes on with the census, on the active node.
func (s *servers) count(ctx context.Context, host engine.Host, now time.Time) {
	c := &s.census
	wanted := now.Unix()-c.asked.Load() <= int64(censusAsked/time.Second)
	if !host.Leads() || !wanted {
		c.forget()
		return
	}
	s.mu.Lock()
	places := map[string]*place{}
	for id, v := range s.byMount {
		if at := v.at.Load(); at != nil {
			places[id] = at
		}
	}
	s.mu.Unlock()
	ids := make([]string, 0, len(places))
	for id := range places {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	first, _ := slices.BinarySearch(ids, c.next)
	ids = append(ids[first:], ids[:first]...)
	c.keep(places)
	for i, left := 0, censusAtOnce; i < len(ids) && left > 0 && ctx.Err() == nil; i++ {
		id := ids[i]
		w := c.walks[id]
		if w == nil {
			w = newWalk()
		}
		var all found
		var over bool
		var err error
		left, over, err = w.on(ctx, host, places[id].Mount, &all, left, now)
		if err != nil {
			if ctx.Err() == nil && !errs.Is(err, errs.NotFound) && !errors.Is(err, storage.ErrNotFound) {
				host.Log().Warn("count the objects of a mount for telemetry", "mount", places[id].NamespacePath+places[id].Mount.Path, "error", err)
			}
			delete(c.walks, id)
			continue
		}
		c.next, c.walks[id] = id, w
		if over {
			delete(c.walks, id)
			c.mu.Lock()
			c.told[id] = &all
			c.mu.Unlock()
			c.next = id + "\x00" // the one behind it
		}
	}
}

// keep drops what is known of mounts that are gone.
func (c *census) keep(all map[string]*place) {
	if c.walks == nil {
		c.walks = map[string]*walk{}
	}
	for id := range c.walks {
		if all[id] == nil {
			delete(c.walks, id)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil {
		c.told = map[string]*found{}
	}
	for id := range c.told {
		if all[id] == nil {
			delete(c.told, id)
		}
	}
}

func (c *census) forget() {
	c.walks = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = nil
}

// on goes on with a walk by at most left records; over tells that it has ended. The
// records are read past the engine's caches: they belong to what is in use.
func (w *walk) on(ctx context.Context, host engine.Host, m *engine.Mount, all *found, left int, now time.Time) (rest int, over bool, err error) {
	err = host.View(ctx, m, func(tx storage.Tx) error {
		for left > 0 && !over {
			before := left
			if left, err = w.some(tx, left, now); err != nil {
				return err
			}
			switch {
			case left == 0 && before > 0: // it may be the end, which is found out next time
			case w.dir == credentials:
				w.dir, w.after = objects, ""
			default:
				over = true
			}
		}
		if over {
			*all, err = w.named(tx)
		}
		return err
	})
	return left, over, err
}

// some looks at records of one directory, and returns how many more it might have.
func (w *walk) some(tx storage.Tx, left int, now time.Time) (int, error) {
	for kv, err := range tx.Scan(w.dir, w.after) {
		if err != nil {
			return left, err
		}
		if left == 0 {
			break
		}
		left--
		w.after = kv.Key
		scope, rest, _ := strings.Cut(strings.TrimPrefix(kv.Key, w.dir), "/")
		if w.dir == credentials {
			role, _, _ := strings.Cut(rest, "/")
			err = w.credential(roleID{scope, role}, kv.Value, now)
		} else {
			err = w.object(scope, kv.Value, now)
		}
		if err != nil {
			return left, errs.New(errs.Internal, "the record %q cannot be decoded", kv.Key)
		}
	}
	return left, nil
}

func (w *walk) credential(id roleID, raw []byte, now time.Time) error {
	var c struct {
		Expires time.Time `json:"exp"`
	}
	if err := json.Unmarshal(raw, &c); err != nil || !now.Before(c.Expires) {
		return err
	}
	e := w.roles[id]
	if e == nil {
		if len(w.roles) == maxKinds {
			return nil
		}
		e = &expiry{first: c.Expires, last: c.Expires}
		w.roles[id] = e
	}
	e.n++
	if c.Expires.Before(e.first) {
		e.first = c.Expires
	}
	if c.Expires.After(e.last) {
		e.last = c.Expires
	}
	return nil
}

func (w *walk) object(scope string, raw []byte, now time.Time) error {
	o, err := parseObject("", raw) // the record is named by the caller
	if err != nil {
		return err
	}
	kind := objectKind{scope: scope, typ: o.Type}
	if !o.stateless() {
		kind.state = o.state(now)
	}
	if w.objects[kind] == 0 && len(w.objects) >= maxKinds {
		kind.scope = ""
	}
	w.objects[kind]++
	return nil
}

// named is what was found by the names of scopes and roles: the most objects, and the
// certificates that end first. The objects of what is left are told together.
func (w *walk) named(tx storage.Tx) (out found, err error) {
	name := func(key string) string {
		if err != nil {
			return ""
		}
		var s string
		if s, err = nameOf(tx, key); errors.Is(err, errStranger) { // gone meanwhile
			s, err = "", nil
		}
		return s
	}
	var ids []roleID
	for id := range w.roles {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return w.roles[ids[i]].first.Before(w.roles[ids[j]].first) }) // generic sorting is 10 kB more for each type
	for _, id := range ids[:min(len(ids), maxCensus)] {
		if r := (roleFound{name(scopeIDKey(id.scope)), name(roleIDKey(id.scope, id.role)), *w.roles[id]}); r.scope != "" && r.role != "" {
			out.roles = append(out.roles, r)
		}
	}
	var kinds []objectKind
	for k := range w.objects {
		kinds = append(kinds, k)
	}
	sort.Slice(kinds, func(i, j int) bool { // among equals the same ones each time: a series must not come and go
		a, b := kinds[i], kinds[j]
		switch {
		case w.objects[a] != w.objects[b]:
			return w.objects[a] > w.objects[b]
		case a.scope != b.scope:
			return a.scope < b.scope
		case a.typ != b.typ:
			return a.typ < b.typ
		}
		return a.state < b.state
	})
	rest := map[objectKind]int{}
	for i, k := range kinds {
		if i >= maxCensus || k.scope == "" {
			rest[objectKind{typ: k.typ, state: k.state}] += w.objects[k]
		} else if s := name(scopeIDKey(k.scope)); s != "" {
			out.objects = append(out.objects, objectsFound{s, k.typ, k.state, w.objects[k]})
		}
	}
	for k, n := range rest {
		out.objects = append(out.objects, objectsFound{otherName, k.typ, k.state, n})
	}
	return out, err
}

// gauges tells how things are.
func (s *servers) gauges(set func(name string, v float64, labels ...telemetry.Label)) {
	now := time.Now()
	s.census.asked.Store(now.Unix())
	s.mu.Lock()
	all := make(map[string]*server, len(s.byMount))
	for id, v := range s.byMount {
		if len(all) < maxCensus {
			all[id] = v
		}
	}
	s.mu.Unlock()
	label := func(name, value string) telemetry.Label { return telemetry.Label{Name: name, Value: value} }
	for id, v := range all {
		at := v.at.Load()
		if at == nil {
			continue
		}
		with := func(more ...telemetry.Label) []telemetry.Label {
			return append([]telemetry.Label{label("namespace", at.namespace()), label("mount_point", at.Mount.Path)}, more...)
		}
		v.mu.Lock()
		open := len(v.conns)
		v.mu.Unlock()
		set("kmip.connection.open", float64(open), with()...)
		s.census.mu.Lock()
		f := s.census.told[id]
		s.census.mu.Unlock()
		if f == nil {
			continue
		}
		for _, o := range f.objects {
			state := "none"
			if o.state != 0 {
				state = ttlv.EnumName(ttlv.TagState, o.state)
			}
			set("kmip.objects", float64(o.n), with(label("scope", o.scope), label("type", ttlv.EnumName(ttlv.TagObjectType, o.typ)), label("state", state))...)
		}
		for _, r := range f.roles {
			whose := with(label("scope", r.scope), label("role", r.role))
			set("kmip.credential.count", float64(r.n), whose...)
			set("kmip.credential.first_expiry_days", float64(r.first.Sub(now))/float64(day), whose...)
			set("kmip.credential.last_expiry_days", float64(r.last.Sub(now))/float64(day), whose...)
		}
	}
}
