package audit

import (
	"errors"
	"log/syslog"
	"strings"
	"sync"
	"syscall"

	"arca/internal/errs"
)

func isTooLong(err error) bool { return errors.Is(err, syscall.EMSGSIZE) }

// facilities are the names that the option facility takes, in the order of
// their numbers (RFC 5424, 6.2.1).
var facilities = [...]string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	12: "", 13: "", 14: "", 15: "", 16: "LOCAL0", 17: "LOCAL1", 18: "LOCAL2", 19: "LOCAL3", 20: "LOCAL4",
	21: "LOCAL5", 22: "LOCAL6", 23: "LOCAL7",
}

// syslogSink writes to the machine's syslog daemon.
type syslogSink struct {
	network, address string // empty: the local daemon; set by tests
	priority         syslog.Priority
	tag              string

	mu   sync.Mutex
	log  *syslog.Writer // under mu, for interrupt
	dead bool           // under mu: interrupted
}

// newSyslog checks the options of a syslog device.
func newSyslog(o map[string]string) (sink, error) {
	s := &syslogSink{tag: "vault", priority: syslog.LOG_INFO | syslog.LOG_AUTH}
	if tag := o["tag"]; tag != "" {
		s.tag = tag
	}
	name := strings.ToUpper(o["facility"])
	if name == "" {
		return s, nil
	}
	for i, f := range facilities {
		if f == name {
			s.priority = syslog.LOG_INFO | syslog.Priority(i<<3)
			return s, nil
		}
	}
	return nil, errs.New(errs.Invalid, "invalid syslog facility: %s", o["facility"])
}

func (s *syslogSink) open() error {
	w, err := syslog.Dial(s.network, s.address, s.priority, s.tag)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = w.Close() // nothing was written
		return syscall.ECONNABORTED
	}
	s.log = w
	return nil
}

func (s *syslogSink) write(lines [][]byte) (n int, broken bool, err error) {
	s.mu.Lock()
	w := s.log
	s.mu.Unlock()
	if w == nil {
		return 0, true, syscall.ECONNABORTED
	}
	for i, l := range lines {
		if _, err := w.Write(trimmed(l)); err != nil {
			return i, !isTooLong(err), err
		}
	}
	return len(lines), false, nil
}

func (s *syslogSink) reload() error { return nil }

func (s *syslogSink) interrupt() {
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	// Closing a syslog.Writer waits for the write that hangs: nothing can be done.
}

func (s *syslogSink) close() error {
	s.mu.Lock()
	w := s.log
	s.log = nil
	s.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.Close()
}
