package arcatest

import (
	"net/url"
	"time"

	"github.com/pquerna/otp/totp"
)

// SecondFactor lets logins at auth methods of a type wait for a second factor, and gives
// the entity one. What it returns shows the code of now for a login that waits; one
// code lets one login in.
func (s *Server) SecondFactor(mountType, entity string) (validate func(id string) (int, map[string]any)) {
	s.tb.Helper()
	method, _ := Dig(s.Must("POST", "identity/mfa/method/totp", s.Root, map[string]any{"issuer": "I", "skew": 0}), "data", "method_id").(string)
	out := s.Must("POST", "identity/mfa/method/totp/admin-generate", s.Root, map[string]any{"method_id": method, "entity_id": entity})
	text, _ := Dig(out, "data", "url").(string)
	u, err := url.Parse(text)
	if err != nil || u.Query().Get("secret") == "" {
		s.tb.Fatalf("url %q: %v", text, err)
	}
	s.Must("POST", "identity/mfa/login-enforcement/"+mountType, s.Root, map[string]any{"mfa_method_ids": method, "auth_method_types": mountType})
	return func(id string) (int, map[string]any) {
		s.tb.Helper()
		code, err := totp.GenerateCode(u.Query().Get("secret"), time.Now())
		if err != nil {
			s.tb.Fatal(err)
		}
		return s.Do("POST", "sys/mfa/validate", "", map[string]any{"mfa_request_id": id, "mfa_payload": map[string]any{method: []string{code}}})
	}
}
