package storage

// running lists the running Updates by the age of their snapshots. The DB's mutex guards it.
type running struct {
	oldest, newest *updateState
}

// add lists u. Updates begin in the order of their snapshots.
func (r *running) add(u *updateState, seq uint64) {
	u.began, u.listed, u.prev = seq, true, r.newest
	if r.newest != nil {
		r.newest.next = u
	} else {
		r.oldest = u
	}
	r.newest = u
}

func (r *running) remove(u *updateState) {
	if !u.listed {
		return
	}
	if u.prev != nil {
		u.prev.next = u.next
	} else {
		r.oldest = u.next
	}
	if u.next != nil {
		u.next.prev = u.prev
	} else {
		r.newest = u.prev
	}
	u.prev, u.next, u.listed = nil, nil, false
}

// trim keeps the history within bounds when commits up to durable have become so.
func (db *DB) trim(durable uint64) {
	oldest := durable
	if u := db.running.oldest; u != nil {
		oldest = min(oldest, u.began)
	}
	db.history.trim(durable, oldest, db.cfg.HistoryCommits, db.cfg.HistoryBytes)
}

// reach sees to it that the history has the values of all commits between the backend's snapshot and the transaction's. If
// it has lost them the transaction moves forward. mu is held.
func (s *txState) reach() error {
	if s.db.history.stripped <= s.gen.seq {
		return nil
	}
	return s.advance()
}

// advance moves the snapshot forward to the newest commit. When what was read so far no longer holds, the attempt ends. mu
// is held.
func (s *txState) advance() error {
	db := s.db
	if contested, found := db.history.conflict(s.seq, s.reads, s.ranges); found {
		return s.fail(contested)
	}
	g := db.gen.Load()
	if g == nil {
		return ErrClosed
	}
	s.seq = db.last
	if g != s.gen {
		g.refs.Add(1) // safe: the DB's own reference is dropped only under mu
		s.old, s.gen = append(s.old, s.gen), g
	}
	return nil
}
