package errs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	own := New(NotFound, "no such thing")
	cases := []struct {
		name string
		err  error
		kind Kind
		text string
		is   []error
	}{
		{"plain", own, NotFound, "no such thing", []error{own}},
		{"formatted", New(Invalid, "%d of %q", 1, "a"), Invalid, `1 of "a"`, nil},
		{"wrapping", New(Failed, "read: %w", io.EOF), Failed, "read: EOF", []error{io.EOF}},
		{"wrapping two", New(Failed, "%w: %w", io.EOF, context.Canceled), Failed, "EOF: context canceled", []error{io.EOF, context.Canceled}},
		{"the outermost kind counts", New(Denied, "no: %w", own), Denied, "no: no such thing", []error{own}},
		{"within others", fmt.Errorf("at: %w", own), NotFound, "at: no such thing", []error{own}},
		{"joined", errors.Join(io.EOF, own), NotFound, "EOF\nno such thing", []error{own, io.EOF}},
		{"given a kind", With(Sealed, io.EOF), Sealed, "EOF", []error{io.EOF}},
		{"without a kind", io.EOF, Internal, "EOF", []error{io.EOF}},
		{"list of one", List(Denied, "permission denied"), Denied, "1 error occurred:\n\t* permission denied\n\n", nil}, // S4-36
		{"list of two", List(Denied, "a", "b"), Denied, "2 errors occurred:\n\t* a\n\t* b\n\n", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := KindOf(c.err); got != c.kind || !Is(c.err, c.kind) {
				t.Errorf("kind is %s, want %s", got, c.kind)
			}
			if got := c.err.Error(); got != c.text {
				t.Errorf("text is %q, want %q", got, c.text)
			}
			for _, target := range c.is {
				if !errors.Is(c.err, target) {
					t.Errorf("is not %v", target)
				}
			}
		})
	}
	if With(Denied, nil) != nil {
		t.Error("With(nil) is an error")
	}
	if Is(nil, Internal) {
		t.Error("nil is of a kind")
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for k := Internal; k <= Precondition; k++ {
		name := k.String()
		if name == "unknown" || name == "" || seen[name] {
			t.Errorf("kind %d is called %q", k, name)
		}
		seen[name] = true
	}
	if got := (Precondition + 1).String(); got != "unknown" {
		t.Errorf("no kind is called %q", got)
	}
}

// A list of many messages costs as much as it is long.
func TestListOfMany(t *testing.T) {
	t.Parallel()
	many := strings.Split(strings.Repeat("message,", 300_000), ",")
	if got := len(List(Invalid, many...).Error()); got < 300_000*10 {
		t.Errorf("the text has %d bytes", got)
	}
}
