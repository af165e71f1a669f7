package storage

import (
	"encoding/binary"

	"arca/internal/errs"
)

// A batch in a log, of raft or in a bucket, is its operations one after the other, each
//
//	kind (1 byte) | length of the key | key | for a Put: length of the value | value
//
// with lengths as unsigned varints.

const mostPerOp = 1 + 2*binary.MaxVarintLen32

// EncodedSize is at least how many bytes AppendTo appends.
func (b Batch) EncodedSize() int {
	size := 0
	for i := range b {
		size += mostPerOp + len(b[i].Key) + len(b[i].Value)
	}
	return size
}

// AppendTo appends the batch's operations to dst.
func (b Batch) AppendTo(dst []byte) []byte {
	for i := range b {
		op := &b[i]
		dst = append(dst, byte(op.Kind))
		dst = binary.AppendUvarint(dst, uint64(len(op.Key)))
		dst = append(dst, op.Key...)
		if op.Kind == Put {
			dst = binary.AppendUvarint(dst, uint64(len(op.Value)))
			dst = append(dst, op.Value...)
		}
	}
	return dst
}

var errBatch = errs.New(errs.Failed, "a batch of the log is damaged, or was written by a newer version of arca")

// DecodeBatch appends the operations that AppendTo wrote to b. Values share data's memory. Keys that a backend keeps for itself
// are errors.
func DecodeBatch(data []byte, b Batch) (Batch, error) {
	for len(data) > 0 {
		op := Op{Kind: OpKind(data[0])}
		if op.Kind < Put || op.Kind > DeletePrefix {
			return nil, errBatch
		}
		key, rest, ok := CutField(data[1:])
		if !ok || ownKey(key) {
			return nil, errBatch
		}
		op.Key = string(key)
		if op.Kind == Put {
			if op.Value, rest, ok = CutField(rest); !ok {
				return nil, errBatch
			}
		}
		b, data = append(b, op), rest
	}
	return b, nil
}

// CutField takes a length, as an unsigned varint, and that many bytes off data.
func CutField(data []byte) (field, rest []byte, ok bool) {
	n, used := binary.Uvarint(data)
	if used <= 0 || n > uint64(len(data)-used) {
		return nil, nil, false
	}
	end := used + int(n)
	return data[used:end:end], data[end:], true
}

// ownKey reports whether a key is one of those that backends keep for themselves.
func ownKey(key []byte) bool { return len(key) > 0 && (key[0] == 0 || key[0] == 0xff) }
