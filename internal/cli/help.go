package cli

import (
	"fmt"
	"io"
	"sort"
	"strings"
)

// rootHelp lists all commands and groups.
func (a *app) rootHelp(w io.Writer) {
	common := []string{"read", "write", "delete", "list", "login", "server", "status", "unwrap"}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s COMMAND [options] [arguments]\n\nCommon commands:\n", a.Name)
	entries := a.children("")
	for _, name := range common {
		if summary, ok := entries[name]; ok {
			fmt.Fprintf(&b, "    %-18s%s\n", name, summary)
			delete(entries, name)
		}
	}
	b.WriteString("\nOther commands:\n")
	for _, name := range sortedKeys(entries) {
		fmt.Fprintf(&b, "    %-18s%s\n", name, entries[name])
	}
	fmt.Fprintf(&b, "\nAdd -help to a command for its options. %s -autocomplete-install sets up completion.\n", a.Name)
	_, _ = io.WriteString(w, b.String())
}

// children maps the next word of every command below a group to what it is.
func (a *app) children(group string) map[string]string {
	out := map[string]string{}
	for i := range a.commands {
		cmd := &a.commands[i]
		rest := cmd.name
		if group != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(cmd.name, group+" "); !ok {
				continue
			}
		}
		word, deeper, nested := strings.Cut(rest, " ")
		switch {
		case nested && deeper != "":
			out[word] = groupSummary(strings.TrimSpace(group + " " + word))
		default:
			out[word] = cmd.summary
		}
	}
	return out
}

func (a *app) groupHelp(w io.Writer, group string) {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s %s COMMAND [options] [arguments]\n\n%s.\n\nCommands:\n", a.Name, group, groupSummary(group))
	entries := a.children(group)
	for _, name := range sortedKeys(entries) {
		fmt.Fprintf(&b, "    %-18s%s\n", name, entries[name])
	}
	_, _ = io.WriteString(w, b.String())
}

// commandHelp describes one command with its flags.
func (a *app) commandHelp(w io.Writer, cmd *command) {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s %s %s\n\n%s\n", a.Name, cmd.name, cmd.usage, cmd.about)
	if cmd.setup != nil {
		f := newFlagSet()
		declareShared(f, cmd.shared)
		cmd.setup(f)
		writeFlags(&b, "Options", f.sorted(false))
		writeFlags(&b, "Options of all commands", f.sorted(true))
	}
	_, _ = io.WriteString(w, b.String())
}

func writeFlags(b *strings.Builder, title string, flags []flagInfo) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, f := range flags {
		name := "-" + f.name
		if !f.isBool {
			name += "=<" + f.arg + ">"
		}
		fmt.Fprintf(b, "\n  %s\n%s\n", name, wrap(f.help, "      ", lineWidth-6))
	}
}

// names returns the first words that commands have after a group, sorted.
func (a *app) names(group string) []string {
	names := sortedKeys(a.children(group))
	sort.Strings(names)
	return names
}
