package kmip

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"

	"arca/internal/ttlv"
)

const (
	maxKeyBits  = 8192
	maxKeyBytes = 16 << 10 // of a key's encoding that is read
)

var errLargeKey = fail(ttlv.ResultReasonCryptographicFailure, "keys of more than %d bits are not used", maxKeyBits)

// fits refuses RSA keys whose use would take for ever.
func fits(key crypto.PublicKey) error {
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() > maxKeyBits {
		return errLargeKey
	}
	return nil
}

// lengthsOf are how many bits a key of an algorithm may have; nil for one with keys of any length.
func lengthsOf(alg uint32) []int64 {
	switch alg {
	case ttlv.CryptographicAlgorithmAES, ttlv.CryptographicAlgorithmCamellia:
		return []int64{128, 192, 256}
	case ttlv.CryptographicAlgorithmDES3:
		return []int64{112, 128, 168, 192}
	case ttlv.CryptographicAlgorithmDES:
		return []int64{56, 64}
	case ttlv.CryptographicAlgorithmChaCha20, ttlv.CryptographicAlgorithmChaCha20Poly1305:
		return []int64{256}
	case ttlv.CryptographicAlgorithmSKIPJACK:
		return []int64{80}
	case ttlv.CryptographicAlgorithmSEED, ttlv.CryptographicAlgorithmIDEA:
		return []int64{128}
	}
	return nil
}

// newSymmetric makes the material of a key.
func newSymmetric(alg uint32, bits int64) ([]byte, error) {
	switch alg {
	case ttlv.CryptographicAlgorithmRSA, ttlv.CryptographicAlgorithmDSA, ttlv.CryptographicAlgorithmECDSA, ttlv.CryptographicAlgorithmEC,
		ttlv.CryptographicAlgorithmDH, ttlv.CryptographicAlgorithmECDH:
		return nil, invalid("keys of this algorithm come in pairs")
	}
	lengths := lengthsOf(alg)
	switch {
	case lengths != nil && !slices.Contains(lengths, bits), bits < 8 || bits > maxKeyBits:
		return nil, invalid("%s %d is not possible for this algorithm", attrLength, bits)
	case lengths == nil && bits%8 != 0:
		return nil, invalid("%s must be a multiple of 8", attrLength)
	}
	n := bits / 8
	switch {
	case alg == ttlv.CryptographicAlgorithmDES3 && bits == 112:
		n = 16
	case alg == ttlv.CryptographicAlgorithmDES3 && bits == 168:
		n = 24
	case alg == ttlv.CryptographicAlgorithmDES:
		n = 8
	}
	raw := make([]byte, n)
	_, err := rand.Read(raw)
	return raw, err
}

// keyNode makes the structure of a key from its block's parts.
func keyNode(tag ttlv.Tag, format uint32, material *ttlv.Node, alg uint32, bits int32) *ttlv.Node {
	block := ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, format), ttlv.Struct(ttlv.TagKeyValue, material))
	if alg != 0 {
		block.Add(ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), ttlv.Int(ttlv.TagCryptographicLength, bits))
	}
	return ttlv.Struct(tag, block)
}

func symmetricNode(raw []byte, alg uint32, bits int32) *ttlv.Node {
	return keyNode(ttlv.TagSymmetricKey, ttlv.KeyFormatTypeRaw, ttlv.Bytes(ttlv.TagKeyMaterial, raw), alg, bits)
}

// checkKey holds the material of a registered key to what is said of it.
func checkKey(o *object, format uint32, material *ttlv.Node) error {
	structured := format == ttlv.KeyFormatTypeTransparentSymmetricKey || format == ttlv.KeyFormatTypeTransparentRSAPrivateKey || format == ttlv.KeyFormatTypeTransparentRSAPublicKey
	if structured != (material.Type == ttlv.Structure) && (structured || material.Type != ttlv.Structure) {
		return invalid("Key Material is not of the kind that Key Format Type names")
	}
	if !structured && material.Type != ttlv.Structure && material.Type != ttlv.ByteString {
		return invalid("Key Material is a byte string or a structure")
	}
	if o.Type != ttlv.ObjectTypeSymmetricKey {
		return nil
	}
	raw := material.Bytes
	if format == ttlv.KeyFormatTypeTransparentSymmetricKey {
		k := material.Get(ttlv.TagKey)
		if k == nil || k.Type != ttlv.ByteString {
			return missing("Key")
		}
		raw = k.Bytes
	}
	alg, bits := uint32(o.get(attrAlgorithm).Int), o.get(attrLength).Int
	parity := alg == ttlv.CryptographicAlgorithmDES3 || alg == ttlv.CryptographicAlgorithmDES
	if int64(len(raw))*8 != bits && !(parity && int64(len(raw))*7 == bits) {
		return invalid("the key has %d bits, %s says %d", len(raw)*8, attrLength, bits)
	}
	return nil
}

// rawOf is the material of a symmetric key or of secret data.
func rawOf(node *ttlv.Node) ([]byte, error) {
	block := node.Get(ttlv.TagKeyBlock)
	format, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	if block.Get(ttlv.TagKeyWrappingData) != nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the key is wrapped")
	}
	m := block.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial)
	if m == nil {
		return nil, fail(ttlv.ResultReasonKeyValueNotPresent, "the key has no material")
	}
	if format == ttlv.KeyFormatTypeTransparentSymmetricKey {
		m = m.Get(ttlv.TagKey)
	}
	if m == nil || m.Type != ttlv.ByteString {
		return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the key is in a format that cannot be used here")
	}
	return m.Bytes, nil
}

// inFormat gives an object in the format that is asked for; 0 is as it is kept.
// compression is that of a public key's point, 0 for the usual.
func (b *batch) inFormat(o *object, node *ttlv.Node, format, compression uint32) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	if block == nil {
		return node, nil
	}
	have, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	if format == 0 {
		format = b.usual(o, have)
		if want := b.usualFor(o); want != 0 && want != format {
			if out, err := b.inFormat(o, node, want, compression); err == nil {
				return out, nil
			} // one that is wrapped, say, is given as it is
		}
	}
	compressed := compression == ttlv.KeyCompressionTypeECPublicKeyTypeX9_62CompressedPrime
	if compression > ttlv.KeyCompressionTypeECPublicKeyTypeX9_62CompressedPrime || compressed && o.Type != ttlv.ObjectTypePublicKey {
		return nil, fail(ttlv.ResultReasonKeyCompressionTypeNotSupported, "keys cannot be compressed so here")
	}
	if have == format && (compression == 0 || o.Type != ttlv.ObjectTypePublicKey) {
		return node, nil
	}
	unable := fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the object cannot be given in this format")
	alg, bits := uint32(0), int32(0)
	if n := o.get(attrAlgorithm); n != nil {
		alg = uint32(n.Int)
	}
	if n := o.get(attrLength); n != nil {
		bits = int32(n.Int)
	}
	switch o.Type {
	case ttlv.ObjectTypeSymmetricKey:
		raw, err := rawOf(node)
		if err != nil {
			return nil, err
		}
		switch format {
		case ttlv.KeyFormatTypeRaw:
			return symmetricNode(raw, alg, bits), nil
		case ttlv.KeyFormatTypeTransparentSymmetricKey:
			return keyNode(ttlv.TagSymmetricKey, format, ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Bytes(ttlv.TagKey, raw)), alg, bits), nil
		}
	case ttlv.ObjectTypePrivateKey:
		if format == ttlv.KeyFormatTypePKCS_12 {
			return b.asPKCS12(o, node, alg, bits)
		}
		key, err := privateKey(node)
		if err != nil {
			return nil, unable
		}
		if m := privateIn(key, format); m != nil {
			return keyNode(ttlv.TagPrivateKey, format, m, alg, bits), nil
		}
	case ttlv.ObjectTypePublicKey:
		key, err := publicKey(node)
		if err != nil {
			return nil, unable
		}
		if compressed && !compressible(key) {
			return nil, fail(ttlv.ResultReasonKeyCompressionTypeNotSupported, "the points of NIST's curves and of secp256k1 alone are compressed")
		}
		m := inPublic(key, format, compressed)
		if m == nil {
			break
		}
		if compression == 0 {
			return keyNode(ttlv.TagPublicKey, format, m, alg, bits), nil
		}
		block := ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, format), ttlv.Enum(ttlv.TagKeyCompressionType, compression),
			ttlv.Struct(ttlv.TagKeyValue, m), ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), ttlv.Int(ttlv.TagCryptographicLength, bits))
		return ttlv.Struct(ttlv.TagPublicKey, block), nil
	}
	return nil, unable
}

// usual is the format in which an object is given when none is asked for: as it is
// kept, but for what a client's version does not know.
func (b *batch) usual(o *object, have uint32) uint32 {
	if b.v.atLeast(1, 3) && (b.v.major >= 2 || !o.has(attrCreated)) || !newerFormat(have) {
		return have
	}
	if o.Type == ttlv.ObjectTypePublicKey {
		return ttlv.KeyFormatTypeX_509
	}
	return ttlv.KeyFormatTypeECPrivateKey
}

func compressible(key crypto.PublicKey) bool {
	switch key.(type) {
	case *ecdsa.PublicKey, koblitzPublic:
		return true
	}
	return false
}

func bytesOf(raw []byte, err error) *ttlv.Node {
	if err != nil {
		return nil
	}
	return ttlv.Bytes(ttlv.TagKeyMaterial, raw)
}

// privateIn is a private key in a format, nil where that cannot be.
func privateIn(key secretKey, format uint32) *ttlv.Node {
	if transparentPrivate(format) {
		return curvePrivate(key)
	}
	if k, ok := key.(interface {
		in(format uint32) *ttlv.Node
	}); ok {
		return k.in(format)
	}
	switch format {
	case ttlv.KeyFormatTypeRaw:
		switch k := key.(type) {
		case ed25519.PrivateKey:
			return ttlv.Bytes(ttlv.TagKeyMaterial, k.Seed())
		case *ecdh.PrivateKey:
			return ttlv.Bytes(ttlv.TagKeyMaterial, k.Bytes())
		}
	case ttlv.KeyFormatTypePKCS_8:
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		return bytesOf(raw, err)
	case ttlv.KeyFormatTypePKCS_1:
		if k, ok := key.(*rsa.PrivateKey); ok {
			return ttlv.Bytes(ttlv.TagKeyMaterial, x509.MarshalPKCS1PrivateKey(k))
		}
	case ttlv.KeyFormatTypeECPrivateKey:
		if k, ok := key.(*ecdsa.PrivateKey); ok {
			raw, err := x509.MarshalECPrivateKey(k)
			return bytesOf(raw, err)
		}
	case ttlv.KeyFormatTypeTransparentRSAPrivateKey:
		if k, ok := key.(*rsa.PrivateKey); ok && len(k.Primes) == 2 {
			k.Precompute()
			return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Big(ttlv.TagModulus, k.N), ttlv.Big(ttlv.TagPrivateExponent, k.D),
				ttlv.Big(ttlv.TagPublicExponent, big.NewInt(int64(k.E))), ttlv.Big(ttlv.TagP, k.Primes[0]), ttlv.Big(ttlv.TagQ, k.Primes[1]),
				ttlv.Big(ttlv.TagPrimeExponentP, k.Precomputed.Dp), ttlv.Big(ttlv.TagPrimeExponentQ, k.Precomputed.Dq),
				ttlv.Big(ttlv.TagCRTCoefficient, k.Precomputed.Qinv))
		}
	}
	return nil
}

func publicIn(key crypto.PublicKey, format uint32) *ttlv.Node {
	switch format {
	case ttlv.KeyFormatTypeX_509:
		raw, err := x509.MarshalPKIXPublicKey(key)
		return bytesOf(raw, err)
	case ttlv.KeyFormatTypePKCS_1:
		if k, ok := key.(*rsa.PublicKey); ok {
			return ttlv.Bytes(ttlv.TagKeyMaterial, x509.MarshalPKCS1PublicKey(k))
		}
	case ttlv.KeyFormatTypeTransparentRSAPublicKey:
		if k, ok := key.(*rsa.PublicKey); ok {
			return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Big(ttlv.TagModulus, k.N), ttlv.Big(ttlv.TagPublicExponent, big.NewInt(int64(k.E))))
		}
	}
	return nil
}

// privateKey reads a private key in the formats that are understood.
func privateKey(node *ttlv.Node) (secretKey, error) {
	unable := fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the key is in a format that cannot be used here")
	block := node.Get(ttlv.TagKeyBlock)
	format, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	m := block.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial)
	if m == nil || block.Get(ttlv.TagKeyWrappingData) != nil {
		return nil, unable
	}
	if len(m.Bytes) > maxKeyBytes {
		return nil, errLargeKey
	}
	var key any
	switch format {
	case ttlv.KeyFormatTypePKCS_1:
		key, err = x509.ParsePKCS1PrivateKey(m.Bytes)
	case ttlv.KeyFormatTypePKCS_8:
		if key, err = x509.ParsePKCS8PrivateKey(m.Bytes); err != nil {
			key, err = koblitzPKCS8(m.Bytes)
		}
		if err != nil {
			key, err = latticePKCS8(m.Bytes)
		}
	case ttlv.KeyFormatTypeECPrivateKey:
		if key, err = x509.ParseECPrivateKey(m.Bytes); err != nil {
			key, err = koblitzSEC1(m.Bytes, false)
		}
	case ttlv.KeyFormatTypeTransparentRSAPrivateKey:
		key, err = transparentRSA(m)
		if isFault(err) {
			return nil, err
		}
	case ttlv.KeyFormatTypeRaw:
		key, err = rawPrivate(block, m.Bytes)
	default:
		if !transparentPrivate(format) {
			return nil, unable
		}
		return privateOnCurve(m)
	}
	if k, ok := key.(secretKey); ok && err == nil {
		return k, fits(k.Public())
	}
	return nil, errPrivateKey
}

// rawPrivate reads a private key that is bytes alone: of Ed25519, or X25519.
func rawPrivate(block *ttlv.Node, raw []byte) (any, error) {
	alg, err := enum(block, ttlv.TagCryptographicAlgorithm)
	if l, ok := latticeOf(alg); ok && err == nil {
		return latticeFrom(l, bytes.Clone(raw))
	}
	switch {
	case err != nil:
		return nil, err
	case alg == ttlv.CryptographicAlgorithmEd25519 && len(raw) == ed25519.SeedSize:
		return ed25519.NewKeyFromSeed(raw), nil
	case alg == ttlv.CryptographicAlgorithmECDH:
		return ecdh.X25519().NewPrivateKey(raw)
	}
	return nil, errPrivateKey
}

// rawPublic reads a public key that is bytes alone: a point.
func rawPublic(block *ttlv.Node, raw []byte) (crypto.PublicKey, error) {
	alg, err := enum(block, ttlv.TagCryptographicAlgorithm)
	if err != nil {
		return nil, err
	}
	if l, ok := latticeOf(alg); ok {
		return latticePoint(l, raw)
	}
	bits := block.Get(ttlv.TagCryptographicLength)
	switch {
	case alg == ttlv.CryptographicAlgorithmEd25519 && len(raw) == ed25519.PublicKeySize:
		return ed25519.PublicKey(raw), nil
	case alg == ttlv.CryptographicAlgorithmECDH && len(raw) == 32:
		return ecdh.X25519().NewPublicKey(raw)
	case bits != nil:
		if c := map[int64]elliptic.Curve{224: elliptic.P224(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[bits.Int]; c != nil {
			if k := onCurve(c, raw); k != nil {
				return k, nil
			}
		}
		if bits.Int == 256 && len(raw) > 0 && raw[0] == 4 { // a point of which both coordinates are there is on one curve alone
			if k, err := koblitzPoint(raw); err == nil {
				return k, nil
			}
		}
	}
	return nil, fail(ttlv.ResultReasonCryptographicFailure, "the public key cannot be read")
}

// publicKey reads a public key, also that of a certificate or of a private key.
func publicKey(node *ttlv.Node) (crypto.PublicKey, error) {
	if node.Tag == ttlv.TagCertificate {
		cert, err := x509.ParseCertificate(node.Get(ttlv.TagCertificateValue).Bytes)
		if err != nil {
			return nil, fail(ttlv.ResultReasonCryptographicFailure, "the certificate cannot be read")
		}
		return cert.PublicKey, fits(cert.PublicKey)
	}
	if node.Tag == ttlv.TagPrivateKey {
		k, err := privateKey(node)
		if err != nil {
			return nil, err
		}
		return k.Public(), nil
	}
	block := node.Get(ttlv.TagKeyBlock)
	format, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	m := block.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial)
	if m == nil {
		return nil, fail(ttlv.ResultReasonKeyValueNotPresent, "the key has no material")
	}
	if len(m.Bytes) > maxKeyBytes {
		return nil, errLargeKey
	}
	var key any
	switch format {
	case ttlv.KeyFormatTypePKCS_1:
		key, err = x509.ParsePKCS1PublicKey(m.Bytes)
	case ttlv.KeyFormatTypeX_509:
		key, err = parsePKIX(m.Bytes)
	case ttlv.KeyFormatTypeRaw:
		key, err = rawPublic(block, m.Bytes)
	case ttlv.KeyFormatTypeTransparentRSAPublicKey:
		n, e := m.Get(ttlv.TagModulus), m.Get(ttlv.TagPublicExponent)
		if n == nil || e == nil || n.Type != ttlv.BigInteger || e.Type != ttlv.BigInteger || len(n.Bytes) > maxKeyBits/8+8 || !e.BigInt().IsInt64() {
			return nil, fail(ttlv.ResultReasonCryptographicFailure, "the public key cannot be read")
		}
		return &rsa.PublicKey{N: n.BigInt(), E: int(e.BigInt().Int64())}, nil
	default:
		if !transparentPublic(format) {
			return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the key is in a format that cannot be used here")
		}
		return publicOnCurve(m)
	}
	if err != nil {
		return nil, fail(ttlv.ResultReasonCryptographicFailure, "the public key cannot be read")
	}
	return key, fits(key)
}

// describeCertificate sets what a certificate says of itself.
func describeCertificate(o *object, cert *x509.Certificate) {
	for who, n := range map[string]pkix.Name{"Subject": cert.Subject, "Issuer": cert.Issuer} {
		nameParts(o, "Certificate "+who+" ", n)
	}
	name := func(attr string, tag ttlv.Tag, dn []byte, rest ...*ttlv.Node) {
		o.set(attr, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Bytes(tag, dn)).Add(rest...))
	}
	serial := cert.SerialNumber.Bytes()
	o.set(attrCertID, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Bytes(ttlv.TagIssuerDistinguishedName, cert.RawIssuer), ttlv.Bytes(ttlv.TagCertificateSerialNumber, serial)))
	name(attrCertSubject, ttlv.TagSubjectDistinguishedName, cert.RawSubject)
	name(attrCertIssuer, ttlv.TagIssuerDistinguishedName, cert.RawIssuer)
	o.set(attrOldCertID, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Text(ttlv.TagIssuer, plain(cert.Issuer.String())), ttlv.Text(ttlv.TagSerialNumber, strings.ToUpper(hex.EncodeToString(serial)))))
	o.set(attrOldSubject, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Text(ttlv.TagCertificateSubjectDistinguishedName, plain(cert.Subject.String()))))
	o.set(attrOldIssuer, ttlv.Struct(ttlv.TagAttributeValue, ttlv.Text(ttlv.TagCertificateIssuerDistinguishedName, plain(cert.Issuer.String()))))
	alg := map[x509.SignatureAlgorithm]uint32{
		x509.SHA1WithRSA: ttlv.DigitalSignatureAlgorithmSHA_1WithRSAEncryption, x509.SHA256WithRSA: ttlv.DigitalSignatureAlgorithmSHA_256WithRSAEncryption,
		x509.SHA384WithRSA: ttlv.DigitalSignatureAlgorithmSHA_384WithRSAEncryption, x509.SHA512WithRSA: ttlv.DigitalSignatureAlgorithmSHA_512WithRSAEncryption,
		x509.ECDSAWithSHA256: ttlv.DigitalSignatureAlgorithmECDSAWithSHA256, x509.ECDSAWithSHA384: ttlv.DigitalSignatureAlgorithmECDSAWithSHA384,
		x509.ECDSAWithSHA512: ttlv.DigitalSignatureAlgorithmECDSAWithSHA512,
	}[cert.SignatureAlgorithm]
	if alg != 0 {
		o.set(attrSignatureAlg, ttlv.Enum(0, alg))
	}
	if alg, bits := algorithmOf(cert.PublicKey); alg != 0 {
		setMissing(o, alg, int(bits))
	}
}

// algorithmOf tells what a key is; 0 where that is not known.
func algorithmOf(key crypto.PublicKey) (alg uint32, bits int32) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return ttlv.CryptographicAlgorithmRSA, int32(k.N.BitLen())
	case *ecdsa.PublicKey:
		return ttlv.CryptographicAlgorithmECDSA, int32(k.Curve.Params().BitSize)
	case koblitzPublic:
		return ttlv.CryptographicAlgorithmECDSA, 256
	case latticePublic:
		return k.alg, int32(8 * k.public)
	case ed25519.PublicKey:
		return ttlv.CryptographicAlgorithmEd25519, 256
	case *ecdh.PublicKey:
		return ttlv.CryptographicAlgorithmECDH, 256
	}
	return 0, 0
}

// nameParts sets the parts of a name, which KMIP 2 has as attributes of their own.
func nameParts(o *object, prefix string, n pkix.Name) {
	parts := map[string]string{
		"2.5.4.3": "CN", "2.5.4.10": "O", "2.5.4.11": "OU", "1.2.840.113549.1.9.1": "Email", "2.5.4.6": "C", "2.5.4.8": "ST", "2.5.4.7": "L",
		"0.9.2342.19200300.100.1.1": "UID", "2.5.4.5": "SerialNumber", "2.5.4.12": "Title", "0.9.2342.19200300.100.1.25": "DC", "2.5.4.46": "DNQualifier",
	}
	for _, a := range n.Names {
		part, known := parts[a.Type.String()]
		text, ok := a.Value.(string)
		if !known || !ok {
			continue
		}
		v := newAttribute(prefix+part, ttlv.Text(0, plain(text)))
		v.Index = o.nextIndex(v.Name)
		o.Attrs = append(o.Attrs, v)
	}
}

func setMissing(o *object, alg uint32, bits int) {
	if !o.has(attrAlgorithm) {
		o.set(attrAlgorithm, ttlv.Enum(0, alg))
	}
	if !o.has(attrLength) {
		o.set(attrLength, ttlv.Int(0, int32(bits)))
	}
}

// plain is a text without what the encoding of KMIP has no room for.
func plain(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?") }
