package raft

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	old "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/raft/wal"
)

func entryOf(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Data: bytes.Repeat([]byte{byte(index), byte(term)}, 1000)}
}

func wantEntries(t *testing.T, s *Store, first uint64, terms ...uint64) {
	t.Helper()
	if n, err := s.logs.FirstIndex(); err != nil || n != first {
		t.Errorf("the log begins with entry %d, %v", n, err)
	}
	if n, err := s.logs.LastIndex(); err != nil || n != first+uint64(len(terms))-1 {
		t.Errorf("the log leads up to entry %d, %v", n, err)
	}
	for i, term := range terms {
		want := entryOf(first+uint64(i), term)
		var got raft.Log
		if err := s.logs.GetLog(want.Index, &got); err != nil || got.Index != want.Index || got.Term != term || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("entry %d is of term %d, %v", got.Index, got.Term, err)
		}
	}
}

// oldLog makes a log as versions of before had it, which begins with entry 3.
func oldLog(t *testing.T, dir string, last uint64) {
	t.Helper()
	path := filepath.Join(dir, oldLogDir)
	if err := vfs.Default.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := setCurrent(vfs.Default, dir, stateDirs+"1"); err != nil { // as it was before there was a log
		t.Fatal(err)
	}
	meta := &metadb.BoltMetaDB{}
	w, err := old.Open(path, old.WithMetaStore(meta), old.WithSegmentSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= last; i++ {
		if err := w.StoreLog(entryOf(i, 7)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.DeleteRange(1, 2); err != nil {
		t.Fatal(err)
	}
	if err := w.SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
	if err := w.SetUint64([]byte("LastVoteTerm"), 5); err != nil { // it has not voted in the term that it is in
		t.Fatal(err)
	}
	if err := w.Set([]byte("LastVoteCand"), []byte("node2")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := meta.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestImportLog takes over the log of a version of before: as a whole, or, where there is no room, later.
func TestImportLog(t *testing.T) {
	t.Parallel()
	const last = 1500
	dir := t.TempDir()
	oldLog(t, dir, last)
	var full atomic.Bool
	writes := 0
	cfg := Config{Dir: dir, NodeID: "node1", fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.Contains(op.Path, walDir) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpRemoveAll {
			if writes++; writes > 8 {
				return syscall.ENOSPC
			}
		}
		return nil
	}))}
	full.Store(true)
	if s, err := Open(cfg); err == nil {
		t.Fatal("taken over without room")
	} else if s != nil || !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
	full.Store(false)
	for range 2 { // and once more, from where it was taken to
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		terms := bytes.Repeat([]byte{7}, last-2)
		want := make([]uint64, len(terms))
		for i := range want {
			want[i] = 7
		}
		wantEntries(t, s, 3, want...)
		if term, err := s.stable.GetUint64([]byte("CurrentTerm")); err != nil || term != 7 {
			t.Errorf("the term is %d, %v", term, err)
		}
		if vote, err := s.stable.Get([]byte("LastVoteCand")); err != nil || string(vote) != "node2" {
			t.Errorf("the vote was for %q, %v", vote, err)
		}
		if info, err := vfs.Default.Stat(filepath.Join(dir, oldLogDir)); err != nil || info.IsDir() {
			t.Errorf("in the place of the old log is %v, %v", info, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestImportLateTerm takes over a log whose term a heartbeat has set back behind the last vote.
func TestImportLateTerm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	oldLog(t, dir, 3)
	meta := &metadb.BoltMetaDB{}
	w, err := old.Open(filepath.Join(dir, oldLogDir), old.WithMetaStore(meta), old.WithSegmentSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.SetUint64([]byte("LastVoteTerm"), 8), w.Close(), meta.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Dir: dir, NodeID: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	if term, err := s.stable.GetUint64([]byte("CurrentTerm")); err != nil || term != 8 {
		t.Errorf("the term is %d, %v; the last vote was in 8", term, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCutFails has a leader's entries not be stored in the place of others: these are still there, as raft believes, or the node leaves the cluster.
func TestCutFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, applied uint64
		fails          int32 // how many writes
		left           bool
	}{
		"undone":                 {4, 3, 1, false},
		"undone, of all":         {1, 0, 1, false},
		"another segment begins": {4, 3, 2, false},
		"nothing can be written": {4, 3, 1000, true},
		"nothing, of all":        {1, 0, 1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ill atomic.Int32
			cfg := Config{Dir: t.TempDir(), NodeID: "node1", fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileWriteAt && strings.Contains(op.Path, walDir) && ill.Add(-1) >= 0 {
					return syscall.EIO
				}
				return nil
			}))}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(5) {
				if err := s.logs.StoreLog(entryOf(i+1, 1)); err != nil {
					t.Fatal(err)
				}
			}
			s.logs.applied = func() uint64 { return c.applied }
			ill.Store(c.fails)
			if err := s.logs.DeleteRange(c.first, 5); err != nil {
				t.Fatal(err)
			}
			if err := s.logs.StoreLog(entryOf(c.first, 2)); err == nil {
				t.Fatal("an entry is stored that cannot be written")
			}
			if left := s.Err() != nil; left != c.left {
				t.Errorf("the node has left: %v", s.Err())
			}
			wantEntries(t, s, 1, 1, 1, 1, 1, 1)
			ill.Store(0)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			wantEntries(t, s, 1, 1, 1, 1, 1, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestEntriesMissing starts a node whose log begins behind what the state has.
func TestEntriesMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAlone(t, dir, false)
	for i := range 3 {
		if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: fmt.Sprint(i), Value: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	last, err := s.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.logs.Log.DeleteRange(1, last); err != nil {
		t.Fatal(err)
	}
	if err := s.logs.StoreLog(entryOf(last+5, 1)); err != nil {
		t.Fatal(err)
	}
	_, transport := raft.NewInmemTransport("node1")
	if err := s.Start(StartOptions{Transport: transport}); !errs.Is(err, errs.Failed) {
		t.Errorf("it starts: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// tryStart opens and starts a node whose disk is not as it was, and closes it.
func tryStart(t *testing.T, dir string) error {
	t.Helper()
	s, err := Open(Config{Dir: dir, NodeID: "node1"})
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport("node1")
	return errors.Join(s.Start(StartOptions{Transport: transport}), s.Close())
}

// TestVotesOfBefore starts a node with votes that are older than its log.
func TestVotesOfBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, walDir, "votes")
	s, err := Open(Config{Dir: dir, NodeID: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openAlone(t, dir, false)
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), os.WriteFile(path, before, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := tryStart(t, dir); !errs.Is(err, errs.Failed) {
		t.Errorf("it starts: %v", err)
	}
	s, v, err := OpenSurvey(dir, "node1", nil)
	if err != nil || !v.Voteless {
		t.Errorf("surveyed: %+v, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	two := `[{"id": "node1", "address": "node1"}, {"id": "node2", "address": "node2"}]`
	if err := os.WriteFile(filepath.Join(dir, peersFile), []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryStart(t, dir); !errs.Is(err, errs.Invalid) {
		t.Errorf("it starts beside another: %v", err)
	}
	if err := WritePeers(dir, Peer{ID: "node1", Address: "node1"}); err != nil {
		t.Fatal(err)
	}
	if err := openAlone(t, dir, true).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLogLost opens a node whose log and votes are gone: it has voted, and goes on only if the operator says who the cluster is.
func TestLogLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAlone(t, dir, false)
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	at := s.position()
	if err := errors.Join(s.Close(), os.RemoveAll(filepath.Join(dir, walDir))); err != nil {
		t.Fatal(err)
	}
	if err := tryStart(t, dir); !errs.Is(err, errs.Invalid) {
		t.Errorf("it starts: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, peersFile), []byte(`[{"id": "node1", "address": "node1"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAlone(t, dir, true)
	if term := s.running.Load().raft.CurrentTerm(); term <= at.term {
		t.Errorf("it leads in term %d, and has entries of term %d", term, at.term)
	}
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "b", Value: []byte("v")}}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCurrentLost opens a folder that does not say any more which state is the present one: none is removed.
func TestCurrentLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAlone(t, dir, false)
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, currentName)
	name, err := os.ReadFile(path)
	if err := errors.Join(err, s.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if err := tryStart(t, dir); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), stateDirs+"1") {
		t.Errorf("it starts: %v", err)
	}
	if err := os.WriteFile(path, name, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAlone(t, dir, true)
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash before the first state is named leaves no log.
	early := t.TempDir()
	if err := os.Mkdir(filepath.Join(early, stateDirs+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tryStart(t, early); err != nil {
		t.Error(err)
	}
}

// TestVotesLost opens a node whose votes are damaged or lost: it begins with new ones only where it is to be the cluster alone, and it can be looked at.
func TestVotesLost(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"lost":    os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, make([]byte, 8192), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openAlone(t, dir, false)
			if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("v")}}); err != nil {
				t.Fatal(err)
			}
			last, term := s.Last()
			path, peers := filepath.Join(dir, walDir, "votes"), filepath.Join(dir, peersFile)
			if err := errors.Join(s.Close(), damage(path)); err != nil {
				t.Fatal(err)
			}
			before, there := os.ReadFile(path)
			s, v, err := OpenSurvey(dir, "node1", nil)
			if err != nil {
				t.Fatal(err)
			}
			if v.Index != last || v.Term != term || !v.Voteless || len(v.Peers) != 1 {
				t.Errorf("it is surveyed as %+v; its log leads up to entry %d of term %d", v, last, term)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for text, want := range map[string]string{
				"": wal.Advice,
				`[{"id": "node1", "address": "node1"}, {"id": "node2", "address": "node2"}]`: "only alone",
				`[{"id": "node2", "address": "node2"}]`:                                      "does not list this node",
			} {
				if text != "" {
					if err := os.WriteFile(peers, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := tryStart(t, dir); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
					t.Errorf("with %q: it starts, or does not say %q: %v", text, want, err)
				}
				_ = os.Remove(peers) // it may not be there
			}
			if now, err := os.ReadFile(path); !bytes.Equal(now, before) || (err == nil) != (there == nil) {
				t.Error("the votes are others after that")
			}
			if err := WritePeers(dir, Peer{ID: "node1", Address: "node1"}); err != nil {
				t.Fatal(err)
			}
			s = openAlone(t, dir, true)
			if now := s.running.Load().raft.CurrentTerm(); now <= term {
				t.Errorf("it leads in term %d, and has entries of term %d", now, term)
			}
			if _, err := s.Get(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if kept, err := os.ReadFile(path + ".lost"); there == nil && (err != nil || !bytes.Equal(kept, before)) {
				t.Errorf("the damaged votes are not kept: %v", err)
			}
		})
	}
}

// TestEntryUnreadable starts a node with an entry that cannot be read, and that the state has not: it says so, and ends no process.
func TestEntryUnreadable(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	s, err := Open(Config{Dir: t.TempDir(), NodeID: "node1", fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if ill.Load() && op.Kind == errorfs.OpFileReadAt && op.Offset < 1000 && strings.Contains(op.Path, walDir) { // of two entries, the first
			return syscall.EIO
		}
		return nil
	}))})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.logs.StoreLog(entryOf(1, 1)), s.logs.StoreLog(entryOf(2, 1)), s.stable.SetUint64([]byte(termKey), 1)); err != nil {
		t.Fatal(err)
	}
	s.logs.recent = nil
	ill.Store(true)
	_, transport := raft.NewInmemTransport("node1")
	if err := s.Start(StartOptions{Transport: transport}); !errors.Is(err, syscall.EIO) {
		t.Errorf("it starts: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFormerLog starts nodes whose log begins behind what the state has: it is taken for one of before only where the state says so.
func TestFormerLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		noted former
		gone  bool
	}{
		"noted":                   {former{3, 6}, true},
		"not noted":               {former{}, false},
		"it has more by now":      {former{3, 5}, false},
		"the state was elsewhere": {former{2, 6}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			open := func() *Store {
				s, err := Open(Config{Memory: true, NodeID: "node1", fs: fs})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := open()
			err := s.state.Load().Replay(storage.Batch{position{3, 2, 3}.op(), c.noted.op()}, true)
			if err := errors.Join(err, s.stable.SetUint64([]byte(termKey), 2), s.logs.StoreLog(entryOf(5, 1)), s.logs.StoreLog(entryOf(6, 1)), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = open()
			if v, err := s.survey(); (err == nil) != c.gone || c.gone && (v.Index != 3 || v.Term != 2) {
				t.Errorf("surveyed: %+v, %v", v, err)
			}
			_, transport := raft.NewInmemTransport("node1")
			if err := s.Start(StartOptions{Transport: transport}); (err == nil) != c.gone || err != nil && !errs.Is(err, errs.Failed) {
				t.Errorf("started: %v", err)
			}
			if last, err := s.logs.LastIndex(); err != nil || (last == 0) != c.gone {
				t.Errorf("its log leads up to entry %d, %v", last, err)
			}
			if c.gone {
				if err := s.logs.StoreLog(entryOf(4, 2)); err != nil {
					t.Error(err)
				}
				wantEntries(t, s, 4, 2)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
