package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/kes/store"
)

// unhurried is a store that takes its time for a listing, as a folder with a million
// files does, and knows how many it makes at once.
type unhurried struct {
	store.Store
	took        time.Duration
	mu          sync.Mutex
	names       []string // guarded by mu
	now, most   atomic.Int64
	looks       atomic.Int64
	cut, broken atomic.Bool
}

func (s *unhurried) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	s.looks.Add(1)
	if now := s.now.Add(1); now > s.most.Load() {
		s.most.Store(now)
	}
	defer s.now.Add(-1)
	select {
	case <-time.After(s.took):
	case <-ctx.Done():
		s.cut.Store(true)
		return nil, "", ctx.Err()
	}
	if s.broken.Load() {
		panic("broken")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := store.NewPager(prefix, from, n)
	for _, i := range rand.Perm(len(s.names)) {
		p.Add(s.names[i])
	}
	names, next := p.Page()
	return names, next, nil
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%c%06d", 'a'+i%3, i))
	}
	return names
}

// TestListTogether lists for many clients at once: one look at a time, which all who
// wait share.
func TestListTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &unhurried{names: numbered(300), took: time.Second}
		c := New(s, Expiry{})
		var clients sync.WaitGroup
		for i := range 300 {
			clients.Go(func() {
				prefix := []string{"", "a", "b", "c0000", "z"}[i%5]
				names, next, err := c.List(t.Context(), prefix, "", 1000)
				want, _ := store.Page(slices.Clone(s.names), prefix, "", 1000)
				if err != nil || next != "" || !slices.Equal(names, want) {
					t.Errorf("%q: %d names, %q, %v", prefix, len(names), next, err)
				}
			})
		}
		began := time.Now()
		clients.Wait()
		if looks, most := s.looks.Load(), s.most.Load(); looks > 2 || most != 1 {
			t.Errorf("%d looks, %d at once", looks, most)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestListSeesWhatWasMade does not answer from a look that began before the question.
func TestListSeesWhatWasMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &unhurried{took: time.Second}
		c := New(s, Expiry{})
		go func() { _, _, _ = c.List(t.Context(), "", "", 10) }()
		time.Sleep(time.Millisecond)
		made := numbered(1)
		s.mu.Lock()
		s.names = made // the look that has begun may see it, or not
		s.mu.Unlock()
		names, _, err := c.List(t.Context(), "", "", 10)
		if err != nil || !slices.Equal(names, made) || s.looks.Load() != 2 {
			t.Errorf("%q, %v, %d looks", names, err, s.looks.Load())
		}
		time.Sleep(time.Second)
	})
}

// TestListPages goes through all pages of more names than one look yields, and of
// prefixes of which others share the look.
func TestListPages(t *testing.T) {
	t.Parallel()
	all := numbered(scanNames*2 + 500)
	s := &unhurried{names: all}
	c := New(s, Expiry{})
	var readers sync.WaitGroup
	for _, prefix := range []string{"", "a", "c", "c2", "b1"} {
		readers.Go(func() {
			var got []string
			pages := 0
			for from := ""; ; pages++ {
				names, next, err := c.List(t.Context(), prefix, from, 10_000)
				if err != nil || len(names) > 10_000 {
					t.Errorf("%d names, %v", len(names), err)
					return
				}
				got = append(got, names...)
				if next == "" {
					break
				}
				if next <= from || !strings.HasPrefix(next, prefix) {
					t.Errorf("%q goes on from %q at %q", prefix, from, next)
					return
				}
				from = next
			}
			want, _ := store.Page(slices.Clone(all), prefix, "", len(all))
			if !slices.Equal(got, want) {
				t.Errorf("%q: %d names on %d pages, want %d", prefix, len(got), pages, len(want))
			}
		})
	}
	readers.Wait()
	if s.most.Load() != 1 {
		t.Errorf("%d looks at once", s.most.Load())
	}
	if n := s.looks.Load(); n > 25 {
		t.Errorf("%d looks for 40 pages", n)
	}
}

func kept(c *Cache) int {
	c.lister.mu.Lock()
	defer c.lister.mu.Unlock()
	return len(c.lister.kept)
}

// TestListIsGivenUp ends the look for which nobody waits any more, forgets what it
// keeps, and outlives a client of a store that panics.
func TestListIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &unhurried{names: numbered(100), took: time.Hour}
		c := New(s, Expiry{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := c.List(ctx, "", "", 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if !s.cut.Load() {
			t.Error("the look goes on")
		}
		s.took = 0
		if names, next, err := c.List(t.Context(), "", "", 10); err != nil || len(names) != 10 || next == "" {
			t.Errorf("%q %q %v", names, next, err)
		}
		if kept(c) != 1 {
			t.Error("the look is not kept")
		}
		time.Sleep(keepScan)
		synctest.Wait()
		if kept(c) != 0 {
			t.Error("the look is kept for ever")
		}
		s.broken.Store(true)
		if _, _, err := c.List(t.Context(), "", "", 10); err == nil {
			t.Error("a panic is no error")
		}
	})
}
