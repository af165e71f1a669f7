package jwt

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/cap/oidc"

	"arca/internal/errs"
)

// Bounds on logins that wait for providers: of one mount, so that a provider that
// hangs keeps only its own waiting, and of all. Whoever waits for a discovery
// document costs no connection: one fetches it for all.
const (
	maxWaiting   = 512
	maxExchanges = 64
	maxAll       = 2048
	maxProviders = 200
)

// slots bound how many are at something at a time.
type slots struct {
	mu    sync.Mutex
	taken map[string]int // by mount; guarded by mu, as is all
	all   int
}

// enter takes a slot of a mount that has most, which leave gives back.
func (s *slots) enter(mount string, most int) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[mount] >= most || s.all >= maxAll {
		return nil, errs.New(errs.Unavailable, "too many logins wait for the provider")
	}
	if s.taken == nil {
		s.taken = map[string]int{}
	}
	s.taken[mount]++
	s.all++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.taken[mount]--; s.taken[mount] == 0 {
			delete(s.taken, mount)
		}
	}, nil
}

type providerKey [sha256.Size]byte

// providers are those whose discovery documents are at hand, or being fetched.
type providers struct {
	waiting slots

	mu    sync.Mutex
	known map[providerKey]*opened // guarded by mu
}

// An opened provider is one whose document is at hand, or was not to be had.
type opened struct {
	fetching chan struct{} // holds one token; whoever took it fetches

	mu       sync.Mutex
	provider *oidc.Provider // guarded by mu, as is the rest
	failure  error          // of the last attempt
	tried    time.Time
}

// look returns the provider, or why there is none just now; neither means that it
// is worth asking.
func (o *opened) look() (*oidc.Provider, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider == nil && o.failure != nil && time.Since(o.tried) < pause {
		return nil, o.failure
	}
	return o.provider, nil
}

func (p *providers) at(key providerKey) *opened {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.known[key]; o != nil {
		return o
	}
	if p.known == nil || len(p.known) >= maxProviders {
		p.known = map[providerKey]*opened{} // logins under way keep theirs
	}
	o := &opened{fetching: make(chan struct{}, 1)}
	p.known[key] = o
	return o
}

// of opens the provider of a mount's configuration, which fetches its document:
// one login at a time, and after a failure not before some seconds have passed.
func (p *providers) of(ctx context.Context, mount string, c *config) (*oidc.Provider, error) {
	o := p.at(sha256.Sum256([]byte(c.by())))
	if have, err := o.look(); have != nil || err != nil {
		return have, err
	}
	leave, err := p.waiting.enter(mount, maxWaiting)
	if err != nil {
		return nil, err
	}
	defer leave()
	select {
	case o.fetching <- struct{}{}:
		defer func() { <-o.fetching }()
	case <-ctx.Done():
		return nil, errDiscovery
	}
	if have, err := o.look(); have != nil || err != nil { // by another, meanwhile
		return have, err
	}
	ctx, cancel := lingering(ctx)
	defer cancel()
	fresh, err := c.discover(ctx)
	if err != nil {
		err = errDiscovery
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.provider, o.tried, o.failure = fresh, time.Now(), err
	return fresh, err
}

var errDiscovery = errs.New(errs.Invalid, "error checking oidc discovery URL")

// discover fetches the discovery document.
func (c *config) discover(ctx context.Context) (*oidc.Provider, error) {
	t, err := transport(c.DiscoveryCA)
	if err != nil {
		return nil, err
	}
	var algs []oidc.Alg
	for _, name := range c.Algorithms {
		algs = append(algs, oidc.Alg(name))
	}
	if len(algs) == 0 {
		for _, a := range algorithms() {
			algs = append(algs, oidc.Alg(a))
		}
	}
	through := &openingTransport{RoundTripper: boundedTransport{t}}
	end := func(cancel context.CancelFunc) func() bool { return context.AfterFunc(ctx, cancel) }
	through.end.Store(&end)
	cfg, err := oidc.NewConfig(c.Discovery, c.ClientID, oidc.ClientSecret(c.ClientSecret), algs, nil, oidc.WithRoundTripper(through))
	if err != nil {
		return nil, err
	}
	p, err := oidc.NewProvider(cfg)
	if err == nil && ctx.Err() != nil {
		p.Done()
		err = ctx.Err()
	}
	if err != nil {
		t.CloseIdleConnections()
		return nil, err
	}
	through.end.Store(nil)
	return p, nil
}

// An openingTransport ends requests with the client who waits for them, where the
// library, which makes a provider, has no context for that.
type openingTransport struct {
	http.RoundTripper
	end atomic.Pointer[func(context.CancelFunc) func() bool]
}

// RoundTrip implements http.RoundTripper.
func (t *openingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	end := t.end.Load()
	if end == nil {
		return t.RoundTripper.RoundTrip(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := (*end)(cancel)
	release := func() {
		stop()
		cancel()
	}
	res, err := t.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		release()
		return nil, err
	}
	res.Body = &endingBody{ReadCloser: res.Body, release: release}
	return res, nil
}

type endingBody struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (b *endingBody) Close() error {
	b.release()
	return b.ReadCloser.Close()
}
