package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
)

const (
	maxChunkLine  = 256     // bytes of a chunk's size with its extension, or of a line of the trailer
	maxChunkExtra = 4 << 10 // bytes of such lines beyond what chunks of a sensible size need
)

var errChunk = errors.New("the chunked body is malformed")

// chunks reads a chunked body (RFC 9112, section 7.1) in its strict form: sizes of up to
// 8 digits, lines that end with CRLF and have no other control characters. What is
// otherwise is an error, with which the connection ends, as somebody else may have
// taken it for another request. Extensions and trailers are skipped.
type chunks struct {
	c     *conn
	left  int64 // of the chunk
	extra int64 // bytes of lines that were not worth their chunks
	begun bool  // a chunk was read, whose CRLF comes
	err   error // io.EOF at the end
}

// Read implements io.Reader.
func (b *chunks) Read(p []byte) (int, error) {
	if b.err == nil && b.left == 0 {
		b.err = b.next()
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.c.readBody(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.err = err
	return n, err
}

// next reads up to the data of the next chunk.
func (b *chunks) next() error {
	if b.begun {
		if end, err := b.line(0); err != nil || len(end) > 0 {
			return or(err, errChunk)
		}
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunkSize(line)
	if !ok {
		return errChunk
	}
	if b.extra = max(0, b.extra+int64(len(line))-16-size); b.extra > maxChunkExtra {
		return errChunk
	}
	b.begun, b.left = true, size
	if size > 0 {
		return nil
	}
	for extra := 0; extra <= maxChunkExtra; {
		line, err := b.line(maxChunkLine)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		extra += len(line)
	}
	return errChunk
}

func or(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// chunkSize reads a chunk's size, in hexadecimal digits, before its extension.
func chunkSize(line []byte) (size int64, ok bool) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 8 {
		return 0, false
	}
	for _, d := range digits {
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'a' && d <= 'f':
			d -= 'a' - 10
		case d >= 'A' && d <= 'F':
			d -= 'A' - 10
		default:
			return 0, false
		}
		size = size<<4 | int64(d)
	}
	return size, true
}

// line reads a line of up to so many bytes, without its end. It is valid until the next
// read.
func (b *chunks) line(most int) ([]byte, error) {
	c := b.c
	for {
		have := c.buf[c.from:c.to]
		end := bytes.IndexByte(have, '\n')
		switch {
		case end > 0 && end-1 <= most && have[end-1] == '\r' && isText(have[:end-1]):
			c.from += end + 1
			return have[:end-1], nil
		case end >= 0 || len(have) > most+1:
			return nil, errChunk
		}
		if c.from > 0 {
			copy(c.buf, have)
			c.from, c.to = 0, len(have)
		}
		n, err := c.rw.Read(c.buf[c.to:]) // which has room: a line is shorter
		c.to += n
		if n == 0 && err != nil {
			return nil, unexpected(err)
		}
	}
}

// isText reports whether a line has no control characters but tabs.
func isText(line []byte) bool {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// short is lent.short: the end of the body has been read, or is in the buffer.
func (b *chunks) short() bool {
	if b.err != nil {
		return errors.Is(b.err, io.EOF)
	}
	ahead := *b
	ahead.c = &conn{buf: bytes.Clone(b.c.buf[b.c.from:b.c.to]), to: b.c.to - b.c.from, rw: void{}}
	defer clear(ahead.c.buf)
	_, err := io.Copy(io.Discard, &ahead)
	return err == nil
}

// void is a connection from which nothing more comes.
type void struct{ net.Conn }

// Read implements io.Reader.
func (void) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// discard is body.discard.
func (b *chunks) discard() bool {
	if b.err == nil {
		b.c.setDeadline(shortDeadline)
		_, _ = io.CopyN(io.Discard, b, maxDiscard) // b.err tells
		if b.err == nil {
			_, _ = b.Read(nil) // it may have ended there
		}
	}
	return errors.Is(b.err, io.EOF)
}
