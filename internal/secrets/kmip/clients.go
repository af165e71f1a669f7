package kmip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Who has come, by which versions and operations, when last, and with what result: the
// first that is asked when a client does not work. Each node counts in memory and tells
// the store once in a while, so that a request costs no write.
const (
	seenDir     = "seen/"
	seenPath    = "seen"
	seenKept    = 90 * 24 * time.Hour // after the last time
	maxSeen     = 10_000              // clients between two tellings
	seenAtOnce  = 500                 // in one transaction
	maxSeenKind = 64                  // operations of one client
)

// A sighting is what is known of a client's use, or what came to it.
type sighting struct {
	Version    int              `json:"v"`
	Scope      string           `json:"scope"`
	Role       string           `json:"role"`
	First      time.Time        `json:"first"`
	Last       time.Time        `json:"last"`
	Address    string           `json:"address"` // the last one
	Messages   int64            `json:"messages"`
	Failures   int64            `json:"failures"` // of operations
	Versions   []string         `json:"versions,omitempty"`
	Operations map[string]int64 `json:"operations,omitempty"`
	LastError  *seenError       `json:"last_error,omitempty"`
}

type seenError struct {
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Reason    string    `json:"reason"`
	Message   string    `json:"message,omitempty"`
}

// sightings are those of a node since it told them last.
type sightings struct {
	mu  sync.Mutex
	all map[string]*sighting // by serial number; guarded by mu
}

// note counts a message and its answer.
func (s *sightings) note(conn *connection, m *message, failures []outcome, address string, now time.Time) {
	if conn.role == "" || len(conn.certs) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[conn.serial]
	if one == nil {
		if len(s.all) >= maxSeen {
			return
		}
		if s.all == nil {
			s.all = map[string]*sighting{}
		}
		one = &sighting{Version: 1, Scope: conn.names[0], Role: conn.names[1], First: now, Operations: map[string]int64{}}
		s.all[conn.serial] = one
	}
	one.Last, one.Address = now, address
	one.Messages++
	one.Failures += int64(len(failures))
	if v := m.version.text(); !slices.Contains(one.Versions, v) && len(one.Versions) < 16 {
		one.Versions = append(one.Versions, v)
	}
	for i := range m.items {
		name := "unknown"
		if m.items[i].op != nil {
			name = m.items[i].op.name
		}
		if _, known := one.Operations[name]; known || len(one.Operations) < maxSeenKind {
			one.Operations[name]++
		}
	}
	if len(failures) > 0 {
		last := failures[len(failures)-1]
		one.LastError = &seenError{now, ttlv.EnumName(ttlv.TagOperation, last.op), ttlv.EnumName(ttlv.TagResultReason, last.reason), last.text}
	}
}

// An outcome is how an operation ended, as the answer has it.
type outcome struct {
	op, status, reason uint32 // op is 0 where the answer names none, reason where nothing failed
	text               string
}

// outcomesIn tells how the operations of an answer ended, where some failed; failures are
// those. An answer without the tag of Result Reason, as most are, is not taken apart.
func outcomesIn(answer []byte) (every, failures []outcome) {
	if len(answer) > 64<<10 || !bytes.Contains(answer, []byte{0x42, 0x00, 0x7e, byte(ttlv.Enumeration)}) { // what failed is short
		return nil, nil
	}
	root, err := ttlv.Decode(answer)
	if err != nil {
		return nil, nil
	}
	number := func(n *ttlv.Node) uint32 {
		if n == nil {
			return 0
		}
		return uint32(n.Int)
	}
	for _, it := range root.All(ttlv.TagBatchItem) {
		r := it.Get(ttlv.TagResultReason)
		e := outcome{number(it.Get(ttlv.TagOperation)), number(it.Get(ttlv.TagResultStatus)), number(r), it.Get(ttlv.TagResultMessage).Text()}
		every = append(every, e)
		if r != nil {
			failures = append(failures, e)
		}
	}
	if len(failures) == 0 { // the bytes of the tag lay in a value
		return nil, nil
	}
	return every, failures
}

// outcomesOf is outcomesIn for the answer that the hall's response has led to, nil for none: one that was made here tells
// whether anything failed.
func outcomesOf(res *engine.Response, body []byte) (every, failures []outcome) {
	if res != nil && res.Raw != nil {
		if a, ok := res.Raw.Recorder.(*answer); ok && !a.failed() {
			return nil, nil
		}
	}
	return outcomesIn(body)
}

// taken are all sightings; others begin.
func (s *sightings) taken() map[string]*sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.all
	s.all = nil
	return out
}

// of is a copy of what is there of a client, nil for nothing.
func (s *sightings) of(serial string) *sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[serial]
	if one == nil {
		return nil
	}
	c := *one
	c.Versions, c.Operations = slices.Clone(one.Versions), maps.Clone(one.Operations)
	return &c
}

// serials are the clients that are there.
func (s *sightings) serials() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.all))
}

// giveBack returns what could not be told.
func (s *sightings) giveBack(all map[string]*sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*sighting{}
	}
	for serial, one := range all {
		if have := s.all[serial]; have != nil {
			have.add(one)
		} else if len(s.all) < maxSeen {
			s.all[serial] = one
		}
	}
}

// add takes the counts of another sighting of the same client.
func (one *sighting) add(other *sighting) {
	if one.First.IsZero() || other.First.Before(one.First) {
		one.First = other.First
	}
	if !other.Last.Before(one.Last) {
		one.Last, one.Address, one.Scope, one.Role = other.Last, other.Address, other.Scope, other.Role
	}
	one.Messages += other.Messages
	one.Failures += other.Failures
	for _, v := range other.Versions {
		if !slices.Contains(one.Versions, v) && len(one.Versions) < 16 {
			one.Versions = append(one.Versions, v)
		}
	}
	if one.Operations == nil {
		one.Operations = map[string]int64{}
	}
	for name, n := range other.Operations {
		if _, known := one.Operations[name]; known || len(one.Operations) < maxSeenKind {
			one.Operations[name] += n
		}
	}
	if e := other.LastError; e != nil && (one.LastError == nil || one.LastError.Time.Before(e.Time)) {
		one.LastError = e
	}
}

// tell has the store take what a node has counted and noted, of all mounts; stops is that it
// will not do so again.
func (s *servers) tell(ctx context.Context, host engine.Host, stops bool) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.byMount))
	s.mu.Unlock()
	for _, v := range all {
		v.tell(ctx, host)
		v.tellUses(ctx, host, stops)
	}
}

func (v *server) tell(ctx context.Context, host engine.Host) {
	at, rest := v.at.Load(), v.seen.taken()
	for at != nil && len(rest) > 0 && ctx.Err() == nil {
		some := map[string]*sighting{}
		for serial, one := range rest {
			if len(some) == seenAtOnce {
				break
			}
			some[serial] = one
			delete(rest, serial)
		}
		raw, err := json.Marshal(some)
		if err == nil {
			_, err = host.Handle(ctx, &engine.Request{ID: newUUID(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.Mount.Path + seenPath, Raw: raw})
		}
		if err != nil {
			v.seen.giveBack(some)
			if ctx.Err() == nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.NotActive) {
				host.Log().Warn("note which clients have come; it is tried again", "error", err)
			}
			break
		}
	}
	v.seen.giveBack(rest)
}

// keepSeen stores what a node has counted.
func (e *Engine) keepSeen(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	var all map[string]*sighting
	if json.Unmarshal(call.Request.Raw, &all) != nil || len(all) > seenAtOnce {
		return nil, errs.New(errs.Invalid, "what was counted cannot be read")
	}
	for serial, one := range all {
		if one == nil {
			continue
		}
		have, err := get[sighting](call.Tx, seenDir+serial)
		if errors.Is(err, errNotFound) {
			have = &sighting{Version: 1}
			err = call.Tx.Put(dueKey(one.Last.Add(seenKept), "n", serial), nil)
		}
		if err != nil {
			return nil, err
		}
		have.add(one)
		if err := storage.PutJSON(call.Tx, seenDir+serial, have); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// forgetSeen forgets a client that has not come for long.
func forgetSeen(tx storage.Tx, serial string, now time.Time) error {
	one, err := get[sighting](tx, seenDir+serial)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if until := one.Last.Add(seenKept); now.Before(until) {
		return tx.Put(dueKey(until, "n", serial), nil)
	}
	return tx.Delete(seenDir + serial)
}

type clientLogIn struct {
	Serial string `api:"serial" help:"Serial number of the client's certificate, decimal."`
}

// sightingOf is what is known of a client: what is stored, and what this node has
// counted since.
func (e *Engine) sightingOf(call *engine.Call, serial string) (*sighting, error) {
	one, err := get[sighting](call.Tx, seenDir+serial)
	if errors.Is(err, errNotFound) {
		one, err = &sighting{}, nil
	}
	if err != nil {
		return nil, err
	}
	if v := e.servers.ofMount(call.Mount.ID); v != nil {
		if more := v.seen.of(serial); more != nil {
			one.add(more)
		}
	}
	if one.Messages == 0 {
		return nil, errNotFound
	}
	return one, nil
}

func (s *servers) ofMount(id string) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byMount[id]
}

func (e *Engine) readClientLog(_ context.Context, call *engine.Call, in clientLogIn) (*engine.Response, error) {
	one, err := e.sightingOf(call, in.Serial)
	if err != nil {
		return nil, err
	}
	slices.Sort(one.Versions)
	out := one.short()
	out["first_seen"], out["failed_operations"], out["operations"] = one.First.UTC().Format(time.RFC3339), one.Failures, one.Operations
	if x := one.LastError; x != nil {
		out["last_error"] = map[string]any{"time": x.Time.UTC().Format(time.RFC3339), "operation": x.Operation, "reason": x.Reason, "message": x.Message}
	}
	return data(out), nil
}

func (one *sighting) short() map[string]any {
	return map[string]any{
		"scope": one.Scope, "role": one.Role, "last_seen": one.Last.UTC().Format(time.RFC3339), "remote_address": one.Address, "messages": one.Messages,
		"protocol_versions": one.Versions,
	}
}

// listClientLog lists the clients that have come.
func (e *Engine) listClientLog(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := call.Tx.List(seenDir, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if v := e.servers.ofMount(call.Mount.ID); v != nil {
		for _, serial := range v.seen.serials() {
			if serial > in.After {
				names = append(names, serial)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	if in.Limit > 0 && len(names) > in.Limit {
		names = names[:in.Limit]
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	info := map[string]any{}
	for _, serial := range names[:min(len(names), maxLocated)] {
		one, err := e.sightingOf(call, serial)
		if err != nil && !errors.Is(err, errNotFound) {
			return nil, err
		}
		if err == nil {
			info[serial] = one.short()
		}
	}
	return data(map[string]any{"keys": names, "key_info": info}), nil
}
