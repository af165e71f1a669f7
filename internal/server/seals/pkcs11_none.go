//go:build !pkcs11 || !cgo

package seals

import (
	"arca/internal/seal"
	"arca/internal/server/hsm"
)

func newPKCS11(*options) (seal.Sealer, error) {
	return nil, hsm.ErrNone
}
