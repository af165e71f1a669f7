package cert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"arca/internal/errs"
)

// Bounds on what responders may cost.
const (
	askTime      = 10 * time.Second
	maxAnswer    = 1 << 20
	maxAsked     = 64 // at a time
	maxResponder = 10 // of one certificate
	maxRetries   = 10
	// maxCandidates bounds about how many chains a login asks.
	maxCandidates = 10
	// maxUndated is how old an answer may be that does not say how long it holds.
	maxUndated = 24 * time.Hour
)

// responders are asked by one client, which follows nobody elsewhere.
type responders struct {
	slots  chan struct{}
	client *http.Client
}

func newResponders() responders {
	return responders{make(chan struct{}, maxAsked), &http.Client{
		Timeout:       askTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxIdleConns: 100,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
	}}
}

// A verdict names what responders are asked about: a chain, as an entry wants it
// asked about.
type verdict struct {
	entry, chain string
}

func (c *candidate) verdict() verdict {
	all := []byte(fmt.Sprintln(c.OCSPCA, c.OCSPServers, c.OCSPOpen, c.OCSPAll, c.OCSPMaxAge, c.OCSPRetries))
	for _, x := range c.chain {
		all = append(all, x.Raw...)
	}
	return verdict{c.name, hash(all)}
}

// judge asks about candidates, in their order, until one is good.
func (r *responders) judge(ctx context.Context, list []*candidate, now time.Time) (any, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return nil, errs.New(errs.Unavailable, "too many logins wait for OCSP responders")
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out := map[verdict]bool{}
	for _, c := range list {
		good := r.ask(ctx, c, now)
		if out[c.verdict()] = good; good {
			break
		}
	}
	return out, nil
}

// ask reports whether a candidate's certificate counts as good: by one responder's
// word, or by that of all.
func (r *responders) ask(ctx context.Context, c *candidate, now time.Time) bool {
	leaf, issuer := c.chain[0], c.chain[0]
	if len(c.chain) > 1 {
		issuer = c.chain[1]
	}
	servers := c.OCSPServers
	if len(servers) == 0 {
		servers = leaf.OCSPServer
	}
	servers = servers[:min(len(servers), maxResponder)]
	good := 0
	for _, url := range servers {
		switch r.status(ctx, url, c.entry, leaf, issuer, now) {
		case ocsp.Revoked:
			return false
		case ocsp.Good:
			if good++; !c.OCSPAll {
				return true
			}
		}
	}
	return good > 0 && good == len(servers) || c.OCSPOpen
}

// status is one responder's word; Unknown when it gives none to rely on.
func (r *responders) status(ctx context.Context, url string, en *entry, leaf, issuer *x509.Certificate, now time.Time) int {
	for range en.OCSPRetries + 1 {
		status, err := r.query(ctx, url, en, leaf, issuer, now)
		if err == nil {
			return status
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ocsp.Unknown
}

// query asks one responder. The error says that it gave no answer to rely on.
func (r *responders) query(ctx context.Context, url string, en *entry, leaf, issuer *x509.Certificate, now time.Time) (int, error) {
	body, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	res, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(raw) > maxAnswer || res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d, %d bytes", res.StatusCode, len(raw))
	}
	answer, err := ocsp.ParseResponseForCert(raw, leaf, issuer)
	if err != nil && en.OCSPCA != "" {
		answer, err = byOther(raw, en, leaf)
	}
	if err != nil {
		return 0, err
	}
	if err := mayAnswer(answer.Certificate, issuer, now); err != nil {
		return 0, err
	}
	switch {
	case answer.SerialNumber.Cmp(leaf.SerialNumber) != 0:
		return 0, errors.New("the answer is about another certificate")
	case now.Before(answer.ThisUpdate.Add(-time.Minute)), !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate):
		return 0, errors.New("the answer is not of this time")
	case answer.NextUpdate.IsZero() && now.Sub(answer.ThisUpdate) > maxUndated:
		return 0, errors.New("the answer does not say how long it holds, and is old")
	case en.OCSPMaxAge > 0 && now.Sub(answer.ThisUpdate) > en.OCSPMaxAge:
		return 0, errors.New("the answer is too old")
	}
	return answer.Status, nil
}

// mayAnswer checks a certificate that an answer brings along for its signature. That
// the authority has signed it is not enough: so it has every client's (RFC 6960,
// section 4.2.2.2).
func mayAnswer(signer, issuer *x509.Certificate, now time.Time) error {
	switch {
	case signer == nil, signer.Equal(issuer):
		return nil // the authority itself
	case !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the answer is signed with a certificate that is not for answers")
	case now.Before(signer.NotBefore), now.After(signer.NotAfter):
		return errors.New("the answer is signed with a certificate that is not of this time")
	}
	return nil
}

// byOther takes an answer that one of the entry's OCSP authorities has signed.
func byOther(raw []byte, en *entry, leaf *x509.Certificate) (*ocsp.Response, error) {
	signers, err := parse(en.OCSPCA)
	if err != nil {
		return nil, err
	}
	for _, s := range signers {
		if answer, err := ocsp.ParseResponseForCert(raw, leaf, s); err == nil {
			return answer, nil
		}
	}
	return nil, errors.New("nobody who may has signed the answer")
}
