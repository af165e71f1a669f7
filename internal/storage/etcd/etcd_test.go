package etcd_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"arca/internal/arcatest/database"
	"arca/internal/storage"
	"arca/internal/storage/etcd"
	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
	"arca/internal/storage/storagetest"
)

func open(t *testing.T, cfg etcd.Config) *etcd.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openLock(t *testing.T, cfg etcd.Config) *etcd.Lock {
	t.Helper()
	l, err := etcd.OpenLock(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEtcd(t *testing.T) {
	t.Parallel()
	e := database.NewEtcd(t)
	config := func() etcd.Config {
		return etcd.Config{Address: "http://127.0.0.1:1, " + e.Address(), Path: e.NewPath()}
	}
	lead := func(t *testing.T) storage.Backend {
		return remotetest.Lead(t, remote.Config{Driver: open(t, config())})
	}
	t.Run("contract", func(t *testing.T) { storagetest.TestBackend(t, lead) })
	t.Run("model", func(t *testing.T) { storagetest.TestModel(t, lead) })
	t.Run("largest value", func(t *testing.T) { testLargest(t, config()) })
	t.Run("alive kept", func(t *testing.T) { testAliveKept(t, config()) })
	t.Run("slow redo", func(t *testing.T) { testSlowRedo(t, config()) })
	t.Run("full", func(t *testing.T) { testFull(t, config) })
	t.Run("large writes", func(t *testing.T) { testLarge(t, config()) })
	t.Run("foreign", func(t *testing.T) { testForeign(t, e, config()) })
	t.Run("nodes", func(t *testing.T) {
		remotetest.TestNodes(t, func(t *testing.T) func() (remote.Driver, remote.Lock) {
			cfg := config()
			return func() (remote.Driver, remote.Lock) { return open(t, cfg), openLock(t, cfg) }
		})
	})
	t.Run("renewal", func(t *testing.T) {
		cfg := config()
		remotetest.TestRenewal(t, func() (remote.Driver, remote.Lock) { return open(t, cfg), openLock(t, cfg) })
	})
	t.Run("renewal in a write", func(t *testing.T) { remotetest.TestRenewalInWrite(t, open(t, config())) })
	t.Run("lost", func(t *testing.T) {
		remotetest.TestLost(t, remote.Config{Driver: open(t, config())}, remotetest.Outage{
			Stop: e.Stop, Start: e.Start, Pause: e.Pause, Continue: e.Continue,
		})
	})
}

// largeBatch deletes below a prefix, and writes more keys and bytes than one of etcd's transactions takes.
func largeBatch(value string) storage.Batch {
	b := storage.Batch{{Kind: storage.DeletePrefix, Key: "d/"}}
	for i := range 250 {
		b = append(b, storage.Op{Kind: storage.Put, Key: fmt.Sprintf("d/%03d", i), Value: []byte(value)})
	}
	for i := range 4 {
		b = append(b, storage.Op{Kind: storage.Put, Key: fmt.Sprintf("big/%d", i), Value: bytes.Repeat([]byte(value), 300_000)})
	}
	return b
}

func count(t *testing.T, r storage.Reader, prefix, value string) (n int) {
	t.Helper()
	it, err := r.Scan(t.Context(), storage.ScanOptions{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	for it.Next() {
		if v, err := it.Value(); err != nil || !strings.HasPrefix(string(v), value) {
			t.Fatalf("%q is %.10q, %v", it.Key(), v, err)
		}
		n++
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// testLarge breaks writes through the journal off at each of their steps: they happen wholly or not at all.
func testLarge(t *testing.T, cfg etcd.Config) {
	b := remotetest.Lead(t, remote.Config{Driver: open(t, cfg)})
	if err := b.Apply(t.Context(), largeBatch("a")); err != nil {
		t.Fatal(err)
	}
	if n, m := count(t, b, "d/", "a"), count(t, b, "big/", "a"); n != 250 || m != 4 {
		t.Fatalf("%d and %d entries", n, m)
	}
	b.Stop()
	committed, not := 0, 0
	old := "a"
	for step := range 60 {
		d := open(t, cfg)
		id := fmt.Sprint("id", step)
		claim := remote.Claim{ID: id, Value: "{}", TTL: 15e9, Steal: true}
		if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != id {
			t.Fatal(h, err)
		}
		next := string(rune('b' + step%20))
		broken := etcd.BreakAt(d, step)
		err := broken.Write(t.Context(), id, remote.Plan(largeBatch(next)), nil)
		if step == 0 && !errors.Is(err, remote.ErrUnknown) {
			t.Fatalf("a deletion that may yet come is not told: %v", err)
		}
		after := fmt.Sprint("after", step)
		claim.ID = after
		if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != after { // carries out what is committed
			t.Fatal(h, err)
		}
		r := remote.New(remote.Config{Driver: d})
		switch {
		case err == nil || errors.Is(err, remote.ErrUnknown):
			first, gerr := r.Get(t.Context(), "d/000")
			if gerr != nil {
				t.Fatal(gerr)
			}
			if err == nil && string(first) != next {
				t.Fatalf("step %d: acknowledged, and not there", step)
			}
			if string(first) == next {
				old = next
				committed++
			}
		default:
			not++
		}
		if n, m := count(t, r, "d/", old), count(t, r, "big/", old); n != 250 || m != 4 {
			t.Fatalf("step %d (%v): %d and %d entries", step, err, n, m)
		}
		if cerr := d.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if err == nil {
			break
		}
	}
	if committed < 2 || not < 2 {
		t.Errorf("%d were committed, %d not: the test does not reach both", committed, not)
	}
}

// testFull: etcd says that it has no room, and has done what it was asked for all the same, as it does when the room runs out on the way. What is
// said of a write is what is there.
func testFull(t *testing.T, config func() etcd.Config) {
	const key = "k"
	small := &remote.Write{Puts: []storage.Entry{{Key: key, Value: []byte("new")}}, Deletes: []string{"gone"}}
	large := &remote.Write{Puts: []storage.Entry{{Key: key, Value: []byte("new")}}}
	for i := range 2 * etcd.MaxOps {
		large.Puts = append(large.Puts, storage.Entry{Key: fmt.Sprintf("l/%03d", i), Value: []byte("v")})
	}
	const mark = 1 + 3 + 1 // the transaction that commits the large one, behind the deletion of what was left and three parts
	for _, c := range []struct {
		name    string
		w       *remote.Write
		n       int
		carried bool
		taken   bool // another has the fence by then
		is      func(err error) bool
		want    string
	}{
		{"not done", small, 1, false, false, func(err error) bool { return err != nil && !errors.Is(err, remote.ErrUnknown) }, "old"},
		{"done", small, 1, true, false, func(err error) bool { return err == nil }, "new"},
		{"refused", small, 1, true, true, func(err error) bool { return errors.Is(err, remote.ErrUnknown) }, "old"},
		{"not committed", large, mark, false, false, func(err error) bool { return err != nil && !errors.Is(err, remote.ErrUnknown) }, "old"},
		{"committed", large, mark, true, false, func(err error) bool { return errors.Is(err, remote.ErrUnknown) }, "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, config())
			defer func() { _ = d.Close() }() // of which nothing is asked any more
			claim := remote.Claim{ID: "first", Value: "{}", TTL: 15e9, Steal: true}
			if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != claim.ID {
				t.Fatal(h, err)
			}
			before := &remote.Write{Puts: []storage.Entry{{Key: "gone", Value: []byte("v")}, {Key: key, Value: []byte("old")}}}
			if err := d.Write(t.Context(), "first", before, nil); err != nil {
				t.Fatal(err)
			}
			claim.ID = "next"
			if c.taken {
				if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != claim.ID {
					t.Fatal(h, err)
				}
			}
			if err := etcd.Full(d, c.n, c.carried).Write(t.Context(), "first", c.w, nil); !c.is(err) {
				t.Errorf("the write: %v", err)
			}
			if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != claim.ID { // carries out what is committed
				t.Fatal(h, err)
			}
			if value, err := d.Get(t.Context(), key); err != nil || string(value) != c.want {
				t.Errorf("there is %q, %v", value, err)
			}
		})
	}
}

// testSlowRedo carries out a journal of many parts, a few at each of several claims that have no time for more.
func testSlowRedo(t *testing.T, cfg etcd.Config) {
	d := open(t, cfg)
	defer func() { _ = d.Close() }() // of which nothing is asked any more
	claim := remote.Claim{ID: "first", Value: "{}", TTL: 15e9, Steal: true}
	if h, err := d.Claim(t.Context(), claim); err != nil || h.ID != claim.ID {
		t.Fatal(h, err)
	}
	const parts = 20
	w := &remote.Write{}
	for i := range parts * etcd.MaxOps {
		w.Puts = append(w.Puts, storage.Entry{Key: fmt.Sprintf("k/%05d", i), Value: []byte("v")})
	}
	// The deletion of what another journal left, the parts, the mark.
	if err := etcd.BreakAt(d, 1+parts+1).Write(t.Context(), "first", w, nil); !errors.Is(err, remote.ErrUnknown) {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		claim.ID = fmt.Sprint("later", n)
		h, err := etcd.BreakAt(d, 12).Claim(t.Context(), claim)
		if err == nil && h.ID == claim.ID {
			t.Logf("after %d claims that were broken off", n)
			break
		}
		if n == parts {
			t.Fatalf("after %d claims: %v", n, err)
		}
	}
	if n := count(t, remote.New(remote.Config{Driver: d}), "k/", "v"); n != len(w.Puts) {
		t.Errorf("%d entries of %d", n, len(w.Puts))
	}
}

// testAliveKept has another take the fence while it is renewed, just before the key that shows who lives is made again: that stays the other's.
func testAliveKept(t *testing.T, cfg etcd.Config) {
	a, b := open(t, cfg), open(t, cfg)
	for _, d := range []*etcd.Driver{a, b} {
		t.Cleanup(func() { _ = d.Close() }) // of which nothing is asked any more
	}
	claim := func(d *etcd.Driver, id string) {
		t.Helper()
		if h, err := d.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: 15e9, Steal: true}); err != nil || h.ID != id {
			t.Error(h, err)
		}
	}
	claim(a, "a")
	taken := false
	etcd.Before(a, "/v3/lease/keepalive", 1, func() { taken = true; claim(b, "b") })
	if h, err := a.Renew(t.Context(), remote.Claim{ID: "a", Value: "{}", TTL: 15e9}); err != nil || h.ID != "b" || !taken {
		t.Errorf("the renewal: %+v, %v, %t", h, err, taken)
	}
	if h, err := a.Holder(t.Context()); err != nil || h.ID != "b" {
		t.Errorf("who lives: %+v, %v", h, err)
	}
}

// testLargest writes the largest value alone, and as a part of a journal.
func testLargest(t *testing.T, cfg etcd.Config) {
	b := remotetest.Lead(t, remote.Config{Driver: open(t, cfg)})
	key := strings.Repeat("k", etcd.MaxKeyBytes)
	for _, batch := range []storage.Batch{
		{{Kind: storage.Put, Key: key, Value: make([]byte, etcd.MaxValueBytes)}},
		{{Kind: storage.DeletePrefix, Key: "k"}, {Kind: storage.Put, Key: key, Value: make([]byte, etcd.MaxValueBytes)}},
	} {
		if err := b.Apply(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: key, Value: make([]byte, etcd.MaxValueBytes+1)}})
	if !errors.Is(err, storage.ErrNotApplied) || !strings.Contains(err.Error(), "etcd takes 1048576") {
		t.Errorf("a larger value: %.300v", err)
	}
}

// TestLogin answers as an etcd does that has changed its users since the token was given.
func TestLogin(t *testing.T) {
	t.Parallel()
	for _, refusal := range []string{
		`{"code": 3, "message": "etcdserver: revision of auth store is old"}`,
		`{"code": 3, "message": "etcdserver: user name is empty"}`,
		`{"code": 16, "message": "etcdserver: invalid auth token"}`,
	} {
		logins, asked := 0, 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v3/auth/authenticate":
				logins++
				_, _ = fmt.Fprintf(w, `{"token": "t%d"}`, logins)
			case r.Header.Get("Authorization") != "t2" && asked > 0, r.Header.Get("Authorization") == "":
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(refusal))
			default:
				asked++
				_, _ = w.Write([]byte(`{"responses": [{}, {}]}`))
			}
		}))
		t.Cleanup(server.Close)
		d := open(t, etcd.Config{Address: server.URL, Username: "arca", Password: "x"})
		if _, err := d.Get(t.Context(), "a"); !storage.IsNotFound(err) || logins != 2 {
			t.Errorf("%s: %v after %d logins", refusal, err, logins)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func testForeign(t *testing.T, e *database.Etcd, cfg etcd.Config) {
	body := fmt.Sprintf(`{"key": %q, "value": "eA=="}`, base64.StdEncoding.EncodeToString([]byte(cfg.Path+"core/keyring")))
	res, err := http.Post(e.Address()+"/v3/kv/put", "application/json", strings.NewReader(body)) //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if _, err := etcd.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "lie entries that arca did not write") {
		t.Errorf("foreign entries: %v", err)
	}
	if _, err := etcd.Open(t.Context(), etcd.Config{Address: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "etcd cannot be reached") {
		t.Errorf("no server: %v", err)
	}
	if _, err := etcd.Open(t.Context(), etcd.Config{Address: "127.0.0.1:2379"}); err == nil || !strings.Contains(err.Error(), "is no URL") {
		t.Errorf("no URL: %v", err)
	}
}
