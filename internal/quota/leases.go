package quota

import (
	"errors"
	"fmt"
	"strconv"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// countDir is where it is counted how many leases there are for each rule of the
// kind Leases. It lies beside the rules, so that counting is no change of theirs.
var countDir = namespace.Prefix(namespace.RootID) + "quota-leases/"

// A Stamp is kept with a lease, or a token that ends: the rule that it counts for,
// by its id, and the role of the login that made it.
type Stamp struct {
	Rule string `json:"q,omitempty"`
	Role string `json:"r,omitempty"`
}

// Leases finds the rule that bounds the leases of a target; nil is none.
func (k *Keeper) Leases(t *Target) *Rule {
	for _, r := range k.rules().leases {
		if r.fits(t) {
			return r
		}
	}
	return nil
}

// AnyLeases reports whether there is a rule for leases at all.
func (k *Keeper) AnyLeases() bool { return len(k.rules().leases) > 0 }

// Count returns how many leases count for the rule with an id. There is none when
// the rule is gone.
func Count(tx storage.Tx, id string) (n int, err error) {
	raw, err := tx.Get(countDir + id)
	if err != nil {
		return 0, err
	}
	if n, err = strconv.Atoi(string(raw)); err != nil {
		return 0, fmt.Errorf("decode the count of quota %q: %w", id, err)
	}
	return n, nil
}

// Check refuses when the rule has as many leases as it allows.
func Check(tx storage.Tx, r *Rule, path string) error {
	n, err := Count(tx, r.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if n >= r.Max {
		return errs.New(errs.Limited, "request path %q: lease count quota exceeded", path)
	}
	return nil
}

// Add changes how many leases count for the rule with an id, if it exists still.
func Add(tx storage.Tx, id string, by int) error {
	n, err := Count(tx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.Put(countDir+id, []byte(strconv.Itoa(max(n+by, 0))))
}

// Release takes a lease that ends off the rule it counts for.
func Release(tx storage.Tx, s *Stamp) error {
	if s == nil || s.Rule == "" {
		return nil
	}
	return Add(tx, s.Rule, -1)
}
