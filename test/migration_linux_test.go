package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"arca/internal/arcatest/database"
)

// A frozenDisk is a file system that can be made to hang: whoever writes to it waits.
type frozenDisk struct {
	t      *testing.T
	dir    string
	frozen bool
}

func newFrozenDisk(t *testing.T) *frozenDisk {
	t.Helper()
	dir := t.TempDir()
	d := &frozenDisk{t: t, dir: filepath.Join(dir, "disk")}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, d.dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("a disk that hangs needs the right to mount: %s: %v\n%s", argv[0], err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, 0); err != nil {
			_ = syscall.Unmount(d.dir, 2) // MNT_DETACH: somebody looks at it still
		}
	})
	return d
}

func (d *frozenDisk) run(how string) {
	d.t.Helper()
	if out, err := exec.Command("fsfreeze", how, d.dir).CombinedOutput(); err != nil {
		d.t.Skipf("fsfreeze %s: %v\n%s", how, err, out)
	}
}

func (d *frozenDisk) freeze() {
	d.t.Helper()
	d.run("-f")
	d.frozen = true
	d.t.Cleanup(d.thaw) // before servers are ended that were started before: they wait
}

func (d *frozenDisk) thaw() {
	if d.frozen {
		d.run("-u")
		d.frozen = false
	}
}

// TestTargetDiskHangs has the disk of the target hang: the switch gives up, writes go on to the old storage, and another target will do.
func TestTargetDiskHangs(t *testing.T) {
	t.Parallel()
	disk := newFrozenDisk(t)
	n := newNode(t, t.TempDir(), "disable_mlock = true\nstorage \"file\" {\n  path = \"data\"\n}\n"+plainListener)
	base := n.config
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	n.must("PUT", "secret/first", map[string]any{"n": "1"})
	n.goesTo(fmt.Sprintf("storage \"file\" {\n  path = %q\n}\n", filepath.Join(disk.dir, "new")))
	if out, code := n.migration("start"); code != 0 {
		t.Fatal(out)
	}
	n.migrationIs("following", "")
	disk.freeze()
	done := n.switching()
	if s := <-done; s.code == 0 || !strings.Contains(s.out, "does not return from a call") {
		t.Errorf("switched: %d %s", s.code, s.out)
	}
	n.must("PUT", "secret/more", map[string]any{"n": "2"})
	n.migrationIs("failed", "does not return from a call")
	n.config = base
	stanza := newFileStanza(t)
	n.goesTo(stanza)
	if out, code := n.migration("start"); code != 0 {
		t.Fatal(out)
	}
	n.migrationIs("following", "")
	if s := <-n.switching(); s.code != 0 {
		t.Errorf("to another target: %s", s.out)
	}
	disk.thaw()
	n.signal(syscall.SIGTERM)
	n.ended()
	next := onTarget(t, n, stanza)
	next.unseal()
	for _, key := range []string{"secret/first", "secret/more"} {
		if a := next.get(key); a.code != 200 {
			t.Errorf("%s: %d %v", key, a.code, a.body)
		}
	}
}

// TestSwitchLoneDiskStalls has the disk of a cluster of one node stand still when it is marked: it is found out that the mark counts, and the
// target gets all.
func TestSwitchLoneDiskStalls(t *testing.T) {
	t.Parallel()
	disk := newFrozenDisk(t)
	pg := database.NewPostgres(t)
	stanza := postgresStanza(pg.NewDatabase(), "")
	n := raftNode(t, "node1")
	n.config = strings.Replace(n.config, `"data"`, fmt.Sprintf("%q", filepath.Join(disk.dir, "data")), 1)
	n.start()
	n.initialise()
	n.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	n.must("PUT", "secret/first", map[string]any{"n": "1"})
	n.goesTo(stanza)
	if out, code := n.migration("start"); code != 0 {
		t.Fatal(out)
	}
	n.migrationIs("following", "")
	goOn := hang(t, pg) // so that the switch waits
	done := n.switching()
	await(t, "the switch to be under way", func() bool {
		return strings.Contains(fmt.Sprint(n.get("sys/in-flight-req").body), "sys/storage/migration/switch")
	})
	disk.freeze()
	goOn()
	await(t, "the mark to be in doubt", func() bool { return strings.Contains(n.output(), "is not known yet") })
	disk.thaw()
	if s := <-done; s.code != 0 {
		t.Errorf("the switch: %s", s.out)
	}
	await(t, "the node to be sealed", func() bool {
		return strings.Contains(fmt.Sprint(n.get("sys/seal-status").body), "this storage was migrated to postgresql")
	})
	next := onTarget(t, n, stanza)
	next.unseal()
	if a := next.get("secret/first"); a.code != 200 {
		t.Errorf("what was there: %d %v", a.code, a.body)
	}
}
