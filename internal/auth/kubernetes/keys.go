package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"arca/internal/errs"
)

// The keys of a cluster are fetched again after freshFor, and when a token names
// one that is not among them, but not more often than every pause.
const (
	freshFor = 10 * time.Minute
	pause    = 5 * time.Second
	maxKeys  = 100
	linger   = 2 * time.Second // that a fetch goes on when its client leaves
)

var errNoKeys = errs.New(errs.Unavailable, "the cluster does not give its keys out: bind the role system:service-account-issuer-discovery "+
	"to the group system:unauthenticated, or set token_reviewer_jwt")

// published are the keys with which a cluster signs, as it tells them
// (https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery).
type published struct {
	fetching chan struct{} // holds one token; whoever took it fetches

	mu      sync.Mutex
	keys    []jose.JSONWebKey // guarded by mu, as are the times
	fetched time.Time
	tried   time.Time // with a credential that is not the caller's
}

func newPublished() *published { return &published{fetching: make(chan struct{}, 1)} }

// named returns the keys with an id, and whether it is worth fetching when there
// are none.
func (p *published) named(id string) (found []jose.JSONWebKey, fetch bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := time.Since(p.fetched)
	if age < freshFor {
		for i := range p.keys {
			if p.keys[i].KeyID == id {
				found = append(found, p.keys[i])
			}
		}
	}
	return found, len(found) == 0 && age >= pause
}

// mayTry reports whether the cluster may be asked with a credential that all
// logins share, and notes that it is.
func (p *published) mayTry() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.tried) < pause {
		return false
	}
	p.tried = time.Now()
	return true
}

// verify checks a token's signature by the keys that the cluster publishes, and
// that it signs this payload.
func (k *clusters) verify(ctx context.Context, c *config, token string, payload []byte) error {
	signed, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil || signed.Signatures[0].Header.KeyID == "" {
		return errDenied
	}
	ca, bearer := c.access()
	to, err := k.get(c.Host, ca)
	if err != nil {
		return err
	}
	id := signed.Signatures[0].Header.KeyID
	found, fetch := to.published.named(id)
	if fetch {
		if found, err = to.fetchNamed(ctx, c.Host, bearer, token, id); err != nil {
			return err
		}
	}
	for i := range found {
		if alg := found[i].Algorithm; alg != "" && alg != signed.Signatures[0].Header.Algorithm {
			continue
		}
		if raw, err := signed.Verify(&found[i]); err == nil && bytes.Equal(raw, payload) {
			return nil
		}
	}
	return errDenied
}

// fetchNamed fetches the keys, one login at a time, and returns those with the
// id.
func (c *cluster) fetchNamed(ctx context.Context, host, bearer, own, id string) ([]jose.JSONWebKey, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	select {
	case c.published.fetching <- struct{}{}:
		defer func() { <-c.published.fetching }()
	case <-ctx.Done():
		return nil, errDenied
	}
	if found, fetch := c.published.named(id); !fetch { // another has fetched them meanwhile
		return found, nil
	}
	ctx, cancel := lingering(ctx)
	defer cancel()
	if err := c.fetch(ctx, host, bearer, own); err != nil {
		return nil, err
	}
	found, _ := c.published.named(id)
	return found, nil
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

// fetch asks with the reviewer's token, or without one as nobody and then with the
// caller's own. Only what all logins share is tried at a bounded rate: a caller
// whose own token does not do must not keep the next one from trying.
func (c *cluster) fetch(ctx context.Context, host, bearer, own string) error {
	shared := c.published.mayTry()
	if bearer != "" && !shared {
		return errNoKeys
	}
	var keys []jose.JSONWebKey
	if shared {
		keys = c.jwks(ctx, host, bearer)
	}
	if keys == nil && bearer == "" {
		keys = c.jwks(ctx, host, own)
	}
	if keys == nil {
		return errNoKeys
	}
	c.published.mu.Lock()
	defer c.published.mu.Unlock()
	c.published.keys, c.published.fetched = keys, time.Now()
	return nil
}

// jwks is the cluster's answer; nil is none that can be used.
func (c *cluster) jwks(ctx context.Context, host, bearer string) []jose.JSONWebKey {
	raw, err := c.send(ctx, http.MethodGet, host+"/openid/v1/jwks", bearer, nil)
	if err != nil {
		return nil
	}
	return parseKeys(raw)
}

// parseKeys reads a set of keys. Those that are not for checking signatures are
// left out.
func parseKeys(raw []byte) []jose.JSONWebKey {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &set) != nil || len(set.Keys) > maxKeys {
		return nil
	}
	var out []jose.JSONWebKey
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(one, &key) == nil && key.Valid() && key.IsPublic() && key.KeyID != "" && (key.Use == "" || key.Use == "sig") {
			out = append(out, key)
		}
	}
	return out
}

// labels are those of a namespace.
func (k *clusters) labels(ctx context.Context, c *config, token, namespace string) (map[string]string, error) {
	if !isName(namespace) {
		return nil, errDenied
	}
	ca, bearer := c.access()
	if bearer == "" {
		bearer = token
	}
	to, err := k.get(c.Host, ca)
	if err != nil {
		return nil, err
	}
	leave, err := to.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	raw, err := to.send(ctx, http.MethodGet, c.Host+"/api/v1/namespaces/"+namespace, bearer, nil)
	if err != nil {
		return nil, err
	}
	var out struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if json.Unmarshal(raw, &out) != nil || out.Kind != "Namespace" || out.Metadata.Name != namespace {
		return nil, errDenied
	}
	return out.Metadata.Labels, nil
}

// isName reports whether a namespace has a name that clusters allow (RFC 1123).
func isName(name string) bool {
	if name == "" || len(name) > 63 || strings.Trim(name, "-") != name {
		return false
	}
	return !slices.ContainsFunc([]byte(name), func(b byte) bool {
		return b != '-' && (b < '0' || b > '9') && (b < 'a' || b > 'z')
	})
}
