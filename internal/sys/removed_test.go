package sys_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"arca/internal/api"
	"arca/internal/seal"
)

// TestRemovedSaysSo has a node that was taken out of its cluster say that, and not that all will be well in a moment.
func TestRemovedSaysSo(t *testing.T) {
	t.Parallel()
	first, second := newRaftNode(t, "node1"), newRaftNode(t, "node2")
	ini, err := first.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	root, share := string(ini.RootToken), ini.Shares[0]
	first.unseal(share)
	waitFor(t, "the active node", first.leads)
	second.join(first, share)
	waitFor(t, "the standby", func() bool {
		code, _ := second.do("GET", "sys/mounts", root, "")
		return code == 200
	})
	if text := second.want(200, "GET", "sys/seal-status", "", ""); strings.Contains(text, "removed_from_cluster") {
		t.Errorf("a member: %s", text)
	}
	first.want(204, "POST", "sys/storage/raft/remove-peer", root, `{"server_id":"node2"}`)
	waitFor(t, "the node to hear of it", second.share.Removed)
	text := second.want(200, "GET", "sys/seal-status", "", "")
	if !strings.Contains(text, `"removed_from_cluster":true`) || !strings.Contains(text, `"sealed":false`) {
		t.Errorf("it says %s", text)
	}

	door := api.New(api.Config{Core: second.core, Forward: func(context.Context, *http.Request, []byte) (*http.Response, error) {
		return nil, second.share.NoLeader()
	}})
	waitFor(t, "the reason", func() bool { // the leader answers its questions for a moment
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/sys/mounts", nil)
		r.Header.Set("X-Vault-Token", root)
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		return w.Code == http.StatusServiceUnavailable && strings.Contains(w.Body.String(), "this node was removed from its cluster")
	})
}

// TestRestoreOfAnotherCluster has a node given another cluster's snapshot. Its own keys open nothing any more, so it is sealed: from then on it says so, and a share of the
// snapshot's keys is not lost, however soon it comes.
func TestRestoreOfAnotherCluster(t *testing.T) {
	t.Parallel()
	var roots, shares [2]string
	var nodes [2]*raftNode
	for i := range nodes {
		n := newRaftNode(t, "node1")
		ini, err := n.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i], roots[i], shares[i] = n, string(ini.RootToken), base64.StdEncoding.EncodeToString(ini.Shares[0])
		n.unseal(ini.Shares[0])
		waitFor(t, "the active node", n.leads)
	}
	theirs, ours := nodes[0], nodes[1]
	theirs.want(204, "POST", "sys/mounts/kv", roots[0], `{"type":"kv"}`)
	theirs.want(204, "POST", "kv/x", roots[0], `{"v":"theirs"}`)
	snapshot := theirs.want(200, "GET", "sys/storage/raft/snapshot", roots[0], "")
	ours.want(500, "POST", "sys/storage/raft/snapshot", roots[1], snapshot)
	ours.want(204, "POST", "sys/storage/raft/snapshot-force", roots[1], snapshot)
	waitFor(t, "the node to serve nobody", ours.core.Sealed)
	if text := ours.want(200, "GET", "sys/seal-status", "", ""); !strings.Contains(text, `"sealed":true`) {
		t.Errorf("it says %s", text)
	}
	if text := ours.want(200, "POST", "sys/unseal", "", `{"key":"`+shares[0]+`"}`); !strings.Contains(text, `"sealed":false`) {
		t.Errorf("unsealed: %s", text)
	}
	waitFor(t, "the active node", ours.leads)
	if text := ours.want(200, "GET", "kv/x", roots[0], ""); !strings.Contains(text, `"v":"theirs"`) {
		t.Errorf("it has %s", text)
	}
	ours.want(204, "POST", "kv/x", roots[0], `{"v":"ours"}`)
}
