package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// maxCommandWords is the most words a command's name has ("operator raft snapshot save").
const maxCommandWords = 4

// The groups of flags that many commands share.
const (
	withHTTP   = 1 << iota // address, TLS, namespace, …
	withField              // -field
	withFormat             // -format

	withAll = withHTTP | withField | withFormat
)

// A command is one row of the table in list.go.
type command struct {
	name    string // the words that call it: "kv get"
	aliases []string
	usage   string // what follows the name: "[options] PATH"
	summary string // one line, for lists
	about   string // paragraphs and examples, for -help

	shared   int                         // groups of shared flags
	setup    func(f *flagSet) runFunc    // declares flags, returns what to run
	delegate Delegate                    // set instead of setup for commands of other packages
	words    func(position int) []string // completion of arguments; may be nil
}

// A runFunc does the command's work. Its error decides the exit code.
type runFunc func(c *call) error

func (cmd *command) is(name string) bool {
	if cmd.name == name {
		return true
	}
	for _, alias := range cmd.aliases {
		if alias == name {
			return true
		}
	}
	return false
}

// A call is one execution of a command.
type call struct {
	*app
	ctx     context.Context
	cmd     *command
	args    []string // positional arguments
	flags   *flagSet
	globals *globals

	cached *api.Client
	sent   *sentRequest // the last one, noted for -explain
}

// An exitError carries the exit code. A nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef is an error of the caller's making: exit code 1.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// failf is a refusal by the server or the system: exit code 2.
func failf(format string, args ...any) error {
	return &exitError{exitFailure, fmt.Errorf(format, args...)}
}

// exit ends with a code and without a message.
func exit(code int) error { return &exitError{code: code} }

// run parses a command's flags and executes it.
func (a *app) run(ctx context.Context, cmd *command, args []string) int {
	f := newFlagSet()
	g := declareShared(f, cmd.shared)
	runCommand := cmd.setup(f)
	positional, err := f.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		a.commandHelp(a.Stdio.Out, cmd)
		return exitOK
	case err != nil:
		a.errorf("%s", err)
		return exitUsage
	}
	g.complete(f, a.env)
	if cmd.shared&withFormat != 0 && !isFormat(g.format) {
		a.errorf("Invalid output format: %s", g.format)
		return exitUsage
	}
	c := &call{app: a, ctx: ctx, cmd: cmd, args: positional, flags: f, globals: g}
	err = runCommand(c)
	code := a.report(err)
	c.explain(err)
	return code
}

// report prints an error and returns the exit code that goes with it. The two
// -output flags travel as errors of the client and end well.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	var curl *api.OutputStringError
	if errors.As(err, &curl) {
		s, err := curlString(curl)
		if err != nil {
			a.errorf("Error creating request string: %s", err)
			return exitUsage
		}
		a.printf("%s\n", s)
		return exitOK
	}
	var policy *api.OutputPolicyError
	if errors.As(err, &policy) {
		s, err := policy.HCLString()
		if err != nil {
			a.errorf("Error assembling policy HCL: %s", err)
			return exitUsage
		}
		a.printf("%s\n", s)
		return exitOK
	}
	code := exitFailure
	var ee *exitError
	if errors.As(err, &ee) {
		code = ee.code
	}
	if text := err.Error(); text != "" {
		a.errorf("%s", text)
	}
	return code
}

func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Stdio.Out, format, args...) // a closed pipe is the reader's wish
}

// errorf writes one message and a line end to standard error.
func (a *app) errorf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Stdio.Err, strings.TrimRight(format, "\n")+"\n", args...)
}

// exactly demands a number of arguments, in the words scripts know.
func (c *call) exactly(n int) error { return c.between(n, n) }

// between demands at least low and at most high arguments; high < 0 means any.
func (c *call) between(low, high int) error {
	want := fmt.Sprint(low)
	switch {
	case high > low:
		want = fmt.Sprintf("%d-%d", low, high)
	case high < 0 && low > 1:
		want = fmt.Sprintf("at least %d", low)
	}
	return c.counted(low, high, want)
}

// counted is between with a wording of its own for what was expected.
func (c *call) counted(low, high int, want string) error {
	switch n := len(c.args); {
	case n < low:
		return usagef("Not enough arguments (expected %s, got %d)", want, n)
	case high >= 0 && n > high:
		return usagef("Too many arguments (expected %s, got %d)", want, n)
	}
	return nil
}
