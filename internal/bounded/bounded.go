// Package bounded keeps what is remembered about strangers from growing, and what is
// done for them at a time.
package bounded

import (
	"maps"
	"slices"
)

// share of the entries goes at once where all are fresh, so that the walk over the map is paid by as many who come.
const share = 8

// MakeRoom sees to it that a map has fewer than most entries. When it is full, what is over goes; if that is less than an
// eighth, then of the others as many as are missing to it, in the order of cmp.
//
// Whoever calls it with each new entry pays, on the average, for a few entries, not for all.
func MakeRoom[K comparable, V any](m map[K]V, most int, over func(V) bool, cmp func(a, b V) int) {
	if len(m) < most {
		return
	}
	keep := most - max(1, most/share)
	maps.DeleteFunc(m, func(_ K, v V) bool { return over(v) })
	if len(m) <= keep {
		return
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp(m[a], m[b]) })
	for _, k := range keys[:len(keys)-keep] {
		delete(m, k)
	}
}
