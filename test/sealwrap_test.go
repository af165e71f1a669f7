package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// opened waits until a node that opens by itself is open and active.
func (n *node) opened() {
	n.t.Helper()
	await(n.t, "a node that opens by itself", func() bool {
		a, err := n.call(n.t.Context(), "GET", "sys/health?standbyok=true", "", nil)
		return err == nil && a.code == 200
	})
}

// again ends a node and starts it with other seals.
func (n *node) again(base, seals string) {
	n.t.Helper()
	n.kill()
	n.config = base + seals
	n.start()
}

// holds has a node give all values that were written.
func (n *node) holds(values int) {
	n.t.Helper()
	for i := range values {
		path := fmt.Sprintf("kv/%d", i)
		if a := n.get(path); a.code != 200 || a.dig("data", "v") != fmt.Sprint(i) {
			n.t.Fatalf("%s: %d %v", path, a.code, a.body)
		}
	}
}

// rewrapped waits until no rewrap runs, and returns how many values were written anew.
func (n *node) rewrapped() (succeeded, failed float64) {
	n.t.Helper()
	var last answer
	await(n.t, "the end of the rewrap", func() bool {
		a, err := n.call(n.t.Context(), "GET", "sys/sealwrap/rewrap", n.root, nil)
		last = a
		return err == nil && a.dig("data", "is_running") == false
	})
	succeeded, _ = last.dig("data", "entries", "succeeded").(float64)
	failed, _ = last.dig("data", "entries", "failed").(float64)
	return succeeded, failed
}

// One server: its values are read after every loss and change of seals, and a rewrap that is killed goes on.
func TestSealWrap(t *testing.T) {
	t.Parallel()
	const values = 1200
	one, two := staticSeal("one", "a1", false), staticSeal("two", "b2", false)
	n := newNodeOf(t, t.TempDir(), fileStorage)
	base := n.config
	n.config = base + one + two
	n.start()
	ini := n.must("PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	n.root, _ = ini["root_token"].(string)
	n.keys = []string{ini["recovery_keys"].([]any)[0].(string)}
	n.opened()
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv", "seal_wrap": true})
	for i := range values {
		n.must("POST", fmt.Sprintf("kv/%d", i), map[string]any{"v": fmt.Sprint(i)})
	}
	n.holds(values)

	// Killed in the middle of rewraps, while values are written.
	killed := 0
	for _, after := range []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond} {
		var work sync.WaitGroup
		stop := make(chan struct{})
		work.Go(func() {
			for i := 0; ; i = (i + 1) % values {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = n.call(t.Context(), "POST", fmt.Sprintf("kv/%d", i), n.root, map[string]any{"v": fmt.Sprint(i)}) // it may be killed
			}
		})
		n.must("POST", "sys/sealwrap/rewrap", nil)
		<-time.NewTimer(after).C // the moment of the kill is the test's subject
		if a, err := n.call(t.Context(), "GET", "sys/sealwrap/rewrap", n.root, nil); err == nil && a.dig("data", "is_running") == true {
			killed++
		}
		close(stop)
		n.kill()
		work.Wait()
		n.start()
		n.opened()
		if _, failed := n.rewrapped(); failed != 0 {
			t.Errorf("%v values failed", failed)
		}
		n.holds(values)
	}
	t.Logf("%d of 5 rewraps were killed while they ran", killed)
	if a := n.get("sys/sealwrap/rewrap"); a.code != 200 {
		t.Errorf("%d %v", a.code, a.body)
	}

	// Copied into another storage, the values are as they are.
	n.signal(syscall.SIGTERM)
	if code := n.ended(); code != 0 {
		t.Fatalf("the server ends with %d", code)
	}
	const here, other = `storage "file" { path = "data" }`, `storage "file" { path = "other" }`
	if out, code := migrate(t, n.dir, here+"\n", other+"\n"); code != 0 {
		t.Fatalf("migrate: %d %s", code, out)
	}
	base = strings.Replace(base, here, other, 1)
	n.config = base + one + two
	n.start()
	n.opened()
	n.holds(values)

	n.again(base, two) // one of two seals is lost
	n.opened()
	n.holds(values)
	n.again(base, "") // both
	n.must("PUT", "sys/unseal", map[string]any{"key": n.keys[0], "recovery": true})
	n.holds(values)
	n.again(base, staticSeal("three", "c3", false)) // and replaced
	n.must("PUT", "sys/unseal", map[string]any{"key": n.keys[0], "migrate": true})
	n.holds(values)
	n.again(base, staticSeal("three", "c3", false))
	n.opened()
	n.holds(values)
	n.again(base, staticSeal("three", "c3", true)) // to Shamir
	n.migrate()
	n.holds(values)
	n.again(base, "")
	n.unseal()
	n.holds(values)
	n.must("POST", "sys/sealwrap/rewrap", nil)
	if succeeded, failed := n.rewrapped(); succeeded != values || failed != 0 { // which are no longer wrapped
		t.Errorf("%v succeeded, %v failed", succeeded, failed)
	}
	n.again(base, one) // and back to a seal
	n.migrate()
	n.must("POST", "sys/sealwrap/rewrap", nil)
	if succeeded, failed := n.rewrapped(); succeeded != values || failed != 0 {
		t.Errorf("%v succeeded, %v failed", succeeded, failed)
	}
	n.again(base, one+"disable_sealwrap = true\n")
	n.opened()
	n.holds(values)
	n.must("POST", "sys/sealwrap/rewrap", nil)
	if succeeded, failed := n.rewrapped(); succeeded != values || failed != 0 {
		t.Errorf("%v succeeded, %v failed", succeeded, failed)
	}
	n.holds(values)
}

// Three nodes: standbys read under each version, a leader that is killed in a rewrap leaves it to the next, snapshots bring
// values back, and a node that joins later reads them.
func TestClusterSealWrap(t *testing.T) {
	t.Parallel()
	const values = 150
	c := &trio{t: t}
	for _, name := range []string{"node1", "node2", "node3"} {
		n := raftNode(t, name)
		n.config += staticSeal("one", "a1", false)
		c.nodes = append(c.nodes, n)
	}
	first := c.nodes[0]
	first.start()
	ini := first.must("PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	first.root, _ = ini["root_token"].(string)
	first.opened()
	first.must("POST", "sys/mounts/kv", map[string]any{"type": "kv", "seal_wrap": true})
	first.must("POST", "kv/0", map[string]any{"v": "0"})
	join := func(n *node) {
		n.start()
		n.root = first.root
		if out := n.vault("operator", "raft", "join", strings.TrimSuffix(c.leader().url, "/v1/")); !strings.Contains(out, "true") {
			t.Fatalf("join: %s", out)
		}
	}
	for _, n := range c.nodes[1:] {
		join(n)
	}
	c.await(3)
	for i := range values {
		c.leader().must("POST", fmt.Sprintf("kv/%d", i), map[string]any{"v": fmt.Sprint(i)})
	}
	everywhere := func() {
		t.Helper()
		for _, n := range c.nodes {
			n.opened()
			n.holds(values)
		}
	}
	everywhere()
	snapshot := filepath.Join(t.TempDir(), "wrapped.snap")
	c.leader().vault("operator", "raft", "snapshot", "save", snapshot)
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond} {
		leader := c.leader()
		leader.must("POST", "sys/sealwrap/rewrap", nil)
		for _, n := range c.standbys() {
			n.holds(20) // meanwhile
		}
		<-time.NewTimer(after).C
		leader.kill()
		next := c.leader()
		if _, failed := next.rewrapped(); failed != 0 {
			t.Errorf("%v values failed", failed)
		}
		next.must("POST", "kv/0", map[string]any{"v": "0"})
		leader.start()
		c.await(3)
		everywhere()
	}
	leader := c.leader()
	leader.vault("operator", "raft", "snapshot", "restore", snapshot)
	c.await(3)
	everywhere()
	c.leader().must("POST", "sys/sealwrap/rewrap", nil)
	if succeeded, failed := c.leader().rewrapped(); succeeded != values || failed != 0 {
		t.Errorf("after the snapshot: %v succeeded, %v failed", succeeded, failed)
	}
	fourth := raftNode(t, "node4")
	fourth.config += staticSeal("one", "a1", false)
	c.nodes = append(c.nodes, fourth)
	join(fourth)
	c.await(4)
	everywhere()
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.await(4)
	everywhere()
}
