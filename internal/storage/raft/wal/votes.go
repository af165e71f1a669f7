package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// Votes is a raft.StableStore: the node's term and vote. It is a file of two places, which are written in turns, each with all values: what a
// crash has torn is not the one that was there before. The file never grows, so that a full disk keeps no node from voting. It is safe for
// concurrent use.
//
// Raft's library looks at heartbeats beside all else that it does, and so may note the older of two terms last. A node that goes by that when it is started again could vote
// for itself in a term in which it has voted for another: the term that is noted never goes back.
//
// Raft sets the term of a vote, and then to whom it was given. If only the first were written, who had the vote before would have that of the later term, too,
// and raft would not look at its log. So the term waits for the other, and both are written at once.
type Votes struct {
	file vfs.File

	mu     sync.Mutex
	values map[string][]byte
	number uint64 // of the newest place
	term   []byte // of a vote of which the candidate is not known yet
	closed bool
}

// Keys of raft's for its last vote, and for the term that it is in.
const (
	voteTerm      = "LastVoteTerm"
	voteCandidate = "LastVoteCand"
	currentTerm   = "CurrentTerm"
)

var _ raft.StableStore = (*Votes)(nil)

const (
	votesName = "votes"
	// A place has a checksum (4), the length of its values (4), its number (8), and its values: the lengths of a key and a value (2 each), and both.
	placeBytes = 4096
	placeHead  = 16
)

// OpenVotes opens the votes in a folder. Where there are none they are made, if fresh says that the node has never voted: one that has forgotten its
// vote could give another.
func OpenVotes(fs vfs.FS, dir string, fresh bool) (*Votes, error) {
	path := fs.PathJoin(dir, votesName)
	if _, err := fs.Stat(path); errors.Is(err, os.ErrNotExist) {
		if !fresh {
			return nil, errs.New(errs.Invalid, "the file %q is not there, in which the node has its votes. %s", path, Advice)
		}
		if err := makeVotes(fs, dir, path); err != nil {
			return nil, errs.New(errs.Unavailable, "make %q: %w", path, err)
		}
	}
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open %q: %w", path, err)
	}
	v := &Votes{file: f}
	if err = v.load(path); err == nil {
		// A process that was killed may have left what is not on the disk: raft goes by it from now on. It is written again, as segment.settle says.
		err = v.write(v.number, v.values)
	}
	if err == nil {
		if err = syncDir(fs, dir); err != nil { // nor may its name be
			err = errs.New(errs.Unavailable, "sync the folder of %q: %w", path, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return v, nil
}

// RenewVotes makes the votes in a folder anew, of a node whose old ones count no more. A file that was there is kept beside the new one.
func RenewVotes(fs vfs.FS, dir string) (*Votes, error) {
	path := fs.PathJoin(dir, votesName)
	err := fs.Rename(path, path+".lost")
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = makeVotes(fs, dir, path)
	}
	if err != nil {
		return nil, errs.New(errs.Unavailable, "make %q: %w", path, err)
	}
	return OpenVotes(fs, dir, false)
}

func makeVotes(fs vfs.FS, dir, path string) error {
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(encodePlace(1, nil), make([]byte, placeBytes)...))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func (v *Votes) load(path string) error {
	b := make([]byte, 2*placeBytes)
	if _, err := v.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return errs.New(errs.Unavailable, "read %q: %w", path, err)
	}
	for place := range 2 {
		number, values, is := decodePlace(b[place*placeBytes:][:placeBytes])
		if is && number > v.number && place == placeOf(number) {
			v.number, v.values = number, values
		}
	}
	if v.number == 0 {
		return errs.New(errs.Invalid, "the file %q is damaged, in which the node has its votes. %s", path, Advice)
	}
	return nil
}

// placeOf is where the values of a number are.
func placeOf(number uint64) int { return int((number - 1) % 2) }

// encodePlace returns a whole place; nil where the values do not fit.
func encodePlace(number uint64, values map[string][]byte) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 8, placeBytes), number)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if len(b)+4+len(key)+len(values[key]) > placeBytes {
			return nil
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(values[key])))
		b = append(append(b, key...), values[key]...)
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-placeHead))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b[:placeBytes]
}

// decodePlace returns false where b holds no place.
func decodePlace(b []byte) (number uint64, values map[string][]byte, is bool) {
	length := int64(binary.LittleEndian.Uint32(b[4:]))
	if length > placeBytes-placeHead || crc32.Checksum(b[4:placeHead+length], castagnoli) != binary.LittleEndian.Uint32(b) {
		return 0, nil, false
	}
	values = map[string][]byte{}
	rest := b[placeHead : placeHead+length]
	for len(rest) > 0 {
		if len(rest) < 4 {
			return 0, nil, false
		}
		k, n := int(binary.LittleEndian.Uint16(rest)), int(binary.LittleEndian.Uint16(rest[2:]))
		if rest = rest[4:]; k+n > len(rest) {
			return 0, nil, false
		}
		values[string(rest[:k])] = rest[k : k+n : k+n]
		rest = rest[k+n:]
	}
	return binary.LittleEndian.Uint64(b[8:]), values, true
}

// Set implements raft.StableStore: the value is durable then, but for the term of a vote, which waits for the candidate. Where it fails the old one is there
// still, until the process ends. A term that has passed, a vote in one, and a second vote in a term are of the kind Conflict.
func (v *Votes) Set(key, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errClosed
	}
	if string(key) == voteTerm {
		v.term = slices.Clone(value)
		return nil
	}
	switch string(key) {
	case currentTerm:
		if termOf(value) < termOf(v.values[currentTerm]) {
			return errs.New(errs.Conflict, "the node is in term %d, and does not go back to term %d", termOf(v.values[currentTerm]), termOf(value))
		}
	case voteCandidate:
		if err := v.mayVote(value); err != nil {
			return err
		}
	}
	values := maps.Clone(v.values)
	values[string(key)] = slices.Clone(value)
	if string(key) == voteCandidate && v.term != nil {
		values[voteTerm], v.term = v.term, nil
	}
	if err := v.write(v.number+1, values); err != nil {
		return err
	}
	v.number, v.values = v.number+1, values
	return nil
}

// mayVote refuses a vote for a candidate, in the term that waits for it, where that has passed, or has another vote. The caller holds mu.
func (v *Votes) mayVote(candidate []byte) error {
	if v.term == nil {
		return nil // raft notes a term before each
	}
	term, voted := termOf(v.term), termOf(v.values[voteTerm])
	other := v.values[voteCandidate] != nil && !bytes.Equal(candidate, v.values[voteCandidate])
	if term < termOf(v.values[currentTerm]) || term < voted || term == voted && other {
		v.term = nil
		return errs.New(errs.Conflict, "the node does not vote in term %d: it is in term %d, and has voted in term %d", term, termOf(v.values[currentTerm]), voted)
	}
	return nil
}

// termOf is the number of a value as SetUint64 stores it; 0 for another.
func termOf(value []byte) uint64 {
	if len(value) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(value)
}

// write writes a place, durably.
func (v *Votes) write(number uint64, values map[string][]byte) error {
	b := encodePlace(number, values)
	if b == nil {
		return errs.New(errs.TooLarge, "raft's votes do not fit into %d bytes", placeBytes)
	}
	_, err := v.file.WriteAt(b, int64(placeOf(number))*placeBytes)
	if err == nil {
		err = v.file.SyncData()
	}
	if err != nil {
		return errs.New(errs.Unavailable, "write the node's vote: %w", err)
	}
	return nil
}

// Get implements raft.StableStore: nil where there is no value.
func (v *Votes) Get(key []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.values[string(key)]), nil
}

// SetUint64 implements raft.StableStore.
func (v *Votes) SetUint64(key []byte, value uint64) error {
	return v.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore: 0 where there is no value.
func (v *Votes) GetUint64(key []byte) (uint64, error) {
	b, err := v.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, errs.New(errs.Internal, "raft's value %q is no number", key)
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Close closes the file, after which nothing can be set.
func (v *Votes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	return v.file.Close()
}
