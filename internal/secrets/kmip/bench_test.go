package kmip_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/storage/pebble"
	"arca/internal/ttlv"
)

// cpu is the processor time of this process: client and server.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// echo answers each frame with one of a given size: what TLS and a socket cost.
func echo(b *testing.B, cert tls.Certificate, size int) string {
	b.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	answer := ttlv.Struct(ttlv.TagResponseMessage, ttlv.Bytes(ttlv.TagData, make([]byte, size-16))).Encode()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				header := make([]byte, ttlv.HeaderBytes)
				for {
					if _, err := io.ReadFull(c, header); err != nil {
						return
					}
					n, err := ttlv.Length(header)
					if err != nil {
						return
					}
					if _, err := io.CopyN(io.Discard, c, int64(n-len(header))); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkProtocol is requests by 16 connections, beside a bare TLS server that
// answers frames of the same size. The times are of client and server together.
func BenchmarkProtocol(b *testing.B) {
	store, err := pebble.Open(pebble.Config{Dir: b.TempDir() + "/data"})
	if err != nil {
		b.Fatal(err)
	}
	s := arcatest.New(b, arcatest.Config{Backend: store})
	address := freeAddress(b)
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	cert, _ := certificate(b, s, "kmip", "finance", "accounting", all)
	cfg := settings(b, s, "kmip", cert)
	c := dial(b, address, cfg)
	id := c.create(name("bench"))
	get := c.message(nil, op(ttlv.OperationGet, uid(id)))
	answer, err := c.send(get)
	if err != nil {
		b.Fatal(err)
	}
	bare := echo(b, cert, len(answer))
	var made atomic.Int64
	for _, bench := range []struct {
		name, address string
		message       func() []byte
	}{
		{"Get", address, func() []byte { return get }},
		{"Locate by name", address, func() []byte { return c.message(nil, op(ttlv.OperationLocate, name("bench"))) }},
		{"Create", address, func() []byte {
			return c.message(nil, op(ttlv.OperationCreate, aes(12, name(fmt.Sprint(made.Add(1))))...))
		}},
		{"echo", bare, func() []byte { return get }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.ReportAllocs()
			began := cpu()
			b.RunParallel(func(pb *testing.PB) {
				t := cfg.Clone()
				if bench.address == bare {
					t.InsecureSkipVerify = true
				}
				x := dial(b, bench.address, t)
				for pb.Next() {
					if _, err := x.send(bench.message()); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(cpu()-began)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}
