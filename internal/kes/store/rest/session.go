package rest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Session is a token that a service gives for a time. It is got when first
// needed, and replaced after half of its life; one that cannot be replaced is
// used to its end.
type Session struct {
	// Get returns a new token and how long it lives; 0 is for ever. old is the
	// token before, or empty.
	Get func(ctx context.Context, old string) (token string, life time.Duration, err error)

	mu    sync.Mutex
	token string    // guarded by mu
	renew time.Time // guarded by mu; when to replace it; zero is never
	until time.Time // guarded by mu; when it ends; zero is never
	got   time.Time // guarded by mu
}

// Token returns a token that is good.
func (s *Session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.token != "" && (s.renew.IsZero() || now.Before(s.renew)) {
		return s.token, nil
	}
	token, life, err := s.Get(ctx, s.token)
	switch {
	case err == nil && token == "":
		err = errors.New("it gave no token")
	case err != nil && s.token != "" && (s.until.IsZero() || now.Before(s.until)):
		s.renew = now.Add(3 * time.Second) // not with every request
		return s.token, nil
	}
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	s.token, s.got, s.renew, s.until = token, now, time.Time{}, time.Time{}
	if life > 0 {
		s.renew, s.until = now.Add(life/2), now.Add(life)
	}
	return s.token, nil
}

// Drop forgets a token that was refused, unless it is quite new, and reports
// whether another try makes sense.
func (s *Session) Drop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || time.Since(s.got) < 3*time.Second {
		return false
	}
	s.token = ""
	return true
}
