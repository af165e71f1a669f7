package s3

import (
	"bytes"
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

	objects "arca/internal/aws/s3"
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
	logDir    = "log/"
	stateDir  = "state/"
	probeName = "conditional-writes"
	fetching  = 16  // records at once, and in memory
	downloads = 3   // attempts at a state
	maxStates = 100 // that lie about; older ones go with each new one
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
	err := d.cfg.Bucket.PutNew(ctx, key, body)
	if objects.IsTaken(err) { // perhaps by an attempt of this very request
		var there []byte
		there, err = d.cfg.Bucket.Get(ctx, key, maxRecordBytes)
		switch {
		case err == nil && !bytes.Equal(there, body):
			return remote.ErrFenced
		case objects.IsNotFound(err): // it was about to be made, and was not
			return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
		}
	} else if objects.IsRefused(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
	}
	if !d.knows(sureFor) {
		// The number may have been used, and removed when a state was saved.
		newest, _, err := d.newestState(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
		}
		if newest >= n {
			return remote.ErrFenced
		}
	}
	d.sure = began
	return nil
}

// apply brings a record into the copy. turn is held.
func (d *Driver) apply(n uint64, r *record, size int, seen time.Time) error {
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
	ops = append(ops, storage.Op{Kind: storage.Put, Key: positionKey, Value: binary.BigEndian.AppendUint64(nil, n)})
	if err := d.db.Replay(ops, false); err != nil {
		return err
	}
	d.at, d.last, d.seen, d.gone = n, last, seen, 0
	d.behind.n++
	d.behind.bytes += int64(size)
	return nil
}

// newestState finds the newest state in the bucket, 0 for none.
func (d *Driver) newestState(ctx context.Context) (n uint64, size int64, err error) {
	for after := ""; ; {
		page, err := d.cfg.Bucket.Page(ctx, d.prefix+stateDir, after)
		if err != nil {
			return 0, 0, err
		}
		for _, o := range page.Objects {
			if v, ok := parseName(o.Key, d.prefix+stateDir); ok {
				n, size = v, o.Size
			}
			after = o.Key
		}
		if !page.More {
			return n, size, nil
		}
	}
}

// follow reads what others have written. turn is held.
func (d *Driver) follow(ctx context.Context) error {
	began := d.cfg.now()
	newest, size, err := d.newestState(ctx)
	if err != nil {
		return err
	}
	if newest > d.at {
		whole, err := d.whole(ctx, newest)
		if err == nil && !whole {
			err = d.load(ctx)
		}
		if err != nil {
			return err
		}
	}
	if newest > d.state.n {
		d.state = saved{newest, size}
	}
	for {
		page, err := d.cfg.Bucket.Page(ctx, d.prefix+logDir, d.prefix+name(logDir, d.at))
		if err != nil {
			return err
		}
		if err := d.read(ctx, page.Objects); err != nil {
			return err
		}
		if !page.More {
			if !page.Now.IsZero() && !d.seen.IsZero() {
				d.gone = page.Now.Sub(d.seen)
			}
			d.sure = began
			return nil
		}
	}
}

// whole reports whether the log holds all records behind at up to n.
func (d *Driver) whole(ctx context.Context, n uint64) (bool, error) {
	page, err := d.cfg.Bucket.Page(ctx, d.prefix+logDir, d.prefix+name(logDir, d.at))
	if err != nil {
		return false, err
	}
	for i, o := range page.Objects {
		v, ok := parseName(o.Key, d.prefix+logDir)
		if !ok || v != d.at+1+uint64(i) {
			return false, nil
		}
		if v == n {
			return true, nil
		}
	}
	return false, nil // more than a page: the state is less to read
}

// read fetches records, some at once, and applies them in order.
func (d *Driver) read(ctx context.Context, list []objects.Object) error {
	for len(list) > 0 {
		some, size := 0, int64(0)
		for some < min(fetching, len(list)) && (some == 0 || size+list[some].Size <= maxRecordBytes) {
			o := list[some]
			if n, ok := parseName(o.Key, d.prefix+logDir); !ok || n != d.at+1+uint64(some) {
				return errs.New(errs.Failed, "the log in the bucket lacks the record %d: there is %q instead", d.at+1+uint64(some), o.Key)
			}
			size += o.Size
			some++
		}
		bodies := make([][]byte, some)
		g, fetch := errgroup.WithContext(ctx)
		for i := range some {
			g.Go(func() (err error) {
				bodies[i], err = d.cfg.Bucket.Get(fetch, list[i].Key, maxRecordBytes)
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

// load makes the copy that of the newest state in the bucket. Another server may put a newer one in its place meanwhile.
func (d *Driver) load(ctx context.Context) error {
	var n uint64
	var size int64
	for try := 1; ; try++ {
		var err error
		if n, size, err = d.newestState(ctx); err != nil {
			return err
		}
		err = d.reset(func(dir string) error { return d.download(ctx, n, dir) })
		if err == nil {
			break
		}
		if try == downloads || ctx.Err() != nil {
			return err
		}
		d.cfg.Log.Warn("fetch a state from the bucket; once more", "state", n, "error", err)
	}
	at, last, err := readPosition(ctx, d.db)
	if err != nil {
		return err
	}
	if at != n {
		return errs.New(errs.Failed, "the state %d in the bucket is that of the record %d", n, at)
	}
	d.at, d.last, d.seen = at, last, time.Time{}
	d.state, d.behind = saved{n, size}, saved{}
	return nil
}

func (d *Driver) download(ctx context.Context, n uint64, dir string) error {
	in, err := d.cfg.Bucket.Open(ctx, d.prefix+name(stateDir, n))
	if err != nil {
		return err
	}
	return errors.Join(pebble.Unpack(in, vfs.Default, dir), in.Close())
}

func readPosition(ctx context.Context, db *pebble.Store) (at uint64, last claim, err error) {
	value, err := db.Get(ctx, positionKey)
	if err == nil && len(value) != 8 {
		err = errRecord
	}
	if err != nil {
		return 0, last, err
	}
	text, err := db.Get(ctx, claimKey)
	if err == nil {
		err = json.Unmarshal(text, &last)
	} else if storage.IsNotFound(err) {
		err = nil
	}
	return binary.BigEndian.Uint64(value), last, err
}
