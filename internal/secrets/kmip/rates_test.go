package kmip_test

import (
	"testing"

	"arca/internal/ttlv"
)

// Chapter 14: a role's rate holds all its clients, at once, also over connections; others
// are served as before; the refusal is one of the protocol and on record.
func TestRates(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "busy", all)
	other, _ := certificate(t, s, "kmip", "finance", "calm", all)
	cfg := settings(t, s, "kmip", cert)
	c, calm := dial(t, address, cfg), dial(t, address, settings(t, s, "kmip", other))
	c.create()
	role := "kmip/scope/finance/role/busy"
	for _, bad := range []any{-1, 1_000_001, "many"} {
		if code, _ := s.Do("POST", role, s.Root, object{"max_operations_per_second": bad}); code != 400 {
			t.Errorf("a rate of %v: %d", bad, code)
		}
	}
	spend := func(c *client) (refused uint32, n int) {
		for range 200 {
			if _, r := c.do(ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryObjects)); r != 0 {
				refused, n = r, n+1
			}
		}
		return refused, n
	}
	indebted := func(c *client) { // for more than a minute: the test does not hang on how fast it runs
		calls := make([]call, 100)
		for i := range calls {
			calls[i] = op(ttlv.OperationDiscoverVersions)
		}
		for _, it := range c.batch(nil, calls...) {
			if _, r := outcome(it); r != 0 {
				t.Fatalf("a first batch, larger than the rate: %d", r)
			}
		}
	}
	if _, n := spend(c); n != 0 {
		t.Errorf("%d were refused without a limit", n)
	}
	s.Must("POST", role, s.Root, object{"max_operations_per_second": 1, "operation_all": true})
	indebted(c)
	if r, n := spend(c); r != ttlv.ResultReasonGeneralFailure || n != 200 {
		t.Errorf("above the rate: reason %d, %d of 200", r, n)
	}
	again := dial(t, address, cfg) // the limit is not the connection's
	again.ver = [2]int32{2, 1}
	if r, n := spend(again); n != 200 || r != ttlv.ResultReasonServerLimitExceeded {
		t.Errorf("in KMIP 2: reason %d", r)
	}
	if _, n := spend(calm); n != 0 {
		t.Errorf("%d of another role were refused", n)
	}
	id := calm.create()
	for _, it := range c.batch(nil, op(ttlv.OperationDestroy, uid(id)), op(ttlv.OperationGet, uid(id))) {
		if _, r := outcome(it); r != ttlv.ResultReasonGeneralFailure {
			t.Errorf("a batch above the rate: %d", r)
		}
	}
	calm.must(ttlv.OperationGet, uid(id)) // it was not destroyed
	s.Must("POST", "kmip/config", s.Root, object{"max_operations_per_second_per_client": 1})
	s.Must("POST", role, s.Root, object{"max_operations_per_second": 1_000_000, "max_operations_per_second_per_client": 1_000_000})
	if _, n := spend(c); n != 0 {
		t.Errorf("%d were refused by the mount's limit, though the role has its own", n)
	}
	indebted(calm)
	if _, n := spend(calm); n != 200 {
		t.Errorf("%d were refused by the mount's limit for a client", n)
	}
	s.Must("POST", "kmip/config", s.Root, object{"max_operations_per_second_per_client": nil})
	if _, n := spend(calm); n != 0 {
		t.Errorf("%d were refused after the limit was taken away", n)
	}
}
