package token

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A bench is a store of tokens over a backend that can fail.
type bench struct {
	t       testing.TB
	backend *storagetest.Failing
	db      *storage.DB
	store   *Store
	now     time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, backend: storagetest.NewFailing(storagetest.NewMap()), now: time.Now().UTC().Truncate(time.Second)}
	b.open()
	return b
}

// open opens the backend, as a restart does.
func (b *bench) open() {
	b.t.Helper()
	b.db = storage.Open(b.backend, storage.Config{})
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.t.Fatal(err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.t.Fatal(err)
	}
	b.store, err = NewStore(b.db, Keys{
		Hash: []byte("hash"), Accessor: make([]byte, 32),
		Seal:    func(p []byte) ([]byte, error) { return seal.Seal(nil, nil, p, nil), nil },
		Open:    func(c []byte) ([]byte, error) { return seal.Open(nil, nil, c, nil) },
		Mounted: func(_ storage.Tx, _, accessor, _ string) (bool, error) { return accessor != "gone", nil },
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.db.Close(); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) update(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// create makes a token below parent, which may be nil.
func (b *bench) create(parent *Entry, change ...func(*Entry)) (id string, e *Entry) {
	b.t.Helper()
	b.update(func(tx storage.Tx) (err error) {
		id, e, err = b.tryCreate(tx, parent, change...)
		return err
	})
	return id, e
}

func (b *bench) tryCreate(tx storage.Tx, parent *Entry, change ...func(*Entry)) (string, *Entry, error) {
	e := &Entry{
		Policies: []string{"default"}, Path: "auth/token/create", DisplayName: "token", Created: b.now, Renewable: true,
		CreationTTL: time.Hour, Expires: b.now.Add(time.Hour), Type: engine.TokenService, NamespaceID: "root",
	}
	if parent != nil {
		e.Parent = parent.Key
	}
	for _, fn := range change {
		fn(e)
	}
	id, err := b.store.Create(tx, e, "")
	return id, e, err
}

// lookup returns the token as it is stored; nil when it is not valid.
func (b *bench) lookup(id string) (e *Entry) {
	b.t.Helper()
	err := b.db.View(context.Background(), func(tx storage.Tx) (err error) {
		e, err = b.store.Lookup(tx, id, b.now)
		return err
	})
	if errors.Is(err, ErrBad) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// dump is all that the store holds.
func (b *bench) dump() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	err := b.db.View(context.Background(), func(tx storage.Tx) error {
		for kv, err := range tx.Scan("", "") {
			if err != nil {
				return err
			}
			out[kv.Key] = string(kv.Value)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// settle runs the background until it has nothing to do before the tokens
// expire. It must run in a bubble of synctest.
func (b *bench) settle() {
	b.t.Helper()
	q := lease.NewQueue(lease.Config{DB: b.db, Log: slog.New(slog.DiscardHandler), Handlers: map[string]lease.Handler{
		QueueKind: b.store.Expire, CleanupKind: b.store.CleanUp,
		lease.TokenGoneKind: func(_ context.Context, tx storage.Tx, it lease.Item) error { return lease.Cancel(tx, it) },
	}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	q.Run(ctx)
}

func TestCreateAndLookup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	id, made := b.create(nil, func(e *Entry) {
		e.Meta = map[string]string{"k": "<v>"}
		e.Internal = map[string]any{"role": "r"}
		e.BoundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		e.NumUses, e.Period, e.ExplicitMax, e.MaxTTL = 3, time.Minute, time.Hour, 2*time.Hour
		e.Role, e.EntityID, e.Mount, e.LastRenewal = "role", "entity", "auth_x_1", b.now
		e.Wrapped = &Wrapped{CreationPath: "p", TTL: time.Minute, JWT: true, Body: []byte(`{"a":1}`)}
	})
	if !strings.HasPrefix(id, ServicePrefix) || len(id) != len(ServicePrefix)+idLength {
		t.Errorf("the id is %q", id)
	}
	got := b.lookup(id)
	if got == nil {
		t.Fatal("the token is not valid")
	}
	if !reflect.DeepEqual(*got, *made) {
		t.Errorf("got  %+v\nwant %+v", *got, *made)
	}
	err := b.db.View(t.Context(), func(tx storage.Tx) error {
		same, err := b.store.ByAccessor(tx, made.Accessor, b.now)
		if err != nil || same.Key != made.Key {
			t.Errorf("by accessor: %+v, %v", same, err)
		}
		list, err := b.store.Accessors(tx, "root", "", 0)
		if err != nil || len(list) != 1 || list[0] != made.Accessor {
			t.Errorf("accessors %q, %v", list, err)
		}
		if _, err := b.store.Accessors(tx, "root", "x", 0); !errs.Is(err, errs.Invalid) {
			t.Errorf("after what is no accessor: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The id is nowhere in the store, nor is its random part.
	for key, value := range b.dump() {
		if strings.Contains(key+value, strings.TrimPrefix(id, ServicePrefix)) || strings.Contains(key+value, made.Accessor) {
			t.Errorf("the store tells the token: %s %s", key, value)
		}
	}
	b.now = b.now.Add(time.Hour)
	if b.lookup(id) != nil {
		t.Error("an expired token is valid")
	}
	for _, bad := range []string{"", "hvs.", id + "x", id[:len(id)-1], "s." + id[4:], id + ".other", "hvb." + id[4:], strings.Repeat("a", MaxIDBytes+1), "\xff"} {
		if e := b.lookup(bad); e != nil {
			t.Errorf("%q is valid", bad)
		}
	}
}

// S0-17: both shapes of tokens are taken.
func TestCustomIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	for id, want := range map[string]bool{
		"root": true, "myroot": true, "s.abcdefghijklmnopqrstuvwx": true, "hvs.abc": true, "a b/c": true,
		"my.token": false, "hvb.abc": false, "b.abc": false, "hvs.abc.ns": false,
	} {
		err := b.db.Update(t.Context(), func(tx storage.Tx) error {
			_, err := b.store.Create(tx, &Entry{Path: "p", Created: b.now}, id)
			return err
		})
		if want && (err != nil || b.lookup(id) == nil) {
			t.Errorf("%q: %v", id, err)
		}
		if !want && !errs.Is(err, errs.Invalid) {
			t.Errorf("%q was taken: %v", id, err)
		}
	}
	err := b.db.Update(t.Context(), func(tx storage.Tx) error {
		_, err := b.store.Create(tx, &Entry{Path: "p", Created: b.now}, "root")
		return err
	})
	if !errors.Is(err, ErrDuplicate) {
		t.Errorf("a second one: %v", err)
	}
}

func TestRevokeTree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		other, _ := b.create(nil)
		empty := len(b.dump())
		root, top := b.create(nil)
		ids := []string{root}
		// More children, and children of children, than one transaction removes.
		for range inlineChildren + 10 {
			id, child := b.create(top)
			ids = append(ids, id)
			for range 3 {
				id, _ := b.create(child)
				ids = append(ids, id)
			}
		}
		b.update(func(tx storage.Tx) error { return b.store.Revoke(tx, top, b.now) })
		for _, id := range ids {
			if b.lookup(id) != nil {
				t.Fatal("a token below a revoked one is valid")
			}
		}
		if left := len(b.dump()); left <= empty {
			t.Errorf("all was removed at once: %d keys", left)
		}
		b.settle()
		if got := b.dump(); len(got) != empty {
			t.Errorf("%d keys are left, want %d: %v", len(got), empty, got)
		}
		if b.lookup(other) == nil {
			t.Error("another token is gone")
		}
	})
}

func TestRevokeAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		id, top := b.create(nil)
		var children, grand []string
		for range 2*inlineChildren + 5 {
			c, e := b.create(top)
			g, _ := b.create(e)
			children, grand = append(children, c), append(grand, g)
		}
		batch, _ := b.create(top, func(e *Entry) { e.Type = engine.TokenBatch })
		below, _ := b.create(b.lookup(children[0]), func(e *Entry) { e.Type = engine.TokenBatch })
		check := func(when string) {
			t.Helper()
			if b.lookup(id) != nil {
				t.Errorf("%s: the token is valid", when)
			}
			for _, c := range children {
				if e := b.lookup(c); e == nil || !e.Orphan {
					t.Fatalf("%s: a child is %+v", when, e)
				}
			}
			for _, g := range grand {
				if e := b.lookup(g); e == nil || e.Orphan {
					t.Fatalf("%s: a grandchild is %+v", when, e)
				}
			}
			if b.lookup(batch) != nil {
				t.Errorf("%s: its batch token is valid", when)
			}
			if b.lookup(below) == nil {
				t.Errorf("%s: the batch token of its child is not valid", when)
			}
		}
		b.update(func(tx storage.Tx) error { return b.store.RevokeAlone(tx, top, b.now) })
		check("at once")
		b.settle()
		b.now = time.Now()
		check("later")
		for key := range b.dump() {
			if strings.Contains(key, "/t/o/") || strings.Contains(key, "/t/p/"+top.Key) {
				t.Errorf("left behind: %s", key)
			}
		}
		if e := b.lookup(children[0]); e.Parent != "" {
			t.Errorf("the child still names its parent")
		}
	})
}

// Tokens may descend only so deep; one more is refused, not made without use.
func TestDepth(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	id, e := b.create(nil)
	for n := 1; ; n++ {
		if b.lookup(id) == nil {
			t.Fatalf("the token at depth %d is not valid", n)
		}
		var next *Entry
		err := b.db.Update(t.Context(), func(tx storage.Tx) (err error) {
			id, next, err = b.tryCreate(tx, e)
			return err
		})
		if err != nil {
			if n != maxChain || !errs.Is(err, errs.Invalid) {
				t.Errorf("depth %d: %v", n, err)
			}
			return
		}
		if n > maxChain {
			t.Fatal("there is no bound")
		}
		e = next
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	id, _ := b.create(nil, func(e *Entry) { e.NumUses = 3 })
	for _, want := range []struct {
		left int
		last bool
	}{{2, false}, {1, false}, {1, true}} {
		b.update(func(tx storage.Tx) error {
			e, err := b.store.Lookup(tx, id, b.now)
			if err != nil {
				return err
			}
			last, err := b.store.Use(tx, e)
			if last != want.last {
				t.Errorf("last is %t with %d left", last, e.NumUses)
			}
			return err
		})
		if got := b.lookup(id).NumUses; got != want.left {
			t.Errorf("%d uses are left, want %d", got, want.left)
		}
	}
	free, _ := b.create(nil)
	b.update(func(tx storage.Tx) error {
		e, err := b.store.Lookup(tx, free, b.now)
		if err != nil {
			return err
		}
		if last, err := b.store.Use(tx, e); last || err != nil {
			t.Errorf("without a limit: %t, %v", last, err)
		}
		return nil
	})
}

func TestBatch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	batch := func(e *Entry) { e.Type = engine.TokenBatch }
	_, parent := b.create(nil)
	before := len(b.dump())
	id, _ := b.create(parent, batch)
	if len(b.dump()) != before {
		t.Error("a batch token is stored")
	}
	e := b.lookup(id)
	if e == nil || !e.Batch() || e.Key != "" || e.Accessor != "" || e.Orphan || e.Parent != parent.Key {
		t.Fatalf("got %+v", e)
	}
	for i := len(BatchPrefix); i < len(id); i += 7 {
		for _, c := range []string{"A", "B", "."} {
			if bad := id[:i] + c + id[i+1:]; bad != id && b.lookup(bad) != nil {
				t.Fatalf("changed at %d it is valid", i)
			}
		}
	}
	if b.lookup(id+".other") != nil || b.lookup(id+"AA") != nil || b.lookup(id[:len(id)-2]) != nil {
		t.Error("a token that was changed at its end is valid")
	}
	if b.lookup("b."+strings.TrimPrefix(id, BatchPrefix)) == nil {
		t.Error("the older prefix is not taken")
	}
	orphan, _ := b.create(nil, batch)
	b.update(func(tx storage.Tx) error { return b.store.Revoke(tx, parent, b.now) })
	if b.lookup(id) != nil {
		t.Error("it outlives its parent")
	}
	if b.lookup(orphan) == nil {
		t.Error("the orphan is gone")
	}
	b.now = b.now.Add(time.Hour)
	if b.lookup(orphan) != nil {
		t.Error("an expired one is valid")
	}
	err := b.db.Update(t.Context(), func(tx storage.Tx) error {
		_, _, err := b.tryCreate(tx, nil, batch, func(e *Entry) { e.Meta = map[string]string{"k": strings.Repeat("v", MaxIDBytes)} })
		return err
	})
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("one that is too long: %v", err)
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.close()
		short, e := b.create(nil, func(e *Entry) { e.Expires = b.now.Add(10 * time.Second) })
		child, _ := b.create(e)
		renewed, r := b.create(nil, func(e *Entry) { e.Expires = b.now.Add(10 * time.Second) })
		b.update(func(tx storage.Tx) error {
			c := r.Clone()
			c.Expires = b.now.Add(time.Hour)
			return b.store.Update(tx, r, c)
		})
		b.settle()
		b.now = time.Now()
		if b.lookup(short) != nil || b.lookup(child) != nil || b.lookup(renewed) == nil {
			t.Error("the wrong tokens are valid")
		}
		for key := range b.dump() {
			if strings.Contains(key, e.Key) {
				t.Errorf("left behind: %s", key)
			}
		}
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id, top := b.create(nil)
	child, _ := b.create(top)
	batch, _ := b.create(top, func(e *Entry) { e.Type = engine.TokenBatch })
	b.close()
	b.open()
	defer b.close()
	for _, id := range []string{id, child, batch} {
		if b.lookup(id) == nil {
			t.Errorf("%s is gone", id)
		}
	}
}

func TestByPath(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	at := func(path string) func(*Entry) { return func(e *Entry) { e.Path = path } }
	var gone []string
	for range 5 {
		id, e := b.create(nil, at("auth/approle/login"))
		child, _ := b.create(e, at("auth/approle/login"))
		gone = append(gone, id, child)
	}
	kept, e := b.create(nil, at("auth/approle2/login"))
	// Names without tokens must not stop it.
	b.update(func(tx storage.Tx) error {
		for i := range 10 {
			if err := tx.Put(fmt.Sprintf("%sauth/approle/login/%d", pathDir("root"), i), []byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	b.update(func(tx storage.Tx) error {
		got, err := b.store.ByLease(tx, "root", e.LeaseID(), b.now)
		if err != nil || got.Key != e.Key {
			t.Errorf("by lease: %+v, %v", got, err)
		}
		if _, err := b.store.ByLease(tx, "root", "auth/x/"+e.Key, b.now); !errors.Is(err, ErrBad) {
			t.Errorf("by another's path: %v", err)
		}
		names, err := b.store.ListLeases(tx, "root", "auth/", "", 0)
		if err != nil || strings.Join(names, " ") != "approle/ approle2/" {
			t.Errorf("list %q, %v", names, err)
		}
		return nil
	})
	revoke := func(until time.Time) {
		t.Helper()
		below := Below{Prefix: "auth/approle/", Until: until}
		for rounds := 0; ; rounds++ {
			b.update(func(tx storage.Tx) (err error) {
				below.After, err = b.store.RevokeBelow(tx, "root", below, 4, b.now)
				return err
			})
			if below.After == "" {
				return
			}
			if rounds > 20 {
				t.Fatal("no end")
			}
		}
	}
	revoke(b.now.Add(-time.Hour))
	for _, id := range gone {
		if b.lookup(id) == nil {
			t.Fatal("a token created later is gone")
		}
	}
	revoke(b.now)
	for _, id := range gone {
		if b.lookup(id) != nil {
			t.Error("a token below the prefix is valid")
		}
	}
	if b.lookup(kept) == nil {
		t.Error("another token is gone")
	}
}

func TestTidy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.close()
	id, _ := b.create(nil)
	b.update(func(tx storage.Tx) error {
		for i := range 1200 {
			if err := tx.Put(fmt.Sprintf("%sauth/x/%d", pathDir("root"), i), []byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	n, err := TidyAll(t.Context(), b.db, b.store, "root")
	if n != 1200 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if b.lookup(id) == nil {
		t.Error("a token is gone")
	}
	b.update(func(tx storage.Tx) error {
		if n, err := b.store.Count(tx, "root", 10); n != 1 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
		return nil
	})
}

// Whatever fails, nothing is half done.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]storagetest.Fault{"before": storagetest.Before, "lost": storagetest.Lost, "after": storagetest.After} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, act := range []struct {
				name string
				do   func(b *bench, tx storage.Tx, e *Entry) error
			}{
				{"create", func(b *bench, tx storage.Tx, e *Entry) error {
					_, _, err := b.tryCreate(tx, e)
					return err
				}},
				{"wrap", func(b *bench, tx storage.Tx, _ *Entry) error {
					_, _, err := b.tryCreate(tx, nil, func(e *Entry) { e.Wrapped = &Wrapped{Body: []byte(`{}`)} })
					return err
				}},
				{"revoke", func(b *bench, tx storage.Tx, e *Entry) error { return b.store.Revoke(tx, e, b.now) }},
				{"revoke alone", func(b *bench, tx storage.Tx, e *Entry) error { return b.store.RevokeAlone(tx, e, b.now) }},
				{"renew", func(b *bench, tx storage.Tx, e *Entry) error {
					c := e.Clone()
					c.Expires = e.Expires.Add(time.Hour)
					return b.store.Update(tx, e, c)
				}},
			} {
				b := newBench(t)
				id, e := b.create(nil)
				child, _ := b.create(e)
				before := b.dump()
				b.backend.FailNth(1, fault)
				if err := b.db.Update(t.Context(), func(tx storage.Tx) error { return act.do(b, tx, e) }); err == nil {
					t.Errorf("%s: no error", act.name)
				}
				b.close()
				b.open()
				after := b.dump()
				if done := !reflect.DeepEqual(before, after); done != (fault == storagetest.After) {
					t.Errorf("%s: before %v\nafter %v", act.name, before, after)
				}
				valid := b.lookup(id) != nil
				if want := fault != storagetest.After || !strings.HasPrefix(act.name, "revoke"); valid != want {
					t.Errorf("%s: the token is valid: %t", act.name, valid)
				}
				childValid := b.lookup(child) != nil
				if want := valid || act.name == "revoke alone"; childValid != want {
					t.Errorf("%s: the child is valid: %t", act.name, childValid)
				}
				b.close()
			}
		})
	}
}

// FuzzLookup: no text is a token that was not made.
func FuzzLookup(f *testing.F) {
	for _, s := range []string{"", ".", "hvs.", "hvb.", "hvb.AAAA", "hvb.AAAA.ns", "s.x", "b.x", "a.b.c", "hvs.abc.", "\x00", "../../x", "eyJ.a.b"} {
		f.Add(s)
	}
	b := newBench(f)
	made, _ := b.create(nil)
	f.Fuzz(func(t *testing.T, id string) {
		if id == made {
			return
		}
		err := b.db.View(t.Context(), func(tx storage.Tx) error {
			_, err := b.store.Lookup(tx, id, b.now)
			return err
		})
		if !errors.Is(err, ErrBad) {
			t.Fatalf("%q: %v", id, err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	s := newBench(b)
	defer s.close()
	_, top := s.create(nil)
	id, _ := s.create(top)
	b.ReportAllocs()
	err := s.db.View(context.Background(), func(tx storage.Tx) error {
		for b.Loop() {
			if _, err := s.store.Lookup(tx, id, s.now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
