package approle

import (
	"strings"
	"testing"
)

// Metadata comes from outside: whatever it is, it becomes text or is refused.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"", `{"a":"b"}`, `{"a":1}`, "a=b,c=d", "=", "{", `{"a":{"b":"c"}}`, "a=b=c", ",", `{"a":"b","a":"c"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMetadata(s)
		if err != nil && m != nil {
			t.Error("an error and a result")
		}
		for k := range m {
			if !strings.HasPrefix(strings.TrimSpace(s), "{") && k == "" {
				t.Errorf("a pair without a name in %q", s)
			}
		}
	})
}
