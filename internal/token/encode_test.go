package token

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/quota"
)

// TestEncode reads what encode writes, with every field set and with none.
func TestEncode(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	full := Entry{
		Version: 1, Parent: "p", ParentNS: "pn", Policies: []string{"a", "b\"<é"}, Path: "auth/token/create", Meta: map[string]string{"k": "v"},
		DisplayName: "dn", NumUses: 3, Created: now, CreationTTL: time.Hour, Expires: now.Add(time.Hour), LastRenewal: now, Period: 2,
		ExplicitMax: 3, MaxTTL: 4, Renewable: true, Type: engine.TokenBatch, Role: "role", EntityID: "e",
		BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Mount: "m", Internal: map[string]any{"x": "y"},
		Wrapped: &Wrapped{CreationPath: "a/b", TTL: 5, JWT: true, Body: json.RawMessage(`{"a":1}`)}, NamespaceID: "ns",
		Quota: &quota.Stamp{Rule: "q", Role: "r"},
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if f := v.Type().Field(i); v.Field(i).IsZero() && f.Tag.Get("json") != "-" {
			t.Errorf("the test does not set %s", f.Name)
		}
	}
	mixed := full
	mixed.Internal = map[string]any{"x": "y", "n": 1.5, "list": []any{"a", true}}
	for name, want := range map[string]Entry{"full": full, "mixed": mixed, "bare": {Version: 1, Path: "p", Created: now}} {
		t.Run(name, func(t *testing.T) {
			raw, err := want.encode()
			if err != nil {
				t.Fatal(err)
			}
			var got Entry
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v\nfrom %s", got, want, raw)
			}
		})
	}
}
