package mysql

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
)

// A handle is connections that can be given up all at once, when their server may not be the database any more.
type handle struct {
	*sql.DB
	idle   int       // connections kept
	others []*handle // given up together with these

	dropping sync.Mutex
	drops    atomic.Int64 // how often they were given up
}

func newHandle(db *sql.DB, cfg *Config, others ...*handle) *handle {
	return &handle{DB: db, idle: min(cfg.MaxIdle, cfg.MaxOpen), others: others}
}

// conn takes a connection; done gives it back, or closes it if the connections were given up since.
func (h *handle) conn(ctx context.Context) (c *sql.Conn, done func(), err error) {
	at := h.drops.Load()
	if c, err = h.Conn(ctx); err != nil {
		return nil, nil, err
	}
	return c, func() {
		if h.drops.Load() != at {
			discard(c)
		}
		_ = c.Close() // back to the others
	}, nil
}

// read runs fn with a connection, and once more with another if the first was lost.
func (h *handle) read(ctx context.Context, fn func(c *sql.Conn) error) error {
	for again := false; ; again = true {
		c, done, err := h.conn(ctx)
		if err != nil {
			return err
		}
		err = fn(c)
		done()
		if err == nil || !gone(err) || again || ctx.Err() != nil {
			return err
		}
		h.drop()
	}
}

// drop closes the connections that nobody uses; those in use are closed when they are given back.
func (h *handle) drop() {
	h.dropping.Lock()
	defer h.dropping.Unlock()
	h.SetMaxIdleConns(0)
	h.drops.Add(1)
	h.SetMaxIdleConns(h.idle)
	for _, o := range h.others {
		o.drop()
	}
}
