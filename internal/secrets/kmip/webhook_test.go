package kmip

import (
	"context"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/telemetry"
)

// A caller is the active node of a bench, which moves marks.
type caller struct {
	registrar
	e    *Engine
	mute bool // nothing can be noted
}

// View is without a count: addresses are asked at a time.
func (h *caller) View(ctx context.Context, _ *engine.Mount, fn func(tx storage.Tx) error) error {
	return h.x.db.View(ctx, fn)
}

func (h *caller) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if !strings.HasSuffix(req.Path, "/"+hookPath) {
		return nil, errNotFound
	}
	if h.mute {
		return nil, errs.New(errs.Unavailable, "the namespace is locked")
	}
	return nil, h.x.db.Update(ctx, func(tx storage.Tx) error {
		call := h.x.call(tx, time.Now())
		call.Request = req
		_, err := h.e.moveMark(ctx, call, engine.None{})
		return err
	})
}

// A listening is a webhook that keeps what it is told.
type listening struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []hookBody
	bad    int // requests whose signature is wrong
	answer func(w http.ResponseWriter, r *http.Request, n int)
}

const hookSecret = "a secret of ours"

func newListening(t *testing.T, start func(http.Handler) *httptest.Server) *listening {
	t.Helper()
	l := &listening{answer: func(http.ResponseWriter, *http.Request, int) {}}
	l.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body) // what is cut off cannot be decoded
		var body hookBody
		err := json.Unmarshal(raw, &body)
		at, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get(signatureHeader), "t="), ",")
		var seconds int64
		_, _ = fmt.Sscan(at, &seconds) // 0 is no time of ours
		l.mu.Lock()
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get(signatureHeader) != signature(hookSecret, raw, time.Unix(seconds, 0)) {
			l.bad++
		}
		l.bodies = append(l.bodies, body)
		n, answer := len(l.bodies), l.answer
		l.mu.Unlock()
		answer(w, r, n)
	}))
	t.Cleanup(l.Close)
	return l
}

// told is what has come since the last call: "<seconds before> <serial numbers>".
func (l *listening) told(t *testing.T) (out []string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bad > 0 {
		t.Errorf("%d requests are not what they should be", l.bad)
	}
	for i := range l.bodies {
		text := fmt.Sprint(l.bodies[i].Before)
		for _, c := range l.bodies[i].Certificates {
			text += " " + c.Serial
		}
		out = append(out, text)
	}
	l.bodies = nil
	return out
}

// A hookBench is a bench whose mount has a role and webhooks.
type hookBench struct {
	*bench
	host  *caller
	hooks hooks
	role  *role
	scope string
	pub   crypto.PublicKey
	reg   *telemetry.Registry
}

func newHookBench(t *testing.T, now time.Time, urls ...string) *hookBench {
	t.Helper()
	x := &hookBench{bench: newBench(t), hooks: hooks{URLs: urls, Secret: hookSecret}}
	key, err := newKey(keyKind{"ec", 256})
	if err != nil {
		t.Fatal(err)
	}
	x.pub = key.Public()
	x.do(func(tx storage.Tx) error {
		a, err := newAuthority(keyKind{"ec", 256}, "test", now)
		if err == nil {
			err = storage.PutJSON(tx, caKey, a)
		}
		in := roleIn{scopeIn{"finance"}, "accounting"}
		if err == nil {
			_, err = x.e.writeScope(t.Context(), x.call(tx, now), writeScopeIn{scopeIn: in.scopeIn})
		}
		if err == nil {
			_, err = x.e.writeRole(t.Context(), x.call(tx, now), writeRoleIn{roleIn: in})
		}
		if err != nil {
			return err
		}
		s, r, err := x.e.findRole(tx, in)
		if err == nil {
			x.scope, x.role = s.ID, r
		}
		return err
	})
	x.configure(now)
	x.start()
	return x
}

func (x *hookBench) configure(now time.Time) {
	x.t.Helper()
	x.do(func(tx storage.Tx) error {
		c := newConfig()
		c.Hooks = x.hooks
		if err := c.Hooks.check(); err != nil {
			return err
		}
		if err := c.Hooks.marks(tx, now); err != nil {
			return err
		}
		return storage.PutJSON(tx, configKey, c)
	})
}

// start is another process over the same store.
func (x *hookBench) start() {
	x.e = New()
	x.host = &caller{registrar: registrar{x: x.bench, leads: true}, e: x.e}
	x.reg = telemetry.New(telemetry.Config{Retention: time.Hour})
	x.e.servers.meter(x.reg)
	v := x.e.servers.of("m", x.host)
	x.t.Cleanup(v.close)
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m", Path: "kmip/"}}})
	h := x.hooks
	v.hooks.set(&h)
}

// tick is one look, until all of it is over.
func (x *hookBench) tick(now time.Time) {
	x.t.Helper()
	var group sync.WaitGroup
	x.e.servers.callHooks(x.t.Context(), x.host, &group, func() time.Time { return now })
	group.Wait()
}

func (x *hookBench) issue(now time.Time, life time.Duration, from string) (serial string) {
	x.t.Helper()
	x.do(func(tx storage.Tx) error {
		_, cert, err := newCredential(tx, now, x.scope, x.role, x.pub, life, from)
		if err == nil {
			serial = cert.SerialNumber.String()
		}
		return err
	})
	return serial
}

func (x *hookBench) metric(name string) string {
	x.t.Helper()
	body, err := x.reg.Prometheus()
	if err != nil {
		x.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "vault_kmip_webhook_"+name) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func expect(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", when, got, want)
	}
}

// An address is told of each certificate once for each time, over restarts; not of those that
// were revoked, renewed, or never to last that long; and by the active node alone.
func TestWebhook(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewServer)
	x := newHookBench(t, now, l.URL+"/a?b=c")
	long, middle := x.issue(now, 30*day, ""), x.issue(now, 10*day, "")
	x.issue(now, day, "") // as those that nobody asks to be longer
	week := x.issue(now, 7*day+time.Minute, "")
	revoked, renewed := x.issue(now, 9*day, ""), x.issue(now, 9*day, "")
	x.do(func(tx storage.Tx) error { return forgetCredential(tx, x.scope, x.role.ID, revoked) })
	next := x.issue(now, 60*day, renewed)
	x.do(func(tx storage.Tx) error {
		return tx.Put(dueKey(now.Add(8*day), "r", x.scope, "something else"), nil)
	})
	x.tick(now)
	expect(t, "at once", l.told(t))
	x.host.leads = false
	x.tick(now.Add(4 * day))
	expect(t, "at a standby", l.told(t))
	x.host.leads = true
	x.tick(now.Add(4 * day))
	l.mu.Lock()
	if len(l.bodies) != 1 || len(l.bodies[0].Certificates) != 2 {
		t.Fatalf("told %+v", l.bodies)
	}
	b := l.bodies[0]
	want := endingSoon{Scope: "finance", Role: "accounting", Serial: middle, Ends: now.Add(10 * day).Format(time.RFC3339), Seconds: int64(6 * day / time.Second)}
	if b.Certificates[1] != want || b.Type != "kmip.certificates-end" || b.Mount != "kmip/" || b.Namespace != "root" || len(b.ID) != 32 || b.Time != now.Add(4*day).Format(time.RFC3339) {
		t.Errorf("told %+v, want %+v", b, want)
	}
	l.mu.Unlock()
	expect(t, "a week before", l.told(t), "604800 "+week+" "+middle)
	x.tick(now.Add(4*day + time.Minute))
	expect(t, "a minute later", l.told(t))
	x.start()
	x.tick(now.Add(4*day + 2*time.Minute))
	expect(t, "after a restart", l.told(t))
	x.tick(now.Add(9*day + time.Hour))
	expect(t, "a day before, and another that has ended", l.told(t), "86400 "+middle)
	x.tick(now.Add(24 * day))
	expect(t, "the long one", l.told(t), "604800 "+long)
	x.hooks.Before = []time.Duration{90 * day}
	x.configure(now.Add(24 * day))
	x.start()
	x.tick(now.Add(24 * day))
	expect(t, "another time, which none was to last", l.told(t))
	x.hooks.Before = []time.Duration{50 * day}
	x.configure(now.Add(24 * day))
	x.start()
	x.tick(now.Add(24 * day))
	expect(t, "a time within which one ends already", l.told(t), "4320000 "+next)
	if n := x.count(hookDir); n != 1 {
		t.Errorf("%d marks of one address and one time", n)
	}
	if x.metric("failure") != "" {
		t.Error(x.metric("failure"))
	}
}

// What a look costs is what has come near the end since the last, and so is what is told at
// once bounded.
func TestWebhookCost(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewServer)
	x := newHookBench(t, now, l.URL)
	const near, far = 2*hookedAtOnce + 50, 300
	for i := range near + far {
		life := 20 * day
		if i >= near {
			life = 300 * day
		}
		x.issue(now, life, "")
	}
	look := func(at time.Time) (out *hookLook) {
		x.do(func(tx storage.Tx) (err error) {
			out, err = x.e.lookBehind(tx, l.URL, 7*day, at)
			return err
		})
		return out
	}
	if got := look(now); got.passed != 0 || got.more {
		t.Errorf("%d entries are looked at while nothing ends", got.passed)
	}
	x.tick(now.Add(14 * day))
	var sizes []int
	for _, text := range l.told(t) {
		sizes = append(sizes, len(strings.Fields(text))-1)
	}
	if !slices.Equal(sizes, []int{hookedAtOnce, hookedAtOnce, 50}) {
		t.Errorf("told of %v", sizes)
	}
	if got := look(now.Add(14 * day)); got.passed != 0 || got.more {
		t.Errorf("%d entries are looked at again", got.passed)
	}
}

// Whoever does not take it is told again, later and later; nobody waits for who hangs, and what
// an answer says leads nowhere.
func TestWebhookTrouble(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	elsewhere := newListening(t, httptest.NewServer)
	endless := func(w io.Writer) {
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		why    string // "" for what is taken
	}{
		"status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "status"},
		"redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "status"},
		"hangs":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) { endless(w) }, ""},
		"endless header": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ") // whoever does not read it has gone
			endless(conn)
		}, "connection"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, strings.Repeat("nonsense ", 1000)+"\r\n\r\n")
			_ = conn.Close()
		}, "connection"},
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := newListening(t, httptest.NewServer), newListening(t, httptest.NewServer)
			bad.answer = func(w http.ResponseWriter, r *http.Request, n int) {
				if n == 1 {
					tc.answer(w, r)
				}
			}
			x := newHookBench(t, now, bad.URL, good.URL)
			serial := x.issue(now, 30*day, "")
			x.e.servers.hookFor = 500 * time.Millisecond
			at := now.Add(25 * day)
			x.tick(at)
			expect(t, "the other", good.told(t), "604800 "+serial)
			bad.mu.Lock()
			first := bad.bodies[0].ID
			n := len(bad.bodies)
			bad.mu.Unlock()
			if n != 1 {
				t.Fatalf("asked %d times", n)
			}
			x.tick(at.Add(30 * time.Second))
			x.tick(at.Add(61 * time.Second))
			x.tick(at.Add(10 * time.Minute))
			expect(t, "the other, again", good.told(t))
			if tc.why == "" {
				expect(t, "taken", bad.told(t), "604800 "+serial)
				return
			}
			bad.mu.Lock()
			if len(bad.bodies) != 2 || bad.bodies[1].ID != first {
				t.Errorf("not told again once: %+v", bad.bodies)
			}
			bad.mu.Unlock()
			if got, want := x.metric("failure"), `vault_kmip_webhook_failure{namespace="root",mount_point="kmip/",reason="`+tc.why+`"} 1`; got != want {
				t.Errorf("the metric is %q, want %q", got, want)
			}
		})
	}
	if n := len(elsewhere.told(t)); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// The pauses grow, and have an end; changed settings begin anew.
func TestWebhookPauses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var turns hookTurns
	h := &hooks{URLs: []string{"https://a"}}
	turns.set(h)
	var got []string
	for range 9 {
		if _, list := turns.begin(now); len(list) != 1 {
			t.Fatal("not due")
		}
		if _, list := turns.begin(now); len(list) != 0 {
			t.Fatal("asked twice at a time")
		}
		pause := turns.over("https://a", true, now)
		got = append(got, pause.String())
		if _, list := turns.begin(now.Add(pause - time.Second)); len(list) != 0 {
			t.Fatal("due too early")
		}
		now = now.Add(pause)
	}
	if text := strings.Join(got, " "); text != "1m0s 2m0s 4m0s 8m0s 16m0s 32m0s 1h0m0s 1h0m0s 1h0m0s" {
		t.Error(text)
	}
	turns.begin(now)
	turns.over("https://a", true, now)
	turns.set(&hooks{URLs: []string{"https://a"}})
	if _, list := turns.begin(now); len(list) != 0 {
		t.Error("the same settings begin anew")
	}
	turns.set(&hooks{URLs: []string{"https://a"}, Secret: hookSecret})
	if _, list := turns.begin(now); len(list) != 1 {
		t.Error("changed settings do not begin anew")
	}
	turns.set(nil)
	if _, list := turns.begin(now); len(list) != 0 || turns.over("https://a", false, now) != 0 {
		t.Error("what is not configured any more is asked")
	}
}

// The certificate of an address is verified, by the authority that is set; addresses of the link
// are not asked, whatever leads there.
func TestWebhookTLS(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewTLSServer)
	x := newHookBench(t, now, l.URL)
	serial := x.issue(now, 30*day, "")
	x.tick(now.Add(25 * day))
	expect(t, "an authority that nobody knows", l.told(t))
	if got := x.metric("failure"); !strings.Contains(got, `reason="tls"`) {
		t.Errorf("the metric is %q", got)
	}
	x.hooks.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.Certificate().Raw}))
	x.configure(now.Add(25 * day))
	x.start()
	x.tick(now.Add(25 * day))
	expect(t, "an authority that is set", l.told(t), "604800 "+serial)

	for _, address := range []string{"http://169.254.169.254/", "http://[fe80::1]/", "http://0.0.0.0:80/", "http://[::ffff:169.254.1.1]/", "http://224.0.0.1/"} {
		if err := newHookClient(&x.hooks, time.Second).tell(t.Context(), "", address, nil, now); whyNot(err) != "address" {
			t.Errorf("%s: %v", address, err)
		}
	}
	for address, ok := range map[string]bool{
		"https://example.com/x?y": true, "http://localhost:1/": true, "http://127.0.0.1/": true, "http://[::1]:8080/a": true, "http://example.com/": false, "ftp://localhost/": false,
		"https://user@example.com/": false, "https://example.com/#a": false, "https:///x": false, "https:x": false, "": false, "https://169.254.169.254/latest": false,
		"https://[fe80::1]/": false, "https://0.0.0.0/": false, "https://example.com/" + strings.Repeat("x", maxHookAddress): false, "https://exa mple.com/": false,
	} {
		if err := checkHook(address); (err == nil) != ok {
			t.Errorf("%.40q: %v", address, err)
		}
	}
	err := newHookClient(&x.hooks, time.Second).tell(t.Context(), "", "http://127.0.0.1:1/token-of-theirs", nil, now)
	if text := plainText(err); strings.Contains(text, "theirs") || hostOf("https://example.com:1/token") != "example.com:1" {
		t.Errorf("the log would have %q", text)
	}
}

// A turn may last. What is signed and said in it is of the time when it is sent, and a pause is
// from its end on.
func TestWebhookClock(t *testing.T) {
	t.Parallel()
	began := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewServer)
	x := newHookBench(t, began, l.URL)
	for range 2*hookedAtOnce + 1 {
		x.issue(began.Add(-5*day), 10*day, "")
	}
	var passed atomic.Int64 // seconds
	var signed []string
	l.answer = func(w http.ResponseWriter, r *http.Request, n int) {
		at, _, _ := strings.Cut(r.Header.Get(signatureHeader), ",")
		l.mu.Lock()
		signed = append(signed, at)
		l.mu.Unlock()
		passed.Add(300)
		if n == 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	clock := func() time.Time { return began.Add(time.Duration(passed.Load()) * time.Second) }
	look := func() {
		var group sync.WaitGroup
		x.e.servers.callHooks(t.Context(), x.host, &group, clock)
		group.Wait()
	}
	look()
	l.mu.Lock()
	for i := range l.bodies {
		at := began.Add(time.Duration(i) * 300 * time.Second)
		if b := l.bodies[i]; signed[i] != fmt.Sprintf("t=%d", at.Unix()) || b.Time != at.Format(time.RFC3339) || b.Certificates[0].Seconds != int64(5*day/time.Second)-int64(i)*300 {
			t.Errorf("request %d: signed at %s, of %s, of %d s", i, signed[i], b.Time, b.Certificates[0].Seconds)
		}
	}
	l.mu.Unlock()
	if n := len(l.told(t)); n != 3 {
		t.Errorf("%d requests", n)
	}
	passed.Add(int64(hookPause/time.Second) - 1)
	look()
	expect(t, "within the pause", l.told(t))
}

// A record that cannot be read is in nobody's way.
func TestWebhookUnreadable(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewServer)
	x := newHookBench(t, now, l.URL)
	noCert, noRecord := x.issue(now, 10*day, ""), x.issue(now, 10*day, "")
	x.do(func(tx storage.Tx) error {
		if err := tx.Put(credDir(x.scope, x.role.ID)+noRecord, []byte("nonsense")); err != nil {
			return err
		}
		return storage.PutJSON(tx, credDir(x.scope, x.role.ID)+noCert, credential{Version: 1, Cert: []byte{1}})
	})
	x.tick(now.Add(4 * day))
	expect(t, "the broken ones alone", l.told(t))
	x.do(func(tx storage.Tx) error {
		look, err := x.e.lookBehind(tx, l.URL, 7*day, now.Add(4*day))
		if err == nil && look.passed != 0 {
			t.Errorf("%d entries are looked at again", look.passed)
		}
		return err
	})
	serial := x.issue(now.Add(4*day), 8*day, "")
	x.tick(now.Add(6 * day))
	expect(t, "what is behind them", l.told(t), "604800 "+serial)
}

// Where it cannot be noted that an address was told, it is not told.
func TestWebhookUnnoted(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	l := newListening(t, httptest.NewServer)
	x := newHookBench(t, now, l.URL)
	serial := x.issue(now, 10*day, "")
	x.host.mute = true
	x.tick(now.Add(4 * day))
	x.tick(now.Add(4*day + time.Hour))
	expect(t, "while nothing can be noted", l.told(t))
	x.host.mute = false
	x.tick(now.Add(4*day + 3*time.Hour))
	x.tick(now.Add(4*day + 4*time.Hour))
	expect(t, "when it can", l.told(t), "604800 "+serial)
}

// However often settings are followed, an address is looked for once a minute, and what was
// passed is not looked at again.
func TestWebhookRest(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var turns hookTurns
	turns.set(&hooks{URLs: []string{"https://a"}})
	turns.begin(now)
	turns.over("https://a", false, now.Add(time.Second))
	for _, after := range []time.Duration{2 * time.Second, hookRest - time.Second} {
		if _, list := turns.begin(now.Add(after)); len(list) != 0 {
			t.Errorf("asked again after %s", after)
		}
	}
	if _, list := turns.begin(now.Add(tidyEvery)); len(list) != 1 {
		t.Error("not asked again with the next look")
	}
	turns.over("https://a", false, now.Add(tidyEvery))
	turns.set(&hooks{URLs: []string{"https://a"}, Secret: hookSecret})
	if _, list := turns.begin(now.Add(tidyEvery)); len(list) != 1 {
		t.Error("changed settings wait")
	}
	x := newHookBench(t, now, "https://127.0.0.1:1/")
	for range hookMoves {
		x.issue(now, day, "")
	}
	x.tick(now.Add(time.Minute))
	x.do(func(tx storage.Tx) error {
		look, err := x.e.lookBehind(tx, x.hooks.URLs[0], 7*day, now.Add(2*time.Minute))
		if err == nil && look.passed != 0 {
			t.Errorf("%d entries are looked at again", look.passed)
		}
		return err
	})
}
