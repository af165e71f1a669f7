package kv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"arca/internal/storage"
)

// A version is what is known of one version of a secret, apart from its data.
type version struct {
	Created   time.Time
	Deleted   time.Time // zero: not deleted; may lie in the future
	Destroyed bool
}

func (v *version) deleted(now time.Time) bool {
	return !v.Deleted.IsZero() && !now.Before(v.Deleted)
}

// metadata is the record of a path. Versions holds those that are kept, the
// first of them being number First.
type metadata struct {
	Created, Updated   time.Time
	Current            int
	First              int // number of Versions[0]; 1 at first
	Oldest             int // as the API shows it: 0 until something was pruned
	MaxVersions        int
	CASRequired        bool
	DeleteVersionAfter time.Duration
	Custom             map[string]string
	Versions           []version
	legacy             bool // made up from a secret of version 1
}

// at returns version n, nil when it is not kept.
func (m *metadata) at(n int) *version {
	i := n - m.First
	if i < 0 || i >= len(m.Versions) {
		return nil
	}
	return &m.Versions[i]
}

// The record's form: a byte for the form, then varints; times are nanoseconds
// since 1970, 0 for none. It is decoded and written with every write of a
// secret, which JSON would make several times dearer.
const metaForm = 1

const (
	flagCAS = 1 << iota
	flagCustom
)

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (m *metadata) encode() ([]byte, error) {
	b := make([]byte, 0, 64+24*len(m.Versions))
	flags := byte(0)
	if m.CASRequired {
		flags |= flagCAS
	}
	if m.Custom != nil {
		flags |= flagCustom
	}
	b = append(b, metaForm, flags)
	for _, n := range [...]int64{
		nanos(m.Created), nanos(m.Updated), int64(m.Current), int64(m.First), int64(m.Oldest),
		int64(m.MaxVersions), int64(m.DeleteVersionAfter), int64(len(m.Versions)),
	} {
		b = binary.AppendVarint(b, n)
	}
	for i := range m.Versions {
		v := &m.Versions[i]
		b = binary.AppendVarint(b, nanos(v.Created))
		b = binary.AppendVarint(b, nanos(v.Deleted))
		destroyed := byte(0)
		if v.Destroyed {
			destroyed = 1
		}
		b = append(b, destroyed)
	}
	if m.Custom != nil {
		raw, err := json.Marshal(m.Custom)
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
	}
	return b, nil
}

var errMetaForm = errors.New("metadata record has an unknown form")

func decodeMeta(b []byte) (*metadata, error) {
	if len(b) < 2 || b[0] != metaForm {
		return nil, errMetaForm
	}
	flags := b[1]
	b = b[2:]
	var failed bool
	next := func() int64 {
		n, size := binary.Varint(b)
		if size <= 0 {
			failed = true
			return 0
		}
		b = b[size:]
		return n
	}
	m := &metadata{CASRequired: flags&flagCAS != 0}
	m.Created, m.Updated = fromNanos(next()), fromNanos(next())
	m.Current, m.First, m.Oldest, m.MaxVersions = int(next()), int(next()), int(next()), int(next())
	m.DeleteVersionAfter = time.Duration(next())
	count := next()
	if failed || count < 0 || count > int64(len(b)) {
		return nil, errMetaForm
	}
	m.Versions = make([]version, count, count+1)
	for i := range m.Versions {
		v := &m.Versions[i]
		v.Created, v.Deleted = fromNanos(next()), fromNanos(next())
		if failed || len(b) == 0 {
			return nil, errMetaForm
		}
		v.Destroyed = b[0] == 1
		b = b[1:]
	}
	if flags&flagCustom != 0 {
		if err := json.Unmarshal(b, &m.Custom); err != nil {
			return nil, fmt.Errorf("decode custom metadata: %w", err)
		}
	}
	return m, nil
}

// config is what is set for a whole mount.
type config struct {
	Version            int           `json:"v"`
	MaxVersions        int           `json:"max_versions,omitempty"`
	CASRequired        bool          `json:"cas_required,omitempty"`
	DeleteVersionAfter time.Duration `json:"delete_version_after,omitempty"`
	Upgraded           time.Time     `json:"upgraded,omitzero"` // when the mount ceased to be version 1
}

const (
	configKey = "config"
	metaDir   = "m/"
	dataDir   = "d/"
)

func metaKey(path string) string { return metaDir + path }

func dataKey(path string, n int) string { return dataDir + path + "\x00" + fmt.Sprint(n) }

func readConfig(tx storage.Tx) (*config, error) {
	c := &config{Version: 1}
	raw, err := tx.Get(configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	return c, nil
}

func (c *config) write(tx storage.Tx) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Put(configKey, raw)
}

// readMeta reads the record of path, or fails with errNotFound.
func readMeta(tx storage.Tx, path string) (*metadata, error) {
	raw, err := tx.Get(metaKey(path))
	if err == nil {
		return decodeMeta(raw)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	return legacyMeta(tx, path)
}

// legacyMeta stands for a secret that was written before the mount's upgrade.
func legacyMeta(tx storage.Tx, path string) (*metadata, error) {
	cfg, err := readConfig(tx)
	if err != nil {
		return nil, err
	}
	if cfg.Upgraded.IsZero() {
		return nil, errNotFound
	}
	found, err := has(tx, v1Dir+path)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errNotFound
	}
	return &metadata{
		Created: cfg.Upgraded, Updated: cfg.Upgraded, Current: 1, First: 1, Oldest: 1,
		Versions: []version{{Created: cfg.Upgraded}}, legacy: true,
	}, nil
}

// readData reads the data of version n.
func (m *metadata) readData(tx storage.Tx, path string, n int) ([]byte, error) {
	if m.legacy {
		return tx.Get(v1Dir + path)
	}
	return tx.Get(dataKey(path, n))
}

// write stores the record; a secret of before the upgrade moves to its place.
func (m *metadata) write(tx storage.Tx, path string) error {
	if m.legacy {
		raw, err := tx.Get(v1Dir + path)
		if err != nil {
			return err
		}
		if m.at(1) != nil && !m.at(1).Destroyed {
			if err := tx.Put(dataKey(path, 1), raw); err != nil {
				return err
			}
		}
		if err := tx.Delete(v1Dir + path); err != nil {
			return err
		}
		m.legacy = false
	}
	raw, err := m.encode()
	if err != nil {
		return err
	}
	return tx.Put(metaKey(path), raw)
}

// Bounds of version 2.
const (
	defaultVersions = 10
	maxCustomPairs  = 64
	maxCustomKey    = 128
	maxCustomValue  = 512
)

// limit is how many versions are kept: the larger of key's and mount's wish.
func (m *metadata) limit(c *config) int {
	n := max(m.MaxVersions, c.MaxVersions)
	if n <= 0 {
		return defaultVersions
	}
	return n
}

// farAway is as good as never: the record's times end in the year 2262.
const farAway = 200 * 365 * 24 * time.Hour

// deletion is when a version created at now deletes itself; zero is never. The
// shorter of key's and mount's wish holds; a negative wish of the mount
// switches it off.
func (m *metadata) deletion(c *config, now time.Time) time.Time {
	if c.DeleteVersionAfter < 0 {
		return time.Time{}
	}
	after := c.DeleteVersionAfter
	if own := m.DeleteVersionAfter; own > 0 && (after == 0 || own < after) {
		after = own
	}
	if after == 0 || after > farAway {
		return time.Time{}
	}
	return now.Add(after)
}

// add appends a version with its data and prunes the oldest beyond the limit.
func (m *metadata) add(tx storage.Tx, c *config, path string, data []byte, now time.Time) (*version, error) {
	if m.legacy {
		if err := m.write(tx, path); err != nil { // moves the old secret first
			return nil, err
		}
	}
	m.Current++
	if len(m.Versions) == 0 {
		m.First = m.Current
	}
	m.Versions = append(m.Versions, version{Created: now, Deleted: m.deletion(c, now)})
	m.Updated = now
	if err := tx.Put(dataKey(path, m.Current), data); err != nil {
		return nil, err
	}
	for len(m.Versions) > m.limit(c) {
		if err := tx.Delete(dataKey(path, m.First)); err != nil {
			return nil, err
		}
		m.Versions = m.Versions[1:]
		m.First++
		m.Oldest = m.First
	}
	return m.at(m.Current), m.write(tx, path)
}
