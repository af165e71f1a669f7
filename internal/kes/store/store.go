// Package store is what KES asks of a key store: a few calls on small named
// values. Below it are the stores; each passes storetest.TestStore.
//
// A store keeps bytes and knows nothing of keys. Create is atomic where the
// store can make it so: of several creations of one name, on one server or many,
// one succeeds.
package store

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"
)

// A Store keeps named values. Its methods are safe for concurrent use.
type Store interface {
	// Status returns how long the store took to answer. ErrUnreachable, or an
	// *UnreachableError, when it did not.
	Status(ctx context.Context) (time.Duration, error)
	// Create keeps the value unless there is one of that name: ErrExists.
	Create(ctx context.Context, name string, value []byte) error
	// Set keeps the value, whatever there is. For migration only.
	Set(ctx context.Context, name string, value []byte) error
	// Get returns a value, or ErrNotFound.
	Get(ctx context.Context, name string) ([]byte, error)
	// Delete removes a value. ErrNotFound where the store can tell.
	Delete(ctx context.Context, name string) error
	// List returns up to n names that begin with prefix, from a name on, in the
	// order of their bytes, and the name after the last of them, if any.
	List(ctx context.Context, prefix, from string, n int) (names []string, next string, err error)
	// String tells where the store is, without secrets, for the banner.
	String() string
	// Close ends what the store has running.
	Close() error
}

// Errors that stores return. Everything else means that the store failed.
var (
	ErrExists   = errors.New("key already exists")
	ErrNotFound = errors.New("key does not exist")
)

// An UnreachableError says that a store cannot be reached, or is sealed.
type UnreachableError struct{ Err error }

// Error returns the cause.
func (e *UnreachableError) Error() string { return "key store unreachable: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// IsUnreachable reports whether an error says that the store cannot be reached.
func IsUnreachable(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u)
}

// MaxNames is how many names a store that has no pages of its own is asked for in
// one listing; what goes on beyond does not end.
const MaxNames = 2_000_000

// maxName is longer than the name of any key, in bytes.
const maxName = 255

// Page cuts a page out of all names of a store that cannot do so itself. It
// sorts names in place.
func Page(names []string, prefix, from string, n int) ([]string, string) {
	names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, prefix) || s < from })
	sort.Strings(names)
	names = slices.Compact(names)
	if len(names) <= n {
		return names, ""
	}
	return names[:n], names[n]
}

// Add appends a name that a store has told, unless it can be none.
func Add(names []string, name string) []string {
	if name == "" || len(name) > maxName {
		return names
	}
	return append(names, strings.Clone(name)) // not all of the answer
}

// A Pager gathers a page of a store that tells its names in any order, and has no
// pages of its own. However many there are, it keeps twice the page at most.
type Pager struct {
	prefix, from string
	n            int
	names        []string
	bound        string // once there are enough: none from here on can be in the page
	seen         int
}

// NewPager makes a pager for up to n names that begin with prefix, from a name on.
func NewPager(prefix, from string, n int) *Pager { return &Pager{prefix: prefix, from: from, n: n} }

// Add takes a name that the store has told; what can be none, or not in the page, is
// left out.
func (p *Pager) Add(name string) {
	p.seen++
	switch {
	case name == "", len(name) > maxName, !strings.HasPrefix(name, p.prefix), name < p.from, p.bound != "" && name >= p.bound:
		return
	}
	p.names = append(p.names, strings.Clone(name)) // not all of an answer
	if len(p.names) >= 2*(p.n+1) {
		p.cut()
	}
}

// cut keeps the page, and the name after it.
func (p *Pager) cut() {
	sort.Strings(p.names)
	p.names = slices.Compact(p.names)
	if len(p.names) > p.n {
		clear(p.names[p.n+1:])
		p.names = p.names[:p.n+1]
		p.bound = p.names[p.n]
	}
}

// Seen returns how many names were added, to bound a store that does not end.
func (p *Pager) Seen() int { return p.seen }

// Page returns the page in the order of bytes, and the name after it, if any.
func (p *Pager) Page() (names []string, next string) {
	p.cut()
	if len(p.names) > p.n {
		return p.names[:p.n], p.names[p.n]
	}
	return p.names, ""
}
