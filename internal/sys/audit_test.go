package sys_test

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"arca/internal/arcatest"
)

// auditLines returns the records whose line holds text.
func auditLines(t *testing.T, file, text string) (lines []string, records []map[string]any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(raw)) {
		if !strings.Contains(l, text) {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		lines, records = append(lines, l), append(records, m)
	}
	return lines, records
}

func must(t *testing.T, s *arcatest.Server, want int, method, path, token string, body any, headers ...string) map[string]any {
	t.Helper()
	code, out := s.Do(method, path, token, body, headers...)
	if code != want {
		t.Fatalf("%s %s: got %d %v, want %d", method, path, code, out, want)
	}
	return out
}

type object = map[string]any

func enableFile(t *testing.T, s *arcatest.Server, path string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "audit.log")
	must(t, s, 204, "PUT", "sys/audit/"+path, s.Root, object{"type": "file", "options": object{"file_path": file}})
	return file
}

// S3-40: every request and answer, refusals too, each once; S3-46: the value
// that audit-hash gives stands in the log, the value itself does not.
func TestAuditRecords(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	file := enableFile(t, s, "file")
	must(t, s, 204, "POST", "sys/mounts/kv", s.Root, object{"type": "kv"})
	must(t, s, 204, "POST", "kv/a", s.Root, object{"password": "correct horse"})
	must(t, s, 403, "GET", "kv/a", "", nil)
	must(t, s, 403, "GET", "kv/a", "hvs.wrong", nil)
	must(t, s, 404, "GET", "kv/none", s.Root, nil)
	limited := must(t, s, 200, "POST", "auth/token/create", s.Root, object{"num_uses": 3, "policies": []string{"default"}})
	token := limited["auth"].(object)["client_token"].(string)
	must(t, s, 200, "GET", "auth/token/lookup-self", token, nil) // runs twice: it turns out to write

	hash := must(t, s, 200, "POST", "sys/audit-hash/file", s.Root, object{"input": token})["hash"].(string)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"correct horse", token, s.Root, "hvs.wrong"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
	for text, want := range map[string]int{
		`"path":"kv/a"`: 6, `"path":"kv/none"`: 2, `"path":"auth/token/lookup-self"`: 2, `"path":"sys/audit/file"`: 1,
	} {
		if lines, _ := auditLines(t, file, text); len(lines) != want {
			t.Errorf("%s: got %d records, want %d: %v", text, len(lines), want, lines)
		}
	}
	if _, records := auditLines(t, file, `"path":"auth/token/lookup-self"`); records[0]["auth"].(object)["client_token"] != hash {
		t.Errorf("the log has not the hash %s", hash)
	}
}

// S3-47: with no device that takes its record a request does not happen, and a
// token's use is not spent; the server recovers with the device.
func TestAuditRefuses(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "audit.sock"))
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- c
		}
	}()
	defer l.Close()
	must(t, s, 204, "POST", "sys/mounts/kv", s.Root, object{"type": "kv"})
	token := must(t, s, 200, "POST", "auth/token/create", s.Root, object{"num_uses": 2, "policies": []string{"root"}})["auth"].(object)["client_token"].(string)
	must(t, s, 204, "PUT", "sys/audit/sock", s.Root, object{"type": "socket", "options": object{
		"address": l.Addr().String(), "socket_type": "unix", "write_timeout": "50ms",
	}})
	must(t, s, 204, "POST", "kv/a", s.Root, object{"n": 1})
	path := l.Addr().String()
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	_ = l.Close()
	for c := range conns {
		_ = c.Close()
	}
	// A write just behind the end of the connection may still be taken by the
	// system; from then on nothing is.
	s.Do("GET", "sys/mounts", s.Root, nil)
	for range 5 {
		out := must(t, s, 500, "POST", "kv/a", token, object{"n": 2})
		if got := out["errors"].([]any)[0]; got != "internal error" {
			t.Errorf("got %v", got)
		}
	}
	must(t, s, 200, "GET", "sys/health", "", nil)
	if l, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for {
		code, out := s.Do("GET", "kv/a", s.Root, nil)
		if code == 500 {
			continue // opening is tried again in a moment
		}
		if n := out["data"].(object)["n"]; code != 200 || n != json.Number("1") {
			t.Errorf("a refused write happened: %d %v", code, out)
		}
		break
	}
	must(t, s, 200, "GET", "kv/a", token, nil)
	must(t, s, 200, "GET", "kv/a", token, nil)
	must(t, s, 403, "GET", "kv/a", token, nil)
}

// Devices survive sealing, and their hashes stay the same.
func TestAuditAfterUnseal(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	file := enableFile(t, s, "file")
	hash := func() any {
		return must(t, s, 200, "POST", "sys/audit-hash/file", s.Root, object{"input": "x"})["hash"]
	}
	before := hash()
	must(t, s, 204, "PUT", "sys/seal", s.Root, nil)
	s.Unseal()
	if after := hash(); after != before {
		t.Error("the salt has changed")
	}
	if lines, _ := auditLines(t, file, `"path":"sys/seal"`); len(lines) != 1 {
		t.Errorf("sealing is recorded %d times, want once", len(lines))
	}
	must(t, s, 204, "DELETE", "sys/audit/file", s.Root, nil)
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	must(t, s, 200, "GET", "sys/mounts", s.Root, nil)
}

// Only sudo may see and change devices (S3-40).
func TestAuditNeedsSudo(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	must(t, s, 204, "PUT", "sys/policies/acl/a", s.Root, object{"policy": `path "sys/audit*" { capabilities = ["read", "update", "delete"] }`})
	token := must(t, s, 200, "POST", "auth/token/create", s.Root, object{"policies": []string{"a"}})["auth"].(object)["client_token"].(string)
	must(t, s, 403, "GET", "sys/audit", token, nil)
	must(t, s, 403, "PUT", "sys/audit/f", token, object{"type": "file", "options": object{"file_path": "discard"}})
	must(t, s, 403, "DELETE", "sys/audit/f", token, nil)
	file := enableFile(t, s, "f")
	must(t, s, 403, "DELETE", "sys/audit/f", token, nil)
	_, records := auditLines(t, file, `"operation":"delete"`)
	if len(records) != 2 || records[0]["auth"].(object)["policy_results"].(object)["allowed"] != false {
		t.Errorf("got %v", records)
	}
}

// What changes the keys that open the node is recorded though nobody shows a token,
// without key shares and without what is made of them; so is a path with a slash too
// many.
func TestAuditRecordsKeyCeremonies(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	file := filepath.Join(t.TempDir(), "audit.log")
	must(t, s, 204, "PUT", "sys/audit/raw", s.Root, object{"type": "file", "options": object{"file_path": file, "log_raw": true}})
	begun := must(t, s, 200, "PUT", "sys/generate-root/attempt", "", nil)
	share := strings.Repeat("ab", 32)
	must(t, s, 400, "PUT", "sys/generate-root/update", "", object{"key": share, "nonce": begun["nonce"]})
	must(t, s, 204, "DELETE", "sys/generate-root/attempt", "", nil)
	must(t, s, 200, "PUT", "sys/rekey/init", "", object{"secret_shares": 1, "secret_threshold": 1})
	must(t, s, 204, "DELETE", "sys/rekey/init", "", nil)
	must(t, s, 400, "PUT", "sys/x/", s.Root, nil)
	must(t, s, 200, "GET", "sys/seal-status", "", nil)

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{share, begun["otp"].(string)} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
	for text, want := range map[string]int{
		`"path":"sys/generate-root/attempt"`: 4, `"path":"sys/generate-root/update"`: 2, `"path":"sys/rekey/init"`: 4,
		`"path":"sys/x/"`: 1, `"path":"sys/seal-status"`: 0,
	} {
		if lines, _ := auditLines(t, file, text); len(lines) != want {
			t.Errorf("%s: got %d records, want %d: %v", text, len(lines), want, lines)
		}
	}
	if _, records := auditLines(t, file, `"path":"sys/generate-root/update"`); len(records) == 2 && records[1]["error"] == nil {
		t.Errorf("how it ended is missing: %v", records[1])
	}
}

// A rekey that is done is answered, though no device takes the record of its answer: the
// new shares are nowhere else. What is not done yet is not begun, but can be cancelled.
func TestAuditLosesNoKeyShares(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	var refuse atomic.Value // the text of records that are not taken
	refuse.Store("none")
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil || strings.Contains(string(raw), refuse.Load().(string)) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer sink.Close()
	must(t, s, 204, "PUT", "sys/audit/http", s.Root, object{"type": "http", "options": object{"uri": sink.URL}})
	begun := must(t, s, 200, "PUT", "sys/rekey/init", "", object{"secret_shares": 1, "secret_threshold": 1})
	refuse.Store(`"type":"response"`)
	out := must(t, s, 200, "PUT", "sys/rekey/update", "", object{"key": hex.EncodeToString(s.Shares[0]), "nonce": begun["nonce"]})
	if keys, _ := out["keys"].([]any); out["complete"] != true || len(keys) != 1 {
		t.Fatalf("the new shares are lost: %v", out)
	}
	refuse.Store("sys/rekey/init")
	must(t, s, 500, "PUT", "sys/rekey/init", "", object{"secret_shares": 1, "secret_threshold": 1})
	if out := must(t, s, 200, "GET", "sys/rekey/init", "", nil); out["started"] != false {
		t.Errorf("begun without a record: %v", out)
	}
	must(t, s, 204, "DELETE", "sys/rekey/init", "", nil)
}
