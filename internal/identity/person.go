package identity

import (
	"errors"
	"slices"
	"strings"

	"arca/internal/storage"
)

// Bounds on how many are kept ready, and their groups; who is not is made again.
const (
	maxPeople = 20_000
	maxKept   = 1 << 20
)

// A Person is an entity with its groups, as they are at one moment: what a
// request needs to know of who makes it. It is immutable.
type Person struct {
	Entity *Entity
	// Direct are the groups of which the entity is a member, Inherited those
	// that they are in; Groups are both. They are of the namespaces whose policies can
	// hold for the entity: its own, those above and below, or all.
	Direct, Inherited []string
	Groups            []*Group
	// Crowded are namespaces, neither the entity's own nor above it, that have the
	// entity in more groups than are looked at: nothing is known of what they
	// deny, so that nothing is allowed in them.
	Crowded []string

	policies map[string][]string // by namespace, sorted
	list     *[]string           // as it was read
	all      bool                // groups of all namespaces count
	version  string
}

// PoliciesIn are the policies of a namespace that the entity and its groups
// have, sorted.
func (p *Person) PoliciesIn(ns string) []string { return p.policies[ns] }

// Elsewhere lists the namespaces other than ns whose policies the person has.
func (p *Person) Elsewhere(ns string) []string {
	if _, here := p.policies[ns]; len(p.policies) == 0 || here && len(p.policies) == 1 {
		return nil
	}
	var out []string
	for id := range p.policies {
		if id != ns {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Person finds who stands behind an entity id, also one that was merged into
// another. The error is ErrNotFound when there is nobody any more, ErrDisabled
// when the entity is switched off. The id tells the entity's namespace.
func (s *Store) Person(tx storage.Tx, id string) (*Person, error) {
	ns := NamespaceOf(id)
	e, err := s.Entity(tx, ns, id)
	if errors.Is(err, ErrNotFound) && ValidID(id) {
		var into string
		if into, err = get(s.texts, tx, mergedKey(ns, id)); err == nil {
			e, err = s.Entity(tx, ns, into)
		}
	}
	if err != nil {
		return nil, err
	}
	if e.Disabled {
		return nil, ErrDisabled
	}
	list, err := get(s.lists, tx, memberOfKey(ns, e.ID))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	all, err := s.AllNamespaces(tx)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	have := s.people[e.ID]
	s.mu.RUnlock()
	if have != nil && have.Entity == e && have.list == list && have.all == all && s.same(tx, have) {
		return have, nil
	}
	p, err := s.meet(tx, e, list, all)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.people[e.ID]; old != nil {
		s.kept -= len(old.Groups)
	}
	if s.kept += len(p.Groups); len(s.people) >= maxPeople || s.kept > maxKept {
		clear(s.people)
		s.kept = len(p.Groups)
	}
	s.people[e.ID] = p
	return p, nil
}

// same reports whether none of a person's groups has changed.
func (s *Store) same(tx storage.Tx, p *Person) bool {
	for _, g := range p.Groups {
		now, err := s.Group(tx, g.NamespaceID, g.ID)
		if err != nil || now != g {
			return false
		}
	}
	return true
}

// Version implements policy.Subject.
func (p *Person) Version() string { return p.version }

// Resolve implements policy.Subject: it replaces what stands between {{ and }}.
// A path with a directive that has no value for this person means nothing to
// them. Groups have the names that they have in the policy's namespace: what
// others call theirs is not for it.
func (p *Person) Resolve(ns, path string) (string, bool) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(path, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), true
		}
		directive, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", false
		}
		value, ok := p.value(ns, strings.TrimSpace(directive))
		if !ok || value == "" {
			return "", false
		}
		out.WriteString(value)
		path = after
	}
}

// value is what a directive stands for
// (https://developer.hashicorp.com/vault/docs/concepts/policies#parameters).
func (p *Person) value(ns, directive string) (string, bool) {
	if rest, ok := strings.CutPrefix(directive, "identity.entity."); ok {
		return p.ofEntity(rest)
	}
	if rest, ok := strings.CutPrefix(directive, "identity.groups.ids."); ok {
		return p.named(rest, func(g *Group, id string) bool { return g.ID == id })
	}
	if rest, ok := strings.CutPrefix(directive, "identity.groups.names."); ok {
		return p.named(rest, func(g *Group, name string) bool { return g.NamespaceID == ns && g.Name == name })
	}
	return "", false
}

// named finds a value of the group that the first part of rest names. A name may
// hold dots, and so does an id outside the root namespace: the longest that fits counts.
func (p *Person) named(rest string, is func(g *Group, name string) bool) (string, bool) {
	for i := len(rest); i > 0; i = strings.LastIndexByte(rest[:i], '.') {
		if v, ok := p.ofGroup(func(g *Group) bool { return is(g, rest[:i]) }, strings.TrimPrefix(rest[i:], ".")); ok {
			return v, true
		}
	}
	return "", false
}

func (p *Person) ofEntity(rest string) (string, bool) {
	e := p.Entity
	switch rest {
	case "id":
		return e.ID, true
	case "name":
		return e.Name, true
	}
	if key, ok := strings.CutPrefix(rest, "metadata."); ok {
		v, ok := e.Metadata[key]
		return v, ok
	}
	rest, ok := strings.CutPrefix(rest, "aliases.")
	if !ok {
		return "", false
	}
	accessor, rest, _ := strings.Cut(rest, ".")
	for i := range e.Aliases {
		if e.Aliases[i].MountAccessor == accessor {
			return e.Aliases[i].value(rest)
		}
	}
	return "", false
}

func (a *Alias) value(rest string) (string, bool) {
	switch rest {
	case "id":
		return a.ID, true
	case "name":
		return a.Name, true
	}
	if key, ok := strings.CutPrefix(rest, "metadata."); ok {
		v, ok := a.Metadata[key]
		return v, ok
	}
	key, ok := strings.CutPrefix(rest, "custom_metadata.")
	if !ok {
		return "", false
	}
	v, ok := a.Custom[key]
	return v, ok
}

func (p *Person) ofGroup(is func(*Group) bool, rest string) (string, bool) {
	i := slices.IndexFunc(p.Groups, is)
	if i < 0 {
		return "", false
	}
	g := p.Groups[i]
	switch rest {
	case "id":
		return g.ID, true
	case "name":
		return g.Name, true
	}
	key, ok := strings.CutPrefix(rest, "metadata.")
	if !ok {
		return "", false
	}
	v, ok := g.Metadata[key]
	return v, ok
}

// GroupsOf lists the groups that an entity is in, directly and by these, whether
// their policies hold for it or not; of those of other namespaces perhaps not all.
func (s *Store) GroupsOf(tx storage.Tx, e *Entity) (direct, inherited []string, err error) {
	list, err := get(s.lists, tx, memberOfKey(e.NamespaceID, e.ID))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, nil, err
	}
	p, err := s.meet(tx, e, list, true)
	if err != nil {
		return nil, nil, err
	}
	return p.Direct, p.Inherited, nil
}

// Value is what a directive of a template stands for, "" when the person has no
// such thing.
func (p *Person) Value(directive string) string {
	v, _ := p.value(p.Entity.NamespaceID, directive)
	return v
}
