package seals

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/seal"
)

// TestAlibabaSignature is the example of Alibaba Cloud's documentation.
func TestAlibabaSignature(t *testing.T) {
	t.Parallel()
	q, err := url.ParseQuery("Timestamp=2016-02-23T12:46:24Z&Format=XML&AccessKeyId=testid&Action=DescribeRegions&SignatureMethod=HMAC-SHA1" +
		"&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Version=2014-05-26&SignatureVersion=1.0")
	if err != nil {
		t.Fatal(err)
	}
	if got := alibabaSignature("GET", q, "testsecret"); got != "OLeaidS1JvxuMvnyHOwuJ+uX5qY=" {
		t.Error(got)
	}
}

// TestAlibaba asks a stand-in that speaks the KMS' wire protocol, and no more: it is no KMS.
func TestAlibaba(t *testing.T) {
	t.Parallel()
	roles := 0
	stand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/latest/meta-data/ram/security-credentials/"); ok {
			if name == "" {
				_, _ = io.WriteString(w, "role")
				return
			}
			roles++
			_ = json.NewEncoder(w).Encode(map[string]any{
				"AccessKeyId": "STS.id", "AccessKeySecret": "stssecret", "SecurityToken": "token", "Expiration": time.Now().Add(time.Hour).UTC(),
			})
			return
		}
		q := r.URL.Query()
		raw, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(raw))
		signature := q.Get("Signature")
		q.Del("Signature")
		for k, v := range form {
			q[k] = v
		}
		secret := map[string]string{"id": "secret", "STS.id": "stssecret"}[q.Get("AccessKeyId")]
		switch {
		case signature != alibabaSignature(r.Method, q, secret), q.Get("AccessKeyId") == "STS.id" && q.Get("SecurityToken") != "token":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"Code":"SignatureDoesNotMatch","Message":"it does not"}`)
		case q.Get("Action") == "Encrypt" && form.Get("KeyId") == "key" && form.Get("Plaintext") != "":
			_ = json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": rot(form.Get("Plaintext"))})
		case q.Get("Action") == "Decrypt":
			_ = json.NewEncoder(w).Encode(map[string]any{"Plaintext": rot(form.Get("CiphertextBlob"))})
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"Code":"Forbidden.KeyNotFound","Message":"no such key"}`)
		}
	}))
	defer stand.Close()
	there(t, must(t, none, stanza("alicloudkms", "domain", stand.URL, "access_key", "id", "secret_key", "secret", "kms_key_id", "key")))
	one := must(t, none, stanza("alicloudkms", "domain", stand.URL, "access_key", "id", "secret_key", "secret", "kms_key_id", "key"))
	other := must(t, none, stanza("alicloudkms", "domain", stand.URL, "access_key", "id", "secret_key", "secret", "kms_key_id", "other"))
	sealed := there(t, one)
	if !one.(seal.Renewer).Current(sealed) || other.(seal.Renewer).Current(sealed) {
		t.Error("which key it is under is not known")
	}
	if got, err := other.Decrypt(t.Context(), sealed); err != nil || len(got) == 0 {
		t.Errorf("what another key encrypted: %v", err)
	}
	bare := []byte(rot(base64.StdEncoding.EncodeToString([]byte("what an older release stored"))))
	if got, err := one.Decrypt(t.Context(), bare); err != nil || string(got) != "what an older release stored" || one.(seal.Renewer).Current(bare) {
		t.Errorf("without its key's name: %q, %v", got, err)
	}
	env := map[string]string{
		"ALICLOUD_DOMAIN": stand.URL, "ALICLOUD_ACCESS_KEY": "id", "ALICLOUD_SECRET_KEY": "secret", "VAULT_ALICLOUDKMS_SEAL_KEY_ID": "key",
	}
	there(t, must(t, func(n string) string { return env[n] }, stanza("alicloudkms", "kms_key_id", "other")))
	if _, err := must(t, none, stanza("alicloudkms", "domain", stand.URL, "access_key", "id", "secret_key", "wrongsecret", "kms_key_id", "key")).
		Encrypt(t.Context(), make([]byte, 32)); err == nil || strings.Contains(err.Error(), "wrongsecret") {
		t.Errorf("a wrong secret: %v", err)
	}
	if _, err := must(t, none, stanza("alicloudkms", "domain", stand.URL, "access_key", "id", "secret_key", "secret", "kms_key_id", "other")).
		Encrypt(t.Context(), make([]byte, 32)); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("a key that is not there: %v", err)
	}
	role := must(t, none, stanza("alicloudkms", "domain", stand.URL, "kms_key_id", "key")).(*alibaba)
	role.keys.place = stand.URL
	there(t, role)
	there(t, role)
	if roles != 1 {
		t.Errorf("the machine's role was asked %d times", roles)
	}
}

// TestOracle asks a stand-in that speaks the KMS' wire protocol and checks signatures, and no more.
func TestOracle(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	put("locked.pem", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})))
	put(".oci/config", "# ours\n[DEFAULT]\nuser = ocid1.user\nfingerprint=aa:bb\ntenancy=ocid1.tenancy\nregion=us-ashburn-1\nkey_file=~/key.pem\n"+
		"[LOCKED]\nkey_file=~/locked.pem\n[BARE]\nuser=\n")
	stand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var in map[string]string
		_ = json.Unmarshal(raw, &in)
		if err := checkOracle(r, raw, &key.PublicKey, "ocid1.tenancy/ocid1.user/aa:bb", true); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"code":"NotAuthenticated","message":%q}`, err)
			return
		}
		switch {
		case in["keyId"] != "ocid1.key":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"code":"NotAuthorizedOrNotFound","message":"no such key"}`)
		case r.URL.Path == "/20180608/encrypt":
			_ = json.NewEncoder(w).Encode(map[string]any{"ciphertext": rot(in["plaintext"])})
		case r.URL.Path == "/20180608/decrypt":
			_ = json.NewEncoder(w).Encode(map[string]any{"plaintext": rot(in["ciphertext"]), "plaintextChecksum": "0"})
		}
	}))
	defer stand.Close()
	env := map[string]string{"HOME": home}
	getenv := func(n string) string { return env[n] }
	there(t, must(t, getenv, stanza("ocikms", "key_id", "ocid1.key", "crypto_endpoint", stand.URL, "management_endpoint", "https://x", "auth_type_api_key", "true")))
	if _, err := must(t, getenv, stanza("ocikms", "key_id", "other", "crypto_endpoint", stand.URL, "auth_type_api_key", "true")).
		Encrypt(t.Context(), make([]byte, 32)); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("a key that is not there: %v", err)
	}
	s := stanza("ocikms", "key_id", "ocid1.key", "crypto_endpoint", stand.URL, "auth_type_api_key", "true")
	for profile, want := range map[string]string{"LOCKED": "is encrypted", "BARE": "has no user", "": ""} {
		env["OCI_CLI_PROFILE"] = profile
		if _, err := open(&options{stanza: &s, getenv: getenv}); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("profile %q: %v", profile, err)
		}
	}
}

// checkOracle checks a request's signature: whose it is, and whether the host is signed, too.
func checkOracle(r *http.Request, body []byte, key *rsa.PublicKey, id string, withHost bool) error {
	sum := sha256.Sum256(body)
	if r.Header.Get("X-Content-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
		return fmt.Errorf("the hash of the body")
	}
	host, header := "", ""
	if withHost {
		host, header = "host: "+r.Host+"\n", " host"
	}
	text := fmt.Sprintf("date: %s\n(request-target): post %s\n%scontent-length: %d\ncontent-type: %s\nx-content-sha256: %s",
		r.Header.Get("Date"), r.URL.RequestURI(), host, r.ContentLength, r.Header.Get("Content-Type"), r.Header.Get("X-Content-Sha256"))
	auth := r.Header.Get("Authorization")
	head := `Signature version="1",keyId="` + id + `",algorithm="rsa-sha256",headers="date (request-target)` + header + ` content-length content-type x-content-sha256",signature="`
	if !strings.HasPrefix(auth, head) {
		return fmt.Errorf("the header %s", auth)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(auth[len(head):], `"`))
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
}
