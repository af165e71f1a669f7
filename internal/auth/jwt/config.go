package jwt

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"

	"github.com/hashicorp/cap/jwt"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// A config says how tokens are verified.
type config struct {
	Version      int      `json:"v"`
	Keys         []string `json:"keys,omitempty"` // PEM
	JWKS         string   `json:"jwks,omitempty"` // URL
	JWKSCA       string   `json:"jwks_ca,omitempty"`
	Pairs        []pair   `json:"pairs,omitempty"`
	Discovery    string   `json:"discovery,omitempty"` // URL
	DiscoveryCA  string   `json:"discovery_ca,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Algorithms   []string `json:"algs,omitempty"`
	Issuer       string   `json:"issuer,omitempty"`
	DefaultRole  string   `json:"default_role,omitempty"`
	ResponseMode string   `json:"response_mode,omitempty"`
	Types        []string `json:"response_types,omitempty"`
	NoNamespace  bool     `json:"no_namespace,omitempty"` // in the state
	StateKey     []byte   `json:"state_key,omitempty"`    // seals logins that have begun
}

// A pair is one of several places of keys.
type pair struct {
	URL string `json:"jwks_url"`
	CA  string `json:"jwks_ca_pem,omitempty"`
}

const (
	configKey   = "config"
	maxPEMBytes = 64 << 10
	maxKeys     = 100
	maxPairs    = 20
)

var errNotFound = errs.New(errs.NotFound, "not found")

func getConfig(tx storage.Tx) (*config, error) { return storage.GetJSON[config](tx, configKey) }

// configured is the configuration for a login.
func configured(tx storage.Tx) (*config, error) {
	c, err := getConfig(tx)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "could not load configuration")
	}
	return c, err
}

func (e *Engine) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := getConfig(call.Tx)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"oidc_discovery_url": c.Discovery, "oidc_discovery_ca_pem": c.DiscoveryCA, "oidc_client_id": c.ClientID,
		"oidc_response_mode": c.ResponseMode, "oidc_response_types": param.OrEmpty(c.Types), "default_role": c.DefaultRole,
		"jwt_validation_pubkeys": param.OrEmpty(c.Keys), "jwt_supported_algs": param.OrEmpty(c.Algorithms), "jwks_url": c.JWKS, "jwks_ca_pem": c.JWKSCA,
		"bound_issuer": c.Issuer, "provider_config": map[string]any{}, "namespace_in_state": !c.NoNamespace, "status": "valid",
	}
	if len(c.Pairs) > 0 {
		out["jwks_pairs"] = c.Pairs
	}
	return &engine.Response{Data: out}, nil
}

type configIn struct {
	Discovery    string          `api:"oidc_discovery_url" help:"URL of the provider, without .well-known."`
	DiscoveryCA  string          `api:"oidc_discovery_ca_pem" help:"PEM of the authority that signed its certificate."`
	ClientID     string          `api:"oidc_client_id" help:"Client id at the provider."`
	ClientSecret string          `api:"oidc_client_secret" help:"Client secret at the provider."`
	ResponseMode string          `api:"oidc_response_mode" help:"query."`
	Types        []string        `api:"oidc_response_types" help:"code."`
	JWKS         string          `api:"jwks_url" help:"URL of the keys."`
	JWKSCA       string          `api:"jwks_ca_pem" help:"PEM of the authority that signed its certificate."`
	Pairs        json.RawMessage `api:"jwks_pairs" help:"List of objects with jwks_url and jwks_ca_pem."`
	Keys         []string        `api:"jwt_validation_pubkeys" help:"PEM of the keys."`
	Issuer       string          `api:"bound_issuer" help:"Issuer that tokens must have."`
	Algorithms   []string        `api:"jwt_supported_algs" help:"Algorithms with which tokens may be signed."`
	DefaultRole  string          `api:"default_role,lower" help:"Role for logins that name none."`
	Provider     map[string]any  `api:"provider_config" help:"Refused: peculiarities of single providers."`
	InState      *bool           `api:"namespace_in_state" help:"Put the namespace into the state, not the address of the callback; true when absent."`
}

// stored is the configuration that was given, checked as far as nobody has to be
// asked.
func (in *configIn) stored() (*config, error) {
	c := &config{
		Version: 1, Keys: in.Keys, JWKS: in.JWKS, JWKSCA: in.JWKSCA, Discovery: strings.TrimSuffix(in.Discovery, "/"), DiscoveryCA: in.DiscoveryCA,
		ClientID: in.ClientID, ClientSecret: in.ClientSecret, Algorithms: in.Algorithms, Issuer: in.Issuer, DefaultRole: in.DefaultRole,
		ResponseMode: in.ResponseMode, Types: in.Types, NoNamespace: in.InState != nil && !*in.InState,
	}
	if len(in.Pairs) > 0 && string(in.Pairs) != "null" {
		if json.Unmarshal(in.Pairs, &c.Pairs) != nil || len(c.Pairs) > maxPairs {
			return nil, errs.New(errs.Invalid, "jwks_pairs is no list of at most %d objects with jwks_url and jwks_ca_pem", maxPairs)
		}
	}
	if len(in.Provider) > 0 {
		return nil, errs.New(errs.Invalid, "provider_config is not supported: use claims of the provider's tokens (groups_claim, claim_mappings)")
	}
	ways := 0
	for _, given := range []bool{len(c.Keys) > 0, c.JWKS != "", len(c.Pairs) > 0, c.Discovery != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return nil, errs.New(errs.Invalid,
			"exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs', 'oidc_discovery_url', or 'provider_config' must be set")
	case (c.ClientID == "") != (c.ClientSecret == ""):
		return nil, errs.New(errs.Invalid, "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC")
	case c.ClientID != "" && c.Discovery == "":
		return nil, errs.New(errs.Invalid, "'oidc_discovery_url' must be set for OIDC")
	case c.ResponseMode != "" && c.ResponseMode != "query":
		return nil, errs.New(errs.Invalid, "invalid response_mode: %q: only query is supported", c.ResponseMode)
	case len(c.Types) > 1 || len(c.Types) == 1 && c.Types[0] != "code":
		return nil, errs.New(errs.Invalid, "invalid response_types %v: only code is supported", c.Types)
	case len(c.Keys) > maxKeys:
		return nil, errs.New(errs.Invalid, "jwt_validation_pubkeys holds more than %d keys", maxKeys)
	}
	for _, name := range c.Algorithms {
		if err := jwt.SupportedSigningAlgorithm(jwt.Alg(name)); err != nil {
			return nil, errs.New(errs.Invalid, "invalid jwt_supported_algs: %s", err.Error())
		}
	}
	for _, text := range c.Keys {
		if _, err := publicKey(text); err != nil {
			return nil, errs.New(errs.Invalid, "error parsing public key: %s", err.Error())
		}
	}
	return c, c.checkPlaces()
}

// checkPlaces checks URLs and certificates of what will be fetched.
func (c *config) checkPlaces() error {
	for _, p := range append([]pair{{c.JWKS, c.JWKSCA}, {c.Discovery, c.DiscoveryCA}}, c.Pairs...) {
		if len(p.CA) > maxPEMBytes || p.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(p.CA)) {
			if p.URL == c.Discovery && p.URL != "" {
				return errs.New(errs.Invalid, "error checking oidc_discovery_ca_pem")
			}
			return errs.New(errs.Invalid, "error checking jwks_ca_pem")
		}
		if p.URL == "" {
			continue
		}
		if u, err := url.Parse(p.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return errs.New(errs.Invalid, "%q is no URL, such as https://login.example.com", p.URL)
		}
	}
	return nil
}

func (e *Engine) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	c, err := in.stored()
	if err != nil {
		return nil, err
	}
	if len(c.Keys) == 0 && call.Asked == nil {
		return nil, engine.Ask(func(ctx context.Context) (any, error) { return true, e.try(ctx, c) })
	}
	if c.ClientID != "" {
		c.newStateKey()
	}
	return nil, storage.PutJSON(call.Tx, configKey, c)
}

func (c *config) newStateKey() {
	c.StateKey = make([]byte, stateKeySize)
	_, _ = rand.Read(c.StateKey) // never fails
}

// try fetches what a configuration names, so that one that cannot work is not
// stored.
func (e *Engine) try(ctx context.Context, c *config) error {
	set, err := e.keys.of(c)
	if err != nil {
		return errs.New(errs.Invalid, "%s", err.Error())
	}
	for _, place := range set.places {
		if err := place.refresh(ctx); err == nil {
			continue
		}
		if c.Discovery != "" {
			return errs.New(errs.Invalid, "error checking oidc discovery URL")
		}
		return errs.New(errs.Invalid, "error checking jwks URL")
	}
	return nil
}

// publicKey reads a public key, or that of a certificate.
func publicKey(text string) (crypto.PublicKey, error) {
	errNone := errors.New("data does not contain any valid public keys")
	if len(text) > maxPEMBytes {
		return nil, errors.New("a key is too large")
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errNone
	}
	if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
		return cert.PublicKey, nil
	}
	if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errNone
	}
	return key, nil
}
