package cli

import (
	"strings"
	"testing"
)

// TestMigrationSwitchAsksActive gives the command a standby, whose answer to a switch is lost as it seals itself. It asks the active node, where that can be reached.
func TestMigrationSwitchAsksActive(t *testing.T) {
	t.Parallel()
	active := newFake(t, map[string]answer{
		"GET sys/leader":                   {body: `{"ha_enabled":true,"is_self":true}`},
		"PUT sys/storage/migration/switch": {status: 204},
	})
	unreachable := newFake(t, nil)
	unreachable.Close()
	for name, tt := range map[string]struct {
		leader string
		code   int
	}{
		"reachable":     {active.URL, 0},
		"not reachable": {unreachable.URL, 2},
		"none":          {"", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			standby := newFake(t, map[string]answer{
				"GET sys/leader":                   {body: `{"ha_enabled":true,"is_self":false,"leader_address":"` + tt.leader + `"}`},
				"PUT sys/storage/migration/switch": {503, `{"errors":["the answer is lost"]}`},
			})
			got := vault(t, standby.env(), "", "operator", "migration", "switch")
			if got.code != tt.code {
				t.Errorf("got %+v", got)
			}
			if tt.code != 0 && !strings.Contains(got.stderr, "URL: PUT "+standby.URL+"/v1/sys/storage/migration/switch") {
				t.Errorf("it asked another one: %s", got.stderr)
			}
		})
	}
}
