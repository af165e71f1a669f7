package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKnownKey checks the pair that KES's documentation has. S0-4, S1-2.
func TestKnownKey(t *testing.T) {
	t.Parallel()
	const text, want = "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw", "0426fa9a04bc2756b92fbe8a97e1a1e07b53ecf04ed33da22c33e5c9faeb8cbb"
	for _, in := range []string{text, strings.TrimPrefix(text, Prefix)} {
		k, err := ParseAPIKey(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Identity(); got != want {
			t.Errorf("identity %s, want %s", got, want)
		}
		if k.Text() != text {
			t.Errorf("the key is told as %s", k.Text())
		}
		for _, now := range []time.Time{time.Unix(1e9, 0), time.Now()} { // renewed, the identity stays
			cert, err := k.Certificate(now)
			if err != nil {
				t.Fatal(err)
			}
			if got := Of(cert.Leaf); got != want || cert.Leaf.Subject.CommonName != want {
				t.Errorf("certificate of %s", got)
			}
		}
		if s := fmt.Sprintf("%v %+v", k, k); strings.Contains(s, "ACQpo") {
			t.Errorf("it prints %s", s)
		}
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "kes:v1:", "kes:v1:AAAA", "kes:v1:ASQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw", "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFV", "kes:v2:x",
	} {
		k, err := ParseAPIKey(text)
		if err == nil {
			t.Errorf("%q is taken as %v", text, k)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[8:20]) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	leaf, ca := &x509.Certificate{}, &x509.Certificate{IsCA: true}
	for name, c := range map[string]struct {
		sent []*x509.Certificate
		err  error
	}{
		"none":            {nil, ErrNone},
		"one":             {[]*x509.Certificate{leaf}, nil},
		"with its issuer": {[]*x509.Certificate{leaf, ca}, nil},
		"issuer first":    {[]*x509.Certificate{ca, leaf}, ErrOrder}, // its key is proved, not the leaf's
		"authority only":  {[]*x509.Certificate{ca}, ErrCAs},
		"two":             {[]*x509.Certificate{leaf, {}}, ErrSeveral},
	} {
		got, err := Pick(c.sent)
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || got != leaf) {
			t.Errorf("%s: got %v, %v", name, got == leaf, err)
		}
	}
}

func FuzzParseAPIKey(f *testing.F) {
	f.Add("kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseAPIKey(text); err == nil {
			if again, err := ParseAPIKey(k.Text()); err != nil || again.Identity() != k.Identity() {
				t.Errorf("told and read again, %q is another", text)
			}
		}
	})
}

func FuzzPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), []byte("x"))
	f.Fuzz(func(_ *testing.T, data, password []byte) {
		_, _ = ParseCertificate(data)
		_, _ = ParsePrivateKey(data)
		_, _ = PrivateKeyPEM(data, password)
	})
}
