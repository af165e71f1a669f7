package kes_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// send makes a request of KES's API with a body as it is.
func (r *rig) send(who, method, path, body string) (int, string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.TLS = &tls.ConnectionState{}
	if c := r.certs[who]; c != nil {
		req.TLS.PeerCertificates = []*x509.Certificate{c}
	}
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, req)
	var out struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &out) // not every answer is JSON
	return w.Code, out.Message
}

const denied = "not authorized: insufficient permissions"

// TestDeniedFirst tells who may not make a call nothing of what is wrong with it.
// S1-1.
func TestDeniedFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	large := `{"plaintext":"` + strings.Repeat("A", 100<<10) + `!"}`
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/v1/key/encrypt/%s", "{"},
		{"PUT", "/v1/key/encrypt/%s", large},
		{"PUT", "/v1/key/encrypt/%s", ""},
		{"PUT", "/v1/key/bulk/decrypt/%s", `{"a":1}`},
		{"PUT", "/v1/key/import/%s", `{"key":"AAAA","cipher":"AES256"}`},
		{"PUT", "/v1/key/import/%s", `{"key":"AAAA","cipher":"DES"}`},
		{"PUT", "/v1/key/create/a%%2Fb/%s", ""},
		{"GET", "/v1/key/list/..~/%s", ""},
		{"GET", "/v1/key/describe/none/%s", ""},
	} {
		for who, name := range map[string]string{"app": "secret", "stranger": "k"} {
			path := strings.ReplaceAll(strings.ReplaceAll(c.path, "%%", "%"), "%s", name)
			if who == "app" && strings.HasPrefix(path, "/v1/key/list/") {
				continue // it may
			}
			if who == "app" && strings.Count(path, "/") > 4 {
				continue // its deny rule is for one segment
			}
			if code, says := r.send(who, c.method, path, c.body); code != 403 || says != denied {
				t.Errorf("%s %s %.20q as %s: %d %q", c.method, path, c.body, who, code, says)
			}
		}
		path := strings.ReplaceAll(strings.ReplaceAll(c.path, "%%", "%"), "%s", "k")
		if code, says := r.send("admin", c.method, path, c.body); code != 400 && code != 406 || says == "" {
			t.Errorf("%s %s %.20q as admin: %d %q", c.method, path, c.body, code, says)
		}
	}
}

// TestSealedStatus tells probes that arca is sealed as KES tells that its key store
// is away, and nothing else.
func TestSealedStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("PUT", "sys/seal", r.Root, nil)
	for _, who := range []string{"app", "admin", "stranger"} {
		if code, says := r.send(who, "GET", "/v1/ready", ""); code != 504 || says == "" {
			t.Errorf("ready as %s: %d %q", who, code, says)
		}
		code, out := r.kes(who, "GET", "/v1/status", nil)
		if code != 200 || out["keystore_unreachable"] != true || out["keystore_unavailable"] != true || out["keystore_latency"] != nil {
			t.Errorf("status as %s: %d %v", who, code, out)
		}
	}
	if code, _ := r.send("", "GET", "/v1/ready", ""); code != 400 {
		t.Errorf("ready without a certificate: %d", code)
	}
	if code, _ := r.send("app", "PUT", "/v1/key/encrypt/k", "{"); code != 502 {
		t.Errorf("encrypt: %d", code)
	}
	r.Unseal()
	if code, _ := r.send("admin", "GET", "/v1/ready", ""); code != 200 {
		t.Errorf("unsealed: %d", code)
	}
	for _, path := range []string{"/v1/ready", "/v1/status"} {
		if code, says := r.send("stranger", "GET", path, ""); code != 403 || says != denied {
			t.Errorf("%s as a stranger: %d %q", path, code, says)
		}
	}
}

// TestAllIsAudited finds every request in arca's audit log, once, whoever has
// answered it, with why it was refused.
func TestAllIsAudited(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "kes/keys/k", r.Root, fields{})
	file := filepath.Join(t.TempDir(), "audit")
	r.Must("PUT", "sys/audit/file", r.Root, fields{"type": "file", "options": fields{"file_path": file, "log_raw": "true"}})
	for _, c := range []struct {
		who, method, path, body string
		code                    int
		at, refusal             string // in the audit log
	}{
		{"app", "PUT", "/v1/key/encrypt/k", `{"plaintext":"AA=="}`, 200, "kes/v1/key/encrypt/k", ""},
		{"app", "PUT", "/v1/key/encrypt/none", `{"plaintext":"AA=="}`, 404, "kes/v1/key/encrypt/none", "key does not exist"},
		{"app", "PUT", "/v1/key/encrypt/secret", `{}`, 403, "kes/v1/key/encrypt/secret", denied},
		{"stranger", "PUT", "/v1/key/encrypt/k", `{}`, 403, "kes/v1/key/encrypt/k", denied},
		{"stranger", "PUT", "/v1/key/encrypt/k", `{`, 403, "kes/v1/judge/v1/key/encrypt/k", denied},
		{"app", "PUT", "/v1/key/encrypt/k", `{`, 400, "kes/v1/judge/v1/key/encrypt/k", "the body is not the JSON"},
		{"app", "PUT", "/v1/key/create/a%2Fb", ``, 400, "kes/v1/judge/v1/key/create/a/b", "invalid name"},
		{"", "PUT", "/v1/key/encrypt/k", `{}`, 400, "kes/v1/judge/v1/key/encrypt/k", "no client certificate"},
		{"app", "GET", "/v1/key/encrypt/k", ``, 405, "kes/v1/judge/v1/key/encrypt/k", "method not allowed"},
		{"app", "GET", "/v1/enclave/", ``, 404, "kes/v1/judge/v1/enclave/", "not found"},
		{"", "GET", "/", ``, 404, "kes/v1/judge/", "not found"},
		{"app", "GET", "/v1/status", ``, 200, "kes/v1/status", ""},
		{"stranger", "GET", "/v1/status", ``, 403, "kes/v1/status", denied},
		{"stranger", "GET", "/v1/log/audit", ``, 403, "kes/v1/log/audit", denied},
		{"", "GET", "/version", ``, 200, "kes/v1/judge/version", ""},
	} {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
		if code, says := r.send(c.who, c.method, c.path, c.body); code != c.code {
			t.Errorf("%s %s as %q: %d %q; want %d", c.method, c.path, c.who, code, says, c.code)
		}
		checkAudit(t, file, c.at, c.code, c.refusal)
	}
	_ = os.Truncate(file, 0) // as above
	r.door.Refused("192.0.2.1:1234", errors.New("unknown authority"))
	checkAudit(t, file, "kes/v1/judge/", 403, "TLS: the client's certificate is refused: unknown authority")
	if raw, err := os.ReadFile(file); err != nil || !strings.Contains(string(raw), "192.0.2.1") {
		t.Errorf("without the client's address: %s, %v", raw, err)
	}
}

// checkAudit wants one request and its answer; where the door has refused it, with
// code and text.
func checkAudit(t *testing.T, file, at string, code int, refusal string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	var answer struct {
		Type    string `json:"type"`
		Error   string `json:"error"`
		Request struct {
			Path string `json:"path"`
			Data struct {
				Code    int    `json:"code"`
				Refusal string `json:"refusal"`
			} `json:"data"`
		} `json:"request"`
	}
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &answer) != nil {
		t.Errorf("%s: the audit log has %q", at, lines)
		return
	}
	if answer.Type != "response" || answer.Request.Path != at || (answer.Error == "") != (refusal == "") {
		t.Errorf("the audit log has %+v; want %s, %q", answer, at, refusal)
	}
	if told := answer.Request.Data; strings.HasPrefix(at, "kes/v1/judge/") && refusal != "" && code != 403 &&
		(told.Code != code || !strings.Contains(told.Refusal, refusal)) {
		t.Errorf("the audit log has %+v; want %d %q", told, code, refusal)
	}
}
