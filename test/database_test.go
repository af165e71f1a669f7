package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
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

func postgresStanza(url, more string) string {
	return fmt.Sprintf("storage \"postgresql\" {\n  connection_url = %q\n%s}\n", url, more)
}

// TestCrashPostgres is TestCrash on PostgreSQL. S3-1
func TestCrashPostgres(t *testing.T) {
	t.Parallel()
	crashTest(t, "disable_mlock = true\n"+postgresStanza(database.NewPostgres(t).NewDatabase(), "")+plainListener)
}

// A pair is two server processes that share a database.
type pair struct {
	t     *testing.T
	nodes []*node
}

func newPair(t *testing.T, stanzas string) *pair {
	t.Helper()
	p := &pair{t: t}
	for range 2 {
		api, share := arcatest.FreePort(t), arcatest.FreePort(t)
		p.nodes = append(p.nodes, newNodeOf(t, t.TempDir(), fmt.Sprintf(`
disable_mlock = true
api_addr      = "http://127.0.0.1:%d"
cluster_addr  = "https://127.0.0.1:%d"
listener "tcp" {
  address         = "127.0.0.1:%d"
  cluster_address = "127.0.0.1:%d"
  tls_disable     = true
}
%s`, api, share, api, share, stanzas)))
	}
	first, second := p.nodes[0], p.nodes[1]
	first.start()
	first.initialise()
	second.start()
	second.keys, second.root = first.keys, first.root
	second.unseal()
	return p
}

// active returns the node that says it is the active one, and the other.
func (p *pair) active() (active, other *node) {
	p.t.Helper()
	await(p.t, "an active node", func() bool {
		for i, n := range p.nodes {
			if a, err := n.call(p.t.Context(), "GET", "sys/health", "", nil); err == nil && a.code == 200 {
				active, other = n, p.nodes[1-i]
				return true
			}
		}
		return false
	})
	return active, other
}

// testPair has two servers share a database: the standby sends on what it is asked; a node that is killed is followed by the
// other; what was acknowledged is there; who stops or steps down hands over at once.
func testPair(t *testing.T, p *pair) {
	active, standby := p.active()
	active.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	if a, err := standby.call(t.Context(), "GET", "sys/health", "", nil); err != nil || a.code != 429 {
		t.Errorf("health of the standby: %d, %v", a.code, err)
	}
	for i := range 50 {
		from, to := p.nodes[i%2], p.nodes[(i+1)%2]
		from.must("PUT", "secret/at-once", map[string]any{"n": fmt.Sprint(i)})
		if a := to.get("secret/at-once"); a.text("data", "n") != fmt.Sprint(i) {
			t.Fatalf("read %d at the other node: %d %v", i, a.code, a.body)
		}
	}
	await(t, "word of the active node", func() bool {
		a, err := standby.call(t.Context(), "GET", "sys/leader", "", nil)
		return err == nil && a.dig("ha_enabled") == true && a.dig("is_self") == false && a.text("leader_address")+"/v1/" == active.url
	})
	await(t, "both nodes in ha-status", func() bool {
		nodes, _ := active.get("sys/ha-status").dig("data", "nodes").([]any)
		return len(nodes) == 2
	})
	a, err := standby.call(t.Context(), "PUT", "secret/there", standby.root, map[string]any{"v": "1"}, "X-Vault-No-Request-Forwarding", "true")
	if err != nil || a.code != 204 { // the client follows the 307
		t.Errorf("a write that is redirected: %d, %v", a.code, err)
	}
	acked := map[string]string{}
	for round := range setting(t, "ARCA_PAIR_ROUNDS", 2) {
		victim, _ := p.active()
		p.round(round, victim, acked)
		for _, n := range p.nodes {
			p.verify(n, acked)
		}
	}
	p.paused()
	p.late()
	active, standby = p.active()
	log := filepath.Join(t.TempDir(), "audit.log")
	active.must("PUT", "sys/audit/file", map[string]any{"type": "file", "options": map[string]any{"file_path": log}})
	active.vault("operator", "step-down")
	began := time.Now()
	await(t, "the other after a step-down", func() bool { a, _ := p.active(); return a == standby })
	t.Logf("after a step-down: %v", time.Since(began))
	standby.must("PUT", "secret/recorded", map[string]any{"v": "1"})
	if text, err := os.ReadFile(log); err != nil || strings.Count(string(text), `"path":"secret/recorded"`) != 2 {
		t.Errorf("the new active node keeps no audit log of a request and its answer: %v", err)
	}
	active, standby = p.active()
	active.signal(syscall.SIGTERM)
	began = time.Now()
	active.ended()
	await(t, "the other after a stop", func() bool { return standby.get("secret/at-once").code == 200 })
	t.Logf("after a stop: %v; %d writes held", time.Since(began), len(acked))
	p.verify(standby, acked)
}

// paused stops the active node in its tracks until the other one has taken over and written: when it goes on, it answers nothing old, and
// commits nothing.
func (p *pair) paused() {
	p.t.Helper()
	old, other := p.active()
	old.must("PUT", "secret/fenced", map[string]any{"v": "old"})
	if a := old.get("secret/fenced"); a.text("data", "v") != "old" {
		p.t.Errorf("before the pause: %v", a.body)
	}
	old.signal(syscall.SIGSTOP)
	await(p.t, "the other node to take over", func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Second) // what is sent to the node that is paused hangs
		defer cancel()
		a, err := other.call(ctx, "PUT", "secret/fenced", other.root, map[string]any{"v": "new"})
		return err == nil && a.code == 204
	})
	old.signal(syscall.SIGCONT)
	for range 20 {
		if a := old.get("secret/fenced"); a.text("data", "v") != "new" {
			p.t.Fatalf("the node that was paused answers %d %v", a.code, a.body)
		}
	}
	old.must("PUT", "secret/fenced", map[string]any{"v": "newer"}) // sent on
	if a := other.get("secret/fenced"); a.text("data", "v") != "newer" {
		p.t.Errorf("after the pause: %v", a.body)
	}
}

// late stops the active node in its tracks until the other one has taken over, written, and ended: when it goes on, lock and fence are
// free, and what it knows is old.
func (p *pair) late() {
	p.t.Helper()
	old, other := p.active()
	old.must("PUT", "secret/late", map[string]any{"v": "old"})
	if a := old.get("secret/late"); a.text("data", "v") != "old" {
		p.t.Errorf("before it stood still: %v", a.body)
	}
	old.signal(syscall.SIGSTOP)
	await(p.t, "the other node to take over", func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Second) // what is sent to the node that stands still hangs
		defer cancel()
		a, err := other.call(ctx, "PUT", "secret/late", other.root, map[string]any{"v": "new"})
		return err == nil && a.code == 204
	})
	other.signal(syscall.SIGTERM)
	other.ended()
	old.signal(syscall.SIGCONT)
	await(p.t, "the node that stood still", func() bool {
		a, err := old.call(p.t.Context(), "GET", "secret/late", old.root, nil)
		if err != nil || a.code != 200 {
			return false
		}
		if got := a.text("data", "v"); got != "new" {
			p.t.Fatalf("the node that stood still answers %q", got)
		}
		return true
	})
	old.must("PUT", "secret/late", map[string]any{"v": "newer"})
	other.start()
	other.unseal()
	if a := other.get("secret/late"); a.text("data", "v") != "newer" {
		p.t.Errorf("afterwards: %d %v", a.code, a.body)
	}
}

func (p *pair) round(round int, victim *node, acked map[string]string) {
	p.t.Helper()
	ctx, stop := context.WithCancel(p.t.Context())
	var mu sync.Mutex
	var all sync.WaitGroup
	var count atomic.Int64
	for w := range 6 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, value := fmt.Sprintf("secret/r%d/w%d/%d", round, w, i), fmt.Sprint(rand.Uint64())
				n := p.nodes[(w+i)%2]
				a, err := n.call(ctx, "PUT", key, n.root, map[string]any{"v": value})
				if err == nil && a.code == 204 {
					mu.Lock()
					acked[key] = value
					mu.Unlock()
					count.Add(1)
				}
			}
		})
	}
	more := func(what string) {
		before := count.Load()
		await(p.t, what, func() bool { return count.Load() > before+50 })
	}
	more("writes")
	victim.kill()
	began := time.Now()
	before := count.Load()
	await(p.t, "a write after the kill", func() bool { return count.Load() > before })
	p.t.Logf("the first write after a kill: %v", time.Since(began))
	more("writes through the other")
	victim.start()
	victim.unseal()
	more("writes after it came back")
	stop()
	all.Wait()
}

func (p *pair) verify(n *node, acked map[string]string) {
	p.t.Helper()
	for key, value := range acked {
		if a := n.get(key); a.text("data", "v") != value {
			p.t.Errorf("%s at %s: %d %v, want %s", key, n.url, a.code, a.body, value)
			return
		}
	}
}

// TestPairPostgres: S0-10
func TestPairPostgres(t *testing.T) {
	t.Parallel()
	testPair(t, newPair(t, postgresStanza(database.NewPostgres(t).NewDatabase(), "  ha_enabled = \"true\"\n")))
}

// TestPostgresComesAndGoes: a server outlives its database, says what is wrong meanwhile, and loses nothing.
func TestPostgresComesAndGoes(t *testing.T) {
	t.Parallel()
	db := database.NewPostgres(t)
	n := newNode(t, t.TempDir(), "disable_mlock = true\n"+postgresStanza(db.NewDatabase(), "")+plainListener)
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	n.must("PUT", "secret/a", map[string]any{"v": "1"})
	for _, end := range []func(){db.Stop, db.Kill} {
		end()
		a, err := n.call(t.Context(), "PUT", "secret/b", n.root, map[string]any{"v": "2"})
		if err != nil || a.code != 503 || !strings.Contains(fmt.Sprint(a.body), "PostgreSQL cannot be reached") {
			t.Errorf("a write without the database: %d %v, %v", a.code, a.body, err)
		}
		if strings.Contains(fmt.Sprint(a.body)+n.output(), database.Password) {
			t.Error("the password of the database is told")
		}
		db.Start()
		await(t, "the server to go on", func() bool {
			a, err := n.call(t.Context(), "PUT", "secret/c", n.root, map[string]any{"v": "3"})
			return err == nil && a.code == 204
		})
		if a := n.get("secret/a"); a.text("data", "v") != "1" {
			t.Errorf("after the database came back: %d %v", a.code, a.body)
		}
	}
}

func mysqlStanza(word string, db *database.MariaDB, more string) string {
	return fmt.Sprintf("%s \"mysql\" {\n  address = %q\n  username = \"vault\"\n  password = %q\n  database = %q\n%s}\n", word, db.Address(), database.Password, db.NewDatabase(), more)
}

// TestPairMySQL: S0-10, S3-1
func TestPairMySQL(t *testing.T) {
	t.Parallel()
	testPair(t, newPair(t, mysqlStanza("storage", database.NewMariaDB(t), "  ha_enabled = \"true\"\n")))
}

// TestPairEtcd: S0-10
func TestPairEtcd(t *testing.T) {
	t.Parallel()
	e := database.NewEtcd(t)
	testPair(t, newPair(t, fmt.Sprintf("storage \"etcd\" {\n  address = %q\n  path = %q\n  ha_enabled = \"true\"\n}\n", e.Address(), e.NewPath())))
}

// TestPairWithLockElsewhere has the data in one database and the lock in another.
func TestPairWithLockElsewhere(t *testing.T) {
	t.Parallel()
	lock := mysqlStanza("ha_storage", database.NewMariaDB(t), "")
	testPair(t, newPair(t, postgresStanza(database.NewPostgres(t).NewDatabase(), "")+lock))
}
