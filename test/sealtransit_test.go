package test

import (
	"fmt"
	"strings"
	"testing"
)

// A kms is a server whose transit engine seals others.
type kms struct{ *node }

func newKMS(t *testing.T) kms {
	t.Helper()
	k := kms{newNode(t, t.TempDir(), "disable_mlock = true\nstorage \"inmem\" {}\n"+plainListener)}
	k.must("POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	return k
}

func (k kms) key(name string) { k.must("POST", "transit/keys/"+name, map[string]any{}) }

func (k kms) destroy(name string) {
	k.must("POST", "transit/keys/"+name+"/config", map[string]any{"deletion_allowed": true})
	k.must("DELETE", "transit/keys/"+name, nil)
}

func (k kms) seal(name, key, token string, disabled bool) string {
	return fmt.Sprintf("seal \"transit\" {\n  name = %q\n  disabled = \"%t\"\n  address = %q\n  token = %q\n  mount_path = \"transit\"\n  key_name = %q\n}\n",
		name, disabled, strings.TrimSuffix(k.url, "/v1/"), token, key)
}

// sealed is a server that is sealed by a KMS.
func sealed(t *testing.T, stanzas string) (n *node, config string) {
	t.Helper()
	config = "disable_mlock = true\nstorage \"file\" { path = \"data\" }\n" + plainListener
	n = newNodeOf(t, t.TempDir(), config+stanzas)
	n.start()
	ini := n.must("PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	n.root, _ = ini["root_token"].(string)
	n.keys = []string{ini["recovery_keys"].([]any)[0].(string)}
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	n.must("POST", "kv/a", map[string]any{"b": "c"})
	return n, config
}

func (n *node) restart(config string) {
	n.t.Helper()
	n.kill()
	n.config = config
	n.start()
}

func (n *node) opensItself(why string) {
	n.t.Helper()
	await(n.t, "the store to open by itself: "+why, func() bool {
		a, err := n.call(n.t.Context(), "GET", "kv/a", n.root, nil)
		return err == nil && a.text("data", "b") == "c"
	})
}

func (n *node) whole() bool {
	n.t.Helper()
	b := n.get("sys/seal-backend-status").body
	return b["fully_wrapped"] == true && b["healthy"] == true
}

// A second seal of the same type and one that replaces another have the root key under
// their own keys; a key that is lost and replaced gets it again. S3-31, S3-33
func TestTransitSeals(t *testing.T) {
	t.Parallel()
	k := newKMS(t)
	for _, name := range []string{"ka", "kb", "kc"} {
		k.key(name)
	}
	n, config := sealed(t, k.seal("transit", "ka", k.root, false))
	n.restart(config + k.seal("transit", "ka", k.root, false) + k.seal("second", "kb", k.root, false))
	n.opensItself("with a second seal")
	await(t, "both seals", n.whole)
	k.destroy("ka") // what encrypts there next makes it anew
	n.restart(config + k.seal("transit", "ka", k.root, false) + k.seal("second", "kb", k.root, false))
	n.opensItself("by the second, as the first's key is gone")
	await(t, "the first seal to have the root key under its new key", n.whole)
	n.restart(config + k.seal("second", "kb", k.root, true) + k.seal("third", "kc", k.root, false))
	await(t, "a seal that is replaced to ask for a migration", func() bool {
		_, migrating, whole := n.sealedBy()
		return migrating && !whole
	})
	n.migrate()
	n.restart(config + k.seal("third", "kc", k.root, false))
	n.opensItself("by the seal that replaced the other")

	k.destroy("kc")
	k.key("kc")
	n.restart(n.config)
	n.must("PUT", "sys/unseal", map[string]any{"key": n.keys[0], "recovery": true})
	await(t, "the root key under the new key", n.whole)
	n.restart(n.config)
	n.opensItself("by the key that replaced a lost one")
}

// The token of a seal with a short period lives while the server does, also while it is
// sealed.
func TestTransitSealToken(t *testing.T) {
	t.Parallel()
	k := newKMS(t)
	k.key("k")
	auth, _ := k.must("POST", "auth/token/create", map[string]any{"policies": []string{"root"}, "period": "3s", "no_parent": true})["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	n, _ := sealed(t, k.seal("transit", "k", token, false))
	n.must("PUT", "sys/seal", nil)
	renewed := func(longer float64) {
		t.Helper()
		first, ok := k.must("POST", "auth/token/lookup", map[string]any{"token": token})["data"].(map[string]any)["last_renewal_time"].(float64)
		if !ok {
			t.Fatal("not renewed")
		}
		await(t, "a renewal", func() bool {
			now, _ := k.must("POST", "auth/token/lookup", map[string]any{"token": token})["data"].(map[string]any)["last_renewal_time"].(float64)
			return now >= first+longer
		})
	}
	renewed(6)
	n.restart(n.config)
	n.opensItself("with a token that is older than its period")
}
