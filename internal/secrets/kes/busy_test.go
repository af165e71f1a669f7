package kes_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"arca/internal/engine"
)

// TestBusy seals, opens, and changes policies, keys and identities while clients
// ask: every answer is one that a client may get, nobody waits for ever, and what
// was acknowledged opens when all is quiet.
func TestBusy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "kes/keys/k", r.Root, fields{})
	var stop atomic.Bool
	var mu sync.Mutex
	sealed := map[string]string{}
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			for n := 0; !stop.Load() && n < 100_000; n++ {
				mine := fmt.Sprintf("k%d-%d", i, n)
				code, out := r.kes("app", "PUT", "/v1/key/create/"+mine, nil)
				switch code {
				case 200, 403, 502:
				default:
					t.Errorf("create: %d %v", code, out)
				}
				code, out = r.kes("app", "PUT", "/v1/key/generate/k", fields{})
				switch code {
				case 200:
					mu.Lock()
					sealed[out["ciphertext"].(string)] = out["plaintext"].(string)
					mu.Unlock()
				case 403, 502:
				default:
					t.Errorf("generate: %d %v", code, out)
				}
				if code, out := r.kes("stranger", "PUT", "/v1/key/generate/k", fields{}); code != 403 && code != 502 {
					t.Errorf("a stranger gets %d %v", code, out)
				}
			}
		})
	}
	for range 5 {
		r.Must("POST", "kes/policies/app", r.Root, fields{"allow": []string{"/v1/status"}})
		// From here on none passes, whatever was asked before.
		if code, out := r.kes("app", "PUT", "/v1/key/generate/k", fields{}); code != 403 {
			t.Errorf("after the policy: %d %v", code, out)
		}
		r.Must("POST", "kes/keys/k/rotate", r.Root, nil)
		r.Must("POST", "kes/policies/app", r.Root, fields{"allow": []string{"/v1/key/*"}})
		r.Must("PUT", "sys/seal", r.Root, nil)
		if code, _ := r.kes("app", "PUT", "/v1/key/generate/k", fields{}); code != 502 {
			t.Errorf("sealed: %d", code)
		}
		r.Unseal()
		r.Must("DELETE", "kes/identities/"+r.id("app"), r.Root, nil)
		if code, _ := r.kes("app", "PUT", "/v1/key/generate/k", fields{}); code != 403 {
			t.Errorf("without the identity: %d", code)
		}
		r.Must("POST", "kes/identities/"+r.id("app"), r.Root, fields{"policy": "app"})
		for range 10 { // so that something is done in between
			r.kes("app", "PUT", "/v1/key/generate/k", fields{})
		}
	}
	stop.Store(true)
	clients.Wait()
	for ct, want := range sealed {
		if code, out := r.kes("app", "PUT", "/v1/key/decrypt/k", fields{"ciphertext": ct}); code != 200 || out["plaintext"] != want {
			t.Fatalf("%d %v", code, out)
		}
	}
	if len(sealed) == 0 {
		t.Error("nothing was sealed")
	}
}

// TestHeaderIsOnesOwn lets nobody put another's identity into the audit log.
func TestHeaderIsOnesOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for told, want := range map[string]bool{"": true, r.id("app"): true, r.id("admin"): false} {
		req := &engine.Request{
			ID: "x", Op: engine.OpRead, Path: "kes/v1/identity/self/describe", Door: true, Header: map[string][]string{},
			TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["app"]}},
		}
		if told != "" {
			req.Header["X-Kes-Identity"] = []string{told}
		}
		if _, err := r.Core.Handle(t.Context(), req); (err == nil) != want {
			t.Errorf("%q: %v", told, err)
		}
	}
}
