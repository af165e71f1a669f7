package audit

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// S3-44: sockets of each kind have each record as a line.
func TestSockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "a.sock")
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s, err := newSocket(map[string]string{"address": l.Addr().String(), "socket_type": network})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.open(); err != nil {
				t.Fatal(err)
			}
			defer s.close()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			put(t, s, "one", "two")
			for _, want := range []string{"one\n", "two\n"} {
				if got, err := in.ReadString('\n'); got != want || err != nil {
					t.Fatalf("got %q (%v), want %q", got, err, want)
				}
			}
			// The other side starts anew: nothing is lost in silence.
			p := s.(*socketSink).conn
			_ = conn.Close()
			p.watched.Wait()
			put(t, s, "three")
			if conn, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got, err := bufio.NewReader(conn).ReadString('\n'); got != "three\n" || err != nil {
				t.Fatalf("got %q (%v)", got, err)
			}
			// And is gone for good.
			_ = l.Close()
			p = s.(*socketSink).conn
			_ = conn.Close()
			p.watched.Wait()
			if n, broken, err := s.write([][]byte{[]byte("four\n")}); n != 0 || !broken || err == nil {
				t.Errorf("got %d, %v, %v", n, broken, err)
			}
		})
	}
}

func TestSocketUDP(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newSocket(map[string]string{"address": l.LocalAddr().String(), "socket_type": "udp"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	put(t, s, "one", "two")
	buf := make([]byte, 100)
	for _, want := range []string{"one\n", "two\n"} {
		n, _, err := l.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q (%v), want %q", buf[:n], err, want)
		}
	}
	// What is too long for a message fails alone.
	long := []byte(strings.Repeat("x", 1<<17) + "\n")
	if n, broken, err := s.write([][]byte{long, []byte("three\n")}); n != 0 || broken || err == nil {
		t.Errorf("got %d, %v, %v", n, broken, err)
	}
	put(t, s, "three")
}

// A peer that does not read makes the write fail in time.
func TestSocketStuck(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newSocket(map[string]string{"address": l.Addr().String(), "write_timeout": "20ms"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	line := []byte(strings.Repeat("x", 64<<20) + "\n") // more than buffers hold
	if n, broken, err := s.write([][]byte{line}); n != 0 || !broken || err == nil {
		t.Errorf("got %d, %v, %v", n, broken, err)
	}
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newSyslog(map[string]string{"facility": "local7", "tag": "t"})
	if err != nil {
		t.Fatal(err)
	}
	w := s.(*syslogSink)
	w.network, w.address = "unixgram", path
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	put(t, s, `{"a":1}`)
	buf := make([]byte, 1000)
	n, _, err := l.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(buf[:n]); !strings.HasPrefix(got, "<190>") || !strings.Contains(got, " t[") || !strings.HasSuffix(strings.TrimSpace(got), `{"a":1}`) {
		t.Errorf("got %q", got)
	}
	if _, err := newSyslog(map[string]string{"facility": "carrier"}); err == nil {
		t.Error("took an unknown facility")
	}
}

func TestHTTP(t *testing.T) {
	got := make(chan string, 10)
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("X-Key") + " " + string(body)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	s, err := newHTTP(map[string]string{"uri": srv.URL, "headers": `{"X-Key":["k"]}`})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	put(t, s, "one", "two")
	for _, want := range []string{"k one\n", "k two\n"} {
		if g := <-got; g != want {
			t.Errorf("got %q, want %q", g, want)
		}
	}
	status = http.StatusServiceUnavailable
	if n, _, err := s.write([][]byte{[]byte("three\n")}); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
	for _, o := range []map[string]string{{}, {"uri": "ftp://x"}, {"uri": "http://x", "headers": "x"}} {
		if _, err := newHTTP(o); err == nil {
			t.Errorf("took %v", o)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		typ     string
		options map[string]string
		want    string
	}{
		{"nosuch", nil, `unknown backend type: "nosuch"`},
		{"file", nil, "file_path is required"},
		{"file", map[string]string{"file_path": "discard", "format": "xml"}, `unknown format type "xml"`},
		{"file", map[string]string{"file_path": "discard", "log_raw": "maybe"}, `strconv.ParseBool: parsing "maybe": invalid syntax`},
		{"file", map[string]string{"file_path": "discard", "prefix": "#!"}, "audit log prefixing is not allowed"},
		{"socket", nil, "address is required"},
		{"socket", map[string]string{"address": "x", "write_timeout": "soon"}, `time: invalid duration "soon"`},
		{"file", map[string]string{"file_path": "discard", "format": "jsonx", "log_raw": "true", "hmac_accessor": "false", "elide_list_responses": "1"}, ""},
	} {
		b := &Broker{log: discardLog(), cfg: Config{Wait: time.Second}}
		_, err := b.make(row{Type: c.typ, Options: c.options})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.typ, c.options, got, c.want)
		}
	}
}
