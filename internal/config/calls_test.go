package config_test

import (
	"strings"
	"testing"
	"time"

	"arca/internal/config"
)

// TestCalls reads settings of KES's calls, and refuses those that would leave keys to
// everybody.
func TestCalls(t *testing.T) {
	t.Parallel()
	const head = `listener "kes" { address = "127.0.0.1:0" tls_cert_file = "c" tls_key_file = "k" `
	for _, text := range []string{
		head + `api "/v1/ready" { skip_auth = true timeout = "5s" } api "/v1/key/list/" { timeout = 60 } }`,
		head + `api = { "/v1/ready" = { skip_auth = true, timeout = "5s" }, "/v1/key/list/" = { timeout = "1m" } } }`,
		`{"listener": {"kes": {"address": "127.0.0.1:0", "tls_cert_file": "c", "tls_key_file": "k",
			"api": {"/v1/ready": {"skip_auth": true, "timeout": "5s"}, "/v1/key/list/": {"timeout": "60s"}}}}}`,
	} {
		l := mustRead(t, text).Listeners[0]
		ready, list := l.API["/v1/ready"], l.API["/v1/key/list/"]
		if len(l.API) != 2 || !l.API.Free() || !ready.SkipAuth || ready.Timeout != 5*time.Second || list.SkipAuth || list.Timeout != time.Minute {
			t.Errorf("%s: %+v", text, l.API)
		}
	}
	for bad, says := range map[string]string{
		`api "/v1/key/decrypt/" { skip_auth = true }`:         "skip_auth is for",
		`api "/v1/log/audit" { skip_auth = true }`:            "skip_auth is for",
		`api "/v1/identity/self/describe" { skip_auth = "1"}`: "skip_auth is for",
	} {
		c := mustRead(t, `storage "inmem" {} `+head+bad+" }")
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if (config.Calls{"/v1/api": {Timeout: time.Second}}).Free() {
		t.Error("a time-out frees nobody")
	}
}
