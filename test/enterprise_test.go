package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// S3-48: what the course lists as sold (namespaces, MFA, client counts and metrics, seals
// that open by themselves, scheduled snapshots) works without a licence, and
// nothing asks for one. Replication is not there; docs/compatibility.md says so.
func TestEnterpriseIsFree(t *testing.T) {
	t.Parallel()
	n := raftNode(t, "one")
	n.config += "seal \"static\" {\n  current_key_id = \"1\"\n  current_key = \"" + strings.Repeat("b2", 32) + "\"\n}\n"
	n.start()
	ini := n.must("PUT", "sys/init", map[string]any{"recovery_shares": 1, "recovery_threshold": 1})
	n.root, _ = ini["root_token"].(string)
	await(t, "a server that opens by itself", func() bool { return n.get("sys/health").code == 200 })

	n.must("POST", "sys/namespaces/team", nil)
	n.must("POST", "team/sys/mounts/kv", map[string]any{"type": "kv"})
	n.must("POST", "team/kv/a", map[string]any{"b": "c"})
	if code := n.get("kv/a").code; code != 404 {
		t.Errorf("another namespace's mount: status %d", code)
	}

	n.must("POST", "sys/auth/userpass", map[string]any{"type": "userpass"})
	n.must("POST", "auth/userpass/users/ann", map[string]any{"password": "correct"})
	auth := n.must("GET", "sys/auth", nil)
	accessor, _ := answer{body: auth}.dig("userpass/", "accessor").(string)
	method := answer{body: n.must("POST", "identity/mfa/method/totp", map[string]any{"issuer": "arca"})}.text("data", "method_id")
	n.must("POST", "identity/mfa/login-enforcement/all", map[string]any{"mfa_method_ids": []string{method}, "auth_method_accessors": []string{accessor}})
	login, err := n.call(t.Context(), "POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	if err != nil || login.code != 200 || login.text("auth", "client_token") != "" || login.dig("auth", "mfa_requirement") == nil {
		t.Errorf("a login without the second factor: %d %v, %v", login.code, login.body, err)
	}

	for _, path := range []string{
		"sys/metrics", "sys/internal/counters/activity", "sys/internal/counters/config", "sys/ha-status", "sys/storage/raft/autopilot/state", "sys/quotas/lease-count?list=true",
	} {
		if a := n.get(path); a.code != 200 && a.code != 204 && a.code != 404 || a.code == 404 && len(a.body) == 0 {
			t.Errorf("%s: %d %v", path, a.code, a.body)
		}
	}
	n.must("POST", "sys/storage/raft/snapshot-auto/config/hourly", map[string]any{
		"interval": "1h", "retain": 3, "path_prefix": filepath.Join(n.dir, "snapshots"), "storage_type": "local", "local_max_space": 1 << 30,
	})
	if out := n.get("sys/storage/raft/snapshot-auto/config/hourly"); out.code != 200 {
		t.Errorf("the schedule of snapshots: %d %v", out.code, out.body)
	}
	if v := n.vault("version"); !strings.Contains(v, "+ent") {
		t.Errorf("version %s", v)
	}
	if text := n.output(); regexp.MustCompile(`(?i)licen[cs]e`).MatchString(text) {
		t.Errorf("the server speaks of a licence:\n%s", text)
	}

	// A hardware module needs cgo, and no licence either.
	dir := t.TempDir()
	config := "disable_mlock = true\n" + plainListener + "storage \"inmem\" {}\nseal \"pkcs11\" {\n  lib = \"/none.so\"\n  slot = \"0\"\n  pin = \"1\"\n  key_label = \"k\"\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "vault.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, dir, "-config=vault.hcl")
	if code := p.ended(); code == 0 || !strings.Contains(p.output(), "make pkcs11") {
		t.Errorf("exit %d: %s", code, p.output())
	}
}

// S3-57, S3-53: what docs/monitoring.md tells for Splunk and for those who follow a file or
// listen at a port is what works, word for word but for the addresses.
func TestIntegrationDocuments(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	for _, name := range []string{"Prometheus", "statsd", "Splunk", "Fluentd", "Telegraf"} {
		if !strings.Contains(doc, name) {
			t.Errorf("nothing about %s", name)
		}
	}
	n := newNode(t, t.TempDir(), fileStorage)
	run := func(command string) {
		t.Helper()
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = n.dir
		cmd.Env = environment(n.dir, "VAULT_ADDR="+strings.TrimSuffix(n.url, "/v1/"), "VAULT_TOKEN="+n.root)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	type post struct{ path, auth, body string }
	posts := make(chan post, 1000)
	splunk := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is cut off is no record
		posts <- post{r.URL.Path, r.Header.Get("Authorization"), string(body)}
	}))
	defer splunk.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 10)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 1<<16)
		for {
			k, err := c.Read(buf)
			if err != nil {
				return
			}
			select {
			case lines <- string(buf[:k]):
			default:
			}
		}
	}()
	log := filepath.Join(n.dir, "audit.log")
	for pattern, to := range map[string][]string{
		`(?s)    (vault audit enable http .*?)\n\n`: {"https://splunk:8088", splunk.URL},
		"`(audit enable socket [^`]*)`":             {"splunk:1514", l.Addr().String()},
		"`(audit enable file file_path=[^`]*)`":     {"/var/log/arca/audit.log", log},
	} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(doc)
		if found == nil || !strings.Contains(found[1], to[0]) {
			t.Fatalf("the document has no %s", pattern)
		}
		command := strings.ReplaceAll(found[1], to[0], to[1])
		if !strings.HasPrefix(command, "vault ") {
			command = "vault " + command
		}
		run(command)
	}
	n.must("GET", "auth/token/lookup-self", nil)
	for p := range posts {
		if p.path != "/services/collector/raw" || !strings.HasPrefix(p.auth, "Splunk ") {
			t.Errorf("asked %s with %q", p.path, p.auth)
		}
		if strings.Contains(p.body, `"path":"auth/token/lookup-self"`) {
			break
		}
	}
	await(t, "a record at the port", func() bool {
		select {
		case got := <-lines:
			return strings.Contains(got, `"path":"auth/token/lookup-self"`)
		default:
			return false
		}
	})
	await(t, "a record in the file", func() bool {
		got, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(got), `"path":"auth/token/lookup-self"`)
	})
	// Metrics: each stanza of the document is one that the server takes.
	blocks := regexp.MustCompile(`(?m)(?:^    .*\n)+`).FindAllString(doc, -1)
	taken := 0
	for i, b := range blocks {
		if !regexp.MustCompile(`(?m)^    telemetry `).MatchString(b) {
			continue
		}
		taken++
		config := fileStorage
		if strings.Contains(b, "listener ") {
			config = strings.ReplaceAll(fileStorage, plainListener, "")
			b = strings.ReplaceAll(b, `address = "0.0.0.0:8200"`, `address = "127.0.0.1:0"`+"\n  tls_disable = 1")
		}
		other := newNodeOf(t, t.TempDir(), config+"\n"+b)
		other.start()
		if text := other.output(); strings.Contains(text, "unknown or unsupported") {
			t.Errorf("block %d: %s", i, text)
		}
		other.kill()
		if !strings.Contains(b, "unauthenticated_metrics_access") {
			continue
		}
		other.start()
		other.initialise()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, other.url+"sys/metrics?format=prometheus", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := other.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body) // as above
		res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(string(text), "vault_core_unsealed") {
			t.Errorf("the scrape without a token: %d: %.300s", res.StatusCode, text)
		}
	}
	if taken < 3 {
		t.Errorf("%s", fmt.Sprint("only ", taken, " stanzas in the document"))
	}
}
