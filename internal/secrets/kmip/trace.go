package kmip

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// The messages of a client, on demand and for a while, without what is secret in them.
// That a client is traced is stored, so that all nodes know; its messages are in the
// memory of the node that it speaks with.
const (
	traceDir      = "trace/"
	traceLife     = 10 * time.Minute
	maxTraceLife  = 24 * time.Hour
	maxTraces     = 20
	maxTraced     = 100     // messages of a client
	maxTraceBytes = 8 << 20 // of a mount
	maxTracePart  = 64 << 10
)

// A tracing is that a client is traced.
type tracing struct {
	Version int       `json:"v"`
	Until   time.Time `json:"until"`
}

// A traced is a message and its answer, both without secrets.
type traced struct {
	serial            string
	time              time.Time
	remote            string
	request, response []byte
}

func (t *traced) size() int { return len(t.request) + len(t.response) + 256 }

// traces are those of a mount at a node.
type traces struct {
	any atomic.Bool // somebody is traced

	mu    sync.Mutex
	until map[string]time.Time // by serial number; guarded by mu, as is the rest
	list  []traced             // the oldest first
	bytes int
}

// set takes who is traced. What is there of others is forgotten.
func (t *traces) set(until map[string]time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = until
	t.any.Store(len(until) > 0)
	kept := t.list[:0]
	t.bytes = 0
	for _, x := range t.list {
		if _, ok := until[x.serial]; ok {
			kept = append(kept, x)
			t.bytes += x.size()
		}
	}
	clear(t.list[len(kept):])
	t.list = kept
}

func (t *traces) wants(serial string, now time.Time) bool {
	if !t.any.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.until[serial]
	return ok && now.Before(until)
}

// redacted is a message without secrets; what cannot be read, or is large, is not shown.
func redacted(raw []byte) []byte {
	if len(raw) > maxTracePart {
		return nil
	}
	n, err := ttlv.Decode(raw)
	if err != nil {
		return nil
	}
	return n.Redacted().Encode()
}

func (t *traces) note(serial, remote string, now time.Time, request, response []byte) {
	x := traced{serial: serial, time: now, remote: remote, request: redacted(request), response: redacted(response)}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, have := range t.list {
		if have.serial == serial {
			n++
		}
	}
	t.list = append(t.list, x)
	t.bytes += x.size()
	for i := 0; i < len(t.list) && (n >= maxTraced || t.bytes > maxTraceBytes); {
		if t.bytes <= maxTraceBytes && t.list[i].serial != serial {
			i++
			continue
		}
		if t.list[i].serial == serial {
			n--
		}
		t.bytes -= t.list[i].size()
		t.list = append(t.list[:i], t.list[i+1:]...)
	}
}

func (t *traces) of(serial string) (out []traced) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.list {
		if x.serial == serial {
			out = append(out, x)
		}
	}
	return out
}

// tracedClients are those of a mount that are traced.
func tracedClients(tx storage.Tx) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	for kv, err := range tx.Scan(traceDir, "") {
		if err != nil {
			return nil, err
		}
		t, _, err := decoded[tracing](kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(kv.Key, traceDir)] = t.Until
	}
	return out, nil
}

type traceIn struct {
	clientLogIn
	Duration *time.Duration `api:"duration" help:"For how long; ten minutes when it is not given."`
}

// startTrace has the messages of a client kept for a while.
func (e *Engine) startTrace(_ context.Context, call *engine.Call, in traceIn) (*engine.Response, error) {
	if err := checkSerial(in.Serial); err != nil {
		return nil, err
	}
	d := traceLife
	if in.Duration != nil {
		d = *in.Duration
	}
	if d <= 0 || d > maxTraceLife {
		return nil, errs.New(errs.Invalid, "duration must be from one second to a day")
	}
	all, err := tracedClients(call.Tx)
	if err != nil {
		return nil, err
	}
	if _, again := all[in.Serial]; !again && len(all) >= maxTraces {
		return nil, errs.New(errs.Invalid, "%d clients are traced already: stop one of them", maxTraces)
	}
	until := call.Now.Add(d)
	if err := storage.PutJSON(call.Tx, traceDir+in.Serial, tracing{1, until}); err != nil {
		return nil, err
	}
	if err := call.Tx.Put(dueKey(until.Add(time.Hour), "t", in.Serial), nil); err != nil {
		return nil, err
	}
	e.announce(call)
	return nil, nil
}

// forgetTrace ends a trace that is over.
func forgetTrace(tx storage.Tx, serial string, now time.Time) error {
	t, err := get[tracing](tx, traceDir+serial)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil || now.Before(t.Until) { // it was begun anew, and has an entry of its own
		return err
	}
	return tx.Delete(traceDir + serial)
}

func (e *Engine) stopTrace(_ context.Context, call *engine.Call, in clientLogIn) (*engine.Response, error) {
	if err := call.Tx.Delete(traceDir + in.Serial); err != nil {
		return nil, err
	}
	e.announce(call)
	return nil, nil
}

func (e *Engine) listTraces(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	return list(call.Tx, traceDir, in)
}

// readTrace shows the messages that this node has of a client.
func (e *Engine) readTrace(_ context.Context, call *engine.Call, in clientLogIn) (*engine.Response, error) {
	t, err := get[tracing](call.Tx, traceDir+in.Serial)
	if err != nil {
		return nil, err
	}
	messages := []any{}
	if v := e.servers.ofMount(call.Mount.ID); v != nil {
		for _, x := range v.traces.of(in.Serial) {
			one := map[string]any{"time": x.time.UTC().Format(time.RFC3339Nano), "remote_address": x.remote}
			for name, raw := range map[string][]byte{"request": x.request, "response": x.response} {
				n, err := ttlv.Decode(raw)
				if err != nil {
					one[name] = "(too large, or not well-formed)"
					continue
				}
				one[name], one[name+"_hex"] = string(e.texts().EncodeXML(n)), hex.EncodeToString(raw)
			}
			messages = append(messages, one)
		}
	}
	return data(map[string]any{"until": t.Until.UTC().Format(time.RFC3339), "messages": messages}), nil
}
