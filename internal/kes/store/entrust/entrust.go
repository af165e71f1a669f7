// Package entrust is a key store in Entrust KeyControl: a secret of a box per
// key.
package entrust

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says which box of which vault, and how to log in.
type Config struct {
	Endpoint, VaultID, BoxID, Username, Password string
	TLS                                          rest.TLS
}

// A Store is a box.
type Store struct {
	cfg     Config
	client  *rest.Client
	session rest.Session
}

var _ store.Store = (*Store)(nil)

// Open logs in.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.entrust.keycontrol.endpoint"); err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, value string }{{"vault_id", cfg.VaultID}, {"box_id", cfg.BoxID}} {
		if f.value == "" {
			return nil, errs.New(errs.Invalid, "keystore.entrust.keycontrol.%s is missing", f.name)
		}
	}
	if cfg.Username == "" || cfg.Password == "" {
		return nil, errs.New(errs.Invalid, "keystore.entrust.keycontrol.credentials: username and password are needed")
	}
	web, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	s.session.Get = s.logIn
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: s.prepare, Again: s.again}
	if _, err := s.session.Token(ctx); err != nil {
		return nil, fmt.Errorf("KeyControl at %s: %w", cfg.Endpoint, err)
	}
	return s, nil
}

const api = "/vault/1.0/"

// logIn prolongs the session, or begins one.
func (s *Store) logIn(ctx context.Context, old string) (string, time.Duration, error) {
	var out struct {
		AccessToken string    `json:"access_token"`
		ExpiresAt   time.Time `json:"expires_at"`
	}
	plain := &rest.Client{Base: s.cfg.Endpoint, HTTP: s.client.HTTP, Retries: 2}
	if old != "" {
		err := plain.Do(ctx, rest.Request{
			Method: http.MethodPost, Path: api + "Renew/", In: struct{}{}, Out: &out, Header: http.Header{"X-Vault-Auth": {old}},
		})
		if err == nil && out.AccessToken != "" {
			return out.AccessToken, time.Until(out.ExpiresAt), nil
		}
	}
	err := plain.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: api + "Login/" + url.PathEscape(s.cfg.VaultID) + "/", Out: &out,
		In: map[string]string{"username": s.cfg.Username, "password": s.cfg.Password},
	})
	return out.AccessToken, max(time.Until(out.ExpiresAt), time.Second), err
}

func (s *Store) prepare(r *http.Request, _ []byte) error {
	t, err := s.session.Token(r.Context())
	r.Header.Set("X-Vault-Auth", t)
	return err
}

func (s *Store) again(_ context.Context, status int) bool {
	return status == http.StatusUnauthorized && s.session.Drop()
}

// call asks for one action on the box.
func (s *Store) call(ctx context.Context, action string, in map[string]any, out any) error {
	return s.ask(ctx, action, in, out, nil)
}

// ask is call; again is rest.Request's.
func (s *Store) ask(ctx context.Context, action string, in map[string]any, out any, again *bool) error {
	if in == nil {
		in = map[string]any{}
	}
	in["box_id"] = s.cfg.BoxID
	err := s.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: api + action + "/", In: in, Out: out, Max: rest.MaxPage, Again: again})
	switch {
	case rest.Is(err, http.StatusConflict) && isSecret(err):
		return store.ErrExists
	case rest.Is(err, http.StatusNotFound) && isSecret(err):
		return store.ErrNotFound
	}
	return err
}

// isSecret tells a missing secret from a missing box.
func isSecret(err error) bool {
	var s *rest.StatusError
	return errors.As(err, &s) && (s.Message == "Secret already exists" || s.Message == "Secret not found")
}

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.call(ctx, "GetBox", nil, nil)
	return time.Since(start), err
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	again := false
	err := s.ask(ctx, "CreateSecret", map[string]any{"name": name, "secret_data": value}, nil, &again)
	return rest.Made(ctx, s, name, value, again, err)
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return store.Replace(ctx, s, name, value)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	var out struct {
		Data []byte `json:"secret_data"`
	}
	err := s.call(ctx, "CheckoutSecret", map[string]any{"secret_id": name}, &out)
	return out.Data, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.call(ctx, "DeleteSecret", map[string]any{"secret_id": name}, nil)
}

const (
	pageSize = 250
	maxPages = 10_000
)

// List implements store.Store. Expired secrets are left out.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	token := ""
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		in := map[string]any{"max_items": pageSize}
		if token != "" {
			in["next_token"] = token
		}
		var out struct {
			Secrets []struct {
				Name    string `json:"name"`
				Expired bool   `json:"expired"`
			}
			NextToken string `json:"next_token"`
		}
		if err := s.call(ctx, "ListSecretIds", in, &out); err != nil {
			return nil, "", err
		}
		for _, e := range out.Secrets {
			if !e.Expired {
				names.Add(e.Name)
			}
		}
		if out.NextToken == "" || out.NextToken == token {
			page, next := names.Page()
			return page, next, nil
		}
		token = out.NextToken
	}
	return nil, "", errors.New("the listing does not end")
}

// String implements store.Store.
func (s *Store) String() string { return "Entrust KeyControl: " + s.cfg.Endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
