package redirect

import "testing"

func TestAllowed(t *testing.T) {
	t.Parallel()
	addresses := []string{"https://app.example.com/cb", "http://localhost:8250/oidc/callback", "http://127.0.0.1/cb", "http://[::1]/cb"}
	for to, want := range map[string]bool{
		"https://app.example.com/cb":                      true,
		"https://app.example.com:444/cb":                  false,
		"https://app.example.com/cb/":                     false,
		"http://localhost:9999/oidc/callback":             true,
		"http://localhost/oidc/callback":                  true,
		"https://localhost:8250/oidc/callback":            false,
		"http://localhost:8250/other":                     false,
		"http://localhost.evil.example.com/oidc/callback": false,
		"http://user@localhost:1/oidc/callback":           false,
		"http://127.0.0.1:5/cb":                           true,
		"http://[::1]:5/cb":                               true,
		"http://127.0.0.1:5/cb?x=y":                       false,
		"http://127.0.0.1:5@evil.example.com/cb":          false,
		"":                                                false,
		"%zz":                                             false,
	} {
		if got := Allowed(addresses, to); got != want {
			t.Errorf("%q: %t, want %t", to, got, want)
		}
	}
}
