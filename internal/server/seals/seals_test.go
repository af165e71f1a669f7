package seals

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/config"
	"arca/internal/kes/store/rest"
	"arca/internal/seal"
	"arca/internal/server/hsm"
)

func stanza(typ string, members ...string) config.Seal {
	s := config.Seal{Type: typ, Options: map[string]string{}}
	for i := 0; i+1 < len(members); i += 2 {
		s.Options[members[i]] = members[i+1]
	}
	s.Disabled = s.Options["disabled"] == "true"
	return s
}

func none(string) string { return "" }

// must opens one seal.
func must(t *testing.T, getenv func(string) string, s config.Seal) seal.Sealer {
	t.Helper()
	got, err := Open(config.Seals{s}, getenv, &hsm.Modules{})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	return got[0].Sealer
}

// there checks that what is encrypted comes back, and is not what went in.
func there(t *testing.T, s seal.Sealer) []byte {
	t.Helper()
	key := []byte("0123456789abcdef0123456789abcdef")
	sealed, err := s.Encrypt(t.Context(), key)
	if err != nil || strings.Contains(string(sealed), "0123456789abcdef") {
		t.Fatalf("%q, %v", sealed, err)
	}
	back, err := s.Decrypt(t.Context(), append([]byte(nil), sealed...))
	if err != nil || string(back) != string(key) {
		t.Fatalf("%q, %v", back, err)
	}
	return sealed
}

const keyA, keyB = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8="

func TestStatic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	raw, err := hex.DecodeString(keyA)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	a := must(t, none, stanza("static", "current_key_id", "1", "current_key", keyA))
	sealed := there(t, a)
	for _, s := range []seal.Sealer{
		must(t, none, stanza("static", "current_key_id", "1", "current_key", "file://"+file)),
		must(t, func(name string) string {
			if name == "KEY" {
				return keyA + "\n"
			}
			return ""
		}, stanza("static", "current_key_id", "1", "current_key", "env://KEY")),
		must(t, none, stanza("static", "current_key_id", "2", "current_key", keyB, "previous_key_id", "1", "previous_key", keyA)),
	} {
		if _, err := s.Decrypt(t.Context(), sealed); err != nil {
			t.Error(err)
		}
	}
	next := must(t, none, stanza("static", "current_key_id", "2", "current_key", keyB, "previous_key_id", "1", "previous_key", keyA))
	if next.(seal.Renewer).Current(sealed) || !next.(seal.Renewer).Current(there(t, next)) {
		t.Error("what is to be encrypted anew is not told apart")
	}
	other := must(t, none, stanza("static", "current_key_id", "1", "current_key", keyB))
	if _, err := other.Decrypt(t.Context(), sealed); err == nil {
		t.Error("another key decrypts")
	}
	if _, err := next.Decrypt(t.Context(), there(t, must(t, none, stanza("static", "current_key_id", "3", "current_key", keyA)))); err == nil {
		t.Error("a key of another id decrypts")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		seal config.Seal
		want string
	}{
		{stanza("nosuchkms"), "this type is not known; there are shamir"},
		{stanza("ocikms"), "key_id is missing"},
		{stanza("ocikms", "key_id", "k"), "crypto_endpoint is missing"},
		{stanza("ocikms", "key_id", "k", "crypto_endpoint", "https://x", "auth_type_api_key", "perhaps"), "auth_type_api_key"},
		{stanza("alicloudkms"), "kms_key_id is missing"},
		{stanza("alicloudkms", "kms_key_id", "k", "access_key", "a"), "given together"},
		{stanza("alicloudkms", "kms_key_id", "k", "access_key", "a", "secret_key", "secret!", "domain", "ftp://x"), "is no address"},
		{stanza("static"), "current_key_id is missing"},
		{stanza("static", "current_key_id", "1", "current_key", "secret!"), "current_key is no key of 32 bytes"},
		{stanza("static", "current_key_id", "1", "current_key", "file:///nosuch"), "no such file"},
		{stanza("transit", "mount_path", "transit", "key_name", "k"), "token is missing"},
		{stanza("transit", "mount_path", "transit", "key_name", "k", "token", "t"), "address is missing"},
		{stanza("transit", "mount_path", "transit", "key_name", "k", "token", "t", "address", "ftp://x"), "is no address"},
		{stanza("transit", "mount_path", "transit", "key_name", "k", "token", "t", "address", "https://x", "disable_renewal", "perhaps"), "neither true nor false"},
		{stanza("awskms"), "kms_key_id is missing"},
		{stanza("awskms", "kms_key_id", "k", "access_key", "a"), "given together"},
		{stanza("awskms", "kms_key_id", "k", "priority", "0"), "is no number from 1 on"},
		{stanza("gcpckms", "project", "p"), "region is missing"},
		{stanza("kmip", "kms_key_id", "k"), "endpoint is missing"},
		{stanza("kmip", "kms_key_id", "k", "endpoint", "x"), "client_cert is missing"},
		{stanza("kmip", "kms_key_id", "k", "endpoint", "x", "client_cert", "c", "client_key", "k", "encrypt_alg", "RSA_PKCS1"), "there are AES_GCM"},
		{stanza("kmip", "kms_key_id", "k", "endpoint", "x", "client_cert", "c", "client_key", "k", "timeout", "soon"), "no number of seconds"},
		{stanza("kmip", "kms_key_id", "k", "endpoint", "x", "client_cert", "/nosuch", "client_key", "k"), "no such file"},
		{stanza("azurekeyvault", "key_name", "k"), "vault_name is missing"},
		{stanza("azurekeyvault", "key_name", "k", "vault_name", "v", "environment", "moon"), "is none of AZUREPUBLICCLOUD"},
	} {
		_, err := Open(config.Seals{c.seal}, none, &hsm.Modules{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret!") {
			t.Errorf("%s %v: %v, want %s", c.seal.Type, c.seal.Options, err, c.want)
		}
	}
	two := config.Seals{stanza("static", "current_key_id", "1", "current_key", keyA), stanza("static", "current_key_id", "1", "current_key", keyA)}
	if _, err := Open(two, none, &hsm.Modules{}); err == nil || !strings.Contains(err.Error(), "two seals of the name") {
		t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	got, err := Open(config.Seals{
		stanza("shamir"), stanza("static", "name", "b", "priority", "2", "current_key_id", "1", "current_key", keyA),
		stanza("static", "name", "a", "priority", "1", "disabled", "true", "current_key_id", "1", "current_key", keyA),
	}, none, &hsm.Modules{})
	if err != nil || len(got) != 2 || got[0].Name != "a" || !got[0].Disabled || got[1].Name != "b" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAWS asks a stand-in that speaks KMS' wire protocol, and no more: it is no KMS,
// and says so. S3-31, S3-32: region, keys, endpoint, from file and environment.
func TestAWS(t *testing.T) {
	t.Parallel()
	var auth, target, key string
	var moved bool
	stand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "arca test stand-in for AWS KMS")
		auth, target = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Target")
		var in struct {
			KeyID                     string `json:"KeyId"`
			Plaintext, CiphertextBlob []byte
		}
		raw, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(raw, &in)
		switch {
		case r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
			w.WriteHeader(http.StatusBadRequest)
		case target == "TrentService.Encrypt" && in.KeyID == "19ec80b0-dfdd-4d97-8164-c6examplekey":
			_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": in.KeyID, "CiphertextBlob": flip(in.Plaintext)})
		case target == "TrentService.Decrypt" && (in.KeyID != "" && (in.KeyID != "19ec80b0-dfdd-4d97-8164-c6examplekey" || moved)):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"IncorrectKeyException"}`)
		case target == "TrentService.Decrypt":
			key = in.KeyID
			_ = json.NewEncoder(w).Encode(map[string]any{"Plaintext": flip(in.CiphertextBlob)})
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"NotFoundException","message":"Invalid keyId"}`)
		}
	}))
	defer stand.Close()
	there(t, must(t, none, stanza("awskms", "region", "us-west-1", "access_key", "AKIAIOSFODNN7EXAMPLE", "secret_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"kms_key_id", "19ec80b0-dfdd-4d97-8164-c6examplekey", "endpoint", stand.URL)))
	if !strings.Contains(auth, "Credential=AKIAIOSFODNN7EXAMPLE/") || !strings.Contains(auth, "/us-west-1/kms/aws4_request") {
		t.Errorf("signed %q", auth)
	}
	env := map[string]string{
		"AWS_REGION": "eu-west-1", "VAULT_AWSKMS_SEAL_KEY_ID": "19ec80b0-dfdd-4d97-8164-c6examplekey", "AWS_KMS_ENDPOINT": stand.URL, "VAULT_SEAL_TYPE": "awskms",
	}
	s := must(t, func(n string) string { return env[n] }, stanza("awskms", "region", "us-west-1", "access_key", "AKIAIOSFODNN7EXAMPLE", "secret_key", "x", "kms_key_id", "other"))
	there(t, s)
	if !strings.Contains(auth, "/eu-west-1/kms/") {
		t.Errorf("signed %q: the environment counts more", auth)
	}
	sealed := there(t, s)
	if !s.(seal.Renewer).Current(sealed) || key == "" {
		t.Error("not under the configured key, or the service is not asked for that")
	}
	bare := flip([]byte("what an older release stored"))
	if got, err := s.Decrypt(t.Context(), bare); err != nil || string(flip(bare)) != string(got) || key != "" || s.(seal.Renewer).Current(bare) {
		t.Errorf("without its key's name: %q, %v", got, err)
	}
	moved = true // the name is that of another key now
	if _, err := s.Decrypt(t.Context(), sealed); err != nil || s.(seal.Renewer).Current(sealed) {
		t.Errorf("a name that was moved to another key: %v", err)
	}
	moved = false
	s = must(t, none, stanza("awskms", "access_key", "a", "secret_key", "wJalrXUtnFEMI", "kms_key_id", "nosuch", "endpoint", stand.URL))
	if _, err := s.Encrypt(t.Context(), make([]byte, 32)); err == nil || strings.Contains(err.Error(), "wJalr") {
		t.Errorf("a key that is not there: %v", err)
	}
	if got, err := s.Decrypt(t.Context(), sealed); err != nil || len(got) == 0 || s.(seal.Renewer).Current(sealed) {
		t.Errorf("what another key encrypted: %q, %v", got, err)
	}
}

// A cloud of Azure has its own domain of vaults, and its own authority that gives tokens.
func TestAzureClouds(t *testing.T) {
	t.Parallel()
	host := func(name string) string {
		return map[string]string{"AZURE_AUTHORITY_HOST": "https://login.example"}[name]
	}
	for _, c := range []struct {
		members   []string
		getenv    func(string) string
		endpoint  string
		authority string
	}{
		{nil, none, "https://v.vault.azure.net", "https://login.microsoftonline.com"},
		{[]string{"environment", "AzureUSGovernmentCloud"}, none, "https://v.vault.usgovcloudapi.net", "https://login.microsoftonline.us"},
		{[]string{"environment", "AZURECHINACLOUD"}, none, "https://v.vault.azure.cn", "https://login.chinacloudapi.cn"},
		{[]string{"environment", "AZURECHINACLOUD"}, host, "https://v.vault.azure.cn", "https://login.example"},
		{[]string{"environment", "AZURECHINACLOUD", "resource", "managedhsm.azure.cn"}, none, "https://v.managedhsm.azure.cn", "https://login.chinacloudapi.cn"},
		{[]string{"environment", "moon", "resource", "vault.moon"}, host, "https://v.vault.moon", "https://login.example"},
	} {
		s := stanza("azurekeyvault", append(c.members, "key_name", "k", "vault_name", "v")...)
		got, err := azureConfig(&options{stanza: &s, getenv: c.getenv})
		if err != nil || got.Endpoint != c.endpoint || got.Authority != c.authority {
			t.Errorf("%v: %q, %q, %v", c.members, got.Endpoint, got.Authority, err)
		}
	}
}

// TestHalves has one half of the credentials in the file and the other in the environment. S3-32
func TestHalves(t *testing.T) {
	var asked []string
	stand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		asked = append(asked, r.URL.Path+" "+r.URL.Query().Get("client_id")+string(raw)+r.Header.Get("Authorization"))
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "t", "expires_in": "3600"})
	}))
	defer stand.Close()
	for _, name := range []string{"AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("AZURE_AUTHORITY_HOST", stand.URL)
	t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", stand.URL)
	ask := func(s config.Seal) string {
		t.Helper()
		asked = nil
		_, _ = must(t, os.Getenv, s).Encrypt(t.Context(), make([]byte, 32)) // the stand-in wraps nothing
		return strings.Join(asked, "\n")
	}
	azure := []string{"key_name", "k", "vault_name", "v", "endpoint", stand.URL}
	if got := ask(stanza("azurekeyvault", append(azure, "client_id", "assigned")...)); !strings.HasPrefix(got, "/metadata/identity/oauth2/token assigned") {
		t.Errorf("an identity that was assigned: %s", got)
	}
	t.Setenv("AZURE_CLIENT_SECRET", "hidden")
	got := ask(stanza("azurekeyvault", append(azure, "tenant_id", "tenant", "client_id", "client")...))
	if !strings.HasPrefix(got, "/tenant/oauth2/v2.0/token ") || !strings.Contains(got, "client_id=client&client_secret=hidden") {
		t.Errorf("the secret in the environment: %s", got)
	}
	t.Setenv("AZURE_CLIENT_ID", "other")
	t.Setenv("AZURE_TENANT_ID", "others")
	got = ask(stanza("azurekeyvault", append(azure, "client_secret", "filed")...))
	if !strings.HasPrefix(got, "/others/oauth2/v2.0/token ") || !strings.Contains(got, "client_id=other&client_secret=filed") {
		t.Errorf("the secret in the file: %s", got)
	}
	t.Setenv("AZURE_TENANT_ID", "")
	if _, err := Open(config.Seals{stanza("azurekeyvault", append(azure, "client_secret", "filed")...)}, os.Getenv, &hsm.Modules{}); err == nil || !strings.Contains(err.Error(), "tenant_id") {
		t.Error(err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden")
	if got := ask(stanza("awskms", "kms_key_id", "k", "access_key", "AKIAFILE", "endpoint", stand.URL)); !strings.Contains(got, "Credential=AKIAFILE/") {
		t.Errorf("signed %s", got)
	}
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x55
	}
	return out
}

// TestClouds asks stand-ins that speak the wire protocols of Google's and Azure's
// services, and no more.
func TestClouds(t *testing.T) {
	t.Parallel()
	var paths []string
	stand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		var in map[string]any
		_ = json.NewDecoder(r.Body).Decode(&in)
		switch {
		case strings.HasSuffix(r.URL.Path, ":encrypt"):
			_ = json.NewEncoder(w).Encode(map[string]any{"ciphertext": rot(in["plaintext"])})
		case strings.HasSuffix(r.URL.Path, ":decrypt"):
			_ = json.NewEncoder(w).Encode(map[string]any{"plaintext": rot(in["ciphertext"])})
		case strings.HasSuffix(r.URL.Path, "/wrapkey"):
			_ = json.NewEncoder(w).Encode(map[string]any{"kid": "https://v.vault.azure.net/keys/k/123", "value": rot(in["value"])})
		case strings.HasSuffix(r.URL.Path, "/123/unwrapkey"):
			_ = json.NewEncoder(w).Encode(map[string]any{"value": rot(in["value"])})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer stand.Close()
	g := &google{path: "/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k", client: bare(t, stand.URL)}
	there(t, g)
	m := &microsoft{key: "k", client: bare(t, stand.URL)}
	there(t, m)
	if got := strings.Join(paths, " "); got != "/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k:encrypt /v1/projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt /keys/k/wrapkey /keys/k/123/unwrapkey" {
		t.Error(got)
	}
}

// rot changes a text of base64 into another, and back.
func rot(v any) string {
	text, _ := v.(string)
	enc := base64.StdEncoding
	if len(text)%4 != 0 {
		enc = base64.RawURLEncoding
	}
	raw, _ := enc.DecodeString(text) // what is no base64 comes back as nothing
	return enc.EncodeToString(flip(raw))
}

// bare is a client without a login.
func bare(t *testing.T, base string) *rest.Client {
	t.Helper()
	web, err := rest.NewHTTP(rest.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Client{Base: base, HTTP: web}
}
