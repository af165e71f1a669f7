package barrier

import (
	"encoding/binary"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// Seal wrap: a value for which storage.Op.Wrap asks is encrypted twice, under the newest term of the seal-wrap keyring and
// what comes of that under the keyring. That one's record is encrypted under a key of its own, which the seals keep beside
// the root key: whoever has the root key or the keyring, from wherever that is, has no wrapped value yet. Each value tells
// whether it is wrapped, by its record's version, and by which term; both layers are bound to the value's place.

// WrapRecordKey is where the record of the seal-wrap keyring lies, in the clear area.
const WrapRecordKey = ClearPrefix + "wrapping"

// wrappedLabel comes before the storage key in the additional data of the outer layer of a wrapped value, so that it is
// never valid as a value that is not wrapped, and the other way round: no storage key begins with 0x00.
const wrappedLabel = "\x00wrapped\x00"

// ErrNoWrapKey says that a value is wrapped, or is to be wrapped, and that this node has not got the seal-wrap key.
var ErrNoWrapKey error = errs.New(errs.Unavailable, "this node has no seal-wrap key: no seal gives it at present")

// wrap is what a keyring has to wrap values with: immutable.
type wrap struct {
	ring *Keyring // nil: it is not at hand
	on   bool     // values are wrapped when they are written
}

// NewWrapKeyring makes a seal-wrap keyring with one new term.
func NewWrapKeyring(now time.Time) (*Keyring, error) { return makeRing(now, WrapRecordKey) }

// OpenWrapKeyring decodes the record of a seal-wrap keyring, that a Draft made under key. The error is Failed when key is not
// its key or the record is damaged.
func OpenWrapKeyring(record []byte, key Key) (*Keyring, error) {
	return openRing(record, key, WrapRecordKey)
}

// UseWrap has r wrap and unwrap values with w, which belongs to r from now on; nil is none. Where on is true values that ask
// for it are wrapped when they are written, and without w such writes fail. What is wrapped is read in any case.
func (r *Keyring) UseWrap(w *Keyring, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys.Load() == nil && w != nil { // wiped
		w.Wipe()
	}
	old := r.wrap.Swap(&wrap{ring: w, on: on})
	if old != nil && old.ring != nil && old.ring != w {
		old.ring.Wipe()
	}
}

// SetWrapping says whether values that ask for it are wrapped when they are written.
func (r *Keyring) SetWrapping(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrap.Store(&wrap{ring: r.WrapRing(), on: on})
}

// WrapRing is the seal-wrap keyring, nil where there is none. It is r's.
func (r *Keyring) WrapRing() *Keyring {
	if w := r.wrap.Load(); w != nil {
		return w.ring
	}
	return nil
}

// Wrapping reports whether values that ask for it are wrapped when they are written.
func (r *Keyring) Wrapping() bool {
	w := r.wrap.Load()
	return w != nil && w.on
}

// MayWrap is ErrNoWrapKey where values are to be wrapped and the key for that is not at hand.
func (r *Keyring) MayWrap() error {
	if w := r.wrap.Load(); w != nil && w.on && w.ring == nil {
		return ErrNoWrapKey
	}
	return nil
}

// appendOp encrypts what op puts behind dst. key is op's.
func (r *Keyring) appendOp(dst, key []byte, op *storage.Op) ([]byte, error) {
	if op.Wrap {
		if w := r.wrap.Load(); w != nil && w.on {
			return r.appendWrapped(dst, key, op.Value, w.ring)
		}
	}
	return r.appendRecord(dst, key, op.Value)
}

func (r *Keyring) appendWrapped(dst, key, value []byte, by *Keyring) ([]byte, error) {
	if by == nil {
		return nil, ErrNoWrapKey
	}
	inner, err := by.appendRecord(make([]byte, 0, len(value)+overhead), key, value)
	if err != nil {
		return nil, err
	}
	t, err := r.take()
	if err != nil {
		return nil, err
	}
	return t.append(dst, wrappedVersion, t.storage, wrappedData(key), inner), nil
}

func wrappedData(key []byte) []byte {
	return append(append(make([]byte, 0, len(wrappedLabel)+len(key)), wrappedLabel...), key...)
}

// openWrapped is openRecord for a value that is wrapped.
func (r *Keyring) openWrapped(key, record []byte) ([]byte, error) {
	inner, err := r.openOuter(key, record)
	if err != nil {
		return nil, err
	}
	by := r.WrapRing()
	if by == nil {
		return nil, ErrNoWrapKey
	}
	return by.openInner(key, inner)
}

// openOuter takes the outer layer off a wrapped value, in place: what the keyring alone gives.
func (r *Keyring) openOuter(key, record []byte) ([]byte, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	if len(record) < 2*overhead {
		return nil, damaged(key)
	}
	t := k.term(binary.BigEndian.Uint32(record[1:]))
	if t == nil {
		return nil, damaged(key)
	}
	sealed := record[headerBytes:]
	inner, err := t.storage.Open(sealed[:0], nil, sealed, wrappedData(key))
	if err != nil {
		return nil, damaged(key)
	}
	return inner, nil
}

// openInner decrypts the inner layer, in place. It is never a wrapped value itself.
func (r *Keyring) openInner(key, record []byte) ([]byte, error) {
	if len(record) > 0 && record[0] == wrappedVersion {
		return nil, damaged(key)
	}
	return r.openRecord(key, record)
}

// Unlike reports whether a stored record of a key that asks for wrapping is other than it would be written now: not wrapped
// though values are, wrapped though they are not, or wrapped under an older term. It overwrites record. Its errors are
// those of reading the value.
func (r *Keyring) Unlike(key string, record []byte) (bool, error) {
	w := r.wrap.Load()
	on := w != nil && w.on
	if len(record) == 0 || record[0] != wrappedVersion {
		return on, nil
	}
	if !on {
		return true, nil
	}
	inner, err := r.openOuter([]byte(key), record)
	if err != nil {
		return false, err
	}
	if w.ring == nil {
		return false, ErrNoWrapKey
	}
	now, err := w.ring.Info()
	if err != nil {
		return false, err
	}
	return binary.BigEndian.Uint32(inner[1:]) != now.Term, nil
}
