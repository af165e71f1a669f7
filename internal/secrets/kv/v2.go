package kv

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// v2 serves a mount of version 2.
type v2 struct{}

func (v2) Type() string { return typeName }

func (e v2) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID("kv-v2-read-configuration"), engine.Help("Read the mount's configuration.")),
		engine.Write("config", e.writeConfig, engine.ID("kv-v2-configure"), engine.Help("Configure the mount.")),

		engine.Read("data/{path...}", e.readData, engine.ID("kv-v2-read"), engine.Help("Read a version of a secret.")),
		engine.Write("data/{path...}", e.writeData, engine.Exists(e.exists), engine.ID("kv-v2-write"), engine.Help("Write a new version of a secret.")),
		engine.Patch("data/{path...}", e.patchData, engine.ID("kv-v2-patch"), engine.Help("Write a new version by a merge patch.")),
		engine.Delete("data/{path...}", e.deleteNewest, engine.ID("kv-v2-delete"), engine.Help("Delete the newest version; it can be undeleted.")),

		engine.Write("delete/{path...}", e.deleteVersions, engine.ID("kv-v2-delete-versions"), engine.Help("Delete versions; they can be undeleted.")),
		engine.Write("undelete/{path...}", e.undelete, engine.ID("kv-v2-undelete-versions"), engine.Help("Undelete versions.")),
		engine.Write("destroy/{path...}", e.destroy, engine.ID("kv-v2-destroy-versions"), engine.Help("Destroy versions for ever.")),
		engine.Read("subkeys/{path...}", e.subkeys, engine.ID("kv-v2-read-subkeys"), engine.Help("Read the names within a secret, without values.")),

		engine.Read("metadata/{path...}", e.readMetadata, engine.ID("kv-v2-read-metadata"), engine.Help("Read a secret's metadata.")),
		engine.List("metadata/{path...}", e.list, engine.ID("kv-v2-list"), engine.Help("List the secrets below a path.")),
		engine.Write("metadata/{path...}", e.writeMetadata, engine.Exists(e.metaExists), engine.NoParamWarn, engine.ID("kv-v2-write-metadata"),
			engine.Help("Write a secret's metadata.")),
		engine.Patch("metadata/{path...}", e.patchMetadata, engine.NoParamWarn, engine.ID("kv-v2-patch-metadata"), engine.Help("Patch a secret's metadata.")),
		engine.Delete("metadata/{path...}", e.deleteMetadata, engine.ID("kv-v2-delete-metadata-and-all-versions"),
			engine.Help("Delete a secret with all its versions.")),

		engine.Read("{path...}", wrongPath("get")), engine.List("{path...}", wrongPath("list")),
		engine.Write("{path...}", wrongPath("put")), engine.Patch("{path...}", wrongPath("patch")),
		engine.Delete("{path...}", wrongPath("delete")),
	}
}

type anyPath struct {
	Path string       `api:"path"`
	Rest param.Object `api:"*,rest"`
}

// wrongPath answers who uses paths of version 1, as the command line expects.
func wrongPath(verb string) engine.Handler[anyPath] {
	return func(context.Context, *engine.Call, anyPath) (*engine.Response, error) {
		return &engine.Response{Missing: true, Warnings: []string{
			"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. " +
				"If using the Vault CLI, use 'vault kv " + verb + "' for this operation.",
		}}, nil
	}
}

// Tuned implements engine.Tuner: it upgrades a mount from version 1.
func (v2) Tuned(_ context.Context, call *engine.Call, old map[string]string) error {
	if old["version"] == "2" {
		return nil
	}
	c, err := readConfig(call.Tx)
	if err != nil {
		return err
	}
	c.Upgraded = call.Now
	// The numbers and the pause are what Vault's family says; here there is no pause.
	call.Warn("Upgrading mount from version 0 to version 0. This mount will be unavailable for a brief period and will resume service shortly.")
	return c.write(call.Tx)
}

func (v2) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := readConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"max_versions": c.MaxVersions, "cas_required": c.CASRequired, "delete_version_after": c.DeleteVersionAfter.String(),
	}}, nil
}

type configIn struct {
	MaxVersions        *int           `api:"max_versions" help:"How many versions to keep; 0 is 10."`
	CASRequired        *bool          `api:"cas_required" help:"Demand check-and-set of every write."`
	DeleteVersionAfter *time.Duration `api:"delete_version_after,signed" help:"Delete versions after this time; negative is never."`
}

func (v2) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	c, err := readConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	if in.MaxVersions != nil {
		c.MaxVersions = *in.MaxVersions
	}
	if in.CASRequired != nil {
		c.CASRequired = *in.CASRequired
	}
	if in.DeleteVersionAfter != nil {
		c.DeleteVersionAfter = *in.DeleteVersionAfter
	}
	return nil, c.write(call.Tx)
}

type readIn struct {
	Path    string `api:"path" help:"Path of the secret."`
	Version int    `api:"version" help:"Version to read; 0 is the newest."`
}

// appendVersion appends the description of a version to an answer.
func (m *metadata) appendVersion(b []byte, n int) ([]byte, error) {
	v := m.at(n)
	b = append(b, `{"created_time":"`...)
	b = v.Created.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","custom_metadata":`...)
	if m.Custom == nil {
		b = append(b, "null"...)
	} else {
		raw, err := json.Marshal(m.Custom)
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
	}
	b = append(b, `,"deletion_time":"`...)
	if !v.Deleted.IsZero() {
		b = v.Deleted.AppendFormat(b, time.RFC3339Nano)
	}
	b = append(b, `","destroyed":`...)
	b = strconv.AppendBool(b, v.Destroyed)
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '}'), nil
}

// find returns the metadata of a path and the number of the version asked for.
func find(tx storage.Tx, path string, asked int) (*metadata, int, error) {
	m, err := readMeta(tx, path)
	if err != nil {
		return nil, 0, err
	}
	n := asked
	if n <= 0 { // as servers of this family do
		n = m.Current
	}
	if m.at(n) == nil {
		return nil, 0, errNotFound
	}
	return m, n, nil
}

func (v2) readData(_ context.Context, call *engine.Call, in readIn) (*engine.Response, error) {
	m, n, err := find(call.Tx, in.Path, in.Version)
	if err != nil {
		return nil, err
	}
	v := m.at(n)
	gone := v.Destroyed || v.deleted(call.Now)
	raw := []byte("null")
	if !gone {
		if raw, err = m.readData(call.Tx, in.Path, n); err != nil {
			return nil, err
		}
	}
	b := make([]byte, 0, len(raw)+256)
	b = append(b, `{"data":`...)
	b = append(b, raw...)
	b = append(b, `,"metadata":`...)
	if b, err = m.appendVersion(b, n); err != nil {
		return nil, err
	}
	return &engine.Response{Data: json.RawMessage(append(b, '}')), Missing: gone}, nil
}

type writeIn struct {
	Path    string          `api:"path" help:"Path of the secret."`
	Data    json.RawMessage `api:"data" help:"The secret: an object."`
	Options json.RawMessage `api:"options" help:"cas: the version that must be the newest, 0 for a new secret."`
	Version int             `api:"version" help:"Not used in writing."`
}

// checkData refuses what is no object, with the text of Vault, which clients
// see from the existence check.
func (in *writeIn) checkData() error {
	if len(in.Data) == 0 || in.Data[0] == '{' || string(in.Data) == "null" {
		return nil
	}
	return errs.New(errs.Invalid, "error converting input for field \"data\": '' expected type 'map[string]interface {}', got unconvertible type '%s'",
		param.GoType(in.Data))
}

func (v2) exists(_ context.Context, call *engine.Call, in writeIn) (bool, error) {
	if err := in.checkData(); err != nil {
		return false, err
	}
	return pathExists(call.Tx, in.Path)
}

func pathExists(tx storage.Tx, path string) (bool, error) {
	_, err := readMeta(tx, path)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	return err == nil, err
}

var errCAS = errs.New(errs.Invalid, "check-and-set parameter did not match the current version")

// checkCAS holds a write against the newest version.
func (in *writeIn) checkCAS(c *config, m *metadata) error {
	cas, given, err := in.cas()
	if err != nil {
		return err
	}
	switch {
	case !given && (c.CASRequired || m.CASRequired):
		return errs.New(errs.Invalid, "check-and-set parameter required for this call")
	case given && cas != m.Current:
		return errCAS
	}
	return nil
}

func (in *writeIn) cas() (n int, given bool, err error) {
	if len(in.Options) == 0 || string(in.Options) == "null" {
		return 0, false, nil
	}
	obj, err := param.ParseObject(in.Options)
	if err != nil {
		return 0, false, errs.New(errs.Invalid, "error parsing options: they must be an object")
	}
	raw := obj.Get("cas")
	switch {
	case raw == nil:
		return 0, false, nil
	case string(raw) == "null":
		return 0, true, nil
	}
	text := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, false, err
		}
	}
	if n, err = strconv.Atoi(text); err != nil {
		return 0, false, errs.New(errs.Invalid, "error parsing check-and-set parameter")
	}
	return n, true, nil
}

func (v2) writeData(_ context.Context, call *engine.Call, in writeIn) (*engine.Response, error) {
	if in.Path == "" {
		return nil, errNoPath
	}
	if err := in.checkData(); err != nil {
		return nil, err
	}
	data := in.Data
	if len(data) == 0 {
		if call.Request.Params.Get("data") == nil {
			return nil, errs.New(errs.Invalid, "no data provided")
		}
		data = json.RawMessage("null")
	}
	m, c, err := forWriting(call, in.Path)
	if err != nil {
		return nil, err
	}
	if err := in.checkCAS(c, m); err != nil {
		return nil, err
	}
	return m.answerAdd(call, c, in.Path, data)
}

// forWriting reads the metadata of a path, new when there is none.
func forWriting(call *engine.Call, path string) (*metadata, *config, error) {
	c, err := readConfig(call.Tx)
	if err != nil {
		return nil, nil, err
	}
	m, err := readMeta(call.Tx, path)
	if errors.Is(err, errNotFound) {
		m, err = &metadata{Created: call.Now, Updated: call.Now, First: 1}, nil
	}
	return m, c, err
}

// answerAdd adds a version and describes it.
func (m *metadata) answerAdd(call *engine.Call, c *config, path string, data []byte) (*engine.Response, error) {
	if _, err := m.add(call.Tx, c, path, data, call.Now); err != nil {
		return nil, err
	}
	b, err := m.appendVersion(make([]byte, 0, 192), m.Current)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: json.RawMessage(b)}, nil
}

// nothingToPatch is the answer, without a body, to a patch of what is not there.
func nothingToPatch() *engine.Response { return &engine.Response{Raw: &engine.Raw{Status: 404}} }

func (v2) patchData(_ context.Context, call *engine.Call, in writeIn) (*engine.Response, error) {
	if in.Path == "" {
		return nil, errNoPath
	}
	if err := in.checkData(); err != nil {
		return nil, errs.New(errs.Invalid, "Field validation failed: %s", err.Error())
	}
	if len(in.Data) == 0 || in.Data[0] != '{' {
		return nil, errs.New(errs.Invalid, "no data provided")
	}
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
	v := m.at(m.Current)
	if v == nil {
		return nothingToPatch(), nil
	}
	if v.Destroyed || v.deleted(call.Now) {
		b, err := m.appendVersion(nil, m.Current)
		if err != nil {
			return nil, err
		}
		return &engine.Response{Data: json.RawMessage(b), Missing: true}, nil
	}
	if err := in.checkCAS(c, m); err != nil {
		return nil, err
	}
	old, err := m.readData(call.Tx, in.Path, m.Current)
	if err != nil {
		return nil, err
	}
	budget := maxMergeBytes
	merged, err := mergePatch(old, in.Data, &budget)
	if err != nil {
		return nil, err
	}
	return m.answerAdd(call, c, in.Path, merged)
}

// maxMergeBytes bounds what merging a patch reads: objects are read once for
// each level that they are nested.
const maxMergeBytes = 128 << 20

// mergePatch applies a JSON merge patch (RFC 7396) to an object. budget is how
// many bytes it may still read.
func mergePatch(target, patch json.RawMessage, budget *int) (json.RawMessage, error) {
	if *budget -= len(target) + len(patch); *budget < 0 {
		return nil, errs.New(errs.TooLarge, "the patch is too large for being nested so deeply")
	}
	p, err := param.ParseObject(patch)
	if err != nil {
		return nil, err
	}
	var t param.Object
	if len(target) > 0 && target[0] == '{' {
		if t, err = param.ParseObject(target); err != nil {
			return nil, err
		}
	}
	at := make(map[string]int, len(t)+len(p))
	for i := range t {
		at[t[i].Key] = i
	}
	for _, change := range p {
		i, had := at[change.Key]
		switch {
		case string(change.Value) == "null":
			if had {
				t[i].Value = nil // dropped below
			}
			continue
		case change.Value[0] == '{':
			var inner json.RawMessage
			if had {
				inner = t[i].Value
			}
			if change.Value, err = mergePatch(inner, change.Value, budget); err != nil {
				return nil, err
			}
		}
		if had {
			t[i].Value = change.Value
		} else {
			at[change.Key] = len(t)
			t = append(t, change)
		}
	}
	out := make(param.Object, 0, len(t))
	for _, m := range t {
		if m.Value != nil {
			out = append(out, m)
		}
	}
	if len(out) > param.MaxMembers {
		return nil, errs.New(errs.Invalid, "the patched object would have more than %d members", param.MaxMembers)
	}
	return out.JSON(), nil
}

type pathIn struct {
	Path string `api:"path" help:"Path of the secret."`
}

func (v2) deleteNewest(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	m, err := readMeta(call.Tx, in.Path)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := m.at(m.Current)
	if v == nil || v.Destroyed || v.deleted(call.Now) {
		return nil, nil
	}
	v.Deleted, m.Updated = call.Now, call.Now
	return nil, m.write(call.Tx, in.Path)
}

type versionsIn struct {
	Path     string `api:"path" help:"Path of the secret."`
	Versions []int  `api:"versions" help:"Numbers of the versions."`
}

// change applies fn to the named versions that are kept.
func (in *versionsIn) change(call *engine.Call, fn func(m *metadata, n int, v *version) error) (*engine.Response, error) {
	if len(in.Versions) == 0 {
		return nil, errs.New(errs.Invalid, "No version number provided")
	}
	m, err := readMeta(call.Tx, in.Path)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.legacy {
		if err := m.write(call.Tx, in.Path); err != nil {
			return nil, err
		}
	}
	for _, n := range in.Versions {
		if v := m.at(n); v != nil && !v.Destroyed {
			if err := fn(m, n, v); err != nil {
				return nil, err
			}
		}
	}
	m.Updated = call.Now
	return nil, m.write(call.Tx, in.Path)
}

func (v2) deleteVersions(_ context.Context, call *engine.Call, in versionsIn) (*engine.Response, error) {
	return in.change(call, func(_ *metadata, _ int, v *version) error {
		if !v.deleted(call.Now) {
			v.Deleted = call.Now
		}
		return nil
	})
}

func (v2) undelete(_ context.Context, call *engine.Call, in versionsIn) (*engine.Response, error) {
	c, err := readConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	return in.change(call, func(m *metadata, _ int, v *version) error {
		v.Deleted = m.deletion(c, call.Now)
		return nil
	})
}

func (v2) destroy(_ context.Context, call *engine.Call, in versionsIn) (*engine.Response, error) {
	return in.change(call, func(_ *metadata, n int, v *version) error {
		v.Destroyed = true
		return call.Tx.Delete(dataKey(in.Path, n))
	})
}

type subkeysIn struct {
	Path    string `api:"path" help:"Path of the secret."`
	Version int    `api:"version" help:"Version to read; 0 is the newest."`
	Depth   int    `api:"depth" help:"How deep to go; 0 is without limit."`
}

func (v2) subkeys(_ context.Context, call *engine.Call, in subkeysIn) (*engine.Response, error) {
	m, n, err := find(call.Tx, in.Path, in.Version)
	if err != nil {
		return nil, err
	}
	v := m.at(n)
	gone := v.Destroyed || v.deleted(call.Now)
	var names any
	if !gone {
		raw, err := m.readData(call.Tx, in.Path, n)
		if err != nil {
			return nil, err
		}
		var tree map[string]any
		if err := json.Unmarshal(raw, &tree); err != nil {
			return nil, err
		}
		names = withoutValues(tree, in.Depth)
	}
	meta, err := m.appendVersion(nil, n)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"subkeys": names, "metadata": json.RawMessage(meta)}, Missing: gone}, nil
}

// withoutValues keeps the names of a tree down to depth; 0 is without limit.
func withoutValues(tree map[string]any, depth int) map[string]any {
	out := make(map[string]any, len(tree))
	for k, v := range tree {
		inner, isObject := v.(map[string]any)
		if !isObject || len(inner) == 0 || depth == 1 {
			out[k] = nil
			continue
		}
		out[k] = withoutValues(inner, max(0, depth-1))
	}
	return out
}
