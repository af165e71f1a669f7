package cli

import (
	"net/http"
	"sort"
	"strings"

	"github.com/hashicorp/vault/api"
)

// curlString is what -output-curl-string prints. The token is never shown; a
// command that prints it stands in its place. Headers are sorted, so that the
// same request gives the same line.
func curlString(r *api.OutputStringError) (string, error) {
	body, err := r.Request.BodyBytes()
	if err != nil {
		return "", err
	}
	words := []string{"curl"}
	option := func(name, value string) {
		if value != "" {
			words = append(words, name, "'"+singleQuoted(value)+"'")
		}
	}
	if r.TLSSkipVerify {
		words = append(words, "--insecure")
	}
	if r.Request.Method != http.MethodGet {
		words = append(words, "-X", r.Request.Method)
	}
	option("--cacert", r.ClientCACert)
	option("--capath", r.ClientCAPath)
	option("--cert", r.ClientCert)
	option("--key", r.ClientKey)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, value := range r.Header[name] {
			if strings.EqualFold(name, api.AuthHeaderName) {
				value = "$(vault print token)"
			}
			words = append(words, "-H", `"`+name+": "+value+`"`)
		}
	}
	if len(body) > 0 {
		option("-d", string(body))
	}
	words = append(words, `"`+r.URL.String()+`"`)
	return strings.Join(words, " "), nil
}

// singleQuoted escapes text for use between single quotes in a shell.
func singleQuoted(s string) string { return strings.ReplaceAll(s, "'", `'"'"'`) }
