package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"arca/internal/server"
)

// The tests run the server as a process of its own: this program, started
// again with this variable set.
const asServer = "ARCA_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(server.Run(context.Background(), os.Args[1:], server.Env{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
	}
	os.Exit(m.Run())
}

const patience = 20 * time.Second

// await asks until ok, or fails the test.
func await(t *testing.T, what string, ok func() bool) {
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
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	home string

	mu   sync.Mutex
	text bytes.Buffer // standard output and error
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

// launch starts a process; env is NAME=value and arguments.
func launch(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(exe, args...), done: make(chan struct{}), home: t.TempDir()}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p, p
	p.cmd.Env = append([]string{asServer + "=1", "HOME=" + p.home, "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH")}, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		if t.Failed() {
			t.Logf("output of %v:\n%s", args, p.output())
		}
	})
	return p
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
	await(p.t, text, func() bool { return strings.Contains(p.output(), text) })
}

var listening = regexp.MustCompile(`listening: type=\w+ address=(\S+)`)

// address waits for the n-th listener and returns where it is.
func (p *process) address(n int) string {
	p.t.Helper()
	var found [][]string
	await(p.t, "a listener", func() bool {
		found = listening.FindAllStringSubmatch(p.output(), -1)
		return len(found) > n
	})
	return found[n][1]
}

// started launches a server from a configuration and waits until it serves.
func started(t *testing.T, dir, config string) *process {
	t.Helper()
	put(t, filepath.Join(dir, "vault.hcl"), config)
	p := launch(t, dir, nil, "-config=vault.hcl", "-log-level=debug")
	p.says("server started!")
	return p
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// call makes a request and returns status, headers and decoded body.
func call(t *testing.T, c *http.Client, method, url, token, body string) (int, http.Header, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	_ = json.Unmarshal(raw, &m) // some answers are empty
	return res.StatusCode, res.Header, m
}

// plain is a client that keeps no connections.
func plain() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
}

const plainListener = "listener \"tcp\" { address = \"127.0.0.1:0\" tls_disable = 1 }\n"

// S0-8, S3-2, S3-3, S3-10, S3-33, S4-14: a first start makes the storage and
// warns, data survives SIGTERM and SIGINT, which end with 0.
func TestLife(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := "disable_mlock = true\nstorage \"file\" { path = \"vault/file\" }\npid_file = \"pid\"\n" + plainListener
	p := started(t, dir, config)
	p.says("not initialised")
	if text, err := os.ReadFile(filepath.Join(dir, "pid")); err != nil || string(text) != fmt.Sprint(p.cmd.Process.Pid) {
		t.Errorf("pid file: %q, %v", text, err)
	}
	base := "http://" + p.address(0) + "/v1/"
	code, _, ini := call(t, plain(), "PUT", base+"sys/init", "", `{"secret_shares":1,"secret_threshold":1}`)
	if code != 200 {
		t.Fatal(code, ini)
	}
	key, root := ini["keys"].([]any)[0].(string), ini["root_token"].(string)
	unseal := func() {
		t.Helper()
		if code, _, m := call(t, plain(), "PUT", base+"sys/unseal", "", `{"key":"`+key+`"}`); code != 200 || m["sealed"] != false {
			t.Fatal(code, m)
		}
	}
	unseal()
	if code, _, m := call(t, plain(), "POST", base+"sys/mounts/kv", root, `{"type":"kv"}`); code != 204 {
		t.Fatal(code, m)
	}
	if code, _, m := call(t, plain(), "POST", base+"kv/a", root, `{"x":"1"}`); code != 204 {
		t.Fatal(code, m)
	}

	second := launch(t, dir, nil, "-config", "vault.hcl")
	if code := second.ended(); code != 1 {
		t.Errorf("a second server on the same storage: exit code %d", code)
	}
	second.says("is in use by another process")

	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p.signal(s)
		if code := p.ended(); code != 0 {
			t.Errorf("%v: exit code %d", s, code)
		}
		if _, err := os.Stat(filepath.Join(dir, "pid")); !os.IsNotExist(err) {
			t.Errorf("the pid file stays: %v", err)
		}
		p = started(t, dir, config)
		p.says("is sealed")
		base = "http://" + p.address(0) + "/v1/"
		unseal()
		if code, _, m := call(t, plain(), "GET", base+"kv/a", root, ""); code != 200 {
			t.Errorf("after %v: %d %v", s, code, m)
		}
	}
}

// S4-9: a raft stanza without node_id gets one, which stays.
func TestRaftStanza(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := "disable_mlock = true\nenable_response_header_raft_node_id = true\nstorage \"raft\" { path = \"data\" }\ncluster_addr = \"https://127.0.0.1:1\"\n" + plainListener
	var ids []string
	for range 2 {
		p := started(t, dir, config)
		_, h, m := call(t, plain(), "GET", "http://"+p.address(0)+"/v1/sys/seal-status", "", "")
		if m["storage_type"] != "raft" {
			t.Errorf("got %v", m)
		}
		ids = append(ids, h.Get("X-Vault-Raft-Node-ID"))
		p.signal(syscall.SIGTERM)
		p.ended()
	}
	if ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("ids %q", ids)
	}
}

// A client that never finishes its request does not keep the server alive.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), nil, "-dev", "-dev-listen-address=127.0.0.1:0", "-log-level=debug", "-dev-root-token-id=root")
	base := "http://" + p.address(0) + "/v1/"
	body, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	go func() {
		req, err := http.NewRequest(http.MethodPost, base+"secret/data/a", body)
		if err != nil {
			return
		}
		if res, err := plain().Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	if _, err := w.Write([]byte(`{"a":`)); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	if code := p.ended(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
