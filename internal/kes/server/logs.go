package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"

	"arca/internal/kes"
)

// logs is the error log: lines of text on standard error, from a level on, and
// events for those who listen.
type logs struct {
	slog.Handler
	level  *slog.LevelVar
	stream *kes.Stream
	event  *eventText
}

// eventText makes a record's line without the time, for listeners.
type eventText struct {
	mu      sync.Mutex
	buf     bytes.Buffer // guarded by mu
	handler slog.Handler // writes to buf
}

func newLogs(w io.Writer) *logs {
	l := &logs{level: &slog.LevelVar{}, stream: &kes.Stream{}, event: &eventText{}}
	l.Handler = slog.NewTextHandler(w, &slog.HandlerOptions{Level: l.level})
	l.event.handler = slog.NewTextHandler(&l.event.buf, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	return l
}

// Enabled implements slog.Handler.
func (l *logs) Enabled(ctx context.Context, level slog.Level) bool {
	return l.Handler.Enabled(ctx, level) || level >= slog.LevelWarn
}

// Handle implements slog.Handler.
func (l *logs) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		if line, err := l.event.render(ctx, r); err == nil {
			l.stream.Send(line)
		}
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (e *eventText) render(ctx context.Context, r slog.Record) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf.Reset()
	if err := e.handler.Handle(ctx, r); err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		Message string `json:"message"`
	}{strings.TrimSpace(e.buf.String())})
	return append(b, '\n'), err
}
