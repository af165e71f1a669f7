// Package migrate is the command `operator migrate`: it copies all entries of one storage, encrypted as they are, into another
// one, while no server uses either.
//
// What makes a store an initialised one is copied last: until then a server takes the target for an empty one that it may
// not initialise, and a copy that was broken off can be gone on with (-start).
package migrate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"arca/internal/config"
	"arca/internal/logging"
)

// Exit codes, as Vault's.
const (
	exitOK      = 0
	exitUsage   = 1
	exitFailure = 2
)

const usage = `Usage: vault operator migrate -config=FILE [options]

  Copies all entries of one storage into another one. No server may use either
  of them meanwhile; the source is not changed, and the target must be empty.
  Entries stay encrypted as they are: the same keys open the copy.

  The file has two stanzas, each as in a server's configuration:

      storage_source "file" {
        path = "/var/lib/vault"
      }
      storage_destination "postgresql" {
        connection_url = "postgres://vault@db/vault"
      }

  Environment variables that count more than a server's stanza, such as
  VAULT_PG_CONNECTION_URL, are those of the source.

  storage "raft" as the target needs a cluster_addr besides, and begins as a
  cluster of one node. As the source it must be the only node of its cluster.

  A copy that was broken off says from which key on it can be gone on with.

  To go over without stopping the servers for as long as that takes, see
  "vault operator migration".

Options:

`

// Command runs the command and returns the exit code.
func Command(ctx context.Context, args []string, getenv func(string) string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("operator migrate", flag.ContinueOnError)
	fs.SetOutput(errOut)
	file := fs.String("config", "", "The `file` that names the two storages.")
	start := fs.String("start", "", "Copy the entries from this `key` on: the ones before it are in the target already.")
	level := fs.String("log-level", "warn", "trace, debug, info, warn or error.")
	undo := fs.Bool("reset", false, "Give back a source that was marked as migrated (operator migration switch) when the last step was not done.")
	lost := fs.Bool("target-lost", false, "With -reset: the target is lost, and no server runs or will be started on it: give the source back without looking at it.")
	fs.Int("max-parallel", 0, "Accepted: entries are copied in large batches.")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), usage)
		fs.PrintDefaults()
	}
	if slices.Contains(args, "-h") || slices.Contains(args, "-help") || slices.Contains(args, "--help") {
		fs.SetOutput(out) // who asks for it wants to read it
		fs.Usage()
		return exitOK
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case fs.NArg() > 0:
		fmt.Fprintf(errOut, "There are arguments that mean nothing here: %s\n", strings.Join(fs.Args(), " "))
		return exitUsage
	case *lost && !*undo:
		fmt.Fprintln(errOut, "-target-lost says something only beside -reset")
		return exitUsage
	case *file == "":
		fmt.Fprintln(errOut, "Name the file with the two storages: -config=FILE")
		return exitUsage
	}
	log, err := logging.New(logging.Config{Level: *level, Out: errOut})
	if err != nil {
		fmt.Fprintln(errOut, err)
		return exitUsage
	}
	defer func() { _ = log.Close() }() // nowhere to report it
	cfg, warnings, err := config.LoadMigration(*file, getenv)
	if err != nil {
		fmt.Fprintf(errOut, "Error loading configuration file %s: %v\n", *file, err)
		return exitUsage
	}
	for _, w := range warnings {
		fmt.Fprintf(errOut, "WARNING: %s: %s\n", w.Pos, w.Text)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *undo {
		return runReset(ctx, cfg, *lost, log.Named("migrate"), out, errOut)
	}
	return run(ctx, cfg, *start, log.Named("migrate"), out, errOut)
}

func run(ctx context.Context, cfg *config.Migration, start string, log *slog.Logger, out, errOut io.Writer) int {
	c := &copying{start: start, out: out}
	err := c.run(ctx, cfg, log)
	if err == nil {
		fmt.Fprintf(out, "Success! All of the keys have been migrated: %d.\n", c.count)
		return exitOK
	}
	fmt.Fprintf(errOut, "Error migrating: %v\n", err)
	if c.last != "" {
		fmt.Fprintf(errOut, "%d keys were copied. To go on from there: -start='%s'\n", c.count, resumable(c.last))
	}
	return exitFailure
}

func runReset(ctx context.Context, cfg *config.Migration, lost bool, log *slog.Logger, out, errOut io.Writer) int {
	was, err := reset(ctx, cfg, lost, log)
	switch {
	case err != nil:
		fmt.Fprintf(errOut, "Error resetting the migration lock: %v\n", err)
		if was {
			fmt.Fprintln(errOut, "The lock was reset all the same: servers can be started on the source again. Empty the target.")
		}
		return exitFailure
	case !was:
		fmt.Fprintln(out, "Success! There is no migration lock to reset.")
	default:
		fmt.Fprintln(out, "Success! The migration lock was reset: servers can be started on the source again. Empty the target.")
	}
	return exitOK
}

// resumable is a key not behind last that a shell takes as it is.
func resumable(last string) string {
	for i, b := range []byte(last) {
		if b < ' ' || b == '\'' || b >= 0x7f {
			return last[:i]
		}
	}
	return last
}
