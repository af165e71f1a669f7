package storage_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func TestForgetDue(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	start := time.Unix(1_000, 0)
	forget := func(tx storage.Tx, now time.Time, most int) (names []string) {
		err := storage.ForgetDue(tx, "due/", now, most, func(name string) error { names = append(names, name); return nil })
		if err != nil {
			t.Error(err)
		}
		return names
	}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for i := range 10 {
			if err := tx.Put(storage.DueKey("due/", start.Add(time.Duration(10-i)*time.Second), fmt.Sprint("x/", i)), []byte{1}); err != nil {
				return err
			}
		}
		if got := forget(tx, start, 5); len(got) > 0 {
			t.Errorf("forgot %v before their time", got)
		}
		if got := forget(tx, start.Add(4*time.Second), 3); !slices.Equal(got, []string{"x/9", "x/8", "x/7"}) {
			t.Errorf("forgot %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx storage.Tx) error {
		if got := forget(tx, start.Add(time.Hour), 100); len(got) != 7 {
			t.Errorf("forgot %v", got)
		}
		keys, err := tx.List("due/", "", 0)
		if len(keys) > 0 {
			t.Errorf("%v are left", keys)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
