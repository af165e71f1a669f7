package kes

import (
	"errors"
	"math"
	"net/http"
	"runtime"
	rtmetrics "runtime/metrics"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/identity"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
)

func (d *Door) version(r *request) error {
	return r.json(struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
	}{d.cfg.Version, ""})
}

// ready tells whether keys can be had: 504 when the key store cannot be reached,
// 502 when it answers with an error.
func (d *Door) ready(r *request) error {
	_, err := r.state.Keys.Status(r.ctx, r.caller())
	switch {
	case err == nil:
		return r.empty()
	case store.IsUnreachable(err):
		d.cfg.Log.Error("key store unreachable", "error", err, "req", requestGroup(r))
		r.code = http.StatusGatewayTimeout
		answerError(r.w, r.code, "the key store is unreachable")
		return nil
	}
	return fromStore(err)
}

type statusOut struct {
	Version          string `json:"version"`
	OS               string `json:"os"`
	Arch             string `json:"arch"`
	Uptime           int64  `json:"uptime"` // seconds
	CPUs             int    `json:"num_cpu"`
	UsedCPUs         int    `json:"num_cpu_used"`
	Heap             uint64 `json:"mem_heap_used"`  // bytes
	Stack            uint64 `json:"mem_stack_used"` // bytes
	StoreLatency     int64  `json:"keystore_latency,omitempty"`
	StoreUnreachable bool   `json:"keystore_unreachable,omitempty"`
	StoreUnavailable bool   `json:"keystore_unavailable,omitempty"` // the SDK's own name for it
}

func (d *Door) status(r *request) error {
	m := readMemory()
	out := statusOut{
		Version: d.cfg.Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
		Uptime: int64(time.Since(d.started).Seconds()),
		CPUs:   runtime.NumCPU(), UsedCPUs: runtime.GOMAXPROCS(0), Heap: m.heap, Stack: m.stack,
	}
	took, err := r.state.Keys.Status(r.ctx, r.caller())
	if errors.Is(err, policy.ErrDenied) || errors.Is(err, identity.ErrNone) || errs.Is(err, errs.Limited) {
		return err // of the caller
	}
	if err != nil {
		if _, judges := r.state.Access.(Witness); judges { // and could not: nobody knows what the client may know
			out = statusOut{}
		}
		out.StoreUnreachable, out.StoreUnavailable = true, true
		d.cfg.Log.Error("key store unreachable", "error", err, "req", requestGroup(r))
	} else {
		out.StoreLatency = int64(math.Max(1, math.Round(float64(took)/float64(time.Millisecond))))
	}
	return r.json(out)
}

func (d *Door) listAPI(r *request) error {
	type row struct {
		Method  string `json:"method"`
		Path    string `json:"path"`
		MaxBody int64  `json:"max_body"`
		Timeout int64  `json:"timeout"` // seconds; 0 is none
	}
	out := []row{}
	for _, c := range calls() {
		limit := or(r.state.Settings[c.path].Timeout, c.timeout)
		out = append(out, row{c.method, c.path, c.maxBody, int64(limit.Seconds())})
	}
	return r.json(out)
}

// memoryUse is what the process holds, in bytes.
type memoryUse struct{ heap, objects, stack uint64 }

func readMemory() memoryUse {
	s := []rtmetrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/objects:objects"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	rtmetrics.Read(s)
	value := func(i int) uint64 {
		if s[i].Value.Kind() != rtmetrics.KindUint64 {
			return 0
		}
		return s[i].Value.Uint64()
	}
	return memoryUse{value(0), value(1), value(2)}
}
