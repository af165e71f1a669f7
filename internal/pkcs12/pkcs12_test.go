package pkcs12

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const password = "pässword"

func read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Files that OpenSSL has made, in the ways of today and of the past.
func TestDecode(t *testing.T) {
	t.Parallel()
	key := read(t, "key.der")
	for _, name := range []string{"modern", "legacy", "rc2_128", "des2", "sha512", "nomac"} {
		raw := read(t, name+".p12")
		b, err := Decode(raw, []byte(password))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for _, c := range b.Certs {
			names = append(names, c.Subject.CommonName)
		}
		if !bytes.Equal(b.Key, key) || !slices.Equal(names, []string{"leaf", "top"}) || b.Name != `al\ias ü` {
			t.Errorf("%s: %d bytes of key, %v, %q", name, len(b.Key), names, b.Name)
		}
		if _, err := Decode(raw, []byte("else")); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: with another password: %v", name, err)
		}
		for n := range raw {
			if b, err := Decode(raw[:n], []byte(password)); err == nil {
				t.Fatalf("%s: %d bytes of it are read: %v", name, n, b)
			}
		}
	}
}

// What is written is read, here and by OpenSSL (which was tried by hand).
func TestEncode(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []*Bundle{{Key: raw, Certs: []*x509.Certificate{cert}, Name: "me"}, {Key: raw}} {
		out, err := in.Encode([]byte(password))
		if err != nil {
			t.Fatal(err)
		}
		if file := os.Getenv("PKCS12_OUT"); file != "" && in.Name != "" {
			_ = os.WriteFile(file, out, 0o600)
		}
		b, err := Decode(out, []byte(password))
		if err != nil || !bytes.Equal(b.Key, raw) || b.Name != in.Name || len(b.Certs) != len(in.Certs) {
			t.Errorf("%v, %v", b, err)
		}
		if _, err := Decode(out, nil); !errors.Is(err, ErrPassword) {
			t.Errorf("without a password: %v", err)
		}
	}
}

// A file that wants the password hashed for hours is refused at once, also where the
// work is spread over many parts.
func TestBounds(t *testing.T) {
	t.Parallel()
	var f pfx
	if err := unmarshal(read(t, "modern.p12"), &f); err != nil {
		t.Fatal(err)
	}
	f.Mac.Runs = 1 << 40
	raw, err := asn1.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(raw, []byte(password)); !errors.Is(err, ErrFile) {
		t.Errorf("a MAC of 2^40 runs: %v", err)
	}
	w := &writer{password: []byte(password)}
	sealed, alg := w.encrypt([]byte("x"))
	var bags []bag
	for range 500 {
		bags = append(bags, bag{ID: pkcs(12, 10, 1, 2), Value: w.explicit(shrouded{alg, sealed})})
	}
	many := w.marshal(pfx{Version: 3, Safe: contentInfo{pkcs(7, 1), w.explicit(w.marshal([]contentInfo{{pkcs(7, 1), w.explicit(w.marshal(bags))}}))}})
	if _, err := Decode(many, []byte(password)); !errors.Is(err, ErrFile) || w.err != nil {
		t.Errorf("500 bags: %v %v", err, w.err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"modern", "legacy", "nomac"} {
		f.Add(read(f, name+".p12"))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decode(raw, []byte(password), 10_000) // else the passwords would be all the work
		if (b == nil) == (err == nil) {
			t.Error("neither a bundle nor an error, or both")
		}
	})
}
