// Package etcd keeps entries in etcd (version 3): a driver of package remote.
//
// It speaks the JSON form of etcd's API, since the gRPC client would make the program several MB larger. A key of etcd is a path
// and our key, which etcd sorts as we do. The fence is compared in each of etcd's transactions.
//
// Etcd bounds a transaction (128 operations, 1.5 MB). A write that is larger goes through a journal: its parts are put under
// keys of their own, one transaction marks them as committed, then they are carried out one after the other, and the mark says how
// far. Who takes the fence carries out first what is left.
package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
)

// Config of a driver.
type Config struct {
	Address            string // URLs, parted by commas; "" is http://127.0.0.1:2379
	Path               string // before all keys; "" is /vault/
	Username, Password string
	CAFile             string
	CertFile, KeyFile  string
}

const (
	defaultAddress = "http://127.0.0.1:2379"
	defaultPath    = "/vault/"
)

// Bounds of one of etcd's transactions; etcd's own are 128 and 1.5 MB, and a comparison and the fence's part count.
const (
	MaxOps   = 100
	MaxBytes = 1 << 20
	// MaxKeyBytes is ours: etcd has none but that of the request.
	MaxKeyBytes = 8 << 10
	// maxValueBytes with the longest key, alone in a part of a journal and so in base64, stays below etcd's 1.5 MB.
	maxValueBytes = 1 << 20
)

// The driver's own keys, behind the path, where no scan looks.
const (
	fenceKey   = "\x00fence"    // the id of who may write
	aliveKey   = "\x00alive"    // lives as long as that one's lease
	markKey    = "\x00commit"   // a journal that must be carried out
	journalDir = "\x00journal/" // its parts
	journalEnd = "\x00journal0" // behind them
)

// A Driver is a remote.Driver. It is safe for concurrent use.
type Driver struct {
	c    *client
	path string
	live *Lock // aliveKey
}

var (
	_ remote.Driver = (*Driver)(nil)
	_ remote.Lock   = (*Lock)(nil)
)

// Open connects, and checks what is there.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	d, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	d.live = newLock(d.c, d.path+aliveKey)
	var out txnResponse
	err = d.c.call(ctx, "/v3/kv/txn", txnRequest{Success: []operation{
		{Range: &rangeRequest{Key: d.key(fenceKey), KeysOnly: true}},
		{Range: &rangeRequest{Key: d.key(""), End: d.key("\xff"), Limit: 1, KeysOnly: true}},
	}}, &out)
	if err != nil {
		d.c.close()
		return nil, err
	}
	if len(out.Responses) == 2 && len(out.Responses[0].Range.kvs()) == 0 {
		if kvs := out.Responses[1].Range.kvs(); len(kvs) > 0 {
			d.c.close()
			return nil, errs.New(errs.Invalid, "etcd: below %q lie entries that arca did not write (%q, for one), as those of Vault: give arca a path of its own", d.path, kvs[0].Key)
		}
	}
	return d, nil
}

func (r *rangeResponse) kvs() []keyValue {
	if r == nil {
		return nil
	}
	return r.KVs
}

func connect(cfg *Config) (*Driver, error) {
	if cfg.Address == "" {
		cfg.Address = defaultAddress
	}
	if cfg.Path == "" {
		cfg.Path = defaultPath
	}
	if !strings.HasSuffix(cfg.Path, "/") {
		cfg.Path += "/"
	}
	c, err := newClient(cfg)
	return &Driver{c: c, path: cfg.Path}, err
}

func (d *Driver) key(k string) []byte { return []byte(d.path + k) }

// Close implements remote.Lock.
func (d *Driver) Close() error {
	d.c.close()
	return nil
}

// Get implements remote.Driver.
func (d *Driver) Get(ctx context.Context, key string) ([]byte, error) {
	var out rangeResponse
	if err := d.c.call(ctx, "/v3/kv/range", rangeRequest{Key: d.key(key)}, &out); err != nil {
		return nil, err
	}
	if len(out.KVs) == 0 {
		return nil, storage.ErrNotFound
	}
	return append([]byte{}, out.KVs[0].Value...), nil
}

// Page implements remote.Driver.
func (d *Driver) Page(ctx context.Context, p remote.Page) ([]storage.Entry, error) {
	var out rangeResponse
	err := d.c.call(ctx, "/v3/kv/range", rangeRequest{Key: d.key(p.From), End: d.key(p.To), Limit: p.Limit, KeysOnly: p.KeysOnly}, &out)
	return d.entries(out.KVs), err
}

func (d *Driver) entries(kvs []keyValue) []storage.Entry {
	list := make([]storage.Entry, 0, len(kvs))
	for _, kv := range kvs {
		list = append(list, storage.Entry{Key: strings.TrimPrefix(string(kv.Key), d.path), Value: kv.Value})
	}
	return list
}

// Write implements remote.Driver.
func (d *Driver) Write(ctx context.Context, fence string, w *remote.Write, note func(storage.Before)) error {
	for i := range w.Puts {
		if e := &w.Puts[i]; len(e.Value) > maxValueBytes {
			return errs.New(errs.TooLarge, "the value of %q has %d bytes, etcd takes %d", e.Key, len(e.Value), maxValueBytes)
		}
	}
	if note != nil {
		if err := d.tell(ctx, w, note); err != nil {
			return err
		}
	}
	parts := d.parts(w)
	if len(parts) == 1 {
		return d.commit(ctx, fence, parts[0])
	}
	return d.journal(ctx, fence, parts)
}

// fenced compares the fence with a claim's id.
func (d *Driver) fenced(id string) comparison {
	return comparison{Key: d.key(fenceKey), Target: "VALUE", Result: "EQUAL", Value: []byte(id)}
}

// commit does operations if the fence is held.
func (d *Driver) commit(ctx context.Context, fence string, ops []operation) error {
	var out txnResponse
	err := d.c.call(ctx, "/v3/kv/txn", txnRequest{
		Compare: []comparison{d.fenced(fence)}, Success: ops,
	}, &out)
	switch {
	case noSpace(err):
		return d.settle(ctx, fence, ops, err)
	case err != nil && refused(err):
		return err
	case err != nil:
		return errors.Join(remote.ErrUnknown, err)
	case !out.Succeeded:
		return remote.ErrFenced
	}
	return nil
}

// settle finds out what became of operations to which etcd has said that it has no room: it says so also when the room ran out on the way, of
// what it has done all the same. What is done is seen by who asks now, and nobody else writes while the fence is held; so they were done if all is as they
// would leave it. A full etcd answers ranges, and not all of its versions transactions.
func (d *Driver) settle(ctx context.Context, fence string, ops []operation, said error) error {
	done := true
	for i := 0; i < len(ops) && done; i++ {
		is, err := d.isDone(ctx, &ops[i])
		if err != nil {
			return errors.Join(remote.ErrUnknown, said, err)
		}
		done = is
	}
	switch id, err := d.Get(ctx, fenceKey); {
	case err != nil:
		return errors.Join(remote.ErrUnknown, said, err)
	case string(id) != fence:
		return errors.Join(remote.ErrUnknown, said)
	case done:
		return nil
	}
	return said
}

// isDone reports whether all is as an operation would leave it.
func (d *Driver) isDone(ctx context.Context, o *operation) (bool, error) {
	q := rangeRequest{Limit: 1}
	var want *putRequest
	switch {
	case o.Put != nil:
		q.Key, want = o.Put.Key, o.Put
	case o.Delete != nil:
		q.Key, q.End = o.Delete.Key, o.Delete.End
	}
	var out rangeResponse
	if err := d.c.call(ctx, "/v3/kv/range", q, &out); err != nil {
		return false, err
	}
	if want == nil {
		return len(out.KVs) == 0, nil
	}
	return len(out.KVs) == 1 && bytes.Equal(out.KVs[0].Value, want.Value), nil
}

// parts cuts a write into operations that fit into one transaction each.
func (d *Driver) parts(w *remote.Write) (parts [][]operation) {
	var part []operation
	bytes := 0
	add := func(o operation, n int) {
		if len(part) == MaxOps || len(part) > 0 && bytes+n > MaxBytes {
			parts = append(parts, part)
			part, bytes = nil, 0
		}
		part = append(part, o)
		bytes += n
	}
	for _, p := range outermost(w.Prefixes) {
		// A transaction of etcd may write no key twice: what is put again below a prefix comes in a part of its own.
		from, to := remote.Range(p)
		add(operation{Delete: &deleteRequest{Key: d.key(from), End: d.key(to)}}, len(p))
	}
	if overlap(w) && len(part) > 0 {
		parts = append(parts, part)
		part, bytes = nil, 0
	}
	for _, key := range w.Deletes {
		add(operation{Delete: &deleteRequest{Key: d.key(key)}}, len(key))
	}
	for i := range w.Puts {
		e := &w.Puts[i]
		add(operation{Put: &putRequest{Key: d.key(e.Key), Value: e.Value}}, len(e.Key)+len(e.Value))
	}
	return append(parts, part)
}

// outermost leaves out prefixes that begin with another, of a sorted list.
func outermost(prefixes []string) (out []string) {
	for _, p := range prefixes {
		if n := len(out); n == 0 || !strings.HasPrefix(p, out[n-1]) {
			out = append(out, p)
		}
	}
	return out
}

func overlap(w *remote.Write) bool {
	for _, key := range w.Keys() {
		for _, p := range w.Prefixes {
			if strings.HasPrefix(key, p) {
				return true
			}
		}
	}
	return false
}

// A mark says which journal is committed, and how far it is carried out.
type mark struct {
	ID    string `json:"id"`
	Parts int    `json:"parts"`
	Done  int    `json:"done,omitempty"` // the first parts
}

// journal commits parts as one. Until the mark is there nothing has happened; once it is, all of it will.
func (d *Driver) journal(ctx context.Context, fence string, parts [][]operation) error {
	id := remote.NewID()
	// What a journal left that was never committed. Without an answer it may yet come, and take the parts of a later journal
	// away: that is not known, so that the fence is taken anew, which refuses it then.
	err := d.commit(ctx, fence, []operation{{Delete: &deleteRequest{Key: d.key(journalDir), End: d.key(journalEnd)}}})
	if err != nil {
		return err
	}
	for i, part := range parts {
		text, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if err := d.certain(d.commit(ctx, fence, []operation{{Put: &putRequest{Key: d.part(id, i), Value: text}}})); err != nil {
			return err
		}
	}
	m := mark{ID: id, Parts: len(parts)}
	set, err := d.setMark(m)
	if err != nil {
		return err
	}
	if err := d.commit(ctx, fence, []operation{set}); err != nil {
		return err
	}
	if err := d.carryOut(ctx, fence, m, func(i int) ([]operation, error) { return parts[i], nil }); err != nil {
		return errors.Join(remote.ErrUnknown, fmt.Errorf("it is committed, and carried out by who writes next: %w", err))
	}
	return nil
}

// certain takes the doubt from a write whose outcome does not matter, whenever it comes.
func (d *Driver) certain(err error) error {
	if errors.Is(err, remote.ErrUnknown) {
		return errs.New(errs.Unavailable, "etcd: %s", err.Error())
	}
	return err
}

func (d *Driver) part(id string, n int) []byte {
	return d.key(fmt.Sprintf("%s%s/%08d", journalDir, id, n))
}

func (d *Driver) setMark(m mark) (operation, error) {
	text, err := json.Marshal(m)
	return operation{Put: &putRequest{Key: d.key(markKey), Value: text}}, err
}

// carryOut does those parts of a committed journal that are not done, and forgets it. Each is marked as done with what it does: who takes
// the fence has little time, and the next who does goes on where it ended.
func (d *Driver) carryOut(ctx context.Context, fence string, m mark, part func(i int) ([]operation, error)) error {
	for m.Done < m.Parts {
		ops, err := part(m.Done)
		if err != nil {
			return err
		}
		m.Done++
		set, err := d.setMark(m)
		if err != nil {
			return err
		}
		if err := d.commit(ctx, fence, append(ops[:len(ops):len(ops)], set)); err != nil {
			return err
		}
	}
	return d.commit(ctx, fence, []operation{
		{Delete: &deleteRequest{Key: d.key(markKey)}},
		{Delete: &deleteRequest{Key: d.key(journalDir + m.ID + "/"), End: d.key(journalDir + m.ID + "0")}},
	})
}

// redo carries out what another node, or an earlier term, has committed and not carried out.
func (d *Driver) redo(ctx context.Context, fence string) error {
	raw, err := d.Get(ctx, markKey)
	if storage.IsNotFound(err) {
		return nil
	}
	var m mark
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return err
	}
	return d.carryOut(ctx, fence, m, func(i int) (ops []operation, err error) {
		var out rangeResponse
		if err := d.c.call(ctx, "/v3/kv/range", rangeRequest{Key: d.part(m.ID, i)}, &out); err != nil {
			return nil, err
		}
		if len(out.KVs) != 1 {
			return nil, errs.New(errs.Failed, "etcd: the journal %q is committed and lacks its part %d: restore etcd from a backup", m.ID, i)
		}
		if err := json.Unmarshal(out.KVs[0].Value, &ops); err != nil {
			return nil, errs.New(errs.Failed, "etcd: the journal %q cannot be read: %w", m.ID, err)
		}
		return ops, nil
	})
}

// tell hands on what the write will overwrite. Nobody else writes meanwhile, or the fence refuses the write.
func (d *Driver) tell(ctx context.Context, w *remote.Write, note func(storage.Before)) error {
	var old []storage.Entry
	keys := w.Keys()
	for len(keys) > 0 {
		n := min(len(keys), MaxOps)
		ops := make([]operation, n)
		for i, key := range keys[:n] {
			ops[i] = operation{Range: &rangeRequest{Key: d.key(key)}}
		}
		keys = keys[n:]
		var out txnResponse
		if err := d.c.call(ctx, "/v3/kv/txn", txnRequest{Success: ops}, &out); err != nil {
			return err
		}
		for _, r := range out.Responses {
			old = append(old, d.entries(r.Range.kvs())...)
		}
	}
	swept, lost, err := w.Swept(func(p remote.Page) ([]storage.Entry, error) { return d.Page(ctx, p) })
	if err != nil {
		return err
	}
	note(w.Noted(old, swept, lost))
	return nil
}
