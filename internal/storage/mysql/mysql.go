// Package mysql keeps entries in a table of MySQL or MariaDB: a driver of package remote.
//
// The table is Vault's (vault_key, vault_value); keys are bytes and sorted as such, so that they stand there as they are.
package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/remote"
)

// Config of a driver.
type Config struct {
	Address            string // host:port, or the path of a socket; "" is 127.0.0.1:3306
	Database           string // "" is vault; made if it is not there
	Table              string // "" is vault
	LockTable          string // "" is the table's name and _lock
	Username, Password string
	CAFile             string // of the server's certificate; "" is a connection in clear
	MaxOpen            int    // reads at once, each with a connection; 0 is 16
	MaxIdle            int    // connections kept; 0 is all
	MaxLifetime        time.Duration
	Log                *slog.Logger
}

const (
	defaultAddress = "127.0.0.1:3306"
	defaultName    = "vault"
	defaultOpen    = 16 // more than the processors of most databases, which gain nothing by more
	writers        = 3  // connections for a write and for claims
	connectTime    = 5 * time.Second
	idleTime       = 20 * time.Second // of a connection for writes, before the server ends it: when one is lost, something has happened
	chunkBytes     = 1 << 20          // of one statement, unless one value alone is larger
	chunkRows      = 1000
)

// MaxKeyBytes is the longest key: InnoDB's index holds it.
const MaxKeyBytes = 3072

// maxValueBytes is what a MEDIUMBLOB holds.
const maxValueBytes = 1<<24 - 1

// A Driver is a remote.Driver. It is safe for concurrent use.
type Driver struct {
	*Lock         // the fence, in the table of entries; its connections are those of writes, too
	db    *handle // of reads
	table string  // quoted
	log   *slog.Logger
}

var (
	_ remote.Driver = (*Driver)(nil)
	_ remote.Lock   = (*Lock)(nil)
)

func (c *Config) withDefaults() {
	set := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	set(&c.Address, defaultAddress)
	set(&c.Database, defaultName)
	set(&c.Table, defaultName)
	set(&c.LockTable, c.Table+"_lock")
	if c.MaxOpen <= 0 {
		c.MaxOpen = defaultOpen
	}
	if c.MaxIdle <= 0 {
		c.MaxIdle = c.MaxOpen
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// connect makes the handle; connections are made when they are needed.
func connect(cfg *Config) (*sql.DB, error) {
	cfg.withDefaults()
	if cfg.Username == "" {
		return nil, errs.New(errs.Invalid, "it needs a username and a password")
	}
	m := driver.NewConfig()
	m.User, m.Passwd, m.Net, m.Addr = cfg.Username, cfg.Password, "tcp", cfg.Address
	if strings.HasPrefix(cfg.Address, "/") {
		m.Net = "unix"
	} else if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		m.Addr = net.JoinHostPort(cfg.Address, "3306")
	}
	m.Timeout, m.InterpolateParams = connectTime, true
	m.Logger = quiet{} // errors come back to us
	m.MaxAllowedPacket = 0
	m.RejectReadOnly = true // such a connection is of no use: the primary is elsewhere
	// Nothing is cut to fit, and times are the same everywhere.
	// A node that stands still inside a transaction must not keep its locks: MariaDB ends it then. To MySQL, which has no such
	// setting, the last part is a comment.
	m.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES'", "time_zone": "'+00:00' /*M!100300 , idle_transaction_timeout = 5 */"}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, errs.New(errs.Invalid, "tls_ca_file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, errs.New(errs.Invalid, "tls_ca_file %q holds no certificate in PEM", cfg.CAFile)
		}
		host, _, _ := net.SplitHostPort(m.Addr) // was checked; "" for a socket
		m.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}
	}
	c, err := driver.NewConnector(m)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(cfg.MaxOpen)
	db.SetMaxIdleConns(min(cfg.MaxIdle, cfg.MaxOpen))
	db.SetConnMaxLifetime(cfg.MaxLifetime)
	return db, nil
}

// quiet says nothing.
type quiet struct{}

// Print implements the driver's Logger.
func (quiet) Print(...any) {}

// Open connects, checks the table, and makes it if it is not there.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	db, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	few := cfg
	few.MaxOpen, few.MaxIdle = writers, writers
	writes, err := connect(&few)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	writes.SetConnMaxIdleTime(idleTime)
	d := &Driver{db: newHandle(db, &cfg), table: quote(cfg.Database) + "." + quote(cfg.Table), log: cfg.Log}
	d.Lock = &Lock{db: newHandle(writes, &few, d.db), table: d.table, key: "vault_key", value: "vault_value", name: fenceKey, server: server}
	err = d.prepare(ctx, &cfg)
	if err == nil {
		err = d.identify(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// quote makes a name that of a table.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Close implements remote.Lock.
func (d *Driver) Close() error { return errors.Join(d.db.Close(), d.Lock.Close()) }

// Get implements remote.Driver.
func (d *Driver) Get(ctx context.Context, key string) (value []byte, err error) {
	err = d.db.read(ctx, func(c *sql.Conn) error {
		return c.QueryRowContext(ctx, "SELECT vault_value FROM "+d.table+" WHERE vault_key = ?", []byte(key)).Scan(&value)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, storage.ErrNotFound
	case err != nil:
		return nil, clear(err)
	case value == nil:
		return []byte{}, nil
	}
	return value, nil
}

// Page implements remote.Driver.
func (d *Driver) Page(ctx context.Context, p remote.Page) (list []storage.Entry, err error) {
	err = d.db.read(ctx, func(c *sql.Conn) error {
		list, err = page(ctx, c, d.table, p)
		return err
	})
	return list, clear(err)
}

func page(ctx context.Context, q *sql.Conn, table string, p remote.Page) ([]storage.Entry, error) {
	columns := "vault_key, vault_value"
	if p.KeysOnly {
		columns = "vault_key"
	}
	rows, err := q.QueryContext(ctx, "SELECT "+columns+" FROM "+table+" WHERE vault_key >= ? AND vault_key < ? ORDER BY vault_key LIMIT ?", //nolint:gosec // G202: quoted names
		[]byte(p.From), []byte(p.To), p.Limit)
	if err != nil {
		return nil, err
	}
	return entries(rows, p.KeysOnly)
}

func entries(rows *sql.Rows, keysOnly bool) (list []storage.Entry, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key, value []byte
		to := []any{&key, &value}
		if keysOnly {
			to = to[:1]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		list = append(list, storage.Entry{Key: string(key), Value: value})
	}
	return list, rows.Err()
}

// Write implements remote.Driver.
func (d *Driver) Write(ctx context.Context, fence string, w *remote.Write, note func(storage.Before)) error {
	for i := range w.Puts {
		switch e := &w.Puts[i]; {
		case len(e.Key) > MaxKeyBytes:
			return errs.New(errs.TooLarge, "the storage key has %d bytes, MySQL takes %d", len(e.Key), MaxKeyBytes)
		case len(e.Value) > maxValueBytes:
			return errs.New(errs.TooLarge, "the value of %q has %d bytes, MySQL takes %d", e.Key, len(e.Value), maxValueBytes)
		}
	}
	return once(ctx, d.Lock.db, func(c *sql.Conn) error {
		h, err := d.locked(ctx, c)
		if err != nil {
			return err
		}
		switch {
		case h.ID != fence:
			return remote.ErrFenced
		case h.moved:
			return remote.ErrMoved
		}
		if note != nil {
			if err := d.tell(ctx, c, w, note); err != nil {
				return err
			}
		}
		return d.write(ctx, c, w)
	})
}

// write does what a write comes to, in statements of bounded size.
func (d *Driver) write(ctx context.Context, c *sql.Conn, w *remote.Write) error {
	for _, p := range w.Prefixes {
		from, to := remote.Range(p)
		if _, err := c.ExecContext(ctx, "DELETE FROM "+d.table+" WHERE vault_key >= ? AND vault_key < ?", []byte(from), []byte(to)); err != nil { //nolint:gosec // G202: a quoted name
			return err
		}
	}
	for keys := range chunks(w.Deletes, func(key string) int { return len(key) }) {
		if _, err := c.ExecContext(ctx, "DELETE FROM "+d.table+" WHERE vault_key IN ("+marks("?", len(keys))+")", anys(keys)...); err != nil { //nolint:gosec // G202: a quoted name
			return err
		}
	}
	for puts := range chunks(w.Puts, func(e storage.Entry) int { return len(e.Key) + len(e.Value) }) {
		args := make([]any, 0, 2*len(puts))
		for i := range puts {
			value := puts[i].Value
			if value == nil {
				value = []byte{}
			}
			args = append(args, []byte(puts[i].Key), value)
		}
		if _, err := c.ExecContext(ctx, "INSERT INTO "+d.table+" (vault_key, vault_value) VALUES "+marks("(?, ?)", len(puts))+ //nolint:gosec // G202: a quoted name
			" ON DUPLICATE KEY UPDATE vault_value = VALUES(vault_value)", args...); err != nil {
			return err
		}
	}
	return nil
}

// tell hands on what the write overwrites.
func (d *Driver) tell(ctx context.Context, c *sql.Conn, w *remote.Write, note func(storage.Before)) error {
	var old []storage.Entry
	for keys := range chunks(w.Keys(), func(key string) int { return len(key) }) {
		rows, err := c.QueryContext(ctx, "SELECT vault_key, vault_value FROM "+d.table+" WHERE vault_key IN ("+marks("?", len(keys))+")", anys(keys)...) //nolint:gosec // G202: a quoted name
		if err != nil {
			return err
		}
		list, err := entries(rows, false)
		if err != nil {
			return err
		}
		old = append(old, list...)
	}
	swept, lost, err := w.Swept(func(p remote.Page) ([]storage.Entry, error) { return page(ctx, c, d.table, p) })
	if err != nil {
		return err
	}
	note(w.Noted(old, swept, lost))
	return nil
}
