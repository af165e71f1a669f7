package core

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"arca/internal/lease"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/quota"
	"arca/internal/storage"
	"arca/internal/token"
)

// Each lease, and each token that ends, has a stamp: the quota it counts for, whose
// count is changed in the transaction that makes or ends it. When quotas change,
// all that there is gets its stamp anew, in the background.

// ruleFor finds the quota for what was made at a path of a namespace.
func (a *Active) ruleFor(tx storage.Tx, ns, path, role string) (*quota.Rule, error) {
	n, err := a.Namespaces.ByID(tx, ns)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, nil //nolint:nilnil // a namespace that ends: nothing is made there
	}
	if err != nil {
		return nil, err
	}
	t := quota.Target{Namespace: n.Path, Role: role}
	m, rest, err := a.Mounts.Route(tx, ns, path)
	if err == nil {
		t.Mount, t.Below = m.Path, rest
		t.AnyCase = m.Routes != nil && m.Routes.AnyCase(rest)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	return a.Quotas.Leases(&t), nil
}

// bound refuses what is one too many and counts all else.
func (a *Active) bound(tx storage.Tx, ns, path string, s *quota.Stamp, counts bool) (*quota.Stamp, error) {
	role := ""
	if s != nil {
		role = s.Role
	}
	r, err := a.ruleFor(tx, ns, path, role)
	if err != nil || r == nil {
		return s, err
	}
	if err := quota.Check(tx, r, path); err != nil {
		a.core.meters.leasesLimited.Add(1)
		return nil, err
	}
	if !counts {
		return s, nil
	}
	return &quota.Stamp{Rule: r.ID, Role: role}, quota.Add(tx, r.ID, 1)
}

// boundToken holds a new token to the quotas for leases. A batch token is refused
// when no lease may be made any more, but does not count; a root token, one that
// never ends and the token of a wrapped answer are none.
func (a *Active) boundToken(tx storage.Tx, e *token.Entry) (err error) {
	if a.Quotas == nil || !a.Quotas.AnyLeases() || !countsAsLease(e) {
		return nil
	}
	e.Quota, err = a.bound(tx, e.NamespaceID, e.Path, e.Quota, !e.Batch())
	if e.Batch() {
		e.Quota = nil // it has no record in which to tell
	}
	return err
}

func countsAsLease(e *token.Entry) bool {
	return e.Wrapped == nil && !e.Expires.IsZero() && !slices.Contains(e.Policies, policy.RootName)
}

func (a *Active) boundLease(tx storage.Tx, e *lease.Entry) (err error) {
	if a.Quotas.AnyLeases() {
		e.Quota, err = a.bound(tx, e.NamespaceID, e.Path(), nil, true)
	}
	return err
}

// AssignKind are due items that go on giving leases and tokens their stamps. Their
// id is what they go over, "t" or "l", and behind a "/", in hexadecimal, where to
// go on.
const AssignKind = "qa"

const (
	assignBatch = 256
	// assignAgain is when all is gone over once more: requests that began before
	// the quotas changed have ended then.
	assignAgain = 2 * time.Minute
)

// AssignLeases has all leases and tokens assigned to the quotas as they are after
// this transaction.
func (a *Active) AssignLeases(tx storage.Tx, now time.Time) error {
	for _, due := range []time.Time{now, now.Add(assignAgain)} {
		if err := lease.Schedule(tx, assignItem(due, namespace.RootID, "t", "")); err != nil {
			return err
		}
	}
	return nil
}

// reassign is AssignLeases, but not before what may have begun with the quotas as they
// were has ended, where quotas for leases have changed with what they are about: what there
// is has its stamp already. It is one pass however often this happens within a minute, as
// those who move mounts may be others than those who set quotas.
func (a *Active) reassign(tx storage.Tx, now time.Time) func(leases bool, err error) error {
	return func(leases bool, err error) error {
		if err != nil || !leases {
			return err
		}
		due := now.Add(assignAgain + time.Minute).Truncate(time.Minute)
		return lease.Schedule(tx, assignItem(due, namespace.RootID, "t", ""))
	}
}

// MoveMount moves a mount within its namespace, and the quotas about it along.
func (a *Active) MoveMount(tx storage.Tx, m *mount.Entry, to string, now time.Time) error {
	n, err := a.Namespaces.ByID(tx, m.NamespaceID)
	if err != nil {
		return err
	}
	if err := a.reassign(tx, now)(quota.Moved(tx, n.Path, m.Path, to)); err != nil {
		return err
	}
	return a.Mounts.Move(tx, m, to)
}

// dropMount removes a mount that has no leases any more, with its data and the quotas about it.
func (a *Active) dropMount(tx storage.Tx, m *mount.Entry, now time.Time) error {
	n, err := a.Namespaces.ByID(tx, m.NamespaceID)
	switch {
	case errors.Is(err, namespace.ErrNotFound): // they went with the namespace
	case err != nil:
		return err
	default:
		if err := a.reassign(tx, now)(quota.Gone(tx, n.Path, m.Path)); err != nil {
			return err
		}
	}
	return a.Mounts.Delete(tx, m)
}

func assignItem(due time.Time, ns, what, after string) lease.Item {
	return lease.Item{Due: due, Kind: AssignKind, NS: ns, ID: what + "/" + hex.EncodeToString([]byte(after))}
}

// assign is the lease.Handler for AssignKind: tokens, then leases, then the next
// namespace.
func (a *Active) assign(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	what, place, _ := strings.Cut(it.ID, "/")
	raw, err := hex.DecodeString(place)
	if err != nil {
		return fmt.Errorf("bad item %q: %w", it.ID, err)
	}
	now := time.Now()
	var next string
	if what == "t" {
		next, err = a.assignTokens(tx, it.NS, string(raw))
	} else {
		next, err = a.assignLeases(tx, it.NS, string(raw))
	}
	switch {
	case err != nil:
		return err
	case next != "":
		return lease.Schedule(tx, assignItem(now, it.NS, what, next))
	case what == "t":
		return lease.Schedule(tx, assignItem(now, it.NS, "l", ""))
	}
	ns, err := a.Namespaces.Next(tx, it.NS)
	if err != nil || ns == "" {
		return err
	}
	return lease.Schedule(tx, assignItem(now, ns, "t", ""))
}

// restamp finds the stamp that something ought to have, and counts it there instead
// of where it was. It is the old one when nothing changes.
func (a *Active) restamp(tx storage.Tx, ns, path string, old *quota.Stamp, role string) (*quota.Stamp, error) {
	s := quota.Stamp{Role: role}
	if old != nil && old.Role != "" {
		s.Role = old.Role
	}
	r, err := a.ruleFor(tx, ns, path, s.Role)
	if err != nil {
		return nil, err
	}
	if r != nil {
		s.Rule = r.ID
	}
	if (old == nil && s.Rule == "") || (old != nil && old.Rule == s.Rule) {
		return old, nil
	}
	if err := quota.Release(tx, old); err != nil {
		return nil, err
	}
	if s.Rule != "" {
		err = quota.Add(tx, s.Rule, 1)
	}
	return &s, err
}

func (a *Active) assignTokens(tx storage.Tx, ns, after string) (next string, err error) {
	list, next, err := a.Tokens.Some(tx, ns, after, assignBatch)
	if err != nil {
		return "", err
	}
	for _, e := range list {
		if !countsAsLease(e) {
			continue
		}
		role := e.Meta["role_name"] // of logins before there were quotas
		if role == "" {
			role = e.Meta["role"]
		}
		s, err := a.restamp(tx, ns, e.Path, e.Quota, role)
		if err != nil {
			return "", err
		}
		if s == e.Quota {
			continue
		}
		c := e.Clone()
		c.Quota = s
		if err := a.Tokens.Update(tx, e, c); err != nil {
			return "", err
		}
	}
	return next, nil
}

func (a *Active) assignLeases(tx storage.Tx, ns, after string) (next string, err error) {
	ids, next, err := lease.Below(tx, ns, "", after, assignBatch)
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		e, err := lease.Get(tx, ns, id)
		if err != nil {
			return "", err
		}
		s, err := a.restamp(tx, ns, e.Path(), e.Quota, "")
		if err != nil {
			return "", err
		}
		if s == e.Quota {
			continue
		}
		e.Quota = s
		if err := lease.Put(tx, e, e.Expires); err != nil {
			return "", err
		}
	}
	return next, nil
}
