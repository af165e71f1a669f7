package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Snapshots by schedule. Each configuration has a record of how it went beside it, so that whoever becomes the active node
// goes on with the same schedule; the files lie on the node that was active when they were made.
const (
	autoPrefix   = "n/" + namespace.RootID + "/config/raft-snapshot/"
	autoStatuses = "n/" + namespace.RootID + "/config/raft-snapshot-status/"

	// SnapshotLabel is what the checksums of a snapshot are sealed with.
	SnapshotLabel = "raft snapshot"

	// MaxAutoSnapshots bounds the schedules.
	MaxAutoSnapshots  = 256
	autoSnapshotRetry = 30 * time.Second // after a failure, where the interval is not shorter
	longTime          = 24 * time.Hour   // without a schedule
	snapshotStamp     = "20060102T150405.000Z"
	snapshotSuffix    = ".snap"
)

// An AutoSnapshot is a schedule of snapshots.
type AutoSnapshot struct {
	Interval   time.Duration `json:"interval"`
	Retain     int           `json:"retain"`      // files that are kept
	PathPrefix string        `json:"path_prefix"` // the folder, on whichever node is the active one
	FilePrefix string        `json:"file_prefix"`
	MaxSpace   int64         `json:"local_max_space,omitempty"` // bytes of all files together; 0 is no bound
	Since      time.Time     `json:"since"`                     // when it was made: the first is due an interval later
}

// AutoStatus is how the snapshots of a schedule went.
type AutoStatus struct {
	Errors    int       `json:"consecutive_errors"`
	LastStart time.Time `json:"last_snapshot_start,omitzero"`
	LastEnd   time.Time `json:"last_snapshot_end,omitzero"` // of the last that succeeded
	LastError string    `json:"last_snapshot_error,omitempty"`
	URL       string    `json:"last_snapshot_url,omitempty"`
	Next      time.Time `json:"next_snapshot_start,omitzero"`
}

// AutoSnapshotKey is where a schedule lies, and AutoStatusKey how it went.
func AutoSnapshotKey(name string) string { return autoPrefix + name }

// AutoStatusKey is where it is kept how the snapshots of a schedule went.
func AutoStatusKey(name string) string { return autoStatuses + name }

// AutoSnapshots lists the names of the schedules.
func AutoSnapshots(tx storage.Tx) ([]string, error) { return tx.List(autoPrefix, "", MaxAutoSnapshots) }

// Due is when the next snapshot is to be made.
func (s *AutoSnapshot) Due(st *AutoStatus) time.Time {
	if !st.Next.IsZero() {
		return st.Next
	}
	return s.Since.Add(s.Interval)
}

// RescheduleSnapshots has the active node look at the schedules anew.
func (c *Core) RescheduleSnapshots() {
	select {
	case c.snapshots <- struct{}{}:
	default:
	}
}

// keepSnapshots makes snapshots when they are due.
func (a *Active) keepSnapshots(ctx context.Context) {
	// Whatever the store says of a schedule, and whether it could be asked: none is
	// served again too soon.
	rest := time.Time{}
	for {
		name, due, err := a.nextSnapshot(ctx)
		if err != nil && ctx.Err() == nil {
			a.core.log.Warn("read the schedules of snapshots", "error", err)
			name, due = "", time.Now().Add(autoSnapshotRetry)
		}
		wait := longTime
		if !due.IsZero() {
			wait = max(time.Until(due), time.Until(rest))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-a.core.snapshots:
			t.Stop()
			continue
		case <-t.C:
		}
		if name != "" {
			if !a.snapshotBySchedule(ctx, name) {
				rest = time.Now().Add(autoSnapshotRetry)
			}
		}
	}
}

// nextSnapshot finds the schedule that is due first; without one, due is zero.
func (a *Active) nextSnapshot(ctx context.Context) (first string, due time.Time, err error) {
	err = a.DB.View(ctx, func(tx storage.Tx) error {
		names, err := AutoSnapshots(tx)
		if err != nil {
			return err
		}
		for _, name := range names {
			s, st, err := ReadAutoSnapshot(tx, name)
			if err != nil {
				return err
			}
			if at := s.Due(&st); due.IsZero() || at.Before(due) {
				first, due = name, at
			}
		}
		return nil
	})
	return first, due, err
}

// ReadAutoSnapshot reads a schedule and how it went.
func ReadAutoSnapshot(tx storage.Tx, name string) (s AutoSnapshot, st AutoStatus, err error) {
	raw, err := tx.Get(AutoSnapshotKey(name))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, st, err
	}
	raw, err = tx.Get(AutoStatusKey(name))
	if errors.Is(err, storage.ErrNotFound) {
		return s, st, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	return s, st, err
}

// snapshotBySchedule makes one snapshot and writes down how it went; false is that
// this could not be written down. Old ones go when it is.
func (a *Active) snapshotBySchedule(ctx context.Context, name string) bool {
	var s AutoSnapshot
	var st AutoStatus
	err := a.DB.View(ctx, func(tx storage.Tx) (err error) {
		s, st, err = ReadAutoSnapshot(tx, name)
		return err
	})
	if err != nil {
		if !storage.IsNotFound(err) && ctx.Err() == nil {
			a.core.log.Warn("read a schedule of snapshots", "name", name, "error", err)
		}
		return storage.IsNotFound(err)
	}
	st.LastStart = time.Now().UTC()
	file, old, err := a.saveSnapshot(&s, st.LastStart)
	if err == nil {
		st.LastEnd, st.Errors, st.LastError, st.URL = time.Now().UTC(), 0, "", "file://"+file
		st.Next = st.LastStart.Add(s.Interval)
	} else {
		a.core.log.Error("a snapshot by schedule failed", "name", name, "error", err)
		st.Errors++
		st.LastError = err.Error()
		st.Next = time.Now().UTC().Add(min(s.Interval, autoSnapshotRetry))
	}
	err = a.DB.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Get(AutoSnapshotKey(name)); err != nil {
			return err // it was deleted meanwhile
		}
		raw, err := json.Marshal(st)
		if err != nil {
			return err
		}
		return tx.Put(AutoStatusKey(name), raw)
	})
	if err != nil && !storage.IsNotFound(err) && ctx.Err() == nil {
		a.core.log.Warn("note that a snapshot was made", "name", name, "error", err)
	}
	if err != nil {
		return storage.IsNotFound(err)
	}
	for _, f := range old {
		if err := remove(f); err != nil {
			a.core.log.Warn("remove an old snapshot", "error", err)
		}
	}
	return true
}

// saveSnapshot writes a snapshot into a file, durably, and tells which are too many then. A file of that name is whole.
func (a *Active) saveSnapshot(s *AutoSnapshot, now time.Time) (file string, old []string, err error) {
	if err := os.MkdirAll(s.PathPrefix, 0o700); err != nil {
		return "", nil, errs.New(errs.Unavailable, "make the folder for snapshots: %w", err)
	}
	path := filepath.Join(s.PathPrefix, s.FilePrefix+"-"+now.Format(snapshotStamp)+snapshotSuffix)
	part := path + ".part"
	if err := a.writeSnapshot(part); err != nil {
		return "", nil, errors.Join(errs.New(errs.Unavailable, "write a snapshot: %w", err), remove(part))
	}
	files, err := snapshotFiles(s)
	if err != nil {
		return "", nil, errors.Join(err, remove(part))
	}
	info, err := os.Stat(part)
	if err != nil {
		return "", nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	total := info.Size()
	keep := files[max(0, len(files)-s.Retain+1):]
	for _, f := range keep {
		if info, err := os.Stat(f); err == nil {
			total += info.Size()
		}
	}
	if s.MaxSpace > 0 && total > s.MaxSpace {
		return "", nil, errors.Join(errs.New(errs.Unavailable,
			"the snapshots that are kept would take %d bytes, and local_max_space is %d: raise it, or lower retain", total, s.MaxSpace), remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return "", nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	if err := syncFolder(s.PathPrefix); err != nil {
		return "", nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	return path, files[:len(files)-len(keep)], nil
}

func (a *Active) writeSnapshot(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the operator's folder
	if err != nil {
		return err
	}
	err = a.core.Cluster().Store().WriteArchive(f, func(sums []byte) ([]byte, error) { return a.Ring.Seal([]byte(SnapshotLabel), sums) })
	return errors.Join(err, f.Sync(), f.Close())
}

// snapshotFiles are those of a schedule that exist, oldest first.
func snapshotFiles(s *AutoSnapshot) ([]string, error) {
	list, err := os.ReadDir(s.PathPrefix)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "list the snapshots: %w", err)
	}
	var files []string
	for _, e := range list {
		stamp, ok := strings.CutPrefix(e.Name(), s.FilePrefix+"-")
		stamp, isSnap := strings.CutSuffix(stamp, snapshotSuffix)
		if _, err := time.Parse(snapshotStamp, stamp); ok && isSnap && err == nil {
			files = append(files, filepath.Join(s.PathPrefix, e.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove %q: %w", path, err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path) //nolint:gosec // as above
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
