// Arca is a secrets server and its command line. Called as arca or vault it is
// compatible with HashiCorp Vault.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"arca/internal/cli"
)

func main() {
	for name, value := range cli.Synonyms(os.Environ()) {
		_ = os.Setenv(name, value) // fails for malformed names only, which come from the environment itself
	}
	os.Exit(cli.Run(context.Background(), cli.Config{
		Name:   filepath.Base(os.Args[0]),
		Args:   os.Args[1:],
		Env:    os.Environ(),
		Stdio:  cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Server: runServer,
	}))
}

// runServer is replaced by internal/server when that exists.
func runServer(_ context.Context, _ []string, stdio cli.Stdio) int {
	_, _ = fmt.Fprintln(stdio.Err, "this build has no server yet")
	return 1
}
