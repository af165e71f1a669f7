package policy

import (
	"errors"
	"testing"
	"time"
)

// TestRules checks what rules cover; a star in the middle counts, in rules that
// deny too. S0-40, S0-51.
func TestRules(t *testing.T) {
	t.Parallel()
	guide := []string{"/v1/key/create/my-key*", "/v1/key/generate/my-key*", "/v1/key/decrypt/my-key*"}
	for _, c := range []struct {
		name        string
		allow, deny []string
		path        string
		want        bool
	}{
		{"guide", guide, nil, "/v1/key/create/my-key-1", true},
		{"guide, exactly", guide, nil, "/v1/key/create/my-key", true},
		{"guide, other name", guide, nil, "/v1/key/create/other", false},
		{"guide, other call", guide, nil, "/v1/key/delete/my-key-1", false},
		{"exact", []string{"/v1/status"}, nil, "/v1/status", true},
		{"exact is no prefix", []string{"/v1/status"}, nil, "/v1/status2", false},
		{"list without a star", []string{"/v1/key/list"}, nil, "/v1/key/list/", false},
		{"prefix crosses slashes", []string{"/v1/key/*"}, nil, "/v1/key/bulk/decrypt/x", true},
		{"all", []string{"*"}, nil, "/v1/anything", true},
		{"deny wins", []string{"/v1/key/*"}, []string{"/v1/key/delete/*"}, "/v1/key/delete/x", false},
		{"glob denies", []string{"/v1/key/*"}, []string{"/v1/key/*/secret-key"}, "/v1/key/decrypt/secret-key", false},
		{"glob denies no other", []string{"/v1/key/*"}, []string{"/v1/key/*/secret-key"}, "/v1/key/decrypt/secret-key2", true},
		{"glob stops at slashes", []string{"/v1/*/x"}, nil, "/v1/key/create/x", false},
		{"question mark", []string{"/v1/key/create/k?"}, nil, "/v1/key/create/k1", true},
		{"nothing", nil, nil, "/v1/status", false},
	} {
		p, err := New(c.allow, c.deny, time.Now(), "admin")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Allows(c.path); got != c.want {
			t.Errorf("%s: %v for %s", c.name, got, c.path)
		}
	}
	if _, err := New([]string{"/v1/[a"}, nil, time.Now(), ""); err == nil {
		t.Error("a broken pattern is taken")
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	p, err := New([]string{"/v1/status"}, nil, time.Now(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := &Set{Policies: map[string]*Policy{"p": p}, Identities: map[string]string{"u": "p", "lost": "gone"}, Admin: "disabled"}
	for id, want := range map[string]bool{"u": true, "stranger": false, "": false, "lost": false} {
		if got := s.Authorize(id, "/v1/status"); (got == nil) != want || got != nil && !errors.Is(got, ErrDenied) {
			t.Errorf("%q: %v", id, got)
		}
	}
	s.Admin = "a"
	if err := s.Authorize("a", "/anything"); err != nil {
		t.Errorf("admin: %v", err)
	}
	if s.Admin = ""; s.IsAdmin("") {
		t.Error("nobody is the admin")
	}
}

// TestDenyOneDeniesMany holds a rule against opening one ciphertext against opening
// several in one call, too.
func TestDenyOneDeniesMany(t *testing.T) {
	t.Parallel()
	p, err := New([]string{"/v1/key/*"}, []string{"/v1/key/decrypt/secret*", "/v1/key/bulk/decrypt/one"}, time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/v1/key/decrypt/secret-1": false, "/v1/key/bulk/decrypt/secret-1": false, "/v1/key/encrypt/secret-1": true,
		"/v1/key/bulk/decrypt/other": true, "/v1/key/decrypt/one": true, "/v1/key/bulk/decrypt/one": false,
	} {
		if got := p.Allows(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if p, err = New([]string{"/v1/key/decrypt/*"}, nil, time.Time{}, ""); err != nil || p.Allows("/v1/key/bulk/decrypt/a") {
		t.Errorf("a rule for one allows several, or %v", err)
	}
}
