package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
)

// Bounds of one batch, unless one entry alone is larger.
const (
	batchOps   = 100
	batchBytes = 512 << 10
)

const progressEvery = 5 * time.Second

// copying is one run.
type copying struct {
	start string
	out   io.Writer
	count int
	last  string // the last key that is in the target, durably
}

func (c *copying) run(ctx context.Context, cfg *config.Migration, log *slog.Logger) (err error) {
	if err := apart(cfg.Source, cfg.Destination); err != nil {
		return err
	}
	o := opener{node: commandName, clusterAddr: cfg.ClusterAddr, log: log}
	from, err := o.ours(ctx, cfg.Source, toCopy)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	config, err := from.Get(ctx, seal.ConfigKey)
	if storage.IsNotFound(err) {
		return errNoSource
	}
	if err == nil {
		_, err = seal.Identify(ctx, from) // it may have been migrated
	}
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	to, err := o.ours(ctx, cfg.Destination, toFill)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer func() { err = errors.Join(err, to.close()) }()
	if err := c.mayWrite(ctx, to); err != nil {
		return err
	}
	if err := c.entries(ctx, from, to); err != nil {
		return err
	}
	for name, s := range map[string]*side{"source": from, "target": to} {
		if err := s.fresh(ctx); err != nil {
			return errs.New(errs.KindOf(err), "%s: %w; empty the target, and begin anew", name, err)
		}
	}
	if err := to.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: seal.ConfigKey, Value: config}}); err != nil {
		return fmt.Errorf("write the target: %w", err)
	}
	c.count++
	return nil
}

var errNoSource = errs.New(errs.Precondition, "the source has no seal configuration: it is empty, or was never initialised")

// mayWrite refuses a target that holds something.
func (c *copying) mayWrite(ctx context.Context, to *side) (err error) {
	if _, err := to.Get(ctx, seal.ConfigKey); err == nil {
		return errs.New(errs.Precondition, "the target is the storage of a server that is initialised: nothing is written over it")
	} else if !storage.IsNotFound(err) {
		return fmt.Errorf("read the target: %w", err)
	}
	if c.start != "" {
		return nil
	}
	it, err := to.Scan(ctx, storage.ScanOptions{KeysOnly: true})
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.Next() {
		return errs.New(errs.Precondition, "the target is not empty: it has %q, for one; empty it, or go on with a copy that was broken off (-start)", it.Key())
	}
	return it.Err()
}

// entries copies all but the seal's configuration, in the order of keys.
func (c *copying) entries(ctx context.Context, from, to *side) (err error) {
	snap, err := from.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.Scan(ctx, storage.ScanOptions{From: c.start})
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var b storage.Batch
	bytes, told := 0, time.Now()
	flush := func() error {
		if len(b) == 0 {
			return nil
		}
		if err := to.Apply(ctx, b); err != nil {
			return fmt.Errorf("write the target, from %q to %q: %w", b[0].Key, b[len(b)-1].Key, err)
		}
		c.count += len(b)
		c.last = b[len(b)-1].Key
		b, bytes = b[:0], 0
		if time.Since(told) > progressEvery {
			told = time.Now()
			fmt.Fprintf(c.out, "%d keys copied\n", c.count)
		}
		return nil
	}
	for it.Next() {
		if err := ctx.Err(); err != nil {
			return errs.New(errs.Unavailable, "broken off: %w", err)
		}
		key := strings.Clone(string(it.Key()))
		if key == seal.ConfigKey {
			continue
		}
		value, err := it.Value()
		if err != nil {
			return fmt.Errorf("read %q of the source: %w", key, err)
		}
		if n := len(key) + len(value); len(b) == batchOps || len(b) > 0 && bytes+n > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		b = append(b, storage.Op{Kind: storage.Put, Key: key, Value: value})
		bytes += len(key) + len(value)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	return flush()
}
