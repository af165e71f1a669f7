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
// with numbers big-endian, and the operations as storage.Batch.AppendTo writes them.
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
	maxEntryBytes   = 60 << 20 // what one entry of the log may take in memory
	errEntryTooLong = "one write has %d bytes, and the raft log takes at most %d in one entry"
)

func (p proposal) encode(ops storage.Batch) ([]byte, error) {
	size := entryHeader + ops.EncodedSize()
	if size > maxEntryBytes {
		return nil, errs.New(errs.TooLarge, errEntryTooLong, size, maxEntryBytes)
	}
	b := make([]byte, 0, size)
	b = append(b, entryVersion)
	b = binary.BigEndian.AppendUint64(b, p.by)
	b = binary.BigEndian.AppendUint64(b, p.number)
	b = binary.BigEndian.AppendUint64(b, p.after)
	return ops.AppendTo(b), nil
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
	ops, err := storage.DecodeBatch(data[entryHeader:], ops)
	if err != nil {
		return entry{}, err
	}
	e.ops = ops
	return e, nil
}
