package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func fileDevice(path, file string) Device {
	return Device{Path: path, Type: "file", Options: map[string]string{"file_path": file}}
}

func disable(t *testing.T, db *storage.DB, path string) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx storage.Tx) error { return Disable(tx, path) }); err != nil {
		t.Fatal(err)
	}
}

// S3-40, S3-41, S3-42, S3-46: a device is used from its commit to the commit
// that removes it, and hashes as audit-hash does.
func TestEnableAndDisable(t *testing.T) {
	b, db := newBroker(t, 0)
	if b.Enabled() {
		t.Fatal("audit is on by default")
	}
	if err := b.Log(write("kv/before")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.log")
	mustEnable(t, b, db, "f/", "file", map[string]string{"file_path": file})
	if err := b.Log(write("kv/one")); err != nil {
		t.Fatal(err)
	}
	got := readLines(t, file, "kv/one")
	hash, ok := b.Hash("f/", "correct horse")
	if len(got) != 1 || !ok || at(got[0], "request", "data", "password") != hash {
		t.Errorf("got %v, want the hash %s", got, hash)
	}
	if n := len(readLines(t, file, "sys/audit/test")); n != 1 {
		t.Errorf("the device was tried %d times, want once", n)
	}
	var list []Device
	if err := db.View(t.Context(), func(tx storage.Tx) (err error) { list, err = Devices(tx); return err }); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Path != "f/" || list[0].Options["file_path"] != file {
		t.Errorf("got %v", list)
	}
	disable(t, db, "f/")
	if b.Enabled() {
		t.Error("the device is still in use")
	}
	if err := b.Log(write("kv/two")); err != nil {
		t.Fatal(err)
	}
	if n := len(readLines(t, file, "kv/two")); n != 0 {
		t.Error("a removed device has records")
	}
	if _, ok := b.Hash("f/", "x"); ok {
		t.Error("a removed device hashes")
	}
	disable(t, db, "f/")
}

func TestEnableRefusals(t *testing.T) {
	b, db := newBroker(t, 0)
	dir := t.TempDir()
	mustEnable(t, b, db, "a/b/", "file", map[string]string{"file_path": filepath.Join(dir, "a.log")})
	for _, c := range []struct {
		name, want string
		device     Device
	}{
		{"same path", "path already in use", fileDevice("a/b/", "discard")},
		{"above", "path already in use", fileDevice("a/", "discard")},
		{"below", "path already in use", fileDevice("a/b/c/", "discard")},
		{"no path", "backend path must be specified", fileDevice("", "discard")},
		{"full disk", "audit backend failed test message: write /dev/full: no space left on device", fileDevice("x/", "/dev/full")},
		{"no folder", "audit device cannot be opened: mkdir /dev/null: not a directory", fileDevice("x/", "/dev/null/a.log")},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := enable(t, b, db, c.device)
			if !errs.Is(err, errs.Invalid) || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if n := len(b.set.Load().devices); n != 1 {
		t.Errorf("%d devices are in use", n)
	}
	if n := len(b.held); n != 0 {
		t.Errorf("%d devices are held open", n)
	}
}

// What is rolled back is not used, and its file is closed.
func TestEnableRolledBack(t *testing.T) {
	b, db := newBroker(t, 0)
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		if err := b.Enable(tx, "id", fileDevice("f/", filepath.Join(t.TempDir(), "a.log"))); err != nil {
			return err
		}
		return errBroken
	})
	if !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	held := b.held["id"]
	b.Abandon("id")
	if b.Enabled() || len(b.held) != 0 {
		t.Error("the device is kept")
	}
	if held.sink.(*fileSink).file != nil {
		t.Error("the file is still open")
	}
}

// Devices, salts and headers survive a restart. One that cannot be opened does
// not keep the node sealed, but none at all does.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	backend := storagetest.NewMap()
	start := func() (*Broker, *storage.DB, error) {
		db := storage.Open(keepOpen{backend}, storage.Config{})
		b, err := NewBroker(context.Background(), Config{DB: db, Log: discardLog()})
		return b, db, err
	}
	b, db, err := start()
	if err != nil {
		t.Fatal(err)
	}
	mustEnable(t, b, db, "one/", "file", map[string]string{"file_path": filepath.Join(dir, "one", "a.log")})
	mustEnable(t, b, db, "two/", "file", map[string]string{"file_path": filepath.Join(dir, "two.log")})
	if err := db.Update(t.Context(), func(tx storage.Tx) error { return SetHeader(tx, "X-Id", false) }); err != nil {
		t.Fatal(err)
	}
	hash, _ := b.Hash("two/", "x")
	b.Close()
	_ = db.Close()

	if err := os.RemoveAll(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "one"), nil, 0o600); err != nil { // no folder any more
		t.Fatal(err)
	}
	if b, db, err = start(); err != nil {
		t.Fatal(err)
	}
	if again, _ := b.Hash("two/", "x"); again != hash {
		t.Error("the salt has changed")
	}
	r := write("kv/again")
	r.Request.Header = map[string][]string{"X-Id": {"7"}}
	if err := b.Log(r); err != nil {
		t.Fatal(err)
	}
	got := readLines(t, filepath.Join(dir, "two.log"), "kv/again")
	if len(got) != 1 || at(got[0], "request", "headers", "x-id") == nil {
		t.Errorf("got %v", got)
	}
	disable(t, db, "two/")
	if err := b.Log(write("kv/none")); err == nil {
		t.Error("the only device cannot be opened, and the record counts as taken")
	}
	b.Close()
	_ = db.Close()

	b, db, err = start()
	if err == nil {
		b.Close()
		t.Error("a broker without any working device started")
	} else if !strings.Contains(err.Error(), "one/") {
		t.Errorf("the error does not name the device: %v", err)
	}
	_ = db.Close()
}

type keepOpen struct{ storage.Backend }

func (keepOpen) Close() error { return nil }

func TestReload(t *testing.T) {
	b, db := newBroker(t, 0)
	file := filepath.Join(t.TempDir(), "a.log")
	mustEnable(t, b, db, "f/", "file", map[string]string{"file_path": file})
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := b.Log(write("kv/a")); err != nil {
		t.Fatal(err)
	}
	if len(readLines(t, file, "kv/a")) != 1 || len(readLines(t, file+".1", "kv/a")) != 0 {
		t.Error("the record is not in the new file alone")
	}
}

func TestHeaders(t *testing.T) {
	_, db := newBroker(t, 0)
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for i := range maxHeaders {
			if err := SetHeader(tx, "X-"+strings.Repeat("a", i+1), i == 0); err != nil {
				return err
			}
		}
		if err := SetHeader(tx, "x-A", false); err != nil { // known
			return err
		}
		if err := SetHeader(tx, "one-more", false); !errs.Is(err, errs.Invalid) {
			t.Errorf("no bound on headers: %v", err)
		}
		if hmac, err := Header(tx, "X-a"); hmac || err != nil {
			t.Errorf("got %v, %v", hmac, err)
		}
		return DeleteHeader(tx, "X-A")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A device that hangs while it is tried is refused in time.
func TestEnableHangs(t *testing.T) {
	b, _ := newBroker(t, 20*time.Millisecond)
	f := newFake()
	f.gate = make(chan struct{})
	d := newDevice(row{Path: "f/"}, f, newEncoder(style{}, nil, ""), discardLog(), b.cfg.Wait)
	if err := b.try(d, []byte("test\n")); err == nil {
		t.Error("a device that hangs was accepted")
	}
}

// A device is enabled, and the store cannot be read at that moment: nothing goes on without the device, which is used as soon as it
// can be read.
func TestStoreUnreadable(t *testing.T) {
	store := storagetest.NewFailing(storagetest.NewMap())
	db := storage.Open(store, storage.Config{})
	unreadable := true
	db.Watch(dir, func(storage.Change) { store.FailReads(unreadable) }) // before the broker hears of it
	b, err := NewBroker(t.Context(), Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		if err := errors.Join(db.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "a.log")
	mustEnable(t, b, db, "f/", "file", map[string]string{"file_path": file})
	if err := b.Log(write("kv/one")); !errs.Is(err, errs.Unavailable) || !b.Enabled() {
		t.Fatalf("a request is served without its record: %v", err)
	}
	unreadable = false
	store.FailReads(false)
	if err := b.Log(write("kv/two")); err != nil {
		t.Fatal(err)
	}
	if one, two := len(readLines(t, file, "kv/one")), len(readLines(t, file, "kv/two")); one != 0 || two != 1 {
		t.Errorf("%d and %d records, want none and one", one, two)
	}
}
