package identity

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Bounds on what is looked at to know an entity's groups. Any namespace may take
// an entity into its groups, and these into others. So what comes from the
// entity's own namespace and those above it, which rule over it anyway, is looked at
// first and in full, or the request fails. Of the others each has a share, and so
// has each branch, which is all that one administrator can make: who
// uses up a share shuts nobody out but themselves.
const (
	maxHome       = 10_000 // groups of the own namespace and of those above
	maxGuest      = 1000   // of another one
	maxBranch     = 2000   // of others that lie in one another
	maxGuests     = 4000   // of all others
	maxSteps      = 10_000 // memberships of groups of one other namespace
	maxAlienNames = 2000   // policies of another namespace
)

// A kinship tells what other namespaces are to that of an entity or group.
type kinship struct {
	s     *Store
	tx    storage.Tx
	home  *namespace.Namespace
	all   bool // policies hold everywhere
	known map[string]relation
}

type relation struct {
	home   bool   // the own namespace or one above
	counts bool   // its groups do: it is home, or below, or policies hold everywhere
	depth  int    // how many namespaces are above
	branch string // the outermost namespace on the way to it that is not home
}

func (s *Store) kinshipOf(tx storage.Tx, ns string, all bool) (*kinship, error) {
	home, err := s.namespaces.ByID(tx, ns)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, ErrNotFound
	}
	return &kinship{s: s, tx: tx, home: home, all: all, known: map[string]relation{}}, err
}

// of is what the namespace of a group is; one that is gone is nothing.
func (k *kinship) of(group string) (relation, error) {
	id := NamespaceOf(group)
	if r, ok := k.known[id]; ok {
		return r, nil
	}
	n, err := k.s.namespaces.ByID(k.tx, id)
	if err != nil && !errors.Is(err, namespace.ErrNotFound) {
		return relation{}, err
	}
	var r relation
	if err == nil {
		r.depth = strings.Count(n.Path, "/")
		_, r.home = k.home.Below(n)
		_, below := n.Below(k.home)
		r.counts = r.home || below || k.all
		if !r.home {
			r.branch = branch(k.home.Path, n.Path)
		}
	}
	k.known[id] = r
	return r, nil
}

// branch is the path of the outermost namespace on the way to path that is not on
// the way to home.
func branch(home, path string) string {
	for i := 0; ; {
		i += strings.IndexByte(path[i:], '/') + 1
		if i >= len(path) || !strings.HasPrefix(home, path[:i]) {
			return path[:i]
		}
	}
}

// A walk finds the groups that an entity is in, directly and by these.
type walk struct {
	*kinship
	seen     map[string]bool
	home     []string
	guests   [][]string     // by the depth of their namespaces: those above first
	took     map[string]int // groups by namespace, and by branch
	steps    map[string]int // memberships by namespace
	here     int
	away     int
	crowded  map[string]bool // namespaces of which not all was looked at
	policies map[string][]string
}

func (w *walk) add(ids []string) error {
	for _, id := range ids {
		if w.seen[id] {
			continue
		}
		r, err := w.of(id)
		if err != nil {
			return err
		}
		if !r.counts {
			continue
		}
		w.seen[id] = true
		if r.home {
			w.home = append(w.home, id)
			continue
		}
		for len(w.guests) <= r.depth {
			w.guests = append(w.guests, nil)
		}
		w.guests[r.depth] = append(w.guests[r.depth], id)
	}
	return nil
}

// next is the next group to look at; "" when there is none.
func (w *walk) next() (id string, home bool) {
	if len(w.home) > 0 {
		id, w.home = w.home[0], w.home[1:]
		return id, true
	}
	for d := range w.guests {
		if len(w.guests[d]) > 0 {
			id, w.guests[d] = w.guests[d][0], w.guests[d][1:]
			return id, false
		}
	}
	return "", false
}

// admit counts a group of another namespace; false is one too many.
func (w *walk) admit(id string) (bool, error) {
	ns := NamespaceOf(id)
	r, err := w.of(id)
	if err != nil {
		return false, err
	}
	if w.took[ns] >= maxGuest || w.took[r.branch] >= maxBranch || w.away >= maxGuests {
		w.crowded[ns] = true
		return false, nil
	}
	w.took[ns]++
	w.took[r.branch]++ // a path ends with a slash, an id never does
	w.away++
	return true, nil
}

func (w *walk) parents(g *Group, home bool) error {
	list := g.Parents
	if !home {
		left := max(maxSteps-w.steps[g.NamespaceID], 0)
		w.steps[g.NamespaceID] += len(list)
		if len(list) > left {
			w.crowded[g.NamespaceID] = true
			list = list[:left]
		}
	}
	return w.add(list)
}

// meet puts a person together.
func (s *Store) meet(tx storage.Tx, e *Entity, list *[]string, all bool) (*Person, error) {
	k, err := s.kinshipOf(tx, e.NamespaceID, all)
	if err != nil {
		return nil, err
	}
	w := &walk{
		kinship: k, seen: map[string]bool{}, took: map[string]int{}, steps: map[string]int{}, crowded: map[string]bool{},
		policies: map[string][]string{},
	}
	direct := map[string]bool{}
	if list != nil {
		direct = set(*list)
		if err := w.add(*list); err != nil {
			return nil, err
		}
	}
	p := &Person{Entity: e, list: list, all: all}
	version := sha256.New()
	version.Write([]byte(e.ID + e.Rev))
	w.policies[e.NamespaceID] = slices.Clone(e.Policies)
	for id, home := w.next(); id != ""; id, home = w.next() {
		if home {
			if w.here++; w.here > maxHome {
				// To leave some out would leave out what they deny.
				return nil, errs.New(errs.Failed, "the entity %s is in more than %d groups of its namespace and those above, counting those by which it is in others", e.ID, maxHome)
			}
		} else if ok, err := w.admit(id); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		g, err := s.Group(tx, NamespaceOf(id), id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p.Groups = append(p.Groups, g)
		if direct[id] {
			p.Direct = append(p.Direct, g.ID)
		} else {
			p.Inherited = append(p.Inherited, g.ID)
		}
		w.policies[g.NamespaceID] = append(w.policies[g.NamespaceID], g.Policies...)
		version.Write([]byte("/" + g.ID + g.Rev))
		if err := w.parents(g, home); err != nil {
			return nil, err
		}
	}
	if err := w.settle(); err != nil {
		return nil, err
	}
	p.policies, p.Crowded = w.policies, slices.Sorted(maps.Keys(w.crowded))
	p.version = string(version.Sum(nil))
	return p, nil
}

// settle cleans the policies, and leaves out those of crowded namespaces.
func (w *walk) settle() error {
	for ns, names := range w.policies {
		names = CleanPolicies(names)
		r, err := w.of("." + ns)
		if err != nil {
			return err
		}
		if ns != w.kinship.home.ID && !r.home && len(names) > maxAlienNames {
			w.crowded[ns] = true
		}
		if len(names) == 0 || w.crowded[ns] {
			delete(w.policies, ns)
			continue
		}
		w.policies[ns] = names
	}
	return nil
}

// InGroup reports whether a person is in one of some groups. Groups of namespaces
// whose policies do not hold for the person count as well, and are asked for
// their members.
func (s *Store) InGroup(tx storage.Tx, p *Person, ids []string) (bool, error) {
	if len(ids) == 0 {
		return false, nil
	}
	for _, g := range p.Groups {
		if slices.Contains(ids, g.ID) {
			return true, nil
		}
	}
	k, err := s.kinshipOf(tx, p.Entity.NamespaceID, p.all)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		r, err := k.of(id)
		if err != nil {
			return false, err
		}
		if r.counts && !slices.Contains(p.Crowded, NamespaceOf(id)) {
			continue
		}
		if in, err := s.holds(tx, id, p.Entity.ID); in || err != nil {
			return in, err
		}
	}
	return false, nil
}

// holds looks for an entity in a group and in those within it.
func (s *Store) holds(tx storage.Tx, group, entity string) (bool, error) {
	queue, seen := []string{group}, map[string]bool{group: true}
	for n := 0; len(queue) > 0; n++ {
		if n == maxGuest {
			return false, errs.New(errs.Failed, "the group %s has more than %d others within it", group, maxGuest)
		}
		id := queue[0]
		queue = queue[1:]
		g, err := s.Group(tx, NamespaceOf(id), id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		_, err = tx.Get(memberDir(g.NamespaceID, g.ID) + entity)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return false, err
		}
		for _, m := range g.Members {
			if !seen[m] {
				seen[m] = true
				queue = append(queue, m)
			}
		}
	}
	return false, nil
}

// Bounds on the groups in which an entity or a group is directly, for the same
// reasons.
const (
	maxGroups       = 1000 // of its own namespace, or of one above
	maxGuestGroups  = 500  // of another one
	maxBranchGroups = 1000 // of others that lie in one another
	maxAwayGroups   = 3000 // of all others
)

// room refuses a membership in group of what is in those listed already.
func (s *Store) room(tx storage.Tx, own string, list []string, group string) error {
	if len(list) < maxGuestGroups {
		return nil
	}
	k, err := s.kinshipOf(tx, own, true)
	if err != nil {
		return err
	}
	to, err := k.of(group)
	if err != nil {
		return err
	}
	ns := NamespaceOf(group)
	var same, branch, away int
	for _, id := range list {
		r, err := k.of(id)
		if err != nil {
			return err
		}
		if NamespaceOf(id) == ns {
			same++
		}
		if !r.home {
			away++
			if r.branch == to.branch {
				branch++
			}
		}
	}
	switch {
	case to.home && same >= maxGroups:
		return errs.New(errs.Invalid, "an entity or group is a member of at most %d groups of a namespace", maxGroups)
	case to.home:
	case same >= maxGuestGroups, branch >= maxBranchGroups, away >= maxAwayGroups:
		return errs.New(errs.Invalid, "an entity or group is a member of at most %d groups of a namespace that is not its own or above its own, "+
			"%d of such that lie in one another, and %d of all of them", maxGuestGroups, maxBranchGroups, maxAwayGroups)
	}
	return nil
}
