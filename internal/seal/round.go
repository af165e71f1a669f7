package seal

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"slices"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/seal/shamir"
)

// Bounds of a share that is given to us, in bytes, and of its text.
const (
	minShareBytes = 16
	maxShareBytes = barrier.KeyBytes + shamir.Overhead
	maxShareText  = 512
)

var errKeyText error = errs.New(errs.Invalid, "'key' must be a valid hex or base64 string")

// ParseShare reads a key share as users give it, in hex or base64. What is too
// short for a share in hex is taken for base64, as Vault does. The caller owns
// the result.
func ParseShare(text string) (barrier.Key, error) {
	if len(text) > maxShareText {
		return nil, errTooLong
	}
	if k, err := hex.DecodeString(text); err == nil && len(k) >= minShareBytes {
		return k, nil
	}
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errKeyText
	}
	return k, nil
}

var (
	errTooShort error = errs.New(errs.Invalid, "invalid key: key is shorter than minimum %d bytes", minShareBytes)
	errTooLong  error = errs.New(errs.Invalid, "invalid key: key is longer than maximum %d bytes", maxShareBytes)
)

func checkShare(k barrier.Key) error {
	switch {
	case len(k) < minShareBytes:
		return errTooShort
	case len(k) > maxShareBytes:
		return errTooLong
	}
	return nil
}

// A round collects shares. It is immutable but for wipe; it owns its parts.
// A nil round is empty.
type round struct {
	nonce string
	of    [sha256.Size]byte // fingerprint of the config whose shares these are
	parts []barrier.Key
}

func (r *round) count() int {
	if r == nil {
		return 0
	}
	return len(r.parts)
}

// has reports whether share was given already.
func (r *round) has(share barrier.Key) bool {
	found := 0
	for _, p := range r.all() {
		found |= subtle.ConstantTimeCompare(p, share)
	}
	return found == 1
}

func (r *round) all() []barrier.Key {
	if r == nil {
		return nil
	}
	return r.parts
}

// with returns the round that has share, too, and owns it.
func (r *round) with(share barrier.Key) *round {
	next := &round{}
	if r != nil {
		*next = *r
	}
	next.parts = append(slices.Clip(next.parts), share)
	return next
}

// wipe overwrites the shares; the round and those that grew from it are over.
func (r *round) wipe() {
	for _, p := range r.all() {
		p.Wipe()
	}
}

// combine gives the unseal key: the only share itself, or what the shares
// restore. Whether it is the right one shows when it is used.
func (r *round) combine() (barrier.Key, error) {
	if r.count() == 1 {
		return slices.Clone(r.parts[0]), nil
	}
	parts := make([][]byte, len(r.parts))
	for i, p := range r.parts {
		parts[i] = p
	}
	k, err := shamir.Combine(parts)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to compute combined key: %w", err)
	}
	return k, nil
}

// A find is what shares give.
type find struct {
	by *sharing
	// whole is the root key that the keyring is under, with the seal-wrap key behind it where that is known.
	whole barrier.Key
	// fresh is the root key that is to take the place of that; nil for none.
	fresh barrier.Key
}

func (f *find) wipe() {
	f.whole.Wipe()
	f.fresh.Wipe()
}

// find decrypts c's root key, and the seal-wrap key behind it where that is under
// them, with the shares collected, by whichever of its sharings fits. The
// caller owns the keys.
func (r *round) find(c *config) (f find, err error) {
	err = barrier.ErrUnwrap
	for _, s := range c.sharings() {
		if s.Threshold != r.count() {
			continue
		}
		if f, err = r.unwrap(s); err == nil {
			f.whole = c.complete(f.whole)
			return f, nil
		}
	}
	return find{}, err
}

func (r *round) unwrap(s *sharing) (find, error) {
	kek, err := r.combine()
	if err != nil {
		return find{}, err
	}
	defer kek.Wipe()
	whole, err := barrier.Unwrap(kek, rootLabel, s.Root)
	if err != nil || s.Prior == nil {
		return find{by: s, whole: whole}, err
	}
	defer clear(whole)
	fresh, wrap := split(whole)
	prior, err := barrier.Unwrap(fresh, priorLabel, s.Prior)
	if err != nil {
		return find{}, err
	}
	defer clear(prior)
	return find{by: s, whole: slices.Concat(prior, wrap), fresh: slices.Clone(fresh)}, nil
}

// authorise reports whether the shares collected are those of the open state, and what they give; the caller owns that.
// Until enough were given that no sharing needs more, more says that this is
// not known yet.
func (r *round) authorise(u *unsealed) (f find, more bool, err error) {
	f, err = r.find(u.config)
	if err != nil {
		return find{}, r.count() < u.config.enough(), err
	}
	given, _ := split(f.whole)
	root := u.root.get()
	defer root.Wipe()
	if subtle.ConstantTimeCompare(given, root) != 1 {
		f.wipe()
		return find{}, false, barrier.ErrUnwrap
	}
	return f, false, nil
}

// add checks a further share of an operation on an open node and returns the
// round with it, which owns it then. what is the operation's word in the error.
func (r *round) add(share barrier.Key, what string) (*round, error) {
	if err := checkShare(share); err != nil {
		return nil, err
	}
	if r.has(share) {
		return nil, errs.New(errs.Invalid, "given key has already been provided during this %s operation", what)
	}
	return r.with(share), nil
}

// newShares makes a new unseal key and splits it. A single share is the key.
// The caller owns both.
func newShares(n, t int) (kek barrier.Key, shares []barrier.Key, err error) {
	kek = barrier.NewKey()
	if n == 1 {
		return kek, []barrier.Key{slices.Clone(kek)}, nil
	}
	parts, err := shamir.Split(kek, n, t)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range parts {
		shares = append(shares, p)
	}
	return kek, shares, nil
}

func wipeAll(keys []barrier.Key) {
	for _, k := range keys {
		k.Wipe()
	}
}
