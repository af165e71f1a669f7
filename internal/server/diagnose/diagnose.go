// Package diagnose looks at a server's configuration and surroundings and says
// what would keep it from starting, or from being safe. `operator diagnose`
// shows all of it as a tree; a start runs the part that costs nothing
// (AtStart) and logs it.
//
// Nothing is changed by looking: no storage is made, opened or locked, and a
// server that runs is not disturbed.
package diagnose

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"arca/internal/config"
	"arca/internal/version"
)

// A Status is the outcome of a check; the worst of its children counts.
type Status uint8

// The outcomes, from good to bad.
const (
	OK Status = iota
	Skipped
	Warning
	Failure
)

func (s Status) String() string { return [...]string{"success", "skipped", "warning", "failure"}[s] }

// MarshalText gives the words that Vault's JSON has.
func (s Status) MarshalText() ([]byte, error) {
	return []byte([...]string{"ok", "skipped", "warn", "fail"}[s]), nil
}

// A Check is one thing that was looked at, or several.
type Check struct {
	Name     string   `json:"name"`
	Status   Status   `json:"status"`
	Message  string   `json:"message,omitempty"`
	Advice   string   `json:"advice,omitempty"`
	Children []*Check `json:"children,omitempty"`
}

// add puts a child in its place and lets a bad one show.
func (c *Check) add(children ...*Check) {
	for _, k := range children {
		c.Children = append(c.Children, k)
		if k.Status > c.Status && k.Status != Skipped {
			c.Status = k.Status
		}
	}
}

func good(name, format string, args ...any) *Check {
	return &Check{Name: name, Message: fmt.Sprintf(format, args...)}
}

func bad(name string, err error) *Check {
	return &Check{Name: name, Status: Failure, Message: err.Error()}
}

func warn(name, advice, format string, args ...any) *Check {
	return &Check{Name: name, Status: Warning, Message: fmt.Sprintf(format, args...), Advice: advice}
}

// Exit codes, as Vault's operator diagnose has them.
const (
	exitOK         = 0
	exitFailure    = 1
	exitWarning    = 2
	exitUsage      = 3
	exitUnreadable = 4
)

// Areas can be skipped by name.
var areas = []string{"os", "config", "storage", "listener", "mlock", "seal", "tls", "addresses"}

type options struct {
	configs []string
	skip    []string
	format  string
}

type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

// Set implements flag.Value.
func (t *texts) Set(v string) error {
	*t = append(*t, strings.Split(v, ",")...)
	return nil
}

// Env is what Command is run with.
type Env struct {
	Getenv func(string) string
	// Storage tells what is wrong with a storage stanza that only the server itself reads; nil for nothing.
	Storage  func(c *config.Config, getenv func(string) string) []error
	Out, Err io.Writer
}

// Command is `operator diagnose`.
func Command(args []string, env Env) int {
	out, errOut := env.Out, env.Err
	fs := flag.NewFlagSet("operator diagnose", flag.ContinueOnError)
	fs.SetOutput(errOut)
	var o options
	fs.Var((*texts)(&o.configs), "config", "Look at the configuration in this `file` or folder. May be given several times.")
	fs.Var((*texts)(&o.skip), "skip", "Leave out this `area`: "+strings.Join(areas, ", ")+". May be given several times.")
	fs.StringVar(&o.format, "format", "table", "`table` or json.")
	fs.Bool("debug", false, "Accepted; everything is always shown.")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Usage: vault operator diagnose -config=FILE [options]\n\n  Says what would keep a server from starting with this configuration, or from being\n  safe. Nothing is changed. Run it as the user that the server runs as.\n\nOptions:\n\n")
		fs.PrintDefaults()
	}
	if slices.Contains(args, "-h") || slices.Contains(args, "-help") || slices.Contains(args, "--help") {
		fs.SetOutput(out)
		fs.Usage()
		return exitOK
	}
	if err := fs.Parse(args); err != nil {
		return exitUsage
	}
	if fs.NArg() > 0 || o.format != "table" && o.format != "json" {
		fmt.Fprintln(errOut, "There are no arguments but options, and -format is table or json.")
		return exitUsage
	}
	for _, s := range o.skip {
		if !slices.Contains(areas, s) {
			fmt.Fprintf(errOut, "There is no area %q to skip; there are %s.\n", s, strings.Join(areas, ", "))
			return exitUsage
		}
	}
	if len(o.configs) == 0 {
		fmt.Fprintln(errOut, "Name the configuration to look at with -config=FILE.")
		return exitUsage
	}
	root, readable := run(&o, &env)
	if o.format == "json" {
		text, err := json.MarshalIndent(root, "", "  ")
		if err != nil {
			fmt.Fprintln(errOut, err)
			return exitUsage
		}
		fmt.Fprintf(out, "%s\n", text)
	} else {
		fmt.Fprintf(out, "Vault v%s (arca %s)\n\nResults:\n", version.Compat(""), version.Arca)
		show(out, root, 0)
	}
	switch {
	case !readable:
		return exitUnreadable
	case root.Status == Failure:
		return exitFailure
	case root.Status == Warning:
		return exitWarning
	}
	return exitOK
}

func show(out io.Writer, c *Check, depth int) {
	line := fmt.Sprintf("%s[ %-7s ] %s", strings.Repeat("  ", depth), c.Status, c.Name)
	if c.Message != "" {
		line += ": " + indent(c.Message, depth)
	}
	fmt.Fprintln(out, line)
	if c.Advice != "" {
		fmt.Fprintf(out, "%s%s\n", strings.Repeat("  ", depth+1), indent(c.Advice, depth))
	}
	for _, k := range c.Children {
		show(out, k, depth+1)
	}
}

func indent(text string, depth int) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat("  ", depth+2))
}

// run makes the tree. readable is false when the configuration could not be
// read, so that the rest was not looked at.
func run(o *options, env *Env) (root *Check, readable bool) {
	root = &Check{Name: "Vault Diagnose"}
	part := func(area, name string, checks func() []*Check) {
		c := &Check{Name: name}
		if slices.Contains(o.skip, area) {
			c.Status = Skipped
		} else {
			c.add(checks()...)
		}
		root.add(c)
	}
	part("os", "Check Operating System", system)
	cfg, warnings, err := config.Load(o.configs)
	if err == nil {
		err = cfg.Overlay(env.Getenv)
	}
	parse := &Check{Name: "Parse Configuration"}
	root.add(parse)
	if err != nil {
		parse.Status, parse.Message = Failure, err.Error()
		root.Status = Failure
		return root, false
	}
	if !slices.Contains(o.skip, "config") {
		for _, w := range warnings {
			parse.add(warn(w.Pos.String(), "", "%s", w.Text))
		}
		if err := cfg.Check(); err != nil {
			parse.add(bad("Check Settings", err))
		}
		parse.add(permissions(o.configs)...)
		root.Status = max(root.Status, parse.Status)
	}
	part("mlock", "Check Memory Lock", func() []*Check { return []*Check{memoryLock(cfg)} })
	part("storage", "Check Storage", func() []*Check { return storage(cfg, env) })
	part("addresses", "Check Addresses", func() []*Check { return addresses(cfg) })
	part("listener", "Check Listeners", func() []*Check { return listeners(cfg, slices.Contains(o.skip, "tls")) })
	part("seal", "Check Seal", func() []*Check { return seals(cfg, env.Getenv) })
	return root, true
}

// AtStart is the part that costs nothing: what it finds is a warning for the
// log.
func AtStart(cfg *config.Config, files []string) []*Check {
	var all []*Check
	all = append(all, permissions(files)...)
	all = append(all, openFiles())
	if s := cfg.Storage; s != nil && s.Path() != "" {
		all = append(all, space(s.Path()))
	}
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.TLS() {
			all = append(all, certificate(l)...)
		}
	}
	return slices.DeleteFunc(all, func(c *Check) bool { return c.Status < Warning })
}
