package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/arcatest/database"
)

// migrate runs `operator migrate` in a folder.
func migrate(t *testing.T, dir, from, to string, more ...string) (out string, code int) {
	t.Helper()
	text := strings.Replace(from, "storage ", "storage_source ", 1) + strings.Replace(to, "storage ", "storage_destination ", 1) +
		"cluster_addr = \"https://127.0.0.1:8201\"\n"
	if err := os.WriteFile(filepath.Join(dir, "migrate.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binFolder, "vault"), append([]string{"operator", "migrate", "-config=migrate.hcl"}, more...)...)
	cmd.Dir, cmd.Env = dir, environment(dir)
	raw, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(raw), cmd.ProcessState.ExitCode()
}

// TestMigrate takes a server's data from a folder through databases and raft, and back; the same keys open each, and all is there.
func TestMigrate(t *testing.T) {
	t.Parallel()
	pg, maria, e := database.NewPostgres(t), database.NewMariaDB(t), database.NewEtcd(t)
	_, bucket := newS3(t, "moved")
	dir := t.TempDir()
	file := "storage \"file\" {\n  path = \"data\"\n}\n"
	tls := arcatest.FreePort(t)
	listener := fmt.Sprintf("disable_mlock = true\ncluster_addr = \"https://127.0.0.1:%d\"\nlistener \"tcp\" { address = \"127.0.0.1:0\" cluster_address = \"127.0.0.1:%d\" tls_disable = 1 }\n", tls, tls)
	n := newNode(t, dir, listener+file)
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	for i := range 300 {
		n.must("PUT", fmt.Sprintf("secret/data/many/%d", i), map[string]any{"data": map[string]any{"n": fmt.Sprint(i)}})
	}
	n.must("PUT", "secret/data/odd ü", map[string]any{"data": map[string]any{"n": "odd"}})
	stop := func() {
		n.signal(syscall.SIGTERM)
		if code := n.ended(); code != 0 {
			t.Fatalf("the server ends with %d", code)
		}
	}
	if out, code := migrate(t, dir, file, "storage \"file\" {\n  path = \"other\"\n}\n"); code != 2 || !strings.Contains(out, "in use") {
		t.Errorf("with a server on the source: %d %s", code, out)
	}
	stop()
	at := file
	for i, next := range []string{
		postgresStanza(pg.NewDatabase(), ""),
		"storage \"raft\" {\n  path = \"raft\"\n  node_id = \"one\"\n}\n",
		mysqlStanza("storage", maria, ""),
		fmt.Sprintf("storage \"etcd\" {\n  address = %q\n  path = %q\n}\n", e.Address(), e.NewPath()),
		s3Stanza("moved", bucket),
		"storage \"file\" {\n  path = \"back\"\n}\n",
	} {
		out, code := migrate(t, dir, at, next)
		if code != 0 || !strings.Contains(out, "Success! All of the keys have been migrated") {
			t.Fatalf("migration %d: %d %s", i, code, out)
		}
		if out, code := migrate(t, dir, at, next); code != 2 || !strings.Contains(out, "is initialised: nothing is written over it") {
			t.Errorf("onto what is there: %d %s", code, out)
		}
		at = next
		n.config = listener + at
		n.start()
		n.unseal()
		for i := range 300 {
			if a := n.get(fmt.Sprintf("secret/data/many/%d", i)); a.text("data", "data", "n") != fmt.Sprint(i) {
				t.Fatalf("secret %d after the migration to %s: %d %v", i, at, a.code, a.body)
			}
		}
		if a := n.get("secret/data/odd%20%C3%BC"); a.text("data", "data", "n") != "odd" {
			t.Errorf("an odd name: %d %v", a.code, a.body)
		}
		if strings.Contains(at, bucket) { // which cannot tell whether a server lives
		} else if out, code := migrate(t, dir, at, "storage \"file\" {\n  path = \"never\"\n}\n"); code != 2 || !strings.Contains(out, "use") {
			t.Errorf("with a server on the source: %d %s", code, out)
		}
		n.must("PUT", "secret/data/more", map[string]any{"data": map[string]any{"n": fmt.Sprint(i)}})
		stop()
	}
}

// TestMigrateGoesOn breaks a copy off and goes on with it.
func TestMigrateGoesOn(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	dir := t.TempDir()
	file := "storage \"file\" {\n  path = \"data\"\n}\n"
	n := newNode(t, dir, "disable_mlock = true\n"+file+plainListener)
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for i := range 1000 {
		n.must("PUT", fmt.Sprintf("secret/%03d", i), map[string]any{"n": fmt.Sprint(i)})
	}
	n.signal(syscall.SIGTERM)
	n.ended()
	url := pg.NewDatabase()
	to := postgresStanza(url, "")
	// A trigger of the table's owner breaks the copy off.
	pg.Exec(url, `CREATE TABLE vault_kv_store (parent_path TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA, PRIMARY KEY (path, key));
CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN IF (SELECT count(*) FROM vault_kv_store) > 600 THEN RAISE 'it is full'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE TRIGGER refuse BEFORE INSERT ON vault_kv_store EXECUTE FUNCTION refuse()`)
	out, code := migrate(t, dir, file, to)
	_, rest, found := strings.Cut(out, "To go on from there: -start='")
	if code != 2 || !found || !strings.Contains(out, "it is full") {
		t.Fatalf("a copy that is broken off: %d %s", code, out)
	}
	start, _, _ := strings.Cut(rest, "'")
	pg.Exec(url, "DROP TRIGGER refuse ON vault_kv_store")
	if out, code := migrate(t, dir, file, to); code != 2 || !strings.Contains(out, "the target is not empty") {
		t.Errorf("anew onto a part: %d %s", code, out)
	}
	half := newNodeOf(t, t.TempDir(), "disable_mlock = true\n"+to+plainListener)
	half.start()
	if a, err := half.call(t.Context(), "PUT", "sys/init", "", map[string]any{"secret_shares": 1, "secret_threshold": 1}); err != nil || a.code < 400 {
		t.Errorf("init of a part: %d %v, %v", a.code, a.body, err)
	}
	half.signal(syscall.SIGTERM)
	half.ended()
	if out, code := migrate(t, dir, file, to, "-start="+start); code != 0 {
		t.Fatalf("from %q on: %d %s", start, code, out)
	}
	n.config = "disable_mlock = true\n" + to + plainListener
	n.start()
	n.unseal()
	for i := range 1000 {
		if a := n.get(fmt.Sprintf("secret/%03d", i)); a.text("data", "n") != fmt.Sprint(i) {
			t.Fatalf("secret %d: %d %v", i, a.code, a.body)
		}
	}
}
