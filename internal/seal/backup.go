package seal

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// Backup is what is kept of a rekey whose shares were encrypted to PGP keys,
// by fingerprint; the answer of sys/rekey/backup.
type Backup struct {
	Nonce      string              `json:"nonce"`
	Keys       map[string][]string `json:"keys"`        // hex
	KeysBase64 map[string][]string `json:"keys_base64"` // the same
}

// ErrNoBackup says that no backup is kept.
var ErrNoBackup error = errs.New(errs.Invalid, "no backed-up keys found")

// saveBackup keeps the encrypted shares of k, encrypted once more under the
// root key.
func (m *Manager) saveBackup(ctx context.Context, u *unsealed, k *rekey, shares []barrier.Key) error {
	b := Backup{Nonce: k.nonce, Keys: map[string][]string{}, KeysBase64: map[string][]string{}}
	for i, s := range shares {
		f := k.to[i].fingerprint
		b.Keys[f] = append(b.Keys[f], hex.EncodeToString(s))
		b.KeysBase64[f] = append(b.KeysBase64[f], base64.StdEncoding.EncodeToString(s))
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	root := u.root.get()
	defer root.Wipe()
	record, err := barrier.Wrap(root, backupLabel, text)
	if err != nil {
		return err
	}
	return m.cfg.Raw.Update(ctx, func(tx storage.Tx) error { return tx.Put(backupKey, record) })
}

// RekeyBackup gives what the last rekey with a backup kept.
func (m *Manager) RekeyBackup(ctx context.Context) (*Backup, error) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return nil, err
	}
	defer m.end()
	root := u.root.get()
	defer root.Wipe()
	b := &Backup{}
	err = m.cfg.Raw.View(ctx, func(tx storage.Tx) error {
		record, err := tx.Get(backupKey)
		if errors.Is(err, storage.ErrNotFound) {
			return ErrNoBackup
		}
		if err != nil {
			return err
		}
		text, err := barrier.Unwrap(root, backupLabel, record)
		if err != nil {
			return errs.New(errs.Failed, "the backed-up keys are damaged: %w", err)
		}
		return json.Unmarshal(text, b)
	})
	return b, err
}

// DeleteRekeyBackup forgets the backup, if there is one.
func (m *Manager) DeleteRekeyBackup(ctx context.Context) error {
	if _, err := m.beginOpen(ctx); err != nil {
		return err
	}
	defer m.end()
	return m.cfg.Raw.Update(ctx, func(tx storage.Tx) error { return tx.Delete(backupKey) })
}
