package activity

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func anywhere(string) bool { return true }

func read(t *testing.T, db *storage.DB, first, last Month) map[Month]Count {
	t.Helper()
	out := map[Month]Count{}
	err := db.View(t.Context(), func(tx storage.Tx) error {
		list, err := Read(tx, first, last, anywhere)
		for _, c := range list {
			sum := out[c.Month]
			sum.All.Add(c.All)
			sum.New.Add(c.New)
			out[c.Month] = sum
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func entity(id string) func() Client {
	return func() Client { return Client{ID: id, Entity: true, Namespace: "root", Mount: "auth_a"} }
}

// Clients come in some months and not in others: how many different ones came in
// any months is the sum of the new ones.
func TestClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01
		db := storage.Open(storagetest.NewMap(), storage.Config{})
		defer db.Close()
		l := NewLog(db, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		start := MonthOf(time.Now())
		months := [][]string{{"a", "b"}, {"a", "c", "n1"}, {}, {"b", "c", "n1", "n2"}}
		for i, clients := range months {
			time.Sleep(time.Until((start + Month(i)).Start().Add(time.Hour)))
			for range 3 { // only once is counted
				for _, c := range clients {
					if c[0] == 'n' {
						l.Saw("key "+c, func() Client { return WithoutEntity("root", []string{c}, "") })
						continue
					}
					l.Saw(c, entity(c))
				}
				time.Sleep(2 * flushEvery)
			}
		}
		for _, c := range []struct {
			first, last Month
			all, fresh  string
		}{
			{0, 3, "2/0 2/1 0/0 2/2", "2/0 1/1 0/0 0/1"},
			{1, 3, "2/1 0/0 2/2", "2/1 0/0 1/1"},
			{2, 3, "0/0 2/2", "0/0 2/2"},
			{0, 0, "2/0", "2/0"},
		} {
			got := read(t, db, start+c.first, start+c.last)
			var all, fresh []string
			for m := c.first; m <= c.last; m++ {
				n := got[start+m]
				all = append(all, fmt.Sprintf("%d/%d", n.All.Entities, n.All.NonEntities))
				fresh = append(fresh, fmt.Sprintf("%d/%d", n.New.Entities, n.New.NonEntities))
			}
			if strings.Join(all, " ") != c.all || strings.Join(fresh, " ") != c.fresh {
				t.Errorf("months %d to %d: %s, new %s; want %s, new %s", c.first, c.last, all, fresh, c.all, c.fresh)
			}
		}
		l.Saw("last", entity("last"))
		cancel()
		<-done
		if n := read(t, db, start+3, start+3)[start+3].All.Entities; n != 3 {
			t.Errorf("%d entities: what was pending at the end is not counted", n)
		}
	})
}

// What is older than it is kept goes, and a client that came since stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := storage.Open(storagetest.NewMap(), storage.Config{})
		defer db.Close()
		err := db.Update(t.Context(), func(tx storage.Tx) error {
			return WriteSettings(tx, Settings{Enabled: "enable", Retention: 2, Report: 2})
		})
		if err != nil {
			t.Fatal(err)
		}
		l := NewLog(db, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		start := MonthOf(time.Now())
		for i := range Month(5) {
			time.Sleep(time.Until((start + i).Start().Add(time.Hour)))
			l.Saw("stays", entity("stays"))
			if i == 0 {
				for n := range 2*perCommit + 1 {
					l.Saw(fmt.Sprint(n), entity(fmt.Sprint("x", n)))
				}
			}
			time.Sleep(2 * flushEvery)
		}
		cancel()
		<-done
		var keys []string
		err = db.View(t.Context(), func(tx storage.Tx) error {
			for k, err := range tx.Keys(dir, "") {
				if err != nil {
					return err
				}
				keys = append(keys, strings.TrimPrefix(k, dir))
			}
			return nil
		})
		want := "c/stays config n/200003/root/auth_a n/200004/root/auth_a n/200005/root/auth_a"
		if err != nil || strings.Join(keys, " ") != want {
			t.Errorf("%v, %v; want %s", keys, err, want)
		}
	})
}

// Switched off, nothing is counted.
func TestDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := storage.Open(storagetest.NewMap(), storage.Config{})
		defer db.Close()
		s := defaults()
		s.Enabled = "disable"
		if err := db.Update(t.Context(), func(tx storage.Tx) error { return WriteSettings(tx, s) }); err != nil {
			t.Fatal(err)
		}
		l := NewLog(db, slog.New(slog.DiscardHandler))
		l.Saw("a", entity("a"))
		l.flush(t.Context())
		if n := read(t, db, 0, MonthOf(time.Now())); len(n) > 0 {
			t.Errorf("counted %v", n)
		}
	})
}

func TestWithoutEntity(t *testing.T) {
	t.Parallel()
	a := WithoutEntity("root", []string{"a", "b"}, "m")
	for _, other := range []Client{
		WithoutEntity("root", []string{"ab"}, "m"), WithoutEntity("root", []string{"a"}, "m"), WithoutEntity("other", []string{"a", "b"}, "m"),
	} {
		if other.ID == a.ID {
			t.Errorf("%+v is the same client as %+v", other, a)
		}
	}
	if WithoutEntity("root", []string{"a", "b"}, "n").ID != a.ID {
		t.Error("the mount makes another client")
	}
}

// Who makes much is always there, however many others make one each.
func TestMakers(t *testing.T) {
	t.Parallel()
	var m Makers
	now := time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)
	for i := range 20 * maxMakers {
		m.Count(Maker{Kind: Tokens, Role: "often"}, now)
		m.Count(Maker{Kind: Tokens, Role: fmt.Sprint("once ", i)}, now)
		if i%2 == 0 {
			m.Count(Maker{Kind: Leases, Namespace: "a/", Role: "creds"}, now)
		}
	}
	top := m.Top("", 2, now, anywhere)
	if len(top) != 2 || top[0].Role != "often" || top[0].Total != 20*maxMakers || top[0].AtMost != 0 || top[0].PerMinute != 20*maxMakers || top[1].Role != "creds" {
		t.Errorf("%+v", top)
	}
	if n := len(m.kinds[Tokens].by); n != maxMakers || n != len(m.kinds[Tokens].heap) {
		t.Errorf("%d makers are kept", n)
	}
	for _, x := range m.Top(Tokens, maxMakers, now, anywhere)[1:] {
		if x.Total-x.AtMost > 1 {
			t.Errorf("%+v made one", x)
		}
	}
	if below := m.Top("", 10, now, func(ns string) bool { return strings.HasPrefix(ns, "a/") }); len(below) != 1 {
		t.Errorf("%+v", below)
	}
	if got := m.Top(Leases, 1, now.Add(time.Minute), anywhere)[0].PerMinute; got != 10*maxMakers {
		t.Errorf("%d in the last minute", got)
	}
	if got := m.Top(Leases, 1, now.Add(2*time.Minute), anywhere)[0].PerMinute; got != 0 {
		t.Errorf("%d in a minute of silence", got)
	}
	m.Count(Maker{Kind: Tokens, Client: strings.Repeat("ä", maxText)}, now)
}

func BenchmarkMakers(b *testing.B) {
	var m Makers
	now := time.Now()
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprint("client ", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Count(Maker{Kind: Tokens, Client: names[i%len(names)]}, now)
	}
}

func BenchmarkSawAgain(b *testing.B) {
	l := NewLog(nil, slog.New(slog.DiscardHandler))
	who := entity("3f2a5e0e-7a35-4bb1-9d9c-5a2b9f2f9f10")
	for b.Loop() {
		l.Saw("3f2a5e0e-7a35-4bb1-9d9c-5a2b9f2f9f10", who)
	}
}
