package token

import (
	"context"
	"errors"
	"strings"
	"time"

	"arca/internal/lease"
	"arca/internal/quota"
	"arca/internal/storage"
)

// inlineChildren is how many descendants a revocation removes at once; the rest
// is invalid all the same and is removed in the background.
const inlineChildren = 32

// Revoke removes a token. All that descend from it are invalid with the commit.
func (s *Store) Revoke(tx storage.Tx, e *Entry, now time.Time) error {
	if err := s.remove(tx, e); err != nil {
		return err
	}
	if e.Wrapped != nil {
		return nil // it could never make children
	}
	left := inlineChildren
	return s.removeChildren(tx, e.NamespaceID, e.Key, now, &left)
}

// remove takes away the token's own keys.
func (s *Store) remove(tx storage.Tx, e *Entry) error {
	ns := e.NamespaceID
	keys := []string{entryKey(ns, e.Key)}
	if e.Wrapped == nil {
		keys = append(keys, pathDir(ns)+e.LeaseID())
	}
	if e.Parent != "" {
		keys = append(keys, s.childKey(e))
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	if err := quota.Release(tx, e.Quota); err != nil {
		return err
	}
	if !e.Expires.IsZero() {
		if err := lease.Cancel(tx, due(e.Expires, ns, e.Key)); err != nil {
			return err
		}
	}
	if e.Wrapped != nil {
		return nil // it could keep nothing
	}
	if err := emptyCubbyhole(tx, cubbyDir(ns, e.Key)); err != nil {
		return err
	}
	return s.scheduleLeases(tx, ns, e.Key)
}

// emptyCubbyhole deletes what a token kept. Few secrets are deleted one by one:
// a deleted range costs the store more than it saves.
func emptyCubbyhole(tx storage.Tx, dir string) error {
	const few = 32
	keys, more, err := first(tx, dir, few)
	if err != nil {
		return err
	}
	if more {
		return tx.DeletePrefix(dir)
	}
	for _, k := range keys {
		if err := tx.Delete(dir + k); err != nil {
			return err
		}
	}
	return nil
}

// scheduleLeases makes the secrets that were leased to the token due at once.
func (s *Store) scheduleLeases(tx storage.Tx, ns, key string) error {
	for _, err := range tx.Keys(lease.TokenDir(ns, key), "") {
		if err != nil {
			return err
		}
		return lease.Schedule(tx, lease.Item{Due: time.Now(), Kind: lease.TokenGoneKind, NS: ns, ID: key})
	}
	return nil
}

// first returns up to n keys under dir, relative to it, and whether there are more.
func first(tx storage.Tx, dir string, n int) (keys []string, more bool, err error) {
	for key, err := range tx.Sub(dir).Keys("", "") {
		if err != nil {
			return nil, false, err
		}
		if len(keys) == n {
			return keys, true, nil
		}
		keys = append(keys, key)
	}
	return keys, false, nil
}

// removeChildren removes descendants while left lasts, and leaves the rest to
// the background.
func (s *Store) removeChildren(tx storage.Tx, ns, key string, now time.Time, left *int) error {
	children, more, err := first(tx, childDir(ns, key), *left)
	if err != nil {
		return err
	}
	*left -= len(children)
	for _, child := range children {
		childNS, childKey, _ := strings.Cut(child, "/")
		e, err := s.cache.Get(tx, entryKey(childNS, childKey))
		if errors.Is(err, storage.ErrNotFound) {
			if err := tx.Delete(childDir(ns, key) + child); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := s.remove(tx, e); err != nil {
			return err
		}
		if err := s.removeChildren(tx, childNS, childKey, now, left); err != nil {
			return err
		}
	}
	if more {
		return lease.Schedule(tx, lease.Item{Due: now, Kind: CleanupKind, NS: ns, ID: key})
	}
	return nil
}

// CleanUp is the lease.Handler for CleanupKind: it removes what a revoked token
// left behind, a bounded number at a time.
func (s *Store) CleanUp(_ context.Context, tx storage.Tx, it lease.Item) error {
	if err := lease.Cancel(tx, it); err != nil {
		return err
	}
	if _, err := tx.Get(freedKey(it.NS, it.ID)); err == nil {
		return s.freeChildren(tx, it)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	left := inlineChildren
	return s.removeChildren(tx, it.NS, it.ID, time.Now(), &left)
}

// RemoveSome removes up to n tokens of a namespace that has ended, one by one, as
// parents that live on in other namespaces have them in their records. It reports
// whether there are more.
func (s *Store) RemoveSome(tx storage.Tx, ns string, n int) (more bool, err error) {
	keys, more, err := first(tx, entryKey(ns, ""), n)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		e, err := s.cache.Get(tx, entryKey(ns, key))
		if err != nil {
			return false, err
		}
		if err := s.remove(tx, e); err != nil {
			return false, err
		}
	}
	return more, nil
}

// RevokeAlone removes a token and leaves its children alive, as orphans.
func (s *Store) RevokeAlone(tx storage.Tx, e *Entry, now time.Time) error {
	if err := s.remove(tx, e); err != nil {
		return err
	}
	for _, err := range tx.Keys(childDir(e.NamespaceID, e.Key), "") {
		if err != nil {
			return err
		}
		// The mark frees them all at once; they are rewritten behind it.
		if err := tx.Put(freedKey(e.NamespaceID, e.Key), []byte{1}); err != nil {
			return err
		}
		return lease.Schedule(tx, lease.Item{Due: now, Kind: CleanupKind, NS: e.NamespaceID, ID: e.Key})
	}
	return nil
}

// freeChildren rewrites children of a token that was revoked alone, and drops
// the mark when none is left.
func (s *Store) freeChildren(tx storage.Tx, it lease.Item) error {
	dir := childDir(it.NS, it.ID)
	children, more, err := first(tx, dir, inlineChildren)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := tx.Delete(dir + child); err != nil {
			return err
		}
		ns, key, _ := strings.Cut(child, "/")
		e, err := s.cache.Get(tx, entryKey(ns, key))
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		freed := e.Clone()
		freed.Parent, freed.ParentNS = "", ""
		if err := s.Update(tx, e, freed); err != nil {
			return err
		}
	}
	if more {
		it.Due = time.Now()
		return lease.Schedule(tx, it)
	}
	return tx.Delete(freedKey(it.NS, it.ID))
}

// ListLeases lists what lies directly below prefix among the leases of tokens.
func (s *Store) ListLeases(tx storage.Tx, ns, prefix, after string, limit int) ([]string, error) {
	return tx.List(pathDir(ns)+prefix, after, limit)
}

// ByLease finds a token by its lease id. The error is ErrBad when there is none.
func (s *Store) ByLease(tx storage.Tx, ns, id string, now time.Time) (*Entry, error) {
	if _, err := tx.Get(pathDir(ns) + id); err != nil {
		if errors.Is(err, storage.ErrNotFound) {
			return nil, ErrBad
		}
		return nil, err
	}
	return s.ByKey(tx, ns, id[strings.LastIndexByte(id, '/')+1:], now)
}

// Below are the tokens whose lease ids begin with Prefix, that stand behind After
// in their order and that were created until Until: later ones belong to a mount
// that took the path since.
type Below struct {
	Prefix, After string
	Until         time.Time
}

// RevokeBelow revokes up to limit tokens and returns where to go on, as After;
// "" is the end.
func (s *Store) RevokeBelow(tx storage.Tx, ns string, b Below, limit int, now time.Time) (next string, err error) {
	dir := pathDir(ns) + b.Prefix
	key := func(id string) string { return entryKey(ns, id[strings.LastIndexByte(id, '/')+1:]) }
	var ids []string
	last, seen := "", 0
	for id, err := range tx.Sub(dir).Keys("", b.After) {
		if err != nil {
			return "", err
		}
		if seen == limit {
			next = last
			break
		}
		seen, last = seen+1, id
		e, err := s.cache.Get(tx, key(id))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return "", err
		}
		if err == nil && e.Created.After(b.Until) {
			continue
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		e, err := s.cache.Get(tx, key(id))
		if errors.Is(err, storage.ErrNotFound) {
			// Gone with another one, or a name without a token.
			if err := tx.Delete(dir + id); err != nil {
				return "", err
			}
			continue
		}
		if err != nil {
			return "", err
		}
		if err := s.Revoke(tx, e, now); err != nil {
			return "", err
		}
	}
	return next, nil
}

// Tidy looks at up to limit names of leases behind after and removes those
// without a token. It returns where to go on, "" at the end.
func (s *Store) Tidy(tx storage.Tx, ns, after string, limit int) (next string, removed int, err error) {
	dir := pathDir(ns)
	seen := 0
	var gone []string
	for name, err := range tx.Sub(dir).Keys("", after) {
		if err != nil {
			return "", 0, err
		}
		if seen == limit {
			next = after
			break
		}
		seen++
		after = name
		_, err := s.cache.Get(tx, entryKey(ns, name[strings.LastIndexByte(name, '/')+1:]))
		if errors.Is(err, storage.ErrNotFound) {
			gone = append(gone, name)
		} else if err != nil {
			return "", 0, err
		}
	}
	for _, name := range gone {
		if err := tx.Delete(dir + name); err != nil {
			return "", 0, err
		}
	}
	return next, len(gone), nil
}

// TidyAll runs Tidy to the end, a bounded transaction at a time.
func TidyAll(ctx context.Context, db *storage.DB, s *Store, ns string) (removed int, err error) {
	after := ""
	for {
		var n int
		var next string
		err := db.Update(ctx, func(tx storage.Tx) (err error) {
			next, n, err = s.Tidy(tx, ns, after, 500)
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += n
		if next == "" {
			return removed, nil
		}
		after = next
	}
}

// Some returns up to limit tokens of a namespace behind after, valid or not, in the
// order of their keys, and where to go on, "" at the end.
func (s *Store) Some(tx storage.Tx, ns, after string, limit int) (list []*Entry, next string, err error) {
	keys, err := tx.List(entryKey(ns, ""), after, limit)
	if err != nil {
		return nil, "", err
	}
	for _, key := range keys {
		e, err := s.cache.Get(tx, entryKey(ns, key))
		if err != nil {
			return nil, "", err
		}
		list = append(list, e)
	}
	if len(keys) == limit {
		next = keys[limit-1]
	}
	return list, next, nil
}

// Count counts the service tokens of a namespace, up to limit.
func (s *Store) Count(tx storage.Tx, ns string, limit int) (n int, err error) {
	for _, err := range tx.Sub(base(ns)+"e/").Keys("", "") {
		if err != nil {
			return 0, err
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}
