package kmip

import (
	"context"
	"fmt"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// What is over is forgotten after a while: destroyed objects, and certificates that
// have expired. It lies in an index by time, so that looking costs the same however
// much there is.
const (
	tidyEvery      = time.Minute
	tidyAtOnce     = 500 // in one transaction
	credentialKept = 72 * time.Hour
	objectKept     = 30 * 24 * time.Hour // where the configuration says nothing else
	leastKept      = 24 * time.Hour
	tidyPath       = "tidy"
	dueDir         = "x/"
)

func dueKey(at time.Time, what ...string) string {
	return fmt.Sprintf("%s%016x/%s", dueDir, max(at.Unix(), 0), strings.Join(what, "/"))
}

// due lists what is over at a time, at most limit entries.
func due(tx storage.Tx, now time.Time, limit int) (keys []string, err error) {
	end := fmt.Sprintf("%s%016x", dueDir, max(now.Unix(), 0))
	for key, err := range tx.Keys(dueDir, "") {
		if err != nil {
			return nil, err
		}
		if key >= end || len(keys) == limit {
			break
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// tidy forgets some of what is over.
func (e *Engine) tidy(ctx context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	keys, err := due(call.Tx, call.Now, tidyAtOnce)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		parts := strings.Split(key, "/")
		switch {
		case len(parts) == 5 && parts[2] == "c":
			role, serial, _ := strings.Cut(parts[4], ".")
			err = forgetCredential(call.Tx, parts[3], role, serial)
		case len(parts) > 3 && (parts[2] == "k" || parts[2] == "a"): // a ticket, an answer that nobody asked for
			err = call.Tx.Delete(strings.Join(parts[3:], "/"))
		case len(parts) == 5 && parts[2] == "r":
			b := &batch{e: e, ctx: ctx, call: call, tx: call.Tx, now: call.Now, v: version{2, 1}, scope: parts[3], role: &role{Ops: []string{opAll}}}
			err = e.rotate(b, parts[4])
		case len(parts) == 4 && parts[2] == "n":
			err = forgetSeen(call.Tx, parts[3], call.Now)
		case len(parts) == 4 && parts[2] == "t":
			err = forgetTrace(call.Tx, parts[3], call.Now)
		case len(parts) == 5 && parts[2] == "m":
			err = e.erase(call.Tx, parts[3], parts[4], call.Now)
		case len(parts) == 5 && parts[2] == "o":
			err = e.forget(call.Tx, parts[3], parts[4], call.Now)
		}
		if err == nil {
			err = call.Tx.Delete(key)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// erase removes the material of a destroyed object that its scope has kept for a while.
func (e *Engine) erase(tx storage.Tx, scope, hash string, now time.Time) error {
	o, err := e.objects.Get(tx, objectKey(scope, hash))
	if storage.IsNotFound(err) {
		return nil // its scope is gone, too
	}
	if err != nil {
		return err
	}
	if !o.destroyed() || now.Unix() < o.Erase { // it was restored, and perhaps destroyed again
		return nil
	}
	return tx.Delete(materialKey(scope, hash))
}

// forget removes a destroyed object for good.
func (e *Engine) forget(tx storage.Tx, scope, hash string, now time.Time) error {
	o, err := e.objects.Get(tx, objectKey(scope, hash))
	if storage.IsNotFound(err) {
		return nil // its scope is gone, too
	}
	if err != nil {
		return err
	}
	if !o.destroyed() || now.Unix() < o.Forget {
		return nil
	}
	for _, key := range []string{orderDir(scope) + o.Order, materialKey(scope, hash), objectKey(scope, hash), usedKey(scope, hash)} {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// tidyAll has the active node forget what is over, in all mounts.
func (s *servers) tidyAll(ctx context.Context, host engine.Host) {
	if !host.Leads() {
		return
	}
	s.mu.Lock()
	var all []*server
	for _, v := range s.byMount {
		all = append(all, v)
	}
	s.mu.Unlock()
	for _, v := range all {
		for ctx.Err() == nil {
			at := v.at.Load()
			if at == nil {
				break
			}
			var n int
			err := host.View(ctx, at.Mount, func(tx storage.Tx) error {
				keys, err := due(tx, time.Now(), 1)
				n = len(keys)
				return err
			})
			if err == nil && n > 0 {
				_, err = host.Handle(ctx, &engine.Request{ID: newUUID(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.Mount.Path + tidyPath})
			}
			if err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.NotActive) {
				host.Log().Error("forget what is over", "mount", at.NamespacePath+at.Mount.Path, "error", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
}
