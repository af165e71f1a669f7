package vault

import (
	"context"
	"errors"
	"net/http"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

var errSealed = errors.New("the Vault is sealed")

// check refuses a call while the server is known to be sealed.
func (s *Store) check() error {
	if s.sealed.Load() {
		return &store.UnreachableError{Err: errSealed}
	}
	return nil
}

// Status implements store.Store: it asks for the server's health, in no
// namespace and without a token.
func (s *Store) Status(ctx context.Context) (time.Duration, error) {
	once := *s.client
	once.Again = nil
	start := time.Now()
	err := once.Do(ctx, rest.Request{
		Method: http.MethodGet, Path: "/v1/sys/health", Header: http.Header{namespaceHeader: {""}, anonymous: {"1"}},
	})
	took := time.Since(start)
	switch {
	case err == nil, rest.Is(err, http.StatusTooManyRequests, 473): // a standby takes requests, too
		s.sealed.Store(false)
		return took, nil
	case rest.Is(err, http.StatusServiceUnavailable, http.StatusNotImplemented):
		s.sealed.Store(true)
		return 0, &store.UnreachableError{Err: errSealed}
	}
	return 0, err
}

// watch looks at the server's health, so that calls need not find out by
// themselves, and so that they go on when it is well again.
func (s *Store) watch(ctx context.Context) {
	well := true
	for sleep(ctx, s.cfg.Ping) {
		look, cancel := context.WithTimeout(ctx, max(s.cfg.Ping, 5*time.Second))
		_, err := s.Status(look)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && well:
			s.cfg.Log.Error("Vault does not answer", "endpoint", s.cfg.Endpoint, "error", err)
		case err == nil && !well:
			s.cfg.Log.Info("Vault answers again", "endpoint", s.cfg.Endpoint)
		}
		well = err == nil
	}
}
