package listener

import (
	"net/http"
	"strconv"
	"strings"

	"arca/internal/config"
)

// hsts is what Vault sends unless the configuration says otherwise.
const (
	hstsName  = "Strict-Transport-Security"
	hstsValue = "max-age=31536000; includeSubDomains"
)

// HeaderSetter returns what adds the listener's own headers to an answer:
// those for every answer, then those of the status's class, then those of the
// status itself; the later ones win. extra are added to every answer. Headers
// that the server needs for itself (its content type, for one) it sets before,
// and the configuration may replace them, as it may in Vault; those that carry
// the protocol, and the server's own X-Vault- headers, it may not.
func HeaderSetter(s *config.Listener, extra map[string]string) func(status int, h http.Header) {
	every := http.Header{hstsName: {hstsValue}}
	for k, v := range extra {
		every.Set(k, v)
	}
	merge(every, s.Headers["default"])
	all := pairs(every)
	classes, codes := [6][]pair{}, map[int][]pair{}
	for key, headers := range s.Headers {
		if key == "default" {
			continue
		}
		h := pairs(merge(http.Header{}, headers))
		if key[1:] == "xx" {
			classes[key[0]-'0'] = h
		} else if code, err := strconv.Atoi(key); err == nil {
			codes[code] = h
		}
	}
	return func(status int, h http.Header) {
		put(h, all)
		if class := status / 100; class > 0 && class < len(classes) {
			put(h, classes[class])
		}
		if len(codes) > 0 {
			put(h, codes[status])
		}
	}
}

// A pair is a header in the form that costs least to add.
type pair struct {
	name   string
	values []string
}

func pairs(h http.Header) []pair {
	var out []pair
	for k, v := range h {
		out = append(out, pair{k, v})
	}
	return out
}

func put(to http.Header, from []pair) {
	for _, p := range from {
		to[p.name] = p.values
	}
}

func merge(to http.Header, from map[string][]string) http.Header {
	for k, v := range from {
		k = http.CanonicalHeaderKey(k)
		switch k {
		case "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade":
			continue
		}
		if strings.HasPrefix(k, "X-Vault-") {
			continue
		}
		to[k] = v
	}
	return to
}
