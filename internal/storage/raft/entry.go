package raft

import (
	"encoding/binary"

	"arca/internal/errs"
	"arca/internal/storage"
)

// An entry of the log is one batch:
//
//	version (1 byte) | who proposed it (8) | number of the proposal (8) | the batch before it (8) | operations
//
// with numbers big-endian, and each operation
//
//	kind (1 byte) | length of the key | key | for a Put: length of the value | value
//
// with lengths as unsigned varints.
//
// The batch before, by its index in the log, is a fence: an entry is void, on every node alike, unless the last batch that
// was applied is the one that its proposer had seen last. So nothing that was checked against an older state ever comes
// in, whatever a proposer believes of its leadership, and however late an entry reaches the log.
type entry struct {
	proposal
	ops storage.Batch
}

// A proposal names an entry.
type proposal struct {
	by, number, after uint64
}

const (
	entryVersion    = 1
	entryHeader     = 1 + 3*8
	mostPerOp       = 1 + 2*binary.MaxVarintLen32
	maxEntryBytes   = 60 << 20 // below what raft-wal takes
	errEntryTooLong = "one write has %d bytes, and the raft log takes at most %d in one entry"
)

func (p proposal) encode(ops storage.Batch) ([]byte, error) {
	size := entryHeader
	for i := range ops {
		size += mostPerOp + len(ops[i].Key) + len(ops[i].Value)
	}
	if size > maxEntryBytes {
		return nil, errs.New(errs.TooLarge, errEntryTooLong, size, maxEntryBytes)
	}
	b := make([]byte, 0, size)
	b = append(b, entryVersion)
	b = binary.BigEndian.AppendUint64(b, p.by)
	b = binary.BigEndian.AppendUint64(b, p.number)
	b = binary.BigEndian.AppendUint64(b, p.after)
	for i := range ops {
		op := &ops[i]
		b = append(b, byte(op.Kind))
		b = binary.AppendUvarint(b, uint64(len(op.Key)))
		b = append(b, op.Key...)
		if op.Kind == storage.Put {
			b = binary.AppendUvarint(b, uint64(len(op.Value)))
			b = append(b, op.Value...)
		}
	}
	return b, nil
}

var errEntry = errs.New(errs.Failed, "an entry of the raft log is damaged, or was written by a newer version of arca")

// decodeEntry appends the entry's operations to ops. Values share data's memory.
func decodeEntry(data []byte, ops storage.Batch) (entry, error) {
	if len(data) < entryHeader || data[0] != entryVersion {
		return entry{}, errEntry
	}
	e := entry{proposal: proposal{
		by:     binary.BigEndian.Uint64(data[1:]),
		number: binary.BigEndian.Uint64(data[9:]),
		after:  binary.BigEndian.Uint64(data[17:]),
	}}
	data = data[entryHeader:]
	for len(data) > 0 {
		op := storage.Op{Kind: storage.OpKind(data[0])}
		if op.Kind < storage.Put || op.Kind > storage.DeletePrefix {
			return entry{}, errEntry
		}
		key, rest, ok := cut(data[1:])
		if !ok || ownKey(key) {
			return entry{}, errEntry
		}
		op.Key = string(key)
		if op.Kind == storage.Put {
			if op.Value, rest, ok = cut(rest); !ok {
				return entry{}, errEntry
			}
		}
		ops, data = append(ops, op), rest
	}
	e.ops = ops
	return e, nil
}

// cut takes a length and that many bytes off data.
func cut(data []byte) (field, rest []byte, ok bool) {
	n, used := binary.Uvarint(data)
	if used <= 0 || n > uint64(len(data)-used) {
		return nil, nil, false
	}
	end := used + int(n)
	return data[used:end:end], data[end:], true
}

// ownKey reports whether a key is one of those that the store keeps for itself.
func ownKey(key []byte) bool { return len(key) > 0 && (key[0] == 0 || key[0] == 0xff) }
