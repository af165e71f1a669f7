package kmstand

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Ring is the key ring of the stand-in for Google's Cloud KMS.
const Ring = "projects/p/locations/l/keyRings/r"

// Google stands in for Cloud KMS (https://cloud.google.com/kms/docs/reference/rest), and
// for who gives tokens for it. Ids are those of versions below Ring: "key/1".
func Google(tb testing.TB) *Service {
	tb.Helper()
	return start(tb, "Google Cloud KMS", func(s *Service, w http.ResponseWriter, r *http.Request, body []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fail := func(code int, kind string) {
			answer(w, code, map[string]any{"error": map[string]any{"code": code, "status": kind, "message": "somebody's words"}})
		}
		if r.URL.Path == "/token" {
			answer(w, http.StatusOK, map[string]any{"access_token": "google-token", "expires_in": 3600})
			return
		}
		if r.Header.Get("Authorization") != "Bearer google-token" || s.mood == Forbids {
			fail(http.StatusForbidden, "PERMISSION_DENIED")
			return
		}
		if s.mood == Throttle {
			fail(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED")
			return
		}
		var in struct {
			Digest          map[string][]byte `json:"digest"`
			Ciphertext      []byte            `json:"ciphertext"`
			Purpose         string            `json:"purpose"`
			VersionTemplate struct {
				Algorithm string `json:"algorithm"`
			} `json:"versionTemplate"`
		}
		if len(body) > 0 && json.Unmarshal(body, &in) != nil {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
		path := strings.TrimPrefix(r.URL.Path, "/v1/"+Ring+"/cryptoKeys")
		if path == "" && r.Method == http.MethodPost {
			id := r.URL.Query().Get("cryptoKeyId") + "/1"
			if _, there := s.keys[id]; there {
				fail(http.StatusConflict, "ALREADY_EXISTS")
				return
			}
			key, err := generate(in.VersionTemplate.Algorithm)
			if err != nil || in.Purpose == "" {
				fail(http.StatusBadRequest, "INVALID_ARGUMENT")
				return
			}
			s.keys[id] = Key{Private: key, Usage: in.VersionTemplate.Algorithm}
			s.calls["pending "+id] = 2 // it is made in the background
			answer(w, http.StatusOK, map[string]string{"name": id})
			return
		}
		path, action, _ := strings.Cut(strings.Replace(path, "/publicKey", ":publicKey", 1), ":")
		id := strings.TrimPrefix(strings.Replace(path, "/cryptoKeyVersions", "", 1), "/")
		k, ok := s.keys[id]
		s.calls[action]++
		switch {
		case !ok:
			fail(http.StatusNotFound, "NOT_FOUND")
		case s.calls["pending "+id] > 0:
			s.calls["pending "+id]--
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
		case action == "publicKey":
			der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
			if err != nil {
				tb.Error(err)
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
			answer(w, http.StatusOK, map[string]string{"pem": string(text), "pemCrc32c": checksum(text), "algorithm": k.Usage, "name": id})
		case action == "asymmetricSign" && len(in.Digest) == 1:
			for name, digest := range in.Digest {
				if !strings.HasSuffix(k.Usage, strings.ToUpper(name)) {
					fail(http.StatusBadRequest, "INVALID_ARGUMENT")
					return
				}
				sig, err := s.sign(k.Private, k.Usage[strings.LastIndexByte(k.Usage, '_'):]+map[bool]string{true: "PSS"}[strings.Contains(k.Usage, "PSS")], digest)
				if err != nil {
					fail(http.StatusBadRequest, "INVALID_ARGUMENT")
					return
				}
				answer(w, http.StatusOK, map[string]any{"signature": sig, "signatureCrc32c": checksum(sig)})
			}
		case action == "asymmetricDecrypt" && strings.Contains(k.Usage, "DECRYPT"):
			plain, err := rsa.DecryptOAEP(sha256.New(), rand.Reader, k.Private.(*rsa.PrivateKey), in.Ciphertext, nil)
			if err != nil {
				fail(http.StatusBadRequest, "INVALID_ARGUMENT")
				return
			}
			sum := checksum(plain)
			if s.mood == Lies {
				plain = append(plain, 'x')
			}
			answer(w, http.StatusOK, map[string]any{"plaintext": plain, "plaintextCrc32c": sum})
		default:
			fail(http.StatusBadRequest, "INVALID_ARGUMENT")
		}
	})
}

func checksum(data []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), 10)
}

// Account is the key of a service account, whose tokens come from the stand-in.
func (s *Service) Account(tb testing.TB) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(RSA(tb, 2048))
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key_id": "1", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}
