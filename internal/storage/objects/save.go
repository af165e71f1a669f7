package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/storage/pebble"
)

// A state is saved when so much was written since the last one: as many bytes as that has, and at least these; or as many
// records as make a start slow, more of them where a state is large. So what is written is a small multiple of
// what was asked for, and a start reads little more than the state.
const (
	minSavedBytes  = 16 << 20
	minRecords     = 1000
	bytesPerRecord = 64 << 10
)

// due reports whether a state is to be saved. turn is held.
func (d *Driver) due() bool {
	if d.saving || d.failed > 0 && d.at < d.failed+d.cfg.Records/10 {
		return false
	}
	return d.behind.bytes >= max(d.cfg.Bytes, d.state.bytes) || d.behind.n >= d.cfg.Records+uint64(d.state.bytes)/bytesPerRecord
}

// save has a state saved in the background if it is time. turn is held.
func (d *Driver) save() {
	if !d.due() || d.ctx.Err() != nil {
		return
	}
	dir := vfs.Default.PathJoin(d.cfg.Dir, fmt.Sprint("saving-", d.at))
	if err := d.db.Checkpoint(dir); err != nil {
		d.failed = d.at
		d.cfg.Log.Warn("save a state", "error", err)
		return
	}
	d.saving = true
	n, was := d.at, d.behind
	d.working.Go(func() {
		size, err := d.upload(n, dir)
		err = errors.Join(err, vfs.Default.RemoveAll(dir))
		if err == nil {
			err = d.sweep(n)
		}
		_ = d.turn.take(context.Background()) // who has it ends soon
		defer d.turn.give()
		d.saving = false
		if size > 0 && n > d.state.n {
			d.state = saved{n, size}
			d.behind.n -= min(was.n, d.behind.n)
			d.behind.bytes -= min(was.bytes, d.behind.bytes)
		}
		if err != nil && d.ctx.Err() == nil {
			d.failed = n
			d.cfg.Log.Warn("save a state", "error", err)
		}
	})
}

// upload returns the state's size once it is stored.
func (d *Driver) upload(n uint64, dir string) (size int64, err error) {
	c, err := pebble.Pack(vfs.Default, dir)
	if err != nil {
		return 0, err
	}
	up := d.cfg.Store.Upload(d.ctx, d.prefix+name(stateDir, n))
	_, err = io.Copy(up, c)
	if err = errors.Join(err, c.Close()); err == nil {
		err = up.Commit()
	}
	if err != nil {
		return 0, errors.Join(err, up.Abort())
	}
	return c.Size, nil
}

// sweep removes what the state n stands for: records and states before it, the records not before a good while has passed.
func (d *Driver) sweep(n uint64) error {
	err := d.each(stateDir, func(o Object, v uint64, _ time.Time) (bool, error) {
		if v >= n {
			return false, nil
		}
		return true, d.cfg.Store.Delete(d.ctx, o.Key)
	})
	if err != nil {
		return err
	}
	return d.each(logDir, func(o Object, v uint64, now time.Time) (bool, error) {
		clock := !now.IsZero() || !o.LastModified.IsZero() // else nothing here goes by it, and a record may go at once
		if v > n || clock && (now.IsZero() || now.Sub(o.LastModified) < removeAfter) {
			return false, nil // and what comes after is younger
		}
		return true, d.cfg.Store.Delete(d.ctx, o.Key)
	})
}

// each calls fn for the objects of a folder in order, as long as it wants more.
func (d *Driver) each(dir string, fn func(o Object, n uint64, now time.Time) (bool, error)) error {
	for after := ""; ; {
		page, err := d.cfg.Store.Page(d.ctx, d.prefix+dir, after)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			if n, ok := parseName(o.Key, d.prefix+dir); ok {
				if more, err := fn(o, n, page.Now); !more || err != nil {
					return err
				}
			}
			after = o.Key
		}
		if !page.More {
			return nil
		}
	}
}
