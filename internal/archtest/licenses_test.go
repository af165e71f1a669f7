package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A license is known by a phrase that only its text has.
type license struct {
	name   string
	phrase string
}

// licenses are looked for in this order. What may not be linked stands first.
func licenses() (refused, accepted []license) {
	refused = []license{
		{"AGPL", "gnu affero general public license"},
		{"BUSL", "business source license"},
		{"SSPL", "server side public license"},
		{"LGPL", "gnu lesser general public license"},
		{"GPL", "gnu general public license"},
	}
	accepted = []license{
		{"MPL-2.0", "mozilla public license"},
		{"Apache-2.0", "apache license version 2.0"},
		{"MIT", "permission is hereby granted, free of charge"},
		{"ISC", "permission to use, copy, modify, and/or distribute this software"},
		{"ISC", "permission to use, copy, modify, and distribute this software"},
		{"BSD-3-Clause", "neither the name of"},
		{"BSD-2-Clause", "redistribution and use in source and binary forms"},
		{"Unlicense", "this is free and unencumbered software released into the public domain"},
		{"CC0-1.0", "cc0 1.0 universal"},
	}
	return refused, accepted
}

// TestLicenses checks what the program links. -v lists it.
func TestLicenses(t *testing.T) {
	t.Parallel()
	dirs, err := linked(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, mod := range slices.Sorted(maps.Keys(dirs)) {
		name, err := classify(dirs[mod])
		if err != nil {
			t.Errorf("%s: %v", mod, err)
			continue
		}
		t.Logf("%-14s %s", name, mod)
	}
}

// linked returns the folders of all modules that the program links.
func linked(t *testing.T) (map[string]string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Module", "./cmd/arca")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is built
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, errOut.String())
	}
	dirs := map[string]string{}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p struct {
			Module *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{ Path string }
			}
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		dirs[p.Module.Path+" "+p.Module.Version] = p.Module.Dir
	}
}

// classify names the licence in a module's folder.
func classify(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	isLicense := regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)`)
	blanks := regexp.MustCompile(`[\s*#]+`)
	var text strings.Builder
	for _, e := range entries {
		if e.IsDir() || !isLicense.MatchString(e.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		text.WriteString(blanks.ReplaceAllString(strings.ToLower(string(raw)), " "))
		text.WriteByte(' ')
	}
	if text.Len() == 0 {
		return "", errors.New("no licence file")
	}
	refused, accepted := licenses()
	all := text.String()
	var names []string
	for _, l := range accepted {
		if strings.Contains(all, l.phrase) && !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
	}
	for _, l := range refused {
		// The MPL names the GNU licences as secondary ones.
		if strings.Contains(all, l.phrase) && !slices.Contains(names, "MPL-2.0") {
			return "", fmt.Errorf("licence %s: see docs/adr for what may be linked", l.name)
		}
	}
	if len(names) == 0 {
		return "", errors.New("unknown licence: read it and enter it in internal/archtest/licenses_test.go")
	}
	if slices.Contains(names, "BSD-3-Clause") {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "BSD-2-Clause" })
	}
	return strings.Join(names, " "), nil
}
