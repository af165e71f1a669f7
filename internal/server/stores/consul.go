package stores

import (
	"context"
	"log/slog"
	"os"

	api "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/storage/consul"
	"arca/internal/storage/remote"
)

func consulConfig(o *options) (consul.Config, error) {
	if mode := o.text("consistency_mode"); mode != "" && mode != "default" && mode != "strong" {
		return consul.Config{}, errs.New(errs.Invalid, "consistency_mode must be default or strong, not %q; all that is read is as new as what was acknowledged", mode)
	}
	o.duration("lock_wait_time") // read and not needed: nobody waits in Consul for a lock
	return consul.Config{
		API:  api.Config{Options: o.s.Options, Getenv: os.Getenv, Conns: o.number("max_parallel")},
		Path: o.text("path"), Session: o.duration("session_ttl"),
	}, o.err
}

func openConsul(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
	cfg, err := consulConfig(o)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	if cfg.Dir, err = copyDir(log); err != nil {
		return nil, errs.New(errs.Unavailable, "make a folder for the local copy: %w", err)
	}
	return consul.Open(ctx, cfg)
}

func lockConsul(ctx context.Context, o *options) (remote.Lock, error) {
	cfg, err := consulConfig(o)
	if err != nil {
		return nil, err
	}
	return consul.OpenLock(ctx, cfg)
}
