//go:build linux

package mlock

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const child = "ARCA_TEST_MLOCK"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		if err := Lock(); err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		sink = make([]byte, 64<<20) // locked memory still grows
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var sink []byte

// S0-11: with the right, memory is locked.
func TestLock(t *testing.T) {
	t.Parallel()
	if err := Check(); err != nil {
		t.Skip("this process may not lock memory")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// S0-11, S3-62: without the right, the error says three ways to mend it.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"sudo setcap cap_ipc_lock=+ep " + os.Args[0], "LimitMEMLOCK=infinity", "disable_mlock = true"} {
		if !strings.Contains(help(), want) {
			t.Errorf("the help lacks %q:\n%s", want, help())
		}
	}
}
