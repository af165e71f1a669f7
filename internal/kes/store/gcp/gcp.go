// Package gcp is a key store in Google Cloud's Secret Manager: a secret with one
// version per key.
//
// It speaks the service's REST interface
// (https://cloud.google.com/secret-manager/docs/reference/rest) rather than link
// gRPC for five calls; credentials are found as Google's libraries find them
// (credentials.go).
package gcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says which project, and who asks.
type Config struct {
	ProjectID, Endpoint string
	Scopes              []string
	// A service account; all empty: the environment's credentials.
	Email, ID, KeyID, Key string
	TokenURI              string // where the account gets its tokens; empty: from Google
}

// A Store is a project's secrets.
type Store struct {
	cfg     Config
	client  *rest.Client
	session rest.Session
	pause   time.Duration // between looks for a version that another adds
}

var _ store.Store = (*Store)(nil)

// Open logs in.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.ProjectID == "" {
		return nil, errs.New(errs.Invalid, "keystore.gcp.secretmanager.project_id is missing")
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "secretmanager.googleapis.com:443"
	}
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.gcp.secretmanager.endpoint"); err != nil {
		return nil, err
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{"https://www.googleapis.com/auth/cloud-platform"}
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, pause: usualPause}
	from, err := findCredentials(cfg, web)
	if err != nil {
		return nil, err
	}
	s.session.Get = from.token
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: s.prepare, Again: s.again}
	if _, err := s.session.Token(ctx); err != nil {
		return nil, fmt.Errorf("Google Secret Manager: %w", err)
	}
	if _, err := s.Status(ctx); err != nil {
		return nil, fmt.Errorf("reach Google Secret Manager at %s: %w", cfg.Endpoint, err)
	}
	return s, nil
}

func (s *Store) prepare(r *http.Request, _ []byte) error {
	t, err := s.session.Token(r.Context())
	r.Header.Set("Authorization", "Bearer "+t)
	return err
}

func (s *Store) again(_ context.Context, status int) bool {
	return status == http.StatusUnauthorized && s.session.Drop()
}

func (s *Store) path(name, more string) string {
	p := "/v1/projects/" + url.PathEscape(s.cfg.ProjectID) + "/secrets"
	if name != "" {
		p += "/" + url.PathEscape(name)
	}
	return p + more
}

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) { return s.client.Ping(ctx, "/") }

// Create implements store.Store. The secret is made first, which only one can; its one
// version follows. A secret without a version is of somebody who is about to add one, or
// who was cut off: after a while anybody may. Version 1 counts, and that can be one's only.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: s.path("", ""), Query: url.Values{"secretId": {name}},
		In: map[string]any{"replication": map[string]any{"automatic": struct{}{}}},
	})
	if err != nil && !rest.Is(err, http.StatusConflict) {
		return err
	}
	if err != nil {
		switch there, err := s.awaitVersion(ctx, name); {
		case err != nil:
			return err
		case there:
			return store.ErrExists
		}
	}
	return s.addFirst(ctx, name, value)
}

// awaitVersion reports whether a secret has, or gets within a while, a version.
func (s *Store) awaitVersion(ctx context.Context, name string) (bool, error) {
	for range tries {
		value, err := s.Get(ctx, name)
		clear(value)
		if !errors.Is(err, store.ErrNotFound) {
			return err == nil, err
		}
		t := time.NewTimer(s.pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false, ctx.Err()
		}
	}
	return false, nil
}

// tries is how often a secret without a version is looked at, and how long lies between.
const (
	tries      = 10
	usualPause = 500 * time.Millisecond
)

// addFirst adds a version, which is to be the first.
func (s *Store) addFirst(ctx context.Context, name string, value []byte) error {
	again := false
	var out struct {
		Name string `json:"name"`
	}
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: s.path(name, ":addVersion"), In: map[string]any{"payload": map[string]any{"data": value}}, Out: &out, Again: &again,
	})
	if err == nil && !strings.HasSuffix(out.Name, "/versions/1") {
		return rest.Made(ctx, s, name, value, again, store.ErrExists)
	}
	return err
}

// Set implements store.Store. Version 1 is the one that is read.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return store.Replace(ctx, s, name, value)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	var out struct {
		Payload struct {
			Data []byte `json:"data"`
		} `json:"payload"`
	}
	err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: s.path(name, "/versions/1:access"), Out: &out})
	if rest.Is(err, http.StatusNotFound) {
		return nil, store.ErrNotFound
	}
	return out.Payload.Data, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: s.path(name, "")})
	if rest.Is(err, http.StatusNotFound) {
		return store.ErrNotFound
	}
	return err
}

const (
	pageSize = "1000"
	maxPages = 10_000
)

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	token := ""
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		q := url.Values{"pageSize": {pageSize}}
		if token != "" {
			q.Set("pageToken", token)
		}
		var out struct {
			Secrets []struct {
				Name string `json:"name"`
			} `json:"secrets"`
			NextPageToken string `json:"nextPageToken"`
		}
		if err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: s.path("", ""), Query: q, Out: &out, Max: rest.MaxPage}); err != nil {
			return nil, "", err
		}
		for _, e := range out.Secrets {
			names.Add(e.Name[strings.LastIndexByte(e.Name, '/')+1:])
		}
		if out.NextPageToken == "" || out.NextPageToken == token {
			page, next := names.Page()
			return page, next, nil
		}
		token = out.NextPageToken
	}
	return nil, "", errors.New("the listing does not end")
}

// String implements store.Store.
func (s *Store) String() string {
	return "GCP SecretManager: " + s.cfg.Endpoint + " project " + s.cfg.ProjectID
}

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
