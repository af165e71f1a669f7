package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// A segment is a file of the log: a header, and frames, each at a multiple of eight bytes. Numbers are little-endian.
//
//	header  magic (8) id (8) before (8) index (8) next (8) checksum (4) 0 (4)
//	frame   checksum (4) length of what follows the frame's head (4) start (4) kind (1) 0 (3)
//
// It is written at its end only, and never again once a write has failed, or it was found with something behind its last frame. The header of the
// next one says up to where it counts: a frame behind that was not acknowledged, and is not there. Within it, each frame says where the
// write began that it was in (start): all before that was durable. So what a crash has torn is told apart from what was damaged since.
//
// A checksum (CRC-32C) covers the segment's id and the place within it, too: what an older file has left on the disk is not taken for a frame.
type segment struct {
	id     uint64
	header header
	file   vfs.File
	end    int64 // behind what counts
	index  int64 // where the frame is that holds the offsets; 0 for none
	closed bool  // it takes nothing more
	last   int64 // where the newest write began that was found when the segment was opened; 0 for none

	reset   bool     // all entries of segments before it are removed
	base    uint64   // its first entry
	offsets []uint32 // where its entries are
}

// A header says where a segment begins, and where the one before it ends.
type header struct {
	before int64  // the end of the one before it, as segment.end; 0 for the first
	index  int64  // the index of the one before it, as segment.index
	next   uint64 // the entry that follows upon those before it
}

const (
	magic       = "arcawal1"
	headerBytes = 48
	frameBytes  = 16
	align       = 8
	maxSegment  = math.MaxUint32 // what an offset can tell
	maxIndex    = 1 << 62        // of an entry that is believed
	writeBytes  = 1 << 20        // what is written to a file at once
)

// Kinds of frames.
const (
	kindEntry = 1 // an entry
	kindCut   = 2 // the entries from this one (8) on are removed: the next one takes its place
	kindReset = 3 // all entries are removed, and the next one is this (8)
	kindIndex = 4 // the last frame of a segment: whether it has a reset (1), its first entry (8), its offsets (4 each)
)

const (
	suffix     = ".wal"
	unfinished = ".tmp" // behind the name of a segment whose header is not durable yet
)

func name(id uint64) string { return fmt.Sprintf("%016x%s", id, suffix) }

func parseName(name string) (id uint64, is bool) {
	hex, is := strings.CutSuffix(name, suffix)
	if !is || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil && id > 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum of what stands in a segment at an offset.
func checksum(id uint64, at int64, parts ...[]byte) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], id)
	binary.LittleEndian.PutUint64(place[8:], uint64(at))
	sum := crc32.Update(0, castagnoli, place[:])
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

func (h header) encode(id uint64) []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.before))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.index))
	b = binary.LittleEndian.AppendUint64(b, h.next)
	b = binary.LittleEndian.AppendUint32(b, checksum(id, 0, b))
	return append(b, 0, 0, 0, 0)
}

// decodeHeader returns false where there is none of a segment with the id.
func decodeHeader(id uint64, b []byte) (h header, is bool) {
	if len(b) < headerBytes || string(b[:8]) != magic || binary.LittleEndian.Uint64(b[8:]) != id || binary.LittleEndian.Uint32(b[40:]) != checksum(id, 0, b[:40]) {
		return header{}, false
	}
	h = header{int64(binary.LittleEndian.Uint64(b[16:])), int64(binary.LittleEndian.Uint64(b[24:])), binary.LittleEndian.Uint64(b[32:])}
	return h, h.before >= 0 && h.before <= maxSegment && h.index >= 0 && h.index <= h.before && h.next > 0 && h.next <= maxIndex
}

// createSegment makes a segment with its header, durable but for its name in the folder. Where the disk has no room for bytes it is begun without.
func createSegment(fs vfs.FS, path string, id uint64, h header, bytes int64) (*segment, error) {
	temp := path + unfinished
	if err := fs.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := fs.OpenReadWrite(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	_ = f.Preallocate(0, bytes) // what there is no room for now may find some when it is written
	if _, err = f.WriteAt(h.encode(id), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.Rename(temp, path)
	}
	if err != nil {
		_ = fs.Remove(temp) // or it is when the log is opened again
		return nil, errors.Join(err, f.Close())
	}
	return &segment{id: id, header: h, file: f, end: headerBytes, base: h.next}, nil
}

// openSegment opens a segment and reads its header.
func openSegment(fs vfs.FS, path string, id uint64) (*segment, error) {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open segment %s: %w", name(id), err)
	}
	s := &segment{id: id, file: f}
	var is bool
	b := make([]byte, headerBytes)
	if _, err = f.ReadAt(b, 0); err == nil || errors.Is(err, io.EOF) {
		err = nil
		if s.header, is = decodeHeader(id, b); !is {
			err = s.damaged(0, "it has no header")
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.base = s.header.next
	return s, nil
}

func (s *segment) damaged(at int64, what string) error {
	return errs.New(errs.Invalid, "segment %s is damaged at byte %d: %s. %s", name(s.id), at, what, Advice)
}

func (s *segment) size() (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, errs.New(errs.Unavailable, "look at segment %s: %w", name(s.id), err)
	}
	return info.Size(), nil
}

// next is behind the segment's last entry.
func (s *segment) next() uint64 { return s.base + uint64(len(s.offsets)) }

// cut removes the entries from one on.
func (s *segment) cut(from uint64) {
	switch {
	case from <= s.base:
		s.base, s.offsets = from, nil
	case from < s.next():
		s.offsets = s.offsets[:from-s.base]
	}
}

// load finds the segment's entries. The newest one is read up to what a crash has torn, all others up to their end.
func (s *segment) load(newest bool) error {
	size, err := s.size()
	if err != nil {
		return err
	}
	if newest {
		return s.recover(min(size, maxSegment))
	}
	if s.end > size || s.end < headerBytes {
		return s.damaged(size, "it is cut short")
	}
	if s.index > 0 {
		s.closed = true
		return s.loadIndex()
	}
	at, err := s.scan(s.end)
	if err == nil && at != s.end {
		err = s.damaged(at, "a frame is not what was written")
	}
	s.closed = true
	return err
}

// recover finds the entries of the newest segment, of which no other says where it ends.
func (s *segment) recover(size int64) error {
	var err error
	if s.end, err = s.scan(size); err != nil {
		return err
	}
	later, clean, err := s.behind(s.end, size)
	if err == nil && later {
		err = s.damaged(s.end, "a frame is not what was written")
	}
	s.closed = s.closed || !clean
	return err
}

// scan reads frames up to size, and returns where the first one is that is none.
func (s *segment) scan(size int64) (at int64, err error) {
	for at = headerBytes; ; {
		f, err := s.frame(at, size)
		if err != nil || f == nil {
			return at, err
		}
		if err := s.apply(f, at); err != nil {
			return at, err
		}
		at, s.last = f.next(at), int64(f.start)
	}
}

// settle makes durable what recover has found: entries will be acknowledged that come behind it. A sync alone would not do. After one that failed, systems
// hold what is in their memory for what is on the disk, and processes that come later read that. So the newest write, the only one of which it is not
// known whether it is on the disk, is written again; and behind it that there is no frame.
func (s *segment) settle() error {
	size, err := s.size()
	if err != nil {
		return err
	}
	buf := make([]byte, writeBytes)
	for at := max(s.last, headerBytes); err == nil && at < s.end; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), s.end-at)]
		if err = s.readAt(buf, at); err == nil {
			_, err = s.file.WriteAt(buf, at)
		}
	}
	if behind := min(frameBytes, size-s.end); err == nil && behind > 0 { // what is there already needs no room
		_, err = s.file.WriteAt(make([]byte, behind), s.end)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return errs.New(errs.Unavailable, "sync segment %s, the newest: %w", name(s.id), err)
	}
	return nil
}

// A frame of a segment.
type frame struct {
	kind  byte
	start uint32
	body  []byte
}

// next is behind a frame.
func (f *frame) next(at int64) int64 { return aligned(at + frameBytes + int64(len(f.body))) }

func aligned(at int64) int64 { return (at + align - 1) &^ (align - 1) }

// frame reads the frame at an offset; nil where there is none. What it may take is bounded by size.
func (s *segment) frame(at, size int64) (*frame, error) {
	if at+frameBytes > size {
		return nil, nil
	}
	head := make([]byte, frameBytes)
	if err := s.readAt(head, at); err != nil {
		return nil, err
	}
	if !plausible(head, at, size) {
		return nil, nil
	}
	f := &frame{kind: head[12], start: binary.LittleEndian.Uint32(head[8:]), body: make([]byte, binary.LittleEndian.Uint32(head[4:]))}
	if err := s.readAt(f.body, at+frameBytes); err != nil {
		return nil, err
	}
	if checksum(s.id, at, head[4:], f.body) != binary.LittleEndian.Uint32(head) {
		return nil, nil
	}
	return f, nil
}

// plausible reports whether a frame may begin with head, which says how long it is.
func plausible(head []byte, at, size int64) bool {
	kind, length, start := head[12], int64(binary.LittleEndian.Uint32(head[4:])), int64(binary.LittleEndian.Uint32(head[8:]))
	return kind >= kindEntry && kind <= kindIndex && head[13]|head[14]|head[15] == 0 && start <= at && start >= headerBytes && aligned(at+frameBytes+length) <= size
}

func (s *segment) readAt(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := s.file.ReadAt(b, at); errors.Is(err, io.EOF) {
		return s.damaged(at, "it is cut short")
	} else if err != nil {
		return errs.New(errs.Unavailable, "read segment %s: %w", name(s.id), err)
	}
	return nil
}

// behind looks at what stands behind the frames that are whole: whether there is anything at all, and whether there is a frame of a later write than the
// one that may be torn there.
func (s *segment) behind(end, size int64) (later, clean bool, err error) {
	clean = true
	buf := make([]byte, writeBytes+frameBytes-align) // the last head of a part may lead into the next
	for at := end; at < size; at += writeBytes {
		part := buf[:min(int64(len(buf)), size-at)]
		if err := s.readAt(part, at); err != nil {
			return false, false, err
		}
		clean = clean && allZero(part)
		for i := 0; !clean && i+frameBytes <= len(part); i += align {
			if !plausible(part[i:], at+int64(i), size) {
				continue
			}
			f, err := s.frame(at+int64(i), size)
			if err != nil || f != nil && int64(f.start) > end {
				return f != nil, false, err
			}
		}
	}
	return false, clean, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// apply takes a frame into the segment's description.
func (s *segment) apply(f *frame, at int64) error {
	if s.closed {
		return s.damaged(at, "a frame stands behind its index")
	}
	switch f.kind {
	case kindEntry:
		if len(f.body) < entryBytes || binary.LittleEndian.Uint64(f.body) != s.next() {
			return s.damaged(at, "an entry is not the one that follows")
		}
		s.offsets = append(s.offsets, uint32(at))
	case kindCut, kindReset:
		if len(f.body) != 8 {
			return s.damaged(at, "a frame has another length than those of its kind")
		}
		from := binary.LittleEndian.Uint64(f.body)
		if f.kind == kindCut && from > s.next() || from == 0 || from > maxIndex {
			return s.damaged(at, "entries are removed that are not there")
		}
		if f.kind == kindReset {
			s.reset = true
			s.cut(0)
		}
		s.cut(from)
		if len(s.offsets) == 0 {
			s.base = from
		}
	case kindIndex:
		s.index, s.closed = at, true
	}
	return nil
}

// loadIndex takes the entries from the segment's index.
func (s *segment) loadIndex() error {
	f, err := s.frame(s.index, s.end)
	if err != nil {
		return err
	}
	if f == nil || f.kind != kindIndex || len(f.body) < 9 || (len(f.body)-9)%4 != 0 || f.next(s.index) != s.end {
		return s.damaged(s.index, "its index is not what was written")
	}
	s.reset, s.base = f.body[0] != 0, binary.LittleEndian.Uint64(f.body[1:])
	s.offsets = make([]uint32, (len(f.body)-9)/4)
	for i := range s.offsets {
		s.offsets[i] = binary.LittleEndian.Uint32(f.body[9+4*i:])
	}
	if s.base == 0 || s.base > maxIndex {
		return s.damaged(s.index, "its index is not what was written")
	}
	return nil
}

// seal closes the segment, and gives it an index, so that it need not be read from its beginning when the log is opened. It goes without where that fails.
func (s *segment) seal() {
	if s.closed {
		return
	}
	s.closed = true
	body := make([]byte, 0, 9+4*len(s.offsets))
	body = append(body, 0)
	if s.reset {
		body[0] = 1
	}
	body = binary.LittleEndian.AppendUint64(body, s.base)
	for _, at := range s.offsets {
		body = binary.LittleEndian.AppendUint32(body, at)
	}
	w := writer{to: s, start: s.end, at: s.end}
	if w.frame(kindIndex, body) != nil || w.flush() != nil || s.file.SyncData() != nil {
		return
	}
	s.index, s.end = s.end, w.at
}

// A writer writes frames behind the end of a segment, where they do not count yet.
type writer struct {
	to        *segment
	start, at int64
	buf       []byte // what is to be written at at
}

// frame writes a frame of parts.
func (w *writer) frame(kind byte, parts ...[]byte) error {
	at, length := w.at+int64(len(w.buf)), 0
	for _, p := range parts {
		length += len(p)
	}
	if at+frameBytes+int64(length) > maxSegment-align {
		return errs.New(errs.TooLarge, "too much for a segment of the raft log at once")
	}
	var head [frameBytes]byte
	binary.LittleEndian.PutUint32(head[4:], uint32(length))
	binary.LittleEndian.PutUint32(head[8:], uint32(w.start))
	head[12] = kind
	sum := checksum(w.to.id, at, head[4:])
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	binary.LittleEndian.PutUint32(head[:], sum)
	w.buf = append(w.buf, head[:]...)
	for _, p := range parts {
		w.buf = append(w.buf, p...)
	}
	for w.at+int64(len(w.buf)) != aligned(w.at+int64(len(w.buf))) {
		w.buf = append(w.buf, 0)
	}
	if len(w.buf) < writeBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	n := int64(len(w.buf))
	_, err := w.to.file.WriteAt(w.buf, w.at)
	w.buf, w.at = w.buf[:0], w.at+n
	return err
}

// entryBytes is how much of an entry stands before its extensions and its data: index (8), term (8), time (8), type (1), 0 (3), length of the
// extensions (4).
const entryBytes = 32

func entryHead(log *raft.Log) [entryBytes]byte {
	var b [entryBytes]byte
	binary.LittleEndian.PutUint64(b[:], log.Index)
	binary.LittleEndian.PutUint64(b[8:], log.Term)
	if !log.AppendedAt.IsZero() {
		binary.LittleEndian.PutUint64(b[16:], uint64(log.AppendedAt.UnixNano()))
	}
	b[24] = byte(log.Type)
	binary.LittleEndian.PutUint32(b[28:], uint32(len(log.Extensions)))
	return b
}

// decodeEntry reads an entry, whose data lies in body.
func decodeEntry(body []byte, to *raft.Log) bool {
	if len(body) < entryBytes {
		return false
	}
	more := int(binary.LittleEndian.Uint32(body[28:]))
	if more > len(body)-entryBytes {
		return false
	}
	*to = raft.Log{Index: binary.LittleEndian.Uint64(body), Term: binary.LittleEndian.Uint64(body[8:]), Type: raft.LogType(body[24])}
	if nano := int64(binary.LittleEndian.Uint64(body[16:])); nano != 0 {
		to.AppendedAt = time.Unix(0, nano).UTC()
	}
	if more > 0 {
		to.Extensions = body[entryBytes : entryBytes+more : entryBytes+more]
	}
	if data := body[entryBytes+more:]; len(data) > 0 {
		to.Data = data
	}
	return true
}

// read reads an entry that the segment has.
func (s *segment) read(index uint64, to *raft.Log) error {
	at := int64(s.offsets[index-s.base])
	f, err := s.frame(at, s.end)
	if err != nil {
		return err
	}
	if f == nil || f.kind != kindEntry || !decodeEntry(f.body, to) || to.Index != index {
		return s.damaged(at, fmt.Sprintf("entry %d is not what was written", index))
	}
	return nil
}

// write writes entries behind the end of a segment, durably. Where that fails the segment takes nothing more, and they do not count. The caller holds
// the Log's writing.
func (l *Log) write(s *segment, p *plan, logs []*raft.Log) error {
	w := writer{to: s, start: s.end, at: s.end, buf: l.buf[:0]}
	err := w.entries(p, logs)
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = s.file.SyncData()
	}
	if cap(w.buf) <= 2*writeBytes {
		l.buf = w.buf
	}
	p.end = w.at
	s.closed = s.closed || err != nil
	return err
}

// entries writes the frames of a plan.
func (w *writer) entries(p *plan, logs []*raft.Log) error {
	var from [8]byte
	binary.LittleEndian.PutUint64(from[:], p.from)
	var err error
	switch {
	case p.reset:
		err = w.frame(kindReset, from[:])
	case p.cut:
		err = w.frame(kindCut, from[:])
	}
	p.offsets = make([]uint32, 0, len(logs))
	for _, log := range logs {
		if err != nil {
			break
		}
		p.offsets = append(p.offsets, uint32(w.at+int64(len(w.buf))))
		head := entryHead(log)
		err = w.frame(kindEntry, head[:], log.Extensions, log.Data)
	}
	return err
}
