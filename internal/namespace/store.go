package namespace

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"arca/internal/errs"
	"arca/internal/storage"
)

// Bounds on what may be made.
const (
	maxNameBytes    = 128
	maxDepth        = 32
	maxMetadata     = 64
	maxMetadataSize = 8 << 10
)

// A record is a namespace as it is stored, under its id.
type record struct {
	Version  int               `json:"v"`
	UUID     string            `json:"uuid"`
	Path     string            `json:"path"`
	ParentID string            `json:"parent"`
	Metadata map[string]string `json:"custom_metadata,omitempty"`
	LockHash []byte            `json:"lock,omitempty"` // SHA-256 of the key that unlocks it
	Ending   bool              `json:"ending,omitempty"`
}

// recordKey is where the namespace with an id is described; nameKey is where its
// parent names it.
func recordKey(id string) string           { return Prefix(RootID) + "ns/id/" + id }
func nameKey(parentID, name string) string { return nameDir(parentID) + name }
func nameDir(parentID string) string       { return Prefix(parentID) + "ns/name/" }

// A Store finds and keeps namespaces. A namespace costs nothing until it is
// used. Safe for concurrent use.
type Store struct {
	names   *storage.Cache[string]
	records *storage.Cache[*Namespace]
}

// NewStore makes the store over db.
func NewStore(db *storage.DB) *Store {
	s := &Store{}
	s.names = storage.NewCache(db, 2<<20, func(_ string, value []byte) (string, int, error) {
		return string(value), 64 + len(value), nil
	})
	s.records = storage.NewCache(db, 4<<20, decode)
	return s
}

func decode(key string, value []byte) (*Namespace, int, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, 0, fmt.Errorf("decode namespace: %w", err)
	}
	id := key[strings.LastIndexByte(key, '/')+1:]
	return &Namespace{
		ID: id, UUID: r.UUID, Path: r.Path, ParentID: r.ParentID, Metadata: r.Metadata, Locked: r.LockHash != nil,
		lockHash: r.LockHash, ending: r.Ending,
	}, 256 + 2*len(value), nil
}

// ErrNotFound is a namespace that does not exist.
var ErrNotFound = errs.New(errs.NotFound, "namespace not found")

// ByID finds a namespace by its id. The error is ErrNotFound when there is
// none, or one that is being deleted.
func (s *Store) ByID(tx storage.Tx, id string) (*Namespace, error) {
	if id == RootID {
		return root, nil
	}
	if !ValidID(id) {
		return nil, ErrNotFound
	}
	n, err := s.records.Get(tx, recordKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if n.ending {
		return nil, ErrNotFound
	}
	return n, nil
}

// Child finds the namespace that parent has under a name. The error is
// ErrNotFound when there is none.
func (s *Store) Child(tx storage.Tx, parent *Namespace, name string) (*Namespace, error) {
	if len(name) > maxNameBytes {
		return nil, ErrNotFound
	}
	id, err := s.names.Get(tx, nameKey(parent.ID, name))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return s.ByID(tx, id)
}

// A Place is where a request belongs.
type Place struct {
	Namespace *Namespace
	Rest      string // of the path, below the namespace
	// Locked is the path of the outermost namespace on the way whose API is
	// locked, if any.
	Locked string
	locked bool
}

// IsLocked reports whether a namespace on the way is locked.
func (p *Place) IsLocked() bool { return p.locked }

func (p *Place) enter(n *Namespace) {
	p.Namespace = n
	if n.Locked && !p.locked {
		p.Locked, p.locked = n.Path, true
	}
}

// Resolve finds the namespace with a canonical path. The error is ErrNotFound
// when there is none.
func (s *Store) Resolve(tx storage.Tx, path string) (Place, error) {
	p := Place{Namespace: root}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" {
			continue // clients write a//b
		}
		n, err := s.Child(tx, p.Namespace, part)
		if err != nil {
			return Place{}, err
		}
		p.enter(n)
	}
	return p, nil
}

// Descend follows the names of namespaces at the beginning of path.
func (s *Store) Descend(tx storage.Tx, p *Place, path string) error {
	p.Rest = path
	for {
		name, rest, more := strings.Cut(p.Rest, "/")
		if !more || name == "" || IsReserved(name) {
			return nil
		}
		n, err := s.Child(tx, p.Namespace, name)
		if errors.Is(err, ErrNotFound) || errs.Is(err, errs.NotFound) { // the first as a rule, and found out at once
			return nil
		}
		if err != nil {
			return err
		}
		p.enter(n)
		p.Rest = rest
	}
}

// Next returns the id of a namespace behind that with an id, in an order that means
// nothing but is always the same and begins with the root; "" is the end.
func (s *Store) Next(tx storage.Tx, id string) (string, error) {
	if id == RootID {
		id = ""
	}
	ids, err := tx.List(recordKey(""), id, 1)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// List returns the children of a namespace in the order of their names, those
// behind after, at most limit of them (0: all).
func (s *Store) List(tx storage.Tx, parent *Namespace, after string, limit int) ([]*Namespace, error) {
	names, err := tx.List(nameDir(parent.ID), strings.TrimSuffix(after, "/"), limit)
	if err != nil {
		return nil, err
	}
	out := make([]*Namespace, 0, len(names))
	for _, name := range names {
		n, err := s.Child(tx, parent, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// Subtree calls fn with a namespace and with all below it, each before its children.
func (s *Store) Subtree(tx storage.Tx, n *Namespace, fn func(*Namespace) error) error {
	if err := fn(n); err != nil {
		return err
	}
	for after := ""; ; {
		const page = 256
		list, err := s.List(tx, n, after, page)
		if err != nil {
			return err
		}
		for _, child := range list {
			if err := s.Subtree(tx, child, fn); err != nil {
				return err
			}
			after = child.Name()
		}
		if len(list) < page {
			return nil
		}
	}
}

// reserved are the names that mean something else in a path.
var reserved = [...]string{"root", "sys", "auth", "audit", "cubbyhole", "identity"}

// IsReserved reports whether a name can never be a namespace's.
func IsReserved(name string) bool {
	for _, r := range reserved {
		if name == r {
			return true
		}
	}
	return false
}

// CheckName refuses names that cannot be a namespace's.
func CheckName(name string) error {
	switch {
	case name == "":
		return errs.New(errs.Invalid, "missing the name of the namespace")
	case strings.Contains(name, "/"):
		return errs.New(errs.Invalid, "namespace name cannot contain /")
	case IsReserved(name):
		return errs.New(errs.Invalid, "%q is a reserved path and cannot be used as a namespace name", name+"/")
	case strings.ContainsFunc(name, unicode.IsSpace):
		return errs.New(errs.Invalid, "%q contains space characters that cannot be used in a namespace name", name)
	case len(name) > maxNameBytes:
		return errs.New(errs.Invalid, "namespace name is longer than %d bytes", maxNameBytes)
	case name == "." || name == "..", name == "+", strings.ContainsAny(name, "*"):
		return errs.New(errs.Invalid, "%q cannot be used as a namespace name: it means something else in paths and policies", name)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return errs.New(errs.Invalid, "namespace name %q has a character that cannot be printed", name)
		}
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
	}
	if len(m) > maxMetadata || size > maxMetadataSize {
		return errs.New(errs.Invalid, "custom_metadata holds more than %d keys or %d bytes", maxMetadata, maxMetadataSize)
	}
	return nil
}

// Create makes a namespace below parent. What every namespace holds (mounts,
// policies) is put into it by the caller, in the same transaction.
func (s *Store) Create(tx storage.Tx, parent *Namespace, name string, metadata map[string]string) (*Namespace, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := checkMetadata(metadata); err != nil {
		return nil, err
	}
	if strings.Count(parent.Path, "/") >= maxDepth {
		return nil, errs.New(errs.Invalid, "namespaces lie within one another at most %d deep", maxDepth)
	}
	n := &Namespace{UUID: uuid.NewString(), Path: parent.Path + name + "/", ParentID: parent.ID, Metadata: metadata}
	for n.ID == "" {
		id := newID()
		_, err := tx.Get(recordKey(id))
		if errors.Is(err, storage.ErrNotFound) {
			n.ID = id
		} else if err != nil {
			return nil, err
		}
	}
	if err := tx.Put(nameKey(parent.ID, name), []byte(n.ID)); err != nil {
		return nil, err
	}
	return n, s.put(tx, n)
}

func (s *Store) put(tx storage.Tx, n *Namespace) error {
	raw, err := json.Marshal(record{
		Version: 1, UUID: n.UUID, Path: n.Path, ParentID: n.ParentID, Metadata: n.Metadata, LockHash: n.lockHash, Ending: n.ending,
	})
	if err != nil {
		return err
	}
	return tx.Put(recordKey(n.ID), raw)
}

// SetMetadata replaces the custom metadata.
func (s *Store) SetMetadata(tx storage.Tx, n *Namespace, metadata map[string]string) (*Namespace, error) {
	if err := checkMetadata(metadata); err != nil {
		return nil, err
	}
	c := *n
	c.Metadata = metadata
	return &c, s.put(tx, &c)
}

// Lock closes the API of a namespace and of all below it, and returns the key
// that opens it. Only a hash of the key is kept.
func (s *Store) Lock(tx storage.Tx, n *Namespace) (key string, err error) {
	if n.Locked {
		return "", errs.New(errs.Invalid, "cannot lock namespace %q: is already locked", n.Path)
	}
	key = rand.Text()
	sum := sha256.Sum256([]byte(key))
	c := *n
	c.Locked, c.lockHash = true, sum[:]
	return key, s.put(tx, &c)
}

// Unlock opens the API again. force does without the key.
func (s *Store) Unlock(tx storage.Tx, n *Namespace, key string, force bool) error {
	if !n.Locked {
		return errs.New(errs.Invalid, "namespace %q is not locked", n.Path)
	}
	sum := sha256.Sum256([]byte(key))
	if !force && subtle.ConstantTimeCompare(sum[:], n.lockHash) != 1 {
		return errs.New(errs.Invalid, "incorrect unlock key")
	}
	c := *n
	c.Locked, c.lockHash = false, nil
	return s.put(tx, &c)
}

// End makes a namespace without children unreachable at once: no path, token or
// accessor leads into it any more, and its name is free. Its data is removed by
// Remove.
func (s *Store) End(tx storage.Tx, n *Namespace) error {
	children, err := tx.List(nameDir(n.ID), "", 1)
	if err != nil {
		return err
	}
	if len(children) > 0 {
		return errs.New(errs.Invalid, "unable to delete namespace containing child namespaces")
	}
	if err := tx.Delete(nameKey(n.ParentID, n.Name())); err != nil {
		return err
	}
	c := *n
	c.ending = true
	return s.put(tx, &c)
}

// Remove removes all that belongs to a namespace that has ended.
func (s *Store) Remove(tx storage.Tx, id string) error {
	if !ValidID(id) || id == RootID {
		return errs.New(errs.Internal, "namespace %q cannot be removed", id)
	}
	if err := tx.DeletePrefix(Prefix(id)); err != nil {
		return err
	}
	return tx.Delete(recordKey(id))
}
