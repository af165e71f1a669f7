package config

import (
	"strings"
	"testing"
	"time"
)

const (
	id   = "02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b"
	base = "address: 0.0.0.0:7373 # all\nadmin:\n  identity: disabled\ntls:\n  key: private.key\n  cert: public.crt\n"
	fsIs = "keystore:\n  fs:\n    path: keys\n"
)

func none(string) (string, bool) { return "", false }

// TestGuide reads the guide's file. S0-37, S0-38, S0-39, S0-40, S0-41,
// S1-3.
func TestGuide(t *testing.T) {
	t.Parallel()
	text := base + "   \npolicy:\n  my-app: \n    allow:\n    - /v1/key/create/my-key*\n    identities:\n    - " + id + " # yours\n   \n" +
		"keystore:\n   vault:\n     endpoint: https://127.0.0.1:8200\n     version:  v1 # either\n     approle:\n       id:     \"a\"\n       secret: \"b\"\n       retry:  15s\n" +
		"     status:\n       ping: 10s\n     tls:\n       ca: vault.crt # by hand\n"
	cfg, err := Parse([]byte(text), none)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Address != "0.0.0.0:7373" || cfg.Admin != "disabled" || cfg.TLS.Key != "private.key" || cfg.TLS.Verify {
		t.Errorf("read as %+v", cfg)
	}
	if cfg.Policies.Identities[id] != "my-app" || !cfg.Policies.Policies["my-app"].Allows("/v1/key/create/my-key-1") {
		t.Errorf("policies %+v", cfg.Policies)
	}
	v := cfg.KeyStore.Vault.config(nil)
	if v.AppRole.ID != "a" || v.AppRole.Secret != "b" || v.Version != "v1" || v.Ping != 10*time.Second || v.TLS.CA != "vault.crt" {
		t.Errorf("vault %+v", v)
	}
}

// TestOlder reads what older versions' files hold.
func TestOlder(t *testing.T) {
	t.Parallel()
	text := "root: " + id + "\ntls:\n  key: a\n  cert: b\npolicy:\n  p:\n    paths:\n    - /v1/status\nkeys:\n  fs:\n    path: /keys\nunknown: [1]\n"
	cfg, err := Parse([]byte(text), none)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Admin != id || !cfg.Policies.Policies["p"].Allows("/v1/status") || cfg.KeyStore.FS.Path != "/keys" || cfg.Address != DefaultAddress {
		t.Errorf("read as %+v", cfg)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SKIP": "true", "TIME": "20s", "ADMIN": id, "PATH_": "/k"}
	lookup := func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	text := "admin: {identity: '${ADMIN}'}\ntls: {key: a, cert: b}\napi:\n  /v1/ready:\n    skip_auth: ${SKIP}\n    timeout: ${ TIME }\n" +
		"policy:\n  p:\n    allow: [\"${ADMIN}\"]\nkeystore:\n  fs:\n    path: ${PATH_}\n"
	cfg, err := Parse([]byte(text), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if a := cfg.API["/v1/ready"]; !a.SkipAuth || a.Timeout != 20*time.Second || cfg.Admin != id || cfg.KeyStore.FS.Path != "/k" {
		t.Errorf("read as %+v", cfg)
	}
	if got := cfg.Policies.Policies["p"].Allow[0]; got != "${ADMIN}" {
		t.Errorf("the rule became %q", got)
	}
	_, err = Parse([]byte(base+"cache:\n  expiry:\n    any: ${NOT_SET}\n"+fsIs), lookup)
	if err == nil || !strings.Contains(err.Error(), "NOT_SET") || !strings.Contains(err.Error(), "line 9") {
		t.Errorf("got %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, says string }{
		"not YAML":           {"address: [1\n  foo", "line"},
		"version":            {"version: v2\n" + base + fsIs, "version"},
		"host name":          {strings.Replace(base, "0.0.0.0", "localhost", 1) + fsIs, "host names"},
		"port":               {strings.Replace(base, "7373", "99999", 1) + fsIs, "port"},
		"no admin":           {strings.Replace(base, "disabled", `""`, 1) + fsIs, "admin.identity"},
		"no key":             {strings.Replace(base, "  key: private.key\n", "", 1) + fsIs, "tls.key"},
		"auth":               {base + "  auth: maybe\n" + fsIs, "tls.auth"},
		"negative expiry":    {base + "cache:\n  expiry:\n    any: -5m\n" + fsIs, "negative"},
		"no duration":        {base + "cache:\n  expiry:\n    any: soon\n" + fsIs, "soon"},
		"negative time-out":  {base + "api:\n  /v1/status:\n    timeout: -5s\n" + fsIs, "negative"},
		"level":              {base + "log:\n  error: loud\n" + fsIs, "loud"},
		"no key store":       {base, "keystore"},
		"two key stores":     {base + fsIs + "  vault:\n    endpoint: x\n", "fs and vault"},
		"no path":            {base + "keystore:\n  fs:\n    path: \"\"\n", "path"},
		"twice":              {base + "keys:\n- name: a\n- name: a\n" + fsIs, "twice"},
		"identity twice":     {base + "policy:\n  p:\n    identities: [" + id + "]\n  q:\n    identities: [" + id + "]\n" + fsIs, "p and in q"},
		"admin in a policy":  {strings.Replace(base, "disabled", id, 1) + "policy:\n  p:\n    identities: [" + id + "]\n" + fsIs, "admin"},
		"proxy in a policy":  {base + "  proxy:\n    identities: [" + id + "]\npolicy:\n  p:\n    identities: [" + id + "]\n" + fsIs, "proxy"},
		"proxy is the admin": {strings.Replace(base, "disabled", id, 1) + "  proxy:\n    identities: [" + id + "]\n" + fsIs, "admin"},
		"another KES":        {base + "keystore:\n  kes:\n    endpoint: []\n", "endpoint is missing"},
		"rule":               {base + "policy:\n  p:\n    allow: [\"/v1/[\"]\n" + fsIs, "pattern"},
		"duplicate section":  {base + base + fsIs, "already defined"},
	} {
		_, err := Parse([]byte(c.text), none)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want something with %q", name, err, c.says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(base + fsIs))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("keys: {fs: {path: x}}\nadmin: {identity: ${X}}"))
	f.Add([]byte("cache: {expiry: {any: [1]}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		cfg, err := Parse(text, func(n string) (string, bool) { return "v", n != "" })
		if err == nil && (cfg.Admin == "" || cfg.TLS.Key == "" || len(cfg.KeyStore.names()) != 1) {
			t.Errorf("taken: %q", text)
		}
	})
}
