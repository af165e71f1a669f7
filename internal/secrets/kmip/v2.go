package kmip

import (
	"strings"

	"arca/internal/ttlv"
)

// KMIP 2 has attributes under tags of their own where KMIP 1 has them by name (2.1,
// section 4; 6.1). The operations know the form of KMIP 1 alone: what comes is
// brought into it, and what goes out of it.

// vendorPrefix begins the names of attributes of vendors other than x and y, which
// KMIP 1 does not have: "v-", the vendor, a line's end, the name.
const vendorPrefix = "v-"

// vendorName is the name by which an attribute of a vendor is kept.
func vendorName(vendor, name string) string {
	if vendor == "x" || vendor == "y" {
		return vendor + "-" + name
	}
	return vendorPrefix + vendor + "\n" + name
}

// vendorOf takes such a name apart.
func vendorOf(name string) (vendor, rest string) {
	if full, ok := strings.CutPrefix(name, vendorPrefix); ok {
		if vendor, rest, ok = strings.Cut(full, "\n"); ok {
			return vendor, rest
		}
	}
	vendor, rest, _ = strings.Cut(name, "-")
	return vendor, rest
}

// older brings the payload of a request into the form of KMIP 1.
func older(p *ttlv.Node) (*ttlv.Node, error) {
	out := ttlv.Struct(p.Tag)
	for _, c := range p.Children {
		n := c
		var err error
		switch tag := olderTag(c.Tag); {
		case c.Tag == ttlv.TagNewAttribute, c.Tag == ttlv.TagCurrentAttribute:
			if len(c.Children) != 1 {
				return nil, invalid("%s holds one attribute", c.Tag)
			}
			if n, err = olderAttribute(c.Children[0]); err == nil && c.Tag == ttlv.TagCurrentAttribute {
				n = n.Retag(ttlv.TagCurrentAttribute)
			}
		case c.Tag == ttlv.TagAttributeReference:
			var name string
			if name, err = referenced(c); err == nil {
				n = ttlv.Text(ttlv.TagAttributeName, name)
			}
		case tag != 0:
			if c.Type != ttlv.Structure {
				return nil, invalid("%s is a structure", c.Tag)
			}
			n, err = olderAttributes(tag, c)
		case c.Tag == ttlv.TagAttribute, c.Tag == ttlv.TagTemplateAttribute, c.Tag == ttlv.TagAttributeName, c.Tag == ttlv.TagCommonTemplateAttribute,
			c.Tag == ttlv.TagPrivateKeyTemplateAttribute, c.Tag == ttlv.TagPublicKeyTemplateAttribute:
			return nil, invalid("%s is not of this version of the protocol", c.Tag)
		}
		if err != nil {
			return nil, err
		}
		out.Children = append(out.Children, n)
	}
	return out, nil
}

func olderTag(tag ttlv.Tag) ttlv.Tag {
	for _, pair := range [][2]ttlv.Tag{
		{ttlv.TagAttributes, ttlv.TagTemplateAttribute},
		{ttlv.TagCommonAttributes, ttlv.TagCommonTemplateAttribute},
		{ttlv.TagPrivateKeyAttributes, ttlv.TagPrivateKeyTemplateAttribute},
		{ttlv.TagPublicKeyAttributes, ttlv.TagPublicKeyTemplateAttribute},
	} {
		if pair[0] == tag {
			return pair[1]
		}
	}
	return 0
}

func olderAttributes(tag ttlv.Tag, p *ttlv.Node) (*ttlv.Node, error) {
	if len(p.Children) > maxAttributes {
		return nil, invalid("there are more than %d attributes", maxAttributes)
	}
	out := ttlv.Struct(tag)
	for _, c := range p.Children {
		n, err := olderAttribute(c)
		if err != nil {
			return nil, err
		}
		out.Children = append(out.Children, n)
	}
	return out, nil
}

func olderAttribute(c *ttlv.Node) (*ttlv.Node, error) {
	var name string
	value := c
	if c.Tag == ttlv.TagAttribute { // of a vendor
		value = c.Get(ttlv.TagAttributeValue)
		var err error
		if name, err = vendorIn(c); err != nil {
			return nil, err
		}
	} else if k, ok := kindsByTag[c.Tag]; ok {
		name = k.name
	} else {
		return nil, newer(invalid("%s is no attribute", c.Tag), ttlv.ResultReasonInvalidAttribute)
	}
	out := ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name))
	if name == attrCertID && value.Type == ttlv.Structure {
		value = withSerial(value, func(b []byte) []byte {
			if len(b) > 2 && b[0] == 2 && int(b[1]) == len(b)-2 {
				b = b[2:]
				for len(b) > 1 && b[0] == 0 {
					b = b[1:]
				}
			}
			return b
		})
	}
	if value != nil {
		out.Add(value.Retag(ttlv.TagAttributeValue))
	}
	return out, nil
}

func vendorIn(c *ttlv.Node) (string, error) {
	vendor, name := c.Get(ttlv.TagVendorIdentification), c.Get(ttlv.TagAttributeName)
	if vendor == nil || name == nil || vendor.Type != ttlv.TextString || name.Type != ttlv.TextString || len(vendor.Bytes) == 0 || len(name.Bytes) == 0 ||
		len(vendor.Bytes)+len(name.Bytes) > maxNameBytes-3 || strings.Contains(vendor.Text(), "\n") {
		return "", invalid("an attribute of a vendor needs Vendor Identification and Attribute Name")
	}
	return vendorName(vendor.Text(), name.Text()), nil
}

// referenced is the name of the attribute that a reference means.
func referenced(c *ttlv.Node) (string, error) {
	if c.Type == ttlv.Structure {
		return vendorIn(c)
	}
	if c.Type == ttlv.Enumeration {
		if k, ok := kindsByTag[ttlv.Tag(c.Int)]; ok {
			return k.name, nil
		}
	}
	return "", newer(invalid("Attribute Reference names no attribute"), ttlv.ResultReasonInvalidAttribute)
}

// newerPayload brings the payload of an answer out of the form of KMIP 1.
func newerPayload(op uint32, p *ttlv.Node) *ttlv.Node {
	if p == nil {
		return nil
	}
	quiet := op == ttlv.OperationAddAttribute || op == ttlv.OperationModifyAttribute || op == ttlv.OperationDeleteAttribute
	out := ttlv.Struct(p.Tag)
	var attrs *ttlv.Node
	for _, c := range p.Children {
		switch {
		case c.Tag == ttlv.TagAttribute && quiet:
		case c.Tag == ttlv.TagAttribute:
			if attrs == nil {
				attrs = ttlv.Struct(ttlv.TagAttributes)
				out.Add(attrs)
			}
			attrs.Add(newerAttribute(c))
		case c.Tag == ttlv.TagAttributeName:
			out.Add(newerReference(c.Text()))
		default:
			out.Add(c)
		}
	}
	if op == ttlv.OperationGetAttributes && attrs == nil {
		out.Add(ttlv.Struct(ttlv.TagAttributes))
	}
	return out
}

func newerAttribute(c *ttlv.Node) *ttlv.Node {
	name, value := c.Get(ttlv.TagAttributeName).Text(), c.Get(ttlv.TagAttributeValue)
	if name == attrCertID { // KMIP 2 has the serial number as an INTEGER in DER
		value = withSerial(value, func(b []byte) []byte {
			if len(b) > 0 && b[0] >= 0x80 {
				b = append([]byte{0}, b...)
			}
			if len(b) > 127 {
				return b
			}
			return append([]byte{2, byte(len(b))}, b...)
		})
	}
	if k, ok := kindsByName[name]; ok {
		return value.Retag(k.tag)
	}
	vendor, rest := vendorOf(name)
	return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagVendorIdentification, vendor), ttlv.Text(ttlv.TagAttributeName, rest), value)
}

// withSerial is a Certificate Identifier with another form of its serial number.
func withSerial(n *ttlv.Node, form func([]byte) []byte) *ttlv.Node {
	out := ttlv.Struct(n.Tag)
	for _, c := range n.Children {
		if c.Tag == ttlv.TagCertificateSerialNumber && c.Type == ttlv.ByteString {
			c = ttlv.Bytes(c.Tag, form(c.Bytes))
		}
		out.Add(c)
	}
	return out
}

func newerReference(name string) *ttlv.Node {
	if k, ok := kindsByName[name]; ok {
		return ttlv.Enum(ttlv.TagAttributeReference, uint32(k.tag))
	}
	vendor, rest := vendorOf(name)
	return ttlv.Struct(ttlv.TagAttributeReference, ttlv.Text(ttlv.TagVendorIdentification, vendor), ttlv.Text(ttlv.TagAttributeName, rest))
}

// newer gives a fault the reason that KMIP 2 has for it.
func newer(f *fault, reason uint32) *fault {
	f.newer = reason
	return f
}

// The identifiers that KMIP 2 can name by what made them (2.1, section 11.59).
const (
	idPlaceholder = 1
	idMade        = 17 // the highest
)

// made2 are the values of Unique Identifier that stand for what an operation made:
// the object itself, its private and its public key.
func made2(op uint32) []uint32 {
	switch op {
	case ttlv.OperationCertify:
		return []uint32{2}
	case ttlv.OperationCreate:
		return []uint32{3}
	case ttlv.OperationCreateKeyPair:
		return []uint32{4, 5, 6}
	case ttlv.OperationCreateSplitKey:
		return []uint32{7}
	case ttlv.OperationDeriveKey:
		return []uint32{8}
	case ttlv.OperationImport:
		return []uint32{9}
	case ttlv.OperationJoinSplitKey:
		return []uint32{10}
	case ttlv.OperationLocate:
		return []uint32{11}
	case ttlv.OperationRegister:
		return []uint32{12}
	case ttlv.OperationReKey:
		return []uint32{13}
	case ttlv.OperationReCertify:
		return []uint32{14}
	case ttlv.OperationReKeyKeyPair:
		return []uint32{15, 16, 17}
	}
	return nil
}

// note remembers what an operation made, for later items of the batch.
func (b *batch) note(op uint32, p *ttlv.Node) {
	id := p.Get(ttlv.TagUniqueIdentifier)
	private, public := p.Get(ttlv.TagPrivateKeyUniqueIdentifier), p.Get(ttlv.TagPublicKeyUniqueIdentifier)
	if id == nil {
		id = private
	}
	b.ids = append(b.ids, id.Text())
	if b.byOp == nil {
		b.byOp = map[uint32]string{}
	}
	for i, v := range made2(op) {
		b.byOp[v] = []*ttlv.Node{id, private, public}[i].Text()
	}
}

// textID is the identifier that a field of a request names: by its text, or, in KMIP
// 2, by what made it, or by the number of an item of the batch.
func (b *batch) textID(n *ttlv.Node) (string, error) {
	switch {
	case n == nil:
		return b.holder, nil
	case n.Type == ttlv.TextString:
		return n.Text(), nil
	case n.Type == ttlv.Enumeration && b.v.major >= 2 && n.Int == idPlaceholder:
		return b.holder, nil
	case n.Type == ttlv.Enumeration && b.v.major >= 2 && n.Int > idPlaceholder && n.Int <= idMade:
		return b.byOp[uint32(n.Int)], nil
	case n.Type == ttlv.Integer && b.v.major >= 2:
		at := int(n.Int)
		if at < 0 { // counted from here
			at += len(b.ids)
		}
		if at < 0 || at >= len(b.ids) {
			return "", invalid("Unique Identifier names no earlier item of the batch")
		}
		return b.ids[at], nil
	}
	return "", invalid("Unique Identifier is a text")
}
