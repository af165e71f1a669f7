package kmip

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"arca/internal/ttlv"
)

// How messages come off a connection and answers go to it. What is asked of a connection for each
// message counts: a short one is read at once, and deadlines are set when they change.

const (
	intakeBytes = 512      // of the buffer of a connection that waits: as many as a short message has
	maxIntake   = 64 << 10 // bytes that are kept for the next message
)

// An intake reads messages off a connection and writes answers to it. It is of one goroutine.
type intake struct {
	c       net.Conn
	until   time.Time // when waiting for a message ends
	waits   bool      // the read deadline is until,
	begun   bool      // or messageTime after the first bytes of the message
	written time.Time // the write deadline
	had     []byte    // what was read and belongs to no message yet
	used    int       // bytes of had that the last message had
}

func newIntake(c net.Conn, until time.Time) *intake {
	return &intake{c: c, until: until, had: make([]byte, 0, intakeBytes)}
}

// header waits for the header of a message, nil when none comes until the end of waiting. Once a
// message has begun, it must be complete soon.
func (in *intake) header() []byte {
	if !time.Now().Before(in.until) { // who sends the next one early does not wait, and stays no longer
		return nil
	}
	n := copy(in.had, in.had[in.used:]) // of the next one
	clear(in.had[n:])                   // of the last, which may have had a key
	in.had, in.used, in.begun = in.had[:n], 0, false
	if cap(in.had) > maxIntake && n <= intakeBytes {
		in.had = append(make([]byte, 0, intakeBytes), in.had...)
	}
	if n == 0 {
		if !in.waits {
			if in.c.SetReadDeadline(in.until) != nil {
				return nil
			}
			in.waits = true
		}
		if !in.more() {
			return nil
		}
	}
	if !in.fill(ttlv.HeaderBytes) {
		return nil
	}
	return in.had[:ttlv.HeaderBytes]
}

// message takes a message whose header is there off the connection; it is good until the next
// one. When there is none, answer is what to say before the end, nil for nothing.
func (in *intake) message(most int) (message, answer []byte) {
	h := in.had[:ttlv.HeaderBytes]
	n, err := ttlv.Length(h)
	if err != nil || ttlv.Tag(h[0])<<16|ttlv.Tag(h[1])<<8|ttlv.Tag(h[2]) != ttlv.TagRequestMessage {
		return nil, failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, "this is no KMIP request", time.Now())
	}
	if n > most {
		return nil, failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, "the message is too large", time.Now())
	}
	if !in.fill(n) {
		return nil, nil
	}
	in.used = n
	return in.had[:n:n], nil
}

// fill reads until there are n bytes of the message, which must come soon. The buffer grows with
// what comes, not with what is announced.
func (in *intake) fill(n int) bool {
	for len(in.had) < n {
		if !in.begun {
			if in.c.SetReadDeadline(time.Now().Add(messageTime)) != nil {
				return false
			}
			in.begun, in.waits = true, false
		}
		if len(in.had) == cap(in.had) {
			old := in.had
			in.had = append(make([]byte, 0, min(n, 2*len(old))), old...)
			clear(old)
		}
		if !in.more() {
			return false
		}
	}
	return true
}

// more reads what is there into what is free of the buffer.
func (in *intake) more() bool {
	n, err := in.c.Read(in.had[len(in.had):cap(in.had)])
	in.had = in.had[:len(in.had)+n]
	return n > 0 && (err == nil || errors.Is(err, io.EOF))
}

// write sends an answer, for which there is at least messageTime.
func (in *intake) write(answer []byte) bool {
	if now := time.Now(); in.written.Sub(now) < messageTime {
		in.written = now.Add(messageTime + messageTime/4)
		if in.c.SetWriteDeadline(in.written) != nil {
			return false
		}
	}
	_, err := in.c.Write(answer)
	return err == nil
}

// reply is write, after which nothing of the answer is left: it may have had a key.
func (in *intake) reply(answer []byte) bool {
	defer clear(answer)
	return in.write(answer)
}

// patience is the time that a connection's messages have to be answered, one after the other: one
// context and one timer for all. The timer runs on from one message to the next, and is not set
// anew for each; while nothing comes, it ends. The zero value is ready.
type patience struct {
	ctx    context.Context //nolint:containedctx // of the connection's messages
	cancel context.CancelFunc
	timer  *time.Timer

	mu    sync.Mutex
	until time.Time // of the message that is being answered; zero for none. Guarded by mu
	runs  bool      // the timer does. Guarded by mu
}

// begin returns the context of a message that came at a time; pause must be called when it is
// answered.
func (p *patience) begin(parent context.Context, now time.Time) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil || p.ctx.Err() != nil {
		p.stop()
		p.ctx, p.cancel = context.WithCancel(parent)
	}
	p.until = now.Add(messageTime)
	switch {
	case p.runs:
	case p.timer == nil:
		p.timer, p.runs = time.AfterFunc(messageTime, p.ring), true
	default:
		p.timer.Reset(messageTime)
		p.runs = true
	}
	return p.ctx
}

// ring is when the timer has run down: it ends the message that has had its time.
func (p *patience) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs = !p.until.IsZero(); !p.runs {
		return
	}
	if left := time.Until(p.until); left > 0 {
		p.timer.Reset(left)
		return
	}
	p.runs = false
	p.cancel()
}

// pause is between two messages.
func (p *patience) pause() {
	p.mu.Lock()
	p.until = time.Time{}
	p.mu.Unlock()
}

// end is when there are no more.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
}

// stop ends the context. mu is held.
func (p *patience) stop() {
	p.until = time.Time{}
	if p.cancel != nil {
		p.cancel()
	}
	if p.timer != nil {
		p.timer.Stop()
		p.runs = false
	}
}
