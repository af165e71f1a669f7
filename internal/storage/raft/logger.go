package raft

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// NewLogger lets hashicorp/raft write to log.
func NewLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Info})
	l.RegisterSink(sink{log})
	return l
}

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, text string, args ...any) {
	to := slog.LevelDebug
	switch level { //nolint:exhaustive // below Info nothing is kept
	case hclog.Info:
		// What raft tells of its own accord is of use when something goes wrong only.
		to = slog.LevelDebug
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
	}
	if !s.log.Enabled(context.Background(), to) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	attrs = append(attrs, "what", text)
	for i := 0; i+1 < len(args); i += 2 {
		value := args[i+1]
		if f, ok := value.(hclog.Format); ok && len(f) > 0 {
			value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		attrs = append(attrs, fmt.Sprint(args[i]), value)
	}
	s.log.Log(context.Background(), to, "raft", attrs...)
}
