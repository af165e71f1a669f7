package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	replaced "github.com/cockroachdb/errors"
	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
)

// What third_party/errors puts in the place of Pebble's own module must keep what Pebble and this package ask of errors.
func TestReplacedErrors(t *testing.T) {
	t.Parallel()
	_, missing := os.Open(filepath.Join(t.TempDir(), "missing"))
	full := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	const text = "table 7: write x: no space left on device"
	marked := replaced.Mark(replaced.Wrapf(full, "table %d", 7), pebble.ErrCorruption)
	detailed := replaced.WithDetailf(marked, "offset %d", 12)
	both := replaced.CombineErrors(missing, full)

	for name, ok := range map[string]bool{
		"a mark is found":                    errors.Is(marked, pebble.ErrCorruption),
		"by the module, too":                 replaced.Is(marked, pebble.ErrCorruption),
		"what is marked stays":               errors.Is(marked, syscall.ENOSPC),
		"no other mark":                      !errors.Is(marked, pebble.ErrNotFound),
		"a full disk is the innermost error": any(replaced.UnwrapAll(marked)) == any(syscall.ENOSPC),
		"a mark under a detail":              errors.Is(detailed, pebble.ErrCorruption),
		"a missing file, wrapped":            oserror.IsNotExist(replaced.Wrap(missing, "open")),
		"a missing object, marked":           oserror.IsNotExist(replaced.Mark(replaced.New("object"), os.ErrNotExist)),
		"a full disk is no missing file":     !oserror.IsNotExist(full),
		"a file that is there":               oserror.IsExist(replaced.WithStack(&fs.PathError{Err: syscall.EEXIST})),
		"a file that may not be opened":      oserror.IsPermission(&fs.PathError{Err: syscall.EACCES}),
		"the first of two errors":            errors.Is(both, fs.ErrNotExist),
		"the second is told, not matched":    !errors.Is(both, syscall.ENOSPC) && strings.Contains(fmt.Sprintf("%+v", both), "no space left"),
		"only the second":                    any(replaced.CombineErrors(nil, missing)) == any(missing),
		"only the first":                     any(replaced.CombineErrors(missing, nil)) == any(missing),
		"%w wraps":                           errors.Is(replaced.Newf("a: %w", missing), fs.ErrNotExist),
	} {
		if !ok {
			t.Error(name)
		}
	}
	for want, got := range map[string]string{
		text:                 marked.Error(),
		text + " (detailed)": detailed.Error() + " (detailed)",
		text + "\noffset 12": fmt.Sprintf("%+v", replaced.Mark(detailed, pebble.ErrClosed)),
		`"` + text + `"`:     fmt.Sprintf("%q", detailed),
		"at 5":               replaced.Newf("at %d", replaced.Safe(5)).Error(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for i, err := range []error{
		replaced.Wrap(nil, "x"), replaced.Wrapf(nil, "x"), replaced.Mark(nil, full), replaced.WithStack(nil),
		replaced.WithHintf(nil, "x"), replaced.WithSafeDetails(nil, "x"), replaced.CombineErrors(nil, nil), replaced.Join(nil, nil),
	} {
		if err != nil {
			t.Errorf("%d: %v of no error", i, err)
		}
	}
}
