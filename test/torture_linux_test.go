package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
)

// A rack is three processes whose cluster addresses are tied by wires, each on a small disk of its own if that can be had.
type rack struct {
	*trio
	wires *wires
	disks bool
	rnd   *rand.Rand
	down  []bool

	ills   []ills         // nil where the program does no faults to itself
	clocks bool           // and can have its clock moved
	count  map[string]int // what became of processes whose disk had failed
}

func newRack(t *testing.T, seed uint64) *rack {
	t.Helper()
	r := &rack{trio: &trio{t: t}, rnd: rand.New(rand.NewPCG(seed, 0)), down: make([]bool, 3), disks: true, count: map[string]int{}}
	var inner, outer []int
	for i := range 3 {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=192m,mode=700"); err != nil {
			r.disks = false
		} else {
			t.Cleanup(func() { _ = syscall.Unmount(dir, 2) }) // MNT_DETACH
		}
		inner, outer = append(inner, arcatest.FreePort(t)), append(outer, arcatest.FreePort(t))
		api := arcatest.FreePort(t)
		r.nodes = append(r.nodes, newNodeOf(t, dir, fmt.Sprintf(`
api_addr      = "http://127.0.0.1:%[1]d"
cluster_addr  = "https://127.0.0.1:%[3]d"
disable_mlock = true
storage "raft" {
  path               = "data"
  node_id            = "node%[4]d"
  snapshot_threshold = 300
  snapshot_interval  = "2s"
  trailing_logs      = 100
  autopilot_reconcile_interval = "500ms"
}
listener "tcp" {
  address         = "127.0.0.1:%[1]d"
  cluster_address = "127.0.0.1:%[2]d"
  tls_disable     = true
}
`, api, inner[i], outer[i], i+1)))
	}
	r.wires = newWires(t, inner, outer)
	r.equip()
	for i, n := range r.nodes {
		r.launch(i)
		if i == 0 {
			n.initialise()
			n.must("POST", "sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "1s"})
			continue
		}
		n.keys, n.root = r.nodes[0].keys, r.nodes[0].root
		n.must("PUT", "sys/storage/raft/join", map[string]any{"leader_api_addr": strings.TrimSuffix(r.nodes[0].url, "/v1/")})
		n.unseal()
	}
	r.await(3)
	r.clocks = saysMoved(r.nodes[0])
	r.nodes[0].must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	r.nodes[0].must("POST", "sys/mounts/kv2", map[string]any{"type": "kv-v2"})
	return r
}

func (r *rack) launch(i int) {
	r.t.Helper()
	r.nodes[i].client.CloseIdleConnections()
	r.nodes[i].start()
	r.wires.is(i, r.nodes[i].cmd.Process.Pid)
	r.down[i] = false
	if r.ills != nil {
		r.ills[i].sick = false
	}
}

// leads is the index of the active node; another's if none is known.
func (r *rack) leads() int {
	for i, n := range r.nodes {
		ctx, stop := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
		a, err := n.call(ctx, "GET", "sys/health", "", nil)
		stop()
		if err == nil && a.code == 200 {
			return i
		}
	}
	return r.rnd.IntN(3)
}

// A fault is begun, and ended some time later.
type fault struct {
	name  string
	begin func(r *rack, victim int) (end func())
}

func (r *rack) faults() []fault {
	list := []fault{
		{"kill -9", func(r *rack, i int) func() {
			r.nodes[i].kill()
			r.down[i] = true
			return func() { r.launch(i); r.nodes[i].unseal() }
		}},
		{"stop and start", func(r *rack, i int) func() {
			_ = r.nodes[i].cmd.Process.Signal(syscall.SIGTERM) // one whose disk has failed may have ended
			if code := r.nodes[i].ended(); code == 1 && r.ills != nil && r.ills[i].sick {
				r.endedSick(i)
			} else if code != 0 {
				r.t.Errorf("a node that was told to stop ended with %d", code)
			}
			r.down[i] = true
			return func() { r.launch(i); r.nodes[i].unseal() }
		}},
		{"pause", func(r *rack, i int) func() {
			r.nodes[i].signal(syscall.SIGSTOP)
			return func() { r.nodes[i].signal(syscall.SIGCONT) }
		}},
		{"cut off", func(r *rack, i int) func() {
			r.wires.hold(func(from, to int) bool { return from == i || to == i })
			return r.heal
		}},
		{"mute", func(r *rack, i int) func() {
			r.wires.hold(func(from, _ int) bool { return from == i })
			return r.heal
		}},
		{"deaf", func(r *rack, i int) func() {
			r.wires.hold(func(_, to int) bool { return to == i })
			return r.heal
		}},
		{"deaf to one", func(r *rack, i int) func() {
			j := (i + 1 + r.rnd.IntN(2)) % 3
			r.wires.hold(func(from, to int) bool { return from == j && to == i })
			return r.heal
		}},
		{"apart", func(r *rack, i int) func() {
			j := (i + 1 + r.rnd.IntN(2)) % 3
			r.wires.hold(func(from, to int) bool { return from == i && to == j || from == j && to == i })
			return r.heal
		}},
		{"all apart", func(r *rack, _ int) func() {
			r.wires.hold(func(int, int) bool { return true })
			return r.heal
		}},
		{"slow", func(r *rack, i int) func() {
			r.wires.delay(i, time.Duration(10+r.rnd.IntN(300))*time.Millisecond)
			return func() { r.wires.delay(i, 0) }
		}},
		{"step-down", func(r *rack, i int) func() {
			ctx, stop := context.WithTimeout(r.t.Context(), 2*time.Second)
			defer stop()
			_, _ = r.nodes[i].call(ctx, "PUT", "sys/step-down", r.nodes[i].root, nil)
			return func() {}
		}},
	}
	if r.disks {
		list = append(list, fault{"full disk", func(r *rack, i int) func() {
			file := filepath.Join(r.nodes[i].dir, "ballast")
			if err := fill(file, r.nodes[i].dir, r.rnd.Int64N(20<<20)); err != nil {
				r.t.Errorf("fill a disk: %v", err)
			}
			return func() {
				if err := os.Remove(file); err != nil {
					r.t.Errorf("free a disk: %v", err)
				}
			}
		}})
	}
	if r.ills != nil {
		list = append(list, r.ailments()...)
	}
	return list
}

func (r *rack) heal() { r.wires.hold(func(int, int) bool { return false }) }

// fill leaves so many bytes of a file system free.
func fill(file, dir string, leave int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	left := int64(st.Bavail)*st.Bsize - leave
	for part := left; left > 0 && part > 4096; { // others write meanwhile
		at, err := f.Seek(0, 2)
		if err == nil {
			err = syscall.Fallocate(int(f.Fd()), 0, at, min(part, left))
		}
		if errors.Is(err, syscall.ENOSPC) {
			part /= 2
			continue
		}
		if err != nil {
			return err
		}
		if _, err := f.Seek(min(part, left), 1); err != nil {
			return err
		}
		left -= part
	}
	return nil
}

// round does one fault, or two at a time, to the cluster, and waits until it takes writes again.
func (r *rack) round(c *crowd, list []fault) (names []string) {
	r.t.Helper()
	if r.ills != nil {
		r.revive()
	}
	leader := r.leads()
	victim := leader
	if r.rnd.IntN(3) == 0 {
		victim = r.rnd.IntN(3)
	}
	chosen := []fault{list[r.rnd.IntN(len(list))]}
	if r.rnd.IntN(4) == 0 {
		chosen = append(chosen, list[r.rnd.IntN(len(list))])
	}
	var ends []func()
	for n, f := range chosen {
		i := (victim + n) % 3
		if r.down[i] {
			continue
		}
		ends = append(ends, f.begin(r, i))
		names = append(names, fmt.Sprint(f.name, " ", i+1))
		r.pause(1000)
	}
	r.pause(1500)
	for _, end := range slices.Backward(ends) {
		end()
	}
	began, before := time.Now(), c.wrote.Load()
	for c.wrote.Load() < before+20 {
		if time.Since(began) > patience {
			r.t.Fatalf("no writes after %s", strings.Join(names, ", "))
		}
		if r.ills != nil {
			r.revive()
		}
		r.pause(20)
	}
	for i, n := range r.nodes {
		select {
		case <-n.done:
			if r.ills != nil && r.ills[i].sick {
				continue // it is started again in the next round
			}
			r.t.Fatalf("node %d has ended by itself after %s", i+1, strings.Join(names, ", "))
		default:
		}
	}
	r.t.Logf("%s: %d ms", strings.Join(names, ", "), time.Since(began).Milliseconds())
	return names
}

func (r *rack) pause(most int) {
	t := time.NewTimer(time.Duration(r.rnd.IntN(most)) * time.Millisecond)
	<-t.C
}

// TestTorture lets clients write and read secrets through all nodes of a cluster, and use tokens up, while nodes are killed,
// stopped, paused, cut off, slowed, told to step down, have their disks filled and failing, and their clocks moved. Whatever befalls them, the history of each
// secret is one that a single secret could have: no write that was acknowledged is lost, none is done twice, no read is stale.
// `make torture` is the long run: ARCA_TORTURE_FAULTS sets how many faults, ARCA_TORTURE_SEED repeats their order,
// ARCA_TORTURE_KINDS has only those be done whose names a regular expression matches, and ARCA_TORTURE_DIR is where histories that are wrong go.
func TestTorture(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("the wires tell nodes by /proc/net/tcp")
	}
	seed := rand.Uint64()
	if s := os.Getenv("ARCA_TORTURE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d", seed)
	r := newRack(t, seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := newCrowd(t, r.nodes)
	c.run(ctx, 9)
	list := r.faults()
	if kinds := os.Getenv("ARCA_TORTURE_KINDS"); kinds != "" {
		of := regexp.MustCompile(kinds)
		list = slices.DeleteFunc(list, func(f fault) bool { return !of.MatchString(f.name) })
	}
	count := map[string]int{}
	checked, done := 0, 0
	for want := setting(t, "ARCA_TORTURE_FAULTS", 5); done < want && !t.Failed(); {
		for _, name := range r.round(c, list) {
			count[name[:strings.LastIndexByte(name, ' ')]]++
			done++
		}
		checked += c.checkPast(checked)
	}
	stop()
	c.work.Wait()
	if r.ills != nil {
		r.revive()
	}
	r.await(3)
	c.checkAll(t.Context())
	for text, n := range c.refused {
		t.Logf("refused %d: %s", n, text)
	}
	t.Logf("%d faults, %v: %d writes, %d reads, %d writes of unknown outcome, %d secrets; of nodes with a failing disk %v", done, count, c.wrote.Load(), c.read.Load(), c.doubted.Load(), len(c.past), r.count)
}

// TestFullDiskOfLeader fills the active node's disk: another takes over and takes writes, and the full one reads on.
func TestFullDiskOfLeader(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("the wires tell nodes by /proc/net/tcp")
	}
	r := newRack(t, 1)
	if !r.disks {
		t.Skip("a small disk needs the right to mount")
	}
	old := r.leader()
	old.must("PUT", "secret/before", map[string]any{"v": "1"})
	if err := fill(filepath.Join(old.dir, "ballast"), old.dir, 4<<20); err != nil {
		t.Fatal(err)
	}
	// The log may have room for some writes yet. What is refused is told why.
	write := func() bool {
		a, err := old.call(t.Context(), "PUT", "secret/after", old.root, map[string]any{"v": "2"})
		if text := fmt.Sprint(a.body); err == nil && a.code != 204 && !(a.code == 503 && strings.Contains(text, "full") && strings.Contains(text, "nothing was written")) &&
			!strings.Contains(text, "active") { // while another takes over
			t.Errorf("refused with %d %s", a.code, text)
		}
		return err == nil && a.code == 204
	}
	await(t, "another active node", func() bool { write(); return r.leader() != old })
	await(t, "a write through the node with the full disk", write)
	for key, want := range map[string]string{"before": "1", "after": "2"} {
		if a := old.get("secret/" + key); a.text("data", "v") != want {
			t.Errorf("%s at the node with the full disk: %d %v", key, a.code, a.body)
		}
	}
}

// artifacts is where what a failed test leaves to be looked at is written.
func artifacts(t testing.TB) string {
	if dir := os.Getenv("ARCA_TORTURE_DIR"); dir != "" {
		return dir
	}
	dir, err := os.MkdirTemp("", "arca-torture-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
