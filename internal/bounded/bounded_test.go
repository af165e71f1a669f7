package bounded

import (
	"cmp"
	"testing"
)

func TestMakeRoom(t *testing.T) {
	const most = 80
	fill := func(over int) map[int]int {
		m := map[int]int{}
		for i := range most {
			if i < over {
				m[i] = -1
			} else {
				m[i] = i
			}
		}
		return m
	}
	isOver := func(v int) bool { return v < 0 }
	for _, c := range []struct {
		name              string
		over, left, first int
	}{
		{"none is over: the first eighth goes", 0, 70, 10},
		{"few are over: and some of the others", 4, 70, 10},
		{"many are over: and none else", 30, 50, 30},
	} {
		m := fill(c.over)
		MakeRoom(m, most, isOver, cmp.Compare[int])
		if len(m) != c.left {
			t.Errorf("%s: %d are left, want %d", c.name, len(m), c.left)
		}
		for i := range most {
			if _, ok := m[i]; ok != (i >= c.first) {
				t.Errorf("%s: %d is there: %t", c.name, i, ok)
			}
		}
	}
	m := fill(0)
	delete(m, 0)
	if MakeRoom(m, most, isOver, cmp.Compare[int]); len(m) != most-1 {
		t.Errorf("a map that is not full lost some: %d", len(m))
	}
	one := map[int]int{1: 1}
	if MakeRoom(one, 1, isOver, cmp.Compare[int]); len(one) != 0 {
		t.Errorf("a map of one: %v", one)
	}
}

// BenchmarkMakeRoom is one stranger more for a full map.
func BenchmarkMakeRoom(b *testing.B) {
	m := map[int]int{}
	n := 0
	for ; n < 1<<16; n++ {
		m[n] = n
	}
	for b.Loop() {
		MakeRoom(m, 1<<16, func(int) bool { return false }, cmp.Compare[int])
		m[n] = n
		n++
	}
}
