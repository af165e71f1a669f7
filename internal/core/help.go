package core

import (
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

// help answers path-help: what the engine says about a path.
func (h *handling) help() (*engine.Response, error) {
	var text strings.Builder
	h.entry.Routes.Patterns(strings.TrimSuffix(h.call.Path, "/"), func(pattern string, routes []*engine.Route) {
		text.WriteString("Request:        " + h.call.Path + "\nMatching Route: " + pattern + "\n")
		for _, r := range routes {
			text.WriteString("\n    " + strings.ToUpper(r.Op.String()) + ": " + r.Summary + "\n")
			for _, f := range r.Schema.Fields() {
				text.WriteString("        " + f.Name + " (" + f.Type + ")\n            " + f.Help + "\n")
			}
		}
	})
	if text.Len() == 0 {
		if h.call.Path != "" {
			return nil, errs.New(errs.NotFound, "no help for the path %q", h.call.Path)
		}
		text.WriteString("## PATHS\n\n")
		for i := range h.entry.Routes.Routes {
			r := &h.entry.Routes.Routes[i]
			text.WriteString("    " + r.Pattern + " (" + r.Op.String() + ")\n        " + r.Summary + "\n")
		}
	}
	body := append([]byte(`{"help":`), param.AppendString(nil, text.String())...)
	return &engine.Response{Raw: &engine.Raw{Body: append(body, []byte(",\"see_also\":null}\n")...)}}, nil
}
