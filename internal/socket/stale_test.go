//go:build linux || darwin || freebsd

package socket

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// pair is the two sides of a connection.
func pair(t *testing.T) (here, there net.Conn) {
	t.Helper()
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

// becomes waits for what a look at a connection tells: the other side's doing arrives when it arrives.
func becomes(t *testing.T, what func(net.Conn) bool, c net.Conn, want bool) {
	t.Helper()
	look, late := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer look.Stop()
	for what(c) != want {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("it never becomes %v", want)
		}
	}
}

// TestStale looks at a connection that is quiet, then told something, then closed by one side or the other.
func TestStale(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	becomes(t, Stale, here, false)
	if _, err := io.WriteString(there, "x"); err != nil {
		t.Fatal(err)
	}
	becomes(t, Stale, here, true)
	if n, err := here.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Fatalf("the look took what was there: %d bytes, %v", n, err)
	}
	becomes(t, Stale, here, false)
	there.Close()
	becomes(t, Stale, here, true)
	here, _ = pair(t)
	here.Close()
	if !Stale(here) {
		t.Error("a connection that was closed here is not stale")
	}
}

// TestHungUp looks at a connection that is quiet, then told something, then given up by the other side.
func TestHungUp(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("nobody can look here")
	}
	here, there := pair(t)
	becomes(t, HungUp, here, false)
	if _, err := io.WriteString(there, "x"); err != nil {
		t.Fatal(err)
	}
	becomes(t, Stale, here, true)
	if HungUp(here) {
		t.Error("what was told something has not hung up")
	}
	there.Close()
	becomes(t, HungUp, here, true)
}
