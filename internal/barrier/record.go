package barrier

import (
	"encoding/binary"
	"slices"
	"time"

	"arca/internal/errs"
)

// RecordKey is where a keyring's record lies, in the clear area; the record is
// encrypted under the root key and bound to this name.
const RecordKey = ClearPrefix + "keyring"

// The plain form of a keyring's record, in big endian:
//
//	version (1) | secret (32) | rotation: disabled (1), operations (8), interval (8)
//	| number of terms (4) | per term: number (4), installed in Unix ns (8), count (8), key (32)
//
// It is written by hand, not by an encoder whose buffers would keep the keys.
const (
	ringVersion   = 1
	ringHeadBytes = 1 + KeyBytes + 1 + 8 + 8 + 4
	ringTermBytes = 4 + 8 + 8 + KeyBytes
)

// record encodes k under root, bound to label. Whoever calls it keeps the keys from being wiped.
func (k *keys) record(root Key, label string) ([]byte, error) {
	be := binary.BigEndian
	b := make([]byte, 0, ringHeadBytes+len(k.terms)*ringTermBytes)
	b = append(b, ringVersion)
	b = append(b, k.secret...)
	var disabled byte
	if k.rotation.Disabled {
		disabled = 1
	}
	b = append(b, disabled)
	b = be.AppendUint64(b, uint64(k.rotation.MaxOperations))
	b = be.AppendUint64(b, uint64(k.rotation.Interval))
	b = be.AppendUint32(b, uint32(len(k.terms)))
	for _, t := range k.terms {
		b = be.AppendUint32(b, t.id)
		b = be.AppendUint64(b, uint64(t.installed.UnixNano()))
		b = be.AppendUint64(b, t.count.Load())
		b = append(b, t.key...)
	}
	defer clear(b)
	return Wrap(root, label, b)
}

// OpenKeyring decodes a record that a Draft made under root. The error is
// Failed when root is not its key or the record is damaged.
func OpenKeyring(record []byte, root Key) (*Keyring, error) { return openRing(record, root, RecordKey) }

func openRing(record []byte, root Key, label string) (*Keyring, error) {
	k, err := decodeRecord(record, root, label)
	if err != nil {
		return nil, err
	}
	r := &Keyring{label: label}
	r.keys.Store(k)
	return r, nil
}

var errRing error = errs.New(errs.Failed, "the keyring's record is damaged, or not encrypted under this root key")

func decodeRecord(record []byte, root Key, label string) (*keys, error) {
	b, err := Unwrap(root, label, record)
	if err != nil {
		return nil, errRing
	}
	defer clear(b)
	return decodeKeys(b)
}

func decodeKeys(b []byte) (*keys, error) {
	be := binary.BigEndian
	if len(b) < ringHeadBytes {
		return nil, errRing
	}
	if b[0] != ringVersion {
		return nil, errs.New(errs.Failed, "the keyring's record has version %d, which this release does not know", b[0])
	}
	k := &keys{secret: slices.Clone(Key(b[1 : 1+KeyBytes]))}
	b = b[1+KeyBytes:]
	k.rotation = Rotation{
		Disabled:      b[0] != 0,
		MaxOperations: int64(be.Uint64(b[1:])),
		Interval:      time.Duration(be.Uint64(b[9:])),
	}
	n := int64(be.Uint32(b[17:]))
	b = b[21:]
	if n == 0 || int64(len(b)) != n*ringTermBytes {
		return nil, errRing
	}
	k.terms = make([]*term, n)
	for i := range k.terms {
		id, at, count := be.Uint32(b), int64(be.Uint64(b[4:])), be.Uint64(b[12:])
		if i > 0 && id <= k.terms[i-1].id {
			return nil, errRing
		}
		t, err := newTerm(id, slices.Clone(Key(b[20:ringTermBytes])), time.Unix(0, at))
		if err != nil {
			return nil, err
		}
		t.count.Store(count)
		t.saved.Store(count)
		k.terms[i] = t
		b = b[ringTermBytes:]
	}
	return k, nil
}

// Wrap encrypts plaintext under key with AES-256-GCM, bound to label.
func Wrap(key Key, label string, plaintext []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal([]byte{recordVersion}, nil, plaintext, []byte(label)), nil
}

// Unwrap decrypts what Wrap made. The error is ErrUnwrap when key or label is
// another, or the bytes were altered.
func Unwrap(key Key, label string, wrapped []byte) ([]byte, error) {
	if len(key) != KeyBytes || len(wrapped) == 0 || wrapped[0] != recordVersion {
		return nil, ErrUnwrap
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, wrapped[1:], []byte(label))
	if err != nil {
		return nil, ErrUnwrap
	}
	return plain, nil
}

// Rewrap encrypts under another key what Wrap made under from. The error is ErrUnwrap as that of Unwrap.
func Rewrap(from, to Key, label string, wrapped []byte) ([]byte, error) {
	plain, err := Unwrap(from, label, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return Wrap(to, label, plain)
}

// ErrUnwrap says that a wrapped key cannot be opened with the key given.
var ErrUnwrap error = errs.New(errs.Invalid, "cipher: message authentication failed")
