package kmip

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Vectors of IEEE 1619 (XTS: 1, 2), NIST SP 800-38C (CCM: examples 1 and 2) and
// SP 800-38B (CMAC: examples 1 to 4 with AES-128).
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ key, tweak, plain, sealed string }{
		{
			"1111111111111111111111111111111122222222222222222222222222222222", "33333333330000000000000000000000",
			"4444444444444444444444444444444444444444444444444444444444444444", "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
		},
	} {
		key, tweak := unhex(t, v.key), unhex(t, v.tweak)
		out, err := xts(key, tweak, unhex(t, v.plain), true)
		if err != nil || hex.EncodeToString(out) != v.sealed {
			t.Errorf("XTS: %x, %v", out, err)
		}
	}
	key := unhex(t, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
	for n := 16; n < 70; n++ { // with stealing
		in := bytes.Repeat([]byte{byte(n), 3, 9}, 40)[:n]
		sealed, err := xts(key, in[:16], in, true)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := xts(key, in[:16], sealed, false); err != nil || !bytes.Equal(back, in) {
			t.Errorf("XTS of %d bytes: %x, %v", n, back, err)
		}
	}
	c, err := aes.NewCipher(unhex(t, "404142434445464748494a4b4c4d4e4f"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		nonce, additional, plain, sealed string
		tag                              int
	}{
		{"10111213141516", "0001020304050607", "20212223", "7162015b4dac255d", 4},
		{"1011121314151617", "000102030405060708090a0b0c0d0e0f", "202122232425262728292a2b2c2d2e2f", "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd", 6},
	} {
		a, err := newCCM(c, len(v.nonce)/2, v.tag)
		if err != nil {
			t.Fatal(err)
		}
		nonce, additional := unhex(t, v.nonce), unhex(t, v.additional)
		out := a.Seal(nil, nonce, unhex(t, v.plain), additional)
		if hex.EncodeToString(out) != v.sealed {
			t.Errorf("CCM: %x, want %s", out, v.sealed)
		}
		if back, err := a.Open(nil, nonce, out, additional); err != nil || hex.EncodeToString(back) != v.plain {
			t.Errorf("CCM opened: %x, %v", back, err)
		}
		out[0] ^= 1
		if _, err := a.Open(nil, nonce, out, additional); err == nil {
			t.Error("CCM opens what was changed")
		}
	}
	if c, err = aes.NewCipher(unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")); err != nil {
		t.Fatal(err)
	}
	text := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{
		0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c", 40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		if got := hex.EncodeToString(cmac(c, text[:n])); got != want {
			t.Errorf("CMAC of %d bytes: %s, want %s", n, got, want)
		}
	}
}

// In parts of any size comes what comes of the whole.
func TestStreams(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for _, mode := range []uint32{
		ttlv.BlockCipherModeCBC, ttlv.BlockCipherModeECB, ttlv.BlockCipherModeCTR, ttlv.BlockCipherModeOFB, ttlv.BlockCipherModeCFB, ttlv.BlockCipherModeGCM, ttlv.BlockCipherModeCCM, 0,
	} {
		for range 60 {
			alg := ttlv.CryptographicAlgorithmAES
			if mode == 0 {
				alg = []uint32{ttlv.CryptographicAlgorithmChaCha20, ttlv.CryptographicAlgorithmChaCha20Poly1305}[rnd.IntN(2)]
			}
			params := ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodPKCS5))
			if mode != 0 {
				params.Add(ttlv.Enum(ttlv.TagBlockCipherMode, mode))
			}
			u := &use{o: &object{Attrs: []attribute{newAttribute(attrAlgorithm, ttlv.Enum(0, alg))}}, key: symmetricNode(random(32), alg, 256), params: params}
			n, err := u.nonceSize(mode)
			if err != nil {
				t.Fatal(err)
			}
			iv, aad, plain := random(n), random(rnd.IntN(40)), random(rnd.IntN(200))
			if mode == ttlv.BlockCipherModeGCM && rnd.IntN(2) == 0 {
				iv = random(1 + rnd.IntN(60))
			}
			through := func(in []byte, encrypt bool) []byte {
				t.Helper()
				s := &stream{mode: mode, params: params, iv: iv, aad: aad}
				if err := s.begin(u, encrypt); err != nil {
					t.Fatal(err)
				}
				var all []byte
				for last := false; !last; {
					n := min(rnd.IntN(50), len(in))
					last = n == len(in)
					if s, err = s.copied(); err != nil {
						t.Fatal(err)
					}
					out, tag, err := s.step(u, in[:n], encrypt, last)
					if err != nil {
						t.Fatalf("mode %d: %v", mode, err)
					}
					all, in = append(append(all, out...), tag...), in[n:]
				}
				return all
			}
			var want []byte
			if a, err := u.aead(mode, iv); err != nil {
				t.Fatal(err)
			} else if a != nil {
				want = a.Seal(nil, iv, plain, aad)
			} else if want, err = u.blocks(mode, iv, plain, true); err != nil {
				t.Fatal(err)
			}
			got := through(plain, true)
			if !bytes.Equal(got, want) {
				t.Fatalf("mode %d, %d bytes: %x, want %x", mode, len(plain), got, want)
			}
			if back := through(got, false); !bytes.Equal(back, plain) {
				t.Fatalf("mode %d, %d bytes: back comes %x, want %x", mode, len(plain), back, plain)
			}
		}
	}
}

var _ cipher.AEAD = shortTag{}

// Any enough parts make the secret, by each method.
func TestSplitting(t *testing.T) {
	t.Parallel()
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 521), big.NewInt(1))
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, s := range []splitting{
		{parts: 4, threshold: 4, method: ttlv.SplitKeyMethodXOR},
		{parts: 7, threshold: 3, method: ttlv.SplitKeyMethodPolynomialSharingGF28},
		{parts: 255, threshold: 200, method: ttlv.SplitKeyMethodPolynomialSharingGF28},
		{parts: 9, threshold: 5, method: ttlv.SplitKeyMethodPolynomialSharingGF216},
		{parts: 6, threshold: 2, method: ttlv.SplitKeyMethodPolynomialSharingPrimeField, prime: prime, size: 32},
	} {
		secret := make([]byte, 32)
		for i := range secret {
			secret[i] = byte(rnd.Uint32())
		}
		parts, err := s.split(secret)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			order := rnd.Perm(s.parts)[:s.threshold]
			numbers, some := []int{}, [][]byte{}
			for _, i := range order {
				numbers, some = append(numbers, i+1), append(some, parts[i])
			}
			if got, err := s.join(numbers, some); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("method %d of %v: %x, %v", s.method, numbers, got, err)
			}
			if s.threshold > 1 {
				if got, err := s.join(numbers[1:], some[1:]); err == nil {
					t.Errorf("method %d of too few: %x", s.method, got)
				}
			}
		}
	}
	for i := 1; i < 256; i++ {
		if times(byte(i), inverse(byte(i))) != 1 {
			t.Fatalf("the inverse of %d", i)
		}
	}
}

// What is derived, by vectors of RFC 6070, RFC 5869 (test case 1), RFC 4231 (2), and,
// for NIST SP 800-108, by what other implementations make.
func TestDerive(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	params := func(hash uint32, more ...*ttlv.Node) *ttlv.Node {
		return ttlv.Struct(ttlv.TagDerivationParameters, ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagHashingAlgorithm, hash))).Add(more...)
	}
	data := func(b []byte) *ttlv.Node { return ttlv.Bytes(ttlv.TagDerivationData, b) }
	salt := func(b []byte) *ttlv.Node { return ttlv.Bytes(ttlv.TagSalt, b) }
	for i, v := range []struct {
		method uint32
		key    []byte
		params *ttlv.Node
		want   string
	}{
		{ttlv.DerivationMethodPBKDF2, []byte("password"), params(ttlv.HashingAlgorithmSHA_1, salt([]byte("salt")), ttlv.Int(ttlv.TagIterationCount, 4096)), "4b007901b765489abead49d926f721d065a429c1"},
		{ttlv.DerivationMethodHMAC, []byte("Jefe"), params(ttlv.HashingAlgorithmSHA_256, data([]byte("what do ya want for nothing?"))), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{
			ttlv.DerivationMethodHKDF, bytes.Repeat([]byte{0x0b}, 22), params(ttlv.HashingAlgorithmSHA_256, salt(unhex(t, "000102030405060708090a0b0c")), data(unhex(t, "f0f1f2f3f4f5f6f7f8f9"))),
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
		},
	} {
		x.do(func(tx storage.Tx) error {
			now := time.Now()
			b := &batch{e: x.e, ctx: context.Background(), call: x.call(tx, now), tx: tx, now: now, v: version{2, 1}, scope: "AAAAA", role: &role{ID: "R", Ops: []string{opAll}}}
			base, node, err := b.fromMaterial(ttlv.ObjectTypeSecretData, []attribute{newAttribute(attrMask, ttlv.Int(0, int32(ttlv.MaskDeriveKey)))}, v.key, ttlv.SecretDataTypeSeed)
			if err == nil {
				err = b.commit(base, node)
			}
			if err != nil {
				return err
			}
			out, err := b.deriveKey(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSecretData), idNode(base),
				ttlv.Enum(ttlv.TagDerivationMethod, v.method), v.params, ttlv.Struct(ttlv.TagTemplateAttribute,
					(&attribute{Name: attrLength, decoded: ttlv.Int(ttlv.TagAttributeValue, int32(len(v.want)*4))}).show())))
			if err != nil {
				return fmt.Errorf("case %d: %w", i, err)
			}
			o, err := b.object(out.Get(ttlv.TagUniqueIdentifier).Text())
			if err != nil {
				return err
			}
			m, err := b.material(o)
			if err != nil {
				return err
			}
			if raw, err := rawOf(m); err != nil || hex.EncodeToString(raw) != v.want {
				t.Errorf("case %d: %x, %v", i, raw, err)
			}
			return nil
		})
	}
	for _, method := range []uint32{ttlv.DerivationMethodNIST800_108C, ttlv.DerivationMethodNIST800_108F, ttlv.DerivationMethodNIST800_108DPI} {
		d := derivation{method: method, params: params(ttlv.HashingAlgorithmSHA_256), n: 100, key: []byte("k"), data: []byte("label"), hasData: true}
		long, err := d.run()
		if err != nil || len(long) < 100 {
			t.Fatalf("%d bytes, %v", len(long), err)
		}
		d.n = 10
		if short, err := d.run(); err != nil || !bytes.Equal(short[:10], long[:10]) {
			t.Error("a shorter key is not the beginning of a longer one")
		}
	}
}
