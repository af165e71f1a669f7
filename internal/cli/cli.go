// Package cli is the command line: the program that people and scripts call as
// `vault` or `arca`.
//
// It is a client like any other and speaks to a server through HashiCorp's
// public Go client. Run takes everything it touches (arguments, environment,
// streams) as values, so that a test needs no process; one command is one
// function that returns a command value: its name, its help, and a setup that
// declares flags and returns what to run. There is no registry: list.go names
// the commands.
//
// Output, error texts on standard error and exit codes follow Vault's, because
// scripts parse them; each was seen in the conformance scenarios (area cli) or
// the guides. Exit codes: 0 done, 1 wrong usage, 2 refused by the server or not
// reached, 127 unknown command.
package cli

import (
	"context"
	"io"
	"strings"

	"arca/internal/version"
)

// Exit codes that scripts rely on.
const (
	exitOK      = 0
	exitUsage   = 1
	exitFailure = 2
	exitUnknown = 127
)

// A Stdio holds the three standard streams of a command.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// A Delegate is a command that lives in another package (the server). It gets
// the arguments after its name and returns the exit code.
type Delegate func(ctx context.Context, args []string, stdio Stdio) int

// A Config is all that Run depends on. The zero value of a hook leaves the
// command out.
type Config struct {
	Name  string   // name the program was called by, for help texts
	Args  []string // arguments without the program's name
	Env   []string // KEY=value, as os.Environ gives them
	Stdio Stdio

	// Ask asks a question and reads the answer unseen; nil asks on the terminal.
	Ask func(question string) (string, error)

	Server   Delegate // vault server
	Diagnose Delegate // vault operator diagnose
	Migrate  Delegate // vault operator migrate
	Recover  Delegate // vault operator raft recover
	KES      Delegate // arca kes
	Agent    Delegate // vault agent
	Proxy    Delegate // vault proxy
}

// app is one run of the program.
type app struct {
	Config
	env      environ
	commands []command
}

// Run executes one command line and returns the process's exit code.
func Run(ctx context.Context, cfg Config) int {
	if cfg.Name == "" {
		cfg.Name = "vault"
	}
	a := &app{Config: cfg, env: newEnviron(cfg.Env)}
	a.commands = commands(cfg)
	if line := a.env.get("COMP_LINE"); line != "" {
		a.complete(line)
		return exitOK
	}
	return a.dispatch(ctx)
}

// dispatch finds the command that the arguments name and runs it.
func (a *app) dispatch(ctx context.Context) int {
	args := a.Args
	if len(args) == 0 {
		a.rootHelp(a.Stdio.Err)
		return exitUnknown
	}
	if strings.HasPrefix(args[0], "-") {
		return a.topLevelFlag(args)
	}
	cmd, rest := a.find(args)
	if cmd == nil {
		return a.noSuchCommand(args)
	}
	if cmd.delegate != nil {
		return cmd.delegate(ctx, rest, a.Stdio)
	}
	return a.run(ctx, cmd, rest)
}

// topLevelFlag handles a command line that begins with a flag.
func (a *app) topLevelFlag(args []string) int {
	switch strings.TrimLeft(args[0], "-") {
	case "version", "v":
		_, _ = io.WriteString(a.Stdio.Out, a.versionLine()+"\n")
		return exitOK
	case "help", "h":
		a.rootHelp(a.Stdio.Out)
		return exitOK
	case "autocomplete-install":
		return a.installCompletion(true)
	case "autocomplete-uninstall":
		return a.installCompletion(false)
	}
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			a.errorf("Flags belong behind the command: put %s after %q.", args[0], arg)
			return exitUsage
		}
	}
	a.rootHelp(a.Stdio.Err)
	return exitUnknown
}

// find returns the command named by the longest run of leading words, and the
// arguments that follow it.
func (a *app) find(args []string) (*command, []string) {
	for n := min(len(args), maxCommandWords); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		for i := range a.commands {
			if a.commands[i].is(name) {
				return &a.commands[i], args[n:]
			}
		}
	}
	return nil, nil
}

// noSuchCommand answers an unknown command or a group named alone: a group's
// help with code 1 (0 when help was asked for), the program's help with 127.
func (a *app) noSuchCommand(args []string) int {
	group := ""
	for n := min(len(args), maxCommandWords); n > 0 && group == ""; n-- {
		if name := strings.Join(args[:n], " "); a.isGroup(name) {
			group = name
		}
	}
	if group == "" {
		a.rootHelp(a.Stdio.Err)
		return exitUnknown
	}
	if wantsHelp(args) {
		a.groupHelp(a.Stdio.Out, group)
		return exitOK
	}
	a.groupHelp(a.Stdio.Err, group)
	return exitUsage
}

func (a *app) isGroup(name string) bool {
	for i := range a.commands {
		if strings.HasPrefix(a.commands[i].name, name+" ") {
			return true
		}
	}
	return false
}

func wantsHelp(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "-h", "-help", "--help", "--h":
			return true
		case "--":
			return false
		}
	}
	return false
}

// versionLine is what `vault version` prints first. Clients (hvac) read
// "Vault vX.Y.Z" from it; our own version follows. The variable lets a client
// be told another version, as compat_version does for the server.
func (a *app) versionLine() string {
	compat := version.Compat(a.env.get("ARCA_COMPAT_VERSION"))
	return "Vault v" + compat + " (arca " + version.Arca + "), built " + version.BuildDate
}
