package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// Encode and Decode are for the tests.
func Encode(key string) string { return encode(key) }

// Decode is the reverse of Encode.
func Decode(text []byte) (string, error) { return decode(text) }

// With runs fn with a connection, as a read does.
func (d *Driver) With(ctx context.Context, fn func(c *pgconn.PgConn) error) error {
	return d.pool.with(ctx, fn)
}
