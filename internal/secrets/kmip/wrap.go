package kmip

import (
	"errors"

	"arca/internal/keywrap"
	"arca/internal/ttlv"
)

// wrap encrypts the material of a key under another key, as a Key Wrapping
// Specification says.
func (b *batch) wrap(o *object, node, spec *ttlv.Node) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	if block == nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "objects of this type are not wrapped")
	}
	if block.Get(ttlv.TagKeyWrappingData) != nil {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the key is wrapped already")
	}
	if m, err := enum(spec, ttlv.TagWrappingMethod); err != nil {
		return nil, err
	} else if m != ttlv.WrappingMethodEncrypt {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "keys are wrapped by encryption only")
	}
	info := spec.Get(ttlv.TagEncryptionKeyInformation)
	kek, err := b.wrappingKey(info)
	if err != nil {
		return nil, err
	}
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
	value := block.Get(ttlv.TagKeyValue)
	var plain []byte
	switch {
	case option == ttlv.EncodingOptionNoEncoding && len(names) > 0:
		return nil, fail(ttlv.ResultReasonEncodingOptionError, "attributes are wrapped with TTLV Encoding only")
	case option == ttlv.EncodingOptionNoEncoding:
		m := value.Get(ttlv.TagKeyMaterial)
		if m == nil || m.Type != ttlv.ByteString {
			return nil, fail(ttlv.ResultReasonEncodingOptionError, "a key in a transparent format is wrapped with TTLV Encoding only")
		}
		plain = m.Bytes
	default:
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
		plain = v.Encode()
	}
	sealed, err := keywrap.WrapBlocks(kek, plain)
	if err != nil {
		return nil, cryptoFailure(err.Error())
	}
	data := ttlv.Struct(ttlv.TagKeyWrappingData, ttlv.Enum(ttlv.TagWrappingMethod, ttlv.WrappingMethodEncrypt), info)
	if b.v.atLeast(1, 1) {
		data.Add(spec.Get(ttlv.TagEncodingOption))
	}
	out := ttlv.Struct(ttlv.TagKeyBlock, block.Get(ttlv.TagKeyFormatType), ttlv.Bytes(ttlv.TagKeyValue, sealed),
		block.Get(ttlv.TagCryptographicAlgorithm), block.Get(ttlv.TagCryptographicLength), data)
	wrapped := ttlv.Struct(node.Tag)
	for _, c := range node.Children {
		if c.Tag == ttlv.TagKeyBlock {
			c = out
		}
		wrapped.Add(c)
	}
	return wrapped, nil
}

// unwrapped is the structure of a key without its wrapping.
func (b *batch) unwrapped(node *ttlv.Node) (*ttlv.Node, error) {
	block := node.Get(ttlv.TagKeyBlock)
	data := block.Get(ttlv.TagKeyWrappingData)
	if data == nil {
		return node, nil
	}
	if m, err := enum(data, ttlv.TagWrappingMethod); err != nil {
		return nil, err
	} else if m != ttlv.WrappingMethodEncrypt {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "keys are unwrapped by decryption only")
	}
	kek, err := b.kek(data.Get(ttlv.TagEncryptionKeyInformation), ttlv.MaskUnwrapKey)
	if err != nil {
		return nil, err
	}
	value := block.Get(ttlv.TagKeyValue)
	if value == nil || value.Type != ttlv.ByteString {
		return nil, cryptoFailure("the wrapped key is no byte string")
	}
	plain, err := keywrap.UnwrapBlocks(kek, value.Bytes)
	if err != nil {
		return nil, cryptoFailure("the key cannot be unwrapped")
	}
	option, err := enum(data, ttlv.TagEncodingOption)
	if err != nil {
		return nil, err
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
	whole := ttlv.Struct(node.Tag)
	for _, c := range node.Children {
		if c == block {
			c = out
		}
		whole.Add(c)
	}
	return whole, nil
}

// wrappingKey is the AES key that wraps: it must be active and for that.
func (b *batch) wrappingKey(info *ttlv.Node) ([]byte, error) { return b.kek(info, ttlv.MaskWrapKey) }

// kek is the key that wraps or unwraps, which its usage mask must allow.
func (b *batch) kek(info *ttlv.Node, mask uint32) ([]byte, error) {
	id := info.Get(ttlv.TagUniqueIdentifier)
	if id == nil || id.Type != ttlv.TextString {
		return nil, missing("Encryption Key Information")
	}
	k, err := b.object(id.Text())
	if f := (*fault)(nil); errors.As(err, &f) {
		return nil, newer(fail(f.reason, "the wrapping key: %s", f.text), ttlv.ResultReasonWrappingObjectNotFound)
	}
	if err != nil {
		return nil, err
	}
	if err := b.online(k); err != nil {
		return nil, err
	}
	mode, err := enum(info.Get(ttlv.TagCryptographicParameters), ttlv.TagBlockCipherMode)
	if err != nil {
		return nil, err
	}
	if mode != 0 && mode != ttlv.BlockCipherModeNISTKeyWrap {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "keys are wrapped by NIST Key Wrap only")
	}
	if s := k.state(b.now); s != ttlv.StateActive && (mask == ttlv.MaskWrapKey || s != ttlv.StateDeactivated && s != ttlv.StateCompromised) {
		return nil, denied("the wrapping key is not active")
	}
	if m := k.get(attrMask); m == nil || uint32(m.Int)&mask == 0 {
		return nil, denied("the usage mask of the wrapping key does not allow wrapping")
	}
	node, err := b.material(k)
	if err != nil {
		return nil, err
	}
	if alg := k.get(attrAlgorithm); alg == nil || uint32(alg.Int) != ttlv.CryptographicAlgorithmAES {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "the wrapping key is none of AES")
	}
	return rawOf(node)
}
