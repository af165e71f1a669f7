// Package api is the HTTP door: it turns requests of Vault's HTTP API into
// engine.Request and answers into its JSON.
//
// It decides nothing about who may do what; it bounds what comes in (size of
// the body, depth and members of its JSON, time) and has the one table from
// kinds of errors to status codes. The forms are those of
// https://developer.hashicorp.com/vault/api-docs and of recorded servers.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/telemetry"
)

// Defaults of Vault's listener.
const (
	DefaultMaxRequestBytes    = 32 << 20
	DefaultMaxRequestDuration = 90 * time.Second
	maxHeaderValueBytes       = 64 << 10
	defaultBodyTimeout        = 30 * time.Second
)

// Core serves requests: core.Core.
type Core interface {
	Handle(ctx context.Context, req *engine.Request) (*engine.Response, error)
	Sealed() bool
}

// Config of the door for one listener.
type Config struct {
	Core               Core
	Log                *slog.Logger
	MaxRequestBytes    int64         // 0: 32 MiB; negative: no bound
	MaxRequestDuration time.Duration // 0: 90 s
	// Bodies is shared by the doors of a server; nil is one of its own.
	Bodies *Budget
	// BodyTimeout is how long a body may take that had to wait for Bodies; 0 is
	// 30 s, negative is no bound.
	BodyTimeout time.Duration
	// Headers are added to every answer, by status code ("default", "2xx", "200").
	Headers func(status int, h http.Header)
	// CORS says what browsers of other origins may do; nil is nothing.
	CORS func() *CORS
	// Metrics takes how many answers there were of each status; nil is nothing.
	Metrics *telemetry.Registry
	// UI serves /ui/; nil when the interface is off.
	UI http.Handler
	// Forward sends a request that only the active node can serve to it, with its
	// body. An error of kind NotActive says that it did not come there, and that
	// another attempt may. Nil on a node that shares nothing.
	Forward func(ctx context.Context, r *http.Request, body []byte) (*http.Response, error)
	// ActiveAddr is where clients reach the active node, "" when it is not known.
	ActiveAddr func() string
	// RequireRequestHeader demands X-Vault-Request: true (agents use it).
	RequireRequestHeader bool
	// Without a token may be read: sys/metrics, sys/in-flight-req, sys/pprof.
	UnauthenticatedMetrics, UnauthenticatedInFlight, UnauthenticatedProfiles bool
	// DisallowMetrics refuses sys/metrics at this listener; MetricsOnly refuses all
	// else.
	DisallowMetrics, MetricsOnly bool
}

// CORS as sys/config/cors has it.
type CORS struct {
	Origins []string // "*" is all
	Headers []string
}

type door struct {
	Config
	buffers   sync.Pool
	deadlines deadlines
	answered  answered
}

// New makes the door's http.Handler.
func New(cfg Config) http.Handler {
	if cfg.MaxRequestBytes == 0 {
		cfg.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if cfg.MaxRequestDuration == 0 {
		cfg.MaxRequestDuration = DefaultMaxRequestDuration
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Bodies == nil {
		cfg.Bodies = NewBudget(0)
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = defaultBodyTimeout
	}
	d := &door{Config: cfg}
	d.answered.registry = cfg.Metrics
	d.deadlines.after = cfg.MaxRequestDuration
	d.buffers.New = func() any { b := make([]byte, 0, 4096); return &b }
	return d
}

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Cache-Control"] = noStore
	h["Content-Type"] = jsonType
	escaped := r.URL.Path
	rest, isAPI := strings.CutPrefix(escaped, "/v1/")
	switch {
	case !isAPI:
		d.elsewhere(w, r)
		return
	case !clean(escaped):
		d.redirect(w, r)
		return
	}
	if d.cors(w, r) {
		return
	}
	if !printable(rest) {
		d.head(w, http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	if !streams(rest) {
		var done context.CancelFunc
		ctx, done = d.deadlines.bound(ctx)
		defer done()
	}
	in := incoming{Request: r, ctx: ctx, door: d, w: w}
	defer in.release()
	req, err := d.request(&in, rest)
	if err != nil {
		d.fail(w, err)
		return
	}
	if ns := r.Header[namespaceHeader]; len(ns) > 0 && ns[0] != "" && len(ns[0]) <= maxEchoBytes && printable(ns[0]) {
		h[namespaceHeader] = ns[:1] // clients show it with an error
	}
	res, err := d.Core.Handle(ctx, req)
	if err != nil && errs.Is(err, errs.NotActive) {
		if res, err = d.elsewhereActive(ctx, &in, req, err); errors.Is(err, errAnswered) {
			return
		}
	}
	if req.Limit != nil {
		showLimit(h, req.Limit, err != nil && errs.Is(err, errs.Limited))
	}
	if err != nil {
		if req.Op == 0 && errs.Is(err, errs.Invalid) {
			h["Content-Type"] = jsonType
		}
		d.fail(w, err)
		return
	}
	d.answer(w, r, req, res)
}

const (
	metricsPath     = "sys/metrics"
	namespaceHeader = "X-Vault-Namespace"
	maxEchoBytes    = 1 << 10
)

var (
	noStore  = []string{"no-store"}
	jsonType = []string{"application/json"}
)

// showLimit tells a client how it stands with a rate limit.
func showLimit(h http.Header, l *engine.Limit, refused bool) {
	reset := strconv.FormatInt(int64((l.Reset+time.Second-1)/time.Second), 10)
	h.Set("X-Ratelimit-Limit", strconv.Itoa(l.Limit))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(l.Remaining))
	h.Set("X-Ratelimit-Reset", reset)
	if refused {
		h.Set("Retry-After", reset)
	}
}

// streams are the paths whose answers last as long as the client listens.
func streams(rest string) bool {
	return rest == "sys/monitor" || isStream(rest) || strings.HasPrefix(rest, "sys/pprof/") || strings.HasPrefix(rest, "sys/events/")
}

// elsewhere answers what is not the API.
func (d *door) elsewhere(w http.ResponseWriter, r *http.Request) {
	switch {
	case d.UI != nil && strings.HasPrefix(r.URL.Path, "/ui"):
		d.UI.ServeHTTP(w, r)
	case r.URL.Path == "/":
		http.Redirect(w, r, "/ui/", http.StatusTemporaryRedirect)
	case strings.HasPrefix(path.Clean(r.URL.Path), "/v1/") && !clean(r.URL.Path):
		d.redirect(w, r)
	default:
		d.fail(w, errs.New(errs.NotFound, ""))
	}
}

// clean reports whether p has no empty or dot segments. A trailing slash is fine.
func clean(p string) bool {
	if strings.Contains(p, "//") {
		return false
	}
	i := strings.Index(p, "/.")
	if i < 0 {
		return true
	}
	c := path.Clean(p)
	return c == p || c+"/" == p
}

func (d *door) redirect(w http.ResponseWriter, r *http.Request) {
	u := url.URL{Path: path.Clean(r.URL.Path), RawQuery: r.URL.RawQuery}
	if strings.HasSuffix(r.URL.Path, "/") && u.Path != "/" {
		u.Path += "/"
	}
	w.Header()["Content-Type"] = nil
	w.Header().Del("Content-Type")
	http.Redirect(w, r, u.String(), http.StatusTemporaryRedirect)
}

// printable refuses control characters in paths.
func printable(p string) bool {
	for i := range len(p) {
		if c := p[i]; c < 0x20 || c == 0x7f {
			return false
		}
	}
	return true
}

// request reads the call into an engine.Request.
func (d *door) request(r *incoming, rest string) (*engine.Request, error) {
	req := &engine.Request{ID: newID(), Path: rest, Header: r.Header, TLS: r.TLS, Door: engine.IsDoor(r.Context())}
	req.Remote, _ = netip.ParseAddrPort(r.RemoteAddr) // unix sockets have none
	req.Token = token(r.Header)
	if ns := r.Header[namespaceHeader]; len(ns) > 0 {
		req.Namespace = namespace.Canonical(ns[0])
	}
	if err := d.operation(r.Request, req); err != nil {
		return nil, err
	}
	if d.DisallowMetrics && rest == metricsPath || d.MetricsOnly && rest != metricsPath {
		return nil, errs.New(errs.NotFound, "")
	}
	req.Open = req.Op == engine.OpRead && (d.UnauthenticatedMetrics && rest == metricsPath ||
		d.UnauthenticatedInFlight && rest == "sys/in-flight-req" ||
		d.UnauthenticatedProfiles && (rest == "sys/pprof" || strings.HasPrefix(rest, "sys/pprof/")))
	if v := r.Header["X-Vault-Wrap-Ttl"]; len(v) > 0 && v[0] != "" {
		ttl, err := wrapTTL(v[0])
		if err != nil {
			return nil, err
		}
		req.WrapTTL = ttl
		req.WrapFormat = strings.ToLower(r.Header.Get("X-Vault-Wrap-Format"))
	}
	if d.RequireRequestHeader && r.Header.Get("X-Vault-Request") != "true" {
		return nil, errs.New(errs.Precondition, "missing 'X-Vault-Request' header")
	}
	switch req.Op { //nolint:exhaustive // only writes have a body
	case engine.OpUpdate, engine.OpPatch:
		return req, d.body(r, req)
	case engine.OpRead: // and what another node's door reads
		if req.Door && r.ContentLength > 0 {
			return req, d.body(r, req)
		}
	}
	return req, nil
}

func token(h http.Header) string {
	if t := h["X-Vault-Token"]; len(t) > 0 && t[0] != "" {
		return t[0]
	}
	for _, a := range h["Authorization"] {
		if t, ok := strings.CutPrefix(a, "Bearer "); ok {
			return strings.TrimSpace(t)
		}
	}
	return ""
}

func wrapTTL(text string) (time.Duration, error) {
	ttl, err := param.ParseDuration(text)
	if err != nil {
		return 0, errs.New(errs.Invalid, "error parsing X-Vault-Wrap-TTL header: %w", err)
	}
	if ttl < 0 {
		return 0, errs.New(errs.Invalid, "error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative")
	}
	return ttl, nil
}

// operation maps the method, and what goes with it.
func (d *door) operation(r *http.Request, req *engine.Request) error {
	switch r.Method {
	case http.MethodGet:
		return d.get(r, req)
	case "LIST":
		req.Op = engine.OpList
		req.Params = query(r)
	case http.MethodPost, http.MethodPut:
		req.Op = engine.OpUpdate
	case http.MethodDelete:
		req.Op = engine.OpDelete
		req.Params = query(r)
	case http.MethodPatch:
		req.Op = engine.OpPatch
		return mergePatch(r.Header.Get("Content-Type"))
	case http.MethodHead:
		if req.Path != "sys/health" {
			return errs.New(errs.Unsupported, "")
		}
		req.Op = engine.OpRead
		req.Params = query(r)
	case http.MethodOptions:
		// The hall refuses it in its own words.
	default:
		return errs.New(errs.Unsupported, "")
	}
	if req.Op == engine.OpList && !strings.HasSuffix(req.Path, "/") {
		req.Path += "/"
	}
	return nil
}

// get is a read, a list (?list=true) or a request for help (?help=1).
func (d *door) get(r *http.Request, req *engine.Request) error {
	req.Op = engine.OpRead
	if r.URL.RawQuery == "" {
		return nil
	}
	q := r.URL.Query()
	if v := q.Get("list"); v != "" {
		list, err := strconv.ParseBool(v)
		if err != nil {
			return errs.New(errs.Invalid, "")
		}
		if list {
			req.Op = engine.OpList
			if !strings.HasSuffix(req.Path, "/") {
				req.Path += "/"
			}
		}
	}
	if req.Op == engine.OpRead && q.Get("help") != "" {
		req.Op = engine.OpHelp
	}
	delete(q, "list")
	delete(q, "help")
	req.Params = param.Query(q)
	return nil
}

func query(r *http.Request) param.Object {
	if r.URL.RawQuery == "" {
		return nil
	}
	return param.Query(r.URL.Query())
}

// mergePatch checks the content type of a PATCH (RFC 7396).
func mergePatch(contentType string) error {
	const want = "application/merge-patch+json"
	if contentType == want {
		return nil
	}
	got, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return errs.New(errs.Invalid, "%s", err.Error())
	}
	if got != want {
		return errs.New(errs.MediaType, "PATCH requires Content-Type of %s, provided %s", want, got)
	}
	return nil
}

// body reads and checks the body of a write.
func (d *door) body(r *incoming, req *engine.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	if isStream(req.Path) {
		_ = http.NewResponseController(r.w).SetReadDeadline(time.Time{}) // not every writer has one
		req.Body = r.Body
		return nil
	}
	raw, err := r.body()
	if err != nil {
		return err
	}
	r.raw = raw
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") && !looksJSON(raw) {
		q, err := url.ParseQuery(string(raw))
		if err != nil {
			return errs.New(errs.Invalid, "%s", err.Error())
		}
		req.Params = param.Query(q)
		return nil
	}
	req.Params, err = param.ParseObject(raw)
	return err
}

// isStream names the routes whose body is not JSON, and of any size.
func isStream(p string) bool {
	return p == "sys/storage/raft/snapshot" || p == "sys/storage/raft/snapshot-force"
}

var errTooLarge = errs.New(errs.TooLarge, "http: request body too large")

// looksJSON lets clients that send JSON without saying so (curl -d) have their way.
func looksJSON(raw []byte) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == '"'
}

// answer writes a response.
func (d *door) answer(w http.ResponseWriter, r *http.Request, req *engine.Request, res *engine.Response) {
	if res == nil || empty(res) {
		d.head(w, http.StatusNoContent)
		return
	}
	if res.Raw != nil {
		d.raw(w, r, res.Raw)
		return
	}
	code := http.StatusOK
	switch {
	case res.Missing:
		code = http.StatusNotFound
	case res.Accepted:
		code = http.StatusAccepted
	case res.Status != 0:
		code = res.Status
	}
	buf := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buf)
	out, err := engine.AppendResponse((*buf)[:0], req.ID, res)
	if err != nil {
		d.Log.Error("encode answer", "id", req.ID, "path", req.Path, "error", err)
		d.fail(w, err)
		return
	}
	out = append(out, '\n')
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(out))}
	d.head(w, code)
	_, _ = w.Write(out) // the client may be gone
	if cap(out) <= 256<<10 {
		*buf = out
	}
}

// empty is an answer with nothing to tell.
func empty(r *engine.Response) bool {
	return !r.Bare && r.Data == nil && r.Auth == nil && r.Lease == nil && r.Wrap == nil && r.Raw == nil && len(r.Warnings) == 0
}

func (d *door) raw(w http.ResponseWriter, r *http.Request, raw *engine.Raw) {
	h := w.Header()
	if raw.ContentType != "" {
		h.Set("Content-Type", raw.ContentType)
	}
	for k, v := range raw.Header {
		h.Set(k, v)
	}
	code := raw.Status
	if code == 0 {
		code = http.StatusOK
	}
	if raw.Stream == nil {
		if code != http.StatusNoContent {
			h["Content-Length"] = []string{strconv.Itoa(len(raw.Body))}
		}
		d.head(w, code)
		if r.Method != http.MethodHead && code != http.StatusNoContent {
			_, _ = w.Write(raw.Body) // the client may be gone
		}
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // not every writer has one
	d.head(w, code)
	err := raw.Stream(func(p []byte) error {
		if _, err := w.Write(p); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil {
		d.Log.Debug("stream ended", "error", err)
	}
}

func (d *door) head(w http.ResponseWriter, code int) {
	if d.Headers != nil {
		d.Headers(code, w.Header())
	}
	d.answered.count(code)
	w.WriteHeader(code)
}

// fail answers an error. Errors without a kind show no detail.
func (d *door) fail(w http.ResponseWriter, err error) {
	k := errs.KindOf(err)
	code := status(k)
	text := err.Error()
	if k == errs.Internal {
		text = "internal error"
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			text = "the request took too long or was given up"
		}
	}
	body := []byte(`{"errors":[]}` + "\n")
	if text != "" && (k != errs.NotFound || text != errNotFoundText) {
		raw, _ := json.Marshal(map[string][]string{"errors": {text}}) // strings always encode
		body = append(raw, '\n')
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	d.head(w, code)
	_, _ = w.Write(body) // the client may be gone
}

// errNotFoundText is what engines say of something that is not there and needs
// no words.
const errNotFoundText = "not found"
