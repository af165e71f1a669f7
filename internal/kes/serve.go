package kes

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/cache"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
)

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	if to, yes := unclean(hr.URL); yes {
		d.redirect(w, hr, to)
		return
	}
	c, argument, to := find(hr.URL.Path)
	if c == nil {
		if to != "" {
			d.redirect(w, hr, to)
			return
		}
		d.unknown(w, hr)
		return
	}
	state, leave := d.enter()
	release := leave
	if c.stream { // a stream does not hold the state up
		leave()
		release = func() {}
	}
	defer release()
	r := &request{ctx: hr.Context(), http: hr, w: w, call: c, state: state, argument: argument, address: clientAddress(hr)}
	defer func() {
		if r.leave != nil {
			r.leave()
		}
	}()
	start := time.Now()
	err := d.witness(r, d.serve(r))
	cut := err != nil && d.refuse(r, err)
	took := time.Since(start)
	if r.passed && c.counted {
		d.metrics.count(r.code, took)
	}
	if !c.stream || err != nil {
		d.audit(r, start, took)
	}
	if cut { // too late for another answer: the client must not take it for whole
		panic(http.ErrAbortHandler)
	}
}

// unknown refuses a path that is none of the API's.
func (d *Door) unknown(w http.ResponseWriter, hr *http.Request) {
	r, leave := d.aside(w, hr, errs.New(errs.NotFound, "not found"))
	defer leave()
	answerError(w, r.code, "not found")
	d.audit(r, time.Now(), 0)
}

// errMoved sends a client to another path.
var errMoved = errors.New("the path is not clean: the client is sent to the one that is")

// redirect sends a client to another path.
func (d *Door) redirect(w http.ResponseWriter, hr *http.Request, to string) {
	clean := *hr
	clean.URL = &url.URL{Path: to}
	if p, err := url.PathUnescape(to); err == nil {
		clean.URL.Path = p
	}
	r, leave := d.aside(w, &clean, errMoved)
	defer leave()
	r.http = hr
	if hr.URL.RawQuery != "" {
		to += "?" + hr.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(r.code)
	d.audit(r, time.Now(), 0)
}

// aside puts a request on record that is for none of the calls: there is nothing to
// be judged.
func (d *Door) aside(w http.ResponseWriter, hr *http.Request, why error) (r *request, leave func()) {
	r = &request{http: hr, w: w, address: clientAddress(hr)}
	r.code, _ = status(why)
	if hr.TLS != nil {
		if cert, err := identity.Pick(hr.TLS.PeerCertificates); err == nil {
			r.identity = identity.Of(cert)
		}
	}
	r.state, leave = d.enter()
	_ = d.witness(r, why)
	return r, leave
}

// witness tells who keeps a record of a request that was answered without them,
// and returns what is to be answered.
func (d *Door) witness(r *request, refusal error) (err error) {
	defer d.survive(&err)
	w, yes := r.state.Access.(Witness)
	if !yes || r.recorded {
		return refusal
	}
	ctx, cancel := context.WithTimeout(r.http.Context(), usualTimeout)
	defer cancel()
	judge := refusal != nil && r.passed && !r.written && !r.call.open && !r.call.self
	if judge {
		return w.Witness(ctx, r.caller(), refusal, true)
	}
	_ = w.Witness(ctx, r.caller(), refusal, false) // it is no reason to answer otherwise
	return refusal
}

// Refused puts a connection on record that ended in its handshake, for want of a
// certificate that is trusted.
func (d *Door) Refused(remote string, why error) {
	state, leave := d.enter()
	defer leave()
	w, yes := state.Access.(Witness)
	if !yes {
		return
	}
	var broken error
	defer d.survive(&broken)
	ctx, cancel := context.WithTimeout(context.Background(), usualTimeout)
	defer cancel()
	by := Caller{Path: "/", HTTP: &http.Request{RemoteAddr: remote}}
	_ = w.Witness(ctx, by, errs.New(errs.Denied, "TLS: the client's certificate is refused: %w", why), false) // as above
}

// serve takes a request through its stations.
func (d *Door) serve(r *request) (err error) {
	defer d.survive(&err)
	c := r.call
	if m := r.http.Method; m != c.method && (m != http.MethodPost || c.method != http.MethodPut) {
		r.w.Header().Set("Accept", c.method) // as KES has it
		r.w.Header().Set("Allow", c.method)
		return errs.New(errs.Unsupported, "method not allowed: this call is a %s", c.method)
	}
	set := r.state.Settings[c.path]
	r.free = set.SkipAuth
	if limit := or(set.Timeout, c.timeout); limit > 0 {
		control := http.NewResponseController(r.w)
		_ = control.SetReadDeadline(time.Now().Add(limit)) // not all connections can
		ctx, cancel := context.WithTimeout(r.ctx, limit)
		defer cancel()
		r.ctx = ctx
	}
	if err := r.authenticate(set.SkipAuth); err != nil {
		return err
	}
	if !c.open && !c.self && !set.SkipAuth {
		if err := r.state.Access.Authorize(r.ctx, r.caller()); err != nil {
			return err
		}
	}
	r.passed = true
	if c.counted {
		d.metrics.active.Add(1)
		defer d.metrics.active.Add(-1)
	}
	return c.serve(d, r)
}

// survive makes an error of a panic; it is to be deferred.
func (d *Door) survive(err *error) {
	if p := recover(); p != nil {
		d.cfg.Log.Error("handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = errors.New("panic")
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// authenticate finds out who asks. Who asks for an open call need be nobody.
func (r *request) authenticate(skip bool) error {
	optional := r.call.open || skip
	if r.http.TLS == nil {
		if optional {
			return nil
		}
		return identity.ErrNone
	}
	cert, err := identity.Pick(r.http.TLS.PeerCertificates)
	if err != nil {
		if optional {
			return nil
		}
		return err
	}
	if r.state.Verify != nil {
		if err := r.state.trust.check(r.http.TLS, r.state.Verify); err != nil {
			return err
		}
	}
	r.identity, r.cert = identity.Of(cert), cert
	if !r.state.Proxies[r.identity] {
		return nil
	}
	if optional && len(r.http.Header.Values(r.state.ProxyHeader)) == 0 {
		return nil // the proxy asks for itself
	}
	return r.forwarded()
}

// forwarded takes the identity from what a TLS proxy says.
func (r *request) forwarded() error {
	values := r.http.Header.Values(r.state.ProxyHeader)
	if len(values) != 1 {
		return errs.New(errs.Invalid, "the TLS proxy sent %d certificates of the client in the header %s instead of one", len(values), r.state.ProxyHeader)
	}
	cert, err := parseForwarded(values[0])
	if err != nil {
		return errs.New(errs.Invalid, "the header %s of the TLS proxy: %w", r.state.ProxyHeader, err)
	}
	if r.state.Verify != nil {
		if err := r.state.Verify([]*x509.Certificate{cert}); err != nil {
			return errs.New(errs.Denied, "the certificate that the TLS proxy sent is not trusted")
		}
	}
	r.identity, r.cert = identity.Of(cert), cert
	first, _, _ := strings.Cut(r.http.Header.Get("X-Forwarded-For"), ",")
	if a, err := netip.ParseAddr(strings.TrimSpace(first)); err == nil {
		r.address = a.WithZone("").String() // a zone is a text of any length
	}
	return nil
}

func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (r *request) caller() Caller {
	return Caller{r.identity, r.cert, r.http.URL.Path, r.http, r.free, &r.recorded}
}

// name returns the argument as the name of something. Whether it can be that of something
// new is for who would make it to say: it may be there.
func (r *request) name() (string, error) { return r.argument, key.CheckKnown(r.argument) }

// read decodes the body into v. With need false, no body is fine.
func (d *Door) read(r *request, v any, need bool) error {
	body := &largeBody{r: r, d: d, body: http.MaxBytesReader(r.w, r.http.Body, r.call.maxBody)}
	defer body.done()
	err := json.NewDecoder(body).Decode(v)
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) && !need:
		return nil
	case errors.As(err, &large):
		return errs.New(errs.Invalid, "the body is larger than %d bytes", r.call.maxBody)
	case errors.Is(err, io.EOF):
		return errs.New(errs.Invalid, "the body is missing")
	case r.ctx.Err() != nil && r.leave == nil && body.read > smallBody:
		return errs.New(errs.Limited, "too many large bodies at once: try again")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errs.New(errs.Invalid, "the body did not come in time")
	}
	return errs.New(errs.Invalid, "the body is not the JSON that this call takes") // its text may quote the body
}

// empty answers success without a body.
func (r *request) empty() error {
	r.written, r.code = true, http.StatusOK
	r.w.Header().Set("Content-Length", "0")
	r.w.WriteHeader(http.StatusOK)
	return nil
}

// json answers a value.
func (r *request) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.raw(b)
}

func (r *request) raw(b []byte) error {
	r.written, r.code = true, http.StatusOK
	h := r.w.Header()
	h["Content-Type"] = jsonType
	if r.leave != nil { // the place is for who comes next
		_ = http.NewResponseController(r.w).SetWriteDeadline(time.Now().Add(answerTime)) // not all connections can
	}
	r.w.WriteHeader(http.StatusOK)
	_, _ = r.w.Write(b) // the client is gone, or not
	return nil
}

var jsonType = []string{"application/json"}

// appendField appends a member of a JSON object whose value is base64.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, '"')
}

// refuse answers an error and logs what the client is not told. It reports that the
// answer has begun already.
func (d *Door) refuse(r *request, err error) (cut bool) {
	code, text := status(err)
	if code >= 500 {
		d.cfg.Log.Error("request failed", "answer", text, "error", err, "req", requestGroup(r))
	}
	r.code = code
	if r.written {
		return true
	}
	answerError(r.w, code, text)
	return false
}

// status is KES's table from errors to codes and texts.
func status(err error) (code int, text string) {
	var bad *cache.BadEntryError
	switch {
	case errors.Is(err, errMoved):
		return http.StatusTemporaryRedirect, errMoved.Error()
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound, store.ErrNotFound.Error()
	case errors.Is(err, store.ErrExists):
		return http.StatusBadRequest, store.ErrExists.Error()
	case errors.Is(err, key.ErrNotAuthentic):
		return http.StatusBadRequest, key.ErrNotAuthentic.Error()
	case errors.Is(err, policy.ErrDenied):
		return http.StatusForbidden, policy.ErrDenied.Error()
	case errors.Is(err, key.ErrNoHMACKey):
		return http.StatusConflict, key.ErrNoHMACKey.Error()
	case errors.As(err, &bad):
		return http.StatusBadGateway, "bad gateway: what the key store holds is no key"
	}
	var kinded *errs.Error
	if errors.As(err, &kinded) {
		switch kinded.Kind {
		case errs.Invalid, errs.TooLarge, errs.Precondition, errs.Conflict:
			return http.StatusBadRequest, err.Error()
		case errs.NotFound:
			return http.StatusNotFound, err.Error()
		case errs.Denied:
			return http.StatusForbidden, err.Error()
		case errs.Unsupported:
			return http.StatusMethodNotAllowed, err.Error()
		case errs.MediaType:
			return http.StatusNotAcceptable, err.Error()
		case errs.Limited:
			return http.StatusTooManyRequests, err.Error()
		case errs.Sealed, errs.Unavailable, errs.NotActive, errs.Failed:
			return http.StatusBadGateway, "bad gateway: the key store failed"
		case errs.Internal:
		}
	}
	var failed *storeError
	if errors.As(err, &failed) {
		if errors.Is(err, context.DeadlineExceeded) {
			return http.StatusGatewayTimeout, "gateway timeout: the key store did not answer in time"
		}
		return http.StatusBadGateway, "bad gateway: the key store failed"
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return http.StatusGatewayTimeout, "the request took too long"
	}
	return http.StatusInternalServerError, "internal server error"
}

// A storeError is a failure of the key store, told apart from our own.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// fromStore marks an error as the store's.
func fromStore(err error) error {
	if err == nil {
		return nil
	}
	return &storeError{err}
}

func answerError(w http.ResponseWriter, code int, text string) {
	b, err := json.Marshal(struct {
		Message string `json:"message"`
	}{text})
	if err != nil {
		b = []byte(`{"message":"internal server error"}`)
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone, or not
}
