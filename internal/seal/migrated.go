package seal

import (
	"context"
	"encoding/json"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A store that was migrated to another one, while servers used it, is marked in the place of its seal's configuration, so
// that no server opens it any more: it would go on as a second copy. Older releases do not know the mark's version.

// ConfigKey is the entry that makes a store an initialised one.
const ConfigKey = configKey

const migratedVersion = 2

// migrated is the mark.
type migrated struct {
	Version  int             `json:"version"` // migratedVersion
	To       string          `json:"migrated_to"`
	At       time.Time       `json:"migrated_at"`
	Replaced json.RawMessage `json:"replaced"` // the seal's configuration
}

// A MigratedError says that a store was migrated, and is not used any more.
type MigratedError struct {
	To string // the type of the storage it went to
	At time.Time
}

func (e *MigratedError) Error() string {
	return "this storage was migrated to " + e.To + " at " + e.At.Format(time.RFC3339) + ": start the servers on that one. " +
		"Should it say that it is not initialized, the last step was not done: \"operator migrate -reset\" gives this one back"
}

// decodeMigrated returns the mark, nil when b is something else.
func decodeMigrated(b []byte) *migrated {
	m := &migrated{}
	if json.Unmarshal(b, m) != nil || m.Version != migratedVersion || len(m.Replaced) == 0 {
		return nil
	}
	return m
}

// MarkMigrated marks a store as migrated to another one, and returns the entry under ConfigKey that belongs there. Nobody
// else may write meanwhile.
func MarkMigrated(ctx context.Context, store storage.Backend, to string) (config []byte, err error) {
	b, err := store.Get(ctx, configKey)
	if err != nil {
		return nil, err
	}
	if _, err := decodeConfig(b); err != nil {
		return nil, err
	}
	mark, err := json.Marshal(migrated{Version: migratedVersion, To: to, At: now().Truncate(time.Second), Replaced: b})
	if err != nil {
		return nil, err
	}
	return b, store.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: configKey, Value: mark}})
}

// UnmarkMigrated takes the mark from a store; was is false where there is none.
func UnmarkMigrated(ctx context.Context, store storage.Backend) (was bool, err error) {
	b, err := store.Get(ctx, configKey)
	if storage.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m := decodeMigrated(b)
	if m == nil {
		return false, nil
	}
	if _, err := decodeConfig(m.Replaced); err != nil {
		return false, err
	}
	return true, store.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: configKey, Value: m.Replaced}})
}

func (m *migrated) err() error {
	return errs.With(errs.Failed, &MigratedError{To: m.To, At: m.At})
}
