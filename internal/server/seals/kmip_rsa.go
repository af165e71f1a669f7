package seals

import (
	"context"
	"slices"

	"arca/internal/errs"
	"arca/internal/ttlv"
)

// kmipOAEP are the values of encrypt_alg for keys of RSA, with their hashes.
var kmipOAEP = map[string]uint32{
	"RSA_OAEP_SHA256": ttlv.HashingAlgorithmSHA_256,
	"RSA_OAEP_SHA384": ttlv.HashingAlgorithmSHA_384,
	"RSA_OAEP_SHA512": ttlv.HashingAlgorithmSHA_512,
}

func oaepParameters(alg string) *ttlv.Node {
	return ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodOAEP),
		ttlv.Enum(ttlv.TagHashingAlgorithm, kmipOAEP[alg]), ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmRSA))
}

// encryptRSA encrypts with the public key of a pair.
func (k *kmip) encryptRSA(ctx context.Context, plain []byte) (*kmipBlob, error) {
	public, private, err := k.pair(ctx)
	if err != nil {
		return nil, err
	}
	out, err := k.ask(ctx, ttlv.OperationEncrypt, ttlv.Text(ttlv.TagUniqueIdentifier, public), oaepParameters(k.alg), ttlv.Bytes(ttlv.TagData, plain))
	if err != nil {
		return nil, err
	}
	data := out.Get(ttlv.TagData)
	if data == nil || data.Type != ttlv.ByteString || len(data.Bytes) == 0 {
		return nil, errKMIPAnswer
	}
	return &kmipBlob{Key: private, Named: k.key, Alg: k.alg, Data: data.Bytes}, nil
}

// pair finds both keys of a pair by the one that is configured, whichever it is: each has a link to the other.
func (k *kmip) pair(ctx context.Context) (public, private string, err error) {
	const objectType, link = "Object Type", "Link"
	out, err := k.ask(ctx, ttlv.OperationGetAttributes, ttlv.Text(ttlv.TagUniqueIdentifier, k.key),
		ttlv.Text(ttlv.TagAttributeName, objectType), ttlv.Text(ttlv.TagAttributeName, link))
	if err != nil {
		return "", "", err
	}
	values := func(name string) (list []*ttlv.Node) {
		for _, a := range out.All(ttlv.TagAttribute) {
			if v := a.Get(ttlv.TagAttributeValue); v != nil && a.Get(ttlv.TagAttributeName).Text() == name {
				list = append(list, v)
			}
		}
		return list
	}
	linked := func(kind uint32) string {
		at := slices.IndexFunc(values(link), func(v *ttlv.Node) bool {
			t := v.Get(ttlv.TagLinkType)
			return t != nil && t.Int == int64(kind)
		})
		if at < 0 {
			return ""
		}
		return values(link)[at].Get(ttlv.TagLinkedObjectIdentifier).Text()
	}
	types := values(objectType)
	if len(types) != 1 {
		return "", "", errKMIPAnswer
	}
	switch types[0].Int {
	case int64(ttlv.ObjectTypePublicKey):
		public, private = k.key, linked(ttlv.LinkTypePrivateKeyLink)
	case int64(ttlv.ObjectTypePrivateKey):
		public, private = linked(ttlv.LinkTypePublicKeyLink), k.key
	default:
		return "", "", errs.New(errs.Invalid, "kms_key_id names no key of RSA: encrypt_alg %q asks for one", k.alg)
	}
	if public == "" || private == "" {
		return "", "", errs.New(errs.Invalid, "the key that kms_key_id names has no link to the other of its pair: the KMIP server has to have both")
	}
	return public, private, nil
}
