package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	// What the program is made of: without it, go would not know that a result
	// in its cache is of an older program.
	"arca/internal/arcatest"
	_ "arca/internal/cli"
	_ "arca/internal/kes/cli"
	_ "arca/internal/server"
)

// binFolder holds the program under test, as arca, as vault and as kes.
var binFolder string

// TestMain builds the program as `make build` does. ARCA_BIN names one that is
// built already.
func TestMain(m *testing.M) {
	code, err := withProgram(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withProgram(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "arca-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binFolder = dir
	program := os.Getenv("ARCA_BIN")
	if program == "" {
		program = filepath.Join(dir, "arca")
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "arca/cmd/arca")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build: %w\n%s", err, out)
		}
	} else {
		if program, err = filepath.Abs(program); err != nil {
			return 0, err
		}
		if err := os.Symlink(program, filepath.Join(dir, "arca")); err != nil {
			return 0, err
		}
	}
	for _, name := range []string{"vault", "kes"} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			return 0, err
		}
	}
	return run(), nil
}

// environment is what a program under test gets: nothing of ours but PATH.
func environment(home string, more ...string) []string {
	return append([]string{
		"HOME=" + home, "PATH=" + binFolder + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "TZ=UTC",
	}, more...)
}

const patience = 30 * time.Second

// await asks until ok, or fails the test.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// A process is a server under test.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	text bytes.Buffer // standard output and error; guarded by mu
}

// Write implements io.Writer for the process's output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// launch starts `vault server` in a folder.
func launch(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	return launchWith(t, dir, nil, args...)
}

// launchWith is launch with more in the environment.
func launchWith(t testing.TB, dir string, env []string, args ...string) *process {
	t.Helper()
	return launchProgram(t, dir, env, filepath.Join(binFolder, "vault"), append([]string{"server"}, args...)...)
}

// launchProgram starts any program that becomes a server.
func launchProgram(t testing.TB, dir string, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p, p
	p.cmd.Env = environment(dir, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of the server:\n%s", p.output())
		}
	})
	return p
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// ended waits for the end and returns the exit code.
func (p *process) ended() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) says(text string) {
	p.t.Helper()
	await(p.t, text, func() bool {
		select {
		case <-p.done:
			if !strings.Contains(p.output(), text) {
				p.t.Fatalf("the server ended without %q", text)
			}
		default:
		}
		return strings.Contains(p.output(), text)
	})
}

// status is a line of /proc/PID/status in KiB, such as VmRSS and VmHWM.
func (p *process) status(t testing.TB, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", name, text)
	return 0
}

// A node is a server process on file storage, with its keys, and a client's
// view of it.
type node struct {
	*process
	t       testing.TB
	dir     string
	env     []string // beside what every program under test gets
	config  string
	program string // "" is the program under test
	url     string // of the listener, with /v1/
	client  *http.Client
	keys    []string
	root    string
}

const plainListener = `listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 }` + "\n"

// newNode starts a server on new file storage; it is initialised with one share
// and unsealed.
func newNode(t testing.TB, dir, config string) *node {
	t.Helper()
	n := newNodeOf(t, dir, config)
	n.start()
	n.initialise()
	return n
}

// newNodeOf is a node that is not started yet.
func newNodeOf(t testing.TB, dir, config string) *node {
	n := &node{t: t, dir: dir, config: config, client: &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}}
	t.Cleanup(n.client.CloseIdleConnections)
	return n
}

// initialise makes one key share, and unseals the node.
func (n *node) initialise() {
	n.t.Helper()
	ini := n.must("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	for _, k := range ini["keys"].([]any) {
		n.keys = append(n.keys, k.(string))
	}
	n.root = ini["root_token"].(string)
	n.unseal()
}

var listening = regexp.MustCompile(`listening: type=\w+ address=(\S+)`)

// write writes the configuration.
func (n *node) write() {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "vault.hcl"), []byte(n.config), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// start launches the server and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.write()
	program := n.program
	if program == "" {
		program = filepath.Join(binFolder, "vault")
	}
	n.process = launchProgram(n.t, n.dir, n.env, program, "server", "-config=vault.hcl", "-log-level=debug")
	n.says("listening: ")
	// Others may ask it meanwhile: where its address stays, it is not written again.
	if url := "http://" + listening.FindStringSubmatch(n.output())[1] + "/v1/"; n.url != url {
		n.url = url
	}
}

func (n *node) unseal() {
	n.t.Helper()
	for _, k := range n.keys {
		n.must("PUT", "sys/unseal", map[string]any{"key": k})
	}
}

// An answer of the server.
type answer struct {
	code int
	body map[string]any
}

// dig follows keys into the body; what is not there is nil.
func (a answer) dig(keys ...string) any {
	var v any = a.body
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (a answer) text(keys ...string) string { s, _ := a.dig(keys...).(string); return s }

// call makes a request with a token; body is nil or what becomes JSON. An
// error is one of the connection.
func (n *node) call(ctx context.Context, method, path, token string, body any, headers ...string) (answer, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, in)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := n.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: res.StatusCode}
	_ = json.Unmarshal(raw, &a.body) // some answers are empty
	return a, nil
}

// get reads with the root token and gives the answer of whatever status.
func (n *node) get(path string) answer {
	n.t.Helper()
	a, err := n.call(n.t.Context(), "GET", path, n.root, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

// must makes a request as root that has to succeed.
func (n *node) must(method, path string, body any, headers ...string) map[string]any {
	n.t.Helper()
	a, err := n.call(n.t.Context(), method, path, n.root, body, headers...)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.code/100 != 2 {
		n.t.Fatalf("%s %s: status %d: %v", method, path, a.code, a.body)
	}
	return a.body
}

// needs skips the test unless the programs are there. `make test` installs
// them where it may (tools/packages.sh).
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			arcatest.Absent(t, "%s is not installed: run tools/packages.sh as root", p)
		}
	}
}

// killGroup ends all processes of a group.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
