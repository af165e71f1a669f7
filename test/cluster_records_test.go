package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What standbys see and may not store, the active node stores for them: who came,
// and how far the chains of their audit devices are, of which each node has its own.
func TestClusterRecords(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	leader := c.leader()
	leader.must("PUT", "sys/audit/f", map[string]any{
		"type": "file", "options": map[string]any{"file_path": "audit.log", "hash_chain": "true"},
	})
	leader.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	leader.must("POST", "sys/policies/acl/reader", map[string]any{"policy": `path "secret/*" { capabilities = ["read"] }`})
	leader.must("POST", "sys/auth/approle", map[string]any{"type": "approle"})
	leader.must("PUT", "secret/a", map[string]any{"v": "1"})
	for i, n := range c.standbys() {
		role := []string{"auth/approle/role/r1", "auth/approle/role/r2"}[i]
		leader.must("POST", role, map[string]any{"token_policies": "reader"})
		id := answer{body: leader.must("GET", role+"/role-id", nil)}
		secret := answer{body: leader.must("POST", role+"/secret-id", nil)}
		in := answer{body: leader.must("POST", "auth/approle/login", map[string]any{
			"role_id": id.text("data", "role_id"), "secret_id": secret.text("data", "secret_id"),
		})}
		token := in.text("auth", "client_token")
		for range 5 { // it is used at the standby only
			if a, err := n.call(t.Context(), "GET", "secret/a", token, nil); err != nil || a.code != 200 {
				t.Fatalf("read at a standby: %d %v %v", a.code, a.body, err)
			}
		}
	}
	await(t, "clients of the standbys that are counted", func() bool {
		clients, _ := leader.get("sys/internal/counters/activity/monthly").dig("data", "clients").(float64)
		return clients == 2
	})

	standby := c.standbys()[0]
	verify := func(n *node) string {
		t.Helper()
		return n.vault("audit", "verify", "-device=f", filepath.Join(n.dir, "audit.log"))
	}
	for _, n := range c.nodes {
		if out := verify(n); strings.Contains(out, "FAULT") {
			t.Errorf("the log of %s: %s", n.url, out)
		}
	}
	nodes, _ := leader.get("sys/audit-chain/f").dig("data", "nodes").(map[string]any)
	if len(nodes) == 0 {
		t.Errorf("nothing is known of chains: %v", nodes)
	}

	// Who cuts a standby's log off while it is down is found out: its end is known
	// since it was stopped.
	if err := standby.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	standby.ended()
	log := filepath.Join(standby.dir, "audit.log")
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
	if err := os.WriteFile(log, []byte(strings.TrimSuffix(strings.Join(lines[:len(lines)-2], ""), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := c.leader().command("audit", "verify", "-device=f", log).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the end is missing") {
		t.Errorf("a log that was cut off: %v\n%s", err, out)
	}
}
