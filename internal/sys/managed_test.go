package sys_test

import (
	"crypto/elliptic"
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/arcatest/kmstand"
	"arca/internal/core"
	"arca/internal/server/kms"
)

// managedServer is a server with managed keys.
func managedServer(t *testing.T) *arcatest.Server {
	t.Helper()
	return arcatest.New(t, arcatest.Config{Core: core.Config{Managed: kms.New(kms.Config{})}})
}

func awsKey(stand *kmstand.Service, more ...string) map[string]any {
	out := map[string]any{
		"access_key": kmstand.AccessKey, "secret_key": "wJalrXUtnFEMI", "endpoint": stand.URL, "kms_key": "alias/a", "key_type": "ecdsa", "curve": "P256",
	}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func errorsOf(out map[string]any) string { return fmt.Sprint(out["errors"]) }

func TestManagedKeys(t *testing.T) {
	t.Parallel()
	stand := kmstand.AWS(t)
	s := managedServer(t)
	if code, _ := s.Do("LIST", "sys/managed-keys/awskms", s.Root, nil); code != 404 {
		t.Errorf("a listing of nothing: %d", code)
	}
	if code, _ := s.Do("GET", "sys/managed-keys/awskms/one", s.Root, nil); code != 404 {
		t.Errorf("a key that is not there: %d", code)
	}
	for _, c := range []struct{ name, path, more, want string }{
		{"a type that is not known", "nosuch/one", "", "unsupported managed key type"},
		{"no key_type", "awskms/one", "key_type=", "missing key_type"},
		{"another key_type", "awskms/one", "key_type=DSA", "neither RSA nor ECDSA"},
		{"no bits", "awskms/one", "key_type=RSA", "key_bits"},
		{"another curve", "awskms/one", "curve=P192", "curve"},
		{"no key", "awskms/one", "kms_key=", "missing kms_key"},
		{"generated without an alias", "awskms/one", "kms_key=123 allow_generate_key=true", "must be an alias"},
		{"half of the credentials", "awskms/one", "secret_key=", "together"},
		{"another usage", "awskms/one", "usages=sing", "invalid usage"},
		{"usages of both kinds", "awskms/one", "key_type=rsa key_bits=2048 usages=sign,decrypt", "either signs or decrypts"},
		{"what decrypts with ECDSA", "awskms/one", "usages=decrypt", "do not decrypt"},
		{"another type's parameter", "awskms/one", "pin=1234", "no parameter of managed keys of type awskms"},
		{"an address that is none", "awskms/one", "endpoint=ftp://x", "no address"},
		{"an address with a password", "awskms/one", "endpoint=https://user:pa55word@x", "no password in it"},
		{"an address with a query that is empty", "awskms/one", "endpoint=https://x/latest/meta-data?", "no ?"},
		{"an address with a fragment that is empty", "awskms/one", "endpoint=https://x/latest/meta-data#", "no #"},
		{"a bad name", "awskms/-one", "", "name has lower-case letters"},
		{"without PKCS#11", "pkcs11/one", "", "PKCS#11"},
	} {
		body := awsKey(stand)
		for _, m := range strings.Fields(c.more) {
			k, v, _ := strings.Cut(m, "=")
			body[k] = v
		}
		if strings.HasPrefix(c.path, "pkcs11") {
			body = nil
			if kmstand.PKCS11 {
				continue
			}
		}
		code, out := s.Do("POST", "sys/managed-keys/"+c.path, s.Root, body)
		if code != 400 || !strings.Contains(errorsOf(out), c.want) || strings.Contains(errorsOf(out), "pa55word") {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
	}
	s.Must("POST", "sys/managed-keys/awskms/One", s.Root, awsKey(stand)) // names are lower-case
	got := s.Must("GET", "sys/managed-keys/awskms/one", s.Root, nil)["data"].(map[string]any)
	id := got["UUID"]
	delete(got, "UUID")
	want := map[string]any{
		"type": "awskms", "name": "one", "any_mount": false, "allow_generate_key": false, "allow_replace_key": false, "allow_store_key": false,
		"usages": "[sign verify]", "access_key": "redacted", "secret_key": "redacted", "curve": "P256", "endpoint": stand.URL, "key_bits": "",
		"key_type": "ECDSA", "kms_key": "alias/a", "region": "us-east-1",
	}
	got["usages"] = fmt.Sprint(got["usages"])
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if code, out := s.Do("POST", "sys/managed-keys/gcpckms/one", s.Root, map[string]any{}); code != 400 {
		t.Errorf("a name twice: %d %v", code, out)
	}
	s.Must("POST", "sys/managed-keys/awskms/one", s.Root, map[string]any{"any_mount": true}) // the rest stays
	got = s.Must("GET", "sys/managed-keys/awskms/one", s.Root, nil)["data"].(map[string]any)
	if got["UUID"] != id || got["any_mount"] != true || got["secret_key"] != "redacted" {
		t.Errorf("changed: %v", got)
	}
	if list := s.Must("LIST", "sys/managed-keys/awskms", s.Root, nil); fmt.Sprint(arcatest.Dig(list, "data", "keys")) != "[one]" {
		t.Errorf("listed: %v", list)
	}
	s.Must("POST", "sys/mounts/transit", s.Root, map[string]any{"type": "transit", "config": map[string]any{"allowed_managed_keys": "one"}})
	if m := s.Must("GET", "sys/mounts/transit", s.Root, nil); fmt.Sprint(arcatest.Dig(m, "data", "config", "allowed_managed_keys")) != "[one]" {
		t.Errorf("mount: %v", m)
	}
	if code, out := s.Do("DELETE", "sys/managed-keys/awskms/one", s.Root, nil); code != 400 || !strings.Contains(errorsOf(out), "transit/") {
		t.Errorf("deleted although a mount names it: %d %v", code, out)
	}
	s.Must("POST", "sys/mounts/transit/tune", s.Root, map[string]any{"allowed_managed_keys": ""})
	if out := s.Must("DELETE", "sys/managed-keys/awskms/one", s.Root, nil); !strings.Contains(fmt.Sprint(out["warnings"]), "neither sign nor decrypt any more") {
		t.Errorf("deleted, although each transit mount may use it: %v", out)
	}
	s.Must("POST", "sys/managed-keys/awskms/one", s.Root, awsKey(stand)) // its name is free
	if got := s.Must("GET", "sys/managed-keys/awskms/one", s.Root, nil); arcatest.Dig(got, "data", "UUID") == id {
		t.Error("another key has the same id")
	}
}

// A namespace's keys are its own, and use nothing of the server's.
func TestManagedKeysInNamespaces(t *testing.T) {
	t.Parallel()
	stand := kmstand.AWS(t)
	s := managedServer(t)
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	in := []string{"X-Vault-Namespace", "team"}
	s.Must("POST", "sys/managed-keys/awskms/one", s.Root, awsKey(stand))
	if code, _ := s.Do("GET", "sys/managed-keys/awskms/one", s.Root, nil, in...); code != 404 {
		t.Errorf("the root's key is there: %d", code)
	}
	body := awsKey(stand)
	delete(body, "access_key")
	delete(body, "secret_key")
	code, out := s.Do("POST", "sys/managed-keys/awskms/one", s.Root, body, in...)
	if code != 400 || !strings.Contains(errorsOf(out), "root namespace") {
		t.Errorf("the server's own credentials: %d %v", code, out)
	}
	s.Must("POST", "sys/managed-keys/awskms/two", s.Root, body) // in the root, the server's
	s.Must("POST", "sys/managed-keys/awskms/one", s.Root, awsKey(stand), in...)
	if code, out := s.Do("POST", "sys/managed-keys/awskms/one", s.Root, map[string]any{"access_key": "", "secret_key": ""}, in...); code != 400 {
		t.Errorf("taken away again: %d %v", code, out)
	}
	s.Must("DELETE", "sys/namespaces/team", s.Root, nil)
}

func TestManagedKeysSigning(t *testing.T) {
	t.Parallel()
	stand := kmstand.AWS(t)
	s := managedServer(t)
	stand.Add("arn:ec", "alias/a", "SIGN_VERIFY", kmstand.EC(t, elliptic.P256()))
	stand.Add("arn:ec384", "alias/b", "SIGN_VERIFY", kmstand.EC(t, elliptic.P384()))
	stand.Add("arn:rsa", "alias/rsa", "SIGN_VERIFY", kmstand.RSA(t, 2048))
	stand.Add("arn:dec", "alias/dec", "ENCRYPT_DECRYPT", kmstand.RSA(t, 2048))
	s.Must("POST", "sys/managed-keys/awskms/ec", s.Root, awsKey(stand))
	s.Must("POST", "sys/managed-keys/awskms/wrong", s.Root, awsKey(stand, "kms_key", "alias/b"))
	s.Must("POST", "sys/managed-keys/awskms/ec384", s.Root, awsKey(stand, "kms_key", "alias/b", "curve", "P384"))
	s.Must("POST", "sys/managed-keys/awskms/rsa", s.Root, awsKey(stand, "kms_key", "alias/rsa", "key_type", "RSA", "key_bits", "2048", "curve", ""))
	s.Must("POST", "sys/managed-keys/awskms/dec", s.Root, awsKey(stand, "kms_key", "alias/dec", "key_type", "RSA", "key_bits", "2048", "usages", "encrypt,decrypt"))
	s.Must("POST", "sys/managed-keys/awskms/nosuch", s.Root, awsKey(stand, "kms_key", "alias/nosuch"))
	s.Must("POST", "sys/managed-keys/awskms/closed", s.Root, awsKey(stand, "kms_key", "arn:closed", "access_key", "AKIAOTHER"))
	s.Must("POST", "sys/managed-keys/awskms/new", s.Root, awsKey(stand, "kms_key", "alias/new", "allow_generate_key", "true"))
	sign := func(name string, more map[string]any) (int, string) {
		t.Helper()
		code, out := s.Do("POST", "sys/managed-keys/awskms/"+name+"/test/sign", s.Root, more)
		return code, errorsOf(out)
	}
	for _, c := range []struct {
		name string
		more map[string]any
		code int
		want string
	}{
		{"ec", nil, 204, ""},
		{"ec384", nil, 204, ""}, // its own hash
		{"ec384", map[string]any{"hash_algorithm": "sha2-256"}, 400, "SHA-384 only"},
		{"rsa", nil, 204, ""},
		{"rsa", map[string]any{"use_pss": true, "hash_algorithm": "sha2-512"}, 204, ""},
		{"rsa", map[string]any{"hash_algorithm": "sha1"}, 400, "sha2-256"},
		{"rsa", map[string]any{"hash_algorithm": "md5"}, 400, "unsupported hash_algorithm"},
		{"wrong", nil, 400, "configured as ECDSA over P-256"},
		{"dec", nil, 400, "do not include sign"},
		{"nosuch", nil, 400, "NotFoundException"},
		{"closed", nil, 400, "AccessDeniedException: User: somebody"},
		{"absent", nil, 404, ""},
		{"new", nil, 204, ""},
		{"new", nil, 204, ""},
	} {
		if code, text := sign(c.name, c.more); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s %v: %d %s", c.name, c.more, code, text)
		}
	}
	if n := stand.Calls("CreateKey"); n != 1 {
		t.Errorf("%d keys were generated", n)
	}
	for _, c := range []struct {
		mood string
		code int
		want string
	}{
		{kmstand.Down, 503, "answers 503"},
		{kmstand.Babbles, 503, "JSON"},
		{kmstand.Empty, 400, "usage"},
		{kmstand.Throttle, 503, "ThrottlingException"},
		{kmstand.Lies, 500, "no signature"},
		{kmstand.Forbids, 400, "AccessDenied"},
		{kmstand.Well, 204, ""},
	} {
		stand.Mood(c.mood)
		if code, text := sign("ec", nil); code != c.code || !strings.Contains(text, c.want) || strings.Contains(text, "wJalr") {
			t.Errorf("%s: %d %s", c.mood, code, text)
		}
	}
	if !strings.Contains(stand.Seen(), "/us-east-1/kms/aws4_request") {
		t.Error("requests are not signed for KMS")
	}
}
