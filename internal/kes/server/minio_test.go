package server

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"arca/internal/kes/identity"
)

// TestMinIO makes the requests that MinIO's client of KES makes, in its order and
// form: POST for all that writes, over HTTP/2, with an API key, a context each time,
// and listings that go on where the last one ended. What it reads of the answers is
// compared. The official client itself was run beside this; its licence keeps it out
// of the tests. S1-1, S1-2.
func TestMinIO(t *testing.T) {
	t.Parallel()
	r := start(t)
	k := identity.NewAPIKey()
	cert, err := k.Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.id = k.Identity()
	// MinIO's documented policy.
	r.configure("/v1/key/create/*, /v1/key/generate/*, /v1/key/decrypt/*, /v1/key/bulk/decrypt/*, /v1/key/list/*, /v1/key/describe/*, /v1/status, /v1/metrics, /v1/api, /v1/log/audit, /v1/log/error", "")
	if err := r.node.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}},
	}}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(method, path, body string, code int) (map[string]any, *http.Response) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		if err != nil || res.StatusCode != code || res.ProtoMajor != 2 {
			t.Fatalf("%s %s: %d instead of %d over %s: %s, %v", method, path, res.StatusCode, code, res.Proto, raw, err)
		}
		var out map[string]any
		_ = json.Unmarshal(raw, &out) // not all are JSON
		return out, res
	}
	says := func(out map[string]any, text string) {
		t.Helper()
		if out["message"] != text {
			t.Errorf("it says %v instead of %q", out["message"], text)
		}
	}

	// Start: is it there, and is the default key, whoever of several has made it.
	if out, _ := ask("GET", "/version", "", 200); out["version"] == "" {
		t.Error("no version")
	}
	ask("POST", "/v1/key/create/minio-default", "", 200)
	out, _ := ask("POST", "/v1/key/create/minio-default", "", 400)
	says(out, "key already exists")

	// Objects: a data key each, bound to where the object lies; and what the list of
	// a bucket opens.
	const context = `"context":"eyJidWNrZXQiOiJidWNrZXQvb2JqZWN0In0="`
	dek, _ := ask("POST", "/v1/key/generate/minio-default", `{`+context+`}`, 200)
	sealed, _ := dek["ciphertext"].(string)
	for _, body := range []string{
		`{"ciphertext":"` + sealed + `",` + context + `}`,
		`{"ciphertext":"` + sealed + `",` + context + `,"version":"v1"}`, // newer ones send it
	} {
		if got, _ := ask("POST", "/v1/key/decrypt/minio-default", body, 200); got["plaintext"] != dek["plaintext"] {
			t.Errorf("%s opens to another data key", body)
		}
	}
	out, _ = ask("POST", "/v1/key/decrypt/minio-default", `{"ciphertext":"`+sealed+`","context":"eyJidWNrZXQiOiJvdGhlciJ9"}`, 400)
	says(out, "decryption failed: ciphertext is not authentic")
	out, _ = ask("POST", "/v1/key/decrypt/none", `{"ciphertext":"`+sealed+`",`+context+`}`, 404)
	says(out, "key does not exist")
	out, _ = ask("POST", "/v1/key/generate/none", `{}`, 404)
	says(out, "key does not exist")

	// mc admin kms key list and status.
	ask("POST", "/v1/key/create/my-bucket-key", "", 200)
	if out, _ := ask("GET", "/v1/key/list", "", 200); len(out["names"].([]any)) != 3 || out["continue_at"] != nil { // follows the redirect
		t.Errorf("listed: %v", out)
	}
	if out, _ := ask("GET", "/v1/key/list/my-b", "", 200); len(out["names"].([]any)) != 1 {
		t.Errorf("listed: %v", out)
	}
	if out, _ := ask("GET", "/v1/key/describe/minio-default", "", 200); out["name"] != "minio-default" || out["created_by"] != r.id {
		t.Errorf("described: %v", out)
	}
	status, _ := ask("GET", "/v1/status", "", 200)
	if status["keystore_latency"] == nil || status["keystore_unavailable"] != nil {
		t.Errorf("status: %v", status)
	}
	if _, res := ask("GET", "/v1/metrics", "", 200); !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("metrics: %v", res.Header)
	}
	ask("GET", "/v1/api", "", 200)

	// What its policy does not name is refused in the words that it compares.
	for _, path := range []string{"/v1/key/encrypt/minio-default", "/v1/key/import/x", "/v1/key/hmac/minio-default"} {
		out, _ := ask("POST", path, `{"plaintext":"AA=="}`, 403)
		says(out, "not authorized: insufficient permissions")
	}
	if log := r.log.text(); strings.Contains(log, dek["plaintext"].(string)) || bytes.Contains([]byte(log), []byte(sealed)) {
		t.Error("a data key is in the log")
	}
}

// text returns what was written.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
