package api

import (
	"net/http"
	"slices"
	"strings"

	"arca/internal/errs"
)

// corsHeaders are always allowed to browsers of an allowed origin.
var corsHeaders = []string{
	"Content-Type", "Authorization", "X-Vault-Token", "X-Vault-MFA", "X-Vault-No-Request-Forwarding", "X-Vault-Wrap-Format",
	"X-Vault-Wrap-TTL", "X-Requested-With", "X-Vault-AWS-IAM-Server-ID", "X-Vault-Policy-Override",
}

var errOrigin = errs.New(errs.Denied, "origin not allowed")

// cors answers a browser's preflight and refuses origins that are not allowed.
// It reports whether the request is answered. The form is the W3C's (Fetch
// standard, CORS protocol).
func (d *door) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || d.CORS == nil {
		return false
	}
	cfg := d.CORS()
	if cfg == nil {
		return false
	}
	if !slices.Contains(cfg.Origins, "*") && !slices.Contains(cfg.Origins, origin) {
		d.fail(w, errOrigin)
		return true
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Vary", "Origin")
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || method == "" {
		return false
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "LIST":
	default:
		h.Del("Content-Type")
		d.head(w, http.StatusMethodNotAllowed)
		return true
	}
	h.Set("Access-Control-Allow-Methods", "DELETE,GET,OPTIONS,POST,PUT,LIST,PATCH")
	h.Set("Access-Control-Allow-Headers", strings.Join(append(slices.Clone(corsHeaders), cfg.Headers...), ","))
	h.Set("Access-Control-Max-Age", "300")
	d.head(w, http.StatusOK)
	return true
}
