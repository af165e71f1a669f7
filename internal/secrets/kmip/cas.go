package kmip

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// Named authorities stand beside the mount's own: generated ones issue certificates
// for listeners and roles that name them, imported ones only say whose clients are
// believed.
const (
	namedDir   = "nca/"
	useDir     = "use/" // roles by the authority that they name
	namedLife  = 365 * 24 * time.Hour
	graceLife  = 30 * 24 * time.Hour
	maxChain   = 10
	maxNamed   = 100
	maxPEM     = 64 << 10
	maxFormers = 10
)

// A named is such an authority.
type named struct {
	Version  int           `json:"v"`
	Imported bool          `json:"imported,omitempty"`
	Certs    [][]byte      `json:"certs"` // DER; the authority's own first
	Key      []byte        `json:"key,omitempty"`
	Kind     keyKind       `json:"kind,omitzero"`
	TTL      time.Duration `json:"ttl,omitempty"`
	Formers  []former      `json:"formers,omitempty"`

	// Of an imported one: what scope and role its clients have, or which field of
	// their certificates' subjects names it.
	Scope      string `json:"scope,omitempty"`
	ScopeField string `json:"scope_field,omitempty"`
	Role       string `json:"role,omitempty"`
	RoleField  string `json:"role_field,omitempty"`
}

// A former is a certificate from before a rotation, which is believed for a while.
type former struct {
	Cert  []byte    `json:"cert"`
	Until time.Time `json:"until"`
}

// authority is what issues certificates of a generated authority.
func (n *named) authority() *authority {
	return &authority{Version: 1, Intermediate: n.Certs[0], Key: n.Key}
}

// believed are the certificates of those whose clients are believed at a time.
func (n *named) believed(now time.Time) [][]byte {
	out := slices.Clone(n.Certs)
	for _, f := range n.Formers {
		if now.Before(f.Until) {
			out = append(out, f.Cert)
		}
	}
	return out
}

func getNamed(tx storage.Tx, name string) (*named, error) {
	n, err := storage.GetJSON[named](tx, namedDir+name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	return n, err
}

type caIn struct {
	Name string `api:"name" help:"Name of the authority."`
}

type generateCAIn struct {
	caIn
	Type string         `api:"key_type" help:"Type of the key: ec or rsa."`
	Bits int            `api:"key_bits" help:"Length of the key."`
	TTL  *time.Duration `api:"ttl" help:"How long the authority is valid."`
}

func (e *Engine) generateCA(_ context.Context, call *engine.Call, in generateCAIn) (*engine.Response, error) {
	if err := e.freeCA(call.Tx, in.Name); err != nil {
		return nil, err
	}
	if in.Type == "" || in.Bits == 0 {
		return nil, errs.New(errs.Invalid, "key_type and key_bits are required")
	}
	n := &named{Version: 1, Kind: keyKind{in.Type, in.Bits}, TTL: namedLife}
	if err := n.Kind.check("key"); err != nil {
		return nil, err
	}
	param.Take(&n.TTL, in.TTL)
	if n.TTL < time.Minute || n.TTL > caLife {
		return nil, errs.New(errs.Invalid, "ttl must be from one minute to ten years")
	}
	key, ok := call.Asked.(crypto.Signer)
	if !ok {
		return nil, engine.Ask(func(context.Context) (any, error) { return newKey(n.Kind) })
	}
	if err := n.renew(in.Name, call.Mount.Accessor, key, call.Now); err != nil {
		return nil, err
	}
	if err := storage.PutJSON(call.Tx, namedDir+in.Name, n); err != nil {
		return nil, err
	}
	return n.show()
}

// renew makes the certificate of a generated authority.
func (n *named) renew(name, accessor string, key crypto.Signer, now time.Time) error {
	t, err := caTemplate(caName+"-"+accessor+"-"+name, key.Public(), now, 0)
	if err != nil {
		return err
	}
	t.NotAfter = now.Add(n.TTL)
	der, err := selfSigned(t, key)
	if err != nil {
		return err
	}
	n.Certs = [][]byte{der}
	n.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return err
}

func (e *Engine) freeCA(tx storage.Tx, name string) error {
	if err := e.checkName("authority", name); err != nil {
		return err
	}
	if name == "root" || name == "generate" || name == "import" {
		return errs.New(errs.Invalid, "an authority cannot be called %q", name)
	}
	if _, err := getNamed(tx, name); err == nil {
		return errs.New(errs.Invalid, "there is an authority %q", name)
	} else if !errors.Is(err, errNotFound) {
		return err
	}
	n, err := count(tx, namedDir, maxNamed)
	if err == nil && n >= maxNamed {
		err = errs.New(errs.Invalid, "a mount has at most %d authorities", maxNamed)
	}
	return err
}

type mappingIn struct {
	Scope      *string `api:"scope_name" help:"Scope of all clients."`
	ScopeField *string `api:"scope_field" help:"Field of the certificate's subject that names the scope: CN, O, OU or UID."`
	Role       *string `api:"role_name" help:"Role of all clients."`
	RoleField  *string `api:"role_field" help:"Field of the certificate's subject that names the role: CN, O, OU or UID."`
}

// apply takes a mapping; setting one of a pair clears the other.
func (n *named) apply(in *mappingIn) error {
	pair := func(what string, name, field *string, intoName, intoField *string) error {
		given := func(s *string) bool { return s != nil && *s != "" }
		if given(name) && given(field) {
			return errs.New(errs.Invalid, "give either %s_name or %s_field", what, what)
		}
		switch {
		case given(name):
			*intoName, *intoField = *name, ""
		case given(field):
			if !slices.Contains([]string{"CN", "O", "OU", "UID"}, *field) {
				return errs.New(errs.Invalid, "%s_field must be CN, O, OU or UID", what)
			}
			*intoName, *intoField = "", *field
		}
		if *intoName == "" && *intoField == "" {
			return errs.New(errs.Invalid, "one of %s_name and %s_field is required", what, what)
		}
		return nil
	}
	if err := pair("scope", in.Scope, in.ScopeField, &n.Scope, &n.ScopeField); err != nil {
		return err
	}
	return pair("role", in.Role, in.RoleField, &n.Role, &n.RoleField)
}

type importCAIn struct {
	caIn
	PEM string `api:"ca_pem" help:"Certificates of the authority, PEM."`
	mappingIn
}

func (e *Engine) importCA(_ context.Context, call *engine.Call, in importCAIn) (*engine.Response, error) {
	if err := e.freeCA(call.Tx, in.Name); err != nil {
		return nil, err
	}
	n := &named{Version: 1, Imported: true}
	if err := n.apply(&in.mappingIn); err != nil {
		return nil, err
	}
	if len(in.PEM) > maxPEM {
		return nil, errs.New(errs.Invalid, "ca_pem is too large")
	}
	for rest := []byte(in.PEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errs.New(errs.Invalid, "ca_pem must hold certificates, and no private key")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil || !cert.IsCA || len(n.Certs) == maxChain {
			return nil, errs.New(errs.Invalid, "ca_pem must hold certificates of authorities, at most %d", maxChain)
		}
		n.Certs = append(n.Certs, block.Bytes)
	}
	if len(n.Certs) == 0 {
		return nil, errs.New(errs.Invalid, "ca_pem must hold a certificate in PEM")
	}
	if err := storage.PutJSON(call.Tx, namedDir+in.Name, n); err != nil {
		return nil, err
	}
	return n.show()
}

// show is what there is to know of an authority; never its key.
func (n *named) show() (*engine.Response, error) {
	cert, err := x509.ParseCertificate(n.Certs[0])
	if err != nil {
		return nil, err
	}
	chain := []string{}
	for _, der := range n.Certs {
		chain = append(chain, strings.TrimSuffix(certPEM(der), "\n"))
	}
	out := map[string]any{
		"ca_chain": chain, "ca_pem": strings.Join(chain, "\n"), "certificate": chain[0], "serial_number": cert.SerialNumber.String(), "imported": n.Imported,
	}
	if !n.Imported {
		out["key_type"], out["key_bits"], out["ttl"] = n.Kind.Type, n.Kind.Bits, int64(n.TTL/time.Second)
	}
	for name, v := range map[string]string{"scope_name": n.Scope, "scope_field": n.ScopeField, "role_name": n.Role, "role_field": n.RoleField} {
		if v != "" {
			out[name] = v
		}
	}
	return data(out), nil
}

func (e *Engine) readNamed(_ context.Context, call *engine.Call, in caIn) (*engine.Response, error) {
	n, err := getNamed(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	return n.show()
}

func (e *Engine) listCAs(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	return list(call.Tx, namedDir, in)
}

type updateCAIn struct {
	caIn
	mappingIn
}

func (e *Engine) updateCA(_ context.Context, call *engine.Call, in updateCAIn) (*engine.Response, error) {
	n, err := getNamed(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	if !n.Imported {
		return nil, errs.New(errs.Invalid, "the authority %q was generated: only imported ones have scopes and roles", in.Name)
	}
	if err := n.apply(&in.mappingIn); err != nil {
		return nil, err
	}
	return nil, storage.PutJSON(call.Tx, namedDir+in.Name, n)
}

func (e *Engine) deleteCA(_ context.Context, call *engine.Call, in caIn) (*engine.Response, error) {
	if _, err := getNamed(call.Tx, in.Name); errors.Is(err, errNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if c, err := get[config](call.Tx, configKey); err == nil && c.CertifyCA == in.Name {
		return nil, errs.New(errs.Invalid, "the authority issues certificates for objects: name another as certify_ca of config first")
	} else if err != nil && !errors.Is(err, errNotFound) {
		return nil, err
	}
	for kv, err := range call.Tx.Scan(listenerDir, "") {
		if err != nil {
			return nil, err
		}
		l, _, err := decoded[listener](kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if l.CA == in.Name || slices.Contains(l.Clients, in.Name) {
			return nil, errs.New(errs.Invalid, "the listener %q uses the authority", strings.TrimPrefix(kv.Key, listenerDir))
		}
	}
	dir := useDir + in.Name + "/"
	for key, err := range call.Tx.Keys(dir, "") {
		if err != nil {
			return nil, err
		}
		scope, name, _ := strings.Cut(strings.TrimPrefix(key, dir), "/")
		r, err := get[role](call.Tx, roleKey(scope, name))
		if err == nil && r.CA == in.Name {
			return nil, errs.New(errs.Invalid, "the role %q uses the authority", name)
		}
		if err != nil && !errors.Is(err, errNotFound) {
			return nil, err
		}
	}
	if err := call.Tx.DeletePrefix(dir); err != nil {
		return nil, err
	}
	return nil, call.Tx.Delete(namedDir + in.Name)
}

type rotateCAIn struct {
	caIn
	Grace *time.Duration `api:"grace" help:"How long clients with certificates of the former key are believed."`
}

// rotateCA gives a generated authority a new key under the same name.
func (e *Engine) rotateCA(_ context.Context, call *engine.Call, in rotateCAIn) (*engine.Response, error) {
	n, err := getNamed(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	if n.Imported {
		return nil, errs.New(errs.Invalid, "the authority %q was imported: import another", in.Name)
	}
	grace := graceLife
	param.Take(&grace, in.Grace)
	if grace < 0 || grace > caLife {
		return nil, errs.New(errs.Invalid, "grace must be at most ten years")
	}
	key, ok := call.Asked.(crypto.Signer)
	if !ok {
		return nil, engine.Ask(func(context.Context) (any, error) { return newKey(n.Kind) })
	}
	n.Formers = slices.DeleteFunc(n.Formers, func(f former) bool { return !call.Now.Before(f.Until) })
	if len(n.Formers) >= maxFormers {
		return nil, errs.New(errs.Invalid, "%d former keys are believed still: wait until their time is over", maxFormers)
	}
	n.Formers = append(n.Formers, former{n.Certs[0], call.Now.Add(grace)})
	if err := n.renew(in.Name, call.Mount.Accessor, key, call.Now); err != nil {
		return nil, err
	}
	if err := storage.PutJSON(call.Tx, namedDir+in.Name, n); err != nil {
		return nil, err
	}
	e.announce(call)
	return n.show()
}

// mapped finds scope and role of a client whom an imported authority vouches for, by
// their names; "" when none does, or the certificate does not say.
func mapped(tx storage.Tx, certs []*x509.Certificate, now time.Time) (scope, role string, err error) {
	for kv, err := range tx.Scan(namedDir, "") {
		if err != nil {
			return "", "", err
		}
		n, _, err := decoded[named](kv.Key, kv.Value)
		if err != nil {
			return "", "", err
		}
		if !n.Imported || !n.vouches(certs, now) {
			continue
		}
		scope, role = n.Scope, n.Role
		if n.ScopeField != "" {
			scope = field(certs[0], n.ScopeField)
		}
		if n.RoleField != "" {
			role = field(certs[0], n.RoleField)
		}
		return scope, role, nil
	}
	return "", "", nil
}

// vouches verifies a certificate.
func (n *named) vouches(certs []*x509.Certificate, now time.Time) bool {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, der := range n.Certs {
		if c, err := x509.ParseCertificate(der); err == nil {
			opts.Roots.AddCert(c)
		}
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(opts)
	return err == nil
}

// field is the one value of a field of the subject; "" when there is none, or several.
func field(cert *x509.Certificate, name string) string {
	oid := map[string]string{"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "UID": "0.9.2342.19200300.100.1.1"}[name]
	value, n := "", 0
	for _, a := range cert.Subject.Names {
		if a.Type.String() == oid {
			value, _ = a.Value.(string)
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return value
}
