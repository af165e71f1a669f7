//go:build torture && !(linux && amd64)

package torture

// A clock cannot be moved here.
type clock struct{}

func newClock() *clock { return nil }

func (*clock) set(control) {}
