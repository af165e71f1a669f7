package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"arca/internal/errs"
	"arca/internal/socket"
	"arca/internal/storage/remote"
)

// A pool keeps connections for the next who needs one.
type pool struct {
	cfg   *pgconn.Config
	log   *slog.Logger
	slots chan struct{} // one for each read under way; writes and claims, of which there are few, wait for none

	mu     sync.Mutex
	idle   []*pgconn.PgConn
	most   int // of idle
	drops  int // how often the connections were given up
	closed bool
}

// A conn is a connection that somebody uses.
type conn struct {
	*pgconn.PgConn
	drops int // of the pool, before it was taken or made
}

// Codes of the server's refusals (SQLSTATE).
const (
	notSupported      = "0A000"
	readOnly          = "25006" // the transaction, or the server
	notPermitted      = "42501"
	undefinedFunction = "42883"
	notInState        = "55000" // that it is in
	lockNotAvailable  = "55P03"
)

func newPool(cfg Config) (*pool, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	c, err := pgconn.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errs.New(errs.Invalid, "connection_url: %s", withoutPassword(err, cfg.URL))
	}
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTime {
		c.ConnectTimeout = connectTime
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "arca"
	}
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.ValidateConnect = primary(c.ValidateConnect)
	if cfg.MaxOpen <= 0 {
		cfg.MaxOpen = defaultOpen
	}
	if cfg.MaxIdle <= 0 {
		cfg.MaxIdle = cfg.MaxOpen + spareIdle
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &pool{cfg: c, log: cfg.Log, slots: make(chan struct{}, cfg.MaxOpen), most: cfg.MaxIdle}, nil
}

// errReplica refuses a connection with a server that only follows another: what is read there may be old.
var errReplica = errors.New("this server only reads (a replica?); name the primary in connection_url")

// primary has no connection lead to a replica, also where connection_url names several servers, or a name that stands for them: then the next one
// is tried. wanted is what target_session_attrs asks for besides; nil for nothing. A database that cannot say whether it is a replica is taken for none.
func primary(wanted pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		rows, err := query(ctx, c, `SELECT pg_is_in_recovery()::text`)
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused) && slices.Contains([]string{undefinedFunction, notPermitted, notSupported}, refused.Code): // it does not know the question
		case err != nil:
			return err
		case len(rows) == 1 && string(rows[0][0]) == "true":
			return errReplica
		}
		if wanted == nil {
			return nil
		}
		return wanted(ctx, c)
	}
}

// atReplicas reports whether an attempt to connect has found replicas, and no server that may be the primary and takes no more connections.
func atReplicas(err error) bool {
	var refused *pgconn.PgError
	return errors.Is(err, errReplica) && !errors.As(err, &refused)
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Close(context.Background()) // nothing is under way
	}
}

// with runs fn with a connection, and once more with a new one if that which it got was lost before anything happened.
func (p *pool) with(ctx context.Context, fn func(c *pgconn.PgConn) error) error {
	c, fresh, err := p.take(ctx)
	if err != nil {
		return err
	}
	err = fn(c.PgConn)
	if !fresh && broken(c.PgConn, err) && ctx.Err() == nil {
		p.give(c, err)
		p.drop()
		if c, err = p.dial(ctx); err != nil {
			return err
		}
		err = fn(c.PgConn)
	}
	p.give(c, err)
	return clear(err)
}

// once runs fn with a connection, and not again: what was acknowledged before may be lost with the server behind it. A connection that was closed
// while nobody used it, by a pooler for one, says nothing of the server. The error is remote.ErrLost where the connection was lost, or the server only
// reads now, before anything happened.
func (p *pool) once(ctx context.Context, fn func(c *pgconn.PgConn) error) error {
	c, fresh, err := p.take(ctx)
	if err != nil {
		return err
	}
	if !fresh && socket.Stale(c.Conn()) {
		_ = c.Conn().Close() // it is closed already
		p.drop()
		if c, err = p.dial(ctx); err != nil && ctx.Err() == nil { // no pooler, but the server's end
			return fmt.Errorf("%w: %w", remote.ErrLost, err)
		} else if err != nil {
			return err
		}
	}
	err = fn(c.PgConn)
	lost := broken(c.PgConn, err) && ctx.Err() == nil
	if lost || errors.Is(err, remote.ErrMoved) { // so are the others, or with the server before this one
		p.drop()
	}
	p.give(c, err)
	if err = clear(err); lost {
		return fmt.Errorf("%w: %w", remote.ErrLost, err)
	}
	return err
}

// broken reports whether err says that the connection was lost before anything happened.
func broken(c *pgconn.PgConn, err error) bool {
	if err == nil || errors.Is(err, remote.ErrUnknown) {
		return false
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// The server is shutting down or starting, or is a standby since a moment ago.
		return strings.HasPrefix(e.Code, "57P") || strings.HasPrefix(e.Code, "08") || e.Code == readOnly
	}
	return c.IsClosed()
}

func (p *pool) take(ctx context.Context) (c conn, fresh bool, err error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c = conn{p.idle[n-1], p.drops}
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, false, nil
	}
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return c, false, errs.New(errs.Unavailable, "the storage is closed")
	}
	c, err = p.dial(ctx)
	return c, true, err
}

func (p *pool) dial(ctx context.Context) (conn, error) {
	p.mu.Lock()
	drops := p.drops
	p.mu.Unlock()
	c, err := pgconn.ConnectConfig(ctx, p.cfg)
	switch {
	case atReplicas(err): // another is the primary, or is to become it
		return conn{}, errs.New(errs.Unavailable, "PostgreSQL: %w (%w)", errReplica, remote.ErrLost)
	case err != nil:
		return conn{}, errs.New(errs.Unavailable, "PostgreSQL cannot be reached: %s", strings.ReplaceAll(err.Error(), "\n\t", " "))
	}
	return conn{c, drops}, nil
}

// drop closes the connections that are kept: if one is lost, the others are. Those in use are closed when they are given back.
func (p *pool) drop() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.drops++
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Conn().Close() // nothing is under way
	}
}

// give keeps a connection for the next, or closes it: also if the connections were given up since it was taken.
func (p *pool) give(c conn, err error) {
	if c.IsClosed() {
		return
	}
	p.mu.Lock()
	keep := !p.closed && c.drops == p.drops && len(p.idle) < p.most && !broken(c.PgConn, err) && c.TxStatus() == 'I'
	if keep {
		p.idle = append(p.idle, c.PgConn)
	}
	p.mu.Unlock()
	if !keep {
		_ = c.Close(context.Background()) // nothing is under way
	}
}

// read is query, of which only so many run at once.
func (p *pool) read(ctx context.Context, sql string, params ...param) (rows [][][]byte, err error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errs.New(errs.Unavailable, "PostgreSQL: %d reads are under way and none ends: %w", cap(p.slots), context.Cause(ctx))
	}
	defer func() { <-p.slots }()
	return p.query(ctx, sql, params...)
}

// query runs one statement.
func (p *pool) query(ctx context.Context, sql string, params ...param) (rows [][][]byte, err error) {
	err = p.with(ctx, func(c *pgconn.PgConn) error {
		rows, err = query(ctx, c, sql, params...)
		return err
	})
	return rows, err
}

func query(ctx context.Context, c *pgconn.PgConn, sql string, params ...param) (rows [][][]byte, err error) {
	values, oids, formats := split(params)
	res := c.ExecParams(ctx, sql, values, oids, formats, []int16{1}).Read()
	return res.Rows, res.Err
}

// exec runs one statement and returns how many rows it touched.
func (p *pool) exec(ctx context.Context, sql string, params ...param) (n int64, err error) {
	values, oids, formats := split(params)
	err = p.with(ctx, func(c *pgconn.PgConn) error {
		res := c.ExecParams(ctx, sql, values, oids, formats, []int16{1}).Read()
		n = res.CommandTag.RowsAffected()
		return res.Err
	})
	return n, err
}

// clear makes the server's answers errors that an operator understands.
func clear(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) || errors.Is(err, remote.ErrUnknown) {
		return err
	}
	switch e.Code {
	case "42P01", "42703", "42P10":
		return errs.New(errs.Unavailable, "PostgreSQL: the table is not as arca needs it (%s): see docs/storage.md for its definition", e.Message)
	case readOnly:
		return errs.New(errs.Unavailable, "PostgreSQL: this server only reads (a replica?); name the primary in connection_url: %s", e.Message)
	case "53100":
		return errs.New(errs.Unavailable, "PostgreSQL: the disk of the database is full: %s", e.Message)
	}
	return errs.New(errs.Unavailable, "PostgreSQL: %s (SQLSTATE %s)", e.Message, e.Code)
}
