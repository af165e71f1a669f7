package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"

	"arca/internal/namespace"
)

// Prefixes of token ids, as Vault's clients know them.
const (
	ServicePrefix = "hvs."
	BatchPrefix   = "hvb."
)

// MaxIDBytes bounds a token that comes from outside. Batch tokens carry their
// policies and metadata.
const MaxIDBytes = 16 << 10

const (
	idLength      = 24                   // base62 characters: 142 bits
	keyBytes      = 16                   // of the HMAC; 128 bits name a token's record
	keyTextLength = (keyBytes*8 + 5) / 6 // base64 without padding
	alphabet      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	rejection     = 256 - 256%len(alphabet)
)

// Random returns n random characters of base62.
func Random(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for {
		rand.Read(buf[:])
		for _, b := range buf {
			if int(b) >= rejection {
				continue // keeps the distribution even
			}
			out = append(out, alphabet[int(b)%len(alphabet)])
			if len(out) == n {
				return string(out)
			}
		}
	}
}

// newID makes the id of a service token; outside the root namespace it ends
// with the namespace's id.
func newID(ns string) string {
	id := ServicePrefix + Random(idLength)
	if ns != namespace.RootID {
		id += "." + ns
	}
	return id
}

// namespaceOf returns the id of the namespace that a token's text names, and
// whether it has the form of one. The record of the token must agree.
func namespaceOf(id string) (ns string, ok bool) {
	body := id
	for _, p := range [...]string{ServicePrefix, BatchPrefix, "hvr.", "s.", "b.", "r."} {
		if rest, ok := strings.CutPrefix(id, p); ok {
			body = rest
			break
		}
	}
	if i := strings.LastIndexByte(body, '.'); i >= 0 {
		return body[i+1:], namespace.ValidID(body[i+1:])
	}
	return namespace.RootID, true
}

// A hasher turns token ids into the keys under which they are stored. The ids
// themselves are never stored.
type hasher struct{ pool sync.Pool }

// mac is a keyed hash with the buffers that its use needs.
type mac struct {
	hash.Hash
	in   [128]byte
	sum  [sha256.Size]byte
	text [keyTextLength]byte
}

func newHasher(key []byte) *hasher {
	h := &hasher{}
	h.pool.New = func() any { return &mac{Hash: hmac.New(sha256.New, key)} }
	return h
}

func (h *hasher) key(id string) string {
	m := h.pool.Get().(*mac)
	m.Reset()
	m.Write(append(m.in[:0], id...))
	m.Sum(m.sum[:0])
	base64.RawURLEncoding.Encode(m.text[:], m.sum[:keyBytes])
	key := string(m.text[:])
	clear(m.in[:])
	h.pool.Put(m)
	return key
}
