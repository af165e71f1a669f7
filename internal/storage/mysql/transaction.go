package mysql

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"arca/internal/errs"
	"arca/internal/storage/remote"
)

// transaction runs fn on one connection and commits, once more on another connection if the first was lost before the
// commit was sent.
func transaction(ctx context.Context, db *handle, fn func(c *sql.Conn) error) error {
	for again := false; ; again = true {
		lost, err := attempt(ctx, db, fn)
		if err == nil || !lost || again || ctx.Err() != nil {
			return clear(err)
		}
	}
}

// once is a transaction that is not run again: what was written before may be lost with the connection.
func once(ctx context.Context, db *handle, fn func(c *sql.Conn) error) error {
	lost, err := attempt(ctx, db, fn)
	if err = clear(err); lost {
		return fmt.Errorf("%w: %w", remote.ErrLost, err)
	}
	return err
}

// attempt reports whether the connection was lost before the commit was sent. The others are given up then.
func attempt(ctx context.Context, db *handle, fn func(c *sql.Conn) error) (lost bool, err error) {
	defer func() {
		// A request that was given up closes its connection, too; that says nothing of the server.
		if (gone(err) || errors.Is(err, remote.ErrMoved)) && ctx.Err() == nil {
			db.drop()
		}
	}()
	c, done, err := db.conn(ctx)
	if err != nil {
		return gone(err), err
	}
	defer done()
	_, err = c.ExecContext(ctx, "START TRANSACTION")
	if err == nil {
		err = fn(c)
	}
	if err != nil {
		if _, rerr := c.ExecContext(ctx, "ROLLBACK"); rerr != nil || gone(err) {
			discard(c) // the server rolls back then
		}
		return gone(err) && ctx.Err() == nil, err
	}
	if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
		discard(c)
		var refused *driver.MySQLError
		if errors.As(err, &refused) && rolledBack(refused.Number) {
			return false, err
		}
		return false, errors.Join(remote.ErrUnknown, err)
	}
	return false, nil
}

// rolledBack reports whether a refusal of COMMIT says for certain that nothing was committed: a deadlock, as which Galera tells of a conflict, too. An
// error during the commit (1180) does not: a node of Galera that loses the others tells so of what these may have taken.
func rolledBack(number uint16) bool { return number == errDeadlock }

// discard closes a connection for good.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return sqldriver.ErrBadConn }) // says just that
}

// gone reports whether an error says that the connection is of no use any more.
func gone(err error) bool {
	var e *driver.MySQLError
	if errors.As(err, &e) {
		return e.Number == errShutdown || readOnly(e)
	}
	return errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, driver.ErrInvalidConn)
}

// readOnly reports whether the server only reads: a replica, or what was the primary until a moment ago.
func readOnly(e *driver.MySQLError) bool {
	return e.Number == errReadOnly || e.Number == errReadOnlyTrx || e.Number == errReadOnlyMode
}

// Errors of the server.
const (
	errShutdown      = 1053
	errSyntax        = 1064
	errPacketTooBig  = 1153
	errLockWait      = 1205
	errNoVariable    = 1193
	errDeadlock      = 1213
	errNotPermitted  = 1227
	errNotSupported  = 1235
	errVariableScope = 1238
	errNoTable       = 1146
	errNoColumn      = 1054
	errReadOnly      = 1290
	errReadOnlyTrx   = 1792
	errReadOnlyMode  = 1836
	errDiskFull      = 1021
	errTableFull     = 1114
	errAccessDenied  = 1045
	errDatabaseRight = 1044
)

// clear makes errors of the server and the connection such that an operator understands.
func clear(err error) error {
	var kinded *errs.Error
	if err == nil || errors.As(err, &kinded) || errors.Is(err, remote.ErrUnknown) || errors.Is(err, remote.ErrFenced) || errors.Is(err, remote.ErrLost) {
		return err
	}
	var e *driver.MySQLError
	if !errors.As(err, &e) {
		if errors.Is(err, driver.ErrPktTooLarge) {
			return errs.New(errs.TooLarge, "MySQL: a value is larger than the server's max_allowed_packet")
		}
		if errors.Is(err, sqldriver.ErrBadConn) { // the driver leaves open which
			return errs.New(errs.Unavailable, "MySQL: the connection was lost, or this server only reads (a replica?); name the primary in address: %w", err)
		}
		return errs.New(errs.Unavailable, "MySQL cannot be reached: %w", err)
	}
	switch e.Number {
	case errPacketTooBig:
		return errs.New(errs.TooLarge, "MySQL: a value is larger than the server's max_allowed_packet: %s", e.Message)
	case errNoTable, errNoColumn:
		return errs.New(errs.Unavailable, "MySQL: the table is not as arca needs it (%s): see docs/storage.md for its definition", e.Message)
	case errReadOnly, errReadOnlyTrx, errReadOnlyMode:
		return errs.New(errs.Unavailable, "MySQL: this server only reads (a replica?); name the primary in address: %s", e.Message)
	case errDiskFull, errTableFull:
		return errs.New(errs.Unavailable, "MySQL: the disk of the database is full: %s", e.Message)
	case errAccessDenied, errDatabaseRight:
		return errs.New(errs.Unavailable, "MySQL: %s: check username and password, and the rights of this user", e.Message)
	}
	return errs.New(errs.Unavailable, "MySQL: %s (error %d)", e.Message, e.Number)
}

// chunks cuts a list into parts of bounded size.
func chunks[T any](list []T, size func(T) int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for len(list) > 0 {
			n, bytes := 0, 0
			for n < len(list) && n < chunkRows && (n == 0 || bytes+size(list[n]) <= chunkBytes) {
				bytes += size(list[n])
				n++
			}
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}

func marks(one string, n int) string { return strings.Repeat(one+", ", n-1) + one }

func anys(keys []string) []any {
	out := make([]any, len(keys))
	for i, key := range keys {
		out[i] = []byte(key)
	}
	return out
}
