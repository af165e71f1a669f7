package core

import (
	"context"
	"time"
)

// Bounds of the time that an upgrade waits after an error.
const (
	upgradeAgain    = time.Second
	upgradeAgainMax = 5 * time.Minute
)

// What earlier versions stored is brought into the form of this one in the background.
// Each step leaves a mark when it is done, so that it is done once.

func (a *Active) foldNames(ctx context.Context) {
	a.untilDone(ctx, "bring names of aliases into lower case", func() error { return a.Identity.Fold(ctx, a.DB) })
}

func (a *Active) enterRunning(ctx context.Context) {
	a.untilDone(ctx, "list the mounts of engines that run", func() error { return a.Mounts.EnterRunning(ctx, a.DB, a.Namespaces) })
}

func (a *Active) untilDone(ctx context.Context, what string, fn func() error) {
	for wait := upgradeAgain; ; wait = min(2*wait, upgradeAgainMax) {
		err := fn()
		if err == nil || ctx.Err() != nil {
			return
		}
		a.core.log.Warn("an upgrade of what is stored failed", "step", what, "error", err, "retry_in", wait)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
