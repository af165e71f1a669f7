package kmip

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // G501: Hash names it
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"
	"os"

	"arca/internal/ttlv"
)

// hashOf is a hash function by its number in the protocol, and for signatures.
func hashOf(alg uint32) (func() hash.Hash, crypto.Hash) {
	switch alg {
	case ttlv.HashingAlgorithmMD5:
		return md5.New, crypto.MD5
	case ttlv.HashingAlgorithmSHA_1:
		return sha1.New, crypto.SHA1
	case ttlv.HashingAlgorithmSHA_224:
		return sha256.New224, crypto.SHA224
	case ttlv.HashingAlgorithmSHA_256:
		return sha256.New, crypto.SHA256
	case ttlv.HashingAlgorithmSHA_384:
		return sha512.New384, crypto.SHA384
	case ttlv.HashingAlgorithmSHA_512:
		return sha512.New, crypto.SHA512
	case ttlv.HashingAlgorithmSHA3_256:
		return func() hash.Hash { return sha3.New256() }, crypto.SHA3_256
	case ttlv.HashingAlgorithmSHA3_384:
		return func() hash.Hash { return sha3.New384() }, crypto.SHA3_384
	case ttlv.HashingAlgorithmSHA3_512:
		return func() hash.Hash { return sha3.New512() }, crypto.SHA3_512
	}
	return nil, 0
}

// hmacOf is the hash of an HMAC algorithm.
// A use is an operation with a key.
func hmacOf(alg uint32) func() hash.Hash {
	switch alg {
	case ttlv.CryptographicAlgorithmHMACMD5:
		return md5.New
	case ttlv.CryptographicAlgorithmHMACSHA1:
		return sha1.New
	case ttlv.CryptographicAlgorithmHMACSHA224:
		return sha256.New224
	case ttlv.CryptographicAlgorithmHMACSHA256:
		return sha256.New
	case ttlv.CryptographicAlgorithmHMACSHA384:
		return sha512.New384
	case ttlv.CryptographicAlgorithmHMACSHA512:
		return sha512.New
	}
	return nil
}

// scheme is how to sign: the hash, and whether by PSS.
func (u *use) scheme() (h crypto.Hash, fn func() hash.Hash, pss bool, err error) {
	alg, err := u.param(ttlv.TagDigitalSignatureAlgorithm)
	if err != nil {
		return 0, nil, false, err
	}
	name := map[uint32]uint32{
		ttlv.DigitalSignatureAlgorithmSHA_1WithRSAEncryption: ttlv.HashingAlgorithmSHA_1, ttlv.DigitalSignatureAlgorithmSHA_224WithRSAEncryption: ttlv.HashingAlgorithmSHA_224,
		ttlv.DigitalSignatureAlgorithmSHA_256WithRSAEncryption: ttlv.HashingAlgorithmSHA_256, ttlv.DigitalSignatureAlgorithmSHA_384WithRSAEncryption: ttlv.HashingAlgorithmSHA_384,
		ttlv.DigitalSignatureAlgorithmSHA_512WithRSAEncryption: ttlv.HashingAlgorithmSHA_512, ttlv.DigitalSignatureAlgorithmECDSAWithSHA_1: ttlv.HashingAlgorithmSHA_1,
		ttlv.DigitalSignatureAlgorithmECDSAWithSHA224: ttlv.HashingAlgorithmSHA_224, ttlv.DigitalSignatureAlgorithmECDSAWithSHA256: ttlv.HashingAlgorithmSHA_256,
		ttlv.DigitalSignatureAlgorithmECDSAWithSHA384: ttlv.HashingAlgorithmSHA_384, ttlv.DigitalSignatureAlgorithmECDSAWithSHA512: ttlv.HashingAlgorithmSHA_512,
	}[alg]
	padding, err := u.param(ttlv.TagPaddingMethod)
	if err != nil {
		return 0, nil, false, err
	}
	pss = alg == ttlv.DigitalSignatureAlgorithmRSASSAPSS || padding == ttlv.PaddingMethodPSS
	if said, err := u.param(ttlv.TagHashingAlgorithm); err != nil {
		return 0, nil, false, err
	} else if name == 0 {
		name = said
	}
	if name == 0 {
		name = ttlv.HashingAlgorithmSHA_256
	}
	if fn, h = hashOf(name); h == 0 {
		return 0, nil, false, cryptoFailure("this hashing algorithm is not supported")
	}
	return h, fn, pss, nil
}

func (u *use) digest(p *ttlv.Node, fn func() hash.Hash) ([]byte, error) {
	h := fn()
	if d := bytesField(p, ttlv.TagDigestedData); d != nil {
		if len(d) != h.Size() {
			return nil, cryptoFailure("Digested Data has not the length of the hash")
		}
		return d, nil
	}
	h.Write(u.data)
	return h.Sum(nil), nil
}

func (b *batch) sign(p *ttlv.Node) (*ttlv.Node, error) {
	u, err := b.using(p, ttlv.MaskSign, true, ttlv.TagData, ttlv.TagDigestedData)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(u.key)
	if err != nil {
		return nil, err
	}
	h, fn, pss, err := u.scheme()
	if err != nil {
		return nil, err
	}
	sum, err := u.digest(p, fn)
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = h
	if pss {
		opts = &rsa.PSSOptions{Hash: h, SaltLength: u.salt()}
	}
	sig, err := key.Sign(rand.Reader, sum, opts)
	if err != nil {
		return nil, cryptoFailure("the data cannot be signed with this key")
	}
	return response(idNode(u.o), ttlv.Bytes(ttlv.TagSignatureData, sig)), b.spent(u)
}

func (u *use) salt() int {
	if n := u.params.Get(ttlv.TagSaltLength); n != nil && n.Int > 0 && n.Int <= 1024 {
		return int(n.Int)
	}
	return rsa.PSSSaltLengthEqualsHash
}

func (b *batch) signatureVerify(p *ttlv.Node) (*ttlv.Node, error) {
	u, err := b.using(p, ttlv.MaskVerify, false, ttlv.TagData, ttlv.TagDigestedData)
	if err != nil {
		return nil, err
	}
	sig := bytesField(p, ttlv.TagSignatureData)
	if sig == nil {
		return nil, missing("Signature Data")
	}
	key, err := publicKey(u.key)
	if err != nil {
		return nil, err
	}
	h, fn, pss, err := u.scheme()
	if err != nil {
		return nil, err
	}
	sum, err := u.digest(p, fn)
	if err != nil {
		return nil, err
	}
	var valid bool
	switch k := key.(type) {
	case *rsa.PublicKey:
		if pss {
			valid = rsa.VerifyPSS(k, h, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		} else {
			valid = rsa.VerifyPKCS1v15(k, h, sum, sig) == nil
		}
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(k, sum, sig)
	default:
		return nil, cryptoFailure("this key does not verify")
	}
	return response(idNode(u.o), validity(valid)), nil
}

func validity(valid bool) *ttlv.Node {
	v := ttlv.ValidityIndicatorInvalid
	if valid {
		v = ttlv.ValidityIndicatorValid
	}
	return ttlv.Enum(ttlv.TagValidityIndicator, v)
}

func (u *use) mac() ([]byte, error) {
	alg, err := u.param(ttlv.TagCryptographicAlgorithm)
	if err != nil {
		return nil, err
	}
	if n := u.o.get(attrAlgorithm); alg == 0 && n != nil {
		alg = uint32(n.Int)
	}
	if h, err := u.param(ttlv.TagHashingAlgorithm); err != nil {
		return nil, err
	} else if hmacOf(alg) == nil && h != 0 {
		if fn, _ := hashOf(h); fn != nil {
			return u.hmac(fn)
		}
	}
	fn := hmacOf(alg)
	if fn == nil {
		return nil, cryptoFailure("this algorithm makes no MAC here")
	}
	return u.hmac(fn)
}

func (u *use) hmac(fn func() hash.Hash) ([]byte, error) {
	raw, err := rawOf(u.key)
	if err != nil {
		return nil, err
	}
	m := hmac.New(fn, raw)
	m.Write(u.data)
	return m.Sum(nil), nil
}

func (b *batch) mac(p *ttlv.Node) (*ttlv.Node, error) {
	u, err := b.using(p, ttlv.MaskMACGenerate, true, ttlv.TagData)
	if err != nil {
		return nil, err
	}
	sum, err := u.mac()
	if err != nil {
		return nil, err
	}
	return response(idNode(u.o), ttlv.Bytes(ttlv.TagMACData, sum)), b.spent(u)
}

func (b *batch) macVerify(p *ttlv.Node) (*ttlv.Node, error) {
	u, err := b.using(p, ttlv.MaskMACVerify, false, ttlv.TagData)
	if err != nil {
		return nil, err
	}
	given := bytesField(p, ttlv.TagMACData)
	if given == nil {
		return nil, missing("MAC Data")
	}
	sum, err := u.mac()
	if err != nil {
		return nil, err
	}
	return response(idNode(u.o), validity(hmac.Equal(sum, given))), nil
}

func (b *batch) rngRetrieve(p *ttlv.Node) (*ttlv.Node, error) {
	n := p.Get(ttlv.TagDataLength)
	if n == nil || n.Type != ttlv.Integer || n.Int < 1 || n.Int > maxRandom {
		return nil, invalid("Data Length must be from 1 to %d", maxRandom)
	}
	raw := make([]byte, n.Int)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	return response(ttlv.Bytes(ttlv.TagData, raw)), nil
}

// rngSeed gives the operating system's generator a seed, which it mixes in without
// believing it; where it takes none, the answer says that none was used.
func (b *batch) rngSeed(p *ttlv.Node) (*ttlv.Node, error) {
	seed := bytesField(p, ttlv.TagData)
	if seed == nil {
		return nil, missing("Data")
	}
	used := 0
	if f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0); err == nil {
		if used, err = f.Write(seed); err != nil {
			used = 0
		}
		_ = f.Close() // it is a device
	}
	return response(ttlv.Int(ttlv.TagDataLength, int32(used))), nil
}

func (b *batch) hash(p *ttlv.Node) (*ttlv.Node, error) {
	if err := whole(p); err != nil {
		return nil, err
	}
	alg, err := enum(p.Get(ttlv.TagCryptographicParameters), ttlv.TagHashingAlgorithm)
	if err != nil {
		return nil, err
	}
	data := p.Get(ttlv.TagData)
	if alg == 0 || data == nil || data.Type != ttlv.ByteString {
		return nil, missing("Hashing Algorithm or Data")
	}
	fn, _ := hashOf(alg)
	if fn == nil {
		return nil, cryptoFailure("this hashing algorithm is not supported")
	}
	h := fn()
	h.Write(data.Bytes)
	return response(ttlv.Bytes(ttlv.TagData, h.Sum(nil))), nil
}
