package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest/database"
)

// begin starts a rekey to one share, and gives its nonce.
func (n *node) beginRekey(target string, verify bool) string {
	n.t.Helper()
	body := n.must("PUT", "sys/"+target+"/init", map[string]any{"secret_shares": 1, "secret_threshold": 1, "require_verification": verify})
	return body["nonce"].(string)
}

// rekey replaces the one share of a cluster, with verification or not, and gives the new one.
func (n *node) rekey(target, old string, verify bool) string {
	n.t.Helper()
	done := n.must("PUT", "sys/"+target+"/update", map[string]any{"nonce": n.beginRekey(target, verify), "key": old})
	fresh := done["keys"].([]any)[0].(string)
	if !verify {
		return fresh
	}
	nonce := done["verification_nonce"].(string)
	a, err := n.call(n.t.Context(), "PUT", "sys/"+target+"/verify", n.root, map[string]any{"nonce": nonce, "key": old})
	if err != nil || a.code != 400 {
		n.t.Errorf("verified by an old share: %d %v, %v", a.code, a.body, err)
	}
	nonce = n.get("sys/" + target + "/verify").text("nonce") // another one, after wrong shares
	if n.must("PUT", "sys/"+target+"/verify", map[string]any{"nonce": nonce, "key": fresh})["complete"] != true {
		n.t.Error("the verification is not complete")
	}
	return fresh
}

// refusesKey has a sealed node be given a share that does not open it.
func (n *node) refusesKey(key string) {
	n.t.Helper()
	a, err := n.call(n.t.Context(), "PUT", "sys/unseal", "", map[string]any{"key": key})
	if errs, _ := a.dig("errors").([]any); err != nil || a.code != 400 || len(errs) != 1 || !strings.HasPrefix(errs[0].(string), "invalid key: ") {
		n.t.Errorf("an old share: %d %v, %v", a.code, a.body, err)
	}
}

// shows waits until a node has a secret.
func (n *node) shows(path, value string) {
	n.t.Helper()
	await(n.t, "the secret at "+path, func() bool {
		a, err := n.call(n.t.Context(), "GET", path, n.root, nil)
		return err == nil && a.code == 200 && a.text("data", "v") == value
	})
}

// A rekey of a cluster makes a new root key: nodes that are open go over to it and take over, a node that was invited before and
// one that joins later are let in by the new share, the old share opens none any more, and a snapshot of before needs it. S3-29, S3-58
func TestRekeyInCluster(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	first := c.leader()
	first.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	first.must("PUT", "kv/before", map[string]any{"v": "1"})
	snapshot := filepath.Join(t.TempDir(), "before.snap")
	first.vault("operator", "raft", "snapshot", "save", snapshot)
	invited := raftNode(t, "node4")
	invited.root = first.root
	invited.start()
	invited.vault("operator", "raft", "join", strings.TrimSuffix(first.url, "/v1/"))
	old := first.keys[0]
	middle := first.rekey("rekey", old, false)
	first.must("PUT", "sys/rotate", nil)
	fresh := first.rekey("rekey", middle, true)
	first.must("PUT", "kv/after", map[string]any{"v": "2"})
	for _, n := range c.nodes {
		n.keys = []string{fresh}
		n.shows("kv/after", "2")
		if st := n.get("sys/seal-status"); st.dig("sealed") != false {
			t.Errorf("a node is %v", st.body)
		}
	}

	first.kill()
	first.client.CloseIdleConnections()
	var second *node
	await(t, "another leader", func() bool {
		for _, n := range c.nodes {
			if a, err := n.call(t.Context(), "GET", "sys/health", "", nil); n != first && err == nil && a.code == 200 {
				second = n
				return true
			}
		}
		return false
	})
	second.must("PUT", "sys/rotate", nil)
	second.must("PUT", "kv/third", map[string]any{"v": "3"})
	first.start()
	first.refusesKey(old)
	first.refusesKey(middle)
	first.unseal()
	first.shows("kv/third", "3")

	invited.refusesKey(old) // it asks what the keys are now
	invited.vault("operator", "raft", "join", strings.TrimSuffix(second.url, "/v1/"))
	invited.keys = []string{fresh}
	invited.unseal()
	invited.shows("kv/third", "3")
	c.nodes = append(c.nodes, invited)
	c.await(4)

	for _, n := range c.nodes {
		n.kill()
		n.client.CloseIdleConnections()
	}
	for _, n := range c.nodes {
		n.start()
		n.refusesKey(old)
		n.unseal()
	}
	c.await(4)
	for _, n := range c.nodes {
		n.shows("kv/before", "1")
		n.shows("kv/third", "3")
	}

	// A snapshot of before is under the root key of before: its share opens it.
	c.leader().vault("operator", "raft", "snapshot", "restore", snapshot)
	for _, n := range c.nodes {
		await(t, "a sealed node", func() bool { return n.get("sys/seal-status").dig("sealed") == true })
	}
	for _, n := range c.nodes {
		n.refusesKey(fresh)
		n.keys = []string{old}
		n.unseal()
	}
	c.await(4)
	for _, n := range c.nodes {
		n.shows("kv/before", "1")
		if a := n.get("kv/after"); a.code != 404 {
			t.Errorf("a key from after the snapshot: %d", a.code)
		}
	}
}

// Nodes that share a database are told of nothing while they wait: they find the new root key when they take over.
func TestRekeyOfPair(t *testing.T) {
	t.Parallel()
	p := newPair(t, postgresStanza(database.NewPostgres(t).NewDatabase(), "  ha_enabled = \"true\"\n"))
	active, standby := p.active()
	active.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	old := active.keys[0]
	active.must("PUT", "sys/rotate", nil)
	fresh := active.rekey("rekey", active.rekey("rekey", old, false), true)
	active.must("PUT", "sys/rotate", nil)
	active.must("PUT", "kv/a", map[string]any{"v": "1"})
	active.kill()
	active.client.CloseIdleConnections()
	standby.shows("kv/a", "1")
	standby.must("PUT", "kv/b", map[string]any{"v": "2"})
	active.keys, standby.keys = []string{fresh}, []string{fresh}
	active.start()
	active.refusesKey(old)
	active.unseal()
	standby.vault("operator", "step-down")
	active.shows("kv/b", "2")
}

// With a seal that opens by itself a rekey is one of recovery keys: the root key stays, and all nodes open by themselves.
func TestRecoveryRekeyInCluster(t *testing.T) {
	t.Parallel()
	c := newAutoTrio(t)
	leader := c.leader()
	leader.must("POST", "sys/mounts/kv", map[string]any{"type": "kv", "seal_wrap": true})
	leader.must("PUT", "kv/a", map[string]any{"v": "1"})
	old := leader.keys[0]
	if a, err := leader.call(t.Context(), "PUT", "sys/rekey/init", "", map[string]any{"secret_shares": 1, "secret_threshold": 1}); err != nil || a.code != 400 {
		t.Errorf("a rekey of unseal keys: %d %v, %v", a.code, a.body, err)
	}
	middle := leader.rekey("rekey-recovery-key", old, false)
	fresh := leader.rekey("rekey-recovery-key", middle, true)
	leader.vault("operator", "step-down")
	for _, n := range c.nodes {
		n.shows("kv/a", "1")
	}
	for _, n := range c.nodes {
		n.kill()
		n.client.CloseIdleConnections()
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.await(3)
	for _, n := range c.nodes {
		n.shows("kv/a", "1")
	}
	// The recovery keys open it when the seal is lost.
	for _, n := range c.nodes {
		n.kill()
		n.client.CloseIdleConnections()
		n.config = strings.Replace(n.config, strings.Repeat("a1", 32), strings.Repeat("b2", 32), 1)
	}
	for _, n := range c.nodes {
		n.start()
		a, err := n.call(t.Context(), "PUT", "sys/unseal", "", map[string]any{"key": middle, "recovery": true})
		if err != nil || a.code != 400 {
			t.Errorf("by an old recovery key: %d %v, %v", a.code, a.body, err)
		}
		n.must("PUT", "sys/unseal", map[string]any{"key": fresh, "recovery": true})
	}
	for _, n := range c.nodes {
		n.shows("kv/a", "1")
	}
}

// TestRekeyKilled kills the server while it puts the new keys in the place of the old ones: the one share opens it or the other.
func TestRekeyKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), fileStorage)
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	n.must("PUT", "kv/a", map[string]any{"v": "1"})
	went := map[string]int{}
	for range setting(t, "ARCA_REKEY_ROUNDS", 12) {
		old := n.keys[0]
		done := n.must("PUT", "sys/rekey/update", map[string]any{"nonce": n.beginRekey("rekey", true), "key": old})
		fresh := done["keys"].([]any)[0].(string)
		answered := make(chan bool, 1)
		go func() {
			a, err := n.call(context.Background(), "PUT", "sys/rekey/verify", "", map[string]any{"nonce": done["verification_nonce"], "key": fresh})
			answered <- err == nil && a.dig("complete") == true
		}()
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(12 * time.Millisecond)))) // the moment of the kill is the test's subject
		<-pause.C
		n.kill()
		told := <-answered
		n.client.CloseIdleConnections()
		n.start()
		how := "to no avail"
		a, err := n.call(t.Context(), "PUT", "sys/unseal", "", map[string]any{"key": old})
		if err != nil || told && a.code == 200 {
			t.Fatalf("the old share, after the new one was accepted (%v): %d %v, %v", told, a.code, a.body, err)
		}
		if a.code != 200 {
			how = "to the end"
			n.keys = []string{fresh}
			n.unseal()
		}
		went[how]++
		n.shows("kv/a", "1")
	}
	t.Logf("rekeys that went %v", went)
}

// A node that joins after a rekey is sent the log from its beginning, in parts: the keyring of before, which is under a root key
// that the node has never had, is not the end of it.
func TestJoinAfterRekey(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	leader := c.leader()
	leader.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	write := func() {
		for range 200 {
			leader.must("PUT", "kv/a", map[string]any{"v": "1"})
		}
	}
	write()
	fresh := leader.keys[0]
	for _, verify := range []bool{false, true} {
		fresh = leader.rekey("rekey", fresh, verify)
		leader.must("PUT", "sys/rotate", nil)
		write()
	}
	leader.must("PUT", "kv/a", map[string]any{"v": "2"})
	late := raftNode(t, "node4")
	late.root, late.keys = leader.root, []string{fresh}
	late.start()
	late.vault("operator", "raft", "join", strings.TrimSuffix(leader.url, "/v1/"))
	late.unseal()
	late.shows("kv/a", "2")
	for i := range 30 { // it would be sealed in the background
		value := fmt.Sprint("again", i)
		leader.must("PUT", "kv/a", map[string]any{"v": value})
		late.shows("kv/a", value)
	}
	late.kill()
	late.client.CloseIdleConnections()
	late.start()
	late.refusesKey(leader.keys[0])
	late.unseal()
	late.shows("kv/a", "again29")
}
