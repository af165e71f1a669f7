package engine

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// wireAuth and the others are the envelope as encoding/json would write it.
type (
	wireWrap struct {
		Token           string    `json:"token"`
		Accessor        string    `json:"accessor"`
		TTL             int       `json:"ttl"`
		CreationTime    time.Time `json:"creation_time"`
		CreationPath    string    `json:"creation_path"`
		WrappedAccessor string    `json:"wrapped_accessor,omitempty"`
	}
	wireAuth struct {
		ClientToken      string            `json:"client_token"`
		Accessor         string            `json:"accessor"`
		Policies         []string          `json:"policies"`
		TokenPolicies    []string          `json:"token_policies,omitempty"`
		IdentityPolicies []string          `json:"identity_policies,omitempty"`
		Metadata         map[string]string `json:"metadata"`
		MFA              any               `json:"mfa_requirement"`
		LeaseDuration    int               `json:"lease_duration"`
		Renewable        bool              `json:"renewable"`
		EntityID         string            `json:"entity_id"`
		TokenType        string            `json:"token_type"`
		Orphan           bool              `json:"orphan"`
		NumUses          int               `json:"num_uses"`
	}
	wireResponse struct {
		RequestID     string    `json:"request_id"`
		LeaseID       string    `json:"lease_id"`
		Renewable     bool      `json:"renewable"`
		LeaseDuration int       `json:"lease_duration"`
		Data          any       `json:"data"`
		WrapInfo      *wireWrap `json:"wrap_info"`
		Warnings      []string  `json:"warnings"`
		Auth          *wireAuth `json:"auth"`
		MountType     string    `json:"mount_type,omitempty"`
	}
)

const strange = "<a href=\"x\">&\\ \u2028\u2029\x00\x1f\x7f\xff é 😀"

// Client traps: null members and mount_type are always there.
func TestAppendResponse(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 700, time.UTC)
	cases := []struct {
		name string
		in   Response
		want wireResponse
	}{
		{"nothing", Response{}, wireResponse{RequestID: "id"}},
		{
			"data",
			Response{Data: map[string]any{"k": strange, "n": json.Number("1.50")}, Warnings: []string{strange, ""}, MountType: "kv"},
			wireResponse{RequestID: "id", Data: map[string]any{"k": strange, "n": json.Number("1.50")}, Warnings: []string{strange, ""}, MountType: "kv"},
		},
		{"a duration", Response{LeaseDuration: 90*time.Second + 1, Renewable: true}, wireResponse{RequestID: "id", LeaseDuration: 90, Renewable: true}},
		{"a renewed lease", Response{LeaseID: "a/b"}, wireResponse{RequestID: "id", LeaseID: "a/b"}},
		{
			"a lease",
			Response{Lease: &Lease{ID: "l/1", TTL: time.Hour, Renewable: true}, LeaseDuration: time.Second},
			wireResponse{RequestID: "id", LeaseID: "l/1", LeaseDuration: 3600, Renewable: true},
		},
		{
			"a login",
			Response{Auth: &Auth{
				ClientToken: "hvs.x", Accessor: "a", Policies: []string{"default"}, TokenPolicies: []string{"default"}, Metadata: map[string]string{strange: strange},
				LeaseDuration: time.Minute, Renewable: true, EntityID: "e", Type: TokenService, Orphan: true, NumUses: 3, IdentityPolicies: []string{"i"},
			}},
			wireResponse{RequestID: "id", Auth: &wireAuth{
				ClientToken: "hvs.x", Accessor: "a", Policies: []string{"default"}, TokenPolicies: []string{"default"}, Metadata: map[string]string{strange: strange},
				LeaseDuration: 60, Renewable: true, EntityID: "e", TokenType: "service", Orphan: true, NumUses: 3, IdentityPolicies: []string{"i"},
			}},
		},
		{"a login without policies", Response{Auth: &Auth{Type: TokenBatch}}, wireResponse{RequestID: "id", Auth: &wireAuth{Policies: []string{}, TokenType: "batch"}}},
		{
			"wrapped",
			Response{Data: map[string]any{"secret": 1}, Auth: &Auth{ClientToken: "hvs.secret"}, TopLevel: true, Wrap: &WrapInfo{
				Token: "hvs.w", Accessor: "acc", TTL: time.Minute, CreationTime: at, CreationPath: strange, WrappedAccessor: "wa",
			}},
			wireResponse{WrapInfo: &wireWrap{Token: "hvs.w", Accessor: "acc", TTL: 60, CreationTime: at, CreationPath: strange, WrappedAccessor: "wa"}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := AppendResponse([]byte("x"), "id", &c.in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "x"+string(want) {
				t.Errorf("\n got %s\nwant x%s", got, want)
			}
		})
	}
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	got, err := AppendResponse(nil, "", &Response{Data: json.RawMessage(`{"a/":{"type":"kv"}}`), TopLevel: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := `"auth":null,"a/":{"type":"kv"}}`; !bytes.HasSuffix(got, []byte(want)) || !json.Valid(got) {
		t.Errorf("got %s, want … %s", got, want)
	}
	for _, data := range []any{nil, map[string]any{}, json.RawMessage(`[1]`)} {
		got, err := AppendResponse(nil, "", &Response{Data: data, TopLevel: true})
		if err != nil || !json.Valid(got) {
			t.Errorf("%v: %s, %v", data, got, err)
		}
	}
	if _, err := AppendResponse(nil, "", &Response{Data: func() {}}); err == nil {
		t.Error("what is no JSON was encoded")
	}
}

// FuzzAppendString: the same bytes as encoding/json.
func FuzzAppendStrings(f *testing.F) {
	for _, s := range []string{"", "plain", strange, "\xed\xa0\x80", strings.Repeat("a", 300), "\u0080", "\b\f\n\r\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := json.Marshal([]string{s, s})
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendStrings(nil, []string{s, s}); !bytes.Equal(got, list) {
			t.Fatalf("got %s, want %s", got, list)
		}
	})
}
