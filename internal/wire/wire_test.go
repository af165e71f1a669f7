package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// start serves h and returns the address.
func start(t testing.TB, h http.Handler, change func(*Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		Fallback: &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 5 * time.Second},
	}
	if change != nil {
		change(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != ErrClosed { //nolint:errorlint // the documented value
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

// echo tells what the handler saw.
func echo(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s ?%s host=%s len=%d body=%q tls=%t\n", r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.ContentLength, raw, r.TLS != nil)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&out, "%s: %q\n", k, r.Header[k])
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, out.String())
}

// talk sends raw bytes and returns all that comes back until the server closes
// or is quiet after so many answers.
func talk(t *testing.T, addr, raw string, answers int) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	var out []string
	r := bufio.NewReader(c)
	for range answers {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			out = append(out, "error")
			break
		}
		b, _ := io.ReadAll(res.Body)
		out = append(out, fmt.Sprintf("%d %s", res.StatusCode, b))
	}
	return out
}

// TestAsNetHTTP sends the same bytes to this loop and to net/http.
func TestAsNetHTTP(t *testing.T) {
	ours := start(t, http.HandlerFunc(echo), nil)
	std := httptest.NewServer(http.HandlerFunc(echo))
	defer std.Close()
	theirs := std.Listener.Addr().String()
	for _, c := range []struct {
		name, raw string
		answers   int
	}{
		{"get", "GET /v1/a?b=c HTTP/1.1\r\nHost: x\r\nX-Vault-Token: t\r\n\r\n", 1},
		{"two at once", "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 2},
		{"a bare line feed behind another", "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\nHost: x\n\n", 2},
		{"lower-case names", "GET /a HTTP/1.1\r\nhost: x\r\nx-vault-token: t\r\nX-vault-Token: u\r\n\r\n", 1},
		{"escapes", "GET /v1/a%2Fb%20c?x=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"bad escape", "GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"chunked", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 1},
		{"two lengths", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 1},
		{"signed length", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 1},
		{"no host", "GET /a HTTP/1.1\r\n\r\n", 1},
		{"two hosts", "GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 1},
		{"folded", "GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 1},
		{"blank before colon", "GET /a HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 1},
		{"bare line feeds", "GET /a HTTP/1.1\nHost: x\n\n", 1},
		{"HTTP/1.0", "GET /a HTTP/1.0\r\nHost: x\r\n\r\n", 1},
		{"absolute form", "GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"options star", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"expect", "POST /a HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 0\r\n\r\n", 1},
		{"list", "LIST /a HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"unknown method", "BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", 1},
		{"garbage", "\x16\x03\x01 nonsense\r\n\r\n", 1},
		{"close", "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", 2},
		{"long head", "GET /a HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("b", 40<<10) + "\r\n\r\n", 1},
		{"head too long", "GET /a HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("b", 2<<20) + "\r\n\r\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := talk(t, ours, c.raw, c.answers), talk(t, theirs, c.raw, c.answers)
			if !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// TestAnswers compares the forms of answers.
func TestAnswers(t *testing.T) {
	h := http.NewServeMux()
	h.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	h.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10)) })
	h.HandleFunc("/sized", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "300000")
		for range 3 {
			_, _ = w.Write(bytes.Repeat([]byte("y"), 100_000))
		}
	})
	h.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "line %d\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	})
	h.HandleFunc("/sniff", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	h.HandleFunc("/split", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "b\r\nX-C: d") })
	ours := start(t, h, nil)
	std := httptest.NewServer(h)
	defer std.Close()
	for _, path := range []string{"none", "big", "sized", "stream", "sniff", "split"} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(method+" "+path, func(t *testing.T) {
				get := func(addr string) string {
					req, err := http.NewRequest(method, "http://"+addr+"/"+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					return fmt.Sprintf("%d %d %v %q %q", res.StatusCode, len(b), err, res.Header.Get("Content-Type"), res.Header["X-C"])
				}
				if got, want := get(ours), get(std.Listener.Addr().String()); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
	}
}

// TestTLS speaks HTTP/1.1 and HTTP/2, and HTTP/1.1 of the kind that is handed over.
func TestTLS(t *testing.T) {
	std := httptest.NewUnstartedServer(nil)
	std.StartTLS()
	cert := std.TLS.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(std.Certificate())
	std.Close()
	addr := start(t, http.HandlerFunc(echo), func(s *Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	})
	for _, h2 := range []bool{false, true} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("h2=%t chunked=%t", h2, chunked), func(t *testing.T) {
				client := &http.Client{Transport: &http.Transport{
					ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12},
				}}
				defer client.CloseIdleConnections()
				var body io.Reader = strings.NewReader("abc")
				if chunked {
					body = io.MultiReader(body)
				}
				for range 2 {
					res, err := client.Post("https://"+addr+"/v1/x", "text/plain", body)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil || !strings.Contains(string(b), "tls=true") {
						t.Errorf("answer %q, error %v", b, err)
					}
					if got := res.ProtoMajor == 2; got != h2 {
						t.Errorf("protocol %s", res.Proto)
					}
					body = strings.NewReader("abc")
				}
			})
		}
	}
}

// TestLargeBodyRefused lets the handler refuse a body that it does not read: the
// client still gets the answer.
func TestLargeBodyRefused(t *testing.T) {
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }), nil)
	for range 5 {
		res, err := http.Post("http://"+addr+"/", "text/plain", bytes.NewReader(make([]byte, 16<<20)))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
}

// TestUnreadBody tells the client with the answer whether the connection serves another request: not where more may come of the body than is skipped.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begin" {
			_, _ = r.Body.Read(make([]byte, 1)) // what comes is the rest's matter
		}
		w.WriteHeader(http.StatusForbidden)
	}), nil)
	const sized, chunked = "Content-Length: %d\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		name, path, sent string
		over             bool
	}{
		{"a short one, not sent", "/", fmt.Sprintf(sized, maxDiscard), false},
		{"a long one", "/", fmt.Sprintf(sized, maxDiscard+1), true},
		{"a long one, begun", "/begin", fmt.Sprintf(sized, maxDiscard+2) + "{", true},
		{"a long one of which the rest is short", "/begin", fmt.Sprintf(sized, maxDiscard+1) + "{", false},
		{"chunks", "/", chunked + "2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n", false},
		{"chunks, begun", "/begin", chunked + "2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n", false},
		{"chunks whose end has not come", "/", chunked + "2\r\n{}\r\n3\r\nabc\r\n", true},
		{"chunks of which none has come", "/", chunked, true},
		{"a malformed chunk", "/", chunked + "2\r\n{}\r\nx\r\n\r\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()                                           // the test is over
			_, _ = io.WriteString(conn, "POST "+c.path+" HTTP/1.1\r\nHost: h\r\n"+c.sent) // the answer tells
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != http.StatusForbidden || res.Close != c.over {
				t.Errorf("%d, the last answer: %t", res.StatusCode, res.Close)
			}
		})
	}
}

// TestSlowHead ends a connection that does not finish its head in time.
func TestSlowHead(t *testing.T) {
	addr := start(t, http.HandlerFunc(echo), func(s *Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	if got := talk(t, addr, "GET /a HTTP/1.1\r\nHost:", 1); got[0] != "error" {
		t.Errorf("got %q", got)
	}
}

// TestPanic ends the connection, not the server.
func TestPanic(t *testing.T) {
	addr := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("test")
		}
	}), nil)
	if got := talk(t, addr, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n", 1); got[0] != "error" {
		t.Errorf("got %q", got)
	}
	if got := talk(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1); !strings.HasPrefix(got[0], "200") {
		t.Errorf("got %q", got)
	}
}

// TestShutdown lets a request inside end and refuses others.
func TestShutdown(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	var srv *Server
	var served atomic.Int32
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-release
		served.Add(1)
		_, _ = io.WriteString(w, "done")
	}), func(s *Server) { srv = s })
	got := make(chan []string, 1)
	go func() { got <- talk(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1) }()
	<-inside
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	for !srv.isClosing() {
		select {
		case err := <-down:
			t.Fatalf("Shutdown returned %v with a request inside", err)
		default:
		}
	}
	close(release)
	if answer := <-got; answer[0] != "200 done" {
		t.Errorf("got %q", answer)
	}
	if err := <-down; err != nil || served.Load() != 1 {
		t.Errorf("Shutdown: %v, served %d", err, served.Load())
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the address is still open")
	}
}

// FuzzHead holds what this loop takes against net/http: it must read the same.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /v1/a%2f?x=y HTTP/1.1\r\nHost: [::1]:8200\r\nContent-Length: 5\r\nX-Vault-Token: t\r\nx-a:b\r\nX-A: c\r\n\r\n",
		"LIST /v1/a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
		"GET //a HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := headEnd(raw)
		if n == 0 {
			return
		}
		var h head
		c := &conn{}
		if !h.parse(raw[:n]) || !h.url(&c.url) {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw[:n])))
		if err != nil {
			t.Fatalf("net/http refuses what was taken: %v", err)
		}
		if h.method != want.Method || c.url.String() != want.URL.String() || c.url.Path != want.URL.Path || h.host != want.Host ||
			h.length != want.ContentLength || h.target != want.RequestURI || h.close != want.Close {
			t.Fatalf("read %+v %+v, net/http %+v %+v", h, c.url, want, want.URL)
		}
		if !maps.EqualFunc(h.header, want.Header, slices.Equal) {
			t.Fatalf("headers %v, net/http %v", h.header, want.Header)
		}
	})
}

// A connection in use is not cut by its idle time-out, however short that is.
func TestShortIdleTimeout(t *testing.T) {
	t.Parallel()
	const idle = 400 * time.Millisecond
	addr := start(t, http.HandlerFunc(echo), func(s *Server) { s.IdleTimeout, s.ReadHeaderTimeout = idle, 0 })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	tick := time.NewTicker(idle / 4)
	defer tick.Stop()
	for i := range 8 {
		if _, err := io.WriteString(c, "GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// TestFramedTwice refuses a request that has both lengths, and reads nothing behind it;
// chunked alone is fine.
func TestFramedTwice(t *testing.T) {
	t.Parallel()
	addr := start(t, http.HandlerFunc(echo), nil)
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	next := "GET /before HTTP/1.1\r\nHost: x\r\n\r\n"
	last := "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		head string
		ok   bool
	}{
		{"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", false},
		{"transfer-encoding: chunked\r\ncontent-length: 4\r\n", false},
		{"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nContent-Length: 0\r\n", false},
		{"Transfer-Encoding: chunked\r\n", true},
	} {
		for _, before := range []string{"", next} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, before+"POST /first HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n"+chunks+last); err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(conn) // the server closes
			_ = conn.Close()             // as above
			if err != nil {
				t.Errorf("%q: %v", c.head, err)
			}
			all := strings.TrimPrefix(string(raw), "HTTP/1.1 200")
			if before == "" {
				all = string(raw)
			}
			switch got := strings.Count(all, "/first"); {
			case c.ok && (got != 1 || !strings.Contains(all, "/next") || strings.Contains(all, "HTTP/1.1 400")):
				t.Errorf("%q: %s", c.head, all)
			case !c.ok && (got != 0 || !strings.Contains(all, "HTTP/1.1 400 ") || strings.Count(all, "HTTP/1.1 ") != 1):
				t.Errorf("%q: %s", c.head, all)
			}
		}
	}
}

// TestFramedTwiceLater refuses such requests on connections that are net/http's: because
// of an earlier request, a long head, or ends of lines of its own. Nothing behind one is
// read.
func TestFramedTwiceLater(t *testing.T) {
	t.Parallel()
	addr := start(t, http.HandlerFunc(echo), nil)
	const (
		handed = "POST /before HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
		chunks = "0\r\n\r\n"
		next   = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	)
	head := func(version, more string) string {
		return "POST /first HTTP/" + version + "\r\nHost: x\r\n" + more + "\r\n"
	}
	both := "content-Length: 4\r\nTransfer-encoding: chunked\r\n"
	for name, c := range map[string]struct {
		raw string
		ok  bool
	}{
		"after another": {handed + head("1.1", both) + chunks + next, false},
		"long head":     {head("1.1", "X: "+strings.Repeat("a", 20<<10)+"\r\n"+both) + chunks + next, false},
		"bare LF":       {strings.ReplaceAll(head("1.1", both), "\r\n", "\n") + chunks + next, false},
		"1.0":           {head("1.0", "Connection: keep-alive\r\n"+both) + chunks + next, false},
		"1.0, later":    {handed + head("1.0", "Connection: keep-alive\r\n"+both) + chunks + next, false},
		"chunked":       {head("1.1", "X: "+strings.Repeat("a", 20<<10)+"\r\nTransfer-Encoding: chunked\r\n") + chunks + next, true},
		"length":        {handed + head("1.1", "Connection: close\r\nContent-Length: 0\r\n") + next, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.raw); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // else the test hangs
			raw, _ := io.ReadAll(conn)                                // a reset is an end, too
			text := string(raw)
			if strings.Contains(text, "/next") || strings.Contains(text, "POST /first") != c.ok || strings.Contains(text, "HTTP/1.1 400 ") == c.ok && strings.Contains(text, "HTTP/1.0 400 ") == c.ok {
				t.Errorf("answered %s", text)
			}
		})
	}
}

// TestFramingLinesInBody has a body on a connection of net/http's with lines that look like a head's. The connection may be a proxy's, or another node's, and
// the next request somebody else's: it is served.
func TestFramingLinesInBody(t *testing.T) {
	t.Parallel()
	addr := start(t, http.HandlerFunc(echo), nil)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := strings.Repeat("a", 8<<10) + "\ntransfer-encoding: chunked\ncontent-length: 1\n"
	in := bufio.NewReader(conn)
	for range 3 {
		if _, err := fmt.Fprintf(conn, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Encoding: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || res.Close {
			t.Fatalf("answered %s, %v", res.Status, err)
		}
	}
}

// TestFraming finds the lines however they come in.
func TestFraming(t *testing.T) {
	t.Parallel()
	text := []byte("GET / HTTP/1.1\r\nX-Content-Length: 1\r\nX: content-length\r\nCONTENT-LENGTH: 1\nTransfer-Encodin: x\r\ntransfer-encoding: chunked\r\n\r\n")
	at := bytes.Index(text, []byte("transfer-encoding"))
	for size := 1; size <= len(text); size++ {
		f := &framing{}
		for i := 0; i < len(text); i += size {
			if f.twice() {
				break
			}
			f.see(text[i:min(i+size, len(text))])
		}
		early := &framing{}
		early.see(text[:at])
		if !f.twice() || early.twice() || !early.length.Load() {
			t.Errorf("in pieces of %d: %v; early %v", size, f.twice(), early.twice())
		}
	}
}
