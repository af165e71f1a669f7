//go:build linux || darwin || freebsd

package socket

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestStale looks at a connection that is quiet, then told something, then closed by one side or the other.
func TestStale(t *testing.T) {
	t.Parallel()
	pair := func() (here, there net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if there, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close(); there.Close() })
		return here, there
	}
	// The other side's doing arrives when it arrives.
	becomes := func(c net.Conn, want bool) {
		t.Helper()
		look, late := time.NewTicker(time.Millisecond), time.After(20*time.Second)
		defer look.Stop()
		for Stale(c) != want {
			select {
			case <-look.C:
			case <-late:
				t.Fatalf("it never becomes %v", want)
			}
		}
	}
	here, there := pair()
	becomes(here, false)
	if _, err := io.WriteString(there, "x"); err != nil {
		t.Fatal(err)
	}
	becomes(here, true)
	if n, err := here.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Fatalf("the look took what was there: %d bytes, %v", n, err)
	}
	becomes(here, false)
	there.Close()
	becomes(here, true)
	here, _ = pair()
	here.Close()
	if !Stale(here) {
		t.Error("a connection that was closed here is not stale")
	}
}
