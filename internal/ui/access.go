package ui

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"arca/internal/engine"
)

func sorted(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func (d *door) policies(r *http.Request, s session) (page, string) {
	p := page{Name: "policies.html"}
	names, err := d.names(r, s, engine.OpList, "sys/policies/acl")
	p.Data = names
	if err != nil {
		return failure(p, err)
	}
	return p, ""
}

// openPolicy goes to the page of a policy by its name.
func (d *door) openPolicy(r *http.Request, s session) (page, string) {
	if name := strings.TrimSpace(r.PostFormValue("name")); name != "" {
		return page{}, Prefix + "policies/" + link(name)
	}
	return d.policies(r, s)
}

// A rules page shows the text of a policy.
type rules struct{ Policy, Text, Note string }

func (d *door) policy(r *http.Request, s session) (page, string) {
	name := r.PathValue("name")
	p := page{Name: "policy.html"}
	out, _, err := d.ask(r, s, engine.OpRead, "sys/policies/acl/"+name, nil)
	data := rules{Policy: name}
	switch {
	case isMissing(err):
		data.Note, err = "There is no such policy yet.", nil
	case err == nil:
		data.Text, _ = out["policy"].(string)
	}
	p.Data = data
	if err != nil {
		return failure(p, err)
	}
	return p, ""
}

func (d *door) changePolicy(r *http.Request, s session) (page, string) {
	name, text := r.PathValue("name"), strings.ReplaceAll(r.PostFormValue("policy"), "\r\n", "\n")
	var err error
	if r.PostFormValue("do") == "delete" {
		_, _, err = d.ask(r, s, engine.OpDelete, "sys/policies/acl/"+name, nil)
	} else {
		_, _, err = d.ask(r, s, engine.OpUpdate, "sys/policies/acl/"+name, map[string]any{"policy": text})
	}
	if err != nil {
		return failure(page{Name: "policy.html", Data: rules{Policy: name, Text: text}}, err)
	}
	return page{}, Prefix + "policies"
}

// An entrance is by what one gets in: methods and namespaces.
type entrance struct {
	Methods    []mount
	Namespaces []string
}

func (d *door) access(r *http.Request, s session) (page, string) {
	p := page{Name: "access.html"}
	var data entrance
	var err error
	if data.Methods, err = d.mounts(r, s, "auth"); err == nil {
		data.Namespaces, err = d.names(r, s, engine.OpRead, "sys/internal/ui/namespaces")
	}
	p.Data = data
	if err != nil {
		return failure(p, err)
	}
	return p, ""
}

func (d *door) enableAuth(r *http.Request, s session) (page, string) {
	typ, path := r.PostFormValue("type"), strings.Trim(r.PostFormValue("path"), "/")
	if path == "" {
		path = typ
	}
	if _, _, err := d.ask(r, s, engine.OpUpdate, "sys/auth/"+path, map[string]any{"type": typ}); err != nil {
		p, _ := d.access(r, s)
		return failure(p, err)
	}
	return page{}, Prefix + "access"
}

func (d *door) makeNamespace(r *http.Request, s session) (page, string) {
	name := strings.Trim(r.PostFormValue("name"), "/")
	if _, _, err := d.ask(r, s, engine.OpUpdate, "sys/namespaces/"+name, nil); err != nil {
		p, _ := d.access(r, s)
		return failure(p, err)
	}
	return page{}, Prefix + "access"
}
