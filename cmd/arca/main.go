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
	"arca/internal/server/migrate"
	"arca/internal/server/recovery"
)

func main() {
	for name, value := range cli.Synonyms(os.Environ()) {
		_ = os.Setenv(name, value) // fails for malformed names only, which come from the environment itself
	}
	stdio := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	if filepath.Base(os.Args[0]) == "kes" {
		os.Exit(runKES(context.Background(), os.Args[1:], stdio))
	}
	os.Exit(cli.Run(context.Background(), cli.Config{
		Name:     filepath.Base(os.Args[0]),
		Args:     os.Args[1:],
		Env:      os.Environ(),
		Stdio:    stdio,
		Server:   runServer,
		Diagnose: runDiagnose,
		Migrate:  runMigrate,
		Recover:  runRecover,
		KES:      runKES,
	}))
}

func runKES(ctx context.Context, args []string, stdio cli.Stdio) int {
	return kescli.Run(ctx, kescli.Config{Args: args, Env: os.Environ(), In: stdio.In, Out: stdio.Out, Err: stdio.Err})
}

func runServer(ctx context.Context, args []string, stdio cli.Stdio) int {
	return server.Run(ctx, args, server.Env{Out: stdio.Out, Err: stdio.Err, Getenv: os.Getenv})
}

func runDiagnose(_ context.Context, args []string, stdio cli.Stdio) int {
	return diagnose.Command(args, diagnose.Env{Getenv: os.Getenv, Storage: server.CheckStorage, Out: stdio.Out, Err: stdio.Err})
}

func runMigrate(ctx context.Context, args []string, stdio cli.Stdio) int {
	return migrate.Command(ctx, args, os.Getenv, stdio.Out, stdio.Err)
}

func runRecover(ctx context.Context, args []string, stdio cli.Stdio) int {
	return recovery.Command(ctx, args, stdio.Out, stdio.Err)
}
