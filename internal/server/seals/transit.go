package seals

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
	"arca/internal/seal"
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
	rest.FollowStandbys(web)
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

var _ seal.Keeper = (*transit)(nil)

// Encrypt implements seal.Sealer.
func (t *transit) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
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

// How the token is renewed: after a third of its life; when that fails, again and again
// from the first pause to the last.
const (
	renewSoonest = time.Second
	renewLatest  = time.Hour // a token without an end may get one
	firstPause   = time.Second
	lastPause    = time.Minute
	renewTimeout = 10 * time.Second
)

// Keep implements seal.Keeper: it renews the token until ctx ends, on every node and also
// while that is sealed, as a node that has nothing but a dead token stays so.
func (t *transit) Keep(ctx context.Context, tell func(error)) {
	if !t.renew {
		return
	}
	pause := firstPause
	for {
		wait, err := t.renewToken(ctx)
		if ctx.Err() != nil {
			return
		}
		tell(err)
		if err != nil {
			wait, pause = pause, min(2*pause, lastPause)
		} else {
			pause = firstPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// renewToken renews the token, and says when to do it again. A token without an end need
// not be renewed; that one ends and cannot be renewed is an error while it lives, too.
func (t *transit) renewToken(ctx context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	var out struct {
		Auth *struct {
			LeaseDuration int64 `json:"lease_duration"`
		} `json:"auth"`
	}
	err = t.client.Do(ctx, rest.Request{Method: http.MethodPut, Path: "/v1/auth/token/renew-self", In: struct{}{}, Out: &out})
	switch {
	case err == nil && out.Auth == nil:
		return 0, errs.New(errs.Unavailable, "renew the token: the server answered without one")
	case err == nil && out.Auth.LeaseDuration > 0:
		return clampRenewal(out.Auth.LeaseDuration), nil
	case err == nil:
		return renewLatest, nil
	case rest.Is(err, http.StatusForbidden):
		return 0, errs.New(errs.Unavailable, "renew the token: it has ended, or its policies do not allow auth/token/renew-self (disable_renewal leaves it alone): %w", err)
	case !rest.Is(err, http.StatusBadRequest): // what cannot be renewed is refused so
		return 0, errs.New(errs.Unavailable, "renew the token: %w", err)
	}
	var self struct {
		Data *struct {
			TTL int64 `json:"ttl"`
		} `json:"data"`
	}
	if lookErr := t.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/v1/auth/token/lookup-self", Out: &self}); lookErr == nil && self.Data != nil && self.Data.TTL == 0 {
		return renewLatest, nil // a root token, say
	}
	if self.Data != nil {
		return 0, errs.New(errs.Unavailable, "the token ends in %s and cannot be renewed: replace it (or, if that is meant, set disable_renewal): %w",
			time.Duration(min(self.Data.TTL, maxTTL))*time.Second, err)
	}
	return 0, errs.New(errs.Unavailable, "renew the token: %w", err)
}

const maxTTL = 1 << 31 // seconds

// clampRenewal is a third of a life of so many seconds, within bounds.
func clampRenewal(seconds int64) time.Duration {
	return max(renewSoonest, min(time.Duration(min(seconds, maxTTL))*time.Second/3, renewLatest))
}
