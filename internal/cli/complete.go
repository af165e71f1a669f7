package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// complete answers a shell that asks, through COMP_LINE and COMP_POINT, how the
// line may go on: one word a line.
func (a *app) complete(line string) {
	if point, err := strconv.Atoi(a.env.get("COMP_POINT")); err == nil && point >= 0 && point < len(line) {
		line = line[:point]
	}
	words := strings.Fields(line)
	last := ""
	if !strings.HasSuffix(line, " ") && len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	if len(words) > 0 {
		words = words[1:] // the program's name
	}
	for _, candidate := range a.candidates(words, last) {
		if strings.HasPrefix(candidate, last) {
			a.printf("%s\n", candidate)
		}
	}
}

func (a *app) candidates(words []string, last string) []string {
	cmd, rest := a.find(words)
	if cmd == nil {
		return a.names(strings.Join(words, " "))
	}
	if cmd.setup == nil {
		return nil
	}
	f := newFlagSet()
	declareShared(f, cmd.shared)
	cmd.setup(f)
	if strings.HasPrefix(last, "-") {
		return flagCandidates(f, last)
	}
	if len(rest) > 0 {
		previous := strings.TrimLeft(rest[len(rest)-1], "-")
		for _, info := range f.infos {
			if strings.HasPrefix(rest[len(rest)-1], "-") && info.name == previous && !info.isBool {
				return info.values
			}
		}
	}
	if cmd.words != nil {
		return cmd.words(len(rest))
	}
	return nil
}

// flagCandidates completes a flag's name, or its value after "=".
func flagCandidates(f *flagSet, last string) []string {
	dash := "-"
	if strings.HasPrefix(last, "--") {
		dash = "--"
	}
	name, _, hasValue := strings.Cut(strings.TrimLeft(last, "-"), "=")
	var out []string
	for _, info := range f.infos {
		switch {
		case hasValue && info.name == name:
			for _, v := range info.values {
				out = append(out, dash+name+"="+v)
			}
		case !hasValue:
			out = append(out, dash+info.name)
		}
	}
	return out
}

// installCompletion adds the line that sets up completion to the files of the
// shells in use, or takes it out again.
func (a *app) installCompletion(install bool) int {
	program, err := os.Executable()
	if err != nil {
		a.errorf("Error finding the program: %s", err)
		return exitUsage
	}
	done := 0
	for file, text := range completionLines(a.env.home(), program, a.Name) {
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			continue
		}
		old, err := os.ReadFile(file) //nolint:gosec // the user's own shell files
		if err != nil && (!os.IsNotExist(err) || !strings.HasSuffix(file, ".fish")) {
			continue // a shell that is not in use
		}
		if err := os.WriteFile(file, []byte(withLines(string(old), text, install)), 0o644); err != nil { //nolint:gosec // as shells make them
			a.errorf("Error writing %s: %s", file, err)
			return exitUsage
		}
		done++
	}
	if done == 0 {
		a.errorf("Did not find any shells to install")
		return exitUsage
	}
	return exitOK
}

// completionLines maps each shell's file to the lines it needs.
func completionLines(home, program, name string) map[string]string {
	bash := "complete -C " + program + " " + name
	return map[string]string{
		filepath.Join(home, ".bashrc"): bash,
		filepath.Join(home, ".zshrc"):  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o nospace -C " + program + " " + name,
		filepath.Join(home, ".config", "fish", "completions", name+".fish"): "function __complete_" + name +
			"\n    set -lx COMP_LINE (commandline -cp)\n    test -z (commandline -ct)\n    and set COMP_LINE \"$COMP_LINE \"\n    " +
			program + "\nend\ncomplete -f -c " + name + " -a \"(__complete_" + name + ")\"",
	}
}

// withLines returns a file's text with the lines at its end, or without them.
func withLines(old, lines string, install bool) string {
	old = strings.ReplaceAll(old, lines+"\n", "")
	if !install {
		return old
	}
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	return old + lines + "\n"
}
