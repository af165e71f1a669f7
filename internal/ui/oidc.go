package ui

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
)

// Paths of Vault's own interface, which are written in the configuration of
// providers and clients: where a provider sends the browser back to, and where an
// application sends it to, to learn who the user is.
const (
	callbackPath  = "/ui/vault/auth/{mount}/oidc/callback"
	authorizePath = "/ui/vault/identity/oidc/provider/{name}/authorize"
	providerPath  = "/ui/vault/identity/oidc/provider/"
)

const (
	oidcCookie = "arca-ui-oidc"
	oidcTime   = 600 // seconds that a login at a provider may take
	nonceBytes = 24
	maxNext    = 2500 // bytes of the address to go on to: browsers keep cookies of 4 KiB
)

// A trip is a login on its way through a provider. It is in a cookie of its own,
// which the browser, unlike that of the session, brings along when the provider
// sends it back: who began the login is who ends it.
type trip struct {
	Nonce     string `json:"c"`
	Namespace string `json:"n,omitempty"`
	Next      string `json:"x,omitempty"`
}

func setTrip(w http.ResponseWriter, r *http.Request, t *trip) {
	c := &http.Cookie{ //nolint:gosec // Secure follows the connection
		Name: oidcCookie, Path: "/ui", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: encrypted(r), MaxAge: oidcTime,
	}
	if t == nil {
		c.MaxAge = -1
	} else if raw, err := json.Marshal(t); err == nil {
		c.Value = base64.RawURLEncoding.EncodeToString(raw)
	}
	http.SetCookie(w, c)
}

func tripOf(r *http.Request) (t trip, ok bool) {
	c, err := r.Cookie(oidcCookie)
	if err != nil {
		return t, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(c.Value)
	return t, err == nil && json.Unmarshal(raw, &t) == nil && t.Nonce != ""
}

// onward is where a login leads: to the application that asked for it, else to
// the secrets. Nothing else can be given.
func onward(next string) string {
	if u, err := url.Parse(next); err == nil && u.Host == "" && u.Scheme == "" && strings.HasPrefix(u.Path, providerPath) {
		return next
	}
	return Prefix + "secrets"
}

// goOn shows a page from which the browser goes on by itself. A redirect would not
// do: one that answers a form may not leave the server (form-action), and behind
// one from elsewhere the session's cookie would not be sent.
func (d *door) goOn(w http.ResponseWriter, r *http.Request, to, text string) {
	w.Header().Set("Refresh", "0;url="+to)
	d.show(w, r, page{Name: "onward.html", Data: map[string]string{"To": to, "Text": text}})
}

// encrypted reports whether the browser speaks TLS, be it to a proxy. Who claims it
// falsely keeps his own cookies from himself.
func encrypted(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// origin is this server as the browser sees it.
func origin(r *http.Request) string {
	if encrypted(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// beginOIDC sends the browser to the provider of an auth method.
func (d *door) beginOIDC(w http.ResponseWriter, r *http.Request) {
	mount := strings.Trim(r.PostFormValue("mount"), "/")
	if mount == "" {
		mount = "oidc"
	}
	var nonce [nonceBytes]byte
	_, _ = rand.Read(nonce[:]) // never fails
	t := trip{Nonce: base64.RawURLEncoding.EncodeToString(nonce[:]), Namespace: canonical(r.PostFormValue("namespace")), Next: r.PostFormValue("next")}
	if len(t.Next) > maxNext {
		p, to := d.again(r, errs.New(errs.Invalid, "The application's address is too long to come back to: log in at /ui/ first, and begin there again.")) //nolint:revive // people read it
		d.end(w, r, p, to)
		return
	}
	back := origin(r) + strings.Replace(callbackPath, "{mount}", url.PathEscape(mount), 1)
	if t.Namespace != "" {
		back += "?namespace=" + url.QueryEscape(strings.TrimSuffix(t.Namespace, "/"))
	}
	out, _, err := d.ask(r, session{Namespace: t.Namespace}, engine.OpUpdate, "auth/"+mount+"/oidc/auth_url",
		map[string]any{"role": r.PostFormValue("role"), "redirect_uri": back, "client_nonce": t.Nonce})
	if err != nil {
		p, to := d.again(r, err)
		d.end(w, r, p, to)
		return
	}
	to, _ := out["auth_url"].(string)
	if u, err := url.Parse(to); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		p, to := d.again(r, errs.New(errs.Invalid, "The role does not take a login that comes back to %s: it must be one of its allowed_redirect_uris.", back)) //nolint:revive // people read it
		d.end(w, r, p, to)
		return
	}
	setTrip(w, r, &t)
	d.goOn(w, r, to, "To the login page of the provider")
}

// endOIDC takes who comes back from the provider.
func (d *door) endOIDC(w http.ResponseWriter, r *http.Request) {
	t, ok := tripOf(r)
	if !ok {
		d.show(w, r, page{Name: "error.html", Error: "This login was not begun here, or took too long. Begin again.", status: http.StatusBadRequest})
		return
	}
	setTrip(w, r, nil)
	q, params := r.URL.Query(), map[string]any{"client_nonce": t.Nonce}
	for _, name := range []string{"state", "code", "error", "error_description"} {
		if v := q.Get(name); v != "" {
			params[name] = v
		}
	}
	_, res, err := d.ask(r, session{Namespace: t.Namespace}, engine.OpRead, "auth/"+r.PathValue("mount")+"/oidc/callback", params)
	if err != nil {
		p, _ := failure(page{Name: "error.html"}, err)
		d.show(w, r, p)
		return
	}
	if res != nil && res.Auth != nil {
		if f := waitingFor(res.Auth, t.Namespace, t.Next); f != nil {
			d.show(w, r, page{Name: "factor.html", Data: f})
			return
		}
	}
	if res == nil || res.Auth == nil || res.Auth.ClientToken == "" {
		d.show(w, r, page{Name: "error.html", Error: "The login gave no token.", status: http.StatusBadRequest})
		return
	}
	setSession(w, r, session{Token: res.Auth.ClientToken, Namespace: t.Namespace})
	d.goOn(w, r, onward(t.Next), "Go on")
}

// authorize tells an application, by its OpenID Connect client, who is logged in.
func (d *door) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	// Whoever comes from elsewhere comes without the session's cookie: once more,
	// from here.
	const here = "arca_here"
	again := *r.URL
	if !q.Has(here) {
		q.Set(here, "1")
		again.RawQuery = q.Encode()
		d.goOn(w, r, again.RequestURI(), "Go on")
		return
	}
	s := sessionOf(r)
	ns := canonical(q.Get("namespace"))
	if s.Token == "" || s.Namespace != ns || q.Get("prompt") == "login" {
		q.Del("prompt")
		again.RawQuery = q.Encode()
		d.show(w, r, page{Name: "login.html", Data: map[string]string{"Next": again.RequestURI(), "Namespace": strings.TrimSuffix(ns, "/")}})
		return
	}
	params := map[string]any{}
	for _, name := range []string{
		"scope", "response_type", "client_id", "redirect_uri", "state", "nonce", "max_age", "code_challenge", "code_challenge_method", "request", "request_uri",
	} {
		if q.Has(name) {
			params[name] = q.Get(name)
		}
	}
	out, _, err := d.ask(r, s, engine.OpRead, "identity/oidc/provider/"+r.PathValue("name")+"/authorize", params)
	if err != nil {
		p, _ := failure(page{Name: "error.html"}, err)
		d.show(w, r, p)
		return
	}
	answer := url.Values{}
	for _, name := range []string{"code", "state", "error", "error_description"} {
		if v, _ := out[name].(string); v != "" {
			answer.Set(name, v)
		}
	}
	to, err := url.Parse(q.Get("redirect_uri"))
	switch answer.Get("error") {
	case "max_age_violation":
		d.show(w, r, page{Name: "login.html", Data: map[string]string{"Next": again.RequestURI(), "Namespace": strings.TrimSuffix(ns, "/")}})
		return
	case "", "access_denied": // the hall has found the address among the client's
	default:
		d.show(w, r, page{Name: "error.html", Error: answer.Get("error") + ": " + answer.Get("error_description"), status: http.StatusBadRequest})
		return
	}
	if err != nil || to.Scheme == "javascript" || to.Scheme == "data" {
		d.show(w, r, page{Name: "error.html", Error: "The client's address cannot be used.", status: http.StatusBadRequest})
		return
	}
	all := to.Query()
	for name, v := range answer {
		all[name] = v
	}
	to.RawQuery = all.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound) //nolint:gosec // the hall has found it among the client's
}
