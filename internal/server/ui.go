package server

import (
	"io"
	"net/http"
)

// noUI is what stands at /ui/ where the configuration asks for the user
// interface (ui = true): this build has none, and says so.
func noUI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "This build has no user interface. "+ // the client may be gone
			"Use the command line (vault operator unseal, vault login, ...) or the HTTP API below /v1/.\n")
	})
}
