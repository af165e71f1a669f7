package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/raft"
)

// pipes are another node's connections to this one, in memory.
type pipes struct {
	from *pass
	to   *web
	over chan struct{}
}

// Dial implements raft.StreamLayer.
func (p pipes) Dial(hraft.ServerAddress, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.to.beside(func() { p.to.greet(theirs) })
	return tls.Client(ours, p.from.client(protoRaft, p.to.pass.id)), nil
}

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	<-p.over
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (p pipes) Close() error { return nil }

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return address("there") }

// slowly is a snapshot that comes in pieces, with a pause before each, and after so many no more.
type slowly struct {
	io.Reader
	ctx    context.Context //nolint:containedctx // of the test
	pause  time.Duration
	pieces int
	last   time.Time
}

// Read implements io.Reader.
func (s *slowly) Read(b []byte) (int, error) {
	if s.pieces == 0 {
		<-s.ctx.Done()
		return 0, io.ErrUnexpectedEOF
	}
	s.pieces--
	<-time.After(s.pause)
	s.last = time.Now()
	return io.ReadFull(s.Reader, b)
}

// snapshot is one that is long enough, of nothing.
func snapshot(t *testing.T) *pebble.Container {
	t.Helper()
	fs := vfs.NewMem()
	f, err := fs.Create("file", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, 8<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	c, err := pebble.Pack(fs, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it was read only
	return c
}

// TestSnapshotStalls has another node begin to send a snapshot, slowly, and be gone: this one waits as long as something comes. Then it gives the snapshot up,
// has what it had, and takes part in elections.
func TestSnapshotStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, log := newRing(t), slog.New(slog.DiscardHandler)
		passOf := func(id string) *pass {
			p, err := newPass(ring, id)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		w, err := openWeb(passOf("here"), "here", nil, log)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		store, err := raft.Open(raft.Config{NodeID: "here", Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		var led atomic.Int32
		store.Bind(raft.Events{Follow: func() {}, Lead: func() { led.Add(1) }, Applied: func(storage.Change) error { return nil }})
		if err := store.Start(raft.StartOptions{Transport: newCarrier(w, log), Bootstrap: true}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}()
		leads := func(times int32) bool {
			for start := time.Now(); time.Since(start) < time.Minute; <-time.After(time.Millisecond) {
				if led.Load() == times {
					return true
				}
			}
			return false
		}
		if !leads(1) {
			t.Fatal("the node does not lead")
		}
		if err := store.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "key", Value: []byte("value")}}); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		there := hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{
			Stream: pipes{passOf("there"), w, over}, MaxPool: transportPool, Timeout: transportTimeout, Logger: raft.NewLogger(log),
		})
		defer func() { there.CloseStreams(); _ = there.Close(); close(over) }() // it never fails
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		all := snapshot(t)
		data := &slowly{Reader: all, ctx: ctx, pause: snapshotPatience - time.Second, pieces: 5}
		_, term := store.Last()
		go func() {
			sent <- there.InstallSnapshot("here", "here", &hraft.InstallSnapshotRequest{
				RPCHeader:       hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte("there"), Addr: []byte("there")},
				SnapshotVersion: hraft.SnapshotVersionMax, Term: term + 1, LastLogIndex: 1000, LastLogTerm: term + 1, Size: all.Size,
				Configuration: hraft.EncodeConfiguration(hraft.Configuration{Servers: []hraft.Server{{ID: "there", Address: "there"}}}),
			}, &hraft.InstallSnapshotResponse{}, data)
		}()
		<-time.After(5 * data.pause)
		synctest.Wait()
		if data.pieces != 0 || led.Load() != 1 {
			t.Fatalf("a snapshot that comes slowly is not taken: %d pieces are left", data.pieces)
		}
		if !leads(2) {
			t.Error("a node whose snapshot does not come takes no part any more")
		}
		if took := time.Since(data.last); took < snapshotPatience || took > snapshotPatience+3*time.Second {
			t.Errorf("it gives up a snapshot %v after something came", took)
		}
		cancel()
		if err := <-sent; err == nil {
			t.Error("the snapshot was taken")
		}
		if v, err := store.Get(t.Context(), "key"); err != nil || string(v) != "value" {
			t.Errorf("the state before is gone: %q, %v", v, err)
		}
		if err := store.Apply(t.Context(), storage.Batch{{Kind: storage.Delete, Key: "key"}}); err != nil {
			t.Error(err)
		}
	})
}
