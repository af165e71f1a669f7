package kmip

import (
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

// wrappingKey is the AES key that wraps: it must be active and for that.
func (b *batch) wrappingKey(info *ttlv.Node) ([]byte, error) {
	id := info.Get(ttlv.TagUniqueIdentifier)
	if id == nil || id.Type != ttlv.TextString {
		return nil, missing("Encryption Key Information")
	}
	k, err := b.object(id.Text())
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
	if k.state(b.now) != ttlv.StateActive {
		return nil, denied("the wrapping key is not active")
	}
	if m := k.get(attrMask); m == nil || uint32(m.Int)&ttlv.MaskWrapKey == 0 {
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
