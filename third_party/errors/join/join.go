// Package join joins errors without a stack, which Go's errors.Join does.
package join

import "errors"

// Join is Go's.
func Join(errs ...error) error { return errors.Join(errs...) }
