package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// TestContainerEntryPoint runs the image's entry point outside of one: no image can be built in a test. What Vault's Helm chart does with it, and
// what people do, comes to the right command.
func TestContainerEntryPoint(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../deploy/container/docker-entrypoint.sh")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../deploy/container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-u 100 ", "-g 1000 vault", "ln -s arca /bin/vault", "ln -s arca /bin/kes", `ENTRYPOINT ["docker-entrypoint.sh"]`, "/vault/file", "/vault/logs", "/vault/config"} {
		if !strings.Contains(string(file), want) {
			t.Errorf("the Containerfile lacks %q", want)
		}
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	shown := filepath.Join(dir, "bin")
	for _, d := range []string{config, shown} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// A vault that shows its arguments, but for help.
	stub := "#!/bin/sh\n[ \"$2\" != -help ] || exec " + filepath.Join(binFolder, "vault") + " \"$@\"\necho \"vault $*\"\n"
	if err := os.WriteFile(filepath.Join(shown, "vault"), []byte(stub), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(env []string, path string, args ...string) string {
		t.Helper()
		cmd := exec.Command("sh", append([]string{script}, args...)...)
		cmd.Env = append(environment(dir, "ARCA_CONFIG_DIR="+config), env...)
		cmd.Env = append(cmd.Env, "PATH="+path+":/usr/bin:/bin")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, tc := range []struct {
		args, env, want string
	}{
		{"vault server -config=/tmp/storageconfig.hcl", "SKIP_CHOWN=true", "vault server -config=/tmp/storageconfig.hcl"}, // the chart
		{"server -dev", "VAULT_DEV_ROOT_TOKEN_ID=root", "vault server -dev-root-token-id=root -config=" + config + " -dev"},
		{"server", "VAULT_DEV_LISTEN_ADDRESS=0.0.0.0:1", "vault server -dev-listen-address=0.0.0.0:1 -config=" + config},
		{"status", "A=b", "vault status"},
		{"-version", "A=b", "vault -version"},
		{"echo hello", "A=b", "hello"},
	} {
		if got := run([]string{tc.env}, shown, strings.Fields(tc.args)...); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.args, got, tc.want)
		}
	}
	// And a real server, by the environment that the chart sets.
	port := arcatest.FreePort(t)
	local := fmt.Sprintf(`{"disable_mlock": true, "storage": {"raft": {"path": %q}}, "listener": [{"tcp": {"address": "127.0.0.1:%d", "tls_disable": true}}]}`,
		filepath.Join(dir, "raft"), port)
	p := launchProgram(t, dir, []string{
		"ARCA_CONFIG_DIR=" + config, "VAULT_LOCAL_CONFIG=" + local, "SKIP_CHOWN=true", "SKIP_SETCAP=true", "VAULT_RAFT_NODE_ID=vault-0",
		fmt.Sprintf("VAULT_API_ADDR=http://127.0.0.1:%d", port), fmt.Sprintf("VAULT_CLUSTER_ADDR=https://127.0.0.1:%d", arcatest.FreePort(t)),
	}, "sh", script, "server")
	p.says("Vault server started!")
	n := newNodeOf(t, dir, "")
	n.process, n.url = p, fmt.Sprintf("http://127.0.0.1:%d/v1/", port)
	n.initialise()
	if out := n.vault("operator", "raft", "list-peers"); !strings.Contains(out, "vault-0") {
		t.Errorf("list-peers:\n%s", out)
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
	if err == nil && strings.TrimSpace(string(name)) != "vault" { // pidof vault finds it
		t.Errorf("the process is named %q", name)
	}
}
