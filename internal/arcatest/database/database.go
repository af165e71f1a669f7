// Package database runs the database servers of Debian's packages for tests: each in a folder of its own, at a free port,
// until the test ends. A test is skipped where the package is missing.
package database

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest"
)

const patience = 60 * time.Second

// A Server is a process that a test may stop, kill and start again.
type Server struct {
	Port int

	tb    testing.TB
	dir   string
	cred  *syscall.Credential
	argv  []string
	stop  os.Signal
	ready func(ctx context.Context) error

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	text bytes.Buffer
}

// newServer prepares a server in a folder of its own, which belongs to a user without rights where the test runs as root.
func newServer(tb testing.TB, users ...string) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "arca-db-")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: dir, Port: arcatest.FreePort(tb)}
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() {
			tb.Logf("output of the database:\n%s", s.output())
		}
		_ = os.RemoveAll(dir) // in the folder for temporary files
	})
	if os.Getuid() != 0 {
		return s
	}
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers here
		gid, _ := strconv.ParseUint(u.Gid, 10, 32) // likewise
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			tb.Fatal(err)
		}
		return s
	}
	tb.Skip("there is no user without rights here to run a database")
	return nil
}

func (s *Server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Write implements io.Writer for what the server says.
func (s *Server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *Server) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, s, s
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LANG=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

// run runs a tool to its end.
func (s *Server) run(argv ...string) {
	s.tb.Helper()
	if err := s.command(argv...).Run(); err != nil {
		s.tb.Fatalf("%s: %v\n%s", filepath.Base(argv[0]), err, s.output())
	}
}

// Start starts the server, and returns when it answers.
func (s *Server) Start() {
	s.tb.Helper()
	s.cmd = s.command(s.argv...)
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() { _ = cmd.Wait(); close(done) }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return
		}
		pause := time.NewTimer(20 * time.Millisecond)
		select {
		case <-pause.C:
		case <-done:
			s.tb.Fatalf("the database ended: %v\n%s", err, s.output())
		case <-ctx.Done():
			s.tb.Fatalf("the database does not start: %v\n%s", err, s.output())
		}
	}
}

// Stop ends the server as an administrator would.
func (s *Server) Stop() { s.end(s.stop) }

// Kill ends it with SIGKILL, if it runs.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// PID is that of its first process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Pause stops it in its tracks, and Continue lets it go on.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) } // of a running process

// Continue undoes Pause.
func (s *Server) Continue() { _ = s.cmd.Process.Signal(syscall.SIGCONT) } // likewise

func (s *Server) end(by os.Signal) {
	if s.done == nil {
		return
	}
	_ = s.cmd.Process.Signal(by) // it may have ended
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill() // likewise
		<-s.done
	}
	s.done = nil
}

// find looks for a program, the last of what the patterns and the path have.
func find(tb testing.TB, pkg, name string, patterns ...string) string {
	tb.Helper()
	for _, p := range patterns {
		if found, _ := filepath.Glob(filepath.Join(p, name)); len(found) > 0 { // a good pattern
			slices.Sort(found)
			return found[len(found)-1]
		}
	}
	file, err := exec.LookPath(name)
	if err != nil {
		tb.Skipf("the package %s is not installed: there is no %s", pkg, name)
	}
	return file
}
