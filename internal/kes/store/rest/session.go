package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"arca/internal/kes/store"
)

// A Session is a token that a service gives for a time. It is got when first
// needed, and replaced after half of its life; one that cannot be replaced is
// used to its end. After a refusal nothing is asked for three seconds.
type Session struct {
	// Get returns a new token and how long it lives; 0 is for ever. old is the
	// token before, or empty.
	Get func(ctx context.Context, old string) (token string, life time.Duration, err error)

	mu    sync.Mutex
	token string    // guarded by mu
	renew time.Time // guarded by mu; when to replace it; zero is never
	until time.Time // guarded by mu; when it ends; zero is never
	got   time.Time // guarded by mu

	failure error     // guarded by mu; the last refusal
	again   time.Time // guarded by mu; until then that is the answer
}

// pause is how long a service that refused a token is left alone.
const pause = 3 * time.Second

// Token returns a token that is good.
func (s *Session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.token != "" && (s.renew.IsZero() || now.Before(s.renew)) {
		return s.token, nil
	}
	if now.Before(s.again) {
		return "", s.failure
	}
	token, life, err := s.Get(ctx, s.token)
	switch {
	case err == nil && token == "":
		err = errors.New("it gave no token")
	case err != nil && s.token != "" && (s.until.IsZero() || now.Before(s.until)):
		s.renew = time.Now().Add(pause) // not with every request
		return s.token, nil
	}
	if err != nil {
		err = loginError(err)
		// Not what only this caller has seen, or what passes: it left, its connection broke, or the service is busy, and it retries.
		if ctx.Err() == nil && !store.IsUnreachable(err) && !passes(err) {
			s.failure, s.again = err, time.Now().Add(pause)
		}
		return "", err
	}
	s.token, s.got, s.renew, s.until = token, now, time.Time{}, time.Time{}
	if life > 0 {
		s.renew, s.until = now.Add(life/2), now.Add(life)
	}
	return s.token, nil
}

// loginError is the error of a login. Only what passes is told as a StatusError: the code of another says nothing of the key for which the token was to be.
func loginError(err error) error {
	var s *StatusError
	if errors.As(err, &s) && !passes(err) {
		return errors.New("log in: " + err.Error())
	}
	return fmt.Errorf("log in: %w", err)
}

// passes reports whether a service has answered that it cannot just now.
func passes(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && (s.Code >= 500 || s.Code == http.StatusTooManyRequests)
}

// Drop forgets a token that was refused, unless it is quite new, and reports
// whether another try makes sense.
func (s *Session) Drop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || time.Since(s.got) < pause {
		return false
	}
	s.token = ""
	return true
}
