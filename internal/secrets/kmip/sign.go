package kmip

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // G501: Hash names it
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"
	"math/big"
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
	case ttlv.HashingAlgorithmSHA_512_224:
		return sha512.New512_224, crypto.SHA512_224
	case ttlv.HashingAlgorithmSHA_512_256:
		return sha512.New512_256, crypto.SHA512_256
	case ttlv.HashingAlgorithmSHA3_224:
		return func() hash.Hash { return sha3.New224() }, crypto.SHA3_224
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
	case ttlv.CryptographicAlgorithmHMACSHA3_224:
		return func() hash.Hash { return sha3.New224() }
	case ttlv.CryptographicAlgorithmHMACSHA3_256:
		return func() hash.Hash { return sha3.New256() }
	case ttlv.CryptographicAlgorithmHMACSHA3_384:
		return func() hash.Hash { return sha3.New384() }
	case ttlv.CryptographicAlgorithmHMACSHA3_512:
		return func() hash.Hash { return sha3.New512() }
	}
	return nil
}

// A scheme is how to sign.
type scheme struct {
	h     crypto.Hash // 0: what comes is signed as it is
	fn    func() hash.Hash
	pss   bool
	named bool // the hash was named
}

func (u *use) scheme() (s scheme, err error) {
	alg, err := u.param(ttlv.TagDigitalSignatureAlgorithm)
	if err != nil {
		return s, err
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
		return s, err
	}
	s.pss = alg == ttlv.DigitalSignatureAlgorithmRSASSAPSS || padding == ttlv.PaddingMethodPSS
	if said, err := u.param(ttlv.TagHashingAlgorithm); err != nil {
		return s, err
	} else if name == 0 {
		name = said
	}
	s.named = name != 0
	if !s.named {
		name = ttlv.HashingAlgorithmSHA_256
	}
	if s.fn, s.h = hashOf(name); s.h == 0 {
		return s, cryptoFailure("this hashing algorithm is not supported")
	}
	return s, nil
}

// digest is what is signed of a request.
func (u *use) digest(p *ttlv.Node, s *scheme) ([]byte, error) {
	if d := bytesField(p, ttlv.TagDigestedData); d != nil {
		switch {
		case s.named && len(d) != s.h.Size():
			return nil, cryptoFailure("Digested Data has not the length of the hash")
		case !s.named && !s.pss:
			s.h = 0
		case !s.named && len(d) != s.h.Size():
			return nil, cryptoFailure("Digested Data has not the length of the hash")
		}
		return d, nil
	}
	h := s.fn()
	h.Write(u.data)
	return h.Sum(nil), nil
}

// signer is a key with which a use signs.
func (u *use) signer() (crypto.Signer, error) {
	key, err := privateKey(u.key)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, cryptoFailure("keys of this kind do not sign")
	}
	return s, nil
}

func (u *use) signed(key crypto.Signer, s *scheme, sum []byte) ([]byte, error) {
	var opts crypto.SignerOpts = s.h
	switch key.(type) {
	case ed25519.PrivateKey:
		opts = crypto.Hash(0)
	case *rsa.PrivateKey:
		if s.pss {
			opts = &rsa.PSSOptions{Hash: s.h, SaltLength: u.salt()}
		}
	}
	sig, err := key.Sign(rand.Reader, sum, opts)
	if err != nil {
		return nil, cryptoFailure("the data cannot be signed with this key")
	}
	return sig, nil
}

// isWhole reports whether keys of a kind sign what comes, and not a digest of it.
func isWhole(key crypto.PublicKey) bool {
	switch key.(type) {
	case ed25519.PublicKey, latticePublic:
		return true
	}
	return false
}

// beginSum is the start of a stream that is signed or verified.
func (u *use) beginSum(key crypto.PublicKey) func() (*stream, error) {
	return func() (*stream, error) {
		s := &stream{params: own(u.params)}
		if isWhole(key) {
			return s, nil
		}
		how, err := u.scheme()
		if err != nil {
			return nil, err
		}
		s.h = how.fn()
		return s, nil
	}
}

func (b *batch) sign(p *ttlv.Node) (*ttlv.Node, error) {
	parts := partial(p)
	tags := []ttlv.Tag{ttlv.TagData, ttlv.TagDigestedData}
	if parts {
		tags = nil
	}
	u, err := b.using(p, ttlv.MaskSign, true, tags...)
	if err != nil {
		return nil, err
	}
	key, err := u.signer()
	if err != nil {
		return nil, err
	}
	var sum []byte
	if parts {
		s, all, more, err := b.sumPart(p, ttlv.OperationSign, u.o.ID, u.beginSum(key.Public()))
		if err != nil {
			return nil, err
		}
		u.params, u.data = s.params, bytesField(p, ttlv.TagData)
		if err := b.spentPart(u, isSet(p, ttlv.TagInitIndicator)); err != nil || more != nil {
			return more, err
		}
		sum = all
	}
	how, err := u.scheme()
	if err != nil {
		return nil, err
	}
	if !parts {
		if isWhole(key.Public()) {
			sum = u.data
		} else if sum, err = u.digest(p, &how); err != nil {
			return nil, err
		}
	}
	sig, err := u.signed(key, &how, sum)
	if err != nil {
		return nil, err
	}
	out := response(idNode(u.o), ttlv.Bytes(ttlv.TagSignatureData, sig))
	if parts {
		return out, nil
	}
	return out, b.spent(u)
}

func (u *use) salt() int {
	if n := u.params.Get(ttlv.TagSaltLength); n != nil && n.Int > 0 && n.Int <= 1024 {
		return int(n.Int)
	}
	return rsa.PSSSaltLengthEqualsHash
}

func (b *batch) signatureVerify(p *ttlv.Node) (*ttlv.Node, error) {
	parts := partial(p)
	tags := []ttlv.Tag{ttlv.TagData, ttlv.TagDigestedData}
	if parts {
		tags = nil
	}
	u, err := b.using(p, ttlv.MaskVerify, false, tags...)
	if err != nil {
		return nil, err
	}
	key, err := publicKey(u.key)
	if err != nil {
		return nil, err
	}
	sig := bytesField(p, ttlv.TagSignatureData)
	var sum []byte
	if parts {
		s, all, more, err := b.sumPart(p, ttlv.OperationSignatureVerify, u.o.ID, u.beginSum(key))
		if err != nil || more != nil {
			return more, err
		}
		u.params, sum, sig = s.params, all, s.proof
	}
	if sig == nil {
		return nil, missing("Signature Data")
	}
	how, err := u.scheme()
	if err != nil {
		return nil, err
	}
	if !parts {
		if isWhole(key) {
			sum = u.data
		} else if sum, err = u.digest(p, &how); err != nil {
			return nil, err
		}
	}
	valid, err := isSigned(key, &how, sum, sig)
	if err != nil {
		return nil, err
	}
	return response(idNode(u.o), validity(valid)), nil
}

// isSigned verifies a signature.
func isSigned(key crypto.PublicKey, how *scheme, sum, sig []byte) (bool, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if how.pss {
			return rsa.VerifyPSS(k, how.h, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil, nil
		}
		return rsa.VerifyPKCS1v15(k, how.h, sum, sig) == nil, nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum, sig) || verifyRaw(k, sum, sig), nil
	case koblitzPublic:
		return k.verify(sum, sig), nil
	case latticePublic:
		if !k.kem {
			return k.verify(sum, sig), nil
		}
	case ed25519.PublicKey:
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k, sum, sig), nil
	}
	return false, cryptoFailure("this key does not verify")
}

// sign signs the data of a use as a whole.
func (u *use) sign() ([]byte, error) {
	key, err := u.signer()
	if err != nil {
		return nil, err
	}
	how, err := u.scheme()
	if err != nil {
		return nil, err
	}
	sum := u.data
	if !isWhole(key.Public()) {
		if sum, err = u.digest(nil, &how); err != nil {
			return nil, err
		}
	}
	return u.signed(key, &how, sum)
}

// verify verifies a signature of the data of a use as a whole.
func (u *use) verify(sig []byte) (bool, error) {
	key, err := publicKey(u.key)
	if err != nil {
		return false, err
	}
	how, err := u.scheme()
	if err != nil {
		return false, err
	}
	sum := u.data
	if !isWhole(key) {
		if sum, err = u.digest(nil, &how); err != nil {
			return false, err
		}
	}
	return isSigned(key, &how, sum, sig)
}

// verifyRaw takes a signature that is its two numbers, one behind the other.
func verifyRaw(k *ecdsa.PublicKey, sum, sig []byte) bool {
	n := (k.Curve.Params().N.BitLen() + 7) / 8
	if len(sig) != 2*n {
		return false
	}
	return ecdsa.Verify(k, sum, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
}

func validity(valid bool) *ttlv.Node {
	v := ttlv.ValidityIndicatorInvalid
	if valid {
		v = ttlv.ValidityIndicatorValid
	}
	return ttlv.Enum(ttlv.TagValidityIndicator, v)
}

// macHash is the keyed hash of a MAC; nil where it is a CMAC.
func (u *use) macHash() (hash.Hash, error) {
	alg, err := u.param(ttlv.TagCryptographicAlgorithm)
	if err != nil {
		return nil, err
	}
	if alg == 0 {
		alg = u.algorithm()
	}
	fn := hmacOf(alg)
	if h, err := u.param(ttlv.TagHashingAlgorithm); err != nil {
		return nil, err
	} else if fn == nil && h != 0 {
		fn, _ = hashOf(h)
	}
	if fn == nil {
		if alg == ttlv.CryptographicAlgorithmAES || alg == ttlv.CryptographicAlgorithmDES3 {
			return nil, nil //nolint:nilnil // CMAC
		}
		return nil, cryptoFailure("this algorithm makes no MAC here")
	}
	raw, err := rawOf(u.key)
	if err != nil {
		return nil, err
	}
	return hmac.New(fn, raw), nil
}

func (u *use) mac() ([]byte, error) {
	h, err := u.macHash()
	if err != nil {
		return nil, err
	}
	if h != nil {
		h.Write(u.data)
		return h.Sum(nil), nil
	}
	c, err := u.block()
	if err != nil {
		return nil, err
	}
	return cmac(c, u.data), nil
}

// macPart is a MAC over data in parts; more is the answer while it goes on.
func (b *batch) macPart(p *ttlv.Node, u *use, op uint32) (s *stream, sum []byte, more *ttlv.Node, err error) {
	s, sum, more, err = b.sumPart(p, op, u.o.ID, func() (*stream, error) {
		h, err := u.macHash()
		return &stream{params: own(u.params), h: h}, err
	})
	if err != nil || more != nil {
		return nil, nil, more, err
	}
	if s.h == nil {
		u.params, u.data = s.params, sum
		sum, err = u.mac()
	}
	return s, sum, nil, err
}

func (b *batch) mac(p *ttlv.Node) (*ttlv.Node, error) {
	if partial(p) {
		u, err := b.using(p, ttlv.MaskMACGenerate, true)
		if err != nil {
			return nil, err
		}
		_, sum, more, err := b.macPart(p, u, ttlv.OperationMAC)
		if err != nil {
			return nil, err
		}
		u.data = bytesField(p, ttlv.TagData)
		if err := b.spentPart(u, isSet(p, ttlv.TagInitIndicator)); err != nil || more != nil {
			return more, err
		}
		return response(idNode(u.o), ttlv.Bytes(ttlv.TagMACData, sum)), nil
	}
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
	if partial(p) {
		u, err := b.using(p, ttlv.MaskMACVerify, false)
		if err != nil {
			return nil, err
		}
		s, sum, more, err := b.macPart(p, u, ttlv.OperationMACVerify)
		if err != nil || more != nil {
			return more, err
		}
		return response(idNode(u.o), validity(hmac.Equal(sum, s.proof))), nil
	}
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
	begin := func() (*stream, error) {
		alg, err := enum(p.Get(ttlv.TagCryptographicParameters), ttlv.TagHashingAlgorithm)
		if err != nil {
			return nil, err
		}
		if alg == 0 {
			return nil, missing("Hashing Algorithm")
		}
		fn, _ := hashOf(alg)
		if fn == nil {
			return nil, cryptoFailure("this hashing algorithm is not supported")
		}
		return &stream{h: fn()}, nil
	}
	if partial(p) {
		_, sum, more, err := b.sumPart(p, ttlv.OperationHash, "", begin)
		if err != nil || more != nil {
			return more, err
		}
		return response(ttlv.Bytes(ttlv.TagData, sum)), nil
	}
	s, err := begin()
	if err != nil {
		return nil, err
	}
	data := p.Get(ttlv.TagData)
	if data == nil || data.Type != ttlv.ByteString {
		return nil, missing("Data")
	}
	s.h.Write(data.Bytes)
	return response(ttlv.Bytes(ttlv.TagData, s.h.Sum(nil))), nil
}
