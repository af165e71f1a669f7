// Package azure is a key store in Azure Key Vault: a secret per key, of which the
// oldest version counts.
//
// It speaks the service's REST interface
// (https://learn.microsoft.com/rest/api/keyvault/secrets) rather than link the
// SDK for six calls; tokens come from where the SDK would get them
// (credentials.go).
package azure

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
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

// A Config says which vault, and who asks.
type Config struct {
	Endpoint string
	// Client credentials; all empty: the managed identity, or the environment's.
	TenantID, ClientID, ClientSecret string
	ManagedID                        string
	Authority                        string // who gives tokens; empty: AZURE_AUTHORITY_HOST, or Microsoft's
	Managed                          bool
	Domain                           string // of the vaults, where Endpoint does not show it; empty: that of the public cloud
}

// A Store is a vault's secrets.
type Store struct {
	cfg     Config
	client  *rest.Client
	session rest.Session
	pause   time.Duration // between tries of what is still being deleted
	names   store.Turns   // of those that are being created
}

var _ store.Store = (*Store)(nil)

// Open makes the store; it asks nobody yet.
func Open(_ context.Context, cfg Config) (*Store, error) {
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.azure.keyvault.endpoint"); err != nil {
		return nil, err
	}
	if (cfg.ClientID != "" || cfg.ClientSecret != "" || cfg.TenantID != "") && (cfg.ClientID == "" || cfg.ClientSecret == "" || cfg.TenantID == "") {
		return nil, errs.New(errs.Invalid, "keystore.azure.keyvault.credentials: tenant_id, client_id and client_secret are needed")
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, pause: 500 * time.Millisecond}
	s.session.Get = (&credentials{cfg: cfg, web: web}).token
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: s.prepare, Again: s.again}
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

var version = url.Values{"api-version": {"7.4"}}

// tries is how often a name that is still being deleted is tried.
const tries = 7

func (s *Store) do(ctx context.Context, method, path string, in, out any) error {
	err := s.client.Do(ctx, rest.Request{Method: method, Path: path, Query: version, In: in, Out: out})
	if rest.Is(err, http.StatusNotFound) {
		return store.ErrNotFound
	}
	return err
}

func secret(name string) string  { return "/secrets/" + url.PathEscape(name) }
func deleted(name string) string { return "/deletedsecrets/" + url.PathEscape(name) }

// inner returns the inner code of a refusal.
func inner(err error) string {
	var refused *rest.StatusError
	if !errors.As(err, &refused) || refused.Code != http.StatusConflict {
		return ""
	}
	var said struct {
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	_ = json.Unmarshal(refused.Body, &said)
	return said.Error.Inner.Code
}

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) { return s.client.Ping(ctx, "/") }

// Create implements store.Store. The service has no creation that fails when there is
// one: it is looked first, and afterwards whose is the version that counts. On one server,
// creations of one name take turns; two servers that make one within the same second can
// both succeed if the later one looked before the earlier one wrote.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	leave, err := s.names.Take(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	switch _, err := s.oldest(ctx, name); {
	case err == nil:
		return store.ErrExists
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if err := s.put(ctx, name, value); err != nil {
		return err
	}
	found, err := s.Get(ctx, name)
	defer clear(found)
	if err == nil && subtle.ConstantTimeCompare(found, value) != 1 {
		err = store.ErrExists
	}
	return err
}

func (s *Store) put(ctx context.Context, name string, value []byte) error {
	var err error
	for range tries {
		err = s.do(ctx, http.MethodPut, secret(name), map[string]string{"value": string(value)}, nil)
		switch inner(err) {
		case "ObjectIsDeletedButRecoverable":
			if purge := s.do(ctx, http.MethodDelete, deleted(name), nil, nil); purge != nil && !errors.Is(purge, store.ErrNotFound) && inner(purge) == "" {
				return purge
			}
		case "ObjectIsBeingDeleted":
		default:
			return err
		}
		if !s.wait(ctx) {
			break
		}
	}
	return err
}

func (s *Store) wait(ctx context.Context) bool {
	t := time.NewTimer(s.pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	return store.Replace(ctx, s, name, value)
}

type versions struct {
	Value []struct {
		ID         string `json:"id"`
		Attributes struct {
			Enabled   bool  `json:"enabled"`
			NotBefore int64 `json:"nbf"`
			Expires   int64 `json:"exp"`
			Created   int64 `json:"created"`
		} `json:"attributes"`
	} `json:"value"`
	NextLink string `json:"nextLink"`
}

// oldest returns the path of the oldest version. That of others may follow it,
// by a race that the service does not prevent. Its times are whole seconds: of those of
// one second it is the one with the first id.
func (s *Store) oldest(ctx context.Context, name string) (string, error) {
	var out versions
	if err := s.do(ctx, http.MethodGet, secret(name)+"/versions", nil, &out); err != nil {
		return "", err
	}
	if out.NextLink != "" {
		return "", fmt.Errorf("the secret %q has too many versions", name)
	}
	if len(out.Value) == 0 {
		return "", store.ErrNotFound
	}
	first := out.Value[0]
	for _, v := range out.Value[1:] {
		if c := cmp.Compare(v.Attributes.Created, first.Attributes.Created); c < 0 || c == 0 && v.ID < first.ID {
			first = v
		}
	}
	now := time.Now().Unix()
	switch a := first.Attributes; {
	case !a.Enabled:
		return "", fmt.Errorf("the secret %q is disabled", name)
	case a.Expires != 0 && now >= a.Expires:
		return "", fmt.Errorf("the secret %q has expired", name)
	case a.NotBefore != 0 && now < a.NotBefore:
		return "", fmt.Errorf("the secret %q is not valid yet", name)
	}
	return secret(name) + "/" + url.PathEscape(first.ID[strings.LastIndexByte(first.ID, '/')+1:]), nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	path, err := s.oldest(ctx, name)
	if err != nil {
		return nil, err
	}
	var out struct {
		Value string `json:"value"`
	}
	err = s.do(ctx, http.MethodGet, path, nil, &out)
	return []byte(out.Value), err
}

// Delete implements store.Store. A deletion that is under way counts as done.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.do(ctx, http.MethodDelete, secret(name), nil, nil); err != nil {
		return err
	}
	for range tries {
		err := s.do(ctx, http.MethodDelete, deleted(name), nil, nil)
		if err == nil || rest.Is(err, http.StatusForbidden) { // purging needs a right of its own
			return nil
		}
		if inner(err) != "ObjectIsBeingDeleted" && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if !s.wait(ctx) {
			break
		}
	}
	return nil
}

const maxPages = 10_000

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	query := version
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		var out versions
		if err := s.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/secrets", Query: query, Out: &out, Max: rest.MaxPage}); err != nil {
			return nil, "", err
		}
		for _, e := range out.Value {
			if e.Attributes.Enabled {
				names.Add(e.ID[strings.LastIndexByte(e.ID, '/')+1:])
			}
		}
		if out.NextLink == "" {
			page, next := names.Page()
			return page, next, nil
		}
		// Only the link's query is taken: where it leads is ours to say.
		link, err := url.Parse(out.NextLink)
		if err != nil || link.RawQuery == query.Encode() {
			return nil, "", errors.New("the listing does not go on")
		}
		query = link.Query()
	}
	return nil, "", errors.New("the listing does not end")
}

// String implements store.Store.
func (s *Store) String() string { return "Azure KeyVault: " + s.cfg.Endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
