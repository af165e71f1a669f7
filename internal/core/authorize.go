package core

import (
	"context"
	"time"

	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/storage"
)

// Authorize checks the token of a request whose route runs outside of a
// transaction (sys/seal), and takes one of its uses. sudo asks for that
// capability, too.
func (c *Core) Authorize(ctx context.Context, req *engine.Request, sudo bool) error {
	a, err := c.enter()
	if err != nil {
		return err
	}
	defer a.leave()
	h := &handling{c: c, a: a, req: req, ns: namespace.Root(), now: time.Now().UTC(), call: &engine.Call{Request: req, Op: req.Op}}
	return a.DB.Update(ctx, func(tx storage.Tx) error {
		if err := h.identify(tx); err != nil {
			return err
		}
		v := h.acl.Allows(&policy.Request{Op: req.Op, Path: req.Path, Params: req.Params})
		if !v.Allowed || sudo && !v.Sudo {
			return errDenied
		}
		if h.last {
			return a.Tokens.Revoke(tx, h.tok, h.now)
		}
		return nil
	})
}
