package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// The seals are tended to on each open node: what is stored under each is decrypted now
// and then and compared with the root key in hand, which is what being well means. The
// active node besides brings the root key under the seals that lack it (they were added,
// were ill, or their key was lost and replaced), and goes over to another seal when
// shares have authorised that. No KMS is asked with the manager's turn held.

// A crossing is a migration that shares have authorised on this node. Where nodes share
// a store only the active one can write it: a standby has it pending until it leads.
type crossing struct {
	from string // seals of the configuration that it leaves
}

// seals names the seals of a configuration, in whatever order it has them.
func (c *config) seals() string {
	var names []string
	for i := range c.Wrapped {
		names = append(names, c.Wrapped[i].Type+"/"+c.Wrapped[i].Name)
	}
	if len(names) == 0 {
		return c.Type
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// wrappings is a digest of what the root key is under.
func (c *config) wrappings() [sha256.Size]byte {
	b, _ := json.Marshal(c.Wrapped) // strings, bytes and times
	return sha256.Sum256(append(b, c.Type...))
}

func (c *config) names() string {
	var out []string
	for i := range c.Wrapped {
		out = append(out, c.Wrapped[i].Name)
	}
	return strings.Join(out, ", ")
}

// behindRetry is when it is tried again at first to read what another node has stored; after that it takes twice as long each time, up to upkeepEvery.
const behindRetry = 5 * time.Second

// Watch tends to the seals until ctx ends. Every open node runs it.
func (m *Manager) Watch(ctx context.Context) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	wait := behindRetry
	for {
		m.tend(ctx)
		var soon <-chan time.Time
		if m.behind() {
			soon = time.After(wait)
		} else {
			wait = behindRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-soon:
			wait = min(2*wait, upkeepEvery)
		case <-m.kick:
		}
	}
}

// hasten has Watch look now.
func (m *Manager) hasten() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// tend looks after the seals once.
func (m *Manager) tend(ctx context.Context) {
	u, whole, leads := m.glance(ctx) // waits until an unsealing under way is done
	defer func() { whole.Wipe() }()
	again := func() bool {
		whole.Wipe()
		u, whole, leads = m.glance(ctx)
		return u != nil
	}
	switch {
	case u == nil:
		return
	case leads && m.behind():
		m.keepUp(ctx)
		if !again() {
			return
		}
	}
	switch {
	case leads && u.settles():
		m.settleRekey(ctx)
		if !again() {
			return
		}
	case !leads && m.cfg.Shared: // a database tells a standby of nothing
		m.keepUp(ctx)
		if !again() {
			return
		}
	}
	if m.tendWrap(ctx, u, whole, leads) && !again() {
		return
	}
	m.tendSeals(ctx, u, whole, leads)
}

// tendSeals is tend for what the seals keep.
func (m *Manager) tendSeals(ctx context.Context, u *unsealed, whole barrier.Key, leads bool) {
	c := u.config
	// A node of an old configuration, which leads again in the course of a migration, is
	// not to undo that because it takes what another seal made for its own.
	migrating := m.migrating(c) && !m.reconsider(ctx, c, same(whole)) || leads && !m.recognises(ctx, c, whole)
	switch {
	case !leads, c.hasWrap() && len(whole) != wholeBytes: // the latter is not to lose the seal-wrap key
		m.look(ctx, c, whole)
		return
	case migrating && u.crossing == nil:
		m.look(ctx, c, whole)
		return
	case migrating && u.crossing.from != c.seals():
		m.cfg.Log.Warn("this node does not migrate the seal: another node has gone over to another one meanwhile", "from", u.crossing.from, "now", c.seals())
		m.forgetCrossing(ctx)
		return
	case !migrating && !c.auto():
		return
	}
	next, err := m.wrapped(ctx, c, whole)
	if err != nil {
		if ctx.Err() == nil && u.crossing != nil {
			m.cfg.Log.Warn("the seal cannot be migrated yet", "error", err)
		}
		return
	}
	if next == c {
		if u.crossing != nil {
			m.forgetCrossing(ctx)
		}
		return
	}
	if err := m.save(ctx, c, next); err != nil {
		if ctx.Err() == nil {
			m.cfg.Log.Warn("save the seals", "error", err)
		}
		return // it is tried again when it is due
	}
	if m.wanted.Load() && !next.hasWrap() {
		m.hasten() // for the seal-wrap key
	}
}

// glance returns the open state, nil while sealed, with a copy of its whole key: the
// root key with the seal-wrap key behind it, if there is one. And it
// tells whether this node is the active one.
func (m *Manager) glance(ctx context.Context) (u *unsealed, whole barrier.Key, leads bool) {
	if m.begin(ctx) != nil {
		return nil, nil, false
	}
	defer m.end()
	u = m.state.Load().open
	if u == nil {
		return nil, nil, false
	}
	_, err := m.active()
	return u, u.whole(), err == nil
}

// recognises reports whether the root key is under a configured seal: by its name, or as
// that decrypts what another name has.
func (m *Manager) recognises(ctx context.Context, c *config, root barrier.Key) bool {
	enabled := m.enabled()
	if !c.auto() || slices.ContainsFunc(enabled, func(w *Wrapper) bool { return c.by(w) != nil }) {
		return true
	}
	for _, w := range enabled {
		orphans := m.orphans(c, w)
		if slices.ContainsFunc(orphans, func(e *wrapping) bool { return m.verify(ctx, w, e, root) == nil }) {
			return true
		}
		if len(orphans) > 0 {
			if again := m.refute(ctx, w, orphans, same(root)); again != nil {
				again.Wipe()
				return true
			}
		}
	}
	return false
}

// same reports whether a key is a whole key, or the root key of that where one of the two
// has nothing behind it.
func same(whole barrier.Key) func([]byte) bool {
	root, wrap := split(whole)
	return func(key []byte) bool {
		r, w := split(key)
		if r == nil || subtle.ConstantTimeCompare(r, root) != 1 {
			return false
		}
		return w == nil || wrap == nil || subtle.ConstantTimeCompare(w, wrap) == 1
	}
}

// look asks the seals whether what is stored under them gives the root key.
func (m *Manager) look(ctx context.Context, c *config, root barrier.Key) {
	for _, w := range m.enabled() {
		e := c.by(w)
		if e == nil || !m.ill.due(w.Name, e.Root) {
			continue
		}
		err := m.verify(ctx, w, e, root)
		if ctx.Err() != nil {
			return
		}
		m.note(w, e.Root, err)
	}
}

// verify has w decrypt e, which must give root.
func (m *Manager) verify(ctx context.Context, w *Wrapper, e *wrapping, root barrier.Key) error {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	back, err := w.Sealer.Decrypt(ctx, e.Root)
	if err != nil {
		return err
	}
	defer clear(back)
	if !same(root)(back) {
		return errWrongKey
	}
	return nil
}

// wrapped has root under the configured seals, and gives the configuration to be stored:
// c itself where nothing changes. What was under seals that are no longer configured is
// dropped once all others have it. It is an error if no seal has the key.
func (m *Manager) wrapped(ctx context.Context, c *config, root barrier.Key) (*config, error) {
	next := *c
	next.Type, next.Wrapped = typeShamir, nil
	if !m.Auto() {
		next.dropCarried()
		return &next, nil
	}
	var failures []error
	good := 0                     // seals that give root
	taken := map[*wrapping]bool{} // by a seal of another name
	for _, w := range m.enabled() {
		e, err := m.ensure(ctx, c, w, root, taken)
		if err != nil {
			failures = append(failures, err)
		}
		if e != nil {
			good++
		} else {
			e = c.by(w) // keeps its place: an outage changes nothing
		}
		if e != nil {
			next.Wrapped = append(next.Wrapped, *e)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if good == 0 {
		return nil, errs.New(errs.Unavailable, "%w", errors.Join(failures...))
	}
	next.Type = next.Wrapped[0].Type
	if len(failures) > 0 { // keep all that may still open the store
		for i := range c.Wrapped {
			e := &c.Wrapped[i]
			if !taken[e] && !slices.ContainsFunc(next.Wrapped, func(k wrapping) bool { return k.Type == e.Type && k.Name == e.Name }) {
				next.Wrapped = append(next.Wrapped, *e)
			}
		}
	}
	next.dropCarried()
	same := bytes.Equal(c.SealWrap, next.SealWrap) && slices.EqualFunc(c.Wrapped, next.Wrapped, func(a, b wrapping) bool {
		return a.Type == b.Type && a.Name == b.Name && a.At.Equal(b.At) && bytes.Equal(a.Root, b.Root)
	})
	if same && c.Type == next.Type {
		return c, nil
	}
	return &next, nil
}

// ensure returns a wrapping by w that gives root: the one under its name, one that it
// made under another, or a new one. With an error, what it returns is still good, but
// is to be replaced; nil is none.
func (m *Manager) ensure(ctx context.Context, c *config, w *Wrapper, root barrier.Key, taken map[*wrapping]bool) (*wrapping, error) {
	own := c.by(w)
	if own == nil {
		for _, e := range m.orphans(c, w) {
			if !taken[e] && m.keeps(w, e, root) && m.verify(ctx, w, e, root) == nil {
				taken[e] = true
				named := *e
				named.Name = w.Name
				return &named, nil
			}
		}
		return m.encrypt(ctx, w, root)
	}
	if m.keeps(w, own, root) && !m.ill.due(w.Name, own.Root) {
		return own, nil
	}
	wrong := m.verify(ctx, w, own, root)
	if ctx.Err() != nil {
		return own, nil
	}
	m.note(w, own.Root, wrong)
	if wrong == nil && m.keeps(w, own, root) {
		return own, nil
	}
	e, err := m.encrypt(ctx, w, root)
	switch {
	case err != nil && wrong == nil:
		return own, err
	case err != nil: // it gives nothing, new or old: an outage, most likely
		return nil, err
	case wrong != nil:
		m.ill.refute(w.Name, own.Root)
		m.cfg.Log.Warn("what is stored under a seal does not give the root key, though the seal works: its key was lost or replaced; the root key is encrypted anew",
			"seal", w.Name, "error", wrong)
	}
	return e, nil
}

// save stores next in place of c.
func (m *Manager) save(ctx context.Context, c, next *config) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	if u.config != c { // somebody was faster
		m.hasten()
		return nil
	}
	if err := m.replaceConfig(ctx, c, next); err != nil {
		m.takeStored(ctx, u)
		return err
	}
	m.tell(c, next)
	m.set(u, func(u *unsealed) { u.take(next); u.crossing = nil })
	return nil
}

// takeTime bounds how long it is tried to see what is stored.
const takeTime = 10 * time.Second

// takeStored takes over what is stored after a write that failed: perhaps that is what
// was to be written all the same, or another node was faster.
func (m *Manager) takeStored(ctx context.Context, u *unsealed) {
	var stored *config
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTime) // whoever asked may have gone
	defer cancel()
	err := m.viewRing(ctx, u, func(tx storage.Tx, root barrier.Key) (err error) {
		if stored, err = readConfig(tx); err != nil {
			return err
		}
		return m.loadRing(tx, u, root)
	})
	if err == nil && stored != nil && !stored.equal(u.config) {
		m.set(u, func(u *unsealed) { u.take(stored) })
	}
}

// noteNew notes that the seals with new ciphertexts are well: these were tried.
func (m *Manager) noteNew(c, next *config) {
	for _, w := range m.enabled() {
		old, e := c.by(w), next.by(w)
		if e != nil && (old == nil || !bytes.Equal(old.Root, e.Root)) {
			m.note(w, e.Root, nil)
		}
	}
}

// tell says what has become of the seals.
func (m *Manager) tell(c, next *config) {
	m.noteNew(c, next)
	if m.migrating(c) {
		m.cfg.Log.Info("seal migrated", "from", c.Type, "to", next.Type)
	}
	if next.auto() {
		m.cfg.Log.Info("the root key is under these seals", "seals", next.names())
	}
}

// migrate goes over to the configured seal with the root key in hand, on a node that is
// still sealed and shares its store with nobody. The shares stay what they are: unseal
// keys become recovery keys, and the other way round.
func (m *Manager) migrate(ctx context.Context, c *config, root barrier.Key) (*config, error) {
	next, err := m.wrapped(ctx, c, root)
	if err != nil {
		return nil, err
	}
	if err := m.replaceConfig(ctx, c, next); err != nil {
		return nil, err
	}
	m.tell(c, next)
	return next, nil
}

func (m *Manager) forgetCrossing(ctx context.Context) {
	if m.begin(ctx) != nil {
		return
	}
	defer m.end()
	if u := m.state.Load().open; u != nil {
		m.set(u, func(u *unsealed) { u.crossing = nil })
	}
}

// crossTime is how long an answer to the last share waits for the migration that it has
// authorised: until this node leads, if no other does.
const crossTime = 2 * time.Second

// awaitCrossing waits for a pending migration, so that the status tells of it.
func (m *Manager) awaitCrossing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, crossTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if u := m.state.Load().open; u == nil || u.crossing == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
