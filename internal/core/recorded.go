package core

import (
	"context"
	"time"

	"arca/internal/audit"
	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// recorded runs a route that a sealed node serves, too, and that changes what holds
// the node's keys. Audit devices have that it was asked for and how it ended, if
// the node is open; key shares and what is made of them are in no record, not even
// in a raw one. With no device that takes the request's record nothing is done, but that a
// ceremony can be cancelled. What was done is answered in any case: new key shares are in
// that answer alone, and without them nobody opens the store any more.
func (c *Core) recorded(ctx context.Context, call *engine.Call, route *engine.Route) (*engine.Response, error) {
	if err := c.note(ctx, call, audit.Request, nil); err != nil && call.Op != engine.OpDelete {
		return nil, err
	}
	res, err := route.Run(ctx, call)
	_ = c.note(ctx, call, audit.Response, err) // a failure is in the log
	return res, err
}

// note records a request or how it ended. It holds the node open only for that: the
// route itself may wait for those who are inside.
func (c *Core) note(ctx context.Context, call *engine.Call, kind audit.Kind, cause error) error {
	a, err := c.enter()
	if err != nil {
		return nil //nolint:nilerr // sealed: the devices are closed
	}
	defer a.leave()
	if c.cfg.Cluster != nil && !a.Leads() {
		return nil // the active node serves it, and has it on record
	}
	req := *call.Request
	req.Params = nil
	h := &handling{c: c, a: a, orig: &req, req: &req, ns: namespace.Root(), call: call, now: time.Now().UTC()}
	err = a.DB.View(ctx, func(tx storage.Tx) error {
		_ = h.find(tx) // for the mount in the record
		return nil
	})
	if err != nil {
		c.log.Error("read the mount for the record of a request", "id", req.ID, "error", err)
		return err
	}
	h.route = nil // none that was judged
	return h.record(kind, nil, cause)
}
