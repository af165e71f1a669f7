package core

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Values of mounts with seal_wrap are wrapped when they are written (mount.Entry.View, barrier). sys/sealwrap/rewrap brings
// those that are stored into the form in which they would be written now: a new version of the seal-wrap keyring is made,
// the seals encrypt anew what they keep, and the active node goes through the mounts, some values in a transaction. How far
// it is lies in the store, in the same transactions, so that whoever becomes the active node goes on.

const rewrapKey = "n/" + namespace.RootID + "/sealwrap/rewrap"

// Bounds of one step of a rewrap.
const (
	rewrapOps      = 128       // values in a transaction
	rewrapBytes    = 512 << 10 // their bytes
	rewrapLook     = 4096      // values looked at for one
	rewrapLookSize = 8 << 20   // their bytes
	rewrapAgain    = 5 * time.Second
)

// A Rewrap is how far a rewrap is, or how the last one went.
type Rewrap struct {
	Running   bool      `json:"running"`
	After     uint32    `json:"after"`   // the version of the keyring that is replaced; 0 until that is known
	Renewed   bool      `json:"renewed"` // the keyring has its new version
	Started   time.Time `json:"started"`
	Succeeded int64     `json:"succeeded"` // values that were written anew
	Failed    int64     `json:"failed"`    // those that could not be read or written
}

// Rewrap tells how far the rewrap is, or how the last one went.
func (a *Active) Rewrap(tx storage.Tx) (Rewrap, error) {
	var r Rewrap
	raw, err := tx.Get(rewrapKey)
	if errors.Is(err, storage.ErrNotFound) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	return r, err
}

func putRewrap(tx storage.Tx, r Rewrap) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Put(rewrapKey, raw)
}

// StartRewrap begins a rewrap, which goes on in the background; started is false where one is running.
func (a *Active) StartRewrap(tx storage.Tx) (started bool, err error) {
	r, err := a.Rewrap(tx)
	if err != nil || r.Running {
		return false, err
	}
	tx.OnCommit(func() {
		select {
		case a.core.rewraps <- struct{}{}:
		default:
		}
	})
	return true, putRewrap(tx, Rewrap{Running: true, Started: time.Now().UTC()})
}

// wrapMounts has a store of an older release get a seal-wrap key, when a mount of it wants one.
func (a *Active) wrapMounts(ctx context.Context) {
	a.untilDone(ctx, "make a seal-wrap key for mounts with seal_wrap", func() error {
		// What another node, or a snapshot that was restored, has made of the store's keys.
		if err := a.core.seal.Reload(ctx); err != nil {
			return err
		}
		return a.wrapMountsNow(ctx)
	})
}

// wrapMountsNow has a store without a seal-wrap key get one, if a mount has seal_wrap.
func (a *Active) wrapMountsNow(ctx context.Context) error {
	if a.core.seal.HasWrap() {
		return nil
	}
	wanted, err := a.Mounts.WantsWrap(ctx, a.DB, a.Namespaces)
	if err != nil || !wanted {
		return err
	}
	return a.core.seal.WantWrap(ctx)
}

// rewrapWhenAsked goes on with a rewrap that another node or an earlier process began, and does what is asked for.
func (a *Active) rewrapWhenAsked(ctx context.Context) {
	for {
		err := a.rewrap(ctx)
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			a.core.log.Warn("wrap values anew", "error", err, "retry_in", rewrapAgain)
			again = time.After(rewrapAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.core.rewraps:
		case <-again:
		}
	}
}

// rewrap does what is left of the rewrap that is running; nothing where none is.
func (a *Active) rewrap(ctx context.Context) error {
	var r Rewrap
	err := a.DB.View(ctx, func(tx storage.Tx) (err error) {
		r, err = a.Rewrap(tx)
		return err
	})
	if err != nil || !r.Running {
		return err
	}
	if err := a.wrapMountsNow(ctx); err != nil {
		return err
	}
	a.core.seal.RenewSeals(r.Started)
	if !r.Renewed {
		if err := a.renewWrap(ctx, r.After); err != nil {
			return err
		}
	}
	// What was written, moved or read wrongly meanwhile is found the next time; what is written now is as it is to be.
	for {
		written, failed, err := a.rewrapAll(ctx)
		if err != nil {
			return err
		}
		if err := a.noteRewrap(ctx, func(r *Rewrap) {
			if r.Running = written > 0; r.Running {
				failed = 0 // they fail again
			}
			r.Failed = failed
		}); err != nil {
			return err
		}
		if written == 0 {
			a.core.log.Info("values were wrapped anew", "failed", failed)
			return nil
		}
	}
}

// renewWrap makes the version of the seal-wrap keyring for a rewrap. Which one it replaces is noted before: whoever goes on
// makes no other.
func (a *Active) renewWrap(ctx context.Context, after uint32) error {
	if after == 0 {
		err := a.core.seal.Reload(ctx) // another node may have made a version
		if err == nil {
			after, err = a.core.seal.WrapVersion()
		}
		if err == nil {
			err = a.noteRewrap(ctx, func(r *Rewrap) { r.After = after })
		}
		if err != nil {
			return err
		}
	}
	version, err := a.core.seal.RenewWrap(ctx, after)
	if err != nil {
		return err
	}
	a.core.log.Info("values are wrapped anew", "version", version)
	// What was committed before is stored when this is: it is found by what follows.
	return a.noteRewrap(ctx, func(r *Rewrap) { r.Renewed = true })
}

func (a *Active) noteRewrap(ctx context.Context, change func(*Rewrap)) error {
	return a.DB.Update(ctx, func(tx storage.Tx) error {
		r, err := a.Rewrap(tx)
		if err != nil {
			return err
		}
		change(&r)
		return putRewrap(tx, r)
	})
}

// rewrapAll goes through all mounts once.
func (a *Active) rewrapAll(ctx context.Context) (written, failed int64, err error) {
	err = a.Mounts.Wrapped(ctx, a.DB, a.Namespaces, func(e *mount.Entry) error {
		for after, more := "", true; more; {
			step, err := a.unlike(ctx, e, after)
			if err != nil {
				return err
			}
			if len(step.keys) > 0 {
				w, f, err := a.writeAnew(ctx, e, step.keys)
				if err != nil {
					return err
				}
				written, failed = written+w, failed+f
			}
			after, more = step.last, step.more
		}
		return nil
	})
	return written, failed, err
}

// A rewrapStep is the values that one transaction writes anew.
type rewrapStep struct {
	keys []string // below the mount
	last string   // the key that was looked at last
	more bool     // there may be others behind it
}

// unlike looks for values of a mount that are stored other than they would be written now. It reads the store below the
// barrier, which hides that.
func (a *Active) unlike(ctx context.Context, e *mount.Entry, after string) (rewrapStep, error) {
	step := rewrapStep{}
	err := a.core.raw.View(ctx, func(tx storage.Tx) error {
		looked, lookedSize, size := 0, 0, 0
		for kv, err := range tx.Scan(e.Prefix, after) {
			if err != nil {
				return err
			}
			step.last = kv.Key
			looked, lookedSize = looked+1, lookedSize+len(kv.Value)
			if is, err := a.Ring.Unlike(kv.Key, kv.Value); is || errs.Is(err, errs.Failed) { // the latter fails again, and is counted
				step.keys = append(step.keys, strings.TrimPrefix(kv.Key, e.Prefix))
				size += len(kv.Value)
			} else if err != nil {
				return err
			}
			if len(step.keys) >= rewrapOps || size >= rewrapBytes || looked >= rewrapLook || lookedSize >= rewrapLookSize {
				step.more = true
				return nil
			}
		}
		return nil
	})
	return step, err
}

// writeAnew reads values and writes them as they are. One that is gone meanwhile is neither written nor failed. Where all are
// too large for one transaction each has its own; one that is too large for that, as the seal's layer takes some bytes, has failed.
func (a *Active) writeAnew(ctx context.Context, e *mount.Entry, keys []string) (written, failed int64, err error) {
	written, failed, err = a.writeAtOnce(ctx, e, keys)
	switch {
	case !errs.Is(err, errs.TooLarge):
		return written, failed, err
	case len(keys) == 1:
		a.core.log.Warn("a value is too large to be wrapped anew", "mount", e.Path, "error", err)
		return 0, 1, a.noteRewrap(ctx, func(r *Rewrap) { r.Failed++ })
	}
	for _, key := range keys {
		w, f, err := a.writeAnew(ctx, e, []string{key})
		if err != nil {
			return 0, 0, err
		}
		written, failed = written+w, failed+f
	}
	return written, failed, nil
}

func (a *Active) writeAtOnce(ctx context.Context, e *mount.Entry, keys []string) (written, failed int64, err error) {
	err = a.DB.Update(ctx, func(tx storage.Tx) error {
		written, failed = 0, 0
		r, err := a.Rewrap(tx)
		if err != nil {
			return err
		}
		view := e.View(tx)
		for _, key := range keys {
			value, err := view.Get(key)
			switch {
			case errors.Is(err, storage.ErrNotFound):
				continue
			case errs.Is(err, errs.Failed):
				failed++
				continue
			case err != nil:
				return err
			}
			if err := view.Put(key, value); err != nil {
				return err
			}
			written++
		}
		r.Succeeded += written
		r.Failed += failed
		return putRewrap(tx, r)
	})
	if err != nil {
		return 0, 0, err
	}
	return written, failed, nil
}
