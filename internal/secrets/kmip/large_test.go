package kmip_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/storage/pebble"
	"arca/internal/ttlv"
)

// BenchmarkLarge is Get, Locate by name and Create in a scope that grows: with a thousand
// objects, and with as many as ARCA_KMIP_OBJECTS says: any of them, and a thousand that are
// in use, spread over all. What Create makes comes on top.
func BenchmarkLarge(b *testing.B) {
	most, err := strconv.Atoi(os.Getenv("ARCA_KMIP_OBJECTS"))
	if err != nil {
		b.Skip("ARCA_KMIP_OBJECTS says how many")
	}
	store, err := pebble.Open(pebble.Config{Dir: b.TempDir() + "/data"})
	if err != nil {
		b.Fatal(err)
	}
	s := arcatest.New(b, arcatest.Config{Backend: store})
	address := freeAddress(b)
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	cert, _ := certificate(b, s, "kmip", "finance", "accounting", all)
	c := dial(b, address, settings(b, s, "kmip", cert))
	var ids []string
	made := 0
	grow := func(to int) {
		began, from := time.Now(), len(ids)
		for len(ids) < to {
			calls := make([]call, min(250, to-len(ids)))
			for i := range calls {
				calls[i] = op(ttlv.OperationCreate, aes(12, name(fmt.Sprint("key-", len(ids)+i)), attr("Fresh", ttlv.Bool(0, false)))...) // else the first Get of each would write
			}
			for _, it := range c.batch(nil, calls...) {
				out, r := outcome(it)
				if r != 0 {
					b.Fatalf("create: %d", r)
				}
				ids = append(ids, out.Get(ttlv.TagUniqueIdentifier).Text())
			}
		}
		if to > from {
			b.Logf("%d more objects in %s: %.0f a second", to-from, time.Since(began).Round(time.Second), float64(to-from)/time.Since(began).Seconds())
		}
	}
	for _, in := range []struct {
		size, used int // how many of them are asked for
	}{{1000, 1000}, {most, most}, {most, 1000}} {
		grow(in.size)
		settle(b)
		for range 2 {
			for _, ask := range []struct {
				name    string
				message func(i int) []byte
			}{
				{"Get", func(i int) []byte { return c.message(nil, op(ttlv.OperationGet, uid(ids[i]))) }},
				{"Locate by name", func(i int) []byte { return c.message(nil, op(ttlv.OperationLocate, name(fmt.Sprint("key-", i)))) }},
				{"Create", func(int) []byte {
					made++
					return c.message(nil, op(ttlv.OperationCreate, aes(12, name(fmt.Sprint("more-", made)))...))
				}},
			} {
				b.Run(fmt.Sprintf("%d of %d/%s", in.used, in.size, ask.name), func(b *testing.B) {
					began := cpu()
					for b.Loop() {
						if _, err := c.send(ask.message(rand.IntN(in.used) * (in.size / in.used))); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(cpu()-began)/float64(b.N)/1e3, "cpu-µs/op")
				})
			}
		}
	}
}

// settle waits until what growing has left to do is done: it is not the requests' cost.
func settle(b *testing.B) {
	b.Helper()
	runtime.GC()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 120 {
		before := cpu()
		<-tick.C
		if cpu()-before < 20*time.Millisecond {
			return
		}
	}
	b.Log("the store is still busy")
}
