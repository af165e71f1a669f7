package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"arca/internal/kes/store"
)

// TestPager cuts the same pages as Page, whatever the order in which names come, and
// keeps few of many.
func TestPager(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var all []string
		for range rnd.IntN(200) {
			all = append(all, fmt.Sprintf("%c%d", 'a'+rnd.IntN(3), rnd.IntN(80)))
		}
		prefix := []string{"", "a", "b1", "zz"}[rnd.IntN(4)]
		from := []string{"", prefix + "4", "b"}[rnd.IntN(3)]
		n := 1 + rnd.IntN(30)
		p := store.NewPager(prefix, from, n)
		for _, name := range all {
			p.Add(name)
		}
		got, next := p.Page()
		want, wantNext := store.Page(slices.Clone(all), prefix, from, n)
		if !slices.Equal(got, want) || next != wantNext || p.Seen() != len(all) {
			t.Fatalf("%q from %q, %d of %q: %q %q, want %q %q", prefix, from, n, all, got, next, want, wantNext)
		}
	}
	p := store.NewPager("", "", 100)
	for i := range 100_000 {
		p.Add(names[i%len(names)])
	}
	if got, _ := p.Page(); len(got) != 100 || cap(got) > 400 {
		t.Errorf("%d names, room for %d", len(got), cap(got))
	}
}

var names = func() (out []string) {
	for i := range 1000 {
		out = append(out, fmt.Sprint("name-", i))
	}
	return out
}()
