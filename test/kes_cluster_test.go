package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/kes/identity"
)

// A kesDoor is a node's listener for KES, and a client of it.
type kesDoor struct {
	url    string
	client *http.Client
}

func (d kesDoor) ask(ctx context.Context, method, path string, body any) (int, map[string]any) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil
	}
	res, err := d.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	var out map[string]any
	_ = json.NewDecoder(res.Body).Decode(&out) // some answers are empty
	return res.StatusCode, out
}

// newKESTrio is a cluster whose nodes all have a listener for KES, and a mount whose keys their client may make and use.
func newKESTrio(t *testing.T) (*trio, []kesDoor) {
	t.Helper()
	cert, key := selfSigned(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t}
	var doors []kesDoor
	for i := range 3 {
		n := raftNode(t, fmt.Sprint("node", i+1))
		port := arcatest.FreePort(t)
		n.config += fmt.Sprintf(`
listener "kes" {
  address       = "127.0.0.1:%d"
  tls_cert_file = "kes.crt"
  tls_key_file  = "kes.key"
}
telemetry { prometheus_retention_time = "1h" }
`, port)
		for name, data := range map[string][]byte{"kes.crt": cert, "kes.key": key} {
			if err := os.WriteFile(filepath.Join(n.dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		web := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			MaxIdleConnsPerHost: 16,
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}},
		}}
		t.Cleanup(web.CloseIdleConnections)
		c.nodes, doors = append(c.nodes, n), append(doors, kesDoor{fmt.Sprintf("https://127.0.0.1:%d", port), web})
	}
	first := c.nodes[0]
	first.start()
	first.initialise()
	for _, n := range c.nodes[1:] {
		n.joined(first)
	}
	c.await(3)
	leader := c.leader()
	leader.must("POST", "sys/mounts/kes", map[string]any{"type": "kes"})
	leader.must("POST", "kes/policies/p", map[string]any{"allow": []string{"/v1/key/*"}})
	leader.must("POST", "kes/identities/"+identity.Of(leaf), map[string]any{"policy": "p"})
	return c, doors
}

// TestKESCluster has clients of KES at all nodes of a cluster whose leader is killed:
// what was acknowledged is there, and what one node has sealed every node opens.
func TestKESCluster(t *testing.T) {
	t.Parallel()
	c, doors := newKESTrio(t)
	leader := c.leader()
	var mu sync.Mutex
	sealed := map[string]map[string]any{} // by key: what generate answered
	var count atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for w := range 6 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("k%d-%d", w, i)
				if code, _ := doors[(w+i)%3].ask(ctx, "POST", "/v1/key/create/"+name, nil); code != 200 {
					continue
				}
				if code, out := doors[(w+i+1)%3].ask(ctx, "POST", "/v1/key/generate/"+name, map[string]any{"context": "AAEC"}); code == 200 {
					mu.Lock()
					sealed[name] = out
					mu.Unlock()
				} else if code == 404 || code == 403 {
					t.Errorf("%s was created, and at another node: %d %v", name, code, out)
				}
				count.Add(1)
			}
		})
	}
	more := func(what string) {
		before := count.Load()
		await(t, what, func() bool { return count.Load() > before+40 })
	}
	more("creations")
	leader.kill()
	more("creations without the leader")
	leader.start()
	leader.unseal()
	more("creations after it came back")
	stop()
	clients.Wait()
	c.await(3)
	for name, dek := range sealed {
		for _, d := range doors {
			code, out := d.ask(t.Context(), "POST", "/v1/key/decrypt/"+name, map[string]any{"ciphertext": dek["ciphertext"], "context": "AAEC"})
			if code != 200 || out["plaintext"] != dek["plaintext"] {
				t.Fatalf("%s at %s: %d %v", name, d.url, code, out)
			}
		}
	}
}

// requests is how many requests a node has handled since it started.
func requests(t *testing.T, n *node) (count int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+"sys/metrics?format=prometheus", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", n.root)
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if _, err := fmt.Sscanf(line, "vault_core_handle_request_count %d", &count); err == nil {
			return count
		}
	}
	t.Fatalf("no count of requests among the metrics, status %d", res.StatusCode)
	return 0
}

// A standby generates, decrypts and makes MACs by itself: its cluster's active node
// does not hear of them.
func TestStandbyKES(t *testing.T) {
	t.Parallel()
	c, doors := newKESTrio(t)
	leader := c.leader()
	var standby kesDoor
	for i, n := range c.nodes {
		if n != leader {
			standby = doors[i]
		}
	}
	if code, out := standby.ask(t.Context(), "POST", "/v1/key/create/k", nil); code != 200 {
		t.Fatalf("create: %d %v", code, out)
	}
	before := requests(t, leader)
	const times = 30
	for range times {
		code, dek := standby.ask(t.Context(), "POST", "/v1/key/generate/k", map[string]any{})
		if code != 200 {
			t.Fatalf("generate: %d %v", code, dek)
		}
		code, out := standby.ask(t.Context(), "POST", "/v1/key/decrypt/k", map[string]any{"ciphertext": dek["ciphertext"]})
		if code != 200 || out["plaintext"] != dek["plaintext"] {
			t.Fatalf("decrypt: %d %v", code, out)
		}
	}
	if n := requests(t, leader) - before; n > times {
		t.Errorf("the active node handled %d requests while a standby was asked %d times", n, 2*times)
	}
	// A version that is due is made by the active node, and sealed with at once.
	leader.must("POST", "kes/keys/k/rotate", map[string]any{})
	code, dek := standby.ask(t.Context(), "POST", "/v1/key/generate/k", map[string]any{})
	if code != 200 {
		t.Fatalf("generate after a rotation: %d %v", code, dek)
	}
	leader.must("POST", "kes/keys/k", map[string]any{"min_decryption_version": 2})
	if code, out := standby.ask(t.Context(), "POST", "/v1/key/decrypt/k", map[string]any{"ciphertext": dek["ciphertext"]}); code != 200 {
		t.Errorf("sealed with a version of before: %d %v", code, out)
	}
}
