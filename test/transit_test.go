package test

import (
	"net/http"
	"strings"
	"testing"
)

// A standby encrypts and decrypts by itself, and sends on what makes a new key or
// version, as every write.
func TestStandbyTransit(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.leader().must("POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	c.leader().must("POST", "transit/keys/k", map[string]any{})
	standby := c.standbys()[0]
	alone := []string{"X-Vault-No-Request-Forwarding", "true"} // then a write is answered by where to go
	standby.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a, err := standby.call(t.Context(), "POST", "transit/encrypt/k", standby.root, map[string]any{"plaintext": "YQ=="}, alone...)
	if err != nil || a.code != 200 || !strings.HasPrefix(a.text("data", "ciphertext"), "vault:v1:") {
		t.Fatalf("encrypt: %d %v, %v", a.code, a.body, err)
	}
	sealed := a.text("data", "ciphertext")
	a, err = standby.call(t.Context(), "POST", "transit/decrypt/k", standby.root, map[string]any{"ciphertext": sealed}, alone...)
	if err != nil || a.code != 200 || a.text("data", "plaintext") != "YQ==" {
		t.Fatalf("decrypt: %d %v, %v", a.code, a.body, err)
	}
	// What writes is not the standby's: a rotation, and the key that encrypt makes.
	for _, path := range []string{"transit/keys/k/rotate", "transit/encrypt/new"} {
		a, err = standby.call(t.Context(), "POST", path, standby.root, map[string]any{"plaintext": "YQ=="}, alone...)
		if err != nil || a.code != http.StatusTemporaryRedirect {
			t.Errorf("%s: a standby wrote: %d %v, %v", path, a.code, a.body, err)
		}
	}
	standby.must("POST", "transit/keys/k/rotate", map[string]any{})
	if a := standby.must("POST", "transit/encrypt/new", map[string]any{"plaintext": "YQ=="}); a == nil {
		t.Error("no key was made")
	}
	// The newest version is used at once everywhere.
	for _, n := range c.nodes {
		a := n.must("POST", "transit/encrypt/k", map[string]any{"plaintext": "YQ=="})
		if d, _ := a["data"].(map[string]any); !strings.HasPrefix(d["ciphertext"].(string), "vault:v2:") {
			t.Errorf("encrypted with an old version: %v", d)
		}
	}
}
