package kmip

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"arca/internal/errs"
)

// How a webhook is asked. Whoever configures a mount chooses the address, and whoever answers
// is not trusted: there is a time for all of it, an answer is not read, its redirects are not
// followed, and addresses of the link (where clouds keep their machines' credentials), of
// groups and of no host are not asked.
const (
	hookTime        = 10 * time.Second // for all of a request
	maxHookHeader   = 16 << 10         // bytes of an answer's header
	maxHookText     = 300              // bytes of an error in the log
	hookTold        = "webhook.sent"
	hookFailed      = "webhook.failure"
	signatureHeader = "Arca-Signature"
)

var errHookAddress = errs.New(errs.Invalid, "hosts are not asked at such an IP address")

// mayHook reports whether a webhook may be at an IP address.
func mayHook(ip net.IP) bool {
	return !ip.IsLinkLocalUnicast() && !ip.IsMulticast() && !ip.IsUnspecified() && !ip.Equal(net.IPv4bcast)
}

// A hookClient asks webhooks.
type hookClient struct{ *http.Client }

func newHookClient(h *hooks, patience time.Duration) *hookClient {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if h.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AppendCertsFromPEM([]byte(h.CA)) // check has read it
	}
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !mayHook(to.Addr().Unmap().AsSlice()) {
			return errHookAddress
		}
		return nil
	}}
	return &hookClient{&http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: conf, MaxConnsPerHost: 1, MaxResponseHeaderBytes: maxHookHeader, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A hookStatus is an answer that says that the address has not taken it.
type hookStatus int

func (s hookStatus) Error() string { return fmt.Sprintf("it answered with the status %d", int(s)) }

// tell sends a body, signed where there is a secret.
func (c *hookClient) tell(ctx context.Context, secret, address string, body []byte, now time.Time) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "arca")
	if secret != "" {
		req.Header.Set(signatureHeader, signature(secret, body, now))
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // what is short ends, and the connection is used again
	_ = res.Body.Close()                         // nothing more is read
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return hookStatus(res.StatusCode)
	}
	return nil
}

// whyNot is the label for a failure.
func whyNot(err error) string {
	var (
		status  hookStatus
		cert    *tls.CertificateVerificationError
		noTLS   tls.RecordHeaderError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &status):
		return "status"
	case errors.Is(err, errHookAddress):
		return "address"
	case errors.As(err, &cert), errors.As(err, &noTLS):
		return "tls"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "connection"
}

// hostOf is the part of an address that may be known: who knows the rest of one may be allowed
// to use it.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// plainText is an error without the address that was asked, and no longer than is of use.
func plainText(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := strings.ToValidUTF8(err.Error(), "")
	if len(text) > maxHookText {
		text = strings.ToValidUTF8(text[:maxHookText], "") + "…"
	}
	return text
}
