package quota

import (
	"strings"

	"arca/internal/storage"
)

// Moved has the rules about a mount of a namespace, which is given by its path, follow
// it to where it goes. leases is as with Put. What was counted goes along. As Vault does:
// https://developer.hashicorp.com/vault/docs/concepts/mount-migration.
func Moved(tx storage.Tx, ns, from, to string) (leases bool, err error) {
	// Nothing is mounted at to yet: a rule about it is of a mount that went before rules went along with it.
	if _, err := Gone(tx, ns, to); err != nil {
		return false, err
	}
	return rewrite(tx, func(r *Rule) (fits, keep bool) {
		if r.Namespace != ns || r.Mount != from {
			return false, false
		}
		bare := r.Below == "" && !strings.HasSuffix(r.Path, "/") // in the form in which it was given
		if r.Mount, r.Path = to, ns+to+r.Below; bare {
			r.Path = strings.TrimSuffix(r.Path, "/")
		}
		return true, true
	})
}

// Gone removes the rules about a mount that is removed: none of them is to hold for another
// mount that happens to get its path. ns and leases are as with Moved.
func Gone(tx storage.Tx, ns, mount string) (leases bool, err error) {
	return rewrite(tx, func(r *Rule) (fits, keep bool) { return r.Namespace == ns && r.Mount == mount, false })
}

// NamespaceGone removes the rules about a namespace that is removed, and about all in it. ns is
// its path ("a/b/"); leases is as with Moved.
func NamespaceGone(tx storage.Tx, ns string) (leases bool, err error) {
	return rewrite(tx, func(r *Rule) (fits, keep bool) { return strings.HasPrefix(r.Namespace, ns), false })
}

// rewrite stores the rules that fit as fn leaves them, or removes those that it does not keep.
func rewrite(tx storage.Tx, fn func(r *Rule) (fits, keep bool)) (leases bool, err error) {
	for _, kind := range [...]Kind{Rate, Leases} {
		rules, err := List(tx, kind)
		if err != nil {
			return false, err
		}
		for _, r := range rules {
			fits, keep := fn(r)
			if !fits {
				continue
			}
			if keep {
				err = storage.PutJSON(tx, kind.dir()+r.Name, r)
			} else {
				_, err = Delete(tx, kind, r.Name)
			}
			if err != nil {
				return false, err
			}
			leases = leases || kind == Leases
		}
	}
	return leases, nil
}
