package test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"arca/internal/arcatest"
)

// TestSessions plays testdata/session: what one types into a shell, and what
// must come of it. A file is a txtar archive: the session, then the files that
// lie in the working folder. In a session
//
//	# text        says what the next steps prove
//	needs: a b    skips the session where these programs are missing
//	$ command     is given to bash as it stands, one shell for all; no terminal
//	> more        continues a command
//	anything      is what the command must print (standard output and error)
//	[2]           is its exit code, where that is not 0
//
// In what must be printed, {{...}} is a regular expression, and a line of three
// dots stands for any lines.
//
// The guides' own paths and ports stay in the sessions: before a command runs
// and after it has printed, /etc/vault, /var/lib/vault, /var/log and the ports
// 8200, 8201, 8202, 7373 and 7374 are exchanged for those of the test.
func TestSessions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/session/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			playSession(t, file)
		})
	}
}

var update = flag.Bool("update", false, "write what the sessions print into their files, where it is not what is there")

// A step is a command with what must come of it.
type step struct {
	first, last int // its lines
	command     string
	want        string
	code        int
}

var exitCode = regexp.MustCompile(`^\[(\d+)\]$`)

// parseSession reads the steps and the programs that they need.
func parseSession(text string) (steps []step, programs []string) {
	var now *step
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "needs: "):
			programs = strings.Fields(line[len("needs: "):])
		case strings.HasPrefix(line, "# "):
			now = nil
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{first: i + 1, last: i + 1, command: line[2:]})
			now = &steps[len(steps)-1]
		case now == nil:
		case strings.HasPrefix(line, "> ") && now.want == "":
			now.command += "\n" + line[2:]
			now.last = i + 1
		case exitCode.MatchString(line):
			now.code, _ = strconv.Atoi(exitCode.FindStringSubmatch(line)[1])
		default:
			now.want += line + "\n"
		}
	}
	return steps, programs
}

// prelude is what every session may use beside its commands.
const prelude = `
await() { # until a command succeeds, twenty seconds at most
	local n
	for n in $(seq 1000); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.02
	done
	echo "waited in vain for: $*"
	return 1
}
`

func playSession(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, programs := parseSession(string(archive.Comment))
	needs(t, append(programs, "bash")...)
	work := t.TempDir()
	if err := os.Chmod(filepath.Dir(work), 0o755); err != nil {
		t.Fatal(err)
	}
	places := []string{
		"/etc/vault", work + "/etc/vault", "/var/lib/vault", work + "/var/lib/vault", "/var/log", work + "/var/log",
	}
	for _, port := range []string{":8200", ":8201", ":8202", ":7373", ":7374"} {
		places = append(places, port, fmt.Sprintf(":%d", arcatest.FreePort(t)))
	}
	back := []string{}
	for i := 0; i < len(places); i += 2 {
		back = append(back, places[i+1], places[i])
	}
	ours, theirs := strings.NewReplacer(places...), strings.NewReplacer(append(back, work, "$WORK")...)
	for _, f := range archive.Files {
		path := filepath.Join(work, f.Name)
		if strings.HasPrefix(f.Name, "/") {
			path = ours.Replace(f.Name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(ours.Replace(string(f.Data))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sh := newShell(t, work)
	sh.run(prelude)
	seen := map[int]string{}
	for _, s := range steps {
		got, code := sh.run(ours.Replace(s.command))
		got = strings.TrimRight(theirs.Replace(got), "\n")
		want := strings.TrimRight(s.want, "\n")
		if printed(want, got) && code == s.code {
			continue
		}
		if *update {
			seen[s.last] = got + fmt.Sprintf("\n[%d]", code)
			continue
		}
		t.Errorf("%s:%d: $ %s\n%s\n[%d]\n-- want --\n%s\n[%d]", file, s.first, s.command, got, code, want, s.code)
		if code != s.code {
			break // what follows would fail too
		}
	}
	if *update {
		rewrite(t, file, steps, seen)
	}
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(work, "*.log")) // the pattern is good
		for _, name := range logs {
			text, _ := os.ReadFile(name)
			t.Logf("%s:\n%s", name, text)
		}
	}
}

// rewrite puts what was printed behind the commands that print something else
// than the file has.
func rewrite(t *testing.T, file string, steps []step, seen map[int]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	drop, next := false, 0
	for i, line := range strings.Split(string(text), "\n") {
		if next < len(steps) && i+1 == steps[next].first {
			drop = false
			next++
		}
		if strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "-- ") {
			if drop {
				out.WriteString("\n")
			}
			drop = false
		}
		if !drop {
			out.WriteString(line + "\n")
		}
		if got, ok := seen[i+1]; ok {
			drop = true
			got = strings.TrimPrefix(strings.TrimSuffix(got, "\n[0]"), "\n")
			if got != "" {
				out.WriteString(got + "\n")
			}
		}
	}
	if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// printed compares what a command printed with what it must print.
func printed(want, got string) bool {
	if want == "..." {
		return true
	}
	lines := strings.Split(want, "\n")
	for i, line := range lines {
		if line == "..." {
			lines[i] = `(?:[^\n]*\n)*?`
			continue
		}
		var b strings.Builder
		for {
			before, rest, ok := strings.Cut(line, "{{")
			b.WriteString(regexp.QuoteMeta(before))
			if !ok {
				break
			}
			end := strings.Index(rest, "}}")
			for end+2 < len(rest) && rest[end+2] == '}' { // of a pattern that ends in a brace
				end++
			}
			b.WriteString("(?:" + rest[:end] + ")")
			line = rest[end+2:]
		}
		lines[i] = b.String() + `\n`
	}
	return regexp.MustCompile(`^` + strings.Join(lines, "") + `$`).MatchString(got + "\n")
}

// A shell is a bash that takes commands one after the other.
type shell struct {
	t      *testing.T
	in     io.Writer
	codes  *bufio.Reader
	output string // where a command prints
	cmd    *exec.Cmd
}

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, codes: bufio.NewReader(r), output: filepath.Join(t.TempDir(), "out"), cmd: exec.Command("bash", "--norc")}
	s.cmd.Dir, s.cmd.ExtraFiles = dir, []*os.File{w}
	s.cmd.Env = environment(dir)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		if err := killGroup(s.cmd.Process.Pid); err != nil {
			t.Error(err)
		}
		_ = s.cmd.Wait() // it was killed
		r.Close()
	})
	return s
}

// run gives the shell a command and returns what it prints and its exit code.
func (s *shell) run(command string) (string, int) {
	s.t.Helper()
	watch := time.AfterFunc(2*patience, func() { _ = killGroup(s.cmd.Process.Pid) })
	defer watch.Stop()
	fmt.Fprintf(s.in, "{ %s\n} >%q 2>&1 </dev/null 3>&-\necho $? >&3\n", command, s.output)
	line, err := s.codes.ReadString('\n')
	text, readErr := os.ReadFile(s.output)
	if err != nil || readErr != nil {
		s.t.Fatalf("$ %s\n%s\nthe shell ended: %v, %v", command, text, err, readErr)
	}
	code, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text), code
}
