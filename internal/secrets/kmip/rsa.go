package kmip

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"

	"arca/internal/ttlv"
)

func isRSA(u *use) bool {
	n := u.o.get(attrAlgorithm)
	return n != nil && uint32(n.Int) == ttlv.CryptographicAlgorithmRSA
}

// oaep are the hashes of OAEP.
func (u *use) oaep() (h, mgf crypto.Hash, label []byte, err error) {
	alg, err := u.param(ttlv.TagHashingAlgorithm)
	if err != nil {
		return 0, 0, nil, err
	}
	if alg == 0 {
		alg = ttlv.HashingAlgorithmSHA_1
		if u.params == nil {
			alg = ttlv.HashingAlgorithmSHA_256
		}
	}
	if _, h = hashOf(alg); h == 0 {
		return 0, 0, nil, cryptoFailure("this hashing algorithm is not supported")
	}
	mgf = h
	if m, err := u.param(ttlv.TagMaskGeneratorHashingAlgorithm); err != nil {
		return 0, 0, nil, err
	} else if m != 0 {
		if _, mgf = hashOf(m); mgf == 0 {
			return 0, 0, nil, cryptoFailure("this hashing algorithm is not supported")
		}
	}
	return h, mgf, bytesField(u.params, ttlv.TagPSource), nil
}

func (u *use) rsaPadding() (uint32, error) {
	padding, err := u.param(ttlv.TagPaddingMethod)
	if padding == 0 {
		padding = ttlv.PaddingMethodOAEP
	}
	return padding, err
}

func (u *use) rsaEncrypt() ([]byte, error) {
	if u.o.Type == ttlv.ObjectTypePrivateKey {
		return nil, denied("private keys do not encrypt")
	}
	k, err := publicKey(u.key)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(*rsa.PublicKey)
	if !ok {
		return nil, cryptoFailure("the key is none of RSA")
	}
	padding, err := u.rsaPadding()
	if err != nil {
		return nil, err
	}
	var out []byte
	switch padding {
	case ttlv.PaddingMethodOAEP:
		h, mgf, label, err := u.oaep()
		if err != nil {
			return nil, err
		}
		out, err = rsa.EncryptOAEPWithOptions(rand.Reader, pub, u.data, &rsa.OAEPOptions{Hash: h, MGFHash: mgf, Label: label})
		if err != nil {
			return nil, cryptoFailure("the data cannot be encrypted: it may be too long")
		}
	case ttlv.PaddingMethodPKCS1V1_5:
		if out, err = rsa.EncryptPKCS1v15(rand.Reader, pub, u.data); err != nil { //nolint:staticcheck // SA1019: clients ask for it
			return nil, cryptoFailure("the data cannot be encrypted: it may be too long")
		}
	default:
		return nil, cryptoFailure("this padding method is not supported")
	}
	return out, nil
}

func (u *use) rsaDecrypt() ([]byte, error) {
	k, err := privateKey(u.key)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, cryptoFailure("the key is none of RSA")
	}
	padding, err := u.rsaPadding()
	if err != nil {
		return nil, err
	}
	bad := cryptoFailure("the data is not what was encrypted")
	switch padding {
	case ttlv.PaddingMethodOAEP:
		h, mgf, label, err := u.oaep()
		if err != nil {
			return nil, err
		}
		out, err := key.Decrypt(rand.Reader, u.data, &rsa.OAEPOptions{Hash: h, MGFHash: mgf, Label: label})
		if err != nil {
			return nil, bad
		}
		return out, nil
	case ttlv.PaddingMethodPKCS1V1_5:
		out, err := rsa.DecryptPKCS1v15(rand.Reader, key, u.data) //nolint:staticcheck // SA1019: clients ask for it
		if err != nil {
			return nil, bad
		}
		return out, nil
	}
	return nil, cryptoFailure("this padding method is not supported")
}
