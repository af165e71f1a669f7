package issuer

import (
	"testing"
	"time"

	"arca/internal/identity"
)

// A token names groups of the namespace that makes it: nobody gives themselves a
// name in it by a group of their own.
func TestNamesOfGroupsOfOthers(t *testing.T) {
	t.Parallel()
	p := &identity.Person{
		Entity: &identity.Entity{ID: "e"},
		Groups: []*identity.Group{{ID: "1", Name: "staff", NamespaceID: "root"}, {ID: "2.Tenant", Name: "admins", NamespaceID: "Tenant"}},
	}
	got, err := fillTemplate(`{"n":{{identity.entity.groups.names}},"i":{{identity.entity.groups.ids}}}`, p, "root", time.Now())
	if err != nil || string(got["n"]) != `["staff"]` || string(got["i"]) != `["1","2.Tenant"]` {
		t.Errorf("%s, %s, %v", got["n"], got["i"], err)
	}
}
