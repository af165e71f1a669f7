package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Two servers never have the same storage open: the second says why it ends,
// the first goes on, and the storage is free when that was killed.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), fileStorage)
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	second := launch(t, n.dir, "-config=vault.hcl")
	if code := second.ended(); code != 1 || !strings.Contains(second.output(), "is in use by another process") {
		t.Errorf("the second: exit code %d\n%s", code, second.output())
	}
	n.must("POST", "kv/a", map[string]any{"v": "1"})
	n.kill()
	n.start()
	n.unseal()
	if a := n.get("kv/a"); a.text("data", "v") != "1" {
		t.Errorf("got %+v", a)
	}
}

// SIGTERM and SIGINT in the middle of writes: what was acknowledged is there,
// and the server ends with 0.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), fileStorage)
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	for round, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		written := make([]int, 8) // acknowledged, by each writer
		var writers sync.WaitGroup
		begun := make(chan struct{}, len(written))
		for w := range written {
			writers.Go(func() {
				for i := 0; ; i++ {
					a, err := n.call(t.Context(), "POST", fmt.Sprintf("kv/%d/%d/%d", round, w, i), n.root, map[string]any{"v": "1"})
					if err != nil {
						return // the server is gone
					}
					switch {
					case a.code == 204:
						written[w]++
					case a.code != 503:
						t.Errorf("status %d: %v", a.code, a.body)
						return
					}
					if i == 50 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range written {
			<-begun
		}
		n.signal(s)
		if code := n.ended(); code != 0 {
			t.Errorf("%v: exit code %d", s, code)
		}
		writers.Wait()
		n.client.CloseIdleConnections()
		n.start()
		n.unseal()
		for w, count := range written {
			keys, _ := n.get(fmt.Sprintf("kv/%d/%d?list=true", round, w)).dig("data", "keys").([]any)
			if len(keys) < count {
				t.Errorf("%v: %d of %d acknowledged writes are there", s, len(keys), count)
			}
		}
	}
}

// A full disk: writes are refused with a reason, reads go on, and when there is
// room again writes go on too. Nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	n := newNode(t, dir, fileStorage)
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	value := strings.Repeat("v", 64<<10)
	write := func(ctx context.Context, i int) answer {
		a, err := n.call(ctx, "POST", fmt.Sprintf("kv/%d", i), n.root, map[string]any{"v": value})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	written := 0
	var refused answer
	for ; refused.code == 0; written++ {
		if a := write(t.Context(), written); a.code != 204 {
			refused = a
			break
		}
		if written > 10_000 {
			t.Fatal("the disk does not fill")
		}
	}
	if text := fmt.Sprint(refused.body); refused.code/100 != 5 || !strings.Contains(text, "no space") && !strings.Contains(text, "full") {
		t.Errorf("refused with %d %s", refused.code, text)
	}
	if n.get("sys/health").code != 200 {
		t.Error("the server is no longer healthy")
	}
	look := func(when string) {
		t.Helper()
		for i := range written {
			if a := n.get(fmt.Sprintf("kv/%d", i)); a.text("data", "v") != value {
				t.Errorf("%s: kv/%d of %d is not there: %d", when, i, written, a.code)
				return
			}
		}
	}
	look("on the full disk")
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	await(t, "a write after room was made", func() bool { return write(t.Context(), written).code == 204 })
	written++
	look("after room was made")
	n.kill()
	n.start()
	n.unseal()
	look("after a restart")
}

// smallDisk mounts a small file system, which holds a file ballast that can be
// removed to make room.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m,mode=700"); err != nil {
		t.Skip("a small disk needs the right to mount: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_FORCE); err != nil {
			_ = syscall.Unmount(dir, 2) // MNT_DETACH: somebody looks at it still
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
