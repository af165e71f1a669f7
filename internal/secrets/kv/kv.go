// Package kv keeps key/value secrets: version 1 as they are, version 2 with
// history, check-and-set, soft deletion and metadata.
//
// The API is that of https://developer.hashicorp.com/vault/api-docs/secret/kv.
// A secret's JSON is kept and answered as the bytes that came in.
//
// Keys within a mount, version 1: "s/<path>". Version 2: "config",
// "m/<path>" for the metadata, "d/<path>\x00<version>" for the data of one
// version (no path holds a zero byte). A mount that was upgraded keeps its
// version 1 secrets where they are; they count as version 1 of their paths and
// are moved when they are next written, so that upgrading costs nothing.
package kv

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// An Engine is the type kv, which has two versions.
type Engine struct{}

// Type implements engine.Engine.
func (Engine) Type() string { return typeName }

const typeName = "kv"

// Routes implements engine.Engine: all are in the variants.
func (Engine) Routes() []engine.Route { return nil }

// Variants implements engine.Varier.
func (Engine) Variants() map[string]engine.Engine {
	return map[string]engine.Engine{"1": v1{}, "2": v2{}}
}

// Variant implements engine.Varier: a mount without a version is version 1.
func (Engine) Variant(options map[string]string) string {
	if options["version"] == "2" {
		return "2"
	}
	return "1"
}

var (
	_ engine.Varier = Engine{}
	_ engine.Tuner  = v2{}

	errNotFound = errs.New(errs.NotFound, "not found")
	errNoPath   = errs.New(errs.Invalid, "missing path")
)

// v1 serves a mount of version 1.
type v1 struct{}

func (v1) Type() string { return typeName }

const v1Dir = "s/"

func (e v1) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("{path...}", e.read, engine.ID("kv-v1-read"), engine.Help("Read a secret.")),
		engine.List("{path...}", e.list, engine.ID("kv-v1-list"), engine.Help("List the secrets below a path.")),
		engine.Write("{path...}", e.write, engine.Exists(e.exists), engine.ID("kv-v1-write"), engine.Help("Write a secret.")),
		engine.Delete("{path...}", e.delete, engine.ID("kv-v1-delete"), engine.Help("Delete a secret.")),
	}
}

type v1In struct {
	Path string       `api:"path" help:"Path of the secret."`
	Rest param.Object `api:"*,rest"`
}

func (v1) exists(_ context.Context, call *engine.Call, in v1In) (bool, error) {
	return has(call.Tx, v1Dir+in.Path)
}

func has(tx storage.Tx, key string) (bool, error) {
	_, err := tx.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (v1) read(_ context.Context, call *engine.Call, in v1In) (*engine.Response, error) {
	raw, err := call.Tx.Get(v1Dir + in.Path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: json.RawMessage(raw), LeaseDuration: leaseOf(raw, call.Mount.DefaultTTL)}, nil
}

// leaseOf is how long a client may cache the secret: its own member ttl (or
// lease), else the mount's default.
func leaseOf(raw []byte, def time.Duration) time.Duration {
	if !mayHoldTTL(raw) {
		return def
	}
	obj, err := param.ParseObject(raw)
	if err != nil {
		return def
	}
	for _, name := range [...]string{"ttl", "lease"} {
		v := obj.Get(name)
		if v == nil {
			continue
		}
		var text string
		if json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		if d, err := param.ParseDuration(text); err == nil && d > 0 {
			return d
		}
		return def
	}
	return def
}

// mayHoldTTL spares most secrets the parsing.
func mayHoldTTL(raw []byte) bool {
	s := string(raw) // does not escape: no copy
	return strings.Contains(s, `"ttl"`) || strings.Contains(s, `"lease"`) || strings.Contains(s, `\u`)
}

type listIn struct {
	Path  string `api:"path" help:"Path of the folder."`
	After string `api:"after" help:"List what comes behind this name."`
	Limit int    `api:"limit" help:"List at most so many names."`
}

// folder is the path as a prefix of keys.
func (in *listIn) folder() string {
	if in.Path == "" {
		return ""
	}
	return in.Path + "/"
}

func (v1) list(_ context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	return in.answer(call, v1Dir, func() ([]string, error) {
		return call.Tx.List(v1Dir+in.folder(), in.After, in.Limit)
	})
}

// answer answers a listing below dir. Whole folders are kept until something in
// them changes: they are asked often, and may hold very many names.
func (in *listIn) answer(call *engine.Call, dir string, list func() ([]string, error)) (*engine.Response, error) {
	compute := func() ([]byte, error) {
		names, err := list()
		if err != nil {
			return nil, err
		}
		return listing(names)
	}
	var raw []byte
	var err error
	if in.After == "" && in.Limit == 0 {
		raw, err = call.Tx.Derive(dir+in.folder(), "list", compute)
	} else {
		raw, err = compute()
	}
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: json.RawMessage(raw)}, nil
}

// listing is the body of a listing, appended by hand.
func listing(names []string) ([]byte, error) {
	if len(names) == 0 {
		return nil, errNotFound
	}
	size := 16
	for _, n := range names {
		size += len(n) + 3
	}
	out := append(make([]byte, 0, size), `{"keys":[`...)
	for i, n := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = param.AppendString(out, n)
	}
	return append(out, "]}"...), nil
}

func (v1) write(_ context.Context, call *engine.Call, in v1In) (*engine.Response, error) {
	if in.Path == "" {
		return nil, errNoPath
	}
	if len(in.Rest) == 0 {
		return nil, errs.New(errs.Invalid, "missing data fields")
	}
	return nil, call.Tx.Put(v1Dir+in.Path, in.Rest.JSON())
}

func (v1) delete(_ context.Context, call *engine.Call, in v1In) (*engine.Response, error) {
	return nil, call.Tx.Delete(v1Dir + in.Path)
}
