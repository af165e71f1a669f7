package core_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
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
