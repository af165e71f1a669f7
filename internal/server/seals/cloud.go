package seals

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"arca/internal/errs"
	"arca/internal/kes/store/aws"
	"arca/internal/kes/store/azure"
	"arca/internal/kes/store/gcp"
	"arca/internal/kes/store/rest"
)

// amazon is AWS KMS, by its JSON protocol
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html).
type amazon struct {
	client *rest.Client
	key    string
	moved  atomic.Pointer[[sha256.Size]byte] // of what was last found to be under another key, as key is an alias that was moved; nil for nothing
}

func newAWS(o *options) (*amazon, error) {
	region := o.first("region", "AWS_REGION", "AWS_DEFAULT_REGION")
	if region == "" {
		region = "us-east-1"
	}
	k := &amazon{key: o.first("kms_key_id", "VAULT_AWSKMS_SEAL_KEY_ID", "AWSKMS_WRAPPER_KEY_ID")}
	if k.key == "" {
		return nil, missing("kms_key_id")
	}
	endpoint := o.first("endpoint", "AWS_KMS_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://kms." + region + ".amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			endpoint += ".cn"
		}
	}
	base, err := rest.Base(endpoint, "endpoint")
	if err != nil {
		return nil, err
	}
	cfg := aws.Config{
		Endpoint: base, Region: region, AccessKey: o.stanza.Options["access_key"], SecretKey: o.stanza.Options["secret_key"], Token: o.stanza.Options["session_token"],
	}
	if (cfg.AccessKey == "") != (cfg.SecretKey == "") { // the other half has its variable
		cfg.AccessKey, cfg.SecretKey = o.or("access_key", "AWS_ACCESS_KEY_ID"), o.or("secret_key", "AWS_SECRET_ACCESS_KEY")
		cfg.Token = o.or("session_token", "AWS_SESSION_TOKEN")
		if cfg.AccessKey == "" || cfg.SecretKey == "" {
			return nil, errs.New(errs.Invalid, "access_key and secret_key are given together, one of them by AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY, or neither")
		}
	}
	k.client, err = aws.NewClient(cfg, "kms")
	return k, err
}

func (k *amazon) do(ctx context.Context, action string, in, out any) error {
	return k.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/", In: in, Out: out, Header: http.Header{"X-Amz-Target": {"TrentService." + action}},
	})
}

// Encrypt implements seal.Sealer.
func (k *amazon) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	in := struct {
		KeyID     string `json:"KeyId"`
		Plaintext []byte
	}{k.key, plain}
	var out struct{ CiphertextBlob []byte }
	if err := k.do(ctx, "Encrypt", in, &out); err != nil {
		return nil, err
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, errs.New(errs.Unavailable, "the service answered without a ciphertext")
	}
	return json.Marshal(keyedBlob{k.key, out.CiphertextBlob})
}

// Decrypt implements seal.Sealer. The ciphertext names its key to the service, which may
// be an older one than that of the configuration.
func (k *amazon) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	b := readKeyed(sealed)
	in := struct {
		KeyID          string `json:"KeyId,omitempty"`
		CiphertextBlob []byte
	}{CiphertextBlob: b.Blob}
	var out struct{ Plaintext []byte }
	moved := false
	if b.Key == k.key { // the service says whether that still is so
		in.KeyID = k.key
		err := k.do(ctx, "Decrypt", in, &out)
		if !rest.Is(err, http.StatusBadRequest) {
			return out.Plaintext, err
		}
		var said *rest.StatusError
		moved = errors.As(err, &said) && strings.HasSuffix(said.Kind, "IncorrectKeyException")
		in.KeyID = ""
	}
	err := k.do(ctx, "Decrypt", in, &out)
	if err == nil && moved {
		sum := sha256.Sum256(sealed)
		k.moved.Store(&sum)
	}
	return out.Plaintext, err
}

// Current implements seal.Renewer: sealed is under the configured key.
func (k *amazon) Current(sealed []byte) bool {
	moved := k.moved.Load()
	return readKeyed(sealed).Key == k.key && (moved == nil || *moved != sha256.Sum256(sealed))
}

// keyedBlob is what is stored of a service that decrypts what any of its keys made: it
// would not tell that the configured key is another one now.
type keyedBlob struct {
	Key  string `json:"key"` // as the configuration had it; empty where older releases stored the blob alone
	Blob []byte `json:"blob"`
}

func readKeyed(sealed []byte) keyedBlob {
	var b keyedBlob
	if json.Unmarshal(sealed, &b) != nil || b.Key == "" || len(b.Blob) == 0 {
		return keyedBlob{Blob: sealed}
	}
	return b
}

// google is Cloud KMS
// (https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt).
type google struct {
	client *rest.Client
	path   string
}

func newGoogle(o *options) (*google, error) {
	var parts []string
	for _, p := range []struct {
		segment, option string
		variables       []string
	}{
		{"projects", "project", []string{"GOOGLE_PROJECT"}},
		{"locations", "region", []string{"GOOGLE_REGION"}},
		{"keyRings", "key_ring", []string{"VAULT_GCPCKMS_SEAL_KEY_RING", "GCPCKMS_WRAPPER_KEY_RING"}},
		{"cryptoKeys", "crypto_key", []string{"VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "GCPCKMS_WRAPPER_CRYPTO_KEY"}},
	} {
		v := o.first(p.option, p.variables...)
		if v == "" {
			return nil, missing(p.option)
		}
		parts = append(parts, p.segment, url.PathEscape(v))
	}
	endpoint := o.first("endpoint", "GOOGLE_KMS_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://cloudkms.googleapis.com"
	}
	base, err := rest.Base(endpoint, "endpoint")
	if err != nil {
		return nil, err
	}
	cfg := gcp.Config{Endpoint: base, Scopes: []string{"https://www.googleapis.com/auth/cloudkms"}}
	if file := o.first("credentials", "GOOGLE_CREDENTIALS"); file != "" {
		if err := googleAccount(&cfg, file); err != nil {
			return nil, err
		}
	}
	g := &google{path: "/v1/" + strings.Join(parts, "/")}
	g.client, err = gcp.NewClient(cfg)
	return g, err
}

// googleAccount reads the key file of a service account.
func googleAccount(cfg *gcp.Config, file string) error {
	raw, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return errs.New(errs.Invalid, "credentials: %w", err)
	}
	var account struct {
		Email string `json:"client_email"`
		ID    string `json:"client_id"`
		KeyID string `json:"private_key_id"`
		Key   string `json:"private_key"`
	}
	if json.Unmarshal(raw, &account) != nil || account.Email == "" || account.Key == "" {
		return errs.New(errs.Invalid, "credentials: %s is no key file of a service account", file)
	}
	cfg.Email, cfg.ID, cfg.KeyID, cfg.Key = account.Email, account.ID, account.KeyID, account.Key
	return nil
}

// Encrypt implements seal.Sealer.
func (g *google) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	in := struct {
		Plaintext []byte `json:"plaintext"`
	}{plain}
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	err := g.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path + ":encrypt", In: in, Out: &out})
	return out.Ciphertext, err
}

// Decrypt implements seal.Sealer.
func (g *google) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	in := struct {
		Ciphertext []byte `json:"ciphertext"`
	}{sealed}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := g.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path + ":decrypt", In: in, Out: &out})
	return out.Plaintext, err
}

// microsoft is Azure Key Vault: an RSA key wraps, by RSA-OAEP with SHA-256
// (https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key/wrap-key).
type microsoft struct {
	client *rest.Client
	key    string
}

const azureAlgorithm = "RSA-OAEP-256"

func newAzure(o *options) (*microsoft, error) {
	k := &microsoft{key: o.first("key_name", "VAULT_AZUREKEYVAULT_KEY_NAME", "AZUREKEYVAULT_WRAPPER_KEY_NAME")}
	if k.key == "" {
		return nil, missing("key_name")
	}
	cfg, err := azureConfig(o)
	if err != nil {
		return nil, err
	}
	k.client, err = azure.NewClient(cfg)
	return k, err
}

// azureConfig says which vault, and who gives tokens for it.
func azureConfig(o *options) (azure.Config, error) {
	vault := o.first("vault_name", "VAULT_AZUREKEYVAULT_VAULT_NAME", "AZUREKEYVAULT_WRAPPER_VAULT_NAME")
	if vault == "" {
		return azure.Config{}, missing("vault_name")
	}
	resource := o.first("resource", "AZURE_AD_RESOURCE")
	cloud, err := azure.CloudOf(o.first("environment", "AZURE_ENVIRONMENT"))
	if err != nil && resource == "" { // else a cloud of another name: it needs AZURE_AUTHORITY_HOST, too
		return azure.Config{}, err
	}
	endpoint := o.first("endpoint")
	if endpoint == "" {
		endpoint = "https://" + vault + "." + cmp.Or(resource, cloud.Domain)
	}
	cfg := azure.Config{
		TenantID: o.or("tenant_id", "AZURE_TENANT_ID"), ClientID: o.or("client_id", "AZURE_CLIENT_ID"),
		ClientSecret: o.or("client_secret", "AZURE_CLIENT_SECRET"), // without one: a workload's token, or the machine's identity
		Authority:    cmp.Or(o.getenv("AZURE_AUTHORITY_HOST"), cloud.Authority),
		Domain:       cmp.Or(resource, cloud.Domain),
	}
	if cfg.Endpoint, err = rest.Base(endpoint, "vault_name"); err != nil {
		return azure.Config{}, err
	}
	if cfg.ClientSecret != "" {
		if cfg.TenantID == "" {
			return azure.Config{}, missing("tenant_id (or AZURE_TENANT_ID)")
		}
		if cfg.ClientID == "" {
			return azure.Config{}, missing("client_id (or AZURE_CLIENT_ID)")
		}
	}
	return cfg, nil
}

// azureBlob is what is stored: the version of the key, and what it wrapped.
type azureBlob struct {
	Version string `json:"version"`
	Value   string `json:"value"` // base64url, as the service gives it
}

type azureValue struct {
	Kid   string `json:"kid,omitempty"`
	Alg   string `json:"alg,omitempty"`
	Value string `json:"value"`
}

func (k *microsoft) do(ctx context.Context, path string, in, out *azureValue) error {
	return k.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/keys/" + url.PathEscape(k.key) + path, Query: url.Values{"api-version": {"7.4"}}, In: in, Out: out,
	})
}

// Encrypt implements seal.Sealer.
func (k *microsoft) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	var out azureValue
	if err := k.do(ctx, "/wrapkey", &azureValue{Alg: azureAlgorithm, Value: base64.RawURLEncoding.EncodeToString(plain)}, &out); err != nil {
		return nil, err
	}
	version := out.Kid[strings.LastIndexByte(out.Kid, '/')+1:]
	if version == "" || out.Value == "" {
		return nil, errs.New(errs.Unavailable, "the vault answered without a wrapped key")
	}
	return json.Marshal(azureBlob{version, out.Value})
}

// Decrypt implements seal.Sealer.
func (k *microsoft) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	var b azureBlob
	if err := json.Unmarshal(sealed, &b); err != nil {
		return nil, errs.New(errs.Failed, "what was stored under the Azure seal cannot be decoded")
	}
	var out azureValue
	if err := k.do(ctx, "/"+url.PathEscape(b.Version)+"/unwrapkey", &azureValue{Alg: azureAlgorithm, Value: b.Value}, &out); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(out.Value, "="))
}
