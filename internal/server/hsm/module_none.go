//go:build !pkcs11 || !cgo

package hsm

import "arca/internal/errs"

// A Module is a library, of which there are none.
type Module struct{}

func newModule(string) *Module { return &Module{} }

// ErrNone says that the program was built without PKCS#11.
var ErrNone error = errs.New(errs.Invalid, "this program was built without PKCS#11: build it with make pkcs11, which needs cgo")
