package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBodyAfterHandler has a handler pass a body on to a server that answers before it has come: what reads it there goes on when the handler has returned, and
// must not take anything of the next request. Where the length is known there is a next one.
func TestBodyAfterHandler(t *testing.T) {
	t.Parallel()
	early := "http://" + start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), nil)
	const size = 1000
	for name, framed := range map[string]struct{ header, first, rest string }{
		"length":  {fmt.Sprintf("Content-Length: %d", size), "x", strings.Repeat("x", size-1)},
		"chunked": {"Transfer-Encoding: chunked", "1\r\nx\r\n", "3e7\r\n" + strings.Repeat("x", size-1) + "\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/pass" {
					_, _ = io.WriteString(w, r.URL.Path) // the client tells
					return
				}
				out, err := http.NewRequestWithContext(t.Context(), http.MethodPost, early, r.Body)
				if err != nil {
					t.Error(err)
					return
				}
				out.ContentLength = r.ContentLength
				res, err := http.DefaultTransport.RoundTrip(out)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close() // it has none
				w.WriteHeader(res.StatusCode)
			}), nil)
			const rounds = 20
			slow := 0 // of them
			for range rounds {
				began := time.Now()
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }() // the test is over
				in := bufio.NewReader(c)
				_, _ = fmt.Fprintf(c, "POST /pass HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n%s", framed.header, framed.first) // the answer tells
				res, err := http.ReadResponse(in, post)
				if err != nil || res.StatusCode != http.StatusForbidden || res.Close != (name == "chunked") {
					t.Fatalf("%v, %v", res, err)
				}
				_, _ = io.WriteString(c, framed.rest) // likewise
				if res.Close {
					if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
						t.Fatal(err)
					}
					continue
				}
				_, _ = io.WriteString(c, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n") // likewise
				res, err = http.ReadResponse(in, nil)
				if err != nil && time.Since(began) >= shortDeadline && slow < rounds/4 {
					slow++ // the machine may have been busy, and the server waits for the rest no longer
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(res.Body); string(b) != "/next" {
					t.Fatalf("%d %q, %v", res.StatusCode, b, err)
				}
			}
		})
	}
}
