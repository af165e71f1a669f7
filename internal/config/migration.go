package config

import (
	"os"

	"arca/internal/config/source"
	"arca/internal/errs"
)

// A Migration is the file of `operator migrate`: from which storage to which.
type Migration struct {
	Source      *Storage `conf:"storage_source"`
	Destination *Storage `conf:"storage_destination"`
	ClusterAddr string   `conf:"cluster_addr"` // of the node that storage "raft" begins with
}

// LoadMigration reads and checks such a file. getenv is os.Getenv. As where servers migrate while they run, what the environment says of a
// storage is said of the source: a target is what its stanza says.
func LoadMigration(path string, getenv func(string) string) (*Migration, []source.Warning, error) {
	fi, err := os.Stat(path)
	if err == nil && fi.Size() > source.MaxBytes {
		return nil, nil, errs.New(errs.Invalid, "the configuration file %s is larger than %d bytes", path, source.MaxBytes)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, nil, errs.New(errs.Invalid, "read the configuration: %w", err)
	}
	root, warnings, err := source.Parse(path, text)
	if err != nil {
		return nil, nil, err
	}
	m, d := &Migration{}, &source.Decoder{Warnings: warnings}
	if err := d.Decode(*root, m, ""); err != nil {
		return nil, nil, err
	}
	for name, s := range map[string]*Storage{"storage_source": m.Source, "storage_destination": m.Destination} {
		if s == nil {
			return nil, nil, errs.New(errs.Invalid, `%s lacks the stanza %s, as in: %s "file" { path = "/var/lib/vault" }`, path, name, name)
		}
		if s == m.Source {
			s.overlay(getenv)
		}
		if err := s.check(); err != nil {
			return nil, nil, err
		}
	}
	return m, d.Warnings, nil
}
