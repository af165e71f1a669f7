package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of listings.
const (
	// scanNames is how many names one look at the store yields: some pages more than
	// were asked for, so that a listing of a million keys takes ten looks.
	scanNames = 100_000
	// keepScan is how long they are kept for the listing's next pages. A name takes up
	// to 100 bytes.
	keepScan = 30 * time.Second
	maxScans = 2 // that are kept
)

// A lister answers pages of a store's names. To most stores, a page is a look at all
// names, so there is one at a time: who asks while one is under way waits for the
// next, with all others who do.
type lister struct {
	look func(ctx context.Context, prefix, from string, n int) (names []string, next string, err error)
	turn chan struct{} // held by the scan that is under way

	mu   sync.Mutex
	next *scan   // guarded by mu: the one that has not begun; nil when there is none
	kept []*scan // guarded by mu: the newest first
}

// A scan is one look at the store, for all who wait for it.
type scan struct {
	prefix, from string // before it begins, guarded by lister.mu
	waiting      int    // guarded by lister.mu
	stop         context.CancelFunc
	done         chan struct{}

	// Of the answer; read when done is closed.
	names []string
	after string // the name after them; empty at the end
	err   error
	at    time.Time // since when it is kept; guarded by lister.mu
}

func newLister(look func(context.Context, string, string, int) ([]string, string, error)) *lister {
	return &lister{look: look, turn: make(chan struct{}, 1)}
}

func (l *lister) list(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	if from > prefix { // a listing goes on
		l.mu.Lock()
		i := slices.IndexFunc(l.kept, func(s *scan) bool { return s.prefix == prefix && s.from <= from })
		if i >= 0 {
			if names, next, covered := l.kept[i].page(prefix, from, n); covered {
				l.mu.Unlock()
				return names, next, nil
			}
		}
		l.mu.Unlock()
	}
	for shared := true; ; shared = false {
		s := l.join(prefix, from, n, shared)
		select {
		case <-s.done:
		case <-ctx.Done():
			l.leave(s)
			return nil, "", ctx.Err()
		}
		if s.err != nil {
			return nil, "", s.err
		}
		// Where many share a look, what one wants may lie behind its end: a look of its
		// own has it.
		if names, next, covered := s.page(prefix, from, n); covered || !shared {
			return names, next, nil
		}
	}
}

// join returns the scan that is about to begin, with what is asked for added; or
// another, for this one alone.
func (l *lister) join(prefix, from string, n int, shared bool) *scan {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.next; shared && s != nil {
		s.from = min(max(s.from, s.prefix), max(from, prefix))
		s.prefix = common(s.prefix, prefix)
		s.waiting++
		return s
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &scan{prefix: prefix, from: from, waiting: 1, stop: stop, done: make(chan struct{})}
	if shared {
		l.next = s
	}
	go l.run(ctx, s, n) // until it is done, or nobody waits any more
	return s
}

func common(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return a[:i]
}

// leave ends a scan for which nobody waits any more.
func (l *lister) leave(s *scan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		s.stop()
		if l.next == s {
			l.next = nil
		}
	}
}

func (l *lister) run(ctx context.Context, s *scan, n int) {
	defer s.stop()
	defer close(s.done)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		s.err = ctx.Err()
		return
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	if l.next == s {
		l.next = nil // who comes from here on wants to see what is newer
	}
	prefix, from := s.prefix, s.from
	l.mu.Unlock()
	defer func() {
		if p := recover(); p != nil { // whatever the store answered, it ends no server
			s.err = fmt.Errorf("the key store's client panicked: %v", p)
		}
	}()
	s.names, s.after, s.err = l.look(ctx, prefix, from, max(n, scanNames))
	if s.err == nil && len(s.names) > n {
		l.keep(s)
	}
}

// keep holds a scan for the next pages, for a while. Of one prefix the newest counts.
func (l *lister) keep(s *scan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = slices.DeleteFunc(l.kept, func(old *scan) bool { return old.prefix == s.prefix })
	l.kept = slices.Insert(l.kept, 0, s)
	if len(l.kept) > maxScans {
		clear(l.kept[maxScans:])
		l.kept = l.kept[:maxScans]
	}
	s.at = time.Now()
	time.AfterFunc(keepScan, l.expire) // which holds no scan
}

// expire forgets what was kept for its time.
func (l *lister) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = slices.DeleteFunc(l.kept, func(s *scan) bool { return time.Since(s.at) >= keepScan })
}

// page cuts a page out of a scan, and reports whether the scan goes that far.
func (s *scan) page(prefix, from string, n int) (names []string, next string, covered bool) {
	start, _ := slices.BinarySearch(s.names, max(prefix, from))
	end := start
	for end < len(s.names) && end-start < n && strings.HasPrefix(s.names[end], prefix) {
		end++
	}
	names = slices.Clone(s.names[start:end]) // a page does not hold all of it
	after := s.after
	if end < len(s.names) {
		after = s.names[end]
	}
	if after != "" && strings.HasPrefix(after, prefix) {
		next = after
	}
	return names, next, end < len(s.names) || end-start == n || after == "" || next == "" && after > max(prefix, from)
}
