package engine

import (
	"context"
	"errors"

	"arca/internal/errs"
)

// ErrNotRenewed is a renewal that an auth method neither grants nor refuses:
// what the token stood for is gone. The answer is empty, and the token is as it
// was.
var ErrNotRenewed = errs.New(errs.Invalid, "the token's user or role is gone")

// BadCredentials marks the refusal of a login as one by a wrong secret for a
// name that exists: too many of these lock the name out.
func BadCredentials(err error) error { return &badCredentials{err} }

type badCredentials struct{ err error }

func (e *badCredentials) Error() string { return e.err.Error() }

func (e *badCredentials) Unwrap() error { return e.err }

// IsBadCredentials reports whether BadCredentials made err.
func IsBadCredentials(err error) bool {
	if err == nil {
		return false
	}
	var bad *badCredentials
	return errors.As(err, &bad)
}

// Ask is what a handler returns that has to ask somebody outside before it can
// answer: the hall gives the transaction up, runs fn, and runs the handler again
// with the result in Call.Asked. So nobody's slowness keeps a transaction open,
// and a conflict does not ask twice. An error of fn is the request's.
func Ask(fn func(ctx context.Context) (any, error)) error { return &Question{Run: fn} }

// A Question is what Ask returns.
type Question struct {
	Run func(ctx context.Context) (any, error)
}

// Error implements error.
func (*Question) Error() string { return "the handler asks outside of the transaction first" }

// Bounds on the policies of a token. Vault bounds them by the size of a record only,
// which is about 14,000, and warns of the cost: each request with the token looks at all.
const (
	MaxPolicies    = 1000
	maxPolicyBytes = 512
	MaxPrefixes    = 1000 // addresses and CIDR blocks that each use of a token, or each login, is compared with
)

// CheckPolicies refuses, with kind Invalid, more names of policies than a token can have,
// or longer ones than a policy can.
func CheckPolicies(names []string) error {
	if len(names) > MaxPolicies {
		return errs.New(errs.Invalid, "a token has at most %d policies, these are %d: put rules together, or give them by groups", MaxPolicies, len(names))
	}
	for _, n := range names {
		if len(n) > maxPolicyBytes {
			return errs.New(errs.Invalid, "the name of a policy has at most %d bytes, %.40q... has %d", maxPolicyBytes, n, len(n))
		}
	}
	return nil
}

// Paging are the parameters of a listing that pages.
type Paging struct {
	After string `api:"after" help:"List what comes behind this name."`
	Limit int    `api:"limit" help:"List at most so many names."`
}
