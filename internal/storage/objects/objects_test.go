package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"arca/internal/aws"
	buckets "arca/internal/aws/s3"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
	"arca/internal/storage/storagetest"
)

// A service is another's server of S3's protocol, with a clock that can be moved, and which can be taken away.
type service struct {
	backend *s3mem.Backend
	inner   http.Handler
	url     string
	ahead   atomic.Int64 // of its clock
	broken  atomic.Bool
	gate    sync.RWMutex // held while the service stands still
	before  atomic.Pointer[func(r *http.Request) bool]
	after   atomic.Pointer[func(r *http.Request) bool]
}

// Now implements gofakes3.TimeSource.
func (s *service) Now() time.Time                  { return time.Now().Add(time.Duration(s.ahead.Load())) }
func (s *service) Since(t time.Time) time.Duration { return s.Now().Sub(t) }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	drop := func(hook *atomic.Pointer[func(*http.Request) bool]) bool {
		fn := hook.Load()
		return fn != nil && (*fn)(r)
	}
	if s.broken.Load() || drop(&s.before) {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	if fn := s.after.Load(); fn != nil {
		rec := httptest.NewRecorder()
		s.inner.ServeHTTP(rec, r)
		if (*fn)(r) {
			panic(http.ErrAbortHandler)
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		return
	}
	s.inner.ServeHTTP(w, r)
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{}
	s.backend = s3mem.New(s3mem.WithTimeSource(s))
	if err := s.backend.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	s.inner = gofakes3.New(s.backend, gofakes3.WithTimeSource(s), gofakes3.WithTimeSkewLimit(0)).Server()
	srv := httptest.NewServer(s)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

var folders atomic.Int64

func (s *service) config(t *testing.T, path string) Config {
	t.Helper()
	b, err := buckets.Open(buckets.Config{
		Bucket: "b", Region: "us-east-1", Endpoint: s.url, PathStyle: true, Keys: aws.Keys{Access: "AK", Secret: "SK"}, HTTP: &http.Client{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Store: Bucket{b}, Path: path, Dir: filepath.Join(t.TempDir(), fmt.Sprint(folders.Add(1))), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func open(t *testing.T, cfg Config) *Driver {
	t.Helper()
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // before its service, and before t may log no more
	return d
}

func (s *service) objects(t *testing.T, prefix string) (keys []string) {
	t.Helper()
	list, err := s.backend.ListBucket("b", &gofakes3.Prefix{HasPrefix: true, Prefix: prefix}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Contents {
		keys = append(keys, o.Key)
	}
	return keys
}

func TestS3(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var paths atomic.Int64
	path := func() string { return fmt.Sprint("arca/", paths.Add(1)) }
	lead := func(t *testing.T) storage.Backend {
		cfg := s.config(t, path())
		cfg.Records, cfg.Bytes = 20, 1<<20
		return remotetest.Lead(t, remote.Config{Driver: open(t, cfg)})
	}
	t.Run("contract", func(t *testing.T) { storagetest.TestBackend(t, lead) })
	t.Run("model", func(t *testing.T) { storagetest.TestModel(t, lead) })
	t.Run("nodes", func(t *testing.T) {
		remotetest.TestNodes(t, func(t *testing.T) func() (remote.Driver, remote.Lock) {
			p, l := path(), &lock{}
			return func() (remote.Driver, remote.Lock) {
				cfg := s.config(t, p)
				cfg.Records, cfg.Bytes = 20, 1<<20
				return open(t, cfg), l
			}
		})
	})
	t.Run("renewal", func(t *testing.T) {
		p, l := path(), &lock{}
		var later atomic.Int64 // after what a claim is looked for
		remotetest.TestRenewal(t, func() (remote.Driver, remote.Lock) {
			cfg := s.config(t, p)
			cfg.now = func() time.Time { return time.Now().Add(time.Duration(later.Add(int64(checkEvery)))) }
			return open(t, cfg), l
		})
	})
	t.Run("renewal in a write", func(t *testing.T) { remotetest.TestRenewalInWrite(t, open(t, s.config(t, path()))) })
	t.Run("lost", func(t *testing.T) {
		s := newService(t)
		remotetest.TestLost(t, remote.Config{Driver: open(t, s.config(t, "p"))}, remotetest.Outage{
			Stop: func() { s.broken.Store(true) }, Start: func() { s.broken.Store(false) }, Pause: s.gate.Lock, Continue: s.gate.Unlock,
		})
	})
}

func mustClaim(t *testing.T, d *Driver, id string) {
	t.Helper()
	if h, err := d.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: 15 * time.Second, Steal: true}); err != nil || h.ID != id {
		t.Fatal(h, err)
	}
}

func put(key, value string) *remote.Write {
	return &remote.Write{Puts: []storage.Entry{{Key: key, Value: []byte(value)}}}
}

func mustWrite(t *testing.T, d *Driver, fence, key, value string) {
	t.Helper()
	if err := d.Write(t.Context(), fence, put(key, value), nil); err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, d *Driver, key string) string {
	t.Helper()
	v, err := d.Get(t.Context(), key)
	if err != nil && !storage.IsNotFound(err) {
		t.Fatal(err)
	}
	return string(v)
}

// settle waits until no state is under way.
func settle(t *testing.T, d *Driver) {
	t.Helper()
	remotetest.Await(t, "the state to be saved", func() bool {
		if err := d.turn.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer d.turn.give()
		return !d.saving
	})
}

// TestStates: states take the place of the log, which is bounded, and a start reads one and what comes after it. A server that
// slept while its numbers were used by another and removed again does not use them once more.
func TestStates(t *testing.T) {
	t.Parallel()
	s := newService(t)
	small := func() Config {
		cfg := s.config(t, "p")
		cfg.Records, cfg.Bytes = 10, 1<<30
		return cfg
	}
	cfg := small()
	var asleep atomic.Int64
	cfg.now = func() time.Time { return time.Now().Add(time.Duration(asleep.Load())) }
	a := open(t, cfg)
	mustClaim(t, a, "a")
	mustWrite(t, a, "a", "k", "a1")

	b := open(t, small())
	mustClaim(t, b, "b")
	for round := range 4 {
		for i := range 12 {
			mustWrite(t, b, "b", "k", fmt.Sprint("b", round, i))
		}
		settle(t, b)
		s.ahead.Add(int64(2 * removeAfter))
	}
	if keys := s.objects(t, "p/state/"); len(keys) != 1 {
		t.Errorf("states: %q", keys)
	}
	if keys := s.objects(t, "p/log/"); len(keys) > 30 {
		t.Errorf("%d records are left of some 50", len(keys))
	}
	if keys := s.objects(t, "p/log/"+name("", 3)); len(keys) != 0 {
		t.Fatalf("the number that the first would use is not free: %q", keys)
	}
	asleep.Add(int64(8 * removeAfter))
	if err := a.Write(t.Context(), "a", put("k", "a2"), nil); !errors.Is(err, remote.ErrFenced) {
		t.Fatalf("who slept wrote: %v", err)
	}
	c := open(t, small())
	if got := value(t, c, "k"); got != "b3 11" {
		t.Errorf("k is %q", got)
	}
	// It comes back, behind a state that it has not seen.
	mustClaim(t, a, "a2")
	if got := value(t, a, "k"); got != "b3 11" {
		t.Errorf("k is %q", got)
	}
	mustWrite(t, a, "a2", "k", "a3")
	if err := b.Write(t.Context(), "b", put("k", "b"), nil); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("two write: %v", err)
	}
	if h, err := c.Holder(t.Context()); err != nil || h.ID != "a2" || h.Left <= 0 || value(t, c, "k") != "a3" {
		t.Errorf("%+v, %v, %q; %v after %v", h, err, value(t, c, "k"), c.gone, c.seen)
	}
	if err := a.Release(t.Context(), "a2"); err != nil {
		t.Error(err)
	}
	if h, err := c.Holder(t.Context()); err != nil || h.ID != "" {
		t.Errorf("given back: %+v, %v", h, err)
	}
	if err := a.Write(t.Context(), "", put("k", "x"), nil); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("nobody writes: %v", err)
	}
	if err := errors.Join(a.Close(), b.Close(), c.Close()); err != nil {
		t.Error(err)
	}
}

// TestFalseRecord: what a server that slept writes into a number that was removed is history for nobody, though the records behind
// it are still there.
func TestFalseRecord(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := open(t, s.config(t, "p")) // its own clocks stand still: the machine was suspended
	mustClaim(t, a, "a")
	mustWrite(t, a, "a", "k", "a1")
	cfg := s.config(t, "p")
	cfg.Records, cfg.Bytes = 10, 1<<30
	b := open(t, cfg)
	mustClaim(t, b, "b")
	s.ahead.Add(int64(removeAfter + time.Minute))
	for i := range 14 {
		mustWrite(t, b, "b", fmt.Sprint("acked", i), "yes")
	}
	settle(t, b)
	if keys := s.objects(t, "p/log/"+name("", 3)); len(keys) != 0 {
		t.Fatalf("the number that the first would use is not free: %q", keys)
	}
	if err := a.Write(t.Context(), "a", put("k", "refused"), nil); !errors.Is(err, remote.ErrFenced) {
		t.Fatalf("who slept wrote: %v", err)
	}
	mustClaim(t, a, "a2")
	mustWrite(t, a, "a2", "x", "y")
	for what, d := range map[string]*Driver{"the one that slept": a, "a new one": open(t, s.config(t, "p"))} {
		for i := range 14 {
			if value(t, d, fmt.Sprint("acked", i)) != "yes" {
				t.Errorf("%s lacks the acknowledged write %d", what, i)
			}
		}
		if got := value(t, d, "k"); got != "a1" {
			t.Errorf("%s: k is %q", what, got)
		}
	}
}

// A clockless Store does not know when anything was.
type clockless struct{ Store }

func (c clockless) PutNew(ctx context.Context, key string, body []byte) (time.Time, error) {
	_, err := c.Store.PutNew(ctx, key, body)
	return time.Time{}, err
}

func (c clockless) Page(ctx context.Context, prefix, after string) (Page, error) {
	p, err := c.Store.Page(ctx, prefix, after)
	p.Now = time.Time{}
	for i := range p.Objects {
		p.Objects[i].LastModified = time.Time{}
	}
	return p, err
}

// TestClockless: without a clock records go as soon as a state has them. A number that is free again is written by one that slept while another
// node is between looking for a state and reading the log: neither takes it for history.
func TestClockless(t *testing.T) {
	t.Parallel()
	s := newService(t)
	config := func() Config {
		cfg := s.config(t, "p")
		cfg.Store, cfg.often = clockless{cfg.Store}, time.Hour
		return cfg
	}
	a := open(t, config())
	mustClaim(t, a, "a")
	mustWrite(t, a, "a", "k", "a1")
	c := open(t, config()) // follows when it is told to
	cfg := config()
	cfg.Records, cfg.Bytes = 10, 1<<30
	b := open(t, cfg)

	// With two records of a's, a claim and seven writes a state is due, and there is nothing behind it.
	var once atomic.Bool
	hook := func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Query().Get("prefix"), "p/log/") && once.CompareAndSwap(false, true) {
			mustClaim(t, b, "b")
			for i := range 7 {
				mustWrite(t, b, "b", fmt.Sprint("acked", i), "yes")
			}
			settle(t, b)
			if keys := s.objects(t, "p/log/"+name("", 3)); len(keys) != 0 {
				t.Errorf("the number that the first would use is not free: %q", keys)
			}
			if err := a.Write(t.Context(), "a", put("k", "refused"), nil); !errors.Is(err, remote.ErrFenced) {
				t.Errorf("who slept wrote: %v", err)
			}
			if keys := s.objects(t, "p/log/"+name("", 3)); len(keys) != 1 {
				t.Errorf("what it wrote is not there: the test tests nothing")
			}
		}
		return false
	}
	s.before.Store(&hook)
	if h, err := c.Holder(t.Context()); err != nil || h.ID != "b" {
		t.Errorf("the claim of %q, %v", h.ID, err)
	}
	for i := range 7 {
		if value(t, c, fmt.Sprint("acked", i)) != "yes" {
			t.Errorf("the acknowledged write %d is missing", i)
		}
	}
	if got := value(t, c, "k"); got != "a1" {
		t.Errorf("k is %q", got)
	}
}

// TestLook shows what another has written to one who reads and does not write, a moment later, also while nobody follows.
func TestLook(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	reading := s.config(t, "p")
	reading.often = time.Hour
	reading.now = func() time.Time { return time.Unix(0, now.Load()) }
	b := open(t, reading)
	a := open(t, s.config(t, "p"))
	mustClaim(t, a, "a")
	mustWrite(t, a, "a", "k", "v")
	now.Add(int64(lookEvery))
	if got := value(t, b, "k"); got != "v" {
		t.Errorf("it reads %q", got)
	}
	mustWrite(t, a, "a", "k", "w")
	if got := value(t, b, "k"); got != "v" {
		t.Errorf("it looks each time: %q", got)
	}
	now.Add(int64(lookEvery))
	hook := func(*http.Request) bool { return true } // no answer comes
	s.before.Store(&hook)
	if got := value(t, b, "k"); got != "v" {
		t.Errorf("it reads %q", got)
	}
	s.before.Store(nil)
	if got := value(t, b, "k"); got != "w" {
		t.Errorf("it reads %q", got)
	}
}

// TestTakeOver: a claim waits for no state that takes longer to fetch, and succeeds once it is there.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	s := newService(t)
	standby := s.config(t, "p")
	standby.often = 20 * time.Millisecond
	c := open(t, standby)
	if err := c.turn.take(t.Context()); err != nil { // it hears of nothing yet
		t.Fatal(err)
	}
	cfg := s.config(t, "p")
	cfg.Records, cfg.Bytes = 10, 1<<30
	b := open(t, cfg)
	var blocked atomic.Bool
	gate := make(chan struct{})
	hook := func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/state/") {
			blocked.Store(true)
			<-gate
		}
		return false
	}
	s.before.Store(&hook)
	mustClaim(t, b, "b")
	for i := range 12 {
		mustWrite(t, b, "b", fmt.Sprint(i), "x")
	}
	settle(t, b)
	c.turn.give()
	claim := func(id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := c.Claim(ctx, remote.Claim{ID: id, Steal: true, TTL: 15 * time.Second})
		return err
	}
	remotetest.Await(t, "the standby to fetch the state", blocked.Load)
	if err := claim("early"); err == nil && value(t, c, "11") != "x" {
		t.Error("a claim without what was written before it")
	}
	close(gate)
	n := 0
	remotetest.Await(t, "the claim", func() bool { n++; return claim(fmt.Sprint(n)) == nil })
	if got := value(t, c, "11"); got != "x" {
		t.Errorf("what was written before is %q", got)
	}
}

// TestStartWhileSwept: records that go while a start fetches the state before them are no damage.
func TestStartWhileSwept(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cfg := s.config(t, "p")
	cfg.Records, cfg.Bytes = 10, 1<<30
	b := open(t, cfg)
	mustClaim(t, b, "b")
	write := func(n int) {
		for i := range n {
			if err := b.Write(t.Context(), "b", put(fmt.Sprint(i), "x"), nil); err != nil {
				t.Error(err)
			}
		}
		settle(t, b)
	}
	write(10)
	s.ahead.Add(int64(removeAfter + time.Minute))
	write(11)
	s.ahead.Add(int64(removeAfter + time.Minute))
	var once atomic.Bool
	hook := func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/state/") && once.CompareAndSwap(false, true) {
			write(14)
		}
		return false
	}
	s.after.Store(&hook)
	c := open(t, s.config(t, "p"))
	if got := value(t, c, "13"); got != "x" {
		t.Errorf("what was written meanwhile is %q", got)
	}
}

// TestAnswersLost: an answer that gets lost is no write that gets lost, nor one that happens twice; and when nobody can be asked,
// the outcome is not known until the next claim has found out.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	s := newService(t)
	d := open(t, s.config(t, "p"))
	mustClaim(t, d, "1")
	lose := func(n int32) *func(*http.Request) bool {
		var left atomic.Int32
		left.Store(n)
		fn := func(r *http.Request) bool { return r.Method == http.MethodPut && left.Add(-1) >= 0 }
		return &fn
	}
	s.after.Store(lose(1)) // it was done, and the second attempt finds it
	mustWrite(t, d, "1", "k", "one")
	s.after.Store(nil)
	s.before.Store(lose(2)) // it was not done at first
	mustWrite(t, d, "1", "k", "two")
	s.before.Store(nil)

	down := func(r *http.Request) bool { return true }
	putOnly := func(r *http.Request) bool { return r.Method == http.MethodPut || s.broken.Load() }
	for id, hook := range map[string]struct {
		at   *atomic.Pointer[func(*http.Request) bool]
		fn   func(*http.Request) bool
		want string
	}{"happened": {&s.after, putOnly, "new"}, "did not": {&s.before, down, "old"}} {
		mustClaim(t, d, id)
		mustWrite(t, d, id, "k", "old")
		fn := hook.fn
		if id == "happened" {
			fn = func(r *http.Request) bool {
				if r.Method == http.MethodPut {
					s.broken.Store(true) // nor can anybody be asked
				}
				return putOnly(r)
			}
		}
		hook.at.Store(&fn)
		err := d.Write(t.Context(), id, put("k", "new"), nil)
		if !errors.Is(err, remote.ErrUnknown) {
			t.Errorf("%s: %v", id, err)
		}
		hook.at.Store(nil)
		s.broken.Store(false)
		mustClaim(t, d, id+", again")
		if got := value(t, d, "k"); got != hook.want {
			t.Errorf("%s: k is %q", id, got)
		}
	}
	// A refusal is no doubt.
	denied := func(r *http.Request) bool { r.Method = http.MethodConnect; return false }
	mustClaim(t, d, "last")
	s.before.Store(&denied)
	err := d.Write(t.Context(), "last", put("k", "x"), nil)
	s.before.Store(nil)
	if err == nil || errors.Is(err, remote.ErrUnknown) {
		t.Errorf("refused: %v", err)
	}
	mustWrite(t, d, "last", "k", "y")
	// ... but where an attempt before it got no answer.
	var puts atomic.Int32
	first := func(r *http.Request) bool { return r.Method == http.MethodPut && puts.Add(1) == 1 }
	then := func(r *http.Request) bool {
		if puts.Load() >= 1 {
			r.Method = http.MethodConnect
		}
		return false
	}
	s.after.Store(&first)
	s.before.Store(&then)
	err = d.Write(t.Context(), "last", put("k", "z"), nil)
	s.after.Store(nil)
	s.before.Store(nil)
	if !errors.Is(err, remote.ErrUnknown) {
		t.Errorf("refused, after an attempt that was served: %v", err)
	}
	mustClaim(t, d, "after it")
	if got := value(t, d, "k"); got != "z" {
		t.Errorf("k is %q", got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestDamage: what is not a record, a gap, and a state that is none are said, and nothing is taken for an empty store.
func TestDamage(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(*testing.T, *service){
		"lacks a record: number 2": func(t *testing.T, s *service) {
			if _, err := s.backend.DeleteObject("b", "p/log/"+name("", 2)); err != nil {
				t.Fatal(err)
			}
		},
		"record of the log is damaged": func(t *testing.T, s *service) {
			if _, err := s.backend.PutObject("b", "p/log/"+name("", 2), map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
				t.Fatal(err)
			}
		},
		"does not follow the one before it": func(t *testing.T, s *service) {
			body := encodeClaim(tag{7}, claim{ID: "false"})
			if _, err := s.backend.PutObject("b", "p/log/"+name("", 2), map[string]string{}, bytes.NewReader(body), int64(len(body)), nil); err != nil {
				t.Fatal(err)
			}
		},
		"snapshot of arca's storage": func(t *testing.T, s *service) {
			if _, err := s.backend.PutObject("b", "p/state/"+name("", 9), map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s := newService(t)
		d := open(t, s.config(t, "p"))
		mustClaim(t, d, "1")
		mustWrite(t, d, "1", "k", "v")
		mustWrite(t, d, "1", "k", "w")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		damage(t, s)
		if d, err := Open(t.Context(), s.config(t, "p")); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				_ = d.Close()
			}
		}
	}
}

// TestUnconditional: a service that replaces what is there is refused.
func TestUnconditional(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ignore := func(r *http.Request) bool { r.Header.Del("If-None-Match"); return false }
	s.before.Store(&ignore)
	if d, err := Open(t.Context(), s.config(t, "p")); err == nil || !strings.Contains(err.Error(), "conditional writes") {
		t.Errorf("%v", err)
		if err == nil {
			_ = d.Close()
		}
	}
}

func FuzzRecord(f *testing.F) {
	ops := storage.Batch{{Kind: storage.DeletePrefix, Key: "a/"}, {Kind: storage.Put, Key: "a/k", Value: []byte("v")}, {Kind: storage.Delete, Key: "b"}}
	f.Add(encodeBatch(tag{1}, "fence", ops))
	f.Add(encodeClaim(tag{2}, claim{ID: "id", Value: "{}", TTL: 1}))
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			if errs.KindOf(err) != errs.Failed {
				t.Fatalf("%v", err)
			}
			return
		}
		var again []byte
		if r.kind == batchKind {
			again = encodeBatch(r.after, r.fence, r.ops)
		} else {
			again = encodeClaim(r.after, r.claim)
		}
		back, err := decodeRecord(again)
		if err != nil || back.kind != r.kind || back.fence != r.fence || len(back.ops) != len(r.ops) || back.claim != r.claim || back.after != r.after || back.tag != tagOf(again) {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}
