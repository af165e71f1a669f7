package sys

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"arca/internal/audit"
	"arca/internal/chain"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/storage"
)

// auditRoutes are sys/audit and what belongs to it.
func (e *Engine) auditRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("audit", e.listAudit, engine.Sudo, engine.TopLevel, engine.RootOnly, engine.ID("auditing-list-enabled-devices"),
			engine.Help("List the enabled audit devices.")),
		engine.Write("audit/{path...}", e.enableAudit, engine.Sudo, engine.RootOnly, engine.ID("auditing-enable-device"),
			engine.Help("Enable an audit device at a path.")),
		engine.Delete("audit/{path...}", e.disableAudit, engine.Sudo, engine.RootOnly, engine.ID("auditing-disable-device"),
			engine.Help("Disable the audit device at a path.")),
		engine.Write("audit-hash/{path...}", e.auditHash, engine.TopLevel, engine.RootOnly, engine.ID("auditing-calculate-hash"),
			engine.Help("Show what a value looks like in the records of an audit device.")),
		engine.Read("audit-chain/{path...}", e.auditChain, engine.TopLevel, engine.RootOnly, engine.ID("auditing-read-chain"),
			engine.Help("Show the end of the chain of an audit device's records.")),
		engine.Write("audit-chain/{path...}", e.verifyAuditChain, engine.TopLevel, engine.RootOnly, engine.ID("auditing-verify-chain"),
			engine.Help("Tell whether a record is one of an audit device's chain.")),
		engine.Read("config/auditing/request-headers", e.listAuditHeaders, engine.Sudo, engine.TopLevel, engine.RootOnly,
			engine.ID("auditing-list-request-headers"), engine.Help("List the request headers that are recorded.")),
		engine.Read("config/auditing/request-headers/{header}", e.readAuditHeader, engine.Sudo, engine.TopLevel, engine.RootOnly,
			engine.ID("auditing-read-request-header-information"), engine.Help("Show how a request header is recorded.")),
		engine.Write("config/auditing/request-headers/{header}", e.writeAuditHeader, engine.Sudo, engine.RootOnly,
			engine.ID("auditing-enable-request-header"), engine.Help("Record a request header.")),
		engine.Delete("config/auditing/request-headers/{header}", e.deleteAuditHeader, engine.Sudo, engine.RootOnly,
			engine.ID("auditing-disable-request-header"), engine.Help("Record a request header no more.")),
	}
}

func (e *Engine) listAudit(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	devices, err := audit.Devices(call.Tx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(devices))
	for _, d := range devices {
		options := d.Options
		if options == nil {
			options = map[string]string{}
		}
		out[d.Path] = map[string]any{
			"path": d.Path, "type": d.Type, "description": d.Description, "options": options, "local": d.Local,
		}
	}
	return data(out), nil
}

type enableAuditIn struct {
	Path        string            `api:"path" help:"Where to enable the device."`
	Type        string            `api:"type" help:"Type of the device: file, socket, syslog or http."`
	Description string            `api:"description" help:"What the device is for."`
	Options     map[string]string `api:"options" help:"Options of the device, such as file_path."`
	Local       bool              `api:"local" help:"Do not replicate the device."`
}

func (e *Engine) enableAudit(_ context.Context, call *engine.Call, in enableAuditIn) (*engine.Response, error) {
	broker, id := desks(call).Audit, call.Request.ID
	call.After(func() { broker.Abandon(id) })
	return nil, broker.Enable(call.Tx, id, audit.Device{
		Path: mount.Canonical(in.Path), Type: in.Type, Description: in.Description, Options: in.Options, Local: in.Local,
	})
}

func (e *Engine) disableAudit(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	return nil, audit.Disable(call.Tx, mount.Canonical(in.Path))
}

type auditHashIn struct {
	Path  string `api:"path" help:"Path of the audit device."`
	Input string `api:"input" help:"The value."`
}

func (e *Engine) auditHash(_ context.Context, call *engine.Call, in auditHashIn) (*engine.Response, error) {
	if in.Input == "" {
		return nil, errs.New(errs.Invalid, "the \"input\" parameter is empty")
	}
	path := mount.Canonical(in.Path)
	hash, ok := desks(call).Audit.Hash(path, in.Input)
	if !ok {
		return nil, errs.New(errs.Invalid, "unknown audit backend %q", path)
	}
	return data(map[string]any{"hash": hash}), nil
}

func (e *Engine) auditChain(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	path := mount.Canonical(in.Path)
	head, err := desks(call).Audit.Chain(path)
	if err != nil {
		return nil, err
	}
	ends, err := desks(call).Audit.Ends(call.Tx, path)
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]any, len(ends))
	for node, h := range ends {
		nodes[node] = showHead(h)
	}
	out := showHead(head)
	out["nodes"] = nodes
	return data(out), nil
}

func showHead(h chain.Head) map[string]any {
	return map[string]any{"id": h.ID, "seq": h.Seq, "hash": hex.EncodeToString(h.Hash[:])}
}

type verifyAuditChainIn struct {
	Path string `api:"path" help:"Path of the audit device."`
	Hash string `api:"hash" help:"Hash of the record, in hexadecimal."`
	MAC  string `api:"mac" help:"MAC of the record, in hexadecimal."`
}

func (e *Engine) verifyAuditChain(_ context.Context, call *engine.Call, in verifyAuditChainIn) (*engine.Response, error) {
	var r chain.Record
	for name, f := range map[string]struct {
		text string
		into []byte
	}{"hash": {in.Hash, r.Hash[:]}, "mac": {in.MAC, r.Mac[:]}} {
		raw, err := hex.DecodeString(f.text)
		if err != nil || len(raw) != len(f.into) {
			return nil, errs.New(errs.Invalid, "%q must be %d bytes in hexadecimal", name, len(f.into))
		}
		copy(f.into, raw)
	}
	valid, err := desks(call).Audit.Holds(mount.Canonical(in.Path), r)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"valid": valid}), nil
}

func showHeader(hmac bool) map[string]any { return map[string]any{"hmac": hmac} }

func (e *Engine) listAuditHeaders(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	headers, err := audit.Headers(call.Tx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(headers))
	for name, hmac := range headers {
		out[name] = showHeader(hmac)
	}
	return data(map[string]any{"headers": out}), nil
}

type auditHeaderIn struct {
	Header string `api:"header" help:"Name of the header."`
	HMAC   bool   `api:"hmac" help:"Record its values hashed."`
}

func (e *Engine) readAuditHeader(_ context.Context, call *engine.Call, in auditHeaderIn) (*engine.Response, error) {
	hmac, err := audit.Header(call.Tx, in.Header)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "Could not find header in config")
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{in.Header: showHeader(hmac)}), nil
}

func (e *Engine) writeAuditHeader(_ context.Context, call *engine.Call, in auditHeaderIn) (*engine.Response, error) {
	if strings.ContainsAny(in.Header, " \t\r\n:") {
		return nil, errs.New(errs.Invalid, "invalid header name %q", in.Header)
	}
	return nil, audit.SetHeader(call.Tx, in.Header, in.HMAC)
}

func (e *Engine) deleteAuditHeader(_ context.Context, call *engine.Call, in auditHeaderIn) (*engine.Response, error) {
	return nil, audit.DeleteHeader(call.Tx, in.Header)
}
