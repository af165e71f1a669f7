// Package vault is a key store in the K/V engine of a Vault, or of an arca: an
// entry per key with one field named like the key.
//
// The store logs in by AppRole or Kubernetes, keeps its token alive and replaces
// one that was revoked (login.go), watches the server's health so that calls
// fail at once while it is sealed (health.go), and may have the values encrypted
// once more by a transit engine. It asks for no more rights than the guides'
// policies give: create, read, and delete (and list, where keys are listed).
//
// Requirements of KES, section 8; the guide "Hashicorp Vault Keystore".
package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says which server, where in it, and how to log in: exactly one of
// AppRole and Kubernetes.
type Config struct {
	Endpoint   string
	Engine     string // default "kv"
	Version    string // "v1" (default) or "v2"
	Namespace  string
	Prefix     string
	AppRole    *AppRole
	Kubernetes *Kubernetes
	Transit    *Transit
	TLS        rest.TLS
	Ping       time.Duration // between looks at the server's health; default 10 s
	Log        *slog.Logger
}

// An AppRole is a role ID with a secret.
type AppRole struct{ Engine, Namespace, ID, Secret string }

// A Kubernetes login has a role and a token, or the file that holds the token.
type Kubernetes struct{ Engine, Namespace, Role, JWT string }

// A Transit names a key that encrypts what is stored.
type Transit struct{ Engine, Key string }

// sealedText begins what a transit engine has encrypted.
const sealedText = "vault:v"

// A Store is a prefix of an engine.
type Store struct {
	cfg    Config
	client *rest.Client
	token  atomic.Pointer[token]
	sealed atomic.Bool
	stop   context.CancelFunc
	done   sync.WaitGroup

	login sync.Mutex  // held while logging in
	names store.Turns // of keys that are being created
}

var _ store.Store = (*Store)(nil)

// Open logs in, and keeps the token alive and watches the server until Close.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	client, err := rest.NewHTTP(cfg.TLS)
	if err != nil {
		return nil, err
	}
	rest.FollowStandbys(client)
	s := &Store{cfg: cfg}
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: client, Again: s.again, Prepare: s.prepare}
	if _, err := s.Status(ctx); err != nil {
		return nil, fmt.Errorf("reach Vault at %s: %w", cfg.Endpoint, err)
	}
	t, err := s.logIn(ctx)
	if err != nil {
		return nil, fmt.Errorf("log in to Vault at %s: %w", cfg.Endpoint, err)
	}
	s.token.Store(t)
	running, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.keepToken(running) })
	s.done.Go(func() { s.watch(running) })
	return s, nil
}

// complete sets what was left out and refuses what is wrong.
func (c *Config) complete() error {
	var err error
	if c.Endpoint, err = rest.Base(c.Endpoint, "keystore.vault.endpoint"); err != nil {
		return err
	}
	c.Engine = or(strings.Trim(c.Engine, "/"), "kv")
	c.Prefix = strings.Trim(c.Prefix, "/")
	c.Version = or(c.Version, "v1")
	if c.Version != "v1" && c.Version != "v2" {
		return errs.New(errs.Invalid, "keystore.vault.version: %q is neither v1 nor v2", c.Version)
	}
	if c.Ping <= 0 {
		c.Ping = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.AppRole == nil && c.Kubernetes == nil:
		return errs.New(errs.Invalid, "keystore.vault: how to log in is missing: set approle or kubernetes")
	case c.AppRole != nil && c.Kubernetes != nil:
		return errs.New(errs.Invalid, "keystore.vault: approle and kubernetes are both set; one of them logs in")
	case c.AppRole != nil && (c.AppRole.ID == "" || c.AppRole.Secret == ""):
		return errs.New(errs.Invalid, "keystore.vault.approle: id and secret are needed (vault read auth/approle/role/ROLE/role-id, vault write -f auth/approle/role/ROLE/secret-id)")
	case c.Kubernetes != nil && (c.Kubernetes.Role == "" || c.Kubernetes.JWT == ""):
		return errs.New(errs.Invalid, "keystore.vault.kubernetes: role and jwt are needed")
	}
	if c.AppRole != nil {
		c.AppRole.Engine = or(strings.Trim(c.AppRole.Engine, "/"), "approle")
	}
	if c.Kubernetes != nil {
		c.Kubernetes.Engine = or(strings.Trim(c.Kubernetes.Engine, "/"), "kubernetes")
	}
	if c.Transit != nil {
		c.Transit.Engine = or(strings.Trim(c.Transit.Engine, "/"), "transit")
		if c.Transit.Key == "" {
			return errs.New(errs.Invalid, "keystore.vault.transit.key is missing")
		}
	}
	return nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// Create implements store.Store. On one server, creations of one name take
// turns; across servers version 2's check-and-set decides, and for version 1 a
// policy without update.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	leave, err := s.names.Take(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	if s.cfg.Version == "v1" {
		switch _, err := s.read(ctx, name); {
		case err == nil:
			return store.ErrExists
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
	}
	text, err := s.wrap(ctx, value)
	if err != nil {
		return err
	}
	err = s.put(ctx, name, text, true)
	if !rest.Is(err, http.StatusBadRequest, http.StatusForbidden) && !store.IsUnreachable(err) {
		return err
	}
	// Refused, or cut off: if the entry is there now, it is another's, or this
	// one's from a first try.
	switch there, again := s.read(ctx, name); {
	case again == nil && there == text:
		return nil
	case again == nil && !store.IsUnreachable(err), rest.Is(err, http.StatusBadRequest) && casRefused(err):
		return store.ErrExists
	}
	return err
}

func casRefused(err error) bool {
	var s *rest.StatusError
	return errors.As(err, &s) && strings.Contains(s.Message, "check-and-set")
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	if s.cfg.Version == "v2" { // version 1 of the entry is the one that is read
		return store.Replace(ctx, s, name, value)
	}
	text, err := s.wrap(ctx, value)
	if err != nil {
		return err
	}
	return s.put(ctx, name, text, false)
}

func (s *Store) put(ctx context.Context, name, text string, create bool) error {
	if err := s.check(); err != nil {
		return err
	}
	entry := map[string]string{name: text}
	q := rest.Request{Method: http.MethodPut, Path: s.entry("data", name), In: entry}
	if s.cfg.Version == "v2" {
		in := map[string]any{"data": entry}
		if create {
			in["options"] = map[string]int{"cas": 0}
		}
		q.In = in
	}
	return s.client.Do(ctx, q)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	text, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.unwrap(ctx, text)
}

// read returns what the entry's field holds.
func (s *Store) read(ctx context.Context, name string) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	var out struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	q := rest.Request{Method: http.MethodGet, Path: s.entry("data", name), Out: &out}
	if s.cfg.Version == "v2" {
		q.Query = url.Values{"version": {"1"}}
	}
	if err := s.client.Do(ctx, q); err != nil {
		if rest.Is(err, http.StatusNotFound) {
			return "", store.ErrNotFound
		}
		return "", err
	}
	if s.cfg.Version == "v2" {
		inner := out.Data["data"]
		out.Data = nil
		if json.Unmarshal(inner, &out.Data) != nil {
			return "", fmt.Errorf("the entry %q is none of K/V version 2", name)
		}
	}
	var text string
	field, ok := out.Data[name]
	if !ok {
		return "", fmt.Errorf("the entry %q has no field of that name", name)
	}
	if json.Unmarshal(field, &text) != nil {
		return "", fmt.Errorf("the entry %q has a field of that name that is no text", name)
	}
	return text, nil
}

// Delete implements store.Store. A Vault does not tell whether there was an
// entry.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.check(); err != nil {
		return err
	}
	err := s.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: s.entry("metadata", name)})
	if rest.Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// List implements store.Store. A Vault lists all or nothing; what ends with a
// slash is a folder.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	if err := s.check(); err != nil {
		return nil, "", err
	}
	var out struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodGet, Path: s.entry("metadata", ""), Query: url.Values{"list": {"true"}}, Out: &out, Max: rest.MaxListing,
	})
	if rest.Is(err, http.StatusNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	names := store.NewPager(prefix, from, n)
	for _, k := range out.Data.Keys {
		if !strings.HasSuffix(k, "/") {
			names.Add(k)
		}
	}
	page, next := names.Page()
	return page, next, nil
}

// String implements store.Store.
func (s *Store) String() string {
	return fmt.Sprintf("Hashicorp Vault: %s (%s at %s)", s.cfg.Endpoint, s.cfg.Version, strings.TrimPrefix(s.entry("data", ""), "/v1/"))
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.client.Close()
}

// entry returns the path of an entry, or of the folder for an empty name; kind
// is version 2's part of it.
func (s *Store) entry(kind, name string) string {
	parts := append([]string{"v1"}, strings.Split(s.cfg.Engine, "/")...)
	if s.cfg.Version == "v2" {
		parts = append(parts, kind)
	}
	if s.cfg.Prefix != "" {
		parts = append(parts, strings.Split(s.cfg.Prefix, "/")...)
	}
	if name != "" {
		parts = append(parts, name)
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "/" + strings.Join(parts, "/")
}

// wrap has a value encrypted, if a transit engine is to.
func (s *Store) wrap(ctx context.Context, value []byte) (string, error) {
	if s.cfg.Transit == nil {
		return string(value), nil
	}
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: s.transit("encrypt"),
		In: map[string]string{"plaintext": base64.StdEncoding.EncodeToString(value)}, Out: &out,
	})
	if err == nil && !strings.HasPrefix(out.Data.Ciphertext, sealedText) {
		err = errors.New("the transit engine answered no ciphertext")
	}
	return out.Data.Ciphertext, err
}

// unwrap has a value decrypted, if it was encrypted.
func (s *Store) unwrap(ctx context.Context, text string) ([]byte, error) {
	if !strings.HasPrefix(text, sealedText) {
		return []byte(text), nil
	}
	if s.cfg.Transit == nil {
		return nil, errors.New("the entry was encrypted by a transit engine, but keystore.vault.transit is not set")
	}
	var out struct {
		Data struct {
			Plaintext []byte `json:"plaintext"`
		} `json:"data"`
	}
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: s.transit("decrypt"),
		In: map[string]string{"ciphertext": text}, Out: &out,
	})
	return out.Data.Plaintext, err
}

func (s *Store) transit(what string) string {
	var path strings.Builder
	for _, p := range append(append([]string{"v1"}, strings.Split(s.cfg.Transit.Engine, "/")...), what, s.cfg.Transit.Key) {
		path.WriteString("/" + url.PathEscape(p))
	}
	return path.String()
}
