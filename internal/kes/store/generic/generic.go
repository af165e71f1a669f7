// Package generic is a key store behind a service of one's own, with the small
// REST interface that KES of 2023 had for such: POST, GET and DELETE of
// /v1/key/NAME, and GET of /v1/key for a listing of JSON lines.
package generic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says where the service is.
type Config struct {
	Endpoint string
	TLS      rest.TLS
}

// A Store is such a service.
type Store struct {
	endpoint string
	client   *rest.Client
}

var _ store.Store = (*Store)(nil)

// Open checks that the service can be reached.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	base, err := rest.Base(cfg.Endpoint, "keystore.generic.endpoint")
	if err != nil {
		return nil, err
	}
	web, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Store{base, &rest.Client{Base: base, HTTP: web, Retries: 2}}
	if _, err := s.Status(ctx); err != nil {
		return nil, fmt.Errorf("key store at %s: %w", base, err)
	}
	return s, nil
}

func path(name string) string { return "/v1/key/" + url.PathEscape(name) }

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) { return s.client.Ping(ctx, "/") }

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	again := false
	err := s.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: path(name), In: map[string][]byte{"bytes": value}, Again: &again})
	var refused *rest.StatusError
	if errors.As(err, &refused) && refused.Code == http.StatusBadRequest {
		switch {
		case strings.Contains(refused.Message, "already exists"):
			err = store.ErrExists
		case refused.Message == "": // older plugins say nothing; it may be any other refusal
			if found, getErr := s.Get(ctx, name); getErr == nil {
				clear(found)
				err = store.ErrExists
			}
		}
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
		Bytes []byte `json:"bytes"`
	}
	err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: path(name), Out: &out})
	if rest.Is(err, http.StatusNotFound) {
		return nil, store.ErrNotFound
	}
	return out.Bytes, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: path(name)})
	if rest.Is(err, http.StatusNotFound) {
		return store.ErrNotFound
	}
	return err
}

// readLines gives to a function the names of a listing: {"name":…,"last":…} objects,
// one after the other.
func readLines(data []byte, name func(string)) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	for dec.More() {
		var one struct {
			Name string `json:"name"`
		}
		if err := dec.Decode(&one); err != nil {
			return errors.New("the listing is not what was asked for")
		}
		name(one.Name)
	}
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	var raw []byte
	if err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/v1/key", Raw: &raw, Max: rest.MaxListing}); err != nil {
		return nil, "", err
	}
	names := store.NewPager(prefix, from, n)
	if err := readLines(raw, names.Add); err != nil {
		return nil, "", err
	}
	page, next := names.Page()
	return page, next, nil
}

// String implements store.Store.
func (s *Store) String() string { return "Generic KeyStore: " + s.endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
