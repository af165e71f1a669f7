package logging

import (
	"log/slog"
)

// watcherLines is how many lines a watcher may be behind before it loses some.
const watcherLines = 512

type watcher struct {
	level slog.Level
	json  bool
	lines chan []byte
}

// give never waits.
func (w *watcher) give(text []byte) {
	select {
	case w.lines <- text:
	default:
	}
}

// Subscribe gives every line from a level on ("" is info), whatever the levels
// of the loggers are, in a format ("standard", "json", "" for the log's own).
// Lines are shared: the receiver must not change them. One that is more than
// 512 lines behind loses lines. The channel is closed by cancel and when the
// log ends. Errors are ErrUnknownLevel and ErrUnknownFormat.
func (l *Log) Subscribe(level, format string) (lines <-chan []byte, cancel func(), err error) {
	least, err := ParseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	asJSON := l.json
	if format != "" {
		if asJSON, err = parseFormat(format); err != nil {
			return nil, nil, err
		}
	}
	w := &watcher{level: least, json: asJSON, lines: make(chan []byte, watcherLines)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w] = true
	l.lowest()
	return w.lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(w)
	}, nil
}

// drop ends a watcher; l.mu is held.
func (l *Log) drop(w *watcher) {
	if l.watchers[w] {
		delete(l.watchers, w)
		close(w.lines)
		l.lowest()
	}
}

// lowest notes the least level that is watched; l.mu is held.
func (l *Log) lowest() {
	least := int64(noLevel)
	for w := range l.watchers {
		least = min(least, int64(w.level))
	}
	l.watched.Store(least)
}
