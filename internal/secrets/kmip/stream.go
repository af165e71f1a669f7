package kmip

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"

	"arca/internal/ttlv"
)

// Data may come in several parts (KMIP 1.3, section 4.29): the first begins a stream
// and is answered with its name, a Correlation Value; the last ends it. Streams live
// in the memory of the active node.
const (
	maxStreams  = 100    // of a role
	allStreams  = 10_000 // of all mounts
	streamIdle  = 5 * time.Minute
	streamBytes = 16 // of a name
	maxBuffered = 1 << 20
)

// streams are those under way, by mount, scope, role and name.
type streams struct {
	mu  sync.Mutex
	all map[string]*stream // guarded by mu; a stream in it does not change
}

// A stream is an operation under way. It is copied before it goes on, so that a
// transaction may run again.
type stream struct {
	op      uint32
	object  string     // identifier; "" for Hash
	params  *ttlv.Node // as the first part had them
	iv, aad []byte
	made    bool // the server made iv
	mode    uint32
	pending []byte // not a whole block yet
	reg, ks []byte // the block that the next one goes on from; key stream
	at      int    // in ks
	n       uint64 // bytes so far
	g       *ghash
	h       hash.Hash
	whole   []byte // what can only be worked on as a whole
	proof   []byte // the signature or MAC to compare
	touched time.Time
}

func (s *stream) copied() (*stream, error) {
	c := *s
	c.pending, c.reg, c.ks, c.whole = slices.Clone(s.pending), slices.Clone(s.reg), slices.Clone(s.ks), slices.Clone(s.whole)
	if s.g != nil {
		g := *s.g
		c.g = &g
	}
	if s.h != nil {
		h, ok := s.h.(hash.Cloner)
		if !ok {
			return nil, fail(ttlv.ResultReasonFeatureNotSupported, "data in several parts is not supported for this algorithm")
		}
		h, err := h.Clone()
		if err != nil {
			return nil, err
		}
		c.h = h
	}
	return &c, nil
}

// partial reports whether a request is a part of a stream.
func partial(p *ttlv.Node) bool {
	begins, ends := p.Get(ttlv.TagInitIndicator), p.Get(ttlv.TagFinalIndicator)
	if begins != nil && begins.Int == 1 {
		return ends == nil || ends.Int != 1
	}
	return p.Get(ttlv.TagCorrelationValue) != nil && !(begins != nil && ends != nil) // with both, and false, it is whole
}

// own is a node that does not lie in the message's buffer.
func own(n *ttlv.Node) *ttlv.Node {
	if n == nil {
		return nil
	}
	c, err := ttlv.Decode(n.Encode())
	if err != nil {
		return n // what was decoded once decodes again
	}
	return c
}

func isSet(p *ttlv.Node, tag ttlv.Tag) bool { n := p.Get(tag); return n != nil && n.Int == 1 }

func (b *batch) streamKey(name []byte) string {
	return strings.Join([]string{b.call.Mount.ID, b.scope, b.role.ID, hex.EncodeToString(name)}, "/")
}

// resumed is the stream that a request continues, nil when it begins one.
func (b *batch) resumed(p *ttlv.Node, op uint32, id string) (*stream, []byte, error) {
	name := bytesField(p, ttlv.TagCorrelationValue)
	if isSet(p, ttlv.TagInitIndicator) {
		return nil, nil, nil
	}
	key := b.streamKey(name)
	s, ok := b.flows[key]
	if !ok {
		b.e.streams.mu.Lock()
		s = b.e.streams.all[key]
		b.e.streams.mu.Unlock()
	}
	if s == nil || s.op != op || s.object != id || b.now.Sub(s.touched) > streamIdle {
		return nil, nil, newer(fail(ttlv.ResultReasonItemNotFound, "there is no such stream"), ttlv.ResultReasonInvalidCorrelationValue)
	}
	c, err := s.copied()
	return c, name, err
}

// keep notes how far a stream is, or that it has ended, and returns its name. That
// counts when the message has been served.
func (b *batch) keepStream(s *stream, name []byte, ends bool) ([]byte, error) {
	if b.flows == nil {
		b.flows = map[string]*stream{}
	}
	if name == nil && !ends {
		for slot := 0; name == nil; slot++ {
			try := b.correlation("stream", s.object, slot)
			if key := b.streamKey(try); b.flows[key] == nil && !b.e.streams.has(key) {
				name = try
			}
		}
		if !b.e.streams.room(b.streamKey(nil), b.now) {
			return nil, newer(fail(ttlv.ResultReasonGeneralFailure, "a role has at most %d streams at a time", maxStreams), ttlv.ResultReasonServerLimitExceeded)
		}
	}
	if len(s.pending)+len(s.whole) > maxBuffered {
		return nil, newer(fail(ttlv.ResultReasonGeneralFailure, "so much data can only be taken in parts by another mode"), ttlv.ResultReasonServerLimitExceeded)
	}
	s.touched = b.now
	if name != nil {
		key := b.streamKey(name)
		if ends {
			s = nil
		}
		b.flows[key] = s
	}
	return name, nil
}

// correlation makes a name that cannot be guessed, of the connection alone: the same
// comes again when what had it is over, as the published cases have it.
func (b *batch) correlation(what, object string, slot int) []byte {
	m := hmac.New(sha256.New, b.e.secret[:])
	_, _ = fmt.Fprintf(m, "%q %q %q %q %q %q %d", what, b.call.Mount.ID, b.scope, b.role.ID, b.call.Request.Remote, object, slot) // never fails
	return m.Sum(nil)[:streamBytes]
}

func (t *streams) has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[key] != nil
}

// room reports whether a role may have another stream, and forgets idle ones.
func (t *streams) room(prefix string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for key, s := range t.all {
		if now.Sub(s.touched) > streamIdle {
			delete(t.all, key)
		} else if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n < maxStreams && len(t.all) < allStreams
}

// publish makes what a message did with streams count.
func (t *streams) publish(flows map[string]*stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, s := range flows {
		if s == nil {
			delete(t.all, key)
		} else {
			t.all[key] = s
		}
	}
}

// begin makes the state of a stream that encrypts or decrypts.
func (s *stream) begin(u *use, encrypt bool) error {
	if isRSA(u) {
		return fail(ttlv.ResultReasonFeatureNotSupported, "data in several parts is not for RSA")
	}
	alg := u.algorithm()
	if alg == ttlv.CryptographicAlgorithmChaCha20 || alg == ttlv.CryptographicAlgorithmChaCha20Poly1305 {
		return nil
	}
	c, err := u.block()
	if err != nil {
		return err
	}
	size := c.BlockSize()
	switch s.mode {
	case ttlv.BlockCipherModeECB:
	case ttlv.BlockCipherModeCBC, ttlv.BlockCipherModeCTR, ttlv.BlockCipherModeOFB, ttlv.BlockCipherModeCFB:
		if len(s.iv) != size {
			return cryptoFailure("the IV has not the length of a block")
		}
		s.reg = slices.Clone(s.iv)
	case ttlv.BlockCipherModeGCM:
		if _, err := u.gcm(s.iv); err != nil || !encrypt {
			return err
		}
		s.reg = firstBlock(c, s.iv)
		count32(s.reg)
		s.g = newGHash(c)
		s.g.write(s.aad)
		s.g.fill()
	case ttlv.BlockCipherModeCCM:
		_, err := u.aead(s.mode, s.iv)
		return err
	default:
		return fail(ttlv.ResultReasonFeatureNotSupported, "data in several parts is not supported for this block cipher mode")
	}
	return nil
}

// count32 counts up the last 32 bits of a block.
func count32(b []byte) {
	at := b[len(b)-4:]
	binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)+1)
}

// step encrypts or decrypts a part. tag is that of an authenticated mode, with the
// last part.
func (s *stream) step(u *use, in []byte, encrypt, last bool) (out, tag []byte, err error) {
	s.n += uint64(len(in))
	alg := u.algorithm()
	switch {
	case alg == ttlv.CryptographicAlgorithmChaCha20:
		return s.chacha(u, in)
	case alg == ttlv.CryptographicAlgorithmChaCha20Poly1305, s.mode == ttlv.BlockCipherModeCCM, s.mode == ttlv.BlockCipherModeGCM && !encrypt:
		// Nothing that is not authenticated yet is given out.
		s.whole = append(s.whole, in...)
		if !last {
			return nil, nil, nil
		}
		a, err := u.aead(s.mode, s.iv)
		if err != nil {
			return nil, nil, err
		}
		if encrypt {
			sealed := a.Seal(nil, s.iv, s.whole, s.aad)
			return sealed[:len(s.whole)], sealed[len(s.whole):], nil
		}
		out, err = a.Open(nil, s.iv, s.whole, s.aad)
		if err != nil {
			return nil, nil, cryptoFailure("the data is not what was encrypted")
		}
		return out, nil, nil
	}
	c, err := u.block()
	if err != nil {
		return nil, nil, err
	}
	if s.mode == ttlv.BlockCipherModeCBC || s.mode == ttlv.BlockCipherModeECB {
		out, err = s.blocks(u, c, in, encrypt, last)
		return out, nil, err
	}
	out = s.keyStream(c, in, encrypt)
	if s.mode == ttlv.BlockCipherModeGCM {
		s.g.write(out)
		if last {
			n, err := u.tagLength()
			if err != nil {
				return nil, nil, err
			}
			sum := s.g.sum(uint64(len(s.aad)), s.n)
			first := firstBlock(c, s.iv)
			c.Encrypt(first, first)
			subtle.XORBytes(sum[:], sum[:], first)
			tag = sum[:n]
		}
	}
	return out, tag, nil
}

func (s *stream) chacha(u *use, in []byte) (out, tag []byte, err error) {
	key, err := rawOf(u.key)
	if err != nil {
		return nil, nil, err
	}
	done := s.n - uint64(len(in))
	if s.n/64 >= 1<<32-1 {
		return nil, nil, cryptoFailure("there is no more key stream under this nonce")
	}
	c, err := chacha(key, s.iv, uint32(done/64))
	if err != nil {
		return nil, nil, err
	}
	skip := make([]byte, done%64)
	c.XORKeyStream(skip, skip)
	out = make([]byte, len(in))
	c.XORKeyStream(out, in)
	return out, nil, nil
}

// blocks is CBC or ECB over what makes whole blocks.
func (s *stream) blocks(u *use, c cipher.Block, in []byte, encrypt, last bool) (out []byte, err error) {
	size := c.BlockSize()
	padding, err := u.param(ttlv.TagPaddingMethod)
	if err != nil {
		return nil, err
	}
	data := slices.Concat(s.pending, in)
	if last && encrypt {
		if data, err = pad(data, size, padding); err != nil {
			return nil, err
		}
	}
	n := len(data) / size * size
	held := !encrypt && !last && padding != 0 && padding != ttlv.PaddingMethodNone
	if held && n > 0 && n == len(data) { // it may be the last one, with the padding
		n -= size
	}
	if last && n != len(data) {
		return nil, cryptoFailure("the data is no whole number of blocks")
	}
	s.pending = slices.Clone(data[n:])
	out = make([]byte, n)
	switch {
	case n == 0:
	case s.mode == ttlv.BlockCipherModeECB:
		for i := 0; i < n; i += size {
			if encrypt {
				c.Encrypt(out[i:], data[i:])
			} else {
				c.Decrypt(out[i:], data[i:])
			}
		}
	case encrypt:
		cipher.NewCBCEncrypter(c, s.reg).CryptBlocks(out, data[:n])
		s.reg = slices.Clone(out[n-size:])
	default:
		cipher.NewCBCDecrypter(c, s.reg).CryptBlocks(out, data[:n])
		s.reg = slices.Clone(data[n-size : n])
	}
	if last && !encrypt {
		return unpad(out, size, padding)
	}
	return out, nil
}

// keyStream is CTR, OFB, CFB, or the cipher of GCM.
func (s *stream) keyStream(c cipher.Block, in []byte, encrypt bool) []byte {
	size := c.BlockSize()
	out := make([]byte, len(in))
	for i, x := range in {
		if s.at == 0 {
			s.ks = make([]byte, size)
			c.Encrypt(s.ks, s.reg)
			switch s.mode {
			case ttlv.BlockCipherModeOFB:
				s.reg = slices.Clone(s.ks)
			case ttlv.BlockCipherModeGCM:
				count32(s.reg)
			case ttlv.BlockCipherModeCTR:
				for j := size - 1; j >= 0; j-- {
					if s.reg[j]++; s.reg[j] != 0 {
						break
					}
				}
			}
		}
		out[i] = x ^ s.ks[s.at]
		if s.mode == ttlv.BlockCipherModeCFB {
			s.reg[s.at] = out[i]
			if !encrypt {
				s.reg[s.at] = x
			}
		}
		s.at = (s.at + 1) % size
	}
	return out
}

// cryptPart is Encrypt or Decrypt with a part of the data.
func (b *batch) cryptPart(p *ttlv.Node, op, mask uint32, encrypt bool) (*ttlv.Node, error) {
	u, err := b.using(p, mask, encrypt)
	if err != nil {
		return nil, err
	}
	s, name, err := b.resumed(p, op, u.o.ID)
	if err != nil {
		return nil, err
	}
	begins := s == nil
	if begins {
		s = &stream{op: op, object: u.o.ID, params: own(u.params), iv: slices.Clone(bytesField(p, ttlv.TagIVCounterNonce)), aad: slices.Clone(bytesField(p, ttlv.TagAuthenticatedEncryptionAdditionalData))}
		if s.mode, err = u.param(ttlv.TagBlockCipherMode); err != nil {
			return nil, err
		}
		n, err := u.nonceSize(s.mode)
		if err != nil {
			return nil, err
		}
		switch {
		case n == 0:
		case encrypt && (s.iv == nil || isSet(u.params, ttlv.TagRandomIV)):
			s.iv, s.made = make([]byte, n), true
			if _, err := rand.Read(s.iv); err != nil {
				return nil, err
			}
		case s.iv == nil:
			return nil, fail(ttlv.ResultReasonInvalidMessage, "IV/Counter/Nonce is required")
		}
		if err := s.begin(u, encrypt); err != nil {
			return nil, err
		}
	}
	u.params = s.params
	last := isSet(p, ttlv.TagFinalIndicator)
	u.data = bytesField(p, ttlv.TagData)
	in := u.data
	if last && !encrypt {
		in = slices.Concat(in, bytesField(p, ttlv.TagAuthenticatedEncryptionTag))
	}
	data, tag, err := s.step(u, in, encrypt, last)
	if err != nil {
		return nil, err
	}
	out := response(idNode(u.o))
	if !b.v.atLeast(1, 4) {
		data, tag = append(data, tag...), nil
	}
	if len(data) > 0 {
		out.Add(ttlv.Bytes(ttlv.TagData, data))
	}
	if begins && s.made {
		out.Add(ttlv.Bytes(ttlv.TagIVCounterNonce, s.iv))
	}
	if name, err = b.keepStream(s, name, last); err != nil {
		return nil, err
	}
	if !last {
		out.Add(ttlv.Bytes(ttlv.TagCorrelationValue, name))
	}
	if tag != nil {
		out.Add(ttlv.Bytes(ttlv.TagAuthenticatedEncryptionTag, tag))
	}
	return out, b.spentPart(u, begins)
}

// spentPart counts a part: bytes each time, the use of the object once.
func (b *batch) spentPart(u *use, begins bool) error {
	l := u.o.get(attrLimits)
	if l == nil || !begins && uint32(l.Get(ttlv.TagUsageLimitsUnit).Int) != ttlv.UsageLimitsUnitByte {
		return nil
	}
	return b.spent(u)
}

// sumPart feeds a part to a hash or MAC. When it was the last, whole is the sum.
func (b *batch) sumPart(p *ttlv.Node, op uint32, id string, begin func() (*stream, error)) (s *stream, sum []byte, out *ttlv.Node, err error) {
	s, name, err := b.resumed(p, op, id)
	if err != nil {
		return nil, nil, nil, err
	}
	if s == nil {
		if s, err = begin(); err != nil {
			return nil, nil, nil, err
		}
		s.op, s.object = op, id
	}
	if v := bytesField(p, ttlv.TagMACData); v != nil {
		s.proof = v
	}
	if v := bytesField(p, ttlv.TagSignatureData); v != nil {
		s.proof = v
	}
	s.proof = slices.Clone(s.proof) // it outlives the message
	data := bytesField(p, ttlv.TagData)
	if s.h != nil {
		s.h.Write(data)
	} else {
		s.whole = append(s.whole, data...)
	}
	last := isSet(p, ttlv.TagFinalIndicator)
	if name, err = b.keepStream(s, name, last); err != nil {
		return nil, nil, nil, err
	}
	if !last {
		out = response()
		if id != "" {
			out.Add(ttlv.Text(ttlv.TagUniqueIdentifier, id))
		}
		return s, nil, out.Add(ttlv.Bytes(ttlv.TagCorrelationValue, name)), nil
	}
	if s.h != nil {
		return s, s.h.Sum(nil), nil, nil
	}
	return s, s.whole, nil, nil
}
