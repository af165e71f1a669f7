package kmip_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// v2 is a client of KMIP 2.1.
func v2(t *testing.T, flags object) (*client, *client) {
	t.Helper()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", flags)
	cfg := settings(t, s, "kmip", cert)
	old, fresh := dial(t, address, cfg), dial(t, address, cfg)
	fresh.ver = [2]int32{2, 1}
	return fresh, old
}

func aes2(mask uint32, more ...*ttlv.Node) []*ttlv.Node {
	return []*ttlv.Node{ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagAttributes,
		ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 256),
		ttlv.Int(ttlv.TagCryptographicUsageMask, int32(mask))).Add(more...)}
}

func vendor(who, name, value string) *ttlv.Node {
	return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagVendorIdentification, who), ttlv.Text(ttlv.TagAttributeName, name), ttlv.Text(ttlv.TagAttributeValue, value))
}

func (c *client) fails(want uint32, code uint32, payload ...*ttlv.Node) {
	c.t.Helper()
	if _, r := c.do(code, payload...); r != want {
		c.t.Errorf("operation %d: reason %d, want %d", code, r, want)
	}
}

// KMIP 2 has attributes under their own tags, and reasons of its own; what it makes,
// clients of KMIP 1 see in their form.
func TestVersion2(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	id := c.must(ttlv.OperationCreate, aes2(12, vendor("x", "app", "db"), vendor("acme", "shelf", "7"))...).Get(ttlv.TagUniqueIdentifier).Text()
	attrs := c.must(ttlv.OperationGetAttributes, uid(id)).Get(ttlv.TagAttributes)
	if n := attrs.Get(ttlv.TagState); n == nil || uint32(n.Int) != ttlv.StatePreActive || len(attrs.All(ttlv.TagAttribute)) != 2 || attrs.Get(ttlv.TagShortUniqueIdentifier) == nil {
		t.Errorf("attributes %v", attrs)
	}
	seen := old.must(ttlv.OperationGetAttributes, uid(id))
	custom := 0
	for _, a := range seen.All(ttlv.TagAttribute) {
		switch a.Get(ttlv.TagAttributeName).Text() {
		case "x-app":
			custom++
		case "Key Format Type", "Short Unique Identifier", "v-acme\nshelf":
			t.Errorf("KMIP 1 sees %q", a.Get(ttlv.TagAttributeName).Text())
		}
	}
	if custom != 1 {
		t.Error("KMIP 1 does not see x-app")
	}
	if got := c.must(ttlv.OperationLocate, ttlv.Struct(ttlv.TagAttributes, vendor("acme", "shelf", "7"))).All(ttlv.TagUniqueIdentifier); len(got) != 1 || got[0].Text() != id {
		t.Errorf("located %v", got)
	}
	set := func(n *ttlv.Node) *ttlv.Node { return ttlv.Struct(ttlv.TagNewAttribute, n) }
	ref := func(tag ttlv.Tag) *ttlv.Node { return ttlv.Enum(ttlv.TagAttributeReference, uint32(tag)) }
	c.must(ttlv.OperationSetAttribute, uid(id), set(ttlv.Text(ttlv.TagComment, "one")))
	c.must(ttlv.OperationSetAttribute, uid(id), set(ttlv.Text(ttlv.TagComment, "two")))
	if got := c.must(ttlv.OperationGetAttributes, uid(id), ref(ttlv.TagComment)).Get(ttlv.TagAttributes).Get(ttlv.TagComment).Text(); got != "two" {
		t.Errorf("comment %q", got)
	}
	c.must(ttlv.OperationDeleteAttribute, uid(id), ref(ttlv.TagComment))
	c.fails(ttlv.ResultReasonAttributeNotFound, ttlv.OperationDeleteAttribute, uid(id), ref(ttlv.TagComment))
	c.must(ttlv.OperationAddAttribute, uid(id), set(ttlv.Text(ttlv.TagObjectGroup, "a")))
	c.must(ttlv.OperationAddAttribute, uid(id), set(ttlv.Text(ttlv.TagObjectGroup, "b")))
	c.fails(ttlv.ResultReasonMultiValuedAttribute, ttlv.OperationSetAttribute, uid(id), set(ttlv.Text(ttlv.TagObjectGroup, "c")))
	current := func(n *ttlv.Node) *ttlv.Node { return ttlv.Struct(ttlv.TagCurrentAttribute, n) }
	c.must(ttlv.OperationModifyAttribute, uid(id), current(ttlv.Text(ttlv.TagObjectGroup, "a")), set(ttlv.Text(ttlv.TagObjectGroup, "c")))
	c.must(ttlv.OperationDeleteAttribute, uid(id), current(ttlv.Text(ttlv.TagObjectGroup, "b")))
	if got := c.must(ttlv.OperationGetAttributes, uid(id), ref(ttlv.TagObjectGroup)).Get(ttlv.TagAttributes).All(ttlv.TagObjectGroup); len(got) != 1 || got[0].Text() != "c" {
		t.Errorf("groups %v", got)
	}
	c.must(ttlv.OperationSetAttribute, uid(id), set(ttlv.Seconds(ttlv.TagProtectionPeriod, 10)))
	adjust := func(how uint32, v *ttlv.Node) {
		c.must(ttlv.OperationAdjustAttribute, uid(id), ref(ttlv.TagProtectionPeriod), ttlv.Enum(ttlv.TagAdjustmentType, how), v)
	}
	adjust(ttlv.AdjustmentTypeIncrement, ttlv.Seconds(ttlv.TagAdjustmentValue, 5))
	adjust(ttlv.AdjustmentTypeDecrement, ttlv.Seconds(ttlv.TagAdjustmentValue, 3))
	if got := c.must(ttlv.OperationGetAttributes, uid(id), ref(ttlv.TagProtectionPeriod)).Get(ttlv.TagAttributes).Get(ttlv.TagProtectionPeriod).Int; got != 12 {
		t.Errorf("the period is %d", got)
	}
	c.fails(ttlv.ResultReasonNumericRange, ttlv.OperationAdjustAttribute, uid(id), ref(ttlv.TagProtectionPeriod),
		ttlv.Enum(ttlv.TagAdjustmentType, ttlv.AdjustmentTypeDecrement), ttlv.Seconds(ttlv.TagAdjustmentValue, 13))
	c.fails(ttlv.ResultReasonObjectNotFound, ttlv.OperationGet, uid("none"))
	c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationCreate, aes(12)...)
	c.must(ttlv.OperationPing)
	items := c.batch(nil, op(ttlv.OperationCreate, aes2(12)...), op(ttlv.OperationCreate, aes2(12)...), op(ttlv.OperationActivate, ttlv.Int(ttlv.TagUniqueIdentifier, 0)),
		op(ttlv.OperationActivate, ttlv.Enum(ttlv.TagUniqueIdentifier, 3)), op(ttlv.OperationDestroy, uid(id)), op(ttlv.OperationGet, uid(id)))
	made := func(i int) string {
		return items[i].Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text()
	}
	if made(2) != made(0) || made(3) != made(1) {
		t.Error("identifiers by the number of an item, or by what made it, are wrong")
	}
	if _, r := outcome(items[5]); r != ttlv.ResultReasonObjectDestroyed {
		t.Errorf("a destroyed object: %d", r)
	}
	c.ver = [2]int32{2, 7}
	c.fails(ttlv.ResultReasonUnsupportedProtocolVersion, ttlv.OperationPing)
}

// Tickets: less than the role, so often, so long; not another's.
func TestTickets(t *testing.T) {
	t.Parallel()
	c, _ := v2(t, all)
	id := c.must(ttlv.OperationCreate, aes2(12)...).Get(ttlv.TagUniqueIdentifier).Text()
	with := func(ticket *ttlv.Node, calls ...call) uint32 {
		t.Helper()
		h := ttlv.Struct(ttlv.TagAuthentication, ttlv.Struct(ttlv.TagCredential, ttlv.Enum(ttlv.TagCredentialType, ttlv.CredentialTypeTicket),
			ttlv.Struct(ttlv.TagCredentialValue, ticket)))
		_, r := outcome(c.batch([]*ttlv.Node{h}, calls...)[0])
		return r
	}
	get, list := op(ttlv.OperationGet, uid(id)), op(ttlv.OperationGetAttributes, uid(id))
	twice := c.must(ttlv.OperationLogin, ttlv.Int(ttlv.TagRequestCount, 2)).Get(ttlv.TagTicket)
	if got := fmt.Sprint(with(twice, get), with(twice, get), with(twice, get)); got != fmt.Sprint(0, 0, ttlv.ResultReasonUsageLimitExceeded) {
		t.Errorf("a ticket for two requests: %s", got)
	}
	few := c.must(ttlv.OperationDelegatedLogin, ttlv.Struct(ttlv.TagRights, ttlv.Struct(ttlv.TagRight,
		ttlv.Struct(ttlv.TagOperations, ttlv.Enum(ttlv.TagOperation, ttlv.OperationGetAttributes)), ttlv.Struct(ttlv.TagObjects, uid(id))))).Get(ttlv.TagTicket)
	other := c.must(ttlv.OperationCreate, aes2(12)...).Get(ttlv.TagUniqueIdentifier).Text()
	got := fmt.Sprint(with(few, list), with(few, get), with(few, op(ttlv.OperationGetAttributes, uid(other))), with(few, op(ttlv.OperationLogin)))
	if got != fmt.Sprint(0, ttlv.ResultReasonNotAuthorised, ttlv.ResultReasonNotAuthorised, ttlv.ResultReasonNotAuthorised) {
		t.Errorf("a ticket for little: %s", got)
	}
	c.must(ttlv.OperationLogout, few)
	if r := with(few, list); r != ttlv.ResultReasonInvalidTicket {
		t.Errorf("after the logout: %d", r)
	}
	if r := with(ttlv.Struct(ttlv.TagTicket, ttlv.Bytes(ttlv.TagTicketValue, make([]byte, 32))), list); r != ttlv.ResultReasonInvalidTicket {
		t.Errorf("a made up ticket: %d", r)
	}
}

// Answers that are asked for later, by who has asked.
func TestAsynchronous(t *testing.T) {
	t.Parallel()
	c, _ := v2(t, all)
	c.ver = [2]int32{1, 4}
	id := c.create(name("k"))
	later := []*ttlv.Node{ttlv.Bool(ttlv.TagAsynchronousIndicator, true)}
	item := c.batch(later, op(ttlv.OperationLocate, name("k")))[0]
	value := item.Get(ttlv.TagAsynchronousCorrelationValue)
	if value == nil || uint32(item.Get(ttlv.TagResultStatus).Int) != ttlv.ResultStatusOperationPending || item.Get(ttlv.TagResponsePayload) != nil {
		t.Fatal("no pending answer")
	}
	if got := c.must(ttlv.OperationPoll, value).Get(ttlv.TagUniqueIdentifier).Text(); got != id {
		t.Errorf("located %q", got)
	}
	c.fails(ttlv.ResultReasonItemNotFound, ttlv.OperationPoll, value)
	value = c.batch(later, op(ttlv.OperationLocate, name("k")))[0].Get(ttlv.TagAsynchronousCorrelationValue)
	if got := c.must(ttlv.OperationCancel, value).Get(ttlv.TagCancellationResult).Int; uint32(got) != ttlv.CancellationResultCanceled {
		t.Errorf("cancelled: %d", got)
	}
	value = c.batch(later, op(ttlv.OperationLocate, name("k")))[0].Get(ttlv.TagAsynchronousCorrelationValue)
	c.batch(later, op(ttlv.OperationArchive, uid(id)))
	c.fails(ttlv.ResultReasonOperationNotSupported, ttlv.OperationQueryAsynchronousRequests)
	c.ver = [2]int32{2, 1}
	if n := len(c.must(ttlv.OperationQueryAsynchronousRequests).All(ttlv.TagAsynchronousRequest)); n != 2 {
		t.Errorf("%d operations wait", n)
	}
	list := c.must(ttlv.OperationQueryAsynchronousRequests, ttlv.Struct(ttlv.TagOperations, ttlv.Enum(ttlv.TagOperation, ttlv.OperationLocate))).All(ttlv.TagAsynchronousRequest)
	if len(list) != 1 || !bytes.Equal(list[0].Get(ttlv.TagAsynchronousCorrelationValue).Bytes, value.Bytes) || time.Since(time.Unix(list[0].Get(ttlv.TagSubmissionDate).Int, 0)) > time.Minute {
		t.Errorf("%v", list)
	}
	c.must(ttlv.OperationProcess, value)
	c.must(ttlv.OperationPoll, value)
	c.fails(ttlv.ResultReasonInvalidAsynchronousCorrelationValue, ttlv.OperationProcess, value)
}

// What another server exported comes in with its identifier and its dates.
func TestImportExport(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	old.create(name("taken"))
	created := ttlv.Time(ttlv.TagInitialDate, time.Unix(1_000_000_000, 0))
	key := func(b byte) *ttlv.Node {
		return ttlv.Struct(ttlv.TagSymmetricKey, ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeRaw),
			ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, bytes.Repeat([]byte{b}, 16))),
			ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 128)))
	}
	in := func(replace bool, b byte, names ...string) []*ttlv.Node {
		attrs := ttlv.Struct(ttlv.TagAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, 12), created, ttlv.Enum(ttlv.TagState, ttlv.StateActive),
			ttlv.Time(ttlv.TagActivationDate, time.Unix(1_000_000_001, 0)))
		for _, n := range names {
			attrs.Add(ttlv.Struct(ttlv.TagName, ttlv.Text(ttlv.TagNameValue, n), ttlv.Enum(ttlv.TagNameType, 1)))
		}
		return []*ttlv.Node{uid("../../their key"), ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Bool(ttlv.TagReplaceExisting, replace), attrs, key(b)}
	}
	c.must(ttlv.OperationImport, in(false, 1, "theirs")...)
	c.fails(ttlv.ResultReasonObjectAlreadyExists, ttlv.OperationImport, in(false, 2)...)
	c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationImport, in(true, 2, "taken")...)
	c.must(ttlv.OperationImport, in(true, 2, "theirs", "more")...)
	out := c.must(ttlv.OperationExport, uid("../../their key"))
	attrs := out.Get(ttlv.TagAttributes)
	if attrs.Get(ttlv.TagInitialDate).Int != 1_000_000_000 || uint32(attrs.Get(ttlv.TagState).Int) != ttlv.StateActive || len(attrs.All(ttlv.TagName)) != 2 ||
		out.Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes[0] != 2 {
		t.Errorf("exported %v", out)
	}
	if got := old.must(ttlv.OperationLocate, name("theirs")).All(ttlv.TagUniqueIdentifier); len(got) != 1 {
		t.Errorf("the name leads to %d objects", len(got))
	}
}

// A key is put together of enough parts, in any order, and of no less.
func TestSplitKeys(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	id := old.create()
	material := func(id string) string {
		key := old.must(ttlv.OperationGet, uid(id)).Get(ttlv.TagSymmetricKey)
		return hex.EncodeToString(key.Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes)
	}
	split := c.must(ttlv.OperationCreateSplitKey, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSplitKey), uid(id), ttlv.Int(ttlv.TagSplitKeyParts, 5),
		ttlv.Int(ttlv.TagSplitKeyThreshold, 3), ttlv.Enum(ttlv.TagSplitKeyMethod, ttlv.SplitKeyMethodPolynomialSharingGF28), ttlv.Struct(ttlv.TagAttributes)).All(ttlv.TagUniqueIdentifier)
	if len(split) != 5 {
		t.Fatalf("%d parts", len(split))
	}
	typ := ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey)
	joined := c.must(ttlv.OperationJoinSplitKey, typ, split[4], split[0], split[2]).Get(ttlv.TagUniqueIdentifier).Text()
	if material(joined) != material(id) {
		t.Error("what was put together is not what was split")
	}
	c.fails(ttlv.ResultReasonCryptographicFailure, ttlv.OperationJoinSplitKey, typ, split[4], split[0])
	c.fails(ttlv.ResultReasonCryptographicFailure, ttlv.OperationJoinSplitKey, typ, split[4], split[0], split[0])
}
