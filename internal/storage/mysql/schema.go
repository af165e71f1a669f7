package mysql

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"arca/internal/errs"
)

// prepare looks at the table of entries, and makes it if it is not there.
func (d *Driver) prepare(ctx context.Context, cfg *Config) error {
	err := ensure(ctx, d.db.DB, cfg.Database, cfg.Table, "CREATE TABLE IF NOT EXISTS "+d.table+
		" (vault_key VARBINARY(3072) NOT NULL, vault_value MEDIUMBLOB, PRIMARY KEY (vault_key)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
		map[string][]string{"vault_key": {"varbinary(3072)"}, "vault_value": {"mediumblob", "longblob"}})
	if err != nil {
		return err
	}
	var key []byte
	err = d.db.QueryRowContext(ctx, "SELECT vault_key FROM "+d.table+" WHERE NOT EXISTS (SELECT 1 FROM "+d.table+" AS f WHERE f.vault_key = ?) LIMIT 1", []byte(fenceKey)).Scan(&key)
	if err == nil {
		return errs.New(errs.Invalid, "MySQL: the table %s holds entries that arca did not write (%q, for one), as those of Vault: give arca a table of its own", d.table, key)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return clear(err)
	}
	var flush string
	if err := d.db.QueryRowContext(ctx, "SELECT @@innodb_flush_log_at_trx_commit").Scan(&flush); err == nil && flush != "1" {
		d.log.Warn("a crash of the database can lose what it has acknowledged: set innodb_flush_log_at_trx_commit = 1", "is", flush)
	}
	return nil
}

// prepare looks at the table of locks, and makes it if it is not there.
func (l *Lock) prepare(ctx context.Context, cfg *Config) error {
	return ensure(ctx, l.db.DB, cfg.Database, cfg.LockTable, "CREATE TABLE IF NOT EXISTS "+l.table+
		" (node_job VARBINARY(512) NOT NULL, current_leader VARBINARY(1024) NOT NULL, PRIMARY KEY (node_job)) ENGINE=InnoDB",
		map[string][]string{"node_job": {"varbinary(512)"}, "current_leader": {"varbinary(512)", "varbinary(1024)"}})
}

// ensure checks that a table has the columns, and makes it, and its database, if it is missing.
func ensure(ctx context.Context, db *sql.DB, database, table, create string, columns map[string][]string) error {
	problem, missing, err := check(ctx, db, database, table, columns)
	if err != nil {
		return err
	}
	if missing {
		// Several nodes may make it at once: what counts is that it is there then.
		_, err = db.ExecContext(ctx, create)
		if err != nil {
			if _, err = db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(database)); err == nil {
				_, err = db.ExecContext(ctx, create)
			}
		}
		var cerr error
		if problem, missing, cerr = check(ctx, db, database, table, columns); cerr != nil {
			return cerr
		}
	}
	switch {
	case missing:
		return errs.New(errs.Invalid, "MySQL: the table %s.%s cannot be made: %w; make it by hand (docs/storage.md)", database, table, clear(err))
	case problem != "":
		return errs.New(errs.Invalid, "MySQL: the table %s.%s %s: docs/storage.md has the definition that arca needs", database, table, problem)
	}
	return nil
}

func check(ctx context.Context, db *sql.DB, database, table string, columns map[string][]string) (problem string, missing bool, err error) {
	var engine sql.NullString
	err = db.QueryRowContext(ctx, "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", database, table).Scan(&engine)
	if errors.Is(err, sql.ErrNoRows) {
		return "", true, nil
	}
	if err != nil {
		return "", false, clear(err)
	}
	if engine.String != "InnoDB" {
		return "is of the engine " + engine.String + ", not InnoDB, and knows no transactions", false, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", database, table)
	if err != nil {
		return "", false, clear(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found := 0
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return "", false, clear(err)
		}
		types, ok := columns[name]
		if !ok {
			continue
		}
		if found++; !slices.Contains(types, strings.ToLower(typ)) {
			return "has the column " + name + " " + typ + ", which must be " + types[0], false, nil
		}
	}
	if err := rows.Err(); err != nil {
		return "", false, clear(err)
	}
	if found < len(columns) {
		return "lacks a column", false, nil
	}
	return "", false, nil
}
