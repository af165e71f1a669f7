package audit

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

func (w *writer) response(detail string) {
	r, res := w.r, w.r.Response
	w.b = append(w.b, '{')
	defer func() { w.b = append(w.b, '}') }()
	if res != nil && res.Auth != nil && res.Wrap == nil {
		w.key("auth")
		w.b = append(w.b, '{')
		w.made(res.Auth)
		w.b = append(w.b, '}')
	}
	w.mount("mount_running_plugin_version")
	if r.Error != nil {
		if detail != "" {
			w.key("data")
			w.b = append(w.b, '{')
			w.secret("error", detail)
			w.b = append(w.b, '}')
		}
		return
	}
	if res == nil {
		return
	}
	w.lease(res)
	if res.Wrap != nil {
		w.wrap(res.Wrap)
	} else {
		w.data(res)
	}
	w.list("warnings", res.Warnings)
}

func (w *writer) lease(res *engine.Response) {
	id := res.LeaseID
	if res.Lease != nil {
		id = res.Lease.ID
	}
	if id == "" && res.LeaseDuration == 0 {
		return
	}
	w.key("secret")
	w.b = append(w.b, '{')
	w.text("lease_id", id)
	w.b = append(w.b, '}')
}

func (w *writer) wrap(i *engine.WrapInfo) {
	w.key("wrap_info")
	w.b = append(w.b, '{')
	w.seconds("ttl", i.TTL)
	w.secret("token", i.Token)
	w.handle("accessor", i.Accessor)
	w.time("creation_time", i.CreationTime, time.RFC3339Nano)
	w.text("creation_path", i.CreationPath)
	w.handle("wrapped_accessor", i.WrappedAccessor)
	w.b = append(w.b, '}')
}

func (w *writer) data(res *engine.Response) {
	raw, ok := res.Data.(json.RawMessage)
	if res.Raw != nil {
		if res.Raw.Record != nil {
			w.member("data", res.Raw.Record)
			return
		}
		if !ok || !w.unwrapped(raw) {
			w.rawAnswer(res.Raw)
		}
		return
	}
	if !ok || len(raw) == 0 || string(raw) == "null" || string(raw) == "{}" {
		return // Broker.Log has encoded what was not
	}
	w.member("data", raw)
}

// member appends a member of the answer that is JSON already.
func (w *writer) member(name string, raw json.RawMessage) {
	var clear []string
	if w.r.Mount != nil {
		clear = w.r.Mount.Config.AuditResponseKeys
	}
	if raw := w.r.Response.Raw; raw != nil && raw.Record != nil {
		clear = slices.Concat(clear, raw.ClearRecord)
	}
	w.key(name)
	v := w.walker(raw, clear, len(w.b))
	v.elide = w.e.elide && w.r.Op == engine.OpList
	if !v.document() {
		w.b = appendTooLarge(w.b, w.clearMac(), raw)
		return
	}
	w.b = v.dst
}

// unwrapped appends what lies in an answer that was wrapped and is now given
// out as a whole.
func (w *writer) unwrapped(envelope json.RawMessage) bool {
	obj, err := param.ParseObject(envelope)
	if err != nil {
		return false
	}
	for _, name := range []string{"auth", "data"} {
		if raw := obj.Get(name); raw != nil && string(raw) != "null" {
			w.member(name, raw)
		}
	}
	return true
}

// rawAnswer appends an answer without envelope, by the names that Vault has
// for its parts.
func (w *writer) rawAnswer(raw *engine.Raw) {
	w.key("data")
	w.b = append(w.b, '{')
	w.secret("http_content_type", raw.ContentType)
	if raw.Stream == nil && len(raw.Body) > 0 {
		w.key("http_raw_body")
		switch {
		case !w.e.raw:
			w.b = append(w.b, '"')
			w.b = w.m.appendHash(w.b, raw.Body)
			w.b = append(w.b, '"')
		case len(raw.Body) > w.r.dataBytes(len(raw.Body), true):
			w.b = appendTooLarge(w.b, nil, raw.Body)
		default:
			w.b = appendText(w.b, string(raw.Body))
		}
	}
	status := raw.Status
	if status == 0 {
		status = 200
	}
	w.number("http_status_code", int64(status))
	w.b = append(w.b, '}')
}

// failure returns what a record says of the error in clear, and the text that
// is only shown hashed: it may quote what the client sent.
func (w *writer) failure() (text, detail string) {
	err := w.r.Error
	if err == nil {
		return "", ""
	}
	if errors.Is(err, engine.ErrPath) || errors.Is(err, engine.ErrOperation) {
		return err.Error(), ""
	}
	kind := errs.KindOf(err)
	switch kind { //nolint:exhaustive // the others have their name
	case errs.NotFound:
		if err.Error() == "not found" {
			return "", ""
		}
		text = "unsupported path"
	case errs.Denied:
		if w.r.Kind == Request {
			return err.Error(), ""
		}
		text = "permission denied"
	case errs.Invalid, errs.Conflict:
		if w.r.Login {
			return "invalid credentials", err.Error()
		}
		text = "invalid request"
	case errs.Unsupported:
		text = "unsupported operation"
	case errs.Internal, errs.Failed:
		text = "internal error"
	default:
		text = kind.String()
	}
	return errs.List(kind, text).Error(), err.Error()
}
