package test

import (
	"strings"
	"testing"
)

// newAutoTrio forms a cluster of three with a seal that opens by itself; keys is its one recovery key.
func newAutoTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{t: t}
	for _, name := range []string{"node1", "node2", "node3"} {
		n := raftNode(t, name)
		n.config += "seal \"static\" {\n  current_key_id = \"1\"\n  current_key = \"" + strings.Repeat("a1", 32) + "\"\n}\n"
		c.nodes = append(c.nodes, n)
	}
	first := c.nodes[0]
	first.start()
	ini := first.must("PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	if keys, _ := ini["keys"].([]any); len(keys) != 0 {
		t.Errorf("unseal keys: %v", keys)
	}
	first.root, _ = ini["root_token"].(string)
	first.keys = []string{ini["recovery_keys"].([]any)[0].(string)}
	for _, n := range c.nodes[1:] {
		n.start()
		n.root, n.keys = first.root, first.keys
		if out := n.vault("operator", "raft", "join", strings.TrimSuffix(first.url, "/v1/")); !strings.Contains(out, "true") {
			t.Fatalf("join: %s", out)
		}
	}
	c.await(3)
	for _, n := range c.nodes {
		await(t, "a node that opens by itself", func() bool { return n.get("sys/seal-status").body["sealed"] == false })
	}
	return c
}

// Three nodes with a seal that opens by itself: nobody gives a key, not at the first
// start, nor when one joins, nor when all are started again. S3-31, S3-33
func TestClusterUnsealsByItself(t *testing.T) {
	t.Parallel()
	c := newAutoTrio(t)
	c.leader().must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	c.leader().must("POST", "kv/a", map[string]any{"b": "c"})
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.await(3)
	for _, n := range c.nodes {
		await(t, "the secret", func() bool {
			a, err := n.call(t.Context(), "GET", "kv/a", n.root, nil)
			return err == nil && a.code == 200 && a.dig("data", "b") == "c"
		})
	}
}
