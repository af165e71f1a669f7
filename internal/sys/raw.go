package sys

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"arca/internal/barrier"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// rawRoutes are sys/raw: the store behind the barrier, key by key. They exist
// only where the configuration says raw_storage_endpoint.
func (e *Engine) rawRoutes() []engine.Route {
	inspect := engine.Read("internal/inspect/router/{tag}", e.inspect, engine.Sudo, engine.RootOnly, engine.ID("internal-inspect-router"),
		engine.Help("Show the mounts by which requests are routed."))
	if !e.core.Config().RawEndpoint {
		return []engine.Route{inspect}
	}
	return []engine.Route{
		inspect,
		engine.Read("raw/{path...}", e.readRaw, engine.Sudo, engine.RootOnly, engine.ID("raw-read"), engine.Help("Read a key of the store.")),
		engine.List("raw/{path...}", e.listRaw, engine.Sudo, engine.RootOnly, engine.ID("raw-list"), engine.Help("List keys of the store.")),
		engine.Write("raw/{path...}", e.writeRaw, engine.Sudo, engine.RootOnly, engine.ID("raw-write"), engine.Help("Write a key of the store.")),
		engine.Delete("raw/{path...}", e.deleteRaw, engine.Sudo, engine.RootOnly, engine.ID("raw-delete"), engine.Help("Delete a key of the store.")),
	}
}

type rawIn struct {
	Path            string `api:"path" help:"The key."`
	Value           string `api:"value" help:"The value."`
	Compressed      *bool  `api:"compressed" help:"Undo the compression of the value; false leaves it."`
	Encoding        string `api:"encoding" help:"base64, or nothing."`
	CompressionType string `api:"compression_type" help:"gzip, or nothing."`
}

// protected are keys of which no one may take hold through the API.
func (in *rawIn) protected() error {
	for _, p := range []string{barrier.ClearPrefix, "core/keyring", "core/hsm", "core/wrapping-key"} {
		if strings.HasPrefix(in.Path, p) {
			return errs.New(errs.Invalid, "cannot access %q", in.Path)
		}
	}
	if in.Encoding != "" && in.Encoding != "base64" {
		return errs.New(errs.Invalid, "invalid encoding %q", in.Encoding)
	}
	return nil
}

// rawKey is the key of the store that a path names. "logical/" and "auth/", with the UUID of a mount of the root namespace behind, are where
// Vault keeps the data of that mount; they name the same here.
func rawKey(call *engine.Call, path string) (string, error) {
	folder, rest, _ := strings.Cut(path, "/")
	if folder != rawLogical && folder != rawAuth {
		return path, nil
	}
	mounts, err := desks(call).Mounts.List(call.Tx, namespace.RootID, folder == rawAuth)
	if err != nil {
		return "", err
	}
	id, rest, _ := strings.Cut(rest, "/")
	for _, m := range mounts {
		if m.ID == id {
			return m.Prefix + rest, nil
		}
	}
	return path, nil
}

// Folders in which Vault keeps the data of mounts.
const (
	rawLogical = "logical"
	rawAuth    = "auth"
)

func (e *Engine) readRaw(_ context.Context, call *engine.Call, in rawIn) (*engine.Response, error) {
	if err := in.protected(); err != nil {
		return nil, err
	}
	key, err := rawKey(call, in.Path)
	if err != nil {
		return nil, err
	}
	raw, err := call.Tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	if in.Compressed == nil || *in.Compressed {
		raw = decompress(raw)
	}
	value := string(raw)
	if in.Encoding == "base64" {
		value = base64.StdEncoding.EncodeToString(raw)
	} else if !utf8.ValidString(value) {
		return nil, errs.New(errs.Invalid, "the value of %q is not text: ask for encoding=base64", in.Path)
	}
	return data(map[string]any{"value": value}), nil
}

// decompress undoes gzip, within a bound; what is not gzip stays.
func decompress(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != 0x1f || raw[1] != 0x8b {
		return raw
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return raw
	}
	out, err := io.ReadAll(io.LimitReader(r, 32<<20))
	if err != nil {
		return raw
	}
	return out
}

type rawListIn struct {
	Path string `api:"path" help:"The folder."`
	paging
}

func (e *Engine) listRaw(_ context.Context, call *engine.Call, in rawListIn) (*engine.Response, error) {
	if in.Path == rawLogical || in.Path == rawAuth {
		return listRawMounts(call, in)
	}
	prefix, err := rawKey(call, in.Path)
	if err != nil {
		return nil, err
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	names, err := call.Tx.List(prefix, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

// listRawMounts lists "logical" or "auth".
func listRawMounts(call *engine.Call, in rawListIn) (*engine.Response, error) {
	mounts, err := desks(call).Mounts.List(call.Tx, namespace.RootID, in.Path == rawAuth)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range mounts {
		if name := m.ID + "/"; name > in.After {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if in.Limit > 0 {
		names = names[:min(in.Limit, len(names))]
	}
	return keys(names)
}

func (e *Engine) writeRaw(_ context.Context, call *engine.Call, in rawIn) (*engine.Response, error) {
	if err := in.protected(); err != nil {
		if in.Encoding == "" || in.Encoding == "base64" {
			return nil, errs.List(errs.Failed, "internal error")
		}
		return nil, err
	}
	value := []byte(in.Value)
	if in.Encoding == "base64" {
		var err error
		if value, err = base64.StdEncoding.DecodeString(in.Value); err != nil {
			return nil, errs.New(errs.Invalid, "value is no base64: %s", err.Error())
		}
	}
	if in.CompressionType != "" {
		return nil, errs.New(errs.Invalid, "invalid compression type %q: values are kept as they are", in.CompressionType)
	}
	key, err := rawKey(call, in.Path)
	if err != nil {
		return nil, err
	}
	return nil, putRaw(call, key, value)
}

// putRaw writes a key as the mount would that it belongs to.
func putRaw(call *engine.Call, key string, value []byte) error {
	m, err := desks(call).Mounts.Owner(call.Tx, key)
	if err != nil {
		return err
	}
	if m == nil {
		return call.Tx.Put(key, value)
	}
	return m.View(call.Tx).Put(strings.TrimPrefix(key, m.Prefix), value)
}

func (e *Engine) deleteRaw(_ context.Context, call *engine.Call, in rawIn) (*engine.Response, error) {
	if err := in.protected(); err != nil {
		return nil, err
	}
	key, err := rawKey(call, in.Path)
	if err != nil {
		return nil, err
	}
	return nil, call.Tx.Delete(key)
}

type inspectIn struct {
	Tag string `api:"tag" help:"root, uuid, accessor or storage."`
}

func (e *Engine) inspect(_ context.Context, call *engine.Call, in inspectIn) (*engine.Response, error) {
	if !e.core.Config().Introspection {
		return nil, errs.New(errs.Invalid, "the Vault configuration must set \"introspection_endpoint\" to true to enable this endpoint")
	}
	switch in.Tag {
	case "root", "uuid", "accessor", "storage":
	default:
		return nil, errs.New(errs.Invalid, "unknown tag %q: it is root, uuid, accessor or storage", in.Tag)
	}
	out := map[string]any{}
	for _, auth := range []bool{false, true} {
		ms, err := desks(call).Mounts.List(call.Tx, ns(call), auth)
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			key := map[string]string{"root": m.Path, "uuid": m.ID, "accessor": m.Accessor, "storage": m.Prefix}[in.Tag]
			out[key] = map[string]any{
				"mount_path": m.Path, "uuid": m.ID, "accessor": m.Accessor, "storage_prefix": m.Prefix, "mount_type": m.Type,
				"mount_namespace": "", "tainted": false,
			}
		}
	}
	return data(map[string]any{in.Tag: out}), nil
}
