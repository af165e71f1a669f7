package kmip_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// What config takes of webhooks, refuses and shows; and that a server tells one, once, over a
// restart.
func TestWebhookOfServer(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	config := func() object { return s.Must("GET", "kmip/config", s.Root, nil)["data"].(object) }
	var mu sync.Mutex
	told := map[string]int{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Certificates []struct {
				Serial string `json:"serial_number"`
			} `json:"certificates"`
		}
		mu.Lock()
		defer mu.Unlock()
		if json.NewDecoder(r.Body).Decode(&body) != nil || !strings.HasPrefix(r.Header.Get("Arca-Signature"), "t=") {
			told["nonsense"]++
		}
		for _, c := range body.Certificates {
			told[c.Serial]++
		}
	}))
	defer hook.Close()
	for name, in := range map[string]object{
		"no https":     {"expiry_webhook_urls": "http://example.com/"},
		"a link":       {"expiry_webhook_urls": "https://169.254.169.254/"},
		"twice":        {"expiry_webhook_urls": []string{"https://a/", "https://a/"}},
		"many":         {"expiry_webhook_urls": strings.Split("https://a/"+strings.Repeat(" https://a/x", 9), " ")},
		"too soon":     {"expiry_webhook_before": "1m"},
		"too long":     {"expiry_webhook_before": "400d"},
		"no time":      {"expiry_webhook_before": []string{"1d", "soon"}},
		"short secret": {"expiry_webhook_secret": "short"},
		"a line end":   {"expiry_webhook_secret": "0123456789abcdef\n"},
		"no PEM":       {"expiry_webhook_ca": "PEM"},
	} {
		if code, out := s.Do("POST", "kmip/config", s.Root, in); code != 400 {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
	for name := range config() {
		if strings.HasPrefix(name, "expiry_") {
			t.Errorf("%s is shown where nothing was set", name)
		}
	}
	out := s.Must("POST", "kmip/config", s.Root, object{"expiry_webhook_urls": "https://a/,https://b/"})
	if text := fmt.Sprint(out["warnings"]); !strings.Contains(text, "valid for 24h0m0s (default_tls_client_ttl)") {
		t.Errorf("certificates of a day are told of by none of the usual times, and there are the warnings %s", text)
	}
	if got := config(); fmt.Sprint(got["expiry_webhook_before"]) != "[604800 86400]" {
		t.Errorf("the usual times are shown as %v", got["expiry_webhook_before"])
	}
	s.Must("POST", "kmip/config", s.Root, object{"expiry_webhook_urls": hook.URL, "expiry_webhook_before": []any{"2d", 3600, "3600s"}, "expiry_webhook_secret": "0123456789abcdef"})
	got := config()
	if text := fmt.Sprint(got); strings.Contains(text, "0123456789abcdef") || got["expiry_webhook_signed"] != true || fmt.Sprint(got["expiry_webhook_before"]) != "[3600 172800]" || fmt.Sprint(got["expiry_webhook_urls"]) != fmt.Sprint([]any{hook.URL}) {
		t.Errorf("config shows %v", text)
	}
	s.Must("POST", "kmip/scope/s", s.Root, nil)
	s.Must("POST", "kmip/scope/s/role/r", s.Root, all)
	issue := func() string { // a certificate that is an hour from its end in two seconds
		t.Helper()
		return s.Must("POST", "kmip/scope/s/role/r/credential/generate", s.Root, object{"ttl": "3602s"})["data"].(object)["serial_number"].(string)
	}
	changes := 0
	heard := func(serial string) func() bool {
		return func() bool {
			changes++
			s.Must("POST", "kmip/config", s.Root, object{"expiry_webhook_secret": fmt.Sprintf("0123456789abcdef %d", changes)}) // it looks at once
			mu.Lock()
			defer mu.Unlock()
			return told[serial] > 0
		}
	}
	first := issue()
	await(t, "the webhook", heard(first))
	second := issue()
	await(t, "the webhook again, when it is noted that it was told of the first", heard(second))
	s.Restart()
	third := issue()
	await(t, "the webhook after a restart", heard(third))
	mu.Lock()
	defer mu.Unlock()
	if told[first] != 1 || told[second] > 2 || told[third] != 1 || len(told) != 3 { // the second again if the stop came between the answer and the note
		t.Errorf("told %v", told)
	}
	s.Must("POST", "kmip/config", s.Root, object{"expiry_webhook_urls": nil, "expiry_webhook_before": nil, "expiry_webhook_secret": nil})
	for name := range config() {
		if strings.HasPrefix(name, "expiry_") {
			t.Errorf("%s is shown where nothing is set any more", name)
		}
	}
}
