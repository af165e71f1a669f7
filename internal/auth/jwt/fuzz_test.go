package jwt

import (
	"testing"
)

// Claims come from outside: they are read or refused, and who gets in has a name
// and every claim that the role demands.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		`{"sub":"a","team":"x","g":["a"]}`, `{"sub":1}`, `{"sub":"a","team":["x","y"],"g":"one"}`, `{"a":{"b~c":[1,{"d":"x"}]}}`, `[]`, `null`,
		`{"sub":"a","team":"x","g":[null]}`, `{"sub":"a","team":{"x":1},"g":{}}`,
	} {
		f.Add(s, "/a/b~0c/1/d")
		f.Add(s, "team")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		all, err := claimsOf([]byte(text))
		if err != nil {
			return
		}
		claim(all, name)
		r := &role{UserClaim: "sub", GroupsClaim: "g", Claims: map[string]any{"team": "x*"}, ClaimsType: boundGlob, Mappings: map[string]string{name: "m"}}
		if r.checkBound(all) != nil {
			return
		}
		team, isText := all["team"].(string)
		if isText && (team == "" || team[0] != 'x') {
			t.Errorf("team %q was let in", team)
		}
		p, err := r.person(all, "r")
		if err == nil && p.name == "" {
			t.Errorf("%q has no name", text)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----")
	f.Add("junk")
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := publicKey(text); err == nil && key == nil {
			t.Error("no key and no error")
		}
	})
}
