package kmip_test

import (
	"fmt"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// Operators see objects and change their state by the API, and never see a key.
func TestObjectsByAPI(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	s.Must("POST", "kmip/scope/finance", s.Root, object{"retention": "1h"})
	var ids []string
	for i := range 5 {
		ids = append(ids, c.create(name(fmt.Sprint("k", i)), attr("x-app", ttlv.Text(0, "db"))))
	}
	const dir = "kmip/scope/finance/object"
	list := arcatest.Dig(s.Must("LIST", dir+"?limit=2&after="+ids[1], s.Root, nil), "data").(object)
	if fmt.Sprint(list["keys"]) != fmt.Sprint(ids[2:4]) || arcatest.Dig(list, "key_info", ids[2], "name") != "k2" {
		t.Errorf("listed %v", list)
	}
	one := arcatest.Dig(s.Must("GET", dir+"/"+ids[0], s.Root, nil), "data", "attributes").(object)
	if one["State"] != "PreActive" || fmt.Sprint(one["x-app"]) != "[db]" || one["Cryptographic Algorithm"] != "AES" || one["Cryptographic Usage Mask"] != "Encrypt Decrypt" {
		t.Errorf("attributes %v", one)
	}
	s.Must("POST", dir+"/"+ids[0]+"/activate", s.Root, nil)
	if code, _ := s.Do("DELETE", dir+"/"+ids[0], s.Root, nil); code != 400 {
		t.Errorf("an active object is destroyed: %d", code)
	}
	if code, _ := s.Do("POST", dir+"/"+ids[0]+"/revoke", s.Root, object{"reason": "Boredom"}); code != 400 {
		t.Errorf("a reason that is none: %d", code)
	}
	s.Must("POST", dir+"/"+ids[0]+"/revoke", s.Root, object{"reason": "Superseded"})
	s.Must("DELETE", dir+"/"+ids[0], s.Root, nil)
	c.fails(ttlv.ResultReasonItemNotFound, ttlv.OperationGet, uid(ids[0]))
	if st := arcatest.Dig(s.Must("GET", "kmip/scope/finance/stats", s.Root, nil), "data", "by_state").(object); fmt.Sprint(st) != "map[Destroyed:1 PreActive:4]" {
		t.Errorf("states %v", st)
	}
	s.Must("POST", dir+"/"+ids[0]+"/restore", s.Root, nil)
	c.must(ttlv.OperationGet, uid(ids[0]))
	if got := c.must(ttlv.OperationLocate, name("k0")).All(ttlv.TagUniqueIdentifier); len(got) != 1 {
		t.Error("a restored object has lost its name")
	}
	s.Must("POST", "kmip/scope/finance", s.Root, object{"retention": 0})
	s.Must("DELETE", dir+"/"+ids[1], s.Root, nil)
	if code, _ := s.Do("POST", dir+"/"+ids[1]+"/restore", s.Root, nil); code != 400 {
		t.Errorf("what was erased is restored: %d", code)
	}
	for _, path := range []string{dir + "/none", "kmip/scope/none/object/" + ids[2], "kmip/scope/none/stats"} {
		if code, _ := s.Do("GET", path, s.Root, nil); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}
