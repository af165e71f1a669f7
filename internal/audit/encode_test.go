package audit

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/param"
)

// encoded is the line of a record, decoded.
func encoded(t *testing.T, s style, r *Record, headers ...header) (string, map[string]any) {
	t.Helper()
	encodeData(r)
	l := newEncoder(s, []byte("salt"), "v1").encode(r, headers, nil)
	text := string(*l.b)
	if !strings.HasSuffix(text, "}\n") || strings.Count(text, "\n") != 1 {
		t.Fatalf("not one line: %q", text)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return text, m
}

func at(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		o, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = o[p]
	}
	return v
}

func hashed(value string) string {
	return newEncoder(style{}, []byte("salt"), "").hash(value)
}

// S3-43, S3-46: who, what and with which policies, in JSON; tokens and data
// hashed.
func TestRecordOfRequest(t *testing.T) {
	r := write("kv/a")
	text, m := encoded(t, style{accessor: true}, r)
	for _, c := range []struct {
		want any
		path string
	}{
		{"request", "type"},
		{"2023-11-14T22:13:21.000000005Z", "time"},
		{hashed("hvs.CAESIJlfNUAzQkUzNzE5MTQ2QUU4RjA1"), "auth client_token"},
		{hashed("0e9e354a520df04b3f2a5e0e"), "auth accessor"},
		{"token-app", "auth display_name"},
		{"app", "auth metadata who"},
		{true, "auth policy_results allowed"},
		{"service", "auth token_type"},
		{3600.0, "auth token_ttl"},
		{"2023-11-14T22:13:20Z", "auth token_issue_time"},
		{"create", "request operation"},
		{"kv/a", "request path"},
		{hashed("correct horse"), "request data password"},
		{5.0, "request data n"},
		{"10.1.2.3", "request remote_address"},
		{54321.0, "request remote_port"},
		{"root", "request namespace id"},
		{"secret/", "request mount_point"},
		{"secret", "request mount_class"},
		{hashed("hvs.CAESIJlfNUAzQkUzNzE5MTQ2QUU4RjA1"), "request client_token"},
	} {
		if got := at(m, strings.Fields(c.path)...); got != c.want {
			t.Errorf("%s: got %v, want %v", c.path, got, c.want)
		}
	}
	for _, secret := range []string{"correct", "hvs.", "0e9e354a"} {
		if strings.Contains(text, secret) {
			t.Errorf("the line shows %q: %s", secret, text)
		}
	}
}

// The ids of clients without an entity, as recorded servers have them.
func TestClientID(t *testing.T) {
	for policies, want := range map[string]string{
		"root":              "0DHqvq2D77kL2/JTPSZkTMJbkFVmUu0TzMi0jiXcFy8=",
		"default ro":        "eDNGrgBg4f+Wk/zXwNc//H8A7kbOn/FK8+B1G+TM3Yk=",
		"response-wrapping": "rWML+2xGX2RJUpB3xHagF8KeTWTAmWcNtQxfM8tzpH8=",
	} {
		r, _ := sample()
		r.Token.Policies = strings.Fields(policies)
		_, m := encoded(t, style{}, r)
		if got := at(m, "request", "client_id"); got != want {
			t.Errorf("%s: got %v, want %v", policies, got, want)
		}
	}
}

func TestStyles(t *testing.T) {
	t.Run("raw", func(t *testing.T) {
		_, r := sample()
		text, m := encoded(t, style{raw: true, accessor: true}, r)
		if got := at(m, "response", "data", "data", "password"); got != "correct horse battery staple" {
			t.Errorf("got %v", got)
		}
		if strings.Contains(text, hashPrefix) {
			t.Error("something is hashed")
		}
	})
	t.Run("accessor in clear", func(t *testing.T) {
		r, _ := sample()
		_, m := encoded(t, style{}, r)
		if got := at(m, "request", "client_token_accessor"); got != "0e9e354a520df04b3f2a5e0e" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("elided list", func(t *testing.T) {
		_, r := sample()
		r.Op = engine.OpList
		r.Response = &engine.Response{Data: map[string]any{
			"keys": []string{"a", "b"}, "key_info": map[string]any{"a": map[string]any{"x": "y"}}, "other": []string{"keys"},
		}}
		_, m := encoded(t, style{elide: true}, r)
		data := at(m, "response", "data").(map[string]any)
		if data["keys"] != 2.0 || data["key_info"] != 1.0 || len(data["other"].([]any)) != 1 {
			t.Errorf("got %v", data)
		}
		r.Op = engine.OpRead
		_, m = encoded(t, style{elide: true}, r)
		if list, ok := at(m, "response", "data", "keys").([]any); !ok || len(list) != 2 {
			t.Error("elided in an answer that is no list")
		}
	})
	t.Run("keys in clear", func(t *testing.T) {
		r := write("kv/a")
		r.Request.Params = append(r.Request.Params, param.Member{Key: "open", Value: json.RawMessage(`["seen",{"x":"hidden","open":"seen"}]`)})
		r.Mount.Config = mount.Config{AuditRequestKeys: []string{"open"}}
		text, _ := encoded(t, style{}, r)
		if strings.Count(text, "seen") != 2 || strings.Contains(text, "hidden") {
			t.Error(text)
		}
	})
	t.Run("headers", func(t *testing.T) {
		r, _ := sample()
		r.Request.Header = map[string][]string{"X-Plain": {"a", "b"}, "X-Hidden": {"secret"}, "X-Other": {"c"}}
		_, m := encoded(t, style{}, r, newHeader("x-hidden", true), newHeader("X-PLAIN", false), newHeader("x-absent", false))
		raw, _ := json.Marshal(at(m, "request", "headers")) // it was JSON before
		if want := `{"x-hidden":["` + hashed("secret") + `"],"x-plain":["a","b"]}`; string(raw) != want {
			t.Errorf("got %s, want %s", raw, want)
		}
	})
	t.Run("jsonx", func(t *testing.T) {
		r := write("kv/<a>")
		l := newEncoder(style{jsonx: true}, []byte("salt"), "v1").encode(r, nil, nil)
		text := string(*l.b)
		d := xml.NewDecoder(strings.NewReader(text))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
		}
		if !strings.Contains(text, `<json:string name="path">kv/&lt;a&gt;</json:string>`) || strings.Count(text, "\n") != 1 {
			t.Error(text)
		}
	})
}

// S3-40: errors are recorded, too; what they quote only hashed.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   Kind
		err    error
		login  bool
		text   string
		detail bool
	}{
		{"denied", Request, errs.List(errs.Denied, "permission denied"), false, "1 error occurred:\n\t* permission denied\n\n", false},
		{"no token", Request, errs.New(errs.Denied, "permission denied"), false, "permission denied", false},
		{"denied, answer", Response, errs.New(errs.Denied, "permission denied"), false, "1 error occurred:\n\t* permission denied\n\n", true},
		{"invalid", Response, errs.New(errs.Invalid, "bad value s3cret"), false, "1 error occurred:\n\t* invalid request\n\n", true},
		{"not found", Response, errs.New(errs.NotFound, "not found"), false, "", false},
		{"no mount", Response, errs.New(errs.NotFound, "no handler for route s3cret"), false, "1 error occurred:\n\t* unsupported path\n\n", true},
		{"no path", Response, engine.ErrPath, false, "1 error occurred:\n\t* unsupported path\n\n", false},
		{"login", Response, errs.New(errs.Invalid, "invalid username or password"), true, "invalid credentials", true},
		{"internal", Response, errors.New("dial db with s3cret"), false, "1 error occurred:\n\t* internal error\n\n", true},
		{"limited", Response, errs.New(errs.Limited, "s3cret"), false, "1 error occurred:\n\t* limited\n\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := sample()
			r.Kind, r.Error, r.Login = c.kind, c.err, c.login
			text, m := encoded(t, style{}, r)
			if got, _ := m["error"].(string); got != c.text {
				t.Errorf("error: got %q, want %q", got, c.text)
			}
			want := any(nil)
			if c.detail {
				want = hashed(c.err.Error())
			}
			if got := at(m, "response", "data", "error"); got != want {
				t.Errorf("data.error: got %v, want %v", got, want)
			}
			if strings.Contains(text, "s3cret") {
				t.Errorf("the line shows what the error quotes: %s", text)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	const secret = "s3cret"
	auth := &engine.Auth{ClientToken: secret, Accessor: secret, DisplayName: "up-ann", Policies: []string{"default"}, Type: engine.TokenService}
	wrap := &engine.WrapInfo{Token: secret, Accessor: secret, WrappedAccessor: secret, TTL: time.Minute}
	for _, c := range []struct {
		name string
		res  *engine.Response
		path string
		want any
	}{
		{"login", &engine.Response{Auth: auth}, "response auth client_token", hashed(secret)},
		{"wrapped", &engine.Response{Wrap: wrap}, "response wrap_info token", hashed(secret)},
		{"lease", &engine.Response{Lease: &engine.Lease{ID: "db/creds/a"}, Data: map[string]string{"k": secret}}, "response secret lease_id", "db/creds/a"},
		{"kv 1", &engine.Response{LeaseDuration: time.Hour, Data: map[string]string{"k": secret}}, "response data k", hashed(secret)},
		{"raw", &engine.Response{Raw: &engine.Raw{ContentType: "text/plain", Body: []byte(secret)}}, "response data http_raw_body", hashed(secret)},
		{"raw status", &engine.Response{Raw: &engine.Raw{Body: []byte(secret)}}, "response data http_status_code", 200.0},
		{
			"unwrapped", &engine.Response{Raw: &engine.Raw{Body: []byte(secret)}, Data: json.RawMessage(`{"auth":{"client_token":"s3cret"},"data":null}`)},
			"response auth client_token", hashed(secret),
		},
		{"no JSON", &engine.Response{Data: json.RawMessage(`{"a":s3cret}`)}, "response data omitted", hashed(`{"a":s3cret}`)},
		{"warning", &engine.Response{Warnings: []string{"w"}}, "response data", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, r := sample()
			r.Response = c.res
			text, m := encoded(t, style{accessor: true}, r)
			if got := at(m, strings.Fields(c.path)...); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if strings.Contains(text, secret) {
				t.Errorf("the line shows the secret: %s", text)
			}
		})
	}
}

// The token that a login makes stands as the caller of its answer.
func TestLogin(t *testing.T) {
	_, r := sample()
	r.Token, r.Login = nil, true
	r.Response = &engine.Response{Auth: &engine.Auth{ClientToken: "t", DisplayName: "up-ann", Type: engine.TokenService}}
	_, m := encoded(t, style{}, r)
	if at(m, "auth", "client_token") != hashed("t") || at(m, "auth", "policy_results") != nil {
		t.Errorf("got %v", m["auth"])
	}
	r.Kind = Request
	_, m = encoded(t, style{}, r)
	if at(m, "auth", "policy_results", "allowed") != true || at(m, "auth", "token_type") != "default" {
		t.Errorf("got %v", m["auth"])
	}
}

// A record is bounded, however large the request.
func TestLargeData(t *testing.T) {
	many := "[" + strings.Repeat(`"s3cret",`, 200_000) + `"s3cret"]`
	large := `"` + strings.Repeat("s3cret", 2_000_000) + `"`
	for name, c := range map[string]struct {
		value string
		style style
		limit int
	}{
		"many strings":        {many, style{}, 4096},
		"many strings, raw":   {many, style{raw: true}, strangerDataBytes + dataGrowth*len(many)},
		"large string":        {large, style{}, 4096},
		"large string, raw":   {large, style{raw: true}, 4096},
		"deep":                {strings.Repeat(`[`, 2000) + `"s3cret"` + strings.Repeat(`]`, 2000), style{}, 4096},
		"large key, in clear": {`{` + large + `:1}`, style{}, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			r := write("kv/a")
			r.Request.Params = param.Object{{Key: "k", Value: json.RawMessage(c.value)}}
			text, _ := encoded(t, c.style, r)
			if len(text) > c.limit {
				t.Errorf("the line has %d bytes, want at most %d", len(text), c.limit)
			}
		})
	}
}

// What tells of a request is not much longer than the request, and short for those
// who have shown no token.
func TestGrowth(t *testing.T) {
	short := `"` + strings.Repeat(`","`, 30_000) + `"`
	long := `"` + strings.Repeat("s3cret", 100_000) + `"`
	for name, c := range map[string]struct {
		value    string
		stranger bool
		hashes   bool // each string has one
	}{
		"few short strings":                {`["a","b","c"]`, true, true},
		"many short strings":               {"[" + short + "]", false, false},
		"many short strings of a stranger": {"[" + short + "]", true, false},
		"short strings in a long request":  {`["a",` + long + `,"b"]`, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := write("kv/a")
			if c.stranger {
				r.Token = nil
			}
			r.Request.Params = param.Object{{Key: "k", Value: json.RawMessage(c.value)}}
			text, m := encoded(t, style{}, r)
			whole := at(m, "request", "data", "omitted") != nil
			if answer := r.dataBytes(1, true); c.stranger != (answer == strangerDataBytes) || !c.stranger && answer != maxDataBytes {
				t.Errorf("an answer may take %d bytes", answer)
			}
			if limit := r.dataBytes(len(c.value)+1, false); len(text) > limit+4096 || whole == c.hashes {
				t.Errorf("the line has %d bytes, of at most %d; one hash of all: %v", len(text), limit, whole)
			}
		})
	}
}

// A prefix stands before each line, where the server allows that.
func TestPrefix(t *testing.T) {
	o := map[string]string{"prefix": "<13>arca: "}
	if _, err := parseStyle(o, false); err == nil {
		t.Error("a prefix is allowed by default")
	}
	for _, bad := range []string{"a\nb", "\x00", strings.Repeat("x", maxPrefixBytes+1)} {
		if _, err := parseStyle(map[string]string{"prefix": bad}, true); err == nil {
			t.Errorf("prefix %q is allowed", bad)
		}
	}
	s, err := parseStyle(o, true)
	if err != nil {
		t.Fatal(err)
	}
	l := newEncoder(s, []byte("salt"), "v1").encode(write("kv/a"), nil, nil)
	if text := string(*l.b); !strings.HasPrefix(text, `<13>arca: {"time":`) || !strings.HasSuffix(text, "}\n") {
		t.Errorf("got %q", text)
	}
}
