package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Wires stand between the cluster addresses of nodes: what one node says to another goes through them, and can be held back
// one way or both, or slowed. What is held back comes later, as TCP would have it, unless the connection ends before. They
// need no rights: who dials is told by whose socket it is.
type wires struct {
	t     testing.TB
	inner []int // ports at which the nodes listen
	work  sync.WaitGroup
	over  chan struct{}
	lis   []net.Listener

	mu      sync.Mutex
	pids    []int
	held    [][]bool          // [from][to]
	slow    [][]time.Duration // likewise
	changed chan struct{}     // closed when held changes
	conns   map[net.Conn]struct{}
}

// newWires returns wires for nodes that listen at the ports inner. Others reach node i at outer[i].
func newWires(t testing.TB, inner, outer []int) *wires {
	t.Helper()
	n := len(inner)
	w := &wires{t: t, inner: inner, over: make(chan struct{}), pids: make([]int, n), changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	for range n {
		w.held, w.slow = append(w.held, make([]bool, n)), append(w.slow, make([]time.Duration, n))
	}
	for to, port := range outer {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			t.Fatal(err)
		}
		w.lis = append(w.lis, l)
		w.work.Go(func() { w.accept(l, to) })
	}
	t.Cleanup(w.close)
	return w
}

func (w *wires) close() {
	close(w.over)
	for _, l := range w.lis {
		_ = l.Close()
	}
	w.mu.Lock()
	for c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.work.Wait()
}

// is says which process node i is.
func (w *wires) is(i, pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pids[i] = pid
}

// hold holds back what the pairs say of which held says so, and nothing else.
func (w *wires) hold(held func(from, to int) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.held {
		for j := range w.held[i] {
			w.held[i][j] = held(i, j)
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// delay slows what is said to and by a node; 0 ends that.
func (w *wires) delay(node int, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.slow {
		w.slow[node][i], w.slow[i][node] = d, d
	}
}

func (w *wires) accept(l net.Listener, to int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.work.Go(func() { w.join(c, to) })
	}
}

// join ties a connection to the node that it is meant for.
func (w *wires) join(c net.Conn, to int) {
	w.track(c)
	defer w.drop(c)
	from := w.caller(c)
	if from < 0 || !w.open(from, to) || !w.open(to, from) {
		return // the caller has gone
	}
	out, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", w.inner[to]))
	if err != nil {
		return
	}
	w.track(out)
	defer w.drop(out)
	var both sync.WaitGroup
	both.Go(func() { w.carry(out, c, from, to) })
	both.Go(func() { w.carry(c, out, to, from) })
	both.Wait()
}

func (w *wires) track(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = struct{}{}
	select {
	case <-w.over:
		_ = c.Close()
	default:
	}
}

func (w *wires) drop(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	_ = c.Close()
}

// carry carries what is said one way, and its end.
func (w *wires) carry(dst, src net.Conn, from, to int) {
	defer func() { _ = dst.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		w.mu.Lock()
		slow := w.slow[from][to]
		w.mu.Unlock()
		if slow > 0 {
			pause := time.NewTimer(slow)
			select {
			case <-pause.C:
			case <-w.over:
				pause.Stop()
			}
		}
		if !w.open(from, to) {
			return
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				_ = src.Close()
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// open returns when nothing is held back that way; false at the end of the test.
func (w *wires) open(from, to int) bool {
	for {
		w.mu.Lock()
		held, changed := w.held[from][to], w.changed
		w.mu.Unlock()
		select {
		case <-w.over:
			return false
		default:
		}
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-w.over:
		}
	}
}

// caller is the node whose process has the other end of a connection; -1 when none has it any more.
func (w *wires) caller(c net.Conn) int {
	remote, _ := c.RemoteAddr().(*net.TCPAddr)
	inode := socketAt(remote.Port)
	if inode == "" {
		return -1
	}
	w.mu.Lock()
	pids := append([]int(nil), w.pids...)
	w.mu.Unlock()
	for i, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && to == "socket:["+inode+"]" {
				return i
			}
		}
	}
	return -1
}

// socketAt is the inode of the socket of 127.0.0.1 at a port.
func socketAt(port int) string {
	raw, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	local := fmt.Sprintf("0100007F:%04X", port)
	for line := range bytes.Lines(raw) {
		f := strings.Fields(string(line))
		if len(f) > 9 && f[1] == local && f[9] != "0" {
			return f[9]
		}
	}
	return ""
}

// TestWires holds back, slows and lets through.
func TestWires(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("the wires tell nodes by /proc/net/tcp")
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	outer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wires{
		t: t, inner: []int{0, inner.Addr().(*net.TCPAddr).Port}, over: make(chan struct{}), pids: []int{os.Getpid(), 0},
		held: [][]bool{{false, false}, {false, false}}, slow: [][]time.Duration{{0, 0}, {0, 0}}, changed: make(chan struct{}),
		conns: map[net.Conn]struct{}{}, lis: []net.Listener{outer},
	}
	w.work.Go(func() { w.accept(outer, 1) })
	t.Cleanup(w.close)
	out, err := net.Dial("tcp", outer.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := inner.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	say := func(from, to net.Conn, text string, arrives bool) {
		t.Helper()
		if _, err := io.WriteString(from, text); err != nil {
			t.Fatal(err)
		}
		wait := 100 * time.Millisecond
		if arrives {
			wait = patience
		}
		_ = to.SetReadDeadline(time.Now().Add(wait))
		got := make([]byte, 64)
		n, _ := io.ReadAtLeast(to, got, len(text))
		if (string(got[:n]) == text) != arrives {
			t.Errorf("%q came as %q", text, strconv.Quote(string(got[:n])))
		}
	}
	say(out, in, "one", true)
	say(in, out, "two", true)
	w.hold(func(from, _ int) bool { return from == 0 })
	say(in, out, "three", true)
	say(out, in, "four", false)
	w.hold(func(int, int) bool { return false })
	say(out, in, "", true)
	_ = in.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "four" {
		t.Errorf("what was held back came as %q, %v", got, err)
	}
}
