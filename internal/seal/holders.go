package seal

import (
	"encoding/hex"
	"slices"

	"arca/internal/barrier"
)

func parsePGPs(texts []string) ([]recipient, error) {
	var to []recipient
	for _, t := range texts {
		r, err := parsePGP(t)
		if err != nil {
			return nil, err
		}
		to = append(to, r)
	}
	return to, nil
}

func fingerprints(to []recipient) []string {
	var out []string
	for _, r := range to {
		out = append(out, r.fingerprint)
	}
	return out
}

// encryptShares gives what the shares' holders are told: the shares themselves
// without recipients, else each share's hex digits encrypted to its holder.
// The caller owns the result; shares stay the caller's.
func encryptShares(shares []barrier.Key, to []recipient) ([]barrier.Key, error) {
	out := make([]barrier.Key, len(shares))
	for i, s := range shares {
		if to == nil {
			out[i] = slices.Clone(s)
			continue
		}
		text := make([]byte, hex.EncodedLen(len(s)))
		hex.Encode(text, s)
		b, err := to[i].encrypt(text)
		clear(text)
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}
