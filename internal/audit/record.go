package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/param"
	"arca/internal/token"
)

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
		if r.Response.Auth.EntityCreated {
			w.flag("entity_created", true)
		}
		return
	}
	t := r.Token
	if t != nil {
		w.callers("client_token", "accessor")
		w.text("display_name", t.DisplayName)
		if len(r.Identity) == 0 {
			w.list("policies", t.Policies)
		} else {
			w.list("policies", slices.Compact(slices.Sorted(slices.Values(slices.Concat(t.Policies, r.Identity)))))
			w.list("identity_policies", r.Identity)
		}
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
	w.handle("accessor", a.Accessor)
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
	w.callers("client_token", "client_token_accessor")
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
	clear := w.r.Request.ClearParams
	if w.r.Mount != nil {
		clear = slices.Concat(clear, w.r.Mount.Config.AuditRequestKeys)
	}
	from, size := len(w.b), 0
	for i := range p {
		size += len(p[i].Key) + len(p[i].Value)
	}
	limit := from + w.r.dataBytes(size, false)
	w.b = append(w.b, '{')
	for i := range p {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, p[i].Key)
		w.b = append(w.b, ':')
		v := w.walker(p[i].Value, clear, from)
		v.limit = limit
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
	return walker{src: src, dst: w.b, mac: w.clearMac(), clear: clear, limit: from + w.r.dataBytes(len(src), true)}
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
