package kmip

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"slices"

	"arca/internal/ttlv"
)

// Keys that leave the server, or come to it, under other keys (KMIP 1.4, sections 2.1.5
// and 2.1.6): encrypted, with a MAC or a signature, or both, in either order.

// wrap protects the material of a key by other keys, as a Key Wrapping
// Specification says.
func (b *batch) wrap(o *object, node, spec *ttlv.Node) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	if block == nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "objects of this type are not wrapped")
	}
	if block.Get(ttlv.TagKeyWrappingData) != nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the key is wrapped already")
	}
	method, err := wrappingMethod(spec)
	if err != nil {
		return nil, err
	}
	if o.truth(attrSensitive) && method == ttlv.WrappingMethodMACSign {
		return nil, fail(ttlv.ResultReasonSensitive, "the object is sensitive: it leaves the server encrypted only")
	}
	plain, err := b.toWrap(o, block.Get(ttlv.TagKeyValue), spec)
	if err != nil {
		return nil, err
	}
	info, by := spec.Get(ttlv.TagEncryptionKeyInformation), spec.Get(ttlv.TagMACSignatureKeyInformation)
	var proof, iv []byte
	value, sealed := block.Get(ttlv.TagKeyValue), plain
	if method == ttlv.WrappingMethodMACSign || method == ttlv.WrappingMethodMACSignThenEncrypt {
		if proof, err = b.proof(by, plain); err != nil {
			return nil, err
		}
	}
	if method != ttlv.WrappingMethodMACSign {
		if sealed, iv, err = b.sealKey(info, plain); err != nil {
			return nil, err
		}
		value = ttlv.Bytes(ttlv.TagKeyValue, sealed)
	}
	if method == ttlv.WrappingMethodEncryptThenMACSign {
		if proof, err = b.proof(by, sealed); err != nil {
			return nil, err
		}
	}
	data := ttlv.Struct(ttlv.TagKeyWrappingData, ttlv.Enum(ttlv.TagWrappingMethod, method))
	if method != ttlv.WrappingMethodMACSign {
		data.Add(info)
	}
	if method != ttlv.WrappingMethodEncrypt {
		data.Add(by)
	}
	if proof != nil {
		data.Add(ttlv.Bytes(ttlv.TagMACSignature, proof))
	}
	if iv != nil {
		data.Add(ttlv.Bytes(ttlv.TagIVCounterNonce, iv))
	}
	if b.v.atLeast(1, 1) {
		data.Add(spec.Get(ttlv.TagEncodingOption))
	}
	out := ttlv.Struct(ttlv.TagKeyBlock, block.Get(ttlv.TagKeyFormatType), value,
		block.Get(ttlv.TagCryptographicAlgorithm), block.Get(ttlv.TagCryptographicLength), data)
	return withBlock(node, block, out), nil
}

// withBlock is the structure of a key with another key block.
func withBlock(node, old, fresh *ttlv.Node) *ttlv.Node {
	out := ttlv.Struct(node.Tag)
	for _, c := range node.Children {
		if c == old {
			c = fresh
		}
		out.Add(c)
	}
	return out
}

func wrappingMethod(spec *ttlv.Node) (uint32, error) {
	m, err := enum(spec, ttlv.TagWrappingMethod)
	switch {
	case err != nil:
		return 0, err
	case m == 0:
		return 0, missing("Wrapping Method")
	case m > ttlv.WrappingMethodMACSignThenEncrypt:
		return 0, fail(ttlv.ResultReasonFeatureNotSupported, "keys are encrypted, or have a MAC or a signature, or both; there is no other wrapping method")
	}
	return m, nil
}

// toWrap is what is encrypted, or signed, of a key.
func (b *batch) toWrap(o *object, value, spec *ttlv.Node) ([]byte, error) {
	option, err := enum(spec, ttlv.TagEncodingOption)
	if err != nil {
		return nil, err
	}
	names := spec.All(ttlv.TagAttributeName)
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n.Text()] {
			return nil, fail(ttlv.ResultReasonInvalidMessage, "an attribute is named twice")
		}
		seen[n.Text()] = true
	}
	if option == ttlv.EncodingOptionNoEncoding {
		if len(names) > 0 {
			return nil, fail(ttlv.ResultReasonEncodingOptionError, "attributes are wrapped with TTLV Encoding only")
		}
		m := value.Get(ttlv.TagKeyMaterial)
		if m == nil || m.Type != ttlv.ByteString {
			return nil, fail(ttlv.ResultReasonEncodingOptionError, "a key in a transparent format is wrapped with TTLV Encoding only")
		}
		return m.Bytes, nil
	}
	v := ttlv.Struct(ttlv.TagKeyValue, value.Get(ttlv.TagKeyMaterial))
	visible := o.visible(b.v, b.now)
	for _, n := range names {
		for _, a := range visible {
			if a.Name == n.Text() {
				v.Add(a.show())
			}
		}
	}
	if v.Size() > maxMessage {
		return nil, fail(ttlv.ResultReasonResponseTooLarge, "the key with these attributes is too large to be wrapped")
	}
	return v.Encode(), nil
}

// unwrapped is the structure of a key without its wrapping.
func (b *batch) unwrapped(node *ttlv.Node) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	data := block.Get(ttlv.TagKeyWrappingData)
	if data == nil {
		return node, nil
	}
	method, err := wrappingMethod(data)
	if err != nil {
		return nil, err
	}
	option, err := enum(data, ttlv.TagEncodingOption)
	if err != nil {
		return nil, err
	}
	value := block.Get(ttlv.TagKeyValue)
	info, by := data.Get(ttlv.TagEncryptionKeyInformation), data.Get(ttlv.TagMACSignatureKeyInformation)
	var plain []byte
	switch {
	case value == nil:
		return nil, missing("Key Value")
	case method == ttlv.WrappingMethodMACSign && value.Type == ttlv.Structure && option == ttlv.EncodingOptionNoEncoding:
		plain = bytesField(value, ttlv.TagKeyMaterial)
	case method == ttlv.WrappingMethodMACSign && value.Type == ttlv.Structure:
		plain = value.Encode()
	case value.Type != ttlv.ByteString:
		return nil, cryptoFailure("the wrapped key is no byte string")
	}
	proof := data.Get(ttlv.TagMACSignature)
	if method == ttlv.WrappingMethodEncryptThenMACSign {
		if err := b.proven(by, value.Bytes, proof); err != nil {
			return nil, err
		}
	}
	if method != ttlv.WrappingMethodMACSign {
		if plain, err = b.openKey(info, value.Bytes, bytesField(data, ttlv.TagIVCounterNonce)); err != nil {
			return nil, err
		}
	}
	if method == ttlv.WrappingMethodMACSign || method == ttlv.WrappingMethodMACSignThenEncrypt {
		if err := b.proven(by, plain, proof); err != nil {
			return nil, err
		}
	}
	inner := ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, plain))
	if option != ttlv.EncodingOptionNoEncoding {
		if inner, err = ttlv.Decode(plain); err != nil || inner.Tag != ttlv.TagKeyValue || inner.Type != ttlv.Structure {
			return nil, fail(ttlv.ResultReasonEncodingOptionError, "what is wrapped is no Key Value")
		}
	}
	out := ttlv.Struct(ttlv.TagKeyBlock)
	for _, c := range block.Children {
		switch {
		case c == value:
			out.Add(inner)
		case c != data:
			out.Add(c)
		}
	}
	return withBlock(node, block, out), nil
}

// sealKey encrypts a key under that which info names; iv is what the mode needs to undo
// it, nil for nothing.
func (b *batch) sealKey(info *ttlv.Node, plain []byte) (sealed, iv []byte, err error) {
	u, mode, err := b.kek(info, "Encryption Key Information", ttlv.MaskWrapKey, true)
	if err != nil {
		return nil, nil, err
	}
	u.data = plain
	if isRSA(u) {
		sealed, err = u.rsaEncrypt()
	} else {
		var size int
		if size, err = u.nonceSize(mode); err != nil {
			return nil, nil, err
		}
		if size > 0 {
			iv = make([]byte, size)
			if _, err := rand.Read(iv); err != nil {
				return nil, nil, err
			}
		}
		sealed, err = u.seal(mode, iv)
	}
	if err != nil {
		return nil, nil, err
	}
	return sealed, iv, b.spent(u)
}

func (u *use) seal(mode uint32, iv []byte) ([]byte, error) {
	a, err := u.aead(mode, iv)
	if err != nil {
		return nil, err
	}
	if a != nil {
		return a.Seal(nil, iv, u.data, nil), nil
	}
	return u.blocks(mode, iv, u.data, true)
}

// openKey undoes sealKey.
func (b *batch) openKey(info *ttlv.Node, sealed, iv []byte) ([]byte, error) {
	u, mode, err := b.kek(info, "Encryption Key Information", ttlv.MaskUnwrapKey, false)
	if err != nil {
		return nil, err
	}
	u.data = sealed
	bad := cryptoFailure("the key cannot be unwrapped")
	if isRSA(u) {
		if u.o.Type != ttlv.ObjectTypePrivateKey {
			return nil, denied("a key is unwrapped by a private key")
		}
		return u.rsaDecrypt()
	}
	size, err := u.nonceSize(mode)
	if err != nil {
		return nil, err
	}
	if size > 0 && iv == nil {
		return nil, newer(missing("IV/Counter/Nonce"), ttlv.ResultReasonMissingInitializationVector)
	}
	a, err := u.aead(mode, iv)
	if err != nil {
		return nil, err
	}
	if a != nil {
		plain, err := a.Open(nil, iv, sealed, nil)
		if err != nil {
			return nil, bad
		}
		return plain, nil
	}
	plain, err := u.blocks(mode, iv, sealed, false)
	if isFault(err) {
		return nil, bad
	}
	return plain, err
}

// proof is the MAC or the signature of a key.
func (b *batch) proof(info *ttlv.Node, data []byte) ([]byte, error) {
	u, _, err := b.kek(info, "MAC/Signature Key Information", ttlv.MaskMACGenerate|ttlv.MaskSign, true)
	if err != nil {
		return nil, err
	}
	u.data = data
	var out []byte
	if u.o.Type == ttlv.ObjectTypePrivateKey {
		out, err = u.sign()
	} else {
		out, err = u.mac()
	}
	if err != nil {
		return nil, err
	}
	return out, b.spent(u)
}

// proven checks a proof.
func (b *batch) proven(info *ttlv.Node, data []byte, proof *ttlv.Node) error {
	if proof == nil || proof.Type != ttlv.ByteString {
		return missing("MAC/Signature")
	}
	u, _, err := b.kek(info, "MAC/Signature Key Information", ttlv.MaskMACVerify|ttlv.MaskVerify, false)
	if err != nil {
		return err
	}
	u.data = data
	var valid bool
	if u.o.Type == ttlv.ObjectTypePublicKey || u.o.Type == ttlv.ObjectTypeCertificate {
		valid, err = u.verify(proof.Bytes)
	} else {
		var sum []byte
		sum, err = u.mac()
		valid = err == nil && hmac.Equal(sum, proof.Bytes)
	}
	if err == nil && !valid {
		err = cryptoFailure("the MAC or the signature of the wrapped key is not right")
	}
	return err
}

// kek is the key that wraps or unwraps, which its usage mask must allow, and the mode
// in which it does: NIST Key Wrap, where nothing else is said.
func (b *batch) kek(info *ttlv.Node, what string, mask uint32, protects bool) (*use, uint32, error) {
	n := info.Get(ttlv.TagUniqueIdentifier)
	if n == nil {
		return nil, 0, missing(what)
	}
	id, err := b.textID(n)
	if err != nil {
		return nil, 0, err
	}
	k, err := b.object(id)
	if f := (*fault)(nil); errors.As(err, &f) {
		return nil, 0, newer(fail(f.reason, "the wrapping key: %s", f.text), ttlv.ResultReasonWrappingObjectNotFound)
	}
	if err != nil {
		return nil, 0, err
	}
	if err := b.online(k); err != nil {
		f := newer(fail(ttlv.ResultReasonObjectArchived, "the wrapping key is archived"), ttlv.ResultReasonWrappingObjectArchived)
		if k.destroyed() {
			f = newer(fail(ttlv.ResultReasonItemNotFound, "the wrapping key is destroyed"), ttlv.ResultReasonWrappingObjectDestroyed)
		}
		return nil, 0, f
	}
	if err := b.mayBeUsed(k, mask, protects); err != nil {
		return nil, 0, err
	}
	u := &use{o: k, params: info.Get(ttlv.TagCryptographicParameters)}
	said := u.params != nil
	if !said {
		u.params = k.get(attrParameters)
	}
	if u.key, err = b.material(k); err != nil {
		return nil, 0, err
	}
	mode, err := u.param(ttlv.TagBlockCipherMode)
	if err != nil || mask&(ttlv.MaskWrapKey|ttlv.MaskUnwrapKey) == 0 || isRSA(u) {
		return u, 0, err
	}
	modes := []uint32{ttlv.BlockCipherModeNISTKeyWrap, ttlv.BlockCipherModeAESKeyWrapPadding, ttlv.BlockCipherModeCBC, ttlv.BlockCipherModeGCM}
	switch u.algorithm() {
	case ttlv.CryptographicAlgorithmAES:
		if mode == 0 || !said && !slices.Contains(modes, mode) {
			mode = ttlv.BlockCipherModeNISTKeyWrap
		}
	case ttlv.CryptographicAlgorithmDES3:
		modes = []uint32{ttlv.BlockCipherModeCBC}
	case ttlv.CryptographicAlgorithmChaCha20Poly1305:
		return u, 0, nil
	default:
		return nil, 0, fail(ttlv.ResultReasonFeatureNotSupported, "keys of this algorithm do not wrap others")
	}
	if !slices.Contains(modes, mode) {
		return nil, 0, fail(ttlv.ResultReasonFeatureNotSupported, "keys are wrapped by NIST Key Wrap, AES Key Wrap with Padding, CBC, GCM or RSA")
	}
	return u, mode, nil
}
