package kes_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
	door "arca/internal/kes"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
)

// rig is an arca with a mount for KES behind a door for KES's clients.
type rig struct {
	*arcatest.Server
	tb    testing.TB
	door  *door.Door
	certs map[string]*x509.Certificate
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{Server: arcatest.New(tb, arcatest.Config{}), tb: tb, certs: map[string]*x509.Certificate{}}
	inside := door.Inside{Core: r.Core, Mount: "kes/"}
	r.door = door.New(door.Config{Version: "test"}, &door.State{Keys: inside, Access: inside})
	for _, who := range []string{"admin", "app", "stranger"} {
		c, err := identity.NewAPIKey().Certificate(time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		r.certs[who] = c.Leaf
	}
	r.Must("POST", "sys/mounts/kes", r.Root, map[string]any{"type": "kes"})
	r.Must("POST", "kes/policies/app", r.Root, map[string]any{
		"allow": []string{"/v1/key/*", "/v1/status"}, "deny": []string{"/v1/key/*/secret", "/v1/key/decrypt/closed", "/v1/key/delete/*"},
	})
	r.Must("POST", "kes/identities/"+r.id("app"), r.Root, map[string]any{"policy": "app"})
	r.Must("POST", "kes/identities/"+r.id("admin"), r.Root, map[string]any{"admin": true})
	return r
}

func (r *rig) id(who string) string { return identity.Of(r.certs[who]) }

// kes makes a request of KES's API.
func (r *rig) kes(who, method, path string, body any) (int, map[string]any) {
	text, err := json.Marshal(body)
	if err != nil {
		r.tb.Error(err)
	}
	req := httptest.NewRequest(method, path, strings.NewReader(string(text)))
	req.TLS = &tls.ConnectionState{}
	if c := r.certs[who]; c != nil {
		req.TLS.PeerCertificates = []*x509.Certificate{c}
	}
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, req)
	var out map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &out) // not every answer is JSON
	return w.Code, out
}

type fields = map[string]any

// standby is a node that answers reads only.
type standby struct{ door.Core }

func (s standby) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if req.Op != engine.OpRead {
		return nil, errs.New(errs.NotActive, "not the active node")
	}
	return s.Core.Handle(ctx, req)
}

// TestCalls makes KES's calls on a mount, with KES's codes and texts: on the
// active node, and on another, which forwards what it may not do.
func TestCalls(t *testing.T) {
	t.Parallel()
	t.Run("active", func(t *testing.T) {
		t.Parallel()
		testCalls(t, newRig(t))
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		tries := 0
		inside := door.Inside{Core: standby{r.Core}, Mount: "kes/", Forward: func(ctx context.Context, req *http.Request, body []byte) (*http.Response, error) {
			if tries++; tries%3 == 1 { // none is active for a moment
				return nil, errs.New(errs.NotActive, "none is")
			}
			req.Body = io.NopCloser(bytes.NewReader(body))
			w := httptest.NewRecorder()
			r.Handler.ServeHTTP(w, req.WithContext(ctx))
			return w.Result(), nil
		}}
		r.door = door.New(door.Config{Version: "test"}, &door.State{Keys: inside, Access: inside})
		testCalls(t, r)
	})
}

func testCalls(t *testing.T, r *rig) {
	t.Helper()
	var ct, pt string
	for _, c := range []struct {
		who, method, path string
		body              any
		code              int
		check             func(out map[string]any) bool
	}{
		{"app", "PUT", "/v1/key/create/app-1", nil, 200, nil},
		{"app", "POST", "/v1/key/create/app-1", nil, 400, says("key already exists")},
		{"app", "PUT", "/v1/key/create/secret", nil, 403, says("not authorized: insufficient permissions")},
		{"app", "DELETE", "/v1/key/delete/app-1", nil, 403, says("not authorized: insufficient permissions")},
		{"stranger", "PUT", "/v1/key/create/app-2", nil, 403, says("not authorized: insufficient permissions")},
		{"", "PUT", "/v1/key/create/app-2", nil, 400, nil},
		{"app", "PUT", "/v1/key/generate/app-1", fields{"context": []byte("ctx")}, 200, func(out map[string]any) bool {
			ct, pt = out["ciphertext"].(string), out["plaintext"].(string)
			return len(ct) == 104 && len(pt) == 44
		}},
		{"app", "PUT", "/v1/key/generate/none", fields{}, 404, says("key does not exist")},
		{"app", "PUT", "/v1/key/encrypt/app-1", fields{"plaintext": ""}, 200, nil},
		{"app", "PUT", "/v1/key/import/imp", fields{"key": make([]byte, 31), "cipher": "AES256"}, 406, nil},
		{"app", "PUT", "/v1/key/import/imp", fields{"key": make([]byte, 32), "cipher": "DES"}, 406, nil},
		{"app", "PUT", "/v1/key/import/imp", fields{"key": make([]byte, 32), "cipher": "ChaCha20"}, 200, nil},
		{"app", "GET", "/v1/key/describe/imp", nil, 200, func(out map[string]any) bool {
			return out["algorithm"] == "ChaCha20" && out["name"] == "imp" && out["created_by"] == r.id("app") && len(out["id"].(string)) == 32
		}},
		{"app", "GET", "/v1/key/list/app*", nil, 200, func(out map[string]any) bool { return fmt.Sprint(out["names"]) == "[app-1]" }},
		{"app", "GET", "/v1/key/list/", nil, 200, func(out map[string]any) bool { return fmt.Sprint(out["names"]) == "[app-1 imp]" }},
		{"app", "GET", "/v1/key/list/zz", nil, 200, func(out map[string]any) bool { return fmt.Sprint(out["names"]) == "[]" }},
		{"app", "PUT", "/v1/key/hmac/app-1", fields{"message": []byte("m")}, 200, nil},
		{"app", "PUT", "/v1/key/bulk/decrypt/app-1", []any{}, 200, nil},
		{"app", "PUT", "/v1/key/bulk/decrypt/closed", []any{}, 403, says("not authorized: insufficient permissions")},
		{"app", "GET", "/v1/status", nil, 200, func(out map[string]any) bool { return out["keystore_latency"] == 1.0 }},
		{"app", "GET", "/v1/ready", nil, 403, nil},
		{"admin", "GET", "/v1/ready", nil, 200, nil},
		{"admin", "GET", "/v1/metrics", nil, 200, nil},
		{"app", "GET", "/v1/policy/read/app", nil, 403, nil},
		{"admin", "GET", "/v1/policy/read/app", nil, 200, func(out map[string]any) bool { return out["allow"].(map[string]any)["/v1/status"] != nil }},
		{"admin", "GET", "/v1/policy/read/none", nil, 404, says("policy does not exist")},
		{"admin", "GET", "/v1/policy/list/*", nil, 200, func(out map[string]any) bool { return fmt.Sprint(out["names"]) == "[app]" }},
		{"admin", "GET", "/v1/identity/describe/" + r.id("app"), nil, 200, func(out map[string]any) bool { return out["policy"] == "app" }},
		{"admin", "GET", "/v1/identity/describe/none", nil, 404, says("identity does not exist")},
		{"admin", "GET", "/v1/identity/list/*", nil, 200, func(out map[string]any) bool { return len(out["identities"].([]any)) == 2 }},
		{"app", "GET", "/v1/identity/self/describe", nil, 200, func(out map[string]any) bool {
			return out["policy"] == "app" && out["identity"] == r.id("app") && out["deny"].(map[string]any)["/v1/key/delete/*"] != nil
		}},
		{"admin", "GET", "/v1/identity/self/describe", nil, 200, func(out map[string]any) bool { return out["admin"] == true }},
		{"stranger", "GET", "/v1/identity/self/describe", nil, 404, says("identity does not exist")},
	} {
		code, out := r.kes(c.who, c.method, c.path, c.body)
		if code != c.code || c.check != nil && !c.check(out) {
			t.Errorf("%s %s as %q: %d %v; want %d", c.method, c.path, c.who, code, out, c.code)
		}
	}
	for context, want := range map[string]int{"ctx": 200, "other": 400, "": 400} {
		code, out := r.kes("app", "PUT", "/v1/key/decrypt/app-1", fields{"ciphertext": ct, "context": []byte(context)})
		if code != want || code == 200 && out["plaintext"] != pt || code != 200 && out["message"] != "decryption failed: ciphertext is not authentic" {
			t.Errorf("context %q: %d %v", context, code, out)
		}
	}
	if code, _ := r.kes("admin", "DELETE", "/v1/key/delete/app-1", nil); code != 200 {
		t.Errorf("delete: %d", code)
	}
	if code, _ := r.kes("admin", "DELETE", "/v1/key/delete/app-1", nil); code != 404 {
		t.Errorf("delete again: %d", code)
	}
}

func says(text string) func(map[string]any) bool {
	return func(out map[string]any) bool { return out["message"] == text }
}

// TestRotation reads what older versions have sealed, until they are ruled out or
// wiped; HMACs stay the same.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "kes/keys/k", r.Root, fields{})
	seal := func() string {
		code, out := r.kes("app", "PUT", "/v1/key/encrypt/k", fields{"plaintext": []byte("x")})
		if code != 200 {
			t.Fatal(code, out)
		}
		return out["ciphertext"].(string)
	}
	opens := func(ct string) bool {
		code, out := r.kes("app", "PUT", "/v1/key/decrypt/k", fields{"ciphertext": ct})
		return code == 200 && out["plaintext"] == "eA=="
	}
	mac := func() any {
		_, out := r.kes("app", "PUT", "/v1/key/hmac/k", fields{"message": []byte("m")})
		return out["hmac"]
	}
	before := mac()
	var sealed []string
	for i := 1; i <= 4; i++ {
		ct := seal()
		raw, err := base64.StdEncoding.DecodeString(ct)
		if err != nil || key.VersionOf(raw) != uint32(i) {
			t.Errorf("version %d of %d", key.VersionOf(raw), i)
		}
		sealed = append(sealed, ct)
		r.Must("POST", "kes/keys/k/rotate", r.Root, nil)
	}
	for i, ct := range sealed {
		if !opens(ct) {
			t.Errorf("version %d does not open", i+1)
		}
	}
	if before == nil || mac() != before {
		t.Error("rotation changes the HMAC")
	}
	r.Must("POST", "kes/keys/k", r.Root, fields{"min_decryption_version": 3})
	if opens(sealed[1]) || !opens(sealed[2]) {
		t.Error("min_decryption_version is not kept")
	}
	r.Must("POST", "kes/keys/k/trim", r.Root, fields{"min_available_version": 2})
	for body, path := range map[string]string{
		`{"min_decryption_version":1}`: "kes/keys/k", `{"min_decryption_version":9}`: "kes/keys/k", `{"algorithm":"ChaCha20"}`: "kes/keys/k",
		`{"auto_rotate_period":"5s"}`: "kes/keys/k", `{"min_available_version":4}`: "kes/keys/k/trim",
	} {
		if code, out := r.Do("POST", path, r.Root, body); code != 400 {
			t.Errorf("%s: %d %v", body, code, out)
		}
	}
	data := r.Must("GET", "kes/keys/k", r.Root, nil)["data"].(map[string]any)
	if fmt.Sprintf("%v %v %v", data["latest_version"], data["min_decryption_version"], data["min_available_version"]) != "5 3 2" {
		t.Errorf("read as %v", data)
	}
	if strings.Contains(fmt.Sprint(data), "secret") {
		t.Error("a key's bytes are shown")
	}
}

// TestTakenOver imports keys of all releases of KES: what they have sealed opens,
// also when the keys were rotated here.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../kes/key/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		MadeBy     string `json:"made_by"`
		Stored     string `json:"stored"`
		Ciphertext []byte `json:"ciphertext"`
		Context    []byte `json:"context"`
		Plaintext  []byte `json:"plaintext"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal(err)
	}
	r := newRig(t)
	names := map[string]string{}
	for _, v := range vectors {
		if names[v.Stored] == "" {
			names[v.Stored] = fmt.Sprintf("k%d", len(names))
			r.Must("POST", "kes/keys/"+names[v.Stored]+"/import", r.Root, fields{"stored": v.Stored})
		}
	}
	for round := range 2 {
		for _, v := range vectors {
			code, out := r.kes("app", "PUT", "/v1/key/decrypt/"+names[v.Stored], fields{"ciphertext": v.Ciphertext, "context": v.Context})
			want := 400
			if len(v.Plaintext) > 0 {
				want = 200
			}
			if code != want || want == 200 && out["plaintext"] != base64.StdEncoding.EncodeToString(v.Plaintext) {
				t.Errorf("round %d, %s: %d %v", round, v.MadeBy, code, out)
			}
		}
		for _, name := range names {
			r.Must("POST", "kes/keys/"+name+"/rotate", r.Root, nil)
		}
	}
	for _, stored := range []string{"", "rubbish", `{"bytes":"AAAA"}`} {
		if code, out := r.Do("POST", "kes/keys/other/import", r.Root, fields{"stored": stored}); code != 400 {
			t.Errorf("%q: %d %v", stored, code, out)
		}
	}
	if code, out := r.Do("POST", "kes/keys/k0/import", r.Root, fields{"stored": vectors[0].Stored}); code != 400 {
		t.Errorf("imported over another: %d %v", code, out)
	}
}

// TestRace lets many create one name: one does.
func TestRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var wg sync.WaitGroup
	codes := make([]int, 16)
	for i := range codes {
		wg.Go(func() { codes[i], _ = r.kes("app", "PUT", "/v1/key/create/race", nil) })
	}
	wg.Wait()
	slices.Sort(codes)
	if codes[0] != 200 || codes[1] != 400 || codes[15] != 400 {
		t.Errorf("codes %v", codes)
	}
}

// TestPages lists more names than a page holds, every one once.
func TestPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n = 25
	for i := range n {
		r.Must("POST", fmt.Sprintf("kes/policies/p%02d", i), r.Root, fields{"allow": []string{"*"}})
	}
	for prefix, want := range map[string]int{"p": n, "p1": 10, "p0*": 10, "a": 1, "": n + 1, "p24": 1, "p25": 0} {
		code, out := r.kes("admin", "GET", "/v1/policy/list/"+prefix, nil)
		if got := out["names"].([]any); code != 200 || len(got) != want {
			t.Errorf("%q: %d %v", prefix, code, got)
		}
	}
}

// TestManaged changes what an identity may while the server runs.
func TestManaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	create := func(name string) int { code, _ := r.kes("app", "PUT", "/v1/key/create/"+name, nil); return code }
	if code := create("a"); code != 200 {
		t.Fatal(code)
	}
	r.Must("POST", "kes/policies/app", r.Root, fields{"allow": []string{"/v1/key/create/b*"}})
	if a, b := create("a2"), create("b"); a != 403 || b != 200 {
		t.Errorf("after the policy changed: %d, %d", a, b)
	}
	r.Must("DELETE", "kes/policies/app", r.Root, nil)
	if code := create("b2"); code != 403 {
		t.Errorf("without its policy: %d", code)
	}
	r.Must("DELETE", "kes/identities/"+r.id("admin"), r.Root, nil)
	if code, _ := r.kes("admin", "GET", "/v1/ready", nil); code != 403 {
		t.Errorf("no longer an admin: %d", code)
	}
	for path, body := range map[string]any{
		"kes/identities/" + r.id("app"):                   fields{"policy": "none"},
		"kes/identities/short":                            fields{"admin": true},
		"kes/identities/" + strings.Repeat("A", 64):       fields{"admin": true},
		"kes/identities/" + strings.Repeat("a", 64):       fields{},
		"kes/policies/-":                                  fields{},
		"kes/policies/broken":                             fields{"allow": []string{"/v1/["}},
		"kes/policies/many":                               fields{"allow": slices.Repeat([]string{"x"}, 1001)},
		"kes/keys/a.b":                                    fields{},
		"kes/keys/new":                                    fields{"algorithm": "DES"},
		"kes/identities/" + strings.Repeat("b", 63) + "g": fields{"admin": true},
	} {
		if code, out := r.Do("POST", path, r.Root, body); code != 400 {
			t.Errorf("%s %v: %d %v", path, body, code, out)
		}
	}
}

// TestTokensDoNotCount answers KES's calls to certificates only, and settings to
// tokens only.
func TestTokensDoNotCount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if code, out := r.Do("POST", "kes/v1/key/create/k", r.Root, nil); code != 404 {
		t.Errorf("a root token makes a call: %d %v", code, out)
	}
	if code, out := r.Do("GET", "kes/keys/k", "", nil); code != 403 {
		t.Errorf("settings without a token: %d %v", code, out)
	}
}

// TestSealed says which it is.
func TestSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("PUT", "sys/seal", r.Root, nil)
	if code, out := r.kes("admin", "PUT", "/v1/key/create/k", nil); code != 502 || out["message"] == "" {
		t.Errorf("%d %v", code, out)
	}
	r.Unseal()
	if code, out := r.kes("admin", "PUT", "/v1/key/create/k", nil); code != 200 {
		t.Errorf("%d %v", code, out)
	}
	r.Must("DELETE", "sys/mounts/kes", r.Root, nil)
	if code, out := r.kes("admin", "GET", "/v1/key/describe/k", nil); code != 502 {
		t.Errorf("without the mount: %d %v", code, out)
	}
}

func BenchmarkGenerate(b *testing.B) {
	r := newRig(b)
	r.Must("POST", "kes/keys/k", r.Root, fields{})
	for b.Loop() {
		if code, out := r.kes("app", "PUT", "/v1/key/generate/k", fields{}); code != 200 {
			b.Fatal(code, out)
		}
	}
}

// TestAutoRotate gives a key a version when its newest is old enough and used.
func TestAutoRotate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Must("POST", "kes/keys/k", r.Root, fields{"auto_rotate_period": "24h"})
		use := func() string {
			code, out := r.kes("app", "PUT", "/v1/key/encrypt/k", fields{"plaintext": []byte("x")})
			if code != 200 {
				t.Fatal(code, out)
			}
			return out["ciphertext"].(string)
		}
		latest := func() any {
			return r.Must("GET", "kes/keys/k", r.Root, nil)["data"].(map[string]any)["latest_version"]
		}
		first := use()
		if got := fmt.Sprint(latest()); got != "1" {
			t.Errorf("version %s at first", got)
		}
		time.Sleep(25 * time.Hour)
		use()
		use()
		if got := fmt.Sprint(latest()); got != "2" {
			t.Errorf("version %s after a day", got)
		}
		if code, out := r.kes("app", "PUT", "/v1/key/decrypt/k", fields{"ciphertext": first}); code != 200 {
			t.Errorf("what the first has sealed: %d %v", code, out)
		}
	})
}

// TestNamespaces keeps mounts of different namespaces apart.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "sys/namespaces/team", r.Root, nil)
	r.Must("POST", "team/sys/mounts/keys/kes", r.Root, fields{"type": "kes"})
	r.Must("POST", "team/keys/kes/identities/"+r.id("app"), r.Root, fields{"admin": true})
	inside := door.Inside{Core: r.Core, Namespace: "team/", Mount: "keys/kes/"}
	there := *r
	there.door = door.New(door.Config{}, &door.State{Keys: inside, Access: inside})
	if code, out := there.kes("app", "PUT", "/v1/key/create/k", nil); code != 200 {
		t.Fatal(code, out)
	}
	_, out := there.kes("app", "PUT", "/v1/key/encrypt/k", fields{"plaintext": []byte("x")})
	if code, _ := r.kes("app", "PUT", "/v1/key/decrypt/k", fields{"ciphertext": out["ciphertext"]}); code != 404 {
		t.Errorf("the other namespace has the key: %d", code)
	}
	if code, _ := there.kes("admin", "GET", "/v1/key/list/", nil); code != 403 {
		t.Errorf("an admin of the other namespace: %d", code)
	}
}

// TestLargeBodies of strangers are not read.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Must("POST", "kes/keys/k", r.Root, fields{})
	large := fields{"plaintext": make([]byte, 100_000)}
	for who, want := range map[string]int{"app": 200, "stranger": 403} {
		if code, out := r.kes(who, "PUT", "/v1/key/encrypt/k", large); code != want {
			t.Errorf("%s: %d %v", who, code, out["message"])
		}
	}
}
