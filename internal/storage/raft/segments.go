package raft

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
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
	if size == 0 || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return f, err
	}
	if rerr := os.Remove(filepath.Join(dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		return nil, errors.Join(err, rerr)
	}
	return s.VFS.Create(dir, name, 0)
}

// A filer makes the log's segments. stuck is told when the log can take nothing more until it is opened again.
type filer struct {
	types.SegmentFiler
	stuck func(error)
}

// Create implements types.SegmentFiler.
func (f filer) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.Create(info)
	return f.tail(w, err)
}

// RecoverTail implements types.SegmentFiler.
func (f filer) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.RecoverTail(info)
	return f.tail(w, err)
}

func (f filer) tail(w types.SegmentWriter, err error) (types.SegmentWriter, error) {
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

// finishSegment looks at the last segment of the log in dir, before that is opened. Where the process ended when the segment was full and had its index, and
// the next one was not begun, it is that which it has come to: the library takes it for one that is written, and would write nothing more. An index that a
// crash has cut short is taken away.
func finishSegment(dir string, meta types.MetaStore, from types.SegmentFiler, files types.VFS) error {
	state, err := meta.Load(dir)
	if err != nil || len(state.Segments) == 0 || !state.Segments[len(state.Segments)-1].SealTime.IsZero() {
		return err
	}
	last := &state.Segments[len(state.Segments)-1]
	w, err := from.RecoverTail(*last)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // it was only read
	sealed, start, err := w.Sealed()
	if err != nil || !sealed {
		return err
	}
	f, err := files.OpenWriter(dir, segment.FileName(*last))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is synced
	whole, err := hasIndex(f, w, last, start)
	if err == nil && !whole {
		_, err = f.WriteAt(make([]byte, frameHeader), int64(start)-frameHeader)
	}
	if err = errors.Join(err, f.Sync()); err != nil || !whole {
		return err
	}
	last.SealTime, last.MaxIndex, last.IndexStart = time.Now(), w.LastIndex(), start
	next := types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: last.MaxIndex + 1, MinIndex: last.MaxIndex + 1, SizeLimit: last.SizeLimit, Codec: last.Codec, CreateTime: last.SealTime,
	}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return meta.CommitState(state)
}

// hasIndex reports whether a segment has the whole index of its entries from start on. Of those that the log does not need any more it is not looked at.
func hasIndex(f types.WritableFile, w types.SegmentWriter, info *types.SegmentInfo, start uint64) (bool, error) {
	offsets, ok := w.(interface {
		OffsetForFrame(index uint64) (uint32, error)
	})
	if !ok {
		return false, errs.New(errs.Internal, "a segment does not tell where its entries are")
	}
	size := 0
	if last := w.LastIndex(); last >= info.BaseIndex {
		size = 4 * int(last-info.BaseIndex+1)
	}
	index := make([]byte, frameHeader+size)
	if _, err := f.ReadAt(index, int64(start)-frameHeader); err != nil {
		return false, nil //nolint:nilerr // it is not there
	}
	switch n := int(binary.LittleEndian.Uint32(index[4:])); {
	case n < size:
		return false, errs.New(errs.Failed, "the index of its last segment is damaged")
	case n > size:
		return false, nil // with entries that were never committed
	}
	for i := max(info.BaseIndex, info.MinIndex); i <= w.LastIndex(); i++ {
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
