package core

import (
	"context"
	"errors"
	"time"

	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
)

// NamespaceKind are due items that remove what a deleted namespace held.
const NamespaceKind = "nd"

// CreateNamespace makes a namespace with the mounts and policies that all have.
func (a *Active) CreateNamespace(
	ctx context.Context, tx storage.Tx, parent *namespace.Namespace, name string, metadata map[string]string,
) (*namespace.Namespace, error) {
	if err := namespace.CheckName(name); err != nil {
		return nil, err
	}
	used, err := a.Mounts.InUse(tx, parent.ID, name+"/")
	if err != nil {
		return nil, err
	}
	if used != "" {
		return nil, errs.New(errs.Invalid, "path is already in use at %s", used)
	}
	n, err := a.Namespaces.Create(tx, parent, name, metadata)
	if err != nil {
		return nil, err
	}
	return n, a.Furnish(ctx, tx, n.ID)
}

// DeleteNamespace makes a namespace unreachable with this transaction, and all
// its tokens invalid; the quotas about it go along. Its leases are revoked and its
// data is removed in the background.
func (a *Active) DeleteNamespace(tx storage.Tx, n *namespace.Namespace, now time.Time) error {
	if err := a.Namespaces.End(tx, n); err != nil {
		return err
	}
	if err := a.reassign(tx, now)(quota.NamespaceGone(tx, n.Path)); err != nil {
		return err
	}
	return lease.Schedule(tx, lease.Item{Due: now, Kind: NamespaceKind, NS: n.ID, ID: n.ID})
}

// endNamespace is the lease.Handler for NamespaceKind: one lease after another
// is taken back while its mount is still there, one token after another is taken
// out of its parent's children, and then everything goes.
func (a *Active) endNamespace(ctx context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	ids, next, err := lease.Below(tx, it.NS, "", "", leaseBatch)
	if err != nil {
		return err
	}
	for _, id := range ids {
		e, err := lease.Get(tx, it.NS, id)
		if errors.Is(err, lease.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		// What cannot be taken back must not keep the rest for ever.
		if err := a.RevokeLease(ctx, tx, e, true); err != nil {
			return err
		}
	}
	more := next != ""
	if !more {
		more, err = a.Tokens.RemoveSome(tx, it.NS, leaseBatch)
	}
	if err != nil {
		return err
	}
	if more {
		it.Due = time.Now()
		return lease.Schedule(tx, it)
	}
	if err := tx.DeletePrefix(mount.RunDir + it.NS + "/"); err != nil {
		return err
	}
	return a.Namespaces.Remove(tx, it.NS)
}
