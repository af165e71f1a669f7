// Package transit is cryptography as a service: it keeps named keys with versions
// (package keyring) and encrypts, signs and makes MACs with them, so that those
// who ask never see a key.
//
// The API is that of https://developer.hashicorp.com/vault/api-docs/secret/transit,
// with what it marks as Enterprise (CMAC, Ed25519ph and ctx, ML-DSA). Ciphertexts,
// signatures, MACs, wrapped keys and backups have Vault's forms: either reads what
// the other made. Keys may be managed ones, which services outside keep (managed.go).
// Not there: SLH-DSA, and keys of before Vault 0.6.2
// (convergent encryption of version 1 and 2, derivation by hmac-sha256-counter).
//
// A key with auto_rotate_period gets its new version when it is due and next
// used or read, not by a clock: see package keyring.
//
// Keys within a mount: those of keyring; "config/keys", "config/cache",
// "wrapping" for the key under which keys are imported.
package transit

import (
	"context"
	"errors"
	"runtime"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// An Engine is the type transit.
type Engine struct {
	ring *keyring.Ring
	slow chan struct{} // holds one value for each RSA key in the making
}

var _ engine.Engine = (*Engine)(nil)

// New makes the engine.
func New() *Engine {
	return &Engine{ring: keyring.New(), slow: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "transit" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	routes := append(e.keyRoutes(), e.cryptRoutes()...)
	return append(append(routes, e.signRoutes()...), e.otherRoutes()...)
}

func (e *Engine) otherRoutes() []engine.Route {
	export := func(pattern, id string) engine.Route {
		return engine.Read(pattern, e.export, engine.ID(id), engine.Help("Export a key."))
	}
	byok := func(pattern, id string) engine.Route {
		return engine.Read(pattern, e.byokExport, engine.ID(id), engine.Help("Export a key, encrypted to an RSA key."))
	}
	random := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.random, engine.Computes, engine.ID(id), engine.Help("Give random bytes."))
	}
	return []engine.Route{
		export("export/{type}/{name}", "transit-export-key"),
		export("export/{type}/{name}/{version}", "transit-export-key-version"),
		byok("byok-export/{destination}/{source}", "transit-byok-key"),
		byok("byok-export/{destination}/{source}/{version}", "transit-byok-key-version"),
		engine.Read("backup/{name}", e.backup, engine.ID("transit-back-up-key"), engine.Help("Back a key up, in plaintext.")),
		engine.Write("restore", e.restore, engine.ID("transit-restore-key"), engine.Help("Restore a key from its backup.")),
		engine.Write("restore/{name}", e.restore, engine.ID("transit-restore-and-rename-key"), engine.Help("Restore a key from its backup, under another name.")),
		engine.Read("wrapping_key", e.wrappingKey, engine.ID("transit-read-wrapping-key"), engine.Help("Read the public key under which keys are imported.")),
		engine.Write("keys/{name}/import", e.importKey, engine.ID("transit-import-key"), engine.Help("Import a key.")),
		engine.Write("keys/{name}/import_version", e.importVersion, engine.ID("transit-import-key-version"), engine.Help("Import a version of a key.")),
		engine.Write("keys/{name}/csr", e.csr, engine.ID("transit-generate-csr-for-key"), engine.Help("Sign a certificate request with a key.")),
		engine.Write("keys/{name}/set-certificate", e.setCertificate, engine.ID("transit-set-certificate-for-key"), engine.Help("Keep a certificate chain with a key.")),
		engine.Read("config/keys", e.readKeysConfig, engine.ID("transit-read-keys-configuration"), engine.Help("Read what is set for all keys.")),
		engine.Write("config/keys", e.writeKeysConfig, engine.ID("transit-configure-keys"), engine.Help("Set what holds for all keys.")),
		engine.Read("cache-config", e.readCache, engine.ID("transit-read-cache-configuration"), engine.Help("Read the size of the cache.")),
		engine.Write("cache-config", e.writeCache, engine.ID("transit-configure-cache"), engine.Help("Set the size of the cache.")),
		random("random", "transit-generate-random"),
		random("random/{urlbytes}", "transit-generate-random-with-bytes"),
		random("random/{source}/{urlbytes}", "transit-generate-random-with-source-and-bytes"),
		engine.Write("hash", e.hash, engine.Computes, engine.ID("transit-hash"), engine.Help("Hash data.")),
		engine.Write("hash/{urlalgorithm}", e.hash, engine.Computes, engine.ID("transit-hash-with-algorithm"), engine.Help("Hash data.")),
	}
}

var (
	errNotFound  = errs.New(errs.NotFound, "not found")
	errNoKey     = errs.New(errs.Invalid, "encryption key not found")
	errSoft      = errs.New(errs.Invalid, "the key is soft deleted: it can be used again once keys/<name>/soft-delete-restore has restored it")
	errNoSigning = errs.New(errs.Invalid, "signing key not found")
)

// failed is err as Vault tells what it counts as its own failure: status 500, in
// a list. Errors that are internal stay so.
func failed(err error) error {
	if errs.Is(err, errs.Invalid) || errs.Is(err, errs.Conflict) {
		return errs.List(errs.Failed, err.Error())
	}
	return err
}

// made is an RSA key that was made outside of the transaction.
type made struct {
	spec     keyring.Spec
	material *keyring.Material
}

// material makes a new version's. A slow one is made outside of the transaction,
// a bounded number at a time; the handler runs again with it.
func (e *Engine) material(call *engine.Call, spec keyring.Spec) (*keyring.Material, error) {
	if !spec.Type.Slow() {
		return keyring.Generate(spec)
	}
	if m, ok := call.Asked.(made); ok && m.spec == spec {
		copied := *m.material
		return &copied, nil
	}
	return nil, engine.Ask(func(ctx context.Context) (any, error) {
		select {
		case e.slow <- struct{}{}:
		case <-ctx.Done():
			return nil, errs.New(errs.Unavailable, "waiting to make an RSA key: %w", ctx.Err())
		}
		defer func() { <-e.slow }()
		m, err := keyring.Generate(spec)
		return made{spec, m}, err
	})
}

// get finds a key that may be used; missing is the error when there is none.
func (e *Engine) get(call *engine.Call, name string, missing error) (*keyring.Key, error) {
	k, err := e.ring.Get(call.Tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, missing
	}
	if err == nil && k.SoftDeleted {
		return nil, errSoft
	}
	return k, err
}

// current is get for what uses the newest version or shows it: a key that is due
// is rotated first.
func (e *Engine) current(call *engine.Call, name string, missing error) (*keyring.Key, error) {
	k, err := e.get(call, name, missing)
	if err != nil || !k.Due(call.Now) {
		return k, err
	}
	return e.rotateNow(call, k)
}

func (e *Engine) rotateNow(call *engine.Call, k *keyring.Key) (*keyring.Key, error) {
	if !call.Tx.Writable() {
		return nil, storage.ErrReadOnly // comes again in an update
	}
	m, err := e.material(call, k.Spec)
	if err != nil {
		return nil, err
	}
	return e.ring.Rotate(call.Tx, k, m, call.Now)
}

// nameIn is the input of what needs no more than a name.
type nameIn struct {
	Name string `api:"name" help:"Name of the key."`
}

func (e *Engine) exists(_ context.Context, call *engine.Call, in nameIn) (bool, error) {
	_, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
