// Package mount keeps the table of mounts: which engine answers at which path.
//
// A mount is a row in storage and a small decoded object in a bounded cache; it
// costs nothing until it is used, and nothing is built when the node unseals.
// A path is routed by looking up its prefixes, shortest first: mounts never lie
// within one another, so at most one prefix is a mount.
package mount

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// MaxSegments bounds the depth of a mount path, and with it what routing a
// hostile path costs.
const MaxSegments = 32

// AuthPrefix is where auth methods are mounted.
const AuthPrefix = "auth/"

// A Row is a mount as it is stored.
type Row struct {
	Version        int               `json:"v"`
	ID             string            `json:"uuid"`
	Path           string            `json:"path"` // with auth/ for auth methods
	Type           string            `json:"type"`
	Accessor       string            `json:"accessor"`
	Description    string            `json:"description,omitempty"`
	Options        map[string]string `json:"options,omitempty"`
	HasOptions     bool              `json:"has_options,omitempty"` // {} rather than null in answers
	Local          bool              `json:"local,omitempty"`
	SealWrap       bool              `json:"seal_wrap,omitempty"`
	EntropyAccess  bool              `json:"external_entropy_access,omitempty"`
	PluginVersion  string            `json:"plugin_version,omitempty"`
	Config         Config            `json:"config"`
	NamespaceID    string            `json:"-"`
	Seq            int               `json:"seq,omitempty"` // counts changes, for tests and audit
	CreatedSeconds int64             `json:"created,omitempty"`
	// Ending says that the mount is disabled: it is there only until its leases are
	// taken back.
	Ending bool `json:"ending,omitempty"`
}

// Config is what can be tuned.
type Config struct {
	DefaultTTL         time.Duration     `json:"default_lease_ttl,omitempty"` // 0: the system's
	MaxTTL             time.Duration     `json:"max_lease_ttl,omitempty"`     // 0: the system's
	ForceNoCache       bool              `json:"force_no_cache,omitempty"`
	AuditRequestKeys   []string          `json:"audit_non_hmac_request_keys,omitempty"`
	AuditResponseKeys  []string          `json:"audit_non_hmac_response_keys,omitempty"`
	ListingVisibility  string            `json:"listing_visibility,omitempty"`
	PassthroughHeaders []string          `json:"passthrough_request_headers,omitempty"`
	ResponseHeaders    []string          `json:"allowed_response_headers,omitempty"`
	TokenType          string            `json:"token_type,omitempty"`
	ManagedKeys        []string          `json:"allowed_managed_keys,omitempty"`
	PluginVersion      string            `json:"plugin_version,omitempty"`
	Lockout            *Lockout          `json:"user_lockout_config,omitempty"`
	DelegatedAccessors []string          `json:"delegated_auth_accessors,omitempty"`
	IdentityTokenKey   string            `json:"identity_token_key,omitempty"`
	Extra              map[string]string `json:"extra,omitempty"`
}

// Lockout tells when a user of an auth method is locked out.
type Lockout struct {
	Threshold    uint64        `json:"lockout_threshold"`
	Duration     time.Duration `json:"lockout_duration"`
	CounterReset time.Duration `json:"lockout_counter_reset"`
	Disable      bool          `json:"lockout_disable"`
}

// An Entry is a decoded mount: its row, its view for engines, its engine.
// It is immutable.
type Entry struct {
	Row
	Mount  *engine.Mount
	Engine engine.Engine
	Routes *engine.Table
	Prefix string // of its keys in the store
	Hall   bool   // its engine works on the whole store
}

// View is the mount's view of its own keys, which with seal_wrap has all that is written
// wrapped by the seal. Whoever reads or writes what an engine keeps does it by this.
func (e *Entry) View(tx storage.Tx) storage.Tx {
	tx = tx.Sub(e.Prefix)
	if e.SealWrap {
		return tx.Wrapped()
	}
	return tx
}

// Auth reports whether the mount is an auth method.
func (e *Entry) Auth() bool { return strings.HasPrefix(e.Path, AuthPrefix) }

// A Catalog knows the engines.
type Catalog interface {
	// Find returns the engine that serves a mount, with its routes.
	Find(auth bool, typ string, options map[string]string) (engine.Engine, *engine.Table, bool)
}

// A TableConfig is what a Table needs.
type TableConfig struct {
	Catalog            Catalog
	DefaultTTL, MaxTTL time.Duration // of the system
	CacheBytes         int           // 0: 8 MiB
}

// A Table finds mounts. Safe for concurrent use.
type Table struct {
	cfg   TableConfig
	cache *storage.Cache[*Entry]
}

// NewTable makes the table over db.
func NewTable(db *storage.DB, cfg TableConfig) *Table {
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 8 << 20
	}
	t := &Table{cfg: cfg}
	t.cache = storage.NewCache(db, cfg.CacheBytes, t.decode)
	return t
}

// SystemTTLs returns the system's default and maximum.
func (t *Table) SystemTTLs() (def, limit time.Duration) { return t.cfg.DefaultTTL, t.cfg.MaxTTL }

// DataPrefix is where the keys of a mount lie in the store.
func DataPrefix(ns, id string) string { return namespace.Prefix(ns) + "m/" + id + "/" }

func dir(ns string) string { return namespace.Prefix(ns) + "mount/" }

func rowKey(ns, path string) string { return dir(ns) + path }

func (t *Table) decode(key string, value []byte) (*Entry, int, error) {
	var r Row
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, 0, fmt.Errorf("decode mount row: %w", err)
	}
	r.NamespaceID, _, _ = strings.Cut(strings.TrimPrefix(key, "n/"), "/")
	e := &Entry{Row: r}
	e.Prefix = DataPrefix(r.NamespaceID, r.ID)
	eng, routes, ok := t.cfg.Catalog.Find(e.Auth(), r.Type, r.Options)
	if ok {
		e.Engine, e.Routes = eng, routes
		_, e.Hall = eng.(engine.Hall)
	}
	m := &engine.Mount{
		ID: r.ID, NamespaceID: r.NamespaceID, Path: r.Path, Type: r.Type, Auth: e.Auth(), Accessor: r.Accessor,
		Description: r.Description, Options: r.Options, Local: r.Local, SealWrap: r.SealWrap,
		DefaultTTL: r.Config.DefaultTTL, MaxTTL: r.Config.MaxTTL, TokenType: ParseTokenType(r.Config.TokenType),
	}
	if m.MaxTTL == 0 {
		m.MaxTTL = t.cfg.MaxTTL
	}
	if m.DefaultTTL == 0 {
		m.DefaultTTL = min(t.cfg.DefaultTTL, m.MaxTTL)
	}
	e.Mount = m
	return e, 1024 + 3*len(value), nil
}

// ParseTokenType reads a token type; what it does not know is TokenDefault.
func ParseTokenType(name string) engine.TokenType {
	switch name {
	case "service":
		return engine.TokenService
	case "batch":
		return engine.TokenBatch
	case "default-service":
		return engine.TokenDefaultService
	case "default-batch":
		return engine.TokenDefaultBatch
	}
	return engine.TokenDefault
}

// Route finds the mount that path belongs to, and the rest of the path below
// it. A path that is a mount's name without the slash belongs to it, too.
// The error is of kind NotFound when there is none.
func (t *Table) Route(tx storage.Tx, ns, path string) (*Entry, string, error) {
	from := 0
	for range MaxSegments {
		i := strings.IndexByte(path[from:], '/')
		end := len(path)
		if i >= 0 {
			end = from + i
		}
		e, err := t.get(tx, ns, path[:end]+"/")
		if err == nil {
			if i < 0 {
				return e, "", nil
			}
			return e, path[end+1:], nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return nil, "", err
		}
		if i < 0 {
			break
		}
		from = end + 1
	}
	return nil, "", storage.ErrNotFound
}

func (t *Table) get(tx storage.Tx, ns, path string) (*Entry, error) {
	return t.cache.Get(tx, rowKey(ns, path))
}

// Get returns the mount at exactly path ("secret/", "auth/approle/"), or an
// error of kind NotFound.
func (t *Table) Get(tx storage.Tx, ns, path string) (*Entry, error) { return t.get(tx, ns, path) }

// ByAccessor returns the mount with an accessor, or an error of kind NotFound.
func (t *Table) ByAccessor(tx storage.Tx, ns, accessor string) (*Entry, error) {
	path, err := tx.Get(accessorKey(ns, accessor))
	if err != nil {
		return nil, err
	}
	return t.get(tx, ns, string(path))
}

// Holds reports whether there is a mount with an accessor; path is one below it, as
// far as is known, at which it is found without asking the store.
func (t *Table) Holds(tx storage.Tx, ns, accessor, path string) (bool, error) {
	e, _, err := t.Route(tx, ns, path)
	if err == nil && e.Accessor == accessor {
		return !e.Ending, nil
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return false, err
	}
	if e, err = t.ByAccessor(tx, ns, accessor); errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && !e.Ending, err // it was moved
}

func accessorKey(ns, accessor string) string {
	return namespace.Prefix(ns) + "accessor/" + accessor
}

// List returns the mounts of a namespace in the order of their paths, auth
// methods or secrets engines.
func (t *Table) List(tx storage.Tx, ns string, auth bool) ([]*Entry, error) {
	var out []*Entry
	prefix := dir(ns)
	scan := prefix
	if auth {
		scan += AuthPrefix
	}
	for kv, err := range tx.Scan(scan, "") {
		if err != nil {
			return nil, err
		}
		e, _, err := t.decode(kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if e.Auth() == auth {
			out = append(out, e)
		}
	}
	return out, nil
}

// Canonical brings a mount path into the stored form: no slash before, one behind.
func Canonical(path string) string {
	path = strings.TrimLeft(path, "/")
	if path == "" || strings.HasSuffix(path, "/") {
		return path
	}
	return path + "/"
}

// CheckPath refuses mount paths that no request could reach: with empty or dot
// segments, characters that cannot be printed, or too many segments.
func CheckPath(path string) error {
	if strings.Count(path, "/") > MaxSegments {
		return errs.New(errs.Invalid, "mount path has more than %d segments", MaxSegments)
	}
	if len(path) > maxPathBytes {
		return errs.New(errs.Invalid, "mount path is longer than %d bytes", maxPathBytes)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return errs.New(errs.Invalid, "mount path %q has an empty or dot segment", path)
		}
	}
	for _, r := range path {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return errs.New(errs.Invalid, "mount path %q has a character that cannot be printed", path)
		}
	}
	return nil
}

const maxPathBytes = 4 << 10

// InUse returns the path of a mount at, above or below path, or "". Within a
// transaction this makes two conflicting mounts impossible.
func (t *Table) InUse(tx storage.Tx, ns, path string) (string, error) {
	e, _, err := t.Route(tx, ns, strings.TrimSuffix(path, "/"))
	if err == nil {
		return e.Path, nil
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return "", err
	}
	for key, err := range tx.Keys(rowKey(ns, path), "") {
		if err != nil {
			return "", err
		}
		return strings.TrimPrefix(key, dir(ns)), nil
	}
	return "", nil
}

// Create stores a new mount and returns it. ID and Accessor are made when empty.
func (t *Table) Create(_ context.Context, tx storage.Tx, ns string, r Row) (*Entry, error) {
	if err := CheckPath(r.Path); err != nil {
		return nil, err
	}
	r.Version = 1
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	for r.Accessor == "" { // until one is found that is free
		a := newAccessor(r.Type, strings.HasPrefix(r.Path, AuthPrefix))
		_, err := tx.Get(accessorKey(ns, a))
		if errors.Is(err, storage.ErrNotFound) {
			r.Accessor = a
		} else if err != nil {
			return nil, err
		}
	}
	if err := tx.Put(accessorKey(ns, r.Accessor), []byte(r.Path)); err != nil {
		return nil, err
	}
	return t.put(tx, ns, r)
}

func newAccessor(typ string, auth bool) string {
	var b [4]byte
	rand.Read(b[:])
	if auth {
		typ = "auth_" + typ
	}
	return typ + "_" + hex.EncodeToString(b[:])
}

func (t *Table) put(tx storage.Tx, ns string, r Row) (*Entry, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	key := rowKey(ns, r.Path)
	if err := tx.Put(key, raw); err != nil {
		return nil, err
	}
	e, _, err := t.decode(key, raw)
	if err != nil {
		return nil, err
	}
	if _, runs := e.Engine.(engine.Runner); runs {
		return e, tx.Put(runKey(e), []byte(r.Path))
	}
	return e, nil
}

// RunDir is where the mounts of engines that run are listed, by namespace, type
// and id.
const RunDir = "n/" + namespace.RootID + "/run/"

func runKey(e *Entry) string { return RunDir + e.NamespaceID + "/" + e.Type + "/" + e.ID }

// Running lists the mounts of an engine that runs. What is left of a mount whose
// namespace is on its way out is passed over.
func (t *Table) Running(tx storage.Tx, typ string) (out []*Entry, err error) {
	for kv, err := range tx.Scan(RunDir, "") {
		if err != nil {
			return nil, err
		}
		ns, rest, _ := strings.Cut(strings.TrimPrefix(kv.Key, RunDir), "/")
		if !strings.HasPrefix(rest, typ+"/") {
			continue
		}
		path := string(kv.Value)
		e, err := t.get(tx, ns, path)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !e.Ending {
			out = append(out, e)
		}
	}
	return out, nil
}

// Update stores a changed row of an existing mount.
func (t *Table) Update(tx storage.Tx, r Row) (*Entry, error) {
	r.Seq++
	return t.put(tx, r.NamespaceID, r)
}

// Delete removes a mount with all its data, atomically.
func (t *Table) Delete(tx storage.Tx, e *Entry) error {
	if err := tx.Delete(rowKey(e.NamespaceID, e.Path)); err != nil {
		return err
	}
	if err := tx.Delete(accessorKey(e.NamespaceID, e.Accessor)); err != nil {
		return err
	}
	if _, runs := e.Engine.(engine.Runner); runs {
		if err := tx.Delete(runKey(e)); err != nil {
			return err
		}
	}
	return tx.DeletePrefix(e.Prefix)
}

// Move renames a mount. Its keys lie under its id, so nothing else moves.
func (t *Table) Move(tx storage.Tx, e *Entry, to string) error {
	if err := CheckPath(to); err != nil {
		return err
	}
	if err := tx.Delete(rowKey(e.NamespaceID, e.Path)); err != nil {
		return err
	}
	if err := tx.Put(accessorKey(e.NamespaceID, e.Accessor), []byte(to)); err != nil {
		return err
	}
	r := e.Row
	r.Path = to
	_, err := t.Update(tx, r)
	return err
}
