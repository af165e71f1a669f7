// Package memory sets how much garbage may pile up before it is collected.
//
// A small server with Go's default collects dozens of times a second under
// load, as its live heap is a few megabytes: a tenth or more of its processor
// time. Here garbage may grow to a floor first; a heap that is larger than that
// is collected as Go would. A server that idles stays small, as it makes no
// garbage.
package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Floor is how large the heap may grow, in bytes, before it is collected for
// the sake of being small.
const Floor = 48 << 20

const goDefault = 100 // percent, as GOGC

// After restTime without a collection the server rests: what it has beyond its
// live heap, if that is more than restBytes, is given back to the system. So a
// server that idles is small again soon after a burst.
const (
	restTime  = 3 * time.Second
	restBytes = 8 << 20
)

// Tune keeps the collector's target at the larger of floor and Go's default,
// from now on, by looking at the live heap after each collection; and it gives
// back what is not needed when there is nothing to do.
func Tune(floor uint64) {
	adjust(floor)
	arm(floor)
}

// sentinel is garbage from the start: its cleanup runs after each collection.
type sentinel struct{ _ [16]byte }

func arm(floor uint64) {
	s := new(sentinel)
	runtime.AddCleanup(s, func(floor uint64) {
		adjust(floor)
		arm(floor)
		cycles, _ := heap()
		time.AfterFunc(restTime, func() {
			if now, spare := heap(); now == cycles && spare > restBytes {
				Release()
			}
		})
	}, floor)
}

// heap returns how many collections there were, and the bytes of the heap beyond
// what was live after the last.
func heap() (cycles, spare uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	var v [5]uint64
	for i := range samples {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			v[i] = samples[i].Value.Uint64()
		}
	}
	return v[0], max(v[2]+v[3]+v[4], v[1]) - v[1]
}

func adjust(floor uint64) {
	debug.SetGCPercent(percent(liveBytes(), floor))
}

// percent is the GOGC at which a live heap of so many bytes grows to the floor.
func percent(live, floor uint64) int {
	const least = 4 << 20 // what Go itself lets a heap grow to at GOGC=100
	live = max(live, least)
	if live >= floor/2 {
		return goDefault
	}
	return int((floor - live) * 100 / live)
}

func liveBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// Release collects garbage now and gives what is free back to the system. It is
// for the end of a burst that took much: Go by itself would keep it for minutes,
// as a server that idles collects nothing. It takes some 10 ms.
func Release() { debug.FreeOSMemory() }
