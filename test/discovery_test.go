package test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// inside adds to the storage stanza of a node of raft.
func (n *node) inside(text string) {
	n.config = strings.Replace(n.config, "storage \"raft\" {\n", "storage \"raft\" {\n"+text, 1)
}

// TestAutoJoin lets nodes find the cluster by the API of Kubernetes, by DNS, and by an order of the command line.
func TestAutoJoin(t *testing.T) {
	t.Parallel()
	first := raftNode(t, "node1")
	first.start()
	first.initialise()
	port := first.url[strings.LastIndex(first.url, ":")+1 : len(first.url)-len("/v1/")]
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/vault/pods" || r.URL.Query().Get("labelSelector") != "app.kubernetes.io/name=vault" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"items":[{"status":{"phase":"Running","podIP":"127.0.0.1"},"metadata":{"annotations":{"consul.hashicorp.com/auto-join-port":"1"}}},
			{"status":{"phase":"Running","podIP":"127.0.0.1"}}]}`)
	}))
	t.Cleanup(api.Close)
	second, third, fourth := raftNode(t, "node2"), raftNode(t, "node3"), raftNode(t, "node4")
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	if err := os.WriteFile(filepath.Join(second.dir, "kubeconfig"), fmt.Appendf(nil, `
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {token: t}}]
`, api.URL, ca), 0o600); err != nil {
		t.Fatal(err)
	}
	second.inside(fmt.Sprintf(`retry_join {
  auto_join        = "provider=k8s kubeconfig=kubeconfig namespace=vault label_selector=\"app.kubernetes.io/name=vault\""
  auto_join_scheme = "http"
  auto_join_port   = %s
}
`, port))
	third.inside(fmt.Sprintf("retry_join {\n  auto_join = \"provider=dns name=localhost\"\n  auto_join_scheme = \"http\"\n  auto_join_port = %s\n}\n", port))
	for _, n := range []*node{second, third, fourth} {
		n.keys, n.root = first.keys, first.root
		n.start()
	}
	for _, file := range []string{"/dev/zero", "/nofile", filepath.Join(second.dir, "kubeconfig")} {
		a, err := fourth.call(t.Context(), "PUT", "sys/storage/raft/join", "", map[string]any{"auto_join": "provider=k8s kubeconfig=" + file, "retry": true})
		if text := fmt.Sprint(a.body); err != nil || a.code != 400 || !strings.Contains(text, "only retry_join") || strings.Contains(text, file) {
			t.Errorf("a request that names %s: %d %v, %v", file, a.code, a.body, err)
		}
	}
	out := fourth.vault("operator", "raft", "join", "-auto-join-scheme=http", "-auto-join-port="+port, "provider=dns name=localhost")
	if !strings.Contains(out, "true") {
		t.Errorf("join: %s", out)
	}
	for _, n := range []*node{second, third, fourth} {
		await(t, "the cluster's keys", func() bool {
			a, err := n.call(t.Context(), "GET", "sys/seal-status", "", nil)
			return err == nil && a.dig("initialized") == true
		})
		n.unseal()
	}
	(&trio{t: t, nodes: []*node{first}}).await(4)

	for rule, want := range map[string]string{
		`auto_join = "provider=aws tag_key=x"`:                                        "provider=aws is not part of arca",
		`auto_join = "provider=dns name=x" leader_api_addr = "http://127.0.0.1:8200"`: "make two of it",
		`auto_join = "provider=dns name=x" auto_join_scheme = "ftp"`:                  "auto_join_scheme",
		`auto_join = "provider=dns name=x" auto_join_port = "many"`:                   "auto_join_port",
		`leader_ca_cert = "x"`: "leader_api_addr is missing, or auto_join",
	} {
		n := raftNode(t, "bad")
		n.inside("retry_join { " + rule + " }\n")
		n.refuses(want)
	}
}

// TestRetryJoinTLS joins by HTTPS at a listener that demands a certificate: by files, by texts, and by a request. The first address of the list is nobody's, and the
// leader's certificate is for a name that is no address.
func TestRetryJoinTLS(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	port := arcatest.FreePort(t)
	first := raftNode(t, "node1")
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(first.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first.config += fmt.Sprintf(`
listener "tcp" {
  address            = "127.0.0.2:%d"
  tls_cert_file      = "cert.pem"
  tls_key_file       = "key.pem"
  tls_client_ca_file = "cert.pem"
  tls_require_and_verify_client_cert = true
}
`, port)
	first.start()
	first.initialise()
	address := fmt.Sprintf("https://127.0.0.2:%d", port) // not in the certificate, which is for localhost
	files := func(dir string) string {
		return fmt.Sprintf("leader_ca_cert_file = %q\nleader_client_cert_file = %q\nleader_client_key_file = %q\n",
			filepath.Join(dir, "cert.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	}
	join := func(rest string) string {
		return fmt.Sprintf("retry_join {\nleader_api_addr = %q\n%s}\n", address, rest)
	}
	second, third, fourth, lost := raftNode(t, "node2"), raftNode(t, "node3"), raftNode(t, "node4"), raftNode(t, "node5")
	second.inside(fmt.Sprintf("retry_join {\nleader_api_addr = \"https://127.0.0.1:%d\"\n}\n", arcatest.FreePort(t)) +
		join(files(first.dir)+"leader_tls_servername = \"localhost\"\n"))
	third.inside(join(fmt.Sprintf("leader_ca_cert = <<E\n%sE\nleader_client_cert = <<E\n%sE\nleader_client_key = <<E\n%sE\nleader_tls_servername = \"localhost\"\n", cert, cert, key)))
	lost.inside(join(files(first.dir))) // without the name
	for _, n := range []*node{second, third, fourth, lost} {
		n.keys, n.root = first.keys, first.root
		n.start()
	}
	request := map[string]any{"leader_api_addr": address, "leader_ca_cert": string(cert), "leader_tls_servername": "localhost"}
	if a, err := fourth.call(t.Context(), "PUT", "sys/storage/raft/join", "", request); err != nil || a.code < 400 && a.dig("joined") == true {
		t.Errorf("a join without a client's certificate: %d %v, %v", a.code, a.body, err)
	}
	request["leader_client_cert"], request["leader_client_key"] = string(cert), string(key)
	if out := fourth.must("PUT", "sys/storage/raft/join", request); out["joined"] != true {
		t.Errorf("join: %v", out)
	}
	for _, n := range []*node{second, third, fourth} {
		await(t, "the cluster's keys", func() bool {
			a, err := n.call(t.Context(), "GET", "sys/seal-status", "", nil)
			return err == nil && a.dig("initialized") == true
		})
		n.unseal()
	}
	(&trio{t: t, nodes: []*node{first}}).await(4)
	lost.says("127.0.0.2")
	if a, err := lost.call(t.Context(), "GET", "sys/seal-status", "", nil); err != nil || a.dig("initialized") == true {
		t.Errorf("the leader's certificate is for another name, and is believed: %v, %v", a.body, err)
	}

	for rule, want := range map[string]string{
		"leader_ca_cert_file = \"nowhere.pem\"\n": "leader_ca_cert_file",
		"leader_ca_cert = \"x\"\n":                "leader_ca_cert holds no certificate",
		fmt.Sprintf("leader_client_cert_file = %q\n", filepath.Join(first.dir, "cert.pem")): "leader_client_cert and leader_client_key",
	} {
		n := raftNode(t, "bad")
		n.inside(join(rule))
		n.refuses(want)
	}
}
