package cert

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"

	"arca/internal/engine"
	"arca/internal/errs"
)

// Bounds on what responders may cost.
const (
	askTime      = 10 * time.Second
	maxAnswer    = 1 << 20
	maxAsked     = 64 // at a time
	maxResponder = 10 // of one certificate
)

type responders struct{ slots chan struct{} }

// A verdict is what responders have said of a certificate, by an entry.
type verdict struct {
	entry, chain string
}

func (c *candidate) id() string {
	var all []byte
	for _, x := range c.chain {
		all = append(all, x.Raw...)
	}
	return hash(all)
}

// stillGood asks whether the certificate of a candidate is revoked: outside of
// the transaction, at most once for a login.
func (e *Engine) stillGood(call *engine.Call, c *candidate) (bool, error) {
	asked, _ := call.Asked.(map[verdict]bool)
	key := verdict{entry: c.name, chain: c.id()}
	if good, done := asked[key]; done {
		return good, nil
	}
	if asked != nil {
		return false, nil // of another entry or chain: one that came up meanwhile
	}
	now := call.Now
	return false, engine.Ask(func(ctx context.Context) (any, error) {
		good, err := e.responders.ask(ctx, c, now)
		return map[verdict]bool{key: good}, err
	})
}

func (r *responders) ask(ctx context.Context, c *candidate, now time.Time) (bool, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return false, errs.New(errs.Unavailable, "too many logins wait for OCSP responders")
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	leaf, issuer := c.chain[0], c.chain[0]
	if len(c.chain) > 1 {
		issuer = c.chain[1]
	}
	servers := c.OCSPServers
	if len(servers) == 0 {
		servers = leaf.OCSPServer
	}
	answered := false
	for _, url := range servers[:min(len(servers), maxResponder)] {
		status, err := query(ctx, url, c.entry, leaf, issuer, now)
		if err != nil {
			continue
		}
		if status == ocsp.Revoked {
			return false, nil
		}
		if status == ocsp.Good {
			answered = true
			if !c.OCSPAll {
				break
			}
		}
	}
	return answered || c.OCSPOpen, nil
}

// query asks one responder. The error says that it gave no answer to rely on.
func query(ctx context.Context, url string, en *entry, leaf, issuer *x509.Certificate, now time.Time) (int, error) {
	body, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	res, err := http.DefaultClient.Do(req)
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
	switch {
	case answer.SerialNumber.Cmp(leaf.SerialNumber) != 0:
		return 0, errors.New("the answer is about another certificate")
	case now.Before(answer.ThisUpdate.Add(-time.Minute)), !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate):
		return 0, errors.New("the answer is not of this time")
	case en.OCSPMaxAge > 0 && now.Sub(answer.ThisUpdate) > en.OCSPMaxAge:
		return 0, errors.New("the answer is too old")
	}
	return answer.Status, nil
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
