//go:build !linux

package mlock

import "arca/internal/errs"

// Supported reports whether this system can lock memory.
const Supported = false

// Lock locks nothing here.
func Lock() error {
	return errs.New(errs.Unsupported, "this system cannot lock memory; set disable_mlock = true")
}

// Check tells whether Lock can work.
func Check() error { return Lock() }
