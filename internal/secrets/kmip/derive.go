package kmip

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"encoding/binary"
	"hash"
	"slices"

	"arca/internal/ttlv"
)

// Bounds on deriving keys.
const (
	maxBases      = 8
	maxIterations = 10_000_000
	maxDerived    = 64 << 10 // bytes
)

// deriveKey makes a key or secret data of others (KMIP 1.4, section 4.6; 2.1, 6.1.18).
func (b *batch) deriveKey(p *ttlv.Node) (*ttlv.Node, error) {
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	if typ != ttlv.ObjectTypeSymmetricKey && typ != ttlv.ObjectTypeSecretData {
		return nil, newer(invalid("a symmetric key or secret data is derived"), ttlv.ResultReasonInvalidObjectType)
	}
	bases, nodes, err := b.bases(p)
	if err != nil {
		return nil, err
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	attrs, err := attrsOf(list)
	if err != nil {
		return nil, err
	}
	if attrs, err = b.withDefaults(typ, attrs); err != nil {
		return nil, err
	}
	probe := &object{Attrs: attrs}
	length := probe.get(attrLength)
	if length == nil || length.Int < 8 || length.Int%8 != 0 || length.Int > maxDerived*8 {
		return nil, invalid("%s must be a multiple of 8, at most %d", attrLength, maxDerived*8)
	}
	method, err := enum(p, ttlv.TagDerivationMethod)
	if err != nil {
		return nil, err
	}
	d := derivation{b: b, method: method, params: p.Get(ttlv.TagDerivationParameters), n: int(length.Int / 8)}
	if err := d.read(bases, nodes); err != nil {
		return nil, err
	}
	raw, err := d.run()
	if err != nil {
		return nil, err
	}
	if len(raw) < d.n {
		return nil, cryptoFailure("what is derived is shorter than " + attrLength)
	}
	o, node, err := b.fromMaterial(typ, attrs, raw[:d.n], ttlv.SecretDataTypeSeed)
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		o.addLink(ttlv.LinkTypeDerivationBaseObjectLink, base.ID)
	}
	if err := b.commit(o, node); err != nil {
		return nil, err
	}
	for _, base := range bases {
		c := base.clone()
		c.addLink(ttlv.LinkTypeDerivedKeyLink, o.ID)
		if err := b.save(base, c); err != nil {
			return nil, err
		}
	}
	return response(idNode(o)), nil
}

// bases are the objects that a key is derived of, with their material.
func (b *batch) bases(p *ttlv.Node) (list []*object, nodes []*ttlv.Node, err error) {
	ids := p.All(ttlv.TagUniqueIdentifier)
	if len(ids) == 0 {
		ids = []*ttlv.Node{nil} // the placeholder
	}
	if len(ids) > maxBases {
		return nil, nil, invalid("a key is derived of at most %d objects", maxBases)
	}
	for _, n := range ids {
		id, err := b.textID(n)
		if err != nil {
			return nil, nil, err
		}
		o, err := b.object(id)
		if err != nil {
			return nil, nil, err
		}
		if err := b.online(o); err != nil {
			return nil, nil, err
		}
		if m := o.get(attrMask); m == nil || uint32(m.Int)&ttlv.MaskDeriveKey == 0 {
			return nil, nil, newer(denied("the usage mask of the object does not allow deriving keys"), ttlv.ResultReasonIncompatibleCryptographicUsageMask)
		}
		if slices.ContainsFunc(list, func(x *object) bool { return x.ID == o.ID }) {
			return nil, nil, fail(ttlv.ResultReasonInvalidMessage, "an object is named twice")
		}
		m, err := b.material(o)
		if err != nil {
			return nil, nil, err
		}
		list, nodes = append(list, o), append(nodes, m)
	}
	return list, nodes, nil
}

// fromMaterial prepares a symmetric key or secret data of given material.
func (b *batch) fromMaterial(typ uint32, attrs []attribute, raw []byte, secret uint32) (*object, *ttlv.Node, error) {
	probe := &object{Attrs: attrs}
	alg, bits := uint32(0), int32(len(raw)*8)
	if n := probe.get(attrAlgorithm); n != nil {
		alg = uint32(n.Int)
	}
	if n := probe.get(attrLength); n != nil {
		bits = int32(n.Int)
	}
	format := ttlv.KeyFormatTypeRaw
	var node *ttlv.Node
	if typ == ttlv.ObjectTypeSymmetricKey {
		if alg == 0 {
			return nil, nil, missing(attrAlgorithm)
		}
		if !probe.has(attrMask) {
			return nil, nil, missing(attrMask)
		}
		node = symmetricNode(raw, alg, bits)
		if err := checkKey(&object{Type: typ, Attrs: append([]attribute{newAttribute(attrAlgorithm, ttlv.Enum(0, alg)), newAttribute(attrLength, ttlv.Int(0, bits))}, attrs...)},
			format, ttlv.Bytes(ttlv.TagKeyMaterial, raw)); err != nil {
			return nil, nil, err
		}
	} else {
		format = ttlv.KeyFormatTypeOpaque
		node = secretNode(raw, format, secret)
	}
	o, err := b.prepare(typ, attrs, func(o *object) error {
		if alg != 0 {
			o.set(attrAlgorithm, ttlv.Enum(0, alg))
		}
		o.set(attrLength, ttlv.Int(0, bits))
		if !o.has(attrMask) {
			o.set(attrMask, ttlv.Int(0, 0))
		}
		o.set(attrCreated, date(b.now))
		b.formatted(o, format)
		o.set(attrDigest, digest(raw, format, b.v))
		return nil
	}, nil)
	return o, node, err
}

func secretNode(raw []byte, format, kind uint32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagSecretData, ttlv.Enum(ttlv.TagSecretDataType, kind),
		ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, format), ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, raw))))
}

// A derivation is one way to derive.
type derivation struct {
	b            *batch
	method       uint32
	params       *ttlv.Node
	n            int // bytes that are wanted
	key          []byte
	data         []byte
	hasData      bool
	private, pub *ttlv.Node // of AsymmetricKey
}

// read takes the key, and the data that comes with the parameters or as a second
// object.
func (d *derivation) read(bases []*object, nodes []*ttlv.Node) (err error) {
	if n := d.params.Get(ttlv.TagDerivationData); n != nil {
		if n.Type != ttlv.ByteString {
			return invalid("Derivation Data is a byte string")
		}
		d.data, d.hasData = n.Bytes, true
	}
	if d.method == ttlv.DerivationMethodAsymmetricKey {
		for i, o := range bases {
			switch o.Type {
			case ttlv.ObjectTypePrivateKey:
				d.private = nodes[i]
			case ttlv.ObjectTypePublicKey:
				d.pub = nodes[i]
			}
		}
		if len(bases) != 2 || d.private == nil || d.pub == nil {
			return invalid("a private key and a public key are needed")
		}
		return nil
	}
	for i, o := range bases {
		if o.Type != ttlv.ObjectTypeSymmetricKey && o.Type != ttlv.ObjectTypeSecretData {
			return newer(invalid("keys are derived of symmetric keys and secret data"), ttlv.ResultReasonInvalidObjectType)
		}
		raw, err := rawOf(nodes[i])
		if err != nil {
			return err
		}
		switch {
		case i == 0:
			d.key = raw
		case d.hasData:
			return fail(ttlv.ResultReasonInvalidMessage, "Derivation Data comes in the parameters or as an object, not both")
		default:
			d.data, d.hasData = raw, true
		}
	}
	return nil
}

// prf is the hash that the parameters name, def where they do not.
func (d *derivation) prf(def uint32) (func() hash.Hash, error) {
	p := d.params.Get(ttlv.TagCryptographicParameters)
	alg, err := enum(p, ttlv.TagHashingAlgorithm)
	if err != nil {
		return nil, err
	}
	if mac, err := enum(p, ttlv.TagCryptographicAlgorithm); err != nil {
		return nil, err
	} else if fn := hmacOf(mac); alg == 0 && fn != nil {
		return fn, nil
	}
	if alg == 0 {
		alg = def
	}
	fn, _ := hashOf(alg)
	if fn == nil {
		return nil, cryptoFailure("this hashing algorithm is not supported")
	}
	return fn, nil
}

func (d *derivation) run() ([]byte, error) {
	switch d.method {
	case ttlv.DerivationMethodPBKDF2:
		return d.pbkdf2()
	case ttlv.DerivationMethodENCRYPT:
		return d.encrypt()
	case ttlv.DerivationMethodAsymmetricKey:
		return d.agree()
	case 0:
		return nil, missing("Derivation Method")
	}
	fn, err := d.prf(ttlv.HashingAlgorithmSHA_256)
	if err != nil {
		return nil, err
	}
	switch d.method {
	case ttlv.DerivationMethodHASH:
		in := d.key
		if d.hasData {
			in = d.data
		}
		h := fn()
		h.Write(in)
		return h.Sum(nil), nil
	case ttlv.DerivationMethodHMAC:
		if !d.hasData {
			return nil, missing("Derivation Data")
		}
		return mac(fn, d.key, d.data), nil
	case ttlv.DerivationMethodNIST800_108C, ttlv.DerivationMethodNIST800_108F, ttlv.DerivationMethodNIST800_108DPI:
		return d.nist(fn)
	case ttlv.DerivationMethodHKDF:
		out, err := hkdf.Key(fn, d.key, bytesField(d.params, ttlv.TagSalt), string(d.data), d.n)
		if err != nil {
			return nil, cryptoFailure("so much cannot be derived")
		}
		return out, nil
	}
	return nil, fail(ttlv.ResultReasonFeatureNotSupported, "this derivation method is not supported")
}

func (d *derivation) pbkdf2() ([]byte, error) {
	fn, err := d.prf(ttlv.HashingAlgorithmSHA_1) // that of RFC 8018, where none is named
	if err != nil {
		return nil, err
	}
	salt, count := bytesField(d.params, ttlv.TagSalt), d.params.Get(ttlv.TagIterationCount)
	if salt == nil || count == nil || count.Type != ttlv.Integer || count.Int < 1 || count.Int > maxIterations {
		return nil, invalid("PBKDF2 needs Salt and an Iteration Count from 1 to %d", maxIterations)
	}
	size := int64(fn().Size())
	if count.Int*((int64(d.n)+size-1)/size) > maxIterations {
		return nil, invalid("so many iterations for so long a key are too many")
	}
	out, err := pbkdf2.Key(fn, string(d.key), salt, int(count.Int), d.n)
	if err != nil {
		return nil, cryptoFailure("the key cannot be derived")
	}
	return out, nil
}

func (d *derivation) encrypt() ([]byte, error) {
	if !d.hasData {
		return nil, missing("Derivation Data")
	}
	p := d.params.Get(ttlv.TagCryptographicParameters)
	alg, err := enum(p, ttlv.TagCryptographicAlgorithm)
	if err != nil {
		return nil, err
	}
	if alg == 0 {
		alg = ttlv.CryptographicAlgorithmAES
	}
	u := &use{o: &object{Attrs: []attribute{newAttribute(attrAlgorithm, ttlv.Enum(0, alg))}}, key: symmetricNode(d.key, alg, int32(len(d.key)*8)), params: p, data: d.data}
	mode, err := u.param(ttlv.TagBlockCipherMode)
	if err != nil {
		return nil, err
	}
	if mode == 0 {
		return nil, invalid("Cryptographic Parameters name no Block Cipher Mode")
	}
	return u.blocks(mode, bytesField(d.params, ttlv.TagInitializationVector), d.data, true)
}

func mac(fn func() hash.Hash, key []byte, parts ...[]byte) []byte {
	m := hmac.New(fn, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// nist is NIST SP 800-108: sections 4.1 to 4.3, with a counter of 32 bits before the
// fixed input data.
func (d *derivation) nist(fn func() hash.Hash) ([]byte, error) {
	if !d.hasData {
		return nil, missing("Derivation Data")
	}
	var out []byte
	last := bytesField(d.params, ttlv.TagInitializationVector)
	a := d.data
	for i := uint32(1); len(out) < d.n; i++ {
		counter := binary.BigEndian.AppendUint32(nil, i)
		switch d.method {
		case ttlv.DerivationMethodNIST800_108C:
			last = mac(fn, d.key, counter, d.data)
		case ttlv.DerivationMethodNIST800_108F:
			last = mac(fn, d.key, last, counter, d.data)
		default:
			a = mac(fn, d.key, a)
			last = mac(fn, d.key, a, counter, d.data)
		}
		out = append(out, last...)
	}
	return out, nil
}

// agree is ECDH: the coordinate x of the common point.
func (d *derivation) agree() ([]byte, error) {
	private, err := privateKey(d.private)
	if err != nil {
		return nil, err
	}
	public, err := publicKey(d.pub)
	if err != nil {
		return nil, err
	}
	bad := cryptoFailure("these two keys do not agree on a third: they must be on the same curve, one of P-256, P-384, P-521, secp256k1 and Curve25519")
	if k, ok := private.(*koblitzPrivate); ok {
		with, ok := public.(koblitzPublic)
		if !ok {
			return nil, bad
		}
		return k.agree(with)
	}
	x, err := agreeing(private)
	if err != nil {
		return nil, bad
	}
	y, err := agreed(public)
	if err != nil {
		return nil, bad
	}
	out, err := x.ECDH(y)
	if err != nil {
		return nil, bad
	}
	return out, nil
}
