// Package errors has what Pebble calls of the module github.com/cockroachdb/errors, over Go's own errors: go.mod puts it
// in that module's place.
//
// That module carries errors between the processes of a database, in Protocol Buffers, with stacks, and reports them to a
// service; one process that embeds Pebble has no use for it, and it would be 5 % of the program. See
// docs/adr/0016-two-modules-replaced.md.
package errors

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/redact"
)

// New is an error with a text.
func New(msg string) error { return errors.New(msg) }

// Newf is an error with a formatted text; %w wraps.
func Newf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// Errorf is Newf.
func Errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// AssertionFailedf is the error of something that cannot be: a fault of the program.
func AssertionFailedf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// Wrap puts a text before that of err; nil stays nil.
func Wrap(err error, msg string) error {
	if err == nil {
		return nil
	}
	return &prefixed{err: err, prefix: msg}
}

// Wrapf is Wrap with a formatted text.
func Wrapf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &prefixed{err: err, prefix: fmt.Sprintf(format, args...)}
}

type prefixed struct {
	err    error
	prefix string
}

func (p *prefixed) Error() string {
	if p.prefix == "" {
		return p.err.Error()
	}
	return p.prefix + ": " + p.err.Error()
}

func (p *prefixed) Unwrap() error { return p.err }

// WithStack is err: a stack is what a panic shows.
func WithStack(err error) error { return err }

// WithDetailf, WithHintf and WithSafeDetails add what %+v shows behind err's text.
func WithDetailf(err error, format string, args ...any) error { return detail(err, format, args) }

// WithHintf is WithDetailf.
func WithHintf(err error, format string, args ...any) error { return detail(err, format, args) }

// WithSafeDetails is WithDetailf.
func WithSafeDetails(err error, format string, args ...any) error { return detail(err, format, args) }

func detail(err error, format string, args []any) error {
	if err == nil {
		return nil
	}
	return &detailed{err: err, detail: fmt.Sprintf(format, args...)}
}

type detailed struct {
	err    error
	detail string
}

func (d *detailed) Error() string { return d.err.Error() }
func (d *detailed) Unwrap() error { return d.err }

// Format shows the detail with %+v.
func (d *detailed) Format(s fmt.State, verb rune) {
	switch {
	case verb == 'v' && s.Flag('+'):
		fmt.Fprintf(s, "%+v\n%s", d.err, d.detail)
	case verb == 'q':
		fmt.Fprintf(s, "%q", d.Error())
	default:
		fmt.Fprint(s, d.Error())
	}
}

// CombineErrors is err, with other as what only %+v shows; other if err is nil.
func CombineErrors(err, other error) error {
	if err == nil {
		return other
	}
	return WithSecondaryError(err, other)
}

// WithSecondaryError is err, with other as what only %+v shows.
func WithSecondaryError(err, other error) error {
	if other == nil {
		return err
	}
	return detail(err, "secondary error: %+v", []any{other})
}

// Join is Go's.
func Join(errs ...error) error { return errors.Join(errs...) }

// Is is Go's; see Mark.
func Is(err, target error) bool { return errors.Is(err, target) }

// As is Go's.
func As(err error, target any) bool { return errors.As(err, target) }

// Unwrap is Go's.
func Unwrap(err error) error { return errors.Unwrap(err) }

// UnwrapAll is the innermost error of err.
func UnwrapAll(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Mark is err, with its text and all that it wraps, and is reference too for Is and for Go's errors.Is.
func Mark(err, reference error) error {
	if err == nil {
		return nil
	}
	return &marked{err: err, reference: reference}
}

type marked struct{ err, reference error }

func (m *marked) Error() string        { return m.err.Error() }
func (m *marked) Unwrap() error        { return m.err }
func (m *marked) Is(target error) bool { return errors.Is(m.reference, target) }

// Format passes the verb on, for details.
func (m *marked) Format(s fmt.State, verb rune) {
	fmt.Fprintf(s, fmt.FormatString(s, verb), m.err)
}

// Safe says that v may be shown where texts are redacted.
func Safe(v any) redact.SafeValue { return redact.Safe(v) }
