package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"arca/internal/engine"
	"arca/internal/identity"
	"arca/internal/redirect"
	"arca/internal/storage"
	"arca/internal/token"
)

func (i *Issuer) flowRoutes() []engine.Route {
	const p = "oidc/provider/{name}/"
	return []engine.Route{
		engine.Read(p+".well-known/openid-configuration", i.providerDiscovery, engine.NoToken,
			engine.ID("oidc-read-provider-open-id-configuration"), engine.Help("Tell applications about the provider.")),
		engine.Read(p+".well-known/keys", i.providerKeys, engine.NoToken, engine.ID("oidc-read-provider-public-keys"),
			engine.Help("Get the public keys of the provider's tokens.")),
		engine.Read(p+"authorize", i.authorize, engine.NoParamWarn, engine.WriteTx, engine.ID("oidc-provider-authorize"), engine.Help("Let an application know who the caller is.")),
		engine.Write(p+"authorize", i.authorize, engine.NoParamWarn, engine.ID("oidc-provider-authorize-with-parameters"),
			engine.Help("Let an application know who the caller is.")),
		engine.Write(p+"token", i.exchange, engine.NoToken, engine.NoParamWarn, engine.ID("oidc-provider-token"), engine.Help("Change a code for tokens.")),
		engine.Read(p+"userinfo", i.userinfo, engine.NoToken, engine.NoParamWarn, engine.ID("oidc-provider-user-info"), engine.Help("Tell who an access token is for.")),
		engine.Write(p+"userinfo", i.userinfo, engine.NoToken, engine.NoParamWarn, engine.ID("oidc-provider-user-info2"), engine.Help("Tell who an access token is for.")),
	}
}

const (
	codeTime = 5 * time.Minute
	plain    = "plain"
	s256     = "S256"
)

// nobody fills templates in when only their form matters.
var nobody = &identity.Person{Entity: &identity.Entity{}}

// A grant is what a code stands for. It is stored by the hash of the code, so that
// any node can take it, until it is changed for tokens.
type grant struct {
	Version   int       `json:"v"`
	Provider  string    `json:"provider"`
	ClientID  string    `json:"client_id"`
	Entity    string    `json:"entity"`
	Redirect  string    `json:"redirect"`
	Nonce     string    `json:"nonce,omitempty"`
	Challenge string    `json:"challenge,omitempty"`
	Method    string    `json:"method,omitempty"`
	Scopes    []string  `json:"scopes,omitempty"`
	AuthTime  int64     `json:"auth_time,omitempty"` // Unix seconds; 0: not asked for
	Until     time.Time `json:"until"`
}

const (
	codeDir = "code/"
	// dueDir lists codes by when they end, to the second.
	dueDir = "codedue/"
	// perCode is how many codes that have ended go with each new one: more than
	// come, so that they are not kept for long.
	perCode = 4
)

func codeHash(code string) string {
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

func (g *grant) dueKey(hash string) string { return storage.DueKey(dueDir, g.Until, hash) }

// keep stores the grant of a code, and forgets some that have ended.
func (g *grant) keep(tx storage.Tx, code string, now time.Time) error {
	err := storage.ForgetDue(tx, dueDir, now, perCode, func(hash string) error { return tx.Delete(codeDir + hash) })
	if err != nil {
		return err
	}
	g.Version = 1
	hash := codeHash(code)
	if err := tx.Put(g.dueKey(hash), []byte{1}); err != nil {
		return err
	}
	return storage.PutJSON(tx, codeDir+hash, g)
}

// take gives what a code stands for, once; nil when it stands for nothing.
func take(tx storage.Tx, code string, now time.Time) (*grant, error) {
	hash := codeHash(code)
	g, err := storage.GetJSON[grant](tx, codeDir+hash)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(tx.Delete(codeDir+hash), tx.Delete(g.dueKey(hash))); err != nil {
		return nil, err
	}
	if !now.Before(g.Until) {
		return nil, nil
	}
	return g, nil
}

// A refusal is an error in the form of OAuth (RFC 6749, 4.1.2.1 and 5.2).
type refusal struct {
	status            int
	code, description string
	challenge         string // of WWW-Authenticate
}

// Error implements error.
func (r *refusal) Error() string { return r.code + ": " + r.description }

func refuse(code, description string) error {
	return &refusal{http.StatusBadRequest, code, description, ""}
}

// refused answers a refusal; other errors are left to the door.
func refused(err error, state *string) (*engine.Response, error) {
	var r *refusal
	if !errors.As(err, &r) {
		return nil, err
	}
	body := map[string]any{"error": r.code, "error_description": r.description}
	if state != nil {
		body["state"] = *state
	}
	res, err := rawJSON(r.status, body)
	if err == nil && r.challenge != "" {
		res.Raw.Header["WWW-Authenticate"] = r.challenge
	}
	return res, err
}

func (i *Issuer) providerDiscovery(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := providerOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	address := p.address(call, in.Name)
	page := strings.TrimSuffix(base(call, p.Issuer), "/v1/"+call.NamespacePath+"identity/oidc") + "/ui/vault/"
	query := ""
	if call.NamespacePath != "" {
		query = "?namespace=" + url.QueryEscape(strings.TrimSuffix(call.NamespacePath, "/"))
	}
	return rawJSON(0, map[string]any{
		"issuer": address, "jwks_uri": address + "/.well-known/keys", "token_endpoint": address + "/token", "userinfo_endpoint": address + "/userinfo",
		"authorization_endpoint":                page + "identity/oidc/provider/" + in.Name + "/authorize" + query,
		"id_token_signing_alg_values_supported": algorithms, "response_types_supported": []string{"code"},
		"scopes_supported": append(slices.Clone(p.Scopes), openid), "claims_supported": []string{}, "subject_types_supported": []string{"public"},
		"request_parameter_supported": false, "request_uri_parameter_supported": false, "grant_types_supported": []string{"authorization_code"},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
	})
}

func (i *Issuer) providerKeys(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := providerOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	var names []string
	if slices.Contains(p.Clients, "*") {
		names, err = inUse(at(call), "client")
	} else {
		for _, id := range p.Clients {
			c, clientErr := clientByID(call, id)
			if errors.Is(clientErr, storage.ErrNotFound) {
				continue
			}
			if clientErr != nil {
				return nil, clientErr
			}
			names = append(names, c.Key)
		}
	}
	if err != nil {
		return nil, err
	}
	keys, err := publicOf(call, names)
	if err != nil {
		return nil, err
	}
	return rawJSON(0, jose.JSONWebKeySet{Keys: keys})
}

type authorizeIn struct {
	nameIn
	Scope      string `api:"scope" help:"Scopes, openid among them, with blanks between."`
	Type       string `api:"response_type" help:"code."`
	ClientID   string `api:"client_id" help:"Id of the client."`
	Redirect   string `api:"redirect_uri" help:"Address to send the code to."`
	State      string `api:"state" help:"Text that comes back with the code."`
	Nonce      string `api:"nonce" help:"Text that the id token holds."`
	MaxAge     *int   `api:"max_age" help:"Seconds since the login at most."`
	Challenge  string `api:"code_challenge" help:"Challenge of PKCE."`
	Method     string `api:"code_challenge_method" help:"plain or S256."`
	Request    string `api:"request" help:"Refused."`
	RequestURI string `api:"request_uri" help:"Refused."`
}

func (i *Issuer) authorize(_ context.Context, call *engine.Call, in authorizeIn) (*engine.Response, error) {
	g, err := i.allow(call, &in)
	if err != nil {
		return refused(err, &in.State)
	}
	code := token.Random(32)
	if err := g.keep(at(call), code, call.Now); err != nil {
		return nil, err
	}
	return rawJSON(0, map[string]any{"code": code, "state": in.State})
}

// allow decides whether an application may know who the caller is.
func (i *Issuer) allow(call *engine.Call, in *authorizeIn) (*grant, error) {
	p, err := providerOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuse("invalid_request", "provider not found")
	}
	if err != nil {
		return nil, err
	}
	scopes := strings.Fields(in.Scope)
	switch {
	case !slices.Contains(scopes, openid):
		return nil, refuse("invalid_request", "scope parameter must contain the \"openid\" value")
	case len(scopes) > maxList || len(in.Nonce) > 1024 || len(in.State) > 8192:
		return nil, refuse("invalid_request", "scope, nonce or state is too long")
	case in.Type == "":
		return nil, refuse("invalid_request", "response_type parameter is required")
	case in.Type != "code":
		return nil, refuse("unsupported_response_type", "unsupported response_type value")
	case in.ClientID == "":
		return nil, refuse("invalid_request", "client_id parameter is required")
	}
	c, err := clientByID(call, in.ClientID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuse("invalid_client_id", "client with client_id not found")
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !p.allows(c.ID):
		return nil, refuse("unauthorized_client", "client is not authorized to use the provider")
	case in.Redirect == "":
		return nil, refuse("invalid_request", "redirect_uri parameter is required")
	case !redirect.Allowed(c.Redirects, in.Redirect):
		return nil, refuse("invalid_redirect_uri", "redirect_uri is not allowed for the client")
	case in.Request != "":
		return nil, refuse("request_not_supported", "request parameter is not supported")
	case in.RequestURI != "":
		return nil, refuse("request_uri_not_supported", "request_uri parameter is not supported")
	}
	method, err := c.challenge(in)
	if err != nil {
		return nil, err
	}
	if call.Caller.EntityID == "" {
		return nil, refuse("access_denied", "identity entity must be associated with the request")
	}
	if err := c.assigned(call, call.Caller.EntityID); err != nil {
		return nil, err
	}
	kept := []string{}
	for _, s := range scopes {
		if slices.Contains(p.Scopes, s) && !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	g := &grant{
		Provider: in.Name, ClientID: c.ID, Entity: call.Caller.EntityID, Redirect: in.Redirect, Nonce: in.Nonce,
		Challenge: in.Challenge, Method: method, Scopes: kept, Until: call.Now.Add(codeTime).UTC(),
	}
	return g, g.age(call, in.MaxAge)
}

// age holds the caller's login to max_age.
func (g *grant) age(call *engine.Call, maxAge *int) error {
	if maxAge == nil {
		return nil
	}
	tok, err := desks(call).Tokens.Lookup(call.Tx, call.Request.Token, call.Now)
	if err != nil {
		return err
	}
	if *maxAge < 0 {
		return refuse("invalid_request", "invalid max_age parameter")
	}
	if call.Now.Sub(tok.Created) > time.Duration(*maxAge)*time.Second {
		return refuse("max_age_violation", "active re-authentication is required by max_age")
	}
	g.AuthTime = tok.Created.Unix()
	return nil
}

// challenge checks the challenge of PKCE (RFC 7636), which public clients need.
func (c *client) challenge(in *authorizeIn) (method string, err error) {
	if in.Challenge == "" {
		if c.Public {
			return "", refuse("invalid_request", "PKCE is required for public clients")
		}
		return "", nil
	}
	method = in.Method
	if method == "" {
		method = plain
	}
	switch {
	case method != plain && method != s256:
		return "", refuse("invalid_request", "invalid code_challenge_method")
	case len(in.Challenge) < 43 || len(in.Challenge) > 128:
		return "", refuse("invalid_request", "invalid code_challenge")
	}
	return method, nil
}

// assigned refuses who may not use a client.
func (c *client) assigned(call *engine.Call, entity string) error {
	p, err := desks(call).Identity.Person(call.Tx, entity)
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrDisabled) {
		return refuse("access_denied", "identity entity associated with the request not found")
	}
	if err != nil {
		return err
	}
	for _, name := range c.Assignments {
		a, err := assignmentOf(call, name)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if name == allowAll || slices.Contains(a.Entities, p.Entity.ID) {
			return nil
		}
		if in, err := desks(call).Identity.InGroup(call.Tx, p, a.Groups); err != nil {
			return err
		} else if in {
			return nil
		}
	}
	return refuse("access_denied", "identity entity not authorized by client assignment")
}

type exchangeIn struct {
	nameIn
	GrantType string `api:"grant_type" help:"authorization_code."`
	Code      string `api:"code" help:"The code."`
	Redirect  string `api:"redirect_uri" help:"Address to which the code was sent."`
	ClientID  string `api:"client_id" help:"Id of the client, if not in the header Authorization."`
	Secret    string `api:"client_secret" help:"Secret of the client, if not in the header Authorization."`
	Verifier  string `api:"code_verifier" help:"Verifier of PKCE."`
}

func (i *Issuer) exchange(_ context.Context, call *engine.Call, in exchangeIn) (*engine.Response, error) {
	res, err := i.tokens(call, &in)
	if err != nil {
		return refused(err, nil)
	}
	return res, nil
}

// authenticate finds the client that asks.
func authenticate(call *engine.Call, in *exchangeIn) (*client, error) {
	bad := &refusal{http.StatusUnauthorized, "invalid_client", "client failed to authenticate", "Basic"}
	id, secret := in.ClientID, in.Secret
	for _, h := range call.Request.Header["Authorization"] {
		raw, isBasic := strings.CutPrefix(h, "Basic ")
		if !isBasic {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(raw)
		if err != nil {
			return nil, bad
		}
		// The two are encoded like a form (RFC 6749, 2.3.1).
		a, b, _ := strings.Cut(string(text), ":")
		var errID, errSecret error
		id, errID = url.QueryUnescape(a)
		secret, errSecret = url.QueryUnescape(b)
		if errID != nil || errSecret != nil {
			return nil, bad
		}
	}
	c, err := clientByID(call, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	if !c.Public && (c.Secret == "" || subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) != 1) {
		return nil, bad
	}
	return c, nil
}

func (i *Issuer) tokens(call *engine.Call, in *exchangeIn) (*engine.Response, error) {
	p, err := providerOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuse("invalid_request", "provider not found")
	}
	if err != nil {
		return nil, err
	}
	c, err := authenticate(call, in)
	if err != nil {
		return nil, err
	}
	switch {
	case !p.allows(c.ID):
		return nil, refuse("invalid_client", "client is not authorized to use the provider")
	case in.GrantType != "authorization_code":
		return nil, refuse("unsupported_grant_type", "unsupported grant_type or parameter is empty value")
	case in.Code == "":
		return nil, refuse("invalid_request", "code parameter is required")
	case in.Redirect == "":
		return nil, refuse("invalid_request", "redirect_uri parameter is required")
	}
	g, err := take(at(call), in.Code, call.Now)
	if err != nil {
		return nil, err
	}
	switch {
	case g == nil:
		return nil, refuse("invalid_grant", "authorization grant is invalid or expired")
	case g.ClientID != c.ID:
		return nil, refuse("invalid_grant", "authorization code was not issued to the client")
	case g.Provider != in.Name:
		return nil, refuse("invalid_grant", "authorization code was not issued by the provider")
	case g.Redirect != in.Redirect:
		return nil, refuse("invalid_grant", "redirect_uri does not match the redirect_uri used in the authorization request")
	}
	if err := g.verify(c, in.Verifier); err != nil {
		return nil, err
	}
	if err := c.assigned(call, g.Entity); err != nil {
		return nil, err
	}
	return issue(call, in, p, c, g)
}

// verify holds the verifier of PKCE to the challenge.
func (g *grant) verify(c *client, verifier string) error {
	if g.Challenge == "" {
		if c.Public {
			return refuse("invalid_grant", "PKCE is required for public clients")
		}
		if verifier != "" {
			return refuse("invalid_request", "code_verifier was not expected")
		}
		return nil
	}
	if verifier == "" {
		return refuse("invalid_grant", "code_verifier parameter is required")
	}
	have := verifier
	if g.Method == s256 {
		sum := sha256.Sum256([]byte(verifier))
		have = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if subtle.ConstantTimeCompare([]byte(have), []byte(g.Challenge)) != 1 {
		return refuse("invalid_grant", "invalid code_verifier for PKCE")
	}
	return nil
}

// providerClaims are the claims of an id token that the provider makes itself.
type providerClaims struct {
	identityClaims
	Nonce    string `json:"nonce,omitempty"`
	AuthTime int64  `json:"auth_time,omitempty"`
	AtHash   string `json:"at_hash"`
	CHash    string `json:"c_hash"`
}

// issue makes the two tokens. The access token is a batch token without policies
// and without an entity, whose policies it would have: it is good for userinfo and
// nothing else.
func issue(call *engine.Call, in *exchangeIn, p *provider, c *client, g *grant) (*engine.Response, error) {
	d := desks(call)
	k, err := keyOf(call, c.Key)
	if err != nil {
		return nil, err
	}
	if !k.allows(c.ID) {
		return nil, refuse("invalid_client", "client is not authorized to use the key")
	}
	access, err := d.MakeToken(call.Tx, &token.Entry{
		Path: call.Request.Path, DisplayName: "oidc-access", Created: call.Now, CreationTTL: c.AccessTTL, Expires: call.Now.Add(c.AccessTTL),
		NamespaceID: call.NamespaceID, Type: engine.TokenBatch,
		Internal: map[string]any{"oidc_entity": g.Entity, "oidc_provider": in.Name, "oidc_client": c.ID, "oidc_scopes": strings.Join(g.Scopes, " ")},
	}, "")
	if err != nil {
		return nil, err
	}
	person, err := d.Identity.Person(call.Tx, g.Entity)
	if err != nil {
		return nil, err
	}
	more, err := claimsOf(call, g.Scopes, person)
	if err != nil {
		return nil, err
	}
	half := func(text string) string { return base64.RawURLEncoding.EncodeToString(k.hash(text)) }
	claims, err := merge(providerClaims{
		identityClaims: identityClaims{
			Issuer: p.address(call, in.Name), Namespace: call.NamespaceID, Subject: person.Entity.ID, Audience: c.ID,
			Expires: call.Now.Add(c.IDTTL).Unix(), Issued: call.Now.Unix(),
		},
		Nonce: g.Nonce, AuthTime: g.AuthTime, AtHash: half(access), CHash: half(in.Code),
	}, more)
	if err != nil {
		return nil, err
	}
	id, err := sign(call, c.Key, k, claims)
	if err != nil {
		return nil, err
	}
	res, err := rawJSON(0, map[string]any{
		"token_type": "Bearer", "access_token": access, "id_token": id, "expires_in": int64(c.AccessTTL / time.Second),
	})
	if err == nil {
		res.Raw.Header["Pragma"] = "no-cache"
	}
	return res, err
}

// claimsOf fills in the templates of scopes.
func claimsOf(call *engine.Call, scopes []string, p *identity.Person) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, name := range scopes {
		s, err := scopeOf(call, name)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		claims, err := fillTemplate(s.Template, p, call.NamespaceID, call.Now)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, claims)
	}
	return out, nil
}

func (i *Issuer) userinfo(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	res, err := whoIs(call, in.Name)
	if err != nil {
		return refused(err, nil)
	}
	return res, nil
}

func whoIs(call *engine.Call, provider string) (*engine.Response, error) {
	unauthorized := func(text string) error {
		return &refusal{http.StatusUnauthorized, "invalid_token", text, "Bearer error=\"invalid_token\",error_description=\"" + text + "\""}
	}
	text := ""
	for _, h := range call.Request.Header["Authorization"] {
		if t, ok := strings.CutPrefix(h, "Bearer "); ok {
			text = strings.TrimSpace(t)
		}
	}
	if text == "" {
		return nil, unauthorized("access token must be sent as a Bearer token")
	}
	d := desks(call)
	tok, err := d.Tokens.Lookup(call.Tx, text, call.Now)
	if errors.Is(err, token.ErrBad) {
		return nil, unauthorized("access token is invalid or expired")
	}
	if err != nil {
		return nil, err
	}
	if _, err := providerOf(call, provider); errors.Is(err, storage.ErrNotFound) {
		return nil, refuse("invalid_request", "provider not found")
	} else if err != nil {
		return nil, err
	}
	of := func(key string) string { v, _ := tok.Internal[key].(string); return v }
	if !tok.Batch() || tok.NamespaceID != call.NamespaceID || of("oidc_provider") != provider || of("oidc_client") == "" {
		return nil, unauthorized("access token was not issued by the provider")
	}
	c, err := clientByID(call, of("oidc_client"))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuse("access_denied", "client not found")
	}
	if err != nil {
		return nil, err
	}
	if err := c.assigned(call, of("oidc_entity")); err != nil {
		return nil, err
	}
	person, err := d.Identity.Person(call.Tx, of("oidc_entity"))
	if err != nil {
		return nil, err
	}
	more, err := claimsOf(call, strings.Fields(of("oidc_scopes")), person)
	if err != nil {
		return nil, err
	}
	for _, name := range reserved {
		delete(more, name)
	}
	if more["sub"], err = json.Marshal(person.Entity.ID); err != nil {
		return nil, err
	}
	return rawJSON(0, more)
}
