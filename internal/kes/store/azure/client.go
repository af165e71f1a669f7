package azure

import (
	"arca/internal/kes/store/rest"
)

// NewClient makes a client of a vault for what the store does not do, with the same
// login. Nobody is asked yet.
func NewClient(cfg Config) (*rest.Client, error) {
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	s.session.Get = (&credentials{cfg: cfg, web: web}).token
	return &rest.Client{Base: cfg.Endpoint, HTTP: web, Retries: 1, Prepare: s.prepare, Again: s.again}, nil
}
