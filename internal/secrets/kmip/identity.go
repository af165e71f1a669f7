package kmip

import (
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// An identity is whom a client's certificate belongs to.
type identity struct {
	scope     string // id
	role      *role
	scopeName string
	roleName  string
}

// errStranger is the refusal of a certificate that is not, or no longer, valid.
var errStranger = errs.New(errs.Denied, "permission denied")

// A subject is what a certificate says of itself.
type subject struct{ scope, role, serial string }

// subjectOf reads the ids that the mount's authority has put into a certificate.
func subjectOf(cert *x509.Certificate) (s subject, ok bool) {
	if len(cert.Subject.OrganizationalUnit) != 1 {
		return s, false
	}
	s = subject{cert.Subject.OrganizationalUnit[0], cert.Subject.CommonName, cert.SerialNumber.String()}
	return s, isID(s.scope) && isID(s.role)
}

func isID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) == idLength
}

func (s subject) key() string { return credDir(s.scope, s.role) + s.serial }

// whose finds the scope and the role of a certificate: it must be one that is kept
// as issued, byte for byte. The error is errStranger for one that is not.
func (e *Engine) whose(tx storage.Tx, cert *x509.Certificate, now time.Time) (*identity, error) {
	s, ok := subjectOf(cert)
	if !ok {
		return nil, errStranger
	}
	c, err := e.creds.Get(tx, s.key())
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errStranger
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(c.Cert, cert.Raw) != 1 || now.After(c.Expires) {
		return nil, errStranger
	}
	who := &identity{scope: s.scope}
	if who.scopeName, err = nameOf(tx, scopeIDKey(s.scope)); err != nil {
		return nil, err
	}
	if who.roleName, err = nameOf(tx, roleIDKey(s.scope, s.role)); err != nil {
		return nil, err
	}
	who.role, err = e.roles.Get(tx, roleKey(s.scope, who.roleName))
	if errors.Is(err, storage.ErrNotFound) || err == nil && who.role.ID != s.role {
		return nil, errStranger
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
	subject
	raw     closer
	from    string // whose it is, for the bound by address
	known   bool   // the handshake is done, and subject is set
	checked bool   // the certificate was found to be valid
	names   [2]string
}

// closer ends a connection whatever it does just now.
type closer interface{ Close() error }

// changed hears of commits in the mount: certificates and roles that are gone take
// their connections with them, also those that are idle.
func (v *server) changed(keys, prefixes []string) {
	settings := false
	touched := len(prefixes) > 0
	for _, k := range keys {
		switch {
		case k == configKey, k == caKey:
			settings = true
		case len(k) > 5 && (k[:5] == "cred/" || k[:5] == "role/"):
			touched = true
		}
	}
	if touched {
		select {
		case v.recheck <- struct{}{}:
		default:
		}
	}
	if settings || slices.Contains(prefixes, "") {
		v.poke()
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
		open := map[subject][]*connection{}
		for c := range v.conns {
			if c.known {
				open[c.subject] = append(open[c.subject], c)
			}
		}
		v.mu.Unlock()
		if len(open) == 0 {
			continue
		}
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
			for _, list := range open {
				gone = append(gone, list...)
			}
		}
		for _, c := range gone {
			_ = c.raw.Close() // its request, if there is one, is not answered
		}
	}
}

// gone are the connections whose certificate or role is not there any more.
func (v *server) gone(open map[subject][]*connection) (out []*connection, err error) {
	err = v.host.View(v.ctx, v.at.Load().Mount, func(tx storage.Tx) error {
		out = nil
		for s, list := range open {
			there, err := v.engine.holds(tx, s)
			if err != nil {
				return err
			}
			if !there {
				out = append(out, list...)
			}
		}
		return nil
	})
	return out, err
}

// holds reports whether a certificate is kept, and its role there.
func (e *Engine) holds(tx storage.Tx, s subject) (bool, error) {
	for _, key := range []string{s.key(), roleIDKey(s.scope, s.role)} {
		raw, err := tx.Get(key)
		if errors.Is(err, storage.ErrNotFound) || err == nil && len(raw) == 0 {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
