// Package token keeps tokens: who holds them, what they may do, until when.
//
// A token's id is never stored; its record lies under a keyed hash of it. A
// token whose parent is gone is invalid from that moment on, without anything
// having been written to it: each use looks at the parent, too (from a cache).
// What a revoked token leaves behind is removed in the background.
//
// The behaviour follows Vault's documentation of tokens
// (https://developer.hashicorp.com/vault/docs/concepts/tokens).
package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
)

// QueueKind and CleanupKind are the kinds of due items that this package handles.
const (
	QueueKind   = "t" // a token expires
	CleanupKind = "c" // the children of a token that is gone
)

// MaxRecordBytes bounds the record of a token without the answer that it wraps. Vault
// documents 512 KiB, mostly of metadata; records here are read at each use of the token.
const MaxRecordBytes = 64 << 10

// maxChain bounds how deep tokens may descend from one another.
const maxChain = 64

// An Entry is a token's record. Entries that a Store returns are shared: do not
// change them, Clone first.
type Entry struct {
	Version     int               `json:"v"`
	Accessor    string            `json:"-"`
	Parent      string            `json:"p,omitempty"`  // key of the parent
	ParentNS    string            `json:"pn,omitempty"` // where it differs from NamespaceID
	Policies    []string          `json:"pol,omitempty"`
	Path        string            `json:"path"`
	Meta        map[string]string `json:"meta,omitempty"`
	DisplayName string            `json:"dn,omitempty"`
	NumUses     int               `json:"uses,omitempty"` // left; 0 is unlimited
	Created     time.Time         `json:"ct"`
	CreationTTL time.Duration     `json:"cttl,omitempty"`
	Expires     time.Time         `json:"exp,omitzero"` // zero: never
	LastRenewal time.Time         `json:"ren,omitzero"`
	Period      time.Duration     `json:"per,omitempty"`
	ExplicitMax time.Duration     `json:"xmax,omitempty"`
	MaxTTL      time.Duration     `json:"max,omitempty"` // that its login allowed; 0: the mount's
	Renewable   bool              `json:"r,omitempty"`
	Type        engine.TokenType  `json:"t,omitempty"`
	Role        string            `json:"role,omitempty"`
	EntityID    string            `json:"e,omitempty"`
	BoundCIDRs  []netip.Prefix    `json:"cidr,omitempty"`
	// Mount is the accessor of the auth mount behind a login, and Internal what
	// that method wants back on renewal.
	Mount    string         `json:"m,omitempty"`
	Internal map[string]any `json:"i,omitempty"`
	// Wrapped describes the answer that a wrapping token stands for.
	Wrapped *Wrapped `json:"w,omitempty"`

	// Quota tells for which quota the token counts among the leases; nil is none.
	Quota *quota.Stamp `json:"q,omitempty"`

	NamespaceID string `json:"ns,omitempty"` // in batch tokens; of others the key says it
	Key         string `json:"-"`            // of the record; "" for batch tokens
	Orphan      bool   `json:"-"`            // has no parent, or was freed of it
}

// Wrapped is what sys/wrapping/lookup tells.
type Wrapped struct {
	CreationPath string        `json:"path"`
	TTL          time.Duration `json:"ttl"`
	JWT          bool          `json:"jwt,omitempty"`
	// Body is the wrapped answer. It lies in the token's own record, so that
	// wrapping writes one record and unwrapping removes it.
	Body json.RawMessage `json:"body,omitempty"`
}

// Clone returns a copy that may be changed.
func (e *Entry) Clone() *Entry {
	c := *e
	return &c
}

// IsRoot reports whether the token holds the policy root.
func (e *Entry) IsRoot() bool {
	for _, p := range e.Policies {
		if p == "root" {
			return true
		}
	}
	return false
}

// Batch reports whether this is a batch token.
func (e *Entry) Batch() bool { return e.Type == engine.TokenBatch }

// Expired reports whether the token's time is over.
func (e *Entry) Expired(now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires)
}

// TTL is how long the token still lives, 0 for ever.
func (e *Entry) TTL(now time.Time) time.Duration {
	if e.Expires.IsZero() {
		return 0
	}
	return max(0, e.Expires.Sub(now))
}

// LeaseID is the token's name among the leases.
func (e *Entry) LeaseID() string { return e.Path + "/" + e.Key }

// Keys are the secrets that a Store needs.
type Keys struct {
	Hash     []byte // for the hashes of ids
	Accessor []byte // for accessors; 16, 24 or 32 bytes
	// Seal and Open encrypt and decrypt batch tokens.
	Seal func(plaintext []byte) ([]byte, error)
	Open func(ciphertext []byte) ([]byte, error)
	// Mounted reports whether there is an auth mount with an accessor, which was at
	// path when a batch token was made: with the mount its batch tokens end, of which
	// nothing is stored.
	Mounted func(tx storage.Tx, ns, accessor, path string) (bool, error)
}

// A Store keeps tokens. Safe for concurrent use.
type Store struct {
	hash  *hasher
	names *accessors
	keys  Keys
	cache *storage.Cache[*Entry]
}

// NewStore makes the store over db.
func NewStore(db *storage.DB, keys Keys) (*Store, error) {
	names, err := newAccessors(keys.Accessor)
	if err != nil {
		return nil, err
	}
	s := &Store{hash: newHasher(keys.Hash), names: names, keys: keys}
	s.cache = storage.NewCache(db, 16<<20, s.decode)
	return s, nil
}

func (s *Store) decode(key string, value []byte) (*Entry, int, error) {
	e := &Entry{}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, 0, fmt.Errorf("decode token: %w", err)
	}
	e.NamespaceID, _, _ = strings.Cut(strings.TrimPrefix(key, "n/"), "/")
	e.Key = key[strings.LastIndexByte(key, '/')+1:]
	if e.Type == engine.TokenDefault {
		e.Type = engine.TokenService
	}
	e.Orphan = e.Parent == ""
	e.Accessor = s.names.of(e.NamespaceID, e.Key)
	return e, e.size(value), nil
}

// size is about how many bytes of memory the token takes, whose record is raw.
func (*Entry) size(raw []byte) int { return 512 + 3*len(raw) }

// asRead returns the token as decode makes it of its record.
func (e *Entry) asRead() *Entry {
	c := *e
	if c.Type == engine.TokenDefault {
		c.Type = engine.TokenService
	}
	c.Orphan = c.Parent == ""
	for _, t := range []*time.Time{&c.Created, &c.Expires, &c.LastRenewal} {
		*t = t.Round(0) // no clock of this process, which is not stored
	}
	return &c
}

func base(ns string) string             { return namespace.Prefix(ns) + "t/" }
func entryKey(ns, key string) string    { return base(ns) + "e/" + key }
func childDir(ns, parent string) string { return base(ns) + "p/" + parent + "/" }
func freedKey(ns, key string) string    { return base(ns) + "o/" + key }
func pathDir(ns string) string          { return base(ns) + "l/" }
func cubbyDir(ns, key string) string    { return namespace.Prefix(ns) + "cubby/" + key + "/" }

// CubbyholePrefix is where the cubbyhole of the token with a key lies.
func CubbyholePrefix(ns, key string) string { return cubbyDir(ns, key) }

// Key returns the key of the record of the token with this id.
func (s *Store) Key(id string) string { return s.hash.key(id) }

// ErrBad is a token that does not exist, has expired or was revoked.
var ErrBad = errs.New(errs.Denied, "bad token")

// Lookup finds a valid token by its id. The error is ErrBad when there is none.
func (s *Store) Lookup(tx storage.Tx, id string, now time.Time) (*Entry, error) {
	if id == "" || len(id) > MaxIDBytes {
		return nil, ErrBad
	}
	if isBatch(id) {
		return s.openBatch(tx, id, now)
	}
	ns, ok := namespaceOf(id)
	if !ok {
		return nil, ErrBad
	}
	return s.ByKey(tx, ns, s.hash.key(id), now)
}

// isBatch reports whether id has the form of a batch token.
func isBatch(id string) bool {
	return strings.HasPrefix(id, BatchPrefix) || strings.HasPrefix(id, "b.")
}

// ByKey finds a valid token by the key of its record.
func (s *Store) ByKey(tx storage.Tx, ns, key string, now time.Time) (*Entry, error) {
	e, err := s.cache.Get(tx, entryKey(ns, key))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrBad
	}
	if err != nil {
		return nil, err
	}
	if e.Expired(now) {
		return nil, ErrBad
	}
	return s.checkParents(tx, e, now)
}

// checkParents refuses a token one of whose ancestors is gone. A token whose
// parent was revoked alone counts as an orphan from then on.
func (s *Store) checkParents(tx storage.Tx, e *Entry, now time.Time) (*Entry, error) {
	child := e
	for range maxChain {
		if child.Parent == "" {
			return e, nil
		}
		ns := child.ParentNS
		if ns == "" {
			ns = child.NamespaceID
		}
		parent, err := s.cache.Get(tx, entryKey(ns, child.Parent))
		if errors.Is(err, storage.ErrNotFound) {
			if child.Batch() {
				return nil, ErrBad // nothing could be written to it that frees it
			}
			if _, err := tx.Get(freedKey(ns, child.Parent)); err != nil {
				if errors.Is(err, storage.ErrNotFound) {
					return nil, ErrBad
				}
				return nil, err
			}
			if child == e {
				e = e.Clone()
				e.Orphan = true
			}
			return e, nil
		}
		if err != nil {
			return nil, err
		}
		if parent.Expired(now) {
			return nil, ErrBad
		}
		child = parent
	}
	return nil, ErrBad
}

// ByAccessor finds a valid token by its accessor. The error is ErrBad when
// there is none.
func (s *Store) ByAccessor(tx storage.Tx, accessor string, now time.Time) (*Entry, error) {
	ns, key, ok := s.names.key(accessor)
	if !ok {
		return nil, ErrBad
	}
	return s.ByKey(tx, ns, key, now)
}

// Accessors lists accessors, in no order that means anything but always the
// same; after is one that was listed.
func (s *Store) Accessors(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	if after != "" {
		_, key, ok := s.names.key(after)
		if !ok {
			return nil, errs.New(errs.Invalid, "after is no accessor")
		}
		after = key
	}
	names, err := tx.List(base(ns)+"e/", after, limit)
	for i := range names {
		names[i] = s.names.of(ns, names[i])
	}
	return names, err
}

// ErrDuplicate is a token id that is taken.
var ErrDuplicate = errs.New(errs.Invalid, "cannot create a token with a duplicate ID")

// Create stores a service token, or seals a batch token, and returns its id.
// id is empty unless the caller may choose it. e.Accessor and e.Key are filled. All
// tokens come by here: the error is of kind Invalid for one that is larger than tokens are.
func (s *Store) Create(tx storage.Tx, e *Entry, id string) (string, error) {
	if err := engine.CheckPolicies(e.Policies); err != nil {
		return "", err
	}
	if e.NamespaceID == "" {
		e.NamespaceID = namespace.RootID
	}
	e.Version = 1
	e.Created = e.Created.UTC()
	if e.Parent != "" {
		if _, err := s.checkParents(tx, e, e.Created); errors.Is(err, ErrBad) {
			return "", errs.New(errs.Invalid, "parent token is gone, or descends from %d others", maxChain)
		} else if err != nil {
			return "", err
		}
	}
	if e.Batch() {
		return s.sealBatch(e)
	}
	chosen := id != ""
	switch {
	case !chosen:
		id = newID(e.NamespaceID)
	case e.NamespaceID != namespace.RootID:
		id += "." + e.NamespaceID // so that the token is found
	}
	e.Type = engine.TokenService
	e.Key = s.hash.key(id)
	e.Orphan = e.Parent == ""
	if chosen {
		if ns, ok := namespaceOf(id); !ok || ns != e.NamespaceID || isBatch(id) {
			return "", errs.New(errs.Invalid, "custom token ID cannot have a '.' in the value")
		}
		if err := s.free(tx, e); err != nil {
			return "", err
		}
	}
	e.Accessor = s.names.of(e.NamespaceID, e.Key)
	if e.Parent != "" {
		if err := tx.Put(s.childKey(e), []byte{1}); err != nil {
			return "", err
		}
	}
	if e.Wrapped == nil { // a wrapping token is found by its holder only, not among the leases
		if err := tx.Put(pathDir(e.NamespaceID)+e.LeaseID(), []byte{1}); err != nil {
			return "", err
		}
	}
	return id, s.write(tx, e, time.Time{}, MaxRecordBytes)
}

// free refuses an id that is taken, or whose former holder left children that
// are not removed yet: they would come to life with it.
func (s *Store) free(tx storage.Tx, e *Entry) error {
	for _, key := range [...]string{entryKey(e.NamespaceID, e.Key), freedKey(e.NamespaceID, e.Key)} {
		_, err := tx.Get(key)
		if err == nil {
			return ErrDuplicate
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	children, _, err := first(tx, childDir(e.NamespaceID, e.Key), 1)
	if err == nil && len(children) > 0 {
		err = ErrDuplicate
	}
	return err
}

func (s *Store) childKey(e *Entry) string {
	ns := e.ParentNS
	if ns == "" {
		ns = e.NamespaceID
	}
	return childDir(ns, e.Parent) + e.NamespaceID + "/" + e.Key
}

// write stores the record, of which most bytes are not those of a wrapped answer
// (0: any number), and moves its place in the index of due times.
func (s *Store) write(tx storage.Tx, e *Entry, wasDue time.Time, most int) error {
	ns, key := e.NamespaceID, e.Key
	stored := *e
	stored.NamespaceID = ""
	if stored.Type == engine.TokenService {
		stored.Type = engine.TokenDefault
	}
	raw, err := stored.encode()
	if err != nil {
		return err
	}
	size := len(raw)
	if e.Wrapped != nil {
		size -= len(e.Wrapped.Body)
	}
	if most > 0 && size > most {
		return errs.New(errs.Invalid, "the token would take %d bytes, of at most %d: give it less metadata, or fewer policies or groups", size, most)
	}
	if wasDue.IsZero() { // many a new token is not used for long
		err = tx.Put(entryKey(ns, key), raw)
	} else {
		kept := e.asRead()
		err = s.cache.Put(tx, entryKey(ns, key), raw, kept, kept.size(raw))
	}
	if err != nil {
		return err
	}
	if wasDue.Equal(e.Expires) {
		return nil
	}
	if !wasDue.IsZero() {
		if err := lease.Cancel(tx, due(wasDue, ns, key)); err != nil {
			return err
		}
	}
	if e.Expires.IsZero() {
		return nil
	}
	return lease.Schedule(tx, due(e.Expires, ns, key))
}

func due(t time.Time, ns, key string) lease.Item {
	return lease.Item{Due: t, Kind: QueueKind, NS: ns, ID: key}
}

// Update stores a changed record of a token whose entry was old.
func (s *Store) Update(tx storage.Tx, old, e *Entry) error { return s.write(tx, e, old.Expires, 0) }

// Use takes one use off a token with a limit. last says that this was the last
// one: the token must be revoked in the transaction that used it.
func (s *Store) Use(tx storage.Tx, e *Entry) (last bool, err error) {
	if e.NumUses == 0 {
		return false, nil
	}
	if e.NumUses == 1 {
		return true, nil
	}
	c := e.Clone()
	c.NumUses--
	return false, s.Update(tx, e, c)
}

func (s *Store) sealBatch(e *Entry) (string, error) {
	e.Accessor, e.Key = "", ""
	e.Orphan = e.Parent == ""
	raw, err := e.encode()
	if err != nil {
		return "", err
	}
	sealed, err := s.keys.Seal(raw)
	if err != nil {
		return "", err
	}
	id := BatchPrefix + base64.RawURLEncoding.EncodeToString(sealed)
	if e.NamespaceID != namespace.RootID {
		id += "." + e.NamespaceID
	}
	if len(id) > MaxIDBytes {
		return "", errs.New(errs.Invalid, "batch token would be longer than %d bytes: give it less metadata or fewer policies", MaxIDBytes)
	}
	return id, nil
}

func (s *Store) openBatch(tx storage.Tx, id string, now time.Time) (*Entry, error) {
	text := id[strings.IndexByte(id, '.')+1:]
	text, ns, named := strings.Cut(text, ".")
	if !named {
		ns = namespace.RootID
	} else if !namespace.ValidID(ns) {
		return nil, ErrBad
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, ErrBad
	}
	raw, err := s.keys.Open(sealed)
	if err != nil {
		return nil, ErrBad
	}
	e := &Entry{}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(e); err != nil {
		return nil, ErrBad
	}
	if e.NamespaceID != ns || e.Expired(now) {
		return nil, ErrBad
	}
	if e.Mount != "" {
		if ok, err := s.keys.Mounted(tx, ns, e.Mount, e.Path); err != nil {
			return nil, err
		} else if !ok {
			return nil, ErrBad
		}
	}
	e.Orphan = e.Parent == ""
	return s.checkParents(tx, e, now)
}

// Expire is the lease.Handler for QueueKind.
func (s *Store) Expire(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	e, err := s.cache.Get(tx, entryKey(it.NS, it.ID))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !e.Expired(time.Now()) {
		return nil // renewed; it has another place in the index
	}
	return s.Revoke(tx, e, time.Now())
}
