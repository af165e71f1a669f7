package kmip

import (
	"errors"
	"fmt"
	"slices"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// The material of an object lies apart from what is known of it. Its record begins with a
// version; one of version 2 has then the object's type and whether the material is open, and
// both have then the structure (Symmetric Key, …). Records of version 1 are read, and become
// ones of version 2 when what is known of their object changes.
//
// Material is open while nothing that is known of the object bears on Get: what it answers is
// then in this record alone, and one read of the store finds it (docs/adr/0017). It is closed
// before the first Get, which changes the attribute Fresh, and while the object is archived,
// destroyed, sensitive or not to be extracted. save keeps it so.
const (
	materialVersion = 2
	materialHeader  = 3       // bytes
	maxOpen         = 1 << 10 // bytes of a record: to open and close it is to write it anew
)

const (
	materialClosed = iota
	materialOpen
)

// mayOpen reports whether Get gives objects of a type as they are kept, where it asks for no
// format.
func mayOpen(typ uint32) bool {
	switch typ {
	case ttlv.ObjectTypeSymmetricKey, ttlv.ObjectTypeSecretData, ttlv.ObjectTypeOpaqueObject, ttlv.ObjectTypeCertificate:
		return true
	}
	return false
}

// open reports whether nothing that is known of the object bears on Get.
func (o *object) open() bool {
	if !mayOpen(o.Type) || o.has(attrArchived) || o.destroyed() || o.truth(attrFresh) || o.truth(attrSensitive) {
		return false
	}
	return (!o.has(attrExtractable) || o.truth(attrExtractable)) && (!o.has(attrPresent) || o.truth(attrPresent))
}

func (o *object) encodeMaterial(n *ttlv.Node) []byte {
	out := n.Append(append(make([]byte, 0, materialHeader+n.Size()), materialVersion, byte(o.Type), materialClosed))
	o.mark(out)
	return out
}

// mark says in a record of version 2 whether the material is open.
func (o *object) mark(record []byte) {
	record[2] = materialClosed
	if o.open() && len(record) <= maxOpen {
		record[2] = materialOpen
	}
}

// decodeMaterial takes a record apart.
func decodeMaterial(raw []byte) (open bool, n *ttlv.Node, err error) {
	var header int
	switch {
	case len(raw) > 0 && raw[0] == 1:
		header = 1
	case len(raw) >= materialHeader && raw[0] == materialVersion:
		header, open = materialHeader, raw[2] == materialOpen
	default:
		return false, nil, errors.New("the material of an object is of an unknown version")
	}
	if n, err = ttlv.Decode(raw[header:]); err != nil {
		return false, nil, fmt.Errorf("decode the material of an object: %w", err)
	}
	return open, n, nil
}

// reopen writes the record of an object's material anew, where there is one, when the object
// was opened or closed. The material is not decoded.
func (b *batch) reopen(o *object) error {
	key := materialKey(b.scope, o.hash())
	raw, err := b.tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil || len(raw) > maxOpen { // it is closed, and stays so
		return err
	}
	var out []byte
	switch {
	case len(raw) > 0 && raw[0] == 1:
		out = append([]byte{materialVersion, byte(o.Type), materialClosed}, raw[1:]...)
	case len(raw) >= materialHeader && raw[0] == materialVersion:
		out = slices.Clone(raw)
	default:
		return errors.New("the material of an object is of an unknown version")
	}
	o.mark(out)
	return b.tx.Put(key, out)
}

// getOpen is Get of an object whose material is open, by one read; nil for all others, and for
// who asks for another form than the one that is kept.
func (b *batch) getOpen(p *ttlv.Node) (*ttlv.Node, error) {
	for _, c := range p.Children {
		if c.Tag != ttlv.TagUniqueIdentifier && c.Tag != ttlv.TagKeyFormatType {
			return nil, nil
		}
	}
	id, err := b.textID(p.Get(ttlv.TagUniqueIdentifier))
	if err != nil || id == "" {
		return nil, err // nil: the placeholder is empty, which Get says
	}
	hash := hashedAs(id)
	key := materialKey(b.scope, string(hash[:]))
	raw, err := b.tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil || len(raw) < materialHeader || raw[0] != materialVersion || raw[2] != materialOpen {
		return nil, err
	}
	if n := p.Get(ttlv.TagKeyFormatType); n != nil {
		_, node, err := decodeMaterial(raw)
		if err != nil {
			return nil, err
		}
		have := node.Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyFormatType)
		if have == nil || n.Type != ttlv.Enumeration || have.Int != n.Int {
			return nil, nil
		}
	}
	node, err := ttlv.Encoded(raw[materialHeader:])
	if err != nil {
		return nil, fmt.Errorf("read the material of an object: %w", err)
	}
	b.uses(key)
	named := p.Get(ttlv.TagUniqueIdentifier)
	if named == nil || named.Type != ttlv.TextString {
		named = ttlv.Text(ttlv.TagUniqueIdentifier, id)
	}
	return response(ttlv.Enum(ttlv.TagObjectType, uint32(raw[1])), named, node), nil
}
