package policy

import (
	"hash/maphash"
	"slices"
	"sync"
)

// Bounds on the cache of compiled ACLs, of which one is shared by all tokens
// that hold the same policies: their number, and that of all their rules.
const (
	maxACLs  = 4096
	maxRules = 200_000
)

// aclCache keeps ACLs by the very policies from which they were compiled, so
// that a changed policy never meets an old ACL: it is another pointer.
type aclCache struct {
	seed maphash.Seed
	mu   sync.RWMutex
	acls map[uint64]*compiled // guarded by mu, as is rules
	// rules counts the rules of all acls.
	rules int
}

type compiled struct {
	from    []placed
	subject string
	acl     *ACL
}

func newACLCache() *aclCache {
	return &aclCache{seed: maphash.MakeSeed(), acls: map[uint64]*compiled{}}
}

func (c *aclCache) get(ps []placed, subject Subject) *ACL {
	who := ""
	var resolve resolver
	if subject != nil {
		who, resolve = subject.Version(), subject.Resolve
	}
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, p := range ps {
		maphash.WriteComparable(&h, p.Policy)
	}
	h.WriteString(who)
	sum := h.Sum64()
	c.mu.RLock()
	have := c.acls[sum]
	c.mu.RUnlock()
	if have != nil && have.subject == who && slices.Equal(have.from, ps) {
		return have.acl
	}
	fresh := &compiled{from: slices.Clone(ps), subject: who, acl: compile(ps, resolve)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.acls[sum]; have != nil {
		c.rules -= have.acl.size()
	}
	if len(c.acls) >= maxACLs || c.rules+fresh.acl.size() > maxRules {
		clear(c.acls) // rare: as many different sets of policies are in use at once
		c.rules = 0
	}
	c.acls[sum] = fresh
	c.rules += fresh.acl.size()
	return fresh.acl
}

// size is how many rules an ACL has.
func (a *ACL) size() int { return len(a.exact) + len(a.prefix) + len(a.wild) + 1 }
