// Package server is `arca server`: it brings configuration, storage, core and
// listeners together, runs them, and stops them cleanly.
//
// Its life: flags and files are read (internal/config), memory is locked, the
// storage opened, the core made, the listeners opened; then it says that it
// has started and waits for signals. SIGINT and SIGTERM end it with status 0,
// after the requests inside have ended or three seconds have passed; SIGHUP
// reads certificates, log level, log file and audit files again; SIGUSR2
// writes the stacks of all goroutines to standard error.
//
// `-dev` is the same server with a configuration of its own, in memory,
// initialised and unsealed.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
)

// An Env is what a run of the server touches.
type Env struct {
	Out, Err io.Writer
	Getenv   func(string) string
}

// Run runs the server until a signal or ctx ends it, and returns the exit
// code: 0 after a clean stop, 1 when it could not start.
func Run(ctx context.Context, args []string, env Env) int {
	o, err := parseFlags(args, env)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return fail(env, err)
	}
	signals, stop := listen()
	defer stop()
	n, err := open(ctx, o, env)
	if err != nil {
		return fail(env, err)
	}
	if o.testVerifyOnly {
		n.close()
		return 0
	}
	return n.run(ctx, signals)
}

func fail(env Env, err error) int {
	fmt.Fprintln(env.Err, "Error starting the server:", err)
	return 1
}
