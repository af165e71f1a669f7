package arcatest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The ports of [FreePort] are below those that the system gives to who asks for
// any, so that no other test, which listens at port 0, gets one before it is used.
const lowPort, highPort, portBlock = 20_000, 32_000, 800

// ports are those of this process: a block that is its own for as long as it
// runs, since it listens at the first of them, so that neither two tests of one
// process nor those of two are given the same.
var ports = sync.OnceValues(func() (*portRange, error) {
	blocks := (highPort - lowPort) / portBlock
	start := rand.IntN(blocks)
	for i := range blocks {
		first := lowPort + (start+i)%blocks*portBlock
		l, err := listenAt(first)
		if err != nil {
			continue
		}
		r := &portRange{guard: l, end: int64(first + portBlock)}
		r.next.Store(int64(first + 1))
		return r, nil
	}
	return nil, errors.New("no block of ports is free")
})

type portRange struct {
	guard net.Listener // open until the process ends
	next  atomic.Int64
	end   int64
}

// FreePort is a TCP port of 127.0.0.1 at which nobody listens, and which no other
// test of this machine is given.
func FreePort(tb testing.TB) int {
	tb.Helper()
	r, err := ports()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		port := r.next.Add(1) - 1
		if port >= r.end {
			tb.Fatalf("a process of tests has %d ports; take more in port.go", portBlock)
		}
		l, err := listenAt(int(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		return int(port)
	}
}

func listenAt(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
