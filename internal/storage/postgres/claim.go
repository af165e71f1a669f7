package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"arca/internal/errs"
	"arca/internal/storage/remote"
)

// fencePath is where the fence lies in the table of entries: before all of them, where no scan looks.
const fencePath = "\x01\x01fence"

// fence is who may write: an entry with JSON.
type fence struct {
	pool     *pool
	table    string
	timeline string // what gives the server's, in SQL
}

type fenceRow struct {
	ID       string `json:"id"`
	Holder   string `json:"holder"`
	Until    int64  `json:"until"`    // milliseconds since 1970, by the database's clock
	Timeline string `json:"timeline"` // of the server, when it was claimed
}

const nowMillis = `(extract(epoch FROM clock_timestamp())*1000)::bigint`

// timeline is a number that a replica changes when it becomes the primary: it may lack what the one before it had acknowledged.
const timeline = `(CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END)`

// value is the entry, in SQL, of the parameters id, holder and milliseconds.
func (f fence) value() string { return f.entry(`$2::text`, `$3::text`, nowMillis+` + $4::bigint`) }

func (f fence) entry(id, holder, until string) string {
	return `convert_to(json_build_object('id', ` + id + `, 'holder', ` + holder + `, 'until', ` + until + `, 'timeline', ` + f.timeline + `)::text, 'UTF8')`
}

// Claim implements remote.Lock.
func (f fence) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	err := f.pool.once(ctx, func(conn *pgconn.PgConn) error {
		_, err := query(ctx, conn, `INSERT INTO `+f.table+` AS f (parent_path, path, key, value)
VALUES ('', $1, '', `+f.value()+`)
ON CONFLICT (path, key) DO UPDATE SET value = excluded.value`,
			textParam(fencePath), textParam(c.ID), textParam(c.Value), intParam(c.TTL.Milliseconds()))
		return err
	})
	if err != nil {
		return remote.Holder{}, err
	}
	return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
}

// rowWait is how long a renewal waits for the fence's row, which a writer holds until it has committed.
const rowWait = "1s"

// Renew implements remote.Lock. ErrMoved says that another server is the database now. While a writer holds the row for longer, it looks whose the row is: nobody has taken it.
func (f fence) Renew(ctx context.Context, c remote.Claim) (h remote.Holder, err error) {
	// What is taken anew may be on whichever server is the database now; what is renewed may not.
	err = f.pool.once(ctx, func(conn *pgconn.PgConn) error {
		n, err := f.renew(ctx, conn, c)
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == lockNotAvailable {
			n, err = 0, nil
		}
		if err == nil && n == 0 {
			var moved bool
			if h, moved, err = f.look(ctx, conn); err == nil && moved {
				err = remote.ErrMoved
			}
		}
		if err == nil && (n == 1 || h.ID == c.ID) {
			h = remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}
		}
		return err
	})
	return h, err
}

// renew returns how many rows it has renewed. Both statements are one transaction.
func (f fence) renew(ctx context.Context, conn *pgconn.PgConn, c remote.Claim) (int64, error) {
	b := &batch{Batch: &pgconn.Batch{}}
	b.add(`SELECT set_config('lock_timeout', '` + rowWait + `', true)`)
	n := b.add(`UPDATE `+f.table+` AS f
SET value = `+f.value()+`
WHERE path = $1 AND key = '' AND convert_from(f.value, 'UTF8')::json->>'id' = $2 AND convert_from(f.value, 'UTF8')::json->>'timeline' = `+f.timeline,
		textParam(fencePath), textParam(c.ID), textParam(c.Value), intParam(c.TTL.Milliseconds()))
	results, err := conn.ExecBatch(ctx, b.Batch).ReadAll()
	if err != nil {
		return 0, err
	}
	return results[n].CommandTag.RowsAffected(), nil
}

// Holder implements remote.Lock.
func (f fence) Holder(ctx context.Context) (h remote.Holder, err error) {
	err = f.pool.with(ctx, func(conn *pgconn.PgConn) error {
		h, _, err = f.look(ctx, conn)
		return err
	})
	return h, err
}

// look returns who has the fence, by what is committed, and whether it was claimed at another server.
func (f fence) look(ctx context.Context, conn *pgconn.PgConn) (h remote.Holder, moved bool, err error) {
	rows, err := query(ctx, conn, `SELECT value, `+nowMillis+`::text, `+f.timeline+` FROM `+f.table+` WHERE path = $1 AND key = ''`, textParam(fencePath))
	if err != nil || len(rows) == 0 {
		return h, false, err
	}
	var row fenceRow
	at, err := strconv.ParseInt(string(rows[0][1]), 10, 64)
	if err == nil {
		err = json.Unmarshal(rows[0][0], &row)
	}
	if err != nil {
		return h, false, errs.New(errs.Failed, "the entry %q of the table was not written by arca: %w", fencePath, err)
	}
	return remote.Holder{ID: row.ID, Value: row.Holder, Left: time.Duration(row.Until-at) * time.Millisecond}, remote.Moved(row.Timeline, string(rows[0][2])), nil
}

// Release implements remote.Lock.
func (f fence) Release(ctx context.Context, id string) error {
	_, err := f.pool.exec(ctx, `UPDATE `+f.table+` AS f SET value = `+f.entry(`''`, `''`, `0`)+`
WHERE path = $1 AND key = '' AND convert_from(f.value, 'UTF8')::json->>'id' = $2`, textParam(fencePath), textParam(id))
	return err
}

// Claim implements remote.Lock.
func (d *Driver) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	return d.fence.Claim(ctx, c)
}

// Renew implements remote.Lock.
func (d *Driver) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	return d.fence.Renew(ctx, c)
}

// Holder implements remote.Lock.
func (d *Driver) Holder(ctx context.Context) (remote.Holder, error) { return d.fence.Holder(ctx) }

// Release implements remote.Lock.
func (d *Driver) Release(ctx context.Context, id string) error { return d.fence.Release(ctx, id) }

// lockKey is that of Vault's lock.
const lockKey = "core/lock"

// A Lock is a row of the table of locks. It is safe for concurrent use.
type Lock struct {
	pool  *pool
	table string
}

// OpenLock connects, and makes the table if it is not there.
func OpenLock(ctx context.Context, cfg Config) (*Lock, error) {
	p, err := newPool(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.HATable == "" {
		cfg.HATable = DefaultHATable
	}
	l := &Lock{p, quote(cfg.HATable)}
	if err := l.prepare(ctx, &cfg); err != nil {
		p.close()
		return nil, err
	}
	return l, nil
}

// Close implements remote.Lock.
func (l *Lock) Close() error {
	l.pool.close()
	return nil
}

// Claim implements remote.Lock.
func (l *Lock) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	n, err := l.pool.exec(ctx, `INSERT INTO `+l.table+` AS l (ha_key, ha_identity, ha_value, valid_until)
VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond')
ON CONFLICT (ha_key) DO UPDATE SET ha_identity = excluded.ha_identity, ha_value = excluded.ha_value, valid_until = excluded.valid_until
WHERE $5 OR l.valid_until < clock_timestamp() OR l.ha_identity IN ($2, $6)`,
		textParam(lockKey), textParam(c.ID), textParam(c.Value), intParam(c.TTL.Milliseconds()), boolParam(c.Steal), textParam(c.After))
	if err != nil {
		return remote.Holder{}, err
	}
	if n == 1 {
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	return l.Holder(ctx)
}

// Renew implements remote.Lock.
func (l *Lock) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	n, err := l.pool.exec(ctx, `UPDATE `+l.table+` SET valid_until = clock_timestamp() + $3 * interval '1 millisecond'
WHERE ha_key = $1 AND ha_identity = $2`, textParam(lockKey), textParam(c.ID), intParam(c.TTL.Milliseconds()))
	if err != nil {
		return remote.Holder{}, err
	}
	if n == 1 {
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	return l.Holder(ctx)
}

// Holder implements remote.Lock.
func (l *Lock) Holder(ctx context.Context) (h remote.Holder, err error) {
	rows, err := l.pool.query(ctx, `SELECT ha_identity, ha_value, ((extract(epoch FROM valid_until - clock_timestamp()))*1000)::bigint::text
FROM `+l.table+` WHERE ha_key = $1 AND valid_until >= clock_timestamp()`, textParam(lockKey))
	if err != nil || len(rows) == 0 {
		return h, err
	}
	left, err := strconv.ParseInt(string(rows[0][2]), 10, 64)
	if err != nil {
		return h, errs.New(errs.Failed, "the table of locks was not written by arca: %w", err)
	}
	return remote.Holder{ID: string(rows[0][0]), Value: string(rows[0][1]), Left: time.Duration(left) * time.Millisecond}, nil
}

// Release implements remote.Lock.
func (l *Lock) Release(ctx context.Context, id string) error {
	_, err := l.pool.exec(ctx, `DELETE FROM `+l.table+` WHERE ha_key = $1 AND ha_identity = $2`, textParam(lockKey), textParam(id))
	return err
}
