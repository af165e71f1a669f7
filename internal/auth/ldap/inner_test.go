package ldap

import "testing"

// As many logins as may wait at one mount keep none of another away.
func TestPlaces(t *testing.T) {
	t.Parallel()
	e := New()
	for range maxAsked {
		if _, ok := e.places.Try("a"); !ok {
			t.Fatal("fewer logins wait than may")
		}
	}
	if _, ok := e.places.Try("a"); ok {
		t.Error("more logins wait than may")
	}
	if _, ok := e.places.Try("b"); !ok {
		t.Error("another mount has no place")
	}
}
