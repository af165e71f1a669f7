package pebble

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// TestStrain has background work fail while writes wait: a store is given up only where that is what they wait for, and nothing runs that may succeed.
func TestStrain(t *testing.T) {
	t.Parallel()
	ill := errors.New("input/output error")
	type told = *pebble.EventListener
	failed := func(l told, id int) {
		l.CompactionBegin(pebble.CompactionInfo{JobID: id})
		time.Sleep(100 * time.Millisecond)
		l.CompactionEnd(pebble.CompactionInfo{JobID: id, Err: ill})
	}
	for name, c := range map[string]struct {
		happens func(l told)
		gone    bool
	}{
		"statistics alone": {func(l told) {
			for range 200 {
				l.BackgroundError(ill)
				time.Sleep(100 * time.Millisecond)
			}
		}, false},
		"a compaction": {func(l told) {
			for id := range 200 {
				failed(l, id)
			}
		}, true},
		"a compaction, while nothing waits": {func(l told) {
			l.WriteStallEnd()
			for id := range 200 {
				failed(l, id)
			}
		}, false},
		"a compaction beside a slow flush": {func(l told) {
			l.FlushBegin(pebble.FlushInfo{JobID: 7})
			for id := range 200 {
				failed(l, id)
			}
			l.FlushEnd(pebble.FlushInfo{JobID: 7})
		}, false},
		"a compaction that succeeds now and then": {func(l told) {
			for id := range 200 {
				if failed(l, id); id%50 == 0 {
					l.CompactionBegin(pebble.CompactionInfo{JobID: id})
					l.CompactionEnd(pebble.CompactionInfo{JobID: id})
				}
			}
		}, false},
		"two that overlap": {func(l told) {
			for id := range 200 {
				l.FlushBegin(pebble.FlushInfo{JobID: id})
				failed(l, id)
				l.FlushEnd(pebble.FlushInfo{JobID: id, Err: ill})
			}
		}, true},
		"one that is cancelled": {func(l told) {
			for id := range 200 {
				l.CompactionBegin(pebble.CompactionInfo{JobID: id})
				time.Sleep(100 * time.Millisecond)
				l.CompactionEnd(pebble.CompactionInfo{JobID: id, Err: pebble.ErrCancelledCompaction})
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFault(slog.New(slog.DiscardHandler))
				l := f.listener()
				l.WriteStallBegin(pebble.WriteStallBeginInfo{})
				c.happens(l)
				if err := f.get(); (err != nil) != c.gone {
					t.Errorf("it has failed: %v", err)
				}
			})
		})
	}
}
