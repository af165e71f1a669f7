package raft

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
)

// TestEnds has a node fail in what raft cannot go on without: it says so, and what to do, before it ends the process.
func TestEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req raft.AppendEntriesRequest
		why string // "" for nothing
	}{
		"a term":               {raft.AppendEntriesRequest{Term: 4}, "the term 4 could not be noted"},
		"a committed entry":    {raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 2, PrevLogTerm: 3, LeaderCommitIndex: 1}, "entry 1 of the raft log, which is committed, cannot be read"},
		"one that is not yet":  {raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 1, PrevLogTerm: 3}, ""},
		"nothing that is read": {raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 2, PrevLogTerm: 3}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ill atomic.Bool
			var out bytes.Buffer
			ended := false
			cfg := Config{
				Dir: t.TempDir(), NodeID: "node1", Log: slog.New(slog.NewTextHandler(&out, nil)),
				Exit: func() { ended = true; runtime.Goexit() },
				fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if ill.Load() && (op.Kind == errorfs.OpFileReadAt || op.Kind == errorfs.OpFileWriteAt) && strings.Contains(op.Path, walDir) {
						return syscall.EIO
					}
					return nil
				})),
			}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.stable.SetUint64([]byte(termKey), 3), s.logs.StoreLog(entryOf(1, 3)), s.logs.StoreLog(entryOf(2, 3)), s.Close()); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(cfg); err != nil { // with nothing in memory
				t.Fatal(err)
			}
			_, transport := raft.NewInmemTransport("node1")
			if err := s.Start(StartOptions{Transport: transport}); err != nil {
				t.Fatal(err)
			}
			ill.Store(true)
			_, other := raft.NewInmemTransport("node2")
			other.Connect("node1", transport)
			c.req.RPCHeader = raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("node2"), Addr: []byte("node2")}
			var resp raft.AppendEntriesResponse
			if err := other.AppendEntries("node1", "node1", &c.req, &resp); err != nil {
				t.Error(err)
			}
			ill.Store(false)
			if ended != (c.why != "") {
				t.Errorf("it ended: %t", ended)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for _, want := range []string{"level=ERROR", c.why, "start arca again", "input/output error"} {
				if c.why != "" && !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q: %s", want, out.String())
				}
			}
		})
	}
}

// TestStateFails has the disk of the state fail when the log is shortened: the node leaves the cluster although no entry comes that it could not apply.
func TestStateFails(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	s, err := Open(Config{
		Dir: t.TempDir(), NodeID: "node1",
		fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if ill.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, stateDirs) {
				return syscall.EIO
			}
			return nil
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	led, gone := make(chan struct{}), make(chan struct{})
	s.Bind(Events{Lead: func() { close(led) }, Follow: func() {
		select {
		case <-led:
			close(gone)
		default: // it has not led yet
		}
	}})
	_, transport := raft.NewInmemTransport("node1")
	if err := s.Start(StartOptions{Transport: transport, Bootstrap: true}); err != nil {
		t.Fatal(err)
	}
	<-led
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "x", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	ill.Store(true)
	if err := s.running.Load().raft.Snapshot().Error(); err == nil {
		t.Error("the log was shortened")
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("it leads on")
	}
	s.Stop()
	if err := s.Err(); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "leaves the cluster until arca is started again") {
		t.Errorf("it says %v", err)
	}
	if v, err := s.Get(t.Context(), "x"); err != nil || string(v) != "1" {
		t.Errorf("what was written is %q, %v", v, err)
	}
	_ = s.Close() // the state says why it cannot be
}
