// Arca is a secrets server and its command line. Called as arca or vault it is
// compatible with HashiCorp Vault.
package main

import (
	"context"
	"os"
	"path/filepath"

	"arca/internal/cli"
	"arca/internal/server"
	"arca/internal/server/diagnose"
)

func main() {
	for name, value := range cli.Synonyms(os.Environ()) {
		_ = os.Setenv(name, value) // fails for malformed names only, which come from the environment itself
	}
	os.Exit(cli.Run(context.Background(), cli.Config{
		Name:     filepath.Base(os.Args[0]),
		Args:     os.Args[1:],
		Env:      os.Environ(),
		Stdio:    cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Server:   runServer,
		Diagnose: runDiagnose,
	}))
}

func runServer(ctx context.Context, args []string, stdio cli.Stdio) int {
	return server.Run(ctx, args, server.Env{Out: stdio.Out, Err: stdio.Err, Getenv: os.Getenv})
}

func runDiagnose(_ context.Context, args []string, stdio cli.Stdio) int {
	return diagnose.Command(args, os.Getenv, stdio.Out, stdio.Err)
}
