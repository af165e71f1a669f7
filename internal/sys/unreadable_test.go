package sys_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"arca/internal/barrier"
	"arca/internal/seal"
	"arca/internal/storage"
)

// What a muffled store gives in the place of the keyring.
const (
	clear int32 = iota
	muffled
	garbled
)

// A muffledStore is one whose keyring cannot be read for a while, or is damaged.
type muffledStore struct {
	storage.Backend
	how   *atomic.Int32
	asked *atomic.Int64 // in vain
}

func muffle(how *atomic.Int32, asked *atomic.Int64) func(storage.Backend) storage.Backend {
	return func(b storage.Backend) storage.Backend { return muffledStore{b, how, asked} }
}

func (m muffledStore) get(ctx context.Context, from storage.Reader, key string) ([]byte, error) {
	if key == barrier.RecordKey && m.how.Load() != clear {
		m.asked.Add(1)
		if m.how.Load() == muffled {
			return nil, errors.New("the disk does not answer")
		}
		return []byte("what is no keyring"), nil
	}
	return from.Get(ctx, key)
}

// Get implements storage.Reader.
func (m muffledStore) Get(ctx context.Context, key string) ([]byte, error) {
	return m.get(ctx, m.Backend, key)
}

// Snapshot implements storage.Backend.
func (m muffledStore) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	s, err := m.Backend.Snapshot(ctx)
	return muffledSnapshot{s, m}, err
}

type muffledSnapshot struct {
	storage.Snapshot
	of muffledStore
}

// Get implements storage.Reader.
func (s muffledSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	return s.of.get(ctx, s.Snapshot, key)
}

func (n *raftNode) leads() bool {
	a := n.core.Active()
	return a != nil && a.Leads()
}

func (n *raftNode) unseal(share barrier.Key) {
	n.t.Helper()
	if _, err := n.core.SealManager().Unseal(n.t.Context(), append(barrier.Key(nil), share...), false); err != nil {
		n.t.Fatal(err)
	}
}

// TestKeyringUnreadable has a node come to lead when its keyring cannot be read: it tries again, and is not sealed. One whose keys do not open the keyring is.
func TestKeyringUnreadable(t *testing.T) {
	t.Parallel()
	var how atomic.Int32
	var asked atomic.Int64
	n := newRaftNodeOver(t, "node1", muffle(&how, &asked))
	ini, err := n.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	root, share := string(ini.RootToken), ini.Shares[0]
	n.unseal(share)
	waitFor(t, "the active node", n.leads)
	n.want(204, "POST", "sys/mounts/kv", root, `{"type":"kv"}`)
	n.want(204, "POST", "kv/x", root, `{"v":"1"}`)

	how.Store(muffled)
	n.share.Again()
	waitFor(t, "a second attempt", func() bool { return asked.Load() > 1 })
	if n.core.Sealed() || n.leads() {
		t.Errorf("a keyring that cannot be read for a moment: sealed %t, active %t", n.core.Sealed(), n.leads())
	}
	n.want(503, "POST", "kv/x", root, `{"v":"2"}`)
	how.Store(clear)
	waitFor(t, "the active node", n.leads)
	n.want(204, "POST", "kv/x", root, `{"v":"3"}`)

	how.Store(garbled)
	n.share.Again()
	waitFor(t, "the seal", n.core.SealManager().Sealed)
	how.Store(clear)
	n.unseal(share)
	waitFor(t, "the active node", n.leads)
	if text := n.want(200, "GET", "kv/x", root, ""); !strings.Contains(text, `"v":"3"`) {
		t.Errorf("it has %s", text)
	}
}

// TestKeyringUnreadableOnStandby has a standby be told of a new key that it cannot read: what comes next may be encrypted with it. The node is sealed, and
// has all when it is unsealed.
func TestKeyringUnreadableOnStandby(t *testing.T) {
	t.Parallel()
	var how atomic.Int32
	var asked atomic.Int64
	first, second := newRaftNode(t, "node1"), newRaftNodeOver(t, "node2", muffle(&how, &asked))
	ini, err := first.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	root, share := string(ini.RootToken), ini.Shares[0]
	first.unseal(share)
	waitFor(t, "the active node", first.leads)
	first.want(204, "POST", "sys/mounts/kv", root, `{"type":"kv"}`)
	second.join(first, share)
	reads := func(v string) func() bool {
		return func() bool {
			code, text := second.do("GET", "kv/x", root, "")
			return code == 200 && strings.Contains(text, `"v":"`+v+`"`)
		}
	}
	first.want(204, "POST", "kv/x", root, `{"v":"1"}`)
	waitFor(t, "the standby", reads("1"))
	how.Store(muffled)
	first.want(204, "POST", "sys/rotate", root, "")
	waitFor(t, "the seal", second.core.SealManager().Sealed)
	how.Store(clear)
	second.unseal(share)
	waitFor(t, "a write", func() bool {
		for _, n := range []*raftNode{first, second} { // either may lead by now
			if code, _ := n.do("POST", "kv/x", root, `{"v":"2"}`); code == 204 {
				return true
			}
		}
		return false
	})
	waitFor(t, "the standby", reads("2"))
}

// TestKeyringUnreadableElsewhereRead has a node come to lead that cannot read its keys: it has another lead, which can.
func TestKeyringUnreadableElsewhereRead(t *testing.T) {
	t.Parallel()
	var how atomic.Int32
	var asked atomic.Int64
	first := newRaftNode(t, "node1")
	second := newRaftNodeOver(t, "node2", muffle(&how, &asked))
	ini, err := first.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	first.unseal(ini.Shares[0])
	root := string(ini.RootToken)
	first.want(204, "POST", "sys/mounts/kv", root, `{"type":"kv"}`)
	first.want(204, "POST", "kv/a", root, `{"v":"1"}`)
	second.join(first, ini.Shares[0])
	waitFor(t, "two voters", func() bool {
		return strings.Count(first.want(200, "GET", "sys/storage/raft/configuration", root, ""), `"voter":true`) == 2
	})
	waitFor(t, "the standby", func() bool {
		code, _ := second.do("GET", "kv/a", root, "")
		return code == 200
	})
	how.Store(muffled)
	first.want(204, "PUT", "sys/step-down", root, "")
	waitFor(t, "the node without keys to lead", second.share.Leading)
	waitFor(t, "the other to be the active one again", func() bool {
		code, _ := first.do("POST", "kv/a", root, `{"v":"2"}`)
		return code == 204
	})
	if second.core.Sealed() {
		t.Error("the node that could not read its keys is sealed")
	}
}

// TestKeyringUnreadableOnceItLeads has a node come to lead before it is open, and find then that its keys do not open the keyring: it is sealed.
func TestKeyringUnreadableOnceItLeads(t *testing.T) {
	t.Parallel()
	var how atomic.Int32
	var asked atomic.Int64
	var node atomic.Pointer[raftNode]
	n := newRaftNodeTelling(t, "node1", muffle(&how, &asked), func() { // is told when the core is about to be open, and when the node leads
		if n := node.Load(); n != nil && n.core.Active() != nil {
			waitFor(t, "the node to lead", n.leads)
			how.Store(garbled)
		}
	})
	ini, err := n.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	node.Store(n)
	if _, err := n.core.SealManager().Unseal(t.Context(), append(barrier.Key(nil), ini.Shares[0]...), false); err == nil {
		t.Error("it is unsealed")
	}
	waitFor(t, "the seal", n.core.SealManager().Sealed)
	if asked.Load() == 0 || !n.core.Sealed() {
		t.Errorf("asked %d times, sealed %t", asked.Load(), n.core.Sealed())
	}
	node.Store(nil)
	how.Store(clear)
	n.unseal(ini.Shares[0])
	waitFor(t, "the active node", n.leads)
}
