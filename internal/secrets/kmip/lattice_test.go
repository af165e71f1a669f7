package kmip

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"encoding/asn1"
	"encoding/base64"
	"testing"

	"arca/internal/ttlv"
)

// The example of RFC 9881, appendix C.1.1.1: the seed 00 to 1f of ML-DSA-44.
const publishedLattice = "MDQCAQAwCwYJYIZIAWUDBAMRBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

func TestPublishedLattice(t *testing.T) {
	t.Parallel()
	raw, err := base64.StdEncoding.DecodeString(publishedLattice)
	if err != nil {
		t.Fatal(err)
	}
	k, err := latticePKCS8(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := privateIn(k, ttlv.KeyFormatTypePKCS_8); !bytes.Equal(got.Bytes, raw) {
		t.Errorf("%x", got.Bytes)
	}
	if s, ok := k.(*latticeSigner); !ok || s.pub.alg != ttlv.CryptographicAlgorithmMLDSA_44 || s.seed[31] != 31 {
		t.Errorf("it is %v", k)
	}
}

// Keys of all algorithms go through their formats; those of ML-DSA sign what they verify, and
// only that.
func TestLattices(t *testing.T) {
	t.Parallel()
	for _, l := range lattices() {
		k, err := newLattice(l)
		if err != nil {
			t.Fatal(err)
		}
		pub, ok := k.Public().(latticePublic)
		if alg, bits := algorithmOf(k.Public()); !ok || alg != l.alg || int(bits) != 8*len(pub.raw) || len(pub.raw) != l.public {
			t.Fatalf("algorithm %d, %d bits", alg, bits)
		}
		for _, format := range []uint32{ttlv.KeyFormatTypeRaw, ttlv.KeyFormatTypePKCS_8} {
			back, err := privateKey(keyNode(ttlv.TagPrivateKey, format, privateIn(k, format), l.alg, 0))
			if err != nil || !pub.Equal(back.Public()) {
				t.Errorf("algorithm %d, format %d: %v", l.alg, format, err)
			}
		}
		for _, format := range []uint32{ttlv.KeyFormatTypeRaw, ttlv.KeyFormatTypeX_509} {
			back, err := publicKey(keyNode(ttlv.TagPublicKey, format, inPublic(pub, format, false), l.alg, 0))
			if err != nil || !pub.Equal(back) {
				t.Errorf("algorithm %d, format %d: %v", l.alg, format, err)
			}
		}
		for _, format := range []uint32{ttlv.KeyFormatTypePKCS_1, ttlv.KeyFormatTypeECPrivateKey, ttlv.KeyFormatTypeTransparentECPrivateKey} {
			if privateIn(k, format) != nil {
				t.Errorf("algorithm %d: it is given in format %d", l.alg, format)
			}
		}
		if inPublic(pub, ttlv.KeyFormatTypeTransparentECPublicKey, false) != nil || inPublic(pub, ttlv.KeyFormatTypePKCS_1, false) != nil {
			t.Errorf("algorithm %d: the public key is given in others' formats", l.alg)
		}
		signer, signs := k.(crypto.Signer)
		if signs == l.kem {
			t.Fatalf("algorithm %d: it signs: %v", l.alg, signs)
		}
		if !signs {
			continue
		}
		other, err := newLattice(l)
		if err != nil {
			t.Fatal(err)
		}
		message := []byte("what is signed")
		sig, err := signer.Sign(nil, message, nil)
		if err != nil || !pub.verify(message, sig) {
			t.Fatalf("algorithm %d: %v", l.alg, err)
		}
		otherPub, _ := other.Public().(latticePublic)
		for i := 0; i < len(sig); i += 97 {
			bad := bytes.Clone(sig)
			bad[i] ^= 1
			if pub.verify(message, bad) {
				t.Errorf("algorithm %d: byte %d counts for nothing", l.alg, i)
			}
		}
		if pub.verify(message[1:], sig) || otherPub.verify(message, sig) || pub.verify(message, sig[1:]) || pub.verify(message, nil) || pub.verify(message, append(sig, 0)) {
			t.Errorf("algorithm %d: something else verifies", l.alg)
		}
	}
}

// A key that comes with what follows from its seed must have the right one; without the seed
// it is none.
func TestExpandedLattices(t *testing.T) {
	t.Parallel()
	for _, l := range lattices() {
		k, err := newLattice(l)
		if err != nil {
			t.Fatal(err)
		}
		seed := privateIn(k, ttlv.KeyFormatTypeRaw).Bytes
		var expanded []byte
		if s, ok := k.(*latticeSigner); ok {
			if expanded, err = s.key.MarshalBinary(); err != nil {
				t.Fatal(err)
			}
		} else { // as FIPS 203 has it, but for what nobody looks at
			pub, _ := k.Public().(latticePublic)
			expanded = append(append(make([]byte, l.public-32), pub.raw...), make([]byte, 32)...)
			expanded = append(expanded, seed[32:]...)
			want := map[int]int{1184: 2400, 1568: 3168}[l.public]
			if len(expanded) != want || mlkem.SeedSize != len(seed) {
				t.Fatalf("%d bytes", len(expanded))
			}
		}
		wrap := func(inner any) []byte {
			t.Helper()
			content, err := asn1.Marshal(inner)
			if err != nil {
				t.Fatal(err)
			}
			alg := pkcs8{Key: content}
			alg.Algorithm.Algorithm = l.identifier()
			raw, err := asn1.Marshal(alg)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		type both struct{ Seed, Expanded []byte }
		if back, err := latticePKCS8(wrap(both{seed, expanded})); err != nil || back.Public() != k.Public() {
			t.Errorf("algorithm %d: %v", l.alg, err)
		}
		wrong := bytes.Clone(expanded)
		wrong[len(wrong)-1] ^= 1
		for what, raw := range map[string][]byte{
			"another key": wrap(both{seed, wrong}), "no seed": wrap(expanded), "a short seed": wrap(both{seed[1:], expanded}), "nothing": wrap(both{seed, nil}),
			"a short seed alone": wrap(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: seed[1:]}),
		} {
			if _, err := latticePKCS8(raw); err == nil {
				t.Errorf("algorithm %d: %s is taken", l.alg, what)
			}
		}
	}
}

// Whatever comes for a key or a signature is read or refused.
func FuzzLattice(f *testing.F) {
	raw, err := base64.StdEncoding.DecodeString(publishedLattice)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	var pubs []latticePublic
	for _, l := range lattices() {
		k, err := latticeFrom(l, make([]byte, l.seed))
		if err != nil {
			f.Fatal(err)
		}
		pub, _ := k.Public().(latticePublic)
		pubs = append(pubs, pub)
		f.Add(privateIn(k, ttlv.KeyFormatTypePKCS_8).Bytes)
		f.Add(inPublic(pub, ttlv.KeyFormatTypeX_509, false).Bytes)
		f.Add([]byte(pub.raw))
		if s, ok := k.(crypto.Signer); ok {
			sig, err := s.Sign(nil, []byte("x"), nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(sig)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if k, err := latticePKCS8(raw); err == nil {
			out := privateIn(k, ttlv.KeyFormatTypePKCS_8)
			if back, err := latticePKCS8(out.Bytes); err != nil || back.Public() != k.Public() {
				t.Fatalf("%x came back as %v, %v", raw, back, err)
			}
		}
		if k, err := parsePKIX(raw); err == nil {
			if pub, ok := k.(latticePublic); ok && len(pub.raw) != pub.public {
				t.Fatalf("%x is a key", raw)
			}
		}
		for _, pub := range pubs {
			if k, err := latticePoint(pub.lattice, raw); err == nil && k.raw != string(raw) {
				t.Fatalf("%x is a key", raw)
			}
			pub.verify(raw[:len(raw)/2], raw)
		}
	})
}
