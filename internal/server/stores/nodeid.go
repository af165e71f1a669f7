package stores

import (
	"os"
	"path/filepath"
	"strings"

	"arca/internal/errs"
	"arca/internal/token"
)

// KeepNodeID returns the node's id: what the configuration says, else what was
// kept in the folder, else a new one, which is kept. The folder is made if it
// does not exist.
func KeepNodeID(dir, configured string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", errs.New(errs.Unavailable, "create the storage folder: %w", err)
	}
	file := filepath.Join(dir, "node-id")
	text, err := os.ReadFile(file) //nolint:gosec // the operator's folder
	if err != nil && !os.IsNotExist(err) {
		return "", errs.New(errs.Unavailable, "read the node's id: %w", err)
	}
	kept := strings.TrimSpace(string(text))
	switch {
	case configured == "" && kept != "":
		return kept, nil
	case configured == "":
		configured = strings.ToLower(token.Random(32))
	case configured == kept:
		return kept, nil
	}
	if err := os.WriteFile(file, []byte(configured), 0o600); err != nil {
		return "", errs.New(errs.Unavailable, "keep the node's id: %w", err)
	}
	return configured, nil
}

// NodeID returns the id that was kept in the folder; configured, if it is not "", must be the same.
func NodeID(dir, configured string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "node-id")) //nolint:gosec // the operator's folder
	if err != nil {
		return "", errs.New(errs.Invalid, "the folder holds no raft storage: %w", err)
	}
	kept := strings.TrimSpace(string(text))
	if configured != "" && configured != kept {
		return "", errs.New(errs.Invalid, "the folder is that of the node %q, not of %q", kept, configured)
	}
	return kept, nil
}
