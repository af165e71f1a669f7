package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// recover runs `operator raft recover` and returns what it says on both streams.
func (n *node) recover(args ...string) (string, int) {
	n.t.Helper()
	cmd := n.command(append([]string{"operator", "raft", "recover"}, args...)...)
	cmd.Dir = n.dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestRecoverQuorum loses two nodes of three for good, and goes on with the third. What was acknowledged, and had come to it, is there.
func TestRecoverQuorum(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.leader().must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for i := range 50 {
		c.leader().must("PUT", fmt.Sprint("secret/", i), map[string]any{"v": fmt.Sprint(i)})
	}
	left := c.standbys()[0]
	if a := left.get("secret/49"); a.text("data", "v") != "49" { // so it has all of them
		t.Fatalf("read at the node that will be left: %d %v", a.code, a.body)
	}
	url, data := strings.TrimSuffix(left.url, "/v1/"), filepath.Join(left.dir, "data")
	refused := func(want string, args ...string) {
		t.Helper()
		out, code := left.recover(args...)
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("recover %q: %d, without %q:\n%s", args, code, want, out)
		}
		if _, err := os.Stat(filepath.Join(data, "peers.json")); err == nil {
			t.Fatalf("recover %q has written peers.json", args)
		}
	}
	refused("has a leader", url)
	refused("server still running", data)
	var lost []string
	for i, n := range c.nodes {
		if n != left {
			n.kill()
			lost = append(lost, fmt.Sprint("-lost=node", i+1))
			if err := os.RemoveAll(filepath.Join(n.dir, "data")); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The one that is left runs: it tells how fresh it is, without a leader.
	await(t, "the loss of the leader", func() bool {
		out, code := left.recover(url)
		return code == 0 && strings.Contains(out, "leaderless") && strings.Contains(out, "<the storage folder of")
	})
	left.signal(syscall.SIGTERM)
	left.ended()
	keep := "-keep=" + strings.Fields(lastLine(left, data))[0]
	refused("not accounted for", data)
	refused("not accounted for", keep, lost[0], data)
	refused("no node", append([]string{keep, "-lost=node9"}, append(lost, data)...)...)
	refused("holds no raft storage", t.TempDir())
	foreign := raftNode(t, "foreign")
	foreign.start()
	foreign.initialise()
	refused("different clusters", data, strings.TrimSuffix(foreign.url, "/v1/"))

	out, code := left.recover(append(lost, data)...)
	if code != 0 || !strings.Contains(out, "Nothing was changed.") || !strings.Contains(out, keep) {
		t.Fatalf("recover: %d\n%s", code, out)
	}
	out, code = left.recover(append([]string{"-format=json", keep}, append(lost, data)...)...)
	var plan struct {
		Keep    string
		Written bool
		Quorum  int
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || code != 0 || !plan.Written || plan.Quorum != 2 {
		t.Fatalf("recover: %d %v\n%s", code, err, out)
	}
	left.client.CloseIdleConnections()
	left.start()
	left.unseal()
	await(t, "a leader", func() bool { return left.get("sys/leader").dig("is_self") == true })
	for i := range 50 {
		if a := left.get(fmt.Sprint("secret/", i)); a.text("data", "v") != fmt.Sprint(i) {
			t.Errorf("secret/%d: %d %v", i, a.code, a.body)
		}
	}
	left.must("PUT", "secret/after", map[string]any{"v": "1"})
	if out := left.vault("operator", "raft", "list-peers"); strings.Count(out, "node") != 1 {
		t.Errorf("list-peers:\n%s", out)
	}
	fresh := raftNode(t, "node4")
	fresh.start()
	fresh.keys, fresh.root = left.keys, left.root
	fresh.vault("operator", "raft", "join", url)
	fresh.unseal()
	await(t, "the new node", func() bool {
		return fresh.get("secret/after").text("data", "v") == "1"
	})
}

// lastLine is the row of the node that a look at its folder shows.
func lastLine(n *node, data string) string {
	n.t.Helper()
	out, _ := n.recover(data)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "stopped") {
			return line
		}
	}
	n.t.Fatalf("no row:\n%s", out)
	return ""
}
