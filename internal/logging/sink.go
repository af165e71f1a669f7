package logging

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// MaxWaiting bounds in bytes what waits for a log's reader: some 15,000 events.
const MaxWaiting = 4 << 20

// A Sink hands the lines of a log on to a writer, and never lets whoever logs wait
// for it: behind a pipe that nobody reads any more, requests would stand still one
// after the other, and the whole server with them. Lines that find no room are
// lost, counted, and told of when there is room again. Safe for concurrent use.
type Sink struct {
	out  io.Writer
	told func(lost uint64)
	lost atomic.Uint64

	mu      sync.Mutex
	waiting []byte        // guarded by mu: whole lines
	spare   []byte        // guarded by mu: room for the next of them
	idle    chan struct{} // guarded by mu: closed when all is written; nil when nothing is
	untold  uint64        // guarded by mu: lost since told
}

// NewSink makes a sink in front of a writer. told, if there is one, is called with
// the number of lines that were lost, once the writer takes some again.
func NewSink(w io.Writer, told func(lost uint64)) *Sink { return &Sink{out: w, told: told} }

// Write takes a line, or whole lines. It neither waits nor fails.
func (s *Sink) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting)+len(lines) > MaxWaiting {
		s.lost.Add(1)
		s.untold++
		return len(lines), nil
	}
	s.waiting = append(s.waiting, lines...)
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.write(s.idle) // until all is written; who waits for that calls Flush
	}
	return len(lines), nil
}

// write passes on what waits, all that has gathered at a time.
func (s *Sink) write(idle chan struct{}) {
	defer close(idle)
	for {
		s.mu.Lock()
		lines := s.waiting
		if len(lines) == 0 {
			s.idle = nil
			s.mu.Unlock()
			return
		}
		s.waiting, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		_, err := s.out.Write(lines) // nowhere to report it but as a loss
		s.mu.Lock()
		if cap(lines) <= keepLines {
			s.spare = lines
		}
		if err != nil {
			s.lost.Add(1)
		}
		untold := s.untold
		s.untold = 0
		s.mu.Unlock()
		if untold > 0 && s.told != nil {
			s.told(untold)
		}
	}
}

// keepLines is how large a buffer is kept for the next lines, in bytes.
const keepLines = 64 << 10

// Lost returns how many lines were lost.
func (s *Sink) Lost() uint64 { return s.lost.Load() }

// Flush waits until all is written, but not longer than the patience: nobody may
// read it.
func (s *Sink) Flush(patience time.Duration) {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle == nil {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}
