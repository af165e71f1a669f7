package api

import (
	"net/http"
	"slices"
	"strings"
)

// corsHeaders are always allowed to browsers of an allowed origin.
var corsHeaders = []string{
	"Content-Type", "X-Requested-With", "X-Vault-AWS-IAM-Server-ID", "X-Vault-MFA", "X-Vault-No-Request-Forwarding",
	"X-Vault-Wrap-Format", "X-Vault-Wrap-TTL", "X-Vault-Policy-Override", "Authorization", "X-Vault-Token", "X-Vault-Namespace",
}

// cors answers a browser's preflight and refuses origins that are not allowed.
// It reports whether the request is answered.
func (d *door) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || d.CORS == nil {
		return false
	}
	cfg := d.CORS()
	if cfg == nil {
		return false
	}
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if !slices.Contains(cfg.Origins, "*") && !slices.Contains(cfg.Origins, origin) {
		d.head(w, http.StatusForbidden)
		return true
	}
	h := w.Header()
	if slices.Contains(cfg.Origins, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	h.Set("Vary", "Origin")
	if !preflight {
		return false
	}
	switch method := r.Header.Get("Access-Control-Request-Method"); method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "LIST":
	default:
		d.head(w, http.StatusMethodNotAllowed)
		return true
	}
	h.Set("Access-Control-Allow-Methods", "DELETE, GET, OPTIONS, POST, PUT, LIST, PATCH")
	h.Set("Access-Control-Allow-Headers", strings.Join(append(slices.Clone(corsHeaders), cfg.Headers...), ","))
	h.Set("Access-Control-Max-Age", "300")
	d.head(w, http.StatusNoContent)
	return true
}
