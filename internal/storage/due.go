package storage

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DueKey is the key below dir, which ends with a slash, under which what is named
// is found by when it ends, to the second.
func DueKey(dir string, at time.Time, name string) string {
	return fmt.Sprintf("%s%016x/%s", dir, at.Unix(), name)
}

// ForgetDue deletes at most so many of the keys that DueKey has made and whose time
// has come, the oldest first, and gives each name to gone, if there is one. Called
// with each new key and most above one, it keeps what has ended from piling up.
func ForgetDue(tx Tx, dir string, now time.Time, most int, gone func(name string) error) error {
	var ended []string
	for key, err := range tx.Keys(dir, "") {
		if err != nil {
			return err
		}
		at, _, _ := strings.Cut(key[len(dir):], "/")
		if due, err := strconv.ParseInt(at, 16, 64); len(ended) == most || err == nil && due > now.Unix() {
			break
		}
		ended = append(ended, key)
	}
	for _, key := range ended {
		if err := tx.Delete(key); err != nil {
			return err
		}
		_, name, _ := strings.Cut(key[len(dir):], "/")
		if gone == nil {
			continue
		}
		if err := gone(name); err != nil {
			return err
		}
	}
	return nil
}
