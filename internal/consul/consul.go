// Package consul is a small client of Consul's HTTP API. What its options do not say, the variables of Consul's own
// clients do.
package consul

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
)

const (
	dialTime  = 3 * time.Second
	maxWords  = 300
	maxAnswer = 1 << 20
)

// Config says how an agent is reached.
type Config struct {
	// Options are address, scheme, token and tls_… of a stanza.
	Options map[string]string
	Getenv  func(string) string
	// Conns bounds connections at once; 0 does not.
	Conns int
}

// A Client speaks with one agent. It is safe for concurrent use.
type Client struct {
	base, token string
	user, pass  string // of CONSUL_HTTP_AUTH
	namespace   string // of Consul Enterprise
	http        *http.Client
}

// New checks cfg. It does not connect.
func New(cfg Config) (*Client, error) {
	o := cfg.Options
	c := &Client{token: cmp.Or(o["token"], cfg.Getenv("CONSUL_HTTP_TOKEN")), namespace: cfg.Getenv("CONSUL_NAMESPACE")}
	c.user, c.pass, _ = strings.Cut(cfg.Getenv("CONSUL_HTTP_AUTH"), ":")
	for _, name := range []string{"CONSUL_CAPATH", "CONSUL_PARTITION"} {
		if cfg.Getenv(name) != "" {
			return nil, errs.New(errs.Unsupported, "%s is set, which is not supported", name)
		}
	}
	if file := cfg.Getenv("CONSUL_HTTP_TOKEN_FILE"); c.token == "" && file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, errs.New(errs.Invalid, "CONSUL_HTTP_TOKEN_FILE: %w", err)
		}
		c.token = strings.TrimSpace(string(text))
	}
	scheme := o["scheme"]
	if ssl, _ := strconv.ParseBool(cfg.Getenv("CONSUL_HTTP_SSL")); scheme == "" && ssl { // what is no bool is none
		scheme = "https"
	}
	address := cmp.Or(o["address"], cfg.Getenv("CONSUL_HTTP_ADDR"), "127.0.0.1:8500")
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, IdleConnTimeout: 3 * time.Minute,
		MaxConnsPerHost: cfg.Conns, MaxIdleConnsPerHost: max(cfg.Conns, 2),
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", path)
		}
		scheme, address = "http", "consul"
	} else if before, rest, ok := strings.Cut(address, "://"); ok {
		scheme, address = before, rest
	}
	scheme = cmp.Or(scheme, "http")
	if scheme != "http" && scheme != "https" {
		return nil, errs.New(errs.Invalid, "the scheme must be http or https, not %q", scheme)
	}
	c.base = scheme + "://" + strings.TrimSuffix(address, "/")
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errs.New(errs.Invalid, "address must be a host and a port, as in 127.0.0.1:8500")
	}
	if scheme == "https" {
		var err error
		if transport.TLSClientConfig, err = tlsConfig(&cfg); err != nil {
			return nil, err
		}
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}
	return c, nil
}

func tlsConfig(cfg *Config) (*tls.Config, error) {
	o := cfg.Options
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.Getenv("CONSUL_TLS_SERVER_NAME")}
	if text := o["tls_min_version"]; text != "" {
		versions := map[string]uint16{"tls10": tls.VersionTLS10, "tls11": tls.VersionTLS11, "tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13}
		v, ok := versions[text]
		if !ok {
			return nil, errs.New(errs.Invalid, "tls_min_version must be tls10, tls11, tls12 or tls13, not %q", text)
		}
		conf.MinVersion = v
	}
	if text := o["tls_skip_verify"]; text != "" {
		var err error
		if conf.InsecureSkipVerify, err = strconv.ParseBool(text); err != nil {
			return nil, errs.New(errs.Invalid, "tls_skip_verify must be true or false, not %q", text)
		}
	} else if verify, err := strconv.ParseBool(cfg.Getenv("CONSUL_HTTP_SSL_VERIFY")); err == nil && !verify {
		conf.InsecureSkipVerify = true
	}
	if file := cmp.Or(o["tls_ca_file"], cfg.Getenv("CONSUL_CACERT")); file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, errs.New(errs.Invalid, "tls_ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errs.New(errs.Invalid, "tls_ca_file %q holds no certificate", file)
		}
	}
	cert, key := cmp.Or(o["tls_cert_file"], cfg.Getenv("CONSUL_CLIENT_CERT")), cmp.Or(o["tls_key_file"], cfg.Getenv("CONSUL_CLIENT_KEY"))
	if (cert == "") != (key == "") {
		return nil, errs.New(errs.Invalid, "tls_cert_file and tls_key_file belong together")
	}
	if cert != "" {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return nil, errs.New(errs.Invalid, "tls_cert_file and tls_key_file: %w", err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // which may have been renewed
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
	}
	return conf, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// An Error is what Consul answered instead.
type Error struct {
	Status int
	Words  string // shortened
}

func (e *Error) Error() string {
	if e.Words == "" {
		return fmt.Sprintf("Consul answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("Consul answers %d: %s", e.Status, e.Words)
}

// Status is that of an answer that err is; 0 for another error, after which nobody knows what Consul did.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// IsNotFound reports whether err is the answer that there is no such thing.
func IsNotFound(err error) bool { return Status(err) == http.StatusNotFound }

// MayPass reports whether the same request may be served later; doubt, whether it may have been served already.
func MayPass(err error) (again, doubt bool) {
	status := Status(err)
	doubt = err != nil && (status == 0 || status >= 500) && errs.KindOf(err) != errs.TooLarge && errs.KindOf(err) != errs.Invalid
	return doubt || status == http.StatusTooManyRequests, doubt
}

// Methods of a Request.
const (
	Get    = http.MethodGet
	Put    = http.MethodPut
	Delete = http.MethodDelete
)

// A Request is one question to the API.
type Request struct {
	Method, Path string // the path is escaped as it goes out
	Query        url.Values
	Body         []byte
	Most         int64 // bytes of the answer; 0 is 1 MiB
}

// Do asks once. An answer other than 200 is an *Error.
func (c *Client) Do(ctx context.Context, q Request) ([]byte, error) {
	address, query := c.base+q.Path, q.Query
	if c.namespace != "" {
		query = maps.Clone(query)
		if query == nil {
			query = url.Values{}
		}
		query.Set("ns", c.namespace)
	}
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, address, bytes.NewReader(q.Body))
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("X-Consul-Token", c.token)
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.pass)
	}
	a, err := c.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, errs.New(errs.Unavailable, "reach Consul: %w", err)
	}
	defer func() { _ = a.Body.Close() }() // only read
	most := cmp.Or(q.Most, maxAnswer)
	if a.StatusCode != http.StatusOK {
		most = maxWords
	}
	body, err := io.ReadAll(io.LimitReader(a.Body, most+1))
	switch {
	case a.StatusCode != http.StatusOK: // the status counts, whatever became of its words
		return nil, errs.New(kindOf(a.StatusCode), "%w", &Error{a.StatusCode, words(body)})
	case err != nil:
		return nil, errs.New(errs.Unavailable, "read the answer of Consul: %w", err)
	case int64(len(body)) > most:
		return nil, errs.New(errs.TooLarge, "Consul answers more than %d bytes", most)
	}
	return body, nil
}

func kindOf(status int) errs.Kind {
	if status == http.StatusNotFound {
		return errs.NotFound
	}
	return errs.Unavailable
}

func words(body []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(body), "?"))
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return strings.TrimSpace(s)
}
