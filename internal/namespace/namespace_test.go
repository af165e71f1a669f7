package namespace

import "testing"

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "/": "", "root": "", "/root/": "", "a": "a/", "/a/b//": "a/b/", "a/": "a/", "root/a": "root/a/",
	} {
		if got := Canonical(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if r := Root(); !r.IsRoot() || r.Path != "" || Prefix(r.ID) != "n/root/" {
		t.Errorf("the root namespace is %+v", r)
	}
}
