package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// The policies that always exist.
const (
	RootName    = "root"
	DefaultName = "default"
	// WrappingName is the policy of wrapping tokens. It is always Wrapping, and means
	// nothing to other tokens.
	WrappingName = "response-wrapping"
	// controlGroupName is the policy of Vault's control group tokens, which are not
	// there; its name stays free for them.
	controlGroupName = "control-group"
)

// Internal reports whether a policy is one of the hall's own, which cannot be changed
// or given to anybody (Vault: "cannot assign policy").
func Internal(name string) bool { return name == WrappingName || name == controlGroupName }

// Default is the text of the policy "default" of a new namespace.
const Default = `# What every token may do unless it asks not to have this policy.

# Look at, renew and give up itself.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Ask what it may do.
path "sys/capabilities-self"         { capabilities = ["update"] }
path "sys/policies/explain-self"     { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }

# Read its own entity.
path "identity/entity/id/{{identity.entity.id}}"     { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }

# Look up and renew leases whose id it knows.
path "sys/renew"         { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }

# Keep things in its own cubbyhole.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }

# Wrap an answer, look at a wrapping token, unwrap.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }

# Hash data.
path "sys/tools/hash"   { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }

# Control groups and OIDC log-ins of others.
path "sys/control-group/request"            { capabilities = ["update"] }
path "identity/oidc/provider/+/authorize"   { capabilities = ["read", "update"] }
`

// Wrapping is the text of the policy of wrapping tokens.
const Wrapping = `path "cubbyhole/response" { capabilities = ["create", "read"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
`

// record is a policy as it is stored.
type record struct {
	Version int    `json:"v"`
	Text    string `json:"policy"`
}

// A Store keeps policies and the ACLs compiled from them. Safe for concurrent use.
type Store struct {
	policies *storage.Cache[*Policy]
	acls     *aclCache
	wrapping *Policy
}

// NewStore makes the store over db.
func NewStore(db *storage.DB) *Store {
	wrapping, err := Parse(WrappingName, Wrapping)
	if err != nil {
		panic("policy: the text of " + WrappingName + ": " + err.Error())
	}
	return &Store{
		policies: storage.NewCache(db, 8<<20, decode),
		acls:     newACLCache(),
		wrapping: wrapping,
	}
}

func dir(ns string) string { return namespace.Prefix(ns) + "policy/acl/" }

func decode(key string, value []byte) (*Policy, int, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, 0, fmt.Errorf("decode policy: %w", err)
	}
	_, name, _ := strings.Cut(key, "/policy/acl/")
	p, err := parse(name, r.Text)
	if err != nil {
		return nil, 0, fmt.Errorf("parse stored policy %q: %w", name, err)
	}
	return p, 512 + 6*len(value), nil
}

// Get returns a policy by its name, which is not case-sensitive. The error is
// of kind NotFound when there is none.
func (s *Store) Get(tx storage.Tx, ns, name string) (*Policy, error) {
	name = strings.ToLower(name)
	switch name {
	case RootName:
		return &Policy{Name: RootName}, nil
	case WrappingName: // whatever earlier versions let be stored
		return s.wrapping, nil
	}
	return s.policies.Get(tx, dir(ns)+name)
}

// inForce finds a policy of a set; the error is storage.ErrNotFound for one that
// means nothing to its holder.
func (s *Store) inForce(tx storage.Tx, set *Set, name string) (*Policy, error) {
	switch {
	case name == WrappingName && set.Wrapping:
		return s.wrapping, nil
	case Internal(name):
		return nil, storage.ErrNotFound
	}
	return s.policies.Get(tx, dir(set.NamespaceID)+name)
}

// Put parses and stores a policy.
func (s *Store) Put(tx storage.Tx, ns, name, text string) error {
	name = strings.ToLower(name)
	if name == RootName || Internal(name) {
		return errs.New(errs.Invalid, "cannot update %q policy", name)
	}
	if strings.TrimSpace(name) != name { // those who refer to it are trimmed
		return errs.New(errs.Invalid, "the policy name %q begins or ends with a blank", name)
	}
	if _, err := Parse(name, text); err != nil {
		return err
	}
	raw, err := json.Marshal(record{Version: 1, Text: text})
	if err != nil {
		return err
	}
	return tx.Put(dir(ns)+name, raw)
}

// Delete removes a policy; one that is not there is no error.
func (s *Store) Delete(tx storage.Tx, ns, name string) error {
	name = strings.ToLower(name)
	switch name {
	case RootName:
		return errs.New(errs.Invalid, "cannot delete %q policy", name)
	case DefaultName:
		return errs.New(errs.Invalid, "cannot delete default policy")
	case WrappingName:
		return errs.New(errs.Invalid, "cannot delete %q policy", name)
	}
	return tx.Delete(dir(ns) + name)
}

// List names the policies of a namespace in order, the built-in ones included.
func (s *Store) List(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	names, err := tx.Names(dir(ns), "", 0)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, Internal)
	if ns == namespace.RootID {
		names = append(names, RootName)
	}
	slices.Sort(names)
	if after != "" {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	return names, nil
}

// A Set names the policies of one namespace.
type Set struct {
	NamespaceID string
	Path        string   // of the namespace: "" or "a/b/"
	Names       []string // sorted
	// Closed says that nothing is allowed in the namespace and below it: not all is
	// known of what it denies.
	Closed bool
	// Wrapping says that it is of a wrapping token, to which alone the policy
	// WrappingName means something.
	Wrapping bool
}

// Subject is what templates of a policy are resolved against; nil is a caller
// without an entity.
type Subject interface {
	// Version changes whenever a resolution might.
	Version() string
	// Resolve replaces the templates in a path of a policy of the namespace with
	// the id ns by their values, which stand for nothing but themselves; false
	// drops the path.
	Resolve(ns, path string) (string, bool)
}

// Proposed is ACL as it would be with other texts of some policies of a namespace,
// by name, also of policies that do not exist. Nothing of it is kept.
func (s *Store) Proposed(tx storage.Tx, sets []Set, subject Subject, ns string, texts map[string]*Policy) (*ACL, error) {
	if len(sets) > 0 && sets[0].NamespaceID == namespace.RootID && slices.Contains(sets[0].Names, RootName) {
		return &ACL{root: true}, nil
	}
	var ps []placed
	for _, set := range sets {
		if set.Closed {
			ps = append(ps, placed{ns: set.NamespaceID, under: set.Path, closed: true})
			continue
		}
		for _, name := range set.Names {
			p := texts[name]
			if p == nil || set.NamespaceID != ns || Internal(name) {
				var err error
				p, err = s.inForce(tx, &set, name)
				if errors.Is(err, storage.ErrNotFound) {
					continue
				}
				if err != nil {
					return nil, err
				}
			}
			ps = append(ps, placed{Policy: p, ns: set.NamespaceID, under: set.Path})
		}
	}
	var resolve resolver
	if subject != nil {
		resolve = subject.Resolve
	}
	return compile(ps, resolve), nil
}

// ACL compiles the policies of a caller, or returns the compiled form while
// none of them has changed. Policies that do not exist count for nothing. The
// first set is that of the caller's token; only there is a policy root, and only
// in the root namespace. Paths that the ACL judges begin with that of their
// namespace.
func (s *Store) ACL(tx storage.Tx, sets []Set, subject Subject) (*ACL, error) {
	if len(sets) > 0 && sets[0].NamespaceID == namespace.RootID && slices.Contains(sets[0].Names, RootName) {
		return &ACL{root: true}, nil
	}
	var buf [8]placed
	ps := buf[:0]
	for _, set := range sets {
		if set.Closed {
			ps = append(ps, placed{ns: set.NamespaceID, under: set.Path, closed: true})
			continue
		}
		for _, name := range set.Names {
			p, err := s.inForce(tx, &set, name)
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			ps = append(ps, placed{Policy: p, ns: set.NamespaceID, under: set.Path})
		}
	}
	return s.acls.get(ps, subject), nil
}
