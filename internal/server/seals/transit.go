package seals

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
)

// transit encrypts with a key of another server's transit engine, whose token it
// keeps alive.
type transit struct {
	client    *rest.Client
	mount     string
	key       string
	token     string
	namespace string
	renew     bool

	mu      sync.Mutex
	renewed time.Time // when to renew the token next; guarded by mu
}

func newTransit(o *options) (*transit, error) {
	t := &transit{
		mount: strings.Trim(o.first("mount_path", "VAULT_TRANSIT_SEAL_MOUNT_PATH", "TRANSIT_WRAPPER_MOUNT_PATH"), "/"),
		key:   o.first("key_name", "VAULT_TRANSIT_SEAL_KEY_NAME", "TRANSIT_WRAPPER_KEY_NAME"),
		token: o.or("token", "VAULT_TOKEN"), namespace: o.or("namespace", "VAULT_NAMESPACE"),
	}
	switch {
	case t.mount == "":
		return nil, missing("mount_path")
	case t.key == "":
		return nil, missing("key_name")
	case t.token == "":
		return nil, missing("token")
	}
	base, err := rest.Base(o.or("address", "VAULT_ADDR"), "address")
	if err != nil {
		return nil, err
	}
	noRenewal, err := o.truth("disable_renewal", "VAULT_TRANSIT_SEAL_DISABLE_RENEWAL")
	if err != nil {
		return nil, err
	}
	t.renew = !noRenewal
	skip, err := o.truth("tls_skip_verify")
	if err != nil {
		return nil, err
	}
	web, err := rest.NewHTTP(rest.TLS{
		CA: o.or("tls_ca_cert", "VAULT_CACERT"), Cert: o.or("tls_client_cert", "VAULT_CLIENT_CERT"), Key: o.or("tls_client_key", "VAULT_CLIENT_KEY"),
	})
	if err != nil {
		return nil, err
	}
	if tr, ok := web.Transport.(*http.Transport); ok {
		if tr.TLSClientConfig == nil {
			tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		tr.TLSClientConfig.ServerName = o.or("tls_server_name", "VAULT_TLS_SERVER_NAME")
		tr.TLSClientConfig.InsecureSkipVerify = skip // Vault's option, off by default
	}
	t.client = &rest.Client{Base: base, HTTP: web, Retries: 1, Prepare: t.prepare}
	return t, nil
}

func (t *transit) prepare(r *http.Request, _ []byte) error {
	r.Header.Set("X-Vault-Token", t.token)
	r.Header.Set("X-Vault-Request", "true")
	if t.namespace != "" {
		r.Header.Set("X-Vault-Namespace", t.namespace)
	}
	return nil
}

func (t *transit) do(ctx context.Context, what string, in, out any) error {
	path := "/v1/" + (&url.URL{Path: t.mount + "/" + what}).EscapedPath() + "/" + url.PathEscape(t.key)
	return t.client.Do(ctx, rest.Request{Method: http.MethodPut, Path: path, In: in, Out: out})
}

// Encrypt implements seal.Sealer.
func (t *transit) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	t.keepToken(ctx)
	in := struct {
		Plaintext []byte `json:"plaintext"`
	}{plain}
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	if err := t.do(ctx, "encrypt", in, &out); err != nil {
		return nil, err
	}
	if out.Data.Ciphertext == "" {
		return nil, errs.New(errs.Unavailable, "the transit engine answered without a ciphertext")
	}
	return []byte(out.Data.Ciphertext), nil
}

// Decrypt implements seal.Sealer.
func (t *transit) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	t.keepToken(ctx)
	in := struct {
		Ciphertext string `json:"ciphertext"`
	}{string(sealed)}
	var out struct {
		Data struct {
			Plaintext []byte `json:"plaintext"`
		} `json:"data"`
	}
	if err := t.do(ctx, "decrypt", in, &out); err != nil {
		return nil, err
	}
	return out.Data.Plaintext, nil
}

// keepToken renews the token after a third of its life. Seals are asked every few
// minutes, so that no clock of its own is needed; that a token cannot be renewed
// shows when it ends.
func (t *transit) keepToken(ctx context.Context) {
	if !t.renew {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Before(t.renewed) {
		return
	}
	var out struct {
		Auth *struct {
			LeaseDuration int64 `json:"lease_duration"`
			Renewable     bool  `json:"renewable"`
		} `json:"auth"`
	}
	err := t.client.Do(ctx, rest.Request{Method: http.MethodPut, Path: "/v1/auth/token/renew-self", In: struct{}{}, Out: &out})
	next := 5 * time.Minute
	if err == nil && out.Auth != nil && out.Auth.LeaseDuration > 0 {
		next = time.Duration(min(out.Auth.LeaseDuration, 1<<31)) * time.Second / 3
	}
	t.renewed = time.Now().Add(next)
}
