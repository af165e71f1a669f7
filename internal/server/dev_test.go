package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// S2-1: the environment of a container is enough; the scenario cli/dev-banner
// has the lines.
func TestDev(t *testing.T) {
	t.Parallel()
	cluster := filepath.Join(t.TempDir(), "c.json")
	p := launch(t, t.TempDir(), []string{"VAULT_DEV_ROOT_TOKEN_ID=myroot", "VAULT_DEV_LISTEN_ADDRESS=127.0.0.1:0", "VAULT_LICENSE=x"},
		"-dev", "-dev-cluster-json="+cluster)
	p.says("Vault server started!")
	addr := p.devAddr()
	for _, want := range []string{
		"==> Vault server configuration:\n", "\n             Api Address: " + "http://127.0.0.1:", "\n                 Storage: inmem\n",
		"\nWARNING! dev mode is enabled! In this mode, Vault runs entirely in-memory\n", "\nUnseal Key: ", "\nRoot Token: myroot\n",
	} {
		if !strings.Contains(p.output(), want) {
			t.Errorf("the banner lacks %q", want)
		}
	}
	if token, err := os.ReadFile(filepath.Join(p.home, ".vault-token")); err != nil || string(token) != "myroot" {
		t.Errorf("token file: %q, %v", token, err)
	}
	if fi, err := os.Stat(filepath.Join(p.home, ".vault-token")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v", fi.Mode(), err)
	}
	if code, _, m := call(t, plain(), "POST", addr+"/v1/secret/data/a", "myroot", `{"data":{"a":1}}`); code != 200 {
		t.Errorf("kv 2: %d %v", code, m)
	}
	var c struct {
		Root string   `json:"root_token"`
		Keys []string `json:"unseal_keys"`
	}
	text, err := os.ReadFile(cluster)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil || c.Root != "myroot" || len(c.Keys) != 1 {
		t.Errorf("-dev-cluster-json: %s, %v", text, err)
	}
}

func TestDevFlags(t *testing.T) {
	t.Parallel()
	t.Run("no store, KV 1", func(t *testing.T) {
		t.Parallel()
		p := launch(t, t.TempDir(), nil, "-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token", "-dev-kv-v1")
		p.says("server started!")
		if _, err := os.Stat(filepath.Join(p.home, ".vault-token")); !os.IsNotExist(err) {
			t.Errorf("the token was stored: %v", err)
		}
		if code, _, m := call(t, plain(), "POST", p.devAddr()+"/v1/secret/a", "root", `{"a":"1"}`); code != 204 {
			t.Errorf("kv 1: %d %v", code, m)
		}
	})
	t.Run("no KV", func(t *testing.T) {
		t.Parallel()
		p := launch(t, t.TempDir(), nil, "-dev", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:0", "-dev-no-kv")
		p.says("server started!")
		if code, _, m := call(t, plain(), "GET", p.devAddr()+"/v1/secret/data/a", "root", ""); code != 404 {
			t.Errorf("got %d %v", code, m)
		}
	})
	t.Run("skip init", func(t *testing.T) {
		t.Parallel()
		p := launch(t, t.TempDir(), nil, "-dev", "-dev-listen-address=127.0.0.1:0", "-dev-skip-init")
		p.says("server started!")
		if code, _, m := call(t, plain(), "GET", p.devAddr()+"/v1/sys/health", "", ""); code != 501 {
			t.Errorf("got %d %v", code, m)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "tls")
		p := launch(t, t.TempDir(), nil, "-dev-tls", "-dev-tls-cert-dir="+dir, "-dev-listen-address=127.0.0.1:0")
		p.says("export VAULT_CACERT='" + filepath.Join(dir, "vault-ca.pem") + "'")
		ca, err := os.ReadFile(filepath.Join(dir, "vault-ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
		if code, _, m := call(t, c, "GET", p.devAddr()+"/v1/sys/health", "", ""); code != 200 {
			t.Errorf("got %d %v", code, m)
		}
	})
	t.Run("with a file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		put(t, filepath.Join(dir, "c.json"), `{"raw_storage_endpoint": true, "default_lease_ttl": "1h", "compat_version": "1.15.2+ent"}`)
		p := launch(t, dir, nil, "-dev", "-dev-listen-address=127.0.0.1:0", "-config=c.json")
		p.says("server started!")
		if _, _, m := call(t, plain(), "GET", p.devAddr()+"/v1/sys/health", "", ""); m["version"] != "1.15.2+ent" {
			t.Errorf("got %v", m)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"nothing", "", nil, "give a configuration"},
		{"unknown flag", "", []string{"-nosuchflag"}, "nosuchflag"},
		{"argument", "", []string{"-dev", "x.hcl"}, `unexpected argument "x.hcl"`},
		{"absent file", "", []string{"-config=no.hcl"}, "no.hcl"},
		{"plugins", "", []string{"-dev", "-dev-plugin-dir=/x"}, "external plugins come with a later version"},
		{"three nodes", "", []string{"-dev-three-node"}, "clusters come with a later version"},
		{"recovery", "", []string{"-recovery", "-config=c.hcl"}, "recovery mode"},
		{"syntax (T10)", "storage \"file\" { path = /var/lib/vault }", []string{"-config=c.hcl"}, `c.hcl:1:25: `},
		{
			"certificate (T10)", "disable_mlock = true\nstorage \"inmem\" {}\nlistener \"tcp\" { tls_cert_file = \"tl/vault.crt\" tls_key_file = \"tls/vault.key\" }",
			[]string{"-config=c.hcl"},
			`c.hcl:3:1: listener "tcp" on 127.0.0.1:8200: tls_cert_file: open tl/vault.crt: no such file`,
		},
		{"log level", "disable_mlock = true\nstorage \"inmem\" {}\nlog_level = \"loud\"\n" + plainListener, []string{"-config=c.hcl"}, `"loud"`},
		{"foreign folder", "disable_mlock = true\nstorage \"file\" { path = \".\" }\n" + plainListener, []string{"-config=c.hcl"}, "holds other files"},
		{"dev with a store in use", "disable_mlock = true\nstorage \"file\" { path = \"/proc/nosuch\" }", []string{"-dev", "-dev-listen-address=127.0.0.1:0", "-config=c.hcl"}, "/proc/nosuch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if tt.config != "" {
				put(t, filepath.Join(dir, "c.hcl"), tt.config)
			}
			p := launch(t, dir, nil, tt.args...)
			if code := p.ended(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(p.output(), tt.want) {
				t.Errorf("the output lacks %q", tt.want)
			}
		})
	}
}
