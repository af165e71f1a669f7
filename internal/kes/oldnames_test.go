package kes

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"arca/internal/kes/cache"
	"arca/internal/kes/key"
	"arca/internal/kes/store/memory"
)

// oldKeys are those of a store with a key of a name that KES took until 2023.
func oldKeys(t *testing.T) Keys {
	t.Helper()
	k, err := key.Import(bytes.Repeat([]byte{7}, key.Size), key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	s := &memory.Store{}
	for _, name := range []string{"old-", "-old"} {
		if err := s.Create(t.Context(), name, k.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	return Cached{cache.New(s, cache.Expiry{})}
}

// TestOldNames uses keys whose names have a hyphen at an end, and makes none: MinIO, which
// makes its key at each start, is told that it exists.
func TestOldNames(t *testing.T) {
	t.Parallel()
	alone := newRig(t)
	alone.state = &State{Keys: oldKeys(t), Access: alone.state.Access}
	alone.door = New(Config{Version: "alone"}, alone.state)
	behind := newFar(t, "/v1/key/*")
	behind.door.Swap(&State{Keys: oldKeys(t), Access: behind.door.state.Load().Access})
	for about, r := range map[string]*rig{"alone": alone, "an edge": near(t, behind.cfg)} {
		want := func(code int, method, path, body, says string) map[string]any {
			t.Helper()
			got, out := r.do("user", method, path, body)
			if text, _ := out["message"].(string); got != code || text != says {
				t.Errorf("%s: %s %s: %d %v; want %d %q", about, method, path, got, out, code, says)
			}
			return out
		}
		const bad = "invalid name: a hyphen is neither its first nor its last character"
		for _, name := range []string{"old-", "-old"} {
			want(200, "GET", "/v1/key/describe/"+name, "", "")
			sealed := want(200, "PUT", "/v1/key/generate/"+name, "", "")
			opened := want(200, "PUT", "/v1/key/decrypt/"+name, fmt.Sprintf(`{"ciphertext":%q}`, sealed["ciphertext"]), "")
			if opened["plaintext"] != sealed["plaintext"] {
				t.Errorf("%s: %s opens %v; want %v", about, name, opened, sealed)
			}
			want(400, "PUT", "/v1/key/create/"+name, "", "key already exists")
			want(400, "PUT", "/v1/key/import/"+name, `{"key":"`+b64(make([]byte, 32))+`","cipher":"AES256"}`, "key already exists")
		}
		if out := want(200, "GET", "/v1/key/list/", "", ""); fmt.Sprint(out["names"]) != "[-old old-]" {
			t.Errorf("%s lists %v", about, out)
		}
		for _, name := range []string{"old-", "-old"} {
			want(200, "DELETE", "/v1/key/delete/"+name, "", "")
			want(404, "GET", "/v1/key/describe/"+name, "", "key does not exist")
			want(400, "PUT", "/v1/key/create/"+name, "", bad)
		}
	}
}

// TestOldNamesAtTheLastKES asks another server that takes no such names: that is what the
// client has asked for, and no failure of the key store.
func TestOldNamesAtTheLastKES(t *testing.T) {
	t.Parallel()
	f := newFar(t, "/v1/key/*")
	r := near(t, f.cfg)
	lie := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, http.StatusBadRequest, "name contains an invalid character")
	})
	f.lie.Store(&lie)
	for _, c := range [][3]string{
		{"GET", "/v1/key/describe/old-"}, {"PUT", "/v1/key/create/old-"}, {"PUT", "/v1/key/decrypt/old-", `{}`}, {"DELETE", "/v1/key/delete/-old"},
	} {
		if code, out := r.do("user", c[0], c[1], c[2]); code != 400 {
			t.Errorf("%s %s: %d %v", c[0], c[1], code, out)
		}
	}
}
