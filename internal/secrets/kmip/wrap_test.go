package kmip_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"arca/internal/pkcs12"
	"arca/internal/ttlv"
)

func params(parts ...*ttlv.Node) *ttlv.Node {
	return ttlv.Struct(ttlv.TagCryptographicParameters, parts...)
}

func mode(m uint32) *ttlv.Node { return ttlv.Enum(ttlv.TagBlockCipherMode, m) }

// active makes a key that may be used for everything.
func (c *client) active(alg uint32, bits int32, mask uint32) string {
	c.t.Helper()
	id := c.must(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagTemplateAttribute,
		attr("Cryptographic Algorithm", ttlv.Enum(0, alg)), attr("Cryptographic Length", ttlv.Int(0, bits)), attr("Cryptographic Usage Mask", ttlv.Int(0, int32(mask))),
		attr("Activation Date", ttlv.Time(0, time.Now().Add(-time.Minute))))).Get(ttlv.TagUniqueIdentifier).Text()
	return id
}

// A key leaves under others in every way that there is, and comes back the same; what
// was changed on the way does not.
func TestWrapping(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	wraps := ttlv.MaskWrapKey | ttlv.MaskUnwrapKey | ttlv.MaskMACGenerate | ttlv.MaskMACVerify
	kek, macKey := c.active(ttlv.CryptographicAlgorithmAES, 256, wraps), c.active(ttlv.CryptographicAlgorithmHMACSHA256, 256, wraps)
	des := c.active(ttlv.CryptographicAlgorithmDES3, 168, wraps)
	pair := c.must(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmRSA)),
		attr("Cryptographic Length", ttlv.Int(0, 2048)), attr("Activation Date", ttlv.Time(0, time.Now().Add(-time.Minute)))),
		ttlv.Struct(ttlv.TagPrivateKeyTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskUnwrapKey|ttlv.MaskSign)))),
		ttlv.Struct(ttlv.TagPublicKeyTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskWrapKey|ttlv.MaskVerify)))))
	private, public := pair.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text(), pair.Get(ttlv.TagPublicKeyUniqueIdentifier).Text()
	id := c.create(attr("Sensitive", ttlv.Bool(0, true)))
	open := c.create()
	material := func(id string, more ...*ttlv.Node) []byte {
		return c.must(ttlv.OperationGet, append([]*ttlv.Node{uid(id)}, more...)...).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	}
	want := material(open)
	cbc := params(mode(ttlv.BlockCipherModeCBC), ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodPKCS5))
	oaep := params(ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodOAEP), ttlv.Enum(ttlv.TagHashingAlgorithm, ttlv.HashingAlgorithmSHA_256))
	none := ttlv.Enum(ttlv.TagEncodingOption, ttlv.EncodingOptionNoEncoding)
	by := func(tag ttlv.Tag, id string, p *ttlv.Node) *ttlv.Node { return ttlv.Struct(tag, uid(id), p) }
	n := 0
	for _, x := range []struct {
		name         string
		method       uint32
		enc, dec     string
		params       *ttlv.Node
		sign, verify string
		option       *ttlv.Node
	}{
		{"by default", ttlv.WrappingMethodEncrypt, kek, kek, nil, "", "", nil},
		{"NIST", ttlv.WrappingMethodEncrypt, kek, kek, params(mode(ttlv.BlockCipherModeNISTKeyWrap)), "", "", none},
		{"padded", ttlv.WrappingMethodEncrypt, kek, kek, params(mode(ttlv.BlockCipherModeAESKeyWrapPadding)), "", "", none},
		{"CBC", ttlv.WrappingMethodEncrypt, kek, kek, cbc, "", "", nil},
		{"GCM", ttlv.WrappingMethodEncrypt, kek, kek, params(mode(ttlv.BlockCipherModeGCM)), "", "", none},
		{"3DES", ttlv.WrappingMethodEncrypt, des, des, cbc, "", "", none},
		{"RSA", ttlv.WrappingMethodEncrypt, public, private, oaep, "", "", none},
		{"RSA PKCS1", ttlv.WrappingMethodEncrypt, public, private, params(ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodPKCS1V1_5)), "", "", nil},
		{"with a MAC", ttlv.WrappingMethodEncryptThenMACSign, kek, kek, cbc, macKey, macKey, none},
		{"MAC first", ttlv.WrappingMethodMACSignThenEncrypt, kek, kek, cbc, macKey, macKey, nil},
		{"signed", ttlv.WrappingMethodEncryptThenMACSign, kek, kek, nil, private, public, nil},
	} {
		spec := ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, x.method), by(ttlv.TagEncryptionKeyInformation, x.enc, x.params))
		if x.sign != "" {
			spec.Add(by(ttlv.TagMACSignatureKeyInformation, x.sign, nil))
		}
		spec.Add(x.option)
		for _, source := range []string{id, open} {
			node := c.must(ttlv.OperationGet, uid(source), spec).Get(ttlv.TagSymmetricKey)
			data := node.Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyWrappingData)
			value := node.Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue)
			if value.Type != ttlv.ByteString || bytes.Contains(value.Bytes, want) {
				t.Errorf("%s: the key is there in clear", x.name)
			}
			// Under the keys that undo it.
			back := ttlv.Struct(ttlv.TagKeyWrappingData)
			undo := map[ttlv.Tag]*ttlv.Node{
				ttlv.TagEncryptionKeyInformation:   by(ttlv.TagEncryptionKeyInformation, x.dec, x.params),
				ttlv.TagMACSignatureKeyInformation: by(ttlv.TagMACSignatureKeyInformation, x.verify, nil),
			}
			for _, f := range data.Children {
				if with, ok := undo[f.Tag]; ok {
					f = with
				}
				back.Add(f)
			}
			take := func(sealed []byte) (string, *ttlv.Node, uint32) {
				n++
				name := fmt.Sprintf("imported-%d", n)
				block := ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeRaw), ttlv.Bytes(ttlv.TagKeyValue, sealed),
					ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 256), back)
				out, r := c.do(ttlv.OperationImport, uid(name), ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Enum(ttlv.TagKeyWrapType, ttlv.KeyWrapTypeNotWrapped),
					attr("Cryptographic Usage Mask", ttlv.Int(0, 12)), ttlv.Struct(ttlv.TagSymmetricKey, block))
				return name, out, r
			}
			got, out, r := take(value.Bytes)
			if r != 0 {
				t.Errorf("%s: import: %d: %s", x.name, r, out.Get(ttlv.TagResultMessage).Text())
				continue
			}
			if source == open && !bytes.Equal(material(got), want) {
				t.Errorf("%s: another key comes back", x.name)
			}
			changed := bytes.Clone(value.Bytes)
			changed[len(changed)-1] ^= 0x40
			if _, _, r := take(changed); r == 0 && x.name != "CBC" && x.name != "3DES" { // which have nothing to notice it by
				t.Errorf("%s: a changed key is taken", x.name)
			}
		}
	}
	// A MAC alone leaves the key in clear: not a sensitive one.
	spec := ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, ttlv.WrappingMethodMACSign), by(ttlv.TagMACSignatureKeyInformation, macKey, nil))
	if _, r := c.do(ttlv.OperationGet, uid(id), spec); r != ttlv.ResultReasonSensitive {
		t.Errorf("a sensitive key with a MAC: %d", r)
	}
	if !bytes.Equal(material(open, spec), want) {
		t.Error("a key with a MAC is another")
	}
	for what, x := range map[string]struct {
		spec *ttlv.Node
		want uint32
	}{
		"ECB":        {ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 1), by(ttlv.TagEncryptionKeyInformation, kek, params(mode(ttlv.BlockCipherModeECB)))), ttlv.ResultReasonFeatureNotSupported},
		"TR-31":      {ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 5), by(ttlv.TagEncryptionKeyInformation, kek, nil)), ttlv.ResultReasonFeatureNotSupported},
		"a stranger": {ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 1), by(ttlv.TagEncryptionKeyInformation, "none", nil)), ttlv.ResultReasonItemNotFound},
		"not for it": {ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 1), by(ttlv.TagEncryptionKeyInformation, open, nil)), ttlv.ResultReasonPermissionDenied},
		"no MAC key": {ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 3), by(ttlv.TagEncryptionKeyInformation, kek, nil)), ttlv.ResultReasonInvalidField},
	} {
		if out, r := c.do(ttlv.OperationGet, uid(open), x.spec); r != x.want {
			t.Errorf("%s: %d (%s), want %d", what, r, out.Get(ttlv.TagResultMessage).Text(), x.want)
		}
	}
}

func block(format uint32, material *ttlv.Node, alg uint32, bits int32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, format), ttlv.Struct(ttlv.TagKeyValue, material),
		ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), ttlv.Int(ttlv.TagCryptographicLength, bits))
}

func masked(m uint32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(m))), attr("Activation Date", ttlv.Time(0, time.Now().Add(-time.Minute))))
}

// Keys on curves in all formats; one in parts signs like one as a whole.
func TestCurveFormats(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	curves := map[uint32]elliptic.Curve{ttlv.RecommendedCurveP_256: elliptic.P256(), ttlv.RecommendedCurveP_384: elliptic.P384(), ttlv.RecommendedCurveP_521: elliptic.P521()}
	for number, curve := range curves {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		bits := int32(curve.Params().BitSize)
		parts := ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, number), ttlv.Big(ttlv.TagD, new(big.Int).SetBytes(d)))
		private := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePrivateKey), masked(ttlv.MaskSign),
			ttlv.Struct(ttlv.TagPrivateKey, block(ttlv.KeyFormatTypeTransparentECDSAPrivateKey, parts, ttlv.CryptographicAlgorithmECDSA, bits))).Get(ttlv.TagUniqueIdentifier).Text()
		compressed := ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, number), ttlv.Bytes(ttlv.TagQString, elliptic.MarshalCompressed(curve, key.X, key.Y)))
		public := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePublicKey), masked(ttlv.MaskVerify),
			ttlv.Struct(ttlv.TagPublicKey, block(ttlv.KeyFormatTypeTransparentECPublicKey, compressed, ttlv.CryptographicAlgorithmECDSA, bits))).Get(ttlv.TagUniqueIdentifier).Text()
		sig := c.must(ttlv.OperationSign, uid(private), ttlv.Bytes(ttlv.TagData, []byte("x"))).Get(ttlv.TagSignatureData)
		if v := c.must(ttlv.OperationSignatureVerify, uid(public), ttlv.Bytes(ttlv.TagData, []byte("x")), sig).Get(ttlv.TagValidityIndicator).Int; uint32(v) != ttlv.ValidityIndicatorValid {
			t.Errorf("P-%d: a signature by a key in parts is not valid", bits)
		}
		inFormat := func(id string, tag ttlv.Tag, format uint32, more ...*ttlv.Node) *ttlv.Node {
			return c.must(ttlv.OperationGet, append([]*ttlv.Node{uid(id), ttlv.Enum(ttlv.TagKeyFormatType, format)}, more...)...).Get(tag).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial)
		}
		if k, err := x509.ParseECPrivateKey(inFormat(private, ttlv.TagPrivateKey, ttlv.KeyFormatTypeECPrivateKey).Bytes); err != nil || !k.Equal(key) {
			t.Errorf("P-%d in SEC 1: %v", bits, err)
		}
		if n := inFormat(private, ttlv.TagPrivateKey, ttlv.KeyFormatTypeTransparentECPrivateKey); n.Get(ttlv.TagD).BigInt().Cmp(new(big.Int).SetBytes(d)) != 0 {
			t.Errorf("P-%d in parts: %v", bits, n)
		}
		whole, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if k, err := x509.ParsePKIXPublicKey(inFormat(public, ttlv.TagPublicKey, ttlv.KeyFormatTypeX_509).Bytes); err != nil || !key.PublicKey.Equal(k) {
			t.Errorf("P-%d in X.509: %v", bits, err)
		}
		if got := inFormat(public, ttlv.TagPublicKey, ttlv.KeyFormatTypeRaw).Bytes; !bytes.Equal(got, whole) {
			t.Errorf("P-%d as a point: %x", bits, got)
		}
		small := ttlv.Enum(ttlv.TagKeyCompressionType, ttlv.KeyCompressionTypeECPublicKeyTypeX9_62CompressedPrime)
		if got := inFormat(public, ttlv.TagPublicKey, ttlv.KeyFormatTypeTransparentECPublicKey, small).Get(ttlv.TagQString).Bytes; !bytes.Equal(got, compressed.Get(ttlv.TagQString).Bytes) {
			t.Errorf("P-%d compressed: %x", bits, got)
		}
		again := inFormat(public, ttlv.TagPublicKey, ttlv.KeyFormatTypeX_509, small)
		id := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePublicKey), masked(ttlv.MaskVerify),
			ttlv.Struct(ttlv.TagPublicKey, block(ttlv.KeyFormatTypeX_509, again, ttlv.CryptographicAlgorithmECDSA, bits))).Get(ttlv.TagUniqueIdentifier).Text()
		if got := inFormat(id, ttlv.TagPublicKey, ttlv.KeyFormatTypeRaw).Bytes; !bytes.Equal(got, whole) {
			t.Errorf("P-%d by a compressed X.509: %x", bits, got)
		}
		if _, r := c.do(ttlv.OperationGet, uid(public), ttlv.Enum(ttlv.TagKeyCompressionType, ttlv.KeyCompressionTypeECPublicKeyTypeX9_62Hybrid)); r != ttlv.ResultReasonKeyCompressionTypeNotSupported {
			t.Errorf("hybrid: %d", r)
		}
	}
}

// X25519 agrees, Ed25519 signs; what an old client gets of a new one's key it can read.
func TestCurve25519(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	old.ver = [2]int32{1, 2}
	pair := func(alg uint32, domain *ttlv.Node, private, public uint32) (string, string) {
		t.Helper()
		out := c.must(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), domain, ttlv.Time(ttlv.TagActivationDate, time.Now().Add(-time.Minute))),
			ttlv.Struct(ttlv.TagPrivateKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(private))), ttlv.Struct(ttlv.TagPublicKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(public))))
		return out.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text(), out.Get(ttlv.TagPublicKeyUniqueIdentifier).Text()
	}
	domain := func(curve uint32) *ttlv.Node {
		return ttlv.Struct(ttlv.TagCryptographicDomainParameters, ttlv.Enum(ttlv.TagRecommendedCurve, curve))
	}
	derive := func(private, public string) []byte {
		id := c.must(ttlv.OperationDeriveKey, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), uid(private), uid(public),
			ttlv.Enum(ttlv.TagDerivationMethod, ttlv.DerivationMethodAsymmetricKey), ttlv.Struct(ttlv.TagDerivationParameters), ttlv.Struct(ttlv.TagAttributes,
				ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicUsageMask, 12)))
		return c.must(ttlv.OperationGet, id.Get(ttlv.TagUniqueIdentifier)).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	}
	a, aPub := pair(ttlv.CryptographicAlgorithmECDH, domain(ttlv.RecommendedCurveCURVE25519), ttlv.MaskDeriveKey, ttlv.MaskDeriveKey)
	b, bPub := pair(ttlv.CryptographicAlgorithmECDH, domain(ttlv.RecommendedCurveCURVE25519), ttlv.MaskDeriveKey, ttlv.MaskDeriveKey)
	if one, two := derive(a, bPub), derive(b, aPub); !bytes.Equal(one, two) || len(one) != 32 {
		t.Errorf("%x and %x", one, two)
	}
	c.fails(ttlv.ResultReasonPermissionDenied, ttlv.OperationSign, uid(a), ttlv.Bytes(ttlv.TagData, []byte("x")))
	ed, edPub := pair(ttlv.CryptographicAlgorithmEd25519, nil, ttlv.MaskSign, ttlv.MaskVerify)
	sig := c.must(ttlv.OperationSign, uid(ed), ttlv.Bytes(ttlv.TagData, []byte("x"))).Get(ttlv.TagSignatureData)
	if v := c.must(ttlv.OperationSignatureVerify, uid(edPub), ttlv.Bytes(ttlv.TagData, []byte("x")), sig).Get(ttlv.TagValidityIndicator).Int; uint32(v) != ttlv.ValidityIndicatorValid {
		t.Error("Ed25519 does not verify")
	}
	private, public := pair(ttlv.CryptographicAlgorithmEC, domain(ttlv.RecommendedCurveP_256), ttlv.MaskSign, ttlv.MaskVerify)
	for who, want := range map[*client][2]uint32{
		c: {ttlv.KeyFormatTypeTransparentECPrivateKey, ttlv.KeyFormatTypeTransparentECPublicKey}, old: {ttlv.KeyFormatTypeECPrivateKey, ttlv.KeyFormatTypeX_509},
	} {
		one := who.must(ttlv.OperationGet, uid(private)).Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyFormatType).Int
		two := who.must(ttlv.OperationGet, uid(public)).Get(ttlv.TagPublicKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyFormatType).Int
		if got := [2]uint32{uint32(one), uint32(two)}; got != want {
			t.Errorf("KMIP %v gets a pair in the formats %v, want %v", who.ver, got, want)
		}
	}
}

// An RSA key is taken by any parts that suffice.
func TestPartsOfRSA(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n, e, d := ttlv.Big(ttlv.TagModulus, key.N), ttlv.Big(ttlv.TagPublicExponent, big.NewInt(int64(key.E))), ttlv.Big(ttlv.TagPrivateExponent, key.D)
	p, q := ttlv.Big(ttlv.TagP, key.Primes[0]), ttlv.Big(ttlv.TagQ, key.Primes[1])
	wrong := ttlv.Big(ttlv.TagPrivateExponent, new(big.Int).Add(key.D, big.NewInt(2)))
	for what, x := range map[string]struct {
		parts []*ttlv.Node
		good  bool
	}{
		"exponents": {[]*ttlv.Node{n, d, e}, true}, "private exponent": {[]*ttlv.Node{n, d}, true}, "primes": {[]*ttlv.Node{e, p, q}, true},
		"primes and private exponent": {[]*ttlv.Node{d, p, q}, true}, "a prime": {[]*ttlv.Node{n, e, p}, true}, "modulus": {[]*ttlv.Node{n, e}, false},
		"a wrong exponent": {[]*ttlv.Node{n, wrong, e}, false}, "nothing": {nil, false},
	} {
		id := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePrivateKey), masked(ttlv.MaskSign),
			ttlv.Struct(ttlv.TagPrivateKey, block(ttlv.KeyFormatTypeTransparentRSAPrivateKey, ttlv.Struct(ttlv.TagKeyMaterial, x.parts...), ttlv.CryptographicAlgorithmRSA, 2048)))
		out, r := c.do(ttlv.OperationGet, id.Get(ttlv.TagUniqueIdentifier), ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypePKCS_1))
		if (r == 0) != x.good {
			t.Errorf("%s: reason %d", what, r)
			continue
		}
		if r != 0 {
			continue
		}
		k, err := x509.ParsePKCS1PrivateKey(out.Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes)
		if err != nil || k.N.Cmp(key.N) != 0 || k.D.Cmp(key.D) != 0 { // the primes may come in another order
			t.Errorf("%s: another key: %v", what, err)
		}
	}
}

// A key with its certificates as one file, in and out, under a password of the scope.
func TestPKCS12(t *testing.T) {
	t.Parallel()
	c, _ := v2(t, all)
	theirs := newElsewhere(t)
	pair := theirs.client(t, elsewhereName())
	raw, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	file, err := (&pkcs12.Bundle{Key: raw, Certs: []*x509.Certificate{leaf, theirs.cert}, Name: "alias"}).Encode([]byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	password := func(text string) string {
		return c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSecretData), ttlv.Struct(ttlv.TagAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskDeriveKey))),
			ttlv.Struct(ttlv.TagSecretData, ttlv.Enum(ttlv.TagSecretDataType, ttlv.SecretDataTypePassword), ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeOpaque),
				ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, []byte(text)))))).Get(ttlv.TagUniqueIdentifier).Text()
	}
	register := func(by string) (*ttlv.Node, uint32) {
		return c.do(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePrivateKey), ttlv.Struct(ttlv.TagAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskSign)),
			ttlv.Struct(ttlv.TagLink, ttlv.Enum(ttlv.TagLinkType, ttlv.LinkTypePKCS_12PasswordLink), ttlv.Text(ttlv.TagLinkedObjectIdentifier, by))),
			ttlv.Struct(ttlv.TagPrivateKey, ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypePKCS_12), ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, file)))))
	}
	word, other := password("word"), password("else")
	if _, r := register(word); r != ttlv.ResultReasonWrongKeyLifecycleState {
		t.Errorf("by a password that is not active: %d", r)
	}
	c.must(ttlv.OperationActivate, uid(word))
	c.must(ttlv.OperationActivate, uid(other))
	if _, r := register(other); r != ttlv.ResultReasonBadPassword {
		t.Errorf("by another password: %d", r)
	}
	if n := len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)); n != 2 {
		t.Errorf("%d objects after what failed", n)
	}
	out, r := register(word)
	if r != 0 {
		t.Fatalf("register: %d %s", r, out.Get(ttlv.TagResultMessage).Text())
	}
	id := out.Get(ttlv.TagUniqueIdentifier)
	if got := c.must(ttlv.OperationGet, id).Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock); uint32(got.Get(ttlv.TagKeyFormatType).Int) != ttlv.KeyFormatTypePKCS_8 ||
		!bytes.Equal(got.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes, raw) {
		t.Errorf("the key is kept as %v", got)
	}
	if n := len(c.must(ttlv.OperationLocate, ttlv.Struct(ttlv.TagAttributes, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeCertificate))).All(ttlv.TagUniqueIdentifier)); n != 2 {
		t.Errorf("%d certificates", n)
	}
	again := c.must(ttlv.OperationGet, id, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypePKCS_12)).Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	b, err := pkcs12.Decode(again, []byte("word"))
	if err != nil || !bytes.Equal(b.Key, raw) || b.Name != "alias" || len(b.Certs) != 2 || !b.Certs[0].Equal(leaf) || !b.Certs[1].Equal(theirs.cert) {
		t.Errorf("%+v %v", b, err)
	}
}

// Hashes and MACs of the whole families, as the standard library has them.
func TestHashes(t *testing.T) {
	t.Parallel()
	c, _ := v2(t, all)
	data := []byte("abc")
	for alg, want := range map[uint32][]byte{
		ttlv.HashingAlgorithmSHA_512_224: first(sha512.Sum512_224(data)), ttlv.HashingAlgorithmSHA_512_256: first(sha512.Sum512_256(data)),
		ttlv.HashingAlgorithmSHA3_224: first(sha3.Sum224(data)), ttlv.HashingAlgorithmSHA3_512: first(sha3.Sum512(data)),
	} {
		got := c.must(ttlv.OperationHash, params(ttlv.Enum(ttlv.TagHashingAlgorithm, alg)), ttlv.Bytes(ttlv.TagData, data)).Get(ttlv.TagData).Bytes
		if !bytes.Equal(got, want) {
			t.Errorf("hash %d: %x", alg, got)
		}
	}
	for alg, size := range map[uint32]int{
		ttlv.CryptographicAlgorithmHMACSHA3_224: 28, ttlv.CryptographicAlgorithmHMACSHA3_256: 32, ttlv.CryptographicAlgorithmHMACSHA3_384: 48, ttlv.CryptographicAlgorithmHMACSHA3_512: 64,
	} {
		id := c.must(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg),
			ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskMACGenerate|ttlv.MaskMACVerify)),
			ttlv.Time(ttlv.TagActivationDate, time.Now().Add(-time.Minute)))).Get(ttlv.TagUniqueIdentifier)
		sum := c.must(ttlv.OperationMAC, id, ttlv.Bytes(ttlv.TagData, data)).Get(ttlv.TagMACData)
		if len(sum.Bytes) != size || uint32(c.must(ttlv.OperationMACVerify, id, ttlv.Bytes(ttlv.TagData, data), sum).Get(ttlv.TagValidityIndicator).Int) != ttlv.ValidityIndicatorValid {
			t.Errorf("HMAC %d: %d bytes", alg, len(sum.Bytes))
		}
	}
}

func first[A [28]byte | [32]byte | [64]byte](a A) []byte {
	var out []byte
	switch a := any(a).(type) {
	case [28]byte:
		out = a[:]
	case [32]byte:
		out = a[:]
	case [64]byte:
		out = a[:]
	}
	return out
}
