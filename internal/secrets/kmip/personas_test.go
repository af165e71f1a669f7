package kmip_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// What clients that cannot run here send, operation by operation, and what each of them must get:
// written after their documentation and traces of them that were published.

// A persona is one of these clients, with a scope of its own.
type persona struct {
	*client
	address string
	cfg     *tls.Config
}

// TestPersonas is also S2-16 and S2-26, for databases that are not there.
func TestPersonas(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	for i, it := range []struct {
		name string
		vers []int32 // minor versions of KMIP 1
		play func(p *persona)
	}{
		{"MongoDB Enterprise", []int32{0, 2}, (*persona).mongoDB},
		{"MongoDB drivers", []int32{0}, (*persona).csfle},
		{"MongoDB drivers, delegated", []int32{2}, (*persona).csfleDelegated},
		{"Percona Server for MongoDB", []int32{0}, (*persona).perconaMongoDB},
		{"Percona Server for MySQL", []int32{4}, (*persona).perconaMySQL},
		{"MySQL Enterprise keyring_okv", []int32{1}, (*persona).keyringOKV},
		{"Percona pg_tde", []int32{0, 4}, (*persona).pgTDE},
		{"EDB TDE", []int32{2, 4}, (*persona).edb},
		{"Ceph RGW", []int32{0}, (*persona).ceph},
		{"ScyllaDB", []int32{1, 2}, (*persona).scylla},
		{"VMware vCenter", []int32{1}, (*persona).vCenter},
		{"NetApp ONTAP", []int32{1, 2}, (*persona).netApp},
		{"IBM Db2", []int32{0, 1}, (*persona).db2},
		{"Oracle Key Vault clients", []int32{1, 2}, (*persona).oracle},
		{"Dell, HPE, Hitachi, Nutanix, Cohesity, Commvault", []int32{0, 1, 2, 3, 4}, (*persona).storage},
		{"Veeam", []int32{4}, (*persona).veeam},
		{"Synology DSM", []int32{2}, (*persona).synology},
		{"FortiOS", []int32{0}, (*persona).fortiOS},
		{"VAST Data", []int32{4}, (*persona).vast},
		{"HPE Ezmeral", []int32{2, 4}, (*persona).ezmeral},
		{"Scality, Zenko", []int32{2, 4}, (*persona).scality},
		{"OpenBao's seal", []int32{2, 3, 4}, (*persona).seal},
		{"TrueNAS, Barbican", []int32{0, 1, 2, 3, 4}, (*persona).trueNAS},
		{"tape libraries and drives", []int32{0, 1, 2}, (*persona).tape},
	} {
		for _, minor := range it.vers {
			t.Run(fmt.Sprintf("%s 1.%d", it.name, minor), func(t *testing.T) {
				cert, _ := certificate(t, s, "kmip", fmt.Sprint("scope-", i, "-", minor), "r", all)
				cfg := settings(t, s, "kmip", cert)
				c := dial(t, address, cfg)
				c.ver = [2]int32{1, minor}
				it.play(&persona{c, address, cfg})
			})
		}
	}
}

// again is the same client on a connection of its own.
func (p *persona) again() *client {
	c := dial(p.t, p.address, p.cfg)
	c.ver = p.ver
	return c
}

// answer is the whole answer to a message, whose header has what the version has and nothing that
// was not asked for.
func (p *persona) answer(header []*ttlv.Node, calls ...call) []*ttlv.Node {
	p.t.Helper()
	raw, err := p.send(p.message(header, calls...))
	if err != nil {
		p.t.Fatal(err)
	}
	root, err := ttlv.Decode(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	if got := tags(root.Get(ttlv.TagResponseHeader)); !slices.Equal(got, []ttlv.Tag{ttlv.TagProtocolVersion, ttlv.TagTimeStamp, ttlv.TagBatchCount}) {
		p.t.Errorf("the header has %v", got)
	}
	return root.All(ttlv.TagBatchItem)
}

// with sends one operation under a header.
func (p *persona) with(header []*ttlv.Node, code uint32, payload ...*ttlv.Node) *ttlv.Node {
	p.t.Helper()
	out, r := outcome(p.answer(header, op(code, payload...))[0])
	if r != 0 {
		p.t.Fatalf("operation %d: reason %d: %s", code, r, out.Get(ttlv.TagResultMessage).Text())
	}
	return out
}

func tags(n *ttlv.Node) (out []ttlv.Tag) {
	for _, c := range n.Inside() {
		out = append(out, c.Tag)
	}
	return out
}

func (p *persona) id(payload *ttlv.Node) string {
	p.t.Helper()
	id := payload.Get(ttlv.TagUniqueIdentifier).Text()
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		p.t.Errorf("%q is no UUID of 36 characters", id)
	}
	return id
}

func (p *persona) located(criteria ...*ttlv.Node) []string {
	p.t.Helper()
	var out []string
	payload := p.with(nil, ttlv.OperationLocate, criteria...)
	if n := payload.Get(ttlv.TagLocatedItems); (n != nil) != (p.ver[1] >= 3) {
		p.t.Errorf("Located Items is %v", n)
	}
	for _, n := range payload.All(ttlv.TagUniqueIdentifier) {
		out = append(out, n.Text())
	}
	return out
}

func (p *persona) finds(want string, criteria ...*ttlv.Node) {
	p.t.Helper()
	if got := p.located(criteria...); len(got) != 1 || got[0] != want {
		p.t.Errorf("located %v, it is %s", got, want)
	}
}

// activated has an object activated; its identifier is in the answer.
func (p *persona) activated(id string) {
	p.t.Helper()
	if got := p.id(p.with(nil, ttlv.OperationActivate, uid(id))); got != id {
		p.t.Errorf("activated %s, the answer says %s", id, got)
	}
}

// over ends an active object.
func (p *persona) over(id string) {
	p.t.Helper()
	p.with(nil, ttlv.OperationRevoke, uid(id), reason(ttlv.RevocationReasonCodeCessationOfOperation))
	if got := p.id(p.with(nil, ttlv.OperationDestroy, uid(id))); got != id {
		p.t.Errorf("destroyed %s, the answer says %s", id, got)
	}
}

// key is the material of a symmetric key, in the order in which clients in C take it apart.
func (p *persona) key(id string) []byte {
	p.t.Helper()
	out := p.with(nil, ttlv.OperationGet, uid(id))
	keyBlock := out.Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock)
	for what, got := range map[*ttlv.Node][]ttlv.Tag{
		out:      {ttlv.TagObjectType, ttlv.TagUniqueIdentifier, ttlv.TagSymmetricKey},
		keyBlock: {ttlv.TagKeyFormatType, ttlv.TagKeyValue, ttlv.TagCryptographicAlgorithm, ttlv.TagCryptographicLength},
	} {
		if !slices.Equal(tags(what), got) {
			p.t.Errorf("Get has %v", tags(what))
		}
	}
	if got := tags(keyBlock.Get(ttlv.TagKeyValue)); !slices.Equal(got, []ttlv.Tag{ttlv.TagKeyMaterial}) {
		p.t.Errorf("the key value has %v", got)
	}
	return keyBlock.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
}

// attribute is the value of one, nil for none.
func (p *persona) attribute(id, name string) *ttlv.Node {
	p.t.Helper()
	return p.with(nil, ttlv.OperationGetAttributes, uid(id), ttlv.Text(ttlv.TagAttributeName, name)).Get(ttlv.TagAttribute).Get(ttlv.TagAttributeValue)
}

// registered registers an object.
func (p *persona) registered(header []*ttlv.Node, typ uint32, it *ttlv.Node, attributes ...*ttlv.Node) string {
	p.t.Helper()
	out := p.with(header, ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, typ), ttlv.Struct(ttlv.TagTemplateAttribute, attributes...), it)
	if got := tags(out); got[0] != ttlv.TagUniqueIdentifier {
		p.t.Errorf("Register answers %v", got)
	}
	return p.id(out)
}

func rawAES(key []byte) *ttlv.Node {
	return ttlv.Struct(ttlv.TagSymmetricKey, block(ttlv.KeyFormatTypeRaw, ttlv.Bytes(ttlv.TagKeyMaterial, key), ttlv.CryptographicAlgorithmAES, int32(8*len(key))))
}

func secretOf(kind, format uint32, secret []byte) *ttlv.Node {
	return ttlv.Struct(ttlv.TagSecretData, ttlv.Enum(ttlv.TagSecretDataType, kind),
		ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, format), ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, secret))))
}

func (p *persona) secret(id string) (format uint32, secret []byte) {
	p.t.Helper()
	b := p.with(nil, ttlv.OperationGet, uid(id)).Get(ttlv.TagSecretData).Get(ttlv.TagKeyBlock)
	return uint32(b.Get(ttlv.TagKeyFormatType).Int), b.Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
}

func mask(bits uint32) *ttlv.Node { return attr("Cryptographic Usage Mask", ttlv.Int(0, int32(bits))) }

func ofType(typ uint32) *ttlv.Node { return attr("Object Type", ttlv.Enum(0, typ)) }

func group(name string) *ttlv.Node { return attr("Object Group", ttlv.Text(0, name)) }

func maximum(n int32) *ttlv.Node { return ttlv.Int(ttlv.TagMaximumItems, n) }

func named(attribute string) *ttlv.Node { return ttlv.Text(ttlv.TagAttributeName, attribute) }

func application(space, data string) *ttlv.Node {
	return attr("Application Specific Information", ttlv.Struct(0, ttlv.Text(ttlv.TagApplicationNamespace, space), ttlv.Text(ttlv.TagApplicationData, data)))
}

// login is a credential that goes with the certificate.
func login(kind uint32) []*ttlv.Node {
	return []*ttlv.Node{ttlv.Struct(ttlv.TagAuthentication, ttlv.Struct(ttlv.TagCredential, ttlv.Enum(ttlv.TagCredentialType, kind),
		ttlv.Struct(ttlv.TagCredentialValue, ttlv.Text(ttlv.TagUsername, "client"), ttlv.Text(ttlv.TagPassword, "word"))))}
}

// crypt encrypts and decrypts on the server.
func (p *persona) crypt(id string, parameters, iv *ttlv.Node) {
	p.t.Helper()
	text := []byte("not a multiple of sixteen")
	sealed := p.with(nil, ttlv.OperationEncrypt, uid(id), parameters, ttlv.Bytes(ttlv.TagData, text), iv)
	if made := sealed.Get(ttlv.TagIVCounterNonce); made != nil {
		iv = made
	}
	if iv == nil {
		p.t.Error("no initialisation vector was given back")
	}
	opened := p.with(nil, ttlv.OperationDecrypt, uid(id), parameters, sealed.Get(ttlv.TagData), iv, sealed.Get(ttlv.TagAuthenticatedEncryptionTag))
	if got := opened.Get(ttlv.TagData).Bytes; !bytes.Equal(got, text) {
		p.t.Errorf("decrypted, it is %q", got)
	}
}

func cbc(more ...*ttlv.Node) *ttlv.Node {
	return params(mode(ttlv.BlockCipherModeCBC), ttlv.Enum(ttlv.TagPaddingMethod, ttlv.PaddingMethodPKCS5)).Add(more...)
}

// A key without a name, whose state is asked for again and again; it may be got before it is active.
func (p *persona) mongoDB() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	if len(p.key(id)) != 32 {
		p.t.Error("the key is not one of 256 bits")
	}
	p.activated(id)
	for range 3 {
		if n := p.attribute(id, "State"); n == nil || uint32(n.Int) != ttlv.StateActive {
			p.t.Errorf("the state is %v", n)
		}
	}
	p.finds(id, attr("Unique Identifier", ttlv.Text(0, id)))
}

// The key of client-side field level encryption: 96 bytes as a seed.
func (p *persona) csfle() {
	seed := bytes.Repeat([]byte{7}, 96)
	id := p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypeSeed, ttlv.KeyFormatTypeOpaque, seed), mask(0))
	p.activated(id)
	if format, got := p.secret(id); format != ttlv.KeyFormatTypeOpaque || !bytes.Equal(got, seed) {
		p.t.Errorf("format %d, %x", format, got)
	}
}

func (p *persona) csfleDelegated() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	p.activated(id)
	p.crypt(id, cbc(ttlv.Bool(ttlv.TagRandomIV, true)), nil)
}

// libkmip with a buffer of 8 kB, and a connection for each operation.
func (p *persona) perconaMongoDB() {
	key := bytes.Repeat([]byte{9}, 32)
	short := []*ttlv.Node{ttlv.Int(ttlv.TagMaximumResponseSize, 8192)}
	once := func() *persona { return &persona{p.again(), p.address, p.cfg} }
	id := once().registered(short, ttlv.ObjectTypeSymmetricKey, rawAES(key), mask(12))
	once().activated(id)
	if got := once().key(id); !bytes.Equal(got, key) {
		p.t.Errorf("the key is %x", got)
	}
	if n := once().attribute(id, "State"); n == nil || uint32(n.Int) != ttlv.StateActive {
		p.t.Errorf("the state is %v", n)
	}
	if _, r := once().do(ttlv.OperationGet, uid("9a1c0000-0000-4000-8000-000000000000")); r != ttlv.ResultReasonItemNotFound {
		p.t.Errorf("a key that is not there: %d", r)
	}
}

// Pages of sixteen keys that add up, and a revocation with the date 0.
func (p *persona) perconaMySQL() {
	var ids []string
	for i := range 20 {
		ids = append(ids, p.registered(nil, ttlv.ObjectTypeSymmetricKey, rawAES(make([]byte, 32)), mask(12), name(fmt.Sprint("keyring-", i)), group("server-1")))
	}
	p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypePassword, ttlv.KeyFormatTypeRaw, []byte("x")), mask(12), name("keyring-secret"), group("server-1"))
	p.activated(ids[0])
	page := func(from int32) []string {
		return p.located(maximum(16), ttlv.Int(ttlv.TagOffsetItems, from), ofType(ttlv.ObjectTypeSymmetricKey), group("server-1"))
	}
	if got := append(page(0), page(16)...); !slices.Equal(got, ids) {
		p.t.Errorf("the pages are %v", got)
	}
	if n := p.attribute(ids[0], "Name"); n.Get(ttlv.TagNameValue).Text() != "keyring-0" {
		p.t.Errorf("the name is %v", n)
	}
	p.with(nil, ttlv.OperationRevoke, uid(ids[0]), reason(ttlv.RevocationReasonCodeUnspecified), ttlv.Time(ttlv.TagCompromiseOccurrenceDate, time.Unix(0, 0)))
	p.with(nil, ttlv.OperationDestroy, uid(ids[0]))
	old := *p
	old.client = p.again()
	old.ver[1] = 0 // the component mixes versions
	if got := old.located(maximum(16), group("server-1"), ofType(ttlv.ObjectTypeSecretData)); len(got) != 1 {
		p.t.Errorf("of secrets, %v are there", got)
	}
}

// Custom attributes, which are in the list of all.
func (p *persona) keyringOKV() {
	custom := []*ttlv.Node{attr("x-key-id", ttlv.Text(0, "MyKey1")), attr("x-key-type", ttlv.Text(0, "AES")), attr("x-user-id", ttlv.Text(0, "root@localhost"))}
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(2108, append(custom, name("MyKey1"))...)...))
	p.activated(id)
	p.finds(id, attr("x-key-id", ttlv.Text(0, "MyKey1")), attr("x-user-id", ttlv.Text(0, "root@localhost")))
	if len(p.key(id)) != 32 {
		p.t.Error("the key is not one of 256 bits")
	}
	have := map[string]string{}
	for _, a := range p.with(nil, ttlv.OperationGetAttributes, uid(id)).All(ttlv.TagAttribute) {
		have[a.Get(ttlv.TagAttributeName).Text()] = a.Get(ttlv.TagAttributeValue).Text()
	}
	if have["x-key-id"] != "MyKey1" || have["x-key-type"] != "AES" || have["x-user-id"] != "root@localhost" {
		p.t.Errorf("the attributes are %v", have)
	}
	other := p.registered(nil, ttlv.ObjectTypeSymmetricKey, rawAES(make([]byte, 16)), mask(2108), attr("x-key-id", ttlv.Text(0, "MyKey2")))
	p.with(nil, ttlv.OperationDestroy, uid(other))
	p.over(id)
}

// A key that is never activated, and a search that finds nothing.
func (p *persona) pgTDE() {
	criteria := []*ttlv.Node{maximum(16), ttlv.Int(ttlv.TagOffsetItems, 0), name("tde-principal"), ofType(ttlv.ObjectTypeSymmetricKey)}
	if got := p.located(criteria...); len(got) != 0 {
		p.t.Errorf("located %v", got)
	}
	key := bytes.Repeat([]byte{3}, 16)
	id := p.registered(nil, ttlv.ObjectTypeSymmetricKey, rawAES(key), mask(12), name("tde-principal"))
	p.finds(id, criteria...)
	if got := p.key(id); !bytes.Equal(got, key) {
		p.t.Errorf("the key is %x", got)
	}
}

// The server makes the initialisation vector that the client does not give.
func (p *persona) edb() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	p.activated(id)
	p.crypt(id, cbc(ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES)), nil)
}

// libkmip with a user's name and password, which do not count.
func (p *persona) ceph() {
	user := login(ttlv.CredentialTypeUsernameAndPassword)
	if got := p.with(user, ttlv.OperationLocate, name("bucket")).All(ttlv.TagUniqueIdentifier); len(got) != 0 {
		p.t.Errorf("located %v", got)
	}
	id := p.id(p.with(user, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("bucket"))...))
	p.with(user, ttlv.OperationGet, uid(id))
	p.finds(id, name("bucket"))
	if len(p.key(id)) != 32 {
		p.t.Error("the key is not one of 256 bits")
	}
}

// Keys by attributes of its own and of a template, read in one ordered batch.
func (p *persona) scylla() {
	p.with(nil, ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryOperations), ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryServerInformation))
	p.registered(nil, ttlv.ObjectTypeTemplate, ttlv.Struct(ttlv.TagTemplate, group("scylla")), name("scylla-template"))
	criteria := []*ttlv.Node{
		attr("x-key-namespace", ttlv.Text(0, "ks")), ofType(ttlv.ObjectTypeSymmetricKey), attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)),
		attr("Cryptographic Length", ttlv.Int(0, 256)), attr("State", ttlv.Enum(0, ttlv.StateActive)), mask(ttlv.MaskEncrypt | ttlv.MaskDecrypt),
	}
	if got := p.located(criteria...); len(got) != 0 {
		p.t.Errorf("located %v", got)
	}
	request := aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, attr("x-key-namespace", ttlv.Text(0, "ks")))
	request[1].Children = slices.Insert(request[1].Children, 0, ttlv.Struct(ttlv.TagName, ttlv.Text(ttlv.TagNameValue, "scylla-template"), ttlv.Enum(ttlv.TagNameType, 1)))
	id := p.id(p.with(nil, ttlv.OperationCreate, request...))
	p.activated(id)
	p.finds(id, criteria...)
	items := p.answer([]*ttlv.Node{ttlv.Bool(ttlv.TagBatchOrderOption, true)}, op(ttlv.OperationGet, uid(id)), op(ttlv.OperationGetAttributes, uid(id)))
	if len(items) != 2 || items[0].Get(ttlv.TagResponsePayload).Get(ttlv.TagSymmetricKey) == nil || items[1].Get(ttlv.TagResponsePayload).Get(ttlv.TagAttribute) == nil {
		p.t.Errorf("the batch answers %v", items)
	}
	if n := p.attribute(id, "Object Group"); n.Text() != "scylla" {
		p.t.Errorf("of the template it has %v", n)
	}
}

// An attribute that is not set is no error; three are added in one batch.
func (p *persona) vCenter() {
	health := func() {
		for range 2 {
			if n := len(p.with(nil, ttlv.OperationDiscoverVersions).All(ttlv.TagProtocolVersion)); n < 7 {
				p.t.Errorf("%d versions", n)
			}
		}
	}
	health()
	p.with(nil, ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryServerInformation))
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	if n := p.attribute(id, "x-Product_Version"); n != nil {
		p.t.Errorf("it has %v", n)
	}
	var calls []call
	for _, a := range []string{"x-Product_Version", "x-Vendor", "x-Product"} {
		calls = append(calls, op(ttlv.OperationAddAttribute, uid(id), attr(a, ttlv.Text(0, "of "+a))))
	}
	for i, it := range p.answer(nil, calls...) {
		if out, r := outcome(it); r != 0 || it.Get(ttlv.TagUniqueBatchItemID) == nil || it.Get(ttlv.TagUniqueBatchItemID).Bytes[0] != byte(i) || out.Get(ttlv.TagAttribute) == nil {
			p.t.Errorf("item %d: reason %d", i, r)
		}
	}
	if n := p.attribute(id, "x-Vendor"); n.Text() != "of x-Vendor" {
		p.t.Errorf("it has %v", n)
	}
	p.key(id)
	health()
}

// Authentication keys by what the application says of them.
func (p *persona) netApp() {
	about := []*ttlv.Node{application("ONTAP", "vserver=1,node=2"), group("cluster-7")}
	id := p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypePassword, ttlv.KeyFormatTypeRaw, []byte("of a disk")), append(about, mask(0))...)
	p.finds(id, about...)
	if format, got := p.secret(id); format != ttlv.KeyFormatTypeRaw || string(got) != "of a disk" {
		p.t.Errorf("format %d, %q", format, got)
	}
	made := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, application("ONTAP", "key-manager"), group("cluster-7"))...))
	p.finds(made, application("ONTAP", "key-manager"))
}

func (p *persona) db2() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("DB2_SYSGEN_1"))...))
	p.activated(id)
	p.finds(id, maximum(1), name("DB2_SYSGEN_1"))
	p.key(id)
}

// Wallets of many kilobytes with a type of the vendor's, templates, certificates and secrets.
func (p *persona) oracle() {
	wallet := bytes.Repeat([]byte("wallet"), 10_000)
	id := p.registered(nil, ttlv.ObjectTypeOpaqueObject, ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Enum(ttlv.TagOpaqueDataType, 0x80000005), ttlv.Bytes(ttlv.TagOpaqueDataValue, wallet)),
		name("ewallet"), attr("x-OKV-Wallet", ttlv.Text(0, "W1")))
	opaque := p.with(nil, ttlv.OperationGet, uid(id)).Get(ttlv.TagOpaqueObject)
	if n := opaque.Get(ttlv.TagOpaqueDataType); uint32(n.Int) != 0x80000005 || !bytes.Equal(opaque.Get(ttlv.TagOpaqueDataValue).Bytes, wallet) {
		p.t.Errorf("the wallet is of type %x", n.Int)
	}
	p.with(nil, ttlv.OperationDestroy, uid(id))
	p.registered(nil, ttlv.ObjectTypeTemplate, ttlv.Struct(ttlv.TagTemplate, group("endpoints")), name("template"))
	der := p.cfg.Certificates[0].Certificate[0]
	p.registered(nil, ttlv.ObjectTypeCertificate, ttlv.Struct(ttlv.TagCertificate, ttlv.Enum(ttlv.TagCertificateType, ttlv.CertificateTypeX_509), ttlv.Bytes(ttlv.TagCertificateValue, der)), mask(ttlv.MaskVerify))
	p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypePassword, ttlv.KeyFormatTypeRaw, []byte("tiger")), mask(0), name("scott"))
	key := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("TDE"))...))
	p.activated(key)
	next := p.id(p.with(nil, ttlv.OperationReKey, uid(key)))
	p.finds(next, name("TDE"))
	p.with(nil, ttlv.OperationAddAttribute, uid(next), attr("x-OKV-Tag", ttlv.Text(0, "1")))
	p.with(nil, ttlv.OperationModifyAttribute, uid(next), attr("x-OKV-Tag", ttlv.Text(0, "2")))
	p.with(nil, ttlv.OperationDeleteAttribute, uid(next), named("x-OKV-Tag"))
	if p.ver[1] >= 2 {
		p.crypt(next, cbc(), nil)
	}
	p.over(key)
}

// storage is what arrays, backup and virtual machines send: little, some with a user's name.
func (p *persona) storage() {
	user := login(ttlv.CredentialTypeUsernameAndPassword)
	id := p.id(p.with(user, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("array"))...))
	p.finds(id, name("array"))
	first := p.key(id)
	p.activated(id)
	if !bytes.Equal(first, p.key(id)) {
		p.t.Error("active, it is another key")
	}
	p.over(id)
	if got := p.located(name("array")); len(got) != 0 {
		p.t.Errorf("destroyed, it is located: %v", got)
	}
}

// A pair of RSA keys; TLS is resumed.
func (p *persona) veeam() {
	p.cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for i := range 3 {
		c := &persona{p.again(), p.address, p.cfg}
		c.located(name("veeam"))
		if resumed := c.conn.ConnectionState().DidResume; resumed != (i > 0) {
			p.t.Errorf("connection %d is resumed: %v", i, resumed)
		}
		_ = c.conn.Close()
	}
	pair := p.with(nil, ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmRSA)), attr("Cryptographic Length", ttlv.Int(0, 2048))),
		ttlv.Struct(ttlv.TagPrivateKeyTemplateAttribute, name("veeam-private"), mask(ttlv.MaskDecrypt)), ttlv.Struct(ttlv.TagPublicKeyTemplateAttribute, name("veeam-public"), mask(ttlv.MaskEncrypt)))
	if got := tags(pair); got[0] != ttlv.TagPrivateKeyUniqueIdentifier || got[1] != ttlv.TagPublicKeyUniqueIdentifier {
		p.t.Errorf("the pair is %v", got)
	}
	for tag, object := range map[ttlv.Tag]ttlv.Tag{ttlv.TagPrivateKeyUniqueIdentifier: ttlv.TagPrivateKey, ttlv.TagPublicKeyUniqueIdentifier: ttlv.TagPublicKey} {
		id := pair.Get(tag).Text()
		p.activated(id)
		value := p.with(nil, ttlv.OperationGet, uid(id)).Get(object).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue)
		if got := tags(value); !slices.Equal(got, []ttlv.Tag{ttlv.TagKeyMaterial}) {
			p.t.Errorf("%s has %v", object, got)
		}
		p.over(id)
	}
}

// The attribute that was modified comes back, and the policy's name is kept.
func (p *persona) synology() {
	var functions []*ttlv.Node
	for f := ttlv.QueryFunctionQueryOperations; f <= ttlv.QueryFunctionQueryExtensionMap; f++ {
		functions = append(functions, ttlv.Enum(ttlv.TagQueryFunction, f))
	}
	p.with(nil, ttlv.OperationQuery, functions...)
	if got := p.located(name("syno-volume")); len(got) != 0 {
		p.t.Errorf("located %v", got)
	}
	id := p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypePassword, ttlv.KeyFormatTypeOpaque, []byte("volume")), mask(0), attr("Operation Policy Name", ttlv.Text(0, "default")), name("before"))
	to := name("syno-volume")
	to.Children = slices.Insert(to.Children, 1, ttlv.Int(ttlv.TagAttributeIndex, 0))
	changed := p.with(nil, ttlv.OperationModifyAttribute, uid(id), to).Get(ttlv.TagAttribute)
	if changed.Get(ttlv.TagAttributeName).Text() != "Name" || changed.Get(ttlv.TagAttributeValue).Get(ttlv.TagNameValue).Text() != "syno-volume" {
		p.t.Errorf("the answer has %v", changed)
	}
	p.finds(id, name("syno-volume"))
	p.activated(id)
	if format, got := p.secret(id); format != ttlv.KeyFormatTypeOpaque || string(got) != "volume" {
		p.t.Errorf("format %d, %q", format, got)
	}
	if n := p.attribute(id, "Operation Policy Name"); n.Text() != "default" {
		p.t.Errorf("the policy is %v", n)
	}
}

// A batch of searches whose criteria lie in a template, under a credential of a type by number.
func (p *persona) fortiOS() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("vpn-1"))...))
	header := append(login(0x80000001), ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionContinue), ttlv.Bool(ttlv.TagBatchOrderOption, true))
	locate := func(name *ttlv.Node) call {
		return op(ttlv.OperationLocate, maximum(1), ttlv.Struct(ttlv.TagTemplateAttribute, name, ofType(ttlv.ObjectTypeSymmetricKey)))
	}
	items := p.answer(header, locate(name("vpn-1")), locate(name("vpn-2")))
	if len(items) != 2 {
		p.t.Fatalf("%d answers", len(items))
	}
	var got []string
	for _, it := range items {
		out, r := outcome(it)
		if r != 0 {
			p.t.Errorf("reason %d", r)
		}
		for _, n := range out.All(ttlv.TagUniqueIdentifier) {
			got = append(got, n.Text())
		}
	}
	if !slices.Equal(got, []string{id}) {
		p.t.Errorf("located %v", got)
	}
	p.key(id)
}

// Attributes after the key, its replacement, and keys that come of it; by HTTPS, too.
func (p *persona) vast() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt|ttlv.MaskDeriveKey)...))
	for _, a := range []*ttlv.Node{name("vast"), group("cluster"), attr("Operation Policy Name", ttlv.Text(0, "default"))} {
		if out := p.with(nil, ttlv.OperationAddAttribute, uid(id), a); out.Get(ttlv.TagAttribute) == nil {
			p.t.Error("the answer has no attribute")
		}
	}
	p.activated(id)
	p.key(id)
	p.with(nil, ttlv.OperationCheck, uid(id), ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskEncrypt)))
	next := p.id(p.with(nil, ttlv.OperationReKey, uid(id)))
	p.finds(next, name("vast"))
	derived := p.id(p.with(nil, ttlv.OperationDeriveKey, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), uid(next), ttlv.Enum(ttlv.TagDerivationMethod, ttlv.DerivationMethodHMAC),
		ttlv.Struct(ttlv.TagDerivationParameters, params(ttlv.Enum(ttlv.TagHashingAlgorithm, ttlv.HashingAlgorithmSHA_256)), ttlv.Bytes(ttlv.TagDerivationData, []byte("volume"))),
		aes(ttlv.MaskEncrypt | ttlv.MaskDecrypt)[1]))
	p.key(derived)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: p.cfg}}
	defer web.CloseIdleConnections()
	res, err := web.Post("https://"+p.address+"/kmip", "application/octet-stream", bytes.NewReader(p.message(nil, op(ttlv.OperationGet, uid(next)))))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if root, err := ttlv.Decode(body); err != nil || root.Get(ttlv.TagBatchItem).Get(ttlv.TagResponsePayload).Get(ttlv.TagSymmetricKey) == nil {
		p.t.Errorf("by HTTPS: %v", err)
	}
}

func (p *persona) ezmeral() {
	p.with(nil, ttlv.OperationDiscoverVersions)
	if got := p.located(name("mapr")); len(got) != 0 {
		p.t.Errorf("located %v", got)
	}
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, name("mapr"))...))
	p.activated(id)
	p.crypt(id, cbc(), nil)
	p.over(id)
}

// Versions that the client names, and a key that is active from the start.
func (p *persona) scality() {
	version := func(minor int32) *ttlv.Node {
		return ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, 1), ttlv.Int(ttlv.TagProtocolVersionMinor, minor))
	}
	if n := len(p.with(nil, ttlv.OperationDiscoverVersions, version(4), version(2), version(9)).All(ttlv.TagProtocolVersion)); n != 2 {
		p.t.Errorf("%d versions", n)
	}
	p.with(nil, ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryExtensionMap))
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt, attr("Activation Date", ttlv.Time(0, time.Now())))...))
	p.crypt(id, cbc(), ttlv.Bytes(ttlv.TagIVCounterNonce, make([]byte, 16)))
	p.over(id)
}

// What an auto-unseal by KMIP asks of its key, and the tag where the version has it.
func (p *persona) seal() {
	id := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	p.activated(id)
	have := map[string]bool{}
	for _, a := range p.with(nil, ttlv.OperationGetAttributes, uid(id), named("Object Type"), named("Cryptographic Algorithm"), named("Cryptographic Usage Mask"), named("Link")).All(ttlv.TagAttribute) {
		have[a.Get(ttlv.TagAttributeName).Text()] = true
	}
	if len(have) != 3 || have["Link"] {
		p.t.Errorf("the attributes are %v", have)
	}
	gcm := params(mode(ttlv.BlockCipherModeGCM))
	if p.ver[1] >= 4 {
		gcm.Add(ttlv.Int(ttlv.TagTagLength, 16))
	}
	nonce := ttlv.Bytes(ttlv.TagIVCounterNonce, make([]byte, 12))
	sealed := p.with(nil, ttlv.OperationEncrypt, uid(id), gcm, ttlv.Bytes(ttlv.TagData, make([]byte, 32)), nonce)
	want := 32
	if p.ver[1] < 4 {
		want = 48 // the tag is at its end
	}
	if got := len(sealed.Get(ttlv.TagData).Bytes); got != want || (sealed.Get(ttlv.TagAuthenticatedEncryptionTag) != nil) != (p.ver[1] >= 4) {
		p.t.Errorf("the text has %d bytes", got)
	}
	p.crypt(id, gcm, nonce)
}

// PyKMIP's client, and what is made of it.
func (p *persona) trueNAS() {
	id := p.registered(nil, ttlv.ObjectTypeSecretData, secretOf(ttlv.SecretDataTypePassword, ttlv.KeyFormatTypeOpaque, []byte("passphrase")), mask(0), name("pool"))
	if _, got := p.secret(id); string(got) != "passphrase" {
		p.t.Errorf("the secret is %q", got)
	}
	p.finds(id, name("pool"))
	key := p.id(p.with(nil, ttlv.OperationCreate, aes(ttlv.MaskEncrypt|ttlv.MaskDecrypt)...))
	p.key(key)
	p.with(nil, ttlv.OperationDestroy, uid(key))
}

// Templates, and batches whose later items have no identifier.
func (p *persona) tape() {
	p.registered(nil, ttlv.ObjectTypeTemplate, ttlv.Struct(ttlv.TagTemplate, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)),
		attr("Cryptographic Length", ttlv.Int(0, 256)), mask(ttlv.MaskEncrypt|ttlv.MaskDecrypt)), name("library"))
	create := op(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagTemplateAttribute,
		ttlv.Struct(ttlv.TagName, ttlv.Text(ttlv.TagNameValue, "library"), ttlv.Enum(ttlv.TagNameType, 1)), name("cartridge"), application("LIBRARY-LTO", strings.Repeat("0A", 12))))
	items := p.answer(nil, create, op(ttlv.OperationActivate), op(ttlv.OperationGet))
	for i, it := range items {
		if _, r := outcome(it); r != 0 {
			p.t.Errorf("item %d: reason %d", i, r)
		}
	}
	if len(items) != 3 {
		p.t.Fatalf("%d answers", len(items))
	}
	again := p.answer(nil, op(ttlv.OperationLocate, application("LIBRARY-LTO", strings.Repeat("0A", 12))), op(ttlv.OperationGet))
	if out, r := outcome(again[len(again)-1]); r != 0 || out.Get(ttlv.TagSymmetricKey) == nil {
		p.t.Errorf("what was located is not given: %d", r)
	}
}
