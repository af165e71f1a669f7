package kes

import (
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// importedDir marks the policies and identities that were taken over from a KES, so
// that doing so again does not undo what an operator has changed or deleted since:
//
//	imported/policy/<name>   imported/identity/<id>
const importedDir = "imported/"

// What an import leaves as it is.
var (
	errChanged = errs.New(errs.Conflict, "it is another here than in the import, and is kept")
	errDeleted = errs.New(errs.Conflict, "it was deleted here since it was imported, and stays so")
)

type importedIn struct {
	Imported  bool `api:"imported" help:"It is taken over from a KES server: what is another here, or was deleted here since it was taken over, stays as it is."`
	Overwrite bool `api:"overwrite" help:"With imported: write it all the same."`
}

// settle decides what becomes of a row that is taken over, of which exists tells
// whether there is one here, and same whether it is the same. It reports whether
// there is something to be written.
func (in importedIn) settle(call *engine.Call, at string, exists, same bool) (write bool, err error) {
	if !in.Imported {
		return true, nil
	}
	_, err = call.Tx.Get(importedDir + at)
	marked := err == nil
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return false, err
	}
	switch {
	case in.Overwrite:
	case exists && !same:
		return false, errChanged
	case !exists && marked:
		return false, errDeleted
	}
	if !marked {
		if err := call.Tx.Put(importedDir+at, []byte{rowVersion}); err != nil {
			return false, err
		}
	}
	return !exists || !same, nil
}

func sameRules(row *policyRow, in policyIn) bool {
	return row != nil && slices.Equal(row.Allow, in.Allow) && slices.Equal(row.Deny, in.Deny)
}
