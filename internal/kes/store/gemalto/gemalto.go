// Package gemalto is a key store in Gemalto KeySecure, now Thales CipherTrust
// Manager: a secret of the type seed per key.
package gemalto

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says where the service is and how to log in.
type Config struct {
	Endpoint, Token, Domain string
	TLS                     rest.TLS
}

// A Store is the secrets of a domain.
type Store struct {
	cfg     Config
	client  *rest.Client
	session rest.Session
}

var _ store.Store = (*Store)(nil)

// Open logs in.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.gemalto.keysecure.endpoint"); err != nil {
		return nil, err
	}
	if cfg.Token == "" {
		return nil, errs.New(errs.Invalid, "keystore.gemalto.keysecure.credentials.token is missing")
	}
	web, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	s.session.Get = s.logIn
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: s.prepare, Again: s.again}
	if _, err := s.session.Token(ctx); err != nil {
		return nil, fmt.Errorf("KeySecure at %s: %w", cfg.Endpoint, err)
	}
	return s, nil
}

func (s *Store) logIn(ctx context.Context, _ string) (string, time.Duration, error) {
	in := map[string]string{"grant_type": "refresh_token", "refresh_token": s.cfg.Token}
	if s.cfg.Domain != "" {
		in["domain"] = s.cfg.Domain
	}
	var out struct {
		JWT      string `json:"jwt"`
		Duration int64  `json:"duration"` // seconds
	}
	plain := &rest.Client{Base: s.cfg.Endpoint, HTTP: s.client.HTTP, Retries: 2}
	err := plain.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/api/v1/auth/tokens", In: in, Out: &out})
	return out.JWT, time.Duration(max(0, min(out.Duration, 1<<30))) * time.Second, err
}

func (s *Store) prepare(r *http.Request, _ []byte) error {
	t, err := s.session.Token(r.Context())
	r.Header.Set("Authorization", "Bearer "+t)
	return err
}

func (s *Store) again(_ context.Context, status int) bool {
	return status == http.StatusUnauthorized && s.session.Drop()
}

const resources = "/api/v1/vault/secrets"

var byName = url.Values{"type": {"name"}}

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) { return s.client.Ping(ctx, "/") }

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	again := false
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: resources, In: map[string]string{"dataType": "seed", "material": string(value), "name": name}, Again: &again,
	})
	if rest.Is(err, http.StatusConflict) {
		err = store.ErrExists
	}
	return rest.Made(ctx, s, name, value, again, err)
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return store.Replace(ctx, s, name, value)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	var out struct {
		Material string `json:"material"`
	}
	err := s.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: resources + "/" + url.PathEscape(name) + "/export", Query: byName, Out: &out})
	if rest.Is(err, http.StatusNotFound) {
		return nil, store.ErrNotFound
	}
	return []byte(out.Material), err
}

// Delete implements store.Store. The service does not tell whether there was
// one.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: resources + "/" + url.PathEscape(name), Query: byName})
	if rest.Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

const (
	pageSize = 200
	maxPages = 10_000
)

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	seen := 0
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		var out struct {
			Resources []struct {
				Name string `json:"name"`
			} `json:"resources"`
			Total int `json:"total"`
		}
		err := s.client.Do(ctx, rest.Request{
			Method: http.MethodGet, Path: resources, Out: &out, Max: rest.MaxPage,
			Query: url.Values{"limit": {strconv.Itoa(pageSize)}, "skip": {strconv.Itoa(seen)}},
		})
		if err != nil {
			return nil, "", err
		}
		for _, r := range out.Resources {
			names.Add(r.Name)
		}
		seen += len(out.Resources)
		if len(out.Resources) == 0 || seen >= out.Total {
			page, next := names.Page()
			return page, next, nil
		}
	}
	return nil, "", errors.New("the listing does not end")
}

// String implements store.Store.
func (s *Store) String() string { return "Gemalto KeySecure: " + s.cfg.Endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
