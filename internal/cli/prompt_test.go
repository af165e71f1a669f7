package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// asked runs a command line whose questions are answered by a fixed text, and
// returns the questions too.
func asked(t *testing.T, env []string, reply string, args ...string) (result, []string) {
	t.Helper()
	var out, stderr bytes.Buffer
	var questions []string
	code := Run(context.Background(), Config{
		Name: "vault", Args: args, Env: append([]string{"HOME=" + t.TempDir()}, env...),
		Stdio: Stdio{In: strings.NewReader(""), Out: &out, Err: &stderr},
		Ask: func(q string) (string, error) {
			questions = append(questions, q)
			return reply, nil
		},
	})
	return result{code, out.String(), stderr.String()}, questions
}

// S3-6: unseal without an argument asks for the key.
func TestUnsealAsks(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"PUT sys/unseal": {body: sealed}, "GET sys/leader": {503, isSealed}})
	got, questions := asked(t, f.env(), "share", "operator", "unseal")
	if got.code != 0 || len(questions) != 1 || questions[0] != "Unseal Key (will be hidden): " {
		t.Errorf("got %+v, asked %q", got, questions)
	}
	if f.requests[0] != `PUT /v1/sys/unseal {"key":"share","reset":false,"migrate":false}` {
		t.Errorf("sent %s", f.requests[0])
	}
}

// S3-9: login without an argument asks for the token.
func TestLoginAsks(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"GET auth/token/lookup-self": {body: lookupRoot}})
	got, questions := asked(t, []string{"VAULT_ADDR=" + f.URL}, "root", "login")
	if !strings.HasSuffix(got.out, rootTable) || len(questions) != 1 {
		t.Errorf("got %+v, asked %q", got, questions)
	}
	if f.headers[0].Get("X-Vault-Token") != "root" {
		t.Errorf("headers %v", f.headers[0])
	}
}

// A login under MFA asks for the code and validates it.
func TestLoginValidatesMFA(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{
		"PUT auth/userpass/login/mia": {body: `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"rid",` +
			`"mfa_constraints":{"e":{"any":[{"type":"totp","id":"mid","uses_passcode":true}]}}}}}`},
		"POST sys/mfa/validate": {body: `{"auth":{"client_token":"hvs.m","policies":["default"]}}`},
	})
	got, _ := asked(t, []string{"VAULT_ADDR=" + f.URL}, "123456", "login", "-method=userpass", "-field=token", "username=mia", "password=pw")
	if got.out != "hvs.m" {
		t.Errorf("got %+v", got)
	}
	if last := f.last(); last != `POST /v1/sys/mfa/validate {"mfa_payload":{"mid":["123456"]},"mfa_request_id":"rid"}` {
		t.Errorf("sent %s", last)
	}
}

// S0-14, S4-18: a private CA is refused, skipped by VAULT_SKIP_VERIFY, and
// trusted by VAULT_CACERT, -ca-cert and VAULT_CACERT_BYTES.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":{"k":"v"}}`)) // the client may have gone
	}))
	t.Cleanup(server.Close)
	ca := pemOf(server.Certificate().Raw)
	file := writeFile(t, t.TempDir(), "ca.crt", ca)
	base := []string{"VAULT_ADDR=" + server.URL, "VAULT_TOKEN=t"}
	for _, tc := range []struct {
		name string
		env  string
		flag string
		ok   bool
	}{
		{"unknown authority", "", "", false},
		{"skip by variable", "VAULT_SKIP_VERIFY=true", "", true},
		{"skip by flag", "", "-tls-skip-verify", true},
		{"flag undoes variable", "VAULT_SKIP_VERIFY=true", "-tls-skip-verify=false", false},
		{"CA by variable", "VAULT_CACERT=" + file, "", true},
		{"CA by synonym", "ARCA_CACERT=" + file, "", true},
		{"CA by flag", "", "-ca-cert=" + file, true},
		{"CA by text", "VAULT_CACERT_BYTES=" + ca, "", true},
		{"CA by folder", "VAULT_CAPATH=" + filepath.Dir(file), "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"read", "-field=k", "a/b"}
			if tc.flag != "" {
				args = append(args, tc.flag)
			}
			got := vault(t, append(base[:2:2], tc.env), "", args...)
			if tc.ok && got.out != "v" {
				t.Errorf("got %+v", got)
			}
			if !tc.ok && (got.code != 2 || !strings.Contains(got.stderr, "certificate signed by unknown authority")) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
