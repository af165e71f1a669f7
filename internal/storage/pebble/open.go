package pebble

import (
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// Config says where a Store is kept.
type Config struct {
	Dir        string       // the folder, created with mode 0700 if absent; may be relative
	FS         vfs.FS       // nil is the operating system's
	Memory     bool         // keep all in memory; Dir and FS are ignored
	CacheBytes int64        // of the cache of blocks read from files; default 16 MB
	NoSync     bool         // Apply returns before its batch is durable: for a state machine that has a log elsewhere
	Logger     *slog.Logger // nil discards

	patience time.Duration // in place of strainPatience, for tests
}

const (
	defaultCacheBytes = 16 << 20
	memTableBytes     = 8 << 20
	memTables         = 3
	l0Tables          = 8
	largestFileBytes  = 32 << 20
)

// Open opens the store in cfg.Dir, or makes one if the folder is absent or empty. Its errors are of kind Unavailable, when
// waiting or freeing something helps, or Invalid, when the folder is not a store that this version can open.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.CacheBytes <= 0 {
		cfg.CacheBytes = defaultCacheBytes
	}
	if cfg.Memory {
		cfg.FS, cfg.Dir, cfg.NoSync = vfs.NewMem(), "arca", true
	} else if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Dir == "" {
		return nil, errs.New(errs.Invalid, "storage needs a path to a folder")
	}
	dir := folder{fs: cfg.FS, path: cfg.Dir}
	isNew, err := dir.prepare()
	if err != nil {
		return nil, err
	}
	s := &Store{fault: newFault(cfg.Logger), dir: cfg.Dir}
	if cfg.patience > 0 {
		s.fault.patience = cfg.patience
	}
	s.space = newSpace(cfg.FS, cfg.Dir, s.fault)
	s.write = pebble.Sync
	if cfg.NoSync {
		s.write = pebble.NoSync
	}
	if err := s.open(&cfg, isNew); err != nil {
		return nil, dir.explain(err)
	}
	if isNew {
		if err := dir.finish(); err != nil {
			_ = s.db.Close() // the first error says what is wrong
			return nil, err
		}
	}
	return s, nil
}

func (s *Store) open(cfg *Config, isNew bool) (err error) {
	// Pebble panics on some damage that a disk can do.
	defer func() {
		if p := recover(); p != nil {
			cfg.Logger.Error("storage does not open", "panic", p, "stack", string(debug.Stack()))
			err = errs.New(errs.Unavailable, "%v", p)
		}
	}()
	guard := &guardFS{FS: cfg.FS, space: s.space, fault: s.fault}
	s.db, err = pebble.Open(cfg.Dir, options(cfg, guard, !isNew))
	if err == nil {
		guard.opened.Store(true)
		err = s.fault.get()
	}
	return err
}

// options are chosen for small memory, few bytes written and no work while idle.
func options(cfg *Config, fs *guardFS, mustExist bool) *pebble.Options {
	o := &pebble.Options{
		FS:            fs,
		Logger:        fs.fault,
		EventListener: fs.fault.listener(),
		// Pebble takes the memory of its memtables out of the cache: without this there would be none left.
		CacheSize:                   cfg.CacheBytes + (memTables+1)*memTableBytes,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: memTables, // a burst is not stopped by one slow flush; a crash leaves no more than this to replay
		// Keys of tokens are random: each table that leaves the topmost level is merged with nearly all of the one below, so
		// that twice as many at once halve what is written anew. Filters keep the more tables from costing a look-up more.
		L0CompactionThreshold: l0Tables,
		L0StopWritesThreshold: 3 * l0Tables,
		MaxOpenFiles:          500,
		FormatMajorVersion:    pebble.FormatNewest,
		ErrorIfNotExists:      mustExist,
		// A log in memory would only hold everything twice.
		DisableWAL: cfg.Memory,
	}
	o.Experimental.CompactionScheduler = newScheduler(fs.fault.pause)
	o.Experimental.FileCacheShards = 2
	// Reads are not to cause writes, and a step of an iterator is not to draw random numbers.
	o.Experimental.ReadSamplingMultiplier = -1
	// Values are encrypted above: they do not compress.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	size := int64(4 << 20)
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = size
		size = min(size*2, largestFileBytes)
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most look-ups of tokens that do not exist touch no block
	}
	return o
}
