package test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A siege is a server and what attacks it.
type siege struct {
	*node
	plain, tls string // addresses of the listeners
	ctx        context.Context
	wait       sync.WaitGroup // for the attackers
	ends       sync.WaitGroup // for those whose attack ends by itself
	members    string         // a JSON object of a million members
	queries    string         // a million parameters
}

// TestHostile lets many bad clients at a server, each in its own way and all at
// once. A good client's reads go on, and the server does not keep what they
// made it take.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("uses much memory")
	}
	dir := t.TempDir()
	writeCertificate(t, dir)
	n := newNode(t, dir, fileStorage+`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = "vault.crt" tls_key_file = "vault.key" }`+"\n")
	found := listening.FindAllStringSubmatch(n.output(), -1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s := &siege{node: n, plain: found[0][1], tls: found[1][1], ctx: ctx, members: millionMembers(), queries: millionQueries()}
	n.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	n.must("POST", "kv/good", map[string]any{"v": "1"})
	for i := range 2000 {
		n.must("POST", fmt.Sprintf("kv/list/%0200d", i), map[string]any{"v": "1"})
	}
	n.must("PUT", "sys/audit/file", map[string]any{"type": "file", "options": map[string]any{"file_path": filepath.Join(dir, "audit.log")}})
	before := n.status(t, "VmRSS")

	reads := s.readOn(t)
	for _, attack := range []struct {
		name  string
		times int
		ends  bool // by itself
		one   func(i int)
	}{
		{"slow headers", 100, false, s.slowHeaders},
		{"slow bodies", 100, false, s.slowBodies},
		{"idle", 2000, false, s.idle},
		{"idle on TLS", 200, false, s.idleTLS},
		{"garbage", 100, false, s.garbage},
		{"broken handshakes", 100, false, s.brokenHandshake},
		{"never reading", 16, false, s.neverReading},
		{"deep JSON", 16, true, func(int) { s.post(t, "kv/x", "", strings.Repeat(`{"a":`, 1<<20), 400) }},
		{"a million members", 8, true, func(int) { s.post(t, "kv/x", "", s.members, 400) }},
		{"a million query parameters", 8, true, func(int) { s.manyQueries(t) }},
		{"a million form parameters", 8, true, func(int) { s.post(t, "kv/x", "application/x-www-form-urlencoded", s.queries, 400) }},
		{"many short strings", 400, true, func(int) { s.post(t, "auth/approle/login", "", shortStrings, 403) }},
		{"32 MiB", 64, true, func(int) { s.bigBody(t) }},
	} {
		for i := range attack.times {
			s.wait.Go(func() { attack.one(i) })
			if attack.ends {
				s.ends.Add(1)
			}
		}
	}
	s.attacked(t)
	stop()
	s.wait.Wait()
	latency := reads()
	peak := n.status(t, "VmHWM")
	n.client.CloseIdleConnections()
	s.fallsBelow(t, 200<<10)
	t.Logf("RSS: %d MiB before, %d MiB at the peak, %d MiB afterwards", before>>10, peak>>10, n.status(t, "VmRSS")>>10)
	t.Logf("%d good reads: median %v, 99 %% %v, longest %v", len(latency),
		latency[len(latency)/2], latency[len(latency)*99/100], latency[len(latency)-1])
	if peak > 600<<10 {
		t.Errorf("RSS rose to %d MiB", peak>>10)
	}
	if longest := latency[len(latency)-1]; longest > 10*time.Second {
		t.Errorf("a good read took %v", longest)
	}
}

// shortStrings are each longer as a hash in the audit log than in the request.
var shortStrings = `{"a":[` + strings.Repeat(`["`+strings.Repeat(`","`, 9_000)+`"],`, 8) + `0]}`

// attacked waits until the attacks that end by themselves have ended. That all
// of them do is a part of the test: who waits gets its turn.
func (s *siege) attacked(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		s.ends.Wait()
		close(ended)
	}()
	timeout := time.NewTimer(4 * patience) // beside other tests it is a lot of work; what hangs does so for ever
	defer timeout.Stop()
	select {
	case <-ended:
	case <-timeout.C:
		t.Error("some bad clients still wait for their answer")
	case <-s.done:
		t.Fatal("the server ended")
	}
}

// readOn reads a secret again and again; the function that it returns stops
// that and gives the sorted latencies.
func (s *siege) readOn(t *testing.T) func() []time.Duration {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var latency []time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			a, err := s.call(ctx, "GET", "kv/good", s.root, nil)
			if ctx.Err() != nil {
				return
			}
			if err != nil || a.code != 200 {
				t.Errorf("a good read: status %d, %v", a.code, err)
				return
			}
			latency = append(latency, time.Since(began))
		}
	}()
	return func() []time.Duration {
		stop()
		<-done
		if len(latency) == 0 {
			t.Fatal("no good read came through")
		}
		slices.Sort(latency)
		return latency
	}
}

// fallsBelow waits until the server gives memory back.
func (s *siege) fallsBelow(t *testing.T, kib int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for s.status(t, "VmRSS") > kib {
		if time.Now().After(deadline) {
			t.Errorf("RSS stays at %d MiB", s.status(t, "VmRSS")>>10)
			return
		}
		pause := time.NewTimer(50 * time.Millisecond)
		<-pause.C
	}
}

// dial connects; the connection ends with the siege.
func (s *siege) dial(addr string) net.Conn {
	var d net.Dialer
	c, err := d.DialContext(s.ctx, "tcp", addr)
	if err != nil {
		return nil // the siege is over
	}
	context.AfterFunc(s.ctx, func() { c.Close() })
	return c
}

// drip writes a text and then a byte now and then, until the siege or the
// server ends it.
func (s *siege) drip(addr, text string) {
	c := s.dial(addr)
	if c == nil {
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			if _, err := io.WriteString(c, "a"); err != nil {
				return
			}
		}
	}
}

func (s *siege) slowHeaders(int) { s.drip(s.plain, "GET /v1/kv/good HTTP/1.1\r\nHost: a\r\nX-Long: ") }

func (s *siege) slowBodies(int) {
	s.drip(s.plain, "PUT /v1/kv/x HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n{\"v\":\"")
}

func (s *siege) stay(addr string) {
	if c := s.dial(addr); c != nil {
		<-s.ctx.Done()
	}
}

func (s *siege) idle(int) { s.stay(s.plain) }

func (s *siege) idleTLS(int) { s.stay(s.tls) }

func (s *siege) garbage(i int) {
	addr := s.plain
	if i%2 == 1 {
		addr = s.tls
	}
	c := s.dial(addr)
	if c == nil {
		return
	}
	defer c.Close()
	_, _ = c.Write(bytes.Repeat([]byte{byte(i), 0, 0xff, '\r'}, 1<<14)) // it may be cut off
	_, _ = io.Copy(io.Discard, c)
}

// brokenHandshake begins as TLS does and goes on as nothing does.
func (s *siege) brokenHandshake(i int) {
	c := s.dial(s.tls)
	if c == nil {
		return
	}
	defer c.Close()
	_, _ = c.Write(append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, bytes.Repeat([]byte{byte(i)}, 600)...)) // it may be cut off
	_, _ = io.Copy(io.Discard, c)
}

// neverReading asks for a list of some 400 kB again and again and reads nothing.
func (s *siege) neverReading(int) {
	c := s.dial(s.plain)
	if c == nil {
		return
	}
	defer c.Close()
	request := "LIST /v1/kv/list HTTP/1.1\r\nHost: a\r\nX-Vault-Token: " + s.root + "\r\n\r\n"
	for {
		if _, err := io.WriteString(c, strings.Repeat(request, 100)); err != nil {
			return
		}
	}
}

func millionMembers() string {
	var b strings.Builder
	b.WriteString(`{"m":0`)
	for i := range 1_000_000 {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	b.WriteString("}")
	return b.String()
}

func millionQueries() string {
	var b strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "k%d=1&", i)
	}
	return b.String()
}

// post sends a body without a token and wants the status.
func (s *siege) post(t *testing.T, path, contentType, body string, want int) {
	defer s.ends.Done()
	req, err := http.NewRequestWithContext(s.ctx, "PUT", s.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", contentType)
	res, err := s.client.Do(req)
	if err != nil {
		if s.ctx.Err() == nil {
			t.Logf("PUT %s: %v", path, err) // cut off while it was sending
		}
		return
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		t.Errorf("PUT %s: status %d, want %d", path, res.StatusCode, want)
	}
}

// bigBody sends the largest body that is taken, which is one string.
func (s *siege) bigBody(t *testing.T) {
	defer s.ends.Done()
	const size = 32 << 20
	c := s.dial(s.plain)
	if c == nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "PUT /v1/kv/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n{\"v\":\"", size)
	chunk := bytes.Repeat([]byte("a"), 1<<16)
	for left := size - len(`{"v":""}`); left > 0; left -= len(chunk) {
		if _, err := c.Write(chunk[:min(left, len(chunk))]); err != nil {
			return
		}
	}
	if _, err := io.WriteString(c, `"}`); err != nil {
		return
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return // the siege is over
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("32 MiB without a token: status %d", res.StatusCode)
	}
}

// manyQueries sends a head that is too large.
func (s *siege) manyQueries(t *testing.T) {
	defer s.ends.Done()
	c := s.dial(s.plain)
	if c == nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /v1/kv/good?"+s.queries+" HTTP/1.1\r\nHost: a\r\n\r\n") // it is cut off
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge && res.StatusCode != http.StatusBadRequest {
		t.Errorf("a million query parameters: status %d", res.StatusCode)
	}
}

// writeCertificate makes vault.crt and vault.key in a folder.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	cert, key := selfSigned(t)
	for name, text := range map[string][]byte{"vault.crt": cert, "vault.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
