package kmip

import (
	"errors"
	"slices"
	"unicode/utf8"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

const maxIDBytes = 256

// export gives out an object with all its attributes.
func (b *batch) export(p *ttlv.Node) (*ttlv.Node, error) {
	o, node, err := b.given(p)
	if err != nil {
		return nil, err
	}
	out := response(ttlv.Enum(ttlv.TagObjectType, o.Type), idNode(o))
	for _, a := range o.visible(b.v, b.now) {
		out.Add(a.show())
	}
	return out.Add(node), nil
}

// importObject takes an object with its identifier and its attributes, as another
// server has exported it.
func (b *batch) importObject(p *ttlv.Node) (*ttlv.Node, error) {
	id := p.Get(ttlv.TagUniqueIdentifier)
	if id == nil || id.Type != ttlv.TextString || len(id.Bytes) == 0 || len(id.Bytes) > maxIDBytes || !utf8.Valid(id.Bytes) {
		return nil, invalid("Unique Identifier is a text of 1 to %d bytes", maxIDBytes)
	}
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	tag := tagOf(typ)
	node := p.Get(tag)
	if tag == 0 || node == nil || node.Type != ttlv.Structure {
		return nil, invalid("the object is missing, or not of the type that Object Type names")
	}
	if wrapped, err := enum(p, ttlv.TagKeyWrapType); err != nil {
		return nil, err
	} else if wrapped == ttlv.KeyWrapTypeNotWrapped {
		if node, err = b.unwrapped(node); err != nil {
			return nil, err
		}
	}
	old, err := b.load(hashed(id.Text()))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	if old != nil && old.ID != id.Text() {
		return nil, fail(ttlv.ResultReasonGeneralFailure, "the identifier cannot be used")
	}
	replace := p.Get(ttlv.TagReplaceExisting)
	if old != nil && (replace == nil || replace.Int != 1) {
		return nil, fail(ttlv.ResultReasonObjectAlreadyExists, "there is an object with this identifier")
	}
	attrs, err := b.imported(p)
	if err != nil {
		return nil, err
	}
	b.importing, b.replacing = id.Text(), old
	o, err := b.keep(typ, attrs, node)
	b.importing, b.replacing = "", nil
	if err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}

// imported are the attributes of an import: also those that a client cannot give
// otherwise, but for what follows from the object itself.
func (b *batch) imported(p *ttlv.Node) (out []attribute, err error) {
	list := p.All(ttlv.TagAttribute)
	if t := p.Get(ttlv.TagTemplateAttribute); t != nil {
		list = append(list, t.All(ttlv.TagAttribute)...)
	}
	if len(list) > maxAttributes {
		return nil, invalid("there are more than %d attributes", maxAttributes)
	}
	follows := []string{attrID, attrType, attrState, attrShortID, attrFormat, attrStorage, attrDigest, attrLease, attrChanged, attrAlways, attrNever, attrCertLength, attrOpaqueType}
	for _, n := range list {
		g, err := b.parseAttribute(n)
		if err != nil {
			return nil, err
		}
		if g.value == nil || slices.Contains(follows, g.name) {
			continue
		}
		a := newAttribute(g.name, g.value)
		for _, have := range out {
			if have.Name == g.name {
				if g.rights&multi == 0 {
					return nil, invalid("%s can be given once", g.name)
				}
				a.Index = max(a.Index, have.Index+1)
			}
		}
		if g.hasIndex && g.index > a.Index {
			a.Index = g.index
		}
		out = append(out, a)
	}
	return out, nil
}
