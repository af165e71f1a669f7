package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const fileStorage = "disable_mlock = true\nstorage \"file\" { path = \"data\" }\n" + plainListener

// TestCrash kills the server with SIGKILL at random moments while several
// connections write, starts it again and looks for everything that it had
// acknowledged. ARCA_CRASH_ROUNDS sets how often (6), ARCA_CRASH_SEED the seed
// of a run that is to be repeated as far as it can be.
func TestCrash(t *testing.T) {
	t.Parallel()
	crashTest(t, fileStorage)
}

func crashTest(t *testing.T, config string) {
	t.Helper()
	rounds, seed := setting(t, "ARCA_CRASH_ROUNDS", 6), setting(t, "ARCA_CRASH_SEED", int(time.Now().UnixNano()&0xffffffff))
	t.Logf("ARCA_CRASH_SEED=%d ARCA_CRASH_ROUNDS=%d", seed, rounds)
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	n := newNode(t, t.TempDir(), config)
	n.must("POST", "sys/mounts/kv1", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	n.must("POST", "sys/mounts/kv2", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}, "config": map[string]any{"max_versions": 5}})

	writers := make([]*writer, 8)
	for i := range writers {
		writers[i] = &writer{n: n, name: fmt.Sprintf("w%d", i), kv1: map[string]string{}}
	}
	for round := range rounds {
		after := 100*time.Millisecond + time.Duration(random.IntN(700))*time.Millisecond
		acknowledged := crashRound(t, n, writers, after)
		for _, w := range writers {
			w.verify(t)
		}
		t.Logf("round %d: killed after %v, %d answers since then", round+1, after, acknowledged)
		if t.Failed() {
			return
		}
	}
	total := 0
	for _, w := range writers {
		total += w.count()
	}
	t.Logf("%d rounds, %d facts held", rounds, total)
}

// setting is a number from the environment.
func setting(t *testing.T, name string, preset int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return preset
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// crashRound writes with all writers until the server is killed, and starts it
// again. It returns how many writes were acknowledged.
func crashRound(t *testing.T, n *node, writers []*writer, after time.Duration) int64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var acknowledged atomic.Int64
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() {
			for ctx.Err() == nil && w.write(ctx) {
				acknowledged.Add(1)
			}
		})
	}
	pause := time.NewTimer(after) // the moment of the kill is the test's subject
	<-pause.C
	n.kill()
	stop()
	all.Wait()
	n.client.CloseIdleConnections()
	n.start()
	n.unseal()
	for _, w := range writers {
		if w.err != nil {
			t.Errorf("%s: %v", w.name, w.err)
		}
	}
	return acknowledged.Load()
}

// A writer makes one kind of write after the other on a connection of its own
// and notes what was acknowledged. What was sent and not acknowledged may be
// there or not. Its fields belong to its goroutine during a round, to the test
// between rounds.
type writer struct {
	n       *node
	name    string
	turn    int
	err     error
	kv1     map[string]string // acknowledged values
	kv2     int               // the last acknowledged version of the one key
	sent    int               // the last version that was sent
	tokens  []string          // living
	revoked []string
	unsure  []string          // sent to be revoked, not acknowledged
	wraps   map[string]string // wrapping tokens not opened, with what they hold
	opened  []string
	limited string // a token with a limit of uses
	used    int    // its acknowledged uses
	tried   int    // its uses that were sent
}

// uses is the limit of uses of each writer's limited token.
const uses = 1_000_000

func (w *writer) count() int {
	return len(w.kv1) + w.kv2 + len(w.tokens) + len(w.revoked) + len(w.wraps) + len(w.opened)
}

// write makes the next write and reports whether it was acknowledged.
func (w *writer) write(ctx context.Context) bool {
	w.turn++
	switch w.turn % 7 {
	case 5:
		return w.use(ctx)
	case 0:
		return w.create(ctx)
	case 1:
		return w.revoke(ctx)
	case 2:
		return w.wrap(ctx)
	case 3:
		return w.open(ctx)
	case 4:
		w.sent++
		return w.done(w.call(ctx, "kv2/data/"+w.name, map[string]any{"data": map[string]any{"n": strconv.Itoa(w.sent)}}), func(a answer) {
			w.kv2 = w.sent
			if v, _ := a.dig("data", "version").(float64); int(v) != w.sent {
				w.err = fmt.Errorf("write %d of %s got version %v: the counter is behind or ahead", w.sent, w.name, v)
			}
		})
	default:
		key, value := fmt.Sprintf("%s-%d", w.name, w.turn), fmt.Sprintf("%s value of %d", w.name, w.turn)
		return w.done(w.call(ctx, "kv1/"+key, map[string]any{"v": value}), func(answer) { w.kv1[key] = value })
	}
}

func (w *writer) call(ctx context.Context, path string, body map[string]any, headers ...string) result {
	a, err := w.n.call(ctx, "POST", path, w.n.root, body, headers...)
	return result{path, a, err}
}

// A result is an answer, or the error of a connection whose server is gone.
type result struct {
	path string
	answer
	err error
}

func (w *writer) done(r result, note func(answer)) bool {
	switch {
	case r.err != nil:
		return false
	case r.code/100 != 2:
		w.err = fmt.Errorf("%s: status %d: %v", r.path, r.code, r.body)
		return false
	}
	note(r.answer)
	return true
}

func (w *writer) create(ctx context.Context) bool {
	return w.done(w.call(ctx, "auth/token/create", map[string]any{"policies": []string{"default"}, "ttl": "1h"}), func(a answer) {
		w.tokens = append(w.tokens, a.text("auth", "client_token"))
	})
}

// revoke revokes every second token that there is.
func (w *writer) revoke(ctx context.Context) bool {
	if len(w.tokens) < 2 {
		return true
	}
	id := w.tokens[0]
	w.tokens = w.tokens[1:]
	ok := w.done(w.call(ctx, "auth/token/revoke", map[string]any{"token": id}), func(answer) { w.revoked = append(w.revoked, id) })
	if !ok {
		w.unsure = append(w.unsure, id)
	}
	return ok
}

// use uses a token whose uses are counted.
func (w *writer) use(ctx context.Context) bool {
	if w.limited == "" {
		return w.done(w.call(ctx, "auth/token/create", map[string]any{"policies": []string{"default"}, "num_uses": uses}), func(a answer) {
			w.limited = a.text("auth", "client_token")
		})
	}
	w.tried++
	a, err := w.n.call(ctx, "GET", "auth/token/lookup-self", w.limited, nil)
	return w.done(result{"auth/token/lookup-self", a, err}, func(answer) { w.used++ })
}

func (w *writer) wrap(ctx context.Context) bool {
	value := fmt.Sprintf("%s wrapped at %d", w.name, w.turn)
	return w.done(w.call(ctx, "sys/wrapping/wrap", map[string]any{"v": value}, "X-Vault-Wrap-TTL", "1h"), func(a answer) {
		if w.wraps == nil {
			w.wraps = map[string]string{}
		}
		w.wraps[a.text("wrap_info", "token")] = value
	})
}

// open opens one wrapping, while more than two are kept.
func (w *writer) open(ctx context.Context) bool {
	if len(w.wraps) < 3 {
		return true
	}
	for id, value := range w.wraps {
		delete(w.wraps, id)
		return w.done(w.call(ctx, "sys/wrapping/unwrap", map[string]any{"token": id}), func(a answer) {
			w.opened = append(w.opened, id)
			if got := a.text("data", "v"); got != value {
				w.err = fmt.Errorf("unwrapped %q, want %q", got, value)
			}
		})
	}
	return true
}

// verify looks for all that was acknowledged.
func (w *writer) verify(t *testing.T) {
	t.Helper()
	for key, value := range w.kv1 {
		if a := w.n.get("kv1/" + key); a.code != 200 || a.text("data", "v") != value {
			t.Errorf("kv1/%s: status %d, %q, want %q", key, a.code, a.text("data", "v"), value)
		}
	}
	w.verifyVersions(t)
	w.verifyTokens(t)
	for id, value := range w.wraps {
		a, err := w.n.call(t.Context(), "POST", "sys/wrapping/lookup", "", map[string]any{"token": id})
		if err != nil || a.code != 200 {
			t.Errorf("a wrapping of %q: status %d, %v", value, a.code, err)
		}
	}
	for _, id := range w.opened {
		a, err := w.n.call(t.Context(), "POST", "sys/wrapping/unwrap", w.n.root, map[string]any{"token": id})
		if err != nil || a.code != 400 {
			t.Errorf("an opened wrapping opens again: status %d, %v, %v", a.code, a.body, err)
		}
	}
	// What was looked at in this round is not looked at again, but for a rest.
	w.revoked, w.opened, w.unsure = tail(w.revoked), tail(w.opened), nil
	if len(w.tokens) > 50 {
		w.tokens = w.tokens[len(w.tokens)-50:]
	}
	if len(w.kv1) > 3000 {
		w.kv1 = map[string]string{}
	}
}

func tail(ids []string) []string { return ids[max(0, len(ids)-20):] }

// verifyVersions: the counter of versions is where it was, or one further when
// the last write got through; the next write gets the next number.
func (w *writer) verifyVersions(t *testing.T) {
	t.Helper()
	if w.sent == 0 {
		return
	}
	a := w.n.get("kv2/data/" + w.name)
	version, _ := a.dig("data", "metadata", "version").(float64)
	v := int(version)
	whole := a.text("data", "data", "n") == strconv.Itoa(v)
	if v == 0 { // not even the first got through
		whole = a.code == http.StatusNotFound
	}
	if v < w.kv2 || v > w.sent || !whole {
		t.Errorf("kv2/%s: %d %v; acknowledged %d, sent %d", w.name, a.code, a.body, w.kv2, w.sent)
	}
	w.kv2, w.sent = v, v
}

func (w *writer) verifyTokens(t *testing.T) {
	t.Helper()
	status := func(id string) int {
		a, err := w.n.call(t.Context(), "GET", "auth/token/lookup-self", id, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.code
	}
	if w.limited != "" {
		a := answer{body: w.n.must("POST", "auth/token/lookup", map[string]any{"token": w.limited})}
		left, _ := a.dig("data", "num_uses").(float64)
		if got := uses - int(left); got < w.used || got > w.tried {
			t.Errorf("%s: %d uses are counted; acknowledged %d, sent %d", w.name, got, w.used, w.tried)
		}
		w.used = uses - int(left)
		w.tried = w.used
	}
	for _, id := range w.tokens {
		if code := status(id); code != 200 {
			t.Errorf("a token that was acknowledged: status %d", code)
		}
	}
	for _, id := range w.revoked {
		if code := status(id); code != 403 {
			t.Errorf("a token that was revoked: status %d", code)
		}
	}
	for _, id := range w.unsure {
		if code := status(id); code != 403 && code != 200 {
			t.Errorf("a token whose revocation was not acknowledged: status %d", code)
		}
	}
}
