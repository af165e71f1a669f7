package kmip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // G502: keys of three keys are still asked for
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"

	"arca/internal/keywrap"
	"arca/internal/ttlv"
)

type use struct {
	o      *object
	key    *ttlv.Node // material
	params *ttlv.Node // Cryptographic Parameters; nil for none
	data   []byte
}

// using checks that a key may be used: state, dates, mask. protects tells
// operations that protect from those that undo it.
func (b *batch) using(p *ttlv.Node, mask uint32, protects bool, dataTags ...ttlv.Tag) (*use, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if err := b.mayBeUsed(o, mask, protects); err != nil {
		return nil, err
	}
	u := &use{o: o, params: p.Get(ttlv.TagCryptographicParameters)}
	if u.params == nil {
		u.params = o.get(attrParameters)
	}
	for _, tag := range dataTags {
		if n := p.Get(tag); n != nil && n.Type == ttlv.ByteString {
			u.data = n.Bytes
		}
	}
	if u.data == nil && len(dataTags) > 0 {
		return nil, missing(dataTags[0].String())
	}
	u.key, err = b.material(o)
	return u, err
}

// mayBeUsed checks state, dates and mask of a key.
func (b *batch) mayBeUsed(o *object, mask uint32, protects bool) error {
	state := o.state(b.now)
	start, hasStart := o.time(attrProcessStart)
	stop, hasStop := o.time(attrProtectStop)
	switch {
	case protects && state != ttlv.StateActive:
		return denied("the key is not active")
	case protects && hasStop && !b.now.Before(stop):
		return denied("the key's Protect Stop Date has passed")
	case !protects && state != ttlv.StateActive && state != ttlv.StateDeactivated && state != ttlv.StateCompromised:
		return denied("the key was never active")
	case !protects && hasStart && b.now.Before(start):
		return denied("the key's Process Start Date has not come")
	}
	if m := o.get(attrMask); m == nil || uint32(m.Int)&mask == 0 {
		return denied("the usage mask of the key does not allow this")
	}
	return nil
}

// spent takes what a use costs from the key's usage limits.
func (b *batch) spent(u *use) error {
	l := u.o.get(attrLimits)
	if l == nil {
		return nil
	}
	n := int64(1)
	if uint32(l.Get(ttlv.TagUsageLimitsUnit).Int) == ttlv.UsageLimitsUnitByte {
		n = int64(len(u.data))
	}
	c := u.o.clone()
	if err := spend(c, n); err != nil {
		return err
	}
	return b.save(u.o, c)
}

func (u *use) param(tag ttlv.Tag) (uint32, error) { return enum(u.params, tag) }

func cryptoFailure(text string) error { return fail(ttlv.ResultReasonCryptographicFailure, "%s", text) }

func (u *use) block() (cipher.Block, error) {
	raw, err := rawOf(u.key)
	if err != nil {
		return nil, err
	}
	var c cipher.Block
	switch u.algorithm() {
	case ttlv.CryptographicAlgorithmAES:
		c, err = aes.NewCipher(raw)
	case ttlv.CryptographicAlgorithmDES3:
		if len(raw) == 16 {
			raw = slices.Concat(raw, raw[:8])
		}
		c, err = des.NewTripleDESCipher(raw) //nolint:gosec // G405: as above
	default:
		return nil, fail(ttlv.ResultReasonCryptographicFailure, "keys of this algorithm do not encrypt here")
	}
	if err != nil {
		return nil, cryptoFailure("the key cannot be used")
	}
	return c, nil
}

// tagLength is how long GCM's tag is.
func (u *use) tagLength() (int, error) {
	n := u.params.Get(ttlv.TagTagLength)
	if n == nil {
		return 16, nil
	}
	if n.Int != 4 && n.Int != 8 && (n.Int < 12 || n.Int > 16) { // NIST SP 800-38D, 5.2.1.2
		return 0, fail(ttlv.ResultReasonGeneralFailure, "the tag has 4, 8, or 12 to 16 bytes")
	}
	return int(n.Int), nil
}

// shortTag is GCM with a tag that is cut, of any length that NIST SP 800-38D allows;
// Go's own has no such below 12 bytes, nor with nonces of other lengths.
type shortTag struct {
	cipher.AEAD
	tag int
}

// Overhead implements cipher.AEAD.
func (s shortTag) Overhead() int { return s.tag }

// Seal implements cipher.AEAD.
func (s shortTag) Seal(dst, nonce, plaintext, additional []byte) []byte {
	out := s.AEAD.Seal(nil, nonce, plaintext, additional)
	return append(dst, out[:len(plaintext)+s.tag]...)
}

// Open implements cipher.AEAD. Encryption is its own inverse but for the tag, which
// is made anew and compared.
func (s shortTag) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	if len(sealed) < s.tag {
		return nil, errShortData
	}
	n := len(sealed) - s.tag
	plain := s.AEAD.Seal(nil, nonce, sealed[:n], nil)[:n]
	again := s.AEAD.Seal(nil, nonce, plain, additional)
	if subtle.ConstantTimeCompare(again[n:n+s.tag], sealed[n:]) != 1 {
		return nil, errShortData
	}
	return append(dst, plain...), nil
}

var errShortData = errors.New("the data is not what was encrypted")

func (u *use) gcm(nonce []byte) (cipher.AEAD, error) {
	c, err := u.block()
	if err != nil {
		return nil, err
	}
	n, err := u.tagLength()
	if err != nil {
		return nil, err
	}
	if c.BlockSize() != aes.BlockSize {
		return nil, cryptoFailure("GCM goes with ciphers of 128-bit blocks")
	}
	a, err := cipher.NewGCMWithNonceSize(c, len(nonce))
	if err != nil {
		return nil, cryptoFailure("the nonce or the tag has a length that is not possible")
	}
	if n != 16 {
		a = shortTag{a, n}
	}
	return a, nil
}

func bytesField(p *ttlv.Node, tag ttlv.Tag) []byte {
	if n := p.Get(tag); n != nil && n.Type == ttlv.ByteString {
		return n.Bytes
	}
	return nil
}

// modeOf is the block cipher mode of a use; ciphers of streams have none.
func (u *use) modeOf() (uint32, error) {
	mode, err := u.param(ttlv.TagBlockCipherMode)
	if err != nil {
		return 0, err
	}
	alg := u.algorithm()
	if mode == 0 && alg != ttlv.CryptographicAlgorithmChaCha20 && alg != ttlv.CryptographicAlgorithmChaCha20Poly1305 {
		return 0, invalid("Cryptographic Parameters name no Block Cipher Mode")
	}
	return mode, nil
}

func (b *batch) encrypt(p *ttlv.Node) (*ttlv.Node, error) {
	if partial(p) {
		return b.cryptPart(p, ttlv.OperationEncrypt, ttlv.MaskEncrypt, true)
	}
	u, err := b.using(p, ttlv.MaskEncrypt, true, ttlv.TagData)
	if err != nil {
		return nil, err
	}
	if isRSA(u) {
		out, err := u.rsaEncrypt()
		if err != nil {
			return nil, err
		}
		return response(idNode(u.o), ttlv.Bytes(ttlv.TagData, out)), b.spent(u)
	}
	mode, err := u.modeOf()
	if err != nil {
		return nil, err
	}
	iv, made := bytesField(p, ttlv.TagIVCounterNonce), false
	size, err := u.nonceSize(mode)
	if err != nil {
		return nil, err
	}
	if size > 0 && (iv == nil || isSet(u.params, ttlv.TagRandomIV)) {
		iv, made = make([]byte, size), true
		if _, err := rand.Read(iv); err != nil {
			return nil, err
		}
	}
	out := response(idNode(u.o))
	a, err := u.aead(mode, iv)
	if err != nil {
		return nil, err
	}
	if a != nil {
		sealed := a.Seal(nil, iv, u.data, bytesField(p, ttlv.TagAuthenticatedEncryptionAdditionalData))
		if !b.v.atLeast(1, 4) { // the tag has no field of its own
			out.Add(ttlv.Bytes(ttlv.TagData, sealed))
		} else {
			out.Add(ttlv.Bytes(ttlv.TagData, sealed[:len(u.data)]))
		}
		if made {
			out.Add(ttlv.Bytes(ttlv.TagIVCounterNonce, iv))
		}
		if b.v.atLeast(1, 4) {
			out.Add(ttlv.Bytes(ttlv.TagAuthenticatedEncryptionTag, sealed[len(u.data):]))
		}
		return out, b.spent(u)
	}
	sealed, err := u.blocks(mode, iv, u.data, true)
	if err != nil {
		return nil, err
	}
	out.Add(ttlv.Bytes(ttlv.TagData, sealed))
	if made {
		out.Add(ttlv.Bytes(ttlv.TagIVCounterNonce, iv))
	}
	return out, b.spent(u)
}

func (b *batch) decrypt(p *ttlv.Node) (*ttlv.Node, error) {
	if partial(p) {
		return b.cryptPart(p, ttlv.OperationDecrypt, ttlv.MaskDecrypt, false)
	}
	u, err := b.using(p, ttlv.MaskDecrypt, false, ttlv.TagData)
	if err != nil {
		return nil, err
	}
	if isRSA(u) {
		out, err := u.rsaDecrypt()
		if err != nil {
			return nil, err
		}
		return response(idNode(u.o), ttlv.Bytes(ttlv.TagData, out)), nil
	}
	mode, err := u.modeOf()
	if err != nil {
		return nil, err
	}
	iv := bytesField(p, ttlv.TagIVCounterNonce)
	size, err := u.nonceSize(mode)
	if err != nil {
		return nil, err
	}
	if iv == nil && size > 0 {
		return nil, fail(ttlv.ResultReasonInvalidMessage, "IV/Counter/Nonce is required")
	}
	a, err := u.aead(mode, iv)
	if err != nil {
		return nil, err
	}
	if a != nil {
		sealed := slices.Concat(u.data, bytesField(p, ttlv.TagAuthenticatedEncryptionTag))
		plain, err := a.Open(nil, iv, sealed, bytesField(p, ttlv.TagAuthenticatedEncryptionAdditionalData))
		if err != nil {
			return nil, cryptoFailure("the data is not what was encrypted")
		}
		return response(idNode(u.o), ttlv.Bytes(ttlv.TagData, plain)), nil
	}
	plain, err := u.blocks(mode, iv, u.data, false)
	if err != nil {
		return nil, err
	}
	return response(idNode(u.o), ttlv.Bytes(ttlv.TagData, plain)), nil
}

// special serves ciphers and modes that work on the whole, and not by cipher.Block.
func (u *use) special(mode uint32, iv, in []byte, encrypt bool) (out []byte, served bool, err error) {
	key, err := rawOf(u.key)
	if err != nil {
		return nil, true, err
	}
	switch alg := u.algorithm(); {
	case alg == ttlv.CryptographicAlgorithmChaCha20:
		n := u.params.Get(ttlv.TagInitialCounterValue)
		counter := uint32(0)
		if n != nil && n.Int >= 0 {
			counter = uint32(n.Int)
		}
		c, err := chacha(key, iv, counter)
		if err != nil {
			return nil, true, err
		}
		out = make([]byte, len(in))
		c.XORKeyStream(out, in)
		return out, true, nil
	case alg != ttlv.CryptographicAlgorithmAES:
		return nil, false, nil
	case mode == ttlv.BlockCipherModeXTS:
		out, err = xts(key, iv, in, encrypt)
		return out, true, err
	case mode == ttlv.BlockCipherModeNISTKeyWrap && encrypt:
		out, err = keywrap.WrapBlocks(key, in)
	case mode == ttlv.BlockCipherModeNISTKeyWrap:
		out, err = keywrap.UnwrapBlocks(key, in)
	case mode == ttlv.BlockCipherModeAESKeyWrapPadding && encrypt:
		out, err = keywrap.Wrap(key, in)
	case mode == ttlv.BlockCipherModeAESKeyWrapPadding:
		out, err = keywrap.Unwrap(key, in)
	default:
		return nil, false, nil
	}
	if err != nil {
		return nil, true, cryptoFailure("the data cannot be wrapped or unwrapped")
	}
	return out, true, nil
}

// blocks encrypts or decrypts in a mode without authentication.
func (u *use) blocks(mode uint32, iv, in []byte, encrypt bool) ([]byte, error) {
	if out, served, err := u.special(mode, iv, in, encrypt); served {
		return out, err
	}
	c, err := u.block()
	if err != nil {
		return nil, err
	}
	size := c.BlockSize()
	if mode != ttlv.BlockCipherModeECB && len(iv) != size {
		return nil, cryptoFailure("the IV has not the length of a block")
	}
	switch mode {
	case ttlv.BlockCipherModeCTR:
		out := make([]byte, len(in))
		cipher.NewCTR(c, iv).XORKeyStream(out, in)
		return out, nil
	case ttlv.BlockCipherModeOFB:
		out := make([]byte, len(in))
		cipher.NewOFB(c, iv).XORKeyStream(out, in) //nolint:staticcheck // SA1019: clients ask for it
		return out, nil
	case ttlv.BlockCipherModeCFB:
		out := make([]byte, len(in))
		if encrypt {
			cipher.NewCFBEncrypter(c, iv).XORKeyStream(out, in) //nolint:staticcheck // SA1019: clients ask for it
		} else {
			cipher.NewCFBDecrypter(c, iv).XORKeyStream(out, in) //nolint:staticcheck // SA1019: clients ask for it
		}
		return out, nil
	case ttlv.BlockCipherModeCBC, ttlv.BlockCipherModeECB:
	default:
		return nil, fail(ttlv.ResultReasonCryptographicFailure, "this block cipher mode is not supported")
	}
	padding, err := u.param(ttlv.TagPaddingMethod)
	if err != nil {
		return nil, err
	}
	if encrypt {
		if in, err = pad(in, size, padding); err != nil {
			return nil, err
		}
	} else if len(in)%size != 0 {
		return nil, cryptoFailure("the data is no whole number of blocks")
	}
	out := make([]byte, len(in))
	switch {
	case mode == ttlv.BlockCipherModeCBC && encrypt:
		cipher.NewCBCEncrypter(c, iv).CryptBlocks(out, in)
	case mode == ttlv.BlockCipherModeCBC:
		cipher.NewCBCDecrypter(c, iv).CryptBlocks(out, in)
	default:
		for i := 0; i < len(in); i += size {
			if encrypt {
				c.Encrypt(out[i:], in[i:])
			} else {
				c.Decrypt(out[i:], in[i:])
			}
		}
	}
	if encrypt {
		return out, nil
	}
	return unpad(out, size, padding)
}

func pad(in []byte, size int, method uint32) ([]byte, error) {
	n := size - len(in)%size
	out := slices.Clone(in)
	switch method {
	case 0, ttlv.PaddingMethodNone:
		if n != size {
			return nil, cryptoFailure("the data is no whole number of blocks, and there is no padding")
		}
		return in, nil
	case ttlv.PaddingMethodPKCS5:
		return append(out, bytes.Repeat([]byte{byte(n)}, n)...), nil
	case ttlv.PaddingMethodANSIX9_23:
		return append(append(out, make([]byte, n-1)...), byte(n)), nil
	case ttlv.PaddingMethodISO10126:
		fill := make([]byte, n)
		_, err := rand.Read(fill)
		fill[n-1] = byte(n)
		return append(out, fill...), err
	case ttlv.PaddingMethodZeros:
		return append(out, make([]byte, n%size)...), nil
	}
	return nil, fail(ttlv.ResultReasonCryptographicFailure, "this padding method is not supported")
}

func unpad(in []byte, size int, method uint32) ([]byte, error) {
	bad := cryptoFailure("the padding is not right")
	switch method {
	case 0, ttlv.PaddingMethodNone, ttlv.PaddingMethodZeros:
		return in, nil
	case ttlv.PaddingMethodPKCS5, ttlv.PaddingMethodANSIX9_23, ttlv.PaddingMethodISO10126:
	default:
		return nil, fail(ttlv.ResultReasonCryptographicFailure, "this padding method is not supported")
	}
	if len(in) == 0 {
		return nil, bad
	}
	n := int(in[len(in)-1])
	if n < 1 || n > size || n > len(in) {
		return nil, bad
	}
	fill := in[len(in)-n : len(in)-1]
	want := byte(n)
	if method == ttlv.PaddingMethodANSIX9_23 {
		want = 0
	}
	for _, c := range fill {
		if method != ttlv.PaddingMethodISO10126 && c != want {
			return nil, bad
		}
	}
	return in[:len(in)-n], nil
}

const maxRandom = 1 << 20
