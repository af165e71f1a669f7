// Package errs gives every error that a user may cause or see a kind.
//
// A kind says what sort of failure it is; each door (HTTP, KMIP, KES) has one
// table from kind to its own code. An error without a kind is internal: it is
// logged in full and shown as "internal error".
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// A Kind is a sort of failure. The zero value is Internal.
type Kind uint8

// The kinds. A door maps each to exactly one code of its protocol.
const (
	Internal     Kind = iota // our fault; details are logged, not shown
	Invalid                  // the request is wrong and repeating it does not help
	Denied                   // the caller may not do this
	NotFound                 // the thing asked for does not exist
	Conflict                 // the state does not allow it now (check-and-set, already exists)
	Unsupported              // the path exists but not with this operation
	TooLarge                 // a bound on size, depth or count was passed
	MediaType                // the content type is not one we read
	Limited                  // a quota or rate limit refuses
	Sealed                   // the node is sealed or not initialised
	Unavailable              // a part we need (store, device, peer) does not answer now
	NotActive                // only the active node may do this
	Failed                   // a server-side failure whose text the caller should see
	Precondition             // a stated precondition (If-Match, consistency) does not hold
)

var names = [...]string{
	"internal", "invalid", "denied", "not found", "conflict", "unsupported", "too large",
	"media type", "limited", "sealed", "unavailable", "not active", "failed", "precondition",
}

// String returns the kind's name for logs.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// An Error is an error with a kind. Its text is shown to the caller.
type Error struct {
	Kind Kind
	text string
	err  error
}

// New makes an error of kind k. The message says what is wrong and, if it can,
// what to do; it is formatted like fmt.Errorf, so %w wraps.
func New(k Kind, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Kind: k, text: format}
	}
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, text: err.Error(), err: err}
}

// With gives err the kind k and keeps its text. With(k, nil) is nil.
func With(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, text: err.Error(), err: err}
}

// Error returns the message.
func (e *Error) Error() string { return e.text }

// Unwrap returns the wrapped error, if any.
func (e *Error) Unwrap() error { return e.err }

// KindOf returns the kind of the outermost kinded error in err's chain, or
// Internal when none has one. KindOf(nil) is Internal; ask err != nil first.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool {
	return err != nil && KindOf(err) == k
}

// List makes an error of several messages in the form in which Vault's API
// shows errors of its core, also when it is only one:
//
//	1 error occurred:
//		* permission denied
func List(k Kind, messages ...string) *Error {
	s := "s"
	if len(messages) == 1 {
		s = ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d error%s occurred:\n", len(messages), s)
	for _, m := range messages {
		text.WriteString("\t* " + m + "\n")
	}
	text.WriteByte('\n')
	return &Error{Kind: k, text: text.String()}
}
