package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"arca/internal/errs"
)

// columns of the two tables, with their types; those of text must be sorted by bytes.
var (
	kvColumns   = []string{"parent_path text", "path text", "key text", "value bytea"}
	lockColumns = []string{"ha_key text", "ha_identity text", "ha_value text", "valid_until timestamp with time zone"}
)

// prepare looks at the table of entries, and makes it unless told not to.
func (d *Driver) prepare(ctx context.Context, cfg *Config) error {
	err := d.pool.with(ctx, func(c *pgconn.PgConn) error {
		switch enc := c.ParameterStatus("server_encoding"); enc {
		case "UTF8", "SQL_ASCII", "":
			return nil
		default:
			return errs.New(errs.Invalid, "PostgreSQL: the database has the encoding %s; arca needs one that was made with ENCODING 'UTF8'", enc)
		}
	})
	if err != nil {
		return err
	}
	create := []string{
		`CREATE TABLE IF NOT EXISTS ` + d.table + ` (parent_path TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA,
PRIMARY KEY (path, key))`,
		`ALTER TABLE ` + d.table + ` ALTER COLUMN value SET STORAGE EXTERNAL`, // what is encrypted cannot be compressed
	}
	if err := d.pool.ensure(ctx, d.table, kvColumns, create, cfg.SkipCreate); err != nil {
		return err
	}
	rows, err := d.pool.query(ctx, `SELECT path || key FROM `+d.table+` WHERE NOT EXISTS (SELECT 1 FROM `+d.table+` WHERE path = $1) LIMIT 1`, textParam(fencePath))
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		return errs.New(errs.Invalid, "PostgreSQL: the table %s holds entries that arca did not write (%q, for one), as those of Vault or OpenBao: give arca a table of its own",
			d.table, rows[0][0])
	}
	return nil
}

// prepare looks at the table of locks, and makes it unless told not to.
func (l *Lock) prepare(ctx context.Context, cfg *Config) error {
	return l.pool.ensure(ctx, l.table, lockColumns, []string{
		`CREATE TABLE IF NOT EXISTS ` + l.table + ` (ha_key TEXT COLLATE "C" NOT NULL, ha_identity TEXT COLLATE "C" NOT NULL, ha_value TEXT COLLATE "C",
valid_until TIMESTAMP WITH TIME ZONE NOT NULL, PRIMARY KEY (ha_key))`,
	}, cfg.SkipCreate)
}

// ensure checks that a table has the columns. One that is missing is made.
func (p *pool) ensure(ctx context.Context, table string, columns, create []string, skip bool) error {
	problem, missing, err := p.check(ctx, table, columns)
	if err != nil {
		return err
	}
	if missing && !skip {
		for _, sql := range create {
			// Several nodes may make it at once: what counts is that it is there then.
			if _, err = p.exec(ctx, sql); err != nil {
				break
			}
		}
		var cerr error
		if problem, missing, cerr = p.check(ctx, table, columns); cerr != nil {
			return cerr
		}
		if missing {
			return errs.New(errs.Invalid, "PostgreSQL: the table %s cannot be made: %w; make it by hand (docs/storage.md) and set skip_create_table", table, err)
		}
	}
	switch {
	case missing:
		return errs.New(errs.Invalid, "PostgreSQL: there is no table %s, and skip_create_table forbids to make it: make it by hand (docs/storage.md), or remove skip_create_table", table)
	case problem != "":
		return errs.New(errs.Invalid, "PostgreSQL: the table %s %s: docs/storage.md has the definition that arca needs", table, problem)
	}
	return nil
}

func (p *pool) check(ctx context.Context, table string, columns []string) (problem string, missing bool, err error) {
	rows, err := p.query(ctx, `SELECT a.attname::text, format_type(a.atttypid, NULL),
CASE WHEN co.collname = 'default' THEN (SELECT datcollate::text FROM pg_database WHERE datname = current_database()) ELSE co.collname::text END,
c.relpersistence::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, textParam(table))
	if err != nil || len(rows) == 0 {
		return "", err == nil, err
	}
	var have []string
	for _, row := range rows {
		name, typ, collation := string(row[0]), string(row[1]), string(row[2])
		if typ == "character varying" {
			typ = "text"
		}
		column := name + " " + typ
		have = append(have, column)
		if typ == "text" && slices.Contains(columns, column) && !slices.Contains([]string{"C", "POSIX", "ucs_basic"}, collation) {
			return `sorts its column ` + name + ` by the collation ` + collation + `, not "C"`, false, nil
		}
		if string(row[3]) == "u" {
			return "is UNLOGGED, so that a crash would empty it", false, nil
		}
	}
	for _, c := range columns {
		if !slices.Contains(have, c) {
			return "has no column " + c + " (it has " + strings.Join(have, ", ") + ")", false, nil
		}
	}
	return "", false, nil
}
