package kmip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
)

// A hall serves the engine's own requests from a bench, or refuses them.
type hall struct {
	engine.Host
	x    *bench
	down bool
	n    int
}

func (h *hall) Handle(_ context.Context, req *engine.Request) (*engine.Response, error) {
	h.n++
	if h.down {
		return nil, errors.New("not now")
	}
	h.x.do(func(tx storage.Tx) error {
		call := h.x.call(tx, time.Now())
		call.Request = req
		keep := h.x.e.keepSeen
		if strings.HasSuffix(req.Path, usedPath) {
			keep = h.x.e.keepUsed
		}
		_, err := keep(context.Background(), call, engine.None{})
		return err
	})
	return nil, nil
}

func (*hall) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

// What a node counts is told once in a while, in parts; what cannot be told is not lost;
// who has not come for long is forgotten.
func TestTellSightings(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	h := &hall{x: x}
	v := &server{}
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m"}}})
	now := time.Now().UTC()
	count := func(times int64) {
		all := map[string]*sighting{}
		for i := range seenAtOnce + 10 {
			all[fmt.Sprint(i)] = &sighting{Version: 1, Scope: "s", Role: "r", First: now, Last: now, Messages: times, Operations: map[string]int64{"Get": times}, Versions: []string{"1.4"}}
		}
		v.seen.giveBack(all)
	}
	count(1)
	h.down = true
	v.tell(t.Context(), h)
	count(2)
	h.down, h.n = false, 0
	v.tell(t.Context(), h)
	if h.n != 2 || len(v.seen.serials()) != 0 || x.count(seenDir) != seenAtOnce+10 {
		t.Errorf("told in %d parts, %d are left, %d are kept", h.n, len(v.seen.serials()), x.count(seenDir))
	}
	count(4)
	v.tell(t.Context(), h)
	var one *sighting
	x.do(func(tx storage.Tx) (err error) { one, err = get[sighting](tx, seenDir+"7"); return err })
	if one.Messages != 7 || one.Operations["Get"] != 7 || len(one.Versions) != 1 {
		t.Errorf("%+v", one)
	}
	later := func(d time.Duration) {
		x.do(func(tx storage.Tx) error {
			_, err := x.e.tidy(context.Background(), x.call(tx, now.Add(d)), engine.None{})
			return err
		})
	}
	later(seenKept - time.Hour)
	if n := x.count(seenDir); n != seenAtOnce+10 {
		t.Errorf("%d are kept before their time", n)
	}
	later(seenKept + time.Hour)
	later(seenKept + time.Hour)
	if n := x.count(seenDir); n != 0 {
		t.Errorf("%d are kept after their time", n)
	}
}

// Traces are bounded, for each client and for all.
func TestTraceBounds(t *testing.T) {
	t.Parallel()
	var tr traces
	now := time.Now()
	tr.set(map[string]time.Time{"1": now.Add(time.Hour), "2": now.Add(time.Hour)})
	small := version{1, 4}.node().Encode()
	for range maxTraced + 50 {
		tr.note("1", "", now, small, small)
	}
	tr.note("2", "", now, small, make([]byte, 2*maxTracePart))
	if a, b := len(tr.of("1")), tr.of("2"); a != maxTraced || len(b) != 1 || b[0].response != nil {
		t.Errorf("%d and %d messages", a, len(b))
	}
	for range 2 * maxTraceBytes / (2 * (60 << 10)) {
		tr.list = append(tr.list, traced{serial: "2", request: make([]byte, 60<<10), response: make([]byte, 60<<10)})
		tr.bytes += tr.list[len(tr.list)-1].size()
	}
	tr.note("1", "", now, small, small)
	if tr.bytes > maxTraceBytes {
		t.Errorf("%d bytes", tr.bytes)
	}
	tr.set(map[string]time.Time{"1": now})
	if len(tr.of("2")) != 0 || tr.wants("1", now.Add(time.Second)) || tr.wants("2", now) {
		t.Error("who is not traced any more")
	}
}
