package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"arca/internal/arcatest"
)

// TestGuideHA plays the part of guide S3 on high availability with three servers: its configuration (S3-58, S3-62), its commands as they are typed,
// and what it says that comes of them. Only addresses are the test's own.
func TestGuideHA(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var nodes []*node
	for i := range 3 {
		api, share := arcatest.FreePort(t), arcatest.FreePort(t)
		n := newNodeOf(t, filepath.Join(home, fmt.Sprint("server", i+1)), fmt.Sprintf(`
storage "raft" {
path = "raft/data" # defines where the data will be stored
node_id = "raft_node_%d"
}
cluster_addr = "http://127.0.0.1:%d"
disable_mlock = true
listener "tcp" {
address = "127.0.0.1:%d"
cluster_address = "127.0.0.1:%d"
tls_disable = "true"
}
`, i+1, share, api, share))
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		n.start()
		nodes = append(nodes, n)
	}
	address := func(n *node) string { return strings.TrimSuffix(n.url, "/v1/") }
	run := func(n *node, command string) (string, error) {
		t.Helper()
		cmd := exec.Command("bash", "-c", "export VAULT_ADDR='"+address(n)+"'\n"+command)
		cmd.Dir, cmd.Env = home, environment(home)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	says := func(n *node, command string, want ...string) string {
		t.Helper()
		out, err := run(n, command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(out) {
				t.Fatalf("%s: without %q\n%s", command, w, out)
			}
		}
		return out
	}
	eventually := func(n *node, command, want string) {
		t.Helper()
		await(t, command, func() bool {
			out, err := run(n, command)
			return err == nil && regexp.MustCompile(want).MatchString(out)
		})
	}

	// S3-63, S3-64: the keys go into a file, and the token and a key are arguments.
	first := nodes[0]
	says(first, "vault operator init -key-shares=1 -key-threshold=1 > key.txt")
	text, err := os.ReadFile(filepath.Join(home, "key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^Unseal Key 1: (\S+)\n(?:.*\n)*Initial Root Token: (\S+)$`).FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("key.txt:\n%s", text)
	}
	key, token := found[1], found[2]
	says(first, "vault operator unseal "+key, `Sealed\s+false`)
	says(first, "vault login "+token, "Success! You are now authenticated")
	says(first, "vault operator raft list-peers", `Node\s+Address\s+State\s+Voter`, `raft_node_1\s+127.0.0.1:\d+\s+leader\s+true`) // S3-59

	// S3-65: the others join, by an address without a scheme, and are unsealed with the same key.
	for _, n := range nodes[1:] {
		says(n, "vault operator raft join "+strings.TrimPrefix(address(first), "http://"), `Joined\s+true`)
		says(n, "vault operator unseal "+key)
		eventually(n, "vault status", `Sealed\s+false`)
	}
	eventually(first, "vault operator raft list-peers", `(?s)raft_node_1\s+\S+\s+leader\s+true.*raft_node_2\s+\S+\s+follower\s+true.*raft_node_3\s+\S+\s+follower\s+true`)

	// S3-60, S3-66: written at the leader, read at a follower, at once.
	says(first, "vault secrets enable -path=secret kv", "Success! Enabled the kv secrets engine at: secret/")
	says(first, "vault kv put secret/creds admin=password", "Success! Data written to: secret/creds")
	says(nodes[1], "vault kv get secret/creds", `admin\s+password`)
	says(first, "vault kv put secret/dbcreds admin=password")
	says(nodes[2], "vault kv get secret/dbcreds", `admin\s+password`)

	// S3-68: a standby forwards what writes, or says where the active node is.
	says(nodes[1], "vault kv put secret/there admin=password", "Success!")
	says(first, "vault kv get secret/there", `admin\s+password`)
	says(nodes[1], "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' -X PUT -H 'X-Vault-No-Request-Forwarding: true' -H 'X-Vault-Token: "+token+
		"' -d '{\"a\":\"b\"}' $VAULT_ADDR/v1/secret/r", "307 "+regexp.QuoteMeta(address(first))+"/v1/secret/r")

	// S3-61, S3-67: the leader is restarted; the data can be read, and another leads.
	first.signal(syscall.SIGTERM)
	first.ended()
	says(nodes[1], "vault kv get secret/dbcreds", `admin\s+password`)
	says(nodes[2], "vault kv put secret/meanwhile admin=password")
	first.start()
	says(first, "vault operator unseal "+key)
	eventually(first, "vault operator raft list-peers", `(?s)raft_node_1\s+\S+\s+follower.*leader`)
	says(first, "vault kv get secret/meanwhile", `admin\s+password`)

	// S3-69: the guide's form, with an address behind it, and the plain one.
	var leader *node
	for _, n := range nodes {
		if out, err := run(n, "vault status"); err == nil && regexp.MustCompile(`HA Mode\s+active`).MatchString(out) {
			leader = n
		}
	}
	if leader == nil {
		t.Fatal("nobody is active")
	}
	says(leader, "vault operator step-down "+address(leader), "Success! Stepped down")
	eventually(leader, "vault status", `HA Mode\s+standby`)

	// S3-70
	says(first, "vault operator raft snapshot save backup.snap")
	says(first, "vault kv put secret/dbcreds admin=changed")
	says(nodes[2], "vault operator raft snapshot restore backup.snap")
	eventually(first, "vault kv get secret/dbcreds", `admin\s+password`)
}
