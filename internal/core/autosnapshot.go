package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	PathPrefix string        `json:"path_prefix"` // the folder, on whichever node is the active one, or the beginning of objects' keys
	FilePrefix string        `json:"file_prefix"`
	MaxSpace   int64         `json:"local_max_space,omitempty"` // bytes of all files together; 0 is no bound
	S3         *S3           `json:"s3,omitempty"`              // nil: a folder
	Since      time.Time     `json:"since"`                     // when it was made: the first is due an interval later
}

// S3 is a bucket for snapshots. Keys that are empty come from the environment.
type S3 struct {
	Bucket       string `json:"bucket"`
	Region       string `json:"region"`
	AccessKey    string `json:"access_key,omitempty"`
	SecretKey    string `json:"secret_key,omitempty"`
	SessionToken string `json:"session_token,omitempty"`
	Endpoint     string `json:"endpoint,omitempty"`
	DisableTLS   bool   `json:"disable_tls,omitempty"`
	PathStyle    bool   `json:"path_style,omitempty"`
	SSE          bool   `json:"sse,omitempty"` // the service encrypts by AES-256
	KMS          bool   `json:"kms,omitempty"` // ... by KMS
	KMSKey       string `json:"kms_key,omitempty"`
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
	place, url, old, err := a.saveSnapshot(ctx, &s, st.LastStart)
	if err == nil {
		st.LastEnd, st.Errors, st.LastError, st.URL = time.Now().UTC(), 0, "", url
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
	for _, name := range old {
		if err := place.Remove(ctx, name); err != nil {
			a.core.log.Warn("remove an old snapshot", "error", err)
		}
	}
	return true
}

// A SnapshotPlace is where the snapshots of a schedule go: a folder, a bucket.
type SnapshotPlace interface {
	// Create begins a snapshot, which exists once it is committed.
	Create(ctx context.Context, name string) (NewSnapshot, error)
	// List returns those that begin with prefix, in order of their names.
	List(ctx context.Context, prefix string) ([]SnapshotFile, error)
	Remove(ctx context.Context, name string) error
}

// A NewSnapshot is one that is being written. Commit makes it durable and says where
// it is; Abort drops it.
type NewSnapshot interface {
	io.Writer
	Commit() (url string, err error)
	Abort() error
}

// A SnapshotFile is one of a place.
type SnapshotFile struct {
	Name  string
	Bytes int64
}

func (c *Core) snapshotPlace(s *AutoSnapshot) (SnapshotPlace, error) {
	if s.S3 == nil {
		return folder(s.PathPrefix), nil
	}
	if c.cfg.Bucket == nil {
		return nil, errs.New(errs.Unavailable, "this server cannot write to S3")
	}
	return c.cfg.Bucket(s.PathPrefix, s.S3)
}

// CheckAutoSnapshot refuses a schedule whose place cannot be one. Nothing is asked of the place.
func (c *Core) CheckAutoSnapshot(s *AutoSnapshot) error {
	_, err := c.snapshotPlace(s)
	return err
}

// A counter counts what is written through it.
type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// saveSnapshot makes a snapshot and tells which are too many then.
func (a *Active) saveSnapshot(ctx context.Context, s *AutoSnapshot, now time.Time) (place SnapshotPlace, url string, old []string, err error) {
	if place, err = a.core.snapshotPlace(s); err != nil {
		return nil, "", nil, err
	}
	prefix := s.FilePrefix + "-"
	file, err := place.Create(ctx, prefix+now.Format(snapshotStamp)+snapshotSuffix)
	if err != nil {
		return nil, "", nil, err
	}
	url, old, err = a.fill(ctx, s, place, file)
	if err != nil {
		return nil, "", nil, errors.Join(err, file.Abort())
	}
	return place, url, old, nil
}

func (a *Active) fill(ctx context.Context, s *AutoSnapshot, place SnapshotPlace, file NewSnapshot) (url string, old []string, err error) {
	w := &counter{Writer: file}
	err = a.core.Cluster().Store().WriteArchive(w, func(sums []byte) ([]byte, error) { return a.Ring.Seal([]byte(SnapshotLabel), sums) })
	if err != nil {
		return "", nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	files, err := place.List(ctx, s.FilePrefix+"-")
	if err != nil {
		return "", nil, errs.New(errs.Unavailable, "list the snapshots: %w", err)
	}
	files = slices.DeleteFunc(files, func(f SnapshotFile) bool { // others' files stay
		stamp, isSnap := strings.CutSuffix(strings.TrimPrefix(f.Name, s.FilePrefix+"-"), snapshotSuffix)
		_, err := time.Parse(snapshotStamp, stamp)
		return !isSnap || err != nil
	})
	drop := max(0, len(files)-s.Retain+1)
	total := w.n
	for _, f := range files[drop:] {
		total += f.Bytes
	}
	if s.MaxSpace > 0 && total > s.MaxSpace {
		return "", nil, errs.New(errs.Unavailable,
			"the snapshots that are kept would take %d bytes, and local_max_space is %d: raise it, or lower retain", total, s.MaxSpace)
	}
	for _, f := range files[:drop] {
		old = append(old, f.Name)
	}
	if url, err = file.Commit(); err != nil {
		return "", nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	return url, old, nil
}

// A folder is a SnapshotPlace on this node.
type folder string

type snapshotPart struct {
	*os.File
	path string // that it has once it is whole
}

func (f folder) Create(_ context.Context, name string) (NewSnapshot, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, errs.New(errs.Unavailable, "make the folder for snapshots: %w", err)
	}
	path := filepath.Join(string(f), name)
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the operator's folder
	if err != nil {
		return nil, errs.New(errs.Unavailable, "write a snapshot: %w", err)
	}
	return &snapshotPart{part, path}, nil
}

func (p *snapshotPart) Commit() (string, error) {
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(p.Name(), p.path); err != nil {
		return "", err
	}
	return "file://" + p.path, syncFolder(filepath.Dir(p.path))
}

func (p *snapshotPart) Abort() error {
	_ = p.Close() // of a file that goes
	return remove(p.Name())
}

func (f folder) List(_ context.Context, prefix string) ([]SnapshotFile, error) {
	list, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	var files []SnapshotFile
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if info, err := e.Info(); err == nil { // else it went meanwhile
			files = append(files, SnapshotFile{e.Name(), info.Size()})
		}
	}
	return files, nil
}

func (f folder) Remove(_ context.Context, name string) error {
	return remove(filepath.Join(string(f), name))
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
