package cli

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// snapshotInfo is what a snapshot file says about itself.
type snapshotInfo struct {
	ID      string         `json:"id"`
	Size    int64          `json:"size"`
	Index   uint64         `json:"index"`
	Term    uint64         `json:"term"`
	Version int            `json:"version"`
	Files   []snapshotFile `json:"files"`
}

// snapshotFile is one member of the archive.
type snapshotFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

func snapshotInspectCommand() command {
	return command{
		name: "operator raft snapshot inspect", usage: "[options] FILE", shared: withFormat,
		summary: "Show what a snapshot file holds",
		about: `Reads a snapshot file and shows its position in the log and its parts. Its
contents stay encrypted. The server is not asked.

    $ vault operator raft snapshot inspect backup.snap`,
		setup: func(f *flagSet) runFunc { return runSnapshotInspect },
	}
}

func runSnapshotInspect(c *call) error {
	if err := c.incorrect(1, 1, "1"); err != nil {
		return err
	}
	f, err := os.Open(c.env.expand(strings.TrimSpace(c.args[0])))
	if err != nil {
		return usagef("Error opening snapshot file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := inspectSnapshot(f)
	if err != nil {
		return usagef("Error reading snapshot: %w", err)
	}
	return c.show(info, func() string {
		rows := [][]string{
			{"ID", info.ID},
			{"Size", fmt.Sprint(info.Size)},
			{"Index", fmt.Sprint(info.Index)},
			{"Term", fmt.Sprint(info.Term)},
			{"Version", fmt.Sprint(info.Version)},
		}
		text := table(nil, rows) + "\n"
		rows = nil
		for _, file := range info.Files {
			rows = append(rows, []string{file.Name, fmt.Sprint(file.Size)})
		}
		return text + table([]string{"File", "Size"}, rows)
	})
}

// inspectSnapshot reads the archive: gzip over tar with meta.json, state.bin
// and the checksums.
func inspectSnapshot(r io.Reader) (*snapshotInfo, error) {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var info snapshotInfo
	found := false
	archive := tar.NewReader(gz)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		info.Files = append(info.Files, snapshotFile{head.Name, head.Size})
		if head.Name != "meta.json" {
			continue
		}
		var meta struct {
			Version     int
			ID          string
			Index, Term uint64
			Size        int64
		}
		if err := json.NewDecoder(archive).Decode(&meta); err != nil {
			return nil, fmt.Errorf("meta.json: %w", err)
		}
		info.Version, info.ID, info.Index, info.Term, info.Size = meta.Version, meta.ID, meta.Index, meta.Term, meta.Size
		found = true
	}
	if !found {
		return nil, errors.New("the archive has no meta.json")
	}
	return &info, nil
}
