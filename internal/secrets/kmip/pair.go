package kmip

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"slices"

	"arca/internal/ttlv"
)

// pairOf makes a pair of keys as attributes say.
func (b *batch) pairOf(common *object) (key secretKey, alg uint32, bits int32, err error) {
	a, l := common.get(attrAlgorithm), common.get(attrLength)
	if a == nil {
		return nil, 0, 0, missing(attrAlgorithm)
	}
	alg = uint32(a.Int)
	if l != nil {
		bits = int32(l.Int)
	}
	switch alg {
	case ttlv.CryptographicAlgorithmRSA:
		if l == nil {
			return nil, 0, 0, missing(attrLength)
		}
		if !slices.Contains(rsaLengths(), bits) {
			return nil, 0, 0, invalid("RSA keys have 1024, 2048, 3072 or 4096 bits")
		}
		if k := b.pairs.take(bits); k != nil {
			key = k
		} else { // a pair whose length came out late, in the batch itself
			key, err = rsa.GenerateKey(rand.Reader, int(bits))
		}
	case ttlv.CryptographicAlgorithmECDSA, ttlv.CryptographicAlgorithmEC, ttlv.CryptographicAlgorithmECDH:
		var curve elliptic.Curve
		if d := common.get(attrDomain); d != nil {
			c, err := enum(d, ttlv.TagRecommendedCurve)
			if err != nil {
				return nil, 0, 0, err
			}
			if c == ttlv.RecommendedCurveCURVE25519 && alg != ttlv.CryptographicAlgorithmECDSA { // X25519
				key, err = ecdh.X25519().GenerateKey(rand.Reader)
				return key, alg, 256, err
			}
			if c == ttlv.RecommendedCurveSECP256K1 {
				key, err = newKoblitz()
				return key, alg, 256, err
			}
			curve = curveOf(c)
		} else {
			curve = map[int32]elliptic.Curve{224: elliptic.P224(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[bits]
		}
		if curve == nil {
			return nil, 0, 0, invalid("the curve is not supported: it is P-224, P-256, P-384, P-521 or secp256k1, or Curve25519 to agree on keys")
		}
		bits = int32(curve.Params().BitSize)
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case ttlv.CryptographicAlgorithmEd25519:
		if l != nil && bits != 256 {
			return nil, 0, 0, invalid("%s %d is not possible for this algorithm", attrLength, bits)
		}
		bits = 256
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		kind, ok := latticeOf(alg)
		if !ok || b.v.major < 2 {
			return nil, 0, 0, invalid("pairs of keys of this algorithm cannot be made here")
		}
		if l != nil && int(bits) != 8*kind.public {
			return nil, 0, 0, invalid("%s %d is not possible for this algorithm: it is that of the public key, %d, or not given", attrLength, bits, 8*kind.public)
		}
		bits = int32(8 * kind.public)
		key, err = newLattice(kind)
	}
	return key, alg, bits, err
}

// createKeyPair makes a private and a public key.
func (b *batch) createKeyPair(p *ttlv.Node) (*ttlv.Node, error) {
	common, err := b.template(p.Get(ttlv.TagCommonTemplateAttribute))
	if err != nil {
		return nil, err
	}
	half := func(tag ttlv.Tag, typ uint32) ([]attribute, error) {
		own, err := b.template(p.Get(tag))
		if err != nil {
			return nil, err
		}
		for _, g := range common { // a half's own come first
			if !slices.ContainsFunc(own, func(o given) bool { return o.name == g.name }) {
				own = append(own, g)
			}
		}
		attrs, err := attrsOf(own)
		if err != nil {
			return nil, err
		}
		return b.withDefaults(typ, attrs)
	}
	private, err := half(ttlv.TagPrivateKeyTemplateAttribute, ttlv.ObjectTypePrivateKey)
	if err != nil {
		return nil, err
	}
	public, err := half(ttlv.TagPublicKeyTemplateAttribute, ttlv.ObjectTypePublicKey)
	if err != nil {
		return nil, err
	}
	fresh, err := b.makePair(private, public, nil, nil)
	if err != nil {
		return nil, err
	}
	priv, pub, err := b.commitPair(fresh)
	if err != nil {
		return nil, err
	}
	return response(ttlv.Text(ttlv.TagPrivateKeyUniqueIdentifier, priv.ID), ttlv.Text(ttlv.TagPublicKeyUniqueIdentifier, pub.ID)), nil
}

// A pair is two keys that belong together, prepared.
type pair struct {
	private, public         *object
	privateNode, publicNode *ttlv.Node
}

// makePair prepares both halves, in place of two others where there are such.
func (b *batch) makePair(private, public []attribute, oldPrivate, oldPublic *object) (*pair, error) {
	if b.v.major >= 2 && slices.ContainsFunc(private, func(a attribute) bool { return a.Name == attrQuantum && a.node().Int == 1 }) {
		n := (&object{Attrs: private}).get(attrAlgorithm)
		if n == nil {
			return nil, missing(attrAlgorithm)
		}
		if _, safe := latticeOf(uint32(n.Int)); !safe {
			return nil, errNotSafe
		}
	}
	for _, list := range [][]attribute{private, public} {
		if !(&object{Attrs: list}).has(attrMask) {
			return nil, missing(attrMask)
		}
	}
	key, alg, bits, err := b.pairOf(&object{Attrs: private})
	if err != nil {
		return nil, err
	}
	format, pubFormat := ttlv.KeyFormatTypePKCS_1, ttlv.KeyFormatTypePKCS_1
	switch key.(type) {
	case *ecdsa.PrivateKey, *koblitzPrivate:
		format, pubFormat = ttlv.KeyFormatTypeECPrivateKey, ttlv.KeyFormatTypeX_509
		if b.v.major >= 2 { // its defaults (2.1, section 4.28)
			format, pubFormat = ttlv.KeyFormatTypeTransparentECPrivateKey, ttlv.KeyFormatTypeTransparentECPublicKey
		}
	case ed25519.PrivateKey, *ecdh.PrivateKey, *latticePrivate, *latticeSigner:
		format, pubFormat = ttlv.KeyFormatTypePKCS_8, ttlv.KeyFormatTypeX_509
	}
	finish := func(format uint32, m *ttlv.Node) func(o *object) error {
		return func(o *object) error {
			o.set(attrAlgorithm, ttlv.Enum(0, alg))
			o.set(attrLength, ttlv.Int(0, bits))
			o.set(attrCreated, date(b.now))
			b.formatted(o, format)
			raw := m.Bytes
			if m.Type == ttlv.Structure {
				raw = m.Encode()
			}
			o.set(attrDigest, digest(raw, format, b.v))
			return nil
		}
	}
	p := &pair{}
	m := privateIn(key, format)
	p.privateNode = keyNode(ttlv.TagPrivateKey, format, m, alg, bits)
	if p.private, err = b.prepare(ttlv.ObjectTypePrivateKey, private, finish(format, m), oldPrivate); err != nil {
		return nil, err
	}
	m = inPublic(key.Public(), pubFormat, false)
	p.publicNode = keyNode(ttlv.TagPublicKey, pubFormat, m, alg, bits)
	if p.public, err = b.prepare(ttlv.ObjectTypePublicKey, public, finish(pubFormat, m), oldPublic); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, a := range append(p.private.instances(attrName), p.public.instances(attrName)...) {
		text := a.node().Get(ttlv.TagNameValue).Text()
		if names[text] {
			return nil, invalid("both keys have the same name")
		}
		names[text] = true
	}
	return p, nil
}

// commitPair writes both halves, with links to one another. Only the store can fail.
func (b *batch) commitPair(p *pair) (private, public *object, err error) {
	p.private.addLink(ttlv.LinkTypePublicKeyLink, p.public.ID)
	p.public.addLink(ttlv.LinkTypePrivateKeyLink, p.private.ID)
	if err := b.commit(p.public, p.publicNode); err != nil {
		return nil, nil, err
	}
	return p.private, p.public, b.commit(p.private, p.privateNode) // the placeholder is the private key
}

// rekeyKeyPair makes a pair of keys in place of another.
func (b *batch) rekeyKeyPair(p *ttlv.Node) (*ttlv.Node, error) {
	id, err := b.textID(p.Get(ttlv.TagPrivateKeyUniqueIdentifier))
	if err != nil {
		return nil, err
	}
	priv, err := b.object(id)
	if err != nil {
		return nil, err
	}
	if err := b.online(priv); err != nil {
		return nil, err
	}
	if priv.Type != ttlv.ObjectTypePrivateKey {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the object is no private key")
	}
	var pub *object
	for _, a := range priv.instances(attrLink) {
		if n := a.node(); uint32(n.Get(ttlv.TagLinkType).Int) == ttlv.LinkTypePublicKeyLink {
			if pub, err = b.object(n.Get(ttlv.TagLinkedObjectIdentifier).Text()); err != nil {
				return nil, err
			}
		}
	}
	if pub == nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the private key has no public key")
	}
	private, oldPriv, err := b.replacement(priv, p, ttlv.TagPrivateKeyTemplateAttribute)
	if err != nil {
		return nil, err
	}
	public, oldPub, err := b.replacement(pub, p, ttlv.TagPublicKeyTemplateAttribute)
	if err != nil {
		return nil, err
	}
	fresh, err := b.makePair(private, public, priv, pub)
	if err != nil {
		return nil, err
	}
	turned(oldPriv, fresh.private, b.now)
	turned(oldPub, fresh.public, b.now)
	for _, change := range [][2]*object{{priv, oldPriv}, {pub, oldPub}} {
		if err := b.save(change[0], change[1]); err != nil {
			return nil, err
		}
	}
	freshPriv, freshPub, err := b.commitPair(fresh)
	if err != nil {
		return nil, err
	}
	if err := b.replaced(oldPriv, freshPriv); err != nil {
		return nil, err
	}
	if err := b.replaced(oldPub, freshPub); err != nil {
		return nil, err
	}
	return response(ttlv.Text(ttlv.TagPrivateKeyUniqueIdentifier, freshPriv.ID), ttlv.Text(ttlv.TagPublicKeyUniqueIdentifier, freshPub.ID)), nil
}
