package kubernetes

import (
	"encoding/base64"
	"testing"
	"time"
)

// A token comes from outside: it is read or refused, and never belongs to an
// account that the role does not name.
func FuzzToken(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"kubernetes.io/serviceaccount/namespace":"a","kubernetes.io/serviceaccount/service-account.name":"b","kubernetes.io/serviceaccount/service-account.uid":"c"}`,
		`{"aud":["x"],"exp":1e300,"kubernetes.io":{"namespace":"a","serviceaccount":{"name":"b","uid":"c"}}}`, `{"aud":5}`, `[]`, `{"exp":"x"}`,
	} {
		f.Add(s)
	}
	r := &role{Names: []string{"b*"}, Namespaces: []string{"a"}}
	c := &config{SkipIssuer: true}
	f.Fuzz(func(t *testing.T, payload string) {
		a, _, err := c.read("h."+base64.RawURLEncoding.EncodeToString([]byte(payload))+".s", time.Unix(1e9, 0), r)
		if err == nil && (a.namespace != "a" || a.name == "" || a.name[0] != 'b' || a.uid == "") {
			t.Errorf("%q is %+v", payload, a)
		}
		if _, _, err := c.read(payload, time.Unix(1e9, 0), r); err == nil && len(payload) < 8 {
			t.Errorf("%q was read", payload)
		}
	})
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"*", "", true},
		{"a*", "ab", true},
		{"a*", "ba", false},
		{"*b", "ab", true},
		{"a*c*e", "abcde", true},
		{"a*c*e", "ace", true},
		{"a*a", "a", false},
		{"", "", true},
		{"**", "x", true},
	} {
		if got := match(c.pattern, c.value); got != c.want {
			t.Errorf("%q with %q: %t", c.pattern, c.value, got)
		}
	}
}
