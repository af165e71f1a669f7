package raft

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

func FuzzEntry(f *testing.F) {
	p := proposal{by: 1, number: 2, after: 3}
	for _, ops := range []storage.Batch{
		nil,
		{{Kind: storage.Put, Key: "a", Value: []byte("b")}, {Kind: storage.Delete, Key: "c"}, {Kind: storage.DeletePrefix, Key: ""}},
		{{Kind: storage.Put, Key: "empty"}},
	} {
		data, err := p.encode(ops)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data, nil)
		if err != nil {
			return
		}
		again, err := e.encode(e.ops)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := decodeEntry(again, nil)
		if err != nil || !reflect.DeepEqual(twice, e) {
			t.Errorf("%v became %v, %v", e, twice, err)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("from", 0o700); err != nil {
		f.Fatal(err)
	}
	for name, text := range map[string]string{"a": "one", "b": "", "c.sst": "three"} {
		w, err := fs.Create(fs.PathJoin("from", name), writeCategory)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			f.Fatal(err)
		}
		_ = w.Close()
	}
	c, err := pebble.Pack(fs, "from")
	if err != nil {
		f.Fatal(err)
	}
	good, err := io.ReadAll(c)
	if err != nil || int64(len(good)) != c.Size {
		f.Fatalf("%d bytes, %d were promised, %v", len(good), c.Size, err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte(pebble.ContainerMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		to := vfs.NewMem()
		err := pebble.Unpack(bytes.NewReader(data), to, "to")
		if bytes.Equal(data, good) != (err == nil) && len(data) <= len(good) {
			t.Errorf("unpack: %v", err)
		}
		if names, _ := to.List(""); len(names) > 1 {
			t.Errorf("files beside the folder: %q", names)
		}
	})
}

// TestRecover makes one survivor of three a cluster of its own, by peers.json. What its log holds is kept.
func TestRecover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAlone(t, dir, false)
	r := s.running.Load()
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "kept", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	// Two voters who will never be heard of: this node cannot lead any more.
	for _, id := range []string{"lost1", "lost2"} {
		_ = r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, 100*time.Millisecond) // it cannot be committed
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, peersFile)
	for text, good := range map[string]bool{`[{"id":"other","address":"x:1"}]`: false, `nonsense`: false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Dir: dir, NodeID: "node1"})
		if err != nil {
			t.Fatal(err)
		}
		_, transport := raft.NewInmemTransport("node1")
		if err := s.Start(StartOptions{Transport: transport}); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(`[{"id":"node1","address":"node1","non_voter":false}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAlone(t, dir, true)
	if v, err := s.Get(t.Context(), "kept"); err != nil || string(v) != "1" {
		t.Errorf("kept: %q, %v", v, err)
	}
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "new", Value: []byte("1")}}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("peers.json is still there: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openAlone(t *testing.T, dir string, exists bool) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, NodeID: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	leads := make(chan struct{}, 8)
	s.Bind(Events{Lead: func() { leads <- struct{}{} }})
	_, transport := raft.NewInmemTransport("node1")
	if err := s.Start(StartOptions{Transport: transport, Bootstrap: !exists}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-leads:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody leads")
	}
	return s
}

// TestFence gives the state machine entries that were checked against another state: they are void.
func TestFence(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Memory: true, NodeID: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	entry := func(index, after uint64, key string) *raft.Log {
		data, err := proposal{by: 9, number: index, after: after}.encode(storage.Batch{{Kind: storage.Put, Key: key, Value: []byte("x")}})
		if err != nil {
			t.Fatal(err)
		}
		return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data}
	}
	results := fsm{s}.ApplyBatch([]*raft.Log{
		entry(1, 0, "first"), entry(3, 1, "second"), entry(4, 1, "late"), entry(5, 3, "third"), entry(5, 3, "again"),
	})
	for i, void := range []bool{false, false, true, false, false} {
		if (results[i] != nil) != void {
			t.Errorf("entry %d: %v", i, results[i])
		}
	}
	for key, there := range map[string]bool{"first": true, "second": true, "late": false, "third": true, "again": false} {
		if _, err := s.Get(t.Context(), key); (err == nil) != there {
			t.Errorf("%s: %v", key, err)
		}
	}
	if at := s.position(); at != (position{5, 1, 5}) {
		t.Errorf("position %v", at)
	}
}

// TestArchive saves and restores, and refuses what is damaged.
func TestArchive(t *testing.T) {
	t.Parallel()
	s := openAlone(t, t.TempDir(), false)
	defer s.Close()
	ctx := t.Context()
	write := func(value string) {
		t.Helper()
		if err := s.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte(value)}, {Kind: storage.Put, Key: value, Value: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	var file bytes.Buffer
	plain := func(b []byte) ([]byte, error) { return b, nil }
	if err := s.WriteArchive(&file, plain); err != nil {
		t.Fatal(err)
	}
	write("after")
	for i := 0; i < file.Len(); i += 1 + file.Len()/40 {
		bad := bytes.Clone(file.Bytes())
		bad[i] ^= 0x55
		if a, err := s.ReadArchive(bytes.NewReader(bad)); err == nil {
			if err := s.Restore(a); err == nil && i > 12 { // the head of gzip holds what does not count
				t.Errorf("an archive with another byte %d was restored", i)
			}
			_ = a.Close()
		}
		if a, err := s.ReadArchive(bytes.NewReader(file.Bytes()[:i])); err == nil {
			t.Errorf("an archive cut at %d was taken", i)
			_ = a.Close()
		}
	}
	a, err := s.ReadArchive(&file)
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.Snapshot(ctx) // who reads, reads on
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(a); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if v, err := s.Get(ctx, "k"); err != nil || string(v) != "before" {
		t.Errorf("k: %q, %v", v, err)
	}
	if v, err := old.Get(ctx, "k"); err != nil || string(v) != "after" {
		t.Errorf("k for an old reader: %q, %v", v, err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !s.Leading() && time.Now().Before(deadline); {
		pause := time.NewTimer(time.Millisecond)
		<-pause.C
	}
	write("again")
}

// TestArchiveOfNothing refuses archives whose checksums are right and that cannot be a state: raft would end the process over them.
func TestArchiveOfNothing(t *testing.T) {
	t.Parallel()
	s := openAlone(t, t.TempDir(), false)
	defer s.Close()
	for name, test := range map[string]struct {
		meta  raft.SnapshotMeta
		state string
		why   string
	}{
		"an empty state": {raft.SnapshotMeta{Version: 1, Index: 5, Term: 1}, "", "its state is empty"},
		"a high index":   {raft.SnapshotMeta{Version: 1, Index: 1<<64 - 1, Term: 1}, "x", "what it should"},
		"a high term":    {raft.SnapshotMeta{Version: 1, Index: 5, Term: 1<<64 - 1}, "x", "what it should"},
	} {
		meta, err := json.Marshal(test.meta)
		if err != nil {
			t.Fatal(err)
		}
		sums := fmt.Appendf(nil, "%x  meta.json\n%x  state.bin\n", sha256.Sum256(meta), sha256.Sum256([]byte(test.state)))
		var file bytes.Buffer
		gz := gzip.NewWriter(&file)
		out := tar.NewWriter(gz)
		for _, f := range []struct {
			name string
			text []byte
		}{{metaName, meta}, {stateName, []byte(test.state)}, {sumsName, sums}, {sealedName, []byte("x")}} {
			err := out.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.text)), Format: tar.FormatPAX})
			if err == nil {
				_, err = out.Write(f.text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(out.Close(), gz.Close()); err != nil {
			t.Fatal(err)
		}
		a, err := s.ReadArchive(&file)
		if err == nil {
			_ = a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFreshAfterSettle has raft shorten its log when its newest entry is one of its own: the position is beyond all that
// readers can ever wait for.
func TestFreshAfterSettle(t *testing.T) {
	t.Parallel()
	s := openAlone(t, t.TempDir(), false)
	defer s.Close()
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	r := s.running.Load()
	if err := r.raft.Barrier(time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	if err := r.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Fresh(ctx); err != nil {
		t.Errorf("fresh: %v", err)
	}
	m, err := s.Mark(ctx)
	if err != nil || s.Await(ctx, m) != nil {
		t.Errorf("mark %v: %v", m, err)
	}
}

// TestDoubt opens a store again that has restored a snapshot: it knows that it does not know whether others have, until something is written.
func TestDoubt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAlone(t, dir, false)
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := s.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
		t.Fatal(err)
	}
	a, err := s.ReadArchive(&file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Restore(a), a.Close()); err != nil {
		t.Fatal(err)
	}
	at := s.position()
	closed := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	closed()
	if s, err = Open(Config{Dir: dir, NodeID: "node1"}); err != nil {
		t.Fatal(err)
	}
	if d := s.doubted(); d != (doubt{at.index, at.term}) {
		t.Errorf("opened again: in doubt of %v, want %v", d, at)
	}
	if v, err := s.survey(); err != nil || !v.Restored {
		t.Errorf("surveyed: %+v, %v; it has a restored snapshot", v, err)
	}
	for m, good := range map[Mark]bool{
		{Index: at.index - 1, Term: at.term}: false, {Index: at.index, Term: at.term + 1}: false, {Index: at.index, Term: at.term}: true,
	} {
		if err := s.Await(t.Context(), m); (err == nil) != good {
			t.Errorf("read up to %v: %v", m, err)
		}
	}
	closed()
	s = openAlone(t, dir, true)
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("w")}}); err != nil {
		t.Fatal(err)
	}
	if d := s.doubted(); d != (doubt{}) {
		t.Errorf("in doubt of %v after a write", d)
	}
	closed()
	if s, err = Open(Config{Dir: dir, NodeID: "node1"}); err != nil {
		t.Fatal(err)
	}
	if d := s.doubted(); d != (doubt{}) {
		t.Errorf("in doubt of %v after a write, opened again", d)
	}
	if v, err := s.survey(); err != nil || v.Restored {
		t.Errorf("surveyed after a write: %+v, %v", v, err)
	}
	closed()
}

// asked is a Transport that keeps the vote that was asked for.
type asked struct {
	Transport
	vote raft.RequestVoteRequest
}

// RequestVote implements raft.Transport.
func (a *asked) RequestVote(_ raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, _ *raft.RequestVoteResponse) error {
	a.vote = *args
	return nil
}

// TestHeirOfOneTerm: a node that was told to take over, and stood still until the term in which it was told is long over, has no voter break a promise.
func TestHeirOfOneTerm(t *testing.T) {
	t.Parallel()
	to := &asked{}
	in := newInlet(to)
	in.heir.Store(7)
	for _, c := range []struct {
		term       uint64
		told, want bool
	}{{7, true, true}, {9, true, false}, {7, false, false}} {
		req := raft.RequestVoteRequest{Term: c.term, LeadershipTransfer: c.told}
		if err := in.RequestVote("b", "b", &req, &raft.RequestVoteResponse{}); err != nil {
			t.Fatal(err)
		}
		if to.vote.Term != c.term || to.vote.LeadershipTransfer != c.want || req.LeadershipTransfer != c.told {
			t.Errorf("%+v: voters are asked %+v", c, to.vote)
		}
	}
}

// TestPromised: a node that joined a moment before it crashed, so that its state knows nobody and its log does, waits until what it promised is over.
func TestPromised(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Memory: true, NodeID: "node2"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // nothing is kept
	var conf raft.Configuration
	for i, others := range []bool{false, false, true} {
		if is := s.promised(); is != others {
			t.Errorf("with %d members in the log: %t", i, is)
		}
		id := raft.ServerID(fmt.Sprint("node", i+1))
		conf.Servers = append(conf.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id)})
		if err := s.logs.StoreLog(&raft.Log{Index: uint64(i + 1), Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)}); err != nil {
			t.Fatal(err)
		}
	}
}
