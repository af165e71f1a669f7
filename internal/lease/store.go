package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
)

// The kinds of due items of this package.
const (
	QueueKind     = "l"  // a lease ends
	TokenGoneKind = "lt" // the token that leases belong to is gone
)

// MaxAttempts is how often revoking a lease is tried before it is irrevocable:
// an operator must look at it then.
const MaxAttempts = 6

// An Entry is a lease on a secret as it is stored.
type Entry struct {
	Version     int            `json:"v"`
	ID          string         `json:"id"` // <path>/<random>
	MountID     string         `json:"m"`
	Accessor    string         `json:"ma,omitempty"` // of the mount, by which it is found when it was moved
	Kind        string         `json:"k"`            // the engine's name of the secret's type
	Internal    map[string]any `json:"i,omitempty"`
	TokenKey    string         `json:"tk,omitempty"`
	TokenNS     string         `json:"tn,omitempty"`
	Issued      time.Time      `json:"ct"`
	Expires     time.Time      `json:"exp,omitzero"`
	LastRenewal time.Time      `json:"ren,omitzero"`
	MaxTTL      time.Duration  `json:"max,omitempty"`
	Renewable   bool           `json:"r,omitempty"`
	Attempts    int            `json:"n,omitempty"` // failed revocations
	Error       string         `json:"err,omitempty"`

	// Quota tells for which quota the lease counts; nil is none.
	Quota *quota.Stamp `json:"q,omitempty"`

	NamespaceID string `json:"-"`
}

// Path is the request path that gave the lease.
func (e *Entry) Path() string { return e.ID[:strings.LastIndexByte(e.ID, '/')] }

// Irrevocable reports whether revoking has been given up.
func (e *Entry) Irrevocable() bool { return e.Attempts >= MaxAttempts }

func dir(ns string) string { return namespace.Prefix(ns) + "l/e/" }

// TokenDir is where the leases of a token are named.
func TokenDir(ns, tokenKey string) string { return namespace.Prefix(ns) + "l/t/" + tokenKey + "/" }

// irrevocableDir is where leases are named that nobody could revoke.
func irrevocableDir(ns string) string { return namespace.Prefix(ns) + "l/i/" }

// ErrNotFound is a lease that does not exist.
var ErrNotFound = errs.New(errs.Invalid, "lease not found")

// Get reads a lease. The error is ErrNotFound when there is none.
func Get(tx storage.Tx, ns, id string) (*Entry, error) {
	raw, err := tx.Get(dir(ns) + id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	e := &Entry{NamespaceID: ns}
	if err := json.Unmarshal(raw, e); err != nil {
		return nil, fmt.Errorf("decode lease: %w", err)
	}
	return e, nil
}

// Put stores a lease; was is the time at which it was due before, zero for a
// new one.
func Put(tx storage.Tx, e *Entry, was time.Time) error {
	e.Version = 1
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := tx.Put(dir(e.NamespaceID)+e.ID, raw); err != nil {
		return err
	}
	if was.IsZero() && e.TokenKey != "" {
		if err := tx.Put(TokenDir(e.TokenNS, e.TokenKey)+e.NamespaceID+"/"+e.ID, []byte{1}); err != nil {
			return err
		}
	}
	if !was.IsZero() {
		if err := Cancel(tx, e.due(was)); err != nil {
			return err
		}
	}
	if e.Irrevocable() {
		return tx.Put(irrevocableDir(e.NamespaceID)+e.ID, []byte{1})
	}
	if e.Expires.IsZero() {
		return nil
	}
	return Schedule(tx, e.due(e.Expires))
}

func (e *Entry) due(t time.Time) Item {
	return Item{Due: t, Kind: QueueKind, NS: e.NamespaceID, ID: e.ID}
}

// Delete removes a lease's record; what it gave must have been revoked.
func Delete(tx storage.Tx, e *Entry) error {
	keys := []string{dir(e.NamespaceID) + e.ID, irrevocableDir(e.NamespaceID) + e.ID}
	if e.TokenKey != "" {
		keys = append(keys, TokenDir(e.TokenNS, e.TokenKey)+e.NamespaceID+"/"+e.ID)
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	if err := quota.Release(tx, e.Quota); err != nil {
		return err
	}
	if e.Expires.IsZero() {
		return nil
	}
	return Cancel(tx, e.due(e.Expires))
}

// List lists what lies directly below prefix.
func List(tx storage.Tx, ns, prefix, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+prefix, after, limit)
}

// Below returns up to limit ids that begin with prefix, behind after, which is one of
// them, and where to go on, "" at the end.
func Below(tx storage.Tx, ns, prefix, after string, limit int) (ids []string, next string, err error) {
	for id, err := range tx.Sub(dir(ns)).Keys(prefix, after) {
		if err != nil {
			return nil, "", err
		}
		if len(ids) == limit {
			return ids, ids[limit-1], nil
		}
		ids = append(ids, id)
	}
	return ids, "", nil
}

// End makes a lease due. One that nobody could revoke is tried once more.
func End(tx storage.Tx, e *Entry, now time.Time) error {
	was := e.Expires
	e.Expires = now
	if e.Irrevocable() {
		e.Attempts = MaxAttempts - 1
		if err := tx.Delete(irrevocableDir(e.NamespaceID) + e.ID); err != nil {
			return err
		}
	}
	return Put(tx, e, was)
}

// OfToken returns up to limit leases of a token as namespace and id.
func OfToken(tx storage.Tx, ns, tokenKey string, limit int) (refs [][2]string, more bool, err error) {
	for key, err := range tx.Sub(TokenDir(ns, tokenKey)).Keys("", "") {
		if err != nil {
			return nil, false, err
		}
		if len(refs) == limit {
			return refs, true, nil
		}
		leaseNS, id, _ := strings.Cut(key, "/")
		refs = append(refs, [2]string{leaseNS, id})
	}
	return refs, false, nil
}

// Irrevocable goes over the ids of the leases of a namespace that nobody could revoke.
func Irrevocable(tx storage.Tx, ns string) iter.Seq2[string, error] {
	return tx.Sub(irrevocableDir(ns)).Keys("", "")
}
