package ui

import (
	"net/http"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
)

// home shows what the node needs first: keys, shares, a login. To who is logged
// in it shows the secrets.
func (d *door) home(w http.ResponseWriter, r *http.Request) {
	p, to := d.front(r)
	if to != "" {
		see(w, r, to)
		return
	}
	d.show(w, r, p)
}

func (d *door) front(r *http.Request) (page, string) {
	state, _, err := d.ask(r, session{}, engine.OpRead, "sys/seal-status", nil)
	if err != nil {
		return failure(page{Name: "error.html"}, err)
	}
	switch {
	case state["initialized"] != true:
		return page{Name: "init.html"}, ""
	case state["sealed"] == true:
		return page{Name: "unseal.html", Data: state}, ""
	case sessionOf(r).Token == "":
		return loginPage(r), ""
	}
	return page{}, Prefix + "secrets"
}

// again shows the front page with an error.
func (d *door) again(r *http.Request, err error) (page, string) {
	p, to := d.front(r)
	if to != "" { // who is logged in already tries to be somebody else
		p = loginPage(r)
	}
	return failure(p, err)
}

// loginPage is the page of logins, which leads on to where the form says.
func loginPage(r *http.Request) page {
	return page{Name: "login.html", Data: map[string]string{"Next": r.FormValue("next"), "Namespace": r.FormValue("namespace")}}
}

// init makes the keys and shows them, this once.
func (d *door) init(r *http.Request, _ session) (page, string) {
	shares, _ := strconv.Atoi(r.PostFormValue("shares"))
	threshold, _ := strconv.Atoi(r.PostFormValue("threshold"))
	out, _, err := d.ask(r, session{}, engine.OpUpdate, "sys/init",
		map[string]any{"secret_shares": shares, "secret_threshold": threshold})
	if err != nil {
		return d.again(r, err)
	}
	return page{Name: "keys.html", Data: out}, ""
}

// unseal gives one share of the unseal key.
func (d *door) unseal(r *http.Request, _ session) (page, string) {
	key := strings.TrimSpace(r.PostFormValue("key"))
	if _, _, err := d.ask(r, session{}, engine.OpUpdate, "sys/unseal", map[string]any{"key": key}); err != nil {
		return d.again(r, err)
	}
	return page{}, Prefix
}

// resetUnseal forgets the shares that were given.
func (d *door) resetUnseal(r *http.Request, _ session) (page, string) {
	if _, _, err := d.ask(r, session{}, engine.OpUpdate, "sys/unseal", map[string]any{"reset": true}); err != nil {
		return d.again(r, err)
	}
	return page{}, Prefix
}

// login takes a token as it is, or has an auth method make one of a name and a
// password.
func (d *door) login(r *http.Request, _ session) (page, string) {
	s := session{Namespace: canonical(r.PostFormValue("namespace"))}
	method := r.PostFormValue("method")
	if method == "token" {
		s.Token = strings.TrimSpace(r.PostFormValue("token"))
		if _, _, err := d.ask(r, s, engine.OpRead, "auth/token/lookup-self", nil); err != nil {
			return d.again(r, err)
		}
		return page{Data: s}, onward(r.PostFormValue("next"))
	}
	mount := strings.Trim(r.PostFormValue("mount"), "/")
	if mount == "" {
		mount = method
	}
	_, res, err := d.ask(r, s, engine.OpUpdate, "auth/"+mount+"/login/"+r.PostFormValue("username"),
		map[string]any{"password": r.PostFormValue("password")})
	if err != nil {
		return d.again(r, err)
	}
	if res != nil && res.Auth != nil {
		if w := waitingFor(res.Auth, s.Namespace, r.PostFormValue("next")); w != nil {
			return page{Name: "factor.html", Data: w}, ""
		}
	}
	if res == nil || res.Auth == nil || res.Auth.ClientToken == "" {
		return d.again(r, errs.New(errs.Invalid, "The method at %s/ gave no token.", mount)) //nolint:revive // people read it
	}
	s.Token = res.Auth.ClientToken
	return page{Data: s}, onward(r.PostFormValue("next"))
}

func canonical(namespace string) string {
	if namespace = strings.Trim(strings.TrimSpace(namespace), "/"); namespace == "" || namespace == "root" {
		return ""
	}
	return namespace + "/"
}

// logout forgets the token here; it stays valid until its time is over.
func (d *door) logout(*http.Request, session) (page, string) { return page{Data: session{}}, Prefix }

func (d *door) sealPage(*http.Request, session) (page, string) { return page{Name: "seal.html"}, "" }

func (d *door) seal(r *http.Request, s session) (page, string) {
	if _, _, err := d.ask(r, s, engine.OpUpdate, "sys/seal", nil); err != nil {
		return failure(page{Name: "seal.html"}, err)
	}
	return page{}, Prefix
}
