//go:build unix

package stores

import (
	"os"
	"syscall"
)

// ownFolder reports whether path is a folder, not a link to one, which nobody but this user may enter.
func ownFolder(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
