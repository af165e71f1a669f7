package kmip

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// Whose a name is. A name is one object's at a time, in all of its scope. n/ says whose, by one
// read, and of each name in a scope whose record is of version 2: that a name is free is one read,
// too, and no look through the levels of the store (docs/adr/0021). Older versions of arca did not
// note names, and cannot read such a record: in these scopes they make and change nothing.
//
// In scopes of before, names lie in the index, as other values do. The active node notes those,
// some hundreds at a time, and takes them out of the index.
const (
	scopeVersion = 2
	namesAtOnce  = 250 // objects in one transaction
	namesPath    = "names"
)

// noted reports whether n/ has the names of all objects.
func (s *scope) noted() bool { return s.Version >= scopeVersion && !s.Unnoted }

// parseScope reads the record of a scope: JSON, before which one of version 2 has a byte 2.
func parseScope(key string, raw []byte) (*scope, error) {
	marked := len(raw) > 0 && raw[0] == scopeVersion
	if marked {
		raw = raw[1:]
	}
	s := &scope{}
	if json.Unmarshal(raw, s) != nil || marked != (s.Version >= scopeVersion) {
		return nil, errs.New(errs.Internal, "the record %q cannot be decoded", key)
	}
	return s, nil
}

func decodeScope(key string, raw []byte) (*scope, int, error) {
	s, err := parseScope(key, raw)
	return s, 2*len(raw) + 256, err
}

// scopeOf reads a scope, for who changes it; the error is errNotFound when there is none.
func scopeOf(tx storage.Tx, name string) (*scope, error) {
	raw, err := tx.Get(scopeKey(name))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return parseScope(scopeKey(name), raw)
}

func putScope(tx storage.Tx, name string, s *scope) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if s.Version >= scopeVersion {
		raw = append([]byte{scopeVersion}, raw...)
	}
	return tx.Put(scopeKey(name), raw)
}

// isNamed reports whether the object has a name, by the name's hash.
func (o *object) isNamed(value string) bool {
	if o.destroyed() {
		return false
	}
	for i := range o.Attrs {
		if a := &o.Attrs[i]; a.Name == attrName && a.Index < templateIndex && indexOf(attrName, a.node()) == value {
			return true
		}
	}
	return false
}

// byName is the object that is noted for a name, by the name's hash, and has it; nil for none. sure is
// false where the name may be in the index all the same.
func (b *batch) byName(value string) (o *object, sure bool, err error) {
	whose, err := b.tx.Get(nameKey(b.scope, value))
	if err == nil {
		o, err = b.load(string(whose))
	}
	switch {
	case err == nil && o.isNamed(value):
		return o, true, nil
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return nil, false, err
	}
	s, err := b.settings()
	if err != nil {
		return nil, false, err
	}
	return nil, s.noted(), nil
}

// named finds the object with a name, nil for none.
func (b *batch) named(name string) (*object, error) {
	value := hashed(attrName, name)
	o, sure, err := b.byName(value)
	if o != nil || sure || err != nil {
		return o, err
	}
	for kv, err := range b.tx.Scan(valueDir(b.scope, value), "") {
		if err != nil {
			return nil, err
		}
		return b.load(string(kv.Value))
	}
	return nil, nil
}

// nameIt notes that a name is an object's.
func (b *batch) nameIt(value, order, hash string) error {
	s, err := b.settings()
	if err != nil {
		return err
	}
	if s.Version < scopeVersion { // an older version may have to find it
		if err := b.tx.Put(valueDir(b.scope, value)+order, []byte(hash)); err != nil {
			return err
		}
	}
	return b.tx.Put(nameKey(b.scope, value), []byte(hash))
}

// unname undoes nameIt. The name may be another object's by now.
func (b *batch) unname(value string, o *object) error {
	s, err := b.settings()
	if err != nil {
		return err
	}
	key := nameKey(b.scope, value)
	whose, err := b.tx.Get(key)
	if err == nil && string(whose) == o.hash() {
		err = b.tx.Delete(key)
	}
	if err = unlessAbsent(err); err != nil || s.noted() {
		return err
	}
	return b.tx.Delete(valueDir(b.scope, value) + o.Order)
}

// unlessAbsent is an error, but for that there is no such key or scope.
func unlessAbsent(err error) error {
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

// noteNames notes names of some objects of a scope of before, the name of which is the request's
// body. From the first time on, older versions of arca cannot change its objects.
func (e *Engine) noteNames(ctx context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	name := string(call.Request.Raw)
	s, err := scopeOf(call.Tx, name)
	if errors.Is(err, errNotFound) || err == nil && s.noted() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.Version < scopeVersion {
		s.Version, s.Unnoted = scopeVersion, true
	}
	b := &batch{e: e, ctx: ctx, call: call, tx: call.Tx, now: call.Now, scope: s.ID, within: s}
	n, all := 0, true
	for kv, err := range call.Tx.Scan(orderDir(s.ID), s.UpTo) {
		if err != nil {
			return nil, err
		}
		if n++; n > namesAtOnce {
			all = false
			break
		}
		if err := b.noteNamesOf(string(kv.Value)); err != nil {
			return nil, err
		}
		s.UpTo = kv.Key
	}
	if all {
		s.Unnoted, s.UpTo = false, ""
	}
	return nil, putScope(call.Tx, name, s)
}

// noteNamesOf takes the names of an object out of the index, and notes those that are not noted.
func (b *batch) noteNamesOf(hash string) error {
	o, err := b.load(hash)
	if err != nil {
		return err
	}
	for value, name := range o.indexed() {
		if !name {
			continue
		}
		have, _, err := b.byName(value)
		if err == nil && have == nil {
			err = b.tx.Put(nameKey(b.scope, value), []byte(hash))
		}
		if err == nil {
			err = b.tx.Delete(valueDir(b.scope, value) + o.Order)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noteAll has the active node note the names in scopes of before, in all mounts. A mount is looked at
// until there are none; only a node of an older version makes others, and the next active node finds those.
func (s *servers) noteAll(ctx context.Context, host engine.Host) {
	if !host.Leads() {
		return
	}
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.byMount))
	s.mu.Unlock()
	for _, v := range all {
		at := v.at.Load()
		if at == nil || v.noted {
			continue
		}
		err := v.noteNames(ctx, host, at)
		v.noted = err == nil
		if err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.NotActive) {
			host.Log().Error("note the names of objects; it is tried again", "mount", at.NamespacePath+at.Mount.Path, "error", err)
		}
	}
}

func (v *server) noteNames(ctx context.Context, host engine.Host, at *place) error {
	var names []string
	err := host.View(ctx, at.Mount, func(tx storage.Tx) (err error) {
		names, err = unnoted(tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		for {
			req := &engine.Request{ID: newUUID(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.Mount.Path + namesPath, Raw: []byte(name)}
			if _, err := host.Handle(ctx, req); err != nil {
				return err
			}
			done := false
			err := host.View(ctx, at.Mount, func(tx storage.Tx) error {
				s, err := scopeOf(tx, name)
				done = errors.Is(err, errNotFound) || err == nil && s.noted()
				return unlessAbsent(err)
			})
			if err != nil {
				return err
			}
			if done {
				break
			}
		}
	}
	return nil
}

// unnoted lists the scopes whose names are not all noted.
func unnoted(tx storage.Tx) (names []string, err error) {
	for kv, err := range tx.Scan(scopeKey(""), "") {
		if err != nil {
			return nil, err
		}
		s, err := parseScope(kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if !s.noted() {
			names = append(names, strings.TrimPrefix(kv.Key, scopeKey("")))
		}
	}
	return names, nil
}
