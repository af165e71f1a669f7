package mysql

import "testing"

// TestRolledBack: only what says that nothing was committed is taken for that.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	for number, want := range map[uint16]bool{
		errDeadlock: true,
		1180:        false, // an error during the commit, of which others may have it already
		errShutdown: false,
		1317:        false, // interrupted
		errReadOnly: false,
		errDiskFull: false,
	} {
		if got := rolledBack(number); got != want {
			t.Errorf("%d: %t", number, got)
		}
	}
}
