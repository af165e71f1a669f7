package pebble

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// A snapshot travels as the files of a checkpoint, one after the other:
//
//	"arca state 1\n" | number of files | for each: length of its name, name, size | contents | SHA-256 of all before
//
// with numbers as unsigned varints. So its size is known before it is read, and nothing of it is held in memory.
const (
	// ContainerMagic begins it.
	ContainerMagic = "arca state 1\n"

	maxFiles     = 1 << 20
	maxNameBytes = 128
)

// A file is one of a checkpoint.
type file struct {
	name string
	size int64
}

// A Container reads a checkpoint as one stream, of Size bytes.
type Container struct {
	io.Reader
	Size int64
	open vfs.File // being read
}

// Pack returns the files of a checkpoint in dir as a stream.
func Pack(fs vfs.FS, dir string) (*Container, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	head := append([]byte(ContainerMagic), binary.AppendUvarint(nil, uint64(len(names)))...)
	c := &Container{}
	files := make([]file, 0, len(names))
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, info.Size()})
		head = binary.AppendUvarint(head, uint64(len(name)))
		head = append(head, name...)
		head = binary.AppendUvarint(head, uint64(info.Size()))
		c.Size += info.Size()
	}
	c.Size += int64(len(head)) + sha256.Size
	sum := sha256.New()
	body := &packed{c: c, fs: fs, dir: dir, files: files}
	c.Reader = io.MultiReader(io.TeeReader(io.MultiReader(bytes.NewReader(head), body), sum), &sumReader{sum: sum})
	return c, nil
}

// Close closes what is open.
func (c *Container) Close() error {
	if c.open == nil {
		return nil
	}
	f := c.open
	c.open = nil
	return f.Close()
}

// packed reads the files one after the other, exactly as long as they were said to be.
type packed struct {
	c     *Container
	fs    vfs.FS
	dir   string
	files []file
	left  int64
}

func (p *packed) Read(b []byte) (int, error) {
	for p.c.open == nil || p.left == 0 {
		if err := p.c.Close(); err != nil {
			return 0, err
		}
		if len(p.files) == 0 {
			return 0, io.EOF
		}
		f, err := p.fs.Open(p.fs.PathJoin(p.dir, p.files[0].name))
		if err != nil {
			return 0, err
		}
		p.c.open, p.left, p.files = f, p.files[0].size, p.files[1:]
	}
	n, err := p.c.open.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	if errors.Is(err, io.EOF) {
		if err = nil; n == 0 && p.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

type sumReader struct {
	sum  hash.Hash
	left []byte
	made bool
}

func (s *sumReader) Read(b []byte) (int, error) {
	if !s.made {
		s.left, s.made = s.sum.Sum(nil), true
	}
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}

var errContainer = errs.New(errs.Invalid, "this is no snapshot of arca's storage, or it is damaged; nothing was changed")

// Unpack writes the files of such a stream into dir, which it makes, durably. Open opens it then.
func Unpack(from io.Reader, fs vfs.FS, dir string) error {
	sum := sha256.New()
	in := bufio.NewReaderSize(from, 256<<10)
	r := &summed{in, sum}
	files, err := readHead(r)
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if err := unpackFile(r, fs, fs.PathJoin(dir, f.name), f.size); err != nil {
			return err
		}
	}
	got := sum.Sum(nil)
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in, want); err != nil || !bytes.Equal(got, want) {
		return errContainer
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return errContainer
	}
	return syncDir(fs, dir)
}

// summed counts what is read into a hash.
type summed struct {
	*bufio.Reader
	sum hash.Hash
}

func (s *summed) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.sum.Write(b[:n])
	return n, err
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.Reader.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b})
	}
	return b, err
}

func readHead(r *summed) ([]file, error) {
	magic := make([]byte, len(ContainerMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != ContainerMagic {
		return nil, errContainer
	}
	n, err := binary.ReadUvarint(r)
	if err != nil || n == 0 || n > maxFiles {
		return nil, errContainer
	}
	var files []file
	for range n {
		length, err := binary.ReadUvarint(r)
		if err != nil || length == 0 || length > maxNameBytes {
			return nil, errContainer
		}
		name := make([]byte, length)
		if _, err := io.ReadFull(r, name); err != nil {
			return nil, errContainer
		}
		size, err := binary.ReadUvarint(r)
		if err != nil || size > 1<<50 || !plainName(string(name)) {
			return nil, errContainer
		}
		if len(files) > 0 && files[len(files)-1].name >= string(name) {
			return nil, errContainer // in order, and none twice
		}
		files = append(files, file{string(name), int64(size)})
	}
	return files, nil
}

// plainName reports whether a name leads nowhere but into the folder that it is in.
func plainName(name string) bool {
	return name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00:")
}

func unpackFile(r io.Reader, fs vfs.FS, path string, size int64) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	n, err := io.CopyN(f, r, size)
	if errors.Is(err, io.EOF) || err == nil && n != size {
		err = errContainer
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
