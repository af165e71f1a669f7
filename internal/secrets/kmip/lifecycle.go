package kmip

import (
	"errors"
	"slices"
	"time"

	"arca/internal/ttlv"
)

func (b *batch) activate(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if o.stateless() {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "objects of this type have no state")
	}
	if o.state(b.now) != ttlv.StatePreActive {
		return nil, denied("the object is not pre-active")
	}
	c := o.clone()
	c.set(attrActivation, date(b.now))
	if err := checkDates(c); err != nil {
		return nil, err
	}
	return response(idNode(o)), b.save(o, c)
}

func (b *batch) revoke(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.byID(p)
	if err != nil {
		return nil, err
	}
	if o.has(attrArchived) {
		return nil, b.online(o)
	}
	if o.stateless() {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "objects of this type have no state")
	}
	reason := p.Get(ttlv.TagRevocationReason)
	code, err := enum(reason, ttlv.TagRevocationReasonCode)
	if err != nil {
		return nil, err
	}
	if code == 0 {
		return nil, missing("Revocation Reason Code")
	}
	compromise := code == ttlv.RevocationReasonCodeKeyCompromise || code == ttlv.RevocationReasonCodeCACompromise
	c := o.clone()
	switch state := o.state(b.now); {
	case compromise && state != ttlv.StateCompromised && state != ttlv.StateDestroyedCompromised:
		c.set(attrCompromised, date(b.now))
		occurred := o.get(attrInitial)
		if n := p.Get(ttlv.TagCompromiseOccurrenceDate); n != nil && n.Type == ttlv.DateTime {
			occurred = n
		}
		c.set(attrOccurrence, occurred)
	case !compromise && state == ttlv.StateActive:
		c.set(attrDeactivation, date(b.now))
	default:
		return nil, denied("an object in this state cannot be revoked for this reason")
	}
	c.set(attrReason, reason)
	return response(idNode(o)), b.save(o, c)
}

func (b *batch) destroy(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if !o.stateless() && o.state(b.now) == ttlv.StateActive {
		return nil, denied("the object is active: revoke it first")
	}
	c := o.clone()
	c.set(attrDestroyed, date(b.now))
	retention, err := b.retention()
	if err != nil {
		return nil, err
	}
	if retention == 0 {
		err = b.tx.Delete(materialKey(b.scope, o.hash()))
	} else {
		err = b.tx.Put(dueKey(b.now.Add(retention), "m", b.scope, o.hash()), nil)
	}
	if err != nil {
		return nil, err
	}
	cfg, err := get[config](b.tx, configKey)
	switch {
	case errors.Is(err, errNotFound): // the mount has listeners of other names, or none
		cfg = &config{}
	case err != nil:
		return nil, err
	}
	c.Erase, c.Forget = b.now.Add(retention).Unix(), b.now.Add(max(cfg.kept(), retention)).Unix()
	if err := b.tx.Put(dueKey(b.now.Add(max(cfg.kept(), retention)), "o", b.scope, o.hash()), nil); err != nil {
		return nil, err
	}
	return response(idNode(o)), b.save(o, c)
}

func (b *batch) archive(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	c := o.clone()
	c.set(attrArchived, date(b.now))
	return response(idNode(o)), b.save(o, c)
}

func (b *batch) recover(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.byID(p)
	if err != nil {
		return nil, err
	}
	if !o.has(attrArchived) {
		return response(idNode(o)), nil
	}
	c := o.clone()
	c.drop(attrArchived)
	return response(idNode(o)), b.save(o, c)
}

func (b *batch) obtainLease(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if s := o.state(b.now); s == ttlv.StateCompromised || s == ttlv.StateDeactivated {
		return nil, denied("there is no lease on an object in this state")
	}
	return response(idNode(o), ttlv.Seconds(ttlv.TagLeaseTime, leaseSeconds), o.get(attrChanged).Retag(ttlv.TagLastChangeDate)), nil
}

func (b *batch) getUsageAllocation(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	n := p.Get(ttlv.TagUsageLimitsCount)
	if n == nil || n.Type != ttlv.LongInteger || n.Int < 0 {
		return nil, missing("Usage Limits Count")
	}
	if !o.has(attrLimits) {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the object has no usage limits")
	}
	c := o.clone()
	if err := spend(c, n.Int); err != nil {
		return nil, err
	}
	return response(idNode(o)), b.save(o, c)
}

// spend takes from what is left of an object's usage limits.
func spend(o *object, n int64) error {
	l := o.get(attrLimits)
	left := l.Get(ttlv.TagUsageLimitsCount).Int
	if n > left {
		return denied("the usage limits of the object are reached")
	}
	o.set(attrLimits, limits(l.Get(ttlv.TagUsageLimitsTotal).Int, left-n, uint32(l.Get(ttlv.TagUsageLimitsUnit).Int)))
	return nil
}

// check tells which of a client's wishes an object does not meet.
func (b *batch) check(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	out := response(idNode(o))
	if n := p.Get(ttlv.TagUsageLimitsCount); n != nil {
		if l := o.get(attrLimits); l != nil && l.Get(ttlv.TagUsageLimitsCount).Int < n.Int {
			out.Add(n)
		}
	}
	if n := p.Get(ttlv.TagCryptographicUsageMask); n != nil {
		if m := o.get(attrMask); m == nil || m.Int&n.Int != n.Int {
			out.Add(n)
		}
	}
	if n := p.Get(ttlv.TagLeaseTime); n != nil && n.Int > leaseSeconds {
		out.Add(n)
	}
	return out, nil
}

// rekey makes a key in place of another.
func (b *batch) rekey(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if o.Type != ttlv.ObjectTypeSymmetricKey {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "only symmetric keys are re-keyed by this operation")
	}
	attrs, old, err := b.replacement(o, p, ttlv.TagTemplateAttribute)
	if err != nil {
		return nil, err
	}
	fresh, node, err := b.makeSymmetric(attrs, o)
	if err != nil {
		return nil, err
	}
	turned(old, fresh, b.now)
	if err := b.save(o, old); err != nil {
		return nil, err
	}
	if err := b.commit(fresh, node); err != nil {
		return nil, err
	}
	if err := b.replaced(old, fresh); err != nil {
		return nil, err
	}
	return response(idNode(fresh)), nil
}

// replaced links an object and its replacement.
func (b *batch) replaced(old, fresh *object) error {
	before := old.clone()
	old.addLink(ttlv.LinkTypeReplacementObjectLink, fresh.ID)
	if err := b.save(before, old); err != nil {
		return err
	}
	linked := fresh.clone()
	linked.addLink(ttlv.LinkTypeReplacedObjectLink, old.ID)
	return b.save(fresh, linked)
}

// replacement is what a new object takes over from an old one, which loses its
// names, and what the template says in place of that.
func (b *batch) replacement(o *object, p *ttlv.Node, tag ttlv.Tag) (attrs []attribute, old *object, err error) {
	asked, err := b.template(p.Get(tag))
	if err != nil {
		return nil, nil, err
	}
	own, err := attrsOf(asked)
	if err != nil {
		return nil, nil, err
	}
	offset := p.Get(ttlv.TagOffset)
	dates := []string{attrActivation, attrProcessStart, attrProtectStop, attrDeactivation}
	shift := time.Duration(0)
	if offset != nil {
		if slices.ContainsFunc(asked, func(g given) bool { return slices.Contains(dates, g.name) }) {
			return nil, nil, fail(ttlv.ResultReasonInvalidMessage, "Offset and dates cannot be given together")
		}
		if t, ok := o.time(attrActivation); ok {
			shift = b.now.Add(time.Duration(offset.Int) * time.Second).Sub(t)
		}
	}
	for _, a := range o.Attrs {
		k, _ := kindOfName(a.Name)
		merged := a.Name == attrName && (b.v.major >= 2 || o.Type == ttlv.ObjectTypeCertificate) // it keeps its names there, and gets others
		if !merged && slices.ContainsFunc(own, func(g attribute) bool { return g.Name == a.Name }) || a.Index >= templateIndex {
			continue
		}
		switch {
		case a.Name == attrLink, a.Name == attrFresh, a.Name == attrCreated:
		case a.Name == attrLimits:
			n := a.node()
			total := n.Get(ttlv.TagUsageLimitsTotal).Int
			attrs = append(attrs, newAttribute(attrLimits, limits(total, total, uint32(n.Get(ttlv.TagUsageLimitsUnit).Int))))
		case slices.Contains(dates, a.Name):
			t, _ := o.time(a.Name)
			switch {
			case offset != nil:
				attrs = append(attrs, newAttribute(a.Name, date(t.Add(shift))))
			case a.Name == attrActivation || t.After(b.now):
				attrs = append(attrs, a)
			}
		case k.rights&atMake != 0:
			attrs = append(attrs, a)
		}
	}
	if offset != nil && !o.has(attrActivation) {
		attrs = append(attrs, newAttribute(attrActivation, date(b.now.Add(time.Duration(offset.Int)*time.Second))))
	}
	old = o.clone()
	old.drop(attrName)
	for _, a := range own {
		for _, have := range attrs {
			if a.Name == attrName && have.Name == attrName {
				a.Index = max(a.Index, have.Index+1)
			}
		}
		attrs = append(attrs, a)
	}
	return attrs, old, nil
}
