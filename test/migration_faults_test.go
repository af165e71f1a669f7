package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest/database"
)

// A switched is how `operator migration switch` ended.
type switched struct {
	out  string
	code int
}

func (n *node) switching() <-chan switched {
	done := make(chan switched, 1)
	go func() {
		out, err := n.command("operator", "migration", "switch").CombinedOutput()
		s := switched{out: string(out)}
		if err != nil {
			s.code = 2
		}
		done <- s
	}()
	return done
}

// hang stops a database with all processes that serve its clients.
func hang(t *testing.T, pg *database.Postgres) (goOn func()) {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pg.PID())).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := append(strings.Fields(string(out)), strconv.Itoa(pg.PID()))
	signal := func(sig syscall.Signal) {
		for _, text := range all {
			if pid, err := strconv.Atoi(text); err == nil {
				_ = syscall.Kill(pid, sig) // some may have ended
			}
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { signal(syscall.SIGCONT) })
	return func() { signal(syscall.SIGCONT) }
}

// migratingTrio is a cluster whose leader follows with a target.
func migratingTrio(t *testing.T, stanza string) (c *trio, leader *node) {
	t.Helper()
	c = newTrio(t)
	leader = c.leader()
	leader.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	leader.must("PUT", "secret/first", map[string]any{"n": "1"})
	leader.goesTo(stanza)
	if out, code := leader.migration("start"); code != 0 {
		t.Fatal(out)
	}
	leader.migrationIs("following", "")
	return c, leader
}

// leads has a node lead again.
func (c *trio) leads(n *node) {
	c.t.Helper()
	await(c.t, "the node to lead again", func() bool {
		l := c.leader()
		if l != n {
			_, _ = l.command("operator", "step-down").CombinedOutput() // the next one leads, or the wait goes on
		}
		return l == n
	})
}

func (c *trio) opened() {
	c.t.Helper()
	for i, n := range c.nodes {
		if a := n.get("sys/seal-status"); a.code != 200 || a.body["sealed"] != false {
			c.t.Errorf("node %d: %d %v", i+1, a.code, a.body)
		}
	}
}

func newFileStanza(t *testing.T) string {
	return fmt.Sprintf("storage \"file\" {\n  path = %q\n}\n", filepath.Join(t.TempDir(), "new"))
}

// onTarget starts a server on a target.
func onTarget(t *testing.T, like *node, stanza string) *node {
	t.Helper()
	n := newNodeOf(t, t.TempDir(), "disable_mlock = true\n"+stanza+plainListener)
	n.keys, n.root = like.keys, like.root
	n.start()
	return n
}

// TestSwitchLeadLost loses the lead, and leads again, while the target hangs: what another leader has acknowledged meanwhile is not lost.
func TestSwitchLeadLost(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	c, leader := migratingTrio(t, postgresStanza(pg.NewDatabase(), ""))
	goOn := hang(t, pg)
	leader.must("PUT", "secret/pending", map[string]any{"n": "x"})
	done := leader.switching()
	await(t, "the switch to wait", func() bool {
		_, err := leader.command("operator", "step-down").CombinedOutput()
		return err == nil
	})
	rest := &trio{t: t, nodes: nil}
	for _, n := range c.nodes {
		if n != leader {
			rest.nodes = append(rest.nodes, n)
		}
	}
	rest.leader().must("PUT", "secret/acknowledged", map[string]any{"n": "x"})
	c.leads(leader)
	goOn()
	if s := <-done; s.code == 0 {
		t.Errorf("switched: %s", s.out)
	}
	c.opened()
	if a := leader.get("secret/acknowledged"); a.code != 200 {
		t.Errorf("what was acknowledged: %d %v", a.code, a.body)
	}
	leader.must("PUT", "secret/more", map[string]any{"n": "x"})
	if out, code := leader.migration("switch"); code == 0 {
		t.Errorf("switched later: %s", out)
	}
}

// TestSwitchQuietTargetHangs finds out that the target is away before it marks the source.
func TestSwitchQuietTargetHangs(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	c, leader := migratingTrio(t, postgresStanza(pg.NewDatabase(), ""))
	goOn := hang(t, pg)
	began := time.Now()
	s := <-leader.switching()
	took := time.Since(began)
	goOn()
	if s.code == 0 {
		t.Errorf("switched: %s", s.out)
	}
	if took > patience {
		t.Errorf("writes waited %v", took)
	}
	c.opened()
	leader.must("PUT", "secret/more", map[string]any{"n": "x"})
}

// TestSwitchMarkUnknown has the followers stand still when the mark is written, while writes wait. When they go on, either it counts, the target gets
// all, and the old cluster is written no more; or it does not, and the old cluster goes on.
func TestSwitchMarkUnknown(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	stanza := postgresStanza(pg.NewDatabase(), "")
	c, leader := migratingTrio(t, stanza)
	others := c.standbys()
	goOn := hang(t, pg) // so that the switch waits, and then the writes do
	done := leader.switching()
	await(t, "the switch to be under way", func() bool {
		a := leader.get("sys/in-flight-req")
		return strings.Contains(fmt.Sprint(a.body), "sys/storage/migration/switch")
	})
	<-time.After(time.Second) // until its first write to the target is under way
	var writers sync.WaitGroup
	for i := range 3 {
		writers.Go(func() {
			_, _ = leader.call(t.Context(), "PUT", fmt.Sprint("secret/waiting", i), leader.root, map[string]any{"n": "x"}) // it may fail, or not
		})
	}
	<-time.After(300 * time.Millisecond) // until they wait, too
	for _, o := range others {
		o.signal(syscall.SIGSTOP)
	}
	goOn()
	await(t, "the mark to be in doubt", func() bool { return strings.Contains(leader.output(), "is not known yet") })
	for _, o := range others {
		o.signal(syscall.SIGCONT)
	}
	s := <-done
	writers.Wait()
	if s.code != 0 {
		t.Log("the switch failed")
		await(t, "the old cluster to go on", func() bool {
			a, err := c.leader().call(t.Context(), "PUT", "secret/more", leader.root, map[string]any{"n": "x"})
			return err == nil && a.code == 204
		})
		c.opened()
		await(t, "the target to be free", func() bool {
			return !strings.Contains(fmt.Sprint(leader.get("sys/storage/migration").body), "following")
		})
		return
	}
	t.Log("the switch was done")
	await(t, "the old leader to be sealed", func() bool {
		return strings.Contains(fmt.Sprint(leader.get("sys/seal-status").body), "this storage was migrated to postgresql")
	})
	for _, o := range others { // one of them led for a moment
		if a, err := o.call(t.Context(), "PUT", "secret/never", o.root, map[string]any{"n": "x"}); err == nil && a.code == 204 {
			t.Error("the old cluster is written")
		}
	}
	n := onTarget(t, leader, stanza)
	n.unseal()
	if a := n.get("secret/first"); a.code != 200 {
		t.Errorf("what was there: %d %v", a.code, a.body)
	}
}

// TestSwitchMarkLost kills the followers when the mark is written, and has them go on without it: then it does not count, and all goes on.
func TestSwitchMarkLost(t *testing.T) {
	t.Parallel()
	c, leader := migratingTrio(t, newFileStanza(t))
	others := c.standbys()
	for _, o := range others {
		o.signal(syscall.SIGKILL)
		o.ended()
	}
	done := leader.switching()
	await(t, "the mark to be in doubt", func() bool { return strings.Contains(leader.output(), "is not known yet") })
	leader.signal(syscall.SIGSTOP)
	for _, o := range others {
		o.start()
		o.unseal()
	}
	rest := &trio{t: t, nodes: others}
	rest.leader().must("PUT", "secret/x", map[string]any{"n": "1"})
	leader.signal(syscall.SIGCONT)
	if s := <-done; s.code == 0 {
		t.Errorf("switched: %s", s.out)
	}
	await(t, "the old leader to go on", func() bool { return leader.get("secret/x").code == 200 })
	c.opened()
	c.leads(leader)
	leader.must("PUT", "secret/y", map[string]any{"n": "1"})
}

// TestResetOfCluster ends with a mark that counts, and a target that has not all: one node of the old cluster begins anew alone, and is given back.
func TestResetOfCluster(t *testing.T) {
	t.Parallel()
	stanza := newFileStanza(t)
	c, leader := migratingTrio(t, stanza)
	others := c.standbys()
	for _, o := range others {
		o.kill()
	}
	done := leader.switching()
	await(t, "the mark to be in doubt", func() bool { return strings.Contains(leader.output(), "is not known yet") })
	leader.kill()
	<-done
	for _, n := range []*node{leader, others[0]} { // only the one with the mark in its log can lead
		n.start()
		n.unseal()
	}
	await(t, "the mark to count", func() bool {
		return strings.Contains(fmt.Sprint(leader.get("sys/seal-status").body), "this storage was migrated to file")
	})
	if a := leader.get("sys/storage/raft/freshness"); a.code != 200 || a.text("data", "migrated_to") != "file" || a.text("data", "cluster_id") == "" {
		t.Errorf("how fresh a marked node is: %d %v", a.code, a.body)
	}
	for _, n := range c.nodes {
		n.kill()
	}
	data := filepath.Join(leader.dir, "data")
	source := fmt.Sprintf("storage \"raft\" {\n  path = %q\n}\n", data)
	if out, code := migrate(t, leader.dir, source, stanza, "-reset"); code != 2 || !strings.Contains(out, "cluster of 3 nodes") {
		t.Errorf("reset of a cluster: %d %s", code, out)
	}
	id := strings.Fields(lastLine(leader, data))[0]
	args := []string{"-keep=" + id, data}
	for i := range c.nodes {
		if name := fmt.Sprint("node", i+1); name != id {
			args = append([]string{"-lost=" + name}, args...)
		}
	}
	if out, code := leader.recover(args...); code != 0 || !strings.Contains(out, "stopped, migrated to file") {
		t.Fatalf("recover: %d %s", code, out)
	}
	if out, code := migrate(t, leader.dir, source, stanza, "-reset"); code != 0 || !strings.Contains(out, "servers can be started on the source again") {
		t.Fatalf("reset: %d %s", code, out)
	}
	leader.start()
	leader.unseal()
	await(t, "the node to lead alone", func() bool { return leader.get("sys/leader").dig("is_self") == true })
	if a := leader.get("secret/first"); a.code != 200 {
		t.Errorf("what was there: %d %v", a.code, a.body)
	}
	leader.must("PUT", "secret/more", map[string]any{"n": "2"})
}
