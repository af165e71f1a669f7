package gcp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
)

// credentials get access tokens: by a service account's key, by a user's refresh
// token, or from the machine.
type credentials struct {
	web    *http.Client
	scopes []string

	Type         string `json:"type"`
	Email        string `json:"client_email"`
	KeyID        string `json:"private_key_id"`
	Key          string `json:"private_key"`
	TokenURI     string `json:"token_uri"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	RefreshToken string `json:"refresh_token"`
}

const (
	serviceAccount = "service_account"
	user           = "authorized_user"
	machine        = "machine"

	tokenURI = "https://oauth2.googleapis.com/token" //nolint:gosec // an address
)

// findCredentials takes those of the configuration, of the file that the
// environment names, of gcloud, or of the machine.
func findCredentials(cfg Config, web *http.Client) (*credentials, error) {
	c := &credentials{web: web, scopes: cfg.Scopes}
	if cfg.Email != "" || cfg.Key != "" {
		c.Type, c.Email, c.KeyID, c.ClientID, c.TokenURI = serviceAccount, cfg.Email, cfg.KeyID, cfg.ID, cfg.TokenURI
		c.Key = strings.ReplaceAll(cfg.Key, `\n`, "\n")
		return c.complete()
	}
	file := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	named := file != ""
	if !named {
		if dir, err := os.UserConfigDir(); err == nil {
			file = filepath.Join(dir, "gcloud", "application_default_credentials.json")
		}
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator names it
	switch {
	case err == nil:
		if json.Unmarshal(data, c) != nil {
			return nil, errs.New(errs.Invalid, "the credentials in %s are not JSON", file)
		}
		return c.complete()
	case named:
		return nil, errs.New(errs.Invalid, "GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	c.Type = machine
	return c, nil
}

func (c *credentials) complete() (*credentials, error) {
	if c.TokenURI == "" {
		c.TokenURI = tokenURI
	}
	switch c.Type {
	case serviceAccount:
		if _, err := c.privateKey(); err != nil {
			return nil, errs.New(errs.Invalid, "the private key of the Google service account: %w", err)
		}
	case user:
	default:
		return nil, errs.New(errs.Invalid, "Google credentials of the type %q are not supported: use a service account, a user's, or the machine's", c.Type)
	}
	return c, nil
}

func (c *credentials) privateKey() (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(c.Key))
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if k, ok := parsed.(*rsa.PrivateKey); ok {
			return k, nil
		}
	}
	k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is no RSA key")
	}
	return k, nil
}

// token gets an access token.
func (c *credentials) token(ctx context.Context, _ string) (string, time.Duration, error) {
	switch c.Type {
	case serviceAccount:
		assertion, err := c.assertion(time.Now())
		if err != nil {
			return "", 0, err
		}
		return c.exchange(ctx, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}})
	case user:
		return c.exchange(ctx, url.Values{
			"grant_type": {"refresh_token"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}, "refresh_token": {c.RefreshToken},
		})
	}
	host := os.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = "169.254.169.254"
	}
	target := "http://" + host + "/computeMetadata/v1/instance/service-accounts/default/token?scopes=" + url.QueryEscape(strings.Join(c.scopes, ","))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Metadata-Flavor", "Google")
	return c.ask(r)
}

// assertion is a JWT that the service account signs (RFC 7523).
func (c *credentials) assertion(now time.Time) (string, error) {
	key, err := c.privateKey()
	if err != nil {
		return "", err
	}
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": c.KeyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": c.Email, "scope": strings.Join(c.scopes, " "), "aud": c.TokenURI, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), err
}

func (c *credentials) exchange(ctx context.Context, form url.Values) (string, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.TokenURI, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.ask(r)
}

func (c *credentials) ask(r *http.Request) (string, time.Duration, error) {
	answer, err := rest.Metadata(c.web, r).Do(r) //nolint:gosec // the operator's own environment names it
	if err != nil {
		return "", 0, &store.UnreachableError{Err: err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return "", 0, &store.UnreachableError{Err: err}
	}
	if answer.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("%s: %w", r.URL.Host, &rest.StatusError{Code: answer.StatusCode})
	}
	var out struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if json.Unmarshal(body, &out) != nil || out.AccessToken == "" {
		return "", 0, fmt.Errorf("%s answered no token", r.URL.Host)
	}
	return out.AccessToken, time.Duration(max(60, min(out.ExpiresIn, 1<<30))) * time.Second, nil
}
