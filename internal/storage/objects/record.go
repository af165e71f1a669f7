package objects

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
)

// A record of the log is
//
//	"arca log 1\n" | random (16 bytes) | those of the record before it (16) | kind (1) | length of the fence | fence | contents
//
// A batch's contents are its operations, and its fence is the claim under which it was written: a batch under another
// claim than the last before it is void. A claim's contents are JSON, and its fence is its id. The random bytes tell a
// writer that a record is its own, and a reader that a record follows the one before it.
const (
	recordMagic = "arca log 1\n"

	batchKind = 'b'
	claimKind = 'c'
)

// A tag is a record's random bytes.
type tag [16]byte

type record struct {
	tag, after tag
	kind       byte
	fence      string
	claim      claim         // of a claim
	ops        storage.Batch // of a batch
}

// A claim is who may write.
type claim struct {
	ID    string        `json:"id"`
	Value string        `json:"value"`
	TTL   time.Duration `json:"ttl"`
}

func head(after tag, kind byte, fence string, room int) []byte {
	var own tag
	_, _ = rand.Read(own[:]) // never fails
	b := make([]byte, 0, len(recordMagic)+2*len(own)+1+binary.MaxVarintLen64+len(fence)+room)
	b = append(append(append(b, recordMagic...), own[:]...), after[:]...)
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(fence)))
	return append(b, fence...)
}

// tagOf is that of a record that was encoded here.
func tagOf(body []byte) tag { return tag(body[len(recordMagic):]) }

func encodeBatch(after tag, fence string, ops storage.Batch) []byte {
	return ops.AppendTo(head(after, batchKind, fence, ops.EncodedSize()))
}

func encodeClaim(after tag, c claim) []byte {
	text, _ := json.Marshal(c) // texts and a number always encode
	return append(head(after, claimKind, c.ID, len(text)), text...)
}

var errRecord = errs.New(errs.Failed, "a record of the log is damaged, or was written by a newer version of arca")

func decodeRecord(data []byte) (*record, error) {
	data, ok := bytes.CutPrefix(data, []byte(recordMagic))
	r := &record{}
	if !ok || len(data) < len(r.tag)+len(r.after)+1 {
		return nil, errRecord
	}
	r.tag, data = tag(data), data[len(r.tag):]
	r.after, data = tag(data), data[len(r.after):]
	r.kind = data[0]
	fence, rest, ok := storage.CutField(data[1:])
	if !ok {
		return nil, errRecord
	}
	r.fence = string(fence)
	var err error
	switch r.kind {
	case batchKind:
		r.ops, err = storage.DecodeBatch(rest, nil)
	case claimKind:
		if json.Unmarshal(rest, &r.claim) != nil || r.claim.ID != r.fence || r.claim.TTL < 0 {
			err = errRecord
		}
	default:
		err = errRecord
	}
	return r, err
}

// batchOf is what a write does, as operations in order.
func batchOf(w *remote.Write) storage.Batch {
	b := make(storage.Batch, 0, len(w.Prefixes)+len(w.Puts)+len(w.Deletes))
	for _, p := range w.Prefixes {
		b = append(b, storage.Op{Kind: storage.DeletePrefix, Key: p})
	}
	for _, e := range w.Puts {
		b = append(b, storage.Op{Kind: storage.Put, Key: e.Key, Value: e.Value})
	}
	for _, key := range w.Deletes {
		b = append(b, storage.Op{Kind: storage.Delete, Key: key})
	}
	return b
}
