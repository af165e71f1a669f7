package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"arca/internal/arcatest"
)

// TestLogThatNobodyReads serves, and ends when it is told to, though standard error is a
// pipe that is full; and though its reader is gone.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		fill(t, int(w.Fd()))
		if gone {
			_ = r.Close() // the reader's end
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		address := fmt.Sprintf("127.0.0.1:%d", arcatest.FreePort(t))
		put(t, filepath.Join(dir, "vault.hcl"), "storage \"inmem\" {}\nlistener \"tcp\" { address = \""+address+"\" tls_disable = true }\ndisable_mlock = true\n")
		p := &process{t: t, cmd: exec.Command(exe, "-config=vault.hcl", "-log-level=trace"), done: make(chan struct{})}
		p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p, w
		p.cmd.Env = []string{asServer + "=1", "HOME=" + dir, "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH")}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close() // the process has it
		go func() { _ = p.cmd.Wait(); close(p.done) }()
		t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done }) // it may have ended
		c := plain()
		await(t, "the server", func() bool {
			res, err := c.Get("http://" + address + "/v1/sys/health") //nolint:noctx // until it is there
			if err != nil {
				return false
			}
			_ = res.Body.Close() // read only
			return true
		})
		if code, _, _ := call(t, c, http.MethodPut, "http://"+address+"/v1/sys/init", "", `{"secret_shares":1,"secret_threshold":1}`); code != http.StatusOK {
			t.Errorf("gone %v, init: %d", gone, code)
		}
		p.signal(syscall.SIGTERM)
		if code := p.ended(); code != 0 {
			t.Errorf("gone %v: it ended with %d", gone, code)
		}
	}
}

// fill leaves no room in a pipe.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.SetNonblock(fd, false) }() // as it was
	for size := 4096; size > 0; {
		_, err := syscall.Write(fd, make([]byte, size))
		switch {
		case errors.Is(err, syscall.EAGAIN):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}
