package core

import (
	"time"

	"arca/internal/audit"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/policy"
)

// errUnaudited is all that a client sees when no audit device took a record, as
// in Vault.
var errUnaudited = errs.New(errs.Failed, "internal error")

// record writes the request's audit record, once, or the answer's.
func (h *handling) record(kind audit.Kind, res *engine.Response, cause error) error {
	if !h.a.Audit.Enabled() || kind == audit.Request && h.audited {
		return nil
	}
	h.req.Describe()
	if res != nil && res.Raw != nil {
		res.Raw.Describe()
	}
	rec := &audit.Record{
		Kind: kind, Time: time.Now().UTC(), Request: h.req, Response: res, Error: cause,
		Namespace: h.ns, Op: h.req.Op, Token: h.tok, Mount: h.entry,
		Judged: h.tok != nil, Allowed: h.judged.Allowed,
	}
	switch {
	case h.judged.Root:
		rec.Granting = []string{policy.RootName}
	case h.judged.Allowed && h.judged.Rule != nil:
		rec.Granting = h.judged.Rule.From
	case h.route != nil && h.route.NoToken:
		rec.Judged, rec.Allowed, rec.Token, rec.Login = true, true, h.shown, h.route.Login
	}
	if h.call != nil {
		rec.Op = h.call.Op
	}
	if h.person != nil {
		rec.Identity = h.person.PoliciesIn(h.tok.NamespaceID)
	}
	timer, failures := h.c.meters.auditedRequests, h.c.meters.failedRequests
	if kind == audit.Response {
		timer, failures = h.c.meters.auditedResponses, h.c.meters.failedResponses
	}
	span := h.child("audit")
	err := h.a.Audit.Log(rec)
	h.ended(span)
	timer.Since(rec.Time)
	if err != nil {
		failures.Add(1)
		h.c.log.Error("no audit device took the record of a request, which is refused", "id", h.req.ID, "error", err)
		h.silent = true
		return errUnaudited
	}
	if kind == audit.Request {
		h.audited = true
	}
	return nil
}

// report writes the answer's audit record, and only then lets the answer go.
func (h *handling) report(res *engine.Response, err error) (*engine.Response, error) {
	if h.silent {
		return nil, err
	}
	if res != nil && h.entry != nil {
		res.MountType = h.entry.Type
	}
	if auditErr := h.record(audit.Response, res, err); auditErr != nil {
		return nil, auditErr
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}
