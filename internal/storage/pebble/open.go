package pebble

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// Config says where a Store is kept.
type Config struct {
	Dir        string       // the folder, created if absent; may be relative
	FS         vfs.FS       // nil is the operating system's
	Memory     bool         // keep all in memory; Dir and FS are ignored
	CacheBytes int64        // of the cache of blocks read from files; default 16 MB
	NoSync     bool         // Apply returns before its batch is durable: for a state machine that has a log elsewhere
	Logger     *slog.Logger // nil discards
}

// Open opens the store, or makes it.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 16 << 20
	}
	if cfg.Memory {
		cfg.FS, cfg.Dir, cfg.NoSync = vfs.NewMem(), "arca", true
	}
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, errs.New(errs.Unavailable, "create the storage folder: %w", err)
	}
	f := &fault{log: cfg.Logger}
	db, err := pebble.Open(cfg.Dir, &pebble.Options{
		FS: cfg.FS, Logger: f, CacheSize: cfg.CacheBytes, MemTableSize: 8 << 20,
		FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open the storage folder %q: %w", cfg.Dir, err)
	}
	s := &Store{db: db, write: pebble.Sync, fault: f, cfg: cfg}
	if cfg.NoSync {
		s.write = pebble.NoSync
	}
	return s, nil
}
