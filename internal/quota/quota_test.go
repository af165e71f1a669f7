package quota

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func TestTake(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	k, err := NewKeeper(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	put := func(rules ...Rule) {
		t.Helper()
		err := db.Update(t.Context(), func(tx storage.Tx) error {
			for i := range rules {
				if _, err := Put(tx, Rate, &rules[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if k.Any() {
		t.Error("there are rules")
	}
	put(
		Rule{Name: "all", Rate: 100, Interval: time.Minute, Inheritable: true},
		Rule{Name: "mount", Mount: "kv/", Rate: 3, Interval: time.Minute, Block: 5 * time.Minute},
		Rule{Name: "path", Mount: "kv/", Below: "data/*", Rate: 1, Interval: time.Minute},
		Rule{Name: "ns", Namespace: "a/", Rate: 2, Interval: time.Minute},
		Rule{Name: "role", Mount: "auth/approle/", Role: "r", Rate: 1, Interval: time.Minute},
	)
	now := time.Unix(1e9, 0)
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	for i, c := range []struct {
		after  time.Duration
		target Target
		path   string
		client netip.Addr
		want   string
	}{
		{0, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount true 2"},
		{0, Target{Mount: "kv/", Below: "data/x"}, "kv/data/x", one, "path true 0"},
		{0, Target{Mount: "kv/", Below: "data/x"}, "kv/data/x", one, "path false 0"},
		{0, Target{Mount: "kv/", Below: "data/x"}, "kv/data/x", two, "path true 0"}, // another client
		{time.Minute, Target{Mount: "kv/", Below: "data/x"}, "kv/data/x", one, "path true 0"},
		{0, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount true 2"},
		{0, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount true 1"},
		{0, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount true 0"},
		{0, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount false 0"},
		{2 * time.Minute, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount false 0"}, // still blocked
		{4 * time.Minute, Target{Mount: "kv/", Below: "x"}, "kv/x", one, "mount true 2"},
		{0, Target{Namespace: "a/", Mount: "kv/"}, "a/kv/x", one, "ns true 1"},
		{0, Target{Namespace: "a/b/", Mount: "kv/"}, "a/b/kv/x", one, "all true 99"}, // ns is not inherited
		{0, Target{Mount: "auth/approle/", Below: "login", Role: "r"}, "auth/approle/login", one, "role true 0"},
		{0, Target{Mount: "auth/approle/", Below: "login", Role: "s"}, "auth/approle/login", one, "all true 98"},
		{0, Target{}, "sys/health", one, " true 0"},
	} {
		now = now.Add(c.after)
		v := k.Take(&c.target, c.path, Client{Addr: c.client}, now)
		if got := fmt.Sprint(v.Rule, " ", v.Allowed, " ", v.Remaining); got != c.want {
			t.Errorf("%d: %s, want %s", i, got, c.want)
		}
	}
	// By entities, with a rate of its own for those without one, and all together.
	put(
		Rule{Name: "person", Mount: "p/", Rate: 2, Secondary: 1, GroupBy: ByEntityThenIP, Interval: time.Minute},
		Rule{Name: "person2", Mount: "p2/", Rate: 2, GroupBy: ByEntityThenNone, Interval: time.Minute},
		Rule{Name: "together", Mount: "n/", Rate: 2, GroupBy: ByNone, Interval: time.Minute},
	)
	for i, c := range []struct {
		mount  string
		client Client
		want   string
	}{
		{"p/", Client{Addr: one, Entity: "e"}, "person true 1"},
		{"p/", Client{Addr: two, Entity: "e"}, "person true 0"}, // the address does not count
		{"p/", Client{Addr: one, Entity: "e"}, "person false 0"},
		{"p/", Client{Addr: one, Entity: "f"}, "person true 1"},
		{"p/", Client{Addr: one, Entity: ""}, "person true 0"}, // the secondary rate
		{"p/", Client{Addr: one, Entity: ""}, "person false 0"},
		{"p/", Client{Addr: two, Entity: ""}, "person true 0"},
		{"p2/", Client{Addr: one, Entity: "e"}, "person2 true 1"},
		{"p2/", Client{Addr: one, Entity: ""}, "person2 true 1"}, // the rate
		{"p2/", Client{Addr: two, Entity: ""}, "person2 true 0"},
		{"p2/", Client{Addr: one, Entity: ""}, "person2 false 0"},
		{"p2/", Client{Addr: one, Unasked: true}, "person2 true 1"}, // not with those of nobody
		{"p2/", Client{Addr: one, Unasked: true}, "person2 true 0"},
		{"p2/", Client{Addr: one, Unasked: true}, "person2 false 0"},
		{"p2/", Client{Addr: two, Unasked: true}, "person2 true 1"},
		{"n/", Client{Addr: one, Entity: "e"}, "together true 1"},
		{"n/", Client{Addr: two, Entity: ""}, "together true 0"},
		{"n/", Client{Addr: two, Unasked: true}, "together false 0"},
		{"n/", Client{Addr: two, Entity: "f"}, "together false 0"},
	} {
		v := k.Take(&Target{Mount: c.mount}, c.mount+"x", c.client, now)
		if got := fmt.Sprint(v.Rule, " ", v.Allowed, " ", v.Remaining); got != c.want {
			t.Errorf("groups %d: %s, want %s", i, got, c.want)
		}
	}
	// What one rule remembers is bounded.
	r := k.set.Load().rules[0]
	for i := range maxClients + 10 {
		r.take(Client{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, now)
	}
	if n := len(r.clients); n > maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	// A rule that goes bounds nobody any more.
	if err := db.Update(t.Context(), func(tx storage.Tx) error { _, err := Delete(tx, Rate, "mount"); return err }); err != nil {
		t.Fatal(err)
	}
	if v := k.Take(&Target{Mount: "kv/", Below: "x"}, "kv/x", Client{Addr: one}, now); v.Rule != "all" {
		t.Errorf("after its end: %+v", v)
	}
}
