package kmip

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"arca/internal/ttlv"
)

func (b *batch) register(p *ttlv.Node) (*ttlv.Node, error) {
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	tag := tagOf(typ)
	if tag == 0 || !b.knows(typ) {
		return nil, invalid("objects of this type cannot be registered")
	}
	node := p.Get(tag)
	if node == nil || node.Type != ttlv.Structure {
		return nil, invalid("the object is missing, or not of the type that Object Type names")
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	attrs, err := attrsOf(list)
	if err != nil {
		return nil, err
	}
	var known []string // the object says it itself
	for name, tag := range map[string]ttlv.Tag{attrAlgorithm: ttlv.TagCryptographicAlgorithm, attrLength: ttlv.TagCryptographicLength} {
		if typ == ttlv.ObjectTypeCertificate || node.Get(ttlv.TagKeyBlock).Get(tag) != nil {
			known = append(known, name)
		}
	}
	if attrs, err = b.withDefaults(typ, attrs, known...); err != nil {
		return nil, err
	}
	if err := protection(p, ttlv.TagProtectionStorageMasks); err != nil {
		return nil, err
	}
	if w, err := enum(p, ttlv.TagKeyWrapType); err != nil {
		return nil, err
	} else if w == ttlv.KeyWrapTypeNotWrapped { // it is kept without its wrapping
		if node, err = b.unwrapped(node); err != nil {
			return nil, err
		}
	}
	o, err := b.keep(typ, attrs, node)
	if err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}

// protection refuses to keep an object in ways that are not there: each mask is one
// that would do.
func protection(p *ttlv.Node, tag ttlv.Tag) error {
	masks := p.Get(tag)
	if masks == nil {
		return nil
	}
	for _, m := range masks.All(ttlv.TagProtectionStorageMask) {
		if m.Int&^storageSoftware == 0 {
			return nil
		}
	}
	return fail(ttlv.ResultReasonProtectionStorageUnavailable, "objects are kept by software")
}

// knows reports whether clients of the version know objects of a type.
func (b *batch) knows(typ uint32) bool {
	switch typ {
	case ttlv.ObjectTypeTemplate:
		return b.v.major == 1
	case ttlv.ObjectTypePGPKey:
		return b.v.atLeast(1, 2)
	case ttlv.ObjectTypeCertificateRequest:
		return b.v.major >= 2
	}
	return true
}

// tagOf is the tag of objects of a type; 0 for one that is not kept.
func tagOf(typ uint32) ttlv.Tag {
	return map[uint32]ttlv.Tag{
		ttlv.ObjectTypeCertificate: ttlv.TagCertificate, ttlv.ObjectTypeSymmetricKey: ttlv.TagSymmetricKey, ttlv.ObjectTypePublicKey: ttlv.TagPublicKey,
		ttlv.ObjectTypePrivateKey: ttlv.TagPrivateKey, ttlv.ObjectTypeSecretData: ttlv.TagSecretData, ttlv.ObjectTypeOpaqueObject: ttlv.TagOpaqueObject,
		ttlv.ObjectTypeTemplate: ttlv.TagTemplate, ttlv.ObjectTypeSplitKey: ttlv.TagSplitKey, ttlv.ObjectTypePGPKey: ttlv.TagPGPKey,
		ttlv.ObjectTypeCertificateRequest: ttlv.TagCertificateRequest,
	}[typ]
}

// keep stores an object that a client has sent.
func (b *batch) keep(typ uint32, attrs []attribute, node *ttlv.Node) (*object, error) {
	switch typ {
	case ttlv.ObjectTypeTemplate:
		return b.keepTemplate(attrs, node)
	case ttlv.ObjectTypeCertificate:
		return b.keepCertificate(attrs, node)
	case ttlv.ObjectTypeCertificateRequest:
		kind, value := node.Get(ttlv.TagCertificateRequestType), node.Get(ttlv.TagCertificateRequestValue)
		if kind == nil || kind.Type != ttlv.Enumeration || value == nil || value.Type != ttlv.ByteString {
			return nil, invalid("a certificate request needs Certificate Request Type and Certificate Request Value")
		}
		return b.make(typ, attrs, node, func(o *object) error {
			o.set(attrDigest, digest(value.Bytes, ttlv.KeyFormatTypeRaw, b.v))
			return nil
		})
	case ttlv.ObjectTypeSplitKey:
		if _, err := b.parseSplitting(node); err != nil {
			return nil, err
		}
		if n := node.Get(ttlv.TagKeyPartIdentifier); n == nil || n.Type != ttlv.Integer || n.Int < 1 || n.Int > maxParts {
			return nil, missing("Key Part Identifier")
		}
	case ttlv.ObjectTypePGPKey:
		if n := node.Get(ttlv.TagPGPKeyVersion); n == nil || n.Type != ttlv.Integer {
			return nil, missing("PGP Key Version")
		}
	case ttlv.ObjectTypeOpaqueObject:
		kind, value := node.Get(ttlv.TagOpaqueDataType), node.Get(ttlv.TagOpaqueDataValue)
		if kind == nil || kind.Type != ttlv.Enumeration || value == nil || value.Type != ttlv.ByteString {
			return nil, invalid("an opaque object needs Opaque Data Type and Opaque Data Value")
		}
		return b.make(typ, attrs, node, func(o *object) error {
			o.set(attrDigest, digest(value.Bytes, ttlv.KeyFormatTypeOpaque, b.v))
			o.set(attrOpaqueType, kind)
			return nil
		})
	}
	block := node.Get(ttlv.TagKeyBlock)
	if block == nil || block.Type != ttlv.Structure {
		return nil, missing("Key Block")
	}
	format, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	if format == 0 {
		return nil, missing("Key Format Type")
	}
	if format == ttlv.KeyFormatTypePKCS_12 {
		if typ != ttlv.ObjectTypePrivateKey {
			return nil, invalid("a file of PKCS #12 is registered as a private key")
		}
		return b.keepPKCS12(attrs, block)
	}
	value := block.Get(ttlv.TagKeyValue)
	if value == nil && (&object{Attrs: attrs}).has(attrLocation) { // the material is elsewhere
		return b.make(typ, attrs, nil, func(o *object) error {
			o.set(attrPresent, ttlv.Bool(0, false))
			b.formatted(o, format)
			for name, tag := range map[string]ttlv.Tag{attrAlgorithm: ttlv.TagCryptographicAlgorithm, attrLength: ttlv.TagCryptographicLength} {
				if n := block.Get(tag); n != nil && !o.has(name) {
					o.set(name, n)
				}
			}
			return nil
		})
	}
	if value == nil {
		return nil, missing("Key Value")
	}
	return b.make(typ, attrs, node, func(o *object) error { return b.describe(o, block, format, value) })
}

// describe sets the attributes that a key block tells, and holds it to those given.
func (b *batch) describe(o *object, block *ttlv.Node, format uint32, value *ttlv.Node) error {
	wrapped := block.Get(ttlv.TagKeyWrappingData) != nil
	material := value
	if value.Type == ttlv.Structure {
		if material = value.Get(ttlv.TagKeyMaterial); material == nil {
			return missing("Key Material")
		}
	} else if !wrapped {
		return invalid("Key Value is a structure unless the key is wrapped")
	}
	for name, tag := range map[string]ttlv.Tag{attrAlgorithm: ttlv.TagCryptographicAlgorithm, attrLength: ttlv.TagCryptographicLength} {
		said := block.Get(tag)
		k, _ := kindOfName(name)
		if said != nil && said.Type != k.typ {
			return invalid("%s in Key Block has the wrong type", name)
		}
		switch have := o.get(name); {
		case said != nil && have != nil && said.Int != have.Int:
			return invalid("%s in Key Block is not that of the attributes", name)
		case said != nil && have == nil:
			o.set(name, said)
		}
	}
	raw := material.Bytes
	if material.Type == ttlv.Structure {
		raw = material.Encode()
	}
	b.formatted(o, format)
	switch o.Type {
	case ttlv.ObjectTypeSecretData:
		if !o.has(attrMask) {
			o.set(attrMask, ttlv.Int(0, 0))
		}
	case ttlv.ObjectTypePGPKey, ttlv.ObjectTypeSplitKey: // whose mask is that of what is in them
	default:
		if !o.has(attrMask) {
			return missing(attrMask)
		}
		if !wrapped && (!o.has(attrAlgorithm) || !o.has(attrLength)) {
			return missing(attrAlgorithm + " and " + attrLength)
		}
		if !wrapped {
			if err := checkKey(o, format, material); err != nil {
				return err
			}
		}
	}
	if !wrapped {
		o.set(attrDigest, digest(raw, format, b.v))
	}
	if !wrapped && format == ttlv.KeyFormatTypeTransparentRSAPrivateKey && b.v.major >= 2 {
		if key, err := transparentRSA(material); err == nil {
			if m := privateIn(key, ttlv.KeyFormatTypePKCS_1); m != nil {
				a := newAttribute(attrDigest, digest(m.Bytes, ttlv.KeyFormatTypePKCS_1, b.v))
				a.Index = 1
				o.Attrs = append(o.Attrs, a)
			}
		}
	}
	return nil
}

func (b *batch) keepTemplate(attrs []attribute, node *ttlv.Node) (*object, error) {
	var inside []attribute
	for i, n := range node.All(ttlv.TagAttribute) {
		g, err := b.parseAttribute(n)
		if err != nil {
			return nil, err
		}
		if g.value == nil {
			return nil, invalid("%s has no value", g.name)
		}
		a := newAttribute(g.name, g.value)
		a.Index = templateIndex + int32(i)
		inside = append(inside, a)
	}
	if !(&object{Attrs: attrs}).has(attrName) { // it may be named inside
		for _, a := range inside {
			if a.Name == attrName {
				a.Index = 0
				attrs = append(attrs, a)
				break
			}
		}
	}
	inside = slices.DeleteFunc(inside, func(a attribute) bool { return a.Name == attrName })
	return b.make(ttlv.ObjectTypeTemplate, append(attrs, inside...), node, nil)
}

func (b *batch) keepCertificate(attrs []attribute, node *ttlv.Node) (*object, error) {
	typ, err := enum(node, ttlv.TagCertificateType)
	if err != nil {
		return nil, err
	}
	value := node.Get(ttlv.TagCertificateValue)
	if typ == 0 || value == nil || value.Type != ttlv.ByteString {
		return nil, invalid("a certificate needs Certificate Type and Certificate Value")
	}
	if typ != ttlv.CertificateTypeX_509 {
		return nil, invalid("only X.509 certificates are kept")
	}
	if said := (&object{Attrs: attrs}).get(attrCertType); said != nil && uint32(said.Int) != typ {
		return nil, invalid("%s is not that of the certificate", attrCertType)
	}
	// Any algorithm is kept, also one that is not understood here.
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(value.Bytes, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return nil, invalid("Certificate Value is no X.509 certificate in DER")
	}
	cert, err := x509.ParseCertificate(value.Bytes)
	if err != nil {
		cert = looseCertificate(value.Bytes)
	}
	return b.make(ttlv.ObjectTypeCertificate, attrs, node, func(o *object) error {
		b.certificateIs(o, typ, value.Bytes, cert)
		return nil
	})
}

// certificateIs sets what follows from a certificate; cert is nil for one that cannot
// be read.
func (b *batch) certificateIs(o *object, typ uint32, der []byte, cert *x509.Certificate) {
	o.set(attrCertType, ttlv.Enum(0, typ))
	o.set(attrCertLength, ttlv.Int(0, int32(len(der))))
	format := ttlv.KeyFormatTypeX_509
	if b.v.major >= 2 {
		format = ttlv.KeyFormatTypeRaw
	}
	b.formatted(o, ttlv.KeyFormatTypeRaw)
	o.set(attrDigest, digest(der, format, b.v))
	if cert != nil {
		describeCertificate(o, cert)
	}
	if !o.has(attrMask) {
		o.set(attrMask, ttlv.Int(0, 0))
	}
}
