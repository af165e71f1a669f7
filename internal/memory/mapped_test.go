package memory

import (
	"encoding/json"
	"testing"
)

// TestReleaseProgram goes on when the program's pages are given back.
func TestReleaseProgram(t *testing.T) {
	for range 3 {
		if err := ReleaseProgram(); err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(map[string]int{"a": 1}); err != nil || string(b) != `{"a":1}` {
			t.Errorf("%s, %v", b, err)
		}
	}
}
