package seals

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"

	"arca/internal/errs"
)

// static encrypts by AES-256-GCM with a key beside the configuration, and still
// decrypts with the one before.
type static struct {
	current string                 // id of the key that encrypts
	keys    map[string]cipher.AEAD // by id
}

const staticKeyBytes = 32

func newStatic(o *options) (*static, error) {
	s := &static{current: o.first("current_key_id"), keys: map[string]cipher.AEAD{}}
	if s.current == "" {
		return nil, missing("current_key_id")
	}
	for _, which := range []string{"current_key", "previous_key"} {
		text, id := o.first(which), o.first(which+"_id")
		if which == "previous_key" && text == "" && id == "" {
			continue
		}
		if text == "" || id == "" {
			return nil, missing(which + " or " + which + "_id")
		}
		if s.keys[id] != nil {
			return nil, errs.New(errs.Invalid, "current_key_id and previous_key_id are the same")
		}
		key, err := staticKey(o, which, text)
		if err != nil {
			return nil, err
		}
		b, err := aes.NewCipher(key)
		clear(key)
		if err != nil {
			return nil, err
		}
		if s.keys[id], err = cipher.NewGCMWithRandomNonce(b); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// staticKey reads a key: file://PATH, env://NAME, or the key; 32 bytes as they are
// (in a file), in hex or in base64. Its errors show nothing of it.
func staticKey(o *options, name, text string) ([]byte, error) {
	raw := []byte(text)
	if path, ok := strings.CutPrefix(text, "file://"); ok {
		f, err := os.Open(path) //nolint:gosec // the operator names it
		if err != nil {
			return nil, errs.New(errs.Invalid, "%s: %w", name, err)
		}
		defer f.Close()
		if raw, err = io.ReadAll(io.LimitReader(f, 4096)); err != nil {
			return nil, errs.New(errs.Invalid, "%s: %w", name, err)
		}
	} else if variable, ok := strings.CutPrefix(text, "env://"); ok {
		raw = []byte(o.getenv(variable))
	}
	if len(raw) == staticKeyBytes {
		return raw, nil
	}
	trimmed := strings.TrimSpace(string(raw))
	if key, err := hex.DecodeString(trimmed); err == nil && len(key) == staticKeyBytes {
		return key, nil
	}
	if key, err := base64.StdEncoding.DecodeString(trimmed); err == nil && len(key) == staticKeyBytes {
		return key, nil
	}
	return nil, errs.New(errs.Invalid, "%s is no key of %d bytes, in hex or base64: make one with openssl rand -hex 32", name, staticKeyBytes)
}

// staticBlob is what is stored.
type staticBlob struct {
	ID     string `json:"id"`
	Sealed []byte `json:"sealed"`
}

// Encrypt implements seal.Sealer.
func (s *static) Encrypt(_ context.Context, plain []byte) ([]byte, error) {
	return json.Marshal(staticBlob{s.current, s.keys[s.current].Seal(nil, nil, plain, []byte(s.current))})
}

// Decrypt implements seal.Sealer.
func (s *static) Decrypt(_ context.Context, sealed []byte) ([]byte, error) {
	var b staticBlob
	if err := json.Unmarshal(sealed, &b); err != nil {
		return nil, errs.New(errs.Failed, "what was stored under the static seal cannot be decoded")
	}
	key := s.keys[b.ID]
	if key == nil {
		return nil, errs.New(errs.Invalid, "the store is sealed by the key %q, which is neither current_key_id nor previous_key_id", b.ID)
	}
	plain, err := key.Open(nil, nil, b.Sealed, []byte(b.ID))
	if err != nil {
		return nil, errs.New(errs.Invalid, "the key %q is not the one that the store was sealed by", b.ID)
	}
	return plain, nil
}

// Current reports whether sealed is under the newest key.
func (s *static) Current(sealed []byte) bool {
	var b staticBlob
	return json.Unmarshal(sealed, &b) == nil && b.ID == s.current
}
