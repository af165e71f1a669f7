package test

import (
	"bufio"
	"net"
	"path/filepath"
	"testing"
)

// The only audit device breaks: requests are refused rather than served without
// a record. It comes back: so does the server, by itself.
func TestOnlyAuditDeviceBreaks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := newNode(t, dir, fileStorage)
	socket := filepath.Join(dir, "audit.sock")
	listen := func() (records chan string, end func()) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		records = make(chan string, 1000)
		conns := make(chan net.Conn, 100)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(conns)
					return
				}
				conns <- c
				go func() {
					for lines := bufio.NewScanner(c); lines.Scan(); {
						records <- lines.Text()
					}
				}()
			}
		}()
		return records, func() {
			l.Close()
			for c := range conns {
				c.Close()
			}
		}
	}
	records, end := listen()
	n.must("POST", "sys/audit/s", map[string]any{"type": "socket", "options": map[string]any{"address": socket, "socket_type": "unix"}})
	n.must("GET", "auth/token/lookup-self", nil)
	<-records
	end()
	await(t, "a refusal", func() bool { return n.get("auth/token/lookup-self").code/100 == 5 })
	if n.get("sys/health").code != 200 {
		t.Error("sys/health is not answered")
	}
	records, end = listen()
	defer end()
	await(t, "an answer", func() bool { return n.get("auth/token/lookup-self").code == 200 })
	<-records
}
