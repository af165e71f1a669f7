package core

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/token"
)

// Bounds of the background's work on leases.
const (
	leaseBatch   = 64
	firstBackoff = 10 * time.Second
)

// expireLease is the lease.Handler for a lease that is due.
func (a *Active) expireLease(ctx context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	e, err := lease.Get(tx, it.NS, it.ID)
	if errors.Is(err, lease.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Expires.After(time.Now()) {
		return nil // renewed; it has another place in the index
	}
	if err := a.RevokeLease(ctx, tx, e, false); err != nil {
		return err
	}
	tx.OnCommit(func() { a.core.meters.expired.Add(1) })
	return nil
}

// leaseFailed lets a lease that could not be revoked wait, longer each time,
// until it counts as irrevocable.
func (a *Active) leaseFailed(_ context.Context, tx storage.Tx, it lease.Item, cause error) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	e, err := lease.Get(tx, it.NS, it.ID)
	if errors.Is(err, lease.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	was := e.Expires
	e.Expires = time.Now().UTC().Add(firstBackoff << e.Attempts)
	e.Attempts++
	a.core.meters.notExpired.Add(1)
	e.Error = cause.Error()
	return lease.Put(tx, e, was)
}

// RevokeLease takes back what a lease gave and removes it. With force a failure
// of the engine is ignored.
func (a *Active) RevokeLease(ctx context.Context, tx storage.Tx, e *lease.Entry, force bool) error {
	defer a.core.meters.takenBack.Since(a.core.meters.clock())
	m, _, err := a.Mounts.Route(tx, e.NamespaceID, e.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err == nil && m.ID == e.MountID {
		if m.Engine == nil && !force {
			return errs.New(errs.Unsupported, "this program has no engine of type %q, which could revoke the lease", m.Type)
		}
		if r, ok := m.Engine.(engine.Revoker); ok {
			err := r.Revoke(ctx, a.callFor(tx, m), leaseOf(e))
			if err != nil && !force {
				return err
			}
		}
	}
	return lease.Delete(tx, e)
}

// RenewLease extends a lease by increment (0: the mount's default) and returns
// the engine's answer with the lease as it now is.
func (a *Active) RenewLease(ctx context.Context, tx storage.Tx, e *lease.Entry, increment time.Duration, now time.Time) (*engine.Response, error) {
	defer a.core.meters.renewed.Since(a.core.meters.clock())
	switch {
	case e.Irrevocable(), !e.Expires.IsZero() && !now.Before(e.Expires), e.Attempts > 0:
		return nil, errs.New(errs.Invalid, "lease expired")
	case !e.Renewable:
		return nil, errs.New(errs.Invalid, "lease is not renewable")
	}
	m, _, err := a.Mounts.Route(tx, e.NamespaceID, e.ID)
	if err != nil {
		return nil, err
	}
	r, ok := m.Engine.(engine.Renewer)
	if !ok || m.ID != e.MountID {
		return nil, errs.New(errs.Invalid, "lease is not renewable")
	}
	l := leaseOf(e)
	l.TTL = increment
	res, err := r.Renew(ctx, a.callFor(tx, m), l)
	if err != nil {
		return nil, err
	}
	ttl, warnings, err := token.TTL(token.TTLQuery{
		Now: now, Start: e.Issued, SystemDefault: m.Mount.DefaultTTL, SystemMax: m.Mount.MaxTTL,
		Increment: l.TTL, BackendMax: e.MaxTTL,
	})
	if err != nil {
		return nil, err
	}
	was := e.Expires
	e.Expires, e.LastRenewal = now.Add(ttl), now
	if err := lease.Put(tx, e, was); err != nil {
		return nil, err
	}
	if res == nil {
		res = &engine.Response{}
	}
	l.TTL, l.Expires = ttl, e.Expires
	res.Lease = nil
	res.LeaseDuration, res.Renewable = ttl, e.Renewable
	res.Bare = true // the lease is the answer, also when the engine says nothing
	res.Warnings = append(res.Warnings, warnings...)
	return res, nil
}

func leaseOf(e *lease.Entry) *engine.Lease {
	return &engine.Lease{
		ID: e.ID, Kind: e.Kind, Internal: e.Internal, MaxTTL: e.MaxTTL, Renewable: e.Renewable,
		Issued: e.Issued, Expires: e.Expires,
	}
}

// callFor prepares a call of the hall itself to a mount's engine.
func (a *Active) callFor(tx storage.Tx, m *mount.Entry) *engine.Call {
	c := &engine.Call{Tx: tx, Mount: m.Mount, Now: time.Now().UTC(), Desks: a, Done: a.Done(), NamespaceID: m.NamespaceID}
	if !m.Hall {
		c.Tx = tx.Sub(m.Prefix)
	}
	return c
}

// CallFor is callFor for the rooms of the hall.
func (a *Active) CallFor(tx storage.Tx, m *mount.Entry) *engine.Call { return a.callFor(tx, m) }

// tokenGone is the lease.Handler that makes the leases of a revoked token due,
// a bounded number at a time.
func (a *Active) tokenGone(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	refs, more, err := lease.OfToken(tx, it.NS, it.ID, leaseBatch)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	for _, ref := range refs {
		if err := tx.Delete(lease.TokenDir(it.NS, it.ID) + ref[0] + "/" + ref[1]); err != nil {
			return err
		}
		e, err := lease.Get(tx, ref[0], ref[1])
		if errors.Is(err, lease.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		was := e.Expires
		e.Expires = now
		e.TokenKey = ""
		if err := lease.Put(tx, e, was); err != nil {
			return err
		}
	}
	if more {
		it.Due = now
		return lease.Schedule(tx, it)
	}
	return nil
}

// PrefixKind are due items that go on revoking tokens below a prefix. Their id
// holds, each with a "/" behind it, the time of the request in hexadecimal
// nanoseconds and where to go on in hexadecimal, and then the prefix.
const PrefixKind = "rp"

func prefixID(b token.Below) string {
	return fmt.Sprintf("%x/%x/%s", b.Until.UnixNano(), b.After, b.Prefix)
}

func parsePrefixID(id string) (token.Below, error) {
	nanos, rest, _ := strings.Cut(id, "/")
	after, prefix, ok := strings.Cut(rest, "/")
	until, err1 := strconv.ParseInt(nanos, 16, 64)
	raw, err2 := hex.DecodeString(after)
	if !ok || err1 != nil || err2 != nil {
		return token.Below{}, fmt.Errorf("bad item %q: no time and place before the prefix", id)
	}
	return token.Below{Prefix: prefix, After: string(raw), Until: time.Unix(0, until)}, nil
}

// What one request revokes itself.
const (
	maxInlineLeases = 512
	maxInlineTokens = 4096
)

// RevokeBelow revokes the leases and tokens whose ids begin with prefix. Tokens
// beyond a bounded number are revoked in the background; leases are not, as
// taking them back may take long, so that too many are refused.
func (a *Active) RevokeBelow(ctx context.Context, tx storage.Tx, ns, prefix string, force bool, now time.Time) error {
	ids, more, err := lease.IDs(tx, ns, prefix, maxInlineLeases)
	if err != nil {
		return err
	}
	if more {
		return errs.New(errs.Conflict, "there are more than %d leases below %q: revoke them in smaller parts first", maxInlineLeases, prefix)
	}
	for _, id := range ids {
		e, err := lease.Get(tx, ns, id)
		if err != nil {
			return err
		}
		if err := a.RevokeLease(ctx, tx, e, force); err != nil {
			return err
		}
	}
	return a.revokeTokens(tx, ns, token.Below{Prefix: prefix, Until: time.Now()}, maxInlineTokens, now)
}

// revokeTokens revokes up to limit tokens and leaves the rest to revokeMore.
func (a *Active) revokeTokens(tx storage.Tx, ns string, b token.Below, limit int, now time.Time) error {
	next, err := a.Tokens.RevokeBelow(tx, ns, b, limit, now)
	if err != nil || next == "" {
		return err
	}
	b.After = next
	return lease.Schedule(tx, lease.Item{Due: now, Kind: PrefixKind, NS: ns, ID: prefixID(b)})
}

// revokeMore is the lease.Handler for PrefixKind.
func (a *Active) revokeMore(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	b, err := parsePrefixID(it.ID)
	if err != nil {
		return err
	}
	return a.revokeTokens(tx, it.NS, b, leaseBatch, time.Now().UTC())
}

// MoveKind are due items that forget the record of a moved mount.
const MoveKind = "mv"

// forgetMove is the lease.Handler for MoveKind.
func forgetMove(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	return tx.Delete(MoveKey(it.NS, it.ID))
}

// MoveKey is where the record of a moved mount lies.
func MoveKey(ns, id string) string { return namespace.Prefix(ns) + "move/" + id }
