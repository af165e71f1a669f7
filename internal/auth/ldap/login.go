package ldap

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/storage"
)

type loginIn struct {
	Username string `api:"username,anycase" help:"Name of the user."`
	Password string `api:"password" help:"Password of the user."`
}

var (
	errDenied  = errs.New(errs.Denied, "permission denied")
	errBad     = errs.New(errs.Invalid, "ldap operation failed: failed to bind as user")
	errSearch  = errs.New(errs.Invalid, "ldap operation failed: unable to retrieve user bind DN")
	errGone    = errs.New(errs.Invalid, "the user is not at the LDAP server any more, not renewing")
	errNoAlias = errs.New(errs.Invalid, "missing entity alias attribute value")
	errSpell   = errs.New(errs.Invalid, "the username has a character, or blanks, that LDAP servers take for others or for none")
)

func loginName(_ *engine.Call, in loginIn) string {
	if !plain(in.Username) {
		return ""
	}
	return cases.Fold().String(in.Username)
}

// plain reports whether a name has one spelling only, but for case: servers compare
// without blanks at the ends, and without regard to how characters are composed
// (RFC 4518). A user who has a spelling for each try would never be locked out,
// and would not be who is meant by a user's own policies.
func plain(name string) bool {
	if strings.Join(strings.Fields(name), " ") != name || !norm.NFKC.IsNormalString(name) || !utf8.ValidString(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.C, unicode.Variation_Selector) || unicode.IsSpace(r) && r != ' ' || r == '\u034f' || r == '\u1806' || r == '\ufffc'
	})
}

// An account is what the server has told of who logs in, by which configuration.
type account struct {
	by, username string

	name   string // the attribute userattr, as the server has it
	groups []string
}

// by is a configuration as one text, but for the password of binddn: that it is rotated meanwhile changes nothing for those who log in.
func (c *config) by() string {
	now := *c
	now.BindPass, now.NextPass, now.PastPass = "", "", ""
	raw, err := json.Marshal(&now)
	if err != nil {
		return "" // it holds nothing that cannot be encoded
	}
	return string(raw)
}

func (e *Engine) login(_ context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	c, err := storage.GetJSON[config](call.Tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "ldap backend not configured")
	}
	if err != nil {
		return nil, err
	}
	switch {
	case in.Username == "" || len(in.Username) > 512:
		return nil, errs.New(errs.Invalid, "a username has 1 to 512 bytes")
	case !plain(in.Username):
		return nil, errSpell
	case in.Password == "" && !c.AllowNullBind:
		return nil, errs.New(errs.Invalid, "password cannot be of zero length when passwordless binds are being denied")
	case len(in.Password) > 4096:
		return nil, errs.New(errs.Invalid, "the password is longer than 4096 bytes")
	case !c.Allows(call.Request.Remote.Addr()):
		return nil, errDenied
	}
	got, ok := call.Asked.(account)
	if !ok {
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			return e.ask(ctx, call.Mount.Accessor, c, in.Username, in.Password)
		})
	}
	if got.by != c.by() || got.username != in.Username {
		return nil, errDenied
	}
	policies, groups, err := c.merge(call.Tx, in.Username, got.groups)
	if err != nil {
		return nil, err
	}
	name := c.fold(in.Username)
	auth := c.Auth()
	auth.Policies = policies
	auth.DisplayName = in.Username
	auth.Metadata = map[string]string{"username": in.Username}
	auth.InternalData = map[string]any{"groups": got.groups}
	auth.Alias = &engine.Alias{Name: name, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type, Metadata: map[string]string{"name": in.Username}}
	if !c.NameAsAlias {
		auth.Alias.Name = got.name
	}
	auth.GroupAliases = aliases(call, groups)
	res := &engine.Response{Auth: auth}
	if len(groups) == 0 {
		res.Warn("no LDAP groups found in groupDN \"" + c.GroupDN + "\"; only policies from locally-defined groups available")
	}
	return res, nil
}

// aliases are the groups as the identity knows them.
func aliases(call *engine.Call, groups []string) []engine.Alias {
	out := make([]engine.Alias, 0, len(groups))
	for _, g := range groups {
		out = append(out, engine.Alias{Name: g, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type})
	}
	return out
}

// merge adds to the server's groups those that are written here, and to the
// grant's policies those of the user and the groups.
func (c *config) merge(tx storage.Tx, username string, server []string) (policies, groups []string, err error) {
	u, err := stored(tx, "user/"+c.fold(username))
	if err != nil {
		return nil, nil, err
	}
	policies = append(slices.Clone(c.Policies), u.Policies...)
	for _, g := range append(slices.Clone(server), u.Groups...) {
		groups = append(groups, c.fold(g))
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	for _, name := range groups {
		if len(name) > 512 {
			continue // no group here has such a name
		}
		g, err := stored(tx, "group/"+name)
		if err != nil {
			return nil, nil, err
		}
		policies = append(policies, g.Policies...)
		if len(policies) <= 4*engine.MaxPolicies {
			continue
		}
		policies = grant.Clean(policies) // many groups may give the same
		if err := engine.CheckPolicies(policies); err != nil {
			return nil, nil, err
		}
	}
	return grant.Clean(policies), groups, nil
}

// RenewAuth implements engine.AuthRenewer. Where binddn or discoverdn lets this
// server look users up, it asks whether the user is still there, and for their
// groups of today. The user's password, with which Vault logs in again, is not
// kept: without somebody to look up, the groups are those of the login.
func (e *Engine) RenewAuth(_ context.Context, call *engine.Call, auth *engine.Auth) error {
	c, err := storage.GetJSON[config](call.Tx, configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return engine.ErrNotRenewed
	}
	if err != nil {
		return err
	}
	username := auth.Metadata["username"]
	groups := strs(auth.InternalData["groups"])
	if c.canLookUp() {
		got, ok := call.Asked.(account)
		switch {
		case !ok:
			return engine.Ask(func(ctx context.Context) (any, error) { return e.again(ctx, call.Mount.Accessor, c, username) })
		case got.by != c.by() || got.username != username:
			return errDenied
		}
		groups = got.groups
	}
	policies, all, err := c.merge(call.Tx, username, groups)
	if err != nil {
		return err
	}
	if c.canLookUp() { // else these are the groups of a login that may be long ago
		auth.GroupAliases = aliases(call, all)
	}
	now := grant.Grant{Policies: policies}
	if !now.Covers(auth.Policies) {
		return errs.New(errs.Invalid, "policies have changed, not renewing")
	}
	c.Renew(auth)
	auth.Policies = policies
	return nil
}

// strs are the texts of a list, as a login gave it or as it was stored.
func strs(v any) []string {
	if list, ok := v.([]string); ok {
		return list
	}
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		if text, ok := x.(string); ok {
			out = append(out, text)
		}
	}
	return out
}
