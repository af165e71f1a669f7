package kmip_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// ends wants the server to close the connection, though nothing is sent.
func (c *client) ends(what string) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		c.t.Errorf("%s: the connection goes on (%v)", what, err)
	}
}

// S2-21: what is taken away takes idle connections with it, and no others.
func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	stays, _ := certificate(t, s, "kmip", "finance", "stays", all)
	staying := dial(t, address, settings(t, s, "kmip", stays))
	staying.create()
	for what, take := range map[string]func(serial string){
		"certificate": func(serial string) {
			s.Must("POST", "kmip/scope/finance/role/goes/credential/revoke", s.Root, object{"serial_number": serial})
		},
		"role":  func(string) { s.Must("DELETE", "kmip/scope/finance/role/goes", s.Root, nil) },
		"scope": func(string) { s.Must("DELETE", "kmip/scope/other?force=true", s.Root, nil) },
	} {
		scope := "finance"
		if what == "scope" {
			scope = "other"
		}
		cert, serial := certificate(t, s, "kmip", scope, "goes", all)
		used, fresh := dial(t, address, settings(t, s, "kmip", cert)), dial(t, address, settings(t, s, "kmip", cert))
		used.create()
		take(serial)
		used.ends(what)
		fresh.ends(what + ", of a connection that was never used")
		staying.create()
	}
}

// A role, and an address, hold no more connections than they may.
func TestConnectionBounds(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	s.Must("POST", "kmip/config", s.Root, object{"max_connections_per_role": 2, "max_connections_per_address": 4})
	one, _ := certificate(t, s, "kmip", "finance", "one", all)
	two, _ := certificate(t, s, "kmip", "finance", "two", all)
	open := func(cert tls.Certificate) bool {
		conn, err := tls.Dial("tcp", address, settings(t, s, "kmip", cert))
		if err != nil {
			return false
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, err = (&client{t, conn, [2]int32{1, 4}}).send((&client{ver: [2]int32{1, 4}}).message(nil, op(ttlv.OperationDiscoverVersions)))
		return err == nil
	}
	soon := func(cert tls.Certificate) bool { // one that was refused goes in a moment
		for range 200 {
			if open(cert) {
				return true
			}
		}
		return false
	}
	got := fmt.Sprint(open(one), open(one), open(one), soon(two), soon(two))
	if got != "true true false true true" {
		t.Errorf("by role: %s", got)
	}
	if third, _ := certificate(t, s, "kmip", "finance", "three", all); open(third) {
		t.Error("a fifth connection from one address")
	}
	if code, _ := s.Do("POST", "kmip/config", s.Root, object{"max_connections": -1}); code != 400 {
		t.Errorf("a bound below 0: %d", code)
	}
}

// Those who connect and say nothing do not shut out others.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	for range 700 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	began := time.Now()
	dial(t, address, cfg).create()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to be served", took)
	}
}

// All attributes of an object together are bounded.
func TestObjectSize(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create()
	n := 0
	for ; n < 100; n++ {
		if _, r := c.do(ttlv.OperationAddAttribute, uid(id), attr("x-a", ttlv.Text(0, strings.Repeat("x", 60<<10)))); r != 0 {
			if r != ttlv.ResultReasonInvalidField {
				t.Errorf("refused for the reason %d", r)
			}
			break
		}
	}
	if n < 5 || n > 20 {
		t.Errorf("an object took %d attributes of 60 KiB", n)
	}
}

// Objects of one batch are located in the order in which they were made.
func TestOrder(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	calls := make([]call, 30)
	for i := range calls {
		calls[i] = op(ttlv.OperationCreate, aes(12)...)
	}
	var want, got []string
	for _, item := range c.batch(nil, calls...) {
		want = append(want, item.Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text())
	}
	for _, n := range c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier) {
		got = append(got, n.Text())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v\nwant %v", got, want)
	}
	date := attr("Initial Date", ttlv.Time(0, time.Now()))
	if _, r := c.do(ttlv.OperationLocate, date, date, date); r != ttlv.ResultReasonInvalidField {
		t.Errorf("three dates: %d", r)
	}
}

// GCM's tag may be short (NIST SP 800-38D, 5.2.1.2), with nonces of any length.
func TestShortTags(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(attr("Activation Date", ttlv.Time(0, time.Now())))
	data, extra := ttlv.Bytes(ttlv.TagData, []byte("hello")), ttlv.Bytes(ttlv.TagAuthenticatedEncryptionAdditionalData, []byte("more"))
	for _, nonce := range []int{8, 12, 60} {
		iv := ttlv.Bytes(ttlv.TagIVCounterNonce, bytes.Repeat([]byte{7}, nonce))
		var whole []byte
		for _, n := range []int32{16, 4, 8, 12, 13, 1, 5, 17} {
			params := ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagBlockCipherMode, ttlv.BlockCipherModeGCM), ttlv.Int(ttlv.TagTagLength, n))
			out, r := c.do(ttlv.OperationEncrypt, uid(id), params, data, iv, extra)
			if n == 1 || n == 5 || n == 17 {
				if r != ttlv.ResultReasonGeneralFailure {
					t.Errorf("a tag of %d bytes: %d", n, r)
				}
				continue
			}
			if r != 0 {
				t.Fatalf("a tag of %d bytes, a nonce of %d: %d", n, nonce, r)
			}
			tag := out.Get(ttlv.TagAuthenticatedEncryptionTag)
			if n == 16 {
				whole = tag.Bytes
			}
			if len(tag.Bytes) != int(n) || !bytes.HasPrefix(whole, tag.Bytes) {
				t.Errorf("the tag of %d bytes is %x, that of 16 %x", n, tag.Bytes, whole)
			}
			if back, r := c.do(ttlv.OperationDecrypt, uid(id), params, out.Get(ttlv.TagData), iv, extra, tag); r != 0 || string(back.Get(ttlv.TagData).Bytes) != "hello" {
				t.Errorf("a tag of %d bytes is not taken back: %d", n, r)
			}
			tag.Bytes[len(tag.Bytes)-1] ^= 1
			if _, r := c.do(ttlv.OperationDecrypt, uid(id), params, out.Get(ttlv.TagData), iv, extra, tag); r != ttlv.ResultReasonCryptographicFailure {
				t.Errorf("a wrong tag of %d bytes: %d", n, r)
			}
		}
	}
}

// RSA keys are made before the transaction of their message, each for one object.
func TestPairsOfOneBatch(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	pair := op(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmRSA)),
		attr("Cryptographic Length", ttlv.Int(0, 1024)), attr("Cryptographic Usage Mask", ttlv.Int(0, 3))))
	seen := map[string]bool{}
	for _, item := range c.batch(nil, pair, pair, op(ttlv.OperationReKeyKeyPair)) {
		out, r := outcome(item)
		if r != 0 {
			t.Fatal(r)
		}
		key := c.must(ttlv.OperationGet, uid(out.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text()))
		seen[string(key.Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes)] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different keys of 3", len(seen))
	}
}

var _ = arcatest.Dig
