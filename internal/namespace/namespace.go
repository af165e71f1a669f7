// Package namespace names the spaces that share a server without seeing one
// another: everything that belongs to a namespace lies under its id in storage,
// so that it is found without looking at others and removed as a whole.
//
// A namespace is found by its path (as a header, or in front of a request's
// path), or by its id, which tokens and accessors carry. The root namespace
// always exists. Its id is "root" and its path is empty.
//
// The behaviour follows Vault's documentation of namespaces
// (https://developer.hashicorp.com/vault/docs/enterprise/namespaces).
package namespace

import (
	"crypto/rand"
	"strings"
)

// RootID is the id of the root namespace.
const RootID = "root"

// A Namespace is immutable.
type Namespace struct {
	ID       string // short, unique; part of the tokens of other namespaces than the root
	UUID     string // shown beside the id; nothing refers to it
	Path     string // canonical: "" for the root, else "a/b/"
	ParentID string // "" of the root
	Metadata map[string]string
	Locked   bool // its API is closed by an administrator

	lockHash []byte
	ending   bool // deleted; what it held is being removed
}

var root = &Namespace{ID: RootID}

// Root is the root namespace.
func Root() *Namespace { return root }

// IsRoot reports whether n is the root namespace.
func (n *Namespace) IsRoot() bool { return n.ID == RootID }

// Name is the last part of the path.
func (n *Namespace) Name() string {
	path := strings.TrimSuffix(n.Path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// Below returns the path of n relative to above, and whether n is above or lies
// below it.
func (n *Namespace) Below(above *Namespace) (rel string, ok bool) {
	return strings.CutPrefix(n.Path, above.Path)
}

const (
	idLength = 6 // of base62: tokens and accessors carry it
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

func newID() string {
	out := make([]byte, 0, idLength)
	for len(out) < idLength {
		var b [16]byte
		rand.Read(b[:])
		for _, c := range b {
			if int(c) < 256-256%len(base62) && len(out) < idLength {
				out = append(out, base62[int(c)%len(base62)])
			}
		}
	}
	return string(out)
}

// ValidID reports whether id has the form of a namespace's id. What a token or
// accessor names comes from outside and becomes part of storage keys, so that
// this must be asked before anything is looked up; it does not say that there is
// such a namespace.
func ValidID(id string) bool {
	if id == RootID {
		return true
	}
	if len(id) != idLength {
		return false
	}
	for i := range len(id) {
		if strings.IndexByte(base62, id[i]) < 0 {
			return false
		}
	}
	return true
}

// Prefix is where the keys of namespace id begin in the store.
func Prefix(id string) string { return "n/" + id + "/" }

// Canonical turns what clients send ("a/b", "/a/b/", "root") into the stored
// form: "" or "a/b/".
func Canonical(path string) string {
	path = strings.Trim(path, "/")
	if path == "" || path == "root" {
		return ""
	}
	return path + "/"
}
