package kmip

import (
	"encoding/json"
	"slices"

	"arca/internal/engine"
	"arca/internal/param"
	"arca/internal/ttlv"
)

// How the answer to a message is put together: it is written once, as bytes, and what the audit
// devices have of it is made when one asks.

// A reply is the answer to one item of a batch.
type reply struct {
	code        uint32 // of the operation
	id          []byte
	hasID       bool
	status      uint32
	fault       *fault     // why it failed; nil when it did not
	correlation []byte     // by which the answer is asked for later; nil for one that is there
	payload     *ttlv.Node // nil for none
}

func (it *item) reply(status uint32) reply {
	return reply{code: it.code, id: it.id, hasID: it.hasID, status: status}
}

// done is the answer to an item that succeeded; payload may be nil.
func (it *item) done(payload *ttlv.Node) reply {
	r := it.reply(ttlv.ResultStatusSuccess)
	r.payload = payload
	return r
}

// failed is the answer to an item that did not.
func (it *item) failed(f *fault) reply {
	r := it.reply(ttlv.ResultStatusOperationFailed)
	r.fault = f
	return r
}

// Sizes of what is encoded, in bytes, with the header of each.
const (
	fixedSize  = ttlv.HeaderBytes + 8
	headerSize = ttlv.HeaderBytes + ttlv.HeaderBytes + 2*fixedSize + fixedSize + fixedSize // Response Header without the correlation values
)

func bytesSize[T string | []byte](v T) int { return ttlv.HeaderBytes + (len(v)+7)&^7 }

// size is how many bytes the reply has in the answer.
func (r *reply) size() int {
	n := ttlv.HeaderBytes + 2*fixedSize
	if r.hasID {
		n += bytesSize(r.id)
	}
	if r.fault != nil {
		n += fixedSize + bytesSize(r.fault.text)
	}
	if r.correlation != nil {
		n += bytesSize(r.correlation)
	}
	if r.payload != nil {
		n += r.payload.Size()
	}
	return n
}

func (r *reply) append(dst []byte) []byte {
	dst, at := ttlv.Begin(dst, ttlv.TagBatchItem)
	dst = ttlv.Enum(ttlv.TagOperation, r.code).Append(dst)
	if r.hasID {
		dst = ttlv.Bytes(ttlv.TagUniqueBatchItemID, r.id).Append(dst)
	}
	dst = ttlv.Enum(ttlv.TagResultStatus, r.status).Append(dst)
	if r.fault != nil {
		dst = ttlv.Enum(ttlv.TagResultReason, r.fault.reason).Append(dst)
		dst = ttlv.Text(ttlv.TagResultMessage, r.fault.text).Append(dst)
	}
	if r.correlation != nil {
		dst = ttlv.Bytes(ttlv.TagAsynchronousCorrelationValue, r.correlation).Append(dst)
	}
	if r.payload != nil {
		dst = r.payload.Append(dst)
	}
	return ttlv.End(dst, at)
}

// response writes the answer to a message.
func (b *batch) response(m *message, replies []reply) []byte {
	size := ttlv.HeaderBytes + headerSize
	correlated := m.correlation != "" && (b.quirks == nil || !b.quirks.uncorrelated)
	if correlated {
		size += bytesSize(m.correlation) + bytesSize(b.call.Request.ID)
	}
	for i := range replies {
		size += replies[i].size()
	}
	out, message := ttlv.Begin(make([]byte, 0, size), ttlv.TagResponseMessage)
	out, header := ttlv.Begin(out, ttlv.TagResponseHeader)
	out = m.version.append(out)
	out = ttlv.Time(ttlv.TagTimeStamp, b.now).Append(out)
	if correlated {
		out = ttlv.Text(ttlv.TagClientCorrelationValue, m.correlation).Append(out)
		out = ttlv.Text(ttlv.TagServerCorrelationValue, b.call.Request.ID).Append(out)
	}
	out = ttlv.End(ttlv.Int(ttlv.TagBatchCount, int32(len(replies))).Append(out), header)
	for i := range replies {
		out = replies[i].append(out)
	}
	return ttlv.End(out, message)
}

func (v version) append(dst []byte) []byte {
	dst, at := ttlv.Begin(dst, ttlv.TagProtocolVersion)
	dst = ttlv.Int(ttlv.TagProtocolVersionMajor, v.major).Append(dst)
	return ttlv.End(ttlv.Int(ttlv.TagProtocolVersionMinor, v.minor).Append(dst), at)
}

// An answer is a response as the hall takes it, in one piece with what it is made of.
type answer struct {
	engine.Response
	raw     engine.Raw
	replies []reply
	one     [1]reply // room for replies: most messages have one item
}

// failed reports whether any operation failed.
func (a *answer) failed() bool {
	return slices.ContainsFunc(a.replies, func(r reply) bool { return r.fault != nil })
}

func (b *batch) answered(m *message, replies []reply) *engine.Response {
	a := &answer{replies: replies}
	return b.finish(a, b.response(m, replies))
}

// finish makes the response of an answer whose replies are there.
func (b *batch) finish(a *answer, body []byte) *engine.Response {
	a.raw = engine.Raw{ContentType: "application/octet-stream", Body: body, Recorder: a, ClearRecord: b.e.clear}
	a.Response.Raw = &a.raw
	return &a.Response
}

// AuditRecord implements engine.Recorder: how it went, and with which objects, but nothing of
// these.
func (a *answer) AuditRecord() json.RawMessage {
	out := append(make([]byte, 0, 128), `{"results":[`...)
	ids := 0
	for i := range a.replies {
		r := &a.replies[i]
		if i > 0 {
			out = append(out, ',')
		}
		out = param.AppendString(append(out, `{"operation":`...), ttlv.EnumName(ttlv.TagOperation, r.code))
		out = param.AppendString(append(out, `,"status":`...), ttlv.EnumName(ttlv.TagResultStatus, r.status))
		if r.fault != nil {
			out = param.AppendString(append(out, `,"reason":`...), ttlv.EnumName(ttlv.TagResultReason, r.fault.reason))
		}
		var named []string
		for _, c := range r.payload.Inside() {
			if c.Tag != ttlv.TagUniqueIdentifier && c.Tag != ttlv.TagPrivateKeyUniqueIdentifier && c.Tag != ttlv.TagPublicKeyUniqueIdentifier {
				continue
			}
			if ids++; ids <= maxRecorded {
				named = append(named, c.Text())
			}
		}
		if len(named) > 0 {
			out = engine.AppendStrings(append(out, `,"unique_identifiers":`...), named)
		}
		out = append(out, '}')
	}
	return append(out, `]}`...)
}
