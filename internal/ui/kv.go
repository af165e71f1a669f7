package ui

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
)

// A mount is a row of a list.
type mount struct{ Path, Type, Description string }

// mounts are those that the caller may see, of kind "secret" or "auth".
func (d *door) mounts(r *http.Request, s session, kind string) ([]mount, error) {
	out, _, err := d.ask(r, s, engine.OpRead, "sys/internal/ui/mounts", nil)
	if err != nil {
		return nil, err
	}
	rows, _ := out[kind].(map[string]any)
	list := make([]mount, 0, len(rows))
	for _, path := range sorted(rows) {
		row, _ := rows[path].(map[string]any)
		typ, _ := row["type"].(string)
		description, _ := row["description"].(string)
		list = append(list, mount{path, typ, description})
	}
	return list, nil
}

func (d *door) secrets(r *http.Request, s session) (page, string) {
	p := page{Name: "secrets.html"}
	list, err := d.mounts(r, s, "secret")
	if err != nil {
		return failure(p, err)
	}
	p.Data = list
	return p, ""
}

func (d *door) enableSecrets(r *http.Request, s session) (page, string) {
	path, version := strings.Trim(r.PostFormValue("path"), "/"), r.PostFormValue("version")
	body := map[string]any{"type": "kv", "options": map[string]any{"version": version}}
	if _, _, err := d.ask(r, s, engine.OpUpdate, "sys/mounts/"+path, body); err != nil {
		p, _ := d.secrets(r, s)
		return failure(p, err)
	}
	return page{}, Prefix + "secrets"
}

// A place is where in which KV mount a page is.
type place struct {
	Path  string // with the mount: "secret/team/db", or a folder "secret/team/"
	Mount string
	rest  string // below the mount
	v2    bool
}

// Folder is the folder that a secret lies in, or that lies above a folder.
func (p place) Folder() string {
	path := strings.TrimSuffix(p.Path, "/")
	return path[:strings.LastIndexByte(path, '/')+1]
}

func (p place) isFolder() bool { return strings.HasSuffix(p.Path, "/") }

// api is the path at the API; kind is data or metadata, of version 2.
func (p place) api(kind string) string {
	if !p.v2 {
		return p.Mount + p.rest
	}
	return p.Mount + kind + "/" + p.rest
}

func (d *door) place(r *http.Request, s session) (place, error) {
	path := r.PathValue("path")
	out, _, err := d.ask(r, s, engine.OpRead, "sys/internal/ui/mounts/"+strings.TrimSuffix(path, "/"), nil)
	if err != nil {
		return place{}, err
	}
	m, _ := out["path"].(string)
	if typ, _ := out["type"].(string); typ != "kv" {
		return place{}, errs.New(errs.Invalid, "pages show secrets of type kv; this mount has the type %q: use the command line", typ)
	}
	options, _ := out["options"].(map[string]any)
	p := place{Path: path, Mount: m, v2: options["version"] == "2"}
	if p.rest, _ = strings.CutPrefix(path, m); path+"/" == m {
		p.Path, p.rest = m, ""
	}
	return p, nil
}

// A folder lists what lies in it.
type folder struct {
	place
	Names []string
}

// A secret is shown with its values as text, and as JSON to be changed.
type secret struct {
	place
	Values  []value
	JSON    string
	Version string // of KV version 2; what is saved replaces this one and no other
	Note    string
}

type value struct{ Name, Text string }

func (d *door) secret(r *http.Request, s session) (page, string) {
	at, err := d.place(r, s)
	if err != nil {
		return failure(page{Name: "error.html"}, err)
	}
	if at.isFolder() {
		p := page{Name: "folder.html"}
		names, err := d.names(r, s, engine.OpList, at.api("metadata"))
		p.Data = folder{at, names}
		if err != nil {
			return failure(p, err)
		}
		return p, ""
	}
	return d.oneSecret(r, s, at)
}

func (d *door) oneSecret(r *http.Request, s session, at place) (page, string) {
	p := page{Name: "secret.html"}
	out, _, err := d.ask(r, s, engine.OpRead, at.api("data"), nil)
	sec := secret{place: at, JSON: "{}", Version: "0"}
	if err != nil {
		p.Data = sec
		if isMissing(err) {
			sec.Note = "There is no such secret yet."
			p.Data = sec
			return p, ""
		}
		return failure(p, err)
	}
	data := out
	if at.v2 {
		metadata, _ := out["metadata"].(map[string]any)
		if n, ok := metadata["version"].(json.Number); ok {
			sec.Version = n.String()
		}
		if data, _ = out["data"].(map[string]any); data == nil {
			sec.Note = "This version is deleted; a new one can be saved."
			data = map[string]any{}
		}
	}
	for _, name := range sorted(data) {
		sec.Values = append(sec.Values, value{name, text(data[name])})
	}
	sec.JSON = indented(data)
	p.Data = sec
	return p, ""
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}

func indented(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if enc.Encode(v) != nil {
		return "{}"
	}
	return strings.TrimSpace(b.String())
}

// changeSecret saves or deletes a secret, or opens one by its name.
func (d *door) changeSecret(r *http.Request, s session) (page, string) {
	at, err := d.place(r, s)
	if err != nil {
		return failure(page{Name: "error.html"}, err)
	}
	switch r.PostFormValue("do") {
	case "open":
		return page{}, Prefix + "kv/" + link(at.Path+strings.Trim(r.PostFormValue("name"), "/"))
	case "delete":
		if _, _, err = d.ask(r, s, engine.OpDelete, at.api("data"), nil); err == nil {
			return page{}, Prefix + "kv/" + link(at.Folder())
		}
	default:
		if err = d.save(r, s, at); err == nil {
			return page{}, Prefix + "kv/" + link(at.Path)
		}
	}
	p, _ := d.oneSecret(r, s, at)
	if sec, ok := p.Data.(secret); ok {
		sec.JSON = r.PostFormValue("json") // what was typed is not lost
		p.Data = sec
	}
	return failure(p, err)
}

func (d *door) save(r *http.Request, s session, at place) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.PostFormValue("json")), &values); err != nil || values == nil {
		return errs.New(errs.Invalid, "the values must be a JSON object, such as {\"user\": \"ann\"}")
	}
	body := map[string]any{"data": values, "options": map[string]any{"cas": r.PostFormValue("version")}}
	if !at.v2 {
		body = make(map[string]any, len(values))
		for name, v := range values {
			body[name] = v
		}
	}
	_, _, err := d.ask(r, s, engine.OpUpdate, at.api("data"), body)
	return err
}
