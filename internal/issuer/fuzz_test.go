package issuer

import (
	"encoding/json"
	"testing"
	"time"

	"arca/internal/identity"
)

// A template makes an object or is refused, whatever stands in it and whatever
// its values are; values never become members.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		`{"a":{{identity.entity.name}}}`, `{{identity.entity.metadata}}`, `{"g":{{identity.entity.groups.names}},"t":{{time.now.plus.5m}}}`, `{{`, `{"a":{{x}}}`,
		`{"a":"{{identity.entity.name}}"}`, `[{{identity.entity.id}}]`,
	} {
		f.Add(s, `x","admin":true,"y":"`)
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		now := time.Unix(1e9, 0)
		p := &identity.Person{Entity: &identity.Entity{ID: "e", Name: name, Metadata: map[string]string{"k": name}}}
		plain, err := fillTemplate(text, nobody, "", now)
		if err != nil || checkTemplate(text) != nil {
			return
		}
		got, err := fillTemplate(text, p, "", now)
		if err != nil {
			return
		}
		if text == `{{identity.entity.metadata}}` {
			return // its members are the values' own
		}
		for k := range got {
			if _, known := plain[k]; !known && json.Valid([]byte(text)) {
				t.Errorf("%q with %q has the member %q", text, name, k)
			}
		}
	})
}
