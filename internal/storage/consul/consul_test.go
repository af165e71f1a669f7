package consul

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/arcatest/database"
	api "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/objects"
	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
	"arca/internal/storage/storagetest"
)

var folders atomic.Int64

func config(t *testing.T, url, path string) Config {
	t.Helper()
	return Config{
		API:  api.Config{Options: map[string]string{"address": url}, Getenv: func(string) string { return "" }},
		Path: path, Dir: filepath.Join(t.TempDir(), fmt.Sprint(folders.Add(1))), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// each runs a test against the stand-in, and Consul where it can be had.
func each(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Run("stand-in", func(t *testing.T) { fn(t, database.NewConsulStandIn(t).URL) })
	program := database.FindConsul()
	if program == "" {
		t.Log("not run against Consul itself: it is not in the path, and ARCA_CONSUL names no program")
		return
	}
	t.Run("consul", func(t *testing.T) { fn(t, database.NewConsul(t, program).Address()) })
}

func TestConsul(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		var paths atomic.Int64
		path := func() string { return fmt.Sprint("arca/", paths.Add(1)) }
		open := func(t *testing.T, path string) *Driver {
			t.Helper()
			d, err := openDriver(t.Context(), config(t, url, path), 20, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() }) // before t may log no more; most are closed by then
			return d
		}
		lead := func(t *testing.T) storage.Backend {
			return remotetest.Lead(t, remote.Config{Driver: open(t, path())})
		}
		t.Run("contract", func(t *testing.T) { storagetest.TestBackend(t, lead) })
		t.Run("model", func(t *testing.T) { storagetest.TestModel(t, lead) })
		node := func(t *testing.T, path string) (remote.Driver, remote.Lock) {
			t.Helper()
			l, err := OpenLock(t.Context(), config(t, url, path))
			if err != nil {
				t.Fatal(err)
			}
			return open(t, path), l
		}
		t.Run("nodes", func(t *testing.T) {
			remotetest.TestNodes(t, func(t *testing.T) func() (remote.Driver, remote.Lock) {
				p := path()
				return func() (remote.Driver, remote.Lock) { return node(t, p) }
			})
		})
		t.Run("renewal", func(t *testing.T) {
			p := path()
			remotetest.TestRenewal(t, func() (remote.Driver, remote.Lock) { return node(t, p) })
		})
	})
}

func TestLost(t *testing.T) {
	t.Parallel()
	lost := func(t *testing.T, url string, o remotetest.Outage) {
		t.Helper()
		d, err := Open(t.Context(), config(t, url, "p"))
		if err != nil {
			t.Fatal(err)
		}
		remotetest.TestLost(t, remote.Config{Driver: d}, o)
	}
	t.Run("stand-in", func(t *testing.T) {
		s := database.NewConsulStandIn(t)
		lost(t, s.URL, remotetest.Outage{
			Stop: func() { s.Broken.Store(true) }, Start: func() { s.Broken.Store(false) }, Pause: s.Gate.Lock, Continue: s.Gate.Unlock,
		})
	})
	if program := database.FindConsul(); program != "" {
		t.Run("consul", func(t *testing.T) {
			c := database.NewConsul(t, program)
			lost(t, c.Address(), remotetest.Outage{Stop: c.Stop, Start: c.Start, Pause: c.Pause, Continue: c.Continue})
		})
	}
}

// TestAgentLeaves: the agent of the node that leads leaves Consul, and with it the node's sessions end at once.
func TestAgentLeaves(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(at)
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	agent.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(agent.Close)
	node := func(name, url string) remote.Config {
		l, err := OpenLock(t.Context(), config(t, url, "p"))
		if err != nil {
			t.Fatal(err)
		}
		return remote.Config{
			Driver: mustOpen(t, config(t, url, "p"), 1000), Lock: l, Name: "test", Node: name, Address: name + ":1", TTL: 2 * time.Second, Poll: 50 * time.Millisecond,
		}
	}
	remotetest.TestCutOff(t, node("a", agent.URL), node("b", s.URL), func() {
		gone.Store(true)
		s.Deregister()
	})
}

// TestReleased: who gives a lock back keeps nobody waiting.
func TestReleased(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		open := func() *Lock {
			l, err := OpenLock(t.Context(), config(t, url, "p"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return l
		}
		a, b := open(), open()
		claim := func(l *Lock, id string) string {
			h, err := l.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return h.ID
		}
		if got := claim(a, "a1"); got != "a1" {
			t.Fatalf("%q has a lock that is free", got)
		}
		if got := claim(b, "b1"); got != "a1" {
			t.Fatalf("%q has the lock of a1", got)
		}
		if err := a.Release(t.Context(), "a1"); err != nil {
			t.Fatal(err)
		}
		if got := claim(b, "b2"); got != "b2" {
			t.Errorf("%q has the lock that was given back", got)
		}
	})
}

// Objects of all lengths, in parts and whole; names, groups and what removal leaves.
func TestObjects(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		cfg := config(t, url, "of objects")
		s, _, err := connect(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		name := func(n int) string { return fmt.Sprintf("log/%016x", n) }
		want := map[string][]byte{}
		for n, size := range []int{0, 1, inlineBytes - 1, inlineBytes, inlineBytes + 1, 3*inlineBytes - 1, 3 * inlineBytes} {
			body := make([]byte, size)
			_, _ = rand.Read(body)
			want[name(n*100)] = body
			if _, err := s.PutNew(ctx, name(n*100), body); err != nil {
				t.Fatal(size, err)
			}
			if _, err := s.PutNew(ctx, name(n*100), []byte("another")); !s.IsTaken(err) {
				t.Error(size, err)
			}
		}
		for key, body := range want {
			if got, err := s.Get(ctx, key, 4*inlineBytes); err != nil || !bytes.Equal(got, body) {
				t.Error(key, len(got), err)
			}
			if len(body) > 0 {
				if _, err := s.Get(ctx, key, int64(len(body)-1)); errs.KindOf(err) != errs.TooLarge {
					t.Error(key, err)
				}
			}
		}
		if _, err := s.Get(ctx, name(1), 10); !s.IsNotFound(err) || s.IsTaken(err) {
			t.Error(err)
		}
		if got, all := listed(t, s, ""), slices.Sorted(maps.Keys(want)); !slices.Equal(got, all) {
			t.Errorf("%q, want %q", got, all)
		} else if got := listed(t, s, name(255)); !slices.Equal(got, all[3:]) {
			t.Errorf("%q, want %q", got, all[3:])
		}

		u := s.Upload(ctx, "state/0000000000000010")
		if _, err := u.Write(make([]byte, 2*inlineBytes+5)); err != nil {
			t.Fatal(err)
		}
		if err := u.Abort(); err != nil {
			t.Error(err)
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if err := s.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if left, err := s.list(ctx, s.path, ""); err != nil || len(left) > 0 {
			t.Errorf("%q are left: %v", left, err)
		}
	})
}

func listed(t *testing.T, s objects.Store, after string) (names []string) {
	t.Helper()
	for {
		page, err := s.Page(t.Context(), "log/", after)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			names, after = append(names, o.Key), o.Key
		}
		if !page.More {
			return names
		}
	}
}

// An answer that is lost leaves an object whole, whoever believes what of it.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	cfg := config(t, s.URL, "p")
	kv, _, err := connect(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 3*inlineBytes)
	_, _ = rand.Read(body)
	var lost atomic.Int64
	lose := func(r *http.Request) bool { // each first answer of what names something
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/o/") && lost.Add(1) == 1
	}
	s.Lose.Store(&lose)
	if _, err := kv.PutNew(t.Context(), "log/0000000000000001", body); !kv.IsTaken(err) {
		t.Error("the second attempt finds the first one's: ", err)
	}
	if got, err := kv.Get(t.Context(), "log/0000000000000001", 4*inlineBytes); err != nil || !bytes.Equal(got, body) {
		t.Error(len(got), err)
	}

	all := func(r *http.Request) bool { return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/o/") }
	s.Lose.Store(&all)
	u := kv.Upload(t.Context(), "state/0000000000000001")
	if _, err := u.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(); err == nil || kv.IsRefused(err) {
		t.Error(err)
	}
	if err := u.Abort(); err != nil {
		t.Error(err)
	}
	s.Lose.Store(nil)
	if got, err := kv.Get(t.Context(), "state/0000000000000001", 4*inlineBytes); err != nil || !bytes.Equal(got, body) {
		t.Error("a state that is named must be whole:", len(got), err)
	}
	if err := errors.Join(kv.Delete(t.Context(), "log/0000000000000002"), kv.Delete(t.Context(), "state/0000000000000002")); err != nil {
		t.Error(err)
	}
	for _, key := range s.Keys() {
		if strings.Contains(key, "/p/") {
			t.Errorf("%s is left", key)
		}
	}
}

func write(t *testing.T, d *Driver, fence, key, value string) error {
	t.Helper()
	return d.Write(t.Context(), fence, remote.Plan(storage.Batch{{Kind: storage.Put, Key: key, Value: []byte(value)}}), nil)
}

func mustOpen(t *testing.T, cfg Config, records uint64) *Driver {
	t.Helper()
	d, err := openDriver(t.Context(), cfg, records, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // before t may log no more, which it does when its service ends
	return d
}

func mustClaim(t *testing.T, d *Driver, id string) {
	t.Helper()
	if h, err := d.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: 15 * time.Second, Steal: true}); err != nil || h.ID != id {
		t.Fatal(h, err)
	}
}

// A node that slept writes under a number that was removed, and another state takes the place of the one that shows it just while it looks: what
// it wrote is in no history, and not acknowledged.
func TestLateWriter(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	below := func(dir string) (keys []string) {
		for _, key := range s.Keys() {
			if strings.HasPrefix(key, "p/o/"+dir+"/") {
				keys = append(keys, key)
			}
		}
		return keys
	}
	cfg := config(t, s.URL, "p")
	cfg.API.Options["token"] = "slow"
	slow := mustOpen(t, cfg, 10)
	mustClaim(t, slow, "slow")
	if err := write(t, slow, "slow", "first", "1"); err != nil {
		t.Fatal(err)
	}
	fast := mustOpen(t, config(t, s.URL, "p"), 10)
	mustClaim(t, fast, "fast")
	n := 0
	until := func(what string, ok func() bool) {
		for range 3000 {
			if ok() {
				return
			}
			n++
			if err := write(t, fast, "fast", fmt.Sprint("k", n), "x"); err != nil {
				t.Fatal(err)
			}
		}
		t.Errorf("never: %s", what)
	}
	until("a number that is free again", func() bool {
		log := below("log")
		return len(below("state")) == 1 && len(log) > 0 && log[0] > "p/o/log/00000000000000/03"
	})
	group := below("state")[0][:len("p/o/state/00000000000000/")]
	looks := 0
	hook := func(r *http.Request) int {
		if r.Header.Get("X-Consul-Token") != "slow" || !strings.HasPrefix(r.URL.Path, "/v1/kv/p/o/state/") {
			return 0
		}
		if looks++; looks == 1 && r.URL.Query().Get("separator") == "" || looks == 2 {
			until("a state in another group", func() bool {
				states := below("state")
				return len(states) > 0 && !strings.HasPrefix(states[0], group)
			})
		}
		return 0
	}
	s.Before.Store(&hook)
	if err := write(t, slow, "slow", "acknowledged", "1"); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("who slept wrote: %v", err)
	}
	s.Before.Store(nil)
	if looks == 0 {
		t.Error("it did not look for a state")
	}
}

// Parts of a large write that fails are gone at once, and the term goes on: nothing was written.
func TestPartsFail(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	d := mustOpen(t, config(t, s.URL, "p"), 1000)
	mustClaim(t, d, "a")
	for _, status := range []int{http.StatusRequestEntityTooLarge, http.StatusInternalServerError} {
		hook := func(r *http.Request) int {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/p/log/") && strings.HasSuffix(r.URL.Path, "/3") {
				return status
			}
			return 0
		}
		s.Before.Store(&hook)
		if err := write(t, d, "a", "big", strings.Repeat("x", 5*inlineBytes)); err == nil || errors.Is(err, remote.ErrUnknown) {
			t.Errorf("%d: %v", status, err)
		}
		for _, key := range s.Keys() {
			if strings.HasPrefix(key, "p/p/") {
				t.Errorf("%d: %s is left", status, key)
			}
		}
	}
	s.Before.Store(nil)
	if err := write(t, d, "a", "big", strings.Repeat("x", 5*inlineBytes)); err != nil {
		t.Error(err)
	}
}

// A node whose key another has taken looks at the log at its next renewal, and does not take the key back.
func TestRenewalSeesAnother(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	a, b := mustOpen(t, config(t, s.URL, "p"), 1000), mustOpen(t, config(t, s.URL, "p"), 1000)
	mustClaim(t, a, "a")
	mustClaim(t, b, "b")
	if h, err := a.Renew(t.Context(), remote.Claim{ID: "a", Value: "{}", TTL: 15 * time.Second}); err != nil || h.ID != "b" {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := b.Renew(t.Context(), remote.Claim{ID: "b", Value: "{}", TTL: 15 * time.Second}); err != nil || h.ID != "b" {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := b.Holder(t.Context()); err != nil || h.ID != "b" {
		t.Errorf("%+v, %v", h, err)
	}
}

// Vault's default path is arca's: what lies there is not taken for nothing.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	cfg := config(t, s.URL, "vault")
	kv, _, err := connect(&cfg)
	if err == nil {
		err = kv.put(t.Context(), "vault/core/seal-config", []byte("{}"), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Open(t.Context(), cfg); errs.KindOf(err) != errs.Precondition {
		t.Error(d, err)
	}
	if got := s.Keys(); len(got) != 1 {
		t.Errorf("something was written: %q", got)
	}
}

// What is answered may be anything.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"", "null", "true", "[]", `["x"]`, `[null]`, `{}`, `[{"Value":"!"}]`, strings.Repeat("[", 100), `[{"Value":"e30=","Session":"s"}]`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		cfg := config(t, srv.URL, "p")
		if d, err := Open(t.Context(), cfg); err == nil {
			_ = d.Close()
			t.Errorf("opened with %q", answer)
		}
		if l, err := OpenLock(t.Context(), cfg); err == nil {
			if h, err := l.Claim(t.Context(), remote.Claim{ID: "i", TTL: time.Second}); err == nil && h.ID == "i" {
				t.Errorf("locked with %q", answer)
			}
		}
		srv.Close()
	}
	for _, cfg := range []Config{{Path: "/"}, {Path: "a//b"}, {Path: "a/../b"}, {Path: "a\x00"}, {Session: time.Second}, {Session: 48 * time.Hour}} {
		cfg.API = api.Config{Getenv: func(string) string { return "" }}
		if _, err := OpenLock(t.Context(), cfg); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
