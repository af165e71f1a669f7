package diagnose_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/server"
	"arca/internal/server/diagnose"
)

func run(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	code = diagnose.Command(args, diagnose.Env{Getenv: func(string) string { return "" }, Storage: server.CheckStorage, Out: &b, Err: &b})
	return code, b.String()
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The exit codes are those of the scenario cli/diagnose.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const quiet = "storage \"inmem\" {}\ndisable_mlock = true\napi_addr = \"http://127.0.0.1:1\"\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}\n"
	raft := func(options string) string {
		return "-config=" + file(t, "c.hcl", strings.Replace(quiet, "\"inmem\" {}", "\"raft\" {\n path = \""+dir+"/new\"\n"+options+"\n}", 1))
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"raft number", []string{raft(`performance_multiplier = "50"`)}, 1, "performance_multiplier of storage \"raft\" is \"50\": it must lie between 0 and 10"},
		{"raft version", []string{raft(`autopilot_upgrade_version = "x.y"`)}, 1, "autopilot_upgrade_version: the version \"x.y\""},
		{"raft join file", []string{raft("retry_join {\n leader_api_addr = \"https://127.0.0.1:1\"\n leader_ca_cert_file = \"/no.crt\"\n}")}, 1, "retry_join: leader_ca_cert_file: open /no.crt"},
		{"raft join rule", []string{raft("retry_join {\n auto_join = \"provider=aws\"\n}")}, 1, "retry_join: auto_join: provider=aws is not part of arca"},
		{"raft clustering", []string{raft("}\ndisable_clustering = true\ntelemetry {")}, 1, "disable_clustering cannot be set"},
		{"unspecified address", []string{"-config=" + file(t, "c.hcl", strings.Replace(quiet, "127.0.0.1:1", "0.0.0.0:1", 1)), "-skip=os,mlock,tls"}, 2, "nobody can reach this node at http://0.0.0.0:1"},
		{"argument", []string{"-config=x", "y"}, 3, "no arguments but options"},
		{"format", []string{"-config=x", "-format=yaml"}, 3, "-format is table or json"},
		{"good", []string{"-config=" + file(t, "c.hcl", quiet), "-skip=os,mlock,tls"}, 0, "[ success ] Check Address: 127.0.0.1:0 is free"},
		{"warning", []string{"-config=" + file(t, "c.hcl", quiet), "-skip=os,mlock"}, 2, "[ warning ] Check Listener TLS: TLS is disabled"},
		{"unknown key", []string{"-config=" + file(t, "c.hcl", quiet+"uii = true\n"), "-skip=os", "-skip=mlock", "-skip=tls"}, 2, `did you mean "ui"?`},
		{"syntax", []string{"-config=" + file(t, "c.hcl", "storage \"inmem\" {\n")}, 4, "is not closed"},
		{"no file", []string{"-config=" + dir + "/nosuch.hcl"}, 4, "nosuch.hcl"},
		{"no flag", nil, 3, "-config"},
		{"bad area", []string{"-skip=moon", "-config=x"}, 3, "moon"},
		{"later seal", []string{"-config=" + file(t, "c.hcl", quiet+"seal \"awskms\" {}\n"), "-skip=os,mlock,tls"}, 1, "[ failure ] Create Seal"},
		{"certificate", []string{"-config=" + file(t, "c.hcl", "storage \"inmem\" {}\ndisable_mlock = true\nlistener \"tcp\" { address = \"127.0.0.1:0\" tls_cert_file = \"/no.crt\" tls_key_file = \"/no.key\" }"), "-skip=os"}, 1, "tls_cert_file: open /no.crt"},
		{"address", []string{"-config=" + file(t, "c.hcl", strings.Replace(quiet, "http://127.0.0.1:1", "127.0.0.1", 1)), "-skip=os,mlock,tls"}, 1, "is no address such as"},
		{"storage not made", []string{"-config=" + file(t, "c.hcl", strings.Replace(quiet, "\"inmem\" {}", "\"file\" { path = \""+dir+"/new/store\" }", 1)), "-skip=os,mlock,tls,listener"}, -1, "does not exist yet and will be made"},
		{"storage impossible", []string{"-config=" + file(t, "c.hcl", strings.Replace(quiet, "\"inmem\" {}", "\"file\" { path = \"/proc/version/x\" }", 1)), "-skip=os,mlock,tls"}, 1, "[ failure ] Check Folder Access"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out := run(t, tt.args...)
			if tt.code >= 0 && code != tt.code || !strings.Contains(out, tt.want) { // -1: the disk decides
				t.Errorf("exit code %d, want %d; output:\n%s", code, tt.code, out)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("looking has made %v, %v", entries, err)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	_, out := run(t, "-format=json", "-skip=listener", "-config="+file(t, "c.hcl", "storage \"inmem\" {}\nlistener \"tcp\" { tls_disable = 1 }\ndisable_mlock = true"))
	var root struct {
		Name, Status string
		Children     []struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(out), &root); err != nil {
		t.Fatal(err, out)
	}
	for _, c := range root.Children {
		if c.Name == "Check Listeners" && c.Status == "skipped" {
			return
		}
	}
	t.Errorf("got %+v", root)
}
