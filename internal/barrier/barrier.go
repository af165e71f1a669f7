// Package barrier keeps everything in storage encrypted: nothing behind it can
// be read, altered or moved to another place without the keyring's keys.
//
// New wraps a storage backend. A value is encrypted with AES-256-GCM under the
// newest term of a Keyring, with its storage key as additional data; a header
// names the term, so that older values stay readable after a rotation. Keys
// are stored as they are: they hold no secrets. What storage.Op.Wrap asks for is
// encrypted under the seal-wrap keyring before (wrap.go).
//
// The clear area, the keys under ClearPrefix, is out of reach behind the
// barrier. It holds what unsealing needs, and belongs to package seal.
//
// DESIGN.md beside this file tells the invariants and their reasons.
package barrier

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"arca/internal/errs"
	"arca/internal/storage"
)

// ClearPrefix begins the keys of the clear area.
const ClearPrefix = "seal/"

// afterClear is the first key behind the clear area.
var afterClear = []byte("seal0")

// New returns b seen through the barrier. Reads fail with ErrSealed once ring
// is wiped, and writes with an error that matches storage.ErrNotApplied, too.
// Closing it closes b.
func New(b storage.Backend, ring *Keyring) storage.Backend {
	bar := &barrier{backend: b}
	bar.reader = reader{inner: b, ring: ring, names: &sync.Pool{New: func() any { return new([]byte) }}}
	return bar
}

type barrier struct {
	reader
	backend storage.Backend
}

// Snapshot returns the present state, decrypted as it is read.
func (b *barrier) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	s, err := b.backend.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	r := b.reader
	r.inner = s
	return &snapshot{reader: r, inner: s}, nil
}

// Apply encrypts the values of the batch, all in one piece of memory, and
// passes it on.
func (b *barrier) Apply(ctx context.Context, batch storage.Batch) error {
	return b.ApplyShow(ctx, batch, func() error { return nil })
}

var _ storage.Shower = (*barrier)(nil)

// ApplyShow implements storage.Shower.
func (b *barrier) ApplyShow(ctx context.Context, batch storage.Batch, show func() error) error {
	size, longest := 0, 0
	for i := range batch {
		op := &batch[i]
		if inClear(op.Key) {
			return errs.New(errs.Internal, "write to %q behind the barrier: %w", op.Key, storage.ErrNotApplied)
		}
		if op.Kind == storage.Put {
			size += len(op.Value) + overhead
			if op.Wrap {
				size += overhead
			}
			longest = max(longest, len(op.Key))
		}
	}
	out := make(storage.Batch, 0, len(batch))
	slab := make([]byte, 0, size)
	name := make([]byte, 0, longest)
	for _, op := range batch {
		switch {
		case op.Kind == storage.Put:
			at := len(slab)
			name = append(name[:0], op.Key...)
			next, err := b.ring.appendOp(slab, name, &op)
			if err != nil {
				return errs.New(errs.KindOf(err), "%s: %w", err.Error(), storage.ErrNotApplied)
			}
			slab = next
			op.Value, op.Wrap = slab[at:len(slab):len(slab)], false
			out = append(out, op)
		case op.Kind == storage.DeletePrefix && strings.HasPrefix(ClearPrefix, op.Key):
			out = deleteBeside(out, op.Key)
		default:
			out = append(out, op)
		}
	}
	return storage.ApplyShow(ctx, b.backend, out, show)
}

// deleteBeside appends what deletes all keys that begin with prefix but those
// of the clear area, which begin with prefix, too: at each letter of
// ClearPrefix, whatever goes on otherwise. It takes over a thousand operations.
func deleteBeside(batch storage.Batch, prefix string) storage.Batch {
	for at := len(prefix); at < len(ClearPrefix); at++ {
		if at > 0 {
			batch = append(batch, storage.Op{Kind: storage.Delete, Key: ClearPrefix[:at]})
		}
		for c := range 256 {
			own := at == 0 && (c == 0 || c == 0xff) // the backend's own keys
			if byte(c) != ClearPrefix[at] && !own {
				batch = append(batch, storage.Op{Kind: storage.DeletePrefix, Key: ClearPrefix[:at] + string([]byte{byte(c)})})
			}
		}
	}
	return batch
}

// Close closes the backend.
func (b *barrier) Close() error { return b.backend.Close() }

type snapshot struct {
	reader
	inner storage.Snapshot
}

func (s *snapshot) Close() error { return s.inner.Close() }

// reader decrypts what inner holds.
type reader struct {
	inner storage.Reader
	ring  *Keyring
	names *sync.Pool // of *[]byte, for the additional data of a Get
}

func (r *reader) Get(ctx context.Context, key string) ([]byte, error) {
	if inClear(key) {
		return nil, errs.New(errs.Internal, "read of %q behind the barrier", key)
	}
	record, err := r.inner.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	name := r.names.Get().(*[]byte)
	*name = append((*name)[:0], key...)
	value, err := r.ring.openRecord(*name, record)
	r.names.Put(name)
	return value, err
}

func (r *reader) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	if inClear(o.Prefix) {
		return nil, errs.New(errs.Internal, "scan of %q behind the barrier", o.Prefix)
	}
	it, err := r.inner.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	return &iterator{Iterator: it, ring: r.ring}, nil
}

// iterator decrypts a value only when asked for it, and passes over the clear
// area.
type iterator struct {
	storage.Iterator
	ring *Keyring
}

func (it *iterator) Next() bool { return it.skip(it.Iterator.Next()) }

func (it *iterator) Seek(key []byte) bool { return it.skip(it.Iterator.Seek(key)) }

func (it *iterator) skip(found bool) bool {
	if found && bytes.HasPrefix(it.Key(), []byte(ClearPrefix)) {
		return it.Iterator.Seek(afterClear)
	}
	return found
}

func (it *iterator) Value() ([]byte, error) {
	record, err := it.Iterator.Value()
	if err != nil {
		return nil, err
	}
	return it.ring.openRecord(it.Key(), record)
}

func inClear(key string) bool { return strings.HasPrefix(key, ClearPrefix) }
