package core_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A gate is an engine whose answer, a refusal, comes when the test says so.
type gate struct {
	inside atomic.Int32
	open   chan struct{}
}

func (*gate) Type() string { return "gate" }

func (g *gate) Routes() []engine.Route {
	return []engine.Route{engine.Read("pass", func(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
		g.inside.Add(1)
		<-g.open
		return nil, errs.New(errs.Invalid, "not today")
	})}
}

// Requests that fail write nothing, so that no commit of theirs stands against
// the others; still no more of them are answered than the token has uses.
func TestUsesOfFailingRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap(), Engines: []engine.Engine{g}})
		s.Must("POST", "sys/mounts/gate", s.Root, object{"type": "gate"})
		policyFor(s, "gate", `path "gate/*" { capabilities = ["read"] }`)
		token, _ := newToken(s, object{"policies": []string{"gate"}, "num_uses": 3})
		const n = 10
		answers := make(chan int, n)
		for range n {
			go func() {
				code, _ := s.Do("GET", "gate/pass", token, nil)
				answers <- code
			}()
		}
		synctest.Wait()
		if g.inside.Load() < 4 {
			t.Fatalf("only %d requests are inside at once", g.inside.Load())
		}
		out := s.Must("GET", "sys/in-flight-req", s.Root, nil)
		clients := map[string]int{}
		for _, r := range out {
			clients[fmt.Sprint(len(r.(object)["client_id"].(string)), r.(object)["request_path"])]++
		}
		expect(t, "who is inside", clients, map[string]int{"64/v1/gate/pass": int(g.inside.Load()), "64/v1/sys/in-flight-req": 1})
		close(g.open)
		codes := map[int]int{}
		for range n {
			codes[<-answers]++
		}
		expect(t, "answers by status", fmt.Sprint(codes), "map[400:3 403:7]")
		code, _ := s.Do("GET", "auth/token/lookup-self", token, nil)
		expect(t, "the used token", code, 403)
	})
}

// A deaf engine asks outside and does not notice that nobody waits any more.
type deaf struct {
	asked, end chan struct{}
}

func (*deaf) Type() string { return "deaf" }

func (d *deaf) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("ask", func(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
			return nil, engine.Ask(func(context.Context) (any, error) {
				close(d.asked)
				<-d.end
				return nil, nil
			})
		}),
	}
}

// Sealing does not wait for a question outside that ignores its context. (No bubble of
// synctest: its time stands still while the gate is waited for.)
func TestSealWhileAsking(t *testing.T) {
	t.Parallel()
	d := &deaf{asked: make(chan struct{}), end: make(chan struct{})}
	s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap(), Engines: []engine.Engine{d}})
	s.Must("POST", "sys/mounts/deaf", s.Root, object{"type": "deaf"})
	answer := make(chan int, 1)
	go func() {
		code, _ := s.Do("GET", "deaf/ask", s.Root, nil)
		answer <- code
	}()
	<-d.asked
	sealed := make(chan struct{})
	go func() {
		defer close(sealed)
		s.Must("PUT", "sys/seal", s.Root, nil)
	}()
	select {
	case <-sealed:
	case <-time.After(30 * time.Second):
		t.Error("sealing waits for a question outside")
		close(d.end)
		<-sealed
		return
	}
	expect(t, "answer", <-answer, 503)
	close(d.end)
}

// An actor is an engine that acts on the outside, in a transaction that always
// meets a conflict.
type actor struct {
	disturb        func()
	acted, cleaned int
}

func (*actor) Type() string { return "actor" }

func (a *actor) Routes() []engine.Route {
	return []engine.Route{
		engine.Write("act", func(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
			if _, err := call.Tx.Get("k"); err != nil && !storage.IsNotFound(err) {
				return nil, err
			}
			a.acted++
			call.After(func() { a.cleaned++ })
			a.disturb()
			return nil, call.Tx.Put("k", []byte("acted"))
		}, engine.ActsOutside),
		engine.Write("again", func(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
			if _, err := call.Tx.Get("k"); err != nil && !storage.IsNotFound(err) {
				return nil, err
			}
			a.disturb()
			return nil, call.Tx.Put("k", []byte("acted"))
		}),
		engine.Write("disturb", func(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
			return nil, call.Tx.Put("k", []byte("disturbed"))
		}),
	}
}

// A request that acted and met a conflict is not run again. It has used its
// token all the same, and what it left for afterwards is done.
func TestConflictOfWhatActed(t *testing.T) {
	t.Parallel()
	a := &actor{}
	s := arcatest.New(t, arcatest.Config{Engines: []engine.Engine{a}})
	a.disturb = func() { s.Must("POST", "actor/disturb", s.Root, nil) }
	s.Must("POST", "sys/mounts/actor", s.Root, object{"type": "actor"})
	policyFor(s, "actor", `path "actor/*" { capabilities = ["create", "update"] }`)
	token, _ := newToken(s, object{"policies": []string{"actor"}, "num_uses": 2})
	for range 2 {
		code, out := s.Do("POST", "actor/act", token, nil)
		expect(t, "answer", fmt.Sprint(code, out["errors"]), "400 [another request changed the same data: try again]")
	}
	expect(t, "acted, cleaned", fmt.Sprint(a.acted, a.cleaned), "2 2")
	code, _ := s.Do("POST", "actor/act", token, nil)
	expect(t, "the used token", code, 403)
}

// A request whose namespace is locked between two of its attempts is refused in
// the second before its token is known. Its use is not counted.
func TestLockedBetweenAttempts(t *testing.T) {
	t.Parallel()
	a := &actor{}
	s := arcatest.New(t, arcatest.Config{Engines: []engine.Engine{a}})
	const ns = "X-Vault-Namespace"
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	s.Must("POST", "sys/mounts/actor", s.Root, object{"type": "actor"}, ns, "team")
	s.Must("PUT", "sys/policies/acl/actor", s.Root, object{"policy": `path "actor/*" { capabilities = ["create", "update"] }`}, ns, "team")
	out := s.Must("POST", "auth/token/create", s.Root, object{"policies": []string{"actor"}, "num_uses": 2, "no_parent": true}, ns, "team")
	token, _ := arcatest.Dig(out, "auth", "client_token").(string)
	a.disturb = func() {
		s.Must("POST", "actor/disturb", s.Root, nil, ns, "team")
		s.Must("POST", "sys/namespaces/api-lock/lock/team", s.Root, nil)
	}
	code, _ := s.Do("POST", "actor/again", token, nil, ns, "team")
	expect(t, "a locked namespace", code, 503)
}

// A counter is an engine that counts how often its handlers run.
type counter struct{ read atomic.Int32 }

func (*counter) Type() string { return "counter" }

func (c *counter) Routes() []engine.Route {
	return []engine.Route{engine.Read("once", func(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
		c.read.Add(1)
		return nil, call.Tx.Put("k", nil)
	}, engine.WriteTx)}
}

// A read that is known to write does not run first in a transaction that cannot.
func TestReadThatWrites(t *testing.T) {
	t.Parallel()
	c := &counter{}
	s := arcatest.New(t, arcatest.Config{Engines: []engine.Engine{c}})
	s.Must("POST", "sys/mounts/counter", s.Root, object{"type": "counter"})
	s.Must("GET", "counter/once", s.Root, nil)
	expect(t, "runs", c.read.Load(), int32(1))
}

// A sharedStore counts which way batches come.
type sharedStore struct {
	storage.Backend
	applied, shown atomic.Int32
}

// Apply implements storage.Backend.
func (s *sharedStore) Apply(ctx context.Context, b storage.Batch) error {
	s.applied.Add(1)
	return s.Backend.Apply(ctx, b)
}

// ApplyShow implements storage.Shower.
func (s *sharedStore) ApplyShow(ctx context.Context, b storage.Batch, show func() error) error {
	s.shown.Add(1)
	if err := s.Backend.Apply(ctx, b); err != nil {
		return err
	}
	return show()
}

// What stands between a DB and its store hands on that the store is shared: else a read on the active node could miss
// what a standby has shown.
func TestShowIsHandedOn(t *testing.T) {
	t.Parallel()
	b := &sharedStore{Backend: storagetest.NewMap()}
	s := arcatest.New(t, arcatest.Config{Backend: b})
	policyFor(s, "p", `path "x" { capabilities = ["read"] }`)
	if b.applied.Load() > 0 || b.shown.Load() == 0 {
		t.Errorf("%d batches were applied past the ones who share the store, %d were shown", b.applied.Load(), b.shown.Load())
	}
}
