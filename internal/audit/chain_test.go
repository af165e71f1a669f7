package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"arca/internal/chain"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A chainedLog is a store with one device that ties its records.
type chainedLog struct {
	t    *testing.T
	db   *storage.DB
	b    *Broker
	file string
}

func newChainedLog(t *testing.T) *chainedLog {
	t.Helper()
	l := &chainedLog{t: t, db: storage.Open(storagetest.NewMap(), storage.Config{}), file: filepath.Join(t.TempDir(), "a.log")}
	t.Cleanup(func() { _ = l.db.Close() })
	l.open()
	mustEnable(t, l.b, l.db, "f/", "file", map[string]string{"file_path": l.file, "hash_chain": "true"})
	return l
}

func (l *chainedLog) open() {
	l.t.Helper()
	b, err := NewBroker(context.Background(), Config{DB: l.db, Log: discardLog()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.b = b
	l.t.Cleanup(b.Close)
}

func (l *chainedLog) log(n int) {
	l.t.Helper()
	for i := range n {
		if err := l.b.Log(write(fmt.Sprint("kv/", i))); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *chainedLog) verify(files ...string) *chain.Verifier {
	l.t.Helper()
	v := chain.NewVerifier()
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := v.Read(filepath.Base(name), bytes.NewReader(raw)); err != nil {
			l.t.Fatal(err)
		}
	}
	return v
}

func (l *chainedLog) wantWhole(lines int, files ...string) {
	l.t.Helper()
	v := l.verify(files...)
	if v.Faults > 0 || len(v.Findings) > 0 || v.Lines != lines {
		l.t.Errorf("%d lines, want %d: %v", v.Lines, lines, v.Findings)
	}
	if ok, err := l.b.Holds("f/", v.Last); err != nil || !ok {
		l.t.Errorf("the last record is not the device's: %v", err)
	}
}

// Many write at once; the file is moved away while the server runs; the server
// is started anew, and the file moved away while it does not run: it is one chain.
func TestChain(t *testing.T) {
	l := newChainedLog(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { l.log(25) })
	}
	all.Wait()
	l.wantWhole(201, l.file)
	if err := os.Rename(l.file, l.file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.b.Reload(); err != nil {
		t.Fatal(err)
	}
	l.log(3)
	l.wantWhole(204, l.file+".1", l.file)
	l.b.Close()
	l.open()
	l.log(2)
	l.wantWhole(206, l.file+".1", l.file)
	l.b.Close()
	if err := os.Rename(l.file, l.file+".2"); err != nil {
		t.Fatal(err)
	}
	l.open()
	l.log(2)
	l.wantWhole(208, l.file+".1", l.file+".2", l.file)
	if head, err := l.b.Chain("f/"); err != nil || head.Seq != 208 {
		t.Errorf("the end is %v, %v", head, err)
	}
}

// After a crash the store knows an old end: the file's counts, behind a line that
// was cut short.
func TestChainAfterCrash(t *testing.T) {
	l := newChainedLog(t)
	l.log(3)
	crashed := l.b
	f, err := os.OpenFile(l.file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"20`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l.open()
	l.log(2)
	if v := l.verify(l.file); v.Faults != 1 || !strings.Contains(v.Findings[0].Text, "cut short") || v.Last.Seq != 6 {
		t.Errorf("%d faults: %v", v.Faults, v.Findings)
	}
	crashed.Close()
}

// What somebody does to the file while the server is down is found: records taken
// away from the end, and records made without the key.
func TestChainTamperedWhileDown(t *testing.T) {
	for name, c := range map[string]struct {
		change func(lines []string) []string
		text   string
	}{
		"cut off": {func(lines []string) []string { return lines[:len(lines)-2] }, "records 4 to 5 of the chain are missing"},
		"forged": {func(lines []string) []string {
			last, _, _ := chain.Parse([]byte(lines[2]))
			forged := chain.NewLink([]byte("guess")).Append(nil, &last.Head, []byte(lines[0][:strings.Index(lines[0], `,"chain"`)]+"}\n"))
			return append(lines[:3], string(forged))
		}, "records 5 to 5 of the chain are missing"},
		"emptied": {func([]string) []string { return nil }, "begins with record 6"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newChainedLog(t)
			l.log(4)
			l.b.Close()
			raw, err := os.ReadFile(l.file)
			if err != nil {
				t.Fatal(err)
			}
			lines := c.change(strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n"))
			if name == "cut off" || name == "forged" {
				lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\n") + "\n"
			}
			if err := os.WriteFile(l.file, []byte(strings.Join(lines, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			l.open()
			l.log(1)
			v := l.verify(l.file)
			if len(v.Findings) == 0 || !strings.Contains(v.Findings[len(v.Findings)-1].Text, c.text) {
				t.Errorf("found %v", v.Findings)
			}
		})
	}
}

// A device that takes a part of a batch: the chain goes on behind that.
func TestChainPartOfBatch(t *testing.T) {
	c, err := newChained([]byte("salt"))
	if err != nil {
		t.Fatal(err)
	}
	c.save = func(chain.Head) {}
	c.head, c.begun = chain.Start(), true
	lines := [][]byte{[]byte("{\"a\":1}\n"), []byte("{\"a\":2}\n"), []byte("{\"a\":3}\n")}
	out := bytes.Clone(c.tie(lines)[0])
	c.took(1)
	out = append(out, bytes.Join(c.tie(lines[2:]), nil)...)
	c.took(1)
	v := chain.NewVerifier()
	if err := v.Read("f", bytes.NewReader(out)); err != nil || len(v.Findings) > 0 || v.Last.Seq != 2 {
		t.Errorf("%v %v", err, v.Findings)
	}
}

func TestChainOptions(t *testing.T) {
	b, db := newBroker(t, 0)
	file := filepath.Join(t.TempDir(), "a.log")
	for _, o := range []map[string]string{{"hash_chain": "perhaps"}, {"hash_chain": "true", "format": "jsonx"}} {
		o["file_path"] = file
		if err := enable(t, b, db, Device{Path: "f/", Type: "file", Options: o}); err == nil {
			t.Errorf("%v is taken", o)
		}
	}
	mustEnable(t, b, db, "f/", "file", map[string]string{"file_path": file})
	if _, err := b.Chain("f/"); err == nil || !strings.Contains(err.Error(), "hash_chain=true") {
		t.Errorf("a device without a chain: %v", err)
	}
	if _, err := b.Chain("g/"); err == nil {
		t.Error("no device has a chain")
	}
}

// Disabling a device takes along what the store knows of its chain.
func TestChainDisabled(t *testing.T) {
	l := newChainedLog(t)
	l.log(1)
	l.b.Close()
	l.open()
	count := func() (n int) {
		err := l.db.View(t.Context(), func(tx storage.Tx) error {
			for _, err := range tx.Keys(chainDir, "") {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count() != 1 {
		t.Fatal("no end is kept")
	}
	disable(t, l.db, "f/")
	if count() != 0 {
		t.Error("the end is kept for nothing")
	}
}
