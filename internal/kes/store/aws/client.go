package aws

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"

	"arca/internal/aws"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// NewClient makes a client of another service of AWS than the store's ("kms"),
// signed in the same way with the same credentials. cfg has its endpoint and
// region; nobody is asked yet.
func NewClient(cfg Config, service string) (*rest.Client, error) {
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	sign := signer(cfg, web, service)
	return &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 1, Prepare: sign}, nil
}

// signer signs JSON requests to a service.
func signer(cfg Config, web *http.Client, service string) func(r *http.Request, body []byte) error {
	keys := aws.NewSource(aws.Keys{Access: cfg.AccessKey, Secret: cfg.SecretKey, Token: cfg.Token}, cfg.Region, func(r *http.Request) (*http.Response, error) {
		return rest.Metadata(web, r).Do(r) //nolint:gosec // the operator's own environment names it
	})
	return func(r *http.Request, body []byte) error {
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		err := keys.Sign(r, sha256.Sum256(body), service)
		if errors.Is(err, aws.ErrUnreachable) {
			return &store.UnreachableError{Err: err}
		}
		return err
	}
}

// requestToken makes a write that is retried happen once.
func requestToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
