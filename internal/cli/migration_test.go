package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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

// TestMigrationSwitchStaysEncrypted gives the command a standby with TLS that tells of an active node without: the token is not sent there.
func TestMigrationSwitchStaysEncrypted(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	active := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"ha_enabled":true,"is_self":true}`) // the command tells
	}))
	defer active.Close()
	standby := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/leader" {
			_, _ = io.WriteString(w, `{"ha_enabled":true,"is_self":false,"leader_address":"`+active.URL+`"}`) // likewise
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer standby.Close()
	env := []string{"VAULT_ADDR=" + standby.URL, "VAULT_TOKEN=root", "VAULT_SKIP_VERIFY=true"}
	if got := vault(t, env, "", "operator", "migration", "switch"); got.code != 0 || asked.Load() != 0 {
		t.Errorf("the active node was asked %d times: %+v", asked.Load(), got)
	}
}
