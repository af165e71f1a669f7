// Package kes keeps KES's keys in arca: what a stand-alone KES server has in a
// key store and a configuration file is here in transactions, and changes while
// the server runs.
//
// A mount has two sides. Operators, with tokens, make keys, policies and
// identities, rotate keys and take over those of a KES (admin.go, access.go).
// KES's clients, with certificates and without tokens, make the calls below v1/
// (calls.go): who asks is the certificate of the connection, and the mount's
// policies decide. The door of a listener "kes" makes these calls of KES's API;
// whatever door a call came by, the connection has proved the certificate's key.
//
// Keys have versions (keyring). A ciphertext is of KES's form: which version
// sealed it stands in its IV (key.EncryptAs), so that clients and other KES
// servers see nothing of it. Ciphertexts that were made elsewhere open under
// version 1 of a key that was taken over, and under no other. All versions of a
// key have one HMAC key, so that rotation changes no HMAC.
//
// Keys within a mount:
//
//	keys/…            a ring; see package keyring
//	policy/<name>     a policy
//	identity/<id>     an identity: its policy, or that it is an admin
//	imported/…        that one of these was taken over from a KES
package kes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// An Engine is the type kes.
type Engine struct {
	ring       *keyring.Ring
	policies   *storage.Shared[*policyRow]
	identities *storage.Shared[*identityRow]
}

var (
	_ engine.Engine  = (*Engine)(nil)
	_ engine.Counter = (*Engine)(nil)
)

// New makes the engine.
func New() *Engine {
	return &Engine{
		ring:       keyring.New(),
		policies:   storage.NewShared(1<<20, decodePolicy),
		identities: storage.NewShared(1<<20, decodeIdentity),
	}
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "kes" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return append(append(e.adminRoutes(), e.accessRoutes()...), e.callRoutes()...)
}

// Count implements engine.Counter.
func (*Engine) Count(_ context.Context, call *engine.Call, limit int) (int, error) {
	names, err := call.Tx.List(ringDir+"k/", "", limit)
	return len(names), err
}

const ringDir = "keys/"

func ring(call *engine.Call) storage.Tx { return call.Tx.Sub(ringDir) }

// What the ring's Meta holds.
const (
	metaBy      = "created_by"
	metaAt      = "created_at" // of a key that was taken over
	metaOrigin  = "origin"     // "kes": version 1 was made elsewhere
	metaGeneric = "cipher"     // "any": version 1 opens what its ciphertexts name

	originKES = "kes"
	anyCipher = "any"
)

var errNotFound = errs.New(errs.NotFound, "not found")

// get returns a key that exists.
func (e *Engine) get(call *engine.Call, name string) (*keyring.Key, error) {
	if err := key.CheckKnown(name); err != nil {
		return nil, err
	}
	k, err := e.ring.Get(ring(call), name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoKey
	}
	return k, err
}

// A making is what a new key shall be.
type making struct {
	name    string
	cipher  key.Cipher
	secret  []byte // nil: random
	hmacKey []byte // nil: random
	by      string
	at      time.Time // zero: now
	foreign bool      // it has ciphertexts that were made elsewhere
	taken   bool      // it exists at a KES, under a name that may be one of 2023
	rotate  time.Duration
}

// create keeps a new key: errExists if there is one.
func (e *Engine) create(call *engine.Call, m making) (*keyring.Key, error) {
	switch _, err := e.get(call, m.name); {
	case err == nil:
		return nil, errExists
	case !errs.Is(err, errs.NotFound):
		return nil, err
	}
	if err := key.CheckName(m.name); err != nil && !m.taken {
		return nil, err
	}
	spec := keyring.Spec{Type: keyring.AES256GCM}
	if m.cipher == key.ChaCha20 {
		spec.Type = keyring.ChaCha20
	}
	if !m.cipher.Usable() {
		return nil, errs.New(errs.MediaType, "the cipher is not supported: use AES256 or ChaCha20")
	}
	var material *keyring.Material
	var err error
	if m.secret == nil {
		material, err = keyring.Generate(spec)
	} else {
		material, err = keyring.Parse(&spec, m.secret)
	}
	if err != nil {
		return nil, err
	}
	if m.hmacKey != nil {
		material.HMAC = m.hmacKey
	}
	meta := map[string]string{metaBy: m.by}
	if m.foreign {
		meta[metaOrigin] = originKES
		meta[metaAt] = m.at.UTC().Format(time.RFC3339Nano)
		if m.cipher == key.Unspecified {
			meta[metaGeneric] = anyCipher
		}
	}
	k := keyring.Key{Name: m.name, Spec: spec, Imported: m.secret != nil, RotationAllowed: true, AutoRotate: m.rotate, Meta: meta}
	return e.ring.Adopt(ring(call), k, material, call.Now)
}

// rotate adds a version. The HMAC key stays.
func (e *Engine) rotate(call *engine.Call, k *keyring.Key) (*keyring.Key, error) {
	newest, err := e.ring.Version(ring(call), k, k.Latest)
	if err != nil {
		return nil, err
	}
	material, err := keyring.Generate(k.Spec)
	if err != nil {
		return nil, err
	}
	material.HMAC = newest.HMACKey()
	return e.ring.Rotate(ring(call), k, material, call.Now)
}

// version returns one version as a key of KES.
func (e *Engine) version(call *engine.Call, k *keyring.Key, n int) (*key.Key, error) {
	v, err := e.ring.Version(ring(call), k, n)
	if err != nil {
		return nil, err
	}
	p := key.Parts{Cipher: key.AES256, Secret: v.Material().Secret, HMACKey: v.HMACKey(), CreatedAt: v.Created, CreatedBy: k.Meta[metaBy]}
	switch {
	case n == 1 && k.Meta[metaGeneric] == anyCipher:
		p.Cipher = key.Unspecified
	case k.Type == keyring.ChaCha20:
		p.Cipher = key.ChaCha20
	}
	made, err := key.Of(p)
	if err != nil {
		return nil, fmt.Errorf("key %q, version %d: %w", k.Name, n, err)
	}
	return made, nil
}

// createdAt is when the key was made, here or where it was taken over from.
func createdAt(k *keyring.Key) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, k.Meta[metaAt]); err == nil {
		return at
	}
	return k.Created
}

func cipherOf(k *keyring.Key) key.Cipher {
	if k.Type == keyring.ChaCha20 {
		return key.ChaCha20
	}
	return key.AES256
}

// page returns up to n names below dir that begin with prefix, from a name on, and
// the one after them. It reads no others.
func page(tx storage.Tx, dir, prefix, from string, n int) (names []string, next string, err error) {
	names, err = tx.List(dir, before(max(prefix, from)), n+1)
	if err != nil {
		return nil, "", err
	}
	for i, name := range names {
		if !strings.HasPrefix(name, prefix) {
			return names[:i], "", nil
		}
	}
	if len(names) > n {
		return names[:n], names[n], nil
	}
	return names, "", nil
}

// before returns what lies before a name and behind all names that do: names have
// no tilde, which is greater than all that they have.
func before(name string) string {
	if name == "" {
		return ""
	}
	last := len(name) - 1
	return name[:last] + string(rune(name[last]-1)) + "~"
}
