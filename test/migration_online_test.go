package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/arcatest/database"
)

// migration runs `operator migration` against a node.
func (n *node) migration(args ...string) (out string, code int) {
	n.t.Helper()
	cmd := n.command(append([]string{"operator", "migration"}, args...)...)
	raw, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	return string(raw), cmd.ProcessState.ExitCode()
}

// migrationIs waits for a state, and a text in the reason.
func (n *node) migrationIs(state, text string) {
	n.t.Helper()
	await(n.t, "the migration to be "+state, func() bool {
		a := n.get("sys/storage/migration")
		got := a.text("data", "state")
		if got == "failed" && state != got {
			n.t.Fatal(a.body)
		}
		return got == state && strings.Contains(a.text("data", "error"), text)
	})
}

// goesTo has the next storage of a node in its configuration.
func (n *node) goesTo(stanza string) {
	n.t.Helper()
	n.config += strings.Replace(stanza, "storage ", "storage_destination ", 1)
	n.write()
}

// TestMigrationOnline takes a server's data to another storage while clients write: what was acknowledged is there, nothing is acknowledged
// afterwards, and the old storage is not opened any more.
func TestMigrationOnline(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	dir := t.TempDir()
	file := "storage \"file\" {\n  path = \"data\"\n}\n"
	port := arcatest.FreePort(t)
	listener := fmt.Sprintf("disable_mlock = true\ncluster_addr = \"https://127.0.0.1:%d\"\nlistener \"tcp\" { address = \"127.0.0.1:0\" cluster_address = \"127.0.0.1:%d\" tls_disable = 1 }\n", port, port)
	n := newNode(t, dir, listener+file)
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	if out, code := n.migration("start"); code != 0 {
		t.Fatalf("start: %d %s", code, out)
	}
	n.migrationIs("failed", "the configuration names no target")
	if out, code := n.migration("switch"); code != 2 || !strings.Contains(out, "names no target") {
		t.Errorf("switch: %d %s", code, out)
	}
	at, round := file, 0
	for _, next := range []string{
		postgresStanza(pg.NewDatabase(), ""),
		"storage \"raft\" {\n  path = \"raft\"\n  node_id = \"one\"\n}\n",
		"storage \"file\" {\n  path = \"other\"\n}\n",
	} {
		round++
		n.goesTo(next)
		var writers sync.WaitGroup
		var over atomic.Bool
		acknowledged := make([]int, 4)
		for w := range acknowledged {
			writers.Go(func() {
				for i := 0; !over.Load(); i++ {
					a, err := n.call(t.Context(), "PUT", fmt.Sprintf("secret/%d/%d/%d", round, w, i%200), n.root, map[string]any{"n": fmt.Sprint(i)})
					if err != nil || a.code != 204 {
						return
					}
					acknowledged[w] = i + 1
				}
			})
		}
		if out, code := n.migration("start"); code != 0 || !strings.Contains(out, "Success!") {
			t.Fatalf("start: %d %s", code, out)
		}
		n.migrationIs("following", "")
		if out, code := n.migration("start"); code != 2 || !strings.Contains(out, "under way already") {
			t.Errorf("started twice: %d %s", code, out)
		}
		if out, code := n.migration("switch"); code != 0 || !strings.Contains(out, "Success! The storage was migrated.") {
			t.Fatalf("switch: %d %s", code, out)
		}
		over.Store(true)
		writers.Wait()
		await(t, "the server to be sealed", func() bool {
			return strings.Contains(fmt.Sprint(n.get("sys/seal-status").body), "this storage was migrated to ")
		})
		n.signal(syscall.SIGTERM)
		n.ended()
		if round == 1 { // the old one is not opened, nor copied, any more
			n.start()
			a, err := n.call(t.Context(), "PUT", "sys/unseal", "", map[string]any{"key": n.keys[0]})
			if err != nil || a.code == 200 || !strings.Contains(fmt.Sprint(a.body), "this storage was migrated to postgresql") {
				t.Errorf("unsealed: %d %v", a.code, a.body)
			}
			n.signal(syscall.SIGTERM)
			n.ended()
			if out, code := migrate(t, dir, at, "storage \"file\" {\n  path = \"never\"\n}\n"); code != 2 || !strings.Contains(out, "was migrated to postgresql") {
				t.Errorf("copied: %d %s", code, out)
			}
			if out, code := migrate(t, dir, at, next, "-reset"); code != 2 || !strings.Contains(out, "the migration is complete") {
				t.Errorf("reset: %d %s", code, out)
			}
		}
		at = next
		n.config = listener + at
		n.start()
		n.unseal()
		for w, count := range acknowledged {
			if count == 0 {
				t.Errorf("round %d: writer %d has written nothing", round, w)
			}
			for i := max(0, count-200); i < count; i++ {
				a := n.get(fmt.Sprintf("secret/%d/%d/%d", round, w, i%200))
				if got := a.text("data", "n"); got != fmt.Sprint(i) && got != fmt.Sprint(i+200) { // the last one may have got there unanswered
					t.Fatalf("round %d: writer %d: %d is %q", round, w, i, got)
				}
			}
		}
	}
}

// TestMigrationOfCluster takes the data of a cluster of three elsewhere: all three are sealed then, and none leads any more.
func TestMigrationOfCluster(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	leader := c.leader()
	leader.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for i := range 50 {
		leader.must("PUT", fmt.Sprintf("secret/%d", i), map[string]any{"n": fmt.Sprint(i)})
	}
	target := fmt.Sprintf("storage \"file\" {\n  path = %q\n}\n", filepath.Join(t.TempDir(), "new"))
	leader.goesTo(target)
	other := c.nodes[0]
	if other == leader {
		other = c.nodes[1]
	}
	if out, code := other.migration("start"); code != 0 { // the active node does it
		t.Fatalf("start: %d %s", code, out)
	}
	other.migrationIs("following", "")
	other.must("PUT", "secret/last", map[string]any{"n": "last"})
	// A leader that is that no longer begins anew.
	if out := other.vault("operator", "step-down"); out == "" {
		t.Log("stepped down")
	}
	await(t, "another leader", func() bool { l := c.leader(); return l != nil && l != leader })
	leader = c.leader()
	if a := leader.get("sys/storage/migration"); a.text("data", "state") != "none" {
		t.Errorf("the new leader: %v", a.body)
	}
	target = fmt.Sprintf("storage \"file\" {\n  path = %q\n}\n", filepath.Join(t.TempDir(), "newer"))
	leader.goesTo(target)
	if out, code := leader.migration("start"); code != 0 {
		t.Fatalf("start: %d %s", code, out)
	}
	leader.migrationIs("following", "")
	if out, code := leader.migration("switch"); code != 0 {
		t.Fatalf("switch: %d %s", code, out)
	}
	for _, n := range c.nodes {
		await(t, "each to be sealed", func() bool {
			return strings.Contains(fmt.Sprint(n.get("sys/seal-status").body), "this storage was migrated to file") && n.get("secret/last").code == 503
		})
	}
	n := newNodeOf(t, t.TempDir(), "disable_mlock = true\n"+target+plainListener)
	n.keys, n.root = leader.keys, leader.root
	n.start()
	n.unseal()
	for i := range 50 {
		if a := n.get(fmt.Sprintf("secret/%d", i)); a.text("data", "n") != fmt.Sprint(i) {
			t.Fatalf("%d: %d %v", i, a.code, a.body)
		}
	}
	if a := n.get("secret/last"); a.text("data", "n") != "last" {
		t.Errorf("%d %v", a.code, a.body)
	}
}
