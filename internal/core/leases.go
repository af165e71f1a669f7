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
	m, err := a.mountOf(tx, e)
	if err != nil {
		return err
	}
	if m != nil {
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

// mountOf finds the mount of a lease, also where it was moved since, or nil.
func (a *Active) mountOf(tx storage.Tx, e *lease.Entry) (*mount.Entry, error) {
	m, _, err := a.Mounts.Route(tx, e.NamespaceID, e.ID)
	if err == nil && m.ID == e.MountID {
		return m, nil
	}
	if err == nil || errors.Is(err, storage.ErrNotFound) {
		m, err = a.Mounts.ByAccessor(tx, e.NamespaceID, e.Accessor)
	}
	if errors.Is(err, storage.ErrNotFound) || err == nil && m.ID != e.MountID {
		return nil, nil //nolint:nilnil // no mount is an answer
	}
	return m, err
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
	m, err := a.mountOf(tx, e)
	if err != nil {
		return nil, err
	}
	if m == nil || m.Ending {
		return nil, errs.New(errs.Invalid, "lease is not renewable")
	}
	r, ok := m.Engine.(engine.Renewer)
	if !ok {
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
		c.Tx = m.View(tx)
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

// RevokeBelow revokes the leases and tokens whose ids begin with prefix. So many leases
// that taking them back would take long are revoked in the background, all of them, and
// queued is true: whoever ends what they belong to must leave it there until then. Of
// tokens the first are revoked at once and the rest in the background.
func (a *Active) RevokeBelow(ctx context.Context, tx storage.Tx, ns, prefix string, force bool, now time.Time) (queued bool, err error) {
	ids, next, err := lease.Below(tx, ns, prefix, "", maxInlineLeases)
	if err != nil {
		return false, err
	}
	queued = next != ""
	b := token.Below{Prefix: prefix, Until: time.Now()}
	if queued {
		if err := lease.Schedule(tx, leasesItem(ns, b, force, now)); err != nil {
			return false, err
		}
		ids = nil
	}
	for _, id := range ids {
		e, err := lease.Get(tx, ns, id)
		if err != nil {
			return false, err
		}
		if err := a.RevokeLease(ctx, tx, e, force); err != nil {
			return false, err
		}
	}
	return queued, a.revokeTokens(tx, ns, b, maxInlineTokens, now)
}

// LeasesKind are due items that go on revoking leases below a prefix. Their id is that
// of PrefixKind behind "f/" where failures of the engine are ignored, else behind "d/".
const LeasesKind = "rl"

func leasesItem(ns string, b token.Below, force bool, due time.Time) lease.Item {
	how := "d/"
	if force {
		how = "f/"
	}
	return lease.Item{Due: due, Kind: LeasesKind, NS: ns, ID: how + prefixID(b)}
}

// revokeLeases is the lease.Handler for LeasesKind: it makes leases due, a bounded number
// at a time, so that each is taken back, and tried again, like one whose time is over.
func (a *Active) revokeLeases(ctx context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	how, rest, _ := strings.Cut(it.ID, "/")
	b, err := parsePrefixID(rest)
	if err != nil {
		return err
	}
	ids, next, err := lease.Below(tx, it.NS, b.Prefix, b.After, leaseBatch)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	for _, id := range ids {
		e, err := lease.Get(tx, it.NS, id)
		if err != nil {
			return err
		}
		switch {
		case e.Issued.After(b.Until): // of who took the path since
		case how == "f":
			err = a.RevokeLease(ctx, tx, e, true)
		default:
			err = lease.End(tx, e, now)
		}
		if err != nil {
			return err
		}
	}
	if next == "" {
		return nil
	}
	b.After = next
	return lease.Schedule(tx, leasesItem(it.NS, b, how == "f", now))
}

// EndKind are due items that remove a mount once its leases are gone. Their id is the
// mount's accessor.
const EndKind = "me"

// endAgain is when it is looked again whether a mount has leases, and endStuck how much
// later when one of them could not be taken back.
const (
	endAgain = 5 * time.Second
	endStuck = time.Minute
)

// EndMount removes a mount with its data, its leases and the tokens that it gave. With
// very many leases it answers nobody any more from this commit on, and is removed in the
// background when the last is taken back; queued says so.
func (a *Active) EndMount(ctx context.Context, tx storage.Tx, m *mount.Entry, now time.Time) (queued bool, err error) {
	if queued, err = a.RevokeBelow(ctx, tx, m.NamespaceID, m.Path, false, now); err != nil {
		return false, err
	}
	if !queued {
		return false, a.dropMount(tx, m, now)
	}
	if m.Ending { // all that could not be taken back is tried once more
		return true, nil
	}
	r := m.Row
	r.Ending = true
	if _, err := a.Mounts.Update(tx, r); err != nil {
		return false, err
	}
	return true, lease.Schedule(tx, lease.Item{Due: now, Kind: EndKind, NS: m.NamespaceID, ID: m.Accessor})
}

// endMount is the lease.Handler for EndKind. Leases that cannot be taken back keep the
// mount, as only its engine can: until somebody revokes them with force.
func (a *Active) endMount(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	m, err := a.Mounts.ByAccessor(tx, it.NS, it.ID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !m.Ending {
		return nil // it went with its namespace
	}
	if err != nil {
		return err
	}
	ids, _, err := lease.Below(tx, it.NS, m.Path, "", 1)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		e, err := lease.Get(tx, it.NS, ids[0])
		if err != nil {
			return err
		}
		it.Due = time.Now().Add(endAgain)
		if e.Irrevocable() { // somebody has to do something first
			it.Due = it.Due.Add(endStuck)
		}
		return lease.Schedule(tx, it)
	}
	return a.dropMount(tx, m, time.Now().UTC())
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
