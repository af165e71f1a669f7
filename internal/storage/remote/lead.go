package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// now is the node's own time, by which leases are measured, in nanoseconds.
func (s *Store) now() int64 { return int64(s.cfg.Clock.Now()) }

// A peer is what the lock's value says of the node that has it.
type peer struct {
	Node    string `json:"node"`
	Address string `json:"address"`
}

func (s *Store) value() string {
	text, _ := json.Marshal(peer{s.cfg.Node, s.cfg.Address}) // strings always encode
	return string(text)
}

// Start asks for the right to write, again and again, until Stop. It returns when it has been asked for once.
func (s *Store) Start(ctx context.Context) error {
	s.starts.Lock()
	if s.running != nil {
		s.starts.Unlock()
		return errs.New(errs.Internal, "a store is started twice")
	}
	r := &running{settled: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	s.running = r
	s.starts.Unlock()
	r.work.Go(func() { s.run(r) })
	select {
	case <-r.settled:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "wait for the storage: %w", context.Cause(ctx))
	}
}

// Stop gives back the right to write, and asks for it no more. The store can still be read.
func (s *Store) Stop() {
	s.starts.Lock()
	r := s.running
	s.running = nil
	s.starts.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	r.work.Wait()
	s.end(s.term.Load())
	_ = s.release() // is logged
	s.mu.Lock()
	s.before = ""
	s.mu.Unlock()
}

// release gives back what this node may still hold. Should that fail, the leases run out. Until it is done, before says that
// what is found in the lock is this node's own.
func (s *Store) release() error {
	s.mu.Lock()
	id := s.before
	s.mu.Unlock()
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	var fence, lock error
	var both sync.WaitGroup // the lock does not wait for data that hang
	both.Go(func() { fence = s.cfg.Driver.Release(ctx, id) })
	if s.cfg.Lock != nil {
		both.Go(func() { lock = s.cfg.Lock.Release(ctx, id) })
	}
	both.Wait()
	if err := errors.Join(fence, lock); err != nil {
		s.log.Warn("give back the right to write; it runs out by itself", "error", err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before == id {
		s.before = ""
	}
	return nil
}

// Poke has the store look at once whether the lock is free.
func (s *Store) Poke() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run leads whenever it can.
func (s *Store) run(r *running) {
	for first := true; r.ctx.Err() == nil; first = false {
		t, pause := s.try(r.ctx)
		if t != nil && !s.begin(t) {
			t, pause = nil, retryPause
			s.giveWay()
		}
		if first {
			close(r.settled)
		}
		if t != nil {
			s.hold(t)
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.kick:
		case <-r.ctx.Done():
		}
		timer.Stop()
	}
}

// try asks for the lock and takes the fence. Without success it says when to ask again.
//
// Between the two this process may have stood still for any time, and another node have led, whose fence it takes then. That the
// lock can be renewed afterwards shows that nobody did.
func (s *Store) try(ctx context.Context) (*term, time.Duration) {
	s.mu.Lock()
	before, rest := s.before, time.Until(s.paused)
	if s.yielding {
		rest = s.cfg.Pause // it begins when the lock has been given back
	}
	s.mu.Unlock()
	if rest > 0 {
		s.look(ctx)
		return nil, min(rest, s.cfg.Poll)
	}
	c := Claim{ID: s.self + NewID()[:16], After: before, Value: s.value(), TTL: s.cfg.TTL}
	start, lasts := s.now(), fenceTTL
	if s.cfg.Lock != nil {
		h, err := s.ask(ctx, s.cfg.Lock.Claim, c)
		switch {
		case err != nil:
			s.failing(err)
			return nil, retryPause
		case h.ID != c.ID:
			s.others(h)
			return nil, max(retryPause/5, min(s.cfg.Poll, h.Left))
		}
	} else if s.isTaken(ctx, before) {
		return nil, s.cfg.Poll
	}
	s.mu.Lock()
	s.before = c.ID
	s.mu.Unlock()
	c.Steal, c.TTL, c.After = true, fenceTTL, ""
	if s.Alone() {
		s.warn(ctx)
	}
	h, err := s.ask(ctx, s.cfg.Driver.Claim, c)
	if lost := errors.Is(err, ErrLost) && !s.again; lost { // by a connection that was kept: one for the next claim is new
		s.again = true
		return nil, 0
	}
	s.again = false
	if err != nil || h.ID != c.ID {
		s.failing(err)
		s.giveWay()
		return nil, retryPause
	}
	t := &term{id: c.ID, fenced: start, lapsed: make(chan struct{}, 1)}
	if s.cfg.Lock != nil {
		start, lasts = s.now(), s.cfg.TTL
		switch h, err := s.ask(ctx, s.cfg.Lock.Renew, s.renewal(t, lasts)); {
		case err != nil:
			s.failing(err)
			return nil, retryPause
		case h.ID != c.ID:
			s.others(h)
			return nil, retryPause
		}
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.until.Store(start + usable(lasts))
	return t, 0
}

// usable is how much of a lease a node counts on: clocks do not run quite alike.
func usable(ttl time.Duration) int64 { return int64(ttl) * 9 / 10 }

// isTaken reports whether another server has taken the fence from this one, which is alone: it does not take it back. It does where it
// finds an earlier claim of its own, which came late, as the network had held it up; and where the database is another that lacks this one's claim,
// unless somebody renews what is there.
func (s *Store) isTaken(ctx context.Context, before string) bool {
	s.mu.Lock()
	fenced, known := errors.Is(s.trouble, ErrFenced), s.taken == before
	s.mu.Unlock()
	if before == "" || !fenced || known {
		return before != "" && fenced
	}
	h, err := s.ask(ctx, s.cfg.Driver.Renew, Claim{ID: before, Value: s.value(), TTL: fenceTTL})
	switch {
	case s.own(h.ID):
		return false
	case errors.Is(err, ErrMoved):
		return h.ID != "" && h.Left > 0 // for now
	case err != nil:
		return true // for now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = before
	return true
}

// own reports whether a claim is one of this store's.
func (s *Store) own(id string) bool { return strings.HasPrefix(id, s.self) }

// warn tells when a server that is alone takes the storage from one that seems to run.
func (s *Store) warn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if h, err := s.cfg.Driver.Holder(ctx); err == nil && h.ID != "" && !s.own(h.ID) && h.Left > 0 {
		s.log.Warn("another server wrote to this storage a moment ago: it cannot any more; set ha_enabled for several servers", "node", h.Value)
	}
}

// ask claims or renews.
func (s *Store) ask(ctx context.Context, do func(context.Context, Claim) (Holder, error), c Claim) (Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return do(ctx, c)
}

func (s *Store) renewal(t *term, ttl time.Duration) Claim {
	return Claim{ID: t.id, Value: s.value(), TTL: ttl}
}

// look finds out who has the lock.
func (s *Store) look(ctx context.Context) {
	if s.cfg.Lock == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	h, err := s.cfg.Lock.Holder(ctx)
	if err != nil {
		s.failing(err)
		return
	}
	s.others(h)
}

// others remembers who has the lock.
func (s *Store) others(h Holder) {
	var p peer
	if h.ID != "" {
		_ = json.Unmarshal([]byte(h.Value), &p) // what others wrote; without an address nothing is sent there
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch h.ID {
	case "":
		s.holder = peer{}
		return // this node will ask for it; what its trouble was may still be
	case s.before:
		p = peer{} // this node's own, which it is about to give back
	default:
		s.paused, s.yielding = time.Time{}, false // somebody has taken over
	}
	s.holder, s.trouble, s.down = p, nil, false
}

// failing remembers why the lock cannot be had, and tells when that begins.
func (s *Store) failing(err error) {
	if err == nil {
		err = ErrFenced
	}
	s.mu.Lock()
	first := !s.down
	s.down = true
	s.mu.Unlock()
	if first {
		s.log.Error("the storage does not answer; it is asked again and again", "storage", s.cfg.Name, "error", err)
	}
	s.setTrouble(kinded(err))
}

func (s *Store) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.holder = err, peer{}
}

// begin makes this node the one that writes. What it has in memory may be old.
func (s *Store) begin(t *term) bool {
	s.mode.Lock()
	defer s.mode.Unlock()
	s.mu.Lock()
	if s.down {
		s.log.Info("the storage answers again", "storage", s.cfg.Name)
	}
	s.trouble, s.holder, s.down = nil, peer{}, false
	s.mu.Unlock()
	s.term.Store(t)
	if s.on.Applied != nil {
		if err := s.on.Applied(storage.Change{Prefixes: []string{""}}); err != nil {
			s.log.Error("take over what is in the storage", "error", err)
			s.endLocked(t)
			return false
		}
	}
	if s.on.Lead != nil {
		s.on.Lead()
	}
	s.leading.Store(t)
	return true
}

// end takes the right to write from this node. It must not be called from within an Apply.
func (s *Store) end(t *term) {
	s.mode.Lock()
	defer s.mode.Unlock()
	s.endLocked(t)
}

func (s *Store) endLocked(t *term) {
	if t == nil || !s.term.CompareAndSwap(t, nil) {
		return
	}
	s.leading.CompareAndSwap(t, nil)
	defer time.AfterFunc(grace, t.cancel).Stop() // an Apply that is under way may come to its end
	if s.on.Follow != nil {
		s.on.Follow()
	}
	t.cancel()
}

// hold renews until the term is over.
func (s *Store) hold(t *term) {
	ttl, every := s.cfg.TTL, s.cfg.TTL/5
	if s.Alone() {
		ttl, every = fenceTTL, fenceEvery
	}
	for pause := every; ; {
		if !t.wait(pause) {
			return
		}
		start := s.now()
		err := s.renew(t, start)
		switch {
		case err == nil:
			t.until.Store(start + usable(ttl))
			pause = every
		case errors.Is(err, ErrFenced):
			s.log.Warn("another node has taken over, now or meanwhile")
			s.end(t)
			return
		case errors.Is(err, ErrLost):
			s.lost(err)
			s.end(t)
			return
		case !s.busy(t) && (errors.Is(err, errBlind) || s.now() > t.until.Load()):
			s.failing(err)
			s.end(t)
			if errors.Is(err, errBlind) {
				s.giveWay()
			}
			return
		default:
			pause = min(every, retryPause)
		}
	}
}

// busy reports whether a commit is under way that may have held the fence ever since it could not be renewed. Others wait in vain as the renewals do.
func (s *Store) busy(t *term) bool {
	return s.writing.Load() > 0 && s.began.Load() < t.fenced+2*int64(fenceEvery)
}

// wait waits until it is time to renew: early where a reader has found that the lease ran out unseen, while the machine was
// suspended. false says that the term is over.
func (t *term) wait(pause time.Duration) bool {
	least := time.NewTimer(min(pause, retryPause)) // so that readers do not have it asked for all the time
	defer least.Stop()
	select {
	case <-least.C:
	case <-t.ctx.Done():
		return false
	}
	timer := time.NewTimer(pause - min(pause, retryPause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.lapsed:
	case <-t.ctx.Done():
		return false
	}
	return true
}

// renew lengthens the leases of a term. ErrFenced says that it is over: another node may have led since, even if none does now.
// Who does, or what the trouble is, is remembered then.
func (s *Store) renew(t *term, start int64) error {
	if s.Alone() {
		h, err := s.ask(t.ctx, s.cfg.Driver.Renew, s.renewal(t, fenceTTL))
		if h.ID != t.id && (err == nil || errors.Is(err, ErrMoved)) {
			s.setTrouble(errs.New(errs.Unavailable, "%w: only one server may use it, unless ha_enabled is set", ErrFenced))
			err = cmp.Or(err, ErrFenced)
		}
		if err == nil {
			t.fenced = start
		}
		return err
	}
	h, err := s.ask(t.ctx, s.cfg.Lock.Renew, s.renewal(t, s.cfg.TTL))
	switch {
	case err != nil:
		return err
	case h.ID != t.id:
		s.others(h)
		return ErrFenced
	}
	return s.renewFence(t, start)
}

// renewFence shows now and then that the data are in use, to who would copy them, and looks whether they were another's meanwhile.
// Nobody waits for that, but after the lease had run out. errBlind says that it was in vain for too long.
func (s *Store) renewFence(t *term, start int64) error {
	lapsed := start > t.until.Load()
	if !lapsed {
		t.until.Store(start + usable(s.cfg.TTL))
		if start-t.fenced <= int64(fenceEvery) {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, s.cfg.TTL/2) // the next renewal of the lock is in time
	defer cancel()
	h, err := s.cfg.Driver.Renew(ctx, s.renewal(t, fenceTTL))
	switch {
	case err == nil && h.ID != t.id:
		s.setTrouble(errs.New(errs.NotActive, "%w", ErrFenced))
		return ErrFenced
	case err == nil:
		t.fenced = start
	case errors.Is(err, ErrLost):
		return err
	case lapsed || start-t.fenced > int64(fenceTTL):
		return fmt.Errorf("%w: %w", errBlind, err)
	}
	return nil
}

// errBlind says that a node has the lock and does not reach the data, which others may.
var errBlind = errors.New("the data cannot be reached")

// Leading reports whether this node may write.
func (s *Store) Leading() bool { return s.leading.Load() != nil }

// Leader returns id and address of the node that writes, as far as this one knows, or "".
func (s *Store) Leader() (id, address string) {
	if s.Leading() {
		return s.cfg.Node, s.cfg.Address
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder.Node, s.holder.Address
}

// Fresh returns nil while no other node can have written.
func (s *Store) Fresh(context.Context) error {
	t := s.leading.Load()
	if t == nil {
		return s.refusal()
	}
	return s.over(t)
}

// StepDown lets other nodes have the lock for a while; then this one asks for it again.
func (s *Store) StepDown(string) error {
	t := s.leading.Load()
	if t == nil {
		return errVoid
	}
	if s.Alone() {
		return errs.New(errs.Precondition, "there is no other node that could take over")
	}
	s.mu.Lock()
	s.yielding = true
	s.mu.Unlock()
	s.end(t)
	s.giveWay()
	return nil
}

// giveWay lets other nodes have the lock for a while, if there are any.
func (s *Store) giveWay() {
	if s.Alone() {
		return
	}
	s.mu.Lock()
	s.yielding = true
	s.mu.Unlock()
	err := s.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.yielding { // another has taken over meanwhile
		return
	}
	// The others' time begins when they can have the lock, however long it took to give it back.
	s.yielding, s.paused = false, time.Now().Add(s.cfg.Pause)
	if err != nil {
		s.paused = s.paused.Add(s.cfg.TTL)
	}
}

// Again has this node, if it writes, begin that anew: Events.Follow, and Events.Lead when it has the lock and the fence.
func (s *Store) Again() {
	s.end(s.term.Load())
	s.Poke()
}

// lost tells that the database may be another now.
func (s *Store) lost(err error) {
	s.log.Warn("the connection with the storage was lost: the node begins anew from what is in the database", "storage", s.cfg.Name, "error", err)
}

// Last implements cluster's view of a store: what is in it has no number here.
func (s *Store) Last() (index, term uint64) { return 0, 0 }
