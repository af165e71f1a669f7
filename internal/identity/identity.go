// Package identity keeps who stands behind tokens: entities, their aliases at
// auth methods, and groups of entities and of groups.
//
// An entity is one record that holds its aliases; indexes by name and by alias
// are keys of their own, checked in the transaction, so that a name or an alias
// never belongs to two. Membership of internal and external groups is kept on
// both sides: a group finds its members, and an entity its groups, without
// looking at others. What a request needs of its entity is read through caches
// and made once for each state of them.
//
// The behaviour follows https://developer.hashicorp.com/vault/docs/concepts/identity.
//
// Keys below a namespace's "i/":
//
//	e/<id>              an entity with its aliases
//	en/<name>           the id of the entity with this name, in lower case
//	em/<id>             the id of the entity into which this one was merged
//	ea/<alias id>       the id of the entity that has this alias
//	ef/<accessor>/<name>  "<entity id>/<alias id>" of an alias; the name in lower case
//	m/<entity id>       the groups, also of other namespaces, of which an entity is a
//	                    direct member
//	g/<id>              a group, with its alias and its parents
//	gn/<name>           the id of the group with this name, in lower case
//	gm/<group>/<entity> a direct member
//	gc/<group>          how many these are; absent means that it was not counted yet
//	mode                in the root namespace: "any" when policies of groups hold for
//	                    tokens of all namespaces
//	lower               in the root namespace: there once all names of aliases, of all
//	                    namespaces, are in lower case
//	ga/<alias id>       the id of the group that has this alias
//	gf/<accessor>/<name>  the id of the group with this alias; the name in lower case
package identity

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Bounds on what one record holds.
const (
	maxNameBytes = 512
	maxAliases   = 1000
	maxPolicies  = 1000
	maxWithin    = 5000   // groups directly in a group
	maxAbove     = 10_000 // groups in a group, at any depth
	maxChanged   = 10_000 // memberships that one request changes
	maxMetadata  = 64
	maxValue     = 512
)

// An Entity is one who logs in, however. Entities that a Store returns are
// shared: Clone before changing one.
type Entity struct {
	Version   int               `json:"v"`
	Rev       string            `json:"rev"` // another one with each change
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Policies  []string          `json:"policies,omitempty"`
	Disabled  bool              `json:"disabled,omitempty"`
	Created   time.Time         `json:"ct"`
	Updated   time.Time         `json:"ut"`
	MergedIDs []string          `json:"merged,omitempty"`
	Aliases   []Alias           `json:"aliases,omitempty"`

	NamespaceID string `json:"-"`
}

// An Alias is an entity's name at an auth mount, or a group's.
type Alias struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	MountAccessor string            `json:"accessor"`
	MountType     string            `json:"type"`
	MountPath     string            `json:"path"`
	Metadata      map[string]string `json:"metadata,omitempty"` // from the auth method
	Custom        map[string]string `json:"custom,omitempty"`   // from the administrator
	Local         bool              `json:"local,omitempty"`
	Created       time.Time         `json:"ct"`
	Updated       time.Time         `json:"ut"`
	MergedFrom    []string          `json:"merged,omitempty"`
}

// Clone returns a copy that may be changed.
func (e *Entity) Clone() *Entity {
	c := *e
	c.Aliases = slices.Clone(e.Aliases)
	return &c
}

// A Group is a set of entities and groups that share policies. Groups that a
// Store returns are shared: Clone before changing one.
type Group struct {
	Version     int               `json:"v"`
	Rev         string            `json:"rev"`
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	External    bool              `json:"external,omitempty"` // its members come and go with logins
	Metadata    map[string]string `json:"metadata,omitempty"`
	Policies    []string          `json:"policies,omitempty"`
	Members     []string          `json:"groups,omitempty"`  // groups within this one
	Parents     []string          `json:"parents,omitempty"` // groups that this one is in
	Alias       *Alias            `json:"alias,omitempty"`
	Created     time.Time         `json:"ct"`
	Updated     time.Time         `json:"ut"`
	ModifyIndex int               `json:"n"`

	NamespaceID string `json:"-"`
}

// Clone returns a copy that may be changed.
func (g *Group) Clone() *Group {
	c := *g
	c.Members, c.Parents = slices.Clone(g.Members), slices.Clone(g.Parents)
	return &c
}

// Errors that callers match.
var (
	ErrNotFound = errs.New(errs.NotFound, "not found")
	// ErrDisabled is a login or request of an entity that is switched off.
	ErrDisabled = errs.New(errs.Denied, "permission denied")
)

// A Store keeps entities and groups. Safe for concurrent use.
type Store struct {
	entities *storage.Cache[*Entity]
	groups   *storage.Cache[*Group]
	texts    *storage.Cache[string]
	lists    *storage.Cache[*[]string]

	namespaces *namespace.Store

	mu     sync.RWMutex
	people map[string]*Person // by entity id; guarded by mu, as is kept
	kept   int                // groups of people
}

// NewStore makes the store over db, whose namespaces are given.
func NewStore(db *storage.DB, namespaces *namespace.Store) *Store {
	s := &Store{people: map[string]*Person{}, namespaces: namespaces}
	s.entities = storage.NewCache(db, 8<<20, func(key string, value []byte) (*Entity, int, error) {
		e := &Entity{NamespaceID: namespaceOf(key)}
		if err := json.Unmarshal(value, e); err != nil {
			return nil, 0, fmt.Errorf("decode entity: %w", err)
		}
		return e, 512 + 3*len(value), nil
	})
	s.groups = storage.NewCache(db, 8<<20, func(key string, value []byte) (*Group, int, error) {
		g := &Group{NamespaceID: namespaceOf(key)}
		if err := json.Unmarshal(value, g); err != nil {
			return nil, 0, fmt.Errorf("decode group: %w", err)
		}
		return g, 512 + 3*len(value), nil
	})
	s.texts = storage.NewCache(db, 4<<20, func(_ string, value []byte) (string, int, error) {
		return string(value), 64 + len(value), nil
	})
	s.lists = storage.NewCache(db, 4<<20, func(_ string, value []byte) (*[]string, int, error) {
		var list []string
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, 0, fmt.Errorf("decode memberships: %w", err)
		}
		return &list, 128 + 2*len(value), nil
	})
	return s
}

// NamespaceOf is the namespace that the id of an entity or group names.
func NamespaceOf(id string) string {
	if _, ns, found := strings.Cut(id, "."); found && namespace.ValidID(ns) {
		return ns
	}
	return namespace.RootID
}

func namespaceOf(key string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, "n/"), "/")
	return id
}

func dir(ns string) string { return namespace.Prefix(ns) + "i/" }

func entityKey(ns, id string) string       { return dir(ns) + "e/" + id }
func entityNameKey(ns, n string) string    { return dir(ns) + "en/" + strings.ToLower(n) }
func mergedKey(ns, id string) string       { return dir(ns) + "em/" + id }
func aliasKey(ns, id string) string        { return dir(ns) + "ea/" + id }
func memberOfKey(ns, id string) string     { return dir(ns) + "m/" + id }
func groupKey(ns, id string) string        { return dir(ns) + "g/" + id }
func groupNameKey(ns, n string) string     { return dir(ns) + "gn/" + strings.ToLower(n) }
func memberDir(ns, group string) string    { return dir(ns) + "gm/" + group + "/" }
func memberCount(ns, group string) string  { return dir(ns) + "gc/" + group }
func groupAliasKey(ns, id string) string   { return dir(ns) + "ga/" + id }
func factorDir(ns, acc string) string      { return dir(ns) + "ef/" + acc + "/" }
func groupFactorDir(ns, acc string) string { return dir(ns) + "gf/" + acc + "/" }

// NewID makes an id; outside the root namespace it names the namespace.
func NewID(ns string) string {
	id := uuid.NewString()
	if ns != namespace.RootID {
		id += "." + ns
	}
	return id
}

func newRev() string {
	var b [9]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func newName(kind, ns string) string {
	var b [4]byte
	rand.Read(b[:])
	return kind + "_" + hex.EncodeToString(b[:]) + "." + ns
}

// ValidID refuses ids from outside that cannot be one: they become part of keys.
func ValidID(id string) bool { return id != "" && len(id) <= 128 && !strings.Contains(id, "/") }

func checkName(what, name string) error {
	switch {
	case len(name) > maxNameBytes:
		return errs.New(errs.Invalid, "%s is longer than %d bytes", what, maxNameBytes)
	case strings.ContainsRune(name, 0):
		return errs.New(errs.Invalid, "%s holds a zero byte", what)
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadata {
		return errs.New(errs.Invalid, "metadata holds more than %d keys", maxMetadata)
	}
	for k, v := range m {
		if len(k) > 128 || len(v) > maxValue {
			return errs.New(errs.Invalid, "metadata: the key or value of %q is longer than 128 or %d bytes", k[:min(len(k), 128)], maxValue)
		}
	}
	return nil
}

func checkPolicies(names []string) error {
	switch {
	case slices.Contains(names, "root"):
		return errs.New(errs.Invalid, "policies cannot contain root")
	case len(names) > maxPolicies:
		return errs.New(errs.Invalid, "an entity or group has at most %d policies", maxPolicies)
	}
	return nil
}

func get[T any](c *storage.Cache[T], tx storage.Tx, key string) (T, error) {
	v, err := c.Get(tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return v, ErrNotFound
	}
	return v, err
}

func put(tx storage.Tx, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, raw)
}

// CleanPolicies brings names of policies into the stored form.
func CleanPolicies(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if n = strings.ToLower(strings.TrimSpace(n)); n != "" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
