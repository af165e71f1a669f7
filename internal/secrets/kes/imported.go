package kes

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// importedDir marks what was taken over from a KES, so that doing so again does not undo
// what an operator has changed or deleted since:
//
//	imported/policy/<name>   imported/identity/<id>   imported/key/<name>
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

// settleKey decides what becomes of a key that is taken over: kept is the key of that
// name that is the same, nil when it is to be made. Another key is kept in any case:
// what it has encrypted would be lost.
func (in importIn) settleKey(call *engine.Call, e *Engine, from *key.Key) (kept *keyring.Key, err error) {
	if !in.Imported {
		return nil, nil //nolint:nilnil // there is nothing to be settled
	}
	if err := key.CheckKnown(in.Name); err != nil {
		return nil, err
	}
	at, mark := importedDir+"key/"+in.Name, append([]byte{rowVersion}, from.ID()...)
	before, err := call.Tx.Get(at)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	marked := err == nil
	k, err := e.get(call, in.Name)
	switch {
	case errs.Is(err, errs.NotFound):
		if k = nil; marked && !in.Overwrite {
			return nil, errDeleted
		}
	case err != nil:
		return nil, err
	default:
		same, err := e.sameKey(call, k, from, bytes.Equal(before, mark))
		if err != nil {
			return nil, err
		}
		if !same {
			return nil, errChanged
		}
	}
	if !bytes.Equal(before, mark) {
		if err := call.Tx.Put(at, mark); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// sameKey reports whether a key of the mount is one of a KES: whether what that has
// sealed opens, and its HMACs are the same. Of a key whose first version is wiped, only
// the mark tells.
func (e *Engine) sameKey(call *engine.Call, k *keyring.Key, from *key.Key, marked bool) (bool, error) {
	if k.Meta[metaOrigin] != originKES {
		return false, nil
	}
	if k.MinAvailable > 1 {
		return marked, nil
	}
	first, err := e.version(call, k, 1)
	if err != nil {
		return false, err
	}
	here, there := first.Parts(), from.Parts()
	defer func() { clear(here.Secret); clear(here.HMACKey); clear(there.Secret); clear(there.HMACKey) }()
	return here.Cipher == there.Cipher && subtle.ConstantTimeCompare(here.Secret, there.Secret) == 1 &&
		(len(there.HMACKey) == 0 || subtle.ConstantTimeCompare(here.HMACKey, there.HMACKey) == 1), nil
}
