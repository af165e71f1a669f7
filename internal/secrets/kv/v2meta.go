package kv

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

func (v2) readMetadata(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	m, err := readMeta(call.Tx, in.Path)
	if err != nil {
		return nil, err
	}
	versions := make(map[string]any, len(m.Versions))
	for i := range m.Versions {
		v := &m.Versions[i]
		deleted := ""
		if !v.Deleted.IsZero() {
			deleted = v.Deleted.Format(time.RFC3339Nano)
		}
		versions[strconv.Itoa(m.First+i)] = map[string]any{
			"created_time": v.Created.Format(time.RFC3339Nano), "deletion_time": deleted, "destroyed": v.Destroyed,
		}
	}
	out := map[string]any{
		"cas_required": m.CASRequired, "created_time": m.Created.Format(time.RFC3339Nano), "current_version": m.Current,
		"custom_metadata": nil, "delete_version_after": m.DeleteVersionAfter.String(), "max_versions": m.MaxVersions,
		"oldest_version": m.Oldest, "updated_time": m.Updated.Format(time.RFC3339Nano), "versions": versions,
	}
	if m.Custom != nil {
		out["custom_metadata"] = m.Custom
	}
	return &engine.Response{Data: out}, nil
}

// list merges the secrets of version 2 with those of before the upgrade.
func (v2) list(_ context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	return in.answer(call, metaDir, func() ([]string, error) {
		names, err := call.Tx.List(metaDir+in.folder(), in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		// Whatever changes an old secret touches its place in metaDir, too.
		old, err := call.Tx.List(v1Dir+in.folder(), in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		if len(old) > 0 {
			names = append(names, old...)
			slices.Sort(names)
			names = slices.Compact(names)
			if in.Limit > 0 && len(names) > in.Limit {
				names = names[:in.Limit]
			}
		}
		return names, nil
	})
}

type metaIn struct {
	Path               string          `api:"path" help:"Path of the secret."`
	MaxVersions        *int            `api:"max_versions" help:"How many versions to keep; 0 is the mount's."`
	CASRequired        *bool           `api:"cas_required" help:"Demand check-and-set of every write."`
	DeleteVersionAfter *time.Duration  `api:"delete_version_after" help:"Delete versions after this time."`
	Custom             json.RawMessage `api:"custom_metadata" help:"Pairs of text to keep with the secret."`
}

func (in *metaIn) empty() bool {
	return in.MaxVersions == nil && in.CASRequired == nil && in.DeleteVersionAfter == nil && len(in.Custom) == 0
}

func (v2) metaExists(_ context.Context, call *engine.Call, in metaIn) (bool, error) {
	return pathExists(call.Tx, in.Path)
}

// apply takes over what is given, apart from the custom metadata.
func (in *metaIn) apply(m *metadata, c *config, call *engine.Call) *engine.Response {
	if in.MaxVersions != nil {
		m.MaxVersions = *in.MaxVersions
	}
	if in.DeleteVersionAfter != nil {
		m.DeleteVersionAfter = *in.DeleteVersionAfter
	}
	if in.CASRequired == nil {
		return nil
	}
	m.CASRequired = *in.CASRequired
	if c.CASRequired && !m.CASRequired {
		call.Warn("\"cas_required\" set to false, but is mandated by backend config. This value will be ignored.")
		return &engine.Response{}
	}
	return nil
}

func (v2) writeMetadata(_ context.Context, call *engine.Call, in metaIn) (*engine.Response, error) {
	if in.Path == "" {
		return nil, errNoPath
	}
	m, c, err := forWriting(call, in.Path)
	if err != nil {
		return nil, err
	}
	if in.empty() {
		return nil, nil // nothing is asked, and nothing is made
	}
	res := in.apply(m, c, call)
	if len(in.Custom) > 0 && string(in.Custom) != "null" {
		if m.Custom, err = parseCustom(in.Custom); err != nil {
			return nil, err
		}
	}
	m.Updated = call.Now
	return res, m.write(call.Tx, in.Path)
}

// parseCustom reads custom metadata and holds it to Vault's bounds.
func parseCustom(raw json.RawMessage) (map[string]string, error) {
	obj, err := customObject(raw)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(obj))
	for _, p := range obj {
		if string(p.Value) == "null" {
			continue
		}
		text, err := customValue(p.Value)
		if err != nil {
			return nil, err
		}
		out[p.Key] = text
	}
	return out, checkCustom(out)
}

func customObject(raw json.RawMessage) (param.Object, error) {
	if raw[0] != '{' {
		return nil, errs.New(errs.Invalid, "custom_metadata validation failed: '' expected a map, got '%s'", param.GoType(raw))
	}
	return param.ParseObject(raw)
}

func customValue(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '{', '[':
		return "", errs.New(errs.Invalid, "custom_metadata validation failed: '' expected type 'string', got unconvertible type '%s'", param.GoType(raw))
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case 't':
		return "1", nil
	case 'f':
		return "0", nil
	}
	return string(raw), nil
}

func checkCustom(m map[string]string) error {
	bad := func(format string, args ...any) error {
		return errs.New(errs.Invalid, "custom_metadata validation failed: "+format, args...)
	}
	if len(m) > maxCustomPairs {
		return bad("payload must contain at most %d keys, provided %d", maxCustomPairs, len(m))
	}
	for k, v := range m {
		switch {
		case k == "":
			return bad("length of key %q is 0 but must be 0 < len(key) <= %d", k, maxCustomKey)
		case len(k) > maxCustomKey:
			return bad("length of key is %d but must be 0 < len(key) <= %d", len(k), maxCustomKey)
		case v == "":
			return bad("length of value for key %q is 0 but must be 0 < len(value) <= %d", k, maxCustomValue)
		case len(v) > maxCustomValue:
			return bad("length of value for key %q is %d but must be 0 < len(value) <= %d", k, len(v), maxCustomValue)
		case !printable(k):
			return bad("key %q contains unprintable characters", k)
		case !printable(v):
			return bad("value for key %q contains unprintable characters", k)
		}
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\t' && r != '\n' && r != '\r' {
			return false
		}
	}
	return true
}

func (v2) patchMetadata(_ context.Context, call *engine.Call, in metaIn) (*engine.Response, error) {
	m, err := readMeta(call.Tx, in.Path)
	if errors.Is(err, errNotFound) {
		return nothingToPatch(), nil
	}
	if err != nil {
		return nil, err
	}
	c, err := readConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	// In a merge patch null takes the member away.
	for _, p := range call.Request.Params {
		if string(p.Value) != "null" {
			continue
		}
		switch p.Key {
		case "max_versions":
			m.MaxVersions = 0
		case "cas_required":
			m.CASRequired = false
		case "delete_version_after":
			m.DeleteVersionAfter = 0
		case "custom_metadata":
			m.Custom = nil
		}
	}
	res := in.apply(m, c, call)
	if len(in.Custom) > 0 && string(in.Custom) != "null" {
		if err := m.patchCustom(in.Custom); err != nil {
			return nil, err
		}
	}
	m.Updated = call.Now
	return res, m.write(call.Tx, in.Path)
}

func (m *metadata) patchCustom(raw json.RawMessage) error {
	obj, err := customObject(raw)
	if err != nil {
		return err
	}
	if m.Custom == nil {
		m.Custom = map[string]string{}
	}
	for _, p := range obj {
		if string(p.Value) == "null" {
			delete(m.Custom, p.Key)
			continue
		}
		text, err := customValue(p.Value)
		if err != nil {
			return err
		}
		m.Custom[p.Key] = text
	}
	if len(m.Custom) == 0 {
		m.Custom = nil
	}
	return checkCustom(m.Custom)
}

func (v2) deleteMetadata(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	if in.Path == "" {
		return nil, errNoPath
	}
	for _, key := range [...]string{metaKey(in.Path), v1Dir + in.Path} {
		if err := call.Tx.Delete(key); err != nil {
			return nil, err
		}
	}
	return nil, deleteData(call.Tx, in.Path)
}

// deleteData removes the data of all versions.
func deleteData(tx storage.Tx, path string) error {
	err := tx.DeletePrefix(dataDir + path + "\x00")
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}
