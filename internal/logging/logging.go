// Package logging is the server's log: slog loggers with names ("core",
// "storage", "seal" …), whose levels change at run time, that write lines to
// standard error, to a file that is rotated, and to whoever watches
// (sys/monitor).
//
//	l, err := logging.New(logging.Config{Level: "info", Out: os.Stderr})
//	core.New(core.Config{Log: l.Named("core")})
//	l.SetLevel("core", logging.Debug)             // sys/loggers/core
//	lines, stop, err := l.Subscribe("debug", "json") // sys/monitor
//
// The forms of a line, standard and JSON, are those that Vault's logs have, as
// tools parse them:
//
//	2026-01-02T15:04:05.678Z [INFO]  core: vault is unsealed: cluster=a
//	{"@level":"info","@message":"…","@module":"core","@timestamp":"…"}
//
// A line that is below the level of its logger and that nobody watches costs
// one atomic load. A watcher that does not keep up loses lines; the server
// never waits for it.
package logging

import (
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"arca/internal/errs"
)

// The levels. Trace and Off are ours; the rest is slog's.
const (
	Trace = slog.Level(-8)
	Debug = slog.LevelDebug
	Info  = slog.LevelInfo
	Warn  = slog.LevelWarn
	Error = slog.LevelError
	Off   = slog.Level(100)
)

// ErrUnknownLevel is the refusal of a word that names no level.
var ErrUnknownLevel = errs.New(errs.Invalid, "unknown log level")

// ParseLevel reads the name of a level; "" is Info. The error is
// ErrUnknownLevel.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "trace":
		return Trace, nil
	case "debug":
		return Debug, nil
	case "", "info", "notice":
		return Info, nil
	case "warn", "warning":
		return Warn, nil
	case "error", "err":
		return Error, nil
	case "off", "none":
		return Off, nil
	}
	return 0, ErrUnknownLevel
}

// LevelName is the name that ParseLevel takes.
func LevelName(l slog.Level) string {
	switch {
	case l >= Off:
		return "off"
	case l >= Error:
		return "error"
	case l >= Warn:
		return "warn"
	case l >= Info:
		return "info"
	case l >= Debug:
		return "debug"
	}
	return "trace"
}

// Names are the loggers that exist from the start, so that their levels can be
// set before they have written anything.
var names = []string{
	"api", "audit", "auth", "core", "expiration", "identity", "listener", "mount", "policy", "quota", "rollback", "seal",
	"secrets", "server", "storage", "system", "token",
}

// Config of a Log.
type Config struct {
	Level  string    // see ParseLevel
	Format string    // "standard" (or "") or "json"
	Out    io.Writer // nil: nowhere
	File   FileConfig
}

// A Log makes loggers. Safe for concurrent use.
type Log struct {
	root    atomic.Int64 // the level of all that were not set by name
	watched atomic.Int64 // the least level that somebody watches; noLevel for nobody

	mu       sync.Mutex
	modules  map[string]*module
	out      io.Writer
	json     bool
	file     *file // nil without one
	watchers map[*watcher]bool
}

// noLevel is above every level.
const noLevel = 1 << 20

// A module is what one name has: a level of its own, or the root's.
type module struct {
	name string
	log  *Log
	own  atomic.Int64 // inherit, or the level
}

const inherit = -1 << 20

// New opens a log. Errors are of kind Invalid, or tell why the file cannot be
// opened.
func New(cfg Config) (*Log, error) {
	level, err := ParseLevel(cfg.Level)
	if err != nil {
		return nil, errs.New(errs.Invalid, "there is no log level %q; there are trace, debug, info, warn and error", cfg.Level)
	}
	asJSON, err := parseFormat(cfg.Format)
	if err != nil {
		return nil, errs.New(errs.Invalid, "there is no log format %q; there are standard and json", cfg.Format)
	}
	l := &Log{modules: map[string]*module{}, out: cfg.Out, json: asJSON, watchers: map[*watcher]bool{}}
	l.root.Store(int64(level))
	l.watched.Store(noLevel)
	for _, n := range names {
		l.module(n)
	}
	if cfg.File.Path != "" {
		if l.file, err = openFile(cfg.File); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// ErrUnknownFormat is the refusal of a word that names no format.
var ErrUnknownFormat = errs.New(errs.Invalid, "unknown log format")

func parseFormat(name string) (asJSON bool, err error) {
	switch strings.ToLower(name) {
	case "", "standard", "unspecified":
		return false, nil
	case "json":
		return true, nil
	}
	return false, ErrUnknownFormat
}

func (l *Log) module(name string) *module {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.modules[name]
	if m == nil {
		m = &module{name: name, log: l}
		m.own.Store(inherit)
		l.modules[name] = m
	}
	return m
}

// Named returns the logger of a name. Loggers of one name share their level.
func (l *Log) Named(name string) *slog.Logger { return slog.New(&handler{module: l.module(name)}) }

// level is the level in force.
func (m *module) level() slog.Level {
	if own := m.own.Load(); own != inherit {
		return slog.Level(own)
	}
	return slog.Level(m.log.root.Load())
}

// Level returns the level of a logger, and false if there is none of that name.
func (l *Log) Level(name string) (slog.Level, bool) {
	l.mu.Lock()
	m := l.modules[name]
	l.mu.Unlock()
	if m == nil {
		return 0, false
	}
	return m.level(), true
}

// Levels returns the level of every logger.
func (l *Log) Levels() map[string]slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]slog.Level, len(l.modules))
	for n, m := range l.modules {
		out[n] = m.level()
	}
	return out
}

// SetLevel sets the level of one logger until ResetLevel, and reports whether
// there is one of that name.
func (l *Log) SetLevel(name string, level slog.Level) bool {
	return l.setOwn(name, int64(level))
}

// ResetLevel lets a logger follow the server's level again, and reports
// whether there is one of that name.
func (l *Log) ResetLevel(name string) bool { return l.setOwn(name, inherit) }

func (l *Log) setOwn(name string, level int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.modules[name]
	if m != nil {
		m.own.Store(level)
	}
	return m != nil
}

// SetAll sets the level of every logger until ResetAll.
func (l *Log) SetAll(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.modules {
		m.own.Store(int64(level))
	}
}

// ResetAll lets all loggers follow the server's level again.
func (l *Log) ResetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.modules {
		m.own.Store(inherit)
	}
}

// Configure sets the server's level, as its configuration has it.
func (l *Log) Configure(level slog.Level) { l.root.Store(int64(level)) }

// Reopen opens the log file again, for programs that rename it.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.reopen()
}

// Close ends the watching and closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range slices.Collect(maps.Keys(l.watchers)) {
		l.drop(w)
	}
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
