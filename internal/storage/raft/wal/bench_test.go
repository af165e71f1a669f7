package wal

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

// BenchmarkStore stores single entries of 4 kB, each durably.
func BenchmarkStore(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir() + "/log"})
	if err != nil {
		b.Fatal(err)
	}
	data, index := bytes.Repeat([]byte("x"), 4096), uint64(0)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		index++
		if err := l.StoreLog(&raft.Log{Index: index, Term: 1, Data: data}); err != nil {
			b.Fatal(err)
		}
		if index%10_000 == 0 {
			if err := l.DeleteRange(1, index-5000); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
