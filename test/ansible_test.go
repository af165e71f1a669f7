package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
)

// Ansible's collection community.hashi_vault, as Debian has it, goes through what
// its modules and lookups do: see testdata/ansible.yml.
func TestAnsible(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("ansible-galaxy", "collection", "list", "community.hashi_vault").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "community.hashi_vault") {
		arcatest.Absent(t, "ansible and its collections are not installed: run tools/packages.sh as root (%v)", err)
	}
	dir := t.TempDir()
	n := newNode(t, dir, fileStorage)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSuffix(n.url, "/v1/")
	vars, err := json.Marshal(map[string]string{
		"url": url, "token": n.root, "ansible_hashi_vault_url": url, "ansible_hashi_vault_token": n.root, "jwt": signedJWT(t, key, map[string]any{
			"sub": "ann", "aud": "arca", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		}),
		"jwt_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	playbook, err := filepath.Abs("testdata/ansible.yml")
	if err != nil {
		t.Fatal(err)
	}
	play := exec.Command("ansible-playbook", "-i", "localhost,", "-c", "local", "-e", string(vars), "-e", "ansible_python_interpreter=/usr/bin/python3", playbook)
	play.Dir = dir
	play.Env = environment(dir, "PYTHONDONTWRITEBYTECODE=1", "ANSIBLE_NOCOLOR=1", "ANSIBLE_HOME="+dir)
	if out, err := play.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// signedJWT is a JSON Web Token by ES256.
func signedJWT(t *testing.T, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(raw)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	for i, x := range []*big.Int{r, s} {
		x.FillBytes(sig[32*i : 32*(i+1)])
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}
