package kmip

import (
	"bytes"

	"arca/internal/errs"
	"arca/internal/ttlv"
)

const (
	maxCriteria = 200
	maxLocated  = 10_000 // identifiers of one answer
	maxWalked   = 1_000_000
	// What a batch that also writes has read must not change until it is committed,
	// so that it looks at no more than this.
	maxWalkedWriting = 10_000
)

// locate finds objects by their attributes; see page for their order.
// A criterion that is in the index bounds the walk to the objects that have it.
func (b *batch) locate(p *ttlv.Node) (*ttlv.Node, error) {
	q, err := b.parseLocate(p)
	if err != nil {
		return nil, err
	}
	pg := b.newPage(&q)
	if err := b.fill(pg, &q); err != nil {
		return nil, err
	}
	found := b.paged(pg, &q)
	b.holder = ""
	if len(found) == 1 {
		b.holder = found[0].id
	}
	out := response()
	if b.counts() {
		out.Add(ttlv.Int(ttlv.TagLocatedItems, int32(pg.total)))
	}
	for _, l := range found {
		out.Add(ttlv.Text(ttlv.TagUniqueIdentifier, l.id))
	}
	return out, nil
}

// fill has a page made of all objects that a query is for.
func (b *batch) fill(pg *page, q *query) error {
	dir := orderDir(b.scope)
	for i := range q.criteria {
		c := &q.criteria[i]
		v := indexOf(c.name, c.value)
		if v == "" || q.destroyed {
			continue
		}
		if c.name == attrName {
			o, sure, err := b.byName(v)
			if err != nil {
				return err
			}
			if o != nil && b.matches(o, *q) {
				pg.add(o)
			}
			if o != nil || sure {
				return nil
			}
		}
		if dir == orderDir(b.scope) {
			dir = valueDir(b.scope, v)
		}
	}
	if err := b.walk(dir, q, pg); err != nil {
		return err
	}
	if far := pg.far(); far != nil {
		if err := b.walk(dir, q, far); err != nil {
			return err
		}
		pg.take(far)
	}
	return nil
}

// walk has a page made of the objects in a directory of the index that a query is for.
func (b *batch) walk(dir string, q *query, pg *page) error {
	walked := 0
	for kv, err := range b.tx.Scan(dir, "") {
		if err != nil {
			return err
		}
		if walked++; walked%256 == 0 && b.ctx.Err() != nil {
			return errs.With(errs.Unavailable, b.ctx.Err())
		}
		if walked > maxWalked || walked > maxWalkedWriting && b.tx.Writable() {
			return fail(ttlv.ResultReasonGeneralFailure, "too many objects: ask by Name, Object Group, Application Specific Information or a custom attribute, and not together with what writes")
		}
		o, err := b.load(string(kv.Value))
		if err != nil {
			return err
		}
		if !b.matches(o, *q) {
			continue
		}
		pg.add(o)
		if pg.whole() && !b.counts() {
			break // nobody asks how many there are
		}
	}
	return nil
}

type query struct {
	limit, offset       int
	criteria            []given
	online, archived    bool
	destroyed           bool
	fresh, hasFreshness bool
	byDefault, limited  bool // the default member of a group; Maximum Items is given
}

func (b *batch) parseLocate(p *ttlv.Node) (q query, err error) {
	q = query{limit: maxLocated, online: true}
	if n := p.Get(ttlv.TagMaximumItems); n != nil {
		if n.Type != ttlv.Integer || n.Int < 0 {
			return q, invalid("Maximum Items is no number from 0")
		}
		q.limit, q.limited = min(int(n.Int), maxLocated), true
	}
	if n := p.Get(ttlv.TagOffsetItems); n != nil {
		if n.Type != ttlv.Integer || n.Int < 0 {
			return q, invalid("Offset Items is no number from 0")
		}
		q.offset = int(n.Int)
	}
	if n := p.Get(ttlv.TagStorageStatusMask); n != nil {
		q.online, q.archived, q.destroyed = n.Int&1 != 0, n.Int&2 != 0, n.Int&4 != 0
	}
	if n := p.Get(ttlv.TagObjectGroupMember); n != nil {
		q.hasFreshness, q.fresh = true, uint32(n.Int) == ttlv.ObjectGroupMemberGroupMemberFresh
		q.byDefault = uint32(n.Int) == ttlv.ObjectGroupMemberGroupMemberDefault
	}
	list := p.All(ttlv.TagAttribute)
	for _, t := range p.All(ttlv.TagTemplateAttribute) { // FortiOS has them there
		list = append(list, t.All(ttlv.TagAttribute)...)
	}
	if len(list) > maxCriteria {
		return q, invalid("there are more than %d criteria", maxCriteria)
	}
	dates := map[string]int{}
	for _, n := range list {
		g, err := b.parseCriterion(n)
		if err != nil {
			return q, err
		}
		if g.name == attrState && (g.value.Int == int64(ttlv.StateDestroyed) || g.value.Int == int64(ttlv.StateDestroyedCompromised)) {
			q.destroyed = true
		}
		if g.typ == ttlv.DateTime {
			if dates[g.name]++; dates[g.name] > 2 {
				return q, invalid("%s is asked for more than twice: one value is that date, two are a range", g.name)
			}
		}
		q.criteria = append(q.criteria, g)
	}
	return q, nil
}

// parseCriterion is parseAttribute, but for structures that need not be complete.
func (b *batch) parseCriterion(n *ttlv.Node) (g given, err error) {
	name := n.Get(ttlv.TagAttributeName).Text()
	k, ok := kindOfName(name)
	if !ok || !k.known(b.v) {
		return g, invalid("the attribute %q is not supported", name)
	}
	g = given{kind: k, value: n.Get(ttlv.TagAttributeValue)}
	if g.value == nil {
		return g, invalid("%s has no value", name)
	}
	if k.typ != 0 && g.value.Type != k.typ {
		return g, invalid("the value of %s has the wrong type", name)
	}
	return g, nil
}

func (b *batch) matches(o *object, q query) bool {
	archived, destroyed := o.has(attrArchived), o.destroyed()
	switch {
	case destroyed && !q.destroyed, archived && !destroyed && !q.archived, !archived && !destroyed && !q.online:
		return false
	case q.hasFreshness && q.fresh && !o.truth(attrFresh):
		return false
	}
	dates := map[string]int{}
	for i, c := range q.criteria {
		if c.typ == ttlv.DateTime {
			if dates[c.name]++; dates[c.name] == 2 {
				continue // with the first it is a range
			}
			if !inRange(o, c.name, q.criteria[i:]) {
				return false
			}
			continue
		}
		if !b.meets(o, &c) {
			return false
		}
	}
	return true
}

// inRange reports whether a date is the one that is asked for, or between the two.
func inRange(o *object, name string, criteria []given) bool {
	have := o.get(name)
	if have == nil {
		return false
	}
	var values []int64
	for _, c := range criteria {
		if c.name == name {
			values = append(values, c.value.Int)
		}
	}
	if len(values) == 1 {
		return have.Int == values[0]
	}
	return have.Int >= min(values[0], values[1]) && have.Int <= max(values[0], values[1])
}

func (b *batch) meets(o *object, c *given) bool {
	switch c.name {
	case attrID:
		return o.ID == c.value.Text()
	case attrType:
		return int64(o.Type) == c.value.Int
	case attrState:
		return !o.stateless() && int64(o.state(b.now)) == c.value.Int
	case attrMask:
		m := o.get(attrMask)
		return m != nil && m.Int&c.value.Int == c.value.Int
	}
	for _, a := range o.Attrs {
		if a.Name == c.name && a.Index < templateIndex && covers(a.node(), c.value) {
			return true
		}
	}
	return false
}

// covers reports whether a value is what is asked for: equal, or, of structures, in
// all parts that are named.
func covers(have, want *ttlv.Node) bool {
	if have == nil || have.Type != want.Type {
		return false
	}
	if want.Type != ttlv.Structure {
		return have.Int == want.Int && bytes.Equal(have.Bytes, want.Bytes)
	}
	for _, w := range want.Children {
		if !covers(have.Get(w.Tag), w) {
			return false
		}
	}
	return true
}
