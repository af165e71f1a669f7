// Package consul keeps storage in Consul's key/value store, and takes locks there.
//
// Consul has neither ranges nor pages, and lists all that lies below a prefix at once; so what lies there is a log and now
// and then the whole state, as in a bucket (package objects), and not an entry for each of arca's.
package consul

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	api "arca/internal/consul"
	"arca/internal/errs"
	"arca/internal/storage/objects"
	"arca/internal/storage/remote"
)

const (
	// MaxOps and MaxBytes bound a batch: one that fits into a value is one request.
	MaxOps   = 4096
	MaxBytes = 256 << 10

	defaultPath  = "vault"
	defaultConns = 128
	// A record is read quickly here, and a state costs Consul's own log as much as it is long: so there are fewer of these.
	records = 20_000
)

// Config of a Driver and a Lock.
type Config struct {
	API     api.Config
	Path    string // what all keys begin with; "vault" if empty
	Session time.Duration
	Dir     string // folder for the local copy of a Driver; it is made, and removed by Close
	Log     *slog.Logger
}

// connect makes the client; sessions live for ttl.
func connect(cfg *Config) (s *kv, ttl time.Duration, err error) {
	path := strings.Trim(cmp.Or(cfg.Path, defaultPath), "/")
	parts := strings.Split(path, "/")
	if path == "" || slices.Contains(parts, ".") || slices.Contains(parts, "..") || strings.Contains(path, "//") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, 0, errs.New(errs.Invalid, "path %q is none for keys of Consul, such as vault", cfg.Path)
	}
	ttl = cmp.Or(cfg.Session, defaultTTL)
	if ttl < leastTTL || ttl > mostTTL {
		return nil, 0, errs.New(errs.Invalid, "session_ttl must lie between %s and %s", leastTTL, mostTTL)
	}
	cfg.API.Conns = cmp.Or(cfg.API.Conns, defaultConns)
	c, err := api.New(cfg.API)
	return &kv{c: c, path: path + "/"}, ttl, err
}

// A Driver is a remote.Driver. It is safe for concurrent use.
type Driver struct {
	*objects.Driver
	live *Lock // shows, while its session lives, that who has the fence does
	c    *api.Client
}

var (
	_ remote.Driver = (*Driver)(nil)
	_ remote.Lock   = (*Lock)(nil)
)

// Open reads what is stored.
func Open(ctx context.Context, cfg Config) (*Driver, error) { return openDriver(ctx, cfg, records, 0) }

// openDriver has states saved after so much.
func openDriver(ctx context.Context, cfg Config, records uint64, size int64) (*Driver, error) {
	s, ttl, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	if err := s.foreign(ctx); err != nil {
		return nil, err
	}
	d, err := objects.Open(ctx, objects.Config{Store: s, Dir: cfg.Dir, Log: cfg.Log, Records: records, Bytes: size})
	if err != nil {
		return nil, err
	}
	return &Driver{Driver: d, live: &Lock{kv: s, key: s.path + "live", ttl: ttl, sessions: map[string]string{}}, c: s.c}, nil
}

// Claim implements remote.Lock: the log has the fence, and a key without which nobody would know whether its holder lives.
func (d *Driver) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	h, err := d.Driver.Claim(ctx, c)
	if err != nil || h.ID != c.ID {
		return h, err
	}
	c.Steal = true // from whoever had the fence
	_, err = d.live.Claim(ctx, c)
	return h, err
}

// Renew implements remote.Lock. Whoever takes the fence from this node takes the key, too; what else it was lost by, it is made again.
func (d *Driver) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	h, err := d.Driver.Renew(ctx, c)
	if err != nil || h.ID != c.ID {
		return h, err
	}
	live, err := d.live.Renew(ctx, c)
	if err != nil || live.ID == c.ID {
		return h, err
	}
	if h, err = d.RenewAnew(ctx, c); err != nil || h.ID != c.ID {
		return h, err
	}
	_, err = d.live.Claim(ctx, c)
	return h, err
}

// Holder implements remote.Lock.
func (d *Driver) Holder(ctx context.Context) (remote.Holder, error) { return d.live.Holder(ctx) }

// Release implements remote.Lock.
func (d *Driver) Release(ctx context.Context, id string) error {
	return errors.Join(d.Driver.Release(ctx, id), d.live.Release(ctx, id))
}

// Close implements remote.Lock.
func (d *Driver) Close() error {
	err := d.Driver.Close()
	d.c.Close()
	return err
}

// foreign refuses a path that holds the data of another program: Vault's default path is ours.
func (s *kv) foreign(ctx context.Context) error {
	ours, err := s.list(ctx, s.path+"o/", "/")
	if err != nil || len(ours) > 0 {
		return err
	}
	theirs, err := s.list(ctx, s.path, "/")
	for _, key := range theirs {
		if key == s.path+"core/" {
			return errs.New(errs.Precondition, "the path %q holds the data of another server, Vault's for one, which arca cannot read: name another path", s.path)
		}
	}
	return err
}
