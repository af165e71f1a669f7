package storage_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// FuzzTx reads its input as a program of transactions and compares all they see with a map.
func FuzzTx(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x00\x11\x03\x06\x00\x00\x04\x00\x00"))
	f.Add([]byte("\x00\x10\x01\x00\x20\x02\x02\x10\x00\x00\x12\x01\x04\x00\x00\x05\x00\x01\x06\x00\x00\x05\x00\x00"))
	f.Fuzz(func(t *testing.T, program []byte) {
		db := storage.Open(storagetest.NewMap(), storage.Config{HistoryCommits: 4})
		defer db.Close()
		model := map[string]string{}
		for len(program) >= 3 {
			next := maps.Clone(model)
			undone := errors.New("undone")
			err := db.Update(context.Background(), func(tx storage.Tx) error {
				for len(program) >= 3 {
					op, x, y := program[0], program[1], program[2]
					program = program[3:]
					if op%8 >= 6 {
						if x%4 == 0 {
							return undone
						}
						return nil
					}
					fuzzStep(t, tx, next, op%8, x, y)
				}
				return nil
			})
			switch {
			case err == nil:
				model = next
			case !errors.Is(err, undone):
				t.Fatal(err)
			}
			_ = db.View(context.Background(), func(tx storage.Tx) error {
				for _, op := range []byte{3, 4, 5} {
					fuzzStep(t, tx, model, op, 0, 0)
				}
				return nil
			})
		}
	})
}

// fuzzKey makes a path of one to three parts, some of them odd.
func fuzzKey(x, y byte) string {
	parts := []string{"a", "b", "a0", "a-", "é", "", "\xfe", "b\x00"}
	key := parts[x%8]
	if x&8 != 0 {
		key += "/" + parts[x>>4&7]
	}
	if x&128 != 0 {
		key += "/" + parts[y&7]
	}
	if key == "" {
		key = "k"
	}
	return key
}

func fuzzStep(t *testing.T, tx storage.Tx, model map[string]string, op, x, y byte) {
	key := fuzzKey(x, y)
	dir, name, ok := strings.Cut(key, "/")
	if dir += "/"; !ok {
		dir, name = "", key
	}
	sub := tx.Sub(dir)
	switch op {
	case 0:
		must(t, sub.Put(name, []byte{y}))
		model[key] = string([]byte{y})
	case 1:
		must(t, sub.Delete(name))
		delete(model, key)
	case 2:
		must(t, sub.DeletePrefix(name))
		storagetest.ApplyTo(model, storage.Op{Kind: storage.DeletePrefix, Key: key})
	case 3:
		v, err := sub.Get(name)
		must(t, ignoreNotFound(err))
		if want, ok := model[key]; string(v) != want || ok != (err == nil) {
			t.Fatalf("get %q: %q, %v, want %q", key, v, err, want)
		}
	case 4:
		after := []string{"", "a", "a/", "b"}[y%4]
		got, err := sub.List("", after, int(y>>4%4))
		must(t, err)
		if want := storagetest.ListOf(model, dir, after, int(y>>4%4)); !slices.Equal(got, want) {
			t.Fatalf("list %q after %q: %q, want %q", dir, after, got, want)
		}
	case 5:
		var got, want []string
		for e, err := range sub.Scan("", name) {
			must(t, err)
			got = append(got, fmt.Sprintf("%q=%q", dir+e.Key, e.Value))
		}
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if strings.HasPrefix(k, dir) && (k > key || name == "") {
				want = append(want, fmt.Sprintf("%q=%q", k, model[k]))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("scan %q after %q: %v, want %v", dir, name, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
