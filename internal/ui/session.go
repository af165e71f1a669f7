package ui

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

const cookieName = "arca-ui"

// A session is who is logged in, and where. It is all in the cookie; the server
// keeps nothing.
type session struct {
	Token     string `json:"t"`
	Namespace string `json:"n,omitempty"` // canonical
}

func sessionOf(r *http.Request) (s session) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return session{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || json.Unmarshal(raw, &s) != nil {
		return session{}
	}
	return s
}

// setSession keeps a session (a value of that type) with the browser until it is
// closed; an empty one is forgotten. Anything else changes nothing.
func setSession(w http.ResponseWriter, r *http.Request, v any) {
	s, ok := v.(session)
	if !ok {
		return
	}
	c := &http.Cookie{ //nolint:gosec // Secure follows the connection
		Name: cookieName, Path: "/ui", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: encrypted(r), // in dev mode the server speaks plain HTTP
	}
	if s.Token == "" {
		c.MaxAge = -1
	} else if raw, err := json.Marshal(s); err == nil {
		c.Value = base64.RawURLEncoding.EncodeToString(raw)
	}
	http.SetCookie(w, c)
}
