// Package hsm works with PKCS#11 tokens: for the seal that opens with one, and for
// managed keys on them. A library is one per process, whoever uses it, and does one thing
// at a time: it can neither be interrupted nor trusted to be used by several at once.
//
// A program that was not built for PKCS#11 (make pkcs11) has the package without what
// works.
package hsm

import (
	"log/slog"
	"path/filepath"
	"sync"
)

// A Login says which token, and how to log in. It prints nothing of itself.
type Login struct {
	Slot, Token string // number and label; one or both
	PIN         string
}

// String implements fmt.Stringer and shows nothing.
func (Login) String() string { return "(login of a token)" }

// LogValue implements slog.LogValuer and shows nothing.
func (Login) LogValue() slog.Value { return slog.StringValue("(login of a token)") }

// Modules are the libraries in use, by their paths. The zero value is ready.
type Modules struct {
	mu   sync.Mutex
	used map[string]*Module // guarded by mu
}

// Get returns the library of a path, which is loaded when it is needed.
func (m *Modules) Get(path string) *Module {
	if real, err := filepath.EvalSymlinks(path); err == nil { // else loading it says what is wrong
		path = real
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used == nil {
		m.used = map[string]*Module{}
	}
	if m.used[path] == nil {
		m.used[path] = newModule(path)
	}
	return m.used[path]
}
