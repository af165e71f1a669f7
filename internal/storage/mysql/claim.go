package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"arca/internal/errs"
	"arca/internal/storage/remote"
)

// fenceKey is where the fence lies in the table of entries: where no scan looks.
const fenceKey = "\x00fence"

// lockName is the row of Vault's table of locks.
const lockName = "arca"

// A Lock is a row with JSON, of the table of locks or, as the fence, of that of entries. It is safe for concurrent use.
type Lock struct {
	db         *handle
	table      string
	key, value string // its columns
	name       string // of the row
	server     string // what tells the server from the replicas of it, in SQL; the row says where it was claimed
}

// server is different at each server of a replication: it asks for server_id to be so.
const server = "CONCAT(@@global.server_id, ' ', @@hostname, ':', @@port)"

// identify finds out whether the server tells which it is. Of proxies, and of databases that only speak like MySQL, not all do.
func (d *Driver) identify(ctx context.Context) error {
	var id sql.NullString
	err := d.db.QueryRowContext(ctx, "SELECT "+server).Scan(&id)
	var refused *driver.MySQLError
	switch {
	case err == nil && id.Valid:
		return nil
	case errors.As(err, &refused) && !slices.Contains([]uint16{errSyntax, errNoVariable, errNotPermitted, errNotSupported, errVariableScope}, refused.Number),
		err != nil && refused == nil:
		return clear(err)
	}
	d.log.Info("the database does not tell which server it is: that another has taken its place shows by lost connections only", "error", err)
	d.server = "''"
	return nil
}

type lockRow struct {
	ID     string `json:"id"`
	Holder string `json:"holder"`
	Until  int64  `json:"until"` // milliseconds since 1970, by the database's clock
	Server string `json:"server,omitempty"`
}

// held is who has the lock, and whether it was claimed at another server.
type held struct {
	remote.Holder
	moved bool
}

// OpenLock connects, and makes the table if it is not there.
func OpenLock(ctx context.Context, cfg Config) (*Lock, error) {
	db, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	l := &Lock{db: newHandle(db, &cfg), table: quote(cfg.Database) + "." + quote(cfg.LockTable), key: "node_job", value: "current_leader", name: lockName, server: "''"}
	if err := l.prepare(ctx, &cfg); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close implements remote.Lock.
func (l *Lock) Close() error { return l.db.Close() }

// locked reads the row, and holds it till the transaction ends.
func (l *Lock) locked(ctx context.Context, c *sql.Conn) (held, error) {
	return l.read(c.QueryRowContext(ctx, "SELECT "+l.value+", "+l.now()+" FROM "+l.table+" WHERE "+l.key+" = ? FOR UPDATE", []byte(l.name)))
}

// committed reads the row as it is, whoever holds it.
func (l *Lock) committed(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (held, error) {
	return l.read(q.QueryRowContext(ctx, "SELECT "+l.value+", "+l.now()+" FROM "+l.table+" WHERE "+l.key+" = ?", []byte(l.name)))
}

// now is the time at the server, in milliseconds since 1970, and which server that is.
func (l *Lock) now() string {
	return "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED), " + l.server
}

func (l *Lock) read(r *sql.Row) (h held, err error) {
	var text []byte
	var now int64
	var here string
	var row lockRow
	err = r.Scan(&text, &now, &here)
	if errors.Is(err, sql.ErrNoRows) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &row); err != nil {
		return h, errs.New(errs.Failed, "the row %q of the table %s was not written by arca: %w", l.name, l.table, err)
	}
	return held{remote.Holder{ID: row.ID, Value: row.Holder, Left: time.Duration(row.Until-now) * time.Millisecond}, remote.Moved(row.Server, here)}, nil
}

// Holder implements remote.Lock.
func (l *Lock) Holder(ctx context.Context) (remote.Holder, error) {
	h, err := l.committed(ctx, l.db)
	if err == nil && h.Left <= 0 {
		h = held{}
	}
	return h.Holder, clear(err)
}

// Claim implements remote.Lock.
func (l *Lock) Claim(ctx context.Context, c remote.Claim) (h remote.Holder, err error) {
	run := transaction
	if l.name == fenceKey {
		run = once // a claim that was lost may come late, when another has the fence
	}
	err = run(ctx, l.db, func(conn *sql.Conn) error {
		was, err := l.locked(ctx, conn)
		if err != nil {
			return err
		}
		h = was.Holder
		mine := h.ID == c.ID || c.After != "" && h.ID == c.After // the transaction may run twice
		free := h.ID == "" || h.Left < 0
		if !c.Steal && !mine && !free {
			return nil
		}
		h = remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}
		return l.put(ctx, conn, lockRow{ID: c.ID, Holder: c.Value}, c.TTL)
	})
	return h, err
}

// Renew implements remote.Lock. ErrMoved says, of the fence, that another server is the database now. While a writer holds the fence's row for long,
// it looks whose the row is: nobody has taken it.
func (l *Lock) Renew(ctx context.Context, c remote.Claim) (h remote.Holder, err error) {
	run, find := transaction, l.locked
	if l.name == fenceKey {
		run = once // what is taken anew may be on whichever server is the database now; what is renewed may not
		find = l.lockedSoon
	}
	err = run(ctx, l.db, func(conn *sql.Conn) error {
		was, err := find(ctx, conn)
		inUse := errors.Is(err, errHeld)
		if inUse {
			was, err = l.committed(ctx, conn)
		}
		h = was.Holder
		switch {
		case err != nil:
			return err
		case was.moved:
			return remote.ErrMoved
		case h.ID != c.ID:
			return nil
		}
		h = remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}
		if inUse {
			return nil
		}
		return l.put(ctx, conn, lockRow{ID: c.ID, Holder: c.Value}, c.TTL)
	})
	if l.name == fenceKey && errors.Is(err, remote.ErrUnknown) && ctx.Err() == nil { // lost at the commit
		err = fmt.Errorf("%w: %w", remote.ErrLost, err)
	}
	return h, err
}

var errHeld = errors.New("another transaction holds the row")

// lockedSoon is locked, for which it waits a second at most. errHeld says that it was not had.
func (l *Lock) lockedSoon(ctx context.Context, c *sql.Conn) (h held, err error) {
	if _, err := c.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = 1"); err != nil {
		return h, err
	}
	h, err = l.locked(ctx, c)
	if _, serr := c.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = DEFAULT"); serr != nil {
		discard(c) // others would not wait for as long as they should
		return h, errors.Join(err, serr)
	}
	var e *driver.MySQLError
	if errors.As(err, &e) && e.Number == errLockWait {
		err = errHeld
	}
	return h, err
}

func (l *Lock) put(ctx context.Context, conn *sql.Conn, row lockRow, ttl time.Duration) error {
	if err := conn.QueryRowContext(ctx, "SELECT "+l.now()).Scan(&row.Until, &row.Server); err != nil {
		return err
	}
	row.Until += ttl.Milliseconds()
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "INSERT INTO "+l.table+" ("+l.key+", "+l.value+") VALUES (?, ?) ON DUPLICATE KEY UPDATE "+l.value+" = VALUES("+l.value+")", //nolint:gosec // G202: quoted names
		[]byte(l.name), text)
	return err
}

// Release implements remote.Lock.
func (l *Lock) Release(ctx context.Context, id string) error {
	return transaction(ctx, l.db, func(conn *sql.Conn) error {
		h, err := l.locked(ctx, conn)
		if err != nil || h.ID != id {
			return err
		}
		return l.put(ctx, conn, lockRow{}, 0)
	})
}
