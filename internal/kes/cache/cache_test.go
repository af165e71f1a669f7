package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/store"
	"arca/internal/kes/store/memory"
)

// slow counts what is asked of a store, takes its time, and may be away.
type slow struct {
	memory.Store
	gets atomic.Int64
	gone atomic.Bool
}

var errGone = &store.UnreachableError{Err: errors.New("gone")}

func (s *slow) Get(ctx context.Context, name string) ([]byte, error) {
	s.gets.Add(1)
	time.Sleep(100 * time.Millisecond)
	if s.gone.Load() {
		return nil, errGone
	}
	return s.Store.Get(ctx, name)
}

func (s *slow) Create(ctx context.Context, name string, value []byte) error {
	if s.gone.Load() {
		return errGone
	}
	return s.Store.Create(ctx, name, value)
}

func (s *slow) Status(context.Context) (time.Duration, error) {
	if s.gone.Load() {
		return 0, errGone
	}
	return time.Millisecond, nil
}

func setUp(t *testing.T, e Expiry) (*Cache, *slow, *key.Key) {
	t.Helper()
	s := &slow{}
	c := New(s, e)
	k, err := key.New(key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), "k", k); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return c, s, k
}

func get(t *testing.T, c *Cache) {
	t.Helper()
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
}

// unsure removes a key, and fails nonetheless.
type unsure struct{ memory.Store }

func (s *unsure) Delete(ctx context.Context, name string) error {
	return errors.Join(s.Store.Delete(ctx, name), errors.New("no answer"))
}

// TestDeleteFails asks the store again for a key whose deletion ended with an error.
func TestDeleteFails(t *testing.T) {
	t.Parallel()
	c := New(&unsure{}, Expiry{})
	k, err := key.New(key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), "k", k); err != nil {
		t.Fatal(err)
	}
	get(t, c)
	if err := c.Delete(t.Context(), "k"); err == nil {
		t.Error("the error is lost")
	}
	if _, err := c.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted key is still used: %v", err)
	}
}

// TestCreatedAnew has two servers with one store: what one of them deletes and the other
// makes anew is, for the latter and for the cache that replaces its own, the new key.
func TestCreatedAnew(t *testing.T) {
	t.Parallel()
	s := &memory.Store{}
	one, two, heir := New(s, Expiry{}), New(s, Expiry{}), New(s, Expiry{})
	two.Bequeath(heir)
	makeKey := func(c *Cache) *key.Key {
		t.Helper()
		k, err := key.New(key.AES256, time.Now(), "me")
		if err == nil {
			err = c.Create(t.Context(), "k", k)
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	makeKey(one)
	get(t, two)
	get(t, heir)
	if err := one.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	want := makeKey(two)
	for _, c := range []*Cache{one, two, heir} {
		if got, err := c.Get(t.Context(), "k"); err != nil || !bytes.Equal(got.Encode(), want.Encode()) {
			t.Errorf("the key of before is used: %v", err)
		}
	}
}

// A creation that finds the key of another server, or its own whose answer was lost, has what was cached of the name forgotten.
func TestCreatedElsewhere(t *testing.T) {
	t.Parallel()
	s := &memory.Store{}
	one, two := New(s, Expiry{}), New(s, Expiry{})
	made := func(c *Cache) (*key.Key, error) {
		k, err := key.New(key.AES256, time.Now(), "me")
		if err != nil {
			t.Fatal(err)
		}
		return k, c.Create(t.Context(), "k", k)
	}
	if _, err := made(one); err != nil {
		t.Fatal(err)
	}
	get(t, two)
	if err := one.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	want, err := made(one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made(two); !errors.Is(err, store.ErrExists) {
		t.Errorf("made anew: %v", err)
	}
	if got, err := two.Get(t.Context(), "k"); err != nil || !bytes.Equal(got.Encode(), want.Encode()) {
		t.Errorf("the key of before is used: %v", err)
	}
}

func TestFetchedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := setUp(t, Expiry{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { get(t, c) })
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Get(impatient, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who cannot wait gets %v", err)
		}
		wg.Wait()
		if n := s.gets.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		for range 3 {
			if _, err := c.Get(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		}
		if n := s.gets.Load(); n != 4 {
			t.Errorf("that there is none was remembered: %d", n)
		}
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := setUp(t, Expiry{Any: time.Minute, Unused: 10 * time.Second})
		get(t, c)
		for range 50 { // used all the time, for less than a minute
			time.Sleep(time.Second)
			get(t, c)
		}
		if n := s.gets.Load(); n != 1 {
			t.Errorf("fetched %d times while in use", n)
		}
		time.Sleep(11 * time.Second)
		get(t, c)
		if n := s.gets.Load(); n != 2 {
			t.Errorf("fetched %d times after the minute", n)
		}
		time.Sleep(11 * time.Second)
		get(t, c)
		if n := s.gets.Load(); n != 3 {
			t.Errorf("fetched %d times after it was not used", n)
		}
	})
}

func TestOffline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, k := setUp(t, Expiry{Any: time.Minute, Unused: time.Minute, Offline: time.Hour})
		get(t, c)
		s.gone.Store(true)
		time.Sleep(30 * time.Minute)
		get(t, c)
		if err := c.Create(t.Context(), "k", k); !errors.Is(err, store.ErrExists) {
			t.Errorf("create what is known while the store is away: %v", err)
		}
		if err := c.Create(t.Context(), "other", k); !store.IsUnreachable(err) {
			t.Errorf("create another: %v", err)
		}
		time.Sleep(31 * time.Minute)
		if _, err := c.Get(t.Context(), "k"); !store.IsUnreachable(err) {
			t.Errorf("after an hour: %v", err)
		}
		s.gone.Store(false)
		time.Sleep(11 * time.Second)
		get(t, c)
		time.Sleep(2 * time.Minute)
		before := s.gets.Load()
		get(t, c)
		if s.gets.Load() == before {
			t.Error("back again, it does not expire")
		}
	})
}

// TestDeletedWhileFetched keeps no key that was deleted while it was fetched.
func TestDeletedWhileFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := setUp(t, Expiry{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.Get(t.Context(), "k") // either answer is right
		}()
		time.Sleep(50 * time.Millisecond)
		if err := c.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		<-done
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// breaks is a store whose client has a fault.
type breaks struct{ memory.Store }

func (*breaks) Get(context.Context, string) ([]byte, error) { panic("no such field") }

func TestPanic(t *testing.T) {
	t.Parallel()
	c := New(&breaks{}, Expiry{})
	for range 2 {
		if k, err := c.Get(t.Context(), "k"); err == nil {
			t.Errorf("got %v", k)
		}
	}
}

func TestBadEntry(t *testing.T) {
	t.Parallel()
	s := &memory.Store{}
	if err := s.Create(t.Context(), "k", []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	var bad *BadEntryError
	if _, err := New(s, Expiry{}).Get(t.Context(), "k"); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
}

// TestFewAtATime bounds what is asked of the store at a time, whatever names are
// asked for, and lets those go who do not wait so long.
func TestFewAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := setUp(t, Expiry{})
		var asking sync.WaitGroup
		var left atomic.Int64
		for i := range 3 * maxFlights {
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
				defer cancel()
				switch _, err := c.Get(ctx, fmt.Sprint("none", i)); {
				case errors.Is(err, context.DeadlineExceeded):
					left.Add(1)
				case !errors.Is(err, store.ErrNotFound):
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		if n := s.gets.Load(); n != maxFlights {
			t.Errorf("%d at a time", n)
		}
		asking.Wait()
		// The second lot began at 100 ms and was not waited for; the third never began.
		if n := s.gets.Load(); n != 2*maxFlights || left.Load() != 2*maxFlights {
			t.Errorf("%d were asked for, %d have left", n, left.Load())
		}
		time.Sleep(time.Second)
		if len(c.places) != 0 {
			t.Errorf("%d places are not given back", len(c.places))
		}
		get(t, c)
	})
}

// hesitant removes a key, and answers once it is let.
type hesitant struct {
	memory.Store
	let chan struct{}
}

func (s *hesitant) Delete(ctx context.Context, name string) error {
	<-s.let
	return s.Store.Delete(ctx, name)
}

// TestDeleteReachesHeir deletes a key by a cache that another replaces meanwhile, which
// has fetched the key, or is about to.
func TestDeleteReachesHeir(t *testing.T) {
	t.Parallel()
	s := &hesitant{let: make(chan struct{})}
	old, heir := New(s, Expiry{}), New(s, Expiry{})
	k, err := key.New(key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Create(t.Context(), "k", k); err != nil {
		t.Fatal(err)
	}
	var deleting sync.WaitGroup
	deleting.Go(func() {
		if err := old.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	})
	old.Bequeath(heir)
	get(t, heir)
	close(s.let)
	deleting.Wait()
	if _, err := heir.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted key is still used: %v", err)
	}
}

// slowDelete deletes when it is told to.
type slowDelete struct {
	store.Store
	began, goOn chan struct{}
}

func (s slowDelete) Delete(ctx context.Context, name string) error {
	close(s.began)
	<-s.goOn
	return s.Store.Delete(ctx, name)
}

// TestHeirs forgets a deleted key in all caches that have come meanwhile, by several reloads.
func TestHeirs(t *testing.T) {
	t.Parallel()
	keys := &memory.Store{}
	slow := slowDelete{keys, make(chan struct{}), make(chan struct{})}
	expiry := Expiry{Any: 5 * time.Minute, Unused: time.Minute}
	first, second, third := New(slow, expiry), New(keys, expiry), New(keys, expiry)
	k, err := key.New(key.Default(), time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Create(t.Context(), "k", k); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error)
	go func() { deleted <- first.Delete(t.Context(), "k") }()
	<-slow.began
	first.Bequeath(second)
	second.Bequeath(third)
	if _, err := third.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	close(slow.goOn)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if _, err := third.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is served: %v", err)
	}
}
