// Arca is a secrets server and its command line. Called as arca or vault it is
// compatible with HashiCorp Vault; called as kes, or as "arca kes", with MinIO's
// KES.
package main

import (
	"context"
	"os"
	"path/filepath"

	"arca/internal/cli"
	kescli "arca/internal/kes/cli"
	"arca/internal/server"
	"arca/internal/server/diagnose"
)

func main() {
	if args, ok := isKES(os.Args); ok {
		os.Exit(kescli.Run(context.Background(), kescli.Config{
			Args: args, Env: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		}))
	}
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

// isKES reports whether KES's command line is meant, and returns its arguments.
func isKES(args []string) ([]string, bool) {
	switch {
	case len(args) > 0 && filepath.Base(args[0]) == "kes":
		return args[1:], true
	case len(args) > 1 && args[1] == "kes":
		return args[2:], true
	}
	return nil, false
}

func runServer(ctx context.Context, args []string, stdio cli.Stdio) int {
	return server.Run(ctx, args, server.Env{Out: stdio.Out, Err: stdio.Err, Getenv: os.Getenv})
}

func runDiagnose(_ context.Context, args []string, stdio cli.Stdio) int {
	return diagnose.Command(args, os.Getenv, stdio.Out, stdio.Err)
}
