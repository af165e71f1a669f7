package core

import (
	"context"
	"time"

	"arca/internal/audit"
	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/storage"
)

// Authorize checks the token of a request whose route runs outside of a
// transaction (sys/seal), and takes one of its uses. sudo asks for that
// capability, too. The request is recorded; its answer is not, as the node is
// sealed by then.
func (c *Core) Authorize(ctx context.Context, req *engine.Request, sudo bool) error {
	a, err := c.enter()
	if err != nil {
		return err
	}
	defer a.leave()
	h := &handling{c: c, a: a, orig: req, req: req, ns: namespace.Root(), now: time.Now().UTC()}
	transaction := a.DB.Update
	if c.cfg.Cluster != nil && !a.Leads() {
		transaction = a.DB.View // a token with a limit of uses cannot be counted here, and is refused
	}
	err = transaction(ctx, func(tx storage.Tx) error {
		_ = h.find(tx) // for the mount in the audit record
		h.route = nil
		if err := h.identify(tx); err != nil {
			return h.refuse(err)
		}
		h.judged = h.acl.Allows(&policy.Request{Op: req.Op, Path: req.Path, Params: req.Params})
		if !h.judged.Allowed || sudo && !h.judged.Sudo {
			h.judged = policy.Verdict{}
			return h.refuse(errDenied)
		}
		if err := h.record(audit.Request, nil, nil); err != nil {
			return err
		}
		if h.last {
			return a.Tokens.Revoke(tx, h.tok, h.now)
		}
		return nil
	})
	if err != nil && h.used && !h.silent {
		// The attempt was undone, and with it the use of the token.
		if useErr := h.use(ctx); useErr != nil {
			return useErr
		}
	}
	return err
}
