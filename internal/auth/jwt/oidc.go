package jwt

import (
	"container/list"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/cap/oidc"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/redirect"
)

// Bounds on logins that have begun.
const (
	loginTime    = 10 * time.Minute
	maxBegun     = 20_000
	maxProviders = 200
)

var errState = errs.New(errs.Invalid, "Vault login failed. Expired or missing OAuth state.") //nolint:revive // the API's text

// A begun login waits for its user to come back from the provider.
type begun struct {
	mount   string
	role    string
	nonce   string // of the client
	request *oidc.Req
	until   time.Time
}

// logins are those that have begun, oldest first.
type logins struct {
	mu    sync.Mutex
	byID  map[string]*list.Element // of begun; guarded by mu
	order list.List
}

func (l *logins) add(b *begun, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[string]*list.Element{}
	}
	for e := l.order.Front(); e != nil; e = l.order.Front() {
		old := e.Value.(*begun) //nolint:forcetypeassert // nothing else is put there
		if now.Before(old.until) && len(l.byID) < maxBegun {
			break
		}
		delete(l.byID, old.request.State())
		l.order.Remove(e)
	}
	l.byID[b.request.State()] = l.order.PushBack(b)
}

// take gives the login with a state, once.
func (l *logins) take(state, mount string, now time.Time) *begun {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byID[state]
	if e == nil {
		return nil
	}
	b := e.Value.(*begun) //nolint:forcetypeassert // nothing else is put there
	if b.mount != mount {
		return nil
	}
	delete(l.byID, state)
	l.order.Remove(e)
	if !now.Before(b.until) {
		return nil
	}
	return b
}

type providerKey [sha256.Size]byte

// providers are those whose discovery documents are at hand.
type providers struct {
	mu    sync.Mutex
	known map[providerKey]*oidc.Provider // guarded by mu
}

// of opens the provider of a configuration, which fetches its document.
func (p *providers) of(c *config) (*oidc.Provider, error) {
	key := providerKey(sha256.Sum256([]byte(c.by())))
	p.mu.Lock()
	have := p.known[key]
	p.mu.Unlock()
	if have != nil {
		return have, nil
	}
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
	cfg, err := oidc.NewConfig(c.Discovery, c.ClientID, oidc.ClientSecret(c.ClientSecret), algs, nil, oidc.WithRoundTripper(boundedTransport{t}))
	if err != nil {
		return nil, err
	}
	fresh, err := oidc.NewProvider(cfg)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxProviders {
		p.known = map[providerKey]*oidc.Provider{} // logins under way keep theirs
	}
	p.known[key] = fresh
	return fresh, nil
}

type authURLIn struct {
	Role     string `api:"role,lower" help:"Name of the role; the default role when absent."`
	Redirect string `api:"redirect_uri" help:"Address to which the provider shall send back."`
	Nonce    string `api:"client_nonce" help:"Text that must come back with the callback."`
}

func (e *Engine) authURL(_ context.Context, call *engine.Call, in authURLIn) (*engine.Response, error) {
	c, err := configured(call.Tx)
	if err != nil {
		return nil, err
	}
	if in.Redirect == "" {
		return nil, errs.New(errs.Invalid, "missing redirect_uri")
	}
	if len(in.Nonce) > 512 || len(in.Redirect) > 4096 {
		return nil, errs.New(errs.Invalid, "client_nonce or redirect_uri is too long")
	}
	r, name, err := roleFor(call.Tx, c, in.Role)
	if err != nil {
		return nil, err
	}
	if c.ClientID == "" {
		return nil, errs.New(errs.Invalid, "OIDC login is not configured for this mount")
	}
	if r.Type != typeOIDC {
		return nil, errs.New(errs.Invalid, "role %q is not of role_type oidc", name)
	}
	answer := func(text string) (*engine.Response, error) {
		return &engine.Response{Data: map[string]any{"auth_url": text}}, nil
	}
	if !redirect.Allowed(r.Redirects, in.Redirect) {
		return answer("")
	}
	if text, ok := call.Asked.(string); ok {
		return answer(text)
	}
	nsPath := call.NamespacePath
	return nil, engine.Ask(func(ctx context.Context) (any, error) {
		p, err := e.opened.of(c)
		if err != nil {
			return "", errs.New(errs.Invalid, "error checking oidc discovery URL")
		}
		req, err := r.request(c, in.Redirect, nsPath)
		if err != nil {
			return "", err
		}
		text, err := p.AuthURL(ctx, req)
		if err != nil {
			return "", err
		}
		e.begun.add(&begun{mount: call.Mount.ID, role: name, nonce: in.Nonce, request: req, until: time.Now().Add(loginTime)}, time.Now())
		return text, nil
	})
}

// request is what the provider is asked for.
func (r *role) request(c *config, redirect, nsPath string) (*oidc.Req, error) {
	verifier, err := oidc.NewCodeVerifier()
	if err != nil {
		return nil, err
	}
	state, err := oidc.NewID(oidc.WithPrefix("st"))
	if err != nil {
		return nil, err
	}
	if nsPath != "" && !c.NoNamespace {
		state += ",ns=" + nsPath[:len(nsPath)-1]
		redirect = withoutNamespace(redirect)
	}
	opts := []oidc.Option{oidc.WithState(state), oidc.WithPKCE(verifier)}
	scopes := r.Scopes
	if !slices.Contains(scopes, "openid") {
		scopes = append([]string{"openid"}, scopes...)
	}
	opts = append(opts, oidc.WithScopes(scopes...))
	if len(r.Audiences) > 0 {
		opts = append(opts, oidc.WithAudiences(r.Audiences...))
	} else {
		opts = append(opts, oidc.WithAudiences(c.ClientID))
	}
	if r.MaxAge > 0 {
		opts = append(opts, oidc.WithMaxAge(uint(r.MaxAge/time.Second)))
	}
	return oidc.NewRequest(loginTime, redirect, opts...)
}

// withoutNamespace takes the parameter away that the state has instead.
func withoutNamespace(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil {
		return redirect
	}
	q := u.Query()
	if !q.Has("namespace") {
		return redirect
	}
	q.Del("namespace")
	u.RawQuery = q.Encode()
	return u.String()
}

type callbackIn struct {
	State   string `api:"state" help:"State that the provider sent back."`
	Code    string `api:"code" help:"Code that the provider sent back."`
	Nonce   string `api:"client_nonce" help:"Text that came with auth_url."`
	Failure string `api:"error" help:"Why the provider refused."`
	Reason  string `api:"error_description" help:"The same in words."`
}

// returned is who has come back from the provider.
type returned struct {
	by, role string
	claims   map[string]any
}

func (e *Engine) callback(_ context.Context, call *engine.Call, in callbackIn) (*engine.Response, error) {
	c, err := configured(call.Tx)
	if err != nil {
		return nil, err
	}
	got, ok := call.Asked.(returned)
	if !ok {
		return nil, engine.Ask(func(ctx context.Context) (any, error) { return e.exchange(ctx, c, call.Mount.ID, &in) })
	}
	if got.by != c.by() {
		return nil, errDenied
	}
	r, err := getRole(call.Tx, got.role)
	if err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. Role could not be found") //nolint:revive // the API's text
	}
	if r.Type != typeOIDC || !r.Allows(call.Request.Remote.Addr()) {
		return nil, errDenied
	}
	if sub, _ := got.claims["sub"].(string); r.Subject != "" && subtle.ConstantTimeCompare([]byte(sub), []byte(r.Subject)) != 1 {
		return nil, errs.New(errs.Invalid, "error validating token: invalid subject (sub) claim")
	}
	return r.admit(call, got.role, got.claims)
}

// exchange gives the provider its code for the claims of who logs in. The login
// is over with it, whatever comes of it.
func (e *Engine) exchange(ctx context.Context, c *config, mount string, in *callbackIn) (any, error) {
	b := e.begun.take(in.State, mount, time.Now())
	if b == nil {
		return nil, errState
	}
	if b.nonce != "" && subtle.ConstantTimeCompare([]byte(b.nonce), []byte(in.Nonce)) != 1 {
		return nil, errs.New(errs.Invalid, "invalid client_nonce")
	}
	if in.Code == "" {
		if in.Failure != "" {
			return nil, errs.New(errs.Invalid, "Vault login failed. The provider says: %.200q: %.500q", in.Failure, in.Reason) //nolint:revive // the API's text
		}
		return nil, errs.New(errs.Invalid, "Vault login failed. OAuth code parameter not provided.") //nolint:revive // the API's text
	}
	p, err := e.opened.of(c)
	if err != nil {
		return nil, errs.New(errs.Invalid, "error checking oidc discovery URL")
	}
	tok, err := p.Exchange(ctx, b.request, in.State, in.Code)
	if err != nil {
		// The library's texts may quote what the provider sent.
		return nil, errs.New(errs.Invalid, "Vault login failed. Error exchanging oidc code: %s", kindOf(err)) //nolint:revive // the API's text
	}
	claims := map[string]any{}
	if err := tok.IDToken().Claims(&claims); err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. The provider's token holds no claims.") //nolint:revive // the API's text
	}
	sub, _ := claims["sub"].(string)
	info := map[string]any{}
	if tok.AccessToken() != "" && p.UserInfo(ctx, tok.StaticTokenSource(), sub, &info) == nil {
		for name, v := range info {
			if _, signed := claims[name]; !signed {
				claims[name] = v
			}
		}
	}
	return returned{c.by(), b.role, claims}, nil
}

// kindOf names why an exchange failed without quoting what was sent.
func kindOf(err error) string {
	for _, known := range []error{
		oidc.ErrInvalidNonce, oidc.ErrInvalidIssuer, oidc.ErrInvalidAudience, oidc.ErrInvalidAuthorizedParty, oidc.ErrInvalidIssuedAt,
		oidc.ErrExpiredAuthTime, oidc.ErrExpiredToken, oidc.ErrMissingClaim, oidc.ErrMissingIDToken, oidc.ErrInvalidSignature,
		oidc.ErrUnsupportedAlg, oidc.ErrInvalidAtHash, oidc.ErrInvalidCodeHash, oidc.ErrNotFound, oidc.ErrTokenNotSigned, oidc.ErrMalformedToken,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the provider refused the code, or could not be reached"
}
