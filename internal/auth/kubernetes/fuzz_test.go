package kubernetes

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
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
		q, err := c.read("h."+base64.RawURLEncoding.EncodeToString([]byte(payload))+".s", time.Unix(1e9, 0), r)
		if err == nil && (q.account.namespace != "a" || !strings.HasPrefix(q.account.name, "b") || q.account.uid == "") {
			t.Errorf("%q is %+v", payload, q.account)
		}
		if _, err := c.read(payload, time.Unix(1e9, 0), r); err == nil && len(payload) < 8 {
			t.Errorf("%q was read", payload)
		}
	})
}

// What a cluster answers vouches for one account at most, and for no audience that it
// does not name.
func FuzzReview(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"system:serviceaccount:a:b","uid":"c"}}}`,
		`{"status":{"authenticated":true,"audiences":["x"],"user":{"username":"system:serviceaccount:a:b","uid":"c","groups":["g"]}}}`,
		`{"status":{"authenticated":true,"error":"no","user":{"username":"system:serviceaccount:a:b","uid":"c"}}}`,
		`{"status":{"authenticated":true,"user":{"username":"system:serviceaccount:a:b:c"}},"status":{"user":{"uid":"c"}}}`,
		`{"kind":"Status","status":"Failure"}`, `{"status":{"authenticated":"true"}}`, `null`, `[]`, `{`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		said, err := parseReview(raw)
		if err != nil {
			return
		}
		ask := func(namespace, name, uid string, audiences ...string) bool {
			return said.vouches(&question{audiences: audiences, account: account{namespace: namespace, name: name, uid: uid}}) == nil
		}
		if !ask("a", "b", "c") {
			return
		}
		if !said.Status.Authenticated || said.Status.Error != "" {
			t.Errorf("%q vouches for an account", raw)
		}
		if ask("a", "b", "d") || ask("a", "b", "") || ask("a", "", "c") || ask("", "a:b", "c") {
			t.Errorf("%q vouches for two accounts", raw)
		}
		if len(said.Status.Audiences) > 0 && ask("a", "b", "c", strings.Join(said.Status.Audiences, "")+"?") {
			t.Errorf("%q vouches for any audience", raw)
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
		if got := matches([]string{c.pattern}, c.value); got != c.want {
			t.Errorf("%q with %q: %t", c.pattern, c.value, got)
		}
	}
}

// A selector is read or refused, and chooses no namespace without labels unless it
// says what must be absent.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{
		`{"matchLabels":{"a":"b"}}`, "matchLabels:\n  a: b\n", `{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}`,
		"matchExpressions:\n- {key: a, operator: DoesNotExist}\n", "a: &a [*a]", "{}", "matchLabels: {a: 1}", "- 1", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSelector(text)
		if err != nil {
			return
		}
		absent := len(s.Labels) == 0
		for _, r := range s.Expressions {
			absent = absent && (r.Operator == opNotIn || r.Operator == opAbsent)
		}
		if s.fits(nil) != absent {
			t.Errorf("%q chooses a namespace without labels", text)
		}
	})
}

// Keys that a cluster publishes are public, for signatures, and have a name.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{
		`{"keys":[]}`, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`,
		`{"keys":[{"kty":"oct","k":"AAAA","kid":"k"}]}`, `{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB","kid":"k","use":"enc"}]}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, k := range parseKeys(raw) {
			if !k.IsPublic() || k.KeyID == "" || k.Use == "enc" {
				t.Errorf("%q has %+v", raw, k)
			}
		}
	})
}

func TestSelector(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"team": "a", "stage": "prod", "empty": "", "day": "2024-01-01", "tier": "1", "on": "true", "ok": "yes"}
	for _, c := range []struct {
		text string
		want bool
	}{
		{`{"matchLabels":{"team":"a"}}`, true},
		{`{"matchLabels":{"team":"a","stage":"dev"}}`, false},
		{`{"matchLabels":{"none":""}}`, false},
		{"matchLabels:\n  empty: \"\"\n", true},
		{"matchExpressions:\n- key: team\n  operator: In\n  values: [b, a]\n", true},
		{"matchExpressions:\n- {key: team, operator: NotIn, values: [a]}\n", false},
		{"matchExpressions:\n- {key: none, operator: NotIn, values: [a]}\n", true},
		{"matchExpressions:\n- {key: empty, operator: Exists}\n", true},
		{"matchExpressions:\n- {key: team, operator: DoesNotExist}\n", false},
		{"matchLabels: {day: 2024-01-01, tier: 1, on: true, ok: yes}\n", true},
		{"matchExpressions:\n- {key: day, operator: NotIn, values: [2024-01-01]}\n", false},
		{"matchLabels: {team: a}\nmatchExpressions:\n- {key: stage, operator: In, values: [dev]}\n", false},
	} {
		s, err := parseSelector(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := s.fits(labels); got != c.want {
			t.Errorf("%s: %t", c.text, got)
		}
	}
}

// Keys are fetched when they are old or one is missing, but not at every look.
func TestWhenKeysAreFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPublished()
		want := func(step, id string, found, fetch bool) {
			t.Helper()
			if list, f := p.named(id); (len(list) > 0) != found || f != fetch {
				t.Errorf("%s: %d keys, fetch %t", step, len(list), f)
			}
		}
		want("none yet", "a", false, true)
		p.keys, p.fetched = []jose.JSONWebKey{{KeyID: "a"}}, time.Now()
		want("at hand", "a", true, false)
		want("unknown", "b", false, false)
		time.Sleep(pause)
		want("unknown, later", "b", false, true)
		want("at hand, later", "a", true, false)
		time.Sleep(freshFor)
		want("old", "a", false, true)
		if !p.mayTry() || p.mayTry() {
			t.Error("the cluster is asked again at once")
		}
		time.Sleep(pause)
		if !p.mayTry() {
			t.Error("the cluster is not asked again")
		}
	})
}
