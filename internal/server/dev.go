package server

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"syscall"

	"arca/internal/api"
	"arca/internal/builtin"
	"arca/internal/core"
	"arca/internal/seal"
	"arca/internal/storage/pebble"
)

// Run is `server`.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("server", flag.ContinueOnError)
	dev := fs.Bool("dev", false, "")
	root := fs.String("dev-root-token-id", "", "")
	addr := fs.String("dev-listen-address", "127.0.0.1:8200", "")
	fs.Bool("dev-no-store-token", false, "")
	if err := fs.Parse(args); err != nil || !*dev {
		return 1
	}
	if err := runDev(ctx, *root, *addr, errOut); err != nil {
		fmt.Fprintln(errOut, err)
		return 1
	}
	return 0
}

func runDev(ctx context.Context, root, addr string, errOut io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(errOut, nil))
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		return err
	}
	var cat *builtin.Catalog
	c, err := core.New(core.Config{Backend: b, StorageType: "inmem", Log: log, Catalog: func(c *core.Core) core.Catalog {
		cat = builtin.New(c)
		return cat
	}})
	if err != nil {
		return err
	}
	cat.Bind(c)
	ini, err := c.SealManager().Init(ctx, seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		return err
	}
	if _, err := c.SealManager().Unseal(ctx, ini.Shares[0], false); err != nil {
		return err
	}
	if _, err := c.DevSetup(ctx, string(ini.RootToken), root, true); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: api.New(api.Config{Core: c, Log: log})}
	go func() { <-ctx.Done(); srv.Close() }()
	_ = srv.Serve(l)
	return c.Close()
}
