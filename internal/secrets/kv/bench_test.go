package kv

import (
	"context"
	"encoding/json"
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
}

func newBench(t testing.TB, e engine.Engine) *bench {
	t.Helper()
	b := &bench{
		t: t, db: storage.Open(storagetest.NewMap(), storage.Config{}), table: engine.NewTable(e.Routes()),
		mount: engine.Mount{DefaultTTL: 768 * time.Hour}, now: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

const dir = "n/root/m/1/"

// do serves one request as the hall would.
func (b *bench) do(op engine.Operation, path, body string) (res *engine.Response, err error) {
	b.t.Helper()
	params, err := param.ParseObject([]byte(body))
	if err != nil {
		b.t.Fatal(err)
	}
	run := func(tx storage.Tx) error {
		call := &engine.Call{
			Tx: tx.Sub(dir), Mount: &b.mount, Op: op, Path: path, Now: b.now,
			Request: &engine.Request{Op: op, Path: "kv/" + path, Params: params},
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
	if op == engine.OpRead || op == engine.OpList {
		err = b.db.View(context.Background(), run)
	} else {
		err = b.db.Update(context.Background(), run)
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

// keys are the keys of the mount.
func (b *bench) keys() (keys []string) {
	b.t.Helper()
	err := b.db.View(context.Background(), func(tx storage.Tx) error {
		for k, err := range tx.Sub(dir).Keys("", "") {
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}
