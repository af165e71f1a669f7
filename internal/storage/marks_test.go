package storage

import (
	"fmt"
	"testing"
)

// The marks may say of an unchanged key that it may have changed, never of a changed one that it is the same.
func TestMarks(t *testing.T) {
	m := newMarks()
	key := func(i int) string { return fmt.Sprint("key/", i) }
	changed := map[string]uint64{}
	for seq := uint64(1); seq <= 3000; seq++ {
		k := key(int(seq*7919) % 1500)
		m.add(&commit{seq: seq, writes: []write{{key: k}}})
		changed[k] = seq
	}
	m.add(&commit{seq: 10, writes: []write{{key: "late"}, {key: key(1)}}}) // as after commits that were taken back
	changed["late"] = 10
	certain := 0
	for k, seq := range changed {
		for _, at := range []uint64{0, seq - 1} {
			if m.same(m.hash(k), at) {
				t.Fatalf("%s changed in %d, and is said to be the same since %d", k, seq, at)
			}
		}
		if m.same(m.hash(k), seq) {
			certain++
		}
	}
	if certain < len(changed)/2 {
		t.Fatalf("only of %d keys of %d the marks know that they are as they were", certain, len(changed))
	}
	m.add(&commit{seq: 4000, deleted: []string{"some/"}})
	if m.same(m.hash(key(3)), 3999) || !m.same(m.hash(key(3)), 4000) {
		t.Fatal("a deleted prefix may have been that of any key, until then and not longer")
	}
}
