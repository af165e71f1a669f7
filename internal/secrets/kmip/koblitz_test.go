package kmip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"arca/internal/ttlv"
)

// The key of the published cases (TC-ECDSA-SIGN-1-20), with a signature of theirs.
const (
	publishedSEC1 = "30740201010420db4d128c30ca309e62c4019758c00ba244dd64d9bf52a31078866b8a00c19c68a00706052b8104000aa14403420004dab5d3c253113db414abfc1c0ebf5a02559e656aa1c8b0aa8d870aa0324cda4899925ea1e6dbc259a6c7825cf46592ac7594cc40bd604b728d88b636f317d366"
	publishedX509 = "3056301006072a8648ce3d020106052b8104000a03420004dab5d3c253113db414abfc1c0ebf5a02559e656aa1c8b0aa8d870aa0324cda4899925ea1e6dbc259a6c7825cf46592ac7594cc40bd604b728d88b636f317d366"
	publishedSig  = "30440220078ac91570286b4b35f2bf1da113c6e25e8c45dfc7a7dc7db07f7ff34ffc08d702200135d58e21d091e60b81a0e63db3d914af9fe56de9b3cf747cd8ecc74a75ee71"
	publishedData = "01020304050607080910111213141516"
)

// The published key is read, and given back byte by byte; the published signature is
// right, and wrong with any bit of it or of the digest changed.
func TestPublishedKoblitz(t *testing.T) {
	t.Parallel()
	k, err := koblitzSEC1(unhex(t, publishedSEC1), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := k.in(ttlv.KeyFormatTypeECPrivateKey); hex.EncodeToString(got.Bytes) != publishedSEC1 {
		t.Errorf("SEC 1: %x", got.Bytes)
	}
	if raw, err := k.pub.pkix(false); err != nil || hex.EncodeToString(raw) != publishedX509 {
		t.Errorf("X.509: %x, %v", raw, err)
	}
	sum, sig := sha256.Sum256(unhex(t, publishedData)), unhex(t, publishedSig)
	if !k.pub.verify(sum[:], sig) {
		t.Error("the published signature does not verify")
	}
	for i := range 8 * len(sig) {
		bad := bytes.Clone(sig)
		bad[i/8] ^= 1 << (i % 8)
		if k.pub.verify(sum[:], bad) {
			t.Errorf("bit %d of the signature counts for nothing", i)
		}
	}
	for i := range 8 * len(sum) {
		bad := sum
		bad[i/8] ^= 1 << (i % 8)
		if k.pub.verify(bad[:], sig) {
			t.Errorf("bit %d of the digest counts for nothing", i)
		}
	}
}

// What is made here, the library's own code takes, and the other way round; keys go through
// all formats; two keys agree as the library says.
func TestKoblitz(t *testing.T) {
	t.Parallel()
	for i := range 60 {
		k, err := newKoblitz()
		if err != nil {
			t.Fatal(err)
		}
		if !k.key.PubKey().IsEqual(k.pub.PublicKey) {
			t.Fatal("the public key is another one's")
		}
		digest := make([]byte, 20+i%45) // of SHA-1 to SHA-512
		_, _ = rand.Read(digest)        // never fails
		sig, err := k.Sign(rand.Reader, digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		hash := hashScalar(digest).Bytes()
		parsed, err := ecdsa.ParseDERSignature(sig)
		if err != nil || !parsed.Verify(hash[:], k.pub.PublicKey) {
			t.Fatalf("the library refuses %x: %v", sig, err)
		}
		theirs := ecdsa.Sign(k.key, hash[:])
		r, s := theirs.R(), theirs.S()
		rb, sb := r.Bytes(), s.Bytes()
		if !k.pub.verify(digest, sig) || !k.pub.verify(digest, theirs.Serialize()) || !k.pub.verify(digest, append(rb[:], sb[:]...)) {
			t.Fatal("a good signature is refused")
		}
		s.Negate() // the other S is as good (SEC 1 knows no difference)
		sb = s.Bytes()
		if !k.pub.verify(digest, append(rb[:], sb[:]...)) {
			t.Fatal("a signature with the larger S is refused")
		}
		other, err := newKoblitz()
		if err != nil {
			t.Fatal(err)
		}
		if other.pub.verify(digest, sig) {
			t.Fatal("another key's signature is taken")
		}
		one, err1 := k.agree(other.pub)
		two, err2 := other.agree(k.pub)
		if want := secp256k1.GenerateSharedSecret(k.key, other.pub.PublicKey); err1 != nil || err2 != nil || !bytes.Equal(one, two) || !bytes.Equal(one, want) {
			t.Fatalf("%x, %x, want %x (%v, %v)", one, two, want, err1, err2)
		}
		for _, format := range []uint32{ttlv.KeyFormatTypeECPrivateKey, ttlv.KeyFormatTypePKCS_8, ttlv.KeyFormatTypeTransparentECPrivateKey, ttlv.KeyFormatTypeTransparentECDSAPrivateKey} {
			back, err := privateKey(keyNode(ttlv.TagPrivateKey, format, privateIn(k, format), ttlv.CryptographicAlgorithmEC, 256))
			if b, ok := back.(*koblitzPrivate); err != nil || !ok || !b.key.Key.Equals(&k.key.Key) {
				t.Fatalf("format %d: %v, %v", format, back, err)
			}
		}
		for _, format := range []uint32{ttlv.KeyFormatTypeX_509, ttlv.KeyFormatTypeTransparentECPublicKey, ttlv.KeyFormatTypeTransparentECDHPublicKey, ttlv.KeyFormatTypeRaw} {
			for _, compressed := range []bool{false, true} {
				if format == ttlv.KeyFormatTypeRaw && compressed { // it may be of P-256
					continue
				}
				back, err := publicKey(keyNode(ttlv.TagPublicKey, format, inPublic(k.pub, format, compressed), ttlv.CryptographicAlgorithmEC, 256))
				if err != nil || !k.pub.Equal(back) {
					t.Fatalf("format %d: %v, %v", format, back, err)
				}
			}
		}
	}
}

// What is no key is refused: 0, the order and more, points off the curve, hybrids, points
// of others, other curves.
func TestNoKoblitz(t *testing.T) {
	t.Parallel()
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	for _, n := range []*big.Int{big.NewInt(0), order, new(big.Int).Add(order, big.NewInt(1)), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))} {
		if _, err := koblitzFrom(n.FillBytes(make([]byte, 32))); err == nil {
			t.Errorf("%x is a key", n)
		}
	}
	k, err := koblitzFrom(new(big.Int).Sub(order, big.NewInt(1)).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	q := k.pub.point(false)
	off, hybrid := bytes.Clone(q), bytes.Clone(q)
	off[64] ^= 1
	hybrid[0] = 6 | q[64]&1
	for what, raw := range map[string][]byte{"none": {}, "infinity": {0}, "off the curve": off, "hybrid": hybrid, "short": q[:64], "long": append(bytes.Clone(q), 0)} {
		if _, err := koblitzPoint(raw); err == nil {
			t.Errorf("%s: it is a point", what)
		}
	}
	raw := unhex(t, publishedSEC1)
	raw[len(raw)-1] ^= 1 // the point is not the key's
	if _, err := koblitzSEC1(raw, false); err == nil {
		t.Error("a key with another's point is taken")
	}
	inner, err := k.sec1(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := koblitzSEC1(inner, false); err == nil {
		t.Error("a key on no named curve is taken")
	}
	if _, err := koblitzSEC1(inner, true); err != nil {
		t.Error(err)
	}
	for _, sig := range [][]byte{{}, make([]byte, 64), make([]byte, 81), {0x30, 6, 2, 1, 0, 2, 1, 1}, {0x30, 6, 2, 1, 0xff, 2, 1, 1}} {
		if k.pub.verify(make([]byte, 32), sig) {
			t.Errorf("%x is a signature", sig)
		}
	}
}

// Whatever bytes come for a key or a signature, they are read or refused; what is read
// goes out as it came in.
func FuzzKoblitz(f *testing.F) {
	for _, s := range []string{publishedSEC1, publishedX509, publishedSig} {
		f.Add(unhex(f, s))
	}
	known, err := koblitzSEC1(unhex(f, publishedSEC1), false)
	if err != nil {
		f.Fatal(err)
	}
	wrapped, err := known.pkcs8()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, read := range []func([]byte) (*koblitzPrivate, error){
			koblitzPKCS8, koblitzFrom, func(raw []byte) (*koblitzPrivate, error) { return koblitzSEC1(raw, true) },
		} {
			k, err := read(raw)
			if err != nil {
				continue
			}
			out, err := k.pkcs8()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := koblitzPKCS8(out); err != nil || !back.key.Key.Equals(&k.key.Key) {
				t.Fatalf("%x came back as %v, %v", raw, back, err)
			}
		}
		if q, err := koblitzPoint(raw); err == nil && (!q.IsOnCurve() || !bytes.Equal(q.point(len(raw) == 33), raw)) {
			t.Fatalf("%x is a point", raw)
		}
		if k, err := parsePKIX(raw); err == nil {
			if q, ok := k.(koblitzPublic); ok && !q.IsOnCurve() {
				t.Fatalf("%x is a key", raw)
			}
		}
		known.pub.verify(raw[:min(len(raw), 32)], raw)
	})
}
