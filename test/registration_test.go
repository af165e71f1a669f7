package test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
)

// A kubeAPI speaks what Kubernetes does of one pod.
type kubeAPI struct {
	*httptest.Server
	mu     sync.Mutex
	ill    bool
	labels map[string]string
	bad    []string // requests that Kubernetes would refuse
}

func newKubeAPI(t *testing.T) *kubeAPI {
	t.Helper()
	k := &kubeAPI{labels: map[string]string{"app": "vault"}}
	k.Server = httptest.NewTLSServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

func (k *kubeAPI) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ill {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var patch struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	err := json.NewDecoder(r.Body).Decode(&patch)
	if err != nil || r.Method != http.MethodPatch || r.URL.Path != "/api/v1/namespaces/safe/pods/vault-0" ||
		r.Header.Get("Content-Type") != "application/merge-patch+json" || r.Header.Get("Authorization") != "Bearer the-token" {
		k.bad = append(k.bad, fmt.Sprint(r.Method, r.URL, r.Header, err))
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","message":"pods \"vault-0\" is forbidden"}`))
		return
	}
	maps.Copy(k.labels, patch.Metadata.Labels)
	_, _ = w.Write([]byte(`{"kind":"Pod"}`))
}

// has reports whether the labels are those; active, initialized, sealed.
func (k *kubeAPI) has(active, initialized, sealed string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Equal(k.labels, map[string]string{
		"app": "vault", "vault-active": active, "vault-initialized": initialized, "vault-sealed": sealed, "vault-perf-standby": "false",
		"vault-version": "1.20.0-ent",
	})
}

func (k *kubeAPI) set(ill bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ill = ill
}

// account writes a pod's service account, and returns the environment of the pod.
func (k *kubeAPI) account(t *testing.T, dir string) []string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw})
	for name, text := range map[string][]byte{"ca.crt": ca, "token": []byte("the-token\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(k.URL)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"KUBERNETES_SERVICE_HOST=" + u.Hostname(), "KUBERNETES_SERVICE_PORT=" + u.Port(), "VAULT_K8S_NAMESPACE=safe", "VAULT_K8S_POD_NAME=vault-0",
	}
}

// TestKubernetesRegistration follows the labels of a pod through a server's life, an outage of Kubernetes included.
func TestKubernetesRegistration(t *testing.T) {
	t.Parallel()
	k := newKubeAPI(t)
	n := raftNode(t, "node1")
	n.env = k.account(t, n.dir)
	n.config += fmt.Sprintf("service_registration \"kubernetes\" { service_account_path = %q }\n", n.dir)
	n.start()
	await(t, "labels of an empty server", func() bool { return k.has("false", "false", "true") })
	n.initialise()
	await(t, "labels of the active server", func() bool { return k.has("true", "true", "false") })
	k.set(true)
	n.must("PUT", "sys/seal", nil)
	n.says("the server could not be registered")
	k.set(false)
	await(t, "labels of a sealed server", func() bool { return k.has("false", "true", "true") })
	n.unseal()
	await(t, "labels of the active server", func() bool { return k.has("true", "true", "false") })
	n.signal(syscall.SIGTERM)
	if code := n.ended(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	if !k.has("false", "true", "true") {
		t.Errorf("labels after the end: %v", k.labels)
	}
	if len(k.bad) > 0 {
		t.Errorf("refused: %q", k.bad)
	}
}

// A consulAgent speaks what Consul's agent does of services and checks.
type consulAgent struct {
	*httptest.Server
	mu       sync.Mutex
	services map[string]map[string]any
	status   map[string]string // of checks
	bad      []string
}

func newConsulAgent(t *testing.T) *consulAgent {
	t.Helper()
	c := &consulAgent{}
	c.forget()
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

// forget is what a restart does to an agent without a disk.
func (c *consulAgent) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services, c.status = map[string]map[string]any{}, map[string]string{}
}

func (c *consulAgent) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refuse := func(code int, text string) {
		c.bad = append(c.bad, fmt.Sprint(r.Method, " ", r.URL, " ", text))
		http.Error(w, text, code)
	}
	if r.Header.Get("X-Consul-Token") != "consul-token" || r.Method != http.MethodPut {
		refuse(403, "ACL not found")
		return
	}
	var body map[string]any
	if r.ContentLength > 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			refuse(400, err.Error())
			return
		}
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/agent/")
	switch {
	case path == "service/register":
		id, _ := body["ID"].(string)
		check, _ := body["Check"].(map[string]any)
		checkID, _ := check["CheckID"].(string)
		for field := range check { // Consul refuses what it does not know
			if !slices.Contains([]string{"CheckID", "Name", "Notes", "Status", "TTL"}, field) {
				refuse(400, `Request decode failed: json: unknown field "`+field+`"`)
				return
			}
		}
		if ttl, err := time.ParseDuration(fmt.Sprint(check["TTL"])); err != nil || ttl <= 0 || id == "" || checkID == "" {
			refuse(400, "a check needs a TTL")
			return
		}
		c.services[id] = body
		if _, ok := c.status[checkID]; !ok {
			c.status[checkID], _ = check["Status"].(string)
		}
	case strings.HasPrefix(path, "check/update/"):
		id := strings.TrimPrefix(path, "check/update/")
		if _, ok := c.status[id]; !ok {
			http.Error(w, `Unknown check ID "`+id+`". Ensure that the check ID is passed, not the check name.`, 404)
			return
		}
		c.status[id], _ = body["Status"].(string)
	case strings.HasPrefix(path, "service/deregister/"):
		id := strings.TrimPrefix(path, "service/deregister/")
		delete(c.services, id)
		delete(c.status, id+":vault-sealed-check")
	default:
		refuse(404, "not found")
	}
}

func (c *consulAgent) has(id, status string, tags ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.services[id]
	if !ok || c.status[id+":vault-sealed-check"] != status {
		return false
	}
	list, _ := s["Tags"].([]any)
	var got []string
	for _, tag := range list {
		got = append(got, tag.(string))
	}
	return slices.Equal(got, tags)
}

// TestConsulRegistration follows a service of Consul through a server's life, and a restart of the agent that forgets it.
func TestConsulRegistration(t *testing.T) {
	t.Parallel()
	c := newConsulAgent(t)
	n := raftNode(t, "node1")
	n.config = strings.Replace(n.config, "api_addr      = \"http://127.0.0.1:", "api_addr      = \"http://vault.example:", 1)
	port := strings.TrimSuffix(strings.SplitN(strings.SplitN(n.config, "vault.example:", 2)[1], "\n", 2)[0], `"`)
	n.config += fmt.Sprintf(`service_registration "consul" {
  address         = %q
  token           = "consul-token"
  service         = "safe"
  service_tags    = "one, two"
  service_address = "10.1.2.3"
  check_timeout   = "1s"
  service_meta    = { team = "keys" }
}
`, strings.TrimPrefix(c.URL, "http://"))
	id := "safe:vault.example:" + port
	n.start()
	await(t, "an empty server", func() bool { return c.has(id, "critical", "one", "two", "standby") })
	n.initialise()
	await(t, "the active server", func() bool { return c.has(id, "passing", "one", "two", "active", "initialized") })
	c.mu.Lock()
	s := c.services[id]
	meta, _ := s["Meta"].(map[string]any)
	if s["Name"] != "safe" || s["Address"] != "10.1.2.3" || fmt.Sprint(s["Port"]) != port || meta["team"] != "keys" || meta["external-source"] != "vault" {
		t.Errorf("service: %v", s)
	}
	c.mu.Unlock()
	c.forget()
	await(t, "the service after a restart of the agent", func() bool { return c.has(id, "passing", "one", "two", "active", "initialized") })
	n.must("PUT", "sys/seal", nil)
	await(t, "the sealed server", func() bool { return c.has(id, "critical", "one", "two", "standby", "initialized") })
	n.signal(syscall.SIGTERM)
	if code := n.ended(); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.services) > 0 || len(c.bad) > 0 {
		t.Errorf("after the end: %v; refused: %q", c.services, c.bad)
	}
	if strings.Contains(n.output(), "consul-token") {
		t.Error("the log shows the token")
	}
}

// TestRegistrationIsAway lets a server run with registries that accept connections and never answer, or are not there.
func TestRegistrationIsAway(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(hang)
	for name, address := range map[string]string{
		"silent": strings.TrimPrefix(silent.URL, "http://"), "closed": fmt.Sprint("127.0.0.1:", arcatest.FreePort(t)), "unknown": "consul.invalid:8500",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, t.TempDir(), fmt.Sprintf("disable_mlock = true\nstorage \"file\" { path = \"data\" }\n%sapi_addr = \"http://127.0.0.1:8200\"\n"+
				"service_registration \"consul\" { address = %q }\n", plainListener, address))
			n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
			n.must("PUT", "secret/k", map[string]any{"v": "1"})
			before := time.Now()
			n.signal(syscall.SIGTERM)
			if code := n.ended(); code != 0 || time.Since(before) > 5*time.Second {
				t.Errorf("the server ended with %d after %s", code, time.Since(before))
			}
		})
	}
}

// TestRegistrationIsRefused starts servers with stanzas that are wrong.
func TestRegistrationIsRefused(t *testing.T) {
	t.Parallel()
	for stanza, want := range map[string]string{
		`"nomad" {}`:                                               `there is no service_registration "nomad"`,
		`"consul" { check_timeout = "10ms" }`:                      "check_timeout",
		`"consul" { service = "a b" }`:                             "a name that DNS takes",
		`"consul" { scheme = "ftp" }`:                              "http or https",
		`"consul" { scheme = "https" tls_ca_file = "nofile.pem" }`: "nofile.pem",
		`"consul" { scheme = "https" tls_cert_file = "a.pem" }`:    "belong together",
		`"consul" { scheme = "https" tls_min_version = "ssl3" }`:   "tls_min_version",
		`"consul" { disable_registration = "perhaps" }`:            "disable_registration must be true or false",
		`"kubernetes" { namespace = "safe" }`:                      "VAULT_K8S_POD_NAME",
		`"kubernetes" { namespace = "safe" pod_name = "vault-0" }`: "this is no pod of Kubernetes",
	} {
		t.Run(stanza, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := "disable_mlock = true\nstorage \"inmem\" {}\n" + plainListener + "service_registration " + stanza + "\n"
			if err := os.WriteFile(filepath.Join(dir, "vault.hcl"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			p := launch(t, dir, "-config=vault.hcl")
			if code := p.ended(); code != 1 || !strings.Contains(p.output(), want) {
				t.Errorf("ended with %d, without %q:\n%s", code, want, p.output())
			}
		})
	}
}
