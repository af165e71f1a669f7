package policy

import (
	"hash/maphash"
	"slices"
	"sync"
)

// maxACLs bounds the cache of compiled ACLs. One is shared by all tokens that
// hold the same policies.
const maxACLs = 4096

// aclCache keeps ACLs by the very policies from which they were compiled, so
// that a changed policy never meets an old ACL: it is another pointer.
type aclCache struct {
	seed maphash.Seed
	mu   sync.RWMutex
	acls map[uint64]*compiled // guarded by mu
}

type compiled struct {
	from    []*Policy
	subject string
	acl     *ACL
}

func newACLCache() *aclCache {
	return &aclCache{seed: maphash.MakeSeed(), acls: map[uint64]*compiled{}}
}

func (c *aclCache) get(ps []*Policy, subject Subject) *ACL {
	who := ""
	var resolve func(string) (string, bool)
	if subject != nil {
		who, resolve = subject.Version(), subject.Resolve
	}
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, p := range ps {
		maphash.WriteComparable(&h, p)
	}
	h.WriteString(who)
	sum := h.Sum64()
	c.mu.RLock()
	have := c.acls[sum]
	c.mu.RUnlock()
	if have != nil && have.subject == who && slices.Equal(have.from, ps) {
		return have.acl
	}
	fresh := &compiled{from: slices.Clone(ps), subject: who, acl: Compile(ps, resolve)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acls) >= maxACLs {
		clear(c.acls) // rare: as many different sets of policies are in use at once
	}
	c.acls[sum] = fresh
	return fresh.acl
}
