package audit

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// S3-47: a blocked device harms nobody while another one works, and has what it
// missed when it comes back.
func TestOneBlockedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		blocked, works := newFake(), newFake()
		blocked.gate = make(chan struct{})
		install(b, blocked, works)
		start := time.Now()
		for i := range 20 {
			if err := b.Log(write(fmt.Sprintf("kv/%d", i))); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			time.Sleep(time.Second / 2)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("the records waited: all took %v", took)
		}
		if n := works.having("kv/"); n != 20 {
			t.Errorf("the working device has %d records, want 20", n)
		}
		close(blocked.gate)
		synctest.Wait()
		if n := blocked.having("kv/"); n != 20 {
			t.Errorf("the blocked device has %d records after all, want 20", n)
		}
	})
}

// S3-47: a single blocked device refuses requests, and recovers. What was
// refused is not recorded later.
func TestOnlyDeviceBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		only := newFake()
		only.gate = make(chan struct{})
		install(b, only)
		start := time.Now()
		if err := b.Log(write("kv/first")); !errors.Is(err, errTimeout) {
			t.Fatalf("got %v, want %v", err, errTimeout)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("refused after %v, want 1s", took)
		}
		time.Sleep(time.Second)
		start = time.Now()
		if err := b.Log(write("kv/second")); !errors.Is(err, errBlocked) {
			t.Fatalf("got %v, want %v", err, errBlocked)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a device known to be blocked was waited for: %v", took)
		}
		close(only.gate)
		synctest.Wait()
		if err := b.Log(write("kv/third")); err != nil {
			t.Fatalf("after recovery: %v", err)
		}
		if n := only.having("kv/second"); n != 0 {
			t.Errorf("the refused request is recorded %d times", n)
		}
		if n := only.having("kv/third"); n != 1 {
			t.Errorf("the good request is recorded %d times", n)
		}
	})
}

// The answer of what has happened is recorded even if nobody waits for it.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		only := newFake()
		only.gate = make(chan struct{})
		install(b, only)
		_, answer := sample()
		if err := b.Log(answer); !errors.Is(err, errTimeout) {
			t.Fatalf("got %v, want %v", err, errTimeout)
		}
		close(only.gate)
		synctest.Wait()
		if n := only.having("response"); n != 1 {
			t.Errorf("the answer is recorded %d times, want 1", n)
		}
	})
}

func TestFailingDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		one, two := newFake(), newFake()
		install(b, one, two)
		one.set(func(s *fakeSink) { s.fail = errBroken })
		for range 5 {
			if err := b.Log(write("kv/a")); err != nil {
				t.Fatalf("with one device: %v", err)
			}
		}
		two.set(func(s *fakeSink) { s.fail = errBroken })
		start := time.Now()
		if err := b.Log(write("kv/b")); err == nil {
			t.Fatal("no device works, and the record counts as taken")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("devices that fail at once were waited for: %v", took)
		}
		// Opening is not tried again at once, but soon.
		one.set(func(s *fakeSink) { s.fail, s.refuse = nil, errBroken })
		time.Sleep(time.Minute)
		if err := b.Log(write("kv/c")); err == nil {
			t.Fatal("one cannot be opened, two cannot write")
		}
		opens := one.opens
		for range 10 {
			_ = b.Log(write("kv/c"))
		}
		if one.opens != opens {
			t.Errorf("opened %d times in no time", one.opens-opens)
		}
		one.set(func(s *fakeSink) { s.refuse = nil })
		time.Sleep(maxBackoff)
		if err := b.Log(write("kv/d")); err != nil {
			t.Fatalf("after recovery: %v", err)
		}
		if one.having("kv/b") != 0 || one.having("kv/c") != 0 || one.having("kv/d") != 1 {
			t.Error("the device that came back has records of refused requests, or lacks the good one")
		}
	})
}

// What waits for a blocked device is bounded, in number and in bytes.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		blocked, works := newFake(), newFake()
		blocked.gate = make(chan struct{})
		install(b, blocked, works)
		for range maxQueued + 500 {
			if err := b.Log(write("kv/a")); err != nil {
				t.Fatal(err)
			}
		}
		d := b.set.Load().devices[0]
		if d.count > maxQueued || d.bytes > maxQueuedBytes {
			t.Errorf("%d records of %d bytes wait", d.count, d.bytes)
		}
		if n := d.missed.Load(); n < 500 {
			t.Errorf("%d records count as missed, want at least 500", n)
		}
		close(blocked.gate)
		synctest.Wait()
		if err := b.Log(write("kv/a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d.count != 0 || d.bytes != 0 || d.alarm.Load() {
			t.Errorf("after recovery: %d records, %d bytes, alarm %v", d.count, d.bytes, d.alarm.Load())
		}
	})
}

// Closing does not hang with a device that does.
func TestCloseWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		blocked := newFake()
		blocked.gate = make(chan struct{})
		install(b, blocked)
		_ = b.Log(write("kv/a"))
		start := time.Now()
		b.Close()
		if took := time.Since(start); took > 2*closeGrace {
			t.Errorf("closing took %v", took)
		}
		if err := b.Log(write("kv/b")); err != nil {
			t.Errorf("a closed broker has no devices: %v", err)
		}
	})
}

// Records that wait share a write, and each is there once.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, 10*time.Second)
		f := newFake()
		f.gate = make(chan struct{})
		install(b, f)
		var wait sync.WaitGroup
		for i := range 64 {
			wait.Go(func() {
				if err := b.Log(write(fmt.Sprintf("kv/<%d>", i))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all are queued behind the first
		close(f.gate)
		wait.Wait()
		for i := range 64 {
			if n := f.having(fmt.Sprintf(`kv/\u003c%d\u003e`, i)); n != 1 {
				t.Errorf("record %d is there %d times", i, n)
			}
		}
		if f.writes > 2 {
			t.Errorf("64 records took %d writes", f.writes)
		}
	})
}

// A full queue is waited for: many large records of some do not have those of
// others refused.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		only := newFake()
		only.gate = make(chan struct{})
		install(b, only)
		var wait sync.WaitGroup
		refused := make(chan error, maxQueued)
		for range maxQueued {
			wait.Go(func() { refused <- b.Log(write("kv/some")) })
		}
		synctest.Wait()
		late := make(chan error, 1)
		wait.Go(func() { late <- b.Log(write("kv/late")) })
		time.Sleep(time.Second / 2)
		synctest.Wait()
		if len(late) > 0 {
			t.Fatalf("a record was not kept waiting: %v", <-late)
		}
		close(only.gate)
		wait.Wait()
		if err := <-late; err != nil {
			t.Errorf("the queue had room again, but: %v", err)
		}
		for range maxQueued {
			if err := <-refused; err != nil {
				t.Fatal(err)
			}
		}
		if n := only.having("kv/late"); n != 1 {
			t.Errorf("the record that waited was written %d times", n)
		}
		if n := b.crowd.size.Load(); n != 0 {
			t.Errorf("%d are counted as waiting", n)
		}
	})
}

// A queue that stays full refuses after the time that requests wait, and at once
// when the device is known to be blocked.
func TestQueueStaysFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(t, time.Second)
		only := newFake()
		only.gate = make(chan struct{})
		install(b, only)
		var wait sync.WaitGroup
		for range maxQueued {
			wait.Go(func() { _ = b.Log(write("kv/some")) })
		}
		synctest.Wait()
		start := time.Now()
		if err := b.Log(write("kv/late")); !errors.Is(err, errTimeout) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Second)
		start = time.Now()
		if err := b.Log(write("kv/later")); !errors.Is(err, errFull) || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		wait.Wait()
		close(only.gate)
		synctest.Wait()
		if n := only.having("kv/late"); n != 0 {
			t.Errorf("what was refused was written %d times", n)
		}
	})
}
