package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
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
		about: `Reads a snapshot file, checks that it is not damaged, and shows its position in
the log and its parts. Its contents stay encrypted. The server is not asked.

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

// inspectSnapshot reads the archive: gzip over tar with meta.json, state.bin and
// the checksums, which must be those of the rest: what is damaged is to be found
// out before it is needed. Who made it only the cluster can tell.
func inspectSnapshot(r io.Reader) (*snapshotInfo, error) {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var info snapshotInfo
	var meta, listed bytes.Buffer
	sums := map[string]string{}
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
		sum := sha256.New()
		to := []io.Writer{sum}
		switch {
		case (head.Name == "meta.json" || head.Name == "SHA256SUMS") && head.Size > maxSnapshotText:
			return nil, fmt.Errorf("%s is too large", head.Name)
		case head.Name == "meta.json":
			to = append(to, &meta)
		case head.Name == "SHA256SUMS":
			to = append(to, &listed)
		}
		if _, err := io.Copy(io.MultiWriter(to...), archive); err != nil { //nolint:gosec // it is not kept
			return nil, err
		}
		sums[head.Name] = hex.EncodeToString(sum.Sum(nil))
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(gz, maxSnapshotText)); err != nil { // gzip's own checksum stands at the end
		return nil, err
	}
	if meta.Len() == 0 {
		return nil, errors.New("the archive has no meta.json")
	}
	if listed.Len() == 0 {
		return nil, errors.New("the archive has no SHA256SUMS")
	}
	for line := range strings.Lines(listed.String()) {
		if sum, name, _ := strings.Cut(strings.TrimSpace(line), "  "); sums[name] != sum {
			return nil, fmt.Errorf("the archive is damaged: %s does not have the checksum that it should have", name)
		} else {
			delete(sums, name)
		}
	}
	if sums["meta.json"] != "" || sums["state.bin"] != "" {
		return nil, errors.New("the archive is damaged: SHA256SUMS does not name all")
	}
	if err := info.describe(&meta); err != nil {
		return nil, fmt.Errorf("meta.json: %w", err)
	}
	return &info, nil
}

// maxSnapshotText bounds the small members of an archive.
const maxSnapshotText = 1 << 20

func (i *snapshotInfo) describe(meta io.Reader) error {
	var m struct {
		Version     int
		ID          string
		Index, Term uint64
		Size        int64
	}
	if err := json.NewDecoder(meta).Decode(&m); err != nil {
		return err
	}
	i.Version, i.ID, i.Index, i.Term, i.Size = m.Version, m.ID, m.Index, m.Term, m.Size
	return nil
}
