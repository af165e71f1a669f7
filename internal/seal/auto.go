package seal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A Sealer encrypts the root key somewhere outside: in a KMS, on another server.
// It is asked with a bound on time, and may be wrong: what it encrypts is decrypted
// and compared before it counts.
type Sealer interface {
	Encrypt(ctx context.Context, plain []byte) (sealed []byte, err error)
	Decrypt(ctx context.Context, sealed []byte) (plain []byte, err error)
}

// A Wrapper is a seal that opens by itself, as the configuration has it.
type Wrapper struct {
	Type string // "transit", "awskms"
	Name string // tells several of one type apart; that of the type if not given
	// Disabled marks a seal that is being left: it decrypts, and encrypts no more.
	Disabled bool
	Sealer   Sealer
}

// wrapping is the root key under one seal.
type wrapping struct {
	Type string    `json:"type"`
	Name string    `json:"name"`
	Root []byte    `json:"root"` // what the Sealer made of it
	At   time.Time `json:"at"`
}

// A Renewer is a Sealer that knows when something is to be encrypted anew, as its
// key was replaced.
type Renewer interface {
	Current(sealed []byte) bool
}

func (w *Wrapper) current(e *wrapping) bool {
	r, ok := w.Sealer.(Renewer)
	return !ok || r.Current(e.Root)
}

// How long a Sealer is waited for, and how often it is tried. A seal that is ill
// is looked at every minute.
const (
	sealerTimeout  = 10 * time.Second
	healthTimeout  = 5 * time.Second
	healthInterval = 10 * time.Minute
	firstRetry     = time.Second
	lastRetry      = 30 * time.Second
	neededRetry    = 2 * time.Second
)

// auto reports whether the store opens by itself, and its shares are recovery
// keys.
func (c *config) auto() bool { return c != nil && len(c.Wrapped) > 0 }

// by returns the wrapping that w made, or nil. A seal that got a name, or another
// one, is known by its type where that is unmistakable.
func (c *config) by(w *Wrapper) *wrapping {
	var same []*wrapping
	for i := range c.Wrapped {
		if e := &c.Wrapped[i]; e.Type == w.Type {
			if e.Name == w.Name {
				return e
			}
			same = append(same, e)
		}
	}
	if len(same) == 1 && len(c.Wrapped) == 1 {
		return same[0]
	}
	return nil
}

// enabled lists the seals that the root key is to be under.
func (m *Manager) enabled() []*Wrapper {
	var out []*Wrapper
	for i := range m.cfg.Wrappers {
		if w := &m.cfg.Wrappers[i]; !w.Disabled {
			out = append(out, w)
		}
	}
	return out
}

// Auto reports whether the configuration has a seal that opens by itself.
func (m *Manager) Auto() bool { return len(m.enabled()) > 0 }

// Type is the type of the configured seal.
func (m *Manager) Type() string {
	if e := m.enabled(); len(e) > 0 {
		return e[0].Type
	}
	return typeShamir
}

// Recovery reports whether the store's shares are recovery keys.
func (m *Manager) Recovery(ctx context.Context) (bool, error) {
	c, err := m.config(ctx)
	return c.auto(), err
}

// migrating reports whether the configuration asks for another seal than the one
// that the store has: then shares with the word "migrate" go over to it.
func (m *Manager) migrating(c *config) bool {
	enabled := m.enabled()
	switch {
	case c == nil:
		return false
	case !c.auto():
		return len(enabled) > 0
	}
	for _, w := range enabled {
		if c.by(w) != nil {
			return false
		}
	}
	return true
}

// encrypt puts root under w, and makes sure that it can be got back.
func (m *Manager) encrypt(ctx context.Context, w *Wrapper, root barrier.Key) (*wrapping, error) {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	sealed, err := roundTrip(ctx, w, root)
	m.ill.note(w.Name, err)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "seal %q cannot encrypt the root key: %w", w.Name, err)
	}
	return &wrapping{Type: w.Type, Name: w.Name, Root: sealed, At: now()}, nil
}

var errWrongKey = errors.New("it gives back another key than it was given")

func roundTrip(ctx context.Context, w *Wrapper, key []byte) (sealed []byte, err error) {
	if sealed, err = w.Sealer.Encrypt(ctx, key); err != nil {
		return nil, err
	}
	back, err := w.Sealer.Decrypt(ctx, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(back)
	if subtle.ConstantTimeCompare(back, key) != 1 {
		return nil, errWrongKey
	}
	return sealed, nil
}

// encryptAll puts root under all enabled seals. Those that fail are told of, and
// tried again later; it is an error if none succeeds, or with all, if one fails.
func (m *Manager) encryptAll(ctx context.Context, root barrier.Key, all bool) ([]wrapping, error) {
	var out []wrapping
	var failures []error
	for _, w := range m.enabled() {
		e, err := m.encrypt(ctx, w, root)
		if err != nil {
			m.cfg.Log.Error("a seal failed", "seal", w.Name, "error", err)
			failures = append(failures, err)
			continue
		}
		out = append(out, *e)
	}
	if len(failures) > 0 && (all || len(out) == 0) {
		return nil, errs.New(errs.Unavailable, "%w", errors.Join(failures...))
	}
	return out, nil
}

// decryptAny gets the root key, the one that opens the stored keyring, from the
// first seal that gives it.
func (m *Manager) decryptAny(ctx context.Context, c *config) (barrier.Key, error) {
	var record []byte // none where the node is about to join a cluster, which tests the key in its own way
	stored, err := m.readStored(ctx)
	if err == nil && stored != nil {
		err = m.cfg.Raw.View(ctx, func(tx storage.Tx) (err error) {
			record, err = tx.Get(barrier.RecordKey)
			return err
		})
	}
	if err != nil {
		return nil, errs.New(errs.Failed, "the keyring cannot be read: %w", err)
	}
	var failures []error
	for i := range m.cfg.Wrappers {
		w := &m.cfg.Wrappers[i]
		e := c.by(w)
		if e == nil {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, sealerTimeout)
		root, err := w.Sealer.Decrypt(ask, e.Root)
		cancel()
		if err == nil && !fits(root, record) {
			clear(root)
			err = errWrongKey
		}
		m.ill.note(w.Name, err)
		if err == nil {
			return root, nil
		}
		failures = append(failures, errs.New(errs.Unavailable, "seal %q: %w", w.Name, err))
	}
	return nil, errs.New(errs.Unavailable, "no seal gives the root key: %w", errors.Join(failures...))
}

func fits(root barrier.Key, record []byte) bool {
	if len(root) != barrier.KeyBytes {
		return false
	}
	if record == nil {
		return true
	}
	ring, err := barrier.OpenKeyring(record, root)
	if err != nil {
		return false
	}
	ring.Wipe()
	return true
}

// ErrNeedsShares says that the node does not open by itself: it has a Shamir seal,
// is on the way to another seal, or is not initialised.
var ErrNeedsShares error = errs.New(errs.Sealed, "the server does not unseal by itself: give it key shares")

// OpenByItself opens a sealed node by one of its seals.
func (m *Manager) OpenByItself(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	if m.state.Load().open != nil {
		return nil
	}
	c, err := m.readConfig(ctx)
	switch {
	case err != nil:
		return err
	case !c.auto() || m.migrating(c):
		return ErrNeedsShares
	}
	root, err := m.decryptAny(ctx, c)
	if err == nil {
		err = m.open(ctx, c, root)
	}
	if err != nil {
		m.cfg.Log.Error("the server cannot unseal by itself", "error", err)
	}
	return err
}

// KeepOpening opens the node by itself at the start: it tries until that succeeds
// or ctx ends. A node that is sealed later stays so until it is started again.
func (m *Manager) KeepOpening(ctx context.Context) {
	if !m.Auto() {
		return
	}
	wait, told := firstRetry, false
	for {
		if m.opened.Load() { // and perhaps sealed again by who knows why
			return
		}
		err := m.OpenByItself(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case errors.Is(err, ErrNeedsShares):
			// Perhaps another node initialises the store, this one joins a cluster, or a
			// migration ends: what is looked at lies here.
			wait = min(wait, neededRetry)
			if c, _ := m.config(ctx); c != nil && !told {
				told = true
				m.cfg.Log.Warn("a seal migration is pending: unseal with -migrate")
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(2*wait, lastRetry)
	}
}

// migrate goes over to the configured seal with the root key in hand. The shares
// stay what they are: unseal keys become recovery keys, and the other way round.
func (m *Manager) migrate(ctx context.Context, c *config, root barrier.Key) (*config, error) {
	next := *c
	next.Type, next.Wrapped = typeShamir, nil
	if m.Auto() {
		wrapped, err := m.encryptAll(ctx, root, false)
		if err != nil {
			return nil, err
		}
		next.Type, next.Wrapped = wrapped[0].Type, wrapped
	}
	done, err := m.found(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := m.replaceConfig(ctx, c, &next); err != nil {
		return nil, err
	}
	m.cfg.Log.Info("seal migrated", "from", c.Type, "to", next.Type)
	return &next, nil
}

// mend brings the root key under the seals that lack it: those that were added, or
// were ill. What was under seals that are no longer configured is dropped once all
// others have it.
func (m *Manager) mend(ctx context.Context) {
	u := m.state.Load().open
	if u == nil || !u.config.auto() || m.migrating(u.config) || !m.unmended(u.config) {
		return
	}
	u, err := m.beginOpen(ctx)
	if err != nil {
		return
	}
	defer m.end()
	if !m.unmended(u.config) {
		return
	}
	next := *u.config
	next.Wrapped = slices.Clone(next.Wrapped)
	whole := true
	var kept []wrapping
	for _, w := range m.enabled() {
		e := next.by(w)
		if e == nil || !w.current(e) {
			old := e
			if e, err = m.encrypt(ctx, w, u.root); err != nil {
				m.cfg.Log.Warn("a seal is still ill", "seal", w.Name, "error", err)
				if e, whole = old, false; e == nil {
					continue
				}
			}
		}
		e.Name = w.Name
		kept = append(kept, *e)
	}
	if !whole { // keep all that may still open the store
		for _, e := range next.Wrapped {
			if !slices.ContainsFunc(kept, func(k wrapping) bool { return k.Name == e.Name }) {
				kept = append(kept, e)
			}
		}
	}
	next.Wrapped, next.Type = kept, kept[0].Type
	if err := m.replaceConfig(ctx, u.config, &next); err != nil {
		m.cfg.Log.Warn("save the seals", "error", err)
		return
	}
	m.set(u, func(u *unsealed) { u.config = &next })
	m.cfg.Log.Info("the root key is under these seals", "seals", next.names())
}

func (c *config) names() string {
	var out []string
	for i := range c.Wrapped {
		out = append(out, c.Wrapped[i].Name)
	}
	return strings.Join(out, ", ")
}

// unmended reports whether the wrappings are others than the configuration asks
// for.
func (m *Manager) unmended(c *config) bool {
	enabled := m.enabled()
	if len(enabled) != len(c.Wrapped) {
		return true
	}
	for _, w := range enabled {
		if e := c.by(w); e == nil || e.Name != w.Name || !w.current(e) {
			return true
		}
	}
	return false
}

// An illness is what is known of a seal that failed when it was asked last.
type illness struct {
	since  time.Time // zero while it is well
	text   string
	looked time.Time
}

// illnesses are the states of the seals by name.
type illnesses struct {
	mu     sync.Mutex
	byName map[string]illness // guarded by mu
}

func (s *illnesses) note(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]illness{}
	}
	was := s.byName[name]
	next := illness{looked: now()}
	if err != nil {
		next.text = err.Error()
		if next.since = was.since; was.since.IsZero() {
			next.since = next.looked
		}
	}
	s.byName[name] = next
}

func (s *illnesses) of(name string) illness {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}

// checkSeals asks the seals whether they are well, each now and then.
func (m *Manager) checkSeals(ctx context.Context) {
	for _, w := range m.enabled() {
		is := m.ill.of(w.Name)
		if is.since.IsZero() && now().Sub(is.looked) < healthInterval {
			continue
		}
		probe := make([]byte, 32)
		_, _ = rand.Read(probe) // never fails (crypto/rand, since Go 1.24)
		ask, cancel := context.WithTimeout(ctx, healthTimeout)
		_, err := roundTrip(ask, w, probe)
		cancel()
		if ctx.Err() != nil {
			return
		}
		m.ill.note(w.Name, err)
		switch {
		case err != nil && is.since.IsZero():
			m.cfg.Log.Error("a seal is ill: if no other opens the store, it can only be opened by recovery keys", "seal", w.Name, "error", err)
		case err == nil && !is.since.IsZero():
			m.cfg.Log.Info("a seal is well again", "seal", w.Name)
		}
	}
	m.mend(ctx)
}

// A BackendStatus is the state of one seal.
type BackendStatus struct {
	Name           string `json:"name"`
	Healthy        bool   `json:"healthy"`
	UnhealthySince string `json:"unhealthy_since,omitempty"` // RFC 3339
	Configured     bool   `json:"configured"`
	Disabled       bool   `json:"disabled"`
}

// BackendsStatus is the answer of sys/seal-backend-status.
type BackendsStatus struct {
	Healthy        bool            `json:"healthy"`
	UnhealthySince string          `json:"unhealthy_since,omitempty"`
	FullyWrapped   bool            `json:"fully_wrapped"` // the root key is under all enabled seals
	Backends       []BackendStatus `json:"backends"`
}

// Backends tells the state of the seals. A Shamir seal is always well.
func (m *Manager) Backends(ctx context.Context) (BackendsStatus, error) {
	c, err := m.config(ctx)
	if err != nil {
		return BackendsStatus{}, err
	}
	out := BackendsStatus{Healthy: true, FullyWrapped: !m.Auto() || c != nil && !m.unmended(c)}
	if len(m.cfg.Wrappers) == 0 {
		out.Backends = []BackendStatus{{Name: typeShamir, Healthy: true, Configured: true}}
		return out, nil
	}
	var since time.Time
	for i := range m.cfg.Wrappers {
		w := &m.cfg.Wrappers[i]
		is := m.ill.of(w.Name)
		b := BackendStatus{Name: w.Name, Healthy: is.since.IsZero(), Configured: true, Disabled: w.Disabled}
		if !b.Healthy {
			b.UnhealthySince = is.since.Format(time.RFC3339)
			if !w.Disabled {
				out.Healthy = false
				if since.IsZero() || is.since.Before(since) {
					since, out.UnhealthySince = is.since, b.UnhealthySince
				}
			}
		}
		out.Backends = append(out.Backends, b)
	}
	return out, nil
}

// unhealthy names the enabled seals that are ill.
func (m *Manager) unhealthy() (names []string) {
	for _, w := range m.enabled() {
		if !m.ill.of(w.Name).since.IsZero() {
			names = append(names, w.Name)
		}
	}
	return names
}

// Health tells of each enabled seal whether it did what it was asked last.
func (m *Manager) Health() map[string]bool {
	out := map[string]bool{}
	for _, w := range m.enabled() {
		out[w.Name] = m.ill.of(w.Name).since.IsZero()
	}
	return out
}
