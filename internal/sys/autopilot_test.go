package sys_test

import (
	"strings"
	"testing"

	"arca/internal/seal"
)

// TestAutopilotContact gives no time in which followers could be heard: as with Vault that changes nothing. It would have all followers count as ill.
func TestAutopilotContact(t *testing.T) {
	t.Parallel()
	const settings = "sys/storage/raft/autopilot/configuration"
	n := newRaftNode(t, "node1")
	ini, err := n.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	n.unseal(ini.Shares[0])
	waitFor(t, "the active node", n.leads)
	root := string(ini.RootToken)
	for _, tt := range []struct{ give, want string }{
		{"20s", "20s"}, {"0s", "20s"}, {"0", "20s"}, {"5", "5s"},
	} {
		n.want(204, "POST", settings, root, `{"last_contact_threshold":"`+tt.give+`"}`)
		if text := n.want(200, "GET", settings, root, ""); !strings.Contains(text, `"last_contact_threshold":"`+tt.want+`"`) {
			t.Errorf("%s: %s", tt.give, text)
		}
	}
}
