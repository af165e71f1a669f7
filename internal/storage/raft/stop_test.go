package raft_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// TestStopDuringRestore has the active node be stopped while a snapshot is restored on it: the process does not end by a panic of raft's library, and the node has the
// state of before or that of the snapshot when it is started again.
func TestStopDuringRestore(t *testing.T) {
	const slow = time.Second // to read what was uploaded, a piece at a time, and to go over to the state
	for after := slow / 4; after < 5*slow; after += slow / 4 {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := raft.Config{}.WithFS(slowFS{vfs.NewMem(), slow})
				m := newMember(t, "node1", cfg)
				restoring := false
				m.store.Bind(raft.Events{
					Follow: func() { m.leads.Store(false); m.db.Follow() },
					Lead:   func() { m.db.Lead(); m.leads.Store(true) },
					Applied: func(ch storage.Change) error {
						if restoring {
							time.Sleep(slow)
						}
						return m.db.Applied(ch)
					},
				})
				m.start(true)
				c := &cluster{t: t, members: []*member{m}}
				defer func() { c.close() }()
				c.leader()
				c.write(20)
				var file bytes.Buffer
				if err := m.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
					t.Fatal(err)
				}
				c.write(5)
				archive, err := m.store.ReadArchive(&file)
				if err != nil {
					t.Fatal(err)
				}
				restoring = true
				restored := make(chan error, 1)
				go func() { restored <- m.store.Restore(archive) }()
				time.Sleep(after)
				began := time.Now()
				m.store.Stop()
				if took := time.Since(began); took > 2*slow {
					t.Errorf("it stops after %v", took)
				}
				err = <-restored
				t.Log("restored:", err)
				if err := archive.Close(); err != nil {
					t.Error(err)
				}
				m.restart()
				n, errOf := counter(t.Context(), c.leader().db)
				if errOf != nil || n != 20 && (n != 25 || err == nil) {
					t.Errorf("restored: %v, and the node has %d, %v", err, n, errOf)
				}
				c.write(5)
				c.check(n+5, n+5)
			})
		})
	}
}
