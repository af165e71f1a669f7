package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
)

// lockKey is where the lock lies, behind the path.
const lockKey = "\x00lock"

// A Lock is a key that lives as long as its lease. It is safe for concurrent use.
type Lock struct {
	c   *client
	key []byte

	mu     sync.Mutex
	leases map[string]int64 // of our claims
}

type lockValue struct {
	ID     string `json:"id"`
	Holder string `json:"holder"`
}

func newLock(c *client, key string) *Lock {
	return &Lock{c: c, key: []byte(key), leases: map[string]int64{}}
}

// OpenLock connects.
func OpenLock(ctx context.Context, cfg Config) (*Lock, error) {
	d, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	l := newLock(d.c, d.path+lockKey)
	if _, err := l.Holder(ctx); err != nil {
		d.c.close()
		return nil, err
	}
	return l, nil
}

// Close implements remote.Lock.
func (l *Lock) Close() error {
	l.c.close()
	return nil
}

func (l *Lock) lease(id string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leases[id]
}

// Claim implements remote.Lock.
func (l *Lock) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	return l.claim(ctx, c)
}

// claim is Claim, if what is compared is equal.
func (l *Lock) claim(ctx context.Context, c remote.Claim, compare ...comparison) (remote.Holder, error) {
	if err := l.Release(ctx, c.After); err != nil {
		return remote.Holder{}, err
	}
	// A lease of whole seconds, at least as long as the holder counts on.
	seconds := int64((c.TTL + time.Second - 1) / time.Second)
	var granted leaseResponse
	if err := l.c.call(ctx, "/v3/lease/grant", leaseRequest{TTL: seconds}, &granted); err != nil {
		return remote.Holder{}, err
	}
	text, err := json.Marshal(lockValue{c.ID, c.Value})
	if err != nil {
		return remote.Holder{}, err
	}
	req := txnRequest{
		Compare: compare,
		Success: []operation{{Put: &putRequest{Key: l.key, Value: text, Lease: granted.ID}}},
		Failure: []operation{{Range: &rangeRequest{Key: l.key}}},
	}
	if !c.Steal {
		req.Compare = append(req.Compare, comparison{Key: l.key, Target: "CREATE", Result: "EQUAL", Create: "0"})
	}
	var out txnResponse
	err = l.c.call(ctx, "/v3/kv/txn", req, &out)
	if err == nil && out.Succeeded {
		l.mu.Lock()
		l.leases = map[string]int64{c.ID: granted.ID} // one claim at a time
		l.mu.Unlock()
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	_ = l.revoke(ctx, granted.ID) // else it ends by itself
	if err != nil {
		return remote.Holder{}, err
	}
	return l.Holder(ctx)
}

// Renew implements remote.Lock: the lease lives, and after it was lengthened the key is still there with it.
func (l *Lock) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if n := l.lease(c.ID); n != 0 {
		alive, err := l.renew(ctx, n)
		var out rangeResponse
		if err == nil && alive {
			err = l.c.call(ctx, "/v3/kv/range", rangeRequest{Key: l.key}, &out)
		}
		if err != nil {
			return remote.Holder{}, err
		}
		if len(out.KVs) == 1 && out.KVs[0].Lease == n {
			return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
		}
	}
	h, err := l.Holder(ctx)
	if h.ID == c.ID { // its lease has run out, and the key is about to go
		h = remote.Holder{}
	}
	return h, err
}

// renew lengthens a lease, if it lives.
func (l *Lock) renew(ctx context.Context, lease int64) (alive bool, err error) {
	var out struct {
		Result leaseResponse `json:"result"`
	}
	err = l.c.call(ctx, "/v3/lease/keepalive", leaseRequest{ID: lease}, &out)
	return out.Result.TTL > 0, err
}

func (l *Lock) revoke(ctx context.Context, lease int64) error {
	var out struct{}
	return l.c.call(ctx, "/v3/lease/revoke", leaseRequest{ID: lease}, &out)
}

// Holder implements remote.Lock.
func (l *Lock) Holder(ctx context.Context) (h remote.Holder, err error) {
	var out rangeResponse
	if err := l.c.call(ctx, "/v3/kv/range", rangeRequest{Key: l.key}, &out); err != nil || len(out.KVs) == 0 {
		return h, err
	}
	var v lockValue
	if err := json.Unmarshal(out.KVs[0].Value, &v); err != nil {
		return h, errs.New(errs.Failed, "etcd: the entry %q was not written by arca: %w", l.key, err)
	}
	var lease leaseResponse
	if err := l.c.call(ctx, "/v3/lease/timetolive", leaseRequest{ID: out.KVs[0].Lease}, &lease); err != nil {
		return h, err
	}
	return remote.Holder{ID: v.ID, Value: v.Holder, Left: time.Duration(max(lease.TTL, 1)) * time.Second}, nil
}

// Release implements remote.Lock.
func (l *Lock) Release(ctx context.Context, id string) error {
	n := l.lease(id)
	if n == 0 {
		return nil
	}
	if alive, err := l.renew(ctx, n); err != nil || alive {
		if err == nil {
			err = l.revoke(ctx, n)
		}
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	delete(l.leases, id)
	l.mu.Unlock()
	return nil
}

// Claim implements remote.Lock: the fence is a key without a lease, and another one shows, while its lease lasts, that its holder lives.
func (d *Driver) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	var out struct{}
	if err := d.c.call(ctx, "/v3/kv/put", putRequest{Key: d.key(fenceKey), Value: []byte(c.ID)}, &out); err != nil {
		return remote.Holder{}, err
	}
	if err := d.redo(ctx, c.ID); err != nil {
		return remote.Holder{}, err
	}
	if err := d.show(ctx, c); err != nil {
		return remote.Holder{}, err
	}
	return d.held(ctx, c)
}

// show makes the key that shows that the holder of the fence lives, whoever's it was, while c has the fence.
func (d *Driver) show(ctx context.Context, c remote.Claim) error {
	c.Steal = true
	_, err := d.live.claim(ctx, c, d.fenced(c.ID))
	return err
}

// Renew implements remote.Lock. The key that shows that its holder lives is made again if it is gone, or another's.
func (d *Driver) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	mine, err := d.held(ctx, c)
	if err != nil || mine.ID != c.ID {
		return mine, err
	}
	live, err := d.live.Renew(ctx, c)
	if err == nil && live.ID != c.ID {
		err = d.show(ctx, c)
	}
	if err != nil {
		return remote.Holder{}, err
	}
	return d.held(ctx, c)
}

// held looks whose the fence is.
func (d *Driver) held(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	id, err := d.Get(ctx, fenceKey)
	switch {
	case storage.IsNotFound(err):
		return remote.Holder{}, nil
	case err != nil:
		return remote.Holder{}, err
	case string(id) != c.ID:
		return remote.Holder{ID: string(id)}, nil
	}
	return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
}

// Holder implements remote.Lock.
func (d *Driver) Holder(ctx context.Context) (remote.Holder, error) { return d.live.Holder(ctx) }

// Release implements remote.Lock. The fence stays, and is nobody's: it also says that arca wrote what is there.
func (d *Driver) Release(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	err := d.commit(ctx, id, []operation{{Put: &putRequest{Key: d.key(fenceKey), Value: []byte{}}}})
	if errors.Is(err, remote.ErrFenced) { // it is another's
		err = nil
	}
	return errors.Join(err, d.live.Release(ctx, id))
}
