// Package fortanix is a key store in Fortanix SDKMS: an opaque security object
// per key.
package fortanix

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

// A Config says where the service is, and an application's key for it.
type Config struct {
	Endpoint, GroupID, Key string
	TLS                    rest.TLS
}

// A Store is the objects of a group.
type Store struct {
	cfg    Config
	client *rest.Client
}

var _ store.Store = (*Store)(nil)

// Open checks that the service is well and that it takes the key.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.fortanix.sdkms.endpoint"); err != nil {
		return nil, err
	}
	if cfg.Key == "" {
		return nil, errs.New(errs.Invalid, "keystore.fortanix.sdkms.credentials.key is missing")
	}
	web, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: s.prepare}
	if err := s.tryKey(ctx); err != nil {
		return nil, fmt.Errorf("Fortanix SDKMS at %s: %w", cfg.Endpoint, err)
	}
	return s, nil
}

func (s *Store) tryKey(ctx context.Context) error {
	if err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/sys/v1/health"}); err != nil {
		return err
	}
	var out struct {
		AccessToken string `json:"access_token"`
	}
	if err := s.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/sys/v1/session/auth", Out: &out}); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	// The session served to try the key; that it does not end is no failure.
	_ = s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/sys/v1/session/terminate", Header: http.Header{"Authorization": {"Bearer " + out.AccessToken}},
	})
	return nil
}

func (s *Store) prepare(r *http.Request, _ []byte) error {
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Basic "+s.cfg.Key)
	}
	return nil
}

const objects = "/crypto/v1/keys"

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/sys/v1/health"})
	return time.Since(start), err
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	in := struct {
		Type    string   `json:"obj_type"`
		Name    string   `json:"name"`
		GroupID string   `json:"group_id,omitempty"`
		Ops     []string `json:"key_ops"`
		Value   []byte   `json:"value"`
		Enabled bool     `json:"enabled"`
	}{"OPAQUE", name, s.cfg.GroupID, []string{"EXPORT", "APPMANAGEABLE"}, value, true}
	again := false
	err := s.client.Do(ctx, rest.Request{Method: http.MethodPut, Path: objects, In: in, Again: &again})
	if rest.Is(err, http.StatusConflict) {
		err = store.ErrExists
	}
	return rest.Made(ctx, s, name, value, again, err)
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return store.Replace(ctx, s, name, value)
}

type object struct {
	KID     string `json:"kid"`
	Name    string `json:"name"`
	Value   []byte `json:"value"`
	Enabled bool   `json:"enabled"`
}

func (s *Store) export(ctx context.Context, name string) (*object, error) {
	out := &object{}
	err := s.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: objects + "/export", In: map[string]string{"name": name}, Out: out})
	if rest.Is(err, http.StatusNotFound) {
		return nil, store.ErrNotFound
	}
	return out, err
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	out, err := s.export(ctx, name)
	if err != nil {
		return nil, err
	}
	if !out.Enabled {
		return nil, fmt.Errorf("the object %q is disabled", name)
	}
	return out.Value, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	out, err := s.export(ctx, name)
	if err != nil {
		return err
	}
	return s.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: objects + "/" + url.PathEscape(out.KID)})
}

const (
	pageSize = 100
	maxPages = 10_000
)

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	start := ""
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		q := url.Values{"sort": {"name:asc"}, "limit": {strconv.Itoa(pageSize)}}
		if start != "" {
			q.Set("start", start)
		}
		var out []object
		if err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: objects, Query: q, Out: &out, Max: rest.MaxPage}); err != nil {
			return nil, "", err
		}
		moved := false
		for _, o := range out {
			if o.Name > start {
				start, moved = o.Name, true
				names.Add(o.Name)
			}
		}
		if !moved {
			page, next := names.Page()
			return page, next, nil
		}
	}
	return nil, "", errors.New("the listing does not end")
}

// String implements store.Store.
func (s *Store) String() string { return "Fortanix SDKMS: " + s.cfg.Endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
