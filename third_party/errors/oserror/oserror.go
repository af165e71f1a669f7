// Package oserror tells errors of the operating system apart, wrapped or not.
package oserror

import (
	"errors"
	"os"

	wrap "github.com/cockroachdb/errors"
)

// Errors of package os.
var (
	ErrInvalid    = os.ErrInvalid
	ErrPermission = os.ErrPermission
	ErrExist      = os.ErrExist
	ErrNotExist   = os.ErrNotExist
	ErrClosed     = os.ErrClosed
)

// IsNotExist says whether err is that something is not there. Package os sees through a system call's error, errors.Is through what wraps
// it: both are asked, here and below.
func IsNotExist(err error) bool {
	return errors.Is(err, ErrNotExist) || os.IsNotExist(wrap.UnwrapAll(err))
}

// IsExist says whether err is that something is there already.
func IsExist(err error) bool { return errors.Is(err, ErrExist) || os.IsExist(wrap.UnwrapAll(err)) }

// IsPermission says whether err is that something is not allowed.
func IsPermission(err error) bool {
	return errors.Is(err, ErrPermission) || os.IsPermission(wrap.UnwrapAll(err))
}
