package cluster

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingIsTaken has a node write to another one that takes it slowly, and then nothing more, as a machine that is gone: the first is waited for, and the second given up.
func TestNothingIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newRing(t)
		ours, theirs := net.Pipe()
		from, err := newPass(ring, "here")
		if err != nil {
			t.Fatal(err)
		}
		to, err := newPass(ring, "there")
		if err != nil {
			t.Fatal(err)
		}
		here, there := tls.Client(ours, from.client(protoRaft, "there")), tls.Server(theirs, to.server())
		greeted := make(chan error, 1)
		go func() { greeted <- there.HandshakeContext(t.Context()) }()
		if err := here.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-greeted; err != nil {
			t.Fatal(err)
		}
		p := patient{&conn{here, func() { _ = ours.Close() }}} // always nil
		const pieces, piece = 5, 1 << 10
		took := make(chan struct{})
		go func() {
			defer close(took)
			for range pieces {
				<-time.After(writePatience - time.Second)
				if _, err := io.ReadFull(there, make([]byte, piece)); err != nil {
					t.Error(err)
				}
			}
		}()
		for range pieces {
			if _, err := p.Write(make([]byte, piece)); err != nil {
				t.Fatalf("what is taken slowly is given up: %v", err)
			}
		}
		<-took
		began := time.Now()
		wrote := make(chan error, 1)
		go func() { _, err := p.Write(make([]byte, piece)); wrote <- err }()
		select {
		case err := <-wrote:
			if err == nil || time.Since(began) != writePatience {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		case <-time.After(time.Hour):
			t.Error("it waits for hours")
			_ = ours.Close() // always nil
			if err := <-wrote; err == nil {
				t.Error("and says that it was taken")
			}
		}
		_ = theirs.Close() // likewise
	})
}
