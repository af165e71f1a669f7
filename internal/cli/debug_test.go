package cli

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unpack returns the files of a bundle below its folder, with the dated folders' names left out.
func unpack(t *testing.T, file, name string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		rest, below := strings.CutPrefix(h.Name, name+"/")
		if !below {
			t.Errorf("%s is not below %s", h.Name, name)
		}
		if strings.HasPrefix(rest, "20") {
			rest = "at/" + filepath.Base(rest)
		}
		files[rest] = string(text)
	}
}

// TestDebug collects what a server tells. What it refuses is named, and hinders nothing else.
func TestDebug(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{
		"GET sys/seal-status":                             {200, `{"sealed":false}`},
		"GET sys/config/state/sanitized":                  {200, `{"data":{"log_level":"info"}}`},
		"GET sys/host-info":                               {200, `{"data":{"cpu":{"count":2}}}`},
		"GET sys/metrics":                                 {200, `{"Gauges":[]}`},
		"GET sys/ha-status":                               {200, `{"nodes":[]}`},
		"GET sys/leader":                                  {200, `{"ha_enabled":true}`},
		"GET sys/in-flight-req":                           {200, `not JSON`},
		"GET sys/pprof/heap":                              {200, "heap\x00"},
		"GET sys/pprof/goroutine?debug=2":                 {200, "goroutine 1"},
		"GET sys/pprof/profile?seconds=1":                 {200, "profile"},
		"GET sys/monitor?log_format=json&log_level=debug": {200, "{\"@message\":\"a\"}\n{\"@message\":\"b\"}\n"},
	})
	home := t.TempDir()
	env := []string{"VAULT_ADDR=" + f.URL, "VAULT_TOKEN=t"}
	run := func(args ...string) result { return vaultAt(t, home, env, "", append([]string{"debug"}, args...)...) }
	file := filepath.Join(home, "bundle.tar.gz")
	r := run("-duration=1s", "-interval=300ms", "-metrics-interval=50ms", "-log-format=json", "-output="+file)
	if r.code != 0 || !strings.Contains(r.out, "Success! Bundle written to: "+file) {
		t.Fatalf("%+v", r)
	}
	files := unpack(t, file, "bundle")
	for name, want := range map[string]string{
		"config.json": `"log_level":"info"`, "host_info.json": `"count":2`, "metrics.json": `"Gauges":[]`, "replication_status.json": `"ha_enabled":true`,
		"server_status.json": `"sealed":false`, "vault.log": "{\"@message\":\"a\"}\n{\"@message\":\"b\"}\n",
		"at/heap.prof": "heap\x00", "at/goroutines.txt": "goroutine 1", "at/profile.prof": "profile",
		"index.json": `"what": "sys/storage/raft/autopilot/state"`,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: %q, without %q", name, files[name], want)
		}
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is no JSON: %s", name, text)
		}
	}
	var samples []map[string]any
	if err := json.Unmarshal([]byte(files["metrics.json"]), &samples); err != nil || len(samples) < 2 || samples[0]["timestamp"] == nil {
		t.Errorf("metrics: %v, %v", samples, err)
	}
	var index struct {
		Targets []string
		Errors  []struct {
			What, Error string
			Times       int
		}
	}
	if err := json.Unmarshal([]byte(files["index.json"]), &index); err != nil || len(index.Targets) != 8 {
		t.Errorf("index: %+v, %v", index, err)
	}
	why := map[string]string{}
	for _, e := range index.Errors {
		why[e.What] = e.Error
		if e.Times < 1 {
			t.Errorf("%+v", e)
		}
	}
	if !strings.Contains(why["sys/pprof/mutex"]+why["mutex"], "permission denied") || !strings.Contains(why["sys/in-flight-req"], "no JSON") {
		t.Errorf("errors: %v", why)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 1 {
		t.Errorf("beside the bundle there are %v, %v", left, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the bundle: %v, %v", info, err)
	}

	// A folder, of one target; and what is refused before anything is looked at.
	folder := filepath.Join(home, "folder")
	if r := run("-duration=10ms", "-compress=false", "-target=host", "-output="+folder); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if names, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || len(names) != 2 {
		t.Errorf("the folder has %v, %v", names, err)
	}
	for _, tc := range []struct {
		want string
		code int
		args []string
	}{
		{"is there already", 2, []string{"-output=" + file}},
		{"is there already", 2, []string{"-compress=false", "-output=" + folder}},
		{`Unknown target "everything"`, 1, []string{"-target=everything"}},
		{"-interval must be more than nothing", 1, []string{"-interval=0"}},
		{"Too many arguments", 1, []string{"now"}},
	} {
		if r := run(tc.args...); r.code != tc.code || !strings.Contains(r.stderr, tc.want) {
			t.Errorf("%q: %+v, want %d and %q", tc.args, r, tc.code, tc.want)
		}
	}
}

// TestDebugQuietLog has no line logged while debug looks, and the answer come with the first: that is no failure.
func TestDebugQuietLog(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/monitor" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"sealed":false}`) // the client may have gone
	}))
	defer s.Close()
	home := t.TempDir()
	file := filepath.Join(home, "bundle.tar.gz")
	r := vaultAt(t, home, []string{"VAULT_ADDR=" + s.URL, "VAULT_TOKEN=t"}, "", "debug", "-duration=300ms", "-interval=300ms", "-target=log", "-output="+file)
	if r.code != 0 || strings.Contains(r.out+r.stderr, "sys/monitor") {
		t.Fatalf("%+v", r)
	}
	files := unpack(t, file, "bundle")
	if text, ok := files["vault.log"]; !ok || text != "" {
		t.Errorf("vault.log: %q, %t", text, ok)
	}
	if strings.Contains(files["index.json"], "sys/monitor") {
		t.Errorf("index.json: %s", files["index.json"])
	}
}

// TestDebugTargets has the help name all that can be looked at, as the refusal of others promises.
func TestDebugTargets(t *testing.T) {
	t.Parallel()
	help := vault(t, nil, "", "debug", "-h").out
	for _, target := range bundleTargets() {
		if !strings.Contains(strings.Join(strings.Fields(help), " "), target.name+",") && !strings.Contains(help, target.name+".") {
			t.Errorf("no %s in\n%s", target.name, help)
		}
	}
}
