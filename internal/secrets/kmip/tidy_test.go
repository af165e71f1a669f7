package kmip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/ttlv"
)

// A bench is an engine over a store, without a server.
type bench struct {
	t  *testing.T
	e  *Engine
	db *storage.DB
}

func newBench(t *testing.T) *bench {
	t.Helper()
	store, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, New(), storage.Open(store, storage.Config{})}
	t.Cleanup(func() { _ = b.db.Close() })
	b.do(func(tx storage.Tx) error { return storage.PutJSON(tx, configKey, newConfig()) })
	return b
}

func (b *bench) do(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(b.t.Context(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) call(tx storage.Tx, now time.Time) *engine.Call {
	return &engine.Call{Tx: tx, Now: now, Request: &engine.Request{}, Mount: &engine.Mount{ID: "m"}}
}

func (b *bench) count(dir string) (n int) {
	b.t.Helper()
	err := b.db.View(b.t.Context(), func(tx storage.Tx) error {
		for _, err := range tx.Keys(dir, "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Destroyed objects are forgotten after their time, and not before; what is due is
// found without looking at anything else.
func TestForget(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC()
	x.do(func(tx storage.Tx) error {
		b := &batch{e: x.e, ctx: context.Background(), call: x.call(tx, now), tx: tx, now: now, v: version{1, 4}, scope: "AAAAA", role: &role{Ops: []string{opAll}}}
		for i := range 5 {
			attrs := []attribute{
				newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
				newAttribute(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, fmt.Sprint(i)), ttlv.Enum(ttlv.TagNameType, 1))),
			}
			o, node, err := b.makeSymmetric(attrs, nil)
			if err == nil {
				err = b.commit(o, node)
			}
			if err == nil && i > 0 {
				_, err = b.destroy(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, o.ID)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	tidy := func(now time.Time) {
		x.do(func(tx storage.Tx) error {
			_, err := x.e.tidy(context.Background(), x.call(tx, now), engine.None{})
			return err
		})
	}
	tidy(now.Add(objectKept - time.Minute))
	if n := x.count("o/"); n != 5 {
		t.Errorf("%d objects before the time", n)
	}
	tidy(now.Add(objectKept + time.Minute))
	for dir, want := range map[string]int{"o/": 1, "m/": 1, "t/": 1, "i/": 1, nameDir: 1, dueDir: 0} {
		if n := x.count(dir); n != want {
			t.Errorf("%d keys of %d are left below %s", n, want, dir)
		}
	}
}

// A role is deleted however many certificates it has had, all of which end; expired
// ones are forgotten.
func TestManyCredentials(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	in := roleIn{scopeIn{"s"}, "r"}
	x.do(func(tx storage.Tx) error {
		_, err := x.e.writeScope(context.Background(), x.call(tx, time.Now()), writeScopeIn{scopeIn: in.scopeIn})
		if err == nil {
			_, err = x.e.writeRole(context.Background(), x.call(tx, time.Now()), writeRoleIn{roleIn: in})
		}
		return err
	})
	expires := time.Now().Add(time.Hour)
	for from := 0; from < 70_000; from += 10_000 {
		x.do(func(tx storage.Tx) error {
			s, r, err := x.e.findRole(tx, in)
			if err != nil {
				return err
			}
			for i := range 10_000 {
				serial := fmt.Sprint(from + i)
				if err := tx.Put(credDir(s.ID, r.ID)+serial, []byte(`{"v":1}`)); err != nil {
					return err
				}
				if i < 100 && from == 0 {
					if err := tx.Put(dueKey(expires.Add(credentialKept), "c", s.ID, r.ID+"."+serial), nil); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	x.do(func(tx storage.Tx) error {
		_, err := x.e.tidy(context.Background(), x.call(tx, expires.Add(credentialKept+time.Minute)), engine.None{})
		return err
	})
	if n := x.count("cred/"); n != 69_900 {
		t.Errorf("%d certificates are left of 69900", n)
	}
	x.do(func(tx storage.Tx) error {
		_, err := x.e.deleteRole(context.Background(), x.call(tx, time.Now()), in)
		return err
	})
	if n := x.count("cred/"); n != 0 {
		t.Errorf("%d certificates of a deleted role", n)
	}
	err := x.db.View(t.Context(), func(tx storage.Tx) error {
		_, _, err := x.e.findRole(tx, in)
		return err
	})
	if !errors.Is(err, errNotFound) {
		t.Errorf("the role is there: %v", err)
	}
}

// Of a line whose middle is forgotten, what came of a certificate is revoked, and not what that
// came of; a forgotten one can be revoked, too, with what came of it.
func TestRevokeForgotten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, forgotten, serial, want, left string
	}{
		{"a leaf", "2", "4", "", "1 3 5 6 7"},
		{"the middle", "2", "3", "4", "1 5 6 7"},
		{"of another branch", "2", "6", "3 4 5 7", "1"}, // 2 may have come of it, for all that is known
		{"a forgotten one", "2", "2", "3 4 5", "1 6 7"},
		{"a forgotten first one", "1", "1", "2 3 4 5 6 7", ""},
		{"the first", "2", "1", "3 4 5 6 7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := newBench(t)
			x.do(func(tx storage.Tx) error { // 1>2>3>4, 2>5, 1>6>7
				if err := storage.PutJSON(tx, scopeKey("finance"), scope{Version: 1, ID: "AAAAA"}); err != nil {
					return err
				}
				if err := storage.PutJSON(tx, roleKey("AAAAA", "app"), role{Version: 1, ID: "RRRRR"}); err != nil {
					return err
				}
				for _, p := range [][2]string{{"1", ""}, {"2", "1"}, {"3", "2"}, {"4", "3"}, {"5", "2"}, {"6", "1"}, {"7", "6"}} {
					made := credential{Version: 1, Expires: time.Now().Add(time.Hour)}
					if err := made.renews(tx, "AAAAA", "RRRRR", p[0], p[1]); err != nil {
						return err
					}
					if err := storage.PutJSON(tx, credDir("AAAAA", "RRRRR")+p[0], made); err != nil {
						return err
					}
				}
				return forgetCredential(tx, "AAAAA", "RRRRR", c.forgotten)
			})
			var also, left []string
			x.do(func(tx storage.Tx) error {
				out, err := x.e.revoke(t.Context(), x.call(tx, time.Now()), revokeIn{roleIn: roleIn{scopeIn{"finance"}, "app"}, Serial: c.serial})
				if err != nil {
					return err
				}
				if out != nil {
					also, _ = out.Data.(map[string]any)["also_revoked"].([]string)
				}
				for key, err := range tx.Keys(credDir("AAAAA", "RRRRR"), "") {
					if err != nil {
						return err
					}
					left = append(left, key[strings.LastIndexByte(key, '/')+1:])
				}
				return nil
			})
			if got := strings.Join(also, " "); got != c.want {
				t.Errorf("also revoked: %q, want %q", got, c.want)
			}
			if got := strings.Join(left, " "); got != c.left {
				t.Errorf("left: %q, want %q", got, c.left)
			}
		})
	}
}
