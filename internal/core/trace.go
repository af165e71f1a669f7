package core

import (
	"time"

	"arca/internal/errs"
	"arca/internal/tracing"
)

// begin starts the request's span, if it is to be traced.
func (h *handling) begin() {
	if h.c.cfg.Traces == nil {
		return
	}
	caller := ""
	if v := h.req.Header["Traceparent"]; len(v) == 1 {
		caller = v[0]
	}
	h.span = h.c.cfg.Traces.Start("request", caller, h.now)
}

// child starts a span within the request's.
func (h *handling) child(name string) *tracing.Span {
	if h.span == nil {
		return nil
	}
	return h.span.Child(name, time.Now())
}

// ended ends a span, if that is not done.
func (h *handling) ended(s *tracing.Span) {
	if s != nil {
		s.End(time.Now())
	}
}

// trace ends the request's span: it is named by what was asked, as far as that
// tells no more than the declaration of the route.
func (h *handling) trace(err error) {
	s := h.span
	if s == nil {
		return
	}
	s.Set("vault.request_id", h.req.ID)
	s.Set("vault.operation", h.req.Op.String())
	s.Set("vault.namespace", h.ns.Path)
	name := h.req.Op.String()
	if h.entry != nil {
		s.Set("vault.mount", h.entry.Path)
		s.Set("vault.mount_type", h.entry.Type)
		name += " " + h.entry.Type
	}
	if h.route != nil {
		s.Set("vault.route", h.route.Pattern)
		name += "/" + h.route.Pattern
	}
	s.Name(name)
	if err != nil {
		s.Fail(errs.KindOf(err).String())
	}
	s.End(time.Now())
}
