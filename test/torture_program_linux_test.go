package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// controlVariable is where a program that is made for it is told what its disk and its clock are to do: see the package torture.
const controlVariable = "ARCA_TORTURE_CONTROL"

// tortured is the program under test, built for having its disk fail and its clock moved; "" where ARCA_BIN names another one.
var tortured = sync.OnceValues(func() (string, error) {
	if os.Getenv("ARCA_BIN") != "" {
		return "", nil
	}
	program := filepath.Join(binFolder, "torture", "vault")
	build := exec.Command("go", "build", "-tags", "torture", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "arca/cmd/arca")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return program, nil
})

// TestOnlyTorturedObeys checks that the program which users have knows nothing of what tortures it.
func TestOnlyTorturedObeys(t *testing.T) {
	t.Parallel()
	program, err := tortured()
	if err != nil {
		t.Fatal(err)
	}
	if program == "" {
		t.Skip("ARCA_BIN names the program")
	}
	for path, want := range map[string]bool{filepath.Join(binFolder, "arca"): false, program: true} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(text, []byte(controlVariable)); got != want {
			t.Errorf("%s knows %s: %t", path, controlVariable, got)
		}
	}
}

// Ills are what befalls a node's disk and clock.
type ills struct {
	file string // by which its process is told
	disk string // "", "syncs-fail", "writes-fail" or "syncs-hang"
	day  time.Duration
	rate float64
	sick bool // its disk has failed since the process began
}

// befall tells a node's process.
func (r *rack) befall(i int, change func(*ills)) {
	r.t.Helper()
	x := &r.ills[i]
	change(x)
	x.sick = x.sick || x.disk != ""
	text := fmt.Sprintf("%s day=%s rate=%v\n", x.disk, x.day, x.rate)
	err := os.WriteFile(x.file+".new", []byte(text), 0o600)
	if err = errors.Join(err, os.Rename(x.file+".new", x.file)); err != nil {
		r.t.Fatal(err)
	}
}

// What a process says whose disk has failed: the first one ends it, and the second its part in the cluster.
const (
	saysEnds   = "arca ends, as raft cannot go on"
	saysLeaves = "this node takes no part in the cluster until arca is started again"
	saysWhat   = "start arca again"
)

// revive starts those anew whose disk has failed, so that they have ended or say that they are to be started again. It may be as well that a node goes on.
func (r *rack) revive() {
	r.t.Helper()
	for i, n := range r.nodes {
		if !r.ills[i].sick || r.ills[i].disk != "" || r.down[i] {
			continue
		}
		select {
		case <-n.done:
			r.endedSick(i)
		default:
			if !strings.Contains(n.output(), saysLeaves) {
				continue
			}
			r.count["left"]++
			n.signal(syscall.SIGTERM)
			if code := n.ended(); code != 0 {
				r.t.Errorf("node %d, which had left the cluster, ended with %d when it was told to stop", i+1, code)
			}
		}
		r.launch(i)
		n.unseal()
	}
}

// endedSick looks at how a process has ended by itself whose disk has failed.
func (r *rack) endedSick(i int) {
	r.t.Helper()
	r.count["ended"]++
	n := r.nodes[i]
	if code, out := n.ended(), n.output(); code != 1 || !strings.Contains(out, saysEnds) || !strings.Contains(out, saysWhat) {
		r.t.Errorf("node %d, whose disk has failed, ended with %d and these words:\n%s", i+1, code, lastLines(out, 20))
	}
}

// lastLines is the last lines of a text.
func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// ailments are the faults that a program made for it does to itself.
func (r *rack) ailments() []fault {
	disk := func(ill string) func(*rack, int) func() {
		return func(r *rack, i int) func() {
			r.befall(i, func(x *ills) { x.disk = ill })
			return func() { r.befall(i, func(x *ills) { x.disk = "" }) }
		}
	}
	list := []fault{{"failing syncs", disk("syncs-fail")}, {"failing disk", disk("writes-fail")}, {"hanging disk", disk("syncs-hang")}}
	if !r.clocks {
		return list
	}
	// Certificates between nodes are good for seven days around the time of who has made them, a day ago at most.
	jump := func() time.Duration { return time.Duration(r.rnd.Int64N(int64(2*mostJump))) - mostJump }
	return append(list,
		fault{"time of day", func(r *rack, i int) func() {
			r.befall(i, func(x *ills) { x.day = jump() })
			return func() { r.befall(i, func(x *ills) { x.day = jump() }) }
		}},
		fault{"clock's rate", func(r *rack, i int) func() {
			r.befall(i, func(x *ills) { x.rate = slowest + r.rnd.Float64()*(fastest-slowest) })
			return func() { r.befall(i, func(x *ills) { x.rate = 1 }) }
		}},
	)
}

// How far clocks are moved. A lease lasts 350 ms by the leader's clock, and the promise on which it rests 850 ms by the voter's: the one may take 2.4 times as long as the other
// (docs/adr/0013), and takes 1.8 times here.
const (
	mostJump = 48 * time.Hour
	slowest  = 0.75
	fastest  = 1.33
)

// A syncs is a rack in which one secret is written, a number each time.
type syncs struct {
	*rack
	number, acked int // of the write tried last, and of that acknowledged last
}

func newSyncs(t *testing.T) *syncs {
	t.Helper()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("the wires tell nodes by /proc/net/tcp")
	}
	r := newRack(t, 2)
	if r.ills == nil {
		t.Skip("ARCA_BIN names a program whose disk neither fails nor hangs")
	}
	return &syncs{rack: r}
}

// write writes through a node, and reports whether that was acknowledged.
func (r *syncs) write(i int) bool {
	r.number++
	ctx, stop := context.WithTimeout(r.t.Context(), time.Second)
	defer stop()
	a, err := r.nodes[i].call(ctx, "PUT", "secret/syncs", r.nodes[i].root, map[string]any{"v": fmt.Sprint(r.number)})
	if err == nil && a.code == 204 {
		r.acked = r.number
	}
	return r.acked == r.number
}

// check looks whether each node shows what was acknowledged last.
func (r *syncs) check() {
	r.t.Helper()
	for _, n := range r.nodes {
		if a := n.get("secret/syncs"); a.text("data", "v") != fmt.Sprint(r.acked) {
			r.t.Errorf("%s has %d %v, and not %d", n.url, a.code, a.body, r.acked)
		}
	}
}

// TestFailingSyncs has the fsyncs of the active node fail, and then those of a standby. Neither acknowledges what is not durable; the process ends with 1 and says why, and
// what to do; and when it is started again on a disk that is well it belongs to the cluster as before.
func TestFailingSyncs(t *testing.T) {
	t.Parallel()
	r := newSyncs(t)
	fail := func(i int) {
		t.Helper()
		r.befall(i, func(x *ills) { x.disk = "syncs-fail" })
		r.nodes[i].says(`control="syncs-fail`)
	}
	// again sees how a process has ended, and starts it again.
	again := func(i int) {
		t.Helper()
		n := r.nodes[i]
		if code := n.ended(); code != 1 {
			t.Errorf("it ended with %d", code)
		}
		for _, want := range []string{saysEnds, "could not be noted, without which this node could vote twice", saysWhat, "input/output error"} {
			if out := n.output(); !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, lastLines(out, 30))
			}
		}
		r.befall(i, func(x *ills) { x.disk = "" })
		r.launch(i)
		n.unseal()
		r.await(3)
		await(t, "a write through the node that was started again", func() bool { return r.write(i) })
		r.check()
	}

	old := r.leads()
	await(t, "a first write", func() bool { return r.write(old) })
	fail(old)
	await(t, "a write by another active node", func() bool { return r.write((old + 1) % 3) })
	again(old)

	// A standby goes on as it is, and the others write without it, until it would have to note a term.
	leader := r.leads()
	standby, third := (leader+1)%3, (leader+2)%3
	fail(standby)
	for range 20 {
		await(t, "a write while a standby's disk fails", func() bool { return r.write(leader) })
	}
	// It counts for nothing: where the third is away there are not most.
	r.nodes[third].stands()
	for range 2 {
		if r.write(leader) {
			t.Error("a write was acknowledged that is on the disk of one node of three")
		}
	}
	r.nodes[third].signal(syscall.SIGCONT)
	await(t, "the standby to be asked for its vote", func() bool {
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		_, _ = r.nodes[leader].call(ctx, "PUT", "sys/step-down", r.nodes[leader].root, nil) // others may lead by now, or none
		select {
		case <-r.nodes[standby].done:
			return true
		default:
			return false
		}
	})
	again(standby)
}

// TestHangingSyncs has the fsyncs of the active node neither succeed nor fail: another takes writes after a while, and when the disk is there again the node follows, with all that was
// acknowledged.
func TestHangingSyncs(t *testing.T) {
	t.Parallel()
	r := newSyncs(t)
	old := r.leads()
	await(t, "a first write", func() bool { return r.write(old) })
	r.befall(old, func(x *ills) { x.disk = "syncs-hang" })
	r.nodes[old].says(`control="syncs-hang`)
	if r.write(old) {
		t.Error("a write was acknowledged that is not on the disk of the active node")
	}
	await(t, "a write by another active node", func() bool { return r.write((old + 1) % 3) })
	r.nodes[old].says("the disk of the raft log does not answer")
	r.befall(old, func(x *ills) { x.disk = "" })
	r.await(3)
	await(t, "a write through the node whose disk is there again", func() bool { return r.write(old) })
	r.check()
}

// stands has all of a process stand still. Where a signal alone has been sent others of its threads may go on for a while.
func (p *process) stands() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	await(p.t, "a process to stand still", func() bool {
		list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		for _, file := range list {
			text, _ := os.ReadFile(file)
			if _, rest, _ := bytes.Cut(text, []byte(") ")); !bytes.HasPrefix(rest, []byte("T")) {
				return false
			}
		}
		return len(list) > 0
	})
}

// TestMovedClock sees that clocks are moved at all: by what a node says of the time.
func TestMovedClock(t *testing.T) {
	t.Parallel()
	program, err := tortured()
	if err != nil {
		t.Fatal(err)
	}
	if program == "" {
		t.Skip("ARCA_BIN names a program whose clock is not moved")
	}
	r := &rack{trio: &trio{t: t}}
	n := raftNode(t, "node1")
	r.nodes = []*node{n}
	r.equip()
	n.start()
	n.initialise()
	if r.clocks = saysMoved(n); !r.clocks {
		t.Skip("the clock of a process cannot be moved here")
	}
	n.must("POST", "sys/mounts/kv2", map[string]any{"type": "kv-v2"})
	ahead := func() time.Duration { // of the machine's
		t.Helper()
		a := n.must("PUT", "kv2/data/x", map[string]any{"data": map[string]any{}})
		data, _ := a["data"].(map[string]any)
		text, _ := data["created_time"].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(at)
	}
	for _, day := range []time.Duration{30 * time.Hour, -30 * time.Hour} {
		r.befall(0, func(x *ills) { x.day = day })
		await(t, fmt.Sprint("a clock that is moved by ", day), func() bool { return (ahead() - day).Abs() < time.Second })
	}
	r.befall(0, func(x *ills) { x.rate = slowest })
	before := ahead()
	await(t, "a slow clock to fall behind", func() bool { return before-ahead() > 500*time.Millisecond })
	r.befall(0, func(x *ills) { x.rate = fastest })
	before = ahead()
	await(t, "a fast one to get ahead", func() bool { return ahead()-before > 500*time.Millisecond })
}

// saysMoved reports whether a node's process can have its clock moved.
func saysMoved(n *node) bool { return strings.Contains(n.output(), "clock=true") }

// equip has the rack's nodes, which are not started yet, run the program that does faults to itself, if there is one.
func (r *rack) equip() {
	r.t.Helper()
	program, err := tortured()
	if err != nil {
		r.t.Fatal(err)
	}
	if program == "" {
		r.t.Log("ARCA_BIN names the program: its disks do not fail, and its clocks are not moved")
		return
	}
	dir := r.t.TempDir() // not on a disk that is filled
	for i, n := range r.nodes {
		x := ills{file: filepath.Join(dir, fmt.Sprint("node", i+1)), rate: 1}
		r.ills = append(r.ills, x)
		n.program, n.env = program, append(n.env, controlVariable+"="+x.file)
	}
}
