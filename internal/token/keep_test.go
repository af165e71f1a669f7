package token

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"arca/internal/storage"
)

// TestUpdateKeeps compares the token that is kept when it changes with what a store reads that kept nothing.
func TestUpdateKeeps(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, p := b.create(nil)
	for name, change := range map[string]func(*Entry){
		"bare": func(*Entry) {},
		"full": func(e *Entry) {
			e.Meta, e.Internal = map[string]string{"k": "v"}, map[string]any{"n": 1.5, "l": []any{"x"}}
			e.BoundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			e.NumUses, e.Period, e.EntityID = 9, time.Hour, "e"
		},
		"no policies": func(e *Entry) { e.Policies = nil },
	} {
		id, _ := b.create(p, change)
		b.update(func(tx storage.Tx) error {
			old, err := b.store.Lookup(tx, id, b.now)
			if err != nil {
				return err
			}
			e := old.Clone()
			e.Expires, e.LastRenewal = b.now.Add(2*time.Hour), b.now.Add(time.Minute)
			e.Orphan = true // as one whose parent was revoked alone
			return b.store.Update(tx, old, e)
		})
		kept := b.lookup(id)
		b.close()
		b.open()
		if read := b.lookup(id); !reflect.DeepEqual(kept, read) {
			t.Errorf("%s: kept %+v\nread %+v", name, kept, read)
		}
	}
	b.close()
}
