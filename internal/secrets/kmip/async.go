package kmip

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// An operation that is asked for asynchronously is done at once, within its message's
// transaction; its answer waits to be asked for (KMIP 1.4, section 4.27).
const (
	answerKept = 10 * time.Minute
	maxWaiting = 1000 // answers of a role
	asyncBytes = streamBytes
)

// A waiting is an answer that waits.
type waiting struct {
	Version   int    `json:"v"`
	Operation uint32 `json:"op"`
	Payload   []byte `json:"p,omitempty"` // of the answer; nil for none
	Reason    uint32 `json:"r,omitempty"`
	Text      string `json:"t,omitempty"`
	At        int64  `json:"at,omitempty"` // when it was asked for, in seconds
}

func asyncDir(scope, role string) string { return "a/" + scope + "/" + role + "/" }

// later reports whether an operation is answered later, when that is wanted: those
// that may take long, and whose answers hold no secrets.
func later(code uint32) bool {
	return slices.Contains([]uint32{
		ttlv.OperationLocate, ttlv.OperationCreateKeyPair, ttlv.OperationReKeyKeyPair, ttlv.OperationArchive, ttlv.OperationRecover,
	}, code)
}

// keepAnswer keeps an answer and returns by what it is asked for.
func (b *batch) keepAnswer(w waiting) ([]byte, *fault, error) {
	dir := asyncDir(b.scope, b.role.ID)
	n, err := count(b.tx, dir, maxWaiting)
	if err != nil {
		return nil, nil, err
	}
	if n >= maxWaiting {
		return nil, newer(fail(ttlv.ResultReasonGeneralFailure, "%d answers wait to be asked for", maxWaiting), ttlv.ResultReasonServerLimitExceeded), nil
	}
	var value []byte
	key := ""
	for slot := 0; value == nil; slot++ {
		try := b.correlation("answer", "", slot)
		key = dir + hex.EncodeToString(try)
		if _, err := b.tx.Get(key); errors.Is(err, storage.ErrNotFound) {
			value = try
		} else if err != nil {
			return nil, nil, err
		}
	}
	w.Version, w.At = 1, b.now.Unix()
	if err := storage.PutJSON(b.tx, key, w); err != nil {
		return nil, nil, err
	}
	return value, nil, b.tx.Put(dueKey(b.now.Add(answerKept), "a", key), nil)
}

// queryAsynchronous lists the operations whose answers wait, all or those that are named
// (KMIP 2.1, section 6.1.39).
func (b *batch) queryAsynchronous(p *ttlv.Node) (*ttlv.Node, error) {
	named := map[string]bool{}
	for _, n := range p.Get(ttlv.TagAsynchronousCorrelationValues).All(ttlv.TagAsynchronousCorrelationValue) {
		named[hex.EncodeToString(n.Bytes)] = true
	}
	ops := map[uint32]bool{}
	for _, n := range p.Get(ttlv.TagOperations).All(ttlv.TagOperation) {
		ops[uint32(n.Int)] = true
	}
	out := response()
	dir := asyncDir(b.scope, b.role.ID)
	for kv, err := range b.tx.Scan(dir, "") { // bounded by maxWaiting
		if err != nil {
			return nil, err
		}
		w, _, err := decoded[waiting](kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		text := strings.TrimPrefix(kv.Key, dir)
		value, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		if len(named) > 0 && !named[text] || len(ops) > 0 && !ops[w.Operation] {
			continue
		}
		out.Add(ttlv.Struct(ttlv.TagAsynchronousRequest, ttlv.Bytes(ttlv.TagAsynchronousCorrelationValue, value), ttlv.Enum(ttlv.TagOperation, w.Operation),
			ttlv.Time(ttlv.TagSubmissionDate, time.Unix(w.At, 0)), ttlv.Enum(ttlv.TagProcessingStage, ttlv.ProcessingStageCompleted)))
	}
	return out, nil
}

// process has an operation done that was asked for: it was done at once.
func (b *batch) process(p *ttlv.Node) (*ttlv.Node, error) {
	if _, _, err := b.waitingFor(p); err != nil {
		return nil, err
	}
	return response(), nil
}

// asked finds the answer that a request means, and removes it.
func (b *batch) asked(p *ttlv.Node) (*waiting, error) {
	w, key, err := b.waitingFor(p)
	if err != nil {
		return nil, err
	}
	return w, b.tx.Delete(key)
}

// waitingFor finds the answer that a request means.
func (b *batch) waitingFor(p *ttlv.Node) (*waiting, string, error) {
	value := bytesField(p, ttlv.TagAsynchronousCorrelationValue)
	if value == nil {
		return nil, "", missing("Asynchronous Correlation Value")
	}
	none := newer(fail(ttlv.ResultReasonItemNotFound, "there is no such operation"), ttlv.ResultReasonInvalidAsynchronousCorrelationValue)
	if len(value) != asyncBytes {
		return nil, "", none
	}
	key := asyncDir(b.scope, b.role.ID) + hex.EncodeToString(value)
	w, err := storage.GetJSON[waiting](b.tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", none
	}
	return w, key, err
}

// poll answers in place of the operation that is asked for.
func (b *batch) poll(it *item) (reply, error) {
	w, err := b.asked(it.payload)
	var f *fault
	if errors.As(err, &f) {
		return it.failed(b.age(f)), nil
	}
	if err != nil {
		return reply{}, err
	}
	as := item{code: w.Operation, id: it.id, hasID: it.hasID}
	if w.Reason != 0 {
		return as.failed(&fault{reason: w.Reason, text: w.Text}), nil
	}
	if w.Payload == nil {
		return as.done(nil), nil
	}
	p, err := ttlv.Decode(w.Payload)
	return as.done(p), err
}

// cancel gives up an answer. What only read counts as not done.
func (b *batch) cancel(p *ttlv.Node) (*ttlv.Node, error) {
	w, err := b.asked(p)
	if err != nil {
		return nil, err
	}
	result := ttlv.CancellationResultUnableToCancel
	if w.Operation == ttlv.OperationLocate {
		result = ttlv.CancellationResultCanceled
	}
	return response(p.Get(ttlv.TagAsynchronousCorrelationValue), ttlv.Enum(ttlv.TagCancellationResult, result)), nil
}
