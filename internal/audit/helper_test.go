package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// processTime is the CPU time that the process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newBroker makes a broker over a new store. Both are closed with the test.
func newBroker(t testing.TB, wait time.Duration) (*Broker, *storage.DB) {
	t.Helper()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	b, err := NewBroker(context.Background(), Config{DB: db, Log: discardLog(), Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		_ = db.Close()
	})
	return b, db
}

func enable(t testing.TB, b *Broker, db *storage.DB, d Device) error {
	t.Helper()
	id := "request-" + d.Path
	defer b.Abandon(id)
	return db.Update(context.Background(), func(tx storage.Tx) error { return b.Enable(tx, id, d) })
}

func mustEnable(t testing.TB, b *Broker, db *storage.DB, path, typ string, options map[string]string) {
	t.Helper()
	if err := enable(t, b, db, Device{Path: path, Type: typ, Options: options}); err != nil {
		t.Fatalf("enable %s: %v", path, err)
	}
}

// readLines returns the lines of a file that hold text, decoded.
func readLines(t *testing.T, file, text string) []map[string]any {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	for l := range strings.Lines(string(raw)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatalf("line %q: %v", l, err)
		}
		if strings.Contains(l, text) {
			out = append(out, m)
		}
	}
	return out
}

// A fakeSink does what a test says.
type fakeSink struct {
	mu      sync.Mutex
	lines   []string
	fail    error
	refuse  error // of open
	opens   int
	writes  int
	gate    chan struct{} // when set, write waits for it
	stopped chan struct{}
	once    sync.Once
}

func newFake() *fakeSink { return &fakeSink{stopped: make(chan struct{})} }

func (s *fakeSink) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	return s.refuse
}

func (s *fakeSink) write(lines [][]byte) (int, bool, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-s.stopped:
			return 0, true, os.ErrClosed
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fail != nil {
		return 0, true, s.fail
	}
	for _, l := range lines {
		s.lines = append(s.lines, string(l))
	}
	return len(lines), false, nil
}

func (s *fakeSink) reload() error { return nil }
func (s *fakeSink) interrupt()    { s.once.Do(func() { close(s.stopped) }) }
func (s *fakeSink) close() error  { return nil }

func (s *fakeSink) set(change func(*fakeSink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// having counts the lines that hold text.
func (s *fakeSink) having(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

// install puts devices over fake sinks into use, without rows.
func install(b *Broker, sinks ...*fakeSink) {
	s := &set{}
	for i, f := range sinks {
		r := row{Path: string(rune('a'+i)) + "/", Type: "fake", Salt: []byte("salt")}
		d := newDevice(r, f, newEncoder(style{accessor: true}, r.Salt, "v1"), b.log, b.cfg.Wait)
		d.freed = &b.crowd
		s.devices = append(s.devices, d)
		b.start(d)
	}
	b.set.Store(s)
}

var errBroken = errors.New("broken")
