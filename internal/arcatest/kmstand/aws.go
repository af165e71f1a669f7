package kmstand

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// AccessKey is the id with which the stand-in for AWS lets in.
const AccessKey = "AKIAIOSFODNN7EXAMPLE"

// AWS stands in for AWS KMS
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Operations.html).
func AWS(tb testing.TB) *Service { //nolint:cyclop // a table of operations
	tb.Helper()
	return start(tb, "AWS KMS", func(s *Service, w http.ResponseWriter, r *http.Request, body []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fail := func(kind, message string) {
			answer(w, http.StatusBadRequest, map[string]string{"__type": kind, "message": message})
		}
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
		s.calls[action]++
		var in struct {
			KeyID                                  string `json:"KeyId"`
			Message, CiphertextBlob                []byte
			MessageType, SigningAlgorithm          string
			EncryptionAlgorithm, KeySpec, KeyUsage string
			AliasName                              string
			Target                                 string `json:"TargetKeyId"`
		}
		switch {
		case json.Unmarshal(body, &in) != nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
			fail("SerializationException", "bad request")
			return
		case !strings.Contains(r.Header.Get("Authorization"), "Credential="+AccessKey+"/") || s.mood == Forbids:
			fail("AccessDeniedException", "User: somebody is not authorized to perform: kms:"+action)
			return
		case s.mood == Throttle:
			fail("ThrottlingException", "Rate exceeded")
			return
		}
		id, k, ok := s.key(in.KeyID)
		if in.KeyID != "" && !ok {
			fail("NotFoundException", "Key is not found")
			return
		}
		switch action {
		case "GetPublicKey":
			der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
			if err != nil {
				tb.Error(err)
			}
			answer(w, http.StatusOK, map[string]any{"KeyId": id, "PublicKey": der, "KeyUsage": k.Usage})
		case "Sign":
			if in.MessageType != "DIGEST" || k.Usage != "SIGN_VERIFY" {
				fail("InvalidKeyUsageException", "")
				return
			}
			sig, err := s.sign(k.Private, in.SigningAlgorithm, in.Message)
			if err != nil {
				fail("ValidationException", err.Error())
				return
			}
			answer(w, http.StatusOK, map[string]any{"KeyId": id, "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm})
		case "Decrypt":
			key, isRSA := k.Private.(*rsa.PrivateKey)
			if !isRSA || k.Usage != "ENCRYPT_DECRYPT" || in.EncryptionAlgorithm != "RSAES_OAEP_SHA_256" {
				fail("InvalidKeyUsageException", "")
				return
			}
			plain, err := rsa.DecryptOAEP(sha256.New(), nil, key, in.CiphertextBlob, nil)
			if err != nil {
				fail("InvalidCiphertextException", "")
				return
			}
			answer(w, http.StatusOK, map[string]any{"KeyId": id, "Plaintext": plain})
		case "CreateKey":
			key, err := generate(in.KeySpec)
			if err != nil {
				fail("ValidationException", err.Error())
				return
			}
			s.made++
			id := fmt.Sprintf("arn:aws:kms:us-east-1:1:key/made-%d", s.made)
			s.keys[id] = Key{Private: key, Usage: in.KeyUsage}
			answer(w, http.StatusOK, map[string]any{"KeyMetadata": map[string]string{"KeyId": id}})
		case "CreateAlias":
			if s.alias[in.AliasName] != "" {
				fail("AlreadyExistsException", "")
				return
			}
			s.alias[in.AliasName] = in.Target
			if s.mood == Forgets {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusOK)
		case "ScheduleKeyDeletion":
			k.Gone = true
			s.keys[id] = k
			answer(w, http.StatusOK, map[string]any{"KeyId": id})
		default:
			fail("UnknownOperationException", "")
		}
	})
}

// Alias makes an alias mean a key, whatever it meant before.
func (s *Service) Alias(alias, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alias[alias] = id
}
