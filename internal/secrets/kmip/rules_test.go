package kmip_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// laying is what a role may do that lays down rules for others.
var laying = object{"operation_all": true, "operation_set_defaults": true, "operation_set_constraints": true}

func types(list ...uint32) *ttlv.Node {
	n := ttlv.Struct(ttlv.TagObjectTypes)
	for _, t := range list {
		n.Add(ttlv.Enum(ttlv.TagObjectType, t))
	}
	return n
}

func groups(list ...string) *ttlv.Node {
	n := ttlv.Struct(ttlv.TagObjectGroups)
	for _, g := range list {
		n.Add(ttlv.Text(ttlv.TagObjectGroup, g))
	}
	return n
}

func attrs2(list ...*ttlv.Node) *ttlv.Node { return ttlv.Struct(ttlv.TagAttributes, list...) }

// What a client leaves out comes from the scope's defaults (KMIP 2.1, section 6.1.53), for
// clients of all versions; what it gives stays; those for a group go before those for all.
// Query shows them; without any, there are none.
func TestDefaults(t *testing.T) {
	t.Parallel()
	c, old := v2(t, laying)
	symmetric := ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey)
	alg, bits := ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), func(n int32) *ttlv.Node { return ttlv.Int(ttlv.TagCryptographicLength, n) }
	mask := func(m uint32) *ttlv.Node { return ttlv.Int(ttlv.TagCryptographicUsageMask, int32(m)) }
	c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationCreate, symmetric, attrs2())
	information := ttlv.Struct(ttlv.TagDefaultsInformation,
		ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(alg, bits(128), mask(12), ttlv.Text(ttlv.TagComment, "for all"))),
		ttlv.Struct(ttlv.TagObjectDefaults, types(ttlv.ObjectTypeSymmetricKey, ttlv.ObjectTypeSecretData), attrs2(bits(256), vendor("x", "shelf", "7")), groups("tall")),
		ttlv.Struct(ttlv.TagObjectDefaults, types(ttlv.ObjectTypePrivateKey, ttlv.ObjectTypePublicKey), attrs2(ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmRSA), bits(2048), mask(ttlv.MaskSign|ttlv.MaskVerify))))
	c.must(ttlv.OperationSetDefaults, information)
	if got := c.must(ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryDefaultsInformation)).Get(ttlv.TagDefaultsInformation); got == nil || string(got.Encode()) != string(information.Encode()) {
		t.Errorf("query shows %v", got)
	}
	attributes := func(id string) *ttlv.Node {
		return c.must(ttlv.OperationGetAttributes, uid(id)).Get(ttlv.TagAttributes)
	}
	id := func(out *ttlv.Node) string { return out.Get(ttlv.TagUniqueIdentifier).Text() }
	for _, x := range []struct {
		name         string
		made         string
		bits, mask   int64
		comment, own string // of x-shelf
	}{
		{"nothing given", id(c.must(ttlv.OperationCreate, symmetric, attrs2())), 128, 12, "for all", ""},
		{"given", id(c.must(ttlv.OperationCreate, symmetric, attrs2(bits(192), mask(4), ttlv.Text(ttlv.TagComment, "mine")))), 192, 4, "mine", ""},
		{"in the group", id(c.must(ttlv.OperationCreate, symmetric, attrs2(ttlv.Text(ttlv.TagObjectGroup, "tall")))), 256, 12, "for all", "7"},
		{"in another group", id(c.must(ttlv.OperationCreate, symmetric, attrs2(ttlv.Text(ttlv.TagObjectGroup, "small")))), 128, 12, "for all", ""},
		{"KMIP 1", id(old.must(ttlv.OperationCreate, symmetric, ttlv.Struct(ttlv.TagTemplateAttribute, name("old")))), 128, 12, "for all", ""},
		{"registered", id(c.must(ttlv.OperationRegister, symmetric, attrs2(), ttlv.Struct(ttlv.TagSymmetricKey, block(ttlv.KeyFormatTypeRaw, ttlv.Bytes(ttlv.TagKeyMaterial, make([]byte, 24)), ttlv.CryptographicAlgorithmAES, 192)))), 192, 12, "for all", ""},
		{"secret data in the group", id(c.must(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSecretData), attrs2(ttlv.Text(ttlv.TagObjectGroup, "tall"), mask(0)))), 256, 0, "", "7"},
		{"a pair", c.must(ttlv.OperationCreateKeyPair).Get(ttlv.TagPrivateKeyUniqueIdentifier).Text(), 2048, 3, "", ""},
	} {
		a := attributes(x.made)
		shelf := ""
		if n := a.Get(ttlv.TagAttribute); n != nil {
			shelf = n.Get(ttlv.TagAttributeValue).Text()
		}
		comment := ""
		if n := a.Get(ttlv.TagComment); n != nil {
			comment = n.Text()
		}
		if a.Get(ttlv.TagCryptographicLength).Int != x.bits || a.Get(ttlv.TagCryptographicUsageMask).Int != x.mask || comment != x.comment || shelf != x.own {
			t.Errorf("%s: %v", x.name, a)
		}
	}
	for what, bad := range map[string]*ttlv.Node{
		"no type":            ttlv.Struct(ttlv.TagObjectDefaults, attrs2(alg)),
		"no attributes":      ttlv.Struct(ttlv.TagObjectDefaults, symmetric),
		"an unknown type":    ttlv.Struct(ttlv.TagObjectDefaults, ttlv.Enum(ttlv.TagObjectType, 99), attrs2(alg)),
		"the server's own":   ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(ttlv.Enum(ttlv.TagState, 2))),
		"a name":             ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(ttlv.Struct(ttlv.TagName, ttlv.Text(ttlv.TagNameValue, "n"), ttlv.Enum(ttlv.TagNameType, 1)))),
		"a field of others":  ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(alg), ttlv.Text(ttlv.TagComment, "x")),
		"a field twice":      ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(alg), attrs2(bits(1))),
		"a wrong type":       ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(ttlv.Text(ttlv.TagCryptographicLength, "1"))),
		"two of one":         ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(bits(128), bits(256))),
		"dates that cross":   ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(ttlv.Time(ttlv.TagActivationDate, time.Unix(2000, 0)), ttlv.Time(ttlv.TagDeactivationDate, time.Unix(1000, 0)))),
		"something else":     ttlv.Struct(ttlv.TagConstraint),
		"more than there is": ttlv.Struct(ttlv.TagObjectDefaults, symmetric, attrs2(ttlv.Text(ttlv.TagComment, string(slices.Repeat([]byte("x"), 20<<10))))),
	} {
		if _, r := c.do(ttlv.OperationSetDefaults, ttlv.Struct(ttlv.TagDefaultsInformation, bad)); r == 0 {
			t.Errorf("%s: taken", what)
		}
	}
	c.must(ttlv.OperationCreate, symmetric, attrs2()) // what was refused has changed nothing
	c.must(ttlv.OperationSetDefaults)
	c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationCreate, symmetric, attrs2())
	if got := c.must(ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryDefaultsInformation)); len(got.Children) > 0 {
		t.Errorf("query shows %v", got)
	}
}

// What does not meet a constraint of the scope is not made (KMIP 2.1, sections 6.1.52 and
// 7.6), in whatever way and by clients of whatever version.
func TestConstraints(t *testing.T) {
	t.Parallel()
	c, old := v2(t, laying)
	if got := c.must(ttlv.OperationGetConstraints); len(got.Get(ttlv.TagConstraints).Children) != 0 {
		t.Errorf("constraints %v", got)
	}
	small := c.must(ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), attrs2(ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES),
		ttlv.Int(ttlv.TagCryptographicLength, 128), ttlv.Int(ttlv.TagCryptographicUsageMask, 12))).Get(ttlv.TagUniqueIdentifier).Text()
	constraints := ttlv.Struct(ttlv.TagConstraints,
		ttlv.Struct(ttlv.TagConstraint, types(ttlv.ObjectTypeSymmetricKey), attrs2(ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES),
			ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicLength, 192), ttlv.Int(ttlv.TagCryptographicUsageMask, 12))),
		ttlv.Struct(ttlv.TagConstraint, types(ttlv.ObjectTypeSymmetricKey), groups("hidden"), attrs2(ttlv.Bool(ttlv.TagSensitive, true))),
		ttlv.Struct(ttlv.TagConstraint, types(ttlv.ObjectTypeOpaqueObject), attrs2(vendor("x", "app", "db"), vendor("x", "app", "web"))))
	c.must(ttlv.OperationSetConstraints, constraints)
	if got := c.must(ttlv.OperationGetConstraints).Get(ttlv.TagConstraints); got == nil || string(got.Encode()) != string(constraints.Encode()) {
		t.Errorf("constraints %v", got)
	}
	key := func(alg uint32, bits int32, mask uint32, more ...*ttlv.Node) []*ttlv.Node {
		return []*ttlv.Node{ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), attrs2(ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), ttlv.Int(ttlv.TagCryptographicLength, bits),
			ttlv.Int(ttlv.TagCryptographicUsageMask, int32(mask))).Add(more...)}
	}
	opaque := func(more ...*ttlv.Node) []*ttlv.Node {
		return []*ttlv.Node{ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeOpaqueObject), attrs2(more...), ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Enum(ttlv.TagOpaqueDataType, 0x80000001), ttlv.Bytes(ttlv.TagOpaqueDataValue, []byte("x")))}
	}
	violated := ttlv.ResultReasonConstraintViolation
	for _, x := range []struct {
		name    string
		op      uint32
		payload []*ttlv.Node
		want    uint32
	}{
		{"met", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 256, 12), 0},
		{"the other length, less use", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 192, 4), 0},
		{"length", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 128, 12), violated},
		{"algorithm", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmChaCha20, 256, 12), violated},
		{"more use", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 256, 13), violated},
		{"in the group", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 256, 12, ttlv.Text(ttlv.TagObjectGroup, "hidden")), violated},
		{"in the group, sensitive", ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 256, 12, ttlv.Text(ttlv.TagObjectGroup, "hidden"), ttlv.Bool(ttlv.TagSensitive, true)), 0},
		{"registered", ttlv.OperationRegister, append(key(ttlv.CryptographicAlgorithmAES, 128, 12), ttlv.Struct(ttlv.TagSymmetricKey, block(ttlv.KeyFormatTypeRaw, ttlv.Bytes(ttlv.TagKeyMaterial, make([]byte, 16)), ttlv.CryptographicAlgorithmAES, 128))), violated},
		{"replaced", ttlv.OperationReKey, []*ttlv.Node{uid(small)}, violated},
		{"one value", ttlv.OperationRegister, opaque(vendor("x", "app", "web")), 0},
		{"another value", ttlv.OperationRegister, opaque(vendor("x", "app", "mail")), violated},
		{"one good, one bad", ttlv.OperationRegister, opaque(vendor("x", "app", "web"), vendor("x", "app", "mail")), violated},
		{"no value", ttlv.OperationRegister, opaque(), violated},
		{"another type", ttlv.OperationCreate, []*ttlv.Node{ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSecretData), attrs2(ttlv.Int(ttlv.TagCryptographicLength, 64))}, 0},
	} {
		if _, r := c.do(x.op, x.payload...); r != x.want {
			t.Errorf("%s: reason %d, want %d", x.name, r, x.want)
		}
	}
	if _, r := old.do(ttlv.OperationCreate, aes(13)...); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("KMIP 1: reason %d", r)
	}
	old.must(ttlv.OperationCreate, aes(12)...)
	c.must(ttlv.OperationGet, uid(small)) // what is there stays
	for what, bad := range map[string]*ttlv.Node{
		"an object type":   ttlv.Struct(ttlv.TagConstraint, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey)),
		"no attribute":     ttlv.Struct(ttlv.TagConstraint, attrs2(ttlv.Text(ttlv.TagQueryFunction, "x"))),
		"a group's number": ttlv.Struct(ttlv.TagConstraint, ttlv.Struct(ttlv.TagObjectGroups, ttlv.Int(ttlv.TagObjectGroup, 1))),
		"a type's text":    ttlv.Struct(ttlv.TagConstraint, ttlv.Struct(ttlv.TagObjectTypes, ttlv.Text(ttlv.TagObjectType, "x"))),
	} {
		if _, r := c.do(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints, bad)); r == 0 {
			t.Errorf("%s: taken", what)
		}
	}
	c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationSetConstraints)
	c.fails(violated, ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 128, 12)...)
	many := ttlv.Struct(ttlv.TagConstraints)
	for range 101 {
		many.Add(ttlv.Struct(ttlv.TagConstraint))
	}
	c.fails(ttlv.ResultReasonServerLimitExceeded, ttlv.OperationSetConstraints, many)
	items := c.batch([]*ttlv.Node{ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionUndo)}, op(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints)),
		op(ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 128, 12)...), op(ttlv.OperationGet, uid("none")))
	if len(items) != 3 {
		t.Errorf("%d items", len(items))
	}
	c.fails(violated, ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 128, 12)...) // undone with the rest
	c.must(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints))
	c.must(ttlv.OperationCreate, key(ttlv.CryptographicAlgorithmAES, 128, 12)...)
}

// Each operation has its flag, and is of KMIP 2.1 alone.
func TestRulesAreAllowed(t *testing.T) {
	t.Parallel()
	c, _ := v2(t, object{"operation_get_constraints": true, "operation_query": true})
	c.must(ttlv.OperationGetConstraints)
	c.fails(ttlv.ResultReasonPermissionDenied, ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints))
	c.fails(ttlv.ResultReasonPermissionDenied, ttlv.OperationSetDefaults)
	c.ver = [2]int32{2, 0}
	c.fails(ttlv.ResultReasonOperationNotSupported, ttlv.OperationGetConstraints)
}

// What is laid down acts on all roles of a scope: operation_all does not have it, and each flag
// stands beside that.
func TestRulesAreApart(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	const role = "kmip/scope/finance/role/accounting"
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	tries := func() (defaults, constraints, create uint32) {
		t.Helper()
		c := dial(t, address, settings(t, s, "kmip", cert))
		c.ver = [2]int32{2, 1}
		_, defaults = c.do(ttlv.OperationSetDefaults)
		_, constraints = c.do(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints))
		_, create = c.do(ttlv.OperationCreate, aes2(12)...)
		return
	}
	const no = ttlv.ResultReasonPermissionDenied
	for _, x := range []struct {
		name                          string
		flags                         object
		defaults, constraints, create uint32
	}{
		{"all", object{"operation_all": true}, no, no, 0},
		{"one more", object{"operation_set_defaults": true}, 0, no, 0},
		{"both with all", laying, 0, 0, 0},
		{"one less", object{"operation_set_defaults": false}, no, 0, 0},
		{"all again", object{"operation_all": true}, no, no, 0},
		{"one alone", object{"operation_all": false, "operation_set_constraints": true}, no, 0, no},
		{"none", object{"operation_none": true}, no, no, no},
		{"after none", object{"operation_set_defaults": true}, 0, no, no},
	} {
		s.Must("POST", role, s.Root, x.flags)
		if d, c, m := tries(); d != x.defaults || c != x.constraints || m != x.create {
			t.Errorf("%s: %d %d %d", x.name, d, c, m)
		}
	}
	for _, bad := range []object{{"operation_none": true, "operation_set_defaults": true}, {"operation_all": true, "operation_set_defaults": true, "operation_get": true}} {
		if code, _ := s.Do("POST", role, s.Root, bad); code != 400 {
			t.Errorf("%v: %d", bad, code)
		}
	}
}

// Constraints that nothing meets hold up no renewal of certificates; the operator sees them, as
// the defaults, and takes them away.
func TestRulesOfOperator(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", laying)
	c := dial(t, address, settings(t, s, "kmip", cert))
	c.ver = [2]int32{2, 1}
	c.must(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints, ttlv.Struct(ttlv.TagConstraint, attrs2(ttlv.Text(ttlv.TagComment, "the word")))))
	c.must(ttlv.OperationSetDefaults, ttlv.Struct(ttlv.TagDefaultsInformation, ttlv.Struct(ttlv.TagObjectDefaults, types(ttlv.ObjectTypeSymmetricKey), attrs2(ttlv.Text(ttlv.TagContactInformation, "the desk")))))
	csr, err := x509.CreateCertificateRequest(strings.NewReader(strings.Repeat("x", 4096)), &x509.CertificateRequest{}, newEC(t))
	if err != nil {
		t.Fatal(err)
	}
	c.must(ttlv.OperationReProvision, ttlv.Struct(ttlv.TagCertificateRequest, ttlv.Enum(ttlv.TagCertificateRequestType, ttlv.CertificateRequestTypePKCS_10),
		ttlv.Bytes(ttlv.TagCertificateRequestValue, csr)))
	c.fails(ttlv.ResultReasonConstraintViolation, ttlv.OperationCreate, aes2(12)...)
	const path = "kmip/scope/finance"
	shown := func(field string) string {
		text, _ := arcatest.Dig(s.Must("GET", path, s.Root, nil), "data").(object)[field].(string)
		return text
	}
	if a, b := shown("constraints"), shown("defaults"); !strings.Contains(a, "the word") || !strings.HasPrefix(a, "<Constraints>") || !strings.Contains(b, "the desk") {
		t.Errorf("the scope shows %q and %q", a, b)
	}
	s.Must("POST", path, s.Root, object{"clear_constraints": true})
	if shown("constraints") != "" || shown("defaults") == "" {
		t.Error("not the constraints, and they alone, are gone")
	}
	id := c.must(ttlv.OperationCreate, aes2(12)...).Get(ttlv.TagUniqueIdentifier).Text()
	if a := c.must(ttlv.OperationGetAttributes, uid(id)).Get(ttlv.TagAttributes); a.Get(ttlv.TagContactInformation) == nil {
		t.Errorf("without the default: %v", a)
	}
	s.Must("POST", path, s.Root, object{"clear_defaults": true})
	if shown("defaults") != "" {
		t.Error("the defaults are there")
	}
}

// An object that meets the constraints is not changed so that it does not, nor put into a group
// that has others; one of before keeps what it has.
func TestConstraintsOnChanges(t *testing.T) {
	t.Parallel()
	c, old := v2(t, laying)
	id := func(out *ttlv.Node) string { return out.Get(ttlv.TagUniqueIdentifier).Text() }
	comment := func(s string) *ttlv.Node { return ttlv.Text(ttlv.TagComment, s) }
	fresh := func(n *ttlv.Node) *ttlv.Node { return ttlv.Struct(ttlv.TagNewAttribute, n) }
	group := ttlv.Text(ttlv.TagObjectGroup, "hidden")
	before := id(c.must(ttlv.OperationCreate, aes2(12, comment("of before"))...))
	c.must(ttlv.OperationSetConstraints, ttlv.Struct(ttlv.TagConstraints,
		ttlv.Struct(ttlv.TagConstraint, attrs2(comment("a"), comment("b"))),
		ttlv.Struct(ttlv.TagConstraint, groups("hidden"), attrs2(ttlv.Bool(ttlv.TagSensitive, true)))))
	made := id(c.must(ttlv.OperationCreate, aes2(12, comment("a"))...))
	violated := ttlv.ResultReasonConstraintViolation
	c.fails(violated, ttlv.OperationModifyAttribute, uid(made), fresh(comment("c")))
	c.fails(violated, ttlv.OperationSetAttribute, uid(made), fresh(comment("c")))
	c.fails(violated, ttlv.OperationDeleteAttribute, uid(made), ttlv.Enum(ttlv.TagAttributeReference, uint32(ttlv.TagComment)))
	c.fails(violated, ttlv.OperationAddAttribute, uid(made), fresh(group))
	c.fails(violated, ttlv.OperationAddAttribute, uid(before), fresh(group))
	if _, r := old.do(ttlv.OperationAddAttribute, uid(made), attr("Object Group", ttlv.Text(0, "hidden"))); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("KMIP 1: reason %d", r)
	}
	c.must(ttlv.OperationModifyAttribute, uid(made), fresh(comment("b")))
	c.must(ttlv.OperationSetAttribute, uid(made), fresh(ttlv.Bool(ttlv.TagSensitive, true)))
	c.must(ttlv.OperationAddAttribute, uid(made), fresh(group))
	c.fails(violated, ttlv.OperationSetAttribute, uid(made), fresh(ttlv.Bool(ttlv.TagSensitive, false)))
	c.must(ttlv.OperationAddAttribute, uid(before), fresh(vendor("x", "shelf", "7")))
	c.must(ttlv.OperationActivate, uid(made))
}
