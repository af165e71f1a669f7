package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/token"
)

// maxDataBytes bounds the data of a request or answer in a line. Larger data is
// shown as one hash.
const maxDataBytes = 4 << 20

// A style is how a device wants its lines.
type style struct {
	raw      bool // log_raw: nothing is hashed
	accessor bool // hmac_accessor
	elide    bool // elide_list_responses
	jsonx    bool // format=jsonx
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
	return string(m.appendHash(nil, []byte(value)))
}

// A line is one record on its way to be written, with the newline behind it.
type line struct{ b *[]byte }

func (e *encoder) free(l line) {
	if cap(*l.b) <= maxKeptBytes {
		e.lines.Put(l.b)
	}
}

// encode makes the line of a record.
func (e *encoder) encode(r *Record, headers []header) line {
	buf := e.lines.Get().(*[]byte)
	m := e.hasher.pool.Get().(*mac)
	w := writer{e: e, r: r, m: m, b: (*buf)[:0]}
	w.record(headers)
	if e.jsonx {
		w.b = appendJSONx(nil, w.b)
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
	w.m.in = append(w.m.in[:0], value...)
	w.b = append(w.b, '"')
	w.b = w.m.appendHash(w.b, w.m.in)
	w.b = append(w.b, '"')
}

func (w *writer) accessor(name, value string) {
	if w.e.accessor {
		w.secret(name, value)
	} else {
		w.text(name, value)
	}
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
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if w.b[len(w.b)-1] != '{' {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, name)
		w.b = append(w.b, ':')
		w.b = appendText(w.b, values[name])
	}
	w.b = append(w.b, '}')
}

func (w *writer) record(headers []header) {
	r := w.r
	w.b = append(w.b, '{')
	w.time("time", r.Time, time.RFC3339Nano)
	w.text("type", kindNames[r.Kind])
	w.key("auth")
	w.caller()
	w.key("request")
	w.request(headers)
	text, detail := w.failure()
	if r.Kind == Response {
		w.key("response")
		w.response(detail)
	}
	w.text("error", text)
	w.b = append(w.b, '}')
}

var kindNames = [...]string{Request: "request", Response: "response"}

// caller appends who asks. The answer to a login shows the token that it made.
func (w *writer) caller() {
	r := w.r
	w.b = append(w.b, '{')
	defer func() { w.b = append(w.b, '}') }()
	if r.Login && r.Kind == Response {
		if r.Response == nil || r.Response.Auth == nil {
			w.text("token_type", engine.TokenDefault.String())
			return
		}
		w.made(r.Response.Auth)
		return
	}
	t := r.Token
	if t != nil {
		w.secret("client_token", r.Request.Token)
		w.accessor("accessor", t.Accessor)
		w.text("display_name", t.DisplayName)
		w.list("policies", t.Policies)
		w.list("token_policies", t.Policies)
		w.metadata(t.Meta)
		w.text("entity_id", t.EntityID)
		w.number("remaining_uses", int64(t.NumUses))
	}
	if r.Judged {
		w.key("policy_results")
		w.verdict()
	}
	if t == nil {
		w.text("token_type", engine.TokenDefault.String())
		return
	}
	w.text("token_type", t.Type.String())
	w.seconds("token_ttl", t.CreationTTL)
	w.time("token_issue_time", t.Created, time.RFC3339)
}

func (w *writer) verdict() {
	w.lit(`{"allowed":`)
	w.b = strconv.AppendBool(w.b, w.r.Allowed)
	if w.r.Token != nil && len(w.r.Granting) > 0 {
		w.key("granting_policies")
		w.b = append(w.b, '[')
		for i, name := range w.r.Granting {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.lit(`{"name":`)
			w.b = appendText(w.b, name)
			w.text("namespace_id", w.r.Token.NamespaceID)
			w.lit(`,"type":"acl"}`)
		}
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, '}')
}

// made appends the members of a token that the answer gives.
func (w *writer) made(a *engine.Auth) {
	w.secret("client_token", a.ClientToken)
	w.accessor("accessor", a.Accessor)
	w.text("display_name", a.DisplayName)
	w.list("policies", a.Policies)
	w.list("token_policies", a.TokenPolicies)
	w.list("identity_policies", a.IdentityPolicies)
	w.flag("no_default_policy", a.NoDefaultPolicy)
	w.metadata(a.Metadata)
	w.number("num_uses", int64(a.NumUses))
	w.text("entity_id", a.EntityID)
	w.text("token_type", a.Type.String())
	w.seconds("token_ttl", a.LeaseDuration)
}

func (w *writer) request(headers []header) {
	r, q := w.r, w.r.Request
	w.b = append(w.b, '{')
	w.text("id", q.ID)
	if r.Token != nil {
		w.key("client_id")
		w.clientID(r.Token)
	}
	w.text("operation", r.Op.String())
	w.mount("mount_running_version")
	w.secret("client_token", q.Token)
	if r.Token != nil {
		w.accessor("client_token_accessor", r.Token.Accessor)
	}
	if r.Namespace != nil {
		w.key("namespace")
		w.b = append(w.b, '{')
		w.text("id", r.Namespace.ID)
		w.text("path", r.Namespace.Path)
		w.b = append(w.b, '}')
	}
	w.text("path", q.Path)
	if len(q.Params) > 0 {
		w.key("data")
		w.params(q.Params)
	}
	if q.Remote.IsValid() {
		w.key("remote_address")
		w.b = append(w.b, '"')
		w.b = q.Remote.Addr().Unmap().AppendTo(w.b)
		w.b = append(w.b, '"')
		w.number("remote_port", int64(q.Remote.Port()))
	}
	w.seconds("wrap_ttl", q.WrapTTL)
	w.headers(headers)
	if q.TLS != nil && len(q.TLS.PeerCertificates) > 0 {
		w.text("client_certificate_serial_number", serial(q.TLS.PeerCertificates[0].SerialNumber.Bytes()))
	}
	w.b = append(w.b, '}')
}

// serial writes a certificate's number in pairs of digits: 1f:a0.
func serial(b []byte) string {
	pairs := make([]string, len(b))
	for i := range b {
		pairs[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(pairs, ":")
}

// clientID appends the id under which Vault counts clients: the entity, or for
// a token without one a hash of its policies and namespace (seen on recorded
// servers).
func (w *writer) clientID(t *token.Entry) {
	if t.EntityID != "" {
		w.b = appendText(w.b, t.EntityID)
		return
	}
	in := w.m.in[:0]
	for i, p := range t.Policies { // sorted
		if i > 0 {
			in = append(in, 0x7f)
		}
		in = append(in, p...)
	}
	in = append(in, 0)
	in = append(in, t.NamespaceID...)
	sum := sha256.Sum256(in)
	w.m.in = in
	w.b = append(w.b, '"')
	w.b = base64.StdEncoding.AppendEncode(w.b, sum[:])
	w.b = append(w.b, '"')
}

func (w *writer) mount(version string) {
	m := w.r.Mount
	if m == nil {
		return
	}
	class := "secret"
	if m.Auth() {
		class = "auth"
	}
	w.text("mount_point", m.Path)
	w.text("mount_type", m.Type)
	w.text("mount_accessor", m.Accessor)
	w.text(version, w.e.version)
	w.text("mount_class", class)
}

func (w *writer) params(p param.Object) {
	var clear []string
	if w.r.Mount != nil {
		clear = w.r.Mount.Config.AuditRequestKeys
	}
	from := len(w.b)
	w.b = append(w.b, '{')
	for i := range p {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, p[i].Key)
		w.b = append(w.b, ':')
		v := w.walker(p[i].Value, clear, from)
		if !v.value(1, slices.Contains(clear, p[i].Key)) {
			w.b = appendTooLarge(w.b[:from], w.clearMac(), p.JSON())
			return
		}
		w.b = v.dst
	}
	w.b = append(w.b, '}')
}

// clearMac is nil when nothing is to be hashed.
func (w *writer) clearMac() *mac {
	if w.e.raw {
		return nil
	}
	return w.m
}

func (w *writer) walker(src []byte, clear []string, from int) walker {
	return walker{src: src, dst: w.b, mac: w.clearMac(), clear: clear, limit: from + maxDataBytes}
}

// headers appends the configured request headers.
func (w *writer) headers(list []header) {
	any := false
	for i := range list {
		h := &list[i]
		values := w.r.Request.Header[h.canon]
		if len(values) == 0 {
			continue
		}
		if !any {
			any = true
			w.key("headers")
			w.b = append(w.b, '{')
		}
		w.key(h.name)
		for j, v := range values {
			sep := byte(',')
			if j == 0 {
				sep = '['
			}
			w.b = append(w.b, sep)
			if h.hmac {
				w.hashed(v)
			} else {
				w.b = appendText(w.b, v)
			}
		}
		w.b = append(w.b, ']')
	}
	if any {
		w.b = append(w.b, '}')
	}
}

// newHeader makes a header of its name in any case.
func newHeader(name string, hmac bool) header {
	return header{name: strings.ToLower(name), canon: textproto.CanonicalMIMEHeaderKey(name), hmac: hmac}
}

func (w *writer) response(detail string) {
	r, res := w.r, w.r.Response
	w.b = append(w.b, '{')
	defer func() { w.b = append(w.b, '}') }()
	if res != nil && res.Auth != nil && res.Wrap == nil {
		w.key("auth")
		w.b = append(w.b, '{')
		w.made(res.Auth)
		w.b = append(w.b, '}')
	}
	w.mount("mount_running_plugin_version")
	if r.Error != nil {
		if detail != "" {
			w.key("data")
			w.b = append(w.b, '{')
			w.secret("error", detail)
			w.b = append(w.b, '}')
		}
		return
	}
	if res == nil {
		return
	}
	w.lease(res)
	if res.Wrap != nil {
		w.wrap(res.Wrap)
	} else {
		w.data(res)
	}
	w.list("warnings", res.Warnings)
}

func (w *writer) lease(res *engine.Response) {
	id := res.LeaseID
	if res.Lease != nil {
		id = res.Lease.ID
	}
	if id == "" && res.LeaseDuration == 0 {
		return
	}
	w.key("secret")
	w.b = append(w.b, '{')
	w.text("lease_id", id)
	w.b = append(w.b, '}')
}

func (w *writer) wrap(i *engine.WrapInfo) {
	w.key("wrap_info")
	w.b = append(w.b, '{')
	w.seconds("ttl", i.TTL)
	w.secret("token", i.Token)
	w.accessor("accessor", i.Accessor)
	w.time("creation_time", i.CreationTime, time.RFC3339Nano)
	w.text("creation_path", i.CreationPath)
	w.accessor("wrapped_accessor", i.WrappedAccessor)
	w.b = append(w.b, '}')
}

func (w *writer) data(res *engine.Response) {
	raw, ok := res.Data.(json.RawMessage)
	if res.Raw != nil {
		if !ok || !w.unwrapped(raw) {
			w.rawAnswer(res.Raw)
		}
		return
	}
	if !ok || len(raw) == 0 || string(raw) == "null" || string(raw) == "{}" {
		return // Broker.Log has encoded what was not
	}
	w.member("data", raw)
}

// member appends a member of the answer that is JSON already.
func (w *writer) member(name string, raw json.RawMessage) {
	var clear []string
	if w.r.Mount != nil {
		clear = w.r.Mount.Config.AuditResponseKeys
	}
	w.key(name)
	v := w.walker(raw, clear, len(w.b))
	v.elide = w.e.elide && w.r.Op == engine.OpList
	if !v.document() {
		w.b = appendTooLarge(w.b, w.clearMac(), raw)
		return
	}
	w.b = v.dst
}

// unwrapped appends what lies in an answer that was wrapped and is now given
// out as a whole.
func (w *writer) unwrapped(envelope json.RawMessage) bool {
	obj, err := param.ParseObject(envelope)
	if err != nil {
		return false
	}
	for _, name := range []string{"auth", "data"} {
		if raw := obj.Get(name); raw != nil && string(raw) != "null" {
			w.member(name, raw)
		}
	}
	return true
}

// rawAnswer appends an answer without envelope, by the names that Vault has
// for its parts.
func (w *writer) rawAnswer(raw *engine.Raw) {
	w.key("data")
	w.b = append(w.b, '{')
	w.secret("http_content_type", raw.ContentType)
	if raw.Stream == nil && len(raw.Body) > 0 {
		w.key("http_raw_body")
		switch {
		case !w.e.raw:
			w.b = append(w.b, '"')
			w.b = w.m.appendHash(w.b, raw.Body)
			w.b = append(w.b, '"')
		case len(raw.Body) > maxDataBytes:
			w.b = appendTooLarge(w.b, nil, raw.Body)
		default:
			w.b = appendText(w.b, string(raw.Body))
		}
	}
	status := raw.Status
	if status == 0 {
		status = 200
	}
	w.number("http_status_code", int64(status))
	w.b = append(w.b, '}')
}

// failure returns what a record says of the error in clear, and the text that
// is only shown hashed: it may quote what the client sent.
func (w *writer) failure() (text, detail string) {
	err := w.r.Error
	if err == nil {
		return "", ""
	}
	if errors.Is(err, engine.ErrPath) || errors.Is(err, engine.ErrOperation) {
		return err.Error(), ""
	}
	kind := errs.KindOf(err)
	switch kind { //nolint:exhaustive // the others have their name
	case errs.NotFound:
		if err.Error() == "not found" {
			return "", ""
		}
		text = "unsupported path"
	case errs.Denied:
		if w.r.Kind == Request {
			return err.Error(), ""
		}
		text = "permission denied"
	case errs.Invalid, errs.Conflict:
		if w.r.Login {
			return "invalid credentials", err.Error()
		}
		text = "invalid request"
	case errs.Unsupported:
		text = "unsupported operation"
	case errs.Internal, errs.Failed:
		text = "internal error"
	default:
		text = kind.String()
	}
	return errs.List(kind, text).Error(), err.Error()
}

// test makes the record by which a new device is tried.
func (e *encoder) test(id string, now time.Time) line {
	return e.encode(&Record{
		Kind: Request, Time: now, Op: engine.OpUpdate, Namespace: namespace.Root(),
		Request: &engine.Request{ID: id, Path: "sys/audit/test"},
	}, nil)
}
