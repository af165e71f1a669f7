package arcatest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreePort finds a TCP port of this machine at which nobody listens. It is below
// those that the system gives to who asks for any, so that no other test, which
// listens at port 0, gets it before it is used.
func FreePort(tb testing.TB) int {
	tb.Helper()
	const low, high = 20_000, 32_000
	for range 100 {
		port := low + rand.IntN(high-low) //nolint:gosec // G404: it is no secret
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		return port
	}
	tb.Fatal("no port is free")
	return 0
}
