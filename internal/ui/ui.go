// Package ui is the user interface: plain HTML pages below /ui/, made by the
// server, without a line of script.
//
// It is a door like the others: a form becomes an engine.Request and passes
// through the hall with the token of who is logged in, so that nothing can be
// done here that the API would refuse, and all of it is recorded.
//
// The session is a cookie that holds the token; scripts cannot read it, and it
// is sent by pages of this server only. Forms from elsewhere are refused by
// their origin (http.CrossOriginProtection), pages cannot be framed, and nothing
// is kept by caches.
package ui

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

// Prefix is where the interface lives.
const Prefix = "/ui/"

// Bounds on a form and on how long it may take.
const (
	maxFormBytes = 2 << 20
	maxRequest   = 90 * time.Second
)

// Core serves requests: core.Core.
type Core interface {
	Handle(ctx context.Context, req *engine.Request) (*engine.Response, error)
}

// Config of the interface. Core is needed.
type Config struct {
	Core Core
	Log  *slog.Logger // nil discards
	// Forward sends a request of the API to the active node; see api.Config. Nil where
	// there is no other node.
	Forward func(ctx context.Context, r *http.Request, body []byte) (*http.Response, error)
	// Headers may add to the headers of an answer, or change them.
	Headers func(h http.Header)
}

//go:embed page
var files embed.FS

type door struct {
	core    Core
	log     *slog.Logger
	forward func(ctx context.Context, r *http.Request, body []byte) (*http.Response, error)
	pages   *template.Template
	style   []byte
}

// New makes the handler of all paths that begin with /ui.
func New(cfg Config) (http.Handler, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &door{core: cfg.Core, log: cfg.Log, forward: cfg.Forward}
	var err error
	if d.style, err = files.ReadFile("page/style.css"); err != nil {
		return nil, err
	}
	funcs := template.FuncMap{"link": link}
	if d.pages, err = template.New("").Funcs(funcs).ParseFS(files, "page/*.html"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ui", func(w http.ResponseWriter, r *http.Request) { see(w, r, Prefix) })
	mux.HandleFunc("GET /ui/style.css", d.stylesheet)
	mux.HandleFunc("GET /ui/{$}", d.home)
	for path, fn := range map[string]action{
		"init": d.init, "unseal": d.unseal, "unseal/reset": d.resetUnseal, "login": d.login, "login/factor": d.secondFactor, "logout": d.logout,
	} {
		mux.HandleFunc("POST /ui/"+path, d.form(fn))
	}
	mux.HandleFunc("POST /ui/login/oidc", d.sent(d.beginOIDC))
	mux.HandleFunc("GET "+callbackPath, d.endOIDC)
	mux.HandleFunc("GET "+authorizePath, d.authorize)
	for path, fn := range map[string]action{
		"secrets": d.secrets, "kv/{path...}": d.secret, "policies": d.policies, "policies/{name}": d.policy, "access": d.access, "seal": d.sealPage,
	} {
		mux.HandleFunc("GET /ui/"+path, d.inside(fn))
	}
	for path, fn := range map[string]action{
		"secrets/enable": d.enableSecrets, "kv/{path...}": d.changeSecret, "policies/{name}": d.changePolicy, "policies": d.openPolicy,
		"access/enable": d.enableAuth, "access/namespaces": d.makeNamespace, "seal": d.seal,
	} {
		mux.HandleFunc("POST /ui/"+path, d.form(d.need(fn)))
	}
	mux.HandleFunc("/ui/", func(w http.ResponseWriter, r *http.Request) {
		d.show(w, r, page{Name: "error.html", Error: "There is no such page.", status: http.StatusNotFound})
	})
	return guard(cfg.Headers, http.NewCrossOriginProtection().Handler(mux)), nil
}

// guard sets the headers that keep a page to itself.
func guard(more func(http.Header), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/html; charset=utf-8")
		if more != nil {
			more(h)
		}
		next.ServeHTTP(w, r)
	})
}

func (d *door) stylesheet(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(d.style) // the client may be gone
}

// A page is what a template shows.
type page struct {
	Name      string // of the template
	Error     string
	LoggedIn  bool
	Namespace string
	Data      any
	status    int
}

// An action serves a page or a form: it returns the page to show, or where to go.
type action func(r *http.Request, s session) (page, string)

func (d *door) show(w http.ResponseWriter, r *http.Request, p page) {
	s := sessionOf(r)
	p.LoggedIn, p.Namespace = s.Token != "", s.Namespace
	var b bytes.Buffer
	if err := d.pages.ExecuteTemplate(&b, p.Name, p); err != nil {
		d.log.Error("show a page", "page", p.Name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if p.status != 0 {
		w.WriteHeader(p.status)
	}
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// form serves a form that was sent.
func (d *door) form(fn action) http.HandlerFunc {
	return d.sent(func(w http.ResponseWriter, r *http.Request) {
		p, to := fn(r, sessionOf(r))
		d.end(w, r, p, to)
	})
}

// sent reads a form that was sent.
func (d *door) sent(fn http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		if err := r.ParseForm(); err != nil {
			d.show(w, r, page{Name: "error.html", Error: "The form cannot be read: it is too large or broken.", status: http.StatusBadRequest})
			return
		}
		fn(w, r)
	}
}

// end answers a form.
func (d *door) end(w http.ResponseWriter, r *http.Request, p page, to string) {
	if to != "" {
		setSession(w, r, p.Data)
		see(w, r, to)
		return
	}
	d.show(w, r, p)
}

// inside serves a page to who is logged in.
func (d *door) inside(fn action) http.HandlerFunc {
	fn = d.need(fn)
	return func(w http.ResponseWriter, r *http.Request) {
		p, to := fn(r, sessionOf(r))
		if to != "" {
			see(w, r, to)
			return
		}
		d.show(w, r, p)
	}
}

// need sends who is not logged in to where that is done.
func (d *door) need(fn action) action {
	return func(r *http.Request, s session) (page, string) {
		if s.Token == "" {
			return page{}, Prefix
		}
		return fn(r, s)
	}
}

// see sends the browser to another page, to be fetched with GET.
func see(w http.ResponseWriter, r *http.Request, to string) {
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// ask sends a request through the hall and returns the answer's members. body
// is encoded as JSON; nil is none.
func (d *door) ask(r *http.Request, s session, op engine.Operation, path string, body map[string]any) (map[string]any, *engine.Response, error) {
	if err := checkPath(path); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxRequest)
	defer cancel()
	req := &engine.Request{
		ID: uuid.NewString(), Op: op, Namespace: s.Namespace, Path: path, Token: s.Token, TLS: r.TLS,
		Header: map[string][]string{"User-Agent": r.Header["User-Agent"]},
	}
	req.Remote, _ = netip.ParseAddrPort(r.RemoteAddr) // unix sockets have none
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		if req.Params, err = param.ParseObject(raw); err != nil {
			return nil, nil, err
		}
	}
	out, res, err := d.here(ctx, req)
	if errs.Is(err, errs.NotActive) && d.forward != nil {
		return d.elsewhere(ctx, r, req, body)
	}
	return out, res, err
}

// here has a request served by this node.
func (d *door) here(ctx context.Context, req *engine.Request) (map[string]any, *engine.Response, error) {
	res, err := d.core.Handle(ctx, req)
	if err != nil || res == nil {
		return nil, res, err
	}
	raw, err := res.Encode()
	if res.Raw != nil {
		raw = res.Raw.Body
	}
	if err != nil {
		return nil, res, err
	}
	var out map[string]any
	err = decode(raw, &out)
	return out, res, err
}

// checkPath holds the paths that people type to what the API takes.
func checkPath(path string) error {
	for i := range len(path) {
		if path[i] < 0x20 || path[i] == 0x7f {
			return errs.New(errs.Invalid, "a path cannot hold control characters")
		}
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return errs.New(errs.Invalid, "the path %q has an empty or dot segment", path)
		}
	}
	return nil
}

// failure shows an error on a page.
func failure(p page, err error) (page, string) {
	p.Error, p.status = explain(err), http.StatusBadRequest
	return p, ""
}

// explain is the text of an error as people read it.
func explain(err error) string {
	if errs.KindOf(err) == errs.Internal {
		return "internal error" // the hall has logged it
	}
	text := err.Error()
	if _, list, ok := strings.Cut(text, "occurred:\n"); ok {
		text = strings.TrimSpace(strings.ReplaceAll(list, "\t* ", ""))
	}
	if text == "" {
		return errs.KindOf(err).String()
	}
	return text
}

// isMissing reports whether err says that there is nothing.
func isMissing(err error) bool { return errs.Is(err, errs.NotFound) }

// names are the keys of a listing; there being none is no error.
func (d *door) names(r *http.Request, s session, op engine.Operation, path string) ([]string, error) {
	out, _, err := d.ask(r, s, op, path, nil)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, _ := out["keys"].([]any)
	names := make([]string, 0, len(list))
	for _, k := range list {
		if name, ok := k.(string); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// link escapes a path of the API for use in a URL, segment by segment.
func link(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
