package keyring

import (
	"crypto"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/storage"
)

// How keys and versions are kept. Records of form 1 are JSON, and have every version's
// material at v/. They are read, and written no more. Those of form 2 begin with a byte 2,
// and have then, as varints and byte strings with their length before them,
//
//	of a version   spec, body
//	of a key       spec, flags, latest, least versions to decrypt, encrypt and be there,
//	               period, created, rotated, number of marks, and of each name and value;
//	               0, or 1 and the body of the newest version
//
//	a spec is      number of the type, size, parameter set, number of the curve
//	a body is      created, secret, public, HMAC key, second secret, second public;
//	               0, or 1 and identifier, name and hash of a managed key;
//	               number of certificates, and each
//	a time is      seconds since 1970, nanoseconds
const (
	jsonForm   = 1
	binaryForm = 2
)

// typeNumbers are the types by their numbers in records, from 1 on: new ones come at the end.
var typeNumbers = [...]Type{
	AES128GCM, AES256GCM, ChaCha20, XChaCha20, Ed25519, ECDSAP256, ECDSAP384, ECDSAP521, RSA2048, RSA3072, RSA4096,
	HMAC, CMAC128, CMAC192, CMAC256, MLDSA, Hybrid, MLKEM768, MLKEM1024, MLKEMX25519, Managed,
}

func numberOf(t Type) uint64 { return uint64(1 + slices.Index(typeNumbers[:], t)) }

// flags are what is true or not of a key, in the order of their bits.
func (k *Key) flags() [8]*bool {
	return [...]*bool{
		&k.Derived, &k.Convergent, &k.Exportable, &k.BackupAllowed, &k.DeletionAllowed, &k.SoftDeleted, &k.Imported, &k.RotationAllowed,
	}
}

func (k *Key) encode() []byte {
	b := appendSpec(append(make([]byte, 0, 256), binaryForm), &k.Spec)
	set := uint64(0)
	for i, f := range k.flags() {
		if *f {
			set |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, set)
	for _, n := range []int{k.Latest, k.MinDecryption, k.MinEncryption, k.MinAvailable} {
		b = binary.AppendVarint(b, int64(n))
	}
	b = appendTime(appendTime(binary.AppendVarint(b, int64(k.AutoRotate)), k.Created), k.Rotated)
	b = binary.AppendUvarint(b, uint64(len(k.Meta)))
	for _, name := range slices.Sorted(maps.Keys(k.Meta)) {
		b = appendField(appendField(b, name), k.Meta[name])
	}
	newest := k.newest.get()
	if newest == nil {
		return append(b, 0)
	}
	return appendBody(append(b, 1), newest.stored())
}

func (s *stored) encode() []byte {
	return appendBody(appendSpec(append(make([]byte, 0, 256), binaryForm), &s.Spec), s)
}

func appendField[T string | []byte](b []byte, field T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

func appendSpec(b []byte, s *Spec) []byte {
	b = binary.AppendUvarint(b, numberOf(s.Type))
	b = binary.AppendVarint(b, int64(s.SizeBytes))
	return binary.AppendUvarint(appendField(b, s.ParameterSet), numberOf(s.EC))
}

func appendBody(b []byte, s *stored) []byte {
	b = appendTime(b, s.Created)
	for _, part := range [][]byte{s.Secret, s.Public, s.HMAC, s.SecondSecret, s.SecondPublic} {
		b = appendField(b, part)
	}
	if o := s.Outside; o == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(appendField(appendField(append(b, 1), o.ID), o.Ref), uint64(o.OAEP))
	}
	b = binary.AppendUvarint(b, uint64(len(s.Chain)))
	for _, cert := range s.Chain {
		b = appendField(b, cert)
	}
	return b
}

// A reader takes a record apart. After the first thing that is not as it should be, bad is
// true, and all that is read is nothing.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = nil, true }

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// field is a part of the record; nil where it is empty.
func (r *reader) field() []byte {
	out, rest, ok := storage.CutField(r.rest)
	if !ok {
		r.fail()
		return nil
	}
	if r.rest = rest; len(out) == 0 {
		return nil
	}
	return out[:len(out):len(out)]
}

// yes reads a byte that is 0 or 1.
func (r *reader) yes() bool {
	n := r.number()
	if n > 1 {
		r.fail()
	}
	return n == 1 && !r.bad
}

// count is a number of things that take a byte or more each.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) time() time.Time {
	sec, nano := r.signed(), r.number()
	if nano >= uint64(time.Second) {
		r.fail()
	}
	return time.Unix(sec, int64(nano)).UTC()
}

func (r *reader) typ() Type {
	n := r.number()
	if n > uint64(len(typeNumbers)) {
		r.fail()
	}
	if n == 0 || r.bad {
		return ""
	}
	return typeNumbers[n-1]
}

func (r *reader) spec() Spec {
	return Spec{Type: r.typ(), SizeBytes: int(r.signed()), ParameterSet: string(r.field()), EC: r.typ()}
}

// body reads a version's, whose fields are then parts of the record.
func (r *reader) body(spec Spec) *stored {
	s := &stored{Form: jsonForm, Spec: spec, Created: r.time()}
	for _, part := range []*[]byte{&s.Secret, &s.Public, &s.HMAC, &s.SecondSecret, &s.SecondPublic} {
		*part = r.field()
	}
	if r.yes() {
		s.Outside = &Outside{ID: string(r.field()), Ref: string(r.field()), OAEP: crypto.Hash(r.number())}
	}
	if n := r.count(); n > 0 {
		s.Chain = make([][]byte, n)
		for i := range s.Chain {
			s.Chain[i] = r.field()
		}
	}
	return s
}

// binaryRecord reads what is behind the number of the form.
func binaryRecord(record []byte) *reader {
	if len(record) == 0 || record[0] != binaryForm {
		return &reader{bad: true}
	}
	return &reader{rest: record[1:]}
}

func isJSON(record []byte) bool { return len(record) > 0 && record[0] == '{' }

func parseKey(record []byte) (k *Key, ok bool) {
	k = &Key{}
	if isJSON(record) {
		return k, json.Unmarshal(record, k) == nil && k.Form == jsonForm
	}
	r := binaryRecord(record)
	k.Form, k.Spec = jsonForm, r.spec()
	set := r.number()
	for i, f := range k.flags() {
		*f = set>>i&1 == 1
	}
	for _, n := range []*int{&k.Latest, &k.MinDecryption, &k.MinEncryption, &k.MinAvailable} {
		*n = int(r.signed())
	}
	k.AutoRotate, k.Created, k.Rotated = time.Duration(r.signed()), r.time(), r.time()
	if n := r.count(); n > 0 {
		k.Meta = make(map[string]string, n)
		for range n {
			name := string(r.field())
			k.Meta[name] = string(r.field())
		}
	}
	if r.yes() {
		v, err := newVersion(k.Latest, r.body(k.Spec))
		k.newest = hold(v)
		r.bad = r.bad || err != nil || k.Latest < 1
	}
	return k, !r.bad && len(r.rest) == 0 && set < 1<<len(k.flags())
}

func parseVersion(record []byte) (s *stored, ok bool) {
	if isJSON(record) {
		s = &stored{}
		return s, json.Unmarshal(record, s) == nil && s.Form == jsonForm
	}
	r := binaryRecord(record)
	s = r.body(r.spec())
	return s, !r.bad && len(r.rest) == 0
}

// decodeKey decodes a key, and tells about how much memory it takes. What is wrong with a
// record is not told: it could quote a secret.
func decodeKey(at string, record []byte) (*Key, int, error) {
	k, ok := parseKey(record)
	if !ok {
		return nil, 0, fmt.Errorf("the key record %q cannot be decoded", at)
	}
	k.Name = at[strings.LastIndexByte(at, '/')+1:]
	size := len(record) + keyBytes
	if k.newest != nil {
		size += versionBytes
	}
	return k, size, nil
}

func decodeStored(at string, record []byte) (n int, s *stored, err error) {
	s, ok := parseVersion(record)
	if !ok {
		return 0, nil, fmt.Errorf("the version record %q cannot be decoded", at)
	}
	number, err := strconv.ParseUint(at[strings.LastIndexByte(at, '/')+1:], 16, 31)
	if err != nil {
		return 0, nil, fmt.Errorf("bad version key %q", at)
	}
	return int(number), s, nil
}

func decodeVersion(at string, record []byte) (*Version, int, error) {
	n, s, err := decodeStored(at, record)
	if err != nil {
		return nil, 0, err
	}
	v, err := newVersion(n, s)
	if err != nil {
		return nil, 0, fmt.Errorf("the version record %q: %w", at, err)
	}
	size := len(record) + versionBytes
	if !s.Type.Symmetric() {
		size += 3 * len(record) // tables of private keys
	}
	return v, size, nil
}

// What they take in memory, beside their records (TestMemory): of a version, most is the
// tables of its cipher.
const (
	keyBytes     = 512
	versionBytes = 1536
)
