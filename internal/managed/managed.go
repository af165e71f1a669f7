// Package managed knows the managed keys: keys that a service outside (a KMS, an HSM)
// keeps, which the mounts of a namespace use without ever seeing them.
//
// The API is that of https://developer.hashicorp.com/vault/api-docs/system/managed-keys.
// A key belongs to a namespace; a mount of that namespace may use it when the key says
// any_mount, or the mount's allowed_managed_keys names it. The package keeps what is
// said of a key, credentials included, and asks nobody: Services does that, which the
// server gives.
//
// Keys, of a namespace:
//
//	managed/k/<type>/<name>   the key
//	managed/n/<name>          its type: a name is one key's, whatever the types
//	managed/i/<id>            its name
package managed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// A Key is a managed key as it is stored. Its parameters are those of its type, by the
// names of the API, with the credentials among them: it prints nothing of itself.
type Key struct {
	Form          int               `json:"v"`
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Type          string            `json:"type"`
	AnyMount      bool              `json:"any_mount,omitempty"`
	AllowGenerate bool              `json:"allow_generate,omitempty"`
	AllowReplace  bool              `json:"allow_replace,omitempty"`
	AllowStore    bool              `json:"allow_store,omitempty"`
	Usages        []string          `json:"usages"`
	Params        map[string]string `json:"params"`
}

// String implements fmt.Stringer and shows nothing.
func (Key) String() string { return "(managed key)" }

// LogValue implements slog.LogValuer and shows nothing.
func (Key) LogValue() slog.Value { return slog.StringValue("(managed key)") }

const form = 1

// Services are the services that keep keys.
type Services interface {
	// Check validates a key's parameters and brings them into their full form. own says
	// that nothing of the server's own (its credentials, its files) may be used for it.
	// The error is Invalid.
	Check(k *Key, own bool) error
	// Open makes what asks for the key; nobody is asked yet.
	Open(k *Key) (engine.KMS, error)
}

// A Param is a parameter of a type of keys.
type Param struct {
	Name   string
	Kind   Kind
	Secret bool // read as "redacted"
}

// Kind is how a parameter is shown.
type Kind uint8

// The kinds.
const (
	Text Kind = iota
	Number
	Truth
)

// Types of keys.
const (
	AWS    = "awskms"
	Azure  = "azurekeyvault"
	Google = "gcpckms"
	PKCS11 = "pkcs11"
)

// Params lists the parameters of a type; nil for none that is known.
func Params(typ string) []Param {
	switch typ {
	case AWS:
		return []Param{
			{Name: "access_key", Secret: true},
			{Name: "curve"},
			{Name: "endpoint"},
			{Name: "key_bits"},
			{Name: "key_type"},
			{Name: "kms_key"},
			{Name: "region"},
			{Name: "secret_key", Secret: true},
		}
	case Azure:
		return []Param{
			{Name: "client_id"},
			{Name: "client_secret", Secret: true},
			{Name: "endpoint"},
			{Name: "environment"},
			{Name: "key_bits"},
			{Name: "key_name"},
			{Name: "key_type"},
			{Name: "resource"},
			{Name: "tenant_id"},
			{Name: "vault_name"},
		}
	case Google:
		return []Param{
			{Name: "algorithm"},
			{Name: "credentials", Secret: true},
			{Name: "crypto_key"},
			{Name: "crypto_key_version", Kind: Number},
			{Name: "endpoint"},
			{Name: "key_ring"},
			{Name: "project"},
			{Name: "region"},
		}
	case PKCS11:
		return []Param{
			{Name: "curve"},
			{Name: "force_rw_session", Kind: Truth},
			{Name: "key_bits", Kind: Number},
			{Name: "key_id"},
			{Name: "key_label"},
			{Name: "library"},
			{Name: "max_parallel", Kind: Number},
			{Name: "mechanism", Kind: Number},
			{Name: "pin", Secret: true},
			{Name: "rsa_oaep_hash"},
			{Name: "slot", Kind: Number},
			{Name: "token_label"},
		}
	}
	return nil
}

// CheckType refuses a type that is not known, with the words by which Vault's clients
// know it.
func CheckType(typ string) error {
	if Params(typ) == nil {
		return errs.New(errs.Invalid, "unsupported managed key type: %q: there are %s, %s, %s and %s", typ, AWS, Azure, Google, PKCS11)
	}
	return nil
}

// Bounds.
const (
	maxNameBytes  = 512
	maxKeyBytes   = 64 << 10 // as it is stored: what is larger would not be cached, and each use would open it anew
	maxParamBytes = 16 << 10 // an account's credentials are about 2.5 KiB
	cacheBytes    = 4 << 20
	clientBytes   = 32 << 10 // that a client takes, about: connections, buffers
)

// checkName takes what Vault takes for a name.
func checkName(name string) error {
	word := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' }
	bad := name == "" || len(name) > maxNameBytes || !word(name[0]) || !word(name[len(name)-1])
	for i := 0; i < len(name) && !bad; i++ {
		bad = !word(name[i]) && name[i] != '-' && name[i] != '.'
	}
	if bad {
		return errs.New(errs.Invalid, "a managed key's name has lower-case letters, digits, '_', '-' and '.', begins and ends with a letter, a digit or '_', and is not longer than %d bytes", maxNameBytes)
	}
	return nil
}

// usages of Vault's documentation, and the names under which they are shown.
var usages = map[string]string{
	"encrypt": engine.UseEncrypt, "decrypt": engine.UseDecrypt, "sign": engine.UseSign, "verify": engine.UseVerify,
	"wrap": "wrap", "unwrap": "unwrap", "mac": "mac", "random": "generate_random", "generate_random": "generate_random",
}

// ParseUsages checks a list of usages; an empty one is sign and verify.
func ParseUsages(list []string) ([]string, error) {
	var out []string
	for _, u := range list {
		name, ok := usages[strings.ToLower(strings.TrimSpace(u))]
		if !ok {
			return nil, errs.New(errs.Invalid, "invalid usage %q: it must be encrypt, decrypt, sign, verify, wrap, unwrap, mac or random", u)
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		out = []string{engine.UseSign, engine.UseVerify}
	}
	return out, nil
}

// A Store keeps managed keys. It is safe for concurrent use.
type Store struct {
	services Services // nil: there are none
	open     *storage.Cache[*opened]
}

// NewStore makes the store over db.
func NewStore(db *storage.DB, services Services) *Store {
	s := &Store{services: services}
	s.open = storage.NewCache(db, cacheBytes, decode)
	return s
}

// opened is a key and, once it was used, what asks for it. It is cached, and ends when
// the key is changed: another one is opened then.
type opened struct {
	Key
	mu  sync.Mutex
	kms engine.KMS // guarded by mu
}

func decode(key string, value []byte) (*opened, int, error) {
	o := &opened{}
	if json.Unmarshal(value, &o.Key) != nil || o.Form != form {
		return nil, 0, fmt.Errorf("the managed key %q cannot be decoded", key)
	}
	return o, clientBytes + 2*len(value), nil
}

// client opens the key for use. That it could not be opened is not kept.
func (o *opened) client(s Services) (engine.KMS, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kms != nil {
		return o.kms, nil
	}
	kms, err := s.Open(&o.Key)
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "managed key %q: %w", o.Name, err)
	}
	o.kms = kms
	return kms, nil
}

func dir(ns string) string { return namespace.Prefix(ns) + "managed/" }

func keyOf(ns, typ, name string) string { return dir(ns) + "k/" + typ + "/" + name }

func typeKey(ns, name string) string { return dir(ns) + "n/" + name }

func idKey(ns, id string) string { return dir(ns) + "i/" + id }

// Get returns a key, which must not be changed, or storage.ErrNotFound.
func (s *Store) Get(tx storage.Tx, ns, typ, name string) (*Key, error) {
	o, err := s.open.Get(tx, keyOf(ns, typ, name))
	if err != nil {
		return nil, err
	}
	return &o.Key, nil
}

// List returns the names of the keys of a type.
func (s *Store) List(tx storage.Tx, ns, typ, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"k/"+typ+"/", after, limit)
}

// Put checks a key and keeps it: a new one, which gets its id, when it has none.
func (s *Store) Put(tx storage.Tx, ns string, k *Key) error {
	if err := checkName(k.Name); err != nil {
		return err
	}
	for name, v := range k.Params {
		if len(v) > maxParamBytes {
			return errs.New(errs.Invalid, "%s is longer than %d bytes", name, maxParamBytes)
		}
	}
	if s.services == nil {
		return errNone(k.Type)
	}
	if err := s.services.Check(k, ns != namespace.RootID); err != nil {
		return err
	}
	if k.ID == "" {
		used, err := tx.Get(typeKey(ns, k.Name))
		if err == nil {
			return errs.New(errs.Invalid, "the name %q is that of a managed key of type %s already", k.Name, used)
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		k.ID = uuid.NewString()
		if err := tx.Put(typeKey(ns, k.Name), []byte(k.Type)); err != nil {
			return err
		}
		if err := tx.Put(idKey(ns, k.ID), []byte(k.Name)); err != nil {
			return err
		}
	}
	k.Form = form
	raw, err := encode(k)
	if err != nil {
		return err
	}
	return tx.Put(keyOf(ns, k.Type, k.Name), raw)
}

// encode is the form in which a key is stored.
func encode(k *Key) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // six bytes for one, for nothing
	if err := e.Encode(k); err != nil {
		return nil, err
	}
	if out.Len() > maxKeyBytes {
		return nil, errs.New(errs.Invalid, "the managed key has more than %d bytes with all its parameters: shorten them", maxKeyBytes)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Delete forgets a key, of which the service keeps what it has.
func (s *Store) Delete(tx storage.Tx, ns string, k *Key) error {
	for _, key := range []string{keyOf(ns, k.Type, k.Name), typeKey(ns, k.Name), idKey(ns, k.ID)} {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func errNone(typ string) error {
	return errs.New(errs.Invalid, "unsupported managed key type: %q: this server has no managed keys", typ)
}

// Open opens a key for a test by its operator, whatever mounts may do.
func (s *Store) Open(tx storage.Tx, ns, typ, name string) (*engine.ManagedKey, error) {
	if s.services == nil {
		return nil, errNone(typ)
	}
	o, err := s.open.Get(tx, keyOf(ns, typ, name))
	if err != nil {
		return nil, err
	}
	return s.use(o)
}

func (s *Store) use(o *opened) (*engine.ManagedKey, error) {
	kms, err := o.client(s.services)
	if err != nil {
		return nil, err
	}
	return &engine.ManagedKey{Name: o.Name, ID: o.ID, Type: o.Type, Usages: o.Usages, KMS: kms}, nil
}

// Find finds a key by its name, its id, or both, for a mount of its namespace. Refusals
// are Invalid.
func (s *Store) Find(tx storage.Tx, m *mount.Entry, name, id string) (*engine.ManagedKey, error) {
	ns := m.NamespaceID
	name = strings.ToLower(name)
	shown := name
	if name == "" {
		shown = id
	}
	missing := errs.New(errs.Invalid, "there is no managed key %q in this namespace", shown)
	if name == "" {
		raw, err := tx.Get(idKey(ns, id))
		if errors.Is(err, storage.ErrNotFound) || id == "" {
			return nil, missing
		}
		if err != nil {
			return nil, err
		}
		name = string(raw)
	}
	typ, err := tx.Get(typeKey(ns, name))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	o, err := s.open.Get(tx, keyOf(ns, string(typ), name))
	switch {
	case err != nil:
		return nil, err
	case s.services == nil:
		return nil, errNone(o.Type)
	case id != "" && id != o.ID:
		return nil, errs.New(errs.Invalid, "the managed key %q has another id than %q", name, id)
	case !o.AnyMount && !slices.ContainsFunc(m.Config.ManagedKeys, func(n string) bool { return strings.EqualFold(n, o.Name) }):
		return nil, errs.New(errs.Invalid, "the mount may not use the managed key %q: name it in the mount's allowed_managed_keys, or set the key's any_mount", o.Name)
	}
	return s.use(o)
}
