package kmip

import (
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// An identity is whom a client's certificate belongs to.
type identity struct {
	scope     string // id
	role      *role
	scopeName string // "" for a certificate that was issued here: its scope is there while it is
	roleName  string
}

// errStranger is the refusal of a certificate that is not, or no longer, valid.
var errStranger = errs.New(errs.Denied, "permission denied")

// A subject is what a certificate says of itself, with the keys of what is known of it: they are
// made once for a connection.
type subject struct {
	scope, role, serial string
	key                 string                     // of the certificate
	scopeName, roleName string                     // keys of the names
	same                atomic.Pointer[credential] // what is kept of the certificate, once it was found to be this one
}

// subjectOf reads the ids that the mount's authority has put into a certificate.
// It is nil for a certificate that has none.
func subjectOf(cert *x509.Certificate) *subject {
	if len(cert.Subject.OrganizationalUnit) != 1 {
		return nil
	}
	s := &subject{scope: cert.Subject.OrganizationalUnit[0], role: cert.Subject.CommonName, serial: cert.SerialNumber.String()}
	if !isID(s.scope) || !isID(s.role) {
		return nil
	}
	s.key, s.scopeName, s.roleName = credDir(s.scope, s.role)+s.serial, scopeIDKey(s.scope), roleIDKey(s.scope, s.role)
	return s
}

func isID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) == idLength
}

// whose finds the scope and the role of a client's certificates, its own first: it is
// one that is kept as issued, byte for byte, or one for which an imported authority
// vouches. The error is errStranger for one that is not. s is what subjectOf says of the first
// one, nil where it was not asked: it is of that certificate and no other.
func (e *Engine) whose(tx storage.Tx, certs []*x509.Certificate, s *subject, now time.Time) (identity, error) {
	if len(certs) == 0 {
		return identity{}, errStranger
	}
	who, err := e.issued(tx, certs[0], s, now)
	if !errors.Is(err, errStranger) {
		return who, err
	}
	scopeName, roleName, err := mapped(tx, certs, now)
	if err != nil {
		return identity{}, err
	}
	if scopeName == "" || roleName == "" {
		return identity{}, errStranger
	}
	named, err := scopeOf(tx, scopeName)
	if errors.Is(err, errNotFound) {
		return identity{}, errStranger
	}
	if err != nil {
		return identity{}, err
	}
	r, err := e.roles.Get(tx, roleKey(named.ID, roleName))
	if errors.Is(err, storage.ErrNotFound) {
		return identity{}, errStranger
	}
	return identity{scope: named.ID, role: r, scopeName: scopeName, roleName: roleName}, err
}

// issued is whose a certificate is that was issued here; s is as for whose.
func (e *Engine) issued(tx storage.Tx, cert *x509.Certificate, s *subject, now time.Time) (identity, error) {
	if s == nil {
		if s = subjectOf(cert); s == nil {
			return identity{}, errStranger
		}
	}
	c, err := e.creds.Get(tx, s.key)
	if errors.Is(err, storage.ErrNotFound) {
		return identity{}, errStranger
	}
	if err != nil {
		return identity{}, err
	}
	if s.same.Load() != c {
		if subtle.ConstantTimeCompare(c.Cert, cert.Raw) != 1 {
			return identity{}, errStranger
		}
		s.same.Store(c)
	}
	if now.After(c.Expires) {
		return identity{}, errStranger
	}
	who := identity{scope: s.scope}
	if who.roleName, err = nameOf(tx, s.roleName); err != nil {
		return identity{}, err
	}
	who.role, err = e.roles.Get(tx, roleKey(s.scope, who.roleName))
	if errors.Is(err, storage.ErrNotFound) || err == nil && who.role.ID != s.role {
		return identity{}, errStranger
	}
	return who, err
}

// nameOf is the name that belongs to an id.
func nameOf(tx storage.Tx, key string) (string, error) {
	raw, err := tx.Get(key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return "", err
	}
	if len(raw) == 0 { // the id of what was deleted stays taken
		return "", errStranger
	}
	return string(raw), nil
}

// A connection is one of a client.
type connection struct {
	raw     closer
	from    string              // whose it is, for the bound by address; "" while a balancer has not said it
	certs   []*x509.Certificate // of the client, from the end of the handshake on
	role    string              // id; "" while, or when, the certificate is not known to be valid
	names   [2]string           // of scope and role
	limited string              // what its rate is counted under
	address string              // where it comes from, without the port

	subject *subject     // of its certificate; nil for one that is not of here
	serial  string       // of its certificate, decimal
	who     param.Object // as the audit devices have it

	// Of the goroutine that serves it:
	patience patience
	decoder  ttlv.Decoder
	rates    rates  // of the role
	rated    bool   // they were read,
	ratedAt  uint64 // when server.generation was so
}

// closer ends a connection whatever it does just now.
type closer interface{ Close() error }

// changed hears of commits in the mount: certificates and roles that are gone take
// their connections with them, also those that are idle.
func (v *server) changed(keys, prefixes []string) {
	settings := slices.Contains(prefixes, "")
	touched := len(prefixes) > 0
	for _, k := range keys {
		switch dir, _, _ := strings.Cut(k, "/"); dir {
		case configKey, caKey, "listener":
			settings = true
		case "nca":
			settings, touched = true, true
		case "cred", "role":
			touched = true
		case "trace":
			settings = true
		}
	}
	if touched {
		v.generation.Add(1)
		select {
		case v.recheck <- struct{}{}:
		default:
		}
	}
	if settings {
		v.poke()
	}
}

// introduce finds out whose a connection is; false when the role has too many. From
// now on it ends when its certificate does.
func (v *server) introduce(c *connection, certs []*x509.Certificate) bool {
	c.certs, c.serial, c.who = certs, certs[0].SerialNumber.String(), whoParams(certs[0], [2]string{})
	c.subject = subjectOf(certs[0])
	for {
		at, seen := v.at.Load(), v.generation.Load()
		var who identity
		err := v.host.View(v.ctx, at.Mount, func(tx storage.Tx) (err error) {
			if who, err = v.engine.whose(tx, certs, c.subject, time.Now()); err == nil && who.scopeName == "" {
				who.scopeName, err = nameOf(tx, c.subject.scopeName)
			}
			return err
		})
		if err != nil {
			return true // who is not known, or while the mount moves, hears so by the first answer
		}
		v.mu.Lock()
		if v.generation.Load() != seen { // it may have gone meanwhile
			v.mu.Unlock()
			continue
		}
		full := v.byRole[who.role.ID] >= at.maxByRole
		if !full {
			v.byRole[who.role.ID]++
			c.role, c.names = who.role.ID, [2]string{who.scopeName, who.roleName}
			c.limited = who.scopeName + "/" + who.role.ID
			c.who = whoParams(certs[0], c.names)
		}
		v.mu.Unlock()
		return !full
	}
}

// watch checks the certificates of open connections when one may have gone.
func (v *server) watch() {
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-v.recheck:
		}
		v.mu.Lock()
		open := make([]*connection, 0, len(v.conns))
		for c := range v.conns {
			if c.role != "" {
				open = append(open, c)
			}
		}
		v.mu.Unlock()
		gone, err := v.gone(open)
		if errs.Is(err, errs.NotFound) { // the mount moves, or goes: the server follows
			again := time.NewTimer(time.Second)
			select {
			case <-again.C:
				v.changed(nil, []string{"cred/"})
			case <-v.ctx.Done():
				again.Stop()
			}
			continue
		}
		if err != nil {
			if v.ctx.Err() == nil {
				v.host.Log().Error("check the certificates of open connections; these end", "error", err)
			}
			gone = open
		}
		for _, c := range gone {
			_ = c.raw.Close() // its request, if there is one, is not answered
		}
	}
}

// gone are the connections whose certificate or role is not there any more.
func (v *server) gone(open []*connection) (out []*connection, err error) {
	if len(open) == 0 {
		return nil, nil
	}
	err = v.host.View(v.ctx, v.at.Load().Mount, func(tx storage.Tx) error {
		out = nil
		known := map[string]string{} // the role of a certificate; "" for none
		for _, c := range open {
			role, seen := known[string(c.certs[0].Raw)]
			if !seen {
				who, err := v.engine.whose(tx, c.certs, c.subject, time.Now())
				if err != nil && !errors.Is(err, errStranger) {
					return err
				}
				if err == nil {
					role = who.role.ID
				}
				known[string(c.certs[0].Raw)] = role
			}
			if role != c.role {
				out = append(out, c)
			}
		}
		return nil
	})
	return out, err
}
