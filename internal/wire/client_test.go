package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// dialled is a Client of a server, and the number of connections that it opens.
func dialled(address string) (*Client, *atomic.Int64) {
	n := new(atomic.Int64)
	return &Client{MaxIdle: 4, IdleTimeout: time.Minute, Dial: func(ctx context.Context, to string) (net.Conn, error) {
		n.Add(1)
		if to != address {
			return nil, fmt.Errorf("dialled %q", to)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", to)
	}}, n
}

// posted is what a server answers.
func posted(t *testing.T, c *Client, r *Request) (status int, body string) {
	t.Helper()
	res, err := c.Post(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // never fails
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// TestClient has requests answered by both of the servers that there are, over one connection for as long as that can be.
func TestClient(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/long":
			w.Header().Set("Content-Length", "300000")
			_, _ = io.WriteString(w, strings.Repeat("x", 300_000)) // the client tells
		case "/parts":
			for range 3 {
				_, _ = io.WriteString(w, "part ") // likewise
				_ = http.NewResponseController(w).Flush()
			}
		case "/last":
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "last") // likewise
		default:
			w.Header().Set("X-Answer", "yes")
			w.WriteHeader(http.StatusTeapot)
			_, _ = fmt.Fprintf(w, "%s %s %s %s %q %q", r.Method, r.RequestURI, r.Host, body, r.Header["X-Two"], r.Header["User-Agent"])
		}
	})
	other := httptest.NewServer(handler)
	t.Cleanup(other.Close)
	for name, address := range map[string]string{"wire": start(t, handler, nil), "net/http": other.Listener.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, opened := dialled(address)
			header := http.Header{
				"X-Two": {"a", "b\r\nX-Two: c"}, "Content-Length": {"77"}, "Transfer-Encoding": {"chunked"}, "Host": {"else"}, "Connection": {"close"},
			}
			for range 3 {
				status, body := posted(t, c, &Request{Address: address, Target: "/a%20b?c=d", Host: "here", Header: header, Body: []byte("text")})
				if want := `POST /a%20b?c=d here text ["a" "b  X-Two: c"] []`; status != http.StatusTeapot || body != want {
					t.Errorf("%d %s, want %s", status, body, want)
				}
			}
			if _, body := posted(t, c, &Request{Address: address, Target: "/"}); !strings.HasPrefix(body, "POST / "+address) {
				t.Error(body)
			}
			if status, body := posted(t, c, &Request{Address: address, Target: "/none"}); status != http.StatusNoContent || body != "" {
				t.Errorf("%d %q", status, body)
			}
			if _, body := posted(t, c, &Request{Address: address, Target: "/long"}); len(body) != 300_000 {
				t.Errorf("%d bytes", len(body))
			}
			if _, body := posted(t, c, &Request{Address: address, Target: "/parts"}); body != "part part part " {
				t.Errorf("%q", body)
			}
			if n := opened.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
			if _, body := posted(t, c, &Request{Address: address, Target: "/last"}); body != "last" {
				t.Errorf("%q", body)
			}
			res, err := c.Post(t.Context(), &Request{Address: address, Target: "/long"}) // is left unread
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close() // never fails
			want := int64(3)
			if name == "wire" { // whose handlers do not end connections
				want--
			}
			if posted(t, c, &Request{Address: address, Target: "/"}); opened.Load() != want {
				t.Errorf("%d connections, want %d, after what could not be kept", opened.Load(), want)
			}
		})
	}
}

// unserved is a server that takes connections and does with each what is said.
func unserved(t *testing.T, do func(n int, c net.Conn, in *bufio.Reader)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test is over
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(n, c, bufio.NewReader(c))
			_ = c.Close() // whatever became of it
		}
	}()
	return l.Addr().String()
}

// TestClientSendsOnce tells apart what was not sent from what may have been served, and sends neither again.
func TestClientSendsOnce(t *testing.T) {
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	read := func(in *bufio.Reader) bool {
		r, err := http.ReadRequest(in)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		return err == nil
	}
	t.Run("closed while idle", func(t *testing.T) {
		t.Parallel()
		var served atomic.Int64
		closed := make(chan struct{}, 8)
		address := unserved(t, func(_ int, c net.Conn, in *bufio.Reader) {
			if read(in) {
				served.Add(1)
				_, _ = io.WriteString(c, answer) // the client tells
			}
			_ = c.Close() // likewise
			closed <- struct{}{}
		})
		c, opened := dialled(address)
		for n := range int64(20) {
			if _, body := posted(t, c, &Request{Address: address, Target: "/"}); body != "ok" || served.Load() != n+1 || opened.Load() != n+1 {
				t.Fatalf("%q, %d served over %d connections", body, served.Load(), opened.Load())
			}
			<-closed
		}
	})
	for name, what := range map[string]string{
		"nothing": "", "no answer": "hello\r\n\r\n", "half a head": answer[:20], "half a body": answer[:len(answer)-1], "interim": "HTTP/1.1 100 Continue\r\n\r\n" + answer,
		"endless head": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int64
			address := unserved(t, func(_ int, c net.Conn, in *bufio.Reader) {
				for read(in) {
					if served.Add(1); served.Load() == 1 {
						_, _ = io.WriteString(c, answer) // the client tells
						continue
					}
					_, _ = io.WriteString(c, what) // likewise
					return
				}
			})
			c, opened := dialled(address)
			posted(t, c, &Request{Address: address, Target: "/"})
			_, err := c.Post(t.Context(), &Request{Address: address, Target: "/"})
			var unsent *NotSentError
			if err == nil || errors.As(err, &unsent) || errors.Is(err, io.EOF) {
				t.Errorf("the error is %v", err)
			}
			if served.Load() != 2 || opened.Load() != 1 {
				t.Errorf("it was sent %d times over %d connections", served.Load(), opened.Load())
			}
		})
	}
	t.Run("more than the answer", func(t *testing.T) {
		t.Parallel()
		address := unserved(t, func(n int, c net.Conn, in *bufio.Reader) {
			for read(in) {
				_, _ = io.WriteString(c, answer+strings.Replace(answer, "ok", "no", 1)[:n*20]) // the client tells
			}
		})
		c, _ := dialled(address)
		for range 2 {
			if _, body := posted(t, c, &Request{Address: address, Target: "/"}); body != "ok" {
				t.Errorf("%q: what came before its request was taken for its answer", body)
			}
		}
	})
	t.Run("end with the answer", func(t *testing.T) { // as TLS tells it, before the connection is closed below
		t.Parallel()
		var opened int
		c := &Client{MaxIdle: 1, IdleTimeout: time.Minute, Dial: func(context.Context, string) (net.Conn, error) {
			opened++
			return ending{answering{bytes.NewReader([]byte(answer))}}, nil
		}}
		for range 3 {
			if _, body := posted(t, c, &Request{Address: "a", Target: "/"}); body != "ok" {
				t.Errorf("%q", body)
			}
		}
		if opened != 3 {
			t.Errorf("%d connections", opened)
		}
	})
	t.Run("not dialled", func(t *testing.T) {
		t.Parallel()
		c, _ := dialled("elsewhere")
		var unsent *NotSentError
		if _, err := c.Post(t.Context(), &Request{Address: "here", Target: "/"}); !errors.As(err, &unsent) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("not plain", func(t *testing.T) {
		t.Parallel()
		c, opened := dialled("x")
		for _, r := range []*Request{
			{Target: "/a b"}, {Target: "/a\r\nX: y"}, {Target: ""}, {Target: "/", Host: "a\nb"}, {Target: "/", Header: http.Header{"A: b\r\nC": {"d"}}},
		} {
			r.Address = "x"
			if _, err := c.Post(t.Context(), r); !errors.Is(err, ErrPlain) || opened.Load() > 0 {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
}

// TestClientContext ends requests for which nobody waits any more: before they are sent, while the answer is awaited, and while it is read.
func TestClientContext(t *testing.T) {
	t.Parallel()
	why := errors.New("nobody waits")
	came := make(chan struct{}, 1)
	over := make(chan struct{})
	var once atomic.Bool
	address := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/never":
			came <- struct{}{}
			<-over
		case "/begun":
			_, _ = io.WriteString(w, "begun") // the client tells
			_ = http.NewResponseController(w).Flush()
			came <- struct{}{}
			<-over
		case "/once":
			if once.Swap(true) {
				t.Error("it was sent for nobody")
			}
		}
	}), nil)
	t.Cleanup(func() { close(over) })
	c, _ := dialled(address)
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	posted(t, c, &Request{Address: address, Target: "/once"})
	var unsent *NotSentError
	if _, err := c.Post(ended, &Request{Address: address, Target: "/once"}); !errors.Is(err, why) || !errors.As(err, &unsent) {
		t.Errorf("the error is %v", err)
	}
	for _, target := range []string{"/never", "/begun"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-came
			cancel(why)
		}()
		res, err := c.Post(ctx, &Request{Address: address, Target: target})
		if err == nil {
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close() // never fails
		} else if !errors.Is(err, why) {
			t.Errorf("%s: the error is %v", target, err)
		}
		if err == nil || errors.As(err, &unsent) {
			t.Errorf("%s: the error is %v", target, err)
		}
	}
	posted(t, c, &Request{Address: address, Target: "/"}) // as ever
}

// TestClientIdle keeps no more connections than it may, and none for longer.
func TestClientIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var opened, open atomic.Int64
		goOn := make(chan struct{})
		c := &Client{MaxIdle: 2, IdleTimeout: time.Minute, Dial: func(context.Context, string) (net.Conn, error) {
			here, there := net.Pipe()
			opened.Add(1)
			open.Add(1)
			go func() {
				defer open.Add(-1)
				for in := bufio.NewReader(there); ; {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					<-goOn
					_, _ = io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // the client tells
				}
			}()
			return here, nil
		}}
		for range 3 {
			go func() {
				if res, err := c.Post(t.Context(), &Request{Address: "a", Target: "/"}); err != nil {
					t.Error(err)
				} else {
					_ = res.Body.Close() // never fails
				}
			}()
		}
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		if opened.Load() != 3 || open.Load() != 2 {
			t.Errorf("of %d connections %d are kept", opened.Load(), open.Load())
		}
		time.Sleep(40 * time.Second)
		posted(t, c, &Request{Address: "a", Target: "/"})
		posted(t, c, &Request{Address: "b", Target: "/"})
		if opened.Load() != 4 {
			t.Errorf("%d connections", opened.Load())
		}
		time.Sleep(30 * time.Second)
		if open.Load() != 2 {
			t.Errorf("%d connections are kept, of which two were used", open.Load())
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if open.Load() != 0 || len(c.idle) > 0 {
			t.Errorf("%d connections are kept for too long", open.Load())
		}
		posted(t, c, &Request{Address: "a", Target: "/"}) // and so on
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if open.Load() != 0 {
			t.Errorf("%d connections are kept for too long", open.Load())
		}
	})
}

// FuzzAnswer has a server answer anything: what is read of it is what net/http reads, and a connection is kept only at the end of an answer.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\nx",
		"HTTP/1.0 200 OK\r\n\r\nall", "HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := bytes.NewReader(raw)
		c := &Client{MaxIdle: 1, IdleTimeout: time.Minute, Dial: func(context.Context, string) (net.Conn, error) { return answering{in}, nil }}
		res, err := c.Post(t.Context(), &Request{Address: "a", Target: "/"})
		if err != nil {
			return
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // never fails
		want, readErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), post)
		if readErr != nil {
			t.Fatalf("net/http refuses what was taken: %v", readErr)
		}
		theirs, theirErr := io.ReadAll(want.Body)
		if theirs != nil && !maps.EqualFunc(res.Header, want.Header, slices.Equal) {
			t.Fatalf("read %v, net/http %v", res.Header, want.Header)
		}
		if !bytes.Equal(body, theirs) || (err == nil) != (theirErr == nil) || res.StatusCode != want.StatusCode {
			t.Fatalf("read %q, %v; net/http %q, %v", body, err, theirs, theirErr)
		}
		if len(c.idle["a"]) > 0 && (err != nil || in.Len() > 0 || want.Close) {
			t.Fatalf("a connection is kept with %d bytes to come, %v", in.Len(), err)
		}
	})
}

// answering is a connection on which the answer lies ready.
type answering struct{ in *bytes.Reader }

// ending is one whose end comes with the last of its answer.
type ending struct{ answering }

// Read implements io.Reader.
func (e ending) Read(p []byte) (int, error) {
	n, err := e.in.Read(p)
	if e.in.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

func (a answering) Read(p []byte) (int, error)     { return a.in.Read(p) }
func (answering) Write(p []byte) (int, error)      { return len(p), nil }
func (answering) Close() error                     { return nil }
func (answering) LocalAddr() net.Addr              { return nil }
func (answering) RemoteAddr() net.Addr             { return nil }
func (answering) SetDeadline(time.Time) error      { return nil }
func (answering) SetReadDeadline(time.Time) error  { return nil }
func (answering) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkClient is a small request over TLS, as standbys send them.
func BenchmarkClient(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body) // the client tells
	})
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS() // for its certificate
	b.Cleanup(srv.Close)
	address := start(b, handler, func(s *Server) { s.TLS = &tls.Config{Certificates: srv.TLS.Certificates} })
	dial := func(context.Context, string) (net.Conn, error) {
		return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	}
	header := http.Header{"X-Vault-Token": {"hvs.token"}, "User-Agent": {"bench"}}
	body := bytes.Repeat([]byte("x"), 300)
	b.Run("wire", func(b *testing.B) {
		c := &Client{MaxIdle: 1, IdleTimeout: time.Minute, Dial: dial}
		b.ReportAllocs()
		for b.Loop() {
			res, err := c.Post(b.Context(), &Request{Address: address, Target: "/v1/kv/data/a", Header: header, Body: body})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body) // it is in memory
			_ = res.Body.Close()                 // never fails
		}
	})
	b.Run("net/http", func(b *testing.B) {
		tr := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: func(ctx context.Context, _, to string) (net.Conn, error) { return dial(ctx, to) }}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+address+"/v1/kv/data/a", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			r.Header = header
			res, err := tr.RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body) // the end tells
			_ = res.Body.Close()                 // likewise
		}
	})
}
