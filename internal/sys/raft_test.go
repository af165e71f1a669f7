package sys_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"arca/internal/api"
	"arca/internal/arcatest"
	"arca/internal/barrier"
	"arca/internal/builtin"
	"arca/internal/cluster"
	"arca/internal/core"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// A raftNode is a node of a cluster in this process, which talks to the others by loopback.
type raftNode struct {
	t       *testing.T
	id      string
	url     string // of its cluster address
	core    *core.Core
	share   *cluster.Node
	handler http.Handler
}

func newRaftNode(t *testing.T, id string) *raftNode {
	t.Helper()
	return newRaftNodeOver(t, id, func(b storage.Backend) storage.Backend { return b })
}

// newRaftNodeOver has something between the node and its store.
func newRaftNodeOver(t *testing.T, id string, over func(storage.Backend) storage.Backend) *raftNode {
	t.Helper()
	return newRaftNodeTelling(t, id, over, nil)
}

// newRaftNodeTelling has changed be told as core.Config says.
func newRaftNodeTelling(t *testing.T, id string, over func(storage.Backend) storage.Backend, changed func()) *raftNode {
	t.Helper()
	address := fmt.Sprint("127.0.0.1:", arcatest.FreePort(t))
	store, err := raft.Open(raft.Config{Dir: t.TempDir(), NodeID: id})
	if err != nil {
		t.Fatal(err)
	}
	n := &raftNode{t: t, id: id, url: "https://" + address}
	n.share = cluster.New(cluster.Config{
		Store: store, NodeID: id, Address: address, Bind: []string{address}, APIAddr: "http://" + id, ClusterAddr: n.url, Version: "1.0.0",
		Update: 100 * time.Millisecond, Reconcile: 100 * time.Millisecond,
	})
	var catalog *builtin.Catalog
	n.core, err = core.New(core.Config{Backend: over(store), Cluster: n.share, StorageType: "raft", Changed: changed, Catalog: func(c *core.Core) core.Catalog {
		catalog = builtin.New(c)
		return catalog
	}})
	if err != nil {
		t.Fatal(err)
	}
	catalog.Bind(n.core)
	n.handler = api.New(api.Config{Core: n.core})
	t.Cleanup(func() {
		if err := n.core.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// join lets the node into the cluster that first is of, without the API between them.
func (n *raftNode) join(first *raftNode, share barrier.Key) {
	n.t.Helper()
	ctx, m := n.t.Context(), first.core.SealManager()
	inv, err := m.Invite()
	if err != nil {
		n.t.Fatal(err)
	}
	look := func(context.Context) ([]byte, error) { return inv.Config, nil }
	err = n.core.SealManager().Join(ctx, seal.Inviter{Look: look, Join: func(_ context.Context, a seal.Applicant) ([]byte, error) {
		self := cluster.Introduction(n.id, n.url, false)
		proof, err := a.Prove(inv.Nonce, self)
		if err != nil {
			return nil, err
		}
		if _, err := m.Admit(inv.Nonce, proof, cluster.Introduction("other", n.url, false)); err == nil {
			n.t.Error("a proof is good for another node")
		}
		reply, err := m.Admit(inv.Nonce, proof, self)
		if err != nil {
			return nil, err
		}
		record, err := m.Record()
		if err != nil {
			return nil, err
		}
		sealed, err := reply(record)
		if err != nil {
			return nil, err
		}
		if err := first.share.Admit(ctx, n.id, n.url); err != nil {
			return nil, err
		}
		return a.Read(inv.Nonce, sealed)
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.core.SealManager().Unseal(ctx, append(barrier.Key(nil), share...), false); err != nil {
		n.t.Fatal(err)
	}
}

func (n *raftNode) do(method, path, token, body string) (int, string) {
	r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
	r.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (n *raftNode) want(code int, method, path, token, body string) string {
	n.t.Helper()
	got, text := n.do(method, path, token, body)
	if got != code {
		n.t.Errorf("%s %s at %s: %d %s, want %d", method, path, n.id, got, text, code)
	}
	return text
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// TestRoles has one node write and the others read, and the roles change: what is cached on a standby is dropped when the
// active node changes it, keys that are rotated reach it before what they encrypt, and who becomes active goes on from there.
// S3-60, S3-61, S3-68, S3-69
func TestRoles(t *testing.T) {
	t.Parallel()
	nodes := []*raftNode{newRaftNode(t, "node1"), newRaftNode(t, "node2"), newRaftNode(t, "node3")}
	first := nodes[0]
	ini, err := first.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	root, share := string(ini.RootToken), ini.Shares[0]
	if _, err := first.core.SealManager().Unseal(t.Context(), append(barrier.Key(nil), share...), false); err != nil {
		t.Fatal(err)
	}
	first.want(204, "POST", "sys/mounts/kv", root, `{"type":"kv"}`)
	for _, n := range nodes[1:] {
		n.join(first, share)
	}
	waitFor(t, "three voters", func() bool {
		return strings.Count(first.want(200, "GET", "sys/storage/raft/configuration", root, ""), `"voter":true`) == 3
	})
	leader := first
	for round := range 4 {
		var standbys []*raftNode
		for _, n := range nodes {
			if n != leader {
				standbys = append(standbys, n)
				n.want(503, "POST", "kv/x", root, `{"v":"1"}`) // there is no door here that forwards
				n.want(429, "GET", "sys/health", "", "")
			}
		}
		for i := range 20 {
			value := fmt.Sprintf("%d-%d", round, i)
			leader.want(204, "POST", "kv/a", root, `{"v":"`+value+`"}`)
			if text := standbys[i%2].want(200, "GET", "kv/a", root, ""); !strings.Contains(text, `"v":"`+value+`"`) {
				t.Errorf("%s reads %s after %s was written", standbys[i%2].id, text, value)
			}
			if i%7 == 3 {
				leader.want(204, "POST", "sys/rotate", root, "")
			}
		}
		policy := `{"policy":"path \"kv/a\" { capabilities = [\"read\"] }"}`
		leader.want(204, "PUT", "sys/policies/acl/reader", root, policy)
		leader.want(200, "POST", "auth/token/create", root, fmt.Sprintf(`{"id":"reader%d","policies":["reader"]}`, round))
		token := fmt.Sprint("reader", round)
		standbys[0].want(200, "GET", "kv/a", token, "")
		leader.want(204, "DELETE", "sys/policies/acl/reader", root, "")
		standbys[0].want(403, "GET", "kv/a", token, "")
		leader.want(204, "POST", "auth/token/revoke", root, `{"token":"`+token+`"}`)
		standbys[1].want(403, "GET", "auth/token/lookup-self", token, "")

		leader.want(204, "PUT", "sys/step-down", root, "")
		waitFor(t, "another active node", func() bool {
			for _, n := range nodes {
				if a := n.core.Active(); a != nil && a.Leads() {
					leader = n
					return true
				}
			}
			return false
		})
	}
	// One seals: the rest goes on. It comes back, and has all.
	sealed := nodes[0]
	if sealed == leader {
		sealed = nodes[1]
	}
	sealed.want(204, "PUT", "sys/seal", root, "")
	waitFor(t, "the seal", func() bool { return sealed.core.Sealed() })
	leader.want(204, "POST", "kv/b", root, `{"v":"1"}`)
	if _, err := sealed.core.SealManager().Unseal(t.Context(), append(barrier.Key(nil), share...), false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node that is back", func() bool { code, _ := sealed.do("GET", "kv/b", root, ""); return code == 200 })
}
