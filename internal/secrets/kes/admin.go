package kes

import (
	"context"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/keyring"
	"arca/internal/param"
)

func (e *Engine) adminRoutes() []engine.Route {
	return []engine.Route{
		engine.List("keys", e.listKeys, engine.ID("kes-list-keys"), engine.Help("List the keys.")),
		engine.Read("keys/{name}", e.readKey, engine.ID("kes-read-key"), engine.Help("Read a key's settings and versions; its bytes never leave.")),
		engine.Write("keys/{name}", e.writeKey, engine.Exists(e.keyExists), engine.ID("kes-write-key"), engine.Help("Make a key, or change its settings.")),
		engine.Delete("keys/{name}", e.deleteKey, engine.ID("kes-delete-key"), engine.Help("Delete a key with all its versions: what they have encrypted cannot be read any more.")),
		engine.Write("keys/{name}/rotate", e.rotateKey, engine.ID("kes-rotate-key"), engine.Help("Add a version, which encrypts from now on.")),
		engine.Write("keys/{name}/trim", e.trimKey, engine.ID("kes-trim-key"), engine.Help("Wipe the versions below a number.")),
		engine.Write("keys/{name}/import", e.importKey, engine.ID("kes-import-key"), engine.Help("Take over a key as a KES server has stored it.")),
	}
}

type nameIn struct {
	Name string `api:"name" help:"Name: letters, digits, '-' and '_'."`
}

type listIn struct {
	After string `api:"after" help:"List what comes behind this name."`
	Limit int    `api:"limit" help:"How many at most; 0 is all."`
}

func (e *Engine) listKeys(_ context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	names, err := e.ring.List(ring(call), in.After, max(0, in.Limit))
	return listed(names, err)
}

func listed(names []string, err error) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func (e *Engine) readKey(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	return shown(k), nil
}

func shown(k *keyring.Key) *engine.Response {
	return &engine.Response{Data: map[string]any{
		"name": k.Name, "algorithm": cipherOf(k).String(),
		"created_at": createdAt(k), "created_by": k.Meta[metaBy],
		"latest_version": k.Latest, "min_decryption_version": k.MinDecryption, "min_available_version": k.MinAvailable,
		"auto_rotate_period": int64(k.AutoRotate / time.Second), "last_rotated": k.Rotated,
		"imported": k.Meta[metaOrigin] == originKES,
	}}
}

type keyIn struct {
	nameIn
	Algorithm     string         `api:"algorithm" help:"AES256 or ChaCha20; of a new key only."`
	AutoRotate    *time.Duration `api:"auto_rotate_period" help:"Age at which the newest version gets a successor when it is next used; 0 is never."`
	MinDecryption *int           `api:"min_decryption_version" help:"Oldest version that decrypts."`
}

func (e *Engine) keyExists(_ context.Context, call *engine.Call, in keyIn) (bool, error) {
	_, err := e.get(call, in.Name)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) writeKey(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	if in.AutoRotate != nil && *in.AutoRotate != 0 && *in.AutoRotate < keyring.MinAutoRotate {
		return nil, errs.New(errs.Invalid, "auto_rotate_period is at least %s, or 0", keyring.MinAutoRotate)
	}
	k, err := e.get(call, in.Name)
	switch {
	case errs.Is(err, errs.NotFound):
		return e.makeKey(call, in)
	case err != nil:
		return nil, err
	}
	if in.Algorithm != "" {
		if c, ok := key.ParseCipher(in.Algorithm); !ok || c != cipherOf(k) {
			return nil, errs.New(errs.Invalid, "the algorithm of a key does not change")
		}
	}
	next := *k
	param.Take(&next.AutoRotate, in.AutoRotate)
	param.Take(&next.MinDecryption, in.MinDecryption)
	if next.MinDecryption < max(1, next.MinAvailable) || next.MinDecryption > next.Latest {
		return nil, errs.New(errs.Invalid, "min_decryption_version is between %d and %d", max(1, next.MinAvailable), next.Latest)
	}
	if err := e.ring.Put(ring(call), &next); err != nil {
		return nil, err
	}
	return shown(&next), nil
}

func (e *Engine) makeKey(call *engine.Call, in keyIn) (*engine.Response, error) {
	c := key.Default()
	if in.Algorithm != "" {
		var ok bool
		if c, ok = key.ParseCipher(in.Algorithm); !ok {
			return nil, errs.New(errs.Invalid, "there is no algorithm %q; there are AES256 and ChaCha20", in.Algorithm)
		}
	}
	if in.MinDecryption != nil && *in.MinDecryption != 1 {
		return nil, errs.New(errs.Invalid, "min_decryption_version of a new key is 1")
	}
	m := making{name: in.Name, cipher: c, by: call.Caller.DisplayName}
	param.Take(&m.rotate, in.AutoRotate)
	k, err := e.create(call, m)
	if err != nil {
		return nil, err
	}
	return shown(k), nil
}

func (e *Engine) deleteKey(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	if err := key.CheckKnown(in.Name); err != nil {
		return nil, err
	}
	return nil, e.ring.Delete(ring(call), in.Name)
}

func (e *Engine) rotateKey(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	if k, err = e.rotate(call, k); err != nil {
		return nil, err
	}
	return shown(k), nil
}

type trimIn struct {
	nameIn
	Least int `api:"min_available_version" help:"Oldest version that is kept."`
}

func (e *Engine) trimKey(_ context.Context, call *engine.Call, in trimIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	if in.Least <= k.MinAvailable || in.Least > k.MinDecryption {
		return nil, errs.New(errs.Invalid, "min_available_version is above %d, and not above min_decryption_version, %d", k.MinAvailable, k.MinDecryption)
	}
	if k, err = e.ring.Trim(ring(call), k, in.Least); err != nil {
		return nil, err
	}
	return shown(k), nil
}

type importIn struct {
	nameIn
	Stored string `api:"stored" help:"What the KES server has stored: the content of the key's file, or of its entry in a key store."`
	importedIn
}

// importKey takes over a key of any version of KES. It overwrites none.
func (e *Engine) importKey(_ context.Context, call *engine.Call, in importIn) (*engine.Response, error) {
	from, err := key.Decode([]byte(in.Stored))
	if err != nil {
		return nil, errs.New(errs.Invalid, "the stored key cannot be read: %w", err)
	}
	kept, err := in.settleKey(call, e, from)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		res := shown(kept)
		res.Data.(map[string]any)["kept"] = true //nolint:forcetypeassert // shown makes it
		return res, nil
	}
	p := from.Parts()
	k, err := e.create(call, making{
		name: in.Name, cipher: p.Cipher, secret: p.Secret, hmacKey: p.HMACKey, by: p.CreatedBy, at: p.CreatedAt, foreign: true, taken: true,
	})
	if err != nil {
		return nil, err
	}
	return shown(k), nil
}
