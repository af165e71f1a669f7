// Package namespace names the spaces that share a server without seeing one
// another: everything that belongs to a namespace lies under its id in storage.
//
// The root namespace always exists. Its id is "root" and its path is empty.
package namespace

import "strings"

// RootID is the id of the root namespace.
const RootID = "root"

// A Namespace is immutable.
type Namespace struct {
	ID   string // short, unique for ever; part of the tokens of other namespaces
	Path string // canonical: "" for the root, else "a/b/"
}

var root = &Namespace{ID: RootID}

// Root is the root namespace.
func Root() *Namespace { return root }

// IsRoot reports whether n is the root namespace.
func (n *Namespace) IsRoot() bool { return n.ID == RootID }

// Known returns the id of the namespace that a token or accessor names, if
// there is such a namespace. What it names comes from outside and becomes part
// of a storage key, so it must be checked before anything is looked up. Other
// namespaces than the root come with their API.
func Known(id string) (string, bool) {
	if id == RootID {
		return RootID, true
	}
	return "", false
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
