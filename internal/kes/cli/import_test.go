package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/kes/cli"
	"arca/internal/kes/key"
)

// shop is a key store of the protocol "generic" that tells any names.
type shop struct {
	mu   sync.Mutex
	keys map[string][]byte // guarded by mu
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/v1/key/")
	switch {
	case r.URL.Path == "/v1/key":
		for n := range s.keys {
			_ = json.NewEncoder(w).Encode(map[string]string{"name": n}) // to a recorder
		}
	case r.Method == http.MethodGet && s.keys[name] != nil:
		_ = json.NewEncoder(w).Encode(map[string][]byte{"bytes": s.keys[name]}) // as above
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func stored(t *testing.T, b byte) []byte {
	t.Helper()
	k, err := key.Import(bytes.Repeat([]byte{b}, key.Size), key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	return k.Encode()
}

func run(t *testing.T, args ...string) (code int, out, warnings string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(t.Context(), cli.Config{Args: args, In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// TestImport takes keys over from a store that tells names which are none, keys that are
// others in arca, and keys that were deleted there: nothing but keys is written, nothing
// of arca's changes, and what was left out is told.
func TestImport(t *testing.T) {
	arca := arcatest.New(t, arcatest.Config{})
	var mu sync.Mutex
	var paths []string
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.Method+" "+r.URL.Path)
		mu.Unlock()
		arca.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	t.Setenv("VAULT_ADDR", front.URL)
	t.Setenv("VAULT_TOKEN", arca.Root)
	arca.Must("POST", "sys/mounts/kes", arca.Root, map[string]any{"type": "kes"})
	s := &shop{keys: map[string][]byte{
		"good": stored(t, 1), "other": stored(t, 2), "gone": stored(t, 3), "junk": []byte("junk"),
		"-hyphen": stored(t, 4), "../../sys/policies/acl/evil": stored(t, 5), "a/b": stored(t, 6),
	}}
	far := httptest.NewServer(s)
	defer far.Close()
	file := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("admin: {identity: disabled}\ntls: {key: k, cert: c}\npolicy:\n  ../../sys/policies/acl/evil: {allow: [/x]}\n  fine: {allow: [/v1/key/*]}\n  old-: {allow: [/v1/key/*]}\nkeystore:\n  generic: {endpoint: %s}\n", far.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	arca.Must("POST", "kes/keys/other", arca.Root, nil)

	code, out, warnings := run(t, "import", "--from", file)
	if code != 1 || !strings.Contains(out, "Keys copied:      3\n") || !strings.Contains(out, "Policies:         2\n") {
		t.Errorf("first: %d\n%s%s", code, out, warnings)
	}
	for _, want := range []string{
		`"other": it is another here than in the import, and is kept`, `"junk": the entry is no key`,
		`"../../sys/policies/acl/evil": invalid name`, `policy "../../sys/policies/acl/evil": invalid name`, `"a/b": invalid name`,
		"1 × another key", "2 × an entry of the key store with a name", "1 × a policy with a name", "1 × an entry",
	} {
		if !strings.Contains(warnings, want) {
			t.Errorf("it does not tell %q:\n%s", want, warnings)
		}
	}
	mu.Lock()
	for _, p := range paths {
		if strings.Contains(p, "evil") || strings.Contains(p, "a/b") {
			t.Errorf("it has asked for %s", p)
		}
	}
	mu.Unlock()

	s.mu.Lock()
	s.keys = map[string][]byte{"good": s.keys["good"], "gone": s.keys["gone"]}
	s.mu.Unlock()
	arca.Must("DELETE", "kes/keys/gone", arca.Root, nil)
	code, out, warnings = run(t, "import", "--keys-only", "--from", file)
	if code != 0 || out != "Keys copied:      0\nKeys kept:        1\nKeys left out:    1, which were deleted in arca\n" || !strings.Contains(warnings, "--overwrite brings it back") {
		t.Errorf("again: %d\n%s%s", code, out, warnings)
	}
	code, out, warnings = run(t, "import", "--keys-only", "--overwrite", "--from", file)
	if code != 0 || out != "Keys copied:      1\nKeys kept:        1\n" || warnings != "" {
		t.Errorf("overwritten: %d\n%s%s", code, out, warnings)
	}
	// A key that is rotated is the same; one that was made anew is another.
	arca.Must("POST", "kes/keys/good/rotate", arca.Root, nil)
	arca.Must("POST", "kes/keys/good", arca.Root, map[string]any{"min_decryption_version": 2})
	arca.Must("POST", "kes/keys/good/trim", arca.Root, map[string]any{"min_available_version": 2})
	arca.Must("DELETE", "kes/keys/gone", arca.Root, nil)
	arca.Must("POST", "kes/keys/gone", arca.Root, nil)
	code, out, warnings = run(t, "import", "--keys-only", "--overwrite", "--from", file)
	if code != 1 || out != "Keys copied:      0\nKeys kept:        1\n" || !strings.Contains(warnings, `"gone": it is another here`) {
		t.Errorf("changed: %d\n%s%s", code, out, warnings)
	}
}

// TestMigrate copies what has the name of a key, and tells of the rest.
func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for _, name := range []string{"from", "to"} {
		files[name] = filepath.Join(dir, name+".yml")
		text := fmt.Sprintf("admin: {identity: disabled}\ntls: {key: k, cert: c}\nkeystore:\n  fs: {path: %s}\n", filepath.Join(dir, name))
		if err := os.WriteFile(files[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"good", "-old"} {
		if err := os.WriteFile(filepath.Join(dir, "from", name), stored(t, 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, warnings := run(t, "migrate", "--from", files["from"], "--to", files["to"])
	if code != 0 || warnings != "" || !strings.Contains(out, "Keys copied: 2\n") {
		t.Errorf("%d\n%s%s", code, out, warnings)
	}
	for _, name := range []string{"good", "-old"} {
		if _, err := os.Stat(filepath.Join(dir, "to", name)); err != nil {
			t.Error(err)
		}
	}
	// Once more: what is the same is kept, and what is another is told.
	if err := os.WriteFile(filepath.Join(dir, "from", "good"), stored(t, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, warnings = run(t, "migrate", "--merge", "--from", files["from"], "--to", files["to"])
	if code != 1 || !strings.Contains(warnings, `"good": it is another there`) || strings.Contains(warnings, "-old") || !strings.Contains(out, "Keys copied: 0\nKeys that were the same: 1\nKeys kept: 1\n") {
		t.Errorf("once more: %d\n%s%s", code, out, warnings)
	}
	// What is the same is not written again, and a store not onto itself.
	old, err := os.Stat(filepath.Join(dir, "to", "-old"))
	if err != nil {
		t.Fatal(err)
	}
	code, out, warnings = run(t, "migrate", "--force", "--from", files["from"], "--to", files["to"])
	if code != 0 || warnings != "" || out != "Keys copied: 1\nKeys that were the same: 1\n" {
		t.Errorf("by force: %d\n%s%s", code, out, warnings)
	}
	if now, err := os.Stat(filepath.Join(dir, "to", "-old")); err != nil || !os.SameFile(old, now) {
		t.Errorf("it was written again: %v", err)
	}
	if err := os.Symlink(filepath.Join(dir, "from"), filepath.Join(dir, "also")); err != nil {
		t.Fatal(err)
	}
	also := filepath.Join(dir, "also.yml")
	text := fmt.Sprintf("admin: {identity: disabled}\ntls: {key: k, cert: c}\nkeystore:\n  fs: {path: %s}\n", filepath.Join(dir, "also"))
	if err := os.WriteFile(also, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, warnings = run(t, "migrate", "--force", "--from", files["from"], "--to", also); code != 1 || !strings.Contains(warnings, "the same key store") {
		t.Errorf("onto itself: %d\n%s%s", code, out, warnings)
	}
}
