package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	run := func() {
		os.Exit(Run(context.Background(), Config{
			Name: filepath.Base(os.Args[0]), Args: os.Args[1:], Env: os.Environ(),
			Stdio: Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		}))
	}
	testscript.Main(m, map[string]func(){"vault": run, "arca": run})
}

// TestScripts runs testdata/script: commands that need no server.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each process ends a second late under -race
			return nil
		},
	})
}
