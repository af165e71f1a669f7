package kmip_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
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
// With a log, it waits for that before each answer.
func echo(b *testing.B, cert tls.Certificate, size int, log *groupLog) string {
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
					if log != nil && log.append() != nil {
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

// A groupLog is a file to which records are appended with one fsync for all that wait: the least
// that a durable write costs.
type groupLog struct {
	file    *os.File
	record  []byte
	waiting chan chan error
}

// recordBytes is what a Create writes, about: the object, its material and its places in the
// indexes.
const recordBytes = 1 << 10

func newGroupLog(b *testing.B) *groupLog {
	b.Helper()
	f, err := os.Create(b.TempDir() + "/log")
	if err != nil {
		b.Fatal(err)
	}
	l := &groupLog{f, make([]byte, recordBytes), make(chan chan error, 1024)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for first := range l.waiting {
			group := []chan error{first}
			for more := true; more; {
				select {
				case next, ok := <-l.waiting:
					if more = ok; ok {
						group = append(group, next)
					}
				default:
					more = false
				}
			}
			_, err := f.Write(bytes.Repeat(l.record, len(group)))
			if err == nil {
				err = f.Sync()
			}
			for _, w := range group {
				w <- err
			}
		}
	}()
	b.Cleanup(func() {
		close(l.waiting)
		<-ended
		_ = f.Close()
	})
	return l
}

func (l *groupLog) append() error {
	done := make(chan error, 1)
	l.waiting <- done
	return <-done
}

// BenchmarkProtocol is requests by 16 connections, beside a bare TLS server that
// answers frames of the same size, and one that writes to a log before. The times are of client
// and server together.
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
	bare, durable := echo(b, cert, len(answer), nil), echo(b, cert, 200, newGroupLog(b))
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
		{"durable echo", durable, func() []byte { return c.message(nil, op(ttlv.OperationCreate, aes(12, name("a name"))...)) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.ReportAllocs()
			began := cpu()
			b.RunParallel(func(pb *testing.PB) {
				t := cfg.Clone()
				if bench.address != address {
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
