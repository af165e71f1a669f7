package wire

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// maxHeaders bounds the number of header lines that are read here.
const maxHeaders = 64

// A head is a parsed request head of the plain kind. It is used again and
// again; what it holds is valid until the next parse.
type head struct {
	method string
	target string
	host   string
	length int64 // of the body, -1 when it is chunked
	close  bool  // the client asked to close the connection
	header http.Header
	values [maxHeaders]string // what header's slices point into
	count  int
}

// headEnd returns the length of the head at the start of b with its empty line,
// or 0 when it is not complete.
func headEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}

// bareLF reports whether b has a line feed that ends a line by itself, which
// net/http takes.
func bareLF(b []byte) bool {
	for i, c := range b {
		if c == '\n' && i > 0 && b[i-1] != '\r' {
			return true
		}
	}
	return false
}

// parse reads a complete head. It reports false for anything but the plain
// kind, of which it then says nothing: net/http is to judge.
func (h *head) parse(b []byte) bool {
	text := string(b[:len(b)-2]) // each line with its CRLF; one copy for all values
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok || !h.requestLine(line) {
		return false
	}
	if h.header == nil {
		h.header = make(http.Header, 16)
	}
	clear(h.header)
	clear(h.values[:h.count]) // tokens are not kept beyond their request
	h.count, h.length, h.close, h.host = 0, 0, false, ""
	hosts, lengths, chunked := 0, 0, 0
	for rest != "" {
		line, rest, ok = strings.Cut(rest, "\r\n")
		if !ok || h.count == maxHeaders {
			return false
		}
		name, value, ok := splitLine(line)
		if !ok {
			return false
		}
		switch name {
		case "Host":
			hosts++
			h.host = value
			if !plainHost(value) {
				return false
			}
			continue // as net/http, which keeps it out of the headers
		case "Content-Length":
			lengths++
			n, err := strconv.ParseInt(value, 10, 63)
			if err != nil || value[0] < '0' || value[0] > '9' {
				return false
			}
			h.length = n
		case "Transfer-Encoding":
			chunked++
			h.length = -1
			if !strings.EqualFold(value, "chunked") {
				return false
			}
			continue // as net/http
		case "Connection":
			switch strings.ToLower(value) {
			case "keep-alive":
			case "close":
				h.close = true
			default:
				return false
			}
		case "Upgrade", "Expect", "Trailer", "Te", "Proxy-Connection", "Keep-Alive", "Content-Encoding", "Http2-Settings":
			return false
		}
		h.values[h.count] = value
		if old, again := h.header[name]; again {
			h.header[name] = append(old, value)
		} else {
			h.header[name] = h.values[h.count : h.count+1 : h.count+1]
		}
		h.count++
	}
	return hosts == 1 && lengths+chunked <= 1
}

// framedTwice reports whether a head tells the length of its body in two ways, of
// which a proxy may have taken the other: RFC 9112, section 6.1.
func framedTwice(b []byte) bool {
	length, chunked := false, false
	for line := range bytes.Lines(b) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "content-length":
			length = true
		case "transfer-encoding":
			chunked = true
		}
	}
	return length && chunked
}

// requestLine reads "METHOD target HTTP/1.1".
func (h *head) requestLine(line string) bool {
	method, rest, ok := strings.Cut(line, " ")
	if !ok {
		return false
	}
	target, version, ok := strings.Cut(rest, " ")
	if !ok || version != "HTTP/1.1" || target == "" || target[0] != '/' {
		return false
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, "LIST":
	default:
		return false
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	h.method, h.target = method, target
	return true
}

// splitLine reads "Name: value" and returns the name in its canonical form.
func splitLine(line string) (name, value string, ok bool) {
	i := strings.IndexByte(line, ':')
	if i <= 0 {
		return "", "", false
	}
	name = line[:i]
	for j := range len(name) {
		if !isToken(name[j]) {
			return "", "", false
		}
	}
	value = strings.Trim(line[i+1:], " \t")
	for j := range len(value) {
		if c := value[j]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", false
		}
	}
	return canonical(name), value, true
}

// isToken reports whether c may be in a header's name (RFC 9110, section 5.6.2).
func isToken(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// canonical is textproto's form, without its work for names that have it.
func canonical(name string) string {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && c >= 'a' && c <= 'z' || !upper && c >= 'A' && c <= 'Z' {
			return textproto.CanonicalMIMEHeaderKey(name)
		}
		upper = c == '-'
	}
	return name
}

// plainHost accepts names, addresses and ports.
func plainHost(host string) bool {
	if host == "" {
		return false
	}
	for i := range len(host) {
		switch c := host[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(".-_:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// url fills u from the target. Paths without escapes, the usual case, are taken
// as they are.
func (h *head) url(u *url.URL) bool {
	*u = url.URL{}
	p, query, _ := strings.Cut(h.target, "?")
	if strings.HasPrefix(p, "//") || strings.IndexByte(h.target, '#') >= 0 {
		return false
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("/-._~:@$&+,;=", c) >= 0:
		default:
			parsed, err := url.ParseRequestURI(h.target)
			if err != nil {
				return false
			}
			*u = *parsed
			return true
		}
	}
	u.Path, u.RawQuery = p, query
	u.ForceQuery = query == "" && strings.HasSuffix(h.target, "?")
	return true
}
