package listener

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"arca/internal/config"
	"arca/internal/errs"
)

// maxDecoders bounds the decoders of a client certificate's header.
const maxDecoders = 8

// A forwarder takes the client's address, and its certificate, from headers
// that trusted proxies set.
type forwarder struct {
	next                          http.Handler
	trusted                       nets
	skips                         int
	rejectAbsent, rejectStrangers bool
	certHeader                    string
	decoders                      []string
}

// forwarded wraps a handler if the listener has proxies before it.
func forwarded(s *config.Listener, next http.Handler) (http.Handler, error) {
	if len(s.ForwardedAddrs) == 0 {
		if s.ForwardedCertHeader != "" {
			return nil, errs.New(errs.Invalid, "x_forwarded_for_client_cert_header needs x_forwarded_for_authorized_addrs")
		}
		return next, nil
	}
	f := &forwarder{
		next: next, skips: s.ForwardedHopSkips, certHeader: s.ForwardedCertHeader,
		rejectAbsent:    s.ForwardedRejectAbsent == nil || *s.ForwardedRejectAbsent,
		rejectStrangers: s.ForwardedRejectStranger == nil || *s.ForwardedRejectStranger,
	}
	var err error
	if f.trusted, err = parseNets(s.ForwardedAddrs); err != nil {
		return nil, errs.New(errs.Invalid, "x_forwarded_for_authorized_addrs: %w", err)
	}
	if f.skips < 0 {
		return nil, errs.New(errs.Invalid, "x_forwarded_for_hop_skips cannot be negative")
	}
	for d := range strings.SplitSeq(s.ForwardedCertDecoders, ",") {
		switch d = strings.ToUpper(strings.TrimSpace(d)); d {
		case "":
		case "BASE64", "URL", "DER":
			f.decoders = append(f.decoders, d)
		default:
			return nil, errs.New(errs.Invalid, "x_forwarded_for_client_cert_header_decoders: there is no %q; there are BASE64, URL and DER", d)
		}
	}
	if len(f.decoders) > maxDecoders {
		return nil, errs.New(errs.Invalid, "x_forwarded_for_client_cert_header_decoders: more than %d", maxDecoders)
	}
	return f, nil
}

// ServeHTTP implements http.Handler. The refusals are Vault's.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trusted := f.trusted.has(r.RemoteAddr)
	if f.certHeader != "" && !trusted {
		r.Header.Del(f.certHeader) // nobody else's word counts
	}
	values := r.Header.Values("X-Forwarded-For")
	switch {
	case len(values) == 0 && f.rejectAbsent:
		refuse(w, "missing x-forwarded-for header and configured to reject when not present")
		return
	case !trusted && len(values) > 0 && f.rejectStrangers:
		refuse(w, "client address not authorized for x-forwarded-for and configured to reject connection")
		return
	case !trusted:
		f.next.ServeHTTP(w, r)
		return
	}
	if len(values) > 0 {
		addr, err := f.client(r.RemoteAddr, values)
		if err != nil {
			refuse(w, err.Error())
			return
		}
		r.RemoteAddr = addr
	}
	if f.certHeader != "" {
		if err := f.certificate(r); err != nil {
			refuse(w, err.Error())
			return
		}
	}
	f.next.ServeHTTP(w, r)
}

// client finds the client's address in the chain of proxies.
func (f *forwarder) client(remote string, values []string) (string, error) {
	chain := strings.Split(strings.Join(values, ","), ",")
	i := len(chain) - 1 - f.skips
	if i < 0 {
		return "", fmt.Errorf("malformed x-forwarded-for configuration or request, hops to skip (%d) would skip before earliest chain link (chain length %d)",
			f.skips, len(chain))
	}
	_, port, err := net.SplitHostPort(remote)
	if err != nil {
		return "", fmt.Errorf("error parsing client hostport: %w", err)
	}
	host := strings.TrimSpace(chain[i])
	if net.ParseIP(host) == nil {
		return "", fmt.Errorf("malformed x-forwarded-for header: %q is no address", host)
	}
	return net.JoinHostPort(host, port), nil
}

// certificate puts the certificate that the proxy saw in the place where the
// server's own TLS has it. The proxy has checked that the client has its key. With
// none, the client has none: what the proxy itself showed is not the client's.
func (f *forwarder) certificate(r *http.Request) error {
	state := &tls.ConnectionState{}
	if r.TLS != nil {
		*state = *r.TLS
	}
	state.PeerCertificates, state.VerifiedChains = nil, nil
	text := r.Header.Get(f.certHeader)
	if text == "" {
		if r.TLS != nil {
			r.TLS = state
		}
		return nil
	}
	raw := []byte(text)
	for _, d := range f.decoders {
		var err error
		if raw, err = decode(d, raw); err != nil {
			return fmt.Errorf("client certificate in header %s: %w", f.certHeader, err)
		}
	}
	if b, _ := pem.Decode(raw); b != nil {
		raw = b.Bytes
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return fmt.Errorf("client certificate in header %s: %w", f.certHeader, err)
	}
	state.PeerCertificates = []*x509.Certificate{cert}
	r.TLS = state
	return nil
}

func decode(how string, in []byte) ([]byte, error) {
	switch how {
	case "BASE64":
		return base64.StdEncoding.DecodeString(string(in))
	case "URL":
		unescape := url.QueryUnescape // + is a blank
		if bytes.Contains(in, []byte("%20")) {
			unescape = url.PathUnescape // blanks have their own form, so that + is itself
		}
		s, err := unescape(string(in))
		return []byte(s), err
	}
	b, _ := pem.Decode(in) // DER: out of its PEM
	if b == nil {
		return nil, errs.New(errs.Invalid, "no PEM")
	}
	return b.Bytes, nil
}

func refuse(w http.ResponseWriter, text string) {
	body, _ := json.Marshal(map[string][]string{"errors": {text}}) // text always encodes
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}
