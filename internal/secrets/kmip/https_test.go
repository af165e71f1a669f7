package kmip_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"arca/internal/ttlv"
)

// S2-15: the same port speaks KMIP by HTTPS, in TTLV, XML and JSON, on connections
// that are kept.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	plain := dial(t, address, cfg)
	id := plain.create(name("k"))
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableCompression: true}}
	t.Cleanup(web.CloseIdleConnections)
	do := func(method, path, kind string, body []byte) (int, string, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+address+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		res, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		out, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Content-Type"), out
	}
	texts := ttlv.NewTexts()
	message := func() *ttlv.Node {
		n, err := ttlv.Decode(plain.message(nil, op(ttlv.OperationLocate, name("k"))))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for kind, code := range map[string]struct {
		encode func(*ttlv.Node) []byte
		decode func([]byte) (*ttlv.Node, error)
	}{
		"application/octet-stream": {(*ttlv.Node).Encode, ttlv.Decode}, "text/xml": {texts.EncodeXML, texts.DecodeXML}, "application/json": {texts.EncodeJSON, texts.DecodeJSON},
	} {
		for range 2 {
			status, got, body := do("POST", "/kmip", kind, code.encode(message()))
			root, err := code.decode(body)
			if err != nil || status != 200 || got != kind {
				t.Fatalf("%s: %d, %s: %v: %s", kind, status, got, err, body)
			}
			if found := root.Get(ttlv.TagBatchItem).Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text(); found != id {
				t.Errorf("%s: located %q", kind, found)
			}
		}
		status, _, body := do("POST", "/kmip", kind, []byte("nonsense"))
		if root, err := code.decode(body); status != 200 || err != nil || root.Get(ttlv.TagBatchItem).Get(ttlv.TagResultReason).Int != int64(ttlv.ResultReasonInvalidMessage) {
			t.Errorf("%s: nonsense: %d: %v: %s", kind, status, err, body)
		}
	}
	for what, want := range map[string]int{"GET /": 404, "GET /kmip": 405, "POST /v1/sys": 404, "PUT /kmip": 405} {
		method, path, _ := strings.Cut(what, " ")
		if status, _, _ := do(method, path, "text/xml", nil); status != want {
			t.Errorf("%s: %d, want %d", what, status, want)
		}
	}
	if status, _, _ := do("POST", "/kmip", "text/html", []byte("x")); status != 415 {
		t.Errorf("a type that is none: %d", status)
	}
	if status, _, _ := do("POST", "/kmip", "text/xml", make([]byte, 2<<20)); status != 413 {
		t.Errorf("a large body: %d", status)
	}
	for _, raw := range []string{
		"POST /kmip HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /kmip HTTP/9\r\n\r\n", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "POST x\r\n\r\n",
		"POST /kmip HTTP/1.1\r\nContent-Length: -1\r\nContent-Type: text/xml\r\n\r\n",
	} {
		c, err := tls.Dial("tcp", address, cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(c, raw)
		out, _ := io.ReadAll(c)
		if len(out) > 0 && !strings.HasPrefix(string(out), "HTTP/1.1 4") && !strings.HasPrefix(string(out), "HTTP/1.1 505") {
			t.Errorf("%.40q: %q", raw, out)
		}
		_ = c.Close()
	}
	plain.must(ttlv.OperationGet, uid(id))
}
