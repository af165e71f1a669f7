//go:build !pkcs11 || !cgo

package kms

import (
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/managed"
	"arca/internal/server/hsm"
)

var errNoPKCS11 = errs.New(errs.Invalid, "unsupported managed key type: %q: %w", managed.PKCS11, hsm.ErrNone)

func (s *Services) checkPKCS11(*managed.Key, bool) error { return errNoPKCS11 }

func (s *Services) openPKCS11(*managed.Key) (engine.KMS, error) { return nil, errNoPKCS11 }
