package kmip

import (
	"slices"

	"arca/internal/ttlv"
)

func (b *batch) getAttributes(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.byID(p)
	if err != nil {
		return nil, err
	}
	names := p.All(ttlv.TagAttributeName)
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n.Text()] {
			return nil, fail(ttlv.ResultReasonInvalidMessage, "an attribute is named twice")
		}
		seen[n.Text()] = true
	}
	out := response(idNode(o))
	if len(names) == 0 {
		for _, a := range b.unasked(o) {
			out.Add(a.show())
		}
		return out, nil
	}
	visible := o.visible(b.v, b.now)
	for _, n := range names {
		for _, a := range visible {
			if a.Name == n.Text() {
				out.Add(a.show())
			}
		}
	}
	return out, nil
}

func (b *batch) getAttributeList(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.byID(p)
	if err != nil {
		return nil, err
	}
	out := response(idNode(o))
	last := ""
	seen := map[string]bool{}
	for _, a := range o.visible(b.v, b.now) {
		if a.Name != last && !seen[a.Name] {
			out.Add(ttlv.Text(ttlv.TagAttributeName, a.Name))
			seen[a.Name], last = true, a.Name
		}
	}
	return out, nil
}

// changing reads an object and the attribute of a request that changes it.
func (b *batch) changing(p *ttlv.Node) (o *object, g given, err error) {
	if o, err = b.usable(p); err != nil {
		return nil, g, err
	}
	n := p.Get(ttlv.TagAttribute)
	if n == nil {
		return nil, g, missing("Attribute")
	}
	if g, err = b.parseAttribute(n); err != nil {
		return nil, g, err
	}
	if g.value == nil {
		return nil, g, invalid("%s has no value", g.name)
	}
	return o, g, nil
}

// freeName refuses a name that another object has.
func (b *batch) freeName(o *object, g *given) error {
	if g.name != attrName {
		return nil
	}
	other, err := b.named(g.value.Get(ttlv.TagNameValue).Text())
	if err != nil {
		return err
	}
	if other != nil && (o == nil || other.ID != o.ID) {
		return newer(fail(ttlv.ResultReasonIllegalOperation, "an object has this name"), ttlv.ResultReasonNonUniqueNameAttribute)
	}
	return nil
}

func (b *batch) addAttribute(p *ttlv.Node) (*ttlv.Node, error) {
	o, g, err := b.changing(p)
	if err != nil {
		return nil, err
	}
	switch {
	case g.hasIndex && g.index != 0:
		return nil, invalid("an attribute is added without an index")
	case g.rights&multi == 0 && o.has(g.name):
		if g.rights&add == 0 {
			return nil, denied("%s cannot be changed", g.name)
		}
		return nil, newer(fail(ttlv.ResultReasonIllegalOperation, "the object has %s already, of which there is one", g.name), ttlv.ResultReasonAttributeSingleValued)
	case g.rights&add == 0:
		return nil, denied("%s cannot be added", g.name)
	}
	if err := b.freeName(nil, &g); err != nil {
		return nil, err
	}
	c := o.clone()
	if err := b.checkChange(c, &g); err != nil {
		return nil, err
	}
	a := newAttribute(g.name, g.value)
	a.Index = c.nextIndex(g.name)
	c.Attrs = append(c.Attrs, a)
	return b.changed(o, c, a)
}

// changed saves an object with a changed attribute and answers with that.
func (b *batch) changed(o, c *object, a attribute) (*ttlv.Node, error) {
	if err := checkDates(c); err != nil {
		return nil, err
	}
	if err := b.constrained(c, o); err != nil {
		return nil, err
	}
	if err := tooMany(c); err != nil && (len(c.Attrs) > len(o.Attrs) || a.size() > 1<<10) { // less may always be
		return nil, err
	}
	if err := b.save(o, c); err != nil {
		return nil, err
	}
	return response(idNode(o), a.show()), nil
}

// checkChange holds dates to what can still be changed.
func (b *batch) checkChange(o *object, g *given) error {
	state := o.state(b.now)
	old, had := o.time(g.name)
	switch g.name {
	case attrActivation:
		if state != ttlv.StatePreActive {
			return denied("the object is not pre-active any more")
		}
	case attrProcessStart, attrProtectStop:
		if had && !old.After(b.now) {
			return denied("%s has passed", g.name)
		}
	case attrDeactivation:
		if state != ttlv.StatePreActive && state != ttlv.StateActive {
			return denied("the object is neither pre-active nor active")
		}
	case attrSensitive:
		o.set(attrAlways, ttlv.Bool(0, o.truth(attrAlways) && g.value.Int == 1))
	case attrExtractable:
		o.set(attrNever, ttlv.Bool(0, o.truth(attrNever) && g.value.Int == 0))
	case attrLimits:
		if n := o.get(attrLimits); n != nil && n.Get(ttlv.TagUsageLimitsCount).Int != n.Get(ttlv.TagUsageLimitsTotal).Int {
			return denied("the usage limits are in use")
		}
		total := g.value.Get(ttlv.TagUsageLimitsTotal).Int
		g.value = limits(total, total, uint32(g.value.Get(ttlv.TagUsageLimitsUnit).Int))
	}
	return nil
}

func (b *batch) modifyAttribute(p *ttlv.Node) (*ttlv.Node, error) {
	o, g, err := b.changing(p)
	if err != nil {
		return nil, err
	}
	if n := p.Get(ttlv.TagCurrentAttribute); n != nil { // KMIP 2 names the instance by its value
		at, err := b.current(o, n)
		if err != nil {
			return nil, err
		}
		if at.Name != g.name {
			return nil, invalid("Current Attribute and New Attribute are not the same attribute")
		}
		g.index = at.Index
	}
	if g.rights&modify == 0 {
		return nil, denied("%s cannot be changed", g.name)
	}
	if !o.has(g.name) {
		return nil, invalid("the object has no %s", g.name)
	}
	at := slices.IndexFunc(o.Attrs, func(a attribute) bool { return a.Name == g.name && a.Index == g.index })
	if at < 0 {
		return nil, fail(ttlv.ResultReasonItemNotFound, "the object has no %s with this index", g.name)
	}
	if g.name != attrName || o.Attrs[at].node().Get(ttlv.TagNameValue).Text() != g.value.Get(ttlv.TagNameValue).Text() {
		if err := b.freeName(nil, &g); err != nil {
			return nil, err
		}
	}
	c := o.clone()
	if err := b.checkChange(c, &g); err != nil {
		return nil, err
	}
	a := newAttribute(g.name, g.value)
	a.Index = g.index
	if at = slices.IndexFunc(c.Attrs, func(a attribute) bool { return a.Name == g.name && a.Index == g.index }); at < 0 {
		return nil, fail(ttlv.ResultReasonItemNotFound, "the object has no %s with this index", g.name)
	}
	c.Attrs[at] = a
	return b.changed(o, c, a)
}

func (b *batch) deleteAttribute(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	name, index := p.Get(ttlv.TagAttributeName), int32(0)
	if (name == nil || name.Type != ttlv.TextString) && p.Get(ttlv.TagCurrentAttribute) == nil {
		return nil, missing("Attribute Name")
	}
	if n := p.Get(ttlv.TagAttributeIndex); n != nil {
		index = int32(n.Int)
	}
	every := b.v.major >= 2 // a reference means all instances
	if n := p.Get(ttlv.TagCurrentAttribute); n != nil {
		a, err := b.current(o, n)
		if err != nil {
			return nil, err
		}
		name, index, every = ttlv.Text(ttlv.TagAttributeName, a.Name), a.Index, false
	}
	k, ok := kindOfName(name.Text())
	if !ok {
		return nil, invalid("the attribute %q is not supported", name.Text())
	}
	if k.rights&remove == 0 {
		return nil, denied("%s cannot be deleted", k.name)
	}
	c := o.clone()
	at := slices.IndexFunc(c.Attrs, func(a attribute) bool {
		return a.Name == k.name && (every || a.Index == index) && a.Index < templateIndex
	})
	if at < 0 {
		return nil, newer(fail(ttlv.ResultReasonItemNotFound, "the object has no such attribute"), ttlv.ResultReasonAttributeNotFound)
	}
	a := c.Attrs[at]
	if every {
		c.drop(k.name)
	} else {
		c.Attrs = slices.Delete(c.Attrs, at, at+1)
	}
	return b.changed(o, c, a)
}

// current is the instance of an attribute that has the value of a Current Attribute.
func (b *batch) current(o *object, n *ttlv.Node) (a attribute, err error) {
	g, err := b.parseAttribute(n)
	if err != nil {
		return a, err
	}
	for _, a := range o.instances(g.name) {
		if g.value == nil || covers(a.node(), g.value) {
			return a, nil
		}
	}
	return a, newer(fail(ttlv.ResultReasonItemNotFound, "the object has no such attribute"), ttlv.ResultReasonAttributeInstanceNotFound)
}

// spend takes from what is left of an object's usage limits.
// check tells which of a client's wishes an object does not meet.
// rekey makes a key in place of another.
// replaced links an object and its replacement.
// replacement is what a new object takes over from an old one, which loses its
// names, and what the template says in place of that.
