package audit

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/namespace"
)

// Bounds of the data of a request or answer in a line; larger data is shown as one
// hash. A hash is up to 70 times as long as what it stands for: without a bound by
// what was sent, few and small requests fill the disk and the devices' queues.
const (
	maxDataBytes      = 4 << 20
	strangerDataBytes = 64 << 10 // without a valid token
	dataGrowth        = 4        // times what was sent, beyond strangerDataBytes
)

// dataBytes bounds what tells of size bytes. The answers to valid tokens are not the
// caller's to choose, and their names are to be found by their hashes.
func (r *Record) dataBytes(size int, answer bool) int {
	switch {
	case r.Token == nil:
		return strangerDataBytes
	case answer:
		return maxDataBytes
	}
	return min(maxDataBytes, strangerDataBytes+dataGrowth*size)
}

// A style is how a device wants its lines.
type style struct {
	prefix   string
	raw      bool // log_raw: nothing is hashed
	accessor bool // hmac_accessor
	elide    bool // elide_list_responses
	jsonx    bool // format=jsonx
	exclude  []exclusion
}

// A header is a request header that is recorded.
type header struct {
	name  string // lower case, as shown
	canon string // as in engine.Request.Header
	hmac  bool
}

// An encoder writes the records of one device. Safe for concurrent use.
type encoder struct {
	style
	hasher  *hasher
	version string // of the engines
	lines   sync.Pool
}

func newEncoder(s style, salt []byte, version string) *encoder {
	return &encoder{
		style: s, hasher: newHasher(salt), version: version,
		lines: sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }},
	}
}

// hash is what a value looks like in the records.
func (e *encoder) hash(value string) string {
	m := e.hasher.pool.Get().(*mac)
	defer e.hasher.put(m)
	return string(m.appendSum(nil, []byte(value)))
}

// A line is one record on its way to be written, with the newline behind it.
type line struct{ b *[]byte }

func (e *encoder) free(l line) {
	if cap(*l.b) <= maxKeptBytes {
		e.lines.Put(l.b)
	}
}

// encode makes the line of a record. d, if not nil, is what another device has left of
// the same record, or takes what this one leaves.
func (e *encoder) encode(r *Record, headers []header, d *draft) line {
	buf := e.lines.Get().(*[]byte)
	m := e.hasher.pool.Get().(*mac)
	w := writer{e: e, r: r, m: m, b: (*buf)[:0]}
	if d.fits(e) {
		w.b = d.fill(w.b, m)
	} else {
		m.draft = d
		w.record(headers)
		m.draft = nil
		d.keep(e, w.b)
	}
	if len(e.exclude) > 0 {
		w.b = excluded(e.exclude, w.b)
	}
	if e.jsonx {
		w.b = appendJSONx(nil, w.b)
	}
	if e.prefix != "" {
		w.b = append([]byte(e.prefix), w.b...)
	}
	*buf = append(w.b, '\n')
	e.hasher.put(m)
	return line{buf}
}

// A writer appends one record. Members come in the order in which Vault has
// them.
type writer struct {
	e *encoder
	r *Record
	m *mac
	b []byte

	token, accessor span // where the caller's are, which come twice
}

// A span is a part of writer.b.
type span struct{ from, to int }

// again appends what stands at s, or what put appends, whose place s becomes.
func (w *writer) again(s *span, put func()) {
	if s.to > 0 {
		w.m.draft.again(*s, len(w.b))
		w.b = append(w.b, w.b[s.from:s.to]...)
		return
	}
	from := len(w.b)
	put()
	*s = span{from, len(w.b)}
}

// lit appends s as it is.
func (w *writer) lit(s string) { w.b = append(w.b, s...) }

// key begins a member; first says that it opens the object.
func (w *writer) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *writer) text(name, value string) {
	if value != "" {
		w.key(name)
		w.b = appendText(w.b, value)
	}
}

// secret appends a member that is hashed.
func (w *writer) secret(name, value string) {
	if value != "" {
		w.key(name)
		w.hashed(value)
	}
}

func (w *writer) hashed(value string) {
	if w.e.raw {
		w.b = appendText(w.b, value)
		return
	}
	w.b = append(w.b, '"')
	w.b = w.m.appendHashOf(w.b, value)
	w.b = append(w.b, '"')
}

// handle appends an accessor.
func (w *writer) handle(name, value string) {
	if w.e.accessor {
		w.secret(name, value)
	} else {
		w.text(name, value)
	}
}

// callers appends the caller's own token and accessor.
func (w *writer) callers(token, accessor string) {
	if t := w.r.Request.Token; t != "" {
		w.key(token)
		w.again(&w.token, func() { w.hashed(t) })
	}
	if w.r.Token == nil || w.r.Token.Accessor == "" {
		return
	}
	w.key(accessor)
	w.again(&w.accessor, func() {
		if w.e.accessor {
			w.hashed(w.r.Token.Accessor)
		} else {
			w.b = appendText(w.b, w.r.Token.Accessor)
		}
	})
}

func (w *writer) number(name string, n int64) {
	if n != 0 {
		w.key(name)
		w.b = strconv.AppendInt(w.b, n, 10)
	}
}

func (w *writer) seconds(name string, d time.Duration) { w.number(name, int64(d/time.Second)) }

func (w *writer) flag(name string, b bool) {
	if b {
		w.key(name)
		w.lit("true")
	}
}

func (w *writer) time(name string, t time.Time, layout string) {
	w.key(name)
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, layout)
	w.b = append(w.b, '"')
}

func (w *writer) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.key(name)
	w.b = append(w.b, '[')
	for i, v := range values {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, v)
	}
	w.b = append(w.b, ']')
}

func (w *writer) metadata(values map[string]string) {
	if len(values) == 0 {
		return
	}
	w.key("metadata")
	w.b = append(w.b, '{')
	var room [16]string
	names := room[:0]
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if w.b[len(w.b)-1] != '{' {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, name)
		w.b = append(w.b, ':')
		w.b = appendText(w.b, values[name])
	}
	w.b = append(w.b, '}')
}

// test makes the record by which a new device is tried.
func (e *encoder) test(id string, now time.Time) line {
	return e.encode(&Record{
		Kind: Request, Time: now, Op: engine.OpUpdate, Namespace: namespace.Root(),
		Request: &engine.Request{ID: id, Path: "sys/audit/test"},
	}, nil, nil)
}
