// Package kes is the door for clients of KES: it turns HTTP requests of the KES
// API into calls on keys, and errors into KES's codes and texts.
//
// A Door serves the State that its owner gives it: keys, policies, settings. It
// judges a request in one order (serve): path, method, limits, identity, policy,
// argument, body, key. The stand-alone KES server (kes/server) and arca's own
// listener for KES are its owners; what a key is and where it lies is theirs.
//
// The API is that of the last public KES with what earlier ones had and users
// miss; see docs/compatibility.md. The rules come from the project's
// requirements for KES, sections 3 to 5, 10 and 12.
package kes

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/policy"
)

// A Caller is who makes a request, and which.
type Caller struct {
	Identity    string            // empty when nobody has to be known
	Certificate *x509.Certificate // of which Identity is
	Path        string            // of the request, decoded
	HTTP        *http.Request
	Free        bool // the call's setting is that nobody is judged

	recorded *bool // set by who has put the request on record; nil: nobody asks
}

// A Description is what may be told of a key.
type Description struct {
	Cipher    key.Cipher
	ID        string
	CreatedAt time.Time
	CreatedBy string
}

// Keys is where keys are. Errors are those of package store; others mean that
// the store failed, and only the log tells how.
type Keys interface {
	// Create keeps a new key; secret is nil for a random one. Of a name that key.CheckName
	// refuses there may be a key, but none is made.
	Create(ctx context.Context, by Caller, name string, secret []byte, cipher key.Cipher) error
	Describe(ctx context.Context, by Caller, name string) (Description, error)
	Delete(ctx context.Context, by Caller, name string) error
	// List returns up to n names with the prefix, from a name on, and the name
	// after the last of them, if any.
	List(ctx context.Context, by Caller, prefix, from string, n int) (names []string, next string, err error)
	Encrypt(ctx context.Context, by Caller, name string, plaintext, context []byte) ([]byte, error)
	// Decrypt opens all of them, or fails.
	Decrypt(ctx context.Context, by Caller, name string, sealed []Sealed) ([][]byte, error)
	HMAC(ctx context.Context, by Caller, name string, message []byte) ([]byte, error)
	// Status returns how long it took to find out that keys can be had. It may refuse
	// the caller, if Access.Authorize left that to it.
	Status(ctx context.Context, by Caller) (time.Duration, error)
}

// A Sealed is a ciphertext with its context.
type Sealed struct {
	Ciphertext []byte `json:"ciphertext"`
	Context    []byte `json:"context"`
}

// Access is who may do what. Errors are policy.ErrDenied, ErrNoPolicy and
// ErrNoIdentity; others mean that it could not be found out.
type Access interface {
	// Authorize refuses a request. For calls on keys, policies and identities it
	// may let it pass, if whoever serves it will judge.
	Authorize(ctx context.Context, by Caller) error
	Policy(ctx context.Context, by Caller, name string) (*policy.Policy, error)
	Policies(ctx context.Context, by Caller, prefix, from string, n int) (names []string, next string, err error)
	// Identity tells about an identity, or with "" about the caller.
	Identity(ctx context.Context, by Caller, id string) (*Person, error)
	Identities(ctx context.Context, by Caller, prefix, from string, n int) (ids []string, next string, err error)
}

// A Witness is an Access that keeps a record of requests, and that lets requests
// pass which it judges when they are made. What the door answers by itself, it
// tells the witness.
type Witness interface {
	// Witness puts a request on record that was answered without its being asked;
	// refusal is why it is refused, nil when it is not. With judge set the refusal
	// tells something that only those may know who may make the call: what Witness
	// returns is to be answered instead, the refusal itself if they may.
	Witness(ctx context.Context, by Caller, refusal error, judge bool) error
}

// A Person is what may be told of an identity.
type Person struct {
	Admin     bool
	Policy    string
	CreatedAt time.Time
	CreatedBy string
	Rules     *policy.Policy // of Policy; nil unless the caller asked about itself
}

// A Setting changes one call from its default.
type Setting struct {
	Timeout  time.Duration // 0: the default
	SkipAuth bool
}

// A State is what the door serves at one time. It is not changed once given.
type State struct {
	Keys     Keys
	Access   Access
	Settings map[string]Setting // by the call's path as in /v1/api

	// TLS proxies, and the header in which they send the client's certificate.
	Proxies     map[string]bool
	ProxyHeader string
	// Verify checks a client's certificate, the first, with those that came along: of
	// each connection once, as the handshake may have been under other rules, and what
	// a proxy sent. Nil trusts all of them.
	Verify func(chain []*x509.Certificate) error

	use   sync.RWMutex
	trust trust
}

// Retire waits until no request uses the state any more. The door must have
// another one by then.
func (s *State) Retire() {
	s.use.Lock()
	s.use.Unlock() //nolint:staticcheck // to have had it is all
}

// A Config is what a Door needs besides a state.
type Config struct {
	Version string       // of the server, as /version tells
	Log     *slog.Logger // for what goes wrong; nil discards
	Audit   *Stream      // events of requests
	Errors  *Stream      // events of the error log
}

// A Door is an http.Handler for the KES API.
type Door struct {
	cfg     Config
	state   atomic.Pointer[State]
	metrics metrics
	started time.Time
	large   *places // for large bodies
	lists   *places // for listings

	mu      sync.Mutex
	changed chan struct{} // guarded by mu: closed when the state becomes another
}

var _ http.Handler = (*Door)(nil)

// New makes a door that serves the state.
func New(cfg Config, s *State) *Door {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = &Stream{}
	}
	if cfg.Errors == nil {
		cfg.Errors = &Stream{}
	}
	d := &Door{
		cfg: cfg, started: time.Now(), changed: make(chan struct{}),
		large: newPlaces(maxLarge, maxLargeEach), lists: newPlaces(maxLists, maxListsEach),
	}
	d.state.Store(s)
	return d
}

// Swap makes the door serve another state, and returns the one before, which
// requests may still use: see State.Retire.
func (d *Door) Swap(s *State) *State {
	old := d.state.Swap(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
	return old
}

// Recheck makes the door verify the certificates of all connections again, and ask
// again who may follow the logs. Calls of it and of Swap must not overlap.
func (d *Door) Recheck() {
	s := d.state.Load()
	d.Swap(&State{
		Keys: s.Keys, Access: s.Access, Settings: s.Settings, Proxies: s.Proxies, ProxyHeader: s.ProxyHeader, Verify: s.Verify,
	})
}

// changes returns what is closed when the state becomes another.
func (d *Door) changes() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Close ends the streams of those who follow logs.
func (d *Door) Close() {
	d.cfg.Audit.Close()
	d.cfg.Errors.Close()
}

// enter returns the current state, held until leave is called.
func (d *Door) enter() (s *State, leave func()) {
	for {
		s = d.state.Load()
		s.use.RLock()
		if d.state.Load() == s {
			return s, s.use.RUnlock
		}
		s.use.RUnlock() // it was replaced, and may be closed already
	}
}
