package storagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"arca/internal/errs"
	"arca/internal/storage"
)

// TestModel runs random concurrent transactions and checks that they are strictly serializable: replayed one by one in
// the order of the commit feed, each Update has read exactly what the ones before it had written; each View has read
// exactly one of these states; and that order, and the choice of states, agree with who had ended before who began.
//
// open returns an empty backend; TestModel closes it.
func TestModel(t *testing.T, open func(*testing.T) storage.Backend) {
	for _, cfg := range []storage.Config{{}, {HistoryCommits: 4, MaxBatchOps: 6, MaxPendingBytes: 500}, {MaxTxReads: 3}} {
		for _, faults := range []bool{false, true} {
			t.Run(fmt.Sprintf("history %d/reads %d/faults %v", cfg.HistoryCommits, cfg.MaxTxReads, faults), func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				b := NewFailing(open(t))
				m := &modelRun{t: t, db: storage.Open(b, cfg), failing: b, faults: faults, seed: seed}
				m.cache = storage.NewCache(m.db, 4<<10, func(key string, v []byte) (string, int, error) {
					return key + "=" + string(v), len(key) + len(v), nil
				})
				m.run()
				if err := errors.Join(m.db.Close(), b.Close()); err != nil {
					t.Error(err)
				}
				m.check()
			})
		}
	}
}

// A modelTx is one transaction as its client saw it.
type modelTx struct {
	id       int
	ops      []storage.Op
	reads    []observation
	earliest uint64 // the last commit known to be durable before it began
	began    int64  // on the run's clock
	ended    int64
	writer   bool
}

// An observation is a read and its result, and how to do it on a model.
type observation struct {
	what string
	got  string
	on   func(map[string]string) string
}

type modelRun struct {
	t       *testing.T
	db      *storage.DB
	cache   *storage.Cache[string]
	failing *Failing
	faults  bool
	seed    uint64

	mu      sync.Mutex
	order   []int            // the ids of the writers, in the order of the feed
	seqOf   map[int]uint64   // by id: its place in order, from 1
	done    map[int]*modelTx // writers that were acknowledged
	lost    map[int]bool     // writers that failed
	views   []*modelTx
	ids     atomic.Int64
	durable atomic.Uint64 // len(order)
	clock   atomic.Int64  // counts beginnings and ends
}

const modelClients, modelSteps = 12, 60

func (m *modelRun) run() {
	m.seqOf, m.done, m.lost = map[int]uint64{}, map[int]*modelTx{}, map[int]bool{}
	m.db.Watch("log/", func(ch storage.Change) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, key := range ch.Keys {
			var id int
			_, _ = fmt.Sscanf(key, "log/%d", &id)
			m.order = append(m.order, id)
			m.seqOf[id] = uint64(len(m.order))
			m.durable.Store(uint64(len(m.order)))
		}
	})
	var wg sync.WaitGroup
	for c := range modelClients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(m.seed, uint64(c)))
			for range modelSteps {
				if m.faults && rnd.IntN(20) == 0 {
					m.failing.FailNth(1+rnd.IntN(3), Before)
				}
				m.step(rnd)
			}
		})
	}
	wg.Wait()
}

func (m *modelRun) step(rnd *rand.Rand) {
	id := int(m.ids.Add(1))
	x := &modelTx{id: id, writer: rnd.IntN(3) > 0, earliest: m.durable.Load(), began: m.clock.Add(1)}
	script := rnd.Uint64()
	fn := func(tx storage.Tx) error {
		x.ops, x.reads = nil, nil
		r := rand.New(rand.NewPCG(script, 1))
		for range 1 + r.IntN(5) {
			if err := m.act(tx, x, r); err != nil {
				return err
			}
		}
		if !x.writer {
			return nil
		}
		key := fmt.Sprintf("log/%d", id)
		x.ops = append(x.ops, storage.Op{Kind: storage.Put, Key: key})
		return tx.Put(key, nil)
	}
	var err error
	switch {
	case !x.writer && rnd.IntN(2) == 0:
		err = m.db.View(context.Background(), fn)
	case rnd.IntN(4) == 0:
		err = m.db.UpdateOnce(context.Background(), fn)
	default:
		err = m.db.Update(context.Background(), fn)
	}
	x.ended = m.clock.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		if !errors.Is(err, storage.ErrConflict) && !(m.faults && errs.Is(err, errs.Unavailable)) {
			m.t.Errorf("transaction %d: %v", id, err)
		}
		m.lost[id] = true
	case x.writer:
		m.done[id] = x
	default:
		m.views = append(m.views, x)
	}
}

func (m *modelRun) act(tx storage.Tx, x *modelTx, r *rand.Rand) error {
	dir := fmt.Sprintf("d%d/", r.IntN(2))
	key := fmt.Sprintf("%s%c/%d", dir, 'a'+r.IntN(3), r.IntN(3))
	note := func(what, got string, on func(map[string]string) string) {
		// The model must show the transaction's own writes so far.
		own := slices.Clone(x.ops)
		x.reads = append(x.reads, observation{what, got, func(state map[string]string) string {
			if len(own) > 0 {
				state = maps.Clone(state)
				for _, op := range own {
					ApplyTo(state, op)
				}
			}
			return on(state)
		}})
	}
	write := func(op storage.Op, err error) error {
		x.ops = append(x.ops, op)
		return err
	}
	if x.writer && r.IntN(2) == 0 {
		switch n := r.IntN(12); {
		case n == 0:
			return write(storage.Op{Kind: storage.DeletePrefix, Key: dir}, tx.DeletePrefix(dir))
		case n == 1:
			return write(storage.Op{Kind: storage.DeletePrefix, Key: key[:5]}, tx.Sub(dir).DeletePrefix(key[3:5]))
		case n < 5:
			return write(storage.Op{Kind: storage.Delete, Key: key}, tx.Delete(key))
		}
		value := fmt.Sprint(x.id)
		if r.IntN(2) == 0 {
			return write(storage.Op{Kind: storage.Put, Key: key, Value: []byte(value)},
				m.cache.Put(tx.Sub(dir), key[3:], []byte(value), key+"="+value, len(key)+len(value)))
		}
		return write(storage.Op{Kind: storage.Put, Key: key, Value: []byte(value)}, tx.Sub(dir).Put(key[3:], []byte(value)))
	}
	switch r.IntN(5) {
	case 0, 1:
		v, err := tx.Get(key)
		if err != nil && !storage.IsNotFound(err) {
			return err
		}
		got := fmt.Sprint(string(v), err != nil)
		note("get "+key, got, func(s map[string]string) string { v, ok := s[key]; return fmt.Sprint(v, !ok) })
	case 2:
		v, err := m.cache.Get(tx.Sub(dir), key[3:])
		if err != nil && !storage.IsNotFound(err) {
			return err
		}
		note("cache "+key, v, func(s map[string]string) string {
			if v, ok := s[key]; ok {
				return key + "=" + v
			}
			return ""
		})
	case 3:
		limit := r.IntN(3)
		after := []string{"", "a/", "b", "b/"}[r.IntN(4)]
		names, err := tx.List(dir, after, limit)
		if err != nil {
			return err
		}
		note(fmt.Sprintf("list %s after %q, %d", dir, after, limit), fmt.Sprint(names), func(s map[string]string) string {
			return fmt.Sprint(ListOf(s, dir, after, limit))
		})
		if names, err = tx.Names(dir, after, limit); err != nil {
			return err
		}
		note(fmt.Sprintf("names %s after %q, %d", dir, after, limit), fmt.Sprint(names), func(s map[string]string) string {
			var want []string
			for _, k := range slices.Sorted(maps.Keys(s)) {
				if name, below := strings.CutPrefix(k, dir); below && name > after && (limit == 0 || len(want) < limit) {
					want = append(want, name)
				}
			}
			return fmt.Sprint(want)
		})
	case 4:
		stop := r.IntN(6)
		var got []string
		for e, err := range tx.Scan(dir, key) {
			if err != nil {
				return err
			}
			got = append(got, e.Key+"="+string(e.Value))
			if len(got) == stop {
				break
			}
		}
		note(fmt.Sprintf("scan %s after %s, %d", dir, key, stop), fmt.Sprint(got), func(s map[string]string) string {
			var want []string
			for _, k := range slices.Sorted(maps.Keys(s)) {
				if strings.HasPrefix(k, dir) && k > key {
					if want = append(want, k+"="+s[k]); len(want) == stop {
						break
					}
				}
			}
			return fmt.Sprint(want)
		})
	}
	return nil
}

// ListOf is what Tx.List returns, on a model of a store.
func ListOf(s map[string]string, prefix, after string, limit int) []string {
	var names []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		name, ok := strings.CutPrefix(k, prefix)
		if !ok || name == "" {
			continue
		}
		if dir, _, ok := strings.Cut(name, "/"); ok {
			name = dir + "/"
		}
		if name <= after || len(names) > 0 && names[len(names)-1] == name {
			continue
		}
		if names = append(names, name); len(names) == limit {
			break
		}
	}
	return names
}

func (m *modelRun) check() {
	states := []map[string]string{{}}
	for i, id := range m.order {
		x := m.done[id]
		if x == nil {
			m.t.Fatalf("commit %d is in the feed, but its transaction %d was not acknowledged", i+1, id)
		}
		seq := uint64(i + 1)
		if seq <= x.earliest {
			m.t.Errorf("transaction %d began after commit %d was durable and is before it, at %d", id, x.earliest, seq)
		}
		state := states[i]
		for _, o := range x.reads {
			if want := o.on(state); o.got != want {
				m.t.Errorf("transaction %d, commit %d: %s: got %s, want %s", id, seq, o.what, o.got, want)
			}
		}
		next := maps.Clone(state)
		for _, op := range x.ops {
			ApplyTo(next, op)
		}
		states = append(states, next)
	}
	if len(m.done) != len(m.order) {
		m.t.Errorf("%d writers were acknowledged, %d commits are in the feed", len(m.done), len(m.order))
	}
	for _, v := range m.views {
		latest := int(v.earliest) // a reader may have seen any commit whose transaction had begun before the reader ended
		for latest < len(m.order) && m.done[m.order[latest]].began < v.ended {
			latest++
		}
		if !slices.ContainsFunc(states[v.earliest:latest+1], v.fits) {
			m.t.Errorf("reader %d (%d to %d) saw no single state: %+v", v.id, v.earliest, latest, v.reads)
		}
	}
	m.t.Logf("%d commits, %d lost, %d readers, %+v", len(m.order), len(m.lost), len(m.views), m.db.Stats())
}

func (x *modelTx) fits(state map[string]string) bool {
	for _, o := range x.reads {
		if o.on(state) != o.got {
			return false
		}
	}
	return true
}
