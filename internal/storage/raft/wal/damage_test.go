package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample makes a log of three segments: with an end that was removed, a beginning that was, and a whole one.
func sample(t testing.TB) (fs *vfs.MemFS, cfg Config, want []*raft.Log) {
	t.Helper()
	fs = vfs.NewMem()
	cfg = Config{FS: fs, Dir: "log", SegmentBytes: 400}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	add := func(index, term uint64) {
		e := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index)}, 30), Extensions: []byte("x")}
		if err := l.StoreLog(e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	for i := range uint64(7) {
		add(i+1, 1)
	}
	if err := l.DeleteRange(6, 7); err != nil {
		t.Fatal(err)
	}
	want = want[:5]
	for i := range uint64(6) {
		add(i+6, 2)
	}
	votes, err := OpenVotes(fs, cfg.Dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(votes.SetUint64([]byte("CurrentTerm"), 2), votes.Set([]byte("LastVoteCand"), []byte("node2")), votes.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	return fs, cfg, want
}

func content(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(bytes.Clone(b)) // which it may change
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamage changes each byte of a log, and cuts its files short: it says that it is damaged, or has all its entries. The last write alone is taken for
// one that a crash has torn, and so is what is missing at the end of the newest file.
func TestDamage(t *testing.T) {
	t.Parallel()
	fs, cfg, want := sample(t)
	files, err := fs.List(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file == votesName {
			continue
		}
		path := fs.PathJoin(cfg.Dir, file)
		good := content(t, fs, path)
		for i := range good {
			put(t, fs, path, append(append(bytes.Clone(good[:i]), good[i]^0x55), good[i+1:]...))
			tryDamaged(t, cfg, want, 1, file, i)
			put(t, fs, path, good[:i])
			lost := 1
			if file == name(3) {
				lost = len(want)
			}
			tryDamaged(t, cfg, want, lost, file, i)
		}
		put(t, fs, path, good)
	}
	tryDamaged(t, cfg, want, 0, "none", 0)
}

// tryDamaged opens a log, where it can be opened, of which the newest entries may be lost.
func tryDamaged(t *testing.T, cfg Config, want []*raft.Log, lost int, file string, at int) {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		if lost == 0 {
			t.Error(err)
		}
		return
	}
	defer func() { _ = l.Close() }() // it was only read
	last, err := l.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if last > uint64(len(want)) || int(last) < len(want)-lost {
		t.Errorf("%s, byte %d: the log leads up to %d", file, at, last)
	}
	for _, w := range want[:last] {
		var got raft.Log
		if err := l.GetLog(w.Index, &got); err == nil && !equal(&got, w) {
			t.Errorf("%s, byte %d: entry %d is %v", file, at, w.Index, got)
		}
	}
}

// TestSegmentMissing opens a log without a segment in its midst: the entries before it are not taken for the log.
func TestSegmentMissing(t *testing.T) {
	t.Parallel()
	fs, cfg, _ := sample(t)
	if err := fs.Remove(fs.PathJoin(cfg.Dir, name(2))); err != nil {
		t.Fatal(err)
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it was only read
	if first, err := l.FirstIndex(); err != nil || first < 7 {
		t.Errorf("the log begins with entry %d, %v", first, err)
	}
}

// TestFormat pins what is on the disk: logs of before must be read.
func TestFormat(t *testing.T) {
	t.Parallel()
	fs, cfg, want := sample(t)
	files, err := fs.List(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		golden := filepath.Join("testdata", file+".hex")
		text := hex.EncodeToString(bytes.TrimRight(content(t, fs, fs.PathJoin(cfg.Dir, file)), "\x00")) + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		old, err := os.ReadFile(golden)
		if err != nil || string(old) != text {
			t.Errorf("%s is not what it was, %v", file, err)
		}
		b, err := hex.DecodeString(text[:len(text)-1])
		if err != nil {
			t.Fatal(err)
		}
		if file == votesName {
			b = append(b, make([]byte, 2*placeBytes-len(b))...)
		}
		put(t, fs, fs.PathJoin(cfg.Dir, file), append(b, make([]byte, -len(b)&(align-1))...))
	}
	tryDamaged(t, cfg, want, 0, "none", 0)
}

// FuzzSegment opens what is no log, or hardly one.
func FuzzSegment(f *testing.F) {
	fs, cfg, _ := sample(f)
	one, two := content(f, fs, fs.PathJoin(cfg.Dir, name(1))), content(f, fs, fs.PathJoin(cfg.Dir, name(2)))
	f.Add(one, two)
	f.Add(one, two[:len(two)-3])
	f.Add(one[:headerBytes], two[:headerBytes])
	f.Add([]byte{}, []byte(magic))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("log", 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, fs, fs.PathJoin("log", name(1)), one)
		put(t, fs, fs.PathJoin("log", name(2)), two)
		tryOpened(t, fs)
	})
}

// tryOpened opens a log, reads it and writes to it, where that can be done.
func tryOpened(t *testing.T, fs vfs.FS) {
	t.Helper()
	l, err := Open(Config{FS: fs, Dir: "log"})
	if err != nil {
		return
	}
	defer func() { _ = l.Close() }() // what counts was done before
	first, err := l.FirstIndex()
	last, err2 := l.LastIndex()
	if err := errors.Join(err, err2); err != nil || first > last {
		t.Fatal(first, last, err)
	}
	for i := first; i > 0 && i <= last; i++ {
		var got raft.Log
		if err := l.GetLog(i, &got); err == nil && got.Index != i {
			t.Errorf("entry %d is %d", i, got.Index)
		}
	}
	next := last + 1
	if next == 1 {
		next = l.next
	}
	if err := l.StoreLog(&raft.Log{Index: next, Term: 9}); err != nil {
		t.Fatal(err)
	}
	if n, err := l.LastIndex(); err != nil || n != next {
		t.Errorf("the log leads up to %d, not %d, %v", n, next, err)
	}
}

// FuzzFrames opens a log of frames whose checksums are right: the first three bytes of each say of which kind it is, how long, and where its write began.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{kindReset, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0, kindEntry, 32, 0, 5}, false)
	f.Add([]byte{kindCut, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, kindIndex, 13, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 48}, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("log", 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := createSegment(fs, fs.PathJoin("log", name(1)), 1, header{next: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		w, last := writer{to: s, start: headerBytes, at: headerBytes}, int64(0)
		for len(b) >= 3 {
			body := make([]byte, b[1])
			copy(body, b[3:])
			last, w.start = w.at+int64(len(w.buf)), headerBytes+int64(b[2])*align
			if err := w.frame(b[0], body); err != nil {
				t.Fatal(err)
			}
			b = b[min(len(b), 3+len(body)):]
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if sealed {
			if _, err := createSegment(fs, fs.PathJoin("log", name(2)), 2, header{next: 1, before: w.at, index: last}, 0); err != nil {
				t.Fatal(err)
			}
		}
		tryOpened(t, fs)
	})
}

// FuzzVotes opens what are no votes, or hardly.
func FuzzVotes(f *testing.F) {
	fs, cfg, _ := sample(f)
	f.Add(content(f, fs, fs.PathJoin(cfg.Dir, votesName)))
	f.Add(make([]byte, 2*placeBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		put(t, fs, votesName, b)
		v, err := OpenVotes(fs, "", false)
		if err != nil {
			return
		}
		if err := v.Set([]byte("k"), []byte("v")); err != nil {
			return // they may be full
		}
		if v, err = OpenVotes(fs, "", false); err != nil {
			t.Fatal(err)
		}
		if got, err := v.Get([]byte("k")); err != nil || string(got) != "v" {
			t.Errorf("k is %q, %v", got, err)
		}
	})
}

// TestSegmentBack gives a log back the segment that was missing in its midst: nothing was removed meanwhile, as nothing was stored.
func TestSegmentBack(t *testing.T) {
	t.Parallel()
	fs, cfg, want := sample(t)
	path := fs.PathJoin(cfg.Dir, name(2))
	b := content(t, fs, path)
	if err := fs.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, fs, path, b)
	tryDamaged(t, cfg, want, 0, "none", 0)
}
