package cert

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// Refusals, in the API's words.
var (
	errDenied  = errs.New(errs.Denied, "permission denied")
	errNone    = errs.New(errs.Invalid, "no client certificate found")
	errUnknown = errs.New(errs.Invalid, "invalid certificate or no client certificate supplied")
	errNoChain = errs.New(errs.Invalid, "no chain matching all constraints could be found for this login certificate")
)

const maxPeers = 10 // certificates that a client may show

type loginIn struct {
	Name string `api:"name,lower" help:"Entry to log in by; any that fits when absent."`
}

// loginRole is the entry that is named, or else the first by which the certificate
// is good. What a responder would say is not known before it was asked; the entry
// counts until then.
func (*Engine) loginRole(_ context.Context, call *engine.Call, in loginIn) (string, error) {
	if in.Name != "" {
		return in.Name, nil
	}
	leaf, rest, err := shown(call.Request)
	if err != nil {
		return "", nil //nolint:nilerr // a login without a certificate is for no entry
	}
	entries, err := entriesFor(call.Tx, "", leaf, rest)
	if err != nil {
		return "", err
	}
	asked, _ := call.Asked.(map[verdict]bool)
	for _, en := range entries {
		for _, chain := range en.chainsFor(leaf, rest, call.Now) {
			bad, err := revoked(call.Tx, chain)
			switch c := (&candidate{en, chain}); {
			case err != nil:
				return "", err
			case bad || en.OCSP && call.Asked != nil && !asked[c.verdict()]:
				continue
			}
			return en.name, nil
		}
	}
	return "", nil
}

// chainsFor are the chains of a certificate that the entry takes.
func (en *entry) chainsFor(leaf *x509.Certificate, rest []*x509.Certificate, now time.Time) [][]*x509.Certificate {
	if chains := en.chains(leaf, rest, now); len(chains) > 0 && en.fits(leaf) {
		return chains
	}
	return nil
}

// shown is the client's certificate, with those that it sent along.
func shown(r *engine.Request) (leaf *x509.Certificate, rest []*x509.Certificate, err error) {
	if r == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil, errNone
	}
	peers := r.TLS.PeerCertificates
	if len(peers) > maxPeers {
		return nil, nil, errUnknown
	}
	return peers[0], peers[1:], nil
}

func (e *Engine) login(_ context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	en, leaf, err := e.admit(call, in.Name)
	if err != nil {
		return nil, err
	}
	if !en.Allows(call.Request.Remote.Addr()) {
		return nil, errDenied
	}
	c, err := getConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	auth := en.Auth()
	auth.DisplayName = en.DisplayName
	auth.Metadata = en.metadata(leaf)
	auth.InternalData = map[string]any{"name": en.name, "subject_key_id": colons(leaf.SubjectKeyId), "authority_key_id": colons(leaf.AuthorityKeyId)}
	auth.Alias = &engine.Alias{Name: leaf.Subject.CommonName, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type}
	if auth.Alias.Name == "" {
		auth.Alias = nil // nobody in particular
	} else if c.AliasMetadata {
		auth.Alias.Metadata = auth.Metadata
	}
	return &engine.Response{Auth: auth}, nil
}

// RenewAuth implements engine.AuthRenewer.
func (e *Engine) RenewAuth(_ context.Context, call *engine.Call, auth *engine.Auth) error {
	c, err := getConfig(call.Tx)
	if err != nil {
		return err
	}
	name, _ := auth.InternalData["name"].(string)
	var en *entry
	if c.NoBinding {
		en, err = getEntry(call.Tx, name)
		if errors.Is(err, storage.ErrNotFound) {
			return engine.ErrNotRenewed
		}
	} else {
		var leaf *x509.Certificate
		en, leaf, err = e.admit(call, name)
		if err == nil && (auth.InternalData["subject_key_id"] != colons(leaf.SubjectKeyId) ||
			auth.InternalData["authority_key_id"] != colons(leaf.AuthorityKeyId)) {
			return errs.New(errs.Invalid, "client identity during renewal not matching client identity used during login")
		}
	}
	if err != nil {
		return err
	}
	if !en.Covers(auth.Policies) {
		return errs.New(errs.Invalid, "policies have changed, not renewing")
	}
	en.Renew(auth)
	return nil
}

// A candidate is an entry by which a certificate may be good, with the chain to
// one of its certificates.
type candidate struct {
	*entry
	chain []*x509.Certificate
}

// admit finds the entry by which the client's certificate is good: the one that
// is named, or any.
func (e *Engine) admit(call *engine.Call, name string) (*entry, *x509.Certificate, error) {
	leaf, rest, err := shown(call.Request)
	if err != nil {
		return nil, nil, err
	}
	entries, err := entriesFor(call.Tx, name, leaf, rest)
	if err != nil {
		return nil, nil, err
	}
	trusted := false
	asked, _ := call.Asked.(map[verdict]bool)
	var pending []*candidate
	for _, en := range entries {
		chains := en.chains(leaf, rest, call.Now)
		trusted = trusted || len(chains) > 0
		if len(chains) == 0 || !en.fits(leaf) {
			continue
		}
		for _, chain := range chains {
			bad, err := revoked(call.Tx, chain)
			if err != nil {
				return nil, nil, err
			}
			c := &candidate{en, chain}
			switch {
			case bad:
				continue
			case en.OCSP && call.Asked == nil:
				pending = append(pending, c)
				continue
			case en.OCSP && !asked[c.verdict()]: // also one that came up meanwhile
				continue
			case len(pending) > 0: // those before it come first
				return nil, nil, e.ask(pending, call.Now)
			}
			return en, leaf, nil
		}
	}
	switch {
	case len(pending) > 0:
		return nil, nil, e.ask(pending, call.Now)
	case trusted:
		return nil, nil, errNoChain
	}
	return nil, nil, errUnknown
}

// ask has responders asked about candidates, outside of the transaction.
func (e *Engine) ask(list []*candidate, now time.Time) error {
	return engine.Ask(func(ctx context.Context) (any, error) {
		return e.responders.judge(ctx, list[:min(len(list), maxCandidates)], now)
	})
}

// entriesFor finds the entries that have a certificate which the client's could
// be, or be signed by.
func entriesFor(tx storage.Tx, name string, leaf *x509.Certificate, rest []*x509.Certificate) ([]*entry, error) {
	if name != "" {
		en, err := getEntry(tx, name)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, nil
		}
		return []*entry{en}, err
	}
	subjects := [][]byte{leaf.RawSubject, leaf.RawIssuer}
	for _, c := range rest {
		subjects = append(subjects, c.RawIssuer)
	}
	var names []string
	for _, s := range subjects {
		more, err := tx.List("sub/"+hash(s)+"/", "", 0)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	out := make([]*entry, 0, len(names))
	for _, n := range names {
		en, err := getEntry(tx, n)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, en)
	}
	return out, nil
}

// chains are the ways from the client's certificate to one of the entry's, which
// may be the client's own.
func (en *entry) chains(leaf *x509.Certificate, rest []*x509.Certificate, now time.Time) [][]*x509.Certificate {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range en.certs {
		if c.IsCA || bytes.Equal(c.Raw, leaf.Raw) {
			roots.AddCert(c)
		}
	}
	for _, c := range rest {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil
	}
	return chains
}
