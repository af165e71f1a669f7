package kmip_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"arca/internal/ttlv"
)

// Operations of steps 4, 5 and 8 of the requirements' chapter 16 that other tests do not have: leases, Check,
// usage allocation, the archive, random numbers, Log, and what is asked for later.
func TestSmallOperations(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	file := t.TempDir() + "/audit.log"
	s.Must("PUT", "sys/audit/file", s.Root, object{"type": "file", "options": object{"file_path": file}})
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	refused := func(what string, want, code uint32, payload ...*ttlv.Node) {
		t.Helper()
		if _, r := c.do(code, payload...); r != want {
			t.Errorf("%s: reason %d, want %d", what, r, want)
		}
	}

	id := c.create(attr("Usage Limits", ttlv.Struct(0, ttlv.Long(ttlv.TagUsageLimitsTotal, 100), ttlv.Enum(ttlv.TagUsageLimitsUnit, 1))))
	lease := c.must(ttlv.OperationObtainLease, uid(id))
	if n := lease.Get(ttlv.TagLeaseTime); n == nil || n.Type != ttlv.Interval || n.Int < 1 || lease.Get(ttlv.TagLastChangeDate) == nil {
		t.Errorf("the lease is %v", n)
	}
	check := func(asked ...*ttlv.Node) (unmet []ttlv.Tag) {
		t.Helper()
		for _, n := range c.must(ttlv.OperationCheck, append([]*ttlv.Node{uid(id)}, asked...)...).Children {
			if n.Tag != ttlv.TagUniqueIdentifier {
				unmet = append(unmet, n.Tag)
			}
		}
		return unmet
	}
	mask, count, length := ttlv.TagCryptographicUsageMask, ttlv.TagUsageLimitsCount, ttlv.TagLeaseTime
	if got := check(ttlv.Int(mask, int32(ttlv.MaskEncrypt)), ttlv.Long(count, 100), ttlv.Seconds(length, uint32(lease.Get(length).Int))); len(got) != 0 {
		t.Errorf("Check of what the key meets: %v", got)
	}
	if got := check(ttlv.Int(mask, int32(ttlv.MaskSign)), ttlv.Long(count, 101), ttlv.Seconds(length, 1<<31)); !slices.Equal(got, []ttlv.Tag{count, mask, length}) {
		t.Errorf("Check of what it does not: %v", got)
	}
	c.must(ttlv.OperationGetUsageAllocation, uid(id), ttlv.Long(count, 60))
	refused("more than is left", ttlv.ResultReasonPermissionDenied, ttlv.OperationGetUsageAllocation, uid(id), ttlv.Long(count, 41))
	if got := check(ttlv.Long(count, 40)); len(got) != 0 {
		t.Errorf("after an allocation there is less than 40: %v", got)
	}
	if got := check(ttlv.Long(count, 41)); len(got) != 1 {
		t.Error("after an allocation there are more than 40")
	}
	refused("a negative allocation", ttlv.ResultReasonInvalidField, ttlv.OperationGetUsageAllocation, uid(id), ttlv.Long(count, -1))
	other := c.create()
	refused("an allocation of what has no limits", ttlv.ResultReasonIllegalOperation, ttlv.OperationGetUsageAllocation, uid(other), ttlv.Long(count, 1))

	c.must(ttlv.OperationArchive, uid(other))
	refused("Get of what is archived", ttlv.ResultReasonObjectArchived, ttlv.OperationGet, uid(other))
	refused("Activate of what is archived", ttlv.ResultReasonObjectArchived, ttlv.OperationActivate, uid(other))
	if n := len(c.must(ttlv.OperationLocate, attr("Unique Identifier", ttlv.Text(0, other))).All(ttlv.TagUniqueIdentifier)); n != 0 {
		t.Error("what is archived is located among what is online")
	}
	if n := len(c.must(ttlv.OperationLocate, ttlv.Int(ttlv.TagStorageStatusMask, 2)).All(ttlv.TagUniqueIdentifier)); n != 1 {
		t.Errorf("%d are located in the archive", n)
	}
	c.must(ttlv.OperationRecover, uid(other))
	c.must(ttlv.OperationGet, uid(other))
	c.must(ttlv.OperationActivate, uid(other))
	c.must(ttlv.OperationRevoke, uid(other), reason(ttlv.RevocationReasonCodeKeyCompromise))
	refused("a lease on what is compromised", ttlv.ResultReasonPermissionDenied, ttlv.OperationObtainLease, uid(other))

	random := func(n int32) []byte {
		t.Helper()
		return c.must(ttlv.OperationRNGRetrieve, ttlv.Int(ttlv.TagDataLength, n)).Get(ttlv.TagData).Bytes
	}
	if a, b := random(32), random(32); len(a) != 32 || len(b) != 32 || bytes.Equal(a, b) {
		t.Error("random numbers are not random")
	}
	for _, n := range []int32{0, -1, 1<<31 - 1} {
		refused("random numbers of a length that is none", ttlv.ResultReasonInvalidField, ttlv.OperationRNGRetrieve, ttlv.Int(ttlv.TagDataLength, n))
	}
	if n := c.must(ttlv.OperationRNGSeed, ttlv.Bytes(ttlv.TagData, make([]byte, 16))).Get(ttlv.TagDataLength); n == nil || n.Int != 16 && n.Int != 0 {
		t.Errorf("of a seed of 16 bytes there were taken %v", n)
	}

	c.ver = [2]int32{2, 1}
	c.must(ttlv.OperationLog, ttlv.Text(ttlv.TagLogMessage, "a word of the client"))
	refused("a word that is too long", ttlv.ResultReasonInvalidField, ttlv.OperationLog, ttlv.Text(ttlv.TagLogMessage, strings.Repeat("x", 9<<10)))
	await(t, "the word in the audit log", func() bool { return strings.Contains(readFile(t, file), "a word of the client") })
	waiting := func() []*ttlv.Node {
		t.Helper()
		return c.must(ttlv.OperationQueryAsynchronousRequests).All(ttlv.TagAsynchronousRequest)
	}
	if n := len(waiting()); n != 0 {
		t.Errorf("%d answers wait for nobody", n)
	}
	item := c.batch([]*ttlv.Node{ttlv.Enum(ttlv.TagAsynchronousIndicator, ttlv.AsynchronousIndicatorMandatory)}, op(ttlv.OperationArchive, uid(id)))[0]
	if item.Get(ttlv.TagResultStatus).Int != int64(ttlv.ResultStatusOperationPending) {
		t.Fatalf("it is not pending: %d", item.Get(ttlv.TagResultStatus).Int)
	}
	value := item.Get(ttlv.TagAsynchronousCorrelationValue)
	if list := waiting(); len(list) != 1 || !bytes.Equal(list[0].Get(ttlv.TagAsynchronousCorrelationValue).Bytes, value.Bytes) || list[0].Get(ttlv.TagOperation).Int != int64(ttlv.OperationArchive) {
		t.Errorf("%d answers wait", len(list))
	}
	stranger, _ := certificate(t, s, "kmip", "finance", "other", all)
	x := dial(t, address, settings(t, s, "kmip", stranger))
	x.ver = c.ver
	if n := len(x.must(ttlv.OperationQueryAsynchronousRequests).All(ttlv.TagAsynchronousRequest)); n != 0 {
		t.Error("another role sees what waits")
	}
	if _, r := x.do(ttlv.OperationPoll, value); r == 0 {
		t.Error("another role has the answer")
	}
	c.must(ttlv.OperationPoll, value)
	if n := len(waiting()); n != 0 {
		t.Errorf("%d answers wait after they were asked for", n)
	}
}
