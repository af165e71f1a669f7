package gcp

import (
	"arca/internal/kes/store/rest"
)

// NewClient makes a client of another service of Google's cloud than the store's,
// with the same login. cfg has its endpoint; nobody is asked yet.
func NewClient(cfg Config) (*rest.Client, error) {
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{"https://www.googleapis.com/auth/cloud-platform"}
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	from, err := findCredentials(cfg, web)
	if err != nil {
		return nil, err
	}
	s.session.Get = from.token
	return &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 1, Prepare: s.prepare, Again: s.again}, nil
}
