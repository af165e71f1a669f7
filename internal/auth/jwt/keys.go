package jwt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/cap/jwt"
)

// Bounds on what others may cost.
const (
	fetchTimeout  = 10 * time.Second
	maxFetchBytes = 1 << 20
	maxPlaces     = 1000 // whose keys are remembered
	maxTokenBytes = 32 << 10
	// Keys are fetched again after freshFor, and when a token names one that is
	// not among them, but not more often than every pause. While their place does
	// not answer, those at hand are good until they are staleFor old.
	freshFor = 10 * time.Minute
	staleFor = time.Hour
	pause    = 5 * time.Second
	// A client who leaves does not end a fetch for so long.
	linger = 2 * time.Second
)

// algorithms are all with which tokens may be signed, where the configuration
// names none: those with a public key.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
	}
}

// boundedTransport gives up on answers that come late or are too large.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	res, err := t.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = &boundedBody{ReadCloser: res.Body, left: maxFetchBytes, cancel: cancel}
	return res, nil
}

type boundedBody struct {
	io.ReadCloser
	left   int
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errors.New("the answer is too large")
	}
	return n, err
}

// Close implements io.Closer.
func (b *boundedBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// transport reaches servers whose certificates ca has signed, or, without one,
// an authority of the system.
func transport(ca string) (*http.Transport, error) {
	var roots *x509.CertPool
	if ca != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("the authority's PEM holds no certificate")
		}
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 2, MaxConnsPerHost: 16, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}, nil
}

// A place is where keys are fetched, with those that it last had.
type place struct {
	url, issuer string // either
	client      *http.Client

	fetching chan struct{} // holds one token; whoever took it fetches
	mu       sync.Mutex
	failure  error               // of the last attempt, nil when it went well; guarded by mu
	keys     *jose.JSONWebKeySet // guarded by mu, as are the times
	fetched  time.Time
	tried    time.Time
}

// current returns the keys, fetched when they are old, or when again says that
// those at hand did not do.
func (p *place) current(ctx context.Context, again bool) (*jose.JSONWebKeySet, error) {
	look := func() (keys *jose.JSONWebKeySet, settled bool, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		lately, age := time.Since(p.tried) < pause, time.Since(p.fetched)
		switch {
		case p.keys != nil && (age < freshFor && !again || lately && age < staleFor):
			return p.keys, true, nil
		case p.failure != nil && lately:
			return nil, true, p.failure // those who wait do not try one after another
		}
		return nil, false, nil
	}
	keys, settled, err := look()
	if settled {
		return keys, err
	}
	select {
	case p.fetching <- struct{}{}:
		defer func() { <-p.fetching }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if keys, settled, err = look(); settled { // by another, meanwhile
		return keys, err
	}
	err = p.refresh(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && (p.keys == nil || again || time.Since(p.fetched) >= staleFor) {
		return nil, err
	}
	return p.keys, nil
}

// refresh fetches the keys now, and notes how that went.
func (p *place) refresh(ctx context.Context) error {
	ctx, cancel := lingering(ctx)
	defer cancel()
	err := p.fetch(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried, p.failure = time.Now(), err
	return err
}

// lingering is ctx that goes on for a while after its end: a client who leaves
// neither spoils what all wait for, nor has it begun again and again.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	on, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(linger, cancel) })
	return on, func() {
		stop()
		cancel()
	}
}

func (p *place) fetch(ctx context.Context) error {
	url := p.url
	if p.issuer != "" {
		var doc struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := p.get(ctx, p.issuer+"/.well-known/openid-configuration", &doc); err != nil {
			return err
		}
		if doc.Issuer != p.issuer && doc.Issuer != p.issuer+"/" {
			return fmt.Errorf("the discovery document is of another issuer, %q", doc.Issuer)
		}
		url = doc.Keys
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := p.get(ctx, url, &raw); err != nil {
		return err
	}
	set := &jose.JSONWebKeySet{}
	for _, one := range raw.Keys {
		if key, ok := verifying(one); ok {
			set.Keys = append(set.Keys, key) // others are for others
		}
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return fmt.Errorf("%d usable keys at %s", len(set.Keys), url)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys, p.fetched = set, time.Now()
	return nil
}

// verifying reads a key, and reports whether it is one for checking signatures
// (RFC 7517, sections 4.2 and 4.3).
func verifying(raw []byte) (key jose.JSONWebKey, ok bool) {
	var use struct {
		Operations []string `json:"key_ops"`
	}
	if json.Unmarshal(raw, &key) != nil || json.Unmarshal(raw, &use) != nil || !key.Valid() || !key.IsPublic() {
		return key, false
	}
	return key, (key.Use == "" || key.Use == "sig") && (use.Operations == nil || slices.Contains(use.Operations, "verify"))
}

func (p *place) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with status %d", url, res.StatusCode)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// errKeys is all that those who log in see of a provider that does not answer: its
// address, and what it says, are not for them.
var errKeys = errors.New("the keys cannot be fetched")

// VerifySignature implements the library's KeySet.
func (p *place) VerifySignature(ctx context.Context, token string) (map[string]any, error) {
	signed, err := jose.ParseSigned(token, algorithms())
	if err != nil {
		return nil, err
	}
	for _, again := range []bool{false, true} {
		keys, err := p.current(ctx, again)
		if err != nil {
			return nil, errKeys
		}
		head := signed.Signatures[0].Header
		for i := range keys.Keys {
			key := &keys.Keys[i]
			if head.KeyID != "" && key.KeyID != "" && key.KeyID != head.KeyID || key.Algorithm != "" && key.Algorithm != head.Algorithm {
				continue
			}
			if raw, err := signed.Verify(key); err == nil {
				return claimsOf(raw)
			}
		}
	}
	return nil, errors.New("failed to verify id token signature")
}

// claimsOf decodes claims. Numbers keep their digits, as json.Number.
func claimsOf(raw []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil || out == nil {
		return nil, errors.New("the token's claims are no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the token's claims are no JSON object")
	}
	return out, nil
}

// given are keys that the configuration holds.
type given []crypto.PublicKey

// VerifySignature implements the library's KeySet.
func (g given) VerifySignature(_ context.Context, token string) (map[string]any, error) {
	signed, err := jose.ParseSigned(token, algorithms())
	if err != nil {
		return nil, err
	}
	for _, key := range g {
		if raw, err := signed.Verify(key); err == nil {
			return claimsOf(raw)
		}
	}
	return nil, errors.New("no known key successfully validated the token signature")
}

// A set is what verifies tokens by one configuration.
type set struct {
	keys   []jwt.KeySet
	places []*place
}

type placeKey struct {
	url    string
	issuer bool
	ca     [sha256.Size]byte
}

// keySets are the places whose keys are at hand.
type keySets struct {
	mu    sync.Mutex
	known map[placeKey]*place // guarded by mu
}

func (k *keySets) of(c *config) (*set, error) {
	s := &set{}
	if len(c.Keys) > 0 {
		var g given
		for _, text := range c.Keys {
			key, err := publicKey(text)
			if err != nil {
				return nil, err
			}
			g = append(g, key)
		}
		s.keys = append(s.keys, g)
	}
	add := func(url, ca string, issuer bool) error {
		if url == "" {
			return nil
		}
		p, err := k.at(placeKey{url, issuer, sha256.Sum256([]byte(ca))}, ca)
		if err != nil {
			return err
		}
		s.places, s.keys = append(s.places, p), append(s.keys, p)
		return nil
	}
	err := errors.Join(add(c.JWKS, c.JWKSCA, false), add(c.Discovery, c.DiscoveryCA, true))
	for _, p := range c.Pairs {
		err = errors.Join(err, add(p.URL, p.CA, false))
	}
	return s, err
}

func (k *keySets) at(key placeKey, ca string) (*place, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.known[key]; p != nil {
		return p, nil
	}
	t, err := transport(ca)
	if err != nil {
		return nil, err
	}
	if k.known == nil || len(k.known) >= maxPlaces {
		k.known = map[placeKey]*place{} // connections of the old ones close when idle
	}
	p := &place{fetching: make(chan struct{}, 1), client: &http.Client{Transport: boundedTransport{t}, Timeout: fetchTimeout}}
	if key.issuer {
		p.issuer = key.url
	} else {
		p.url = key.url
	}
	k.known[key] = p
	return p, nil
}
