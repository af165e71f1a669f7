package ldap_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"arca/internal/arcatest"
)

// A slapd is Debian's LDAP server, run by a test in a folder of its own.
type slapd struct {
	url, tlsURL, ca string
}

const people = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=ann,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: A
userPassword: correct

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
userPassword: other

dn: cn=Ops,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: Ops
member: uid=ann,ou=people,dc=example,dc=org

dn: cn=all,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: all
member: uid=ann,ou=people,dc=example,dc=org
member: uid=bob,ou=people,dc=example,dc=org
`

// certificate makes the server's own, which vouches for itself.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slapd"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	for name, content := range map[string][]byte{"cert.pem": text, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return string(text)
}

func startSlapd(t *testing.T) *slapd {
	t.Helper()
	const server, add, schema = "/usr/sbin/slapd", "/usr/sbin/slapadd", "/etc/ldap/schema/"
	for _, file := range []string{server, add, schema + "inetorgperson.schema"} {
		if _, err := os.Stat(file); err != nil {
			arcatest.Absent(t, "the package slapd is not installed: %v", err)
		}
	}
	dir := t.TempDir()
	s := &slapd{ca: certificate(t, dir)}
	conf := filepath.Join(dir, "slapd.conf")
	text := ""
	for _, name := range []string{"core", "cosine", "inetorgperson"} {
		text += "include " + schema + name + ".schema\n"
	}
	text += fmt.Sprintf(`pidfile %[1]s/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile %[1]s/cert.pem
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw lookup-secret
directory %[1]s/db
access to attrs=userPassword by self write by anonymous auth by * none
access to dn.children="ou=groups,dc=example,dc=org" by users read by * none
access to * by * read
`, dir)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := exec.Command(add, "-f", conf)
	fill.Stdin = strings.NewReader(people)
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	plain, secured := arcatest.FreePort(t), arcatest.FreePort(t)
	s.url, s.tlsURL = fmt.Sprintf("ldap://127.0.0.1:%d", plain), fmt.Sprintf("ldaps://127.0.0.1:%d", secured)
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	run := exec.CommandContext(ctx, server, "-f", conf, "-h", s.url+"/ "+s.tlsURL+"/", "-d", "0")
	run.Stdout, run.Stderr = &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = run.Wait() // it was killed
	})
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", secured))
		if err == nil {
			conn.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("slapd does not answer: %v\n%s", err, log.String())
		}
	}
}

type site struct {
	*arcatest.Server
	t *testing.T
}

func newSite(t *testing.T, config map[string]any) *site {
	t.Helper()
	s := &site{arcatest.New(t, arcatest.Config{}), t}
	s.Must("POST", "sys/auth/ldap", s.Root, map[string]any{"type": "ldap"})
	all := map[string]any{
		"userdn": "ou=people,dc=example,dc=org", "groupdn": "ou=groups,dc=example,dc=org", "userattr": "uid", "token_policies": "base",
		"binddn": "cn=admin,dc=example,dc=org", "bindpass": "lookup-secret", "request_timeout": 5, "connection_timeout": 5,
	}
	for k, v := range config {
		all[k] = v
	}
	s.Must("POST", "auth/ldap/config", s.Root, all)
	return s
}

func (s *site) login(want int, name, password string) map[string]any {
	s.t.Helper()
	code, out := s.Do("POST", "auth/ldap/login/"+name, "", map[string]any{"password": password})
	if code != want {
		s.t.Errorf("login of %q: status %d: %v, want %d", name, code, out, want)
	}
	return out
}

func policies(out map[string]any) string { return fmt.Sprint(arcatest.Dig(out, "auth", "policies")) }

// People log in against a real server, with the policies of their groups.
func TestLogin(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	s := newSite(t, map[string]any{"url": "ldap://127.0.0.1:1," + d.url})
	s.Must("POST", "auth/ldap/groups/OPS", s.Root, map[string]any{"policies": "operators"})
	s.Must("POST", "auth/ldap/groups/local", s.Root, map[string]any{"policies": "local"})
	s.Must("POST", "auth/ldap/users/Bob", s.Root, map[string]any{"policies": "bobs", "groups": "local"})
	ann := s.login(200, "ann", "correct")
	if got := policies(ann); got != "[base default operators]" {
		t.Errorf("ann has %s", got)
	}
	if got := policies(s.login(200, "bob", "other")); got != "[base bobs default local]" {
		t.Errorf("bob has %s", got)
	}
	s.login(400, "ann", "other")
	s.login(400, "ann", "")
	s.login(400, "nobody", "correct")
	// Names are names, not filters.
	for _, name := range []string{"*", "a*", "ann)(uid=*", "ann)(|(uid=bob", "ann%00", "uid=ann%2Cou=people%2Cdc=example%2Cdc=org", "%5C61nn"} {
		s.login(400, name, "correct")
	}
	out := s.Must("GET", "auth/ldap/config", s.Root, nil)
	if strings.Contains(fmt.Sprint(out), "lookup-secret") {
		t.Errorf("the configuration shows the password: %v", out)
	}
	// External groups follow the server's.
	mounts := s.Must("GET", "sys/auth", s.Root, nil)
	group := s.Must("POST", "identity/group", s.Root, map[string]any{"type": "external", "policies": "external"})
	s.Must("POST", "identity/group-alias", s.Root, map[string]any{
		"name": "ops", "mount_accessor": arcatest.Dig(mounts, "data", "ldap/", "accessor"), "canonical_id": arcatest.Dig(group, "data", "id"),
	})
	if got := policies(s.login(200, "ann", "correct")); got != "[base default external operators]" {
		t.Errorf("ann has %s", got)
	}
	// A token is renewed until policies change.
	tok, _ := arcatest.Dig(ann, "auth", "client_token").(string)
	s.Must("POST", "auth/token/renew-self", tok, nil)
	s.Must("POST", "auth/ldap/groups/ops", s.Root, map[string]any{"policies": "fewer"})
	if code, _ := s.Do("POST", "auth/token/renew-self", tok, nil); code != 400 {
		t.Errorf("renewal after a change: status %d", code)
	}
	// Too many wrong passwords lock the name, not others.
	for range 6 {
		s.Do("POST", "auth/ldap/login/ann", "", map[string]any{"password": "wrong"})
	}
	s.login(403, "ann", "correct")
	s.login(200, "bob", "other")
}

// admin is a connection with which a test changes the directory.
func (d *slapd) admin(t *testing.T) *goldap.Conn {
	t.Helper()
	conn, err := goldap.DialURL(d.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.Bind("cn=admin,dc=example,dc=org", "lookup-secret"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A renewal holds a token to what the server says of its user now, without the
// user's password, where somebody can look users up.
func TestRenewal(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	admin := d.admin(t)
	renew := func(s *site, out map[string]any, want int, what string) {
		t.Helper()
		tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
		if code, out := s.Do("POST", "auth/token/renew-self", tok, nil); code != want {
			t.Errorf("%s: status %d: %v, want %d", what, code, out, want)
		}
	}
	s := newSite(t, map[string]any{"url": d.url})
	alone := newSite(t, map[string]any{"url": d.url, "binddn": "", "bindpass": ""})
	for _, site := range []*site{s, alone} {
		site.Must("POST", "auth/ldap/groups/ops", site.Root, map[string]any{"policies": "operators"})
	}
	mounts := s.Must("GET", "sys/auth", s.Root, nil)
	group := s.Must("POST", "identity/group", s.Root, map[string]any{"type": "external", "policies": "external"})
	s.Must("POST", "identity/group-alias", s.Root, map[string]any{
		"name": "late", "mount_accessor": arcatest.Dig(mounts, "data", "ldap/", "accessor"), "canonical_id": arcatest.Dig(group, "data", "id"),
	})
	ann, bob, annAlone := s.login(200, "ann", "correct"), s.login(200, "bob", "other"), alone.login(200, "ann", "correct")
	late := goldap.NewAddRequest("cn=late,ou=groups,dc=example,dc=org", nil)
	late.Attribute("objectClass", []string{"groupOfNames"})
	late.Attribute("member", []string{"uid=bob,ou=people,dc=example,dc=org"})
	if err := admin.Add(late); err != nil {
		t.Fatal(err)
	}
	renew(s, bob, 200, "into a group without policies")
	tok, _ := arcatest.Dig(bob, "auth", "client_token").(string)
	self := s.Must("GET", "auth/token/lookup-self", tok, nil)
	if got := fmt.Sprint(arcatest.Dig(self, "data", "identity_policies")); got != "[external]" {
		t.Errorf("after a renewal bob has identity policies %s", got)
	}
	renew(s, ann, 200, "as it was")
	out := goldap.NewModifyRequest("cn=Ops,ou=groups,dc=example,dc=org", nil)
	out.Replace("member", []string{"uid=bob,ou=people,dc=example,dc=org"})
	if err := admin.Modify(out); err != nil {
		t.Fatal(err)
	}
	renew(s, ann, 400, "out of a group")
	renew(s, bob, 400, "into a group")
	renew(alone, annAlone, 200, "nobody can look up")
	bob = s.login(200, "bob", "other")
	renew(s, bob, 200, "with the groups of today")
	if err := admin.Del(goldap.NewDelRequest("uid=bob,ou=people,dc=example,dc=org", nil)); err != nil {
		t.Fatal(err)
	}
	renew(s, bob, 400, "gone")
	ann = s.login(200, "ann", "correct")
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"url": "ldap://127.0.0.1:1"})
	renew(s, ann, 503, "no server")
}

// A login that waits for its second factor keeps the groups that it saw: the server is not asked once more, which may show less to who asks
// without the user's password. What is stored here counts as it is when the token is made.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	begin := func(s *site, name, password string) string {
		id, _ := arcatest.Dig(s.login(200, name, password), "auth", "mfa_requirement", "mfa_request_id").(string)
		return id
	}
	for name, config := range map[string]map[string]any{
		"binddn": {"url": d.url}, "discoverdn": {"url": d.url, "binddn": "", "bindpass": "", "discoverdn": true},
	} {
		s := newSite(t, config)
		s.Must("POST", "auth/ldap/groups/ops", s.Root, map[string]any{"policies": "operators"})
		accessor, _ := arcatest.Dig(s.Must("GET", "sys/auth", s.Root, nil), "data", "ldap/", "accessor").(string)
		group, _ := arcatest.Dig(s.Must("POST", "identity/group", s.Root, map[string]any{"name": "x", "type": "external", "policies": "ext"}), "data", "id").(string)
		s.Must("POST", "identity/group-alias", s.Root, map[string]any{"name": "ops", "mount_accessor": accessor, "canonical_id": group})
		entity, _ := arcatest.Dig(s.login(200, "ann", "correct"), "auth", "entity_id").(string)
		validate := s.SecondFactor("ldap", entity)
		s.Must("POST", "identity/mfa/login-enforcement/ldap", s.Root, map[string]any{"mfa_method_ids": s.methods(), "identity_group_ids": group})
		id := begin(s, "ann", "correct")
		if id == "" {
			t.Fatalf("%s: it does not wait", name)
		}
		wrong := map[string]any{}
		for _, m := range s.methods() {
			wrong[m] = []string{"000000"}
		}
		if code, out := s.Do("POST", "sys/mfa/validate", "", map[string]any{"mfa_request_id": id, "mfa_payload": wrong}); code != 403 {
			t.Errorf("%s: a wrong code: status %d: %v", name, code, out)
		}
		code, out := validate(id)
		if code != 200 || policies(out) != "[base default ext operators]" {
			t.Errorf("%s: status %d: %v", name, code, out)
		}
		if got := arcatest.Dig(s.Must("GET", "identity/group/id/"+group, s.Root, nil), "data", "member_entity_ids"); fmt.Sprint(got) != "["+entity+"]" {
			t.Errorf("%s: members %v", name, got)
		}
	}
	s := newSite(t, map[string]any{"url": d.url, "binddn": "", "bindpass": ""})
	s.Must("POST", "auth/ldap/groups/ops", s.Root, map[string]any{"policies": "operators"})
	entity, _ := arcatest.Dig(s.login(200, "ann", "correct"), "auth", "entity_id").(string)
	validate := s.SecondFactor("ldap", entity)
	id := begin(s, "ann", "correct")
	s.Must("POST", "auth/ldap/groups/ops", s.Root, map[string]any{"policies": "fewer"})
	if code, out := validate(id); code != 400 {
		t.Errorf("after a change of policies: status %d: %v", code, out)
	}
}

// methods are the ids of the methods of login MFA.
func (s *site) methods() (ids []string) {
	list, _ := arcatest.Dig(s.Must("LIST", "identity/mfa/method/totp", s.Root, nil), "data", "keys").([]any)
	for _, id := range list {
		ids = append(ids, fmt.Sprint(id))
	}
	return ids
}

// What is not done is refused by name, and nothing changes.
func TestNoRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]any{"url": "ldap://127.0.0.1:1"})
	for _, body := range []map[string]any{{"password_policy": "p"}, {"rotation_period": "1h"}, {"rotation_schedule": "0 0 * * *"}} {
		body["userdn"] = "ou=other"
		if code, out := s.Do("POST", "auth/ldap/config", s.Root, body); code != 400 {
			t.Errorf("%v: status %d: %v", body, code, out)
		}
	}
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"password_policy": "", "rotation_period": 0})
	if dn := arcatest.Dig(s.Must("GET", "auth/ldap/config", s.Root, nil), "data", "userdn"); dn == "ou=other" {
		t.Error("a refused configuration was stored")
	}
}

// The password of binddn is changed to one that nobody knows, again and again, while people log in.
func TestRotateRoot(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	bob := "uid=bob,ou=people,dc=example,dc=org"
	s := newSite(t, map[string]any{"url": d.url, "binddn": bob, "bindpass": "other"})
	s.login(200, "ann", "correct")
	knows := func() bool {
		conn, err := goldap.DialURL(d.url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.Bind(bob, "other") == nil
	}
	if !knows() {
		t.Fatal("the password does not hold before it is rotated")
	}
	for range 3 {
		if code, out := s.Do("POST", "auth/ldap/config/rotate-root", s.Root, nil); code != 204 {
			t.Fatalf("status %d: %v", code, out)
		}
		if knows() {
			t.Error("the old password holds")
		}
		s.login(200, "ann", "correct")
	}
	done := make(chan int)
	for range 4 { // at once: each finds a password that holds
		go func() {
			code, _ := s.Do("POST", "auth/ldap/config/rotate-root", s.Root, nil)
			done <- code
		}()
	}
	for range 4 {
		if code := <-done; code != 204 && code != 503 && code != 400 {
			t.Errorf("status %d", code)
		}
	}
	s.login(200, "ann", "correct")
	// What is given counts again.
	reset := goldap.NewModifyRequest(bob, nil)
	reset.Replace("userPassword", []string{"given"})
	if err := d.admin(t).Modify(reset); err != nil {
		t.Fatal(err)
	}
	s.login(400, "ann", "correct")
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"bindpass": "given"})
	s.login(200, "ann", "correct")
	if code, out := s.Do("POST", "auth/ldap/config/rotate-root", s.Root, nil); code != 204 {
		t.Fatalf("status %d: %v", code, out)
	}
	s.login(200, "ann", "correct")
	out := fmt.Sprint(s.Must("GET", "auth/ldap/config", s.Root, nil))
	if strings.Contains(out, "pass:") || strings.Contains(out, "given") {
		t.Errorf("the configuration shows a password: %v", out)
	}
}

// Where nobody looks people up there is nothing to rotate.
func TestRotateNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]any{"url": "ldap://127.0.0.1:1", "binddn": "", "bindpass": ""})
	if code, out := s.Do("POST", "auth/ldap/config/rotate-root", s.Root, nil); code != 400 || !strings.Contains(fmt.Sprint(out), "no root to rotate") {
		t.Errorf("status %d: %v", code, out)
	}
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"binddn": "cn=a", "bindpass": "b"})
	if code, out := s.Do("POST", "auth/ldap/config/rotate-root", s.Root, nil); code != 503 {
		t.Errorf("no server: status %d: %v", code, out)
	}
}

// A user has one spelling, so that too many wrong passwords lock it out, and what
// is said of a user who is not there is what is said of a wrong password.
func TestSpellings(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	s := newSite(t, map[string]any{"url": d.url})
	for _, name := range []string{"%20ann", "ann%20", "ann%20%20", "a%E2%80%8Bnn", "%EF%BD%81nn", "an%C2%ADn", "ann%EF%B8%8F"} {
		s.login(400, name, "correct")
	}
	wrong, gone := s.login(400, "ann", "wrong"), s.login(400, "nobody", "wrong")
	if fmt.Sprint(wrong) != fmt.Sprint(gone) {
		t.Errorf("%v, but %v", wrong, gone)
	}
	for _, name := range []string{"Ann", "ANN", "aNN", "anN"} {
		s.login(400, name, "wrong")
	}
	s.login(403, "ann", "correct")
}

// Whose name the server does not tell without doubt does not log in, unless the
// name typed is to count.
func TestAlias(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	two := goldap.NewModifyRequest("uid=ann,ou=people,dc=example,dc=org", nil)
	two.Add("uid", []string{"anna"})
	if err := d.admin(t).Modify(two); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]any{"url": d.url})
	s.login(400, "ann", "correct")
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"username_as_alias": true})
	s.login(200, "ann", "correct")
}

// The ways to bind, and the protection of the connection.
func TestBindAndTLS(t *testing.T) {
	t.Parallel()
	d := startSlapd(t)
	for name, c := range map[string]struct {
		config map[string]any
		want   int
	}{
		"as the user":              {map[string]any{"url": d.url, "binddn": "", "bindpass": ""}, 200},
		"starttls":                 {map[string]any{"url": d.url, "starttls": true, "certificate": d.ca}, 200},
		"starttls, unknown server": {map[string]any{"url": d.url, "starttls": true}, 503},
		"ldaps":                    {map[string]any{"url": d.tlsURL, "certificate": d.ca}, 200},
		"ldaps, unknown server":    {map[string]any{"url": d.tlsURL}, 503},
		"ldaps, whoever it is":     {map[string]any{"url": d.tlsURL, "insecure_tls": true}, 200},
		"the wrong bindpass":       {map[string]any{"url": d.url, "bindpass": "wrong"}, 400},
		"another filter":           {map[string]any{"url": d.url, "userfilter": "(&(objectClass=person)({{.UserAttr}}={{.Username}}))"}, 200},
		"a filter for nobody":      {map[string]any{"url": d.url, "userfilter": "(uid=nobody)"}, 400},
		"a filter for all":         {map[string]any{"url": d.url, "userfilter": "(uid=*)"}, 400},
		"pages":                    {map[string]any{"url": d.url, "max_page_size": 1}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newSite(t, c.config).login(c.want, "ann", "correct")
		})
	}
}

// A filter that is a program is refused as it is written, and nothing changes.
func TestFilterIsNoProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]any{"url": "ldap://127.0.0.1:1", "userfilter": "({{ .UserAttr }}={{.Username}})"})
	for _, name := range []string{"userfilter", "groupfilter"} {
		for _, text := range []string{"(uid={{range 100000000000000}}{{end}})", `(uid={{printf "%01000000d" 1}})`, "(uid=" + strings.Repeat("a", 5000) + ")"} {
			code, out := s.Do("POST", "auth/ldap/config", s.Root, map[string]any{name: text})
			if code != 400 || !strings.Contains(fmt.Sprint(out["errors"]), name) {
				t.Errorf("%s %.40q: status %d: %v", name, text, code, out)
			}
		}
	}
	out := s.Must("GET", "auth/ldap/config", s.Root, nil)
	if got := arcatest.Dig(out, "data", "userfilter"); got != "({{ .UserAttr }}={{.Username}})" {
		t.Errorf("userfilter is now %v", got)
	}
}

// A server that hangs or talks nonsense holds up its own logins only.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nonsense := [][]byte{nil, []byte("HTTP/1.1 200 OK\r\n\r\n"), {0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0x30}, 1<<16)}
	go func() {
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(nonsense[i%len(nonsense)]) // whether it takes it or not
		}
	}()
	s := newSite(t, map[string]any{"url": "ldap://" + l.Addr().String(), "request_timeout": 1, "connection_timeout": 1})
	done := make(chan int)
	for range nonsense {
		go func() {
			code, _ := s.Do("POST", "auth/ldap/login/ann", "", map[string]any{"password": "correct"})
			done <- code
		}()
	}
	s.Must("GET", "auth/token/lookup-self", s.Root, nil)
	for range nonsense {
		if code := <-done; code < 400 {
			t.Errorf("status %d", code)
		}
	}
}
