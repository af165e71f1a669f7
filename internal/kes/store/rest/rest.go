// Package rest asks key stores that speak JSON over HTTP: with kept
// connections, bounds on time and size, and retries; and keeps what they answer
// to errors out of our own.
package rest

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
)

// Bounds of answers, in bytes: of most, of a page of a listing, of one that has no
// pages and holds half a million names.
const (
	maxAnswer  = 1 << 20
	MaxPage    = 16 << 20
	MaxListing = 64 << 20
)

// A Client asks one service. Its fields are not changed once in use.
type Client struct {
	Base    string // "https://host:port", without a slash at its end
	HTTP    *http.Client
	Retries int // after a network error or a 5xx, 0.2 to 1 s apart
	// Prepare sets headers; it may read the body. It may be nil.
	Prepare func(r *http.Request, body []byte) error
	// Again is asked once, after an answer of 401 or 403, whether it is worth
	// asking again (with a new token). It may be nil.
	Again func(ctx context.Context, status int) bool
}

// A StatusError is an answer that is not a success.
type StatusError struct {
	Code    int
	Message string // what the service said, shortened, for the log only
	Kind    string // the service's own word for the failure, if any
	Body    []byte // as it came, at most 64 KiB; for this package's users to look into
}

// Error returns the code and the message.
func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("it answered %d %s", e.Code, http.StatusText(e.Code))
	}
	return fmt.Sprintf("it answered %d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

// Is reports whether err is an answer with one of the codes.
func Is(err error, codes ...int) bool {
	var s *StatusError
	if !errors.As(err, &s) {
		return false
	}
	for _, c := range codes {
		if s.Code == c {
			return true
		}
	}
	return false
}

// A Request is one question.
type Request struct {
	Method, Path string // the path is escaped already and begins with a slash
	Query        url.Values
	In           any        // sent as JSON; nil sends nothing
	Form         url.Values // sent as a form instead
	Out          any        // decoded from JSON; nil drops the answer
	Raw          *[]byte    // gets the answer as it came, instead
	Header       http.Header
	Max          int64 // bytes of the answer; 0 is a megabyte
	Again        *bool // set when it was asked more than once: an earlier answer may have been lost
}

// Do asks. An answer other than 2xx is a *StatusError; no answer at all is a
// *store.UnreachableError.
func (c *Client) Do(ctx context.Context, q Request) error {
	var body []byte
	if q.In != nil {
		var err error
		if body, err = json.Marshal(q.In); err != nil {
			return err
		}
	}
	if q.Form != nil {
		body = []byte(q.Form.Encode())
	}
	asked := false
	for try := 0; ; try++ {
		err := c.once(ctx, q, body)
		var s *StatusError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &s) && (s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden):
			if asked || c.Again == nil || !c.Again(ctx, s.Code) {
				return fmt.Errorf("%s %s: %w", q.Method, q.Path, err)
			}
			asked = true
			continue
		case try >= c.Retries || ctx.Err() != nil || !store.IsUnreachable(err) && (s == nil || s.Code < 500):
			return fmt.Errorf("%s %s: %w", q.Method, q.Path, err)
		}
		if !wait(ctx, 200*time.Millisecond+rand.N(800*time.Millisecond)) { //nolint:gosec // spreads retries
			return fmt.Errorf("%s %s: %w", q.Method, q.Path, err)
		}
		if q.Again != nil {
			*q.Again = true
		}
	}
}

// Made says how a creation of value ended that answered err. One that was asked again
// and finds its own value has made it, and lost the answer.
func Made(ctx context.Context, s store.Store, name string, value []byte, again bool, err error) error {
	if !again || !errors.Is(err, store.ErrExists) {
		return err
	}
	found, getErr := s.Get(ctx, name)
	defer clear(found)
	if getErr == nil && subtle.ConstantTimeCompare(found, value) == 1 {
		return nil
	}
	return err
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Client) once(ctx context.Context, q Request, body []byte) error {
	target := c.Base + q.Path
	if len(q.Query) > 0 {
		target += "?" + q.Query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.Form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range q.Header {
		r.Header[k] = v
	}
	if c.Prepare != nil {
		if err := c.Prepare(r, body); err != nil {
			return err
		}
	}
	answer, err := c.HTTP.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is ours to name
		}
		return &store.UnreachableError{Err: err}
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return refusal(answer)
	}
	most := q.Max
	if most <= 0 {
		most = maxAnswer
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return &store.UnreachableError{Err: err}
	case int64(len(data)) > most:
		return fmt.Errorf("it answered more than %d bytes", most)
	case q.Raw != nil:
		*q.Raw = data
		return nil
	case q.Out == nil:
		return nil
	case json.Unmarshal(data, q.Out) != nil: // its text may quote the answer
		return errors.New("what it answered is not the JSON that was asked for")
	}
	return nil
}

// refusal reads what services of this kind say of a failure.
func refusal(answer *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // what came suffices
	var said struct {
		Errors   []string        `json:"errors"`   // Vault
		Message  string          `json:"message"`  // most
		Error    json.RawMessage `json:"error"`    // a text, or an object
		CodeDesc string          `json:"codeDesc"` // KeySecure
		Type     string          `json:"__type"`   // AWS
	}
	e := &StatusError{Code: answer.StatusCode, Body: data}
	if json.Unmarshal(data, &said) != nil {
		e.Message = Redact(string(data))
		return e
	}
	var text string
	var inner struct {
		Message string `json:"message"`
		Status  string `json:"status"`
	}
	_ = json.Unmarshal(said.Error, &text)
	_ = json.Unmarshal(said.Error, &inner)
	parts := append(said.Errors, said.Message, text, inner.Message, said.CodeDesc)
	for _, p := range parts {
		if p != "" {
			e.Message = Redact(p)
			break
		}
	}
	e.Kind = firstOf(said.Type, inner.Status, said.CodeDesc)
	return e
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// What could be a key or a token: long, and without spaces.
var secretLike = regexp.MustCompile(`[A-Za-z0-9+/=_.-]{24,}`)

// Redact shortens what a service said and takes out what could be a secret that
// it repeats.
func Redact(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = secretLike.ReplaceAllString(strings.TrimSpace(text), "…")
	if len(text) > 256 {
		text = strings.ToValidUTF8(text[:256], "") + "…"
	}
	return text
}

// TLS is how a service is trusted and what it is shown.
type TLS struct {
	CA        string // file or folder of PEM certificates; empty: the system's
	Cert, Key string // client certificate; both or none
	// Certificate makes the client certificate of each connection instead; it may
	// be nil.
	Certificate func() (*tls.Certificate, error)
}

// NewHTTP makes a client: HTTP/1.1, kept connections that do not stay for ever,
// and bounds on the time to connect and to begin an answer, so that a service
// that died hard holds nobody up.
func NewHTTP(t TLS) (*http.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pool, err := Pool(t.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if t.Cert != "" || t.Key != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, errs.New(errs.Invalid, "client certificate for the key store: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if t.Certificate != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate() }
	}
	dial := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dial.DialContext,
			TLSClientConfig:       cfg,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 10 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConns:          64,
			MaxIdleConnsPerHost:   64,
		},
		Timeout: time.Minute,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if !sameServer(via[0].URL, r.URL) { // it would get what proves who we are
				return http.ErrUseLastResponse
			}
			return sameSafety(r, via)
		},
	}, nil
}

// FollowStandbys lets a client of NewHTTP follow redirections to other hosts, too, as
// standbys of a Vault send them; else it follows them to the same host and port only.
func FollowStandbys(c *http.Client) { c.CheckRedirect = sameSafety }

// sameServer reports whether two URLs lead to the same host and port, however they are
// written (RFC 3986, section 6.2), or the second to the same host with TLS, where both
// leave the port out.
func sameServer(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	return portOf(a) == portOf(b) || portOf(a) == "80" && portOf(b) == "443" && b.Scheme == "https"
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func sameSafety(r *http.Request, via []*http.Request) error {
	if len(via) > 3 || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return http.ErrUseLastResponse
	}
	return nil
}

// Metadata returns the client for a request that looks for credentials: what
// goes to the machine's own service, in clear, never goes through a proxy.
func Metadata(c *http.Client, r *http.Request) *http.Client {
	t, ok := c.Transport.(*http.Transport)
	if !ok || r.URL.Scheme == "https" {
		return c
	}
	direct := t.Clone()
	direct.Proxy = nil
	direct.DisableKeepAlives = true
	return &http.Client{Transport: direct, Timeout: c.Timeout, CheckRedirect: c.CheckRedirect}
}

// Pool reads certificates from a file, or from all files of a folder.
func Pool(path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, AddTo(pool, path)
}

// AddTo adds the certificates of a file, or of all files of a folder, to a pool.
func AddTo(pool *x509.CertPool, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errs.New(errs.Invalid, "certificates to trust: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*")); err != nil {
			return err
		}
	}
	found := false
	for _, f := range files {
		data, err := os.ReadFile(f) //nolint:gosec // named in the configuration
		if err != nil && !info.IsDir() {
			return errs.New(errs.Invalid, "certificates to trust: %w", err)
		}
		found = pool.AppendCertsFromPEM(data) || found
	}
	if !found {
		return errs.New(errs.Invalid, "certificates to trust: %s holds none in PEM form", path)
	}
	return nil
}

// Base checks an address and returns it without a slash at its end. One without
// a scheme is HTTPS. It may have a path, but neither a query nor a fragment, also none
// that is empty: what is asked would become part of that, and the address choose the
// whole path. What may have a password in it is not repeated.
func Base(endpoint, field string) (string, error) {
	if endpoint == "" {
		return "", errs.New(errs.Invalid, "%s is missing: the address of the service, such as https://127.0.0.1:8200", field)
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err == nil && u.User != nil, err != nil && strings.Contains(endpoint, "@"):
		return "", errs.New(errs.Invalid, "%s: the address of a service has no user and no password in it: it is one such as https://127.0.0.1:8200", field)
	case strings.ContainsAny(endpoint, "?#"):
		return "", errs.New(errs.Invalid, "%s: the address of a service has no ? and no # in it: it is one such as https://127.0.0.1:8200", field)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", errs.New(errs.Invalid, "%s: %q is no address of a service, such as https://127.0.0.1:8200", field, endpoint)
	}
	return strings.TrimSuffix(endpoint, "/"), nil
}

// Ping asks for anything and returns how long the answer took; any answer will
// do.
func (c *Client) Ping(ctx context.Context, path string) (time.Duration, error) {
	start := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return 0, err
	}
	answer, err := c.HTTP.Do(r)
	if err != nil {
		return 0, &store.UnreachableError{Err: err}
	}
	_ = answer.Body.Close()
	return time.Since(start), nil
}

// Close gives up kept connections.
func (c *Client) Close() error {
	c.HTTP.CloseIdleConnections()
	return nil
}
