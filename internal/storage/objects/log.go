package objects

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/remote"
)

// Keys of the copy that are its own. They are written with the record that they belong to.
const (
	positionKey = "\x00s3/position"
	claimKey    = "\x00s3/claim"
)

const (
	logDir       = "log/"
	stateDir     = "state/"
	probeName    = "conditional-writes"
	unknownBytes = maxRecordBytes / 8 // what a record of unknown size is taken for
	fetching     = 16                 // records at once, and in memory
	downloads    = 3                  // attempts at a state
)

// name is an object's: numbers in hexadecimal, of one length, so that they are in order.
func name(dir string, n uint64) string { return fmt.Sprintf("%s%016x", dir, n) }

func parseName(key, dir string) (uint64, bool) {
	text, ok := strings.CutPrefix(key, dir)
	n, err := strconv.ParseUint(text, 16, 64)
	return n, ok && err == nil && len(text) == 16
}

// extend writes the next record of the log. ErrFenced says that there is another of its number, and ErrUnknown that it may or may
// not be there. turn is held.
func (d *Driver) extend(ctx context.Context, body []byte) error {
	n := d.at + 1
	key := d.prefix + name(logDir, n)
	began := d.cfg.now()
	made, err := d.cfg.Store.PutNew(ctx, key, body)
	if d.cfg.Store.IsTaken(err) { // perhaps by an attempt of this very request
		made = time.Time{}
		var there []byte
		there, err = d.cfg.Store.Get(ctx, key, maxRecordBytes)
		switch {
		case err == nil && !bytes.Equal(there, body):
			d.sure = time.Time{} // whose the log is is to be looked at before anything is said of it
			return remote.ErrFenced
		case d.cfg.Store.IsNotFound(err): // it was about to be made, and was not
			return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
		}
	} else if d.cfg.Store.IsRefused(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
	}
	if !within(d.known, made, sureFor) {
		// The number may have been used, and removed when a state was saved. Only the service's clock can tell: a machine that
		// was suspended does not know that it was.
		newest, err := d.newestState(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
		}
		if newest.n >= n {
			d.sure = time.Time{}
			return remote.ErrFenced // what was written lies before a state, where nobody reads
		}
		made = newest.now
	}
	d.sure, d.known = began, made
	return nil
}

// within reports whether a moment lies less than a time behind another one; both are known.
func within(from, to time.Time, most time.Duration) bool {
	d := to.Sub(from)
	return !from.IsZero() && !to.IsZero() && d >= 0 && d < most
}

var errBroken = errs.New(errs.Failed, "a record of the log does not follow the one before it")

// apply brings a record into the copy. turn is held.
func (d *Driver) apply(n uint64, r *record, size int, seen time.Time) error {
	if r.after != d.tip {
		return errBroken
	}
	ops := make(storage.Batch, 0, len(r.ops)+2)
	last := d.last
	switch {
	case r.kind == claimKind:
		last = r.claim
		text, err := json.Marshal(last)
		if err != nil {
			return err
		}
		ops = append(ops, storage.Op{Kind: storage.Put, Key: claimKey, Value: text})
	case r.fence == last.ID:
		ops = append(ops, r.ops...)
	}
	ops = append(ops, storage.Op{Kind: storage.Put, Key: positionKey, Value: append(binary.BigEndian.AppendUint64(nil, n), r.tag[:]...)})
	if err := d.db.Replay(ops, false); err != nil {
		return err
	}
	if last != d.last {
		d.leads.Store(nil) // whoever made a claim here says so
	}
	d.at, d.tip, d.last, d.seen, d.gone = n, r.tag, last, seen, 0
	d.behind.n++
	d.behind.bytes += int64(size)
	return nil
}

// A found state is the newest in the store.
type found struct {
	saved
	written time.Time // by the service's clock: after the record that it is that of
	now     time.Time // when it was found, likewise
}

// newestState finds the newest state; that of number 0 is none.
func (d *Driver) newestState(ctx context.Context) (f found, err error) {
	for after := ""; ; {
		page, err := d.cfg.Store.Page(ctx, d.prefix+stateDir, after)
		if err != nil {
			return f, err
		}
		if after == "" {
			f.now = page.Now
		}
		for _, o := range page.Objects {
			if n, ok := parseName(o.Key, d.prefix+stateDir); ok {
				f.saved, f.written = saved{n, o.Size}, o.LastModified
			}
			after = o.Key
		}
		if !page.More {
			return f, nil
		}
	}
}

// follow reads what others have written. Where a state has overtaken the copy it is read, and never the records before it:
// numbers that were removed may have been used again by somebody who did not know. turn is held.
func (d *Driver) follow(ctx context.Context) error {
	for try := 1; ; try++ {
		err := d.followOnce(ctx)
		// Records may have been removed meanwhile, behind a state that is newer than the one that was found.
		if err == nil || try == downloads || ctx.Err() != nil || !errors.Is(err, errGap) && !errors.Is(err, errBroken) && !d.cfg.Store.IsNotFound(err) {
			return err
		}
	}
}

func (d *Driver) followOnce(ctx context.Context) error {
	began := d.cfg.now()
	newest, err := d.newestState(ctx)
	if err != nil {
		return err
	}
	if newest.n > d.at {
		if err := d.load(ctx); err != nil {
			return err
		}
		// That may have taken long.
		if newest, err = d.newestState(ctx); err != nil {
			return err
		}
		if newest.n > d.at {
			return errGap
		}
	} else if newest.n > d.state.n {
		d.state = newest.saved
	}
	known := newest.now
	for {
		page, err := d.cfg.Store.Page(ctx, d.prefix+logDir, d.prefix+name(logDir, d.at))
		if err != nil {
			return err
		}
		if !known.IsZero() && page.Now.Sub(known) > removeAfter/2 { // the service's clocks may differ by seconds, either way
			return errGap // this took so long that there may be another state
		}
		if err := d.read(ctx, page.Objects); err != nil {
			return err
		}
		if !page.More {
			if known.IsZero() {
				// Without a clock, records may go at once: what was read may be of a number that was used again meanwhile.
				if newest, err := d.newestState(ctx); err != nil {
					return err
				} else if newest.n > d.at {
					return errGap
				}
			}
			if !page.Now.IsZero() && !d.seen.IsZero() {
				d.gone = page.Now.Sub(d.seen)
			}
			d.sure, d.known = began, known
			return nil
		}
	}
}

var errGap = errs.New(errs.Failed, "the log lacks a record")

// read fetches records, some at once, and applies them in order.
func (d *Driver) read(ctx context.Context, list []Object) error {
	for len(list) > 0 {
		some, size := 0, int64(0)
		for some < min(fetching, len(list)) && (some == 0 || size+cmp.Or(list[some].Size, unknownBytes) <= maxRecordBytes) {
			o := list[some]
			if n, ok := parseName(o.Key, d.prefix+logDir); !ok || n != d.at+1+uint64(some) {
				return errs.New(errs.Failed, "%w: number %d; there is %q instead", errGap, d.at+1+uint64(some), o.Key)
			}
			size += cmp.Or(o.Size, unknownBytes)
			some++
		}
		bodies := make([][]byte, some)
		g, fetch := errgroup.WithContext(ctx)
		for i := range some {
			g.Go(func() (err error) {
				bodies[i], err = d.cfg.Store.Get(fetch, list[i].Key, maxRecordBytes)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, body := range bodies {
			r, err := decodeRecord(body)
			if err != nil {
				return err
			}
			if err := d.apply(d.at+1, r, len(body), list[i].LastModified); err != nil {
				return err
			}
		}
		list = list[some:]
	}
	return nil
}

// load makes the copy that of the newest state. Another server may put a newer one in its place meanwhile.
func (d *Driver) load(ctx context.Context) error {
	var from found
	for try := 1; ; try++ {
		var err error
		if from, err = d.newestState(ctx); err != nil {
			return err
		}
		err = d.reset(func(dir string) error { return d.download(ctx, from.n, dir) })
		if err == nil {
			break
		}
		if try == downloads || ctx.Err() != nil {
			return err
		}
		d.cfg.Log.Warn("fetch a state; once more", "state", from.n, "error", err)
	}
	at, tip, last, err := readPosition(ctx, d.db)
	if err != nil {
		return err
	}
	if at != from.n {
		return errs.New(errs.Failed, "the state %d is that of the record %d", from.n, at)
	}
	d.at, d.tip, d.last, d.seen, d.gone = at, tip, last, from.written, 0
	d.leads.Store(nil)
	d.state, d.behind = from.saved, saved{}
	return nil
}

func (d *Driver) download(ctx context.Context, n uint64, dir string) error {
	in, err := d.cfg.Store.Open(ctx, d.prefix+name(stateDir, n))
	if err != nil {
		return err
	}
	return errors.Join(pebble.Unpack(in, vfs.Default, dir), in.Close())
}

func readPosition(ctx context.Context, db *pebble.Store) (at uint64, tip tag, last claim, err error) {
	value, err := db.Get(ctx, positionKey)
	if err == nil && len(value) != 8+len(tip) {
		err = errRecord
	}
	if err != nil {
		return 0, tip, last, err
	}
	copy(tip[:], value[8:])
	text, err := db.Get(ctx, claimKey)
	if err == nil {
		err = json.Unmarshal(text, &last)
	} else if storage.IsNotFound(err) {
		err = nil
	}
	return binary.BigEndian.Uint64(value), tip, last, err
}
