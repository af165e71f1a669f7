package jwt

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/cap/oidc"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/redirect"
	"arca/internal/storage"
)

// Bounds on logins that have begun.
const (
	loginTime    = 10 * time.Minute
	maxState     = 8 << 10
	maxForget    = 64 // logins that have ended, with each one that ends
	stateKeySize = 32
	beginSize    = 16
)

var errState = errs.New(errs.Invalid, "Vault login failed. Expired or missing OAuth state.") //nolint:revive // the API's text

// A begun login waits for its user to come back from the provider. It is kept by
// nobody but the user: the state that comes back is this, sealed with a key of
// the configuration. So any node can end a login, and nobody can crowd out
// others' logins by beginning many. That it has ended is stored until it would be
// too old anyway.
type begun struct {
	ID       []byte `json:"i"` // makes the nonce and the verifier of PKCE
	Role     string `json:"r"`
	Redirect string `json:"u"`
	Nonce    string `json:"n,omitempty"` // of the client
	Until    int64  `json:"t"`           // Unix seconds

	state string // what came back
}

// endedDir is where logins lie that have ended, until their states are too old.
const endedDir = "ended/"

func (b *begun) endedKey() string {
	return storage.DueKey(endedDir, time.Unix(b.Until, 0), hex.EncodeToString(b.ID))
}

func (b *begun) ended(tx storage.Tx) (bool, error) {
	_, err := tx.Get(b.endedKey())
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// end notes that the login is over: its state is good for nothing any more.
func (b *begun) end(tx storage.Tx, now time.Time) error {
	over, err := b.ended(tx)
	if err != nil {
		return err
	}
	if over {
		return errState
	}
	if err := storage.ForgetDue(tx, endedDir, now, maxForget, nil); err != nil {
		return err
	}
	return tx.Put(b.endedKey(), []byte{1})
}

// refuse ends the login, and fails with why.
func (b *begun) refuse(call *engine.Call, why error) (*engine.Response, error) {
	if err := b.end(call.Tx, call.Now); err != nil {
		return nil, err
	}
	return nil, &engine.Kept{Err: why}
}

// seal makes the state of a login at a mount.
func (c *config) seal(b *begun, mount string) (string, error) {
	aead, err := c.states()
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	return "st_" + base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, []byte(mount))), nil
}

// open finds the login of a state; nil when it is none of ours, or too old.
func (c *config) open(state, mount string, now time.Time) *begun {
	text, ours := strings.CutPrefix(state, "st_")
	text, _, _ = strings.Cut(text, ",ns=")
	if !ours || len(state) > maxState {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	aead, err := c.states()
	if err != nil {
		return nil
	}
	plain, err := aead.Open(nil, nil, raw, []byte(mount))
	b := &begun{state: state}
	if err != nil || json.Unmarshal(plain, b) != nil || now.Unix() >= b.Until {
		return nil
	}
	return b
}

func (c *config) states() (cipher.AEAD, error) {
	if len(c.StateKey) != stateKeySize {
		return nil, errs.New(errs.Invalid, "the configuration is incomplete: write it again")
	}
	block, err := aes.NewCipher(c.StateKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// secret is a text that the provider shall not choose, the same whenever the login
// is looked at.
func (b *begun) secret(c *config, what string) (string, error) {
	key, err := hkdf.Key(sha256.New, c.StateKey, b.ID, what, sha256.Size)
	return base64.RawURLEncoding.EncodeToString(key), err
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
	if len(c.StateKey) == 0 { // the configuration is from before there was one
		c.newStateKey()
		if err := storage.PutJSON(call.Tx, configKey, c); err != nil {
			return nil, err
		}
	}
	nsPath, mount, now := call.NamespacePath, call.Mount.ID, call.Now
	return nil, engine.Ask(func(ctx context.Context) (any, error) {
		p, err := e.opened.of(ctx, mount, c)
		if err != nil {
			return "", err
		}
		b := &begun{ID: make([]byte, beginSize), Role: name, Redirect: in.Redirect, Nonce: in.Nonce, Until: now.Add(loginTime).Unix()}
		_, _ = rand.Read(b.ID) // never fails
		if nsPath != "" && !c.NoNamespace {
			b.Redirect = withoutNamespace(b.Redirect)
		}
		if b.state, err = c.seal(b, mount); err != nil {
			return "", err
		}
		if nsPath != "" && !c.NoNamespace {
			b.state += ",ns=" + nsPath[:len(nsPath)-1]
		}
		req, err := r.request(c, b)
		if err != nil {
			return "", err
		}
		return p.AuthURL(ctx, req)
	})
}

// request is what the provider is asked for.
func (r *role) request(c *config, b *begun) (*oidc.Req, error) {
	nonce, err := b.secret(c, "nonce")
	if err != nil {
		return nil, err
	}
	text, err := b.secret(c, "verifier")
	if err != nil {
		return nil, err
	}
	verifier, err := oidc.NewCodeVerifier(oidc.WithVerifier(text))
	if err != nil {
		return nil, err
	}
	opts := []oidc.Option{oidc.WithState(b.state), oidc.WithNonce(nonce), oidc.WithPKCE(verifier)}
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
	return oidc.NewRequest(loginTime, b.Redirect, opts...)
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
	by     string
	begun  *begun
	claims map[string]any
	failed error // why there are none
}

func (*Engine) callbackRole(_ context.Context, call *engine.Call, in callbackIn) (string, error) {
	c, err := getConfig(call.Tx)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if b := c.open(in.State, call.Mount.ID, call.Now); b != nil {
		return b.Role, nil
	}
	return "", nil
}

func (e *Engine) callback(_ context.Context, call *engine.Call, in callbackIn) (*engine.Response, error) {
	c, err := configured(call.Tx)
	if err != nil {
		return nil, err
	}
	got, ok := call.Asked.(returned)
	if !ok {
		return e.returns(call, c, &in)
	}
	r, err := getRole(call.Tx, got.begun.Role)
	if err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. Role could not be found") //nolint:revive // the API's text
	}
	if got.by != c.with(r) {
		return nil, errDenied
	}
	if got.failed != nil {
		return got.begun.refuse(call, got.failed)
	}
	if err := got.begun.end(call.Tx, call.Now); err != nil {
		return nil, err
	}
	if r.Type != typeOIDC || !r.Allows(call.Request.Remote.Addr()) {
		return nil, errDenied
	}
	if sub, _ := got.claims["sub"].(string); r.Subject != "" && subtle.ConstantTimeCompare([]byte(sub), []byte(r.Subject)) != 1 {
		return nil, errs.New(errs.Invalid, "error validating token: invalid subject (sub) claim")
	}
	return r.admit(call, got.begun.Role, got.claims)
}

// returns checks what has come back, and asks the provider who it is.
func (e *Engine) returns(call *engine.Call, c *config, in *callbackIn) (*engine.Response, error) {
	b := c.open(in.State, call.Mount.ID, call.Now)
	if b == nil {
		return nil, errState
	}
	if over, err := b.ended(call.Tx); err != nil {
		return nil, err
	} else if over {
		return nil, errState
	}
	if in.Code == "" { // nothing is stored: a state costs nothing to get
		if in.Failure != "" {
			return nil, errs.New(errs.Invalid, "Vault login failed. The provider says: %.200q: %.500q", in.Failure, in.Reason) //nolint:revive // the API's text
		}
		return nil, errs.New(errs.Invalid, "Vault login failed. OAuth code parameter not provided.") //nolint:revive // the API's text
	}
	if b.Nonce != "" && subtle.ConstantTimeCompare([]byte(b.Nonce), []byte(in.Nonce)) != 1 {
		return b.refuse(call, errs.New(errs.Invalid, "invalid client_nonce"))
	}
	r, err := getRole(call.Tx, b.Role)
	if err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. Role could not be found") //nolint:revive // the API's text
	}
	req, err := r.request(c, b)
	if err != nil {
		return nil, err
	}
	mount := call.Mount.ID
	return nil, engine.Ask(func(ctx context.Context) (any, error) { return e.exchange(ctx, mount, c, r, b, req, in) })
}

// exchange gives the provider its code for the claims of who logs in.
func (e *Engine) exchange(ctx context.Context, mount string, c *config, r *role, b *begun, req *oidc.Req, in *callbackIn) (any, error) {
	leave, err := e.exchanges.enter(mount, maxExchanges)
	if err != nil {
		return nil, err
	}
	defer leave()
	p, err := e.opened.of(ctx, mount, c)
	if err != nil {
		return nil, err
	}
	tok, err := p.Exchange(ctx, req, in.State, in.Code)
	if err != nil {
		// The library's texts may quote what the provider sent.
		return returned{by: c.with(r), begun: b, failed: errs.New(errs.Invalid, "Vault login failed. Error exchanging oidc code: %s", kindOf(err))}, nil //nolint:revive // the API's text
	}
	var raw, more json.RawMessage
	if err := tok.IDToken().Claims(&raw); err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. The provider's token holds no claims.") //nolint:revive // the API's text
	}
	claims, err := claimsOf(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "Vault login failed. The provider's token holds no claims.") //nolint:revive // the API's text
	}
	sub, _ := claims["sub"].(string)
	if tok.AccessToken() != "" && p.UserInfo(ctx, tok.StaticTokenSource(), sub, &more) == nil {
		info, err := claimsOf(more)
		if err != nil {
			info = nil // its claims are an addition
		}
		for name, v := range info {
			if _, signed := claims[name]; !signed {
				claims[name] = v
			}
		}
	}
	return returned{by: c.with(r), begun: b, claims: claims}, nil
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
