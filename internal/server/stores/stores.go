// Package stores makes the databases that storage stanzas name. All errors name the stanza's place in its file.
package stores

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/postgres"
	"arca/internal/storage/remote"
)

// openTime bounds how long a start waits for a database.
const openTime = 30 * time.Second

// A kind is a type of stanza.
type kind struct {
	open func(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error)
	lock func(ctx context.Context, o *options, log *slog.Logger) (remote.Lock, error)
	// limits bound what a transaction writes.
	limits storage.Config
}

func kinds(typ string) (kind, bool) {
	switch typ {
	case "postgresql":
		return kind{
			open: func(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
				return openPostgres(ctx, o, log)
			},
			lock: func(ctx context.Context, o *options, log *slog.Logger) (remote.Lock, error) {
				return lockPostgres(ctx, o, log)
			},
			limits: storage.Config{MaxKeyBytes: postgres.MaxKeyBytes, KeyLen: postgres.KeyLen},
		}, true
	}
	return kind{}, false
}

// Known reports whether a type of storage is a database.
func Known(typ string) bool {
	_, ok := kinds(typ)
	return ok
}

// Limits are the bounds of a DB over a database.
func Limits(s *config.Storage) storage.Config {
	k, _ := kinds(s.Type)
	return k.limits
}

// Shared reports whether a stanza wants several nodes to share its database.
func Shared(s *config.Storage) (bool, error) {
	o := options{s: s}
	ha := o.boolean("ha_enabled")
	return ha, o.err
}

// Open connects with the database of a stanza.
func Open(ctx context.Context, s *config.Storage, log *slog.Logger) (remote.Driver, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	k, ok := kinds(s.Type)
	if !ok {
		return nil, errs.New(errs.Invalid, "%s: storage %q is no database", s.Pos, s.Type)
	}
	o := &options{s: s}
	d, err := k.open(ctx, o, log)
	if err != nil {
		return nil, o.wrap(err)
	}
	return d, nil
}

// OpenLock connects with the lock of a stanza.
func OpenLock(ctx context.Context, s *config.Storage, log *slog.Logger) (remote.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	k, ok := kinds(s.Type)
	if !ok {
		return nil, errs.New(errs.Invalid, "%s: storage %q has no lock for nodes that share data", s.Pos, s.Type)
	}
	o := &options{s: s}
	l, err := k.lock(ctx, o, log)
	if err != nil {
		return nil, o.wrap(err)
	}
	return l, nil
}

// options reads a stanza's values; it keeps the first error.
type options struct {
	s   *config.Storage
	err error
}

func (o *options) wrap(err error) error {
	return errs.New(errs.KindOf(err), "%s: storage %q: %w", o.s.Pos, o.s.Type, err)
}

func (o *options) fail(name, text string, err error) {
	if o.err == nil {
		o.err = errs.New(errs.Invalid, "%s is %q: %w", name, text, err)
	}
}

func (o *options) text(name string) string { return o.s.Options[name] }

func (o *options) number(name string) int {
	text := o.text(name)
	if text == "" {
		return 0
	}
	v, err := strconv.Atoi(text)
	if err == nil && (v < 0 || v > 1<<20) {
		err = errs.New(errs.Invalid, "it must lie between 0 and %d", 1<<20)
	}
	if err != nil {
		o.fail(name, text, err)
	}
	return v
}

func (o *options) boolean(name string) bool {
	text := o.text(name)
	if text == "" {
		return false
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		o.fail(name, text, errs.New(errs.Invalid, "it must be true or false"))
	}
	return v
}

func postgresConfig(o *options, log *slog.Logger) (postgres.Config, error) {
	cfg := postgres.Config{
		URL: o.text("connection_url"), Table: o.text("table"), HATable: o.text("ha_table"), MaxOpen: o.number("max_parallel"),
		MaxIdle: o.number("max_idle_connections"), SkipCreate: o.boolean("skip_create_table"), Log: log,
	}
	if mode := o.text("auth_mode"); mode != "" {
		return cfg, errs.New(errs.Unsupported, "auth_mode %q is not there: give user and password in connection_url", mode)
	}
	if o.err != nil {
		return cfg, o.err
	}
	return cfg, postgres.CheckURL(cfg.URL)
}

func openPostgres(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
	cfg, err := postgresConfig(o, log)
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, cfg)
}

func lockPostgres(ctx context.Context, o *options, log *slog.Logger) (remote.Lock, error) {
	cfg, err := postgresConfig(o, log)
	if err != nil {
		return nil, err
	}
	return postgres.OpenLock(ctx, cfg)
}
