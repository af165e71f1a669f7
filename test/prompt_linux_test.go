package test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal is a program on a pseudo-terminal.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	done   chan struct{}

	mu   sync.Mutex
	text strings.Builder // what the terminal shows; guarded by mu
}

// onTerminal starts the program with a terminal of its own.
func onTerminal(t *testing.T, home string, env []string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no terminals here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	p := &terminal{t: t, master: master, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binFolder, "vault"), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.Env = environment(home, append(env, "TERM=dumb")...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.listen()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
	})
	return p
}

// listen gathers what the terminal shows until its last program ends.
func (p *terminal) listen() {
	defer close(p.done)
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.text.Write(buf[:n])
		p.mu.Unlock()
		if err != nil { // EIO: nobody has it open any more
			_ = p.cmd.Wait() // its exit code is looked at by ended
			return
		}
	}
}

func (p *terminal) shows() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.text.String(), "\r\n", "\n")
}

// asks waits for a question and types the answer.
func (p *terminal) asks(question, reply string) {
	p.t.Helper()
	await(p.t, question, func() bool { return strings.HasSuffix(p.shows(), question) })
	if _, err := p.master.WriteString(reply + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) ended() int {
	p.t.Helper()
	await(p.t, "the end", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

// S3-6, S3-9: on a terminal, unseal asks for each key and login for the token,
// and what is typed does not show.
func TestPrompts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := newNode(t, dir, "disable_mlock = true\nstorage \"file\" { path = \"data\" }\n"+plainListener)
	n.must("PUT", "sys/seal", nil)
	env := []string{"VAULT_ADDR=" + strings.TrimSuffix(n.url, "/v1/")}
	home := t.TempDir()

	unseal := onTerminal(t, home, env, "operator", "unseal")
	unseal.asks("Unseal Key (will be hidden): ", n.keys[0])
	if code := unseal.ended(); code != 0 || !strings.Contains(unseal.shows(), "Sealed          false\n") || strings.Contains(unseal.shows(), n.keys[0]) {
		t.Errorf("unseal: exit code %d, the terminal shows\n%s", code, unseal.shows())
	}
	login := onTerminal(t, home, env, "login")
	login.asks("Token (will be hidden): ", n.root)
	if code := login.ended(); code != 0 || !strings.Contains(login.shows(), "Success! You are now authenticated.") {
		t.Errorf("login: exit code %d, the terminal shows\n%s", code, login.shows())
	}
	if strings.Contains(strings.Split(login.shows(), "Success!")[0], n.root) {
		t.Errorf("the token shows where it was typed:\n%s", login.shows())
	}
	info, err := os.Stat(filepath.Join(home, ".vault-token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kept token: %v, %v", info, err)
	}
	lookup := onTerminal(t, home, env, "token", "lookup")
	if code := lookup.ended(); code != 0 || !strings.Contains(lookup.shows(), "[root]") {
		t.Errorf("with the kept token: exit code %d\n%s", code, lookup.shows())
	}
}
