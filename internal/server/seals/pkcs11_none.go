//go:build !pkcs11 || !cgo

package seals

import (
	"arca/internal/errs"
	"arca/internal/seal"
)

func newPKCS11(*options) (seal.Sealer, error) {
	return nil, errs.New(errs.Invalid, "this program was built without PKCS#11: build it with make pkcs11, which needs cgo")
}
