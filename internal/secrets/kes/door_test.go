package kes_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/engine"
	"arca/internal/errs"
	door "arca/internal/kes"
	"arca/internal/kes/key"
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
// S0-51, S1-1.
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
		for name, told := range out {
			if !strings.HasPrefix(name, "keystore_") && told != "" && told != 0.0 {
				t.Errorf("status tells %s that %s is %v", who, name, told)
			}
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
	t.Run("active", func(t *testing.T) {
		t.Parallel()
		testAudited(t, newRig(t))
	})
	t.Run("standby", func(t *testing.T) { // which does not even read
		t.Parallel()
		r := newRig(t)
		inside := door.Inside{Core: idle{r.Core}, Mount: "kes/", Forward: r.forward}
		r.door = door.New(door.Config{Version: "test"}, &door.State{Keys: inside, Access: inside})
		testAudited(t, r)
	})
}

// idle is a node that serves nothing.
type idle struct{ door.Core }

func (idle) Handle(context.Context, *engine.Request) (*engine.Response, error) {
	return nil, errs.New(errs.NotActive, "not the active node")
}

// forward sends a request to the active node as net/http has it there: a GET's body
// comes, too.
func (r *rig) forward(ctx context.Context, req *http.Request, body []byte) (*http.Response, error) {
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	w := httptest.NewRecorder()
	r.Handler.ServeHTTP(w, req.WithContext(ctx))
	return w.Result(), nil
}

// TestLargeBodiesAreJudged refuses large bodies of who may not make the call without
// having read them, on any node.
func TestLargeBodiesAreJudged(t *testing.T) {
	t.Parallel()
	for _, active := range []bool{true, false} {
		r := newRig(t)
		if !active {
			inside := door.Inside{Core: idle{r.Core}, Mount: "kes/", Forward: r.forward}
			r.door = door.New(door.Config{Version: "test"}, &door.State{Keys: inside, Access: inside})
		}
		for who, want := range map[string]int{"stranger": 403, "admin": 404} {
			body := strings.NewReader(`{"plaintext":"` + strings.Repeat("AAAA", 50_000) + `"}`)
			size := body.Len()
			req := httptest.NewRequest("PUT", "/v1/key/encrypt/none", body)
			req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs[who]}}
			w := httptest.NewRecorder()
			r.door.ServeHTTP(w, req)
			if w.Code != want || (body.Len() == size) != (want == 403) {
				t.Errorf("active %v, %s: %d, and %d of %d bytes are left", active, who, w.Code, body.Len(), size)
			}
		}
	}
}

// TestByVaultsDoor makes KES's calls by arca's own API, with a certificate that another
// listener may have asked nobody about: only the door of KES serves them.
func TestByVaultsDoor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "kes/keys/k", r.Root, nil)
	for _, who := range []string{"", "app", "admin"} {
		for _, call := range []string{
			"PUT key/generate/k", "PUT key/encrypt/k", "PUT key/create/new", "GET key/describe/k", "LIST key/list/", "DELETE key/delete/k",
			"GET identity/self/describe", "GET judge/v1/key/encrypt/k?code=400&refusal=forged",
		} {
			method, path, _ := strings.Cut(call, " ")
			req := httptest.NewRequest(method, "/v1/kes/v1/"+path, strings.NewReader(`{"plaintext":"AAAA","code":400,"refusal":"forged"}`))
			if c := r.certs[who]; c != nil {
				req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
			}
			req.Header.Set("X-Arca-Door", "true")
			w := httptest.NewRecorder()
			if r.Handler.ServeHTTP(w, req); w.Code != 403 || strings.Contains(w.Body.String(), "forged") {
				t.Errorf("%s as %q: %d %s", call, who, w.Code, w.Body)
			}
		}
	}
	r.Must("GET", "kes/keys/k", r.Root, nil)
}

func testAudited(t *testing.T, r *rig) {
	t.Helper()
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
		{"stranger", "GET", "/v1//key/list/", ``, 307, "kes/v1/judge/v1/key/list/", "the path is not clean"},
		{"", "GET", "/v1/key/list", ``, 307, "kes/v1/judge/v1/key/list/", "the path is not clean"},
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

// TestImportKeepsChanges takes policies and identities over twice: what an operator has
// changed or deleted in between stays so, unless it is to be overwritten.
func TestImportKeepsChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.id("stranger")
	take := func(overwrite bool) (out [2]string) {
		for i, row := range []struct {
			path string
			body fields
		}{
			{"kes/policies/p", fields{"allow": []string{"/v1/key/create/*"}, "deny": []string{"/v1/key/create/x"}}},
			{"kes/identities/" + id, fields{"policy": "p"}},
		} {
			row.body["imported"], row.body["overwrite"] = true, overwrite
			code, answer := r.Do("POST", row.path, r.Root, row.body)
			if code != 204 {
				out[i] = strings.Join(strings.Fields(strings.Trim(strings.ReplaceAll(jsonOf(answer["errors"]), `"`, ""), "[]")), " ")
			}
		}
		return out
	}
	may := func() int { code, _ := r.send("stranger", "PUT", "/v1/key/create/k", ""); return code }
	const kept, gone = "it is another here than in the import, and is kept", "it was deleted here since it was imported, and stays so"
	for _, c := range []struct {
		about     string
		change    func()
		overwrite bool
		want      [2]string
		code      int
	}{
		{"first", func() {}, false, [2]string{}, 200},
		{"again", func() {}, false, [2]string{}, 400}, // the key exists
		{"a policy changed", func() { r.Must("POST", "kes/policies/p", r.Root, fields{"allow": []string{"/v1/key/list/*"}}) }, false, [2]string{kept, ""}, 403},
		{"overwritten", func() {}, true, [2]string{}, 400},
		{"an identity changed", func() { r.Must("POST", "kes/identities/"+id, r.Root, fields{"admin": true}) }, false, [2]string{"", kept}, 400},
		{"an identity deleted", func() { r.Must("DELETE", "kes/identities/"+id, r.Root, nil) }, false, [2]string{"", gone}, 403},
		{"a policy deleted", func() { r.Must("DELETE", "kes/policies/p", r.Root, nil) }, false, [2]string{gone, gone}, 403},
		{"overwritten again", func() {}, true, [2]string{}, 400},
	} {
		c.change()
		if got := take(c.overwrite); got != c.want {
			t.Errorf("%s: %q, want %q", c.about, got, c.want)
		}
		if code := may(); code != c.code {
			t.Errorf("%s: %d, want %d", c.about, code, c.code)
		}
	}
	// What is written otherwise is no import.
	r.Must("DELETE", "kes/policies/p", r.Root, nil)
	r.Must("POST", "kes/policies/p", r.Root, fields{"allow": []string{"/v1/key/*"}})
}

// TestImportWithoutCipher takes over keys that name no cipher, as KES stored them before
// v0.20, and as clients of 2023 import them: every ciphertext opens that a KES can have
// made, whichever cipher its processor was good at.
func TestImportWithoutCipher(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	secret := bytes.Repeat([]byte{7}, key.Size)
	stored := `{"bytes":"` + base64.StdEncoding.EncodeToString(secret) + `"}`
	r.Must("POST", "kes/keys/stored/import", r.Root, fields{"stored": stored})
	if code, out := r.kes("app", "PUT", "/v1/key/import/sent", fields{"bytes": secret}); code != 200 {
		t.Fatal(code, out)
	}
	for _, name := range []string{"stored", "sent"} {
		r.Must("POST", "kes/keys/"+name+"/rotate", r.Root, nil)
		for _, c := range []key.Cipher{key.AES256, key.ChaCha20} {
			k, err := key.Of(key.Parts{Cipher: c, Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			today, err := k.Encrypt([]byte("text"), []byte("ctx"))
			if err != nil {
				t.Fatal(err)
			}
			for form, ct := range map[string][]byte{"raw": today, "json": asJSON(c, k.ID(), today), "msgpack": asMsgpack(c, k.ID(), today)} {
				code, out := r.kes("app", "PUT", "/v1/key/decrypt/"+name, fields{"ciphertext": ct, "context": []byte("ctx")})
				if code != 200 || out["plaintext"] != "dGV4dA==" {
					t.Errorf("%s, %s, %s: %d %v", name, c, form, code, out)
				}
				if code, _ := r.kes("app", "PUT", "/v1/key/decrypt/"+name, fields{"ciphertext": ct, "context": []byte("other")}); code != 400 {
					t.Errorf("%s, %s, %s with another context: %d", name, c, form, code)
				}
			}
		}
	}
}

// asJSON and asMsgpack make older forms of a ciphertext of today's.
func asJSON(c key.Cipher, id string, ct []byte) []byte {
	n := len(ct) - 28
	aead := map[key.Cipher]string{key.AES256: "AES-256-GCM-HMAC-SHA-256", key.ChaCha20: "ChaCha20Poly1305"}[c]
	return []byte(jsonOf(fields{"aead": aead, "id": id, "iv": ct[n : n+16], "nonce": ct[n+16:], "bytes": ct[:n]}))
}

func asMsgpack(c key.Cipher, id string, ct []byte) []byte {
	n := len(ct) - 28
	name := map[key.Cipher]string{key.AES256: "AES256-GCM_SHA256", key.ChaCha20: "XCHACHA20-POLY1305"}[c]
	b := append([]byte{0x95, 0xa0 | byte(len(name))}, name...)
	b = append(append(b, 0xd9, byte(len(id))), id...)
	for _, part := range [][]byte{ct[n : n+16], ct[n+16:], ct[:n]} {
		b = append(append(b, 0xc4, byte(len(part))), part...)
	}
	return b
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
