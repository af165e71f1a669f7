package identity

import (
	"errors"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/storage"
)

// maxPeople bounds how many are kept ready; who is not is made again.
const maxPeople = 20_000

// A Person is an entity with its groups, as they are at one moment: what a
// request needs to know of who makes it. It is immutable.
type Person struct {
	Entity *Entity
	// Direct are the groups of which the entity is a member, Inherited those
	// that they are in; Groups are both.
	Direct, Inherited []string
	Groups            []*Group

	policies map[string][]string // by namespace, sorted
	list     *[]string           // as it was read
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
	s.mu.RLock()
	have := s.people[e.ID]
	s.mu.RUnlock()
	if have != nil && have.Entity == e && have.list == list && s.same(tx, have) {
		return have, nil
	}
	p, err := s.meet(tx, e, list)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.people) >= maxPeople {
		clear(s.people)
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

// meet puts a person together.
func (s *Store) meet(tx storage.Tx, e *Entity, list *[]string) (*Person, error) {
	p := &Person{Entity: e, list: list}
	policies := map[string][]string{}
	add := func(ns string, names []string) {
		if len(names) > 0 {
			policies[ns] = append(policies[ns], names...)
		}
	}
	add(e.NamespaceID, e.Policies)
	version := e.ID + e.Rev
	// Groups of the entity's own namespace come first: those of others, who may take
	// it in as they like, can neither push these out nor make their number too large.
	var home, away []string
	sort := func(ids []string) {
		for _, id := range ids {
			if NamespaceOf(id) == e.NamespaceID {
				home = append(home, id)
			} else {
				away = append(away, id)
			}
		}
	}
	direct := map[string]bool{}
	if list != nil {
		direct = set(*list)
		sort(*list)
	}
	seen := map[string]bool{}
	here, elsewhere := 0, 0
	for len(home) > 0 || len(away) > 0 && elsewhere < maxInherited {
		var id string
		if len(home) > 0 {
			id, home = home[0], home[1:]
		} else {
			id, away = away[0], away[1:]
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		if NamespaceOf(id) != e.NamespaceID {
			elsewhere++
		} else if here++; here > maxInherited {
			// To leave some out would leave out what they deny.
			return nil, errs.New(errs.Failed, "the entity %s is in more than %d groups, counting those by which it is in others", e.ID, maxInherited)
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
		add(g.NamespaceID, g.Policies)
		version += "/" + g.ID + g.Rev
		sort(g.Parents)
	}
	for ns := range policies {
		policies[ns] = CleanPolicies(policies[ns])
	}
	p.policies, p.version = policies, version
	return p, nil
}

// Version implements policy.Subject.
func (p *Person) Version() string { return p.version }

// Resolve implements policy.Subject: it replaces what stands between {{ and }}.
// A path with a directive that has no value for this person means nothing to
// them.
func (p *Person) Resolve(path string) (string, bool) {
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
		value, ok := p.value(strings.TrimSpace(directive))
		if !ok || value == "" {
			return "", false
		}
		out.WriteString(value)
		path = after
	}
}

// value is what a directive stands for
// (https://developer.hashicorp.com/vault/docs/concepts/policies#parameters).
func (p *Person) value(directive string) (string, bool) {
	if rest, ok := strings.CutPrefix(directive, "identity.entity."); ok {
		return p.ofEntity(rest)
	}
	if rest, ok := strings.CutPrefix(directive, "identity.groups.ids."); ok {
		id, rest, _ := strings.Cut(rest, ".")
		return p.ofGroup(func(g *Group) bool { return g.ID == id }, rest)
	}
	if rest, ok := strings.CutPrefix(directive, "identity.groups.names."); ok {
		// A name may hold dots: the longest that fits counts.
		for i := len(rest); i > 0; i = strings.LastIndexByte(rest[:i], '.') {
			name := rest[:i]
			if v, ok := p.ofGroup(func(g *Group) bool { return g.Name == name }, strings.TrimPrefix(rest[i:], ".")); ok {
				return v, true
			}
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

// GroupsOf lists the groups that an entity is in: directly, and by these.
func (s *Store) GroupsOf(tx storage.Tx, e *Entity) (direct, inherited []string, err error) {
	list, err := get(s.lists, tx, memberOfKey(e.NamespaceID, e.ID))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, nil, err
	}
	p, err := s.meet(tx, e, list)
	if err != nil {
		return nil, nil, err
	}
	return p.Direct, p.Inherited, nil
}

// Value is what a directive of a template stands for, "" when the person has no
// such thing.
func (p *Person) Value(directive string) string {
	v, _ := p.value(directive)
	return v
}
