package kmip_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

func sorted(list []string) []string { slices.Sort(list); return list }

// A client speaks KMIP.
type client struct {
	t    testing.TB
	conn *tls.Conn
	ver  [2]int32
}

// certificate has the server issue one for a role, made with all its scope.
func certificate(t testing.TB, s *arcatest.Server, mount, scope, role string, flags map[string]any) (tls.Certificate, string) {
	t.Helper()
	s.Must("POST", mount+"/scope/"+scope, s.Root, nil)
	s.Must("POST", mount+"/scope/"+scope+"/role/"+role, s.Root, flags)
	data := arcatest.Dig(s.Must("POST", mount+"/scope/"+scope+"/role/"+role+"/credential/generate", s.Root, object{"format": "pem"}), "data").(object)
	pair, err := tls.X509KeyPair([]byte(data["certificate"].(string)), []byte(data["private_key"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	return pair, data["serial_number"].(string)
}

func settings(t testing.TB, s *arcatest.Server, mount string, certs ...tls.Certificate) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(arcatest.Dig(s.Must("GET", mount+"/ca", s.Root, nil), "data", "ca_pem").(string)))
	return &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs}
}

func dial(t testing.TB, address string, cfg *tls.Config) *client {
	t.Helper()
	conn, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t, conn, [2]int32{1, 4}}
}

func (c *client) send(raw []byte) ([]byte, error) {
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.conn.Write(raw); err != nil {
		return nil, err
	}
	header := make([]byte, ttlv.HeaderBytes)
	if _, err := io.ReadFull(c.conn, header); err != nil {
		return nil, err
	}
	n, err := ttlv.Length(header)
	if err != nil {
		return nil, err
	}
	out := make([]byte, n)
	copy(out, header)
	_, err = io.ReadFull(c.conn, out[len(header):])
	return out, err
}

type call struct {
	op      uint32
	payload []*ttlv.Node
}

func op(code uint32, payload ...*ttlv.Node) call { return call{code, payload} }

func (c *client) message(header []*ttlv.Node, calls ...call) []byte {
	h := ttlv.Struct(ttlv.TagRequestHeader, ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, c.ver[0]), ttlv.Int(ttlv.TagProtocolVersionMinor, c.ver[1])))
	h.Add(header...).Add(ttlv.Int(ttlv.TagBatchCount, int32(len(calls))))
	m := ttlv.Struct(ttlv.TagRequestMessage, h)
	for i, x := range calls {
		n := ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, x.op))
		if len(calls) > 1 {
			n.Add(ttlv.Bytes(ttlv.TagUniqueBatchItemID, []byte{byte(i)}))
		}
		m.Add(n.Add(ttlv.Struct(ttlv.TagRequestPayload, x.payload...)))
	}
	return m.Encode()
}

// batch sends operations and returns their answers' items.
func (c *client) batch(header []*ttlv.Node, calls ...call) []*ttlv.Node {
	c.t.Helper()
	raw, err := c.send(c.message(header, calls...))
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := ttlv.Decode(raw)
	if err != nil {
		c.t.Fatal(err)
	}
	return root.All(ttlv.TagBatchItem)
}

// do sends one operation and returns its payload, or the reason why it failed.
func (c *client) do(code uint32, payload ...*ttlv.Node) (*ttlv.Node, uint32) {
	c.t.Helper()
	items := c.batch(nil, op(code, payload...))
	if len(items) != 1 {
		c.t.Fatalf("%d answers", len(items))
	}
	return outcome(items[0])
}

func outcome(item *ttlv.Node) (*ttlv.Node, uint32) {
	if r := item.Get(ttlv.TagResultReason); r != nil {
		return item, uint32(r.Int)
	}
	return item.Get(ttlv.TagResponsePayload), 0
}

func (c *client) must(code uint32, payload ...*ttlv.Node) *ttlv.Node {
	c.t.Helper()
	out, reason := c.do(code, payload...)
	if reason != 0 {
		c.t.Fatalf("operation %d: reason %d: %s", code, reason, out.Get(ttlv.TagResultMessage).Text())
	}
	return out
}

func attr(name string, value *ttlv.Node) *ttlv.Node {
	return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), value.Retag(ttlv.TagAttributeValue))
}

func name(text string) *ttlv.Node {
	return attr("Name", ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, text), ttlv.Enum(ttlv.TagNameType, 1)))
}

func uid(id string) *ttlv.Node { return ttlv.Text(ttlv.TagUniqueIdentifier, id) }

func aes(mask uint32, more ...*ttlv.Node) []*ttlv.Node {
	t := ttlv.Struct(ttlv.TagTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)),
		attr("Cryptographic Length", ttlv.Int(0, 256)), attr("Cryptographic Usage Mask", ttlv.Int(0, int32(mask)))).Add(more...)
	return []*ttlv.Node{ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), t}
}

func (c *client) create(more ...*ttlv.Node) string {
	c.t.Helper()
	return c.must(ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, more...)...).Get(ttlv.TagUniqueIdentifier).Text()
}

func (c *client) state(id string) int64 {
	c.t.Helper()
	return c.must(ttlv.OperationGetAttributes, uid(id), ttlv.Text(ttlv.TagAttributeName, "State")).Get(ttlv.TagAttribute).Get(ttlv.TagAttributeValue).Int
}

func reason(code uint32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagRevocationReason, ttlv.Enum(ttlv.TagRevocationReasonCode, code))
}

var all = object{"operation_all": true}

// A key's life: made, found, got, activated, used, revoked, destroyed.
func TestLife(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(name("k1"), attr("x-app", ttlv.Text(0, "db")))
	if _, r := c.do(ttlv.OperationCreate, aes(12, name("k1"))...); r != ttlv.ResultReasonInvalidField {
		t.Errorf("the name comes twice: %d", r)
	}
	for _, criterion := range []*ttlv.Node{name("k1"), attr("x-app", ttlv.Text(0, "db")), attr("State", ttlv.Enum(0, ttlv.StatePreActive)), attr("Unique Identifier", ttlv.Text(0, id))} {
		if got := c.must(ttlv.OperationLocate, criterion).All(ttlv.TagUniqueIdentifier); len(got) != 1 || got[0].Text() != id {
			t.Errorf("located %v", got)
		}
	}
	if got := c.must(ttlv.OperationLocate, name("k2")); len(got.All(ttlv.TagUniqueIdentifier)) != 0 {
		t.Error("located what is not there")
	}
	key := c.must(ttlv.OperationGet, uid(id)).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	if len(key) != 32 {
		t.Fatalf("a key of %d bytes", len(key))
	}
	params := ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagBlockCipherMode, ttlv.BlockCipherModeGCM))
	if _, r := c.do(ttlv.OperationEncrypt, uid(id), params, ttlv.Bytes(ttlv.TagData, []byte("x"))); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("a pre-active key encrypts: %d", r)
	}
	c.must(ttlv.OperationActivate, uid(id))
	sealed := c.must(ttlv.OperationEncrypt, uid(id), params, ttlv.Bytes(ttlv.TagData, []byte("hello")))
	open := func() (*ttlv.Node, uint32) {
		return c.do(ttlv.OperationDecrypt, uid(id), params, sealed.Get(ttlv.TagData), sealed.Get(ttlv.TagIVCounterNonce), sealed.Get(ttlv.TagAuthenticatedEncryptionTag))
	}
	if out, r := open(); r != 0 || string(out.Get(ttlv.TagData).Bytes) != "hello" {
		t.Errorf("decrypted: %d", r)
	}
	sealed.Get(ttlv.TagData).Bytes[0] ^= 1
	if _, r := open(); r != ttlv.ResultReasonCryptographicFailure {
		t.Errorf("a changed text decrypts: %d", r)
	}
	if _, r := c.do(ttlv.OperationDestroy, uid(id)); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("an active key is destroyed: %d", r)
	}
	c.must(ttlv.OperationRevoke, uid(id), reason(ttlv.RevocationReasonCodeCessationOfOperation))
	if st := c.state(id); st != int64(ttlv.StateDeactivated) {
		t.Errorf("state %d", st)
	}
	c.must(ttlv.OperationDestroy, uid(id))
	if _, r := c.do(ttlv.OperationGet, uid(id)); r != ttlv.ResultReasonItemNotFound {
		t.Errorf("a destroyed key is given out: %d", r)
	}
	if got := c.must(ttlv.OperationLocate, name("k1")); len(got.All(ttlv.TagUniqueIdentifier)) != 0 {
		t.Error("a destroyed key is located")
	}
	c.create(name("k1")) // the name is free again
}

// S2-19, S2-23: what a role may not do is refused, at once when its flags change;
// Query lists no more than that.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", object{"operation_create": true, "operation_get": true, "operation_query": true})
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create()
	c.must(ttlv.OperationGet, uid(id))
	c.must(ttlv.OperationDiscoverVersions)
	if _, r := c.do(ttlv.OperationDestroy, uid(id)); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("destroy: %d", r)
	}
	var ops []int64
	for _, n := range c.must(ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryOperations)).All(ttlv.TagOperation) {
		ops = append(ops, n.Int)
	}
	if fmt.Sprint(ops) != "[1 10 24 30]" {
		t.Errorf("query lists %v", ops)
	}
	s.Must("POST", "kmip/scope/finance/role/accounting", s.Root, object{"operation_get": false, "operation_destroy": true})
	if _, r := c.do(ttlv.OperationGet, uid(id)); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("get, when it is not allowed any more: %d", r)
	}
	c.must(ttlv.OperationDestroy, uid(id))
}

// Another scope sees nothing, neither does another mount; who has no certificate,
// one that was revoked, or one that he made himself, is not served.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, serial := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(name("secret"))
	other, _ := certificate(t, s, "kmip", "hr", "people", all)
	stranger := dial(t, address, settings(t, s, "kmip", other))
	if _, r := stranger.do(ttlv.OperationGet, uid(id)); r != ttlv.ResultReasonItemNotFound {
		t.Errorf("another scope: %d", r)
	}
	if n := len(stranger.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)); n != 0 {
		t.Errorf("another scope sees %d objects", n)
	}
	stranger.create(name("secret")) // names are a scope's own

	second := freeAddress(t)
	s.Must("POST", "sys/mounts/kmip2", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip2/config", s.Root, object{"listen_addrs": second, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	foreign, _ := certificate(t, s, "kmip2", "finance", "accounting", all)
	refused := func(what string, cfg *tls.Config) {
		t.Helper()
		conn, err := tls.Dial("tcp", address, cfg)
		if err == nil { // in TLS 1.3 the refusal comes with the first read
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, err = (&client{t, conn, [2]int32{1, 4}}).send((&client{ver: [2]int32{1, 4}}).message(nil, op(ttlv.OperationDiscoverVersions)))
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s is served", what)
		}
	}
	refused("who has no certificate", settings(t, s, "kmip"))
	refused("a certificate of another mount", settings(t, s, "kmip", foreign))
	s.Must("POST", "kmip/scope/finance/role/accounting/credential/revoke", s.Root, object{"serial_number": serial})
	c.ends("a revoked certificate on an open connection")
	again := dial(t, address, settings(t, s, "kmip", cert))
	if _, r := again.do(ttlv.OperationDiscoverVersions); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("a revoked certificate: %d", r)
	}
	cert, _ = certificate(t, s, "kmip", "finance", "accounting", all)
	c = dial(t, address, settings(t, s, "kmip", cert))
	s.Must("DELETE", "kmip/scope/finance?force=true", s.Root, nil)
	c.ends("the scope was deleted")
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	s.Must("POST", "kmip/scope/finance/role/accounting", s.Root, all)
	c = dial(t, address, settings(t, s, "kmip", cert))
	if _, r := c.do(ttlv.OperationGet, uid(id)); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("a certificate of a scope that was deleted and made again: %d", r)
	}
}

// S2-22: a scope with objects is deleted by force only.
func TestDeleteScope(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	dial(t, address, settings(t, s, "kmip", cert)).create()
	if code, _ := s.Do("DELETE", "kmip/scope/finance", s.Root, nil); code != 400 {
		t.Errorf("deleted with an object in it: %d", code)
	}
	if out := arcatest.Dig(s.Must("GET", "kmip/scope/finance", s.Root, nil), "data").(object); fmt.Sprint(out["objects"], "/", out["roles"]) != "1/1" {
		t.Errorf("%v", out)
	}
	s.Must("DELETE", "kmip/scope/finance?force=true", s.Root, nil)
	if code, _ := s.Do("GET", "kmip/scope/finance", s.Root, nil); code != 404 {
		t.Errorf("still there: %d", code)
	}
}

// Batches: the placeholder, what happens after a failure, and Undo.
func TestBatches(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	items := c.batch(nil, op(ttlv.OperationCreate, aes(12, name("a"))...), op(ttlv.OperationActivate), op(ttlv.OperationGet))
	if len(items) != 3 {
		t.Fatalf("%d answers", len(items))
	}
	id := items[0].Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text()
	if items[2].Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text() != id || items[1].Get(ttlv.TagUniqueBatchItemID).Bytes[0] != 1 {
		t.Error("the placeholder, or an id, is lost")
	}
	count := func() int { return len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)) }
	failing := []call{op(ttlv.OperationCreate, aes(12)...), op(ttlv.OperationGet, uid("none")), op(ttlv.OperationCreate, aes(12)...)}
	for option, want := range map[uint32]struct{ answers, made int }{
		0: {2, 1}, ttlv.BatchErrorContinuationOptionStop: {2, 1}, ttlv.BatchErrorContinuationOptionContinue: {3, 2}, ttlv.BatchErrorContinuationOptionUndo: {2, 0},
	} {
		before := count()
		var header []*ttlv.Node
		if option != 0 {
			header = append(header, ttlv.Enum(ttlv.TagBatchErrorContinuationOption, option))
		}
		items := c.batch(header, failing...)
		if made := count() - before; len(items) != want.answers || made != want.made {
			t.Errorf("option %d: %d answers, %d made", option, len(items), made)
		}
		if option == ttlv.BatchErrorContinuationOptionUndo && items[0].Get(ttlv.TagResultStatus).Int != int64(ttlv.ResultStatusOperationUndone) {
			t.Error("an undone item does not say so")
		}
	}
	before := count()
	items = c.batch([]*ttlv.Node{ttlv.Int(ttlv.TagMaximumResponseSize, 150)}, op(ttlv.OperationCreate, aes(12)...))
	if _, r := outcome(items[0]); r != ttlv.ResultReasonResponseTooLarge || count() != before {
		t.Errorf("a response that is too large: %d, %d made", r, count()-before)
	}
}

// An item that fails leaves nothing behind, while the others of its batch count.
func TestFailedItems(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	taken := c.create(name("taken"), name("other"))
	half := func(tag ttlv.Tag, n string) *ttlv.Node {
		return ttlv.Struct(tag, attr("Cryptographic Usage Mask", ttlv.Int(0, 3)), name(n))
	}
	common := ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmECDSA)), attr("Cryptographic Length", ttlv.Int(0, 256)))
	limited := c.create(attr("Usage Limits", ttlv.Struct(0, ttlv.Long(ttlv.TagUsageLimitsTotal, 100), ttlv.Enum(ttlv.TagUsageLimitsUnit, 1))))
	c.must(ttlv.OperationActivate, uid(limited))
	count := func() int { return len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)) }
	before := count()
	items := c.batch([]*ttlv.Node{ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionContinue)},
		op(ttlv.OperationCreateKeyPair, common, half(ttlv.TagPrivateKeyTemplateAttribute, "fine"), half(ttlv.TagPublicKeyTemplateAttribute, "taken")),
		op(ttlv.OperationCreateKeyPair, common, half(ttlv.TagPrivateKeyTemplateAttribute, "same"), half(ttlv.TagPublicKeyTemplateAttribute, "same")),
		op(ttlv.OperationReKey, uid(taken), ttlv.Struct(ttlv.TagTemplateAttribute, attr("Cryptographic Length", ttlv.Int(0, 7)))),
		op(ttlv.OperationEncrypt, uid(limited), ttlv.Struct(ttlv.TagCryptographicParameters, ttlv.Enum(ttlv.TagBlockCipherMode, ttlv.BlockCipherModePCBC)), ttlv.Bytes(ttlv.TagData, make([]byte, 16))),
		op(ttlv.OperationCreate, aes(12, name("last"))...))
	for i, item := range items {
		if _, r := outcome(item); (r == 0) != (i == 4) {
			t.Errorf("item %d: reason %d", i, r)
		}
	}
	if made := count() - before; made != 1 {
		t.Errorf("%d objects were made", made)
	}
	if got := c.must(ttlv.OperationLocate, name("taken")).Get(ttlv.TagUniqueIdentifier); got == nil || got.Text() != taken {
		t.Error("a key that could not be re-keyed lost its name")
	}
	limits := c.must(ttlv.OperationGetAttributes, uid(limited), ttlv.Text(ttlv.TagAttributeName, "Usage Limits")).Get(ttlv.TagAttribute).Get(ttlv.TagAttributeValue)
	if limits.Get(ttlv.TagUsageLimitsCount).Int != 100 {
		t.Error("a use that failed was counted")
	}
	fresh := c.must(ttlv.OperationReKey, uid(taken)).Get(ttlv.TagUniqueIdentifier).Text()
	if got := c.must(ttlv.OperationLocate, name("taken")).All(ttlv.TagUniqueIdentifier); len(got) != 1 || got[0].Text() != fresh {
		t.Error("the name does not lead to the new key")
	}
}

// Of many clients that activate one key, one does it; keys made at once are all
// there.
func TestRaces(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	id := dial(t, address, cfg).create()
	won, lost, wait := make(chan struct{}, 100), make(chan struct{}, 100), sync.WaitGroup{}
	for i := range 20 {
		c := dial(t, address, cfg)
		wait.Go(func() {
			if _, r := c.do(ttlv.OperationActivate, uid(id)); r == 0 {
				won <- struct{}{}
			} else {
				lost <- struct{}{}
			}
			for j := range 5 {
				c.create(name(fmt.Sprint(i, "/", j)))
			}
		})
	}
	wait.Wait()
	if len(won) != 1 || len(lost) != 19 {
		t.Errorf("%d won, %d lost", len(won), len(lost))
	}
	c := dial(t, address, cfg)
	if n := len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)); n != 101 {
		t.Errorf("%d objects", n)
	}
	// Paging adds up.
	seen := map[string]bool{}
	for from := int32(0); from < 110; from += 7 {
		out := c.must(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, 7), ttlv.Int(ttlv.TagOffsetItems, from))
		if out.Get(ttlv.TagLocatedItems).Int != 101 {
			t.Errorf("%d located", out.Get(ttlv.TagLocatedItems).Int)
		}
		for _, n := range out.All(ttlv.TagUniqueIdentifier) {
			if seen[n.Text()] {
				t.Errorf("%s comes twice", n.Text())
			}
			seen[n.Text()] = true
		}
	}
	if len(seen) != 101 {
		t.Errorf("%d by pages", len(seen))
	}
}

// The mount's listeners follow it: sealed, moved, its addresses changed, unmounted.
func TestListenersFollow(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create()
	closed := func(what, address string) {
		t.Helper()
		await(t, what, func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
	}
	s.Must("PUT", "sys/seal", s.Root, nil)
	closed("the end of the listener of a sealed server", address)
	s.Unseal()
	await(t, "a listener after unsealing", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	c = dial(t, address, cfg)
	c.must(ttlv.OperationGet, uid(id))
	next := freeAddress(t)
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": []string{next}})
	dial(t, next, cfg).must(ttlv.OperationGet, uid(id))
	closed("the end of the former listener", address)
	c.must(ttlv.OperationGet, uid(id)) // a connection stays
	s.Must("POST", "sys/remount", s.Root, object{"from": "kmip", "to": "keys"})
	await(t, "the mount at its new place", func() bool {
		_, r := dial(t, next, cfg).do(ttlv.OperationGet, uid(id))
		return r == 0
	})
	s.Must("DELETE", "sys/mounts/keys", s.Root, nil)
	closed("the end of the listener of a mount that is gone", next)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// S2-28: an engine in a namespace.
func TestNamespace(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/admin", s.Root, nil)
	address := freeAddress(t)
	s.Must("POST", "admin/sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "admin/kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	cert, _ := certificate(t, s, "admin/kmip", "finance", "accounting", all)
	dial(t, address, settings(t, s, "admin/kmip", cert)).create()
	s.Must("DELETE", "sys/namespaces/admin", s.Root, nil)
	await(t, "the end of the listener with its namespace", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

// Every message is recorded, with what it is about, and without a key.
func TestAudit(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	file := t.TempDir() + "/audit.log"
	s.Must("PUT", "sys/audit/file", s.Root, object{"type": "file", "options": object{"file_path": file, "log_raw": "true"}})
	hashed := t.TempDir() + "/hashed.log"
	s.Must("PUT", "sys/audit/hashed", s.Root, object{"type": "file", "options": object{"file_path": hashed}})
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create()
	key := c.must(ttlv.OperationGet, uid(id)).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	// One device that has a record suffices for the answer: the other may be behind.
	await(t, "the records", func() bool { return strings.Contains(readFile(t, file), `"operations":["Get"]`) })
	log := readFile(t, file)
	for _, want := range []string{`"operations":["Create"]`, `"operations":["Get"]`, `"path":"kmip/protocol"`, id, `"scope":"finance"`, `"role":"accounting"`, `"client_certificate_fingerprint":"`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log", want)
		}
	}
	c.do(ttlv.OperationGet, uid("../nothing"))
	c.batch([]*ttlv.Node{ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionUndo)}, op(ttlv.OperationActivate, uid(id)), op(ttlv.OperationGet, uid("none")))
	await(t, "the record of what was undone", func() bool { return strings.Contains(readFile(t, hashed), `"status":"OperationUndone"`) })
	plain := readFile(t, hashed)
	for _, want := range []string{
		`"operations":["Create"]`, `"scope":"finance"`, `"role":"accounting"`, `"protocol_version":"1.4"`, `"unique_identifiers":["hmac-sha256:`,
		`"results":[{"operation":"Get","status":"Success","unique_identifiers":["hmac-sha256:`, `"status":"OperationFailed","reason":"ItemNotFound"`,
		`"results":[{"operation":"Activate","status":"OperationUndone"},{"operation":"Get","status":"OperationFailed","reason":"ItemNotFound"}]`,
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in the log", want)
		}
	}
	if strings.Contains(plain, id) || strings.Contains(plain, "nothing") {
		t.Errorf("an identifier is in the log in clear: %s", plain)
	}
	for _, text := range []string{log, plain} {
		if strings.Contains(text, fmt.Sprintf("%x", key)) {
			t.Error("a key is in the log")
		}
	}
}

// What is not a request in order is answered, or the connection closed; the server
// lives, and serves others as before.
func TestAbuse(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create(name("victim"))
	good := c.message(nil, op(ttlv.OperationGet, uid(id)))
	header := func(length uint32) []byte {
		return []byte{0x42, 0, 0x78, 1, byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}
	}
	deep := ttlv.Int(ttlv.TagBatchCount, 1)
	for range 10_000 {
		deep = ttlv.Struct(ttlv.TagBatchItem, deep)
	}
	items := make([]call, 5000)
	for i := range items {
		items[i] = op(ttlv.OperationDiscoverVersions)
	}
	criteria := make([]*ttlv.Node, 5000)
	for i := range criteria {
		criteria[i] = name("x")
	}
	count := func(n int32) []byte {
		raw := slices.Clone(good)
		at := bytes.Index(raw, []byte{0x42, 0, 0x0d, 2, 0, 0, 0, 4})
		copy(raw[at+8:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		return raw
	}
	var before runtime.MemStats
	runtime.GC() // what others have left does not count
	runtime.ReadMemStats(&before)
	for what, raw := range map[string][]byte{
		"HTTP": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "4 GiB": header(0xfffffff8), "256 MiB": header(256 << 20), "a length of 3": header(3),
		"nothing in it": header(0), "nesting": deep.Encode(), "many items": c.message(nil, items...), "many criteria": c.message(nil, op(ttlv.OperationLocate, criteria...)),
		"count 0": count(0), "count -1": count(-1), "count 2^31-1": count(1<<31 - 1), "a response": ttlv.Struct(ttlv.TagResponseMessage).Encode(),
		"an odd version":    (&client{ver: [2]int32{-1, 1 << 30}}).message(nil, op(ttlv.OperationDiscoverVersions)),
		"a long name":       c.message(nil, op(ttlv.OperationGet, uid(strings.Repeat("x", 20_000)))),
		"a path":            c.message(nil, op(ttlv.OperationGet, uid("../../config"))),
		"no such operation": c.message(nil, op(0x7fff, uid(id))), "random bytes": []byte("\x00\x01\x02\x03random bytes that are no header at all"),
	} {
		x := dial(t, address, cfg)
		if raw, err := x.send(raw); err == nil {
			root, err := ttlv.Decode(raw)
			if err != nil {
				t.Errorf("%s: the answer is not well-formed", what)
				continue
			}
			for _, item := range root.All(ttlv.TagBatchItem) {
				if _, r := outcome(item); r == 0 {
					t.Errorf("%s: success", what)
				}
			}
		} else if errors.Is(err, errTimeout) {
			t.Errorf("%s: %v", what, err)
		}
		c.must(ttlv.OperationGet, uid(id))
	}
	// One byte after the other is changed.
	rnd := rand.New(rand.NewPCG(1, 2))
	x := dial(t, address, cfg)
	for range 3000 {
		raw := slices.Clone(good)
		if rnd.IntN(2) == 0 {
			raw = c.message(nil, op(ttlv.OperationCreate, aes(12)...))
		}
		raw[ttlv.HeaderBytes+rnd.IntN(len(raw)-ttlv.HeaderBytes)] ^= byte(1 + rnd.IntN(255))
		if _, err := x.send(raw); err != nil {
			x = dial(t, address, cfg)
		}
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 100<<20 {
		t.Errorf("the memory in use grew by %d MiB", grown>>20)
	}
	c.must(ttlv.OperationGet, uid(id))
}

var errTimeout = errors.New("i/o timeout")
