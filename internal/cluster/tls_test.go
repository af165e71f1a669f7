package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
)

// TestCertificatesChange has nodes show new certificates every day, by which those know them that have them already and those that come later.
func TestCertificatesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, err := barrier.NewKeyring(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		make2 := func(ring *barrier.Keyring) (a, b *pass) {
			if a, err = newPass(ring, "a"); err == nil {
				b, err = newPass(ring, "b")
			}
			if err != nil {
				t.Fatal(err)
			}
			return a, b
		}
		a, b := make2(ring)
		shown := func(p *pass) *tls.Certificate {
			t.Helper()
			c, err := p.certificate()
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		greets := func(from, to *pass) error {
			leaf, err := x509.ParseCertificate(shown(from).Certificate[0])
			if err != nil {
				return err
			}
			return to.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
		}
		before := shown(a)
		if err := greets(a, b); err != nil {
			t.Errorf("on the first day: %v", err)
		}
		time.Sleep(23 * time.Hour)
		if shown(a) != before {
			t.Error("the certificate has changed within a day")
		}
		time.Sleep(2 * time.Hour)
		after := shown(a)
		if after == before || string(after.Certificate[0]) == string(before.Certificate[0]) {
			t.Error("the certificate is the same after a day")
		}
		time.Sleep(365 * 24 * time.Hour)
		late, _ := make2(ring)
		for _, p := range [][2]*pass{{a, b}, {b, a}, {late, b}} {
			if err := greets(p[0], p[1]); err != nil {
				t.Errorf("after a year, %s to %s: %v", p[0].id, p[1].id, err)
			}
		}
		foreign, err := barrier.NewKeyring(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		stranger, _ := make2(foreign)
		if err := greets(stranger, b); err == nil {
			t.Error("a node of another cluster is believed")
		}
	})
}
