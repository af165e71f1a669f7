package kmip

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/ttlv"
)

// A pieces is a connection that gives what is there piece by piece, and notes its deadlines.
type pieces struct {
	net.Conn
	left   [][]byte
	reads  []time.Time // deadlines
	writes []time.Time
	sent   bytes.Buffer
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error)        { return p.sent.Write(b) }
func (p *pieces) SetReadDeadline(t time.Time) error  { p.reads = append(p.reads, t); return nil }
func (p *pieces) SetWriteDeadline(t time.Time) error { p.writes = append(p.writes, t); return nil }

func requestOf(size int) []byte {
	return ttlv.Struct(ttlv.TagRequestMessage, ttlv.Bytes(ttlv.TagData, bytes.Repeat([]byte{7}, size))).Encode()
}

// Messages come off a connection as they were sent, however they were cut; what follows one is of
// the next.
func TestIntake(t *testing.T) {
	t.Parallel()
	list := [][]byte{requestOf(100), requestOf(1), requestOf(maxIntake * 3), requestOf(400), requestOf(20_000)}
	all := bytes.Join(list, nil)
	for _, step := range []int{1, 7, 8, 9, 500, 512, 4096, len(all)} {
		p := &pieces{}
		for rest := all; len(rest) > 0; {
			n := min(step, len(rest))
			p.left, rest = append(p.left, rest[:n]), rest[n:]
		}
		in := newIntake(p, time.Now().Add(time.Hour))
		for i, want := range list {
			if h := in.header(); !bytes.Equal(h, want[:ttlv.HeaderBytes]) {
				t.Fatalf("steps of %d: message %d begins with %x", step, i, h)
			}
			got, answer := in.message(1 << 20)
			if answer != nil || !bytes.Equal(got, want) {
				t.Fatalf("steps of %d: message %d is another, of %d bytes", step, i, len(got))
			}
		}
		if in.header() != nil {
			t.Errorf("steps of %d: more has come than was sent", step)
		}
		if cap(in.had) > maxIntake {
			t.Errorf("steps of %d: %d bytes are kept", step, cap(in.had))
		}
	}
}

// What was received and what was answered is not left in memory: it may have been a key.
func TestIntakeForgets(t *testing.T) {
	t.Parallel()
	m := requestOf(intakeBytes)
	in := newIntake(&pieces{left: [][]byte{m, m[:20]}}, time.Now().Add(time.Hour))
	small := in.had[:1:intakeBytes]
	in.header()
	got, _ := in.message(1 << 20)
	if !bytes.Equal(got, m) {
		t.Fatal("another message")
	}
	answer := bytes.Clone(m)
	if !in.reply(answer) || !bytes.Equal(in.c.(*pieces).sent.Bytes(), m) {
		t.Error("another answer")
	}
	in.header() // of the next one, of which some has come
	for what, b := range map[string][]byte{"the answer": answer, "the buffer": in.had[:cap(in.had)][20:], "the buffer before it grew": small[:intakeBytes]} {
		if bytes.Contains(b, []byte{7}) {
			t.Errorf("%s has what was sent", what)
		}
	}
}

// What is announced costs nothing before it comes, and what is no message is answered.
func TestIntakeAnnounced(t *testing.T) {
	t.Parallel()
	long := requestOf(16 << 20)
	in := newIntake(&pieces{left: [][]byte{long[:3000]}}, time.Now().Add(time.Hour))
	in.header()
	if m, answer := in.message(64 << 20); m != nil || answer != nil || cap(in.had) > 8000 {
		t.Errorf("half a message: %d bytes of it, %d of an answer, %d of a buffer", len(m), len(answer), cap(in.had))
	}
	for name, raw := range map[string][]byte{"too long": long[:100], "no request": ttlv.Struct(ttlv.TagResponseMessage).Encode()} {
		in := newIntake(&pieces{left: [][]byte{raw}}, time.Now().Add(time.Hour))
		in.header()
		if m, answer := in.message(1 << 20); m != nil || answer == nil {
			t.Errorf("%s: a message of %d bytes, an answer of %d", name, len(m), len(answer))
		}
	}
	if in := newIntake(&pieces{left: [][]byte{long[:7]}}, time.Now()); in.header() != nil {
		t.Error("seven bytes are a header")
	}
}

// A message has its time from its first bytes on, waiting ends when it is said, and where nothing
// changes no deadline is set.
func TestIntakeDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		until := began.Add(time.Hour)
		m := requestOf(100)
		p := &pieces{left: [][]byte{m, m, m[:3], m[3:50], m[50:], m}}
		in := newIntake(p, until)
		for range 4 {
			time.Sleep(time.Second)
			in.header()
			if got, _ := in.message(1 << 20); !bytes.Equal(got, m) || !in.write(got) {
				t.Fatal("another message")
			}
		}
		soon := began.Add(3*time.Second + messageTime)
		if want := []time.Time{until, soon, until}; len(p.reads) != 3 || !p.reads[0].Equal(want[0]) || !p.reads[1].Equal(want[1]) || !p.reads[2].Equal(want[2]) {
			t.Errorf("read deadlines %v, want %v", p.reads, want)
		}
		if len(p.writes) != 1 || p.writes[0].Before(began.Add(5*time.Second+messageTime)) {
			t.Errorf("write deadlines %v", p.writes)
		}
		time.Sleep(messageTime)
		in.write(m)
		if last := p.writes[len(p.writes)-1]; len(p.writes) != 2 || time.Until(last) < messageTime {
			t.Errorf("write deadlines %v", p.writes)
		}
	})
}

// A connection ends when it is said, however early the first bytes of each message come.
func TestIntakeUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const every, after = time.Second, 3 * time.Second
		m := requestOf(100)
		p := &pieces{left: [][]byte{append(bytes.Clone(m), m[:9]...)}}
		for range 10 {
			p.left = append(p.left, append(bytes.Clone(m[9:]), m[:9]...))
		}
		in := newIntake(p, time.Now().Add(after))
		served := 0
		for in.header() != nil {
			if got, _ := in.message(1 << 20); !bytes.Equal(got, m) {
				break
			}
			served++
			time.Sleep(every)
		}
		if served != int(after/every) {
			t.Errorf("%d messages are served within %s, one in each %s", served, after, every)
		}
		p = &pieces{}
		head := &io.LimitedReader{R: strings.NewReader("GET / HTTP/1.1\r\n\r\n")}
		w := &webConn{c: p, head: head, r: bufio.NewReader(head), until: time.Now()}
		if w.one(false) || p.sent.Len() > 0 {
			t.Errorf("by HTTP, the answer is %q", p.sent.String())
		}
	})
}

// Each message has its time; the one behind one that was too slow has it, too.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		var p patience
		defer p.end()
		for range 3 { // together more than one has
			ctx := p.begin(parent, time.Now())
			time.Sleep(messageTime - time.Second)
			if ctx.Err() != nil {
				t.Fatal("it ends too early")
			}
			p.pause()
		}
		time.Sleep(2 * messageTime)
		ctx := p.begin(parent, time.Now())
		if ctx.Err() != nil {
			t.Fatal("it ends between messages")
		}
		time.Sleep(messageTime + time.Second)
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Fatal("it does not end")
		}
		p.pause()
		if ctx = p.begin(parent, time.Now()); ctx.Err() != nil {
			t.Fatal("the next one has no time")
		}
		cancel()
		if ctx.Err() == nil {
			t.Error("it outlives its server")
		}
		p.pause()
	})
}
