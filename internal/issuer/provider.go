package issuer

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/token"
)

func (i *Issuer) providerRoutes() []engine.Route {
	return []engine.Route{
		engine.List("oidc/assignment", i.listAssignments, engine.ID("oidc-list-assignments"), engine.Help("List the assignments.")),
		engine.Read("oidc/assignment/{name}", i.readAssignment, engine.ID("oidc-read-assignment"), engine.Help("Read who may use clients.")),
		engine.Write("oidc/assignment/{name}", i.writeAssignment, engine.ID("oidc-write-assignment"), engine.Help("Say who may use clients.")),
		engine.Delete("oidc/assignment/{name}", i.deleteAssignment, engine.ID("oidc-delete-assignment"), engine.Help("Delete an assignment.")),
		engine.List("oidc/scope", i.listScopes, engine.ID("oidc-list-scopes"), engine.Help("List the scopes.")),
		engine.Read("oidc/scope/{name}", i.readScope, engine.ID("oidc-read-scope"), engine.Help("Read a scope.")),
		engine.Write("oidc/scope/{name}", i.writeScope, engine.ID("oidc-write-scope"), engine.Help("Make or change a scope.")),
		engine.Delete("oidc/scope/{name}", i.deleteScope, engine.ID("oidc-delete-scope"), engine.Help("Delete a scope.")),
		engine.List("oidc/client", i.listClients, engine.ID("oidc-list-clients"), engine.Help("List the clients.")),
		engine.Read("oidc/client/{name}", i.readClient, engine.ID("oidc-read-client"), engine.Help("Read a client, with its secret.")),
		engine.Write("oidc/client/{name}", i.writeClient, engine.ID("oidc-write-client"), engine.Help("Make or change a client.")),
		engine.Delete("oidc/client/{name}", i.deleteClient, engine.ID("oidc-delete-client"), engine.Help("Delete a client.")),
		engine.List("oidc/provider", i.listProviders, engine.ID("oidc-list-providers"), engine.Help("List the providers.")),
		engine.Read("oidc/provider/{name}", i.readProvider, engine.ID("oidc-read-provider"), engine.Help("Read a provider.")),
		engine.Write("oidc/provider/{name}", i.writeProvider, engine.ID("oidc-write-provider"), engine.Help("Make or change a provider.")),
		engine.Delete("oidc/provider/{name}", i.deleteProvider, engine.ID("oidc-delete-provider"), engine.Help("Delete a provider.")),
	}
}

const (
	allowAll        = "allow_all" // the assignment of everybody
	defaultProvider = "default"
	openid          = "openid"
	maxList         = 1000 // entries of one list
)

// An assignment says who may use a client.
type assignment struct {
	Version  int      `json:"v"`
	Entities []string `json:"entities,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

func assignmentOf(call *engine.Call, name string) (*assignment, error) {
	if name == allowAll {
		return &assignment{Entities: []string{"*"}, Groups: []string{"*"}}, nil
	}
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[assignment](at(call), "assignment/"+name)
}

type assignmentIn struct {
	nameIn
	Entities *[]string `api:"entity_ids" help:"Ids of entities."`
	Groups   *[]string `api:"group_ids" help:"Ids of groups."`
}

func (i *Issuer) writeAssignment(_ context.Context, call *engine.Call, in assignmentIn) (*engine.Response, error) {
	if in.Name == allowAll {
		return nil, errs.New(errs.Invalid, "modification of assignment %q not allowed", allowAll)
	}
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	a, err := assignmentOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		a, err = &assignment{}, nil
	}
	if err != nil {
		return nil, err
	}
	if in.Entities != nil {
		a.Entities = *in.Entities
	}
	if in.Groups != nil {
		a.Groups = *in.Groups
	}
	if len(a.Entities)+len(a.Groups) > 100_000 {
		return nil, errs.New(errs.Invalid, "an assignment names at most 100000 entities and groups")
	}
	a.Version = 1
	return nil, storage.PutJSON(at(call), "assignment/"+in.Name, a)
}

func (i *Issuer) readAssignment(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	a, err := assignmentOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	return answer(map[string]any{"entity_ids": param.OrEmpty(a.Entities), "group_ids": param.OrEmpty(a.Groups)}), nil
}

func (i *Issuer) listAssignments(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := list(at(call), in, "assignment/", allowAll)
	return listed(names, nil, err)
}

func (i *Issuer) deleteAssignment(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	if in.Name == allowAll {
		return nil, errs.New(errs.Invalid, "deletion of assignment %q not allowed", allowAll)
	}
	if checkName(in.Name) != nil {
		return nil, nil
	}
	if err := unused(at(call), "assignment", in.Name, "assignment", "clients"); err != nil {
		return nil, err
	}
	return nil, at(call).Delete("assignment/" + in.Name)
}

// A scope is a set of claims that clients may ask for.
type scope struct {
	Version     int    `json:"v"`
	Template    string `json:"template,omitempty"`
	Description string `json:"description,omitempty"`
}

func scopeOf(call *engine.Call, name string) (*scope, error) {
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[scope](at(call), "scope/"+name)
}

type scopeIn struct {
	nameIn
	Template    *string `api:"template" help:"JSON with {{…}} that becomes claims; text or base64."`
	Description *string `api:"description" help:"What it is for."`
}

func (i *Issuer) writeScope(_ context.Context, call *engine.Call, in scopeIn) (*engine.Response, error) {
	if in.Name == openid {
		return nil, errs.New(errs.Invalid, "the %q scope name is reserved", openid)
	}
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	s, err := scopeOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		s, err = &scope{}, nil
	}
	if err != nil {
		return nil, err
	}
	if in.Template != nil {
		s.Template = decodeTemplate(*in.Template)
	}
	if in.Description != nil {
		s.Description = *in.Description
	}
	if err := checkTemplate(s.Template); err != nil {
		return nil, err
	}
	if len(s.Description) > 4096 {
		return nil, errs.New(errs.Invalid, "description is longer than 4096 bytes")
	}
	s.Version = 1
	return nil, storage.PutJSON(at(call), "scope/"+in.Name, s)
}

func (i *Issuer) readScope(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	s, err := scopeOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	return answer(map[string]any{"template": s.Template, "description": s.Description}), nil
}

func (i *Issuer) listScopes(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := list(at(call), in, "scope/")
	return listed(names, nil, err)
}

func (i *Issuer) deleteScope(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	if checkName(in.Name) != nil {
		return nil, nil
	}
	if err := unused(at(call), "scope", in.Name, "scope", "providers"); err != nil {
		return nil, err
	}
	return nil, at(call).Delete("scope/" + in.Name)
}

// A client is an application that sends its users here.
type client struct {
	Version     int           `json:"v"`
	Name        string        `json:"name"`
	ID          string        `json:"id"`
	Secret      string        `json:"secret,omitempty"` // "" of public clients
	Public      bool          `json:"public,omitempty"`
	Redirects   []string      `json:"redirects,omitempty"`
	Assignments []string      `json:"assignments,omitempty"`
	Key         string        `json:"key"`
	IDTTL       time.Duration `json:"id_ttl"`
	AccessTTL   time.Duration `json:"access_ttl"`
}

func clientOf(call *engine.Call, name string) (*client, error) {
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[client](at(call), "client/"+name)
}

// clientByID finds a client by what it calls itself.
func clientByID(call *engine.Call, id string) (*client, error) {
	if checkName(id) != nil {
		return nil, storage.ErrNotFound
	}
	name, err := at(call).Get("cid/" + id)
	if err != nil {
		return nil, err
	}
	return clientOf(call, string(name))
}

type clientIn struct {
	nameIn
	Redirects   *[]string      `api:"redirect_uris" help:"Addresses to which users are sent back."`
	Assignments *[]string      `api:"assignments" help:"Assignments of who may use it; allow_all is everybody."`
	Key         *string        `api:"key" help:"Key that signs its tokens; default when absent. It cannot be changed."`
	IDTTL       *time.Duration `api:"id_token_ttl" help:"How long id tokens are good; 24 hours when absent."`
	AccessTTL   *time.Duration `api:"access_token_ttl" help:"How long access tokens are good; 24 hours when absent."`
	Type        *string        `api:"client_type" help:"confidential or public. It cannot be changed."`
}

const (
	confidential = "confidential"
	publicClient = "public"
)

func (i *Issuer) writeClient(_ context.Context, call *engine.Call, in clientIn) (*engine.Response, error) {
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	c, err := clientOf(call, in.Name)
	fresh := errors.Is(err, storage.ErrNotFound)
	if fresh {
		c, err = &client{Name: in.Name, Key: defaultKey, IDTTL: day, AccessTTL: day}, nil
	}
	if err != nil {
		return nil, err
	}
	before := *c
	if err := c.apply(&in, fresh); err != nil {
		return nil, err
	}
	if err := c.check(call); err != nil {
		return nil, err
	}
	if fresh {
		c.ID = token.Random(32)
		if !c.Public {
			c.Secret = "hvo_secret_" + token.Random(64)
		}
		if err := at(call).Put("cid/"+c.ID, []byte(c.Name)); err != nil {
			return nil, err
		}
		before.Key = ""
	}
	var keys []string
	if before.Key != "" {
		keys = []string{before.Key}
	}
	if err := use(at(call), "client", c.Name, keys, []string{c.Key}); err != nil {
		return nil, err
	}
	if err := use(at(call), "assignment", c.Name, before.Assignments, c.Assignments); err != nil {
		return nil, err
	}
	c.Version = 1
	return nil, storage.PutJSON(at(call), "client/"+c.Name, c)
}

func (c *client) apply(in *clientIn, fresh bool) error {
	if in.Type != nil {
		if *in.Type != confidential && *in.Type != publicClient {
			return errs.New(errs.Invalid, "invalid client_type %q", *in.Type)
		}
		if !fresh && c.Public != (*in.Type == publicClient) {
			return errs.New(errs.Invalid, "client_type modification is not allowed")
		}
		c.Public = *in.Type == publicClient
	}
	if in.Key != nil {
		if !fresh && *in.Key != c.Key {
			return errs.New(errs.Invalid, "key modification is not allowed")
		}
		c.Key = *in.Key
	}
	if in.Redirects != nil {
		c.Redirects = *in.Redirects
	}
	if in.Assignments != nil {
		c.Assignments = slices.Compact(slices.Sorted(slices.Values(*in.Assignments)))
	}
	if in.IDTTL != nil {
		c.IDTTL = *in.IDTTL
	}
	if in.AccessTTL != nil {
		c.AccessTTL = *in.AccessTTL
	}
	return nil
}

func (c *client) check(call *engine.Call) error {
	if len(c.Redirects) > maxList || len(c.Assignments) > maxList {
		return errs.New(errs.Invalid, "a client has at most %d redirect_uris and assignments", maxList)
	}
	for _, text := range c.Redirects {
		if u, err := url.Parse(text); err != nil || u.Scheme == "" || u.Fragment != "" {
			return errs.New(errs.Invalid, "redirect_uris: %q is no address", text)
		}
	}
	for _, name := range c.Assignments {
		if _, err := assignmentOf(call, name); errors.Is(err, storage.ErrNotFound) {
			return errs.New(errs.Invalid, "assignment %q does not exist", name)
		} else if err != nil {
			return err
		}
	}
	k, err := keyOf(call, c.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return errs.New(errs.Invalid, "key %q does not exist", c.Key)
	}
	if err != nil {
		return err
	}
	if c.IDTTL > k.Verify {
		return errs.New(errs.Invalid, "a client's id_token_ttl cannot be greater than the verification_ttl of the key it references")
	}
	if c.IDTTL <= 0 || c.AccessTTL <= 0 {
		return errs.New(errs.Invalid, "id_token_ttl and access_token_ttl are greater than zero")
	}
	if k.Signing.Key == nil { // of the key default, which others will want to fetch
		return storeFresh(call, c.Key, k)
	}
	return nil
}

// show is a client as the API has it. The members authorization_code and
// client_credentials tell which grants it may use, as servers of Vault's family do.
func (c *client) show() map[string]any {
	out := map[string]any{
		"client_id": c.ID, "redirect_uris": param.OrEmpty(c.Redirects), "assignments": param.OrEmpty(c.Assignments), "key": c.Key,
		"id_token_ttl": int64(c.IDTTL / time.Second), "access_token_ttl": int64(c.AccessTTL / time.Second), "client_type": confidential,
		"authorization_code": true, "client_credentials": false,
	}
	if c.Public {
		out["client_type"] = publicClient
	}
	return out
}

func (i *Issuer) readClient(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := clientOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	out := c.show()
	if !c.Public {
		out["client_secret"] = c.Secret
	}
	return answer(out), nil
}

func (i *Issuer) listClients(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := list(at(call), in, "client/")
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(names))
	for _, name := range names {
		c, err := clientOf(call, name)
		if err != nil {
			return nil, err
		}
		info[name] = c.show()
	}
	return listed(names, info, nil)
}

func (i *Issuer) deleteClient(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := clientOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := use(at(call), "client", c.Name, []string{c.Key}, nil); err != nil {
		return nil, err
	}
	if err := use(at(call), "assignment", c.Name, c.Assignments, nil); err != nil {
		return nil, err
	}
	if err := at(call).Delete("cid/" + c.ID); err != nil {
		return nil, err
	}
	return nil, at(call).Delete("client/" + c.Name)
}

// A provider is what applications know as their OpenID Connect provider.
type provider struct {
	Version int      `json:"v"`
	Issuer  string   `json:"issuer,omitempty"` // scheme, host and port
	Clients []string `json:"clients,omitempty"`
	Scopes  []string `json:"scopes,omitempty"`
}

func providerOf(call *engine.Call, name string) (*provider, error) {
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	p, err := storage.GetJSON[provider](at(call), "provider/"+name)
	if errors.Is(err, storage.ErrNotFound) && name == defaultProvider {
		return &provider{Clients: []string{"*"}}, nil
	}
	return p, err
}

func (p *provider) address(call *engine.Call, name string) string {
	return base(call, p.Issuer) + "/provider/" + name
}

func (p *provider) allows(clientID string) bool {
	return slices.Contains(p.Clients, "*") || slices.Contains(p.Clients, clientID)
}

type providerIn struct {
	nameIn
	Issuer  *string   `api:"issuer" help:"Scheme, host and port that tokens name as their issuer; that of api_addr when empty."`
	Clients *[]string `api:"allowed_client_ids" help:"Client ids of its clients; * is all."`
	Scopes  *[]string `api:"scopes_supported" help:"Scopes that its clients may ask for."`
}

func (i *Issuer) writeProvider(_ context.Context, call *engine.Call, in providerIn) (*engine.Response, error) {
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	p, err := providerOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		p, err = &provider{}, nil
	}
	if err != nil {
		return nil, err
	}
	before := p.Scopes
	if in.Issuer != nil {
		p.Issuer = *in.Issuer
	}
	if in.Clients != nil {
		p.Clients = *in.Clients
	}
	if in.Scopes != nil {
		p.Scopes = slices.Compact(slices.Sorted(slices.Values(*in.Scopes)))
	}
	if err := checkIssuer(p.Issuer); err != nil {
		return nil, err
	}
	if len(p.Clients) > maxList || len(p.Scopes) > maxList {
		return nil, errs.New(errs.Invalid, "a provider has at most %d allowed_client_ids and scopes_supported", maxList)
	}
	if err := p.checkScopes(call); err != nil {
		return nil, err
	}
	if err := use(at(call), "scope", in.Name, before, p.Scopes); err != nil {
		return nil, err
	}
	p.Version = 1
	if err := storage.PutJSON(at(call), "provider/"+in.Name, p); err != nil || in.Issuer == nil || p.Issuer == "" {
		return nil, err
	}
	return &engine.Response{Bare: true, Warnings: []string{warnIssuer}}, nil
}

// checkScopes refuses scopes that there are not, and two that set the same claim.
func (p *provider) checkScopes(call *engine.Call) error {
	by := map[string]string{}
	for _, name := range p.Scopes {
		if name == openid {
			return errs.New(errs.Invalid, "the %q scope name is reserved", openid)
		}
		s, err := scopeOf(call, name)
		if errors.Is(err, storage.ErrNotFound) {
			return errs.New(errs.Invalid, "scope %q does not exist", name)
		}
		if err != nil {
			return err
		}
		claims, err := fillTemplate(s.Template, nobody, call.NamespaceID, call.Now)
		if err != nil {
			return err
		}
		for claim := range claims {
			if other := by[claim]; other != "" {
				return errs.New(errs.Invalid, "found scope templates with conflicting top-level keys: conflict %q in scopes %q, %q", claim, other, name)
			}
			by[claim] = name
		}
	}
	return nil
}

func (p *provider) show(call *engine.Call, name string) map[string]any {
	return map[string]any{"issuer": p.address(call, name), "allowed_client_ids": param.OrEmpty(p.Clients), "scopes_supported": param.OrEmpty(p.Scopes)}
}

func (i *Issuer) readProvider(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := providerOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	return answer(p.show(call, in.Name)), nil
}

type providersIn struct {
	engine.Paging
	ClientID string `api:"allowed_client_id" help:"List the providers of this client only."`
}

func (i *Issuer) listProviders(_ context.Context, call *engine.Call, in providersIn) (*engine.Response, error) {
	names, err := list(at(call), in.Paging, "provider/", defaultProvider)
	if err != nil {
		return nil, err
	}
	var keys []string
	info := make(map[string]any, len(names))
	for _, name := range names {
		p, err := providerOf(call, name)
		if err != nil {
			return nil, err
		}
		if in.ClientID == "" || p.allows(in.ClientID) {
			keys = append(keys, name)
			info[name] = p.show(call, name)
		}
	}
	return listed(keys, info, nil)
}

func (i *Issuer) deleteProvider(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	if in.Name == defaultProvider {
		return nil, errs.New(errs.Invalid, "deletion of provider %q not allowed", defaultProvider)
	}
	p, err := providerOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := use(at(call), "scope", in.Name, p.Scopes, nil); err != nil {
		return nil, err
	}
	return nil, at(call).Delete("provider/" + in.Name)
}
