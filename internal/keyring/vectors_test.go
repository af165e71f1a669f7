package keyring

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/sha512"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixed is a version with given material, as if it had been stored.
func fixed(t testing.TB, s Spec, m Material) *Version {
	t.Helper()
	v := &Version{Number: 1, spec: s, m: m}
	if err := v.open(); err != nil {
		t.Fatal(err)
	}
	return v
}

// Known answers of the AEADs, put together as transit stores them: nonce, then
// ciphertext and tag.
func TestAEADVectors(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                               string
		typ                                Type
		key, nonce, plain, aad, ciphertext string
	}{
		{
			"NIST GCM, test case 2", AES128GCM, "00000000000000000000000000000000", "000000000000000000000000",
			"00000000000000000000000000000000", "", "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
		},
		{
			"NIST GCM, test case 14", AES256GCM, "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
			"00000000000000000000000000000000", "", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
		},
		{
			"NIST GCM, test case 16", AES256GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
			"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
			"feedfacedeadbeeffeedfacedeadbeefabaddad2",
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
		},
		{
			"RFC 8439, 2.8.2", ChaCha20, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
			hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")),
			"50515253c0c1c2c3c4c5c6c7",
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
		},
		{
			"XChaCha20-Poly1305, draft-irtf-cfrg-xchacha-03, A.3.1", XChaCha20,
			"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "404142434445464748494a4b4c4d4e4f5051525354555657",
			hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")),
			"50515253c0c1c2c3c4c5c6c7",
			"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := &Key{Spec: Spec{Type: c.typ}}
			v := fixed(t, k.Spec, Material{Secret: unhex(t, c.key)})
			sealed := unhex(t, c.nonce+c.ciphertext)
			got, err := k.Decrypt(v, bytes.Clone(sealed), CryptOptions{AAD: unhex(t, c.aad)})
			if err != nil || !bytes.Equal(got, unhex(t, c.plain)) {
				t.Fatalf("decrypted %x, %v", got, err)
			}
			for i := range sealed { // each byte counts
				bad := bytes.Clone(sealed)
				bad[i] ^= 1
				if _, err := k.Decrypt(v, bad, CryptOptions{AAD: unhex(t, c.aad)}); err == nil {
					t.Fatalf("byte %d changed, and not seen", i)
				}
			}
		})
	}
}

// RFC 4493, section 4, and NIST SP 800-38B, appendix D.
func TestCMACVectors(t *testing.T) {
	t.Parallel()
	const message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	cases := []struct {
		typ  Type
		key  string
		n    int
		want string
	}{
		{CMAC128, "2b7e151628aed2a6abf7158809cf4f3c", 0, "bb1d6929e95937287fa37d129b756746"},
		{CMAC128, "2b7e151628aed2a6abf7158809cf4f3c", 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{CMAC128, "2b7e151628aed2a6abf7158809cf4f3c", 40, "dfa66747de9ae63030ca32611497c827"},
		{CMAC128, "2b7e151628aed2a6abf7158809cf4f3c", 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{CMAC192, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 0, "d17ddf46adaacde531cac483de7a9367"},
		{CMAC192, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 16, "9e99a7bf31e710900662f65e617c5184"},
		{CMAC192, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 64, "a1d5df0eed790f794d77589659f39a11"},
		{CMAC256, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 0, "028962f61b7bf89efc6b551f4667d983"},
		{CMAC256, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{CMAC256, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 64, "e1992190549f6ed5696a2c056c315410"},
	}
	for _, c := range cases {
		v := fixed(t, Spec{Type: c.typ}, Material{Secret: unhex(t, c.key)})
		got, err := v.CMAC(unhex(t, message)[:c.n], 0)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s of %d bytes: %x, %v, want %s", c.typ, c.n, got, err, c.want)
		}
		if got, err = v.CMAC(unhex(t, message)[:c.n], 5); err != nil || hex.EncodeToString(got) != c.want[:10] {
			t.Errorf("%s of %d bytes, shortened: %x, %v", c.typ, c.n, got, err)
		}
	}
}

// RFC 8032, sections 7.1 to 7.3.
func TestEd25519Vectors(t *testing.T) {
	t.Parallel()
	digest := sha512.Sum512([]byte("abc"))
	cases := []struct {
		name, seed, public string
		input              []byte
		o                  SignOptions
		sig                string
	}{
		{
			"pure, 1", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", nil,
			SignOptions{},
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"pure, 2", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
			[]byte{0x72},
			SignOptions{},
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
		{
			"ctx foo", "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6", "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292",
			unhex(t, "f726936d19c800494e3fdaff20b276a8"),
			SignOptions{Label: []byte("foo")},
			"55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
		},
		{
			"ph abc", "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42", "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
			digest[:],
			SignOptions{Prehashed: true, Hash: crypto.SHA512},
			"98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := &Key{Spec: Spec{Type: Ed25519}}
			seed := unhex(t, c.seed)
			if got := hex.EncodeToString(edPublic(seed)); got != c.public {
				t.Fatalf("public key %s, want %s", got, c.public)
			}
			v := fixed(t, k.Spec, Material{Secret: seed, Public: edPublic(seed)})
			sig, _, err := k.Sign(v, c.input, c.o)
			if err != nil || hex.EncodeToString(sig) != c.sig {
				t.Errorf("signature %x, %v", sig, err)
			}
			if ok, err := k.Verify(v, c.input, sig, c.o); !ok || err != nil {
				t.Errorf("verified: %v, %v", ok, err)
			}
			o := c.o
			o.Label = append([]byte("x"), o.Label...)
			if ok, _ := k.Verify(v, c.input, sig, o); ok {
				t.Error("verified with another context")
			}
		})
	}
}

// RFC 4231, test cases 1 and 2.
func TestHMACVectors(t *testing.T) {
	t.Parallel()
	v := fixed(t, Spec{Type: HMAC}, Material{Secret: bytes.Repeat([]byte{0x0b}, 20)})
	for h, want := range map[crypto.Hash]string{
		crypto.SHA224: "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22",
		crypto.SHA256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
		crypto.SHA384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
		crypto.SHA512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
	} {
		if got := hex.EncodeToString(v.MAC(h, []byte("Hi There"))); got != want {
			t.Errorf("%s: %s, want %s", h, got, want)
		}
	}
}

// HKDF-SHA256 (RFC 5869) without salt, the context as info; computed with Python's
// hmac module. Convergent nonces are the HMAC of the plaintext under the bytes
// behind those of the key.
func TestDerive(t *testing.T) {
	t.Parallel()
	const want = "4dab882d8b0d50086b46a92f97ad12a416e9263fddf12098199dad7c275b89f46e6136c483ac07e3e92958f25b3be5dd3c11734d83a23a7858f6891151fc28cb"
	v := fixed(t, Spec{Type: HMAC}, Material{Secret: bytes.Repeat([]byte{0x0b}, 22)})
	if _, err := v.derive(nil, 42); err == nil {
		t.Error("derived without a context")
	}
	if got, err := v.derive([]byte("ctx"), 64); err != nil || hex.EncodeToString(got) != want {
		t.Errorf("derived %x, %v", got, err)
	}
	k := &Key{Spec: Spec{Type: AES256GCM}, Derived: true, Convergent: true}
	v = fixed(t, k.Spec, Material{Secret: bytes.Repeat([]byte{0x0b}, 32)})
	one, err := k.Encrypt(v, nil, []byte("hello"), CryptOptions{Context: []byte("ctx")})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := v.derive([]byte("ctx"), 64)
	if err != nil {
		t.Fatal(err)
	}
	nonce := fixed(t, Spec{Type: HMAC}, Material{Secret: keys[32:]}).MAC(crypto.SHA256, []byte("hello"))[:12]
	if !bytes.HasPrefix(one, nonce) {
		t.Errorf("nonce %x, want %x", one[:12], nonce)
	}
	seen := map[string]string{}
	for _, aad := range []string{"", "a", "b", "hello"} {
		o := CryptOptions{Context: []byte("ctx"), AAD: []byte(aad)}
		sealed, err := k.Encrypt(v, nil, []byte("hello"), o)
		if err != nil {
			t.Fatal(err)
		}
		if other, used := seen[string(sealed[:12])]; used {
			t.Errorf("the nonce for the data %q is that for %q", aad, other)
		}
		seen[string(sealed[:12])] = aad
		if again, _ := k.Encrypt(v, nil, []byte("hello"), o); !bytes.Equal(again, sealed) {
			t.Errorf("not convergent with the data %q", aad)
		}
		if got, err := k.Decrypt(v, sealed, o); err != nil || string(got) != "hello" {
			t.Errorf("with the data %q: %q, %v", aad, got, err)
		}
	}
	if two, _ := k.Encrypt(v, nil, []byte("hello"), CryptOptions{Context: []byte("ctx")}); !bytes.Equal(one, two) {
		t.Error("not convergent")
	}
}

func TestAESBlock(t *testing.T) { // FIPS 197, C.1: the ground that CMAC and KWP stand on
	t.Parallel()
	b, err := aes.NewCipher(unhex(t, "000102030405060708090a0b0c0d0e0f"))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 16)
	b.Encrypt(out, unhex(t, "00112233445566778899aabbccddeeff"))
	if hex.EncodeToString(out) != "69c4e0d86a7b0430d8cdb78070b4c55a" {
		t.Errorf("%x", out)
	}
}
