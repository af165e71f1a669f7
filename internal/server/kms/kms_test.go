package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest/kmstand"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/managed"
)

// key makes a managed key that was checked.
func key(t *testing.T, s *Services, typ string, usages []string, params ...string) *managed.Key {
	t.Helper()
	k := &managed.Key{Name: "k", ID: "id", Type: typ, Usages: usages, Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		if params[i] == "allow_generate_key" {
			k.AllowGenerate = true
			continue
		}
		k.Params[params[i]] = params[i+1]
	}
	if err := s.Check(k, false); err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t *testing.T, s *Services, k *managed.Key) engine.KMS {
	t.Helper()
	kms, err := s.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	return kms
}

var (
	signing    = []string{engine.UseSign, engine.UseVerify}
	decrypting = []string{engine.UseEncrypt, engine.UseDecrypt}
)

// signGood has a key sign, and checks the signature.
func signGood(t *testing.T, kms engine.KMS, hash crypto.Hash, pss bool) *engine.KMSKey {
	t.Helper()
	k, err := kms.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, hash.Size())
	_, _ = rand.Read(digest)
	var opts crypto.SignerOpts = hash
	padding := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	if pss {
		opts = padding
	}
	sig, err := kms.Sign(t.Context(), k.Ref, digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	good := false
	switch p := k.Key.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(p, digest, sig)
	case *rsa.PublicKey:
		if pss {
			good = rsa.VerifyPSS(p, hash, digest, sig, padding) == nil
		} else {
			good = rsa.VerifyPKCS1v15(p, hash, digest, sig) == nil
		}
	}
	if !good {
		t.Errorf("the signature with %s is not good", hash)
	}
	return k
}

func decryptGood(t *testing.T, kms engine.KMS) {
	t.Helper()
	k, err := kms.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k.Key.(*rsa.PublicKey), []byte("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := kms.Decrypt(t.Context(), k.Ref, sealed); err != nil || string(plain) != "hello" {
		t.Errorf("decrypted %q, %v", plain, err)
	}
}

// moods checks what comes of a service that is not well: a kind, no more words than a
// code, and a good answer again afterwards.
func moods(t *testing.T, stand *kmstand.Service, kms engine.KMS) {
	t.Helper()
	digest := make([]byte, 32)
	k, err := kms.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for mood, want := range map[string]errs.Kind{
		kmstand.Down: errs.Unavailable, kmstand.Babbles: errs.Unavailable, kmstand.Empty: errs.Unavailable, kmstand.Throttle: errs.Unavailable,
		kmstand.Floods: errs.Unavailable, kmstand.Rambles: errs.Unavailable, kmstand.Tells: errs.Invalid, kmstand.Forbids: errs.Invalid, kmstand.Hangs: errs.Unavailable,
	} {
		stand.Mood(mood)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if mood == kmstand.Hangs {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		}
		hash, padding := kms.Scheme()
		if hash == 0 {
			hash = crypto.SHA256
		}
		var opts crypto.SignerOpts = hash
		if padding == "pss" {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		_, err := kms.Sign(ctx, k.Ref, digest[:hash.Size()], opts)
		if !errs.Is(err, want) || strings.Contains(err.Error(), "somebody") || strings.Contains(err.Error(), "TopSecret") || !strings.Contains(err.Error(), `managed key "k"`) {
			t.Errorf("sign, %s: %v (%v), want %v", mood, err, errs.KindOf(err), want)
		}
		if _, err := kms.Public(ctx); err == nil || errs.KindOf(err) == errs.Internal {
			t.Errorf("public, %s: %v", mood, err)
		}
		if mood == kmstand.Floods || mood == kmstand.Rambles {
			if plain, err := kms.Decrypt(ctx, k.Ref, make([]byte, 256)); !errs.Is(err, errs.Unavailable) || plain != nil {
				t.Errorf("decrypt, %s: %d bytes, %v", mood, len(plain), err)
			}
		}
		cancel()
	}
	stand.Mood(kmstand.Well)
	if _, err := kms.Public(t.Context()); err != nil {
		t.Errorf("well again: %v", err)
	}
}

func TestAWS(t *testing.T) {
	t.Parallel()
	stand, s := kmstand.AWS(t), New(Config{})
	stand.Add("arn:ec", "alias/ec", "SIGN_VERIFY", kmstand.EC(t, elliptic.P521()))
	base := []string{"access_key", kmstand.AccessKey, "secret_key", "secretsecret", "endpoint", stand.URL}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	ec := open(t, s, key(t, s, managed.AWS, signing, with("kms_key", "alias/ec", "key_type", "ecdsa", "curve", "p521")...))
	if k := signGood(t, ec, crypto.SHA512, false); k.Ref != "arn:ec" {
		t.Errorf("the key is called %q", k.Ref)
	}
	moods(t, stand, open(t, s, key(t, s, managed.AWS, signing, with("kms_key", "alias/new", "key_type", "rsa", "key_bits", "2048", "allow_generate_key", "")...)))
	made := open(t, s, key(t, s, managed.AWS, decrypting, with("kms_key", "alias/made", "key_type", "rsa", "key_bits", "2048", "allow_generate_key", "")...))
	decryptGood(t, made)
	long := strings.Repeat("x", maxRef+1)
	stand.Add(long, "alias/long", "SIGN_VERIFY", kmstand.EC(t, elliptic.P256()))
	if k, err := open(t, s, key(t, s, managed.AWS, signing, with("kms_key", "alias/long", "key_type", "ecdsa", "curve", "p256")...)).Public(t.Context()); !errs.Is(err, errs.Unavailable) || k != nil {
		t.Errorf("an id of %d bytes: %v", len(long), err)
	}
	stand.Add("arn:odd", "alias/odd", "SECRET_WORDS", kmstand.EC(t, elliptic.P256()))
	if _, err := open(t, s, key(t, s, managed.AWS, signing, with("kms_key", "alias/odd", "key_type", "ecdsa", "curve", "p256")...)).Public(t.Context()); !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "SECRET_WORDS") {
		t.Errorf("an odd usage: %v", err)
	}
	if n := stand.Calls("CreateKey"); n != 2 {
		t.Errorf("%d keys were made", n)
	}
	if _, err := s.Open(&managed.Key{Type: "nosuch"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a type that is not known: %v", err)
	}
}

// Of two nodes that generate a key at once, one has made it for nothing: it is deleted.
func TestAWSRace(t *testing.T) {
	t.Parallel()
	stand, s := kmstand.AWS(t), New(Config{})
	k := key(t, s, managed.AWS, signing, "access_key", kmstand.AccessKey, "secret_key", "x", "endpoint", stand.URL, "kms_key", "alias/a", "key_type", "ecdsa",
		"curve", "P256", "allow_generate_key", "")
	refs := make(chan string, 8)
	for range cap(refs) {
		go func() {
			kms, err := s.Open(k)
			if err != nil {
				refs <- err.Error()
				return
			}
			got, err := kms.Public(context.Background())
			if err != nil {
				refs <- err.Error()
				return
			}
			refs <- got.Ref
		}()
	}
	first := <-refs
	for range cap(refs) - 1 {
		if got := <-refs; got != first || !strings.HasPrefix(got, "arn:") {
			t.Errorf("one has %s, another %s", first, got)
		}
	}
	if stand.Live() != 1 {
		t.Errorf("%d keys are left", stand.Live())
	}
}

// A key that may have got its name is not deleted: what has the name would be gone.
func TestAWSLostAnswer(t *testing.T) {
	t.Parallel()
	stand, s := kmstand.AWS(t), New(Config{})
	kms := open(t, s, key(t, s, managed.AWS, signing, "access_key", kmstand.AccessKey, "secret_key", "x", "endpoint", stand.URL, "kms_key", "alias/a",
		"key_type", "ecdsa", "curve", "P256", "allow_generate_key", ""))
	stand.Mood(kmstand.Forgets)
	got, err := kms.Public(t.Context())
	if got != nil || (!errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "arn:aws:kms:us-east-1:1:key/made-1")) {
		t.Errorf("a lost answer: %v, %v", got, err)
	}
	stand.Mood(kmstand.Well)
	if k := signGood(t, kms, crypto.SHA256, false); stand.Live() != 1 || !strings.HasSuffix(k.Ref, "made-1") {
		t.Errorf("%d keys, used is %s", stand.Live(), k.Ref)
	}
}

func TestAzure(t *testing.T) {
	t.Parallel()
	stand := kmstand.Azure(t)
	s := New(Config{Getenv: func(n string) string { return map[string]string{"AZURE_AUTHORITY_HOST": stand.URL}[n] }})
	stand.Add("sign/v1", "sign", "RSA-HSM sign,verify", kmstand.RSA(t, 2048))
	base := []string{
		"tenant_id", "tenant", "client_id", "c", "client_secret", kmstand.ClientSecret, "endpoint", stand.URL, "vault_name", "v", "key_type", "rsa-hsm",
	}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	kms := open(t, s, key(t, s, managed.Azure, signing, with("key_name", "sign")...))
	signGood(t, kms, crypto.SHA256, true)
	signGood(t, kms, crypto.SHA512, false)
	if k := signGood(t, kms, crypto.SHA384, true); k.Ref != "v1" {
		t.Errorf("the key's version is called %q", k.Ref)
	}
	moods(t, stand, kms)
	made := open(t, s, key(t, s, managed.Azure, append(decrypting, signing...), with("key_name", "made", "key_bits", "2048", "allow_generate_key", "")...))
	decryptGood(t, made)
	signGood(t, made, crypto.SHA256, false)
	if n := stand.Calls("create"); n != 1 {
		t.Errorf("%d keys were made", n)
	}
	for name, params := range map[string][]string{
		"another size": with("key_name", "sign", "key_bits", "3072"), "another type": append(with("key_name", "sign"), "key_type", "RSA"), "none": with("key_name", "nosuch"),
		"another secret": append(with("key_name", "sign"), "client_secret", "wrongwrong"),
	} {
		_, err := open(t, s, key(t, s, managed.Azure, signing, params...)).Public(t.Context())
		if err == nil || errs.KindOf(err) == errs.Internal || strings.Contains(err.Error(), "wrongwrong") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stand.Mood(kmstand.Lies) // who asks finds out: the signature is checked there
	if _, err := kms.Sign(t.Context(), "v1", make([]byte, 20), crypto.SHA1); !errs.Is(err, errs.Invalid) {
		t.Errorf("sha1: %v", err)
	}
}

func TestGoogle(t *testing.T) {
	t.Parallel()
	stand, s := kmstand.Google(t), New(Config{})
	stand.Add("ec/1", "", "EC_SIGN_P256_SHA256", kmstand.EC(t, elliptic.P256()))
	stand.Add("pss/2", "", "RSA_SIGN_PSS_2048_SHA256", kmstand.RSA(t, 2048))
	account := stand.Account(t)
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, []byte(account), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"project", "p", "region", "l", "key_ring", "r", "endpoint", stand.URL, "credentials", account}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	ec := open(t, s, key(t, s, managed.Google, signing, with("crypto_key", "ec", "algorithm", "ec_sign_p256_sha256")...))
	if k := signGood(t, ec, crypto.SHA256, false); k.Ref != kmstand.Ring+"/cryptoKeys/ec/cryptoKeyVersions/1" {
		t.Errorf("the key is called %q", k.Ref)
	}
	moods(t, stand, ec)
	pss := open(t, s, key(t, s, managed.Google, signing, append(with("crypto_key", "pss", "crypto_key_version", "2", "algorithm", "RSA_SIGN_PSS_2048_SHA256"), "credentials", file)...))
	signGood(t, pss, crypto.SHA256, true)
	if _, err := pss.Sign(t.Context(), "x", make([]byte, 32), crypto.SHA256); !errs.Is(err, errs.Invalid) {
		t.Errorf("another padding: %v", err)
	}
	made := open(t, s, key(t, s, managed.Google, decrypting, with("crypto_key", "made", "algorithm", "RSA_DECRYPT_OAEP_2048_SHA256", "allow_generate_key", "")...))
	decryptGood(t, made)
	stand.Mood(kmstand.Lies)
	k, err := made.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k.Key.(*rsa.PublicKey), []byte("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := made.Decrypt(t.Context(), k.Ref, sealed); err == nil {
		t.Errorf("decrypted %q, which does not fit its checksum", plain)
	}
	stand.Mood(kmstand.Well)
	for name, params := range map[string][]string{
		"another algorithm": with("crypto_key", "ec", "algorithm", "EC_SIGN_P384_SHA384"), "none": with("crypto_key", "nosuch", "algorithm", "EC_SIGN_P256_SHA256"),
		"no file":     append(with("crypto_key", "ec", "algorithm", "EC_SIGN_P256_SHA256"), "credentials", "/nosuch"),
		"a folder":    append(with("crypto_key", "ec", "algorithm", "EC_SIGN_P256_SHA256"), "credentials", "/"),
		"no account":  append(with("crypto_key", "ec", "algorithm", "EC_SIGN_P256_SHA256"), "credentials", os.Args[0]),
		"a version 2": with("crypto_key", "made", "crypto_key_version", "2", "algorithm", "EC_SIGN_P256_SHA256", "allow_generate_key", ""),
	} {
		_, err := open(t, s, key(t, s, managed.Google, signing, params...)).Public(t.Context())
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong with parameters is said when they come.
func TestChecks(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	google := "project=p region=l key_ring=r crypto_key=k algorithm=EC_SIGN_P256_SHA256"
	azure := "tenant_id=t client_id=c client_secret=s vault_name=v key_name=k key_type=RSA-HSM"
	for _, c := range []struct {
		typ, params, usages string
		own                 bool
		want                string
	}{
		{managed.Google, google, "sign,verify", false, ""},
		{managed.Google, google, "sign,verify", true, "service account"},
		{managed.Google, google + " credentials=/etc/passwd", "sign,verify", true, "service account"},
		{managed.Google, google + " credentials={}", "sign,verify", false, "no key of a service account"},
		{managed.Google, google, "decrypt", false, "usages"},
		{managed.Google, google, "sign,decrypt", false, "usages"},
		{managed.Google, google + " algorithm=RSA_DECRYPT_OAEP_2048_SHA256", "sign,verify", false, "usages"},
		{managed.Google, google + " algorithm=HMAC_SHA256", "sign,verify", false, "algorithm"},
		{managed.Google, google + " crypto_key_version=0", "sign,verify", false, "crypto_key_version"},
		{managed.Google, google + " project=", "sign,verify", false, "missing project"},
		{managed.Azure, azure, "sign,verify,decrypt", true, ""},
		{managed.Azure, azure + " client_secret=", "sign,verify", false, ""},
		{managed.Azure, azure + " client_secret=", "sign,verify", true, "root namespace"},
		{managed.Azure, azure + " client_id=", "sign,verify", false, "missing client_id"},
		{managed.Azure, azure + " vault_name=evil.example/", "sign,verify", false, "letters, digits"},
		{managed.Azure, azure + " environment=MARS", "sign,verify", false, "environment"},
		{managed.Azure, azure + " key_type=EC", "sign,verify", false, "key_type"},
		{managed.Azure, azure + " key_bits=1024", "sign,verify", false, "key_bits"},
		{managed.Azure, azure + " generate=", "sign,verify", false, "key_bits is needed"},
	} {
		k := &managed.Key{Name: "k", Type: c.typ, Params: map[string]string{}, Usages: strings.Split(c.usages, ",")}
		for _, m := range strings.Fields(c.params) {
			name, v, _ := strings.Cut(m, "=")
			if name == "generate" {
				k.AllowGenerate = true
				continue
			}
			k.Params[name] = v
		}
		err := s.Check(k, c.own)
		if c.want == "" && err != nil || c.want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s %s: %v, want %q", c.typ, c.params, c.usages, err, c.want)
		}
	}
}

// Many who wait for a service that hangs wait for no more than they have time.
func TestGuardTurns(t *testing.T) {
	t.Parallel()
	stand, s := kmstand.AWS(t), New(Config{})
	k := key(t, s, managed.AWS, signing, "access_key", kmstand.AccessKey, "secret_key", "x", "endpoint", stand.URL, "kms_key", "a", "key_type", "ecdsa", "curve", "P256")
	kms := open(t, s, k)
	stand.Mood(kmstand.Hangs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 2*maxParallel)
	for range cap(done) {
		go func() {
			_, err := kms.Public(ctx)
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; !errs.Is(err, errs.Unavailable) {
			t.Errorf("%v", err)
		}
	}
	var r *Refusal
	if errors.As(kms.(*guard).tell(t.Context(), errors.New("x")), &r) {
		t.Error("an error that is no answer")
	}
}

// FuzzPublic: whatever a service shows is a key that may be used, or an error.
func FuzzPublic(f *testing.F) {
	f.Add([]byte{1}, "AQAB", base64.RawURLEncoding.EncodeToString(big.NewInt(1).Lsh(big.NewInt(1), 2047).Bytes()))
	f.Add([]byte("0"), "", "")
	f.Fuzz(func(t *testing.T, der []byte, e, n string) {
		for _, parse := range []func() (crypto.PublicKey, error){
			func() (crypto.PublicKey, error) { return parsePublic(der) }, func() (crypto.PublicKey, error) { return parseJWK(n, e) },
		} {
			key, err := parse()
			if err != nil {
				continue
			}
			k, err := public(key, spec{}, "ref")
			if err != nil {
				continue
			}
			switch p := k.Key.(type) {
			case *rsa.PublicKey:
				if p.N.BitLen() < 2048 || p.N.BitLen() > maxModulusBits || p.E < 3 {
					t.Errorf("an RSA key of %d bits", p.N.BitLen())
				}
				_ = rsa.VerifyPKCS1v15(p, crypto.SHA256, make([]byte, 32), make([]byte, p.Size()))
			case *ecdsa.PublicKey:
				_ = ecdsa.VerifyASN1(p, make([]byte, 32), []byte{0x30})
			default:
				t.Errorf("a key of type %T", k.Key)
			}
		}
	})
}

// FuzzAccount: whatever is given as credentials is an account, or an error that does not show it.
func FuzzAccount(f *testing.F) {
	f.Add([]byte(`{"client_email":"a","private_key":"b","token_uri":"https://x"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseAccount(raw)
		if (err == nil) == (c == nil || c.Email == "" || c.Key == "") {
			t.Errorf("%v, %v", c == nil, err)
		}
	})
}
