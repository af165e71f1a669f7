package seals

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"arca/internal/errs"
	"arca/internal/kes/store/rest"
)

// alibaba is Alibaba Cloud's KMS, by its RPC protocol
// (https://www.alibabacloud.com/help/en/kms/key-management-service/developer-reference/api-kms-2016-01-20-encrypt).
type alibaba struct {
	client *rest.Client
	key    string
	keys   *alibabaKeys
}

func newAlibaba(o *options) (*alibaba, error) {
	k := &alibaba{key: o.first("kms_key_id", "VAULT_ALICLOUDKMS_SEAL_KEY_ID", "ALICLOUDKMS_WRAPPER_KEY_ID")}
	if k.key == "" {
		return nil, missing("kms_key_id")
	}
	region := o.first("region", "ALICLOUD_REGION", "ALIBABA_CLOUD_REGION_ID")
	if region == "" {
		region = "us-east-1"
	}
	domain := o.first("domain", "ALICLOUD_DOMAIN")
	if domain == "" {
		domain = "kms." + region + ".aliyuncs.com"
	}
	base, err := rest.Base(domain, "domain")
	if err != nil {
		return nil, err
	}
	k.keys = &alibabaKeys{given: alibabaKey{
		ID:     o.first("access_key", "ALICLOUD_ACCESS_KEY", "ALIBABA_CLOUD_ACCESS_KEY_ID"),
		Secret: o.first("secret_key", "ALICLOUD_SECRET_KEY", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
		Token:  o.first("security_token", "ALICLOUD_SECURITY_TOKEN", "ALIBABA_CLOUD_SECURITY_TOKEN"),
	}, place: "http://100.100.100.200"}
	if g := k.keys.given; (g.ID == "") != (g.Secret == "") {
		return nil, errs.New(errs.Invalid, "access_key and secret_key are given together, or neither")
	}
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		return nil, err
	}
	k.keys.web = web
	k.client = &rest.Client{Base: base, HTTP: web, Retries: 1, Prepare: k.sign}
	return k, nil
}

// do asks for an action. What is secret goes in the body, where no log of requests shows it.
func (k *alibaba) do(ctx context.Context, action string, form url.Values, out any) error {
	return k.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/", Form: form, Out: out,
		Query: url.Values{"Action": {action}, "Version": {"2016-01-20"}, "Format": {"JSON"}},
	})
}

// sign adds the signature to a request, anew for each attempt.
func (k *alibaba) sign(r *http.Request, body []byte) error {
	key, err := k.keys.get(r.Context())
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return err
	}
	q := r.URL.Query()
	q.Set("AccessKeyId", key.ID)
	q.Set("SignatureMethod", "HMAC-SHA1")
	q.Set("SignatureVersion", "1.0")
	q.Set("SignatureNonce", uuid.NewString())
	q.Set("Timestamp", time.Now().UTC().Format("2006-01-02T15:04:05Z"))
	if key.Token != "" {
		q.Set("SecurityToken", key.Token)
	}
	all := url.Values{}
	for _, part := range []url.Values{q, form} {
		for name, values := range part {
			all[name] = values
		}
	}
	q.Set("Signature", alibabaSignature(r.Method, all, key.Secret))
	r.URL.RawQuery = q.Encode()
	return nil
}

// alibabaSignature signs parameters as
// https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism has it.
func alibabaSignature(method string, params url.Values, secret string) string {
	escape := strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~")
	quote := func(s string) string { return escape.Replace(url.QueryEscape(s)) }
	var parts []string
	for name, values := range params {
		parts = append(parts, quote(name)+"="+quote(values[0]))
	}
	slices.Sort(parts)
	h := hmac.New(sha1.New, []byte(secret+"&"))
	_, _ = io.WriteString(h, method+"&%2F&"+quote(strings.Join(parts, "&"))) // a hash takes all
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Encrypt implements seal.Sealer.
func (k *alibaba) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	var out struct{ CiphertextBlob string }
	err := k.do(ctx, "Encrypt", url.Values{"KeyId": {k.key}, "Plaintext": {base64.StdEncoding.EncodeToString(plain)}}, &out)
	switch {
	case err != nil:
		return nil, err
	case out.CiphertextBlob == "":
		return nil, errs.New(errs.Unavailable, "the service answered without a ciphertext")
	}
	return json.Marshal(keyedBlob{k.key, []byte(out.CiphertextBlob)})
}

// Decrypt implements seal.Sealer. The ciphertext names its key to the service, which is
// asked for no other.
func (k *alibaba) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	var out struct{ Plaintext []byte }
	err := k.do(ctx, "Decrypt", url.Values{"CiphertextBlob": {string(readKeyed(sealed).Blob)}}, &out)
	return out.Plaintext, err
}

// Current implements seal.Renewer: sealed is under the configured key.
func (k *alibaba) Current(sealed []byte) bool { return readKeyed(sealed).Key == k.key }

// An alibabaKey is what requests are signed with.
type alibabaKey struct {
	ID, Secret, Token string
}

// alibabaKeys are the given one or, without it, those of the role that the machine has.
type alibabaKeys struct {
	given alibabaKey
	web   *http.Client
	place string // of the machine's own service

	mu    sync.Mutex
	last  alibabaKey // guarded by mu, as is until
	until time.Time
}

func (s *alibabaKeys) get(ctx context.Context) (alibabaKey, error) {
	if s.given.ID != "" {
		return s.given, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.last, nil
	}
	const path = "/latest/meta-data/ram/security-credentials/"
	role, err := s.ask(ctx, path)
	if err != nil {
		return alibabaKey{}, errs.New(errs.Unavailable, "there is no access_key, and the machine has no role that could be asked for one: %w", err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(role)), "\n")
	raw, err := s.ask(ctx, path+url.PathEscape(name))
	if err != nil {
		return alibabaKey{}, errs.New(errs.Unavailable, "ask for the credentials of the machine's role: %w", err)
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		AccessKeySecret string
		SecurityToken   string
		Expiration      time.Time
	}
	if json.Unmarshal(raw, &out) != nil || out.AccessKeyID == "" || out.AccessKeySecret == "" {
		return alibabaKey{}, errs.New(errs.Unavailable, "the machine's service answered without credentials")
	}
	s.last = alibabaKey{out.AccessKeyID, out.AccessKeySecret, out.SecurityToken}
	s.until = out.Expiration.Add(-5 * time.Minute)
	return s.last, nil
}

func (s *alibabaKeys) ask(ctx context.Context, path string) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.place+path, nil)
	if err != nil {
		return nil, err
	}
	c := rest.Client{Base: s.place, HTTP: rest.Metadata(s.web, r)}
	err = c.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Raw: &raw})
	return raw, err
}
