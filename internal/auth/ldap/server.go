package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"arca/internal/engine"
	"arca/internal/errs"
)

// Bounds on what a server may cost.
const (
	maxGroups    = 1000
	maxGroupName = 512 // no group here has a longer one
	maxEntries   = 10_000
)

var (
	errReach    = errs.New(errs.Unavailable, "the LDAP server cannot be reached")
	errBindSelf = errs.New(errs.Invalid, "ldap operation failed: failed to bind with binddn")
	errNonsense = errs.New(errs.Unavailable, "the LDAP server's answer cannot be read")
)

// ask finds the user at the server, binds as them, and fetches their groups.
func (e *Engine) ask(ctx context.Context, mount string, c *config, username, password string) (any, error) {
	return e.with(ctx, mount, c, func(conn *ldap.Conn) (any, error) {
		dn, err := c.bindDN(conn, username)
		if errors.Is(err, errBad) { // counted like a wrong password, or the lockout would tell
			return nil, engine.BadCredentials(err)
		}
		if err != nil {
			return nil, err
		}
		if err := bind(conn, dn, password, c.AllowNullBind); err != nil {
			if ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
				return nil, engine.BadCredentials(errBad)
			}
			return nil, errBad
		}
		if err := c.rebind(conn); err != nil {
			return nil, err
		}
		return c.account(conn, dn, username)
	})
}

// again finds a user and their groups without their password; only a
// configuration that can look up allows it.
func (e *Engine) again(ctx context.Context, mount string, c *config, username string) (any, error) {
	return e.with(ctx, mount, c, func(conn *ldap.Conn) (any, error) {
		dn, err := c.bindDN(conn, username)
		if errors.Is(err, errBad) {
			return nil, errGone
		}
		if err != nil {
			return nil, err
		}
		if c.AnonymousGrps {
			if err := c.rebind(conn); err != nil {
				return nil, err
			}
		}
		return c.account(conn, dn, username)
	})
}

// canLookUp reports whether users are found by somebody else than themselves.
func (c *config) canLookUp() bool { return c.DiscoverDN || c.BindDN != "" && c.BindPass != "" }

// with calls fn with a connection to a server, which ends with ctx.
func (e *Engine) with(ctx context.Context, mount string, c *config, fn func(conn *ldap.Conn) (any, error)) (any, error) {
	leave, ok := e.places.Try(mount)
	if !ok {
		return nil, errs.New(errs.Unavailable, "too many logins wait for LDAP servers")
	}
	defer leave()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetTimeout(c.RequestTime)
	return guard(conn, fn)
}

// guard calls fn with a connection. The library takes for granted that answers have all
// their parts, and panics at one that has not: such a server cannot be spoken with.
func guard(conn *ldap.Conn, fn func(conn *ldap.Conn) (any, error)) (got any, err error) {
	defer func() {
		if recover() != nil {
			got, err = nil, errNonsense
		}
	}()
	return fn(conn)
}

// account is what the server tells of the user with this name.
func (c *config) account(conn *ldap.Conn, dn, username string) (any, error) {
	var err error
	if c.UPNDomain != "" {
		if dn, err = c.searchUser(conn, username+"@"+c.UPNDomain, "userPrincipalName"); err != nil {
			return nil, err
		}
	}
	groups, err := c.groups(conn, dn, username)
	if err != nil {
		return nil, err
	}
	a := account{by: c.by(), username: username, groups: groups}
	if !c.NameAsAlias {
		if a.name, err = c.alias(conn, dn); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func bind(conn *ldap.Conn, dn, password string, allowEmpty bool) error {
	if password == "" && allowEmpty {
		return conn.UnauthenticatedBind(dn)
	}
	return conn.Bind(dn, password)
}

// dial connects to the first server that answers.
func (c *config) dial(ctx context.Context) (*ldap.Conn, error) {
	for text := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			continue
		}
		cfg, err := c.tls(u.Hostname())
		if err != nil {
			return nil, err
		}
		if conn, err := c.connect(ctx, u, cfg); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errReach
}

func (c *config) connect(ctx context.Context, u *url.URL, cfg *tls.Config) (*ldap.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTime)
	defer cancel()
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if u.Scheme == "ldaps" {
		secured := tls.Client(raw, cfg)
		if err := secured.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		raw = secured
	}
	conn := ldap.NewConn(&boundedConn{Conn: raw, left: maxBytes, until: time.Now().Add(c.ConnectTime + 4*c.RequestTime)}, u.Scheme == "ldaps")
	conn.Start()
	if u.Scheme == "ldap" && c.StartTLS {
		conn.SetTimeout(c.ConnectTime)
		if err := conn.StartTLS(cfg); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// maxBytes is what a server may send within one login.
const maxBytes = 16 << 20

// boundedConn ends a connection on which too much comes, or too late.
type boundedConn struct {
	net.Conn
	left  int
	until time.Time
}

// Read implements net.Conn.
func (b *boundedConn) Read(p []byte) (int, error) {
	if err := b.SetReadDeadline(b.until); err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errors.New("the server sends too much")
	}
	return n, err
}

func (c *config) tls(host string) (*tls.Config, error) {
	least, _ := tlsVersion(c.TLSMin)
	most, _ := tlsVersion(c.TLSMax)
	out := &tls.Config{ServerName: host, MinVersion: max(least, tls.VersionTLS12), MaxVersion: most, InsecureSkipVerify: c.Insecure} //nolint:gosec // as the administrator says
	if c.Certificate != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM([]byte(c.Certificate)) {
			return nil, errReach
		}
	}
	if c.ClientCert != "" {
		pair, err := tls.X509KeyPair([]byte(c.ClientCert), []byte(c.ClientKey))
		if err != nil {
			return nil, errReach
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// bindDN is the name with which to bind as a user.
func (c *config) bindDN(conn *ldap.Conn, username string) (string, error) {
	switch {
	case c.canLookUp():
		if c.BindDN != "" {
			if _, err := c.bindSelf(conn); err != nil {
				return "", errBindSelf
			}
		}
		return c.searchUser(conn, username, c.UserAttr)
	case c.UPNDomain != "":
		return username + "@" + c.UPNDomain, nil
	}
	return c.UserAttr + "=" + ldap.EscapeDN(username) + "," + c.UserDN, nil
}

// rebind goes on as who may look for groups, if that is not the user.
func (c *config) rebind(conn *ldap.Conn) error {
	var err error
	switch {
	case c.AnonymousGrps:
		err = conn.UnauthenticatedBind("")
	case c.BindDN != "" && c.BindPass != "":
		_, err = c.bindSelf(conn)
	}
	if err != nil {
		return errs.New(errs.Invalid, "ldap operation failed: failed to bind for the search of groups")
	}
	return nil
}

func (c *config) search(conn *ldap.Conn, base, filter string, most int, attributes ...string) ([]*ldap.Entry, error) {
	req := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, slices.Index(derefs, c.Deref), most, int(c.RequestTime/time.Second), false, filter, attributes, nil)
	var res *ldap.SearchResult
	var err error
	if c.PageSize > 0 && most == 0 {
		res, err = conn.SearchWithPaging(req, uint32(c.PageSize))
	} else {
		res, err = conn.Search(req)
	}
	if err != nil {
		return nil, err
	}
	if len(res.Entries) > maxEntries {
		return nil, errors.New("too many entries")
	}
	return res.Entries, nil
}

// searchUser finds the one entry of a user.
func (c *config) searchUser(conn *ldap.Conn, username, attr string) (string, error) {
	text, err := filter("userfilter", c.UserFilter, userFields(), map[string]string{fieldAttr: attr, fieldName: username})
	if err != nil {
		return "", errs.New(errs.Invalid, "ldap operation failed: userfilter cannot be filled in") // what it holds is the administrator's
	}
	entries, err := c.search(conn, c.UserDN, text, 2, c.UserAttr)
	switch {
	case err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject), len(entries) > 1:
		return "", errSearch
	case len(entries) == 0:
		return "", errBad // as with a wrong password: who is here is nobody's business
	}
	return entries[0].DN, nil
}

// alias is the user's name as the server has it. What was typed does not stand in
// for it: the same person would be another entity whenever the server fails.
func (c *config) alias(conn *ldap.Conn, dn string) (string, error) {
	req := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, int(c.RequestTime/time.Second), false, "(objectClass=*)", []string{c.UserAttr}, nil)
	res, err := conn.Search(req)
	if err != nil {
		return "", errs.New(errs.Invalid, "ldap operation failed: the search of the user's attribute %q failed", c.UserAttr)
	}
	if len(res.Entries) != 1 {
		return "", errNoAlias
	}
	values := res.Entries[0].GetEqualFoldAttributeValues(c.UserAttr)
	if len(values) != 1 || values[0] == "" || len(values[0]) > 512 {
		return "", errNoAlias
	}
	return values[0], nil
}

// groups are the names of a user's groups.
func (c *config) groups(conn *ldap.Conn, userDN, username string) ([]string, error) {
	if c.GroupDN == "" || c.GroupFilter == "" {
		return nil, nil
	}
	text, err := filter("groupfilter", c.GroupFilter, groupFields(), map[string]string{fieldDN: userDN, fieldName: username})
	if err != nil {
		return nil, errs.New(errs.Invalid, "ldap operation failed: groupfilter cannot be filled in")
	}
	entries, err := c.search(conn, c.GroupDN, text, 0, c.GroupAttr)
	if err != nil {
		return nil, errs.New(errs.Invalid, "ldap operation failed: the search of groups failed")
	}
	var out []string
	seen := map[string]bool{}
	for _, entry := range entries {
		values := entry.GetEqualFoldAttributeValues(c.GroupAttr)
		if len(values) == 0 {
			values = []string{entry.DN}
		}
		for _, v := range values {
			name := groupName(v)
			if name == "" || len(name) > maxGroupName || seen[name] {
				continue
			}
			if len(out) == maxGroups { // before there are many more to look at
				return nil, errs.New(errs.Invalid, "ldap operation failed: the user is in more than %d groups", maxGroups)
			}
			seen[name] = true
			out = append(out, name)
		}
	}
	return out, nil
}

// groupName is the first common name of a DN, or a text that is none.
func groupName(text string) string {
	dn, err := ldap.ParseDN(text)
	if err != nil || len(dn.RDNs) == 0 {
		return text
	}
	for _, rdn := range dn.RDNs {
		for _, a := range rdn.Attributes {
			if strings.EqualFold(a.Type, "cn") {
				return a.Value
			}
		}
	}
	return text
}
