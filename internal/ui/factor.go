package ui

import (
	"encoding/json"
	"net/http"
	"sort"

	"arca/internal/engine"
	"arca/internal/errs"
)

// A waiting login has shown its first factor. The form brings it along: the server
// knows the login by its id.
type waiting struct {
	ID        string  `json:"id"`
	Namespace string  `json:"ns,omitempty"`
	Next      string  `json:"next,omitempty"`
	Asked     []asked `json:"asked"`
}

// asked is one enforcement, and the methods of which one will do.
type asked struct {
	Name    string   `json:"name"`
	Methods []string `json:"methods"` // ids
}

// Text is the login as the form brings it along.
func (w *waiting) Text() (string, error) {
	raw, err := json.Marshal(w)
	return string(raw), err
}

// waitingFor reads what a login still needs; nil when it needs nothing.
func waitingFor(auth *engine.Auth, namespace, next string) *waiting {
	if auth.MFARequirement == nil {
		return nil
	}
	raw, err := json.Marshal(auth.MFARequirement)
	if err != nil {
		return nil
	}
	var need struct {
		ID          string `json:"mfa_request_id"`
		Constraints map[string]struct {
			Any []struct {
				ID string `json:"id"`
			} `json:"any"`
		} `json:"mfa_constraints"`
	}
	if json.Unmarshal(raw, &need) != nil || need.ID == "" {
		return nil
	}
	w := &waiting{ID: need.ID, Namespace: namespace, Next: next}
	for name, c := range need.Constraints {
		a := asked{Name: name}
		for _, m := range c.Any {
			a.Methods = append(a.Methods, m.ID)
		}
		w.Asked = append(w.Asked, a)
	}
	sort.Slice(w.Asked, func(i, j int) bool { return w.Asked[i].Name < w.Asked[j].Name })
	return w
}

// secondFactor takes the codes of a login that waits for them.
func (d *door) secondFactor(r *http.Request, _ session) (page, string) {
	var w waiting
	methods, codes := r.PostForm["method"], r.PostForm["code"]
	if json.Unmarshal([]byte(r.PostFormValue("waiting")), &w) != nil || len(methods) != len(codes) {
		return d.again(r, errs.New(errs.Invalid, "The form is incomplete: log in again.")) //nolint:revive // people read it
	}
	payload := map[string][]string{}
	for i, m := range methods {
		payload[m] = append(payload[m], codes[i])
	}
	s := session{Namespace: canonical(w.Namespace)}
	_, res, err := d.ask(r, s, engine.OpUpdate, "sys/mfa/validate", map[string]any{"mfa_request_id": w.ID, "mfa_payload": payload})
	switch {
	case err != nil:
		return failure(page{Name: "factor.html", Data: &w}, err)
	case res == nil || res.Auth == nil || res.Auth.ClientToken == "":
		return d.again(r, errs.New(errs.Invalid, "The login gave no token.")) //nolint:revive // people read it
	}
	s.Token = res.Auth.ClientToken
	return page{Data: s}, onward(w.Next)
}
