package ldap

import "testing"

// As many logins as may wait at one mount keep none of another away.
func TestPlaces(t *testing.T) {
	t.Parallel()
	e := New()
	for range maxAsked {
		if err := e.enter("a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.enter("a"); err == nil {
		t.Error("more logins wait than may")
	}
	if err := e.enter("b"); err != nil {
		t.Errorf("another mount: %v", err)
	}
	for range maxAsked {
		e.leave("a")
	}
	if e.leave("b"); e.all != 0 || len(e.asked) != 0 {
		t.Errorf("%d logins are still counted, of %v", e.all, e.asked)
	}
}
