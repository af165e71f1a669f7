package cli

import (
	"path/filepath"
	"strings"
)

// environ is the environment a run was given. Every VAULT_ variable has an
// ARCA_ synonym; when both are set, the VAULT_ one wins, because tools that
// start us set that one on purpose.
type environ map[string]string

func newEnviron(list []string) environ {
	e := make(environ, len(list))
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok {
			e[k] = v
		}
	}
	return e
}

// get returns a variable, or its ARCA_ synonym, or "".
func (e environ) get(name string) string {
	if v := e[name]; v != "" {
		return v
	}
	if rest, ok := strings.CutPrefix(name, "VAULT_"); ok {
		return e["ARCA_"+rest]
	}
	return ""
}

// home is the user's directory, "" if unknown.
func (e environ) home() string { return e["HOME"] }

// expand replaces a leading ~ by the home directory.
func (e environ) expand(path string) string {
	if path == "~" {
		return e.home()
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(e.home(), rest)
	}
	return path
}

// Synonyms returns the VAULT_ settings that only ARCA_ variables give. main
// exports them, so that libraries that read the process's environment (the API
// client, the server's parts) see them too.
func Synonyms(list []string) map[string]string {
	e, out := newEnviron(list), map[string]string{}
	for k, v := range e {
		if rest, ok := strings.CutPrefix(k, "ARCA_"); ok && v != "" && e["VAULT_"+rest] == "" {
			out["VAULT_"+rest] = v
		}
	}
	return out
}
