//go:build !openpgp

package seal

import "arca/internal/errs"

// recipient stands in while go.sum lacks the modules that the OpenPGP library
// needs; see pgp.go.
type recipient struct{ fingerprint string }

var errNoPGP error = errs.New(errs.Unsupported, "this build has no OpenPGP")

func parsePGP(string) (recipient, error) { return recipient{}, errNoPGP }

func (r recipient) encrypt([]byte) ([]byte, error) { return nil, errNoPGP }
