package seal

import (
	"context"
	"encoding/json"
	"time"

	"arca/internal/barrier"
	"arca/internal/storage"
)

// A store that was migrated to another one, while servers used it, is marked in the place of its seal's configuration, so
// that no server opens it any more: it would go on as a second copy. Older releases do not know the mark's version.

// ConfigKey is the entry that makes a store an initialised one.
const ConfigKey = configKey

// TargetKey is an entry of the target of a migration, from before its source is marked until it is complete: the id of the mark.
const TargetKey = barrier.ClearPrefix + "migrated"

const migratedVersion = 2

// migrated is the mark.
type migrated struct {
	Version  int             `json:"version"` // migratedVersion
	To       string          `json:"migrated_to"`
	At       time.Time       `json:"migrated_at"`
	ID       string          `json:"id"`       // of this mark
	Done     bool            `json:"done"`     // the target has all
	Replaced json.RawMessage `json:"replaced"` // the seal's configuration
}

// A MigratedError says that a store was migrated, and is not used any more.
type MigratedError struct {
	To   string // the type of the storage it went to
	At   time.Time
	ID   string // of the mark, which the target has under TargetKey
	Done bool   // all is there; else the last step was under way, or was not done
}

func (e *MigratedError) Error() string {
	said := "this storage was migrated to " + e.To + " at " + e.At.Format(time.RFC3339) + ": start the servers on that one"
	if !e.Done {
		said += ". Should it say that it is not initialized, the last step was not done: \"operator migrate -reset\" gives this one back"
	}
	return said
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
// else may write meanwhile. The id is one that no other mark has.
func MarkMigrated(ctx context.Context, store storage.Backend, to, id string) (config []byte, err error) {
	b, err := store.Get(ctx, configKey)
	if err != nil {
		return nil, err
	}
	if _, err := decodeConfig(b); err != nil {
		return nil, err
	}
	mark, err := json.Marshal(migrated{Version: migratedVersion, To: to, At: now().Truncate(time.Second), ID: id, Replaced: b})
	if err != nil {
		return nil, err
	}
	return b, store.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: configKey, Value: mark}})
}

// MarkDone says in the mark that the target has all.
func MarkDone(ctx context.Context, store storage.Backend) error {
	b, err := store.Get(ctx, configKey)
	if err != nil {
		return err
	}
	m := decodeMigrated(b)
	if m == nil || m.Done {
		return nil
	}
	m.Done = true
	if b, err = json.Marshal(m); err != nil {
		return err
	}
	return store.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: configKey, Value: b}})
}

// IsMigrated reports whether a store is marked, however far that is.
func IsMigrated(ctx context.Context, store storage.Backend) (bool, error) {
	b, err := store.Get(ctx, configKey)
	if storage.IsNotFound(err) {
		return false, nil
	}
	return err == nil && decodeMigrated(b) != nil, err
}

// HasMark reports whether a store has the mark with an id.
func HasMark(ctx context.Context, store storage.Backend, id string) (bool, error) {
	b, err := store.Get(ctx, configKey)
	if storage.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m := decodeMigrated(b)
	return m != nil && m.ID == id, nil
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

func (m *migrated) left() *MigratedError {
	return &MigratedError{To: m.To, At: m.At, ID: m.ID, Done: m.Done}
}
