package barrier

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// KeyBytes is the length of all keys made here: AES-256.
const KeyBytes = 32

const redacted = "[key]"

// A Key holds secret bytes. It prints as nothing of them. Whoever owns it wipes
// it when done.
type Key []byte

// NewKey makes a random key.
func NewKey() Key {
	k := make(Key, KeyBytes)
	_, _ = rand.Read(k) // never fails (crypto/rand, since Go 1.24)
	return k
}

// Wipe overwrites the key.
func (k Key) Wipe() { clear(k) }

// String hides the key.
func (k Key) String() string { return redacted }

// LogValue hides the key from logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format hides the key from every verb of fmt.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) } // fmt.State does not fail

// MarshalText hides the key from encoders that would take it by mistake.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

var (
	_ fmt.Formatter  = Key(nil)
	_ slog.LogValuer = Key(nil)
)
