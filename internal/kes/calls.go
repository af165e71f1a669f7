package kes

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// A call is a row of the API.
type call struct {
	method  string
	path    string // with a slash at its end: the rest of a request's path is the argument
	maxBody int64
	timeout time.Duration // 0: none
	// open needs neither policy nor certificate; self needs a certificate only.
	open, self bool
	counted    bool // in the metrics
	stream     bool
	serve      func(*Door, *request) error
}

const (
	maxBody      = 1_000_000
	usualTimeout = 15 * time.Second
	shortTimeout = 10 * time.Second
)

// calls is the API, in the order of /v1/api.
func calls() []call {
	short, usual := shortTimeout, usualTimeout
	const get, put, del = http.MethodGet, http.MethodPut, http.MethodDelete
	return []call{
		{method: get, path: "/version", timeout: short, open: true, serve: (*Door).version},
		{method: get, path: "/v1/ready", timeout: usual, serve: (*Door).ready},
		{method: get, path: "/v1/status", timeout: usual, serve: (*Door).status},
		{method: get, path: "/v1/metrics", timeout: usual, serve: (*Door).showMetrics},
		{method: get, path: "/v1/api", timeout: short, serve: (*Door).listAPI},

		{method: put, path: "/v1/key/create/", timeout: usual, counted: true, serve: (*Door).createKey},
		{method: put, path: "/v1/key/import/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).importKey},
		{method: get, path: "/v1/key/describe/", timeout: usual, counted: true, serve: (*Door).describeKey},
		{method: get, path: "/v1/key/list/", timeout: usual, counted: true, serve: (*Door).listKeys},
		{method: del, path: "/v1/key/delete/", timeout: usual, counted: true, serve: (*Door).deleteKey},
		{method: put, path: "/v1/key/encrypt/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).encrypt},
		{method: put, path: "/v1/key/generate/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).generate},
		{method: put, path: "/v1/key/decrypt/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).decrypt},
		{method: put, path: "/v1/key/hmac/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).hmac},
		{method: put, path: "/v1/key/bulk/decrypt/", timeout: usual, maxBody: maxBody, counted: true, serve: (*Door).bulkDecrypt},

		{method: get, path: "/v1/policy/describe/", timeout: usual, counted: true, serve: (*Door).describePolicy},
		{method: get, path: "/v1/policy/read/", timeout: usual, counted: true, serve: (*Door).readPolicy},
		{method: get, path: "/v1/policy/list/", timeout: usual, counted: true, serve: (*Door).listPolicies},

		{method: get, path: "/v1/identity/describe/", timeout: usual, counted: true, serve: (*Door).describeIdentity},
		{method: get, path: "/v1/identity/list/", timeout: usual, counted: true, serve: (*Door).listIdentities},
		{method: get, path: "/v1/identity/self/describe", timeout: usual, self: true, counted: true, serve: (*Door).describeSelf},

		{method: get, path: "/v1/log/error", stream: true, serve: (*Door).followErrors},
		{method: get, path: "/v1/log/audit", stream: true, serve: (*Door).followAudit},
	}
}

// table finds a call. It is made once, with the door's package, and not changed.
var table = func() map[string]*call {
	out := map[string]*call{}
	for _, c := range calls() {
		out[c.path] = &c
	}
	return out
}()

// IsCall reports whether there is a call of that path.
func IsCall(path string) bool { return table[path] != nil }

// maxCall is longer than the path of any call without its argument.
const maxCall = 64

// find returns the call of a path and its argument; with redirect, where a path
// that lacks a call's last slash leads.
func find(p string) (c *call, argument, redirect string) {
	if c = table[p]; c != nil {
		return c, "", ""
	}
	// A call with an argument has three or four segments and a slash. Behind them a path
	// may have any number.
	for at := min(len(p), maxCall); ; {
		at = strings.LastIndexByte(p[:at], '/')
		if at < 0 {
			break
		}
		if c = table[p[:at+1]]; c != nil {
			return c, p[at+1:], ""
		}
	}
	if table[p+"/"] != nil {
		return nil, "", p + "/"
	}
	return nil, "", ""
}

// unclean reports whether a path has empty or dot segments, and what it is
// without.
func unclean(u *url.URL) (string, bool) {
	p := u.EscapedPath()
	if !strings.HasPrefix(p, "/") {
		return "", false
	}
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return "", false
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean, clean != p
}

// request is one request on its way.
type request struct {
	ctx      context.Context
	http     *http.Request
	w        http.ResponseWriter
	call     *call
	state    *State
	argument string
	identity string // empty when there is none
	cert     *x509.Certificate
	address  string // of the client, without port
	free     bool   // it may be made by anybody
	passed   bool   // it may be made
	recorded bool   // a Witness has it on record
	leave    func() // the place that it has; nil for none
	written  bool   // an answer has begun
	code     int
}
