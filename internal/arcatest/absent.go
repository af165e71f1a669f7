package arcatest

import (
	"os"
	"testing"
)

// Absent leaves a test out for want of a program that it needs, or fails it where all
// of them are said to be there (ARCA_TEST_CLIENTS=required): there, no test is left out
// without anybody's notice.
func Absent(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("ARCA_TEST_CLIENTS") == "required" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}
