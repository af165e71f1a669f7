package kmstand

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// ClientSecret is with what the stand-in for Azure lets in.
const ClientSecret = "azure-client-secret"

// Azure stands in for Azure Key Vault (https://learn.microsoft.com/rest/api/keyvault/keys),
// and for who gives tokens for it. Ids are "name/version", aliases "name".
func Azure(tb testing.TB) *Service {
	tb.Helper()
	return start(tb, "Azure Key Vault", func(s *Service, w http.ResponseWriter, r *http.Request, body []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fail := func(code int, kind string) {
			answer(w, code, map[string]any{"error": map[string]string{"code": kind, "message": "somebody's words"}})
		}
		if r.URL.Path == "/tenant/oauth2/v2.0/token" {
			if !strings.Contains(string(body), "client_secret="+ClientSecret) {
				fail(http.StatusUnauthorized, "invalid_client")
				return
			}
			answer(w, http.StatusOK, map[string]any{"access_token": "azure-token", "expires_in": 3600})
			return
		}
		if r.Header.Get("Authorization") != "Bearer azure-token" || r.URL.Query().Get("api-version") == "" || s.mood == Forbids {
			fail(http.StatusForbidden, "Forbidden")
			return
		}
		if s.mood == Throttle {
			fail(http.StatusTooManyRequests, "Throttled")
			return
		}
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/keys/"), "/")
		var in struct {
			Kty   string   `json:"kty"`
			Size  int      `json:"key_size"`
			Ops   []string `json:"key_ops"`
			Alg   string   `json:"alg"`
			Value string   `json:"value"`
		}
		if len(body) > 0 && json.Unmarshal(body, &in) != nil {
			fail(http.StatusBadRequest, "BadParameter")
			return
		}
		last := parts[len(parts)-1]
		s.calls[last]++
		switch {
		case r.Method == http.MethodPost && len(parts) == 2 && last == "create":
			key, err := generate(fmt.Sprint(in.Size))
			if err != nil {
				fail(http.StatusBadRequest, "BadParameter")
				return
			}
			s.made++
			id := fmt.Sprintf("%s/made%d", parts[0], s.made)
			s.keys[id] = Key{Private: key, Usage: in.Kty + " " + strings.Join(in.Ops, ",")}
			s.alias[parts[0]] = id
			s.showAzure(w, id)
		case r.Method == http.MethodGet && len(parts) == 1:
			s.showAzure(w, s.alias[parts[0]])
		case r.Method == http.MethodPost && len(parts) == 3:
			k, ok := s.keys[parts[0]+"/"+parts[1]]
			_, ops, _ := strings.Cut(k.Usage, " ")
			value, err := base64.RawURLEncoding.DecodeString(in.Value)
			if !ok || err != nil || !slices.Contains(strings.Split(ops, ","), last) {
				fail(http.StatusForbidden, "KeyOperationForbidden")
				return
			}
			out, err := s.azure(k.Private.(*rsa.PrivateKey), last, in.Alg, value)
			if err != nil {
				fail(http.StatusBadRequest, "BadParameter")
				return
			}
			answer(w, http.StatusOK, map[string]string{"kid": "x", "value": base64.RawURLEncoding.EncodeToString(out)})
		default:
			fail(http.StatusNotFound, "KeyNotFound")
		}
	})
}

func (s *Service) azure(k *rsa.PrivateKey, what, algorithm string, value []byte) ([]byte, error) {
	if what == "decrypt" {
		if algorithm != "RSA-OAEP-256" {
			return nil, fmt.Errorf("algorithm %s", algorithm)
		}
		return rsa.DecryptOAEP(sha256.New(), rand.Reader, k, value, nil)
	}
	return s.sign(k, strings.Replace(algorithm, "PS", "PSS", 1), value)
}

func (s *Service) showAzure(w http.ResponseWriter, id string) {
	k, ok := s.keys[id]
	if !ok {
		answer(w, http.StatusNotFound, map[string]any{"error": map[string]string{"code": "KeyNotFound", "message": "somebody's words"}})
		return
	}
	kind, _, _ := strings.Cut(k.Usage, " ")
	p := k.Private.(*rsa.PrivateKey)
	answer(w, http.StatusOK, map[string]any{"key": map[string]any{
		"kid": s.URL + "/keys/" + id, "kty": kind, "n": base64.RawURLEncoding.EncodeToString(p.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.E)).Bytes()),
	}})
}
