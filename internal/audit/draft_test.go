package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
)

// A second device has from the first's draft the line that it would have made itself.
func TestDraft(t *testing.T) {
	request, response := sample()
	records := map[string]*Record{"request": request, "response": response, "write": write("kv/a")}
	with := func(name string, change func(r *Record)) {
		_, r := sample()
		req, res := *r.Request, *r.Response
		r.Request, r.Response = &req, &res
		change(r)
		records[name] = r
	}
	with("escapes", func(r *Record) {
		r.Response.Data = json.RawMessage(`{"a\"":"b\nc","d":["\u00e4","e",{"f":""}],"g":1}`)
		r.Request.Params = param.Object{{Key: "x\"y", Value: json.RawMessage(`"\\"`)}, {Key: "y", Value: json.RawMessage(`"z"`)}}
	})
	with("much data", func(r *Record) {
		many := json.RawMessage("[" + strings.Repeat(`"x",`, 5_000) + `"x"]`)
		r.Request.Params = param.Object{{Key: "a", Value: json.RawMessage(`"b"`)}, {Key: "m", Value: many}, {Key: "z", Value: json.RawMessage(`"y"`)}}
		r.Response.Data = json.RawMessage(`{"a":"b","m":` + string(many) + `}`)
	})
	with("a list", func(r *Record) {
		r.Op = engine.OpList
		r.Response.Data = json.RawMessage(`{"keys":["a","b"],"key_info":{"a":{"b":"c"}},"more":"d"}`)
	})
	with("a login", func(r *Record) {
		r.Token, r.Login = nil, true
		r.Response = &engine.Response{Auth: &engine.Auth{ClientToken: "t", Accessor: "a", DisplayName: "up-ann", Type: engine.TokenService}}
	})
	with("wrapped", func(r *Record) { r.Response.Wrap = &engine.WrapInfo{Token: "w", Accessor: "a", WrappedAccessor: "b"} })
	with("raw", func(r *Record) {
		r.Response = &engine.Response{Raw: &engine.Raw{ContentType: "text/plain", Body: []byte("secret")}}
	})
	with("refused", func(r *Record) { r.Error = errs.New(errs.Invalid, "no %w", errors.New("such")) })
	headers := []header{newHeader("X-A", true), newHeader("X-B", false)}
	styles := []style{
		{accessor: true},
		{},
		{raw: true},
		{accessor: true, elide: true},
		{accessor: true, jsonx: true},
		{accessor: true, prefix: "p: "},
		{accessor: true, exclude: mustExclude(t)},
	}
	for name, r := range records {
		req := *r.Request
		req.Header = map[string][]string{"X-A": {"one", "two"}, "X-B": {"three"}}
		r.Request = &req
		for _, first := range styles {
			for _, second := range styles {
				a, b := newEncoder(first, []byte("salt a"), "v1"), newEncoder(second, []byte("salt b"), "v1")
				var d draft
				for range 2 { // a draft is used again
					alone, one := a.encode(r, headers, nil), a.encode(r, headers, &d)
					want, got := b.encode(r, headers, nil), b.encode(r, headers, &d)
					if !bytes.Equal(*one.b, *alone.b) || !bytes.Equal(*got.b, *want.b) {
						t.Fatalf("%s, %+v then %+v:\n%s\n%s\n%s\n%s", name, first, second, *alone.b, *one.b, *want.b, *got.b)
					}
					d.reset()
				}
			}
		}
	}
}

func mustExclude(t *testing.T) []exclusion {
	t.Helper()
	x, err := parseExclude(`[{"fields":["/request/data","/response/data"]}]`)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
