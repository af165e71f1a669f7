package raft

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"arca/internal/errs"
)

// segments is the file system below the log. A segment for which a full disk has no room is begun all the same, and gets its room with what is written:
// the log would take nothing more, until it is opened again, after one that it could not begin.
type segments struct{ types.VFS }

// Create implements types.VFS.
func (s segments) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := s.VFS.Create(dir, name, size)
	if size > 0 && isFull(err) {
		if rerr := os.Remove(filepath.Join(dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			return nil, errors.Join(err, rerr)
		}
		f, err = s.VFS.Create(dir, name, 0)
	}
	return cleaned(f, err)
}

// OpenWriter implements types.VFS.
func (s segments) OpenWriter(dir, name string) (types.WritableFile, error) {
	return cleaned(s.VFS.OpenWriter(dir, name))
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// A clean is a file of the log, which is written at its end only. What a write that failed has left behind that is taken away: the library would read it
// behind the next entries, if these are shorter.
type clean struct {
	types.WritableFile
	open int64 // where the write began that is not durable yet; -1 for none
}

func cleaned(f types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	return &clean{f, -1}, nil
}

// WriteAt implements io.WriterAt.
func (c *clean) WriteAt(b []byte, at int64) (int, error) {
	c.open = at
	n, err := c.WritableFile.WriteAt(b, at)
	return n, c.cut(err)
}

// Sync implements types.WritableFile. The library writes once before each.
func (c *clean) Sync() error {
	err := c.cut(c.WritableFile.Sync())
	c.open = -1
	return err
}

// cut takes away, after an error, what was written and is not durable.
func (c *clean) cut(err error) error {
	if f, ok := c.WritableFile.(interface{ Truncate(size int64) error }); ok && err != nil && c.open >= 0 {
		return errors.Join(err, f.Truncate(c.open))
	}
	return err
}

// A filer makes the log's segments. stuck is told when the log can take nothing more until it is opened again.
type filer struct {
	types.SegmentFiler
	stuck func(error)
	open  atomic.Bool           // the log is: until then errors are told by who opens it
	lost  atomic.Pointer[error] // why a segment could not be begun
}

// Create implements types.SegmentFiler. The log's description has the segment by then, and may have lost the one that the library goes on to write.
func (f *filer) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.Create(info)
	if err != nil && f.open.Load() {
		var why error = errs.New(errs.Unavailable, "the raft log takes nothing more, as its next segment could not be begun: %w", err)
		f.lost.Store(&why)
		f.stuck(why)
	}
	return f.tail(w, err)
}

// err is why the log must take nothing more; nil where it may.
func (f *filer) err() error {
	if why := f.lost.Load(); why != nil {
		return *why
	}
	return nil
}

// RecoverTail implements types.SegmentFiler.
func (f *filer) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.RecoverTail(info)
	return f.tail(w, err)
}

func (f *filer) tail(w types.SegmentWriter, err error) (types.SegmentWriter, error) {
	if err != nil {
		return nil, err
	}
	return &tail{SegmentWriter: w, stuck: f.stuck}, nil
}

// A tail is the segment that is written. One that could not be sealed would say at the next attempt that it is, without an index.
type tail struct {
	types.SegmentWriter
	stuck  func(error)
	failed error
}

// ForceSeal implements types.SegmentWriter.
func (t *tail) ForceSeal() (uint64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	start, err := t.SegmentWriter.ForceSeal()
	if err != nil {
		t.failed = errs.New(errs.Unavailable, "the end of the raft log, which the cluster has not taken, could not be removed: %w", err)
		t.stuck(t.failed)
	}
	return start, err
}

// frameHeader is how many bytes stand before the index of a segment: its kind, and its length from the fifth on.
const frameHeader = 8

// maxStale is how many times what is no index is taken away from the end of a segment.
const maxStale = 8

// finishSegment looks at the last segment of the log in dir, before that is opened. Where the process ended when the segment was full and had its index, and
// the next one was not begun, it is that which it has come to: the library takes it for one that is written, and would write nothing more.
func finishSegment(dir string, meta types.MetaStore, from types.SegmentFiler, files types.VFS) error {
	state, err := meta.Load(dir)
	if err != nil || len(state.Segments) == 0 || !state.Segments[len(state.Segments)-1].SealTime.IsZero() {
		return err
	}
	last := &state.Segments[len(state.Segments)-1]
	var at ending
	for range maxStale {
		if at, err = endOf(dir, last, from, files); err != nil || !at.stale {
			break
		}
	}
	if err != nil || at.index == 0 || at.stale {
		return err
	}
	last.SealTime, last.MaxIndex, last.IndexStart = time.Now(), at.last, at.index
	next := types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: last.MaxIndex + 1, MinIndex: last.MaxIndex + 1, SizeLimit: last.SizeLimit, Codec: last.Codec, CreateTime: last.SealTime,
	}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return meta.CommitState(state)
}

// An ending is how a segment ends.
type ending struct {
	last  uint64 // its last entry
	index uint64 // where its index begins; 0 where it has none, and is written yet
	stale bool   // what was there for its index was none, and was taken away
}

// endOf takes away what a crash, or a write that failed, has left behind a segment's entries and the library takes for their index.
func endOf(dir string, info *types.SegmentInfo, from types.SegmentFiler, files types.VFS) (ending, error) {
	w, err := from.RecoverTail(*info)
	if errors.Is(err, os.ErrNotExist) {
		return ending{}, nil
	}
	if err != nil {
		return ending{}, err
	}
	defer func() { _ = w.Close() }() // it was only read
	sealed, start, err := w.Sealed()
	if err != nil || !sealed {
		return ending{}, err
	}
	f, err := files.OpenWriter(dir, segment.FileName(*info))
	if err != nil {
		return ending{}, err
	}
	defer func() { _ = f.Close() }() // it is synced
	whole, err := hasIndex(f, w, info, start)
	if err == nil && !whole {
		_, err = f.WriteAt(make([]byte, frameHeader), int64(start)-frameHeader)
	}
	return ending{w.LastIndex(), start, !whole}, errors.Join(err, f.Sync())
}

// hasIndex reports whether a segment has the whole index of its entries from start on. Of those that the log does not need any more it is not looked at.
// An error is no answer: what stands there may be the index of entries that were acknowledged.
func hasIndex(f types.WritableFile, w types.SegmentWriter, info *types.SegmentInfo, start uint64) (bool, error) {
	offsets, ok := w.(interface {
		OffsetForFrame(index uint64) (uint32, error)
	})
	if !ok {
		return false, errs.New(errs.Internal, "a segment does not tell where its entries are")
	}
	last := w.LastIndex()
	if last < info.BaseIndex {
		return false, nil // of no entries there is none
	}
	size := 4 * int(last-info.BaseIndex+1)
	index := make([]byte, frameHeader+size)
	head := int64(start) - frameHeader
	switch _, err := f.ReadAt(index, head); {
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, err
	}
	if int(binary.LittleEndian.Uint32(index[4:])) != size { // of entries that were never committed
		at, err := offsets.OffsetForFrame(last)
		if err == nil && head <= int64(at) {
			err = errs.New(errs.Failed, "the index of its last segment is damaged")
		}
		return false, err
	}
	for i := max(info.BaseIndex, info.MinIndex); i <= last; i++ {
		at, err := offsets.OffsetForFrame(i)
		if err != nil {
			return false, err
		}
		if binary.LittleEndian.Uint32(index[frameHeader+4*(i-info.BaseIndex):]) != at {
			return false, nil
		}
	}
	return true, nil
}
