package sys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"

	"arca/internal/engine"
	"arca/internal/errs"
)

// toolRoutes are sys/tools: random bytes and hashes.
func (e *Engine) toolRoutes() []engine.Route {
	random := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.random, engine.ID(id), engine.Help("Give random bytes."))
	}
	return []engine.Route{
		random("tools/random", "generate-random"),
		random("tools/random/{urlbytes}", "generate-random-with-bytes"),
		random("tools/random/{source}/{urlbytes}", "generate-random-with-source-and-bytes"),
		engine.Write("tools/hash", e.hash, engine.ID("generate-hash"), engine.Help("Hash data.")),
		engine.Write("tools/hash/{urlalgorithm}", e.hash, engine.ID("generate-hash-with-algorithm"), engine.Help("Hash data.")),
	}
}

const maxRandomBytes = 128 << 10

type randomIn struct {
	Bytes    int    `api:"bytes" help:"How many bytes." default:"32"`
	URLBytes string `api:"urlbytes" help:"How many bytes, in the path."`
	Source   string `api:"source" help:"platform, seal or all."`
	Format   string `api:"format" help:"hex or base64." default:"base64"`
}

func (e *Engine) random(_ context.Context, _ *engine.Call, in randomIn) (*engine.Response, error) {
	switch in.Source {
	case "", "platform", "seal", "all":
	default:
		if in.URLBytes == "" || in.Source != "" {
			return nil, errs.New(errs.Invalid, "unsupported entropy source %q; must be \"platform\" or \"seal\", or \"all\"", in.Source)
		}
	}
	n := in.Bytes
	if in.URLBytes != "" {
		switch in.URLBytes {
		case "platform", "seal", "all": // a source without a number
		default:
			var err error
			if n, err = strconv.Atoi(in.URLBytes); err != nil {
				return nil, errs.New(errs.Invalid, "error parsing url-set byte count: %s", err.Error())
			}
		}
	}
	if n < 1 {
		return nil, errs.New(errs.Invalid, "'bytes' cannot be less than 1")
	}
	if n > maxRandomBytes {
		return nil, errs.New(errs.Invalid, "'bytes' should be less than %d", maxRandomBytes)
	}
	out := make([]byte, n)
	rand.Read(out)
	switch in.Format {
	case "hex":
		return data(map[string]any{"random_bytes": hex.EncodeToString(out)}), nil
	case "base64":
		return data(map[string]any{"random_bytes": base64.StdEncoding.EncodeToString(out)}), nil
	}
	return nil, errs.New(errs.Invalid, "unsupported encoding format %q; must be \"hex\" or \"base64\"", in.Format)
}

type hashIn struct {
	Input        string `api:"input" help:"The data, in base64."`
	Algorithm    string `api:"algorithm" help:"sha2-224, -256, -384, -512 or sha3-224 to -512." default:"sha2-256"`
	URLAlgorithm string `api:"urlalgorithm" help:"The algorithm, in the path."`
	Format       string `api:"format" help:"hex or base64." default:"hex"`
}

func newHash(name string) hash.Hash {
	switch name {
	case "sha2-224":
		return sha256.New224()
	case "sha2-256":
		return sha256.New()
	case "sha2-384":
		return sha512.New384()
	case "sha2-512":
		return sha512.New()
	case "sha3-224":
		return sha3.New224()
	case "sha3-256":
		return sha3.New256()
	case "sha3-384":
		return sha3.New384()
	case "sha3-512":
		return sha3.New512()
	}
	return nil
}

func (e *Engine) hash(_ context.Context, _ *engine.Call, in hashIn) (*engine.Response, error) {
	if in.URLAlgorithm != "" {
		in.Algorithm = in.URLAlgorithm
	}
	input, err := base64.StdEncoding.DecodeString(in.Input)
	if err != nil {
		return nil, errs.New(errs.Invalid, "unable to decode input as base64: %s", err.Error())
	}
	if in.Format != "hex" && in.Format != "base64" {
		return nil, errs.New(errs.Invalid, "unsupported encoding format %s; must be \"hex\" or \"base64\"", in.Format)
	}
	h := newHash(in.Algorithm)
	if h == nil {
		return nil, errs.New(errs.Invalid, "unsupported algorithm %s", in.Algorithm)
	}
	h.Write(input)
	sum := h.Sum(nil)
	if in.Format == "hex" {
		return data(map[string]any{"sum": hex.EncodeToString(sum)}), nil
	}
	return data(map[string]any{"sum": base64.StdEncoding.EncodeToString(sum)}), nil
}
