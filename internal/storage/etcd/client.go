package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"arca/internal/errs"
)

// A client speaks the JSON form of etcd's API (gRPC gateway), to whichever of the endpoints answers.
type client struct {
	http      *http.Client
	endpoints []string
	at        atomic.Int64 // the endpoint that answered last
	user      string
	password  string

	mu    sync.Mutex
	token string // of the user; "" before the first
}

const (
	maxAnswer   = 1 << 30
	dialTime    = 3 * time.Second
	idleConns   = 64
	maxErrBytes = 64 << 10
)

func newClient(cfg *Config) (*client, error) {
	c := &client{user: cfg.Username, password: cfg.Password}
	for a := range strings.SplitSeq(cfg.Address, ",") {
		a = strings.TrimSuffix(strings.TrimSpace(a), "/")
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, errs.New(errs.Invalid, "address: %q is no URL as http://127.0.0.1:2379", a)
		}
		if u.User != nil {
			return nil, errs.New(errs.Invalid, "address: give user and password by username and password")
		}
		c.endpoints = append(c.endpoints, a)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, errs.New(errs.Invalid, "tls_ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errs.New(errs.Invalid, "tls_ca_file %q holds no certificate in PEM", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, errs.New(errs.Invalid, "tls_cert_file and tls_key_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	d := &net.Dialer{Timeout: dialTime}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: d.DialContext, TLSClientConfig: conf, MaxIdleConnsPerHost: idleConns, ForceAttemptHTTP2: false, DisableCompression: true,
	}}
	return c, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// A failure is what etcd said.
type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Text    string `json:"error"`
}

// Error implements error.
func (f *failure) Error() string {
	if f.Message != "" {
		return f.Message
	}
	return f.Text
}

// loginHelps reports whether etcd refuses the token: there is none, it has expired, or it was given before users or their rights changed.
func (f *failure) loginHelps() bool {
	if f.Code == codeUnknownToken {
		return true
	}
	for _, text := range []string{"auth token", "user name is empty", "revision of auth store is old"} {
		if strings.Contains(f.Error(), text) {
			return true
		}
	}
	return false
}

// Codes of gRPC.
const (
	codeInvalid      = 3
	codeExhausted    = 8
	codePrecondition = 9
	codeDenied       = 7
	codeUnknownToken = 16
)

// refused reports whether an error says that the request was not carried out.
func refused(err error) bool {
	var f *failure
	if errors.As(err, &f) {
		return f.Code == codeInvalid || f.Code == codeExhausted || f.Code == codePrecondition || f.Code == codeDenied || f.Code == codeUnknownToken
	}
	return notSent(err)
}

// noSpace reports whether etcd has said that it has no room.
func noSpace(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.Code == codeExhausted && strings.Contains(f.Error(), "space exceeded")
}

func notSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial"
}

// call asks, at the next endpoint if one cannot be reached. A request that was sent is not sent again.
func (c *client) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		err = c.anywhere(ctx, path, body, out)
		var f *failure
		if c.user == "" || again || !errors.As(err, &f) || !f.loginHelps() {
			return explain(err)
		}
		if err := c.login(ctx); err != nil {
			return explain(err)
		}
	}
}

func (c *client) anywhere(ctx context.Context, path string, body []byte, out any) (err error) {
	start := c.at.Load()
	for i := range int64(len(c.endpoints)) {
		n := (start + i) % int64(len(c.endpoints))
		if err = c.post(ctx, c.endpoints[n]+path, body, out); err == nil || !notSent(err) {
			c.at.Store(n)
			return err
		}
	}
	return err
}

func (c *client) login(ctx context.Context) error {
	body, err := json.Marshal(map[string]string{"name": c.user, "password": c.password})
	if err != nil {
		return err
	}
	c.setToken("")
	var out struct {
		Token string `json:"token"`
	}
	if err := c.anywhere(ctx, "/v3/auth/authenticate", body, &out); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	c.setToken(out.Token)
	return nil
}

func (c *client) setToken(t string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = t
}

func (c *client) post(ctx context.Context, to string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	c.mu.Lock()
	if c.token != "" {
		req.Header.Set("Authorization", c.token)
	}
	c.mu.Unlock()
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxErrBytes)) // what there is of it
		f := &failure{}
		if json.Unmarshal(text, f) != nil || f.Error() == "" {
			f.Message = fmt.Sprintf("HTTP %d", res.StatusCode)
			if res.StatusCode == http.StatusNotFound {
				f.Code, f.Message = codeInvalid, "it answers 404: etcd 3.4 or later is needed, with its gRPC gateway (--enable-grpc-gateway)"
			}
		}
		return f
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out)
}

// explain gives an error a kind and a name.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var f *failure
	if !errors.As(err, &f) {
		return errs.New(errs.Unavailable, "etcd cannot be reached: %w", err)
	}
	switch {
	case f.Code == codeInvalid && strings.Contains(f.Error(), "too large"):
		return errs.New(errs.TooLarge, "etcd: %w: what one request may write is bounded by etcd's --max-request-bytes", err)
	case f.Code == codeExhausted:
		return errs.New(errs.Unavailable, "etcd: %w: compact and defragment it, or raise its quota", err)
	case f.Code == codeDenied, f.Code == codeUnknownToken, strings.Contains(f.Error(), "authentication failed"):
		return errs.New(errs.Unavailable, "etcd: %w: check username and password, and the rights of this user", err)
	}
	return errs.New(errs.Unavailable, "etcd: %w", err)
}

// What is sent and answered; bytes are base64 in JSON, 64-bit numbers text.

type rangeRequest struct {
	Key      []byte `json:"key"`
	End      []byte `json:"range_end,omitempty"`
	Limit    int    `json:"limit,omitempty"`
	KeysOnly bool   `json:"keys_only,omitempty"`
}

type keyValue struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
	Lease int64  `json:"lease,string"`
}

type rangeResponse struct {
	KVs []keyValue `json:"kvs"`
}

type putRequest struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
	Lease int64  `json:"lease,string,omitempty"`
}

type deleteRequest struct {
	Key []byte `json:"key"`
	End []byte `json:"range_end,omitempty"`
}

type operation struct {
	Range  *rangeRequest  `json:"request_range,omitempty"`
	Put    *putRequest    `json:"request_put,omitempty"`
	Delete *deleteRequest `json:"request_delete_range,omitempty"`
}

type comparison struct {
	Key    []byte `json:"key"`
	Target string `json:"target"`
	Result string `json:"result"`
	Value  []byte `json:"value,omitempty"`
	Create string `json:"create_revision,omitempty"`
}

type txnRequest struct {
	Compare []comparison `json:"compare,omitempty"`
	Success []operation  `json:"success,omitempty"`
	Failure []operation  `json:"failure,omitempty"`
}

type txnResponse struct {
	Succeeded bool `json:"succeeded"`
	Responses []struct {
		Range *rangeResponse `json:"response_range"`
	} `json:"responses"`
}

type leaseRequest struct {
	ID  int64 `json:"ID,string,omitempty"`
	TTL int64 `json:"TTL,string,omitempty"`
}

type leaseResponse struct {
	ID    int64  `json:"ID,string"`
	TTL   int64  `json:"TTL,string"`
	Error string `json:"error"`
}
