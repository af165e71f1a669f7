package sys

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/token"
)

// Cubbyhole keeps secrets that belong to one token and go with it.
type Cubbyhole struct{}

// Type implements engine.Engine.
func (Cubbyhole) Type() string { return "cubbyhole" }

// Hall implements engine.Hall: a cubbyhole lies under its token, not its mount.
func (Cubbyhole) Hall() {}

// Routes implements engine.Engine.
func (c Cubbyhole) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("{path...}", c.read, engine.ID("cubbyhole-read"), engine.Help("Read a secret of the caller's token.")),
		engine.List("{path...}", c.list, engine.ID("cubbyhole-list"), engine.Help("List the secrets of the caller's token.")),
		engine.Write("{path...}", c.write, engine.Exists(c.exists), engine.ID("cubbyhole-write"), engine.Help("Keep a secret with the caller's token.")),
		engine.Delete("{path...}", c.delete, engine.ID("cubbyhole-delete"), engine.Help("Delete a secret of the caller's token.")),
	}
}

type cubbyIn struct {
	Path string       `api:"path" help:"Name of the secret."`
	Rest param.Object `api:"*,rest"`
}

var (
	errOnlyService   = errs.New(errs.Invalid, "cubbyhole operations are only supported by 'service' type tokens")
	errMissingPath   = errs.List(errs.Failed, "missing path")
	errMissingFields = errs.List(errs.Failed, "missing data fields")
)

// mine is the part of the store that belongs to the caller's token.
func mine(call *engine.Call) (storage.Tx, error) {
	if call.Caller.Type == engine.TokenBatch {
		return storage.Tx{}, errOnlyService
	}
	return call.Tx.Sub(token.CubbyholePrefix(call.Caller.NamespaceID, call.Caller.Key)), nil
}

func (c Cubbyhole) exists(_ context.Context, call *engine.Call, in cubbyIn) (bool, error) {
	tx, err := mine(call)
	if err != nil {
		return false, err
	}
	_, err = tx.Get(in.Path)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

const responsePath = "response"

func (c Cubbyhole) read(_ context.Context, call *engine.Call, in cubbyIn) (*engine.Response, error) {
	tx, err := mine(call)
	if err != nil {
		return nil, err
	}
	if in.Path == "" {
		return nil, errMissingPath
	}
	if in.Path == responsePath && call.Caller.Wrapping {
		t, err := desks(call).Caller(call.Tx, call.Request, call.Now)
		if err != nil {
			return nil, err
		}
		call.Warn("Reading from 'cubbyhole/response' is deprecated. Please use sys/wrapping/unwrap to unwrap responses, as it provides additional security checks and other benefits.")
		return data(map[string]any{responsePath: string(t.Wrapped.Body)}), nil
	}
	raw, err := tx.Get(in.Path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: append(json.RawMessage(nil), raw...)}, nil
}

type cubbyListIn struct {
	Path string `api:"path"`
	paging
}

func (c Cubbyhole) list(_ context.Context, call *engine.Call, in cubbyListIn) (*engine.Response, error) {
	tx, err := mine(call)
	if err != nil {
		return nil, err
	}
	prefix := in.Path
	if prefix != "" {
		prefix += "/"
	}
	names, err := tx.List(prefix, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

func (c Cubbyhole) write(_ context.Context, call *engine.Call, in cubbyIn) (*engine.Response, error) {
	tx, err := mine(call)
	if err != nil {
		return nil, err
	}
	if in.Path == "" {
		return nil, errMissingPath
	}
	if len(in.Rest) == 0 {
		return nil, errMissingFields
	}
	if call.Caller.Wrapping {
		return nil, errs.New(errs.Denied, "permission denied") // a wrapping token keeps nothing of its own
	}
	if strings.HasSuffix(in.Path, "/") {
		return nil, errs.New(errs.Invalid, "cannot write to a path ending in '/'")
	}
	return nil, tx.Put(in.Path, in.Rest.JSON())
}

func (c Cubbyhole) delete(_ context.Context, call *engine.Call, in cubbyIn) (*engine.Response, error) {
	tx, err := mine(call)
	if err != nil {
		return nil, err
	}
	return nil, tx.Delete(in.Path)
}
