package core_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A keeper is an engine that fails after it has written.
type keeper struct{}

func (keeper) Type() string { return "keeper" }

type keeperIn struct {
	Keep bool `api:"keep"`
}

func (keeper) Routes() []engine.Route {
	return []engine.Route{
		engine.Write("fail", func(_ context.Context, call *engine.Call, in keeperIn) (*engine.Response, error) {
			if err := call.Tx.Put("k", []byte("v")); err != nil {
				return nil, err
			}
			err := errs.New(errs.Invalid, "no")
			if in.Keep {
				return nil, &engine.Kept{Err: fmt.Errorf("once: %w", err)}
			}
			return nil, err
		}),
		engine.Read("written", func(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
			_, err := call.Tx.Get("k")
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
			return &engine.Response{Data: map[string]any{"written": err == nil}}, nil
		}),
	}
}

// What a Kept error's handler has written counts, with one use of the token; what
// another's has does not, but for the use.
func TestKept(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{Engines: []engine.Engine{keeper{}}})
	s.Must("POST", "sys/mounts/keeper", s.Root, object{"type": "keeper"})
	policyFor(s, "keeper", `path "keeper/*" { capabilities = ["create", "update"] }`)
	token, accessor := newToken(s, object{"policies": []string{"keeper"}, "num_uses": 4})
	for i, keep := range []bool{false, true, true} {
		code, out := s.Do("POST", "keeper/fail", token, object{"keep": keep})
		want := "400 map[errors:[no]]"
		if keep {
			want = "400 map[errors:[once: no]]"
		}
		expect(t, "the answer", fmt.Sprint(code, " ", out), want)
		expect(t, "written", fmt.Sprint(arcatest.Dig(s.Must("GET", "keeper/written", s.Root, nil), "data", "written")), fmt.Sprint(keep))
		left := arcatest.Dig(s.Must("POST", "auth/token/lookup-accessor", s.Root, object{"accessor": accessor}), "data", "num_uses")
		expect(t, "uses that are left", fmt.Sprint(left), fmt.Sprint(3-i))
	}
}
