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
// in a raw one.
func (c *Core) recorded(ctx context.Context, call *engine.Call, route *engine.Route) (*engine.Response, error) {
	if err := c.note(ctx, call, audit.Request, nil); err != nil {
		return nil, err
	}
	res, err := route.Run(ctx, call)
	if auditErr := c.note(ctx, call, audit.Response, err); auditErr != nil {
		return nil, auditErr
	}
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
	req := *call.Request
	req.Params = nil
	h := &handling{c: c, a: a, orig: &req, req: &req, ns: namespace.Root(), call: call, now: time.Now().UTC()}
	err = a.DB.View(ctx, func(tx storage.Tx) error {
		_ = h.find(tx) // for the mount in the record
		return nil
	})
	if err != nil {
		return err
	}
	h.route = nil // none that was judged
	return h.record(kind, nil, cause)
}
