package transit

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A bench is one mount over a store in memory, with a clock that the test sets.
type bench struct {
	t     testing.TB
	db    *storage.DB
	table *engine.Table
	mount engine.Mount
	now   time.Time
	dir   string // of the mount
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{
		t: t, db: storage.Open(storagetest.NewMap(), storage.Config{}), table: engine.NewTable(New().Routes()),
		mount: engine.Mount{DefaultTTL: 768 * time.Hour}, now: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		dir: "n/root/m/1/",
	}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// with is b for another test, over the same store.
func (b *bench) with(t testing.TB) *bench {
	c := *b
	c.t = t
	return &c
}

// do serves one request as the hall would.
func (b *bench) do(op engine.Operation, path, body string) (res *engine.Response, err error) {
	b.t.Helper()
	params, err := param.ParseObject([]byte(body))
	if err != nil {
		b.t.Fatal(err)
	}
	var asked any
	run := func(tx storage.Tx) error {
		call := &engine.Call{
			Tx: tx.Sub(b.dir), Mount: &b.mount, Op: op, Path: path, Now: b.now, Asked: asked,
			Request: &engine.Request{Op: op, Path: "transit/" + path, Params: params},
		}
		route, err := b.table.Match(op, path, call)
		if err != nil {
			return err
		}
		if route.HasExists() {
			found, err := route.Exists(b.t.Context(), call)
			if err != nil {
				return err
			}
			if !found {
				call.Op = engine.OpCreate
			}
		}
		res, err = route.Run(b.t.Context(), call)
		return err
	}
	for range 2 { // once more with the answer to what it asks
		if op == engine.OpRead || op == engine.OpList {
			err = b.db.View(context.Background(), run)
		}
		if op != engine.OpRead && op != engine.OpList || errors.Is(err, storage.ErrReadOnly) {
			err = b.db.Update(context.Background(), run)
		}
		var q *engine.Question
		if !errors.As(err, &q) {
			break
		}
		if asked, err = q.Run(context.Background()); err != nil {
			return nil, err
		}
	}
	return res, err
}

// must is do that ends the test on an error; it returns the answer's data.
func (b *bench) must(op engine.Operation, path, body string) map[string]any {
	b.t.Helper()
	res, err := b.do(op, path, body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", op, path, err)
	}
	return b.data(res)
}

func (b *bench) data(res *engine.Response) (m map[string]any) {
	b.t.Helper()
	if res == nil || res.Data == nil {
		return nil
	}
	raw, err := res.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		b.t.Fatalf("%s: %v", raw, err)
	}
	return m
}

// text is what came of a request, for tables.
func (b *bench) text(op engine.Operation, path, body string) string {
	b.t.Helper()
	res, err := b.do(op, path, body)
	switch {
	case err != nil:
		return errs.KindOf(err).String() + ": " + err.Error()
	case res == nil:
		return ""
	case res.Raw != nil:
		return "raw"
	}
	raw, err := res.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	if res.Missing {
		return "missing " + string(raw)
	}
	return string(raw)
}
