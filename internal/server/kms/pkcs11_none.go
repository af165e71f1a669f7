//go:build !pkcs11 || !cgo

package kms

import (
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/managed"
)

// tokens are PKCS#11 tokens, of which there are none.
type tokens struct{}

func newTokens() *tokens { return nil }

var errNoPKCS11 = errs.New(errs.Invalid, "unsupported managed key type: %q: this program was built without PKCS#11: build it with make pkcs11, which needs cgo", managed.PKCS11)

func (s *Services) checkPKCS11(*managed.Key) error { return errNoPKCS11 }

func (s *Services) openPKCS11(*managed.Key) (engine.KMS, error) { return nil, errNoPKCS11 }
