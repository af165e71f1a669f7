package kms

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/store/azure"
	"arca/internal/kes/store/rest"
	"arca/internal/managed"
)

const microsoftName = "Azure Key Vault"

// microsoft is a key of Azure Key Vault, or of a managed HSM
// (https://learn.microsoft.com/rest/api/keyvault/keys/sign/sign).
type microsoft struct {
	client   *rest.Client
	key      string
	kind     string // RSA-HSM, RSA
	spec     spec   // the zero spec is any
	generate bool
	signs    bool
	decrypts bool
}

// vaultName is what the name of a vault or of a key in it may be.
var vaultName = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)

func (s *Services) checkAzure(k *managed.Key, own bool) error {
	p := k.Params
	cloud, err := azure.CloudOf(p["environment"])
	if err != nil {
		return err
	}
	if p["environment"] == "" {
		p["environment"] = "AZUREPUBLICCLOUD"
	}
	if p["resource"] == "" {
		p["resource"] = cloud.Domain
	}
	if p["tenant_id"] == "" && !own {
		p["tenant_id"] = s.getenv("AZURE_TENANT_ID")
	}
	p["key_type"] = strings.ToUpper(p["key_type"])
	for _, name := range []string{"tenant_id", "vault_name", "key_name", "key_type"} {
		if p[name] == "" {
			return missing(name)
		}
	}
	switch {
	case p["key_type"] != "RSA-HSM" && p["key_type"] != "RSA":
		return errs.New(errs.Invalid, "key_type %q is neither RSA-HSM nor RSA", p["key_type"])
	case !vaultName.MatchString(p["vault_name"]) || !vaultName.MatchString(p["key_name"]):
		return errs.New(errs.Invalid, "vault_name and key_name have letters, digits and hyphens only")
	case p["client_secret"] != "" && p["client_id"] == "":
		return missing("client_id")
	case own && p["client_secret"] == "":
		return errs.New(errs.Invalid, "client_id and client_secret are needed outside of the root namespace, where the server's own identity is not used")
	case k.AllowGenerate && p["key_bits"] == "":
		return errs.New(errs.Invalid, "key_bits is needed where allow_generate_key is true")
	}
	if p["key_bits"] != "" {
		if _, err := parseBits(p["key_bits"]); err != nil {
			return err
		}
	}
	_, err = rest.Base(azureEndpoint(p), "resource")
	return err
}

func azureEndpoint(p map[string]string) string {
	if p["endpoint"] != "" {
		return p["endpoint"]
	}
	return "https://" + p["vault_name"] + "." + p["resource"]
}

func (s *Services) openAzure(k *managed.Key) (engine.KMS, error) {
	p := k.Params
	cloud, err := azure.CloudOf(p["environment"])
	if err != nil {
		return nil, err
	}
	base, err := rest.Base(azureEndpoint(p), "resource")
	if err != nil {
		return nil, err
	}
	m := &microsoft{key: p["key_name"], kind: p["key_type"], generate: k.AllowGenerate, signs: signs(k), decrypts: decrypts(k)}
	if p["key_bits"] != "" {
		if m.spec.bits, err = parseBits(p["key_bits"]); err != nil {
			return nil, err
		}
	}
	cfg := azure.Config{
		Endpoint: base, TenantID: p["tenant_id"], ClientID: p["client_id"], ClientSecret: p["client_secret"],
		Authority: s.getenv("AZURE_AUTHORITY_HOST"), Domain: p["resource"],
	}
	if cfg.Authority == "" {
		cfg.Authority = cloud.Authority
	}
	m.client, err = azure.NewClient(cfg)
	return m, err
}

func (m *microsoft) do(ctx context.Context, method, path string, in, out any, most int64) error {
	return m.client.Do(ctx, rest.Request{
		Method: method, Path: "/keys/" + url.PathEscape(m.key) + path, Query: url.Values{"api-version": {"7.4"}}, In: in, Out: out, Max: most,
	})
}

// azureKey is a key as JSON Web Key (RFC 7517).
type azureKey struct {
	Key struct {
		Kid string `json:"kid"`
		Kty string `json:"kty"`
		N   string `json:"n"`
		E   string `json:"e"`
	} `json:"key"`
}

// Public implements engine.KMS.
func (m *microsoft) Public(ctx context.Context) (*engine.KMSKey, error) {
	var out azureKey
	err := m.do(ctx, http.MethodGet, "", nil, &out, maxAnswer)
	if rest.Is(err, http.StatusNotFound) && m.generate {
		err = m.do(ctx, http.MethodPost, "/create", map[string]any{"kty": m.kind, "key_size": m.spec.bits, "key_ops": m.operations()}, &out, maxAnswer)
	}
	if err != nil {
		return nil, err
	}
	return m.read(&out)
}

func (m *microsoft) operations() []string {
	var out []string
	if m.signs {
		out = append(out, "sign", "verify")
	}
	if m.decrypts {
		out = append(out, "encrypt", "decrypt")
	}
	return out
}

func (m *microsoft) read(k *azureKey) (*engine.KMSKey, error) {
	key, err := parseJWK(k.Key.N, k.Key.E)
	if err != nil {
		return nil, err
	}
	version := k.Key.Kid[strings.LastIndexByte(k.Key.Kid, '/')+1:]
	if !vaultName.MatchString(version) {
		return nil, errs.New(errs.Unavailable, "the service answered without the version of the key")
	}
	if k.Key.Kty != m.kind {
		return nil, errs.New(errs.Invalid, "the service's key is of the type %s, but the managed key is configured as %s",
			word(k.Key.Kty, "RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM"), m.kind)
	}
	return public(key, m.spec, version)
}

// parseJWK reads an RSA key of a JSON Web Key (RFC 7518, section 6.3.1).
func parseJWK(n, e string) (crypto.PublicKey, error) {
	bad := errs.New(errs.Unavailable, "the service answered with what is no RSA key")
	modulus, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(n, "="))
	if err != nil || len(modulus) == 0 || len(modulus) > maxModulusBits/8+1 {
		return nil, bad
	}
	exponent, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e, "="))
	if err != nil || len(exponent) == 0 || len(exponent) > 4 {
		return nil, bad
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}, nil
}

type azureValue struct {
	Alg   string `json:"alg,omitempty"`
	Value string `json:"value"`
}

func (m *microsoft) ask(ctx context.Context, ref, what, algorithm string, value []byte) ([]byte, error) {
	var out azureValue
	in := azureValue{algorithm, base64.RawURLEncoding.EncodeToString(value)}
	if err := m.do(ctx, http.MethodPost, "/"+url.PathEscape(ref)+"/"+what, in, &out, maxValue); err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(out.Value, "="))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "what the service answered is no base64")
	}
	return raw, nil
}

// Sign implements engine.KMS.
func (m *microsoft) Sign(ctx context.Context, ref string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	n, err := sha2(opts.HashFunc(), microsoftName)
	if err != nil {
		return nil, err
	}
	algorithm := "RS" + n
	if isPSS(opts) {
		algorithm = "PS" + n
	}
	return m.ask(ctx, ref, "sign", algorithm, digest)
}

// Decrypt implements engine.KMS.
func (m *microsoft) Decrypt(ctx context.Context, ref string, ciphertext []byte) ([]byte, error) {
	return m.ask(ctx, ref, "decrypt", "RSA-OAEP-256", ciphertext)
}

// Scheme implements engine.KMS.
func (m *microsoft) Scheme() (crypto.Hash, string) { return 0, "" }
