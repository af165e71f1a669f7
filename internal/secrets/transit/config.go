package transit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// keysConfig holds for all keys of a mount.
type keysConfig struct {
	Version  int  `json:"v"`
	NoUpsert bool `json:"no_upsert,omitempty"` // encrypt makes no keys
}

// cacheConfig is kept and shown: our cache is bounded in bytes, for all mounts.
type cacheConfig struct {
	Version int `json:"v"`
	Size    int `json:"size"`
}

const (
	keysConfigKey  = "config/keys"
	cacheConfigKey = "config/cache"
)

// getConfig reads a configuration; what was never written is the zero value.
func getConfig[T any](tx storage.Tx, key string) (*T, error) {
	c, err := storage.GetJSON[T](tx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return new(T), nil
	}
	return c, err
}

func (e *Engine) readKeysConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := getConfig[keysConfig](call.Tx, keysConfigKey)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"disable_upsert": c.NoUpsert}}, nil
}

type keysConfigIn struct {
	NoUpsert *bool `api:"disable_upsert" help:"Let encrypt make no keys that do not exist."`
}

func (e *Engine) writeKeysConfig(_ context.Context, call *engine.Call, in keysConfigIn) (*engine.Response, error) {
	c, err := getConfig[keysConfig](call.Tx, keysConfigKey)
	if err != nil {
		return nil, err
	}
	c.Version = 1
	if in.NoUpsert != nil {
		c.NoUpsert = *in.NoUpsert
	}
	if err := storage.PutJSON(call.Tx, keysConfigKey, c); err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"disable_upsert": c.NoUpsert}}, nil
}

func (e *Engine) readCache(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := getConfig[cacheConfig](call.Tx, cacheConfigKey)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"size": c.Size}}, nil
}

type cacheIn struct {
	Size int `api:"size" help:"Number of keys; 0 is without limit. It is kept for Vault's clients: the cache here is bounded in bytes."`
}

const minCache = 10

func (e *Engine) writeCache(_ context.Context, call *engine.Call, in cacheIn) (*engine.Response, error) {
	if in.Size != 0 && in.Size < minCache {
		return nil, errs.New(errs.Invalid, "size must be 0 or a value greater or equal to %d", minCache)
	}
	if err := storage.PutJSON(call.Tx, cacheConfigKey, cacheConfig{Version: 1, Size: in.Size}); err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"size": in.Size}}, nil
}

const maxRandomBytes = 128 << 10

type randomIn struct {
	Bytes    int    `api:"bytes" help:"How many bytes." default:"32"`
	URLBytes string `api:"urlbytes" help:"How many bytes, in the path."`
	Source   string `api:"source" help:"platform, seal or all."`
	Format   string `api:"format" help:"hex or base64." default:"base64"`
}

func (e *Engine) random(_ context.Context, _ *engine.Call, in randomIn) (*engine.Response, error) {
	known := func(s string) bool { return s == "platform" || s == "seal" || s == "all" }
	if in.Source != "" && !known(in.Source) {
		return nil, errs.New(errs.Invalid, "unsupported entropy source %q; must be \"platform\" or \"seal\", or \"all\"", in.Source)
	}
	n := in.Bytes
	if in.URLBytes != "" && !known(in.URLBytes) {
		var err error
		if n, err = strconv.Atoi(in.URLBytes); err != nil {
			return nil, errs.New(errs.Invalid, "error parsing url-set byte count: %s", err.Error())
		}
	}
	switch {
	case n < 1:
		return nil, errs.New(errs.Invalid, "'bytes' cannot be less than 1")
	case n > maxRandomBytes:
		return nil, errs.New(errs.Invalid, "'bytes' should be less than %d", maxRandomBytes)
	}
	out := make([]byte, n)
	_, _ = rand.Read(out) // never fails (crypto/rand, since Go 1.24)
	text, err := format(out, in.Format)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"random_bytes": text}}, nil
}

func format(b []byte, how string) (string, error) {
	switch how {
	case "hex":
		return hex.EncodeToString(b), nil
	case "base64":
		return base64.StdEncoding.EncodeToString(b), nil
	}
	return "", errs.New(errs.Invalid, "unsupported encoding format %q; must be \"hex\" or \"base64\"", how)
}

type hashIn struct {
	Input        string `api:"input" help:"The data, in base64."`
	Algorithm    string `api:"algorithm" help:"sha2-224, -256, -384, -512 or sha3-224 to -512." default:"sha2-256"`
	URLAlgorithm string `api:"urlalgorithm" help:"The algorithm, in the path."`
	Format       string `api:"format" help:"hex or base64." default:"hex"`
}

func (e *Engine) hash(_ context.Context, _ *engine.Call, in hashIn) (*engine.Response, error) {
	input, err := decode64([]byte(in.Input))
	if err != nil {
		return nil, err
	}
	name := in.Algorithm
	if in.URLAlgorithm != "" {
		name = in.URLAlgorithm
	}
	h, ok := keyring.HashOf(name)
	if !ok || h == 0 || name == "sha1" {
		return nil, errs.New(errs.Invalid, "unsupported algorithm %s", name)
	}
	w := h.New()
	w.Write(input)
	text, err := format(w.Sum(nil), in.Format)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"sum": text}}, nil
}

// decode64 reads the base64 of an input.
func decode64(text []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := decodeBase64(out, text)
	if err != nil {
		return nil, errs.New(errs.Invalid, "unable to decode input as base64: %s", err.Error())
	}
	return out[:n], nil
}
