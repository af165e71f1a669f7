package kmip_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// Chapter 14 of the requirements, beside TestAbuse: what is wrong in one field of a message, many at
// once of what costs most, and certificates that are not what they seem.

// promptly is how soon what is bad is answered, or its connection closed.
const promptly = 5 * time.Second

// raw is a TTLV field of which nothing is right by itself.
func rawField(tag ttlv.Tag, typ byte, length uint32, value ...byte) []byte {
	out := []byte{byte(tag >> 16), byte(tag >> 8), byte(tag), typ}
	return append(binary.BigEndian.AppendUint32(out, length), value...)
}

// around puts bytes into a request for Get where its payload is, all lengths of what is around them being right.
func (c *client) around(payload []byte) []byte {
	good := c.message(nil, op(ttlv.OperationGet))
	at := bytes.LastIndex(good, []byte{0x42, 0, 0x79, 1})
	item := bytes.LastIndex(good, []byte{0x42, 0, 0x0f, 1})
	out := append(bytes.Clone(good[:at+ttlv.HeaderBytes]), payload...)
	for _, start := range []int{0, item, at} {
		binary.BigEndian.PutUint32(out[start+4:], uint32(len(out)-start-ttlv.HeaderBytes))
	}
	return out
}

// Each field that is not as it must be is refused, soon, and nothing comes of it.
func TestHostileFields(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create(name("victim"))
	bad := map[string][]byte{}
	for typ := byte(2); typ <= 11; typ++ { // those of a fixed length, and big integers
		fixed := map[byte]int{2: 4, 3: 8, 5: 4, 6: 8, 9: 8, 10: 4, 11: 8}[typ]
		for length := range 17 {
			if typ == 7 || typ == 8 || length == fixed || typ == 4 && length%8 == 0 && length > 0 {
				continue
			}
			bad[fmt.Sprintf("type %d of %d bytes", typ, length)] = c.around(rawField(ttlv.TagUniqueIdentifier, typ, uint32(length), make([]byte, (length+7)/8*8)...))
		}
	}
	for _, typ := range []byte{0, 12, 0x7f, 0xff} {
		bad[fmt.Sprintf("type %d", typ)] = c.around(rawField(ttlv.TagUniqueIdentifier, typ, 8, make([]byte, 8)...))
	}
	for _, typ := range []byte{1, 7, 8} {
		for _, length := range []uint32{9, 17, 256 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 8, 1<<32 - 1} {
			bad[fmt.Sprintf("type %d of %d bytes, of which there are 8", typ, length)] = c.around(rawField(ttlv.TagUniqueIdentifier, typ, length, make([]byte, 8)...))
		}
	}
	for _, length := range []uint32{1, 4, 7, 12} {
		bad[fmt.Sprintf("a structure of %d bytes", length)] = c.around(rawField(ttlv.TagUniqueIdentifier, 1, length, make([]byte, 16)...))
	}
	for what, text := range map[string]string{"invalid UTF-8": "\xff\xfe", "half a character": "a\xe2\x82", "a surrogate": "\xed\xa0\x80", "NUL": "a\x00b"} {
		bad[what] = c.around(ttlv.Text(ttlv.TagUniqueIdentifier, text).Encode())
	}
	for _, text := range []string{"", "*", "%", "/", ".", "..", "../../config", id + "/", id + "/../" + id, " " + id, strings.ToUpper(id) + "x", strings.Repeat("x", 20_000)} {
		bad[fmt.Sprintf("the identifier %.20q", text)] = c.message(nil, op(ttlv.OperationGet, uid(text)))
	}
	for _, tag := range []ttlv.Tag{0x420000, 0x42ffff, 0x540003, ttlv.TagBatchItem} {
		bad["the tag "+tag.String()] = c.message(nil, op(ttlv.OperationGet, uid(id), ttlv.Int(tag, 1)))
	}
	bad["a tag of nobody"] = c.around(rawField(0x430001, 2, 4, make([]byte, 8)...))
	for _, value := range []uint32{0, 0x7fffffff, 1 << 31, 1<<32 - 1} {
		bad[fmt.Sprintf("the operation %d", value)] = c.message(nil, op(value, uid(id)))
		bad[fmt.Sprintf("the object type %d", value)] = c.message(nil, op(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, value), aes(12)[1]))
		bad[fmt.Sprintf("the key format %d", value)] = c.message(nil, op(ttlv.OperationGet, uid(id), ttlv.Enum(ttlv.TagKeyFormatType, value)))
		bad[fmt.Sprintf("the option %d", value)] = c.message([]*ttlv.Node{ttlv.Enum(ttlv.TagBatchErrorContinuationOption, value)}, op(ttlv.OperationGet, uid(id)))
	}
	for _, v := range [][2]int32{{0, 0}, {0, 9}, {1, 5}, {1, -1}, {-1, 4}, {2, 2}, {3, 0}, {1<<31 - 1, 1<<31 - 1}, {-1 << 31, -1 << 31}} {
		bad[fmt.Sprintf("version %d.%d", v[0], v[1])] = (&client{ver: v}).message(nil, op(ttlv.OperationGet, uid(id)))
	}
	good := c.message(nil, op(ttlv.OperationGet, uid(id)))
	for _, tag := range []ttlv.Tag{ttlv.TagResponseMessage, ttlv.TagBatchItem, 0x540001} {
		raw := bytes.Clone(good)
		raw[0], raw[1], raw[2] = byte(tag>>16), byte(tag>>8), byte(tag)
		bad["a message that is "+tag.String()] = raw
	}
	deep := []byte{}
	for n := range uint32(60_000) {
		deep = append(deep, rawField(ttlv.TagTemplateAttribute, 1, 8*(60_000-1-n))...)
	}
	bad["60,000 levels"] = c.around(deep)
	for what, raw := range bad {
		if refused := refusal(t, address, cfg, raw); refused != "" {
			t.Errorf("%s: %s", what, refused)
		}
	}
	c.must(ttlv.OperationGet, uid(id))
	if n := len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)); n != 1 {
		t.Errorf("%d objects", n)
	}
}

// refusal sends a message on a connection of its own; "" is that it is refused as it must be.
func refusal(t *testing.T, address string, cfg *tls.Config, raw []byte) string {
	t.Helper()
	x := dial(t, address, cfg)
	defer x.conn.Close()
	began := time.Now()
	out, err := x.send(raw)
	if took := time.Since(began); took > promptly {
		return fmt.Sprintf("it took %s (%v)", took, err)
	}
	if err != nil {
		return "" // closed
	}
	root, err := ttlv.Decode(out)
	if err != nil {
		return "the answer is not well-formed"
	}
	items := root.All(ttlv.TagBatchItem)
	for _, item := range items {
		if _, r := outcome(item); r == 0 {
			return "success"
		}
	}
	if len(items) == 0 {
		return "an answer without a reason"
	}
	return ""
}

// What is cut off ends its connection as soon as no more can come, and who says nothing in TLS, or
// speaks something else, is not waited for longer than a handshake takes.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create()
	good := c.message(nil, op(ttlv.OperationGet, uid(id)))
	over := func(conn net.Conn) string {
		began := time.Now()
		_ = conn.SetReadDeadline(began.Add(20 * time.Second))
		n, err := conn.Read(make([]byte, 1<<10))
		for err == nil { // an alert, say
			_, err = conn.Read(make([]byte, 1<<10))
		}
		if took := time.Since(began); took > promptly {
			return fmt.Sprintf("%d bytes after %s (%v)", n, took, err)
		}
		return ""
	}
	for cut := 1; cut < len(good); cut += 5 {
		x := dial(t, address, cfg)
		if _, err := x.conn.Write(good[:cut]); err != nil {
			t.Fatal(err)
		}
		if err := x.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if wrong := over(x.conn); wrong != "" {
			t.Errorf("cut after %d bytes: %s", cut, wrong)
		}
	}
	for what, raw := range map[string][]byte{"TTLV without TLS": good, "HTTP without TLS": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "random bytes": bytes.Repeat([]byte{0x16, 3, 1, 0xff, 0xff, 7}, 100)} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		if what == "random bytes" { // a record that has only begun may go on until the handshake's time is over
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		if wrong := over(conn); wrong != "" {
			t.Errorf("%s: %s", what, wrong)
		}
		_ = conn.Close()
	}
	c.must(ttlv.OperationGet, uid(id))
}

// A hundred at once of what costs most do not take the memory, beside what they have sent in messages that are
// not too large, and others are served meanwhile. What waits for the collector does not count, as far as that can be.
func TestHostileCrowds(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create()
	good := c.message(nil, op(ttlv.OperationGet, uid(id)))
	criteria := make([]*ttlv.Node, 5000)
	for i := range criteria {
		criteria[i] = name(fmt.Sprint("x", i))
	}
	items := make([]call, 5000)
	for i := range items {
		items[i] = op(ttlv.OperationDiscoverVersions)
	}
	wide := []byte{} // as many values as there is room for
	for range (1<<20 - 1<<10) / 16 {
		wide = append(wide, rawField(ttlv.TagBatchCount, 2, 4, make([]byte, 8)...)...)
	}
	large := append([]byte{}, rawField(ttlv.TagRequestMessage, 1, 16<<20-8)...)
	for _, crowd := range []struct {
		what  string
		n     int
		raw   []byte
		waits bool // nothing comes back before the message is whole
	}{
		{"who announce 256 MiB", 60, rawField(ttlv.TagRequestMessage, 1, 256<<20), false},
		{"who send 16 MiB", 100, append(large, make([]byte, 16<<20-8)...), false},
		{"who send slowly", 60, good[:len(good)-1], true},
		{"who send half of 1 MiB", 100, append(rawField(ttlv.TagRequestMessage, 1, 1<<20-8), make([]byte, 512<<10)...), true},
		{"who are idle", 300, nil, true},
		{"with 5,000 criteria", 100, c.message(nil, op(ttlv.OperationLocate, criteria...)), false},
		{"with 5,000 items", 100, c.message(nil, items...), false},
		{"with as many values as there is room for", 100, c.around(wide), false},
	} {
		peak := watchMemory()
		var wait sync.WaitGroup
		conns := make([]*client, crowd.n)
		for i := range conns {
			conns[i] = dial(t, address, cfg)
		}
		for _, x := range conns {
			wait.Go(func() {
				_ = x.conn.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := x.conn.Write(crowd.raw); err == nil && !crowd.waits {
					_, _ = x.conn.Read(make([]byte, 1))
				}
			})
		}
		for range 20 {
			began := time.Now()
			c.must(ttlv.OperationGet, uid(id))
			if took := time.Since(began); took > promptly {
				t.Errorf("%s: another is served after %s", crowd.what, took)
			}
		}
		wait.Wait()
		sent := 0
		if len(crowd.raw) <= 1<<20 {
			sent = crowd.n * len(crowd.raw)
		}
		grown := peak()
		t.Logf("%d %s: %d MiB of memory, %d MiB were sent", crowd.n, crowd.what, grown>>20, sent>>20)
		if grown > 100<<20+int64(sent) {
			t.Errorf("%d %s take too much memory", crowd.n, crowd.what)
		}
		for _, x := range conns {
			_ = x.conn.Close()
		}
	}
}

// watchMemory has the memory in use looked at until what it returns is called, which tells how much it grew at most.
func watchMemory() (grown func() int64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := int64(m.HeapInuse+m.StackInuse), int64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, int64(m.HeapInuse+m.StackInuse)-before)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() int64 { close(stop); <-done; return most }
}

// Certificates that are not what they seem, and those that have been something, are not served; who is served
// learns nothing of another scope, whatever he asks for.
func TestHostileCertificates(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	cfg := settings(t, s, "kmip", cert)
	id := dial(t, address, cfg).create(name("secret"))
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: leaf.Issuer, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, IsCA: true, BasicConstraintsValid: true}
	like := &x509.Certificate{
		SerialNumber: leaf.SerialNumber, RawSubject: leaf.RawSubject, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage,
		AuthorityKeyId: leaf.AuthorityKeyId,
	}
	forged := func(parent *x509.Certificate) tls.Certificate {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, like, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: append([][]byte{der}, cert.Certificate[1:]...), PrivateKey: key}
	}
	for what, cert := range map[string]tls.Certificate{
		"signed by itself":                 forged(like),
		"of an issuer of the same name":    forged(issuer),
		"another's, without its key":       {Certificate: cert.Certificate, PrivateKey: key},
		"one with an empty subject":        {Certificate: [][]byte{selfSigned(t, key, pkix.Name{})}, PrivateKey: key},
		"one of the authority's own names": {Certificate: [][]byte{selfSigned(t, key, leaf.Issuer)}, PrivateKey: key},
	} {
		cfg := cfg.Clone()
		cfg.Certificates, cfg.GetClientCertificate = nil, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil } // also one that the server does not ask for
		conn, err := tls.Dial("tcp", address, cfg)
		if err == nil {
			c := &client{t, conn, [2]int32{1, 4}}
			_, err = c.send(c.message(nil, op(ttlv.OperationGet, uid(id))))
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: it is served", what)
		}
	}

	s.Must("POST", "kmip/scope/finance/role/short", s.Root, object{"operation_all": true, "tls_client_ttl": "3s"})
	short, _ := certificate(t, s, "kmip", "finance", "short", nil)
	open := dial(t, address, settings(t, s, "kmip", short))
	open.must(ttlv.OperationGet, uid(id))
	open.ends("a certificate that has ended, on an open connection")
	await(t, "the end of a certificate for new connections", func() bool {
		conn, err := tls.Dial("tcp", address, settings(t, s, "kmip", short))
		if err != nil {
			return true
		}
		defer conn.Close()
		c := &client{t, conn, [2]int32{1, 4}}
		out, err := c.send(c.message(nil, op(ttlv.OperationGet, uid(id))))
		if err != nil {
			return true
		}
		root, err := ttlv.Decode(out)
		if err != nil {
			t.Fatal(err)
		}
		_, r := outcome(root.Get(ttlv.TagBatchItem))
		return r == ttlv.ResultReasonPermissionDenied
	})
}

func selfSigned(t *testing.T, key *ecdsa.PrivateKey, subject pkix.Name) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Of an object of another scope every operation says what it says of one that there is not.
func TestHostileScope(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	owner := dial(t, address, settings(t, s, "kmip", cert))
	id := owner.create(name("secret"), attr("x-app", ttlv.Text(0, "db")), attr("Object Group", ttlv.Text(0, "g")))
	other, _ := certificate(t, s, "kmip", "hr", "people", all)
	c := dial(t, address, settings(t, s, "kmip", other))
	own := c.create()
	answers := func(code uint32, id string, more ...*ttlv.Node) string {
		t.Helper()
		out, r := c.do(code, append([]*ttlv.Node{uid(id)}, more...)...)
		return fmt.Sprint(r, " ", out.Get(ttlv.TagResultMessage).Text())
	}
	spec := ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 1), ttlv.Struct(ttlv.TagEncryptionKeyInformation, uid(id)))
	nowhere := ttlv.Struct(ttlv.TagKeyWrappingSpecification, ttlv.Enum(ttlv.TagWrappingMethod, 1), ttlv.Struct(ttlv.TagEncryptionKeyInformation, uid("none")))
	operations := map[uint32][]*ttlv.Node{
		ttlv.OperationGet: nil, ttlv.OperationGetAttributes: nil, ttlv.OperationGetAttributeList: nil, ttlv.OperationCheck: nil, ttlv.OperationActivate: nil,
		ttlv.OperationDestroy: nil, ttlv.OperationArchive: nil, ttlv.OperationRecover: nil, ttlv.OperationObtainLease: nil, ttlv.OperationReKey: nil, ttlv.OperationExport: nil,
		ttlv.OperationRevoke:             {reason(ttlv.RevocationReasonCodeKeyCompromise)},
		ttlv.OperationAddAttribute:       {attr("x-b", ttlv.Text(0, "b"))},
		ttlv.OperationModifyAttribute:    {attr("x-app", ttlv.Text(0, "b"))},
		ttlv.OperationDeleteAttribute:    {ttlv.Text(ttlv.TagAttributeName, "x-app")},
		ttlv.OperationEncrypt:            {ttlv.Bytes(ttlv.TagData, make([]byte, 16))},
		ttlv.OperationDecrypt:            {ttlv.Bytes(ttlv.TagData, make([]byte, 16))},
		ttlv.OperationMAC:                {ttlv.Bytes(ttlv.TagData, make([]byte, 16))},
		ttlv.OperationSign:               {ttlv.Bytes(ttlv.TagData, make([]byte, 16))},
		ttlv.OperationGetUsageAllocation: {ttlv.Long(ttlv.TagUsageLimitsCount, 1)},
		ttlv.OperationDeriveKey: {
			ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Enum(ttlv.TagDerivationMethod, ttlv.DerivationMethodHASH),
			ttlv.Struct(ttlv.TagDerivationParameters, ttlv.Bytes(ttlv.TagDerivationData, []byte("x"))), aes(12)[1],
		},
	}
	for code, more := range operations {
		got, want := answers(code, id, more...), answers(code, "none", more...)
		if got != want || !strings.HasPrefix(want, fmt.Sprint(ttlv.ResultReasonItemNotFound)) {
			t.Errorf("operation %d tells another scope's object from none: %q, %q", code, got, want)
		}
	}
	if got, want := answers(ttlv.OperationGet, own, spec), answers(ttlv.OperationGet, own, nowhere); got != want || strings.HasPrefix(want, "0 ") {
		t.Errorf("wrapped with another scope's key: %q, with none: %q", got, want)
	}
	for what, criterion := range map[string]*ttlv.Node{
		"name": name("secret"), "identifier": attr("Unique Identifier", ttlv.Text(0, id)), "attribute": attr("x-app", ttlv.Text(0, "db")), "group": attr("Object Group", ttlv.Text(0, "g")),
	} {
		if n := len(c.must(ttlv.OperationLocate, criterion).All(ttlv.TagUniqueIdentifier)); n != 0 {
			t.Errorf("located by %s: %d", what, n)
		}
	}
	owner.must(ttlv.OperationGet, uid(id))
}
