package raft

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// An archive is a snapshot as a file: a tar, compressed by gzip, of
//
//	meta.json            position, term and nodes, as hashicorp/raft describes a snapshot
//	state.bin            the state, its values encrypted as ever
//	SHA256SUMS           of the two
//	SHA256SUMS.sealed    that, sealed with the cluster's keys: it tells who made it, and that it is complete
const (
	metaName   = "meta.json"
	stateName  = "state.bin"
	sumsName   = "SHA256SUMS"
	sealedName = "SHA256SUMS.sealed"
	maxSmall   = 1 << 20
	// maxPosition is the highest index and term of a snapshot that is taken: raft counts on from there.
	maxPosition = 1 << 62
)

// WriteArchive writes a snapshot of the present state. seal seals the checksums. It holds nothing of it in memory.
func (s *Store) WriteArchive(w io.Writer, seal func([]byte) ([]byte, error)) error {
	if err := s.broken.get(); err != nil {
		return err
	}
	c, err := s.checkpoint()
	if err != nil {
		return err
	}
	err = writeArchive(w, c, seal)
	return errors.Join(err, c.Close())
}

func writeArchive(w io.Writer, c *checkpoint, seal func([]byte) ([]byte, error)) error {
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	now := time.Now()
	out := tar.NewWriter(gz)
	head := func(name string, size int64) error {
		return out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: now, Format: tar.FormatPAX})
	}
	small := func(name string, text []byte) error {
		if err := head(name, int64(len(text))); err != nil {
			return err
		}
		_, err := out.Write(text)
		return err
	}
	meta, err := json.Marshal(metaOf("arca", c.at, c.peers, c.Size))
	if err != nil {
		return err
	}
	if err := small(metaName, meta); err != nil {
		return err
	}
	if err := head(stateName, c.Size); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), c); err != nil {
		return err
	}
	sums := fmt.Appendf(nil, "%x  %s\n%x  %s\n", sha256.Sum256(meta), metaName, sum.Sum(nil), stateName)
	sealed, err := seal(sums)
	if err != nil {
		return err
	}
	if err := small(sumsName, sums); err != nil {
		return err
	}
	if err := small(sealedName, sealed); err != nil {
		return err
	}
	return errors.Join(out.Close(), gz.Close())
}

// An Archive is a snapshot that was received and found whole, but not installed.
type Archive struct {
	Sums, Sealed []byte // the checksums, and these as the cluster that made it has sealed them

	store *Store
	meta  raft.SnapshotMeta
	path  string
}

// ReadArchive receives an archive, into a file. It must be closed. Nothing is changed by it.
func (s *Store) ReadArchive(from io.Reader) (*Archive, error) {
	s.snaps.mu.Lock()
	s.snaps.number++
	a := &Archive{store: s, path: s.fs.PathJoin(s.cfg.Dir, fmt.Sprint(outgoingDir, "upload-", s.snaps.number))}
	s.snaps.mu.Unlock()
	if err := a.read(from); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close removes the file.
func (a *Archive) Close() error { return a.store.fs.RemoveAll(a.path) }

func broken(what string, err error) error {
	return errs.List(errs.Failed, fmt.Sprintf("failed to %s: %v", what, err))
}

func (a *Archive) read(from io.Reader) error {
	gz, err := gzip.NewReader(bufio.NewReaderSize(from, 64<<10))
	if err != nil {
		return broken("decompress snapshot", err)
	}
	in := tar.NewReader(gz)
	sums := map[string]string{}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken("read snapshot", err)
		}
		if err := a.member(h.Name, in, sums); err != nil {
			return err
		}
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(gz, maxSmall+1)); err != nil || n > maxSmall {
		return broken("read snapshot", errors.Join(errors.New("it does not end as it should"), err))
	}
	if a.Sums == nil || a.Sealed == nil {
		return broken("read snapshot", errors.New("it is not complete: the checksums are missing"))
	}
	for line := range strings.Lines(string(a.Sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if sums[name] == "" || sums[name] != sum {
			return broken("read snapshot", fmt.Errorf("%q does not have the checksum that it should have", name))
		}
		delete(sums, name)
	}
	if len(sums) > 0 || a.meta.Index == 0 || a.meta.Index > maxPosition || a.meta.Term > maxPosition {
		return broken("read snapshot", errors.New("it does not hold what it should"))
	}
	return nil
}

// member takes one file of the archive.
func (a *Archive) member(name string, in io.Reader, sums map[string]string) error {
	switch name {
	case stateName:
		if sums[name] != "" {
			return broken("read snapshot", errors.New("it holds two states"))
		}
		f, err := a.store.fs.Create(a.path, writeCategory)
		if err != nil {
			return errs.New(errs.Unavailable, "keep the snapshot: %w", err)
		}
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(sum, f), in) // in this order: a vfs.File may change what it writes
		if err := errors.Join(err, f.Close()); err != nil {
			return broken("read snapshot", err)
		}
		if n == 0 {
			return broken("read snapshot", errors.New("its state is empty"))
		}
		sums[name], a.meta.Size = hex.EncodeToString(sum.Sum(nil)), n
		return nil
	case metaName, sumsName, sealedName:
	default:
		return broken("read snapshot", fmt.Errorf("it holds a file %q", name))
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSmall+1))
	if err == nil && len(text) > maxSmall {
		err = fmt.Errorf("%q is too large", name)
	}
	if err != nil {
		return broken("read snapshot", err)
	}
	switch name {
	case sumsName:
		a.Sums = text
	case sealedName:
		a.Sealed = text
	case metaName:
		size := a.meta.Size
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&a.meta); err != nil {
			return broken("read snapshot", err)
		}
		if size > 0 {
			a.meta.Size = size
		}
		sum := sha256.Sum256(text)
		sums[name] = hex.EncodeToString(sum[:])
	}
	return nil
}

// Restore makes the archive's state that of the cluster. Only the leader can. What was under way meanwhile is refused.
func (s *Store) Restore(a *Archive) error {
	r := s.running.Load()
	if r == nil || !s.Leading() {
		return errVoid
	}
	f, err := s.fs.Open(a.path)
	if err != nil {
		return errs.New(errs.Unavailable, "read the snapshot: %w", err)
	}
	defer f.Close()
	meta := a.meta
	meta.Version = raft.SnapshotVersionMax
	s.follow()
	over := make(chan struct{})
	if !r.installs.unlessOver(func() { r.work.Go(func() { r.urge(over) }) }) {
		return errVoid
	}
	err = r.raft.Restore(&meta, f, restoreTimeout)
	close(over)
	s.askAgain()
	if err != nil {
		return errs.New(errs.Failed, "install the snapshot: %w", err)
	}
	return nil
}

const restoreTimeout = time.Minute

// urge has followers hear of the log again and again until over is closed. One that learns that it needs a snapshot is
// sent it, and then nothing before commitTime unless there is more in the log: too long for who waits for it.
func (r *running) urge(over <-chan struct{}) {
	t := time.NewTicker(urgePause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.raft.Barrier(0) // an entry without content; raft sees to what comes of it
		case <-over:
			return
		case <-r.done:
			return
		}
	}
}

const urgePause = 100 * time.Millisecond
