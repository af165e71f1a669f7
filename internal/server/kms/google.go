package kms

import (
	"context"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/store/gcp"
	"arca/internal/kes/store/rest"
	"arca/internal/managed"
)

const googleName = "Google Cloud KMS"

// google is a version of a key of Cloud KMS
// (https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions).
// Its algorithm is fixed: hash and padding belong to it.
type google struct {
	ring, key, version string
	algorithm          googleAlgorithm
	generate           bool
	open               func() (*rest.Client, error) // reads the credentials

	mu     sync.Mutex
	client *rest.Client // guarded by mu; nil until it is needed
}

// A googleAlgorithm is one of https://cloud.google.com/kms/docs/algorithms.
type googleAlgorithm struct {
	name     string
	spec     spec
	hash     crypto.Hash
	padding  string
	decrypts bool
}

func parseGoogleAlgorithm(name string) (googleAlgorithm, error) {
	a := googleAlgorithm{name: strings.ToUpper(name)}
	switch a.name {
	case "EC_SIGN_P256_SHA256":
		a.spec, a.hash = spec{curve: "P-256"}, crypto.SHA256
		return a, nil
	case "EC_SIGN_P384_SHA384":
		a.spec, a.hash = spec{curve: "P-384"}, crypto.SHA384
		return a, nil
	case "RSA_SIGN_PSS_2048_SHA256", "RSA_SIGN_PSS_3072_SHA256", "RSA_SIGN_PSS_4096_SHA256", "RSA_SIGN_PSS_4096_SHA512":
		a.padding = "pss"
	case "RSA_SIGN_PKCS1_2048_SHA256", "RSA_SIGN_PKCS1_3072_SHA256", "RSA_SIGN_PKCS1_4096_SHA256", "RSA_SIGN_PKCS1_4096_SHA512":
		a.padding = "pkcs1v15"
	case "RSA_DECRYPT_OAEP_2048_SHA256", "RSA_DECRYPT_OAEP_3072_SHA256", "RSA_DECRYPT_OAEP_4096_SHA256":
		a.decrypts = true
	default:
		return a, errs.New(errs.Invalid, "algorithm %q is none of those of RSA_SIGN_PSS, RSA_SIGN_PKCS1 and RSA_DECRYPT_OAEP with SHA256 or SHA512, EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384", name)
	}
	parts := strings.Split(a.name, "_")
	a.hash = crypto.SHA256
	if parts[4] == "SHA512" {
		a.hash = crypto.SHA512
	}
	a.spec.bits, _ = strconv.Atoi(parts[3]) // is one of the names above
	return a, nil
}

func (s *Services) checkGoogle(k *managed.Key, own bool) error {
	p := k.Params
	if p["project"] == "" {
		p["project"] = s.getenv("GOOGLE_PROJECT")
	}
	if p["region"] == "" {
		p["region"] = s.getenv("GOOGLE_REGION")
	}
	for _, name := range []string{"project", "region", "key_ring", "crypto_key", "algorithm"} {
		if p[name] == "" {
			return missing(name)
		}
	}
	if p["crypto_key_version"] == "" {
		p["crypto_key_version"] = "1"
	}
	a, err := parseGoogleAlgorithm(p["algorithm"])
	if err != nil {
		return err
	}
	p["algorithm"] = a.name
	n, err := strconv.Atoi(p["crypto_key_version"])
	switch {
	case err != nil || n < 1:
		return errs.New(errs.Invalid, "crypto_key_version %q is no number from 1 on", p["crypto_key_version"])
	case signs(k) == a.decrypts || decrypts(k) != a.decrypts:
		return errs.New(errs.Invalid, "the usages do not fit the algorithm %s: they are sign,verify of one that signs, encrypt,decrypt of one that decrypts", a.name)
	case own && !isInline(p["credentials"]):
		return errs.New(errs.Invalid, "credentials are the JSON of a service account's key outside of the root namespace, where the server's own credentials and files are not used")
	}
	p["crypto_key_version"] = strconv.Itoa(n)
	if isInline(p["credentials"]) {
		if _, err := parseAccount([]byte(p["credentials"])); err != nil {
			return err
		}
	}
	_, err = rest.Base(googleEndpoint(p), "endpoint")
	return err
}

func googleEndpoint(p map[string]string) string {
	if p["endpoint"] != "" {
		return p["endpoint"]
	}
	return "https://cloudkms.googleapis.com"
}

// isInline reports whether credentials are JSON rather than the name of a file.
func isInline(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

func parseAccount(raw []byte) (*gcp.Config, error) {
	var account struct {
		Email    string `json:"client_email"`
		ID       string `json:"client_id"`
		KeyID    string `json:"private_key_id"`
		Key      string `json:"private_key"`
		TokenURI string `json:"token_uri"`
	}
	if json.Unmarshal(raw, &account) != nil || account.Email == "" || account.Key == "" {
		return nil, errs.New(errs.Invalid, "the credentials are no key of a service account")
	}
	if account.TokenURI != "" {
		if _, err := rest.Base(account.TokenURI, "token_uri"); err != nil {
			return nil, err
		}
	}
	return &gcp.Config{Email: account.Email, ID: account.ID, KeyID: account.KeyID, Key: account.Key, TokenURI: account.TokenURI}, nil
}

const maxAccountBytes = 64 << 10

// readAccount reads a service account's key from a file.
func readAccount(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() { // what is wrong would tell of the server's files
		return nil, errs.New(errs.Invalid, "the file of the credentials cannot be read")
	}
	f, err := os.Open(file) //nolint:gosec // the operator names it, of the root namespace
	if err != nil {
		return nil, errs.New(errs.Invalid, "the file of the credentials cannot be read")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxAccountBytes))
	if err != nil {
		return nil, errs.New(errs.Invalid, "the file of the credentials cannot be read")
	}
	return raw, nil
}

func (s *Services) openGoogle(k *managed.Key) (engine.KMS, error) {
	p := k.Params
	a, err := parseGoogleAlgorithm(p["algorithm"])
	if err != nil {
		return nil, err
	}
	base, err := rest.Base(googleEndpoint(p), "endpoint")
	if err != nil {
		return nil, err
	}
	g := &google{
		ring: "projects/" + url.PathEscape(p["project"]) + "/locations/" + url.PathEscape(p["region"]) + "/keyRings/" + url.PathEscape(p["key_ring"]),
		key:  p["crypto_key"], version: p["crypto_key_version"], algorithm: a, generate: k.AllowGenerate,
	}
	credentials := p["credentials"]
	if credentials == "" {
		credentials = s.getenv("GOOGLE_CREDENTIALS")
	}
	g.open = func() (*rest.Client, error) {
		cfg := &gcp.Config{}
		raw := []byte(credentials)
		if credentials != "" {
			var err error
			if !isInline(credentials) {
				if raw, err = readAccount(credentials); err != nil {
					return nil, err
				}
			}
			if cfg, err = parseAccount(raw); err != nil {
				return nil, err
			}
		}
		cfg.Endpoint, cfg.Scopes = base, []string{"https://www.googleapis.com/auth/cloudkms"}
		return gcp.NewClient(*cfg)
	}
	return g, nil
}

func (g *google) do(ctx context.Context, q rest.Request) error {
	g.mu.Lock()
	if g.client == nil {
		c, err := g.open()
		if err != nil {
			g.mu.Unlock()
			return err
		}
		g.client = c
	}
	c := g.client
	g.mu.Unlock()
	q.Path = "/v1/" + q.Path
	if q.Max == 0 {
		q.Max = maxAnswer
	}
	return c.Do(ctx, q)
}

// Public implements engine.KMS.
func (g *google) Public(ctx context.Context) (*engine.KMSKey, error) {
	ref := g.ring + "/cryptoKeys/" + url.PathEscape(g.key) + "/cryptoKeyVersions/" + g.version
	k, err := g.find(ctx, ref)
	if !rest.Is(err, http.StatusNotFound) || !g.generate {
		return k, err
	}
	if g.version != "1" {
		return nil, errs.New(errs.Invalid, "there is no version %s of the service's key; one that is generated has version 1", g.version)
	}
	purpose := "ASYMMETRIC_SIGN"
	if g.algorithm.decrypts {
		purpose = "ASYMMETRIC_DECRYPT"
	}
	err = g.do(ctx, rest.Request{
		Method: http.MethodPost, Path: g.ring + "/cryptoKeys", Query: url.Values{"cryptoKeyId": {g.key}},
		In: map[string]any{"purpose": purpose, "versionTemplate": map[string]string{"algorithm": g.algorithm.name}},
	})
	if err != nil && !rest.Is(err, http.StatusConflict) { // another node has been quicker
		return nil, err
	}
	for try := 0; ; try++ { // it is made in the background
		k, err = g.find(ctx, ref)
		young := rest.Is(err, http.StatusNotFound) || refused(err, "FAILED_PRECONDITION")
		if !young || try >= 8 || !wait(ctx, try) {
			return k, err
		}
	}
}

// castagnoli is the checksum of the service's answers.
func castagnoli(data []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), 10)
}

var errChecksum = errs.New(errs.Unavailable, "the service's answer does not fit its checksum")

func (g *google) find(ctx context.Context, ref string) (*engine.KMSKey, error) {
	var out struct {
		PEM       string `json:"pem"`
		Checksum  string `json:"pemCrc32c"`
		Algorithm string `json:"algorithm"`
	}
	if err := g.do(ctx, rest.Request{Method: http.MethodGet, Path: ref + "/publicKey", Out: &out}); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(out.PEM))
	switch {
	case block == nil:
		return nil, errs.New(errs.Unavailable, "the service answered with what is no public key")
	case out.Checksum != "" && out.Checksum != castagnoli([]byte(out.PEM)):
		return nil, errChecksum
	case out.Algorithm != g.algorithm.name:
		is := "another"
		if a, err := parseGoogleAlgorithm(out.Algorithm); err == nil {
			is = strconv.Quote(a.name)
		}
		return nil, errs.New(errs.Invalid, "the algorithm of the service's key is %s, but the managed key is configured as %s", is, g.algorithm.name)
	}
	key, err := parsePublic(block.Bytes)
	if err != nil {
		return nil, err
	}
	return public(key, g.algorithm.spec, ref)
}

// Sign implements engine.KMS.
func (g *google) Sign(ctx context.Context, ref string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch {
	case g.algorithm.decrypts:
		return nil, errs.New(errs.Invalid, "a key of the algorithm %s does not sign", g.algorithm.name)
	case opts.HashFunc() != g.algorithm.hash, g.algorithm.spec.bits > 0 && isPSS(opts) != (g.algorithm.padding == "pss"):
		return nil, errs.New(errs.Invalid, "a key of %s signs as its algorithm says only, which is %s", googleName, g.algorithm.name)
	}
	n, err := sha2(g.algorithm.hash, googleName)
	if err != nil {
		return nil, err
	}
	in := map[string]any{"digest": map[string][]byte{"sha" + n: digest}, "digestCrc32c": castagnoli(digest)}
	var out struct {
		Signature []byte `json:"signature"`
	}
	err = g.do(ctx, rest.Request{Method: http.MethodPost, Path: ref + ":asymmetricSign", In: in, Out: &out, Max: maxValue})
	return out.Signature, err
}

// Decrypt implements engine.KMS.
func (g *google) Decrypt(ctx context.Context, ref string, ciphertext []byte) ([]byte, error) {
	in := map[string]any{"ciphertext": ciphertext, "ciphertextCrc32c": castagnoli(ciphertext)}
	var out struct {
		Plaintext []byte `json:"plaintext"`
		Checksum  string `json:"plaintextCrc32c"`
	}
	err := g.do(ctx, rest.Request{Method: http.MethodPost, Path: ref + ":asymmetricDecrypt", In: in, Out: &out, Max: maxValue})
	if err == nil && out.Checksum != "" && out.Checksum != castagnoli(out.Plaintext) {
		err = errChecksum
	}
	return out.Plaintext, err
}

// Scheme implements engine.KMS.
func (g *google) Scheme() (crypto.Hash, string) { return g.algorithm.hash, g.algorithm.padding }
