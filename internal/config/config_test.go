package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/config"
	"arca/internal/config/source"
)

// read reads texts as the files a.hcl, b.hcl, … would be.
func read(t *testing.T, texts ...string) (*config.Config, []source.Warning, error) {
	t.Helper()
	c, d := &config.Config{}, &source.Decoder{}
	for i, text := range texts {
		if err := c.Add(string(rune('a'+i))+".hcl", []byte(text), d); err != nil {
			return nil, nil, err
		}
	}
	return c, d.Warnings, nil
}

func mustRead(t *testing.T, texts ...string) *config.Config {
	t.Helper()
	c, warnings, err := read(t, texts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("unexpected warning: %s", w)
	}
	return c
}

const guideJSON = `{
  "api_addr": "https://127.0.0.1:8200",
  "backend": {
    "file": {
      "path": "vault/file"
    }
  },

  "default_lease_ttl": "168h",
  "max_lease_ttl": "720h",

  "listener": {
    "tcp": {
      "address": "0.0.0.0:8200",
      "tls_cert_file": "vault.crt",
      "tls_key_file": "vault.key",
      "tls_min_version": "tls12"
    }
  }
}
`

// S0-6 to S0-9: the configuration of guides 000 and 001, word for word.
func TestGuideJSON(t *testing.T) {
	t.Parallel()
	c := mustRead(t, guideJSON)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Storage.Type != "file" || c.Storage.Path() != "vault/file" {
		t.Errorf("storage %+v", c.Storage)
	}
	if c.APIAddr != "https://127.0.0.1:8200" || c.DefaultLease != 168*time.Hour || c.MaxLease != 720*time.Hour {
		t.Errorf("got %q, %s, %s", c.APIAddr, c.DefaultLease, c.MaxLease)
	}
	l := c.Listeners[0]
	if l.Type != "tcp" || l.Address != "0.0.0.0:8200" || l.TLSCertFile != "vault.crt" || l.TLSKeyFile != "vault.key" || !l.TLS() {
		t.Errorf("listener %+v", l)
	}
}

// The snippets of guides 003 (S3) and 004 (S4), word for word.
func TestGuideHCL(t *testing.T) {
	t.Parallel()
	const storage, plain = "storage \"inmem\" {}\n", "listener \"tcp\" { tls_disable = 1 }\n"
	for _, tt := range []struct {
		id, text string
		check    func(*config.Config) bool
	}{
		{"S3-2", `storage "file" {
path = "/root/vault-data"
}
listener "tcp" {
address = "0.0.0.0:8200"
tls_disable = 1
}`, func(c *config.Config) bool {
			return c.Storage.Path() == "/root/vault-data" && c.Listeners[0].Address == "0.0.0.0:8200" && !c.Listeners[0].TLS()
		}},
		{"S3-11", storage + plain + "ui = true # boolean", func(c *config.Config) bool { return c.UI }},
		{"S3-55", storage + plain + `telemetry {
statsite_address = "statsite.company.local:8125"
}`, func(c *config.Config) bool { return c.Telemetry.StatsiteAddr == "statsite.company.local:8125" }},
		{"S3-61", plain + `storage "raft" {
path = "/path/to/raft/data" # defines where the data will be stored
node_id = "raft_node_1"
}
cluster_addr = "http://127.0.0.1:8201"`, func(c *config.Config) bool {
			return c.Storage.Type == "raft" && c.Storage.Options["node_id"] == "raft_node_1" && c.ClusterAddr == "http://127.0.0.1:8201"
		}},
		{"S3-62", storage + plain + "disable_mlock = true", func(c *config.Config) bool { return c.DisableMlock }},
		{
			"S4-7 to S4-10, quoted", `cluster_addr = "https://<node_ip>:8201" api_addr = "https://<node_ip>:8200" plugin_directory = "/etc/vault/plugin" disable_mlock = true listener "tcp" { address = "0.0.0.0:8200" tls_cert_file = "/etc/vault/tls/vault.crt" tls_key_file = "/etc/vault/tls/vault.key" tls_disable_client_certs = true } storage "raft" { path = "/var/lib/vault" }`,
			func(c *config.Config) bool {
				return c.PluginDirectory == "/etc/vault/plugin" && c.DisableMlock && c.Listeners[0].TLSDisableClient &&
					c.Storage.Type == "raft" && c.Storage.Path() == "/var/lib/vault" && c.APIAddr == "https://<node_ip>:8200"
			},
		},
	} {
		t.Run(tt.id, func(t *testing.T) {
			t.Parallel()
			c := mustRead(t, tt.text)
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if !tt.check(c) {
				t.Errorf("got %+v, storage %+v, listeners %+v", c, c.Storage, c.Listeners)
			}
		})
	}
}

// S3-3: blocks on one line, whose comments swallow the closing brace.
func TestCommentBeforeBrace(t *testing.T) {
	t.Parallel()
	c, warnings, err := read(t, `storage "file" { path = "/path/to/vault/data" # path will be created if it doesn't exist! }
listener "tcp" { address = "0.0.0.0:8200" tls_disable = 1 # shouldn't be disabled when running in production }
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Storage.Path() != "/path/to/vault/data" || c.Listeners[0].Address != "0.0.0.0:8200" || c.Listeners[0].TLS() {
		t.Errorf("got %+v, %+v", c.Storage, c.Listeners)
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0].String(), "a.hcl:1:91: ") {
		t.Errorf("warnings %v", warnings)
	}
}

// Traps T2 and T10: errors name the place and what was meant.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want, hint string }{
		{
			"T10 one line", `cluster_addr = "https://<node_ip>:8201" disable_mlock = true listener "tcp" { address = "0.0.0.0:8200" } storage "raft" { path = /var/lib/vault }`,
			"a.hcl:1:130: ", `put the value in quotes: path = "/var/lib/vault"`,
		},
		{"unquoted path", "storage \"file\" {\n  path = /var/lib/vault\n}\n", "a.hcl:2:10: ", `path = "/var/lib/vault"`},
		{"guide 003, opening quote", "ui = true\nplugin_directory = /path/to/directory\"\n", "a.hcl:2:20: ", `plugin_directory = "/path/to/directory"`},
		{"closing quote", "api_addr = \"http://a\nui = true\n", "a.hcl:1:", "a quote is missing"},
		{"T2 blank in a name", "listener \"tcp\" {\n  tls_cert _file = \"x\"\n}\n", "a.hcl:2:3: ", "did you mean tls_cert_file?"},
		{"open brace", "storage \"inmem\" {\n", "a.hcl:", "the { of line 1 is not closed"},
		{"brace too many", "storage \"inmem\" {}\n}\n", "a.hcl:2:1: ", "closes nothing"},
		{"negative duration", "ui = true\nmax_lease_ttl = \"-5h\"\n", "a.hcl:2:17: ", "max_lease_ttl cannot be negative"},
		{"list for a duration", "max_lease_ttl = []\n", "a.hcl:1:17: ", "not a list or block"},
		{"duration", "default_lease_ttl = \"soon\"\n", "a.hcl:1:21: ", "must be a duration"},
		{"boolean", "ui = \"perhaps\"\n", "a.hcl:1:6: ", "must be true or false"},
		{"block wanted", "telemetry = 7\n", "a.hcl:1:13: ", "telemetry must be a block"},
		{"JSON comma", "{\n \"ui\": true\n \"api_addr\": \"x\"\n}", "a.hcl:3:2: ", "is a comma missing"},
		{"JSON comment", "{\n # no\n}", "a.hcl:2:2: ", "JSON has no comments"},
		{"JSON cut", "{\n \"ui\": true\n", "a.hcl:", "a closing brace"},
		{"deep HCL", strings.Repeat("a {", 100), "a.hcl:1:", "nested deeper"},
		{"deep JSON", strings.Repeat(`{"a":`, 100), "a.hcl:1:", "nested deeper"},
		{"header key", "listener \"tcp\" { custom_response_headers { \"9xx\" = { a = [\"b\"] } } }", "a.hcl:1:", "9xx"},
		{"lockout type", "user_lockout \"token\" {}", "a.hcl:1:1: ", "userpass"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(t, tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("got  %s\nwant %s…%s", err, tt.want, tt.hint)
			}
		})
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text string }{
		{"blocks", "storage \"file\" { path = \"p\" }\nlistener \"tcp\" { address = \"a:1\" tls_disable = true }\nlistener \"unix\" { address = \"s\" }"},
		{"objects", "backend = { file = { path = \"p\" } }\nlistener = [{ tcp = { address = \"a:1\", tls_disable = \"true\" } }, { unix = { address = \"s\" } }]"},
		{"object by type", "storage = { file = { path = \"p\" } }\nlistener = { tcp = { address = \"a:1\" tls_disable = \"1\" } unix = { address = \"s\" } }"},
		{"type as a key", "storage { type = \"file\" path = \"p\" }\nlistener { type = \"tcp\" address = \"a:1\" tls_disable = 1 }\nlistener { type = \"unix\" address = \"s\" }"},
		{"JSON lists", `{"storage":[{"file":{"path":"p"}}],"listener":[{"tcp":{"address":"a:1","tls_disable":"true"}},{"unix":{"address":"s"}}]}`},
		{"JSON lists of one type", `{"storage":{"file":[{"path":"p"}]},"listener":{"tcp":[{"address":"a:1","tls_disable":1}],"unix":[{"address":"s"}]}}`},
		{"byte order mark", "\ufeffstorage \"file\" { path = \"p\" }\nlistener \"tcp\" { address = \"a:1\" tls_disable = true }\nlistener \"unix\" { address = \"s\" }"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := mustRead(t, tt.text)
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if c.Storage.Type != "file" || c.Storage.Path() != "p" {
				t.Errorf("storage %+v", c.Storage)
			}
			if len(c.Listeners) != 2 || c.Listeners[0].Address != "a:1" || c.Listeners[0].TLS() || c.Listeners[1].Type != "unix" {
				t.Errorf("listeners %+v", c.Listeners)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	_, warnings, err := read(t, `default_lease_tl = "1h"
storage "file" { pth = "x" }
listener "tcp" {
  tls_dissable = 1
  whatever = 2
}
api_addr = "a"
api_addr = "b"
storage "inmem" {}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`a.hcl:1:1: unknown key "default_lease_tl"; did you mean "default_lease_ttl"?`,
		`a.hcl:2:18: unknown key "pth" in storage "file"; did you mean "path"?`,
		`a.hcl:4:3: unknown key "tls_dissable" in listener "tcp"; did you mean "tls_disable"?`,
		`a.hcl:5:3: unknown key "whatever" in listener "tcp"`,
		`a.hcl:8:1: api_addr is set in line 7 already; the later one counts`,
		`a.hcl:9:1: storage is set in line 2 already; the later one counts`,
	}
	if len(warnings) != len(want) {
		t.Fatalf("got %v", warnings)
	}
	for i := range want {
		if got := warnings[i].String(); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"20.json":     `{"ui": true, "log_level": "debug", "listener": {"unix": {"address": "/s"}}}`,
		"10.hcl":      "ui = false\nlog_level = \"warn\"\nstorage \"inmem\" {}\nlistener \"tcp\" { tls_disable = 1 }",
		"README.txt":  "not a configuration {",
		".hidden.hcl": "neither {",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, warnings, err := config.Load([]string{dir})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if !c.UI || c.LogLevel != "debug" || len(c.Listeners) != 2 {
		t.Errorf("got %+v", c)
	}
	if _, _, err := config.Load([]string{t.TempDir()}); err == nil || !strings.Contains(err.Error(), ".hcl or .json") {
		t.Errorf("empty folder: %v", err)
	}
	if _, _, err := config.Load([]string{"nosuch.hcl"}); err == nil || !strings.Contains(err.Error(), "nosuch.hcl") {
		t.Errorf("absent file: %v", err)
	}
}

func TestSeals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, warning, err string
		disabled           bool
	}{
		{`seal "transit" { name = "a" priority = "1" address = "x" disabled = "TRUE" }`, "", "", true},
		{`seal "transit" { disabled = 1 }`, "", "", true},
		{`seal "transit" { disabled = "t" }`, "", "", true},
		{`seal "transit" { disabled = false }`, "", "", false},
		{`seal "transit" { disabled = "perhaps" }`, "", `disabled must be true or false, not "perhaps"`, false},
		{`seal "transit" { keyname = "x" }`, `a.hcl:1:18: unknown key "keyname" in seal "transit"; did you mean "key_name"?`, "", false},
		{`seal "awskms" { kms_keyid = "x" }`, `did you mean "kms_key_id"?`, "", false},
		{`seal "awskms" { role_arn = "x" }`, `"role_arn" in seal "awskms" is not supported and changes nothing`, "", false},
		{`seal "static" { address = "x" }`, `unknown key "address" in seal "static"`, "", false},
		{`seal { type = "shamir" }`, "", "", false},
	} {
		c, warnings, err := read(t, tt.text)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v", tt.text, err)
			}
			continue
		}
		if err != nil || c.Seals[0].Disabled != tt.disabled || len(warnings) != min(1, len(tt.warning)) || tt.warning != "" && !strings.Contains(warnings[0].String(), tt.warning) {
			t.Errorf("%s: %v, %v, %v", tt.text, c.Seals, warnings, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const storage, plain = "storage \"inmem\" {}\n", "listener \"tcp\" { tls_disable = 1 }\n"
	for _, tt := range []struct{ name, text, want string }{
		{"no storage", plain, "no storage is configured"},
		{"no listener", storage, "no listener is configured"},
		{"ha_storage", "storage \"file\" { path = \"x\" }\nha_storage \"postgresql\" {}\n" + plain, `a.hcl:2:1: ha_storage cannot be used with storage "file"`},
		{"ha_storage without a lock", "storage \"postgresql\" {}\nha_storage \"file\" { path = \"x\" }\n" + plain, `a.hcl:2:1: ha_storage "file" has no lock`},
		{"later storage", "storage \"cassandra\" {}\n" + plain, "a.hcl:1:1: storage \"cassandra\" comes with a later version"},
		{"misspelt storage", "storage \"fille\" { path = \"x\" }\n" + plain, `did you mean "file"?`},
		{"no path", "storage \"file\" {}\n" + plain, "needs a path"},
		{"shamir", storage + plain + "seal \"shamir\" {}", ""},
		{"no certificate", storage + "listener \"tcp\" { address = \"0.0.0.0:8200\" }", "a.hcl:2:1: the listener on 0.0.0.0:8200 needs tls_cert_file"},
		{"TLS version", storage + `listener "tcp" { tls_cert_file = "c" tls_key_file = "k" tls_min_version = "1.2" }`, "tls_min_version"},
		{"cipher suite", storage + `listener "tcp" { tls_cert_file = "c" tls_key_file = "k" tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA25" }`, "did you mean TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256?"},
		{"chroot", storage + `listener "tcp" { tls_disable = 1 chroot_namespace = "a" }`, "chroot_namespace"},
		{"TTLs", storage + plain + "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"", "greater than max_lease_ttl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := mustRead(t, tt.text).Check()
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"VAULT_API_ADDR": "http://api", "VAULT_CLUSTER_ADDR": "https://cluster", "VAULT_LOG_LEVEL": "debug", "VAULT_LOG_FORMAT": "json",
		"VAULT_RAFT_NODE_ID": "n7", "VAULT_RAFT_PATH": "/other", "VAULT_UI": "true", "VAULT_DISABLE_MLOCK": "1",
		"VAULT_LICENSE": "02MV4UU", // S2-1: for nothing
	}
	c := mustRead(t, "storage \"raft\" { path = \"/p\" node_id = \"n1\" }\nui = false\napi_addr = \"x\"")
	if err := c.Overlay(func(k string) string { return env[k] }); err != nil {
		t.Fatal(err)
	}
	if c.APIAddr != "http://api" || c.ClusterAddr != "https://cluster" || c.LogLevel != "debug" || c.LogFormat != "json" ||
		!c.UI || !c.DisableMlock || c.Storage.Path() != "/other" || c.Storage.Options["node_id"] != "n7" {
		t.Errorf("got %+v, %+v", c, c.Storage)
	}
	env["VAULT_UI"] = "maybe"
	if err := c.Overlay(func(k string) string { return env[k] }); err == nil || !strings.Contains(err.Error(), "VAULT_UI") {
		t.Errorf("got %v", err)
	}
}

func TestKMSLibraries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"two", `kms_library "pkcs11" {` + "\n name = \"One\"\n library = \"/a.so\"\n}\n" + `kms_library "pkcs11" {` + "\n name = \"two\"\n library = \"/b.so\"\n}\n", ""},
		{"the same name", `kms_library "pkcs11" {` + "\n name = \"One\"\n library = \"/a.so\"\n}\n" + `kms_library "pkcs11" {` + "\n name = \"one\"\n library = \"/b.so\"\n}\n", "two libraries"},
		{"no name", `kms_library "pkcs11" {` + "\n library = \"/a.so\"\n}\n", "name is missing"},
		{"no library", `kms_library "pkcs11" {` + "\n name = \"a\"\n}\n", "library is missing"},
		{"another type", `kms_library "kmip" {` + "\n name = \"a\"\n}\n", "is pkcs11"},
	} {
		c, d := &config.Config{}, &source.Decoder{}
		err := c.Add("x.hcl", []byte(tt.text), d)
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if got := c.KMSLibraries.Paths(); err != nil || got["one"] != "/a.so" || got["two"] != "/b.so" {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}
