package recovery

import (
	"bytes"
	"strings"
	"testing"
)

// TestHelp asks for help: it is the answer, so it goes to standard output.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"-h", "-help", "--help"} {
		var out, errOut bytes.Buffer
		code := Command(t.Context(), []string{arg}, &out, &errOut)
		if code != 0 || !strings.HasPrefix(out.String(), "Usage: vault operator raft recover") || errOut.Len() > 0 {
			t.Errorf("%s: %d %q, %q", arg, code, out.String(), errOut.String())
		}
	}
}
