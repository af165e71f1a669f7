package server

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"arca/internal/engine"
)

// TestForwardedHeader takes the client of a forwarded request, and that a door has made
// it, from the other node only: what the client itself sends counts for nothing.
func TestForwardedHeader(t *testing.T) {
	t.Parallel()
	cert := issue(t, "client", nil)
	for _, door := range []bool{true, false} {
		for _, known := range []bool{true, false} {
			r := httptest.NewRequest(http.MethodDelete, "/v1/x", nil)
			for _, name := range []string{remoteHeader, methodHeader, certHeader, doorHeader} {
				r.Header.Set(name, "forged")
			}
			r.Header.Set("X-Vault-Token", "t")
			if known {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
			}
			ctx := t.Context()
			if door {
				ctx = engine.WithDoor(ctx)
			}
			at := httptest.NewRequest(http.MethodPost, "/v1/x", nil)
			at.Header = asForwarded(ctx, r)
			got := asClient(at)
			if engine.IsDoor(got.Context()) != door {
				t.Errorf("made by a door: %v, want %v", !door, door)
			}
			if got.Method != http.MethodDelete || got.RemoteAddr != r.RemoteAddr || (got.TLS != nil) != known {
				t.Errorf("%s from %s, TLS %v", got.Method, got.RemoteAddr, got.TLS)
			}
			if known && !got.TLS.PeerCertificates[0].Equal(cert.Leaf) {
				t.Error("another certificate")
			}
			if len(got.Header) != 1 || got.Header.Get("X-Vault-Token") != "t" {
				t.Errorf("the header is %v", got.Header)
			}
		}
	}
}
