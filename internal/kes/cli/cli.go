// Package cli is the command line of KES: what runs when the program is called
// as `kes`, or as `arca kes`.
//
// A command is a row of the table (table.go): its name, its usage text and a
// function. Most of them are clients of a server like any other (client.go);
// `server` and `migrate` have the server's parts in themselves.
//
// Exit codes and forms of output are those that scripts know: 0 done; 1 an
// error, with a message on standard error that begins "Error: " and nothing on
// standard output; 2 a usage text. What is no terminal gets plain output. See
// the project's requirements for KES, section 13.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"arca/internal/version"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// A Config is all that Run depends on.
type Config struct {
	Args     []string // without the program's name
	Env      []string // KEY=value
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of the program.
type app struct {
	Config
	env map[string]string
	ctx context.Context //nolint:containedctx // one run, one context
	tty bool            // standard output is a terminal
	col string          // --color
}

// Run executes one command line and returns the exit code.
func Run(ctx context.Context, cfg Config) int {
	a := &app{Config: cfg, ctx: ctx, env: map[string]string{}, tty: isTerminal(cfg.Out)}
	for _, kv := range cfg.Env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			a.env[name] = value
		}
	}
	if line := a.env["COMP_LINE"]; line != "" {
		a.complete(line)
		return exitOK
	}
	return a.report(a.dispatch())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A usageError ends with a usage text and exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// errSilent ends with exit code 1 and no message.
var errSilent = errors.New("")

func (a *app) report(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprint(a.Err, usage.text)
		return exitUsage
	case errors.Is(err, errSilent):
		return exitError
	}
	fmt.Fprintf(a.Err, "Error: %s\n", err)
	return exitError
}

// dispatch finds the command that the arguments name, and runs it.
func (a *app) dispatch() error {
	args := a.Args
	if len(args) == 0 {
		return &usageError{rootUsage()}
	}
	switch args[0] {
	case "-h", "--help", "help":
		return &usageError{rootUsage()}
	case "-v", "--version":
		a.printf("Version    %s\nPlatform   %s\nLicense    MPL 2.0, and compatible with KES of MinIO\n", version.Arca, platform())
		return nil
	case "--auto-completion":
		return a.installCompletion()
	}
	if len(args) > 2 && args[0] == "tool" && args[1] == "identity" { // until 2021
		args = args[1:]
	}
	if strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("unknown flag: %s. See 'kes --help'", args[0])
	}
	all := commands()
	if len(args) > 1 {
		if c := all.find(args[0] + " " + args[1]); c != nil {
			return a.run(c, args[2:])
		}
	}
	c := all.find(args[0])
	switch {
	case c == nil:
		return fmt.Errorf("%q is no command of kes. See 'kes --help'", args[0])
	case c.run != nil:
		return a.run(c, args[1:])
	case len(args) == 1 || args[1] == "-h" || args[1] == "--help":
		return &usageError{c.usage}
	case strings.HasPrefix(args[1], "-"):
		return fmt.Errorf("unknown flag: %s. See 'kes %s --help'", args[1], args[0])
	}
	return fmt.Errorf("%q is no command of kes %s. See 'kes %s --help'", args[1], args[0], args[0])
}

// call is one execution of a command.
type call struct {
	*app
	*flags
	cmd  *command
	args []string // without the flags
}

func (a *app) run(cmd *command, args []string) error {
	c := &call{app: a, cmd: cmd, flags: newFlags()}
	cmd.flags(c.flags)
	rest, err := c.parse(args)
	if errors.Is(err, errHelp) {
		return &usageError{cmd.usage}
	}
	if err != nil {
		return fmt.Errorf("%w. See 'kes %s --help'", err, cmd.name)
	}
	switch col := c.text("color"); col {
	case "", "auto", "always", "never":
		a.col = col
	default:
		return fmt.Errorf("--color: %q is none of auto, always and never", col)
	}
	c.args = rest
	if len(rest) < cmd.least {
		return fmt.Errorf("too few arguments. See 'kes %s --help'", cmd.name)
	}
	if cmd.most >= 0 && len(rest) > cmd.most {
		return fmt.Errorf("too many arguments: %q. See 'kes %s --help'", rest[cmd.most], cmd.name)
	}
	return cmd.run(c)
}

func (a *app) printf(format string, args ...any) {
	fmt.Fprintf(a.Out, format, args...)
}

// warnf says something on standard error that does not end the command.
func (a *app) warnf(format string, args ...any) {
	fmt.Fprintf(a.Err, "Warning: "+format+"\n", args...)
}

// heading is a title, bold where it may have colours.
func (a *app) heading(text string) string {
	if a.col == "always" || a.col != "never" && a.tty && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb" {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}
