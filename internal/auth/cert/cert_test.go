package cert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"arca/internal/arcatest"
)

// An identity is a certificate with its key.
type identity struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

var serial atomic.Int64

// issue makes a certificate signed by a parent, or by itself.
func issue(t *testing.T, name string, parent *identity, change func(*x509.Certificate)) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + serial.Add(1)), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"eng"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	signer, signKey := c, key
	if parent != nil {
		signer, signKey = parent.Certificate, parent.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, signer, key.Public(), signKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{out, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	c.ExtKeyUsage, c.DNSNames = nil, nil
}

func pemOf(ids ...*identity) string {
	var b bytes.Buffer
	for _, i := range ids {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: i.Raw}) // a buffer takes all
	}
	return b.String()
}

type site struct {
	*arcatest.Server
	t *testing.T
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{arcatest.New(t, arcatest.Config{}), t}
	s.Must("POST", "sys/auth/cert", s.Root, map[string]any{"type": "cert"})
	return s
}

// post sends a request over a connection with client certificates.
func (s *site) post(path, token string, body any, peers ...*identity) (int, map[string]any) {
	s.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/v1/"+path, bytes.NewReader(raw))
	r.Header.Set("X-Vault-Token", token)
	r.TLS = &tls.ConnectionState{}
	for _, p := range peers {
		r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, p.Certificate)
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil && w.Body.Len() > 0 {
		s.t.Fatal(err)
	}
	return w.Code, out
}

func (s *site) login(want int, what string, body map[string]any, peers ...*identity) map[string]any {
	s.t.Helper()
	code, out := s.post("auth/cert/login", "", body, peers...)
	if code != want {
		s.t.Errorf("%s: status %d: %v, want %d", what, code, out, want)
	}
	return out
}

// Who an authority has signed gets in, nobody else.
func TestAuthority(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	mid := issue(t, "mid", ca, authority)
	s.Must("POST", "auth/cert/certs/eng", s.Root, map[string]any{"certificate": pemOf(ca), "token_policies": "p", "allowed_organizational_units": "eng"})
	leaf := issue(t, "a.example.com", ca, nil)
	s.login(200, "signed by the authority", nil, leaf)
	s.login(200, "by name", map[string]any{"name": "ENG"}, leaf)
	below := issue(t, "b.example.com", mid, nil)
	s.login(200, "signed by one that it signed", nil, below, mid)
	s.login(400, "without the one between", nil, below)
	s.login(400, "by itself", nil, issue(t, "a.example.com", nil, nil))
	s.login(400, "by an authority of the same name", nil, issue(t, "a.example.com", issue(t, "ca", nil, authority), nil))
	s.login(400, "by a client", nil, issue(t, "x.example.com", leaf, nil), leaf)
	s.login(400, "of another unit", nil, issue(t, "c.example.com", ca, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"ops"} }))
	s.login(400, "too old", nil, issue(t, "d.example.com", ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	s.login(400, "for servers only", nil, issue(t, "e.example.com", ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	s.login(400, "no certificate", nil)
	many := []*identity{leaf}
	for range 10 {
		many = append(many, mid)
	}
	s.login(400, "too many certificates", nil, many...)
	// Another entry of the same authority serves whom the first does not.
	s.Must("POST", "auth/cert/certs/ops", s.Root, map[string]any{"certificate": pemOf(ca), "allowed_organizational_units": "ops", "token_policies": "q"})
	out := s.login(200, "of the other entry", nil, issue(t, "c.example.com", ca, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"ops"} }))
	if arcatest.Dig(out, "auth", "metadata", "cert_name") != "ops" {
		t.Errorf("by %v", out)
	}
}

// What an entry demands of names and extensions.
func TestConstraints(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	text, err := asn1.Marshal("blue")
	if err != nil {
		t.Fatal(err)
	}
	leaf := issue(t, "web.example.com", ca, func(c *x509.Certificate) {
		c.EmailAddresses = []string{"web@example.com"}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: text}}
	})
	for name, want := range map[string]int{
		`allowed_names=*.example.com`: 200, `allowed_names=other`: 400, `allowed_common_names=web.*`: 200, `allowed_common_names=x*`: 400,
		`allowed_dns_sans=web.example.com`: 200, `allowed_dns_sans=*.org`: 400, `allowed_email_sans=*@example.com`: 200, `allowed_email_sans=a@b`: 400,
		`allowed_uri_sans=*`: 400, `required_extensions=1.2.3.4:bl*`: 200, `required_extensions=1.2.3.4:red`: 400,
		`required_extensions=1.2.3.5:*`: 400, `required_extensions=hex:1.2.3.4:*626c7565`: 200, `required_extensions=hex:1.2.3.4:00`: 400,
	} {
		param, value, _ := bytes.Cut([]byte(name), []byte("="))
		s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{
			"certificate": pemOf(ca), "allowed_metadata_extensions": "1.2.3.4",
			"allowed_names": "", "allowed_common_names": "", "allowed_dns_sans": "", "allowed_email_sans": "", "allowed_uri_sans": "", "required_extensions": "",
		})
		s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{string(param): string(value)})
		out := s.login(want, name, nil, leaf)
		if want == 200 && arcatest.Dig(out, "auth", "metadata", "1-2-3-4") != "blue" {
			t.Errorf("metadata %v", out)
		}
	}
}

// Who a CRL revokes is out at once, at renewals too; who is not stays.
func TestCRL(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	good, bad := issue(t, "good", ca, nil), issue(t, "bad", ca, nil)
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"certificate": pemOf(ca)})
	out := s.login(200, "before", nil, bad)
	tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: bad.SerialNumber, RevocationTime: time.Now()}},
	}, ca.Certificate, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))
	s.Must("POST", "auth/cert/crls/one", s.Root, map[string]any{"crl": text})
	s.login(400, "revoked", nil, bad)
	s.login(200, "not revoked", nil, good)
	if code, _ := s.post("auth/token/renew-self", tok, nil, bad); code != 400 {
		t.Errorf("renewal of a revoked one: status %d", code)
	}
	read := s.Must("GET", "auth/cert/crls/one", s.Root, nil)
	if list, _ := arcatest.Dig(read, "data", "serials").(map[string]any); len(list) != 1 {
		t.Errorf("serials %v", read)
	}
	s.Must("DELETE", "auth/cert/crls/one", s.Root, nil)
	s.login(200, "after the CRL is gone", nil, bad)
}

// A CRL with a URL is fetched when it is written, and again when it is due; while its place is ill, the last one holds.
func TestCRLByURL(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	good, bad := issue(t, "good", ca, nil), issue(t, "bad", ca, nil)
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"certificate": pemOf(ca)})
	var text atomic.Pointer[[]byte]
	serve := func(revokes ...*identity) {
		var list []x509.RevocationListEntry
		for _, r := range revokes {
			list = append(list, x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: time.Now()})
		}
		crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), RevokedCertificateEntries: list,
		}, ca.Certificate, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		text.Store(&crl)
	}
	place := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if raw := text.Load(); raw != nil {
			_, _ = w.Write(*raw)
			return
		}
		http.Error(w, "ill", http.StatusInternalServerError)
	}))
	t.Cleanup(place.Close)
	for _, url := range []string{"ldap://x/y", "file:///etc/passwd", "http://", "https://user:pass@x/", place.URL} {
		if code, out := s.Do("POST", "auth/cert/crls/one", s.Root, map[string]any{"url": url}); code != 400 {
			t.Errorf("%s: %d %v", url, code, out)
		}
	}
	serve(bad)
	s.Must("POST", "auth/cert/crls/one", s.Root, map[string]any{"url": place.URL})
	s.login(400, "revoked", nil, bad)
	s.login(200, "not revoked", nil, good)
	read := s.Must("GET", "auth/cert/crls/one", s.Root, nil)
	if arcatest.Dig(read, "data", "cdp", "url") != place.URL || arcatest.Dig(read, "data", "serials", bad.SerialNumber.String()) == nil {
		t.Errorf("read: %v", read)
	}
	if code, _ := s.Do("POST", "auth/cert/crls-refresh/one", s.Root, nil); code != 404 && code != 405 {
		t.Errorf("what the runner does, by a client: %d", code)
	}
	s.Must("POST", "auth/cert/crls/one", s.Root, map[string]any{"crl": string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: *text.Load()}))})
	if read := s.Must("GET", "auth/cert/crls/one", s.Root, nil); arcatest.Dig(read, "data", "cdp") != nil {
		t.Errorf("a CRL by its text, after one by URL: %v", read)
	}
}

// An authority made by OpenSSL writes its name as UTF-8, also where a plainer
// encoding would do: its CRL revokes all the same.
func TestCRLOfUTF8Name(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	name, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("plain")}}}})
	if err != nil {
		t.Fatal(err)
	}
	ca := issue(t, "ca", nil, func(c *x509.Certificate) {
		authority(c)
		c.RawSubject = name
	})
	bad := issue(t, "bad", ca, nil)
	if !bytes.Equal(bad.RawIssuer, name) {
		t.Fatal("the name was written in another way")
	}
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"certificate": pemOf(ca)})
	s.login(200, "before", nil, bad)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: bad.SerialNumber, RevocationTime: time.Now()}},
	}, ca.Certificate, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	s.Must("POST", "auth/cert/crls/one", s.Root, map[string]any{"crl": string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))})
	s.login(400, "revoked", nil, bad)
	read := s.Must("GET", "auth/cert/crls/one", s.Root, nil)
	if arcatest.Dig(read, "data", "serials", bad.SerialNumber.String()) == nil {
		t.Errorf("serials %v", read)
	}
}

// An OCSP responder for tests: it answers as its answer says.
type responder struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[func(q *ocsp.Request) ([]byte, error)]
}

func newResponder(t *testing.T, answer func(q *ocsp.Request) ([]byte, error)) *responder {
	t.Helper()
	r := &responder{}
	r.answer.Store(&answer)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		raw, _ := io.ReadAll(req.Body)
		q, err := ocsp.ParseRequest(raw)
		if err != nil {
			return
		}
		out, err := (*r.answer.Load())(q)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(out) // the client sees what is missing
	}))
	t.Cleanup(r.Close)
	return r
}

// says is an answer signed by who brings their certificate along, or else by ca.
func says(ca, by *identity, status int, change func(*ocsp.Response)) func(q *ocsp.Request) ([]byte, error) {
	return func(q *ocsp.Request) ([]byte, error) {
		out := ocsp.Response{Status: status, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now()}
		if change != nil {
			change(&out)
		}
		if by == nil {
			return ocsp.CreateResponse(ca.Certificate, ca.Certificate, out, ca.key)
		}
		out.Certificate = by.Certificate
		return ocsp.CreateResponse(ca.Certificate, by.Certificate, out, by.key)
	}
}

// Who may answer for an authority, and for how long an answer holds.
func TestOCSPSigners(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	leaf := issue(t, "web", ca, nil)
	forAnswers := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
	for name, c := range map[string]struct {
		by     *identity
		change func(*ocsp.Response)
		want   int
	}{
		"the authority":       {nil, nil, 200},
		"who is named for it": {issue(t, "ocsp", ca, forAnswers), nil, 200},
		"a client of its own": {leaf, nil, 400},
		"another client":      {issue(t, "other", ca, nil), nil, 400},
		"another's":           {issue(t, "ocsp", issue(t, "ca", nil, authority), forAnswers), nil, 400},
		"named, but not any more": {issue(t, "ocsp", ca, func(c *x509.Certificate) {
			forAnswers(c)
			c.NotAfter = time.Now().Add(-time.Minute)
		}), nil, 400},
		"about another":   {nil, func(r *ocsp.Response) { r.SerialNumber = big.NewInt(1) }, 400},
		"old":             {nil, func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Minute) }, 400},
		"of tomorrow":     {nil, func(r *ocsp.Response) { r.ThisUpdate = time.Now().Add(time.Hour) }, 400},
		"undated":         {nil, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }, 200},
		"undated and old": {nil, func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = time.Now().Add(-48*time.Hour), time.Time{} }, 400},
	} {
		r := newResponder(t, says(ca, c.by, ocsp.Good, c.change))
		s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{"certificate": pemOf(ca), "ocsp_enabled": true, "ocsp_servers_override": r.URL})
		s.login(c.want, name, nil, leaf)
	}
}

// With ocsp_query_all_servers all must say that a certificate is good; retries are
// as many as the entry says; what is asked for one entry does for none other.
func TestOCSPServers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	leaf := issue(t, "web", ca, nil)
	good, bad := newResponder(t, says(ca, nil, ocsp.Good, nil)), newResponder(t, says(ca, nil, ocsp.Revoked, nil))
	broken := newResponder(t, func(*ocsp.Request) ([]byte, error) { return nil, io.EOF })
	entry := map[string]any{"certificate": pemOf(ca), "ocsp_enabled": true, "ocsp_max_retries": 2}
	try := func(want int, what string, all bool, servers ...string) {
		t.Helper()
		entry["ocsp_servers_override"], entry["ocsp_query_all_servers"] = append([]string{}, servers...), all
		s.Must("POST", "auth/cert/certs/one", s.Root, entry)
		s.login(want, what, nil, leaf)
	}
	try(200, "the first does", false, good.URL, bad.URL)
	try(400, "all, one says revoked", true, good.URL, bad.URL)
	try(400, "all, one is silent", true, good.URL, broken.URL)
	if n := broken.asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	try(200, "another helps", false, broken.URL, good.URL)
	try(200, "all agree", true, good.URL, good.URL+"/")
	try(400, "none there", false)
	// The first entry cannot be asked about, the second can.
	try(400, "broken", false, broken.URL)
	s.Must("POST", "auth/cert/certs/two", s.Root, map[string]any{"certificate": pemOf(ca), "ocsp_enabled": true, "ocsp_servers_override": good.URL})
	out := s.login(200, "by the second entry", nil, leaf)
	if got := arcatest.Dig(out, "auth", "metadata", "cert_name"); got != "two" {
		t.Errorf("logged in by %v", got)
	}
	s.login(400, "by the first only", map[string]any{"name": "one"}, leaf)
	if code, _ := s.Do("POST", "auth/cert/certs/one", s.Root, map[string]any{"ocsp_max_retries": 100}); code != 400 {
		t.Errorf("100 retries: %d", code)
	}
}

// Responders are asked, and believed only if they may be.
func TestOCSP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	leaf := issue(t, "web", ca, nil)
	var status, asked atomic.Int32
	var signer atomic.Pointer[identity]
	signer.Store(ca)
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if status.Load() < 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		raw, _ := io.ReadAll(r.Body)
		q, err := ocsp.ParseRequest(raw)
		if err != nil {
			return
		}
		by := signer.Load()
		answer, err := ocsp.CreateResponse(by.Certificate, by.Certificate, ocsp.Response{
			Status: int(status.Load()), SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now(),
		}, by.key)
		if err == nil {
			_, _ = w.Write(answer) // the client sees what is missing
		}
	}))
	defer responder.Close()
	entry := map[string]any{"certificate": pemOf(ca), "ocsp_enabled": true, "ocsp_servers_override": responder.URL}
	s.Must("POST", "auth/cert/certs/one", s.Root, entry)
	s.login(200, "good", nil, leaf)
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	status.Store(ocsp.Revoked)
	s.login(400, "revoked", nil, leaf)
	status.Store(ocsp.Unknown)
	s.login(400, "unknown", nil, leaf)
	status.Store(-1)
	s.login(400, "no answer", nil, leaf)
	s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{"ocsp_fail_open": true})
	s.login(200, "no answer, but fail open", nil, leaf)
	s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{"ocsp_fail_open": false})
	status.Store(ocsp.Good)
	other := issue(t, "ca", nil, authority)
	signer.Store(other)
	s.login(400, "signed by another", nil, leaf)
	s.Must("POST", "auth/cert/certs/one", s.Root, map[string]any{"ocsp_ca_certificates": pemOf(other)})
	s.login(200, "signed by one who may", nil, leaf)
}

// A token is renewed with the certificate that got it.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	with := func(id byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.SubjectKeyId = []byte{id} }
	}
	a, b := issue(t, "a", ca, with(1)), issue(t, "b", ca, with(2))
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"certificate": pemOf(ca), "token_policies": "p"})
	out := s.login(200, "a", nil, a)
	tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
	for _, c := range []struct {
		peers []*identity
		want  int
	}{{[]*identity{a}, 200}, {[]*identity{b}, 400}, {nil, 400}} {
		if code, out := s.post("auth/token/renew-self", tok, nil, c.peers...); code != c.want {
			t.Errorf("renewal: status %d: %v, want %d", code, out, c.want)
		}
	}
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"token_policies": "q"})
	if code, _ := s.post("auth/token/renew-self", tok, nil, a); code != 400 {
		t.Errorf("renewal after a change of policies: status %d", code)
	}
}

// A login that waits for its second factor is judged by the certificate with which it
// began, which need not come along again.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := issue(t, "ca", nil, authority)
	a := issue(t, "a", ca, nil)
	s.Must("POST", "auth/cert/certs/all", s.Root, map[string]any{"certificate": pemOf(ca), "token_policies": "p"})
	entity, _ := arcatest.Dig(s.login(200, "a", nil, a), "auth", "entity_id").(string)
	validate := s.SecondFactor("cert", entity)
	begin := func() string {
		id, _ := arcatest.Dig(s.login(200, "a", nil, a), "auth", "mfa_requirement", "mfa_request_id").(string)
		return id
	}
	if code, out := validate(begin()); code != 200 {
		t.Errorf("status %d: %v", code, out)
	}
	id := begin()
	s.Must("DELETE", "auth/cert/certs/all", s.Root, nil)
	if code, out := validate(id); code != 403 && code != 400 {
		t.Errorf("after the entry's end: status %d: %v", code, out)
	}
}

// A quota of an entry binds who logs in by it, whether it is named or found.
func TestQuotaOfEntry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca, other := issue(t, "ca", nil, authority), issue(t, "other", nil, authority)
	s.Must("POST", "auth/cert/certs/eng", s.Root, map[string]any{"certificate": pemOf(ca)})
	s.Must("POST", "auth/cert/certs/ops", s.Root, map[string]any{"certificate": pemOf(other)})
	leaf, free := issue(t, "a.example.com", ca, nil), issue(t, "b.example.com", other, nil)
	s.Must("POST", "sys/quotas/rate-limit/eng", s.Root, map[string]any{"path": "auth/cert", "role": "Eng", "rate": 1, "interval": "1h"})
	s.Must("POST", "sys/quotas/lease-count/ops", s.Root, map[string]any{"path": "auth/cert", "role": "ops", "max_leases": 1})
	s.login(200, "the first", nil, leaf)
	s.login(429, "without a name", nil, leaf)
	s.login(429, "by name", map[string]any{"name": "ENG"}, leaf)
	s.login(200, "by another entry", nil, free)
	s.login(429, "more leases than the other entry may have", nil, free)
	s.login(400, "without a certificate", nil)
}
