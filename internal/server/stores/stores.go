// Package stores makes the databases that storage stanzas name. All errors name the stanza's place in its file.
package stores

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/storage/consul"
	"arca/internal/storage/etcd"
	"arca/internal/storage/mysql"
	"arca/internal/storage/objects"
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
	loads  time.Duration // how long a start may take that reads all there is; 0 for one that does not
	share  bool          // nodes share the data unless ha_enabled says otherwise
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
	case "mysql":
		return kind{
			open: func(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
				return openMySQL(ctx, o, log)
			},
			lock: func(ctx context.Context, o *options, log *slog.Logger) (remote.Lock, error) {
				return lockMySQL(ctx, o, log)
			},
			limits: storage.Config{MaxKeyBytes: mysql.MaxKeyBytes},
		}, true
	case "etcd":
		return kind{
			open:   func(ctx context.Context, o *options, _ *slog.Logger) (remote.Driver, error) { return openEtcd(ctx, o) },
			lock:   func(ctx context.Context, o *options, _ *slog.Logger) (remote.Lock, error) { return lockEtcd(ctx, o) },
			limits: storage.Config{MaxKeyBytes: etcd.MaxKeyBytes, MaxBatchOps: etcd.MaxOps, MaxBatchBytes: etcd.MaxBytes / 2},
		}, true
	case "consul":
		return kind{
			open:   openConsul,
			lock:   func(ctx context.Context, o *options, _ *slog.Logger) (remote.Lock, error) { return lockConsul(ctx, o) },
			limits: storage.Config{MaxBatchOps: consul.MaxOps, MaxBatchBytes: consul.MaxBytes}, loads: loadTime, share: true,
		}, true
	case "s3":
		return kind{open: openS3, limits: storage.Config{MaxBatchOps: objects.MaxOps, MaxBatchBytes: objects.MaxBytes}, loads: loadTime}, true
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
	if k, _ := kinds(s.Type); k.share && o.text("ha_enabled") == "" {
		return true, nil
	}
	ha := o.boolean("ha_enabled")
	return ha, o.err
}

// Open connects with the database of a stanza.
func Open(ctx context.Context, s *config.Storage, log *slog.Logger) (remote.Driver, error) {
	k, ok := kinds(s.Type)
	if !ok {
		return nil, errs.New(errs.Invalid, "%s: storage %q is no database", s.Pos, s.Type)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.loads, openTime))
	defer cancel()
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
	if !ok || k.lock == nil {
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

func (o *options) duration(name string) time.Duration {
	text := o.text(name)
	if text == "" {
		return 0
	}
	d, err := param.ParseDuration(text)
	if err == nil && d < 0 {
		err = errs.New(errs.Invalid, "it cannot be negative")
	}
	if err != nil {
		o.fail(name, text, err)
	}
	return d
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

func mysqlConfig(o *options, log *slog.Logger) (mysql.Config, error) {
	cfg := mysql.Config{
		Address: o.text("address"), Database: o.text("database"), Table: o.text("table"), LockTable: o.text("lock_table"),
		Username: o.text("username"), Password: o.text("password"), CAFile: o.text("tls_ca_file"), MaxOpen: o.number("max_parallel"),
		MaxIdle: o.number("max_idle_connections"), MaxLifetime: o.duration("max_connection_lifetime"), Log: log,
	}
	if cfg.CAFile == "" && !o.boolean("plaintext_credential_transmission") && !strings.HasPrefix(cfg.Address, "/") && cfg.Address != "" && !isLoopback(cfg.Address) {
		log.Warn("the connection with MySQL is not encrypted: set tls_ca_file, or plaintext_credential_transmission if that is meant", "address", cfg.Address)
	}
	return cfg, o.err
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func openMySQL(ctx context.Context, o *options, log *slog.Logger) (remote.Driver, error) {
	cfg, err := mysqlConfig(o, log)
	if err != nil {
		return nil, err
	}
	return mysql.Open(ctx, cfg)
}

func lockMySQL(ctx context.Context, o *options, log *slog.Logger) (remote.Lock, error) {
	cfg, err := mysqlConfig(o, log)
	if err != nil {
		return nil, err
	}
	return mysql.OpenLock(ctx, cfg)
}

func etcdConfig(o *options) (etcd.Config, error) {
	if api := o.text("etcd_api"); api != "" && api != "v3" && api != "3" {
		return etcd.Config{}, errs.New(errs.Unsupported, "etcd_api %q is not there: only v3 is", api)
	}
	if o.text("discovery_srv") != "" {
		return etcd.Config{}, errs.New(errs.Unsupported, "discovery_srv is not there: name the nodes in address, parted by commas")
	}
	return etcd.Config{
		Address: o.text("address"), Path: o.text("path"), Username: o.text("username"), Password: o.text("password"),
		CAFile: o.text("tls_ca_file"), CertFile: o.text("tls_cert_file"), KeyFile: o.text("tls_key_file"),
	}, o.err
}

func openEtcd(ctx context.Context, o *options) (remote.Driver, error) {
	cfg, err := etcdConfig(o)
	if err != nil {
		return nil, err
	}
	return etcd.Open(ctx, cfg)
}

func lockEtcd(ctx context.Context, o *options) (remote.Lock, error) {
	cfg, err := etcdConfig(o)
	if err != nil {
		return nil, err
	}
	return etcd.OpenLock(ctx, cfg)
}
