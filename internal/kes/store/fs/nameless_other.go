//go:build !linux

package fs

import "errors"

// createNameless is not to be had on this system.
func (s *Store) createNameless(string, []byte) error { return errors.ErrUnsupported }
