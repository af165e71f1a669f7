package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// auditFile tells why an audit device must not write a file: what lies in the
// folder of plugins would be run, what lies among the configuration would be read
// as such (CVE-2025-6000), and a listener's key would be spoilt.
func (n *node) auditFile(path string) error {
	to, err := resolved(path)
	if err != nil {
		return err
	}
	for _, dir := range []string{n.cfg.PluginDirectory, n.cfg.PluginTmpdir} {
		if dir == "" {
			continue
		}
		if in, err := inside(dir, to); err != nil || in {
			return fmt.Errorf("an audit file cannot lie in the folder of plugins: %w", errors.Join(fs.ErrPermission, err))
		}
	}
	for i := range n.cfg.Listeners {
		l := &n.cfg.Listeners[i]
		for _, name := range []string{l.TLSCertFile, l.TLSKeyFile, l.TLSClientCAFile} {
			if name == "" {
				continue
			}
			if in, err := inside(name, to); err != nil || in {
				return fmt.Errorf("an audit file cannot be a key or certificate of a listener: %w", errors.Join(fs.ErrPermission, err))
			}
		}
	}
	for _, name := range n.opts.configs {
		if in, err := inside(name, to); err != nil || in {
			return fmt.Errorf("an audit file cannot be a configuration file or lie in a folder of these: %w", errors.Join(fs.ErrPermission, err))
		}
	}
	return nil
}

// inside reports whether path, resolved, is what is named or lies below it.
func inside(name, path string) (bool, error) {
	dir, err := resolved(name)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/"), err
}

// resolved is path without symbolic links, as far as it exists.
func resolved(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		switch {
		case err == nil:
			return filepath.Join(real, rest), nil
		case !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path):
			return "", err
		}
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", fmt.Errorf("%s is a link to what does not exist: %w", path, fs.ErrNotExist)
		}
		rest = filepath.Join(filepath.Base(path), rest)
		path = filepath.Dir(path)
	}
}
