// Package aws is a key store in AWS Secrets Manager: a secret per key.
//
// It speaks the service's JSON protocol itself, signed with Signature Version 4
// rather than link the whole SDK for four calls.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// A Config says which region, and how to sign.
type Config struct {
	Endpoint, Region, KMSKey    string
	AccessKey, SecretKey, Token string // all empty: from the environment
}

// A Store is the secrets of an account in a region.
type Store struct {
	cfg    Config
	client *rest.Client
}

var _ store.Store = (*Store)(nil)

// Open checks the configuration and that the service can be reached.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Region == "" {
		return nil, errs.New(errs.Invalid, "keystore.aws.secretsmanager.region is missing, such as us-east-2")
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "secretsmanager." + cfg.Region + ".amazonaws.com"
	}
	var err error
	if cfg.Endpoint, err = rest.Base(cfg.Endpoint, "keystore.aws.secretsmanager.endpoint"); err != nil {
		return nil, err
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	s.client = &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 2, Prepare: signer(cfg, web, "secretsmanager")}
	if _, err := s.Status(ctx); err != nil {
		return nil, fmt.Errorf("reach AWS Secrets Manager at %s: %w", cfg.Endpoint, err)
	}
	return s, nil
}

// call asks for one action.
func (s *Store) call(ctx context.Context, action string, in, out any) error {
	err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/", In: in, Out: out, Max: rest.MaxPage, Header: http.Header{"X-Amz-Target": {"secretsmanager." + action}},
	})
	var refused *rest.StatusError
	if !errors.As(err, &refused) {
		return err
	}
	kind := refused.Kind
	if i := strings.LastIndexByte(kind, '#'); i >= 0 {
		kind = kind[i+1:]
	}
	switch kind {
	case "ResourceExistsException":
		return store.ErrExists
	case "ResourceNotFoundException":
		return store.ErrNotFound
	}
	if len(kind) > 64 || strings.ContainsFunc(kind, func(c rune) bool { return c < 'A' || c > 'z' }) {
		kind = "refused"
	}
	return fmt.Errorf("%s: %s: %w", action, kind, err)
}

// Status implements store.Store.
func (s *Store) Status(ctx context.Context) (time.Duration, error) { return s.client.Ping(ctx, "/") }

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	in := struct {
		Name         string
		SecretString string
		KmsKeyID     string `json:"KmsKeyId,omitempty"`
		Token        string `json:"ClientRequestToken"`
	}{name, string(value), s.cfg.KMSKey, requestToken()}
	return s.call(ctx, "CreateSecret", in, nil)
}

// Set implements store.Store.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	err := s.Create(ctx, name, value)
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	in := struct {
		ID           string `json:"SecretId"`
		SecretString string
		Token        string `json:"ClientRequestToken"`
	}{name, string(value), requestToken()}
	return s.call(ctx, "PutSecretValue", in, nil)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	var out struct {
		SecretString *string
		SecretBinary []byte
	}
	if err := s.call(ctx, "GetSecretValue", map[string]string{"SecretId": name}, &out); err != nil {
		return nil, err
	}
	if out.SecretString != nil {
		return []byte(*out.SecretString), nil
	}
	return out.SecretBinary, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.call(ctx, "DeleteSecret", map[string]any{"SecretId": name, "ForceDeleteWithoutRecovery": true}, nil)
}

// maxPages bounds a listing that does not end.
const maxPages = 10_000

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	token := ""
	for range maxPages {
		if names.Seen() > store.MaxNames {
			break
		}
		in := map[string]any{"MaxResults": 100}
		if token != "" {
			in["NextToken"] = token
		}
		var out struct {
			SecretList []struct{ Name string }
			NextToken  string
		}
		if err := s.call(ctx, "ListSecrets", in, &out); err != nil {
			return nil, "", err
		}
		for _, e := range out.SecretList {
			names.Add(e.Name)
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
func (s *Store) String() string { return "AWS SecretsManager: " + s.cfg.Endpoint }

// Close implements store.Store.
func (s *Store) Close() error { return s.client.Close() }
