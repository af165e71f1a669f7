package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// wired is a connection of which the bytes are given.
type wired struct {
	net.Conn
	io.Reader
}

func (w wired) Read(p []byte) (int, error)    { return w.Reader.Read(p) }
func (wired) SetReadDeadline(time.Time) error { return nil }

// readChunks reads a chunked body, and returns what is left behind it.
func readChunks(in io.Reader) (body, rest []byte, err error) {
	c := &conn{buf: make([]byte, firstBuffer)}
	c.net = wired{Reader: in}
	c.rw = c.net
	b := &chunks{c: c}
	body, err = io.ReadAll(b)
	more, _ := io.ReadAll(in) // of a test's bytes
	return body, append(bytes.Clone(c.buf[c.from:c.to]), more...), err
}

// TestChunked reads chunked bodies however they come in, and refuses what somebody else
// may read otherwise. Section 7.1 of RFC 9112.
func TestChunked(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 10_000)
	for _, c := range []struct{ name, raw, body string }{
		{"empty", "0\r\n\r\n", ""},
		{"one", "3\r\nabc\r\n0\r\n\r\n", "abc"},
		{"several", "3\r\nabc\r\n0000000A\r\n0123456789\r\n000\r\n\r\n", "abc0123456789"},
		{"line ends within", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"},
		{"long", "2710\r\n" + long + "\r\n2710\r\n" + long + "\r\n0\r\n\r\n", long + long},
		{"extension", "3;a=b;c=\"d\"\r\nabc\r\n0 ; last\r\n\r\n", "abc"},
		{"trailer", "3\r\nabc\r\n0\r\nX: y\r\nContent-Length: 5\r\n\r\n", "abc"},
	} {
		for about, in := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with an error": iotest.DataErrReader,
		} {
			body, rest, err := readChunks(in(strings.NewReader(c.raw + "GET /next")))
			if err != nil || string(body) != c.body || string(rest) != "GET /next" {
				t.Errorf("%s, %s: %.40q, %.40q, %v", c.name, about, body, rest, err)
			}
		}
		for n := range min(len(c.raw), 100) {
			if _, _, err := readChunks(strings.NewReader(c.raw[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d bytes of it: %v", c.name, n, err)
			}
		}
	}
	for name, raw := range map[string]string{
		"no size":              "\r\n\r\n",
		"no number":            "x\r\n",
		"sign":                 "+3\r\nabc\r\n0\r\n\r\n",
		"prefix":               "0x3\r\nabc\r\n0\r\n\r\n",
		"blank before":         " 3\r\nabc\r\n0\r\n\r\n",
		"too large":            "100000000\r\n",
		"bare line feed":       "3\nabc\r\n0\r\n\r\n",
		"in the extension":     "3;a\nb\r\nabc\r\n0\r\n\r\n",
		"bare return":          "3\rx\r\nabc\r\n0\r\n\r\n",
		"control character":    "3;\x00\r\nabc\r\n0\r\n\r\n",
		"longer than it says":  "3\r\nabcd\r\n0\r\n\r\n",
		"shorter than it says": "5\r\nabc\r\n0\r\n\r\n",
		"long line":            "3;" + strings.Repeat("a", maxChunkLine) + "\r\nabc\r\n0\r\n\r\n",
		"much beside":          strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 50) + "0\r\n\r\n",
		"large trailer":        "0\r\n" + strings.Repeat("a: "+strings.Repeat("b", 200)+"\r\n", 50) + "\r\n",
		"bare end":             "3\r\nabc\r\n0\r\n\n",
	} {
		if body, _, err := readChunks(strings.NewReader(raw + strings.Repeat("GET /next\r\n\r\n", 30))); !errors.Is(err, errChunk) {
			t.Errorf("%s: %.40q, %v", name, body, err)
		}
	}
}

// TestChunkedRequests goes on with the connection behind a chunked body, read or not, and
// ends it behind one that is malformed or was too much to skip.
func TestChunkedRequests(t *testing.T) {
	t.Parallel()
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			_, _ = io.WriteString(w, "/unread")
			return
		}
		echo(w, r)
	}), nil)
	const (
		chunked = " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		next    = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
		last    = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	)
	large := "40001\r\n" + strings.Repeat("x", 0x40001) + "\r\n0\r\n\r\n"
	for name, c := range map[string]struct {
		raw       string
		want, not []string
	}{
		"read":      {"POST /a" + chunked + "3\r\nabc\r\n0\r\n\r\n" + next + last, []string{`POST /a ? host=x len=-1 body="abc"`, "/next", "/last"}, nil},
		"twice":     {"POST /a" + chunked + "0\r\n\r\n" + "PUT /b" + chunked + "1\r\nx\r\n0\r\n\r\n" + last, []string{`/a ? host=x len=-1 body=""`, `PUT /b ? host=x len=-1 body="x"`, "/last"}, nil},
		"unread":    {"POST /unread" + chunked + "3\r\nabc\r\n0\r\n\r\n" + last, []string{"/unread", "/last"}, nil},
		"malformed": {"POST /a" + chunked + "3\r\nabcd\r\n0\r\n\r\n" + next, []string{"HTTP/1.1 400", errChunk.Error()}, []string{"/next"}},
		"skipped":   {"POST /unread" + chunked + "3\nabc\r\n0\r\n\r\n" + next, []string{"/unread"}, []string{"/next"}},
		"too much":  {"POST /unread" + chunked + large + next, []string{"/unread"}, []string{"/next"}},
		"twice encoded": {
			"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next,
			[]string{"HTTP/1.1 "},
			[]string{"/next"},
		},
		"otherwise": {
			"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + next,
			[]string{"HTTP/1.1 "},
			[]string{"/next"},
		},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // else the test hangs
		_, _ = io.WriteString(conn, c.raw)                     // the server may end it before it has read all
		raw, _ := io.ReadAll(conn)                             // a reset is an end, too
		_ = conn.Close()                                       // as above
		for _, w := range c.want {
			if !strings.Contains(string(raw), w) {
				t.Errorf("%s: without %q: %s", name, w, raw)
			}
		}
		for _, n := range c.not {
			if strings.Contains(string(raw), n) {
				t.Errorf("%s: with %q: %s", name, n, raw)
			}
		}
	}
}

// FuzzChunked holds what is taken for a chunked body against net/http: it must read the
// same, up to the same place.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nx", "a;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\n", "3\nabc\r\n0\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, rest, err := readChunks(bytes.NewReader(raw))
		if err != nil {
			return
		}
		in := bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(raw)))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(want.Body)
		if err != nil && !strings.Contains(err.Error(), "trailer") && !strings.Contains(err.Error(), "malformed MIME header") {
			t.Fatalf("net/http refuses what was taken: %v", err)
		}
		if !bytes.Equal(body, theirs) {
			t.Fatalf("read %q, net/http %q", body, theirs)
		}
		if left, _ := io.ReadAll(in); err == nil && !bytes.Equal(rest, left) {
			t.Fatalf("left %q, net/http %q", rest, left)
		}
	})
}
