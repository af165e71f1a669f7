package cert

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

const maxRevoked = 200_000 // of one CRL

// A crl is what a CRL says of itself; what it revokes are keys of their own.
type crl struct {
	Version int       `json:"v"`
	Issuer  string    `json:"issuer"` // hash of its subject
	Next    time.Time `json:"next,omitzero"`
	// URL is where it is fetched anew when it is due.
	URL string    `json:"url,omitempty"`
	Due time.Time `json:"due,omitzero"`
}

type crlIn struct {
	Name string `api:"name,lower" help:"Name of the CRL."`
	CRL  string `api:"crl" help:"The CRL, in PEM or DER."`
	URL  string `api:"url" help:"Where the CRL is fetched, now and from time to time (http or https)."`
}

const dueDir = "due/"

// dueKey sorts the CRLs that are fetched by the time when they are due, in seconds.
func dueKey(at time.Time, name string) string {
	return fmt.Sprintf("%s%012d/%s", dueDir, at.Unix(), name)
}

// put stores what a CRL says of itself, in place of old, which is nil for a new one.
func (c *crl) put(tx storage.Tx, name string, old *crl) error {
	if old != nil && old.URL != "" {
		if err := tx.Delete(dueKey(old.Due, name)); err != nil {
			return err
		}
	}
	if c.URL != "" {
		if err := tx.Put(dueKey(c.Due, name), []byte{1}); err != nil {
			return err
		}
	}
	return storage.PutJSON(tx, "crl/"+name, c)
}

func revokedKey(issuer, serial, name string) string {
	return "rev/" + issuer + "/" + serial + "/" + name
}

func revokesKey(name, issuer, serial string) string {
	return "revs/" + name + "/" + issuer + "/" + serial
}

// nameHash stands for an issuer's name, however its texts are encoded: a CRL and
// the certificates that it revokes need not agree in that (RFC 5280, section 7.1).
func nameHash(raw []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err == nil && len(rest) == 0 {
		if same, err := asn1.Marshal(name); err == nil {
			return hash(same)
		}
	}
	return hash(raw)
}

// revoked reports whether a CRL names a certificate of a chain.
func revoked(tx storage.Tx, chain []*x509.Certificate) (bool, error) {
	for _, c := range chain {
		names, err := tx.List("rev/"+nameHash(c.RawIssuer)+"/"+c.SerialNumber.String()+"/", "", 1)
		if err != nil || len(names) > 0 {
			return true, err
		}
	}
	return false, nil
}

func (e *Engine) listCRLs(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := call.Tx.List("crl/", in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func getCRL(tx storage.Tx, name string) (*crl, error) {
	if name == "" || len(name) > 256 || strings.Contains(name, "/") {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[crl](tx, "crl/"+name)
}

func serials(tx storage.Tx, name string, c *crl) ([]string, error) {
	return tx.List("revs/"+name+"/"+c.Issuer+"/", "", 0)
}

func (e *Engine) readCRL(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := getCRL(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "no such CRL %s", in.Name)
	}
	if err != nil {
		return nil, err
	}
	list, err := serials(call.Tx, in.Name, c)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(list))
	for _, s := range list {
		out[s] = map[string]any{}
	}
	data := map[string]any{"serials": out}
	if c.URL != "" {
		data["cdp"] = map[string]any{"url": c.URL, "valid_until": c.Next}
	}
	return &engine.Response{Data: data}, nil
}

func (e *Engine) writeCRL(_ context.Context, call *engine.Call, in crlIn) (*engine.Response, error) {
	switch {
	case in.Name == "" || len(in.Name) > 256 || strings.Contains(in.Name, "/"):
		return nil, errs.New(errs.Invalid, "the name of a CRL has 1 to 256 bytes, and no slash")
	case in.CRL != "":
		return nil, e.setCRL(call, in.Name, "", []byte(in.CRL))
	case in.URL == "":
		return nil, errs.New(errs.Invalid, "one of CRL or URL must be provided")
	}
	if err := checkPlace(in.URL); err != nil {
		return nil, err
	}
	got, ok := call.Asked.(*fetched)
	if !ok {
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			raw, err := e.fetcher.forRequest(ctx, call.Mount.ID, in.URL)
			return &fetched{in.URL, raw}, err
		})
	}
	return nil, e.setCRL(call, in.Name, in.URL, got.raw)
}

// setCRL stores a CRL in place of the one of this name. Of what both revoke nothing is written.
func (e *Engine) setCRL(call *engine.Call, name, url string, raw []byte) error {
	list, err := parseCRL(raw)
	if err != nil {
		return errs.New(errs.Invalid, "failed to parse CRL: %s", err.Error())
	}
	entries := list.TBSCertList.RevokedCertificates
	if len(entries) > maxRevoked {
		return errs.New(errs.TooLarge, "the CRL revokes more than %d certificates", maxRevoked)
	}
	issuer, err := asn1.Marshal(list.TBSCertList.Issuer)
	if err != nil {
		return errs.New(errs.Invalid, "failed to parse CRL: the issuer's name: %s", err.Error())
	}
	c := &crl{Version: 1, Issuer: nameHash(issuer), Next: list.TBSCertList.NextUpdate, URL: url}
	if url != "" {
		c.Due = dueAfter(call.Now, c.Next)
	}
	fresh := make(map[string]bool, len(entries))
	for i := range entries {
		fresh[entries[i].SerialNumber.String()] = true
	}
	old, err := getCRL(call.Tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		old, err = nil, nil
	}
	if err != nil {
		return err
	}
	if old != nil {
		had, err := serials(call.Tx, name, old)
		if err != nil {
			return err
		}
		for _, s := range had {
			if fresh[s] && old.Issuer == c.Issuer {
				delete(fresh, s)
			} else if err := unrevoke(call.Tx, name, old.Issuer, s); err != nil {
				return err
			}
		}
	}
	for s := range fresh {
		if err := call.Tx.Put(revokedKey(c.Issuer, s, name), []byte{1}); err != nil {
			return err
		}
		if err := call.Tx.Put(revokesKey(name, c.Issuer, s), []byte{1}); err != nil {
			return err
		}
	}
	return c.put(call.Tx, name, old)
}

func unrevoke(tx storage.Tx, name, issuer, serial string) error {
	if err := tx.Delete(revokedKey(issuer, serial, name)); err != nil {
		return err
	}
	return tx.Delete(revokesKey(name, issuer, serial))
}

// parseCRL reads a CRL. Its signature is not looked at, as in Vault: who may
// write here decides what is revoked.
func parseCRL(raw []byte) (*pkix.CertificateList, error) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	list := &pkix.CertificateList{}
	rest, err := asn1.Unmarshal(raw, list)
	if err == nil && len(rest) > 0 {
		err = errors.New("x509: trailing data after CRL")
	}
	return list, err
}

func (e *Engine) deleteCRL(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	c, err := getCRL(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := serials(call.Tx, in.Name, c)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if err := unrevoke(call.Tx, in.Name, c.Issuer, s); err != nil {
			return nil, err
		}
	}
	if c.URL != "" {
		if err := call.Tx.Delete(dueKey(c.Due, in.Name)); err != nil {
			return nil, err
		}
	}
	return nil, call.Tx.Delete("crl/" + in.Name)
}
