package kes

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
)

// NewTee makes a handler that hands records on to next, and sends warnings and
// errors to those who follow the stream, whatever next prints.
func NewTee(next slog.Handler, s *Stream) slog.Handler {
	line := &line{}
	return &tee{next: next, stream: s, line: line, text: slog.NewTextHandler(&line.buf, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})}
}

type tee struct {
	next, text slog.Handler
	stream     *Stream
	line       *line
}

// A line is what a text handler has written of one record.
type line struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Enabled implements slog.Handler.
func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || t.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tee{t.next.WithAttrs(attrs), t.text.WithAttrs(attrs), t.stream, t.line}
}

// WithGroup implements slog.Handler.
func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{t.next.WithGroup(name), t.text.WithGroup(name), t.stream, t.line}
}

// Handle implements slog.Handler.
func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		if e, err := t.event(ctx, r); err == nil {
			t.stream.Send(e)
		}
	}
	if !t.next.Enabled(ctx, r.Level) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

func (t *tee) event(ctx context.Context, r slog.Record) ([]byte, error) {
	t.line.mu.Lock()
	defer t.line.mu.Unlock()
	t.line.buf.Reset()
	if err := t.text.Handle(ctx, r); err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		Message string `json:"message"`
	}{strings.TrimSpace(t.line.buf.String())})
	return append(b, '\n'), err
}
