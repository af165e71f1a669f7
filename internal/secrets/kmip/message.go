package kmip

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

const maxBatch = 1000

// A version of the protocol.
type version struct{ major, minor int32 }

func (v version) atLeast(major, minor int32) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// supported are the versions that are spoken, newest first.
func supported() []version {
	return []version{{2, 1}, {2, 0}, {1, 4}, {1, 3}, {1, 2}, {1, 1}, {1, 0}}
}

func (v version) text() string {
	switch v { // those that come, without making them anew each time
	case version{1, 0}:
		return "1.0"
	case version{1, 1}:
		return "1.1"
	case version{1, 2}:
		return "1.2"
	case version{1, 3}:
		return "1.3"
	case version{1, 4}:
		return "1.4"
	case version{2, 0}:
		return "2.0"
	case version{2, 1}:
		return "2.1"
	}
	return strconv.Itoa(int(v.major)) + "." + strconv.Itoa(int(v.minor))
}

func (v version) node() *ttlv.Node {
	return ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, v.major), ttlv.Int(ttlv.TagProtocolVersionMinor, v.minor))
}

// A fault is an operation that failed, as the client is told.
type fault struct {
	reason uint32
	text   string
	newer  uint32 // the reason in KMIP 2; 0 is the same
}

func (f *fault) Error() string { return f.text }

func fail(reason uint32, format string, args ...any) *fault {
	return &fault{reason: reason, text: fmt.Sprintf(format, args...)}
}

// Faults of many operations.
func missing(field string) *fault {
	return fail(ttlv.ResultReasonInvalidField, "%s is required", field)
}

func invalid(format string, args ...any) *fault {
	return fail(ttlv.ResultReasonInvalidField, format, args...)
}

func denied(format string, args ...any) *fault {
	return fail(ttlv.ResultReasonPermissionDenied, format, args...)
}

// A message is a request as it came.
type message struct {
	version     version
	maxResponse int64 // bytes; 0: no bound
	correlation string
	ticket      []byte // nil for none
	async       bool   // answers may come later
	option      uint32 // what to do when an item fails
	items       []item
	one         [1]item      // room for items: most have one
	limited     bool         // it is above the rate of its role or client
	who         param.Object // what the audit devices record of the client
	from        *subject     // of the certificate that it came under; nil where it is to be asked for
}

type item struct {
	code     uint32
	op       *operation // nil for one that is not served
	id       []byte
	hasID    bool
	payload  *ttlv.Node
	critical bool // it has a message extension that it depends on
}

// parseMessage takes a message apart. The version is known even of one that cannot
// be served.
func parseMessage(ops map[uint32]*operation, root *ttlv.Node) (*message, *fault) {
	m := &message{version: version{1, 0}, option: ttlv.BatchErrorContinuationOptionStop}
	bad := func(format string, args ...any) (*message, *fault) {
		return m, fail(ttlv.ResultReasonInvalidMessage, format, args...)
	}
	if root.Tag != ttlv.TagRequestMessage {
		return bad("this is no request message")
	}
	h := root.Get(ttlv.TagRequestHeader)
	if h == nil || h.Type != ttlv.Structure {
		return bad("the request has no header")
	}
	pv := h.Get(ttlv.TagProtocolVersion)
	major, minor := pv.Get(ttlv.TagProtocolVersionMajor), pv.Get(ttlv.TagProtocolVersionMinor)
	if major == nil || minor == nil || major.Type != ttlv.Integer || minor.Type != ttlv.Integer {
		return bad("the header has no protocol version")
	}
	asked := version{int32(major.Int), int32(minor.Int)}
	known := false
	for _, v := range supported() {
		known = known || v == asked
	}
	if !known {
		for _, v := range supported() { // the highest below what was asked for
			m.version = v
			if asked.atLeast(v.major, v.minor) {
				break
			}
		}
		f := fail(ttlv.ResultReasonInvalidMessage, "protocol version %d.%d is not supported", asked.major, asked.minor)
		if m.version.major >= 2 {
			f.reason = ttlv.ResultReasonUnsupportedProtocolVersion
		}
		return m, f
	}
	m.version = asked
	if f := m.header(h); f != nil {
		return m, f
	}
	count := 0
	for _, n := range root.Children {
		if n.Tag == ttlv.TagBatchItem {
			count++
		}
	}
	if n := h.Get(ttlv.TagBatchCount); n == nil || n.Type != ttlv.Integer || n.Int != int64(count) || n.Int < 1 {
		return bad("the batch count is not the number of batch items")
	}
	if count > maxBatch {
		return bad("a batch has at most %d items", maxBatch)
	}
	m.items = m.one[:0]
	if count > len(m.one) {
		m.items = make([]item, 0, count)
	}
	var seen map[string]bool
	for _, n := range root.Children {
		if n.Tag != ttlv.TagBatchItem {
			continue
		}
		it := item{payload: n.Get(ttlv.TagRequestPayload)}
		op := n.Get(ttlv.TagOperation)
		if op == nil || op.Type != ttlv.Enumeration || it.payload == nil || it.payload.Type != ttlv.Structure {
			return bad("a batch item has no operation or no payload")
		}
		it.code = uint32(op.Int)
		it.op = ops[it.code]
		if id := n.Get(ttlv.TagUniqueBatchItemID); id != nil {
			it.id, it.hasID = id.Bytes, true
			if seen[string(id.Bytes)] {
				return bad("two batch items have the same id")
			}
			if seen == nil {
				seen = map[string]bool{}
			}
			seen[string(id.Bytes)] = true
		}
		for _, x := range n.Children {
			if x.Tag != ttlv.TagMessageExtension {
				continue
			}
			if c := x.Get(ttlv.TagCriticalityIndicator); c != nil && c.Int == 1 {
				it.critical = true
			}
		}
		m.items = append(m.items, it)
	}
	return m, nil
}

func (m *message) header(h *ttlv.Node) *fault {
	if n := h.Get(ttlv.TagMaximumResponseSize); n != nil {
		if n.Type != ttlv.Integer || n.Int <= 0 {
			return invalid("Maximum Response Size must be positive")
		}
		m.maxResponse = n.Int
	}
	if n := h.Get(ttlv.TagClientCorrelationValue); n != nil && n.Type == ttlv.TextString && m.version.atLeast(1, 4) {
		m.correlation = n.Text()
	}
	if n := h.Get(ttlv.TagBatchErrorContinuationOption); n != nil {
		if n.Type != ttlv.Enumeration || n.Int < 1 || n.Int > 3 {
			return invalid("Batch Error Continuation Option has an unknown value")
		}
		m.option = uint32(n.Int)
	}
	if n := h.Get(ttlv.TagAsynchronousIndicator); n != nil {
		switch {
		case m.version.major >= 2 && n.Type == ttlv.Enumeration:
			m.async = uint32(n.Int) == ttlv.AsynchronousIndicatorMandatory
		case n.Type != ttlv.Boolean:
			return invalid("Asynchronous Indicator has the wrong type")
		default:
			m.async = n.Int == 1
		}
	}
	if m.version.major >= 2 {
		for _, c := range h.Get(ttlv.TagAuthentication).All(ttlv.TagCredential) {
			if n := c.Get(ttlv.TagCredentialType); n != nil && uint32(n.Int) == ttlv.CredentialTypeTicket {
				m.ticket = append([]byte{}, bytesField(c.Get(ttlv.TagCredentialValue).Get(ttlv.TagTicket), ttlv.TagTicketValue)...)
			}
		}
	}
	if n := h.Get(ttlv.TagAttestationCapableIndicator); n != nil && n.Type != ttlv.Boolean {
		return fail(ttlv.ResultReasonInvalidMessage, "Attestation Capable Indicator is a boolean")
	}
	return nil
}

// onlyReads reports whether no operation of the message writes, as far as can be
// told; a Get that does comes again in a transaction that can.
func (m *message) onlyReads() bool {
	if m.ticket != nil || m.async { // uses are counted, answers are kept
		return false
	}
	for i := range m.items {
		it := &m.items[i]
		if it.op != nil && !it.op.reads || partial(it.payload) { // what comes in parts is known to the active node alone
			return false
		}
	}
	return true
}

// A batch is a message being served.
type batch struct {
	ctx       context.Context //nolint:containedctx // of this one message
	e         *Engine
	call      *engine.Call
	tx        storage.Tx
	now       time.Time
	v         version
	scope     string // id
	role      *role
	roleName  string
	quirks    *quirks            // of the role's client; nil for none
	operation uint32             // of the item being served
	used      []used             // objects whose material the items had
	oneUsed   [1]used            // room for used
	ticket    *ticket            // nil for none
	holder    string             // "" until something was made or found: the ID Placeholder
	made      int                // objects, so far
	flows     map[string]*stream // what this message did with streams
	importing string             // the identifier of the object that is made; "" is one of our own
	replacing *object            // the object in whose place it comes
	ids       []string           // of what the items were about, so far
	byOp      map[uint32]string  // what the latest operation of a kind made
	pairs     *pairs             // of RSA, made beforehand
	within    *scope             // once it was read
	rules     map[string][]rule  // of the scope, once they were read
	free      bool               // what is made is the server's doing: no constraint is on it
	turned    map[string]string  // whose turn it was in groups, as this message has it
}

// serve answers a message.
func (e *Engine) serve(ctx context.Context, call *engine.Call) (*engine.Response, error) {
	m, ok := call.Request.Payload.(*message)
	if !ok { // it came by another node
		root, err := ttlv.Decode(call.Request.Raw)
		if err != nil {
			return nil, errs.New(errs.Invalid, "the message is not well-formed")
		}
		var f *fault
		if m, f = parseMessage(e.ops, root); f != nil {
			return nil, errs.New(errs.Invalid, "%s", f.text)
		}
		m.limited = string(call.Request.Params.Get(limitedName)) == "true" // as the node that it came to has found
	}
	b := &batch{e: e, ctx: ctx, call: call, tx: call.Tx, now: call.Now, v: m.version}
	b.used = b.oneUsed[:0]
	if err := b.identify(m.from); err != nil {
		return nil, err
	}
	if m.limited {
		return b.answered(m, b.refused(m, errLimited())), nil
	}
	return b.serve(m)
}

// serve answers a message on behalf of a role.
func (b *batch) serve(m *message) (*engine.Response, error) {
	ctx := b.ctx
	if err := b.prepared(m); err != nil {
		return nil, err
	}
	if m.ticket != nil {
		f, err := b.admit(m.ticket)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return b.answered(m, b.refused(m, f)), nil
		}
	}
	a := &answer{}
	a.replies = a.one[:0]
	failed := -1
	size := 0
	for i := range m.items {
		if err := ctx.Err(); err != nil {
			return nil, errs.With(errs.Unavailable, err)
		}
		r, err := b.item(&m.items[i], len(m.items), m.async)
		if err != nil {
			return nil, err
		}
		if size += r.size(); size > maxResponse {
			r = m.items[i].failed(fail(ttlv.ResultReasonResponseTooLarge, "the response is too large"))
			m.option = ttlv.BatchErrorContinuationOptionUndo
		}
		a.replies = append(a.replies, r)
		if r.fault != nil && failed < 0 {
			failed = i
		}
		if r.fault != nil && m.option != ttlv.BatchErrorContinuationOptionContinue {
			break
		}
	}
	undo := failed >= 0 && m.option == ttlv.BatchErrorContinuationOptionUndo
	if undo {
		for i := range a.replies {
			if i != failed {
				a.replies[i] = m.items[i].reply(ttlv.ResultStatusOperationUndone)
			}
		}
	}
	if len(b.flows) > 0 && !undo {
		b.call.After(func() { b.e.streams.publish(b.flows) })
	}
	body := b.response(m, a.replies)
	if m.maxResponse > 0 && int64(len(body)) > m.maxResponse {
		for i := range a.replies {
			a.replies[i] = m.items[i].failed(fail(ttlv.ResultReasonResponseTooLarge, "the response is larger than Maximum Response Size"))
		}
		undo = true // nothing happens that the client does not hear of
		body = b.response(m, a.replies)
	}
	res := b.finish(a, body)
	if undo && b.tx.Writable() {
		return nil, &engine.Undone{Response: res}
	}
	if !undo {
		b.noteUses()
	}
	return res, nil
}

// identify finds the role of the client's certificate.
func (b *batch) identify(from *subject) error {
	state := b.call.Request.TLS
	if state == nil || len(state.PeerCertificates) == 0 {
		return errStranger
	}
	who, err := b.e.whose(b.tx, state.PeerCertificates, from, b.now)
	if err != nil {
		return err
	}
	b.roleName = who.roleName
	b.actsAs(who.scope, who.role)
	return nil
}

// item serves one item of the batch. An error ends the whole request.
func (b *batch) item(it *item, of int, async bool) (reply, error) {
	if of > 1 && !it.hasID && b.v.major >= 2 {
		return it.failed(fail(ttlv.ResultReasonInvalidMessage, "the batch item has no id")), nil
	}
	if it.code == ttlv.OperationPoll && it.op != nil && b.role.may(it.op.flag) && !it.critical && b.allows(it.code, "") {
		return b.poll(it)
	}
	before := len(b.used)
	b.operation = it.code
	payload, err := b.operate(it)
	if err != nil {
		var f *fault
		if !errors.As(err, &f) {
			return reply{}, err
		}
		b.holder, b.used = "", b.used[:before]
		return it.failed(b.age(f)), nil
	}
	if async && later(it.code) {
		w := waiting{Operation: it.code}
		if payload != nil {
			w.Payload = payload.Encode()
		}
		value, f, err := b.keepAnswer(w)
		if err != nil {
			return reply{}, err
		}
		if f != nil {
			return it.failed(b.age(f)), nil
		}
		r := it.reply(ttlv.ResultStatusOperationPending)
		r.correlation = value
		return r, nil
	}
	return it.done(payload), nil
}

func (b *batch) operate(it *item) (*ttlv.Node, error) {
	o := it.op
	if o == nil || o.run == nil || !b.v.atLeast(o.since.major, o.since.minor) {
		return nil, fail(ttlv.ResultReasonOperationNotSupported, "the operation is not supported")
	}
	if it.critical {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "the message extension is not supported")
	}
	if !o.always && !b.role.may(o.flag) {
		return nil, denied("the role may not %s", strings.ReplaceAll(o.flag, "_", " "))
	}
	if err := b.thawed(o); err != nil {
		return nil, err
	}
	if err := b.e.checkFields(o.code, it.payload, b.v); err != nil {
		return nil, err
	}
	if b.ticket != nil && b.ticket.Limited {
		named := it.payload.All(ttlv.TagUniqueIdentifier) // some operations work on several
		if len(named) == 0 {
			named = []*ttlv.Node{nil}
		}
		for _, n := range named {
			id, err := b.textID(n)
			if err != nil {
				return nil, err
			}
			if !b.allows(o.code, id) {
				return nil, newer(denied("the ticket does not allow this"), ttlv.ResultReasonNotAuthorised)
			}
		}
	}
	payload := it.payload
	if b.v.major < 2 {
		return o.run(b, payload)
	}
	payload, err := older(payload)
	if err != nil {
		return nil, err
	}
	out, err := o.run(b, payload)
	if err != nil {
		return nil, err
	}
	b.note(it.code, out)
	return newerPayload(it.code, out), nil
}

// age replaces a reason that the client's version does not know.
func (b *batch) age(f *fault) *fault {
	if b.v.major >= 2 {
		if f.newer != 0 {
			return &fault{reason: f.newer, text: f.text}
		}
		return f
	}
	if f.reason >= ttlv.ResultReasonSensitive && f.reason < ttlv.ResultReasonGeneralFailure && !b.v.atLeast(1, 4) ||
		f.reason >= ttlv.ResultReasonKeyValueNotPresent && f.reason <= ttlv.ResultReasonAttestationFailed && !b.v.atLeast(1, 2) {
		return &fault{reason: ttlv.ResultReasonPermissionDenied, text: f.text}
	}
	return f
}

// failure is the answer to a message that cannot be served.
func failure(v version, reason uint32, text string, now time.Time) []byte {
	return ttlv.Struct(ttlv.TagResponseMessage,
		ttlv.Struct(ttlv.TagResponseHeader, v.node(), ttlv.Time(ttlv.TagTimeStamp, now), ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagResultStatus, ttlv.ResultStatusOperationFailed),
			ttlv.Enum(ttlv.TagResultReason, reason), ttlv.Text(ttlv.TagResultMessage, text))).Encode()
}

func isFault(err error) bool {
	var f *fault
	return errors.As(err, &f)
}
