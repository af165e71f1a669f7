//go:build !unix

package stores

import "os"

// ownFolder reports whether path is a folder, not a link to one: the folder for temporary files is the user's own here.
func ownFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
