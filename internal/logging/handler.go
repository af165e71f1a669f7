package logging

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// A handler is slog's side of one module.
type handler struct {
	module *module
	attrs  []slog.Attr // with the groups in their keys
	group  string      // "a.b."
}

var _ slog.Handler = (*handler)(nil)

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.module.level() || int64(level) >= h.module.log.watched.Load()
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{h.module, h.attrs, h.group + name + "."}
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		all = flatten(all, h.group, a)
	}
	return &handler{h.module, all, h.group}
}

// flatten appends an attribute; a group gives one per member.
func flatten(to []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() != slog.KindGroup {
		if a.Key != "" {
			to = append(to, slog.Attr{Key: prefix + a.Key, Value: a.Value})
		}
		return to
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, m := range a.Value.Group() {
		to = flatten(to, prefix, m)
	}
	return to
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.group, a)
		return true
	})
	h.module.log.write(&line{r.Time, r.Level, h.module.name, r.Message, attrs}, r.Level >= h.module.level())
	return nil
}

type line struct {
	time    time.Time
	level   slog.Level
	module  string
	message string
	attrs   []slog.Attr
}

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

var tags = map[string]string{
	"trace": "[TRACE]", "debug": "[DEBUG]", "info": "[INFO] ", "warn": "[WARN] ", "error": "[ERROR]", "off": "[ERROR]",
}

func (n *line) bytes(asJSON bool) []byte {
	if asJSON {
		return n.asJSON()
	}
	b := make([]byte, 0, 200)
	b = n.time.AppendFormat(b, timeFormat)
	b = append(b, ' ')
	b = append(b, tags[LevelName(n.level)]...)
	b = append(b, ' ')
	b = append(b, n.module...)
	b = append(b, ": "...)
	b = append(b, oneLine(n.message)...)
	if len(n.attrs) > 0 {
		b = append(b, ':')
	}
	for _, a := range n.attrs {
		b = append(b, ' ')
		b = append(b, a.Key...)
		b = append(b, '=')
		b = appendText(b, valueText(a.Value))
	}
	return append(b, '\n')
}

// oneLine keeps a message from looking like several lines of the log.
func oneLine(s string) string {
	if strings.ContainsAny(s, "\n\r") {
		return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(s)
	}
	return s
}

// appendText quotes where a reader could not tell where a value ends.
func appendText(b []byte, s string) []byte {
	if s == "" || strings.ContainsAny(s, " \t\n\r\"=") || !printable(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

func valueText(v slog.Value) string {
	switch v.Kind() { //nolint:exhaustive // slog formats the rest
	case slog.KindTime:
		return v.Time().Format(timeFormat)
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return err.Error()
		}
	}
	return v.String()
}

func (n *line) asJSON() []byte {
	b := []byte(`{"@level":"` + LevelName(n.level) + `","@message":`)
	b = appendJSON(b, n.message)
	b = append(b, `,"@module":`...)
	b = appendJSON(b, n.module)
	b = append(b, `,"@timestamp":"`...)
	b = n.time.AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	b = append(b, '"')
	for _, a := range n.attrs {
		b = append(b, ',')
		b = appendJSON(b, a.Key)
		b = append(b, ':')
		switch a.Value.Kind() { //nolint:exhaustive // the rest is text
		case slog.KindBool, slog.KindInt64, slog.KindUint64:
			b = append(b, a.Value.String()...)
		default:
			b = appendJSON(b, valueText(a.Value))
		}
	}
	return append(b, "}\n"...)
}

func appendJSON(b []byte, s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Appendf(b, "%q", s)
	}
	return append(b, raw...)
}

// write gives a line to the outputs, if it is for them, and to the watchers.
func (l *Log) write(n *line, forOutputs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var texts [2][]byte // standard, JSON
	text := func(asJSON bool) []byte {
		i := 0
		if asJSON {
			i = 1
		}
		if texts[i] == nil {
			texts[i] = n.bytes(asJSON)
		}
		return texts[i]
	}
	if forOutputs {
		if l.out != nil {
			_, _ = l.out.Write(text(l.json)) // nowhere to report it
		}
		if l.file != nil {
			_, _ = l.file.Write(text(l.json)) // standard error has the line too
		}
	}
	for w := range l.watchers {
		if n.level >= w.level {
			w.give(text(w.json))
		}
	}
}
