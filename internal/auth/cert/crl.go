package cert

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
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
}

type crlIn struct {
	Name string `api:"name,lower" help:"Name of the CRL."`
	CRL  string `api:"crl" help:"The CRL, in PEM or DER."`
	URL  string `api:"url" help:"Refused: write the CRL itself."`
}

func revokedKey(issuer, serial, name string) string {
	return "rev/" + issuer + "/" + serial + "/" + name
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
	return &engine.Response{Data: map[string]any{"serials": out}}, nil
}

func (e *Engine) writeCRL(ctx context.Context, call *engine.Call, in crlIn) (*engine.Response, error) {
	switch {
	case in.URL != "":
		return nil, errs.New(errs.Invalid, "url is not supported: write the CRL itself with the parameter crl")
	case in.CRL == "":
		return nil, errs.New(errs.Invalid, "one of CRL or URL must be provided")
	case in.Name == "" || len(in.Name) > 256:
		return nil, errs.New(errs.Invalid, "the name of a CRL has 1 to 256 bytes")
	}
	list, err := parseCRL([]byte(in.CRL))
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse CRL: %s", err.Error())
	}
	entries := list.TBSCertList.RevokedCertificates
	if len(entries) > maxRevoked {
		return nil, errs.New(errs.TooLarge, "the CRL revokes more than %d certificates", maxRevoked)
	}
	if _, err := e.deleteCRL(ctx, call, nameIn{in.Name}); err != nil {
		return nil, err
	}
	issuer, err := asn1.Marshal(list.TBSCertList.Issuer)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse CRL: the issuer's name: %s", err.Error())
	}
	c := crl{Version: 1, Issuer: nameHash(issuer), Next: list.TBSCertList.NextUpdate}
	for i := range entries {
		serial := entries[i].SerialNumber.String()
		if err := call.Tx.Put(revokedKey(c.Issuer, serial, in.Name), []byte{1}); err != nil {
			return nil, err
		}
		if err := call.Tx.Put("revs/"+in.Name+"/"+c.Issuer+"/"+serial, []byte{1}); err != nil {
			return nil, err
		}
	}
	return nil, storage.PutJSON(call.Tx, "crl/"+in.Name, c)
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
		if err := call.Tx.Delete(revokedKey(c.Issuer, s, in.Name)); err != nil {
			return nil, err
		}
		if err := call.Tx.Delete("revs/" + in.Name + "/" + c.Issuer + "/" + s); err != nil {
			return nil, err
		}
	}
	return nil, call.Tx.Delete("crl/" + in.Name)
}
