package kmip

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A page has what it would have of all objects in order, whatever comes before it, also where
// it takes two walks.
func TestPages(t *testing.T) {
	t.Parallel()
	objects := make([]*object, maxKept+2000)
	for i := range objects {
		objects[i] = &object{ID: fmt.Sprint(i)}
	}
	check := func(n, offset, limit int, newest bool) {
		t.Helper()
		p := &page{limit: limit, offset: offset, newest: newest}
		var want []string
		for _, o := range objects[:n] {
			p.add(o)
			want = append(want, o.ID)
		}
		if far := p.far(); far != nil {
			for _, o := range objects[:n] {
				far.add(o)
			}
			p.take(far)
		}
		if newest {
			slices.Reverse(want)
		}
		want = want[min(offset, n):]
		want = want[:min(limit, len(want))]
		var got []string
		for _, l := range p.rest("") {
			got = append(got, l.id)
		}
		if !slices.Equal(got, want) || p.total != n {
			t.Errorf("%d objects, from %d at most %d, newest %v: %d, want %d", n, offset, limit, newest, len(got), len(want))
		}
		if len(p.found) > 2*maxKept {
			t.Errorf("%d are kept", len(p.found))
		}
	}
	for range 300 {
		check(rand.IntN(60), rand.IntN(70), rand.IntN(70), rand.IntN(2) == 0)
	}
	for _, offset := range []int{0, 1, maxKept - 10, maxKept, maxKept + 1990, maxKept + 1999, maxKept + 2000, 1 << 30} {
		check(len(objects), offset, 15, true)
		check(len(objects), offset, maxLocated, true)
		check(len(objects), offset, 15, false)
	}
}
