package kes_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	door "arca/internal/kes"
	"arca/internal/kes/key"
)

// TestOldNames takes over keys and policies whose names have a hyphen at an end, as KES
// took them until 2023: they are used, rotated and deleted; none is made.
func TestOldNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k, err := key.Import(bytes.Repeat([]byte{7}, key.Size), key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Encrypt([]byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old-", "-old", "-"} {
		for _, path := range []string{"kes/keys/" + name, "kes/keys/" + name + "/rotate", "kes/policies/" + name} {
			if code, out := r.Do("POST", path, r.Root, fields{"allow": []string{"/x"}}); code < 400 {
				t.Errorf("POST %s: %d %v", path, code, out)
			}
		}
		if code, out := r.kes("app", "PUT", "/v1/key/create/"+name, nil); code != 400 || out["message"] == "key already exists" {
			t.Errorf("create %s: %d %v", name, code, out)
		}
		r.Must("POST", "kes/keys/"+name+"/import", r.Root, fields{"stored": string(k.Encode()), "imported": true})
		r.Must("POST", "kes/keys/"+name+"/import", r.Root, fields{"stored": string(k.Encode()), "imported": true})
		r.Must("POST", "kes/keys/"+name+"/rotate", r.Root, nil)
		for _, call := range []string{"create", "import"} {
			body := fields{"key": bytes.Repeat([]byte{8}, key.Size), "cipher": "AES256"}
			if code, out := r.kes("app", "PUT", "/v1/key/"+call+"/"+name, body); code != 400 || out["message"] != "key already exists" {
				t.Errorf("%s %s: %d %v", call, name, code, out)
			}
		}
		if code, out := r.kes("app", "PUT", "/v1/key/decrypt/"+name, fields{"ciphertext": sealed}); code != 200 || out["plaintext"] != "dGV4dA==" {
			t.Errorf("decrypt with %s: %d %v", name, code, out)
		}
		if code, out := r.kes("app", "GET", "/v1/key/describe/"+name, nil); code != 200 || out["name"] != name {
			t.Errorf("describe %s: %d %v", name, code, out)
		}
		r.Must("POST", "kes/policies/"+name, r.Root, fields{"allow": []string{"/v1/key/*"}, "imported": true})
		r.Must("POST", "kes/policies/"+name, r.Root, fields{"allow": []string{"/v1/key/list/*"}}) // it is there
	}
	if code, out := r.kes("admin", "GET", "/v1/key/list/", nil); code != 200 || jsonOf(out["names"]) != `["-","-old","old-"]` {
		t.Errorf("list: %d %v", code, out)
	}
	if code, out := r.kes("admin", "GET", "/v1/policy/read/old-", nil); code != 200 || jsonOf(out["allow"]) != `{"/v1/key/list/*":{}}` {
		t.Errorf("policy: %d %v", code, out)
	}
	for _, name := range []string{"old-", "-old", "-"} {
		if code, out := r.kes("admin", "DELETE", "/v1/key/delete/"+name, nil); code != 200 {
			t.Errorf("delete %s: %d %v", name, code, out)
		}
		if code, out := r.kes("app", "PUT", "/v1/key/create/"+name, nil); code != 400 || out["message"] == "key already exists" {
			t.Errorf("create %s: %d %v", name, code, out)
		}
	}
}

// TestFreeCalls answers probes without a certificate where the listener says so, on any
// node, and puts them on record.
func TestFreeCalls(t *testing.T) {
	t.Parallel()
	free := map[string]door.Setting{}
	for _, path := range []string{"/v1/ready", "/v1/status", "/v1/metrics", "/v1/api"} {
		free[path] = door.Setting{SkipAuth: true, Timeout: time.Minute}
	}
	for _, active := range []bool{true, false} {
		r := newRig(t)
		inside := door.Inside{Core: r.Core, Mount: "kes/"}
		if !active {
			inside = door.Inside{Core: idle{r.Core}, Mount: "kes/", Forward: r.forward}
		}
		r.door = door.New(door.Config{Version: "test"}, &door.State{Keys: inside, Access: inside, Settings: free})
		file := filepath.Join(t.TempDir(), "audit")
		r.Must("PUT", "sys/audit/file", r.Root, fields{"type": "file", "options": fields{"file_path": file, "log_raw": "true"}})
		for path := range free {
			for _, who := range []string{"", "stranger"} {
				if err := os.Truncate(file, 0); err != nil {
					t.Fatal(err)
				}
				if code, says := r.send(who, "GET", path, ""); code != 200 {
					t.Errorf("active %v, %s as %q: %d %q", active, path, who, code, says)
				}
				checkAudit(t, file, "kes/v1/judge"+path, 200, "")
			}
		}
		if code, says := r.send("", "GET", "/v1/key/describe/k", ""); code != 400 {
			t.Errorf("describe: %d %q", code, says)
		}
		req := httptest.NewRequest("GET", "/v1/log/audit", nil)
		req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["stranger"]}}
		w := httptest.NewRecorder()
		if r.door.ServeHTTP(w, req); w.Code != 403 {
			t.Errorf("log: %d", w.Code)
		}
		if !active {
			continue
		}
		r.Must("PUT", "sys/seal", r.Root, nil)
		if code, _ := r.send("", "GET", "/v1/ready", ""); code != 504 {
			t.Errorf("ready while sealed: %d", code)
		}
		r.Unseal()
		r.Must("DELETE", "sys/mounts/kes", r.Root, nil)
		if code, _ := r.send("", "GET", "/v1/ready", ""); code != 502 {
			t.Errorf("ready without the mount: %d", code)
		}
	}
}
