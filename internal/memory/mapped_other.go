//go:build !linux

package memory

// ReleaseProgram is Linux's only.
func ReleaseProgram() error { return nil }
