package seals

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
)

// oracle is the KMS of Oracle's cloud
// (https://docs.oracle.com/en-us/iaas/api/#/en/key/release/EncryptedData/Encrypt), asked with a user's API key, or as the machine on
// which the server runs.
type oracle struct {
	client *rest.Client
	key    string
}

func newOracle(o *options) (*oracle, error) {
	k := &oracle{key: o.first("key_id", "VAULT_OCIKMS_SEAL_KEY_ID", "OCIKMS_WRAPPER_KEY_ID")}
	if k.key == "" {
		return nil, missing("key_id")
	}
	endpoint := o.first("crypto_endpoint", "VAULT_OCIKMS_CRYPTO_ENDPOINT", "OCIKMS_WRAPPER_CRYPTO_ENDPOINT")
	if endpoint == "" {
		return nil, missing("crypto_endpoint")
	}
	base, err := rest.Base(endpoint, "crypto_endpoint")
	if err != nil {
		return nil, err
	}
	byKey, err := o.truth("auth_type_api_key")
	if err != nil {
		return nil, err
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	k.client = &rest.Client{Base: base, HTTP: web, Retries: 1}
	if byKey {
		signer, err := newOracleSigner(o.getenv)
		if err != nil {
			return nil, err
		}
		k.client.Prepare = signer.sign
		return k, nil
	}
	instance, err := newOracleInstance(web, o.getenv)
	if err != nil {
		return nil, err
	}
	k.client.Prepare, k.client.Again = instance.sign, instance.again
	return k, nil
}

// Encrypt implements seal.Sealer.
func (k *oracle) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	in := struct {
		KeyID     string `json:"keyId"`
		Plaintext []byte `json:"plaintext"`
	}{k.key, plain}
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := k.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/20180608/encrypt", In: in, Out: &out})
	if err == nil && out.Ciphertext == "" {
		err = errs.New(errs.Unavailable, "the service answered without a ciphertext")
	}
	return []byte(out.Ciphertext), err
}

// Decrypt implements seal.Sealer.
func (k *oracle) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	in := struct {
		KeyID      string `json:"keyId"`
		Ciphertext string `json:"ciphertext"`
	}{k.key, string(sealed)}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := k.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/20180608/decrypt", In: in, Out: &out})
	return out.Plaintext, err
}

// An oracleSigner signs requests with a user's API key, or another that stands for somebody, as
// https://docs.oracle.com/en-us/iaas/Content/API/Concepts/signingrequests.htm has it.
type oracleSigner struct {
	id  string // tenancy/user/fingerprint, of a user's
	key *rsa.PrivateKey
}

// newOracleSigner reads the profile DEFAULT, or that of OCI_CLI_PROFILE, of ~/.oci/config or OCI_CLI_CONFIG_FILE.
func newOracleSigner(getenv func(string) string) (*oracleSigner, error) {
	file := getenv("OCI_CLI_CONFIG_FILE")
	if file == "" {
		file = filepath.Join(getenv("HOME"), ".oci", "config")
	}
	profile := getenv("OCI_CLI_PROFILE")
	if profile == "" {
		profile = "DEFAULT"
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the operator's own
	if err != nil {
		return nil, errs.New(errs.Invalid, "the API key: %w", err)
	}
	values := profileOf(raw, profile)
	for _, name := range []string{"tenancy", "user", "fingerprint", "key_file"} {
		if values[name] == "" {
			return nil, errs.New(errs.Invalid, "the profile %s of %s has no %s", profile, file, name)
		}
	}
	path := values["key_file"]
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(getenv("HOME"), rest)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own
	if err != nil {
		return nil, errs.New(errs.Invalid, "the API key: %w", err)
	}
	key, err := rsaKey(text)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the API key %s: %w", path, err)
	}
	return &oracleSigner{values["tenancy"] + "/" + values["user"] + "/" + values["fingerprint"], key}, nil
}

// profileOf reads one section of a file of sections, "name = value" by line; what it lacks is that of DEFAULT.
func profileOf(raw []byte, profile string) map[string]string {
	out := map[string]string{}
	section := ""
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || strings.HasPrefix(line, "#") || section != profile && (section != "DEFAULT" || out[name] != "") {
			continue
		}
		out[name] = strings.TrimSpace(value)
	}
	return out
}

func rsaKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not in PEM")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("it is encrypted, which is not supported: nobody is there to give a passphrase when a server unseals itself")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is no private key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no RSA key")
	}
	return key, nil
}

func (s *oracleSigner) sign(r *http.Request, body []byte) error {
	return s.signWith(r, body, "host: "+r.URL.Host+"\n", " host")
}

// signAlone signs without the name of the service, as the one of identities has it.
func (s *oracleSigner) signAlone(r *http.Request, body []byte) error {
	return s.signWith(r, body, "", "")
}

func (s *oracleSigner) signWith(r *http.Request, body []byte, host, header string) error {
	sum := sha256.Sum256(body)
	r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Content-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	headers := "date (request-target)" + header + " content-length content-type x-content-sha256"
	text := strings.Join([]string{
		"date: " + r.Header.Get("Date"),
		"(request-target): " + strings.ToLower(r.Method) + " " + r.URL.RequestURI(),
		host + "content-length: " + strconv.Itoa(len(body)),
		"content-type: application/json",
		"x-content-sha256: " + r.Header.Get("X-Content-Sha256"),
	}, "\n")
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", fmt.Sprintf(`Signature version="1",keyId="%s",algorithm="rsa-sha256",headers="%s",signature="%s"`,
		s.id, headers, base64.StdEncoding.EncodeToString(signature)))
	return nil
}
