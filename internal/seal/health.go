package seal

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// unmended reports whether the wrappings are others than the configuration asks
// for, or one of them is known to give another key.
func (m *Manager) unmended(c *config) bool {
	enabled := m.enabled()
	if len(enabled) != len(c.Wrapped) {
		return true
	}
	for _, w := range enabled {
		if e := c.by(w); e == nil || !w.current(e) || c.hasWrap() && !e.Both || m.ill.isRefuted(w.Name, e.Root) {
			return true
		}
	}
	return false
}

// An illness is what is known of a seal that failed when it was asked last.
type illness struct {
	since  time.Time // zero while it is well
	looked time.Time
	of     digest // of the ciphertext that it was asked for; zero for none
}

func (i illness) after(err error, of digest) illness {
	next := illness{looked: now(), of: of}
	if err != nil {
		if next.since = i.since; i.since.IsZero() {
			next.since = next.looked
		}
	}
	return next
}

// A refutation says of a seal that it did not make something.
type refutation struct {
	name string
	of   [sha256.Size]byte
}

// illnesses are the states of the seals by name.
type illnesses struct {
	mu      sync.Mutex
	asked   map[string]illness       // whether what is stored gives the root key; guarded by mu, as all
	kept    map[string]illness       // whether the seal itself is kept alive: see Keeper
	refuted map[refutation]time.Time // since when
}

// note takes the outcome of asking a seal for the root key by a ciphertext (nil: to encrypt
// it), and returns what was known before. That it gives another key refutes it at once.
func (s *illnesses) note(name string, sealed []byte, err error) (was illness) {
	var of digest
	if sealed != nil {
		of = sha256.Sum256(sealed)
		switch {
		case err == nil:
			s.acquit(name, sealed)
		case errors.Is(err, errWrongKey):
			s.refute(name, sealed)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[string]illness{}
	}
	was = s.asked[name]
	s.asked[name] = was.after(err, of)
	return was
}

func (s *illnesses) noteKept(name string, err error) (was illness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]illness{}
	}
	was = s.kept[name]
	s.kept[name] = was.after(err, digest{})
	return was
}

// due reports whether a seal is to be asked again: what is known of one ciphertext says
// nothing of another, which another node may have stored.
func (s *illnesses) due(name string, sealed []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := s.asked[name]
	return !is.since.IsZero() || is.of != sha256.Sum256(sealed) || now().Sub(is.looked) >= healthInterval
}

// of gives since when a seal is ill; zero while it is well.
func (s *illnesses) of(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, kept := s.asked[name].since, s.kept[name].since
	if asked.IsZero() || !kept.IsZero() && kept.Before(asked) {
		return kept
	}
	return asked
}

func (s *illnesses) refute(name string, sealed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuted == nil || len(s.refuted) >= maxRefuted {
		s.refuted = map[refutation]time.Time{}
	}
	s.refuted[refutation{name, sha256.Sum256(sealed)}] = now()
}

// acquit takes a refutation back.
func (s *illnesses) acquit(name string, sealed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refuted, refutation{name, sha256.Sum256(sealed)})
}

// maxRefuted bounds what is remembered; forgetting costs a question.
const maxRefuted = 1000

func (s *illnesses) isRefuted(name string, sealed []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refuted[refutation{name, sha256.Sum256(sealed)}].IsZero()
}

// refutedFor is how long a refutation counts without that the seal is asked again.
const refutedFor = time.Minute

// isStale reports whether something was refuted so long ago that the seal is to be asked again.
func (s *illnesses) isStale(name string, sealed []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.refuted[refutation{name, sha256.Sum256(sealed)}]
	return !since.IsZero() && now().Sub(since) >= refutedFor
}

// note takes what became of asking w for the root key by sealed, or of having it encrypted,
// where that is nil.
func (m *Manager) note(w *Wrapper, sealed []byte, err error) {
	switch was := m.ill.note(w.Name, sealed, err); {
	case err != nil && was.since.IsZero():
		m.cfg.Log.Error("a seal is ill: if no other opens the store, it can only be opened by recovery keys", "seal", w.Name, "error", err)
	case err == nil && !was.since.IsZero():
		m.cfg.Log.Info("a seal is well again", "seal", w.Name)
	}
}

// Keep does what the seals have to do as long as the server runs, sealed or not,
// until ctx ends: to keep a token alive.
func (m *Manager) Keep(ctx context.Context) {
	var work sync.WaitGroup
	for i := range m.cfg.Wrappers {
		w := &m.cfg.Wrappers[i]
		k, ok := w.Sealer.(Keeper)
		if !ok {
			continue
		}
		work.Go(func() {
			k.Keep(ctx, func(err error) {
				switch was := m.ill.noteKept(w.Name, err); {
				case err != nil && was.since.IsZero():
					m.cfg.Log.Error("a seal is about to fail", "seal", w.Name, "error", err)
				case err == nil && !was.since.IsZero():
					m.cfg.Log.Info("a seal does not fail any more", "seal", w.Name)
				}
			})
		})
	}
	work.Wait()
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
		ill := m.ill.of(w.Name)
		b := BackendStatus{Name: w.Name, Healthy: ill.IsZero(), Configured: true, Disabled: w.Disabled}
		if !b.Healthy {
			b.UnhealthySince = ill.Format(time.RFC3339)
			if !w.Disabled {
				out.Healthy = false
				if since.IsZero() || ill.Before(since) {
					since, out.UnhealthySince = ill, b.UnhealthySince
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
		if !m.ill.of(w.Name).IsZero() {
			names = append(names, w.Name)
		}
	}
	return names
}

// Health tells of each enabled seal whether it did what it was asked last.
func (m *Manager) Health() map[string]bool {
	out := map[string]bool{}
	for _, w := range m.enabled() {
		out[w.Name] = m.ill.of(w.Name).IsZero()
	}
	return out
}
