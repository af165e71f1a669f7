//go:build torture

package torture

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Variable of the environment that names the file.
const Variable = "ARCA_TORTURE_CONTROL"

// lookEvery is how often the file is read.
const lookEvery = 10 * time.Millisecond

// A control is what the file says.
type control struct {
	syncsFail, writesFail, syncsHang bool
	day                              time.Duration
	rate                             float64
}

// parse reads what a file says. What it does not know it passes: the test is to see that nothing happens.
func parse(text string) control {
	c := control{rate: 1}
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "syncs-fail":
			c.syncsFail = true
		case "writes-fail":
			c.syncsFail, c.writesFail = true, true
		case "syncs-hang":
			c.syncsHang = true
		case "day":
			c.day, _ = time.ParseDuration(value)
		case "rate":
			if r, err := strconv.ParseFloat(value, 64); err == nil && r > 0 && r < 4 {
				c.rate = r
			}
		}
	}
	return c
}

// Disk is a file system that fails when it is told to. It has the process' clock be moved, too: a process opens one raft storage. Where the environment names no file it is fs.
func Disk(fs vfs.FS, log *slog.Logger) vfs.FS {
	path := os.Getenv(Variable)
	if path == "" {
		return fs
	}
	d := &disk{FS: fs}
	c := newClock()
	log.Warn("this program is made for being tortured", "control", path, "clock", c != nil)
	go d.watch(path, c, log) // as long as the process is there
	return d
}

// watch goes by the file, and says so when that has changed. One that is not there says nothing.
func (d *disk) watch(path string, c *clock, log *slog.Logger) {
	for was := ""; ; time.Sleep(lookEvery) {
		text, _ := os.ReadFile(path) //nolint:gosec // the test's
		if string(text) == was {
			continue
		}
		was = string(text)
		now := parse(was)
		d.ails.Store(&now)
		if c != nil {
			c.set(now)
		}
		log.Warn("torture", "control", strings.TrimSpace(was))
	}
}

// A disk is a file system whose writes fail.
type disk struct {
	vfs.FS
	ails atomic.Pointer[control]
}
