package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestClusterRefuses gives a cluster what is not its own, or is broken. Each is refused with a word on why, and nothing changes.
func TestClusterRefuses(t *testing.T) {
	t.Parallel()
	first, second, foreign := raftNode(t, "node1"), raftNode(t, "node2"), raftNode(t, "other")
	for _, n := range []*node{first, foreign} {
		n.start()
		n.initialise()
		n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
		n.must("PUT", "secret/whose", map[string]any{"v": n.url})
	}
	second.joined(first)
	(&trio{t: t, nodes: []*node{first, second}}).await(2)
	dir := t.TempDir()
	own, theirs := filepath.Join(dir, "own.snap"), filepath.Join(dir, "theirs.snap")
	first.vault("operator", "raft", "snapshot", "save", own)
	foreign.vault("operator", "raft", "snapshot", "save", theirs)
	first.must("PUT", "secret/after", map[string]any{"v": "kept"})
	same := func(what string) {
		t.Helper()
		for _, n := range []*node{first, second} {
			await(t, "reads after "+what, func() bool { return n.get("secret/after").text("data", "v") == "kept" })
			if a := n.get("secret/whose"); a.text("data", "v") != first.url {
				t.Errorf("%s changed what %s shows: %v", what, n.url, a.body)
			}
		}
		first.must("PUT", "secret/after", map[string]any{"v": "kept"})
	}
	raw, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, raw...)
	flipped[len(flipped)/2] ^= 0x40
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"a snapshot of another cluster", nil, "could not verify hash file"},
		{"a snapshot with a wrong bit", flipped, "snapshot"},
		{"a snapshot without its end", raw[:len(raw)*2/3], "snapshot"},
		{"a snapshot without anything", []byte{}, "snapshot"},
		{"what is no snapshot", []byte(strings.Repeat("no snapshot ", 100)), "snapshot"},
	} {
		file := theirs
		if tc.bytes != nil {
			file = filepath.Join(dir, "bad.snap")
			if err := os.WriteFile(file, tc.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		forms := [][]string{{file}}
		if tc.bytes != nil {
			forms = append(forms, []string{"-force", file}) // no force restores what is broken
		}
		for _, form := range forms {
			out, err := first.command(append([]string{"operator", "raft", "snapshot", "restore"}, form...)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) || strings.Contains(string(out), "internal error") {
				t.Errorf("%s, %q: %v\n%s", tc.name, form, err, out)
			}
		}
		same(tc.name)
	}

	// A node of another cluster stays what it is when it is told to join.
	a, err := foreign.call(t.Context(), "PUT", "sys/storage/raft/join", "", map[string]any{"leader_api_addr": strings.TrimSuffix(first.url, "/v1/")})
	if err != nil || a.code != 200 {
		t.Errorf("join of a node that has a cluster: %d %v", a.code, a.body)
	}
	if got := foreign.voters(); fmt.Sprint(got) != "[other]" || foreign.get("secret/whose").text("data", "v") != foreign.url {
		t.Errorf("the foreign node's cluster is %q", got)
	}
	if got := first.voters(); fmt.Sprint(got) != "[node1 node2]" {
		t.Errorf("the cluster is %q", got)
	}

	// A wrong answer to the challenge, and a right nonce used by somebody else, let nobody in.
	a, err = first.call(t.Context(), "PUT", "sys/storage/raft/bootstrap/challenge", "", map[string]any{"server_id": "evil"})
	if err != nil || a.code != 200 {
		t.Fatal(a, err)
	}
	a, err = first.call(t.Context(), "PUT", "sys/storage/raft/bootstrap/answer", "", map[string]any{
		"challenge": a.text("data", "challenge"), "answer": strings.Repeat("A", 44), "server_id": "evil", "cluster_addr": "https://127.0.0.1:9",
	})
	if err != nil || a.code != 403 || !strings.Contains(fmt.Sprint(a.body), "the answer to the challenge is wrong") {
		t.Errorf("a wrong answer: %d %v", a.code, a.body)
	}
	same("a wrong answer")

	// A node that was removed while it was away comes back with its old log: it takes no part, and says so.
	third := raftNode(t, "node3")
	third.joined(first)
	(&trio{t: t, nodes: []*node{first}}).await(3)
	third.signal(syscall.SIGTERM)
	third.ended()
	leader := (&trio{t: t, nodes: []*node{first, second}}).leader()
	leader.vault("operator", "raft", "remove-peer", "node3")
	third.client.CloseIdleConnections()
	third.start()
	third.unseal()
	await(t, "the node that was removed", func() bool {
		a, err := third.call(t.Context(), "GET", "sys/health", "", nil)
		return err == nil && a.code == 530
	})
	if got := leader.voters(); fmt.Sprint(got) != "[node1 node2]" {
		t.Errorf("the cluster is %q", got)
	}
	same("a node with an old log")
}
