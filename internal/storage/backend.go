package storage

import (
	"context"

	"arca/internal/errs"
)

// Errors that callers may match with errors.Is.
var (
	// ErrNotFound says that a key does not exist.
	ErrNotFound error = errs.New(errs.NotFound, "no such key")
	// ErrReadOnly says that a View tried to write.
	ErrReadOnly error = errs.New(errs.NotActive, "this transaction may only read")
	// ErrClosed says that the DB is closed, or the transaction has ended.
	ErrClosed error = errs.New(errs.Unavailable, "storage is closed")
	// ErrConflict says that another commit changed what an UpdateOnce had read. Nothing was written.
	ErrConflict error = errs.New(errs.Conflict, "changed by another request at the same time; try again")
	// ErrUncertain says that a commit was under way when the caller stopped waiting or the backend failed: it may or
	// may not have happened.
	ErrUncertain error = errs.New(errs.Unavailable, "the outcome of this write is not known")
	// ErrNotApplied is wrapped by a Backend's Apply to say that certainly nothing was written, now or later. The DB
	// then fails the transactions concerned and goes on; after any other error it fails closed.
	ErrNotApplied error = errs.New(errs.Unavailable, "nothing was written")
)

// An Entry is a key and its value.
type Entry struct {
	Key   string
	Value []byte
}

// A Reader reads keys in byte order.
type Reader interface {
	// Get returns the value of key or ErrNotFound. The slice is the caller's own.
	Get(ctx context.Context, key string) ([]byte, error)
	// Scan returns an iterator over a consistent state of the keys that o selects, before the first of them.
	Scan(ctx context.Context, o ScanOptions) (Iterator, error)
}

// ScanOptions select what a Scan goes over.
type ScanOptions struct {
	Prefix   string // only keys that begin so
	From     string // only keys not before this one; "" for all
	KeysOnly bool   // Value will not be called: a backend need not fetch or decrypt
}

// An Iterator goes forward over a Scan's keys. It is not safe for concurrent use.
type Iterator interface {
	// Next moves to the next key, at first to the first, and reports whether there is one.
	Next() bool
	// Seek moves to the first key not before key and reports whether there is one. It is only used forward.
	Seek(key []byte) bool
	// Key returns the current key, valid until the iterator moves.
	Key() []byte
	// Value returns the current value. The slice is the caller's own.
	Value() ([]byte, error)
	// Err returns the error that ended the iteration, if one did.
	Err() error
	Close() error
}

// A Snapshot is an unchanging state. It must be closed. Iterators made from it may outlive it. It is safe for concurrent
// use.
type Snapshot interface {
	Reader
	Close() error
}

// A Backend holds keys and values durably. It is safe for concurrent use, except that there is one Apply at a time.
// There is one optional power, Shower, so that a wrapper loses none: a store without snapshots is lifted by WithSnapshots.
//
// Keys are not empty and begin with neither 0x00 nor 0xFF: these are the backend's own, and a Scan does not show them.
type Backend interface {
	Reader
	// Snapshot returns the present state: all batches whose Apply has returned, and none that has not begun.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Apply does all of the batch in its order, or nothing, and returns when that is durable. An error that wraps
	// ErrNotApplied means nothing; any other error leaves open which. The backend does not keep the batch.
	Apply(ctx context.Context, b Batch) error
	// Close releases the backend. Snapshots and iterators must be closed before.
	Close() error
}

// A Shower is a Backend that other nodes share. They may show a batch to their readers before Apply returns here; whoever
// asks here after that must see it, too.
type Shower interface {
	// ApplyShow is Apply, and calls show when the batch is in the state, before it lets anybody on who waits for that. An
	// error of show is returned.
	ApplyShow(ctx context.Context, b Batch, show func() error) error
}

// ApplyShow applies to a backend, and calls show when the batch is in the state. Wrappers of a Backend hand the power on
// with it.
func ApplyShow(ctx context.Context, to Backend, b Batch, show func() error) error {
	if s, ok := to.(Shower); ok {
		return s.ApplyShow(ctx, b, show)
	}
	if err := to.Apply(ctx, b); err != nil {
		return err
	}
	return show()
}

// An OpKind says what an Op does.
type OpKind uint8

// The kinds of Op.
const (
	Put          OpKind = iota + 1 // set Key to Value
	Delete                         // remove Key if it exists
	DeletePrefix                   // remove every key that begins with Key; "" means all
)

// An Op is one step of a Batch.
type Op struct {
	Kind OpKind
	// Wrap says of a Put that the value is to be wrapped by the seal. It is for the barrier, and below that it is not set.
	Wrap  bool
	Key   string
	Value []byte // only for Put; not to be modified
}

// A Batch is what one Apply does, in order: a later Op wins.
type Batch []Op

// prefixEnd returns the first key after all that begin with prefix, or "" when there is none.
func prefixEnd(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}
