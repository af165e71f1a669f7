// Package ldap lets people log in with their name and password at an LDAP server,
// and takes their groups from there.
//
// Servers are asked outside of transactions, with bounds on time, size and number,
// so that one that hangs holds up its own logins only. A login binds as the
// user: an empty password, which servers take for an anonymous bind, is refused
// before. The behaviour follows https://developer.hashicorp.com/vault/api-docs/auth/ldap.
//
// Keys within a mount: "config", "user/<name>", "group/<name>".
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"

	"arca/internal/bounded"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/param"
	"arca/internal/storage"
)

// An Engine is the method ldap.
type Engine struct {
	places    *bounded.Places // of logins that ask servers, by mounts
	rotations *bounded.Places // of those who change the password of binddn, by mounts
}

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
)

// Bounds on how many logins ask servers at a time: of one mount, so that a server
// that hangs keeps only its own waiting, and of all.
const (
	maxAsked    = 64
	maxAllAsked = 2048
)

// boundPackets bounds, once for the program, how much room the library makes for a
// packet: it believes what the packet says of its length.
var boundPackets = sync.OnceFunc(func() { ber.MaxPacketLengthBytes = maxBytes })

// New makes the method.
func New() *Engine {
	boundPackets()
	return &Engine{bounded.NewPlaces(maxAsked, maxAllAsked), bounded.NewPlaces(1, maxAsked)}
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "ldap" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID("ldap-read-auth-configuration"), engine.Help("Read how the server is reached.")),
		engine.Write("config", e.writeConfig, engine.ID("ldap-configure-auth"), engine.Help("Say how the server is reached; what is not given stays.")),
		engine.Write("config/rotate-root", e.rotateRoot, engine.ID("ldap-rotate-root-credentials"),
			engine.Help("Give binddn a password that nobody else knows. Who saw the configuration before knows the next one, too: rotate twice then.")),
		engine.List("users", e.list("user/"), engine.ID("ldap-list-users"), engine.Help("List the users with policies of their own.")),
		engine.Read("users/{name+}", e.readUser, engine.ID("ldap-read-user"), engine.Help("Read a user's policies and groups.")),
		engine.Write("users/{name+}", e.writeUser, engine.ID("ldap-write-user"), engine.Help("Write a user's policies and groups.")),
		engine.Delete("users/{name+}", e.remove("user/"), engine.ID("ldap-delete-user"), engine.Help("Delete a user's policies and groups.")),
		engine.List("groups", e.list("group/"), engine.ID("ldap-list-groups"), engine.Help("List the groups with policies.")),
		engine.Read("groups/{name+}", e.readGroup, engine.ID("ldap-read-group"), engine.Help("Read a group's policies.")),
		engine.Write("groups/{name+}", e.writeGroup, engine.ID("ldap-write-group"), engine.Help("Write a group's policies.")),
		engine.Delete("groups/{name+}", e.remove("group/"), engine.ID("ldap-delete-group"), engine.Help("Delete a group's policies.")),
		engine.Write("login/{username+}", e.login, engine.Login, engine.LoginName(loginName), engine.ID("ldap-login"), engine.Help("Log in.")),
	}
}

// A config says how the server is reached, and where people and groups are.
type config struct {
	Version       int           `json:"v"`
	URL           string        `json:"url"` // several with commas between
	UserDN        string        `json:"userdn,omitempty"`
	BindDN        string        `json:"binddn,omitempty"`
	BindPass      string        `json:"bindpass,omitempty"`
	NextPass      string        `json:"nextpass,omitempty"` // what config/rotate-root changes bindpass to
	PastPass      string        `json:"pastpass,omitempty"` // what it would have changed it to, before a bindpass was written
	GroupDN       string        `json:"groupdn,omitempty"`
	GroupFilter   string        `json:"groupfilter"`
	GroupAttr     string        `json:"groupattr"`
	UserFilter    string        `json:"userfilter"`
	UserAttr      string        `json:"userattr"`
	UPNDomain     string        `json:"upndomain,omitempty"`
	Certificate   string        `json:"certificate,omitempty"`
	ClientCert    string        `json:"client_cert,omitempty"`
	ClientKey     string        `json:"client_key,omitempty"`
	Insecure      bool          `json:"insecure,omitempty"`
	StartTLS      bool          `json:"starttls,omitempty"`
	TLSMin        string        `json:"tls_min"`
	TLSMax        string        `json:"tls_max"`
	DiscoverDN    bool          `json:"discoverdn,omitempty"`
	AllowNullBind bool          `json:"allow_null_bind,omitempty"`
	AnonymousGrps bool          `json:"anonymous_groups,omitempty"`
	CaseSensitive bool          `json:"case_sensitive,omitempty"`
	TokenGroups   bool          `json:"token_groups,omitempty"`
	NameAsAlias   bool          `json:"name_as_alias,omitempty"`
	Deref         string        `json:"deref"`
	PageSize      int           `json:"page,omitempty"`
	RequestTime   time.Duration `json:"request_time"`
	ConnectTime   time.Duration `json:"connect_time"`
	grant.Grant
}

const configKey = "config"

var errNotFound = errs.New(errs.NotFound, "not found")

func standard() *config {
	return &config{
		URL: "ldap://127.0.0.1", GroupFilter: "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))", GroupAttr: "cn",
		UserFilter: "({{.UserAttr}}={{.Username}})", UserAttr: "cn", TLSMin: "tls12", TLSMax: "tls12", Deref: "never",
		RequestTime: 90 * time.Second, ConnectTime: 30 * time.Second,
	}
}

func (e *Engine) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := storage.GetJSON[config](call.Tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	out := map[string]any{
		"url": c.URL, "userdn": c.UserDN, "binddn": c.BindDN, "groupdn": c.GroupDN, "groupfilter": c.GroupFilter, "groupattr": c.GroupAttr,
		"userfilter": c.UserFilter, "userattr": c.UserAttr, "upndomain": c.UPNDomain, "certificate": c.Certificate, "insecure_tls": c.Insecure,
		"starttls": c.StartTLS, "tls_min_version": c.TLSMin, "tls_max_version": c.TLSMax, "discoverdn": c.DiscoverDN,
		"deny_null_bind": !c.AllowNullBind, "anonymous_group_search": c.AnonymousGrps, "case_sensitive_names": c.CaseSensitive,
		"use_token_groups": c.TokenGroups, "username_as_alias": c.NameAsAlias, "dereference_aliases": c.Deref, "max_page_size": c.PageSize,
		"request_timeout": seconds(c.RequestTime), "connection_timeout": seconds(c.ConnectTime),
	}
	c.Show(out)
	return &engine.Response{Data: out}, nil
}

type configIn struct {
	URL              *string        `api:"url" help:"Servers, with commas between: ldap://host:389, ldaps://host:636."`
	UserDN           *string        `api:"userdn" help:"Where people are."`
	BindDN           *string        `api:"binddn" help:"Who looks people up."`
	BindPass         *string        `api:"bindpass" help:"Password of binddn."`
	GroupDN          *string        `api:"groupdn" help:"Where groups are."`
	GroupFilter      *string        `api:"groupfilter" help:"Filter for a user's groups; {{.UserDN}} and {{.Username}} stand for the user."`
	GroupAttr        *string        `api:"groupattr" help:"Attribute with a group's name."`
	UserFilter       *string        `api:"userfilter" help:"Filter for a user; {{.UserAttr}} and {{.Username}} stand for attribute and name."`
	UserAttr         *string        `api:"userattr" help:"Attribute with a user's name."`
	UPNDomain        *string        `api:"upndomain" help:"Log in as name@upndomain."`
	Certificate      *string        `api:"certificate" help:"PEM of the authority that signed the server's certificate."`
	ClientCert       *string        `api:"client_tls_cert" help:"PEM of the certificate to show to the server."`
	ClientKey        *string        `api:"client_tls_key" help:"PEM of its key."`
	Insecure         *bool          `api:"insecure_tls" help:"Do not check the server's certificate."`
	StartTLS         *bool          `api:"starttls" help:"Begin TLS on an ldap:// connection."`
	TLSMin           *string        `api:"tls_min_version" help:"tls12 or tls13."`
	TLSMax           *string        `api:"tls_max_version" help:"tls12 or tls13."`
	DiscoverDN       *bool          `api:"discoverdn" help:"Look people up without binding first."`
	DenyNullBind     *bool          `api:"deny_null_bind" help:"Refuse empty passwords; true when absent."`
	AnonymousGrps    *bool          `api:"anonymous_group_search" help:"Look groups up without binding."`
	CaseSensitive    *bool          `api:"case_sensitive_names" help:"Tell names apart by case."`
	TokenGroups      *bool          `api:"use_token_groups" help:"Refused: groups by Active Directory's tokenGroups."`
	NameAsAlias      *bool          `api:"username_as_alias" help:"Name the alias as the user typed it."`
	Deref            *string        `api:"dereference_aliases" help:"never, finding, searching or always."`
	PageSize         *int           `api:"max_page_size" help:"Entries of a page of answers; 0 is all at once."`
	RequestTime      *time.Duration `api:"request_timeout" help:"How long an answer may take; 90 seconds when absent."`
	ConnectTime      *time.Duration `api:"connection_timeout" help:"How long connecting may take; 30 seconds when absent."`
	PasswordPolicy   *string        `api:"password_policy" help:"Refused: a policy for passwords that binddn is given."`
	RotationPeriod   *time.Duration `api:"rotation_period" help:"Refused: how often the password of binddn is changed."`
	RotationSchedule *string        `api:"rotation_schedule" help:"Refused: when the password of binddn is changed."`
	grant.Params
}

// rotates reports whether passwords of binddn should be changed by this server.
func (in *configIn) rotates() bool {
	set := func(s *string) bool { return s != nil && *s != "" }
	return set(in.PasswordPolicy) || set(in.RotationSchedule) || in.RotationPeriod != nil && *in.RotationPeriod != 0
}

func (e *Engine) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	if in.rotates() {
		return nil, errs.New(errs.Invalid, "password_policy, rotation_period and rotation_schedule are not supported: "+
			"config/rotate-root changes the password of binddn when it is called")
	}
	c, err := storage.GetJSON[config](call.Tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		c, err = standard(), nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ to, given *string }{
		{&c.URL, in.URL},
		{&c.UserDN, in.UserDN},
		{&c.BindDN, in.BindDN},
		{&c.GroupDN, in.GroupDN},
		{&c.GroupFilter, in.GroupFilter},
		{&c.GroupAttr, in.GroupAttr},
		{&c.UserFilter, in.UserFilter},
		{&c.UserAttr, in.UserAttr},
		{&c.UPNDomain, in.UPNDomain},
		{&c.Certificate, in.Certificate},
		{&c.ClientCert, in.ClientCert},
		{&c.ClientKey, in.ClientKey},
		{&c.TLSMin, in.TLSMin},
		{&c.TLSMax, in.TLSMax},
		{&c.Deref, in.Deref},
	} {
		param.Take(f.to, f.given)
		if len(*f.to) > 64<<10 {
			return nil, errs.New(errs.Invalid, "a value of the configuration is longer than 64 KiB")
		}
	}
	if in.BindPass != nil {
		if len(*in.BindPass) > 64<<10 {
			return nil, errs.New(errs.Invalid, "bindpass is longer than 64 KiB")
		}
		c.replacePassword(*in.BindPass)
	}
	param.Take(&c.Insecure, in.Insecure)
	param.Take(&c.StartTLS, in.StartTLS)
	param.Take(&c.DiscoverDN, in.DiscoverDN)
	param.Take(&c.AnonymousGrps, in.AnonymousGrps)
	param.Take(&c.CaseSensitive, in.CaseSensitive)
	param.Take(&c.TokenGroups, in.TokenGroups)
	param.Take(&c.NameAsAlias, in.NameAsAlias)
	param.Take(&c.PageSize, in.PageSize)
	param.Take(&c.RequestTime, in.RequestTime)
	param.Take(&c.ConnectTime, in.ConnectTime)
	if in.DenyNullBind != nil {
		c.AllowNullBind = !*in.DenyNullBind
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	warnings, err := c.Apply(&in.Params, &grant.Legacy{})
	if err != nil {
		return nil, err
	}
	if c.BindPass != "" && c.NextPass == "" {
		c.NextPass = newPassword()
	}
	c.Version = 1
	if err := storage.PutJSON(call.Tx, configKey, c); err != nil || len(warnings) == 0 {
		return nil, err
	}
	return &engine.Response{Bare: true, Warnings: warnings}, nil
}

var derefs = []string{"never", "searching", "finding", "always"} // in the order of RFC 4511

func tlsVersion(name string) (uint16, bool) {
	switch name {
	case "tls10", "tls11", "tls12": // older than 1.2 is not spoken
		return tls.VersionTLS12, true
	case "tls13":
		return tls.VersionTLS13, true
	}
	return 0, false
}

func (c *config) check() error {
	for text := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Host == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" {
			return errs.New(errs.Invalid, "url: %q is no address such as ldap://ldap.example.com or ldaps://ldap.example.com:636", text)
		}
	}
	least, okLeast := tlsVersion(c.TLSMin)
	most, okMost := tlsVersion(c.TLSMax)
	switch {
	case !okLeast:
		return errs.New(errs.Invalid, "invalid 'tls_min_version' in config")
	case !okMost:
		return errs.New(errs.Invalid, "invalid 'tls_max_version' in config")
	case most < least:
		return errs.New(errs.Invalid, "'tls_max_version' must be greater than or equal to 'tls_min_version'")
	case c.TokenGroups:
		return errs.New(errs.Invalid, "use_token_groups is not supported: use groupfilter, such as (member:1.2.840.113556.1.4.1941:={{.UserDN}})")
	case !slices.Contains(derefs, c.Deref):
		return errs.New(errs.Invalid, "invalid 'dereference_aliases' in config: it is never, finding, searching or always")
	case c.RequestTime < time.Second || c.RequestTime > 5*time.Minute || c.ConnectTime < time.Second || c.ConnectTime > 5*time.Minute:
		return errs.New(errs.Invalid, "request_timeout and connection_timeout are from one second to five minutes")
	case c.PageSize < 0 || c.PageSize > 10_000:
		return errs.New(errs.Invalid, "max_page_size is from 0 to 10000")
	case c.Certificate != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.Certificate)):
		return errs.New(errs.Invalid, "failed to parse server tls cert")
	}
	if c.ClientCert != "" || c.ClientKey != "" {
		if _, err := tls.X509KeyPair([]byte(c.ClientCert), []byte(c.ClientKey)); err != nil {
			return errs.New(errs.Invalid, "failed to parse client X509 key pair")
		}
	}
	if _, err := parseFilter("userfilter", c.UserFilter, userFields()); err != nil {
		return err
	}
	_, err := parseFilter("groupfilter", c.GroupFilter, groupFields())
	return err
}

// A person has policies and groups beside those of the server.
type person struct {
	Version  int      `json:"v"`
	Policies []string `json:"policies,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

// fold brings a name into the form under which it is kept.
func (c *config) fold(name string) string {
	if c.CaseSensitive {
		return name
	}
	return strings.ToLower(name)
}

// folded is fold by the mount's configuration, also before there is one.
func folded(tx storage.Tx, name string) (string, error) {
	c, err := storage.GetJSON[config](tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		c, err = &config{}, nil
	}
	if err != nil {
		return "", err
	}
	return c.fold(name), nil
}

type nameIn struct {
	Name string `api:"name,anycase" help:"The name."`
}

type personIn struct {
	nameIn
	Policies []string `api:"policies" help:"Policies of the tokens."`
	Groups   []string `api:"groups" help:"Groups beside those of the server."`
}

type groupIn struct {
	nameIn
	Policies []string `api:"policies" help:"Policies of the tokens of its members."`
}

func (e *Engine) write(call *engine.Call, dir, name string, policies, groups []string) (*engine.Response, error) {
	if name == "" || len(name) > 512 || len(groups) > 1000 {
		return nil, errs.New(errs.Invalid, "a name has 1 to 512 bytes, and at most 1000 groups")
	}
	name, err := folded(call.Tx, name)
	if err != nil {
		return nil, err
	}
	p := person{Version: 1, Policies: grant.Clean(policies)}
	if err := engine.CheckPolicies(p.Policies); err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g = strings.TrimSpace(g); g != "" {
			p.Groups = append(p.Groups, g)
		}
	}
	return nil, storage.PutJSON(call.Tx, dir+name, p)
}

func (e *Engine) writeUser(_ context.Context, call *engine.Call, in personIn) (*engine.Response, error) {
	return e.write(call, "user/", in.Name, in.Policies, in.Groups)
}

func (e *Engine) writeGroup(_ context.Context, call *engine.Call, in groupIn) (*engine.Response, error) {
	return e.write(call, "group/", in.Name, in.Policies, nil)
}

// stored reads a user's or group's record; an empty one when there is none.
func stored(tx storage.Tx, key string) (*person, error) {
	p, err := storage.GetJSON[person](tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return &person{}, nil
	}
	return p, err
}

func (e *Engine) find(call *engine.Call, dir, name string) (*person, error) {
	name, err := folded(call.Tx, name)
	if err != nil {
		return nil, err
	}
	p, err := storage.GetJSON[person](call.Tx, dir+name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	return p, err
}

func (e *Engine) readUser(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := e.find(call, "user/", in.Name)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"policies": param.OrEmpty(p.Policies), "groups": strings.Join(p.Groups, ",")}}, nil
}

func (e *Engine) readGroup(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := e.find(call, "group/", in.Name)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"policies": param.OrEmpty(p.Policies)}}, nil
}

func (e *Engine) list(dir string) engine.Handler[engine.Paging] {
	return func(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
		names, err := call.Tx.Names(dir, in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, errNotFound
		}
		return &engine.Response{Data: map[string]any{"keys": names}}, nil
	}
}

func (e *Engine) remove(dir string) engine.Handler[nameIn] {
	return func(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
		name, err := folded(call.Tx, in.Name)
		if err != nil {
			return nil, err
		}
		return nil, call.Tx.Delete(dir + name)
	}
}
