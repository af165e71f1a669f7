// Package cert lets clients log in with the certificate of their TLS connection.
//
// An entry names certificates: those of clients themselves, or of authorities
// that sign clients' certificates, and what else must be true of these. Entries
// are found by the subjects of their certificates, so that a login looks only at
// those that could have signed what it shows. Revoked certificates are known by
// CRLs, of which each serial number is a key and which are fetched anew where they
// have a URL, and by asking OCSP responders; both happens outside of transactions. The behaviour follows
// https://developer.hashicorp.com/vault/api-docs/auth/cert.
//
// Keys within a mount:
//
//	config                          settings of the mount
//	cert/<name>                     an entry
//	sub/<hash of subject>/<name>    entries by the subjects of their certificates
//	crl/<name>                      what a CRL says of itself
//	rev/<hash of issuer>/<serial>/<crl>   a revoked certificate, by the issuer's name
//	revs/<crl>/<hash of issuer>/<serial> the same by CRL
package cert

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/param"
	"arca/internal/storage"
)

// An Engine is the method cert.
type Engine struct {
	responders responders
	fetcher    *fetcher
}

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
	_ engine.Runner      = (*Engine)(nil)
)

// New makes the method.
func New() *Engine {
	r := newResponders()
	return &Engine{r, newFetcher(r.client)}
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "cert" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID("cert-read-configuration"), engine.Help("Read the mount's settings.")),
		engine.Write("config", e.writeConfig, engine.ID("cert-configure"), engine.Help("Change the mount's settings.")),
		engine.List("certs", e.list, engine.ID("cert-list-certificates"), engine.Help("List the entries.")),
		engine.Read("certs/{name}", e.read, engine.ID("cert-read-certificate"), engine.Help("Read an entry.")),
		engine.Write("certs/{name}", e.write, engine.Exists(e.exists), engine.ID("cert-write-certificate"), engine.Help("Write an entry; what is not given stays.")),
		engine.Delete("certs/{name}", e.delete, engine.ID("cert-delete-certificate"), engine.Help("Delete an entry.")),
		engine.List("crls", e.listCRLs, engine.ID("cert-list-crls"), engine.Help("List the CRLs.")),
		engine.Read("crls/{name}", e.readCRL, engine.ID("cert-read-crl"), engine.Help("List what a CRL revokes.")),
		engine.Write("crls/{name}", e.writeCRL, engine.ID("cert-write-crl"), engine.Help("Write a CRL in place of the one of this name.")),
		engine.Delete("crls/{name}", e.deleteCRL, engine.ID("cert-delete-crl"), engine.Help("Delete a CRL.")),
		engine.Write(refreshPath+"{name}", e.refresh, engine.ForRunner, engine.ID("cert-refresh-crl"), engine.Help("Fetch a CRL again that is due.")),
		engine.Write("login", e.login, engine.Login, engine.LoginRole(e.loginRole), engine.ID("cert-login"), engine.Help("Log in.")),
	}
}

var errNotFound = errs.New(errs.NotFound, "not found")

type config struct {
	Version       int  `json:"v"`
	NoBinding     bool `json:"no_binding,omitempty"`
	AliasMetadata bool `json:"alias_metadata,omitempty"`
	OCSPCacheSize int  `json:"ocsp_cache,omitempty"`
}

func getConfig(tx storage.Tx) (*config, error) {
	c, err := storage.GetJSON[config](tx, "config")
	if errors.Is(err, storage.ErrNotFound) {
		return &config{}, nil
	}
	return c, err
}

type configIn struct {
	NoBinding     *bool `api:"disable_binding" help:"Let tokens be renewed without the certificate."`
	AliasMetadata *bool `api:"enable_identity_alias_metadata" help:"Keep the certificate's metadata in the entity's alias."`
	OCSPCacheSize *int  `api:"ocsp_cache_size" help:"Taken and shown; answers are not kept."`
}

func (e *Engine) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := getConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"disable_binding": c.NoBinding, "enable_identity_alias_metadata": c.AliasMetadata, "ocsp_cache_size": c.OCSPCacheSize,
	}}, nil
}

func (e *Engine) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	c, err := getConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	param.Take(&c.NoBinding, in.NoBinding)
	param.Take(&c.AliasMetadata, in.AliasMetadata)
	param.Take(&c.OCSPCacheSize, in.OCSPCacheSize)
	c.Version = 1
	return nil, storage.PutJSON(call.Tx, "config", c)
}

// An entry says whose certificates may log in.
type entry struct {
	Version     int           `json:"v"`
	Certificate string        `json:"certificate"` // PEM, one or several
	DisplayName string        `json:"display_name"`
	Names       []string      `json:"names,omitempty"`
	CommonNames []string      `json:"common_names,omitempty"`
	DNS         []string      `json:"dns,omitempty"`
	Emails      []string      `json:"emails,omitempty"`
	URIs        []string      `json:"uris,omitempty"`
	Units       []string      `json:"units,omitempty"`
	Extensions  []string      `json:"extensions,omitempty"`
	Metadata    []string      `json:"metadata,omitempty"` // OIDs of extensions to keep as metadata
	OCSP        bool          `json:"ocsp,omitempty"`
	OCSPCA      string        `json:"ocsp_ca,omitempty"`
	OCSPServers []string      `json:"ocsp_servers,omitempty"`
	OCSPOpen    bool          `json:"ocsp_open,omitempty"`
	OCSPAll     bool          `json:"ocsp_all,omitempty"`
	OCSPMaxAge  time.Duration `json:"ocsp_max_age,omitempty"`
	OCSPRetries int           `json:"ocsp_retries,omitempty"`
	grant.Grant

	name  string
	certs []*x509.Certificate
}

const (
	maxPEMBytes = 256 << 10
	maxCerts    = 100
	maxPatterns = 1000
)

func key(name string) string { return "cert/" + strings.ToLower(name) }

func getEntry(tx storage.Tx, name string) (*entry, error) {
	if name == "" || len(name) > 256 || strings.Contains(name, "/") {
		return nil, storage.ErrNotFound
	}
	en, err := storage.GetJSON[entry](tx, key(name))
	if err != nil {
		return nil, err
	}
	en.name = strings.ToLower(name)
	en.certs, err = parse(en.Certificate)
	return en, err
}

// parse reads certificates in PEM.
func parse(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := []byte(text)
	for len(out) <= maxCerts {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(out) > maxCerts || len(text) > maxPEMBytes {
		return nil, errors.New("no certificates, or too many")
	}
	return out, nil
}

func hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// subjects are the keys under which an entry is found.
func (en *entry) subjects() map[string]bool {
	out := map[string]bool{}
	for _, c := range en.certs {
		out["sub/"+hash(c.RawSubject)+"/"+en.name] = true
	}
	return out
}

type nameIn struct {
	Name string `api:"name,lower" help:"Name of the entry."`
}

type entryIn struct {
	nameIn
	Certificate *string        `api:"certificate" help:"PEM of the client's certificate, or of the authorities that sign clients'."`
	DisplayName *string        `api:"display_name" help:"Name of the tokens; the entry's when absent."`
	Names       *[]string      `api:"allowed_names" help:"Patterns of which the common name or a name must fit one."`
	CommonNames *[]string      `api:"allowed_common_names" help:"Patterns for the common name."`
	DNS         *[]string      `api:"allowed_dns_sans" help:"Patterns for names of machines."`
	Emails      *[]string      `api:"allowed_email_sans" help:"Patterns for e-mail addresses."`
	URIs        *[]string      `api:"allowed_uri_sans" help:"Patterns for URIs."`
	Units       *[]string      `api:"allowed_organizational_units" help:"Patterns for organizational units."`
	Extensions  *[]string      `api:"required_extensions" help:"OID:pattern, or hex:OID:pattern, all of which must fit."`
	Metadata    *[]string      `api:"allowed_metadata_extensions" help:"OIDs of extensions that become metadata."`
	OCSP        *bool          `api:"ocsp_enabled" help:"Ask whether the certificate is revoked."`
	OCSPCA      *string        `api:"ocsp_ca_certificates" help:"PEM of authorities that sign the answers."`
	OCSPServers *[]string      `api:"ocsp_servers_override" help:"Whom to ask, in place of whom the certificate names."`
	OCSPOpen    *bool          `api:"ocsp_fail_open" help:"Let in when nobody answers."`
	OCSPAll     *bool          `api:"ocsp_query_all_servers" help:"Ask all; one that says revoked is enough."`
	OCSPMaxAge  *time.Duration `api:"ocsp_this_update_max_age" help:"How old an answer may be; 0 is what it says."`
	OCSPRetries *int           `api:"ocsp_max_retries" help:"How often one is asked again that does not answer; at most 10."`
	grant.Params
	grant.Legacy
	Period *time.Duration `api:"period" help:"Older name of token_period."`
	Lease  *time.Duration `api:"lease" help:"Older name of token_ttl."`
}

func (e *Engine) exists(_ context.Context, call *engine.Call, in entryIn) (bool, error) {
	_, err := getEntry(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) list(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := call.Tx.List("cert/", in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func (e *Engine) read(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	en, err := getEntry(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"certificate": en.Certificate, "display_name": en.DisplayName, "allowed_names": en.Names, "allowed_common_names": en.CommonNames,
		"allowed_dns_sans": en.DNS, "allowed_email_sans": en.Emails, "allowed_uri_sans": en.URIs, "allowed_organizational_units": en.Units,
		"required_extensions": en.Extensions, "allowed_metadata_extensions": en.Metadata, "ocsp_enabled": en.OCSP,
		"ocsp_ca_certificates": en.OCSPCA, "ocsp_servers_override": en.OCSPServers, "ocsp_fail_open": en.OCSPOpen,
		"ocsp_query_all_servers": en.OCSPAll,
	}
	if en.OCSPMaxAge > 0 {
		out["ocsp_this_update_max_age"] = int64(en.OCSPMaxAge / time.Second)
	}
	if en.OCSPRetries > 0 {
		out["ocsp_max_retries"] = en.OCSPRetries
	}
	en.Show(out)
	return &engine.Response{Data: out}, nil
}

func (e *Engine) write(_ context.Context, call *engine.Call, in entryIn) (*engine.Response, error) {
	if in.Name == "" || len(in.Name) > 256 {
		return nil, errs.New(errs.Invalid, "the name of an entry has 1 to 256 bytes")
	}
	en, err := getEntry(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		en, err = &entry{name: in.Name, DisplayName: in.Name}, nil
	}
	if err != nil {
		return nil, err
	}
	before := en.subjects()
	warnings, err := en.apply(&in)
	if err != nil {
		return nil, err
	}
	now := en.subjects()
	for k := range before {
		if !now[k] {
			if err := call.Tx.Delete(k); err != nil {
				return nil, err
			}
		}
	}
	for k := range now {
		if err := call.Tx.Put(k, []byte{1}); err != nil {
			return nil, err
		}
	}
	en.Version = 1
	if err := storage.PutJSON(call.Tx, key(in.Name), en); err != nil || len(warnings) == 0 {
		return nil, err
	}
	return &engine.Response{Bare: true, Warnings: warnings}, nil
}

func (en *entry) apply(in *entryIn) (warnings []string, err error) {
	param.Take(&en.Certificate, in.Certificate)
	param.Take(&en.DisplayName, in.DisplayName)
	if en.DisplayName == "" {
		en.DisplayName = en.name
	}
	for _, l := range []struct{ to, given *[]string }{
		{&en.Names, in.Names},
		{&en.CommonNames, in.CommonNames},
		{&en.DNS, in.DNS},
		{&en.Emails, in.Emails},
		{&en.URIs, in.URIs},
		{&en.Units, in.Units},
		{&en.Extensions, in.Extensions},
		{&en.Metadata, in.Metadata},
		{&en.OCSPServers, in.OCSPServers},
	} {
		param.Take(l.to, l.given)
		if len(*l.to) > maxPatterns {
			return nil, errs.New(errs.Invalid, "a list of an entry has at most %d patterns", maxPatterns)
		}
	}
	param.Take(&en.OCSP, in.OCSP)
	param.Take(&en.OCSPCA, in.OCSPCA)
	param.Take(&en.OCSPOpen, in.OCSPOpen)
	param.Take(&en.OCSPAll, in.OCSPAll)
	param.Take(&en.OCSPMaxAge, in.OCSPMaxAge)
	param.Take(&en.OCSPRetries, in.OCSPRetries)
	if en.OCSPMaxAge < 0 || en.OCSPRetries < 0 || en.OCSPRetries > maxRetries {
		return nil, errs.New(errs.Invalid, "ocsp_this_update_max_age is not negative, and ocsp_max_retries from 0 to %d", maxRetries)
	}
	if en.certs, err = parse(en.Certificate); err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse certificate")
	}
	if en.OCSPCA != "" {
		if _, err := parse(en.OCSPCA); err != nil {
			return nil, errs.New(errs.Invalid, "failed to parse ocsp_ca_certificates")
		}
	}
	for _, text := range en.Extensions {
		if _, err := parseExtension(text); err != nil {
			return nil, errs.New(errs.Invalid, "required_extensions: %s", err.Error())
		}
	}
	for _, c := range en.certs {
		if usable := c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0 || c.KeyUsage&x509.KeyUsageDigitalSignature != 0; !usable {
			warnings = append(warnings, "the certificate "+c.Subject.String()+" is neither for clients nor for signing")
		}
	}
	if in.Params.Period == nil {
		en.SetPeriod(in.Period)
	}
	if in.Params.TTL == nil && in.Legacy.TTL == nil {
		in.Params.TTL = in.Lease
	}
	more, err := en.Apply(&in.Params, &in.Legacy)
	return append(warnings, more...), err
}

func (e *Engine) delete(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	en, err := getEntry(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for k := range en.subjects() {
		if err := call.Tx.Delete(k); err != nil {
			return nil, err
		}
	}
	return nil, call.Tx.Delete(key(in.Name))
}
