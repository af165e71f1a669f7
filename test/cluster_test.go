package test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
)

// A trio is three server processes on raft storage.
type trio struct {
	t     *testing.T
	nodes []*node
}

// raftNode prepares a node of a cluster; it is not started. S3-58
func raftNode(t *testing.T, name string) *node {
	t.Helper()
	api, share := arcatest.FreePort(t), arcatest.FreePort(t)
	config := fmt.Sprintf(`
disable_mlock = true
api_addr      = "http://127.0.0.1:%d"
cluster_addr  = "http://127.0.0.1:%d"
storage "raft" {
  path    = "data"
  node_id = %q
}
listener "tcp" {
  address         = "127.0.0.1:%d"
  cluster_address = "127.0.0.1:%d"
  tls_disable     = true
}
`, api, share, name, api, share)
	n := newNodeOf(t, t.TempDir(), config)
	return n
}

// newTrio forms a cluster of three, by the command line as in the guide. S3-59, S3-63, S3-64, S3-65
func newTrio(t *testing.T) *trio {
	t.Helper()
	return newTrioWith(t, "")
}

// patient has a leader stay one where the machine has no time for it: it is for tests in which the one that leads is to go on.
const patient = "  performance_multiplier = 4\n"

// newTrioWith is newTrio with more settings of raft.
func newTrioWith(t *testing.T, settings string) *trio {
	t.Helper()
	c := &trio{t: t}
	for i := range 3 {
		n := raftNode(t, fmt.Sprint("node", i+1))
		n.inside(settings)
		c.nodes = append(c.nodes, n)
	}
	first := c.nodes[0]
	first.start()
	first.initialise()
	for _, n := range c.nodes[1:] {
		n.start()
		n.keys, n.root = first.keys, first.root
		if out := n.vault("operator", "raft", "join", strings.TrimSuffix(first.url, "/v1/")); !strings.Contains(out, "true") {
			t.Fatalf("join: %s", out)
		}
		n.unseal()
	}
	c.await(3)
	return c
}

// vault runs the command line against the node, as root.
func (n *node) vault(args ...string) string {
	n.t.Helper()
	out, err := n.command(args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("vault %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binFolder, "vault"), args...)
	cmd.Env = environment(n.dir, "VAULT_ADDR="+strings.TrimSuffix(n.url, "/v1/"), "VAULT_TOKEN="+n.root)
	return cmd
}

// await waits until so many nodes vote, and one leads.
func (c *trio) await(voters int) {
	c.t.Helper()
	await(c.t, "voters and a leader", func() bool {
		for _, n := range c.nodes {
			a, err := n.call(c.t.Context(), "GET", "sys/storage/raft/configuration", n.root, nil)
			if err != nil || a.code != 200 {
				continue
			}
			servers, _ := a.dig("data", "config", "servers").([]any)
			count, leads := 0, false
			for _, s := range servers {
				server, _ := s.(map[string]any)
				if server["voter"] == true {
					count++
				}
				leads = leads || server["leader"] == true
			}
			return count == voters && leads
		}
		return false
	})
}

// leader is the node that says that it is.
func (c *trio) leader() (leader *node) {
	c.t.Helper()
	await(c.t, "a leader", func() bool {
		for _, n := range c.nodes {
			if a, err := n.call(c.t.Context(), "GET", "sys/health", "", nil); err == nil && a.code == 200 {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

func (c *trio) standbys() []*node {
	leader := c.leader()
	var list []*node
	for _, n := range c.nodes {
		if n != leader {
			list = append(list, n)
		}
	}
	return list
}

// TestClusterLosesNothing kills the leader, or another node, with SIGKILL while clients write through all three, again and
// again: what was acknowledged is there, at every node, and a read at a node that was not written to sees it at once.
// ARCA_CLUSTER_ROUNDS sets how often. S3-60, S3-61, S3-66, S3-67, S3-68
func TestClusterLosesNothing(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.nodes[0].must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	c.readEverywhere()
	acked := map[string]string{}
	for round := range setting(t, "ARCA_CLUSTER_ROUNDS", 3) {
		victim := c.leader()
		if round%3 == 2 {
			victim = c.standbys()[0]
		}
		c.round(round, victim, acked)
		for _, n := range c.nodes {
			c.verify(n, acked)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d writes held", len(acked))
}

// readEverywhere writes here and reads there, at once; with the words by which clients ask for that elsewhere, and without.
func (c *trio) readEverywhere() {
	c.t.Helper()
	for i := range 60 {
		from, to := c.nodes[i%3], c.nodes[(i+1+i%2)%3]
		from.must("PUT", "secret/at-once", map[string]any{"n": fmt.Sprint(i)})
		var asking []string
		if i%4 == 3 {
			state := base64.StdEncoding.EncodeToString([]byte("v1:cluster:1000000:0:mac")) // as in X-Vault-Index of an answer
			asking = []string{"X-Vault-Index", state, "X-Vault-Inconsistent", []string{"fail", "forward-active-node"}[i%8/4], "X-Vault-Forward", "active-node"}
		}
		if a, err := to.call(c.t.Context(), "GET", "secret/at-once", to.root, nil, asking...); err != nil || a.text("data", "n") != fmt.Sprint(i) {
			c.t.Errorf("read %d at another node: %d %v, %v", i, a.code, a.body, err)
		}
	}
}

func (c *trio) round(round int, victim *node, acked map[string]string) {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	var mu sync.Mutex
	var all sync.WaitGroup
	var count atomic.Int64
	for w := range 6 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, value := fmt.Sprintf("secret/r%d/w%d/%d", round, w, i), fmt.Sprint(rand.Uint64())
				n := c.nodes[(w+i)%3]
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
	for _, until := range []func(){
		func() { victim.kill() },
		func() { victim.start(); victim.unseal() },
	} {
		before := count.Load()
		await(c.t, "writes", func() bool { return count.Load() > before+50 })
		until()
	}
	before := count.Load()
	await(c.t, "writes after all came back", func() bool { return count.Load() > before+50 })
	stop()
	all.Wait()
	c.await(3)
}

func (c *trio) verify(n *node, acked map[string]string) {
	c.t.Helper()
	for key, value := range acked {
		if a := n.get(key); a.text("data", "v") != value {
			c.t.Errorf("%s at %s: %d %v, want %s", key, n.url, a.code, a.body, value)
			return
		}
	}
}

// TestClusterOperations plays what operators do. S3-67, S3-69, S3-70
func TestClusterOperations(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	leader := c.leader()
	leader.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	leader.must("PUT", "secret/dbcreds", map[string]any{"admin": "password"})
	for _, n := range c.standbys() {
		if a, err := n.call(t.Context(), "GET", "sys/health", "", nil); err != nil || a.code != 429 {
			t.Errorf("health of a standby: %d, %v", a.code, err)
		}
		if a, err := n.call(t.Context(), "GET", "sys/health?standbyok=true", "", nil); err != nil || a.code != 200 {
			t.Errorf("health of a standby that is well: %d, %v", a.code, err)
		}
		if a := n.get("secret/dbcreds"); a.text("data", "admin") != "password" {
			t.Errorf("read at a standby: %v", a.body)
		}
		out := n.vault("operator", "raft", "list-peers")
		if strings.Count(out, "follower") != 2 || strings.Count(out, "leader") != 1 {
			t.Errorf("list-peers:\n%s", out)
		}
	}
	standby := c.standbys()[0]
	a, err := standby.call(t.Context(), "PUT", "secret/there", standby.root, map[string]any{"v": "1"}, "X-Vault-No-Request-Forwarding", "true")
	if err != nil || a.code != 204 {
		t.Errorf("a write that is redirected: %d, %v", a.code, err) // the client follows the 307
	}

	snapshot := filepath.Join(t.TempDir(), "backup.snap")
	standby.vault("operator", "raft", "snapshot", "save", snapshot)
	leader.must("PUT", "secret/dbcreds", map[string]any{"admin": "changed"})
	leader.must("PUT", "secret/later", map[string]any{"v": "1"})
	standby.vault("operator", "raft", "snapshot", "restore", snapshot)
	for _, n := range c.nodes {
		await(t, "the restored state", func() bool { return n.get("secret/dbcreds").text("data", "admin") == "password" })
		if a := n.get("secret/later"); a.code != 404 {
			t.Errorf("a key from after the snapshot: %d", a.code)
		}
	}
	c.leader().must("PUT", "secret/after", map[string]any{"v": "1"})

	old := c.leader()
	old.vault("operator", "step-down")
	await(t, "another leader", func() bool {
		a, err := old.call(t.Context(), "GET", "sys/leader", "", nil)
		return err == nil && a.dig("is_self") == false && a.text("leader_address") != ""
	})
	c.leader().must("PUT", "secret/after-step-down", map[string]any{"v": "1"})

	// A clean stop hands over; the node that is back follows.
	old = c.leader()
	old.signal(syscall.SIGTERM)
	if code := old.ended(); code != 0 {
		t.Errorf("the leader ended with %d", code)
	}
	var rest []*node
	for _, n := range c.nodes {
		if n != old {
			rest = append(rest, n)
		}
	}
	rest[0].must("PUT", "secret/after-stop", map[string]any{"v": "1"})
	old.client.CloseIdleConnections()
	old.start()
	old.unseal()
	if a := old.get("secret/after-stop"); a.text("data", "v") != "1" {
		t.Errorf("read at the node that is back: %v", a.body)
	}

	// One is taken out, and may not come back by itself.
	gone := c.standbys()[0]
	id := map[*node]string{c.nodes[0]: "node1", c.nodes[1]: "node2", c.nodes[2]: "node3"}[gone]
	c.leader().vault("operator", "raft", "remove-peer", id)
	await(t, "two nodes", func() bool {
		servers, _ := c.leader().get("sys/storage/raft/configuration").dig("data", "config", "servers").([]any)
		return len(servers) == 2
	})
	c.leader().must("PUT", "secret/without", map[string]any{"v": "1"})
}

// TestJoinIsRefused lets a node with other keys ask to be let in.
func TestJoinIsRefused(t *testing.T) {
	t.Parallel()
	first, other := raftNode(t, "node1"), raftNode(t, "node2")
	first.start()
	first.initialise()
	other.start()
	a, err := other.call(t.Context(), "PUT", "sys/storage/raft/join", "", map[string]any{"leader_api_addr": strings.TrimSuffix(first.url, "/v1/")})
	if err != nil || a.code != 200 {
		t.Fatalf("join: %d %v %v", a.code, a.body, err)
	}
	a, err = other.call(t.Context(), "PUT", "sys/unseal", "", map[string]any{"key": strings.Repeat("ab", 32)})
	if err != nil || a.code != 400 {
		t.Errorf("a wrong key: %d %v %v", a.code, a.body, err)
	}
	// Who guesses an answer learns nothing.
	a, err = first.call(t.Context(), "PUT", "sys/storage/raft/bootstrap/challenge", "", map[string]any{"server_id": "evil"})
	if err != nil || a.code != 200 {
		t.Fatalf("challenge: %d %v", a.code, err)
	}
	a, err = first.call(t.Context(), "PUT", "sys/storage/raft/bootstrap/answer", "", map[string]any{
		"challenge": a.text("data", "challenge"), "answer": "AAAA", "server_id": "evil", "cluster_addr": "https://127.0.0.1:9",
	})
	if err != nil || a.code != 403 {
		t.Errorf("a guessed answer: %d %v %v", a.code, a.body, err)
	}
	if servers, _ := first.get("sys/storage/raft/configuration").dig("data", "config", "servers").([]any); len(servers) != 1 {
		t.Errorf("the cluster has %d nodes", len(servers))
	}
	other.keys = first.keys
	other.unseal()
	await(t, "two nodes", func() bool {
		servers, _ := first.get("sys/storage/raft/configuration").dig("data", "config", "servers").([]any)
		return len(servers) == 2
	})
}

// TestPausedLeader stops the leader without ending it. When it goes on it believes that it leads, with a state that is old:
// a read that began after another's write must not see that state.
func TestPausedLeader(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.leader().must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for round := range setting(t, "ARCA_PAUSE_ROUNDS", 4) {
		old := c.leader()
		old.must("PUT", "secret/paused", map[string]any{"n": fmt.Sprint(round, " old")})
		old.signal(syscall.SIGSTOP)
		rest := &trio{t: t}
		for _, n := range c.nodes {
			if n != old {
				rest.nodes = append(rest.nodes, n)
			}
		}
		rest.leader().must("PUT", "secret/paused", map[string]any{"n": fmt.Sprint(round, " new")})
		answers := make(chan string, 8)
		var sent sync.WaitGroup
		for range cap(answers) {
			sent.Go(func() { // these wait at the paused node
				a, err := old.call(t.Context(), "GET", "secret/paused", old.root, nil)
				switch {
				case err != nil, a.code == 503:
					answers <- ""
				case a.code == 200:
					answers <- a.text("data", "n")
				default:
					answers <- fmt.Sprint(a.code, a.body)
				}
			})
		}
		pause := time.NewTimer(50 * time.Millisecond) // until they are there
		<-pause.C
		old.signal(syscall.SIGCONT)
		sent.Wait()
		close(answers)
		for got := range answers {
			if got != "" && got != fmt.Sprint(round, " new") {
				t.Errorf("round %d: the node that was paused answers %q", round, got)
			}
		}
		c.await(3)
	}
}

// TestForwardToPausedLeader sends writes to standbys whose active node was stopped a moment ago. They are not kept waiting until it goes on: soon after
// another leads they are answered, and what nobody can know is said to be unknown. None is executed twice.
func TestForwardToPausedLeader(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	old := c.leader()
	old.must("POST", "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	standby := c.standbys()[0]
	standby.must("PUT", "secret/data/warm", map[string]any{"data": map[string]any{"v": "1"}}) // its connection is there
	old.signal(syscall.SIGSTOP)
	began := time.Now()
	codes := make([]int, 8)
	var sent sync.WaitGroup
	for i := range codes {
		sent.Go(func() {
			a, err := standby.call(t.Context(), "PUT", fmt.Sprint("secret/data/k", i), standby.root, map[string]any{"data": map[string]any{"v": "1"}})
			if err != nil {
				t.Error(err)
			}
			codes[i] = a.code
			if a.code == 503 && !strings.Contains(fmt.Sprint(a.body), "whether the request was served is not known") {
				t.Errorf("503 without a word on the request: %v", a.body)
			}
		})
	}
	sent.Wait()
	took := time.Since(began)
	old.signal(syscall.SIGCONT)
	t.Logf("%v after %s", codes, took)
	if took > 15*time.Second {
		t.Errorf("the requests waited for %s", took)
	}
	c.await(3)
	for i, code := range codes {
		a := standby.get(fmt.Sprint("secret/metadata/k", i))
		version := fmt.Sprint(a.dig("data", "current_version"))
		if code != 200 && code != 503 || code == 200 && version != "1" || a.code == 200 && version != "1" {
			t.Errorf("k%d was answered with %d, and has version %s", i, code, version)
		}
	}
}

// TestAutoSnapshots makes snapshots by a schedule, keeps as many as it says, goes on after a restart, and restores one.
func TestAutoSnapshots(t *testing.T) {
	t.Parallel()
	n := raftNode(t, "node1")
	n.start()
	n.initialise()
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	n.must("PUT", "secret/k", map[string]any{"v": "kept"})
	const config, status = "sys/storage/raft/snapshot-auto/config/often", "sys/storage/raft/snapshot-auto/status/often"
	dir := filepath.Join(t.TempDir(), "snapshots")
	for _, bad := range []map[string]any{
		{},
		{"storage_type": "local", "path_prefix": dir},
		{"storage_type": "local", "interval": "1s", "path_prefix": "here"},
		{"storage_type": "aws-s3", "interval": "1s", "path_prefix": dir},
		{"storage_type": "azure-blob", "interval": "1s", "path_prefix": dir},
		{"storage_type": "aws-s3", "interval": "1s", "path_prefix": "a"},
		{"storage_type": "local", "interval": "1s", "path_prefix": dir, "aws_s3_bucket": "b"},
		{"storage_type": "local", "interval": "1s", "path_prefix": dir, "retain": 0},
		{"storage_type": "local", "interval": "1s", "path_prefix": dir, "file_prefix": "../x"},
	} {
		if a, err := n.call(t.Context(), "POST", config, n.root, bad); err != nil || a.code != 400 {
			t.Errorf("%v: %d %v %v", bad, a.code, a.body, err)
		}
	}
	if a := n.get(config); a.code != 404 {
		t.Errorf("a schedule that nobody made: %d", a.code)
	}
	n.must("POST", config, map[string]any{"storage_type": "local", "interval": "1s", "retain": 2, "path_prefix": dir})
	if a := n.get(config); fmt.Sprintf("%v %v %v", a.dig("data", "interval"), a.dig("data", "retain"), a.dig("data", "file_prefix")) != "1 2 vault-snapshot" {
		t.Errorf("the schedule: %v", a.body)
	}
	if a := n.get("sys/storage/raft/snapshot-auto/config?list=true"); fmt.Sprint(a.dig("data", "keys")) != "[often]" {
		t.Errorf("the schedules: %v", a.body)
	}
	newest := func() string { return strings.TrimPrefix(n.get(status).text("data", "last_snapshot_url"), "file://") }
	var first string
	await(t, "a snapshot", func() bool { first = newest(); return first != "" })
	await(t, "the first of three to be removed", func() bool {
		_, err := os.Stat(first)
		return os.IsNotExist(err)
	})
	n.kill()
	n.start()
	n.unseal()
	last := newest()
	await(t, "a snapshot after the restart", func() bool { return newest() != last })
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) > 3 {
		t.Errorf("files: %q, %v", files, err)
	}
	// One that does not fit is not kept, and said so.
	n.must("POST", config, map[string]any{"local_max_space": 10})
	await(t, "a failure", func() bool {
		return strings.Contains(n.get(status).text("data", "last_snapshot_error"), "local_max_space")
	})
	n.must("DELETE", config, nil)
	if a := n.get(status); a.code != 404 {
		t.Errorf("status of a schedule that was deleted: %d", a.code)
	}
	n.must("PUT", "secret/k", map[string]any{"v": "changed"})
	files, err = filepath.Glob(filepath.Join(dir, "*.snap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files: %q, %v", files, err)
	}
	n.vault("operator", "raft", "snapshot", "restore", files[len(files)-1])
	await(t, "the restored state", func() bool { return n.get("secret/k").text("data", "v") == "kept" })
}

// TestRollingRestart stops and starts one node after the other, the active one last. A client that tries once more, at the
// next node, when a request fails sees no request fail.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.nodes[0].must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var done atomic.Int64
	for w := range 3 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				method, path, want, body := "PUT", fmt.Sprintf("secret/%d/%d", w, i), 204, any(map[string]any{"v": "1"})
				if i%2 == 1 {
					method, path, want, body = "GET", fmt.Sprintf("secret/%d/%d", w, i-1), 200, nil
				}
				at := (w + i) % 3
				a, err := c.nodes[at].call(ctx, method, path, c.nodes[0].root, body)
				if err != nil || a.code != want {
					first := fmt.Sprint(a.code, a.body, err)
					a, err = c.nodes[(at+1)%3].call(ctx, method, path, c.nodes[0].root, body)
					if ctx.Err() == nil && (err != nil || a.code != want) {
						t.Errorf("%s %s: at first %s, then %d %v %v", method, path, first, a.code, a.body, err)
					}
				}
				done.Add(1)
			}
		})
	}
	order := append(c.standbys(), c.leader())
	for _, n := range order {
		before := done.Load()
		await(t, "requests", func() bool { return done.Load() > before+50 })
		n.signal(syscall.SIGTERM)
		if code := n.ended(); code != 0 {
			t.Errorf("a node ended with %d", code)
		}
		n.client.CloseIdleConnections()
		n.start()
		n.unseal()
		c.await(3)
	}
	before := done.Load()
	await(t, "requests after all came back", func() bool { return done.Load() > before+50 })
	stop()
	clients.Wait()
	t.Logf("%d requests", done.Load())
}

// TestAddressesSwapped has nodes come up with each other's cluster addresses, as pods may: nobody leaves the cluster, and it goes on.
func TestAddressesSwapped(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.leader().must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	port := regexp.MustCompile(`cluster_addr .*127\.0\.0\.1:(\d+)`)
	of := func(n *node) string { return port.FindStringSubmatch(n.config)[1] }
	for what, choose := range map[string]func() (a, b *node){
		"standbys":                 func() (a, b *node) { s := c.standbys(); return s[0], s[1] },
		"the leader and a standby": func() (a, b *node) { return c.leader(), c.standbys()[0] },
	} {
		a, b := choose()
		c.leader().must("PUT", "secret/before", map[string]any{"v": what})
		for _, n := range []*node{a, b} {
			n.signal(syscall.SIGKILL)
			n.ended()
			n.client.CloseIdleConnections()
		}
		x, y := of(a), of(b)
		a.config, b.config = strings.ReplaceAll(a.config, ":"+x, ":"+y), strings.ReplaceAll(b.config, ":"+y, ":"+x)
		began := time.Now()
		for _, n := range []*node{a, b} {
			n.start()
			n.unseal()
		}
		await(t, what+": addresses", func() bool {
			r, err := c.nodes[0].call(t.Context(), "GET", "sys/storage/raft/configuration", c.nodes[0].root, nil)
			if err != nil || r.code != 200 {
				return false
			}
			servers, _ := r.dig("data", "config", "servers").([]any)
			at := map[string]bool{}
			for _, s := range servers {
				server, _ := s.(map[string]any)
				at[fmt.Sprint(server["node_id"], " ", server["address"])] = server["voter"] == true
			}
			good := len(at) == 3
			for i, n := range c.nodes {
				good = good && at[fmt.Sprintf("node%d 127.0.0.1:%s", i+1, of(n))]
			}
			return good
		})
		t.Logf("%s: %v", what, time.Since(began))
		c.leader().must("PUT", "secret/after", map[string]any{"v": what})
		for _, n := range c.nodes {
			await(t, what, func() bool {
				return n.get("secret/before").text("data", "v") == what && n.get("secret/after").text("data", "v") == what
			})
		}
	}
}

// TestOneEntry has each request be one entry of the log, whatever it writes; what only reads is none.
func TestOneEntry(t *testing.T) {
	t.Parallel()
	n := raftNode(t, "node1")
	n.start()
	n.initialise()
	last := func() float64 {
		index, _ := n.get("sys/storage/raft/freshness").dig("data", "last_index").(float64)
		return index
	}
	seen, since := last(), time.Now()
	await(t, "what a start itself writes", func() bool {
		if now := last(); now != seen {
			seen, since = now, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
	token := n.root
	for _, tc := range []struct {
		method, path string
		body         any
		entries      float64
	}{
		{"POST", "sys/mounts/kv", map[string]any{"type": "kv-v2"}, 1},
		{"POST", "sys/mounts/transit", map[string]any{"type": "transit"}, 1},
		{"POST", "sys/auth/userpass", map[string]any{"type": "userpass"}, 1},
		{"POST", "kv/data/a", map[string]any{"data": map[string]any{"v": "1"}}, 1},
		{"GET", "kv/data/a", nil, 0},
		{"DELETE", "kv/metadata/a", nil, 1},
		{"POST", "transit/encrypt/new", map[string]any{"plaintext": "YQ=="}, 1}, // makes the key
		{"POST", "transit/encrypt/new", map[string]any{"plaintext": "YQ=="}, 0},
		{"POST", "auth/userpass/users/ann", map[string]any{"password": "p"}, 1},
		{"POST", "auth/userpass/login/ann", map[string]any{"password": "p"}, 1}, // token, lease, entity, alias
		{"POST", "identity/entity", map[string]any{"name": "e"}, 1},
		{"POST", "auth/token/create", map[string]any{"num_uses": 2, "policies": []string{"default"}}, 1},
		{"GET", "auth/token/lookup-self", nil, 1}, // a use
		{"POST", "sys/remount", map[string]any{"from": "kv", "to": "moved"}, 1},
		{"POST", "sys/rotate", nil, 1},
		{"DELETE", "sys/mounts/moved", nil, 1},
	} {
		before := last()
		a, err := n.call(t.Context(), tc.method, tc.path, token, tc.body)
		if err != nil || a.code >= 300 {
			t.Errorf("%s %s: %d %v, %v", tc.method, tc.path, a.code, a.body, err)
		}
		token = n.root
		if tc.path == "auth/token/create" {
			token = a.text("auth", "client_token")
		}
		if got := last() - before; got != tc.entries {
			t.Errorf("%s %s is %v entries, want %v", tc.method, tc.path, got, tc.entries)
		}
	}
}
