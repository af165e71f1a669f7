package storage

import (
	"context"
	"slices"

	"arca/internal/errs"
)

// After how many conflicts an Update contends by ticket, and after how many it commits alone.
const (
	ticketAfter = 2
	soloAfter   = 12
)

// A ticket orders the Updates that contend for one key or range: its holder runs, the others wait in line. It exists
// while somebody holds it.
type ticket struct {
	line []chan struct{} // closed when it is that one's turn
}

// A hold is the ticket that one Update holds, at most one, so that Updates cannot wait for each other in a circle.
type hold struct {
	db   *DB
	key  string
	held bool
	solo bool // db.solo is this
}

// prepare readies the Update for its next run, after n conflicts.
func (h *hold) prepare(ctx context.Context, n int, contested string) error {
	if n >= soloAfter {
		return h.becomeSolo(ctx)
	}
	if n < ticketAfter || contested == "" || h.held && h.key == contested {
		return nil
	}
	h.release()
	return h.acquire(ctx, contested, false)
}

// acquire waits for key's ticket. With onlyHot it returns at once if nobody holds it.
func (h *hold) acquire(ctx context.Context, key string, onlyHot bool) error {
	db := h.db
	db.mu.Lock()
	t := db.tickets[key]
	if t == nil {
		if !onlyHot {
			db.tickets[key] = &ticket{}
			db.hot.Add(1)
			h.key, h.held = key, true
		}
		db.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	t.line = append(t.line, turn)
	db.mu.Unlock()

	select {
	case <-turn:
		h.key, h.held = key, true
		return nil
	case <-ctx.Done():
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if i := slices.Index(t.line, turn); i >= 0 {
		t.line = slices.Delete(t.line, i, i+1)
	} else { // our turn came at the same moment: pass it on
		h.key, h.held = key, true
		h.releaseLocked()
	}
	return errs.New(errs.Unavailable, "storage: %w", ctx.Err())
}

func (h *hold) release() {
	if h.held || h.solo {
		h.db.mu.Lock()
		h.releaseLocked()
		h.db.mu.Unlock()
	}
}

func (h *hold) releaseLocked() {
	db := h.db
	if h.solo {
		h.solo, db.solo = false, nil
		close(db.soloDone)
	}
	if !h.held {
		return
	}
	h.held = false
	t := db.tickets[h.key]
	if len(t.line) == 0 {
		delete(db.tickets, h.key)
		db.hot.Add(-1)
		return
	}
	close(t.line[0])
	t.line = t.line[1:]
}

// becomeSolo waits until no other Update commits alone, and keeps all others from committing until h is released.
func (h *hold) becomeSolo(ctx context.Context) error {
	h.release()
	db := h.db
	db.mu.Lock()
	defer db.mu.Unlock()
	for db.solo != nil {
		wait := db.soloDone
		db.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		db.mu.Lock()
		if err := ctx.Err(); err != nil {
			return errs.New(errs.Unavailable, "storage: %w", err)
		}
	}
	h.solo, db.solo, db.soloDone = true, h, make(chan struct{})
	return nil
}

// queueFor waits for key's ticket if others contend for it, then moves the snapshot forward so that the holder before is
// seen. When what was read so far no longer holds the attempt ends.
func (s *txState) queueFor(key string) error {
	h := s.hold
	if h.held || h.solo { // who is solo would wait for a commit that waits for its own
		return nil
	}
	if err := h.acquire(s.ctx, key, true); err != nil || !h.held {
		return err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.advance()
}
