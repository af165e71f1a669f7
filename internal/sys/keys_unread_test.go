package sys_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
)

// A keyless store is one whose keyring is on a part of the disk that cannot be read, while on says so.
type keyless struct {
	storage.Backend
	on *atomic.Bool
}

func (k keyless) get(ctx context.Context, from storage.Reader, key string) ([]byte, error) {
	if key == barrier.RecordKey && k.on.Load() {
		return nil, errs.New(errs.Unavailable, "the disk does not give it")
	}
	return from.Get(ctx, key)
}

// Get implements storage.Reader.
func (k keyless) Get(ctx context.Context, key string) ([]byte, error) {
	return k.get(ctx, k.Backend, key)
}

// Snapshot implements storage.Backend.
func (k keyless) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	s, err := k.Backend.Snapshot(ctx)
	return keylessSnapshot{s, k}, err
}

type keylessSnapshot struct {
	storage.Snapshot
	of keyless
}

// Get implements storage.Reader.
func (s keylessSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	return s.of.get(ctx, s.Snapshot, key)
}

// TestKeysUnreadLeadElsewhere has a node come to lead that cannot read its keys: it has another lead, which can.
func TestKeysUnreadLeadElsewhere(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	first := newRaftNode(t, "node1")
	second := newRaftNodeOver(t, "node2", func(b storage.Backend) storage.Backend { return keyless{b, &on} })
	ini, err := first.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.core.SealManager().Unseal(t.Context(), append(barrier.Key(nil), ini.Shares[0]...), false); err != nil {
		t.Fatal(err)
	}
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
	on.Store(true)
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
