package transit

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/keywrap"
	"arca/internal/storage"
)

// wrapping is the RSA key under which keys come in. It is made when it is first
// asked for.
type wrapping struct {
	Version int    `json:"v"`
	Key     []byte `json:"key"` // PKCS #8
}

const wrappingKeyKey = "wrapping"

func (e *Engine) getWrapping(call *engine.Call) (*rsa.PrivateKey, error) {
	w, err := storage.GetJSON[wrapping](call.Tx, wrappingKeyKey)
	if errors.Is(err, storage.ErrNotFound) {
		if !call.Tx.Writable() {
			return nil, storage.ErrReadOnly // comes again in an update
		}
		m, err := e.material(call, keyring.Spec{Type: keyring.RSA4096})
		if err != nil {
			return nil, err
		}
		w = &wrapping{Version: 1, Key: m.Secret}
		if err := storage.PutJSON(call.Tx, wrappingKeyKey, w); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	p, err := x509.ParsePKCS8PrivateKey(w.Key)
	if err != nil {
		return nil, errors.New("the wrapping key cannot be decoded")
	}
	k, ok := p.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the wrapping key is not one of RSA")
	}
	return k, nil
}

func (e *Engine) wrappingKey(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	k, err := e.getWrapping(call)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return &engine.Response{Data: map[string]any{"public_key": string(text)}}, nil
}

func hashOf(name string) (crypto.Hash, error) {
	switch strings.ReplaceAll(strings.ToUpper(name), "-", "") {
	case "SHA1":
		return crypto.SHA1, nil
	case "SHA224":
		return crypto.SHA224, nil
	case "SHA256":
		return crypto.SHA256, nil
	case "SHA384":
		return crypto.SHA384, nil
	case "SHA512":
		return crypto.SHA512, nil
	}
	return 0, errs.New(errs.Invalid, "unknown hash function: %s", name)
}

// materialIn is how a key comes in.
type materialIn struct {
	Ciphertext string `api:"ciphertext" help:"The key in base64, wrapped under the wrapping key."`
	Hash       string `api:"hash_function" help:"Hash of RSA-OAEP: SHA1, SHA224, SHA256, SHA384 or SHA512." default:"SHA256"`
	PublicKey  string `api:"public_key" help:"A public key in PEM, instead of ciphertext."`
}

func (in *materialIn) check() error {
	if in.Ciphertext != "" && in.PublicKey != "" {
		return errs.New(errs.Invalid, "only one of the following fields, ciphertext and public_key, can be set")
	}
	_, err := hashOf(in.Hash)
	return err
}

// open reads the key. Errors of the input are told as Vault does, with status 500.
func (e *Engine) open(call *engine.Call, in *materialIn, spec *keyring.Spec) (*keyring.Material, error) {
	if in.Ciphertext == "" {
		m, err := keyring.ParsePublic(spec, in.PublicKey)
		return m, failed(err)
	}
	raw, err := base64.StdEncoding.DecodeString(in.Ciphertext)
	if err != nil {
		return nil, failed(errs.With(errs.Invalid, err))
	}
	with, err := e.getWrapping(call)
	if err != nil {
		return nil, err
	}
	h, err := hashOf(in.Hash)
	if err != nil {
		return nil, err
	}
	key, err := keywrap.Unseal(with, h, raw)
	if err != nil {
		return nil, failed(err)
	}
	m, err := keyring.Parse(spec, key)
	if err != nil {
		return nil, failed(errs.New(errs.Invalid, "error importing key: %w", err))
	}
	return m, nil
}

var errDerivedPublic = errs.New(errs.Invalid, "a public key cannot be derived from: import the private key")

type importIn struct {
	nameIn
	materialIn
	Type          string        `api:"type" help:"Type of the key." default:"aes256-gcm96"`
	AllowRotation bool          `api:"allow_rotation" help:"New versions of the key may be made here."`
	Derived       bool          `api:"derived" help:"Each use gives a context, from which its key is derived."`
	Context       string        `api:"context" help:"Not used."`
	Exportable    bool          `api:"exportable" help:"The key can be exported."`
	Backup        bool          `api:"allow_plaintext_backup" help:"The key can be backed up."`
	AutoRotate    time.Duration `api:"auto_rotate_period" help:"Rotate by itself after this time; at least an hour, 0 is never."`
}

func (e *Engine) importKey(_ context.Context, call *engine.Call, in importIn) (*engine.Response, error) {
	if err := keyring.CheckPeriod(in.AutoRotate); err != nil {
		return nil, err
	}
	if in.Derived && in.Ciphertext == "" && in.PublicKey != "" {
		return nil, errDerivedPublic
	}
	if in.AutoRotate > 0 && !in.AllowRotation {
		return nil, errs.New(errs.Invalid, "allow_rotation must be set to true if auto-rotation is enabled")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	k := keyring.Key{
		Name: in.Name, Spec: keyring.Spec{Type: keyring.Type(in.Type)}, Derived: in.Derived, Exportable: in.Exportable,
		BackupAllowed: in.Backup, AutoRotate: in.AutoRotate, Imported: true, RotationAllowed: in.AllowRotation,
	}
	if k.Type == keyring.Managed {
		return nil, errs.New(errs.Invalid, "keys of type %s cannot be imported: their service keeps them", in.Type)
	}
	if !k.Type.Known() {
		return nil, errs.New(errs.Invalid, "unknown key type: %s", in.Type)
	}
	if found, err := e.exists(context.Background(), call, in.nameIn); err != nil || found {
		if found {
			err = failed(errs.New(errs.Invalid, "the import path cannot be used with an existing key; use import-version to rotate an existing imported key"))
		}
		return nil, err
	}
	m, err := e.open(call, &in.materialIn, &k.Spec)
	if err != nil {
		return nil, err
	}
	if _, err = e.ring.Create(call.Tx, k, m, call.Now); err != nil {
		return nil, failed(err)
	}
	return nil, nil
}

type importVersionIn struct {
	nameIn
	materialIn
	Version int `api:"version" help:"Version whose private part comes in; a new one if not given and there is none to complete."`
}

func (e *Engine) importVersion(_ context.Context, call *engine.Call, in importVersionIn) (*engine.Response, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	k, err := e.ring.Get(call.Tx, in.Name)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, failed(errs.New(errs.Invalid, "no key found with name %s; to import a new key, use the import/ endpoint", in.Name))
	case err != nil:
		return nil, err
	case !k.Imported:
		return nil, failed(errs.New(errs.Invalid, "the import_version endpoint can only be used with an imported key"))
	case k.SoftDeleted:
		return nil, errSoft
	case k.Derived && in.Ciphertext == "":
		return nil, errDerivedPublic
	}
	spec := k.Spec
	spec.SizeBytes = 0
	m, err := e.open(call, &in.materialIn, &spec)
	if err != nil {
		return nil, err
	}
	if spec.SizeBytes != k.SizeBytes {
		return nil, failed(errs.New(errs.Invalid, "error importing key: invalid key size %d bytes, the other versions have %d", spec.SizeBytes, k.SizeBytes))
	}
	n, err := e.toComplete(call, k, &in)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return nil, failed(e.ring.Complete(call.Tx, k, n, m))
	}
	_, err = e.ring.Add(call.Tx, k, m, call.Now)
	return nil, failed(err)
}

// toComplete says which version the private part belongs to, 0 for a new one.
func (e *Engine) toComplete(call *engine.Call, k *keyring.Key, in *importVersionIn) (int, error) {
	n := in.Version
	if n == 0 {
		n = k.Latest
	}
	v, err := e.ring.Version(call.Tx, k, n)
	if err != nil {
		return 0, failed(err)
	}
	switch {
	case in.Ciphertext != "" && !v.Private():
		return n, nil
	case in.Version == 0:
		return 0, nil
	}
	return 0, failed(errs.New(errs.Invalid, "version %d has a private part already, or none was given", n))
}
