// Package storagetest tests storage backends, and breaks them to test what stands on them.
//
// TestBackend is the contract that every backend must pass. Map is the simplest backend there is. Failing makes any backend
// fail where a test wants it to.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"arca/internal/storage"
)

// TestBackend checks that what open returns is a correct storage.Backend. open is called for each subtest and returns an
// empty backend; it registers its own clean-up with t.
func TestBackend(t *testing.T, open func(t *testing.T) storage.Backend) {
	for _, c := range []struct {
		name string
		test func(*testing.T, storage.Backend)
	}{
		{"get", testGet},
		{"order of a batch", testOrder},
		{"prefix", testPrefix},
		{"odd keys and values", testOdd},
		{"own memory", testOwnMemory},
		{"snapshot", testSnapshot},
		{"scan sees one state", testScanState},
		{"random", testRandom},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(key, value string) storage.Op {
	return storage.Op{Kind: storage.Put, Key: key, Value: []byte(value)}
}

func apply(t *testing.T, b storage.Backend, ops ...storage.Op) {
	t.Helper()
	if err := b.Apply(t.Context(), ops); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// dump returns what o selects as "key=value" lines.
func dump(t *testing.T, r storage.Reader, o storage.ScanOptions) []string {
	t.Helper()
	it, err := r.Scan(t.Context(), o)
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return drain(t, it, o.KeysOnly)
}

func drain(t *testing.T, it storage.Iterator, keysOnly bool) []string {
	t.Helper()
	var got []string
	for it.Next() {
		line := string(it.Key())
		if !keysOnly {
			value, err := it.Value()
			if err != nil {
				t.Fatalf("value of %q: %v", it.Key(), err)
			}
			line += "=" + string(value)
		}
		got = append(got, line)
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatalf("iterate: %v", err)
	}
	return got
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func get(r storage.Reader, key string) string {
	value, err := r.Get(context.Background(), key)
	switch {
	case storage.IsNotFound(err):
		return "none"
	case err != nil:
		return err.Error()
	}
	return string(value)
}

func testGet(t *testing.T, b storage.Backend) {
	want(t, "before", []string{get(b, "a")}, "none")
	apply(t, b, put("a", "1"), put("b", "2"))
	want(t, "after put", []string{get(b, "a"), get(b, "b"), get(b, "aa"), get(b, "A")}, "1", "2", "none", "none")
	apply(t, b, put("a", "3"), storage.Op{Kind: storage.Delete, Key: "b"}, storage.Op{Kind: storage.Delete, Key: "c"})
	want(t, "after delete", []string{get(b, "a"), get(b, "b")}, "3", "none")
	apply(t, b)
	want(t, "after nothing", dump(t, b, storage.ScanOptions{}), "a=3")
}

func testOrder(t *testing.T, b storage.Backend) {
	apply(t, b, put("d/old", "1"))
	apply(t, b,
		put("a", "1"), put("a", "2"), storage.Op{Kind: storage.Delete, Key: "a"}, put("a", "3"),
		put("d/x", "gone"), storage.Op{Kind: storage.DeletePrefix, Key: "d/"}, put("d/y", "kept"),
		put("e", "1"), storage.Op{Kind: storage.Delete, Key: "e"})
	want(t, "state", dump(t, b, storage.ScanOptions{}), "a=3", "d/y=kept")
	apply(t, b, storage.Op{Kind: storage.DeletePrefix}, put("z", "1"))
	want(t, "after deleting all", dump(t, b, storage.ScanOptions{}), "z=1")
}

func testPrefix(t *testing.T, b storage.Backend) {
	for _, key := range []string{"a", "a/", "a/b", "a/b/c", "a/b0", "a0", "ab", "b", "\x7f", "a\xff", "a\xff\xff", "é"} {
		apply(t, b, put(key, "v"))
	}
	keys := func(o storage.ScanOptions) []string { o.KeysOnly = true; return dump(t, b, o) }
	want(t, "all", keys(storage.ScanOptions{}),
		"a", "a/", "a/b", "a/b/c", "a/b0", "a0", "ab", "a\xff", "a\xff\xff", "b", "\x7f", "é")
	want(t, "under a/", keys(storage.ScanOptions{Prefix: "a/"}), "a/", "a/b", "a/b/c", "a/b0")
	want(t, "under a/ from a/b/", keys(storage.ScanOptions{Prefix: "a/", From: "a/b/"}), "a/b/c", "a/b0")
	want(t, "from before the prefix", keys(storage.ScanOptions{Prefix: "b", From: "a"}), "b")
	want(t, "from behind the prefix", keys(storage.ScanOptions{Prefix: "a/", From: "b"}))
	want(t, "under a 0xff", keys(storage.ScanOptions{Prefix: "a\xff"}), "a\xff", "a\xff\xff")
	want(t, "under nothing", keys(storage.ScanOptions{Prefix: "c"}))

	it, err := b.Scan(t.Context(), storage.ScanOptions{Prefix: "a", KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var got []string
	for _, to := range []string{"a", "a/b", "a/c", "a/d", "a1"} {
		if !it.Seek([]byte(to)) {
			t.Fatalf("seek %q found nothing", to)
		}
		got = append(got, string(it.Key()))
	}
	it.Next()
	want(t, "seeks and a step", append(got, string(it.Key())), "a", "a/b", "a0", "a0", "ab", "a\xff")
	if it.Seek([]byte("b")) {
		t.Errorf("seek left the prefix: %q", it.Key())
	}

	apply(t, b, storage.Op{Kind: storage.DeletePrefix, Key: "a/b"}, storage.Op{Kind: storage.DeletePrefix, Key: "a\xff"})
	want(t, "after delete", keys(storage.ScanOptions{}), "a", "a/", "a0", "ab", "b", "\x7f", "é")
}

func testOdd(t *testing.T, b storage.Backend) {
	long := strings.Repeat("k", 2000)
	big := strings.Repeat("v", 1<<20)
	apply(t, b, put("empty", ""), put("a b\x00c\n%_'\"\\", "odd"), put(long, "long"), put("big", big))
	want(t, "values", []string{get(b, "empty"), get(b, "a b\x00c\n%_'\"\\"), get(b, long), get(b, "A b")}, "", "odd", "long", "none")
	if got := get(b, "big"); got != big {
		t.Errorf("a value of 1 MiB came back with %d bytes", len(got))
	}
	want(t, "under odd", dump(t, b, storage.ScanOptions{Prefix: "a b\x00c\n%_'\"\\"}), "a b\x00c\n%_'\"\\=odd")
}

func testOwnMemory(t *testing.T, b storage.Backend) {
	value := []byte("one")
	apply(t, b, storage.Op{Kind: storage.Put, Key: "k", Value: value})
	got, err := b.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	got[0] = 'X'
	it, err := b.Scan(t.Context(), storage.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	it.Next()
	if got, err = it.Value(); err != nil {
		t.Fatal(err)
	}
	got[0] = 'Y'
	want(t, "after the caller's changes", []string{get(b, "k")}, "one")
}

func testSnapshot(t *testing.T, b storage.Backend) {
	apply(t, b, put("a", "1"), put("b", "1"), put("d/1", "1"), put("d/2", "1"))
	snap, err := b.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, b, put("a", "2"), storage.Op{Kind: storage.Delete, Key: "b"}, put("c", "2"))
	apply(t, b, storage.Op{Kind: storage.DeletePrefix, Key: "d/"}, put("d/2", "2"), put("d/3", "2"))
	second, err := b.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, b, put("a", "3"), put("b", "3"))
	want(t, "old", dump(t, snap, storage.ScanOptions{}), "a=1", "b=1", "d/1=1", "d/2=1")
	want(t, "old get", []string{get(snap, "a"), get(snap, "b"), get(snap, "c"), get(snap, "d/1")}, "1", "1", "none", "1")
	want(t, "second", dump(t, second, storage.ScanOptions{}), "a=2", "c=2", "d/2=2", "d/3=2")
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	want(t, "second again", dump(t, second, storage.ScanOptions{Prefix: "a"}), "a=2")
	it, err := second.Scan(t.Context(), storage.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "an iterator of the second", drain(t, it, false), "a=2", "c=2", "d/2=2", "d/3=2")
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	want(t, "now", dump(t, b, storage.ScanOptions{}), "a=3", "b=3", "c=2", "d/2=2", "d/3=2")
}

func testScanState(t *testing.T, b storage.Backend) {
	apply(t, b, put("a", "1"), put("c", "1"), put("e", "1"))
	snap, err := b.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	it, err := snap.Scan(t.Context(), storage.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	it.Next()
	apply(t, b, put("b", "2"), storage.Op{Kind: storage.Delete, Key: "c"}, put("e", "2"), put("f", "2"))
	want(t, "the rest", drain(t, it, false), "c=1", "e=1")
}

// testRandom compares the backend and some of its snapshots with a map, through random batches.
func testRandom(t *testing.T, b storage.Backend) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	model := map[string]string{}
	type held struct {
		snap storage.Snapshot
		want []string
	}
	var snaps []held
	key := func() string { return fmt.Sprintf("%c/%c/%d", 'a'+rnd.IntN(3), 'a'+rnd.IntN(3), rnd.IntN(5)) }
	for step := range 300 {
		var batch storage.Batch
		for range rnd.IntN(5) {
			op := randomOp(rnd, key(), fmt.Sprint(step))
			batch = append(batch, op)
			ApplyTo(model, op)
		}
		apply(t, b, batch...)
		if rnd.IntN(10) == 0 {
			snap, err := b.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			snaps = append(snaps, held{snap, lines(model)})
		}
		if len(snaps) > 3 {
			i := rnd.IntN(len(snaps))
			want(t, "snapshot", dump(t, snaps[i].snap, storage.ScanOptions{}), snaps[i].want...)
			_ = snaps[i].snap.Close()
			snaps = slices.Delete(snaps, i, i+1)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	want(t, "end", dump(t, b, storage.ScanOptions{}), lines(model)...)
	for _, h := range snaps {
		want(t, "snapshot", dump(t, h.snap, storage.ScanOptions{}), h.want...)
		_ = h.snap.Close()
	}
}

func randomOp(rnd *rand.Rand, key, value string) storage.Op {
	switch rnd.IntN(10) {
	case 0:
		return storage.Op{Kind: storage.DeletePrefix, Key: key[:2+2*rnd.IntN(2)]}
	case 1, 2, 3:
		return storage.Op{Kind: storage.Delete, Key: key}
	}
	return put(key, value)
}

// ApplyTo does an operation on a model of a store.
func ApplyTo(model map[string]string, op storage.Op) {
	switch op.Kind {
	case storage.Put:
		model[op.Key] = string(op.Value)
	case storage.Delete:
		delete(model, op.Key)
	case storage.DeletePrefix:
		for key := range model {
			if strings.HasPrefix(key, op.Key) {
				delete(model, key)
			}
		}
	}
}

func lines(model map[string]string) []string {
	var out []string
	for key, value := range model {
		out = append(out, key+"="+value)
	}
	sort.Strings(out)
	return out
}
