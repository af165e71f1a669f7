package discovery

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]string{
		"":                      {},
		"provider=k8s":          {"provider": "k8s"},
		"  a=b   c=d  ":         {"a": "b", "c": "d"},
		`a="b c" "d"=e`:         {"a": "b c", "d": "e"},
		`a="b\"c\\d"`:           {"a": `b"c\d`},
		`s=app=vault,tier=back`: {"s": "app=vault,tier=back"},
		`a=`:                    {"a": ""},
		`a`:                     nil,
		`=b`:                    nil,
		`a="b`:                  nil,
		`a="b"c=d`:              nil,
		`a=b a=c`:               nil,
	} {
		got, err := parse(text)
		if want == nil && err == nil || want != nil && (err != nil || !maps.Equal(got, want)) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`provider=k8s label_selector="app=vault"`)
	f.Add(`a="\`)
	f.Fuzz(func(t *testing.T, text string) {
		args, err := parse(text)
		if err != nil {
			return
		}
		quoted := ""
		quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
		for k, v := range args {
			quoted += ` "` + quote.Replace(k) + `"="` + quote.Replace(v) + `"`
		}
		if again, err := parse(quoted); len(quoted) <= maxRule && (err != nil || !maps.Equal(args, again)) {
			t.Errorf("%q becomes %v, and that %v: %v", text, args, again, err)
		}
	})
}

func TestRefusedRules(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"provider=aws tag_key=x":           "is not part of arca",
		"provider=nowhere":                 "no provider",
		"label_selector=x":                 "names no provider",
		"provider=dns":                     "needs a name",
		"provider=dns name=x type=mx":      "a or srv",
		"provider=dns name=x port=1":       `does not know "port"`,
		"provider=k8s":                     "no pod of Kubernetes",
		"provider=k8s kubeconfig=/nofile":  "/nofile",
		"provider=k8s host_network=surely": "true or false",
	} {
		if _, err := New(text, FromConfig, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		address, scheme string
		port            uint
		want            string
	}{
		{"10.0.0.1", "", 0, "https://10.0.0.1:8200"},
		{"10.0.0.1:8300", "http", 8200, "http://10.0.0.1:8300"},
		{"fd00::1", "http", 1, "http://[fd00::1]:1"},
		{"[fd00::1]:2", "", 1, "https://[fd00::1]:2"},
		{"vault-0.vault-internal", "https", 8200, "https://vault-0.vault-internal:8200"},
	} {
		if got := Complete(tc.address, tc.scheme, tc.port); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.address, got, tc.want)
		}
	}
}

// pods are what a cluster says of some of which two can be joined.
const pods = `{"kind":"PodList","items":[
 {"metadata":{"annotations":{}},"status":{"phase":"Running","podIP":"10.0.0.1","hostIP":"192.168.0.1","conditions":[{"type":"Ready","status":"True"}]}},
 {"metadata":{"annotations":{"consul.hashicorp.com/auto-join-port":"api"}},
  "spec":{"containers":[{"ports":[{"name":"http","containerPort":80},{"name":"api","containerPort":8300,"hostPort":9300}]}]},
  "status":{"phase":"Running","podIP":"fd00::2","hostIP":"192.168.0.2"}},
 {"status":{"phase":"Pending","podIP":"10.0.0.3"}},
 {"status":{"phase":"Running","podIP":"10.0.0.4","conditions":[{"type":"Ready","status":"False"}]}},
 {"metadata":{"annotations":{"consul.hashicorp.com/auto-join-port":"nosuch"}},"status":{"phase":"Running","podIP":"10.0.0.5"}},
 {"status":{"phase":"Running"}}]}`

func TestPods(t *testing.T) {
	t.Parallel()
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"message":"Unauthorized"}`))
			return
		}
		if r.URL.Path != "/api/v1/namespaces/safe/pods" || r.URL.Query().Get("labelSelector") != "app=vault,tier=back" {
			t.Errorf("asked %s", r.URL)
		}
		_, _ = w.Write([]byte(pods))
	}))
	defer api.Close()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	file := func(token string) string {
		path := filepath.Join(t.TempDir(), "config")
		text := fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {token: %s}}]
`, api.URL, ca, token)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for rule, want := range map[string][]string{
		"":                  {"10.0.0.1", "[fd00::2]:8300"},
		"host_network=true": {"192.168.0.1", "192.168.0.2:9300"},
	} {
		r, err := New(`provider=k8s namespace=safe label_selector="app=vault,tier=back" kubeconfig=`+file("secret")+" "+rule, FromConfig, os.Getenv)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Find(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", rule, got, err, want)
		}
	}
	r, err := New("provider=k8s namespace=safe kubeconfig="+file("wrong"), FromConfig, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("with a wrong token: %v", err)
	}
}

// TestFilesOfRequests has a rule of a request name files: whether they exist must not make a difference.
func TestFilesOfRequests(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"/dev/zero", "/nofile", "discovery_test.go"} {
		_, err := New("provider=k8s kubeconfig="+file, FromRequest, func(string) string { return "" })
		if err == nil || !strings.Contains(err.Error(), "only retry_join") || strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
