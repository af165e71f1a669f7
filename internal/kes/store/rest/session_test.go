package rest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/kes/store"
)

// A service that refuses a token is asked every three seconds, not with every request, however long it takes to refuse it.
func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusal := errors.New("refused")
		said, asked := refusal, 0
		s := &Session{Get: func(context.Context, string) (string, time.Duration, error) {
			asked++
			time.Sleep(2 * pause)
			return "token", 0, said
		}}
		for range 5 {
			if _, err := s.Token(t.Context()); !errors.Is(err, refusal) {
				t.Errorf("got %v", err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times at once", asked)
		}
		said = nil
		time.Sleep(pause)
		if got, err := s.Token(t.Context()); got != "token" || err != nil {
			t.Errorf("three seconds later: %q, %v", got, err)
		}
	})
}

// The code of a login that was refused is not taken for that of the service: it would say that there is no key.
func TestCodeOfRefusal(t *testing.T) {
	t.Parallel()
	for code, told := range map[int]bool{400: false, 401: false, 403: false, 404: false, 429: true, 500: true, 503: true} {
		s := &Session{Get: func(context.Context, string) (string, time.Duration, error) {
			return "", 0, fmt.Errorf("login.example: %w", &StatusError{Code: code})
		}}
		if _, err := s.Token(t.Context()); Is(err, code) != told || !strings.HasPrefix(err.Error(), "log in: login.example") {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// What is only one caller's misfortune keeps nobody from a token.
func TestFailureOfOne(t *testing.T) {
	t.Parallel()
	said := error(nil)
	s := &Session{Get: func(ctx context.Context, _ string) (string, time.Duration, error) {
		return "token", 0, errors.Join(ctx.Err(), said)
	}}
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, err := s.Token(left); !errors.Is(err, context.Canceled) {
		t.Errorf("who has left gets %v", err)
	}
	for _, said = range []error{&store.UnreachableError{Err: errors.New("gone")}, &StatusError{Code: 503}, &StatusError{Code: 429}} {
		if _, err := s.Token(t.Context()); !errors.Is(err, said) {
			t.Errorf("got %v for %v", err, said)
		}
	}
	said = nil
	if got, err := s.Token(t.Context()); got != "token" || err != nil {
		t.Errorf("the next one: %q, %v", got, err)
	}
}
