package test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/arcatest/database"
)

// TestMigrationTorture takes a cluster's storage elsewhere while clients write and delete through all its nodes, and while the active node is killed,
// paused and steps down, and the database is stopped, killed and paused. What was acknowledged is there afterwards, and what was deleted is not.
// ARCA_MIGRATION_ROUNDS sets how many migrations are brought to their end, ARCA_MIGRATION_FAULTS how many faults come before each switch at most,
// ARCA_MIGRATION_SEED which.
func TestMigrationTorture(t *testing.T) {
	t.Parallel()
	for i, c := range []struct{ name, from, to string }{
		{"raft to postgresql", "raft", "postgresql"},
		{"postgresql to raft", "postgresql", "raft"},
		{"postgresql to file", "postgresql", "file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for round := range setting(t, "ARCA_MIGRATION_ROUNDS", 1) {
				rnd := rand.New(rand.NewPCG(uint64(setting(t, "ARCA_MIGRATION_SEED", 1)+round), uint64(i)))
				if !t.Run(fmt.Sprint(round), func(t *testing.T) { newMoved(t, c.from, rnd).run(c.to) }) {
					return
				}
			}
		})
	}
}

// A moved is a cluster on its way to another storage.
type moved struct {
	t      *testing.T
	rnd    *rand.Rand
	pg     *database.Postgres
	from   string
	nodes  []*node
	base   []string // their configurations without a target
	source string   // its stanza, for the command line
	dir    string   // for targets
	tries  int

	clients *moveClients
	faults  []string
}

func newMoved(t *testing.T, from string, rnd *rand.Rand) *moved {
	t.Helper()
	m := &moved{t: t, rnd: rnd, pg: database.NewPostgres(t), from: from, dir: t.TempDir()}
	if from == "raft" {
		m.nodes = newTrio(t).nodes
	} else {
		m.source = postgresStanza(m.pg.NewDatabase(), "  ha_enabled = \"true\"\n")
		m.nodes = newPair(t, m.source).nodes
	}
	for _, n := range m.nodes {
		m.base = append(m.base, n.config)
	}
	await(t, "a mount", func() bool {
		a, err := m.nodes[0].call(t.Context(), "POST", "sys/mounts/secret", m.nodes[0].root, map[string]any{"type": "kv"})
		return err == nil && (a.code == 204 || a.code == 400)
	})
	return m
}

// target names a new target in all configurations, and returns its stanza.
func (m *moved) target(to string) (stanza string) {
	m.tries++
	path := filepath.Join(m.dir, fmt.Sprint("target", m.tries))
	switch to {
	case "postgresql":
		stanza = postgresStanza(m.pg.NewDatabase(), "")
	case "raft":
		stanza = fmt.Sprintf("storage \"raft\" {\n  path = %q\n  node_id = \"first\"\n}\n", path)
	default:
		stanza = fmt.Sprintf("storage \"file\" {\n  path = %q\n}\n", path)
	}
	for i, n := range m.nodes {
		n.config = m.base[i]
		n.goesTo(stanza)
	}
	return stanza
}

// run brings one migration to its end.
func (m *moved) run(to string) {
	m.t.Helper()
	began := time.Now()
	step := func(what string) { m.t.Log(time.Since(began).Round(time.Millisecond), what) }
	m.clients = startMoveClients(m.t, m.nodes)
	defer m.clients.stop()
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline) && !m.t.Failed(); {
		m.repair()
		stanza := m.target(to)
		leader := m.active()
		if leader == nil || !m.follows(leader) {
			continue
		}
		step("follows")
		for range m.rnd.IntN(setting(m.t, "ARCA_MIGRATION_FAULTS", 2) + 1) {
			pause := time.NewTimer(time.Duration(m.rnd.IntN(300)) * time.Millisecond)
			<-pause.C
			m.fault()()
			step(m.faults[len(m.faults)-1])
		}
		if leader = m.active(); leader == nil || leader.state() != "following" {
			continue // another leads, which knows of no migration
		}
		done := leader.switching()
		if m.rnd.IntN(3) > 0 {
			pause := time.NewTimer(time.Duration(m.rnd.IntN(60)) * time.Millisecond)
			<-pause.C
			m.fault()()
			step("while it switches: " + m.faults[len(m.faults)-1])
		}
		s := <-done
		step(s.out)
		if s.code == 0 || m.left() {
			n := m.onTarget(stanza)
			if s.code != 0 && n.get("sys/seal-status").body["initialized"] != true {
				n.kill()
				n = m.back(stanza) // a crash came in the very moment of the last step
			}
			m.verify(n)
			return
		}
	}
	m.t.Errorf("no migration came to its end; faults: %v", m.faults)
}

// state is that of the migration, "" where the node does not tell.
func (n *node) state() string {
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Second)
	defer cancel()
	a, err := n.call(ctx, "GET", "sys/storage/migration", n.root, nil)
	if err != nil {
		return ""
	}
	return a.text("data", "state")
}

func (m *moved) follows(leader *node) bool {
	if _, code := leader.migration("start"); code != 0 {
		_, _ = leader.migration("cancel")
		return false
	}
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		switch leader.state() {
		case "following":
			return true
		case "failed", "none":
			return false
		}
		pause := time.NewTimer(20 * time.Millisecond)
		<-pause.C
	}
	return false
}

// active is the node that says so of itself, for a while.
func (m *moved) active() (found *node) {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		for _, n := range m.nodes {
			ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
			a, err := n.call(ctx, "GET", "sys/health", "", nil)
			cancel()
			if err == nil && a.code == 200 {
				return n
			}
		}
	}
	return nil
}

// fault does something to the active node or the database, and returns what ends that.
func (m *moved) fault() (end func()) {
	kinds := []string{"kill", "pause", "step-down", "pause a standby"}
	kinds = append(kinds, "stop the database", "kill the database", "hang the database")
	kind := kinds[m.rnd.IntN(len(kinds))]
	m.faults = append(m.faults, kind)
	lasts := time.Duration(100+m.rnd.IntN(3000)) * time.Millisecond
	if m.rnd.IntN(6) == 0 {
		lasts += 7 * time.Second // longer than any lease
	}
	wait := func() {
		t := time.NewTimer(lasts)
		<-t.C
	}
	victim := m.active()
	if victim == nil {
		return func() {}
	}
	if kind == "pause a standby" {
		for _, n := range m.nodes {
			if n != victim {
				victim = n
				break
			}
		}
	}
	switch kind {
	case "kill":
		victim.kill()
		return func() {
			victim.start()
			m.unseal(victim)
		}
	case "pause", "pause a standby":
		victim.signal(syscall.SIGSTOP)
		return func() {
			wait()
			victim.signal(syscall.SIGCONT)
		}
	case "step-down":
		_, _ = victim.command("operator", "step-down").CombinedOutput() // there may be nobody
		return func() {}
	case "hang the database":
		goOn := hang(m.t, m.pg)
		return func() {
			wait()
			goOn()
		}
	}
	if kind == "stop the database" {
		m.pg.Stop()
	} else {
		m.pg.Kill()
	}
	return func() {
		wait()
		m.pg.Start()
	}
}

func (m *moved) unseal(n *node) {
	for _, k := range n.keys {
		ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
		_, _ = n.call(ctx, "PUT", "sys/unseal", "", map[string]any{"key": k}) // the store may be away, or marked
		cancel()
	}
}

// repair unseals what was sealed.
func (m *moved) repair() {
	for _, n := range m.nodes {
		ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
		a, err := n.call(ctx, "GET", "sys/seal-status", "", nil)
		cancel()
		if err == nil && a.code == 200 && a.body["sealed"] == true {
			m.unseal(n)
		}
	}
}

// left reports whether the old storage is marked as migrated: a node says so, and nobody becomes the active one. (One that has not got the mark
// stays a standby, where those that have are sealed.)
func (m *moved) left() (is bool) {
	m.t.Helper()
	began := time.Now()
	await(m.t, "an active node, or a mark", func() bool {
		m.repair()
		is = false
		for _, n := range m.nodes {
			if a, err := n.call(m.t.Context(), "GET", "sys/health", "", nil); err == nil && a.code == 200 {
				return true
			}
		}
		for _, n := range m.nodes {
			a, err := n.call(m.t.Context(), "GET", "sys/seal-status", "", nil)
			is = is || err == nil && strings.Contains(fmt.Sprint(a.body), "this storage was migrated to ")
		}
		return is && time.Since(began) > 8*time.Second
	})
	return is
}

// back gives the old storage back, and starts a server on it.
func (m *moved) back(stanza string) *node {
	m.t.Helper()
	m.t.Log("the old storage is given back")
	n := m.nodes[0]
	if m.from == "raft" {
		n = m.longest()
		m.source = fmt.Sprintf("storage \"raft\" {\n  path = %q\n}\n", filepath.Join(n.dir, "data"))
	}
	out, code := "", 0
	await(m.t, "the storage to be given back", func() bool { // who was killed counts as running for a while
		if out, code = migrate(m.t, n.dir, m.source, stanza, "-reset"); code == 0 || strings.Contains(out, "the migration is complete") {
			return true
		}
		m.t.Log(out)
		<-time.After(time.Second)
		return false
	})
	if code != 0 { // a raft target had all in its log
		return m.onTarget(stanza)
	}
	n.start()
	return n
}

// longest has the node that has most of the log begin anew alone.
func (m *moved) longest() *node {
	m.t.Helper()
	args := []string{"-format=json"}
	for _, n := range m.nodes {
		args = append(args, filepath.Join(n.dir, "data"))
	}
	out, _ := m.nodes[0].recover(args...)
	var plan struct{ Freshest string }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&plan); err != nil { // behind it stands why all three are too many
		m.t.Fatalf("%v\n%s", err, out)
	}
	var found *node
	args = []string{"-keep=" + plan.Freshest}
	for i, n := range m.nodes {
		if name := fmt.Sprint("node", i+1); name == plan.Freshest {
			found = n
		} else {
			args = append(args, "-lost="+name)
		}
	}
	if found == nil {
		m.t.Fatalf("nobody is the freshest:\n%s", out)
	}
	if out, code := found.recover(append(args, filepath.Join(found.dir, "data"))...); code != 0 {
		m.t.Fatalf("begin anew: %d\n%s", code, out)
	}
	return found
}

// onTarget ends the old servers and starts one on the target.
func (m *moved) onTarget(stanza string) *node {
	m.t.Helper()
	m.clients.stop()
	for _, n := range m.nodes {
		n.kill()
	}
	share := arcatest.FreePort(m.t)
	n := newNodeOf(m.t, m.t.TempDir(), fmt.Sprintf("disable_mlock = true\ncluster_addr = \"https://127.0.0.1:%d\"\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  cluster_address = \"127.0.0.1:%d\"\n  tls_disable = true\n}\n%s", share, share, stanza))
	n.keys, n.root = m.nodes[0].keys, m.nodes[0].root
	n.start()
	return n
}

func (m *moved) verify(n *node) {
	m.t.Helper()
	n.unseal()
	await(m.t, "the storage to be served", func() bool {
		a, err := n.call(m.t.Context(), "GET", "sys/health", "", nil)
		return err == nil && a.code == 200
	})
	deleted := 0
	for _, w := range m.clients.writers {
		for key, may := range w.last {
			a := n.get(key)
			got := a.text("data", "v")
			if a.code != 200 && a.code != 404 || !may[got] {
				m.t.Errorf("%s is %q (%d), may be %v; faults: %v", key, got, a.code, may, m.faults)
			}
			if may[""] && len(may) == 1 {
				deleted++
			}
		}
	}
	m.t.Logf("%d writes acknowledged, %d of unknown outcome, %d keys deleted; %d migrations begun, %d faults: %v",
		m.clients.acked.Load(), m.clients.unknown.Load(), deleted, m.tries, len(m.faults), m.faults)
}

// moveClients write and delete through all nodes, each keys of its own.
type moveClients struct {
	cancel  context.CancelFunc
	all     sync.WaitGroup
	writers []*moveWriter
	acked   atomic.Int64
	unknown atomic.Int64
}

type moveWriter struct {
	last map[string]map[string]bool // what each key may hold; "" is nothing
}

func startMoveClients(t *testing.T, nodes []*node) *moveClients {
	ctx, cancel := context.WithCancel(t.Context())
	c := &moveClients{cancel: cancel}
	for i := range 6 {
		w := &moveWriter{last: map[string]map[string]bool{}}
		c.writers = append(c.writers, w)
		rnd := rand.New(rand.NewPCG(uint64(i), rand.Uint64()))
		c.all.Go(func() { c.write(ctx, w, fmt.Sprintf("secret/w%d/", i), nodes, rnd) })
	}
	return c
}

func (c *moveClients) stop() {
	c.cancel()
	c.all.Wait()
}

// write goes on until ctx ends. A key whose last change has an unknown outcome is left alone from then on: it may come to be done at any time.
func (c *moveClients) write(ctx context.Context, w *moveWriter, prefix string, nodes []*node, rnd *rand.Rand) {
	const most = 30 // keys at a time
	names := make([]int, most)
	for i := range names {
		names[i] = i
	}
	for n := most; ctx.Err() == nil; n++ {
		slot := rnd.IntN(most)
		key, value := fmt.Sprint(prefix, names[slot]), fmt.Sprint(n)
		method, body := "PUT", any(map[string]any{"v": value})
		if rnd.IntN(4) == 0 {
			method, body, value = "DELETE", nil, ""
		}
		node := nodes[rnd.IntN(len(nodes))]
		brief, cancel := context.WithTimeout(ctx, 10*time.Second)
		a, err := node.call(brief, method, key, node.root, body)
		cancel()
		if err == nil && a.code == 204 {
			c.acked.Add(1)
			w.last[key] = map[string]bool{value: true}
			continue
		}
		c.unknown.Add(1)
		if w.last[key] == nil {
			w.last[key] = map[string]bool{"": true}
		}
		w.last[key][value] = true
		names[slot] = n
		pause := time.NewTimer(100 * time.Millisecond)
		<-pause.C
	}
}
