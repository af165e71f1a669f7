package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What clients do to one secret. cas is the version that a write demands; -1 demands none.
type secretIn struct {
	op    string // read, write, delete
	value string
	cas   int
}

// What they were answered. Of an unknown outcome nothing is known; it may have happened, once, or may not.
type secretOut struct {
	unknown  bool
	mismatch bool // another version than cas was there
	refused  bool // the server says that nothing was written
	value    string
	version  int // 0 for none; of kv version 1 always
}

// A secretState is the newest version of a secret: of KV version 1 always version 0.
type secretState struct {
	value   string
	version int
}

// secretModel is one secret, of KV version 2 if versioned: each write that is done once makes the next version, so that
// one that is done twice is seen.
func secretModel(versioned bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return secretState{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(secretState), input.(secretIn), output.(secretOut)
			if in.op == "read" {
				return out.value == s.value && out.version == s.version, s
			}
			next := secretState{value: in.value}
			if versioned {
				next.version = s.version + 1
			}
			fits := in.cas < 0 || in.cas == s.version
			switch {
			case out.unknown && !fits:
				return true, s
			case out.unknown:
				return true, next
			case out.mismatch:
				return !fits, s
			}
			return fits && out.version == next.version, next
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// A secret is a key of which everything that clients do is written down.
type secret struct {
	path      string // of the API, below secret/ or kv2/data/
	versioned bool

	mu       sync.Mutex
	ops      []porcupine.Operation
	doubts   int // writes of unknown outcome
	under    int // operations under way
	retired  bool
	finished chan struct{}
}

// Bounds of one history, beyond which checking it takes too long.
const (
	maxHistory = 150
	maxDoubts  = 6
)

// begin takes part in the history; false when it has ended.
func (s *secret) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || len(s.ops)+s.under >= maxHistory || s.doubts+s.under/2 >= maxDoubts {
		return false
	}
	s.under++
	return true
}

func (s *secret) record(op *porcupine.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under--
	if op != nil {
		s.ops = append(s.ops, *op)
		if out, _ := op.Output.(secretOut); out.unknown {
			s.doubts++
		}
	}
	if s.retired && s.under == 0 {
		close(s.finished)
	}
}

// retire ends the history; finished is closed when nothing is under way.
func (s *secret) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.retired {
		s.retired = true
		if s.under == 0 {
			close(s.finished)
		}
	}
}

// check reports whether the history can be that of a secret which all clients share.
func (s *secret) check(t testing.TB) bool {
	s.mu.Lock()
	ops := append([]porcupine.Operation(nil), s.ops...)
	s.mu.Unlock()
	model := secretModel(s.versioned)
	switch result, info := porcupine.CheckOperationsVerbose(model, ops, time.Minute); result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Logf("%s: %d operations were too many to check", s.path, len(ops))
	case porcupine.Illegal:
		file := filepath.Join(artifacts(t), strings.ReplaceAll(s.path, "/", "-")+".html")
		err := porcupine.VisualizePath(model, info, file)
		t.Errorf("%s: the history is not linearizable: %s (%v)", s.path, file, err)
		return false
	}
	return true
}

// A crowd is clients that write and read secrets through all nodes.
type crowd struct {
	t     testing.TB
	nodes []*node
	start time.Time
	work  sync.WaitGroup

	wrote, read, doubted, ids atomic.Int64
	shunned                   []atomic.Int64 // by node: until when clients go elsewhere

	mu      sync.Mutex
	refused map[string]int // how often clients were answered what
	secrets []*secret      // being written
	past    []*secret
}

const crowdSecrets = 8

func newCrowd(t testing.TB, nodes []*node) *crowd {
	c := &crowd{t: t, nodes: nodes, start: time.Now(), shunned: make([]atomic.Int64, len(nodes)), refused: map[string]int{}}
	for i := range crowdSecrets {
		c.secrets = append(c.secrets, c.fresh(i%2 == 0))
	}
	return c
}

func (c *crowd) fresh(versioned bool) *secret {
	path := "secret/torture/"
	if versioned {
		path = "kv2/data/torture/"
	}
	return &secret{path: fmt.Sprint(path, c.ids.Add(1)), versioned: versioned, finished: make(chan struct{})}
}

func (c *crowd) now() int64 { return int64(time.Since(c.start)) }

// run sends clients until ctx ends.
func (c *crowd) run(ctx context.Context, clients int) {
	for id := range clients {
		c.work.Go(func() {
			for ctx.Err() == nil {
				s := c.take()
				c.once(ctx, id, s)
				pause := time.NewTimer(time.Duration(rand.IntN(10)) * time.Millisecond)
				<-pause.C
			}
		})
	}
	for range 2 {
		c.work.Go(func() {
			for ctx.Err() == nil {
				c.useUp(ctx)
			}
		})
	}
}

// take finds a secret whose history goes on, and sends those to be checked of which it does not.
func (c *crowd) take() *secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := rand.IntN(len(c.secrets))
	s := c.secrets[i]
	if s.begin() {
		return s
	}
	s.retire()
	c.past = append(c.past, s)
	s = c.fresh(s.versioned)
	c.secrets[i] = s
	s.begin()
	return s
}

// node picks one that answered of late, mostly.
func (c *crowd) node() int {
	i := rand.IntN(len(c.nodes))
	for range 5 {
		if c.shunned[i].Load() < c.now() || rand.IntN(8) == 0 {
			break
		}
		i = rand.IntN(len(c.nodes))
	}
	return i
}

func (c *crowd) call(ctx context.Context, method, path, token string, body any) (answer, error) {
	i := c.node()
	n := c.nodes[i]
	ctx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	a, err := n.call(ctx, method, path, token, body)
	if err != nil || a.code >= 500 {
		c.shunned[i].Store(c.now() + int64(time.Second))
	}
	return a, err
}

// once does one thing to a secret and writes down what came of it.
func (c *crowd) once(ctx context.Context, client int, s *secret) {
	in := secretIn{op: "read", cas: -1}
	if rand.IntN(2) == 0 {
		in.op, in.value = "write", fmt.Sprint(c.ids.Add(1))
	}
	op := &porcupine.Operation{ClientId: client, Call: c.now()}
	var out secretOut
	var known bool
	if s.versioned {
		if in.op == "write" && rand.IntN(2) == 0 {
			in.cas = s.guess()
		}
		out, known = c.versioned(ctx, s, in)
	} else {
		if in.op == "write" && rand.IntN(6) == 0 {
			in.op, in.value = "delete", ""
		}
		out, known = c.plain(ctx, s, in)
	}
	op.Input, op.Output, op.Return = in, out, c.now()
	switch {
	case in.op == "read" && !known, out.refused:
		op = nil // it says nothing, or did nothing
	case in.op == "read":
		c.read.Add(1)
	case !known:
		op.Output, op.Return = secretOut{unknown: true}, int64(1)<<62
		c.doubted.Add(1)
	default:
		c.wrote.Add(1)
	}
	s.record(op)
}

// guess is the newest version that anybody saw.
func (s *secret) guess() (version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		if out, _ := op.Output.(secretOut); out.version > version {
			version = out.version
		}
	}
	return version
}

// plain is a request of KV version 1.
func (c *crowd) plain(ctx context.Context, s *secret, in secretIn) (out secretOut, known bool) {
	method, want := "GET", 200
	var body any
	switch in.op {
	case "write":
		method, want, body = "PUT", 204, map[string]any{"v": in.value}
	case "delete":
		method, want = "DELETE", 204
	}
	a, err := c.call(ctx, method, s.path, c.nodes[0].root, body)
	switch {
	case err == nil && a.code == want:
		return secretOut{value: a.text("data", "v")}, true
	case err == nil && a.code == 404 && in.op == "read":
		return secretOut{}, true
	}
	return secretOut{refused: c.expect(a, err, s.path)}, false
}

// versioned is a request of KV version 2.
func (c *crowd) versioned(ctx context.Context, s *secret, in secretIn) (out secretOut, known bool) {
	var a answer
	var err error
	if in.op == "read" {
		a, err = c.call(ctx, "GET", s.path, c.nodes[0].root, nil)
		switch {
		case err == nil && a.code == 404:
			return secretOut{}, true
		case err == nil && a.code == 200:
			v, _ := a.dig("data", "metadata", "version").(float64)
			return secretOut{value: a.text("data", "data", "v"), version: int(v)}, true
		}
	} else {
		body := map[string]any{"data": map[string]any{"v": in.value}}
		if in.cas >= 0 {
			body["options"] = map[string]any{"cas": in.cas}
		}
		a, err = c.call(ctx, "PUT", s.path, c.nodes[0].root, body)
		switch {
		case err == nil && a.code == 200:
			v, _ := a.dig("data", "version").(float64)
			return secretOut{version: int(v)}, true
		case err == nil && a.code == 400 && strings.Contains(fmt.Sprint(a.body), "check-and-set"):
			return secretOut{mismatch: true}, true
		}
	}
	return secretOut{refused: c.expect(a, err, s.path)}, false
}

// expect complains of what no client should be answered, whatever befalls the nodes, and counts the rest. It reports whether
// the answer says that nothing was written.
func (c *crowd) expect(a answer, err error, what string) (refused bool) {
	if err == nil && a.code < 500 {
		c.t.Errorf("%s: answered %d %v", what, a.code, a.body)
	}
	text := "connection"
	switch list, _ := a.dig("errors").([]any); {
	case errors.Is(err, context.DeadlineExceeded):
		text = "timeout"
	case err == nil && len(list) > 0:
		text = fmt.Sprint(a.code, " ", list[0])
	case err == nil:
		text = fmt.Sprint(a.code)
	}
	c.mu.Lock()
	c.refused[text]++
	c.mu.Unlock()
	pause := time.NewTimer(50 * time.Millisecond)
	<-pause.C
	return strings.Contains(text, "nothing was written")
}

// useUp makes a token that can be used a few times, and has several use it until it is gone: never more often, and never,
// as if one use had counted twice, less. They use it by POST: net/http sends a GET again when its connection breaks.
func (c *crowd) useUp(ctx context.Context) {
	const uses = 5
	const tokenTime = "500h" // whatever the clocks say
	a, err := c.call(ctx, "POST", "auth/token/create", c.nodes[0].root, map[string]any{"num_uses": uses, "ttl": tokenTime})
	id := a.text("auth", "client_token")
	if err != nil || a.code != 200 || id == "" {
		c.expect(a, err, "create a token")
		return
	}
	var good, doubts atomic.Int64
	var gone atomic.Bool
	var users sync.WaitGroup
	var mu sync.Mutex
	var story []string // guarded by mu
	for range 3 {
		users.Go(func() {
			for range 2 * uses {
				if gone.Load() {
					return
				}
				began := c.now()
				a, err := c.call(ctx, "POST", "auth/token/lookup-self", id, map[string]any{})
				mu.Lock()
				story = append(story, fmt.Sprintf("%d to %d µs: %d %v %v left %v", began/1000, c.now()/1000, a.code, err, a.dig("errors"), a.dig("data", "num_uses")))
				mu.Unlock()
				switch {
				case err == nil && a.code == 200:
					good.Add(1)
				case err == nil && a.code == 403:
					gone.Store(true)
					return
				case errors.Is(ctx.Err(), context.Canceled):
					doubts.Add(1)
					return
				default:
					c.expect(a, err, "use a token")
					doubts.Add(1)
				}
			}
		})
	}
	users.Wait()
	if good.Load() > uses {
		c.t.Errorf("a token for %d uses was used %d times\n%s", uses, good.Load(), strings.Join(story, "\n"))
	}
	if gone.Load() && good.Load()+doubts.Load() < uses {
		c.t.Errorf("a token for %d uses was gone after %d, and %d of unknown outcome\n%s", uses, good.Load(), doubts.Load(), strings.Join(story, "\n"))
	}
}

// checkPast checks the histories that have ended since it was called last.
func (c *crowd) checkPast(from int) (n int) {
	c.mu.Lock()
	list := c.past[from:]
	c.mu.Unlock()
	for _, s := range list {
		select {
		case <-s.finished:
		default:
			return n
		}
		s.check(c.t)
		n++
	}
	return n
}

// checkAll ends all histories, has each node read each secret, and checks everything.
func (c *crowd) checkAll(ctx context.Context) {
	c.mu.Lock()
	c.past = append(c.past, c.secrets...)
	c.secrets = nil
	list := c.past
	c.mu.Unlock()
	for _, s := range list {
		s.retire()
		<-s.finished
		for _, n := range c.nodes {
			op := porcupine.Operation{Input: secretIn{op: "read", cas: -1}, Call: c.now()}
			a, err := n.call(ctx, "GET", s.path, n.root, nil)
			out := secretOut{}
			switch {
			case err == nil && a.code == 404:
			case err == nil && a.code == 200 && s.versioned:
				v, _ := a.dig("data", "metadata", "version").(float64)
				out = secretOut{value: a.text("data", "data", "v"), version: int(v)}
			case err == nil && a.code == 200:
				out.value = a.text("data", "v")
			default:
				c.t.Errorf("read %s at the end: %d %v", s.path, a.code, err)
				continue
			}
			op.Output, op.Return = out, c.now()
			s.ops = append(s.ops, op)
		}
		s.check(c.t)
	}
}

// TestSecretModel has the model find what must not be.
func TestSecretModel(t *testing.T) {
	t.Parallel()
	op := func(call, end int64, in secretIn, out secretOut) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: call, Return: end}
	}
	write := func(v string, cas int) secretIn { return secretIn{op: "write", value: v, cas: cas} }
	read, doubt := secretIn{op: "read", cas: -1}, secretOut{unknown: true}
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		good bool
	}{
		"in order":          {[]porcupine.Operation{op(1, 2, write("a", -1), secretOut{version: 1}), op(3, 4, read, secretOut{value: "a", version: 1})}, true},
		"a stale read":      {[]porcupine.Operation{op(1, 2, write("a", -1), secretOut{version: 1}), op(3, 4, read, secretOut{})}, false},
		"done twice":        {[]porcupine.Operation{op(1, 2, write("a", -1), secretOut{version: 1}), op(3, 4, read, secretOut{value: "a", version: 2})}, false},
		"doubt, done twice": {[]porcupine.Operation{op(1, 1<<62, write("a", -1), doubt), op(3, 4, read, secretOut{value: "a", version: 2})}, false},
		"doubt, seen later": {[]porcupine.Operation{op(1, 1<<62, write("a", 0), doubt), op(3, 4, read, secretOut{}), op(5, 6, read, secretOut{value: "a", version: 1})}, true},
		"two of one version": {[]porcupine.Operation{
			op(1, 2, write("a", 0), secretOut{version: 1}), op(1, 2, write("b", 0), secretOut{version: 1}),
		}, false},
		"refused for nothing": {[]porcupine.Operation{op(1, 2, write("a", 0), secretOut{mismatch: true})}, false},
	} {
		if got := porcupine.CheckOperations(secretModel(true), c.ops); got != c.good {
			t.Errorf("%s: %t", name, got)
		}
	}
}
