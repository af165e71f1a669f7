package kmip

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/ttlv"
)

// A connection that begins with a request of HTTP is one of the profile HTTPS (KMIP
// Profiles 2.1, section 5.7): messages come by POST to /kmip, as TTLV, XML or JSON by
// their content type. HTTP is little here: one request after the other, each with its
// Content-Length.
const (
	httpPath    = "/kmip"
	maxHead     = 16 << 10
	typeTTLV    = "application/octet-stream"
	typeXML     = "text/xml"
	typeJSON    = "application/json"
	typePlain   = "text/plain; charset=utf-8"
	httpVersion = "HTTP/1.1"
	lingerTime  = time.Second
	maxLinger   = 4 << 20
)

// speaksHTTP reports whether the first bytes of a connection are a request of HTTP.
func speaksHTTP(first []byte) bool {
	for _, m := range []string{"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH "} {
		n := min(len(m), len(first))
		if string(first[:n]) == m[:n] {
			return true
		}
	}
	return false
}

// A webConn is a connection that speaks HTTP.
type webConn struct {
	v      *server
	c      net.Conn
	head   *io.LimitedReader
	r      *bufio.Reader
	state  *tls.ConnectionState
	remote netip.AddrPort
	conn   *connection
	until  time.Time
}

// serveHTTP answers the requests of a connection whose first bytes were read.
func (v *server) serveHTTP(c net.Conn, first []byte, state *tls.ConnectionState, remote netip.AddrPort, conn *connection, until time.Time) {
	head := &io.LimitedReader{R: io.MultiReader(bytes.NewReader(slices.Clone(first)), c)}
	w := &webConn{v: v, c: c, head: head, r: bufio.NewReaderSize(head, 4<<10), state: state, remote: remote, conn: conn, until: until}
	for begun := true; w.one(begun); begun = false {
	}
}

// one serves a request, and reports whether another may follow. begun says that its
// first bytes are there.
func (w *webConn) one(begun bool) bool {
	w.head.N = maxHead
	if !begun {
		if !time.Now().Before(w.until) || w.c.SetReadDeadline(w.until) != nil { // the next one may be there already
			return false
		}
		if _, err := w.r.Peek(1); err != nil {
			return false
		}
	}
	if w.c.SetReadDeadline(time.Now().Add(messageTime)) != nil {
		return false
	}
	tp := textproto.NewReader(w.r)
	line, err := tp.ReadLine()
	if err != nil {
		return false
	}
	method, rest, _ := strings.Cut(line, " ")
	path, proto, _ := strings.Cut(rest, " ")
	if proto != httpVersion && proto != "HTTP/1.0" {
		return w.refuse(505, "HTTP Version Not Supported")
	}
	h, err := tp.ReadMIMEHeader()
	if err != nil {
		return w.refuse(400, "Bad Request")
	}
	path, _, _ = strings.Cut(path, "?")
	switch {
	case path != httpPath:
		return w.refuse(404, "Not Found")
	case method != "POST":
		return w.refuse(405, "Method Not Allowed")
	case h.Get("Transfer-Encoding") != "" || len(h["Content-Length"]) != 1:
		return w.refuse(411, "Length Required")
	}
	n, err := strconv.Atoi(h.Get("Content-Length"))
	if err != nil || n < 0 {
		return w.refuse(400, "Bad Request")
	}
	if n > w.v.at.Load().maxMessage {
		return w.refuse(413, "Content Too Large")
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if kind == "application/xml" {
		kind = typeXML
	}
	if err != nil || kind != typeTTLV && kind != typeXML && kind != typeJSON {
		return w.refuse(415, "Unsupported Media Type")
	}
	if strings.EqualFold(h.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(w.c, httpVersion+" 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	w.head.N = int64(n) // what of it is in the buffer is counted twice, which does no harm
	var body bytes.Buffer
	if _, err := io.CopyN(&body, w.r, int64(n)); err != nil { // it grows with what comes
		return false
	}
	answer, goOn := w.answer(kind, body.Bytes())
	if strings.EqualFold(h.Get("Connection"), "close") || proto == "HTTP/1.0" {
		goOn = false
	}
	return answer != nil && w.write(200, "OK", kind, answer, goOn) && goOn
}

// answer serves a message in one of the encodings; out is nil where there is nothing to say.
func (w *webConn) answer(kind string, body []byte) (out []byte, goOn bool) {
	over, ok := w.v.turn(len(body))
	if !ok {
		return nil, false
	}
	defer over()
	if kind == typeTTLV {
		if len(body) < ttlv.HeaderBytes {
			body = make([]byte, ttlv.HeaderBytes)
		}
		return w.v.answer(body, w.state, w.remote, w.conn)
	}
	texts := w.v.engine.texts()
	decode, encode := texts.DecodeXML, texts.EncodeXML
	if kind == typeJSON {
		decode, encode = texts.DecodeJSON, texts.EncodeJSON
	}
	root, err := decode(body)
	goOn = true
	if err != nil {
		out = failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, err.Error(), time.Now())
	} else {
		out, goOn = w.v.answer(root.Encode(), w.state, w.remote, w.conn)
	}
	if out == nil {
		return nil, false
	}
	n, err := ttlv.Decode(out)
	if err != nil {
		w.v.host.Log().Error("an answer cannot be read back", "error", err)
		return nil, false
	}
	return encode(n), goOn
}

// refuse answers a request that is none for here, and ends the connection.
func (w *webConn) refuse(code int, text string) bool {
	if !w.write(code, text, typePlain, []byte(text+"\n"), false) {
		return false
	}
	// A client that still sends would lose the answer, were the connection closed now.
	if t, ok := w.c.(*tls.Conn); ok && t.CloseWrite() == nil && w.c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, w.c, maxLinger) // it ends whatever happens
	}
	return false
}

func (w *webConn) write(code int, text, kind string, body []byte, goOn bool) bool {
	head := fmt.Sprintf("%s %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-cache\r\n", httpVersion, code, text, kind, len(body))
	if !goOn {
		head += "Connection: close\r\n"
	}
	return w.v.write(w.c, append([]byte(head+"\r\n"), body...))
}
