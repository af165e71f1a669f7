// Package arcatest gives tests a whole server in memory: initialised, unsealed,
// with a root token, behind its real HTTP door.
package arcatest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"arca/internal/api"
	"arca/internal/barrier"
	"arca/internal/builtin"
	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/seal"
	"arca/internal/server/kms"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// A Server is a node in memory.
type Server struct {
	Core    *core.Core
	Handler http.Handler
	Root    string
	Shares  []barrier.Key
	tb      testing.TB
	cfg     Config
}

// Config changes what New makes. The zero value is good.
type Config struct {
	Backend storage.Backend // nil: Pebble in memory
	Core    core.Config     // Backend and Catalog are filled
	Sealed  bool            // leave the node sealed and uninitialised
	Engines []engine.Engine // secrets engines besides those of the program
}

// New makes a server that ends with the test.
func New(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	if cfg.Backend == nil {
		b, err := pebble.Open(pebble.Config{Memory: true})
		if err != nil {
			tb.Fatal(err)
		}
		cfg.Backend = b
	}
	tb.Cleanup(func() {
		if err := cfg.Backend.Close(); err != nil {
			tb.Error(err)
		}
	})
	s := &Server{tb: tb, cfg: cfg}
	s.open()
	if cfg.Sealed {
		return s
	}
	ini, err := s.Core.SealManager().Init(context.Background(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		tb.Fatal(err)
	}
	s.Root, s.Shares = string(ini.RootToken), ini.Shares
	s.Unseal()
	return s
}

// Restart ends the node and opens another over the same store, which knows nothing
// but what was stored.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.Core.Close(); err != nil {
		s.tb.Fatal(err)
	}
	s.open()
	s.Unseal()
}

func (s *Server) open() {
	s.tb.Helper()
	tb, cfg := s.tb, s.cfg
	c := cfg.Core
	c.Backend = cfg.Backend
	if c.Managed == nil {
		c.Managed = kms.New(kms.Config{})
	}
	if c.StorageType == "" {
		c.StorageType = "inmem"
	}
	var catalog *builtin.Catalog
	c.Catalog = func(c *core.Core) core.Catalog {
		catalog = builtin.New(c)
		return withEngines(catalog, cfg.Engines)
	}
	node, err := core.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	catalog.Bind(node)
	tb.Cleanup(func() {
		if err := node.Close(); err != nil {
			tb.Error(err)
		}
	})
	s.Core, s.Handler = node, api.New(api.Config{Core: node})
}

// more is the list of engines with those of a test.
type more struct {
	*builtin.Catalog
	engines map[string]engine.Engine
	routes  map[string]*engine.Table
}

func withEngines(c *builtin.Catalog, list []engine.Engine) core.Catalog {
	m := &more{c, map[string]engine.Engine{}, map[string]*engine.Table{}}
	for _, e := range list {
		m.engines[e.Type()], m.routes[e.Type()] = e, engine.NewTable(e.Routes())
	}
	return m
}

// Find implements mount.Catalog.
func (m *more) Find(auth bool, typ string, options map[string]string) (engine.Engine, *engine.Table, bool) {
	if e := m.engines[typ]; e != nil {
		return e, m.routes[typ], true
	}
	return m.Catalog.Find(auth, typ, options)
}

// Unseal opens a sealed node with the shares of New, or by its seal.
func (s *Server) Unseal() {
	s.tb.Helper()
	if m := s.Core.SealManager(); m.Auto() {
		if err := m.OpenByItself(context.Background()); err != nil {
			s.tb.Fatal(err)
		}
		return
	}
	for _, share := range s.Shares {
		if _, err := s.Core.SealManager().Unseal(context.Background(), append(barrier.Key(nil), share...), false); err != nil {
			s.tb.Fatal(err)
		}
	}
}

// Do sends a request with a token; body is encoded as JSON unless it is nil or
// a string. It returns the status and the answer, decoded where it is JSON.
func (s *Server) Do(method, path, token string, body any, headers ...string) (int, map[string]any) {
	s.tb.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = bytes.NewReader([]byte(b))
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			s.tb.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	r := httptest.NewRequest(method, "/v1/"+path, in)
	r.Header.Set("X-Vault-Token", token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.UseNumber()
	_ = d.Decode(&out) // not every answer is JSON
	return w.Code, out
}

// Must is Do that ends the test unless the status is 2xx.
func (s *Server) Must(method, path, token string, body any, headers ...string) map[string]any {
	s.tb.Helper()
	code, out := s.Do(method, path, token, body, headers...)
	if code/100 != 2 {
		s.tb.Fatalf("%s %s: status %d: %v", method, path, code, out)
	}
	return out
}

// Dig follows keys into a decoded answer; what is not there is nil.
func Dig(m map[string]any, keys ...string) any {
	var v any = m
	for _, k := range keys {
		inner, _ := v.(map[string]any)
		v = inner[k]
	}
	return v
}
