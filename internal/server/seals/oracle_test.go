package seals

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fakeCloud stands in for Oracle's: the metadata service of a machine, the service of identities and the KMS. It speaks their wire protocols and
// checks signatures, and no more.
type fakeCloud struct {
	t    *testing.T
	url  string
	key  *rsa.PrivateKey // of the machine
	cert []byte

	mu      sync.Mutex
	session *rsa.PublicKey // guarded by mu
	token   string         // guarded by mu
	logins  int            // guarded by mu
	life    time.Duration  // of tokens; guarded by mu
	refuse  bool           // the service of identities refuses; guarded by mu
}

func newFakeCloud(t *testing.T, subject pkix.Name) *fakeCloud {
	t.Helper()
	c := &fakeCloud{t: t, life: time.Hour}
	var err error
	if c.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if c.cert, err = x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key); err != nil {
		t.Fatal(err)
	}
	stand := httptest.NewServer(c)
	t.Cleanup(stand.Close)
	c.url = stand.URL
	return c
}

// set changes how the cloud behaves.
func (c *fakeCloud) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// ServeHTTP implements http.Handler.
func (c *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	if path, ok := strings.CutPrefix(r.URL.Path, "/opc/v2"); ok {
		if r.Header.Get("Authorization") != "Bearer Oracle" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		c.metadata(w, path)
		return
	}
	switch r.URL.Path {
	case "/v1/x509":
		c.login(w, r, raw)
	case "/20180608/encrypt", "/20180608/decrypt":
		var in map[string]string
		_ = json.Unmarshal(raw, &in)
		if err := checkOracle(r, raw, c.session, "ST$"+c.token, true); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ciphertext": rot(in["plaintext"]), "plaintext": rot(in["ciphertext"])})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *fakeCloud) metadata(w io.Writer, path string) {
	block := pem.Block{Type: "CERTIFICATE", Bytes: c.cert}
	switch path {
	case "/identity/key.pem":
		block = pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(c.key)}
	case "/identity/cert.pem", "/identity/intermediate.pem":
	default:
		return
	}
	_ = pem.Encode(w, &block)
}

func (c *fakeCloud) login(w http.ResponseWriter, r *http.Request, raw []byte) {
	sum := sha1.Sum(c.cert)
	id := "ocid1.tenancy/fed-x509/" + strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":")
	if err := checkOracle(r, raw, &c.key.PublicKey, id, false); err != nil || c.refuse {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"code":"NotAuthenticated","message":"no: %v"}`, err)
		return
	}
	var in struct {
		Certificate  []byte   `json:"certificate"`
		PublicKey    []byte   `json:"publicKey"`
		Intermediate [][]byte `json:"intermediateCertificates"`
	}
	err := json.Unmarshal(raw, &in)
	public, parsed := x509.ParsePKIXPublicKey(in.PublicKey)
	key, ok := public.(*rsa.PublicKey)
	if err != nil || parsed != nil || !ok || string(in.Certificate) != string(c.cert) || len(in.Intermediate) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.logins++
	claims := fmt.Sprintf(`{"exp":%d,"n":%d}`, time.Now().Add(c.life).Unix(), c.logins)
	c.session, c.token = key, "e30."+base64.RawURLEncoding.EncodeToString([]byte(claims))+".c2ln"
	_ = json.NewEncoder(w).Encode(map[string]string{"token": c.token})
}

func (c *fakeCloud) stanza() (getenv func(string) string, open func() error) {
	env := map[string]string{metadataEnv: c.url + "/opc/v2", identityEnv: c.url}
	getenv = func(n string) string { return env[n] }
	return getenv, func() error {
		c.t.Helper()
		_, err := must(c.t, getenv, stanza("ocikms", "key_id", "ocid1.key", "crypto_endpoint", c.url)).Encrypt(c.t.Context(), make([]byte, 32))
		return err
	}
}

func tenant(name string) pkix.Name {
	return pkix.Name{CommonName: "ocid1.instance", ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: name}}}
}

// TestOracleInstance is the machine to the cloud: one token serves many requests, and it says what is wrong.
func TestOracleInstance(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t, tenant("opc-tenant:ocid1.tenancy"))
	getenv, try := c.stanza()
	s := must(t, getenv, stanza("ocikms", "key_id", "ocid1.key", "crypto_endpoint", c.url))
	there(t, s)
	there(t, s)
	c.set(func() {
		if c.logins != 1 {
			t.Errorf("%d tokens for the requests of one seal", c.logins)
		}
	})
	c.set(func() { c.life = -time.Minute })
	if err := try(); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a token that has ended: %v", err)
	}
	c.set(func() { c.life, c.refuse = time.Hour, true })
	if err := try(); err == nil || !strings.Contains(err.Error(), "instance principal of this machine") {
		t.Errorf("refused: %v", err)
	}
	c.set(func() { c.refuse = false })
	if err := try(); err != nil {
		t.Errorf("when it is healed: %v", err)
	}
}

// TestOracleTenancy takes nothing that names no tenancy.
func TestOracleTenancy(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"opc-tenant:ocid1.tenancy": "", "opc-identity:ocid1.tenancy": "", "opc-tenant:": "names no tenancy", "ocid1.tenancy": "names no tenancy"} {
		_, try := newFakeCloud(t, tenant(name)).stanza()
		if err := try(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	for _, s := range []string{"", "a.b.c", "e30.eyJleHAiOjE3MDAwMDAwMDF9.x", "e30.eyJleHAiOi05MjIzMzcyMDM2ODU0Nzc1ODA4fQ.x", "e30.eyJleHAiOjkyMjMzNzIwMzY4NTQ3NzU4MDd9.x", "\"e30.e30.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		life, err := lifeOf(token, now)
		if err == nil && (life <= 0 || strings.ContainsAny(token, "\"\r\n")) {
			t.Errorf("%q lives %v", token, life)
		}
	})
}
