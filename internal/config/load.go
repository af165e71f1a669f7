package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"arca/internal/config/source"
	"arca/internal/errs"
)

// maxFiles bounds how many files of a folder are read.
const maxFiles = 1000

// Load reads files and folders (of those the files that end in .hcl or .json,
// by name) into one Config. Errors are of kind Invalid and name the place.
// Load checks each value by itself; Check tells whether a server can start.
func Load(paths []string) (*Config, []source.Warning, error) {
	c, d := &Config{}, &source.Decoder{}
	for _, p := range paths {
		files, err := list(p)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range files {
			if err := c.file(f, d); err != nil {
				return nil, nil, err
			}
		}
	}
	return c, d.Warnings, nil
}

func (c *Config) file(name string, d *source.Decoder) error {
	fi, err := os.Stat(name)
	if err == nil && fi.Mode().IsRegular() && fi.Size() > source.MaxBytes {
		return errs.New(errs.Invalid, "the configuration file %s is larger than %d bytes", name, source.MaxBytes)
	}
	text, err := os.ReadFile(name) //nolint:gosec // the operator names it
	if err != nil {
		return errs.New(errs.Invalid, "read the configuration: %w", err)
	}
	return c.Add(name, text, d)
}

// Add reads one text over what is there.
func (c *Config) Add(name string, text []byte, d *source.Decoder) error {
	root, warnings, err := source.Parse(name, text)
	if err != nil {
		return err
	}
	d.Warnings = append(d.Warnings, warnings...)
	return d.Decode(*root, c, "")
}

// list names the files that a path stands for.
func list(path string) ([]string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read the configuration: %w", err)
	}
	if !fi.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read the configuration: %w", err)
	}
	var out []string
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if ext != ".hcl" && ext != ".json" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if fi, err := os.Stat(filepath.Join(path, e.Name())); err == nil && fi.IsDir() {
			continue
		}
		out = append(out, filepath.Join(path, e.Name()))
	}
	slices.Sort(out)
	switch {
	case len(out) == 0:
		return nil, errs.New(errs.Invalid, "the configuration folder %s holds no file that ends in .hcl or .json", path)
	case len(out) > maxFiles:
		return nil, errs.New(errs.Invalid, "the configuration folder %s holds more than %d files", path, maxFiles)
	}
	return out, nil
}
