package raft_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// A line is what raft's own transport over networks speaks by, in the bubble that a test runs in.
type line struct {
	id   string
	all  *sync.Map // *line by their ids
	come chan net.Conn
	quit chan struct{}
	once sync.Once

	mu   sync.Mutex
	open []net.Conn // the transport forgets those that it keeps
}

var _ hraft.StreamLayer = (*line)(nil)

func newLine(id string, all *sync.Map) *line {
	l := &line{id: id, all: all, come: make(chan net.Conn), quit: make(chan struct{})}
	all.Store(id, l)
	return l
}

func (l *line) keep(c net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	return c
}

// Dial implements raft.StreamLayer.
func (l *line) Dial(to hraft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	other, is := l.all.Load(string(to))
	if !is {
		return nil, errGivenUp
	}
	here, there := net.Pipe()
	over := time.NewTimer(timeout)
	defer over.Stop()
	select {
	case other.(*line).come <- there:
		return far{l.keep(here)}, nil
	case <-other.(*line).quit:
	case <-over.C:
	}
	return nil, errGivenUp
}

// Accept implements net.Listener.
func (l *line) Accept() (net.Conn, error) {
	select {
	case c := <-l.come:
		return l.keep(c), nil
	case <-l.quit:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *line) Close() error {
	l.once.Do(func() { close(l.quit) })
	l.cut()
	<-time.After(2 * farTime) // who reads an answer ends, for which the transport does not wait
	return nil
}

// cut ends the connections that there are.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close() // always nil
	}
	l.open = nil
}

// Addr implements net.Listener.
func (l *line) Addr() net.Addr { return &net.UnixAddr{Name: l.id, Net: "unix"} }

// A far connection is one by which answers take their time.
type far struct{ net.Conn }

// Read implements net.Conn.
func (f far) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	time.Sleep(farTime)
	return n, err
}

const farTime = 3 * time.Millisecond

// newLined is a cluster of three, on disks that can fail, that speak by raft's transport over networks.
func newLined(t *testing.T) (c *cluster, wards []*ward) {
	t.Helper()
	var all sync.Map
	c = &cluster{t: t}
	for i := range 3 {
		w := &ward{member: &member{t: t, id: fmt.Sprint("node", i+1)}, disk: vfs.NewCrashableMem(), using: make(chan struct{}, 1)}
		w.mount(raft.Config{})
		w.open()
		w.line = newLine(w.id, &all)
		by := hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{
			Stream: w.line, MaxPool: 3, Timeout: 10 * time.Second, Logger: raft.NewLogger(slog.New(slog.DiscardHandler)),
		})
		if err := w.store.Start(raft.StartOptions{Transport: by, Bootstrap: i == 0}); err != nil {
			t.Fatal(err)
		}
		wards, c.members = append(wards, w), append(c.members, w.member)
	}
	l := c.leader()
	for _, m := range c.members[1:] {
		if err := errors.Join(l.store.Add(m.id, m.id), l.store.Promote(m.id)); err != nil {
			t.Fatal(err)
		}
	}
	return c, wards
}

// TestPipelineRefused has a follower, as its disk fails slowly, refuse what it is sent while more is under way to it, again and again: it gets all when the disk is well, and who
// leads can be stopped. Raft's library would send on to one whose refusal it has heard, and wait for ever for the answers that it does not take any more.
func TestPipelineRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wards := newLined(t)
		l, ill := c.leader(), wards[1]
		ill.slow.Store(int64(20 * time.Millisecond))
		for i := range 20 {
			time.Sleep(5 * time.Second)
			if last, at := l.store.Committed(), ill.store.Committed(); at < last {
				t.Errorf("after %d times, and 5 s: the log of %s leads up to %d of %d", i, ill.id, at, last)
				break
			}
			ill.ails.Store(syncsFail)
			for range 50 {
				if _, err := increment(t.Context(), l.db); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			ill.ails.Store(well)
		}
		stopped := make(chan struct{})
		go func() { c.close(); close(stopped) }()
		select {
		case <-stopped:
		case <-time.After(time.Minute):
			t.Error("who leads cannot be stopped")
		}
	})
}

// TestLogHangs has a leader's log wait for its disk, which neither takes it nor fails, for a minute: another leads soon, and what was written is there in the end, once.
func TestLogHangs(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (*cluster, []*ward){
		"by a pipeline": newLined,
		"one by one":    func(t *testing.T) (*cluster, []*ward) { return newWards(t, 3, raft.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, wards := start(t)
				defer c.close()
				ill := wards[0]
				if ill.member != c.leader() {
					t.Fatal("another leads: this shows nothing")
				}
				if _, err := increment(t.Context(), ill.db); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				ill.slow.Store(int64(time.Minute))
				began := time.Now()
				if _, err := increment(t.Context(), ill.db); err == nil {
					t.Fatal("it has written")
				}
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("who wrote is told after %v", took)
				}
				l := c.leader()
				if _, err := increment(t.Context(), l.db); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("nobody could write for %v", took)
				}
				ill.slow.Store(0)
				time.Sleep(2 * time.Minute)
				c.check(2, 3)
			})
		})
	}
}

// TestLogHangsQuietly has a leader's log wait for its disk for an hour, and nobody else there: it says now and then that it is not caught up.
func TestLogHangsQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, wards := newWards(t, 2, raft.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		if c.leader() != wards[0].member {
			t.Fatal("another leads: this shows nothing")
		}
		time.Sleep(time.Second)
		wards[0].slow.Store(int64(time.Hour))
		if _, err := increment(t.Context(), wards[0].db); err == nil {
			t.Fatal("it has written")
		}
		wards[0].slow.Store(0)
		time.Sleep(2 * time.Hour)
		c.close()
		if n := strings.Count(log.String(), "not caught up yet"); n == 0 || n > 400 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// TestLargeWriteOnSlowDisks has a large entry take longer, on disks that are slow, than a small one may on one that hangs: it is written.
func TestLargeWriteOnSlowDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wards := newWards(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		for _, w := range wards {
			w.slow.Store(int64(8 * time.Second)) // 2 MB a second
		}
		if err := l.db.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("large", make([]byte, 16<<20)) }); err != nil {
			t.Error(err)
		}
		for _, w := range wards {
			w.slow.Store(0)
		}
		time.Sleep(time.Minute)
	})
}

// TestLogHangsAlone has the log of the only voter wait for its disk: nobody else could lead, so it leads on, and is read, with another member that has no vote.
func TestLogHangsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wards := newWards(t, 2, raft.Config{})
		defer c.close()
		l := c.leader()
		if err := l.store.Demote(c.members[1].id); err != nil || l != c.members[0] {
			t.Fatal(l.id, err)
		}
		time.Sleep(5 * time.Second)
		wards[0].slow.Store(int64(30 * time.Second))
		began := time.Now()
		l.underway.Go(func() { _, _ = increment(context.Background(), l.db) }) // of the bubble
		for time.Since(began) < 20*time.Second {
			time.Sleep(time.Second)
			if err := l.store.Fresh(t.Context()); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		wards[0].slow.Store(0)
		time.Sleep(20 * time.Second)
		c.check(1, 1)
	})
}

// TestConnectionsEnd has all connections end between nodes that are well: what is written then waits for new ones, and not for the next heartbeat.
func TestConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wards := newLined(t)
		defer c.close()
		l := c.leader()
		for i := range 20 {
			time.Sleep(time.Second + time.Duration(37*i)*time.Millisecond)
			for _, w := range wards {
				w.line.cut()
			}
			began := time.Now()
			if _, err := increment(t.Context(), l.db); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 150*time.Millisecond {
				t.Errorf("it took %v to write", took)
			}
		}
	})
}
