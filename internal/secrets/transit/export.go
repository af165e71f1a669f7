package transit

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/keywrap"
	"arca/internal/storage"
)

// Kinds of export.
const (
	encryptionKey = "encryption-key"
	signingKey    = "signing-key"
	macKey        = "hmac-key"
	cmacKey       = "cmac-key"
	publicKey     = "public-key"
	chain         = "certificate-chain"
)

type exportIn struct {
	nameIn
	Kind    string `api:"type" help:"encryption-key, signing-key, hmac-key, cmac-key, public-key or certificate-chain."`
	Version string `api:"version" help:"A version, or latest; all that decrypt if not given."`
	Format  string `api:"format" help:"raw, der or pem; the type's own if not given."`
}

func (e *Engine) export(_ context.Context, call *engine.Call, in exportIn) (*engine.Response, error) {
	switch in.Kind {
	case encryptionKey, signingKey, macKey, cmacKey, publicKey, chain:
	default:
		return nil, errs.New(errs.Invalid, "invalid export type: %s", in.Kind)
	}
	switch in.Format {
	case "", "raw", "der", "pem":
	default:
		return nil, errs.New(errs.Invalid, "invalid format %q: it must be raw, der or pem", in.Format)
	}
	k, err := e.get(call, in.Name, errNotFound)
	if err != nil {
		return nil, err
	}
	if !k.Exportable && in.Kind != publicKey && in.Kind != chain {
		return nil, errs.New(errs.Invalid, "private key material is not exportable")
	}
	switch {
	case in.Kind == encryptionKey && !k.Type.Encrypts():
		return nil, errs.New(errs.Invalid, "encryption not supported for the key")
	case in.Kind == signingKey && !k.Type.Signs():
		return nil, errs.New(errs.Invalid, "signing not supported for the key")
	case in.Kind == cmacKey && !k.Type.CMACs():
		return nil, errs.New(errs.Invalid, "CMAC not supported for the key")
	case (in.Kind == publicKey || in.Kind == chain) && (k.Type.Symmetric() || k.Derived):
		return nil, errs.New(errs.Invalid, "unknown key type for export type %s", in.Kind)
	}
	out := map[string]string{}
	err = e.chosen(call, k, in.Version, func(v *keyring.Version) error {
		text, err := exported(k, v, in.Kind, in.Format)
		if err == nil && text == "" && in.Kind == chain {
			err = errs.New(errs.Invalid, "selected key version does not have a certificate chain")
			if in.Version == "" {
				return nil // of several, those that have one
			}
		}
		out[strconv.Itoa(v.Number)] = text
		return err
	})
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"name": k.Name, "type": string(k.Type), "keys": out}}, nil
}

// chosen calls fn with the versions that are asked for.
func (e *Engine) chosen(call *engine.Call, k *keyring.Key, version string, fn func(v *keyring.Version) error) error {
	from, to := max(1, k.MinDecryption), k.Latest
	switch version {
	case "":
		if to-from >= shownInReads {
			return errs.New(errs.Invalid, "the key has %d versions: ask for one at a time", to-from+1)
		}
	case "latest":
		from = to
	default:
		n, err := strconv.Atoi(version)
		if err != nil {
			return errs.New(errs.Invalid, "invalid key version")
		}
		if n < from {
			return errs.New(errs.Invalid, "version for export is below minimum decryption version")
		}
		from, to = n, n
	}
	for n := from; n <= to; n++ {
		v, err := e.ring.Version(call.Tx, k, n)
		if err != nil {
			return err
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

func exported(k *keyring.Key, v *keyring.Version, kind, format string) (string, error) {
	m := v.Material()
	switch kind {
	case macKey:
		return base64.StdEncoding.EncodeToString(v.HMACKey()), nil
	case chain:
		return strings.TrimSpace(showChain(v.Chain)), nil
	case publicKey:
		return exportedPublic(v, m.Public, format)
	}
	if !v.Private() {
		return "", errs.New(errs.Invalid, "version %d has no private part to export", v.Number)
	}
	key := v.Signer()
	if key == nil { // symmetric, or of a form that only we know
		if format == "der" || format == "pem" {
			return "", errs.New(errs.Invalid, "keys of type %s have no form %s: ask for raw", k.Type, format)
		}
		if k.Type == keyring.Hybrid {
			return "", errs.New(errs.Invalid, "keys of type %s cannot be exported: back them up", k.Type)
		}
		return base64.StdEncoding.EncodeToString(m.Secret), nil
	}
	switch format {
	case "der", "pem":
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return encoded(der, "PRIVATE KEY", format), err
	}
	ed, isEd := key.(ed25519.PrivateKey)
	switch {
	case isEd:
		return base64.StdEncoding.EncodeToString(ed), nil
	case format == "raw":
		return "", errs.New(errs.Invalid, "keys of type %s have no raw form: ask for der or pem", k.Type)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		return encoded(der, "EC PRIVATE KEY", "pem"), err
	case *rsa.PrivateKey:
		return encoded(x509.MarshalPKCS1PrivateKey(key), "RSA PRIVATE KEY", "pem"), nil
	}
	return "", errs.New(errs.Invalid, "keys of type %s cannot be exported", k.Type)
}

func exportedPublic(v *keyring.Version, public []byte, format string) (string, error) {
	key := v.PublicKey()
	_, isEd := key.(ed25519.PublicKey)
	if key == nil || isEd && (format == "" || format == "raw") {
		if format == "der" || format == "pem" {
			return "", errs.New(errs.Invalid, "the key has no form %s: ask for raw", format)
		}
		return base64.StdEncoding.EncodeToString(public), nil
	}
	if format == "raw" {
		return "", errs.New(errs.Invalid, "the key has no raw form: ask for der or pem")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	return encoded(der, "PUBLIC KEY", format), err
}

func encoded(der []byte, title, format string) string {
	if format == "der" {
		return base64.StdEncoding.EncodeToString(der)
	}
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: title, Bytes: der})))
}

type byokIn struct {
	Destination string `api:"destination" help:"RSA key, often another server's wrapping key, to encrypt to."`
	Source      string `api:"source" help:"Key to export."`
	Version     string `api:"version" help:"A version, or latest; all that decrypt if not given."`
	Hash        string `api:"hash" help:"Hash of RSA-OAEP: SHA1, SHA224, SHA256, SHA384 or SHA512." default:"SHA256"`
}

func (e *Engine) byokExport(_ context.Context, call *engine.Call, in byokIn) (*engine.Response, error) {
	to, err := e.get(call, in.Destination, errNotFound)
	if err != nil {
		return nil, err
	}
	from, err := e.get(call, in.Source, errNotFound)
	if err != nil {
		return nil, err
	}
	if !from.Exportable {
		return nil, errs.New(errs.Invalid, "key is not exportable")
	}
	if !to.Type.RSA() {
		return nil, errs.New(errs.Invalid, "the destination key is of type %s: only RSA keys can be exported to", to.Type)
	}
	h, err := hashOf(in.Hash)
	if err != nil {
		return nil, err
	}
	target, err := e.ring.Version(call.Tx, to, to.Latest)
	if err != nil {
		return nil, err
	}
	public, ok := target.PublicKey().(*rsa.PublicKey)
	if !ok {
		return nil, errs.New(errs.Invalid, "the destination key has no public part")
	}
	out := map[string]string{}
	err = e.chosen(call, from, in.Version, func(v *keyring.Version) error {
		if !v.Private() {
			return errs.New(errs.Invalid, "version %d has no private part to export", v.Number)
		}
		raw := v.Material().Secret
		if key := v.Signer(); key != nil {
			if raw, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
				return err
			}
		} else if !from.Type.Symmetric() {
			return errs.New(errs.Invalid, "keys of type %s cannot be exported: back them up", from.Type)
		}
		sealed, err := keywrap.Seal(public, h, raw)
		out[strconv.Itoa(v.Number)] = base64.StdEncoding.EncodeToString(sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"name": from.Name, "type": string(from.Type), "keys": out}}, nil
}

func (e *Engine) backup(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	k, err := e.ring.Get(call.Tx, in.Name)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, failed(errs.New(errs.Invalid, "key %q not found", in.Name))
	case err != nil:
		return nil, err
	case !k.Exportable: // a key that is deleted softly can be backed up: that is what is left of it to do
		return nil, failed(errs.New(errs.Invalid, "exporting is disallowed on the policy"))
	case !k.BackupAllowed:
		return nil, failed(errs.New(errs.Invalid, "plaintext backup is disallowed on the policy"))
	}
	raw, err := e.ring.Backup(call.Tx, k, call.Now)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"backup": base64.StdEncoding.EncodeToString(raw)}}, nil
}

type restoreIn struct {
	nameIn
	Backup string `api:"backup" help:"What backup gave."`
	Force  bool   `api:"force" help:"Replace a key of that name."`
}

func (e *Engine) restore(_ context.Context, call *engine.Call, in restoreIn) (*engine.Response, error) {
	if in.Backup == "" {
		return nil, errs.New(errs.Invalid, "'backup' must be supplied")
	}
	raw, err := base64.StdEncoding.DecodeString(in.Backup)
	if err != nil {
		return nil, failed(errs.With(errs.Invalid, err))
	}
	if _, err = e.ring.Restore(call.Tx, raw, in.Name, in.Force); err != nil {
		return nil, failed(err)
	}
	return nil, nil
}
