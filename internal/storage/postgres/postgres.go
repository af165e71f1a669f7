// Package postgres keeps entries in a table of PostgreSQL: a driver of package remote.
//
// The table has the shape that Vault's documentation gives (parent_path, path, key, value), so that one made by an
// administrator for Vault will do; but arca puts a whole key into path, where the primary key keeps all in order, and leaves
// parent_path and key empty. Scans are ranges of that index, read in pages.
//
// It speaks the protocol by pgconn alone: entries need two types, text and bytes.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
)

// Config of a driver.
type Config struct {
	URL        string // as libpq takes it: a URL or key=value pairs
	Table      string // "" is vault_kv_store; may be schema.table
	HATable    string // "" is vault_ha_locks
	MaxOpen    int    // reads at once, each with a connection; 0 is 16
	MaxIdle    int    // connections kept; 0 is all
	SkipCreate bool   // the tables are there
	HA         bool   // the table of locks is needed
	Log        *slog.Logger
}

// Defaults of a Config.
const (
	DefaultTable   = "vault_kv_store"
	DefaultHATable = "vault_ha_locks"
	defaultOpen    = 16 // more than the processors of most databases, which gain nothing by more
	spareIdle      = 2  // for a write and a claim
	connectTime    = 5 * time.Second
	idleTime       = "5s" // from the last statement of a transaction to its COMMIT
)

// MaxKeyBytes is the longest key, by KeyLen: a third of a page of the index holds it.
const MaxKeyBytes = 2600

// KeyLen is a key's length in the table.
func KeyLen(key string) int { return len(encode(key)) }

// A Driver is a remote.Driver. It is safe for concurrent use.
type Driver struct {
	pool  *pool
	fence fence
	table string // quoted
	sql   statements
}

var (
	_ remote.Driver = (*Driver)(nil)
	_ remote.Lock   = (*Lock)(nil)
)

// statements are made once for the table.
type statements struct {
	get, page, keys, fenced, old, under, put, remove, sweep string
}

// Open connects, checks the tables, and makes them if they are not there.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	p, err := newPool(cfg)
	if err != nil {
		return nil, err
	}
	set := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	set(&cfg.Table, DefaultTable)
	set(&cfg.HATable, DefaultHATable)
	d := &Driver{pool: p, table: quote(cfg.Table)}
	err = d.prepare(ctx, &cfg)
	if err == nil {
		d.fence = fence{pool: p, table: d.table}
		d.fence.timeline, err = p.timeline(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	d.sql = d.statements()
	return d, nil
}

// timeline is what gives the server's timeline, in SQL. Of databases that only speak like PostgreSQL not all have one, nor do all let every user ask for it.
func (p *pool) timeline(ctx context.Context) (expression string, err error) {
	expression = timeline
	err = p.with(ctx, func(c *pgconn.PgConn) error {
		_, err := query(ctx, c, `SELECT `+timeline)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && slices.Contains([]string{undefinedFunction, notPermitted, notSupported, notInState}, refused.Code) {
			p.log.Info("the database tells no timeline: that another server has taken its place shows by lost connections only", "error", refused.Message)
			expression, err = `''`, nil
		}
		return err
	})
	return expression, err
}

func (d *Driver) statements() statements {
	return statements{
		get:    `SELECT value FROM ` + d.table + ` WHERE path = $1 AND key = ''`,
		page:   `SELECT path, value FROM ` + d.table + ` WHERE path >= $1 AND path < $2 AND key = '' ORDER BY path LIMIT $3`,
		keys:   `SELECT path FROM ` + d.table + ` WHERE path >= $1 AND path < $2 AND key = '' ORDER BY path LIMIT $3`,
		old:    `SELECT path, value FROM ` + d.table + ` WHERE path = ANY($1) AND key = ''`,
		under:  `SELECT path, value FROM ` + d.table + ` WHERE path >= $1 AND path < $2 AND key = '' LIMIT $3`,
		remove: `DELETE FROM ` + d.table + ` WHERE path = ANY($1) AND key = ''`,
		sweep:  `DELETE FROM ` + d.table + ` WHERE path >= $1 AND path < $2 AND key = ''`,
		put: `INSERT INTO ` + d.table + ` (parent_path, path, key, value) SELECT '', p, '', v FROM unnest($1, $2) AS u (p, v)
ON CONFLICT (path, key) DO UPDATE SET value = excluded.value`,
		// A writer holds the fence's row till it has committed. Nothing is answered on the strength of a commit that a
		// crash of the database could lose. Nor does a writer that is stopped before its COMMIT, or whose network ends, keep
		// the row from who takes over: the database ends its transaction.
		fenced: `SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
ELSE current_setting('synchronous_commit') END, true), set_config('idle_in_transaction_session_timeout',
CASE WHEN current_setting('idle_in_transaction_session_timeout')::interval BETWEEN '1 ms' AND '` + idleTime + `' THEN
current_setting('idle_in_transaction_session_timeout') ELSE '` + idleTime + `' END, true), f.here::text FROM (SELECT convert_from(value, 'UTF8')::json->>'timeline' = ` + d.fence.timeline + ` AS here FROM ` + d.table + ` WHERE path = '` + fencePath + `' AND key = ''
AND convert_from(value, 'UTF8')::json->>'id' = $1 FOR SHARE) AS f`,
	}
}

// quote makes a name, perhaps with its schema, that of a table.
func quote(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// CheckURL reports what is wrong with a connection URL, without its password.
func CheckURL(text string) error {
	if text == "" {
		return errs.New(errs.Invalid, `it needs a connection_url, as in connection_url = "postgres://vault:secret@localhost:5432/vault"`)
	}
	if _, err := pgconn.ParseConfig(text); err != nil {
		return errs.New(errs.Invalid, "connection_url: %s", withoutPassword(err, text))
	}
	return nil
}

// withoutPassword is the text of an error that may quote the URL.
func withoutPassword(err error, text string) string {
	s := err.Error()
	if u, perr := url.Parse(text); perr == nil {
		// Settings in the query may be secrets, too: only what stands before it is shown.
		s = strings.ReplaceAll(s, u.RawQuery, "…")
		secrets := []string{}
		if pw, ok := u.User.Password(); ok {
			secrets = append(secrets, pw, url.QueryEscape(pw), url.PathEscape(pw))
		}
		for name, values := range u.Query() {
			if strings.Contains(strings.ToLower(name), "password") {
				secrets = append(secrets, values...)
			}
		}
		for _, secret := range secrets {
			if secret != "" {
				s = strings.ReplaceAll(s, secret, "…")
			}
		}
		return s
	}
	// In the form of key=value, anything may be the password.
	return "it cannot be parsed"
}

// Close implements remote.Lock.
func (d *Driver) Close() error {
	d.pool.close()
	return nil
}

// Get implements remote.Driver.
func (d *Driver) Get(ctx context.Context, key string) (value []byte, err error) {
	rows, err := d.pool.read(ctx, d.sql.get, textParam(encode(key)))
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, storage.ErrNotFound
	case rows[0][0] == nil:
		return []byte{}, nil
	}
	return rows[0][0], nil
}

// Page implements remote.Driver.
func (d *Driver) Page(ctx context.Context, p remote.Page) ([]storage.Entry, error) {
	sql := d.sql.page
	if p.KeysOnly {
		sql = d.sql.keys
	}
	rows, err := d.pool.read(ctx, sql, textParam(encode(p.From)), textParam(encode(p.To)), intParam(int64(p.Limit)))
	if err != nil {
		return nil, err
	}
	return entries(rows)
}

func entries(rows [][][]byte) ([]storage.Entry, error) {
	list := make([]storage.Entry, 0, len(rows))
	for _, row := range rows {
		key, err := decode(row[0])
		if err != nil {
			return nil, err
		}
		e := storage.Entry{Key: key}
		if len(row) > 1 {
			e.Value = row[1]
		}
		list = append(list, e)
	}
	return list, nil
}

// Write implements remote.Driver.
func (d *Driver) Write(ctx context.Context, fence string, w *remote.Write, note func(storage.Before)) error {
	for i := range w.Puts {
		if n := KeyLen(w.Puts[i].Key); n > MaxKeyBytes {
			return errs.New(errs.TooLarge, "the storage key has %d bytes, PostgreSQL takes %d", n, MaxKeyBytes)
		}
	}
	return d.pool.once(ctx, func(c *pgconn.PgConn) error {
		return d.write(ctx, c, fence, w, note)
	})
}

// write does all but the commit in one exchange; what fails before the commit has not happened.
func (d *Driver) write(ctx context.Context, c *pgconn.PgConn, fence string, w *remote.Write, note func(storage.Before)) error {
	b := d.batch(fence, w, note != nil)
	results, err := c.ExecBatch(ctx, b.Batch).ReadAll()
	if len(results) == 0 {
		err = atReplica(err)
	}
	if err == nil {
		err = held(results[b.fenced].Rows)
	}
	if err == nil && note != nil {
		err = b.tell(w, results, note)
	}
	if err != nil {
		rollback(ctx, c)
		return err
	}
	return commit(ctx, c)
}

// atReplica gives a replica's refusal of BEGIN … READ WRITE, which it calls unsupported, the code of all other writes that it refuses.
func atReplica(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == notSupported {
		refused.Code = readOnly
	}
	return err
}

// held reports by the answer of statements.fenced why this node may not write, if it may not.
func held(rows [][][]byte) error {
	switch {
	case len(rows) == 0:
		return remote.ErrFenced
	case string(rows[0][2]) != "true":
		return remote.ErrMoved
	}
	return nil
}

func rollback(ctx context.Context, c *pgconn.PgConn) {
	if !c.IsClosed() {
		_, err := c.Exec(ctx, "ROLLBACK").ReadAll()
		if err != nil {
			_ = c.Close(ctx) // the server rolls back then
		}
	}
}

// commit ends a transaction. Only an answer of the server is certain.
func commit(ctx context.Context, c *pgconn.PgConn) error {
	results, err := c.Exec(ctx, "COMMIT").ReadAll()
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Severity == "ERROR" && rolledBack(refused.Code):
		return err
	case err != nil:
		_ = c.Close(ctx) // nothing more is known of it
		return errors.Join(remote.ErrUnknown, err)
	case results[0].CommandTag.String() != "COMMIT":
		return errs.New(errs.Unavailable, "PostgreSQL has rolled the transaction back")
	}
	return nil
}

// rolledBack reports whether a refusal of COMMIT says for certain that nothing was
// committed: a constraint, or a conflict. Of a connection or a server that goes, a
// pooler in between may tell when the commit is done already; 40003 is a completion
// that is unknown.
func rolledBack(code string) bool {
	switch {
	case code == "40003", len(code) != 5:
		return false
	}
	switch code[:2] {
	case "23", "25", "2D", "40":
		return true
	}
	return false
}

// A batch is the statements of a write, and which of them answer what.
type batch struct {
	*pgconn.Batch
	n, fenced, old int
	under          []int // of each prefix
}

func (b *batch) add(sql string, params ...param) int {
	values, oids, formats := split(params)
	b.ExecParams(sql, values, oids, formats, []int16{1})
	b.n++
	return b.n - 1
}

func (d *Driver) batch(fence string, w *remote.Write, noting bool) *batch {
	b := &batch{Batch: &pgconn.Batch{}, old: -1}
	b.add("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	b.fenced = b.add(d.sql.fenced, textParam(fence))
	if keys := w.Keys(); noting && len(keys) > 0 {
		for i := range keys {
			keys[i] = encode(keys[i])
		}
		b.old = b.add(d.sql.old, textsParam(keys))
	}
	for _, p := range w.Prefixes {
		from, to := remote.Range(p)
		if noting {
			b.under = append(b.under, b.add(d.sql.under, textParam(encode(from)), textParam(encode(to)), intParam(remote.MaxKept+1)))
		}
		b.add(d.sql.sweep, textParam(encode(from)), textParam(encode(to)))
	}
	if len(w.Deletes) > 0 {
		keys := make([]string, len(w.Deletes))
		for i, key := range w.Deletes {
			keys[i] = encode(key)
		}
		b.add(d.sql.remove, textsParam(keys))
	}
	if len(w.Puts) > 0 {
		keys, values := make([]string, len(w.Puts)), make([][]byte, len(w.Puts))
		for i := range w.Puts {
			keys[i], values[i] = encode(w.Puts[i].Key), w.Puts[i].Value
		}
		b.add(d.sql.put, textsParam(keys), bytesParam(values))
	}
	return b
}

// tell hands on what the write overwrites.
func (b *batch) tell(w *remote.Write, results []*pgconn.Result, note func(storage.Before)) error {
	var old, swept []storage.Entry
	var err error
	if b.old >= 0 {
		if old, err = entries(results[b.old].Rows); err != nil {
			return err
		}
	}
	var lost []string
	bytes := 0
	for i, n := range b.under {
		list, err := entries(results[n].Rows)
		if err != nil {
			return err
		}
		for _, e := range list {
			bytes += len(e.Key) + len(e.Value)
		}
		if len(list)+len(swept) > remote.MaxKept || bytes > remote.MaxKeptBytes {
			lost = append(lost, w.Prefixes[i])
			continue
		}
		swept = append(swept, list...)
	}
	note(w.Noted(old, swept, lost))
	return nil
}
