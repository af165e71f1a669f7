package kes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// An UpstreamConfig names another KES server, and who this one is to it: by a
// certificate in TLS, or by an API key.
type UpstreamConfig struct {
	Endpoints []string // of one server or several that are alike: the next is asked when one is not there
	APIKey    string
	TLS       rest.TLS
	Log       *slog.Logger // nil discards
}

// Upstream is the keys of another KES server. They do not leave it: each call is
// made there, by this server's identity, after this server's policies have let it
// pass. Any KES will do that has the calls; the other server's policies must allow
// this one create, encrypt, decrypt, and whatever else its clients may do.
type Upstream struct {
	servers []*rest.Client
	last    atomic.Int64 // index of the one that answered last
	log     *slog.Logger
}

var _ Keys = (*Upstream)(nil)

// maxUpstream bounds the other server's answers in bytes: a plaintext of the
// largest body.
const maxUpstream = 4 << 20

// OpenUpstream checks that one of the servers can be reached.
func OpenUpstream(ctx context.Context, cfg UpstreamConfig) (*Upstream, error) {
	u := &Upstream{log: cfg.Log}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	switch mine := cfg.TLS.Cert != "" || cfg.TLS.Key != ""; {
	case mine && cfg.APIKey != "":
		return nil, errs.New(errs.Invalid, "keystore.kes: api_key and tls.cert are both set; one of them is this server's identity")
	case cfg.APIKey != "":
		k, err := identity.ParseAPIKey(cfg.APIKey)
		if err != nil {
			return nil, errs.New(errs.Invalid, "keystore.kes.api_key: %w", err)
		}
		cfg.TLS.Certificate = func() (*tls.Certificate, error) {
			c, err := k.Certificate(time.Now()) // it is good for 90 days
			return &c, err
		}
	case cfg.TLS.Cert == "" || cfg.TLS.Key == "":
		return nil, errs.New(errs.Invalid, "keystore.kes: this server's identity is missing: set tls.cert and tls.key, or api_key")
	}
	if len(cfg.Endpoints) == 0 {
		return nil, errs.New(errs.Invalid, "keystore.kes.endpoint is missing: the address of the other KES server, such as https://127.0.0.1:7373")
	}
	web, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	for _, e := range cfg.Endpoints {
		base, err := rest.Base(e, "keystore.kes.endpoint")
		if err != nil {
			return nil, err
		}
		u.servers = append(u.servers, &rest.Client{Base: base, HTTP: web})
	}
	if _, err := u.Status(ctx, Caller{}); err != nil {
		return nil, fmt.Errorf("KES at %s: %w", u, err)
	}
	return u, nil
}

// String tells where the other server is.
func (u *Upstream) String() string {
	text := "KES: " + u.servers[0].Base
	if n := len(u.servers); n > 1 {
		text += fmt.Sprintf(" and %d more", n-1)
	}
	return text
}

// Close gives up kept connections.
func (u *Upstream) Close() error { return u.servers[0].Close() }

// rounds is how often all servers are tried.
const rounds = 2

// do asks the server that answered last, and the others when it is not there.
func (u *Upstream) do(ctx context.Context, q rest.Request) error {
	if q.Max == 0 {
		q.Max = maxUpstream
	}
	first := int(u.last.Load())
	var err, unknown error // unknown: what may have happened nevertheless
	for try := range rounds * len(u.servers) {
		at := (first + try) % len(u.servers)
		if err = u.servers[at].Do(ctx, q); !isGone(err) {
			u.last.Store(int64(at))
			err = named(q, answered(err))
			if unknown != nil && (errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound)) {
				return unknown // this very call may have made it so
			}
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if !isUnsent(err) && changes(q) {
			unknown = err
		}
	}
	return answered(err)
}

// changes reports whether a call answers otherwise when it is made twice.
func changes(q rest.Request) bool {
	return q.Method == http.MethodDelete || strings.HasPrefix(q.Path, "/v1/key/create/") || strings.HasPrefix(q.Path, "/v1/key/import/")
}

// isGone reports whether another server may be in a better state.
func isGone(err error) bool {
	return store.IsUnreachable(err) || rest.Is(err, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
}

// isUnsent reports whether a request has not left.
func isUnsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// answered makes this server's error of the other's. That it refuses this server is
// no refusal of the client.
func answered(err error) error {
	var refused *rest.StatusError
	if !errors.As(err, &refused) {
		return err
	}
	var said struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(refused.Body, &said) // else it is none of KES's
	for _, known := range []struct {
		code int
		err  error
	}{
		{http.StatusNotFound, store.ErrNotFound},
		{http.StatusBadRequest, store.ErrExists},
		{http.StatusBadRequest, key.ErrNotAuthentic},
	} {
		if refused.Code == known.code && said.Message == known.err.Error() {
			return known.err
		}
	}
	if refused.Code == http.StatusForbidden {
		return fmt.Errorf("this server's identity may not do that there: %w", err)
	}
	return err
}

// named makes a refusal of the client's of what a server says to whom names of 2023 are
// none: see key.CheckKnown.
func named(q rest.Request, err error) error {
	name := q.Path[strings.LastIndexByte(q.Path, '/')+1:]
	if rest.Is(err, http.StatusBadRequest) && key.WasName(name) && !key.IsName(name) {
		return key.CheckName(name)
	}
	return err
}

func upstreamPath(call, name string) string { return "/v1/key/" + call + "/" + url.PathEscape(name) }

// Create implements Keys. The other server names this one as the maker.
func (u *Upstream) Create(ctx context.Context, by Caller, name string, secret []byte, cipher key.Cipher) error {
	if err := key.CheckName(name); err != nil {
		return newName(ctx, u, by, name, err)
	}
	if secret == nil {
		return u.do(ctx, rest.Request{Method: http.MethodPut, Path: upstreamPath("create", name)})
	}
	in := struct {
		Key       []byte `json:"key"`
		Cipher    string `json:"cipher"`
		Bytes     []byte `json:"bytes"` // as of 2023
		Algorithm string `json:"algorithm"`
	}{secret, cipher.String(), secret, ""}
	switch cipher {
	case key.AES256:
		in.Algorithm = "AES256-GCM_SHA256"
	case key.ChaCha20:
		in.Algorithm = "XCHACHA20-POLY1305"
	case key.Unspecified:
	}
	return u.do(ctx, rest.Request{Method: http.MethodPut, Path: upstreamPath("import", name), In: in})
}

// Describe implements Keys.
func (u *Upstream) Describe(ctx context.Context, _ Caller, name string) (Description, error) {
	var out struct {
		ID        string    `json:"id"`
		Algorithm string    `json:"algorithm"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
	}
	if err := u.do(ctx, rest.Request{Method: http.MethodGet, Path: upstreamPath("describe", name), Out: &out}); err != nil {
		return Description{}, err
	}
	c, _ := key.ParseCipher(out.Algorithm) // of an old key: none
	return Description{c, out.ID, out.CreatedAt, out.CreatedBy}, nil
}

// Delete implements Keys.
func (u *Upstream) Delete(ctx context.Context, _ Caller, name string) error {
	return u.do(ctx, rest.Request{Method: http.MethodDelete, Path: upstreamPath("delete", name)})
}

// List implements Keys. Pages are the other server's, which the last KES has not:
// of more than 1,024 keys it tells no more.
func (u *Upstream) List(ctx context.Context, _ Caller, prefix, from string, n int) ([]string, string, error) {
	at := prefix
	if from != "" {
		at = prefix + "~" + from[len(prefix):]
	}
	var out struct {
		Names      []string `json:"names"`
		ContinueAt string   `json:"continue_at"`
	}
	q := rest.Request{Method: http.MethodGet, Path: upstreamPath("list", at), Out: &out, Max: rest.MaxPage}
	if err := u.do(ctx, q); err != nil {
		return nil, "", err
	}
	var names []string
	for _, name := range out.Names {
		names = store.Add(names, name)
	}
	names, next := store.Page(names, prefix, from, n)
	if next != "" || out.ContinueAt == "" {
		return names, next, nil
	}
	_, next, err := key.ParsePattern(out.ContinueAt)
	if err != nil || next <= from || !strings.HasPrefix(next, prefix) {
		return names, "", nil //nolint:nilerr // it has no pages
	}
	return names, next, nil
}

type sealedOut struct {
	Ciphertext []byte `json:"ciphertext"`
	Plaintext  []byte `json:"plaintext"`
	HMAC       []byte `json:"hmac"`
}

// Encrypt implements Keys.
func (u *Upstream) Encrypt(ctx context.Context, _ Caller, name string, plaintext, context []byte) ([]byte, error) {
	if plaintext == nil {
		plaintext = []byte{}
	}
	in := struct {
		Plaintext []byte `json:"plaintext"`
		Context   []byte `json:"context,omitempty"`
	}{plaintext, context}
	var out sealedOut
	err := u.do(ctx, rest.Request{Method: http.MethodPut, Path: upstreamPath("encrypt", name), In: in, Out: &out})
	if err == nil && len(out.Ciphertext) < len(plaintext)+key.Overhead {
		err = errors.New("it answered no ciphertext")
	}
	return out.Ciphertext, err
}

// Decrypt implements Keys, one after the other: not every KES opens several.
func (u *Upstream) Decrypt(ctx context.Context, _ Caller, name string, sealed []Sealed) ([][]byte, error) {
	all := make([][]byte, 0, len(sealed))
	for _, s := range sealed {
		in := struct {
			Ciphertext []byte `json:"ciphertext"`
			Context    []byte `json:"context,omitempty"`
		}{s.Ciphertext, s.Context}
		var out sealedOut
		err := u.do(ctx, rest.Request{Method: http.MethodPut, Path: upstreamPath("decrypt", name), In: in, Out: &out})
		if err == nil && out.Plaintext == nil {
			err = errors.New("it answered no plaintext")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, out.Plaintext)
	}
	return all, nil
}

// HMAC implements Keys.
func (u *Upstream) HMAC(ctx context.Context, _ Caller, name string, message []byte) ([]byte, error) {
	if message == nil {
		message = []byte{}
	}
	var out sealedOut
	err := u.do(ctx, rest.Request{
		Method: http.MethodPut, Path: upstreamPath("hmac", name), In: map[string][]byte{"message": message}, Out: &out,
	})
	switch {
	case rest.Is(err, http.StatusConflict):
		return nil, key.ErrNoHMACKey
	case err == nil && len(out.HMAC) != key.Size:
		err = errors.New("it answered no HMAC")
	}
	return out.HMAC, err
}

// Status implements Keys: the other server is there, and its key store is. A server
// that does not tell this one so is well.
func (u *Upstream) Status(ctx context.Context, _ Caller) (time.Duration, error) {
	start := time.Now()
	err := u.do(ctx, rest.Request{Method: http.MethodGet, Path: "/v1/ready"})
	switch {
	case rest.Is(err, http.StatusForbidden, http.StatusNotFound, http.StatusNotImplemented): // older ones have no such call
		err = nil
	case rest.Is(err, http.StatusGatewayTimeout):
		err = &store.UnreachableError{Err: err}
	}
	return time.Since(start), err
}
