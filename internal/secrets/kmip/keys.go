package kmip

import (
	"crypto"
	"crypto/ecdsa"
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

// newSymmetric makes the material of a key.
func newSymmetric(alg uint32, bits int64) ([]byte, error) {
	lengths := map[uint32][]int64{
		ttlv.CryptographicAlgorithmAES: {128, 192, 256}, ttlv.CryptographicAlgorithmDES3: {112, 128, 168, 192}, ttlv.CryptographicAlgorithmDES: {56, 64},
		ttlv.CryptographicAlgorithmChaCha20: {256}, ttlv.CryptographicAlgorithmChaCha20Poly1305: {256}, ttlv.CryptographicAlgorithmSKIPJACK: {80},
		ttlv.CryptographicAlgorithmCamellia: {128, 192, 256}, ttlv.CryptographicAlgorithmSEED: {128}, ttlv.CryptographicAlgorithmIDEA: {128},
	}[alg]
	switch {
	case slices.Contains([]uint32{
		ttlv.CryptographicAlgorithmRSA, ttlv.CryptographicAlgorithmDSA, ttlv.CryptographicAlgorithmECDSA, ttlv.CryptographicAlgorithmEC,
		ttlv.CryptographicAlgorithmDH, ttlv.CryptographicAlgorithmECDH,
	}, alg):
		return nil, invalid("keys of this algorithm come in pairs")
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
func (b *batch) inFormat(o *object, node *ttlv.Node, format uint32) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	if format == 0 || block == nil {
		return node, nil
	}
	have, err := enum(block, ttlv.TagKeyFormatType)
	if err != nil || have == format {
		return node, err
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
		if m := publicIn(key, format); m != nil {
			return keyNode(ttlv.TagPublicKey, format, m, alg, bits), nil
		}
	}
	return nil, unable
}

func bytesOf(tag ttlv.Tag, raw []byte, err error) *ttlv.Node {
	if err != nil {
		return nil
	}
	return ttlv.Bytes(tag, raw)
}

// privateIn is a private key in a format, nil where that cannot be.
func privateIn(key crypto.Signer, format uint32) *ttlv.Node {
	switch format {
	case ttlv.KeyFormatTypePKCS_8:
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		return bytesOf(ttlv.TagKeyMaterial, raw, err)
	case ttlv.KeyFormatTypePKCS_1:
		if k, ok := key.(*rsa.PrivateKey); ok {
			return ttlv.Bytes(ttlv.TagKeyMaterial, x509.MarshalPKCS1PrivateKey(k))
		}
	case ttlv.KeyFormatTypeECPrivateKey:
		if k, ok := key.(*ecdsa.PrivateKey); ok {
			raw, err := x509.MarshalECPrivateKey(k)
			return bytesOf(ttlv.TagKeyMaterial, raw, err)
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
		return bytesOf(ttlv.TagKeyMaterial, raw, err)
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
func privateKey(node *ttlv.Node) (crypto.Signer, error) {
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
		key, err = x509.ParsePKCS8PrivateKey(m.Bytes)
	case ttlv.KeyFormatTypeECPrivateKey:
		key, err = x509.ParseECPrivateKey(m.Bytes)
	case ttlv.KeyFormatTypeTransparentRSAPrivateKey:
		return transparentRSA(m)
	default:
		return nil, unable
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return signer, fits(signer.Public())
	}
	return nil, fail(ttlv.ResultReasonCryptographicFailure, "the private key cannot be read")
}

func transparentRSA(m *ttlv.Node) (crypto.Signer, error) {
	num := func(tag ttlv.Tag) *big.Int {
		if n := m.Get(tag); n != nil && n.Type == ttlv.BigInteger && len(n.Bytes) <= maxKeyBits/8+8 {
			return n.BigInt()
		}
		return nil
	}
	n, d, e, p, q := num(ttlv.TagModulus), num(ttlv.TagPrivateExponent), num(ttlv.TagPublicExponent), num(ttlv.TagP), num(ttlv.TagQ)
	if n == nil || d == nil || e == nil || p == nil || q == nil || !e.IsInt64() {
		return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "a transparent RSA key is used with modulus, exponents and primes")
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())}, D: d, Primes: []*big.Int{p, q}}
	if k.Validate() != nil {
		return nil, fail(ttlv.ResultReasonCryptographicFailure, "the private key is not consistent")
	}
	k.Precompute()
	return k, nil
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
		key, err = x509.ParsePKIXPublicKey(m.Bytes)
	case ttlv.KeyFormatTypeTransparentRSAPublicKey:
		n, e := m.Get(ttlv.TagModulus), m.Get(ttlv.TagPublicExponent)
		if n == nil || e == nil || n.Type != ttlv.BigInteger || e.Type != ttlv.BigInteger || len(n.Bytes) > maxKeyBits/8+8 || !e.BigInt().IsInt64() {
			return nil, fail(ttlv.ResultReasonCryptographicFailure, "the public key cannot be read")
		}
		return &rsa.PublicKey{N: n.BigInt(), E: int(e.BigInt().Int64())}, nil
	default:
		return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the key is in a format that cannot be used here")
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
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		setMissing(o, ttlv.CryptographicAlgorithmRSA, k.N.BitLen())
	case *ecdsa.PublicKey:
		setMissing(o, ttlv.CryptographicAlgorithmECDSA, k.Curve.Params().BitSize)
	}
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
