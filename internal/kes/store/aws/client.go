package aws

import (
	"net/http"
	"time"

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
	keys := newSource(cfg, web)
	sign := func(r *http.Request, body []byte) error {
		c, err := keys.get(r.Context())
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		signV4(r, body, c, cfg.Region, service, time.Now())
		return nil
	}
	return &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 1, Prepare: sign}, nil
}
