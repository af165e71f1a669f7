package kmip

import (
	"encoding/base64"
	"slices"

	"arca/internal/ttlv"
)

// What clients lay down for the objects that are made in their scope (KMIP 2.1): attributes
// that an object gets when its maker does not give them (Set Defaults, section 6.1.53), and
// values that attributes must have (Set Constraints, section 6.1.52). Both are kept with the
// scope, in the form in which they came, and hold for clients of every version. As they act on
// all roles of the scope, they are in no operation_all; the operator sees them, and takes them
// away.

const (
	maxRules     = 100      // of defaults, and of constraints
	maxRuleBytes = 16 << 10 // of all defaults, and of all constraints: each message that writes reads them
)

// A rule is one Object Defaults, or one Constraint.
type rule struct {
	types  []uint32 // none are all, of a constraint
	groups []string // none are all objects, in a group or not
	attrs  []given
}

// parseRules reads Defaults Information or Constraints. parse reads an attribute in the form
// of KMIP 1.
func (b *batch) parseRules(n *ttlv.Node, of ttlv.Tag, parse func(*ttlv.Node) (given, error)) ([]rule, error) {
	if n.Type != ttlv.Structure {
		return nil, invalid("%s is a structure", n.Tag)
	}
	if len(n.Children) > maxRules || n.Size() > maxRuleBytes {
		return nil, newer(invalid("%s has at most %d entries and %d bytes", n.Tag, maxRules, maxRuleBytes), ttlv.ResultReasonServerLimitExceeded)
	}
	var out []rule
	for _, c := range n.Children {
		if c.Tag != of || c.Type != ttlv.Structure {
			return nil, invalid("%s holds %s, and nothing else", n.Tag, of)
		}
		r, err := b.parseRule(c, parse)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (b *batch) parseRule(n *ttlv.Node, parse func(*ttlv.Node) (given, error)) (r rule, err error) {
	seen := map[ttlv.Tag]bool{}
	for _, c := range n.Children {
		if seen[c.Tag] {
			return r, fail(ttlv.ResultReasonInvalidMessage, "%s is there twice", c.Tag)
		}
		seen[c.Tag] = true
		switch {
		case c.Tag == ttlv.TagObjectType && n.Tag == ttlv.TagObjectDefaults:
			err = b.typed(&r, c)
		case c.Tag == ttlv.TagObjectTypes && c.Type == ttlv.Structure:
			for _, t := range c.Children {
				if err = b.typed(&r, t); err != nil {
					break
				}
			}
		case c.Tag == ttlv.TagObjectGroups && c.Type == ttlv.Structure:
			for _, g := range c.Children {
				if g.Tag != ttlv.TagObjectGroup || g.Type != ttlv.TextString {
					return r, invalid("Object Groups holds Object Group, and nothing else")
				}
				r.groups = append(r.groups, g.Text())
			}
		case c.Tag == ttlv.TagAttributes && c.Type == ttlv.Structure:
			var list *ttlv.Node
			if list, err = olderAttributes(ttlv.TagTemplateAttribute, c); err != nil {
				return r, err
			}
			for _, a := range list.Children {
				g, err := parse(a)
				if err != nil {
					return r, err
				}
				if g.value == nil {
					return r, invalid("%s has no value", g.name)
				}
				r.attrs = append(r.attrs, g)
			}
		default:
			return r, newer(invalid("%s has no field %s", n.Tag, c.Tag), ttlv.ResultReasonUnknownTag)
		}
		if err != nil {
			return r, err
		}
	}
	if n.Tag == ttlv.TagObjectDefaults && (len(r.types) == 0 || !seen[ttlv.TagAttributes]) {
		return r, invalid("Object Defaults needs Object Type, or Object Types, and Attributes")
	}
	return r, nil
}

func (b *batch) typed(r *rule, n *ttlv.Node) error {
	if n.Tag != ttlv.TagObjectType || n.Type != ttlv.Enumeration || tagOf(uint32(n.Int)) == 0 || !b.knows(uint32(n.Int)) {
		return newer(invalid("there is no such object type"), ttlv.ResultReasonInvalidObjectType)
	}
	r.types = append(r.types, uint32(n.Int))
	return nil
}

// concerns reports whether a rule is for an object.
func (r *rule) concerns(typ uint32, groups []string) bool {
	return (len(r.types) == 0 || slices.Contains(r.types, typ)) &&
		(len(r.groups) == 0 || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(r.groups, g) }))
}

// kept reads what a scope has kept. It is in the form of KMIP 2, whatever the client's is.
func (b *batch) kept(text string, of ttlv.Tag, parse func(*ttlv.Node) (given, error)) ([]rule, error) {
	if text == "" {
		return nil, nil
	}
	if have, ok := b.rules[text]; ok { // a message may make many objects
		return have, nil
	}
	n, err := keptNode(text)
	if err != nil {
		return nil, err
	}
	asked := b.v
	b.v = version{2, 1}
	defer func() { b.v = asked }()
	out, err := b.parseRules(n, of, parse)
	if err != nil {
		return nil, err
	}
	if b.rules == nil {
		b.rules = map[string][]rule{}
	}
	b.rules[text] = out
	return out, nil
}

func keptNode(text string) (*ttlv.Node, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	return ttlv.Decode(raw)
}

// parseDefault is parseAttribute, for a value that objects get.
func (b *batch) parseDefault(n *ttlv.Node) (given, error) {
	g, err := b.parseAttribute(n)
	if err == nil && g.name == attrName {
		err = newer(invalid("a name belongs to one object: it is no default"), ttlv.ResultReasonInvalidAttribute)
	}
	if err != nil {
		return g, err
	}
	_, err = attrsOf([]given{g}) // what clients may set
	return g, err
}

// withDefaults adds to the attributes of an object that is about to be made those that its
// maker does not give. Those for its groups go before those for all. known are names of
// attributes that are given in another way.
func (b *batch) withDefaults(typ uint32, attrs []attribute, known ...string) ([]attribute, error) {
	s, err := b.settings()
	if err != nil {
		return nil, err
	}
	rules, err := b.kept(s.Defaults, ttlv.TagObjectDefaults, b.parseDefault)
	if err != nil || len(rules) == 0 {
		return attrs, err
	}
	groups := groupsOf(attrs)
	own := map[string]bool{}
	for _, name := range known {
		own[name] = true
	}
	for _, a := range attrs {
		own[a.Name] = true
	}
	for _, grouped := range []bool{true, false} {
		for _, r := range rules {
			if len(r.groups) > 0 != grouped || !r.concerns(typ, groups) {
				continue
			}
			var more []given
			for _, g := range r.attrs {
				if !own[g.name] {
					more = append(more, g)
				}
			}
			list, err := attrsOf(more)
			if err != nil {
				return nil, err
			}
			attrs = append(attrs, list...)
			for _, g := range more {
				own[g.name] = true
			}
		}
	}
	return attrs, nil
}

func groupsOf(attrs []attribute) (out []string) {
	for i := range attrs {
		if attrs[i].Name == attrGroup && attrs[i].Index < templateIndex {
			out = append(out, attrs[i].node().Text())
		}
	}
	return out
}

// constrained holds an object that is about to be made, or was changed, to the scope's
// constraints: each that is for it must be met. Of an attribute that one names, the object must
// have values, and each must be one of those that are named; a usage mask must have no other
// bits. before is the object as it was, nil for a new one: what it did not meet then, as it was
// made before there was the constraint, it need not meet now.
func (b *batch) constrained(o, before *object) error {
	if b.free {
		return nil
	}
	s, err := b.settings()
	if err != nil {
		return err
	}
	rules, err := b.kept(s.Constraints, ttlv.TagConstraint, b.parseCriterion)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if !r.concerns(o.Type, groupsOf(o.Attrs)) {
			continue
		}
		had := before != nil && r.concerns(before.Type, groupsOf(before.Attrs))
		for _, g := range r.attrs {
			if !b.allowed(o, g.name, r.attrs) && !(had && !b.allowed(before, g.name, r.attrs)) {
				return newer(denied("the scope has a constraint that this %s does not meet", g.name), ttlv.ResultReasonConstraintViolation)
			}
		}
	}
	return nil
}

// allowed reports whether all values that an object has of an attribute are among those of a
// constraint.
func (b *batch) allowed(o *object, name string, among []given) bool {
	values := 0
	for _, a := range o.visible(version{2, 1}, b.now) {
		if a.Name != name {
			continue
		}
		values++
		if !slices.ContainsFunc(among, func(g given) bool {
			switch {
			case g.name != name:
				return false
			case name == attrMask:
				return a.node().Int&^g.value.Int == 0
			}
			return covers(a.node(), g.value)
		}) {
			return false
		}
	}
	return values > 0
}

// lay keeps what clients have laid down.
func (b *batch) lay(change func(s *scope)) error {
	name, err := nameOf(b.tx, scopeIDKey(b.scope))
	if err != nil {
		return err
	}
	s, err := scopeOf(b.tx, name)
	if err != nil {
		return err
	}
	change(s)
	b.within = s
	return putScope(b.tx, name, s)
}

// setDefaults replaces the defaults of the scope; without any, there are none from now on.
func (b *batch) setDefaults(p *ttlv.Node) (*ttlv.Node, error) {
	text := ""
	if n := p.Get(ttlv.TagDefaultsInformation); n != nil {
		rules, err := b.parseRules(n, ttlv.TagObjectDefaults, b.parseDefault)
		if err != nil {
			return nil, err
		}
		for _, r := range rules { // none that would have every object fail
			attrs, err := attrsOf(r.attrs)
			if err == nil {
				err = checkDates(&object{Attrs: attrs})
			}
			if err != nil {
				return nil, err
			}
		}
		if len(rules) > 0 {
			text = base64.StdEncoding.EncodeToString(n.Encode())
		}
	}
	return response(), b.lay(func(s *scope) { s.Defaults = text })
}

// setConstraints replaces the constraints of the scope.
func (b *batch) setConstraints(p *ttlv.Node) (*ttlv.Node, error) {
	n := p.Get(ttlv.TagConstraints)
	if n == nil {
		return nil, missing("Constraints")
	}
	rules, err := b.parseRules(n, ttlv.TagConstraint, b.parseCriterion)
	if err != nil {
		return nil, err
	}
	text := ""
	if len(rules) > 0 {
		text = base64.StdEncoding.EncodeToString(n.Encode())
	}
	return response(), b.lay(func(s *scope) { s.Constraints = text })
}

// getConstraints shows the constraints of the scope.
func (b *batch) getConstraints(*ttlv.Node) (*ttlv.Node, error) {
	s, err := b.settings()
	if err != nil {
		return nil, err
	}
	if s.Constraints == "" {
		return response(ttlv.Struct(ttlv.TagConstraints)), nil
	}
	n, err := keptNode(s.Constraints)
	if err != nil {
		return nil, err
	}
	return response(n), nil
}

// defaultsNode is what Query shows of the defaults; nil for none.
func (b *batch) defaultsNode() (*ttlv.Node, error) {
	s, err := b.settings()
	if err != nil || s.Defaults == "" {
		return nil, err
	}
	return keptNode(s.Defaults)
}
