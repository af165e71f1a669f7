package storage

import (
	"encoding/json"
	"fmt"
)

// GetJSON reads a record that PutJSON has written. The error is ErrNotFound when
// there is none; of one that cannot be decoded it names the key and no more, as
// the cause could quote a secret.
func GetJSON[T any](tx Tx, key string) (*T, error) {
	raw, err := tx.Get(key)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if json.Unmarshal(raw, out) != nil {
		return nil, fmt.Errorf("the record %q cannot be decoded", key)
	}
	return out, nil
}

// PutJSON writes a record as JSON.
func PutJSON(tx Tx, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, raw)
}
