package keyring

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"strconv"
	"testing"
)

func bigHex(t testing.TB, digits string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(digits, 16)
	if !ok {
		t.Fatal(digits)
	}
	return n
}

// asStored gives a private key in the form in which it is stored.
func asStored(t testing.TB, private, public any) Material {
	t.Helper()
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return Material{Secret: secret, Public: pub}
}

// RFC 6979, A.2.5 to A.2.7, with SHA-256: signatures that are made by another
// implementation are good in both forms, and those that we make are as well.
func TestECDSAVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ     Type
		curve   elliptic.Curve
		d, x, y string
		r, s    string // over "sample"
	}{
		{
			ECDSAP256, elliptic.P256(),
			"C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
			"60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
			"7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
			"EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
			"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
		},
		{
			ECDSAP384, elliptic.P384(),
			"6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
			"EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13",
			"8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720",
			"21B13D1E013C7FA1392D03C5F99AF8B30C570C6F98D4EA8E354B63A21D3DAA33BDE1E888E63355D92FA2B3C36D8FB2CD",
			"F3AA443FB107745BF4BD77CB3891674632068A10CA67E3D45DB2266FA7D1FEEBEFDC63ECCD1AC42EC0CB8668A4FA0AB0",
		},
		{
			ECDSAP521, elliptic.P521(),
			"0FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
			"1894550D0785932E00EAA23B694F213F8C3121F86DC97A04E5A7167DB4E5BCD371123D46E45DB6B5D5370A7F20FB633155D38FFA16D2BD761DCAC474B9A2F5023A4",
			"0493101C962CD4D2FDDF782285E64584139C2F91B47F87FF82354D6630F746A28A0DB25741B5B34A828008B22ACC23F924FAAFBD4D33F81EA66956DFEAA2BFDFCF5",
			"1511BB4D675114FE266FC4372B87682BAECC01D3CC62CF2303C92B3526012659D16876E25C7C1E57648F23B73564D67F61C6F14D527D54972810421E7D87589E1A7",
			"04A171143A83163D6DF460AAF61522695F207A58B95C0644D87E52AA1A347916E4F7A72930B1BC06DBE22CE3F58264AFD23704CBB63B29B931F7DE6C9D949A7ECFC",
		},
	} {
		t.Run(string(c.typ), func(t *testing.T) {
			t.Parallel()
			size := (c.curve.Params().BitSize + 7) / 8
			private, err := ecdsa.ParseRawPrivateKey(c.curve, bigHex(t, c.d).FillBytes(make([]byte, size)))
			if err != nil {
				t.Fatal(err)
			}
			point := append([]byte{4}, bigHex(t, c.x).FillBytes(make([]byte, size))...)
			point = append(point, bigHex(t, c.y).FillBytes(make([]byte, size))...)
			public, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil || !public.Equal(&private.PublicKey) {
				t.Fatalf("the public key differs: %v", err)
			}
			k := &Key{Spec: Spec{Type: c.typ}}
			v := fixed(t, k.Spec, asStored(t, private, public))
			r, s := bigHex(t, c.r), bigHex(t, c.s)
			der, err := asn1.Marshal(ecSignature{r, s})
			if err != nil {
				t.Fatal(err)
			}
			raw := append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
			for _, form := range []struct {
				raw bool
				sig []byte
			}{{false, der}, {true, raw}} {
				o := SignOptions{Hash: crypto.SHA256, Raw: form.raw}
				if ok, err := k.Verify(v, []byte("sample"), form.sig, o); !ok || err != nil {
					t.Errorf("raw %t: %v, %v", form.raw, ok, err)
				}
				if ok, _ := k.Verify(v, []byte("test"), form.sig, o); ok {
					t.Errorf("raw %t: good for another message", form.raw)
				}
				ours, _, err := k.Sign(v, []byte("sample"), o)
				if err != nil {
					t.Fatal(err)
				}
				if ok, err := k.Verify(v, []byte("sample"), ours, o); !ok || err != nil {
					t.Errorf("raw %t: ours: %v, %v", form.raw, ok, err)
				}
			}
		})
	}
}

// Wycheproof (https://github.com/C2SP/wycheproof), the key of rsa_oaep_2048_sha256_mgf1sha256,
// rsa_pss_2048_sha256_mgf1_32 and rsa_signature_2048_sha256, test case 3 of each: "Test".
func TestRSAVectors(t *testing.T) {
	t.Parallel()
	p := bigHex(t, "dc431050f782e894fb5248247d98cb7d58b8d1e24f3b55d041c56e4de086b0d5bb028bda42eeb5d234d5681e5809d415e6a289ad4cfbf78f978f6c35814f50eebff1c5b80a69f788e81e6bab5ddaa78369d659d143ec6f17e79813a575cfad9c569156b90113e2e9110ad9e7b48a1c9348a6e653321191290ea36cfb3a5b18f1")
	q := bigHex(t, "bd1a81e7977f9898122273ae3222b598ea5fb19eb4eabc38308a5e32196603b2e500ffb79f5b886816611debc472fac45544070beb057c941378a6868af3b7a03d3f9880ec47d5e089b94fbde542aba9ae8d72c57088d7abf5b131f39098f7bc160f90536abc9492fd4e06f3ed7299d4b97bb03677207d95669f140cfbc20f25")
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(big.NewInt(65537), phi), Primes: []*big.Int{p, q},
	}
	private.Precompute()
	k := &Key{Spec: Spec{Type: RSA2048}}
	v := fixed(t, k.Spec, asStored(t, private, &private.PublicKey))
	message := []byte("Test")

	old := SignOptions{Hash: crypto.SHA256, Padding: "pkcs1v15"}
	signature := unhex(t, "264491e844c119f14e425c03282139a558dcdaeb82a4628173cd407fd319f9076eaebc0dd87a1c22e4d17839096886d58a9d5b7f7aeb63efec56c45ac7bead4203b6886e1faa90e028ec0ae094d46bf3f97efdd19045cfbc25a1abda2432639f9876405c0d68f8edbf047c12a454f7681d5d5a2b54bd3723d193dbad4338baad753264006e2d08931c4b8bb79aa1c9cad10eb6605f87c5831f6e2b08e002f9c6f21141f5841d92727dd3e1d99c36bc560da3c9067df99fcaf818941f72588be33032bad22caf6704223bb114d575b6d02d9d222b580005d930e8f40cce9f672eebb634a20177d84351627964b83f2053d736a84ab1a005f63bd5ba943de6205c")
	if got, _, err := k.Sign(v, message, old); err != nil || !bytes.Equal(got, signature) {
		t.Errorf("PKCS #1 v1.5: %x, %v", got, err)
	}
	if ok, err := k.Verify(v, message, signature, old); !ok || err != nil {
		t.Errorf("PKCS #1 v1.5: %v, %v", ok, err)
	}

	pss := SignOptions{Hash: crypto.SHA256, Salt: 32}
	signature = unhex(t, "401eb03cdb47ca88033e3030f6bdecbac8f5c8fc1dd6a13d23d379ed9a2b309891d13d74fea9d21d159b9e6d8f37efa2489962e24555f56dd434ff1d31ce4f9f5abd3f22cbea8b691d6a11e44efb83e2bca155e6a164325e0fde2a8865afd5c9f51161a9d615f62af7ec2e31b3e5ab649c164490d31d88cfae35b84aea7925690f929a144b6d2f48e8fb894a52deecd1b9a6496990c4ecf1588699a42cacd10c53af350514e4291ea9a058e77f101e32c1c0cefa61d945f7bc931f8bd19e7ba3169358a60e5a8b0123bc3199b9fdcafe8e519c41ba675491a27b85e44ef2d77277c10fe107293c8290186913bc9a99b640d8da041b64f31eab1d35920985f4a5")
	if ok, err := k.Verify(v, message, signature, pss); !ok || err != nil {
		t.Errorf("PSS: %v, %v", ok, err)
	}
	for _, wrong := range []SignOptions{old, {Hash: crypto.SHA256, Salt: 20}, {Hash: crypto.SHA512, Salt: 32}} {
		if ok, _ := k.Verify(v, message, signature, wrong); ok {
			t.Errorf("PSS: good as %+v", wrong)
		}
	}

	sealed := unhex(t, "5eab3f0741e63986ed647d53e1cd71df041986900803d0f99c68355d249a15a47dc5b4f70a191477654299e5a2731f3b4eec76dea18262fc696ac794e5f66cbfcddac4472c578e246c26707598055584540b839836b1404c5611ae558a984cee8fd036cea924e0be2474a940f61e0acc14fcae95ebdc59942a9ce9af9a9c81999f7f6815f057ffdc2533cb15d6391d1e2d95f16f9c04209c889a4c359c7d2926d28a66e2b030a416b928d2825627998e5191fb4983a6e65024262d94fc09187a2d78162122433251d1bfcc8e507d06eba2d229c10031261da32ab8ccd15f1c5f9fbf07ed158483d736a110af4b44d6a4da60d6cb519b4454213cf9f0dc560f2b")
	if got, err := k.Decrypt(v, sealed, CryptOptions{}); err != nil || !bytes.Equal(got, message) {
		t.Errorf("OAEP: %q, %v", got, err)
	}
	if _, err := k.Decrypt(v, sealed, CryptOptions{Padding: "pkcs1v15"}); err == nil {
		t.Error("OAEP: decrypted as PKCS #1 v1.5")
	}
}

// The accumulated vectors of C2SP CCTV for ML-DSA (FIPS 204): a hundred keys from SHAKE128,
// the digest of all public keys and deterministic signatures over the empty message.
func TestMLDSAVectors(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"44": "d51148e1f9f4fa1a723a6cf42e25f2a99eb5c1b378b3d2dbbd561b1203beeae4",
		"65": "8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199",
		"87": "8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			k := &Key{Spec: Spec{Type: MLDSA, ParameterSet: set}}
			from, all := sha3.NewSHAKE128(), sha3.NewSHAKE128()
			for range 100 {
				seed := make([]byte, 32)
				_, _ = from.Read(seed) // never fails
				public, _ := schemeOf(set).DeriveKey(seed)
				encoded, err := public.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				v := fixed(t, k.Spec, Material{Secret: seed, Public: encoded})
				sig, _, err := k.Sign(v, nil, SignOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if ok, err := k.Verify(v, nil, sig, SignOptions{}); !ok || err != nil {
					t.Fatalf("verified: %v, %v", ok, err)
				}
				_, _ = all.Write(encoded) // never fails
				_, _ = all.Write(sig)
			}
			sum := make([]byte, 32)
			_, _ = all.Read(sum)
			if got := hex.EncodeToString(sum); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// The vectors of draft-ietf-hpke-pq for our KEMs: keys as we store them open what others
// have sealed (with the KDF and AEAD of the vector; ours are HKDF-SHA256 and AES-256-GCM).
func TestMLKEMVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/hpke-pq.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		KEM        uint16 `json:"kem_id"`
		KDF        uint16 `json:"kdf_id"`
		AEAD       uint16 `json:"aead_id"`
		Info       string `json:"info"`
		Secret     string `json:"skRm"`
		Public     string `json:"pkRm"`
		Enc        string `json:"enc"`
		Encryption struct{ AAD, CT, PT string }
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) != 3 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	types := map[uint16]Type{0x41: MLKEM768, 0x42: MLKEM1024, 0x647a: MLKEMX25519}
	for _, c := range cases {
		t.Run(strconv.Itoa(int(c.KEM)), func(t *testing.T) {
			t.Parallel()
			v := fixed(t, Spec{Type: types[c.KEM]}, Material{Secret: unhex(t, c.Secret), Public: unhex(t, c.Public)})
			if got := hex.EncodeToString(v.kem.PublicKey().Bytes()); got != c.Public {
				t.Error("the public key differs")
			}
			kdf, err := hpke.NewKDF(c.KDF)
			if err != nil {
				t.Fatal(err)
			}
			aead, err := hpke.NewAEAD(c.AEAD)
			if err != nil {
				t.Fatal(err)
			}
			r, err := hpke.NewRecipient(unhex(t, c.Enc), v.kem, kdf, aead, unhex(t, c.Info))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := r.Open(unhex(t, c.Encryption.AAD), unhex(t, c.Encryption.CT))
			if err != nil || hex.EncodeToString(plain) != c.Encryption.PT {
				t.Errorf("%x, %v", plain, err)
			}
		})
	}
}
