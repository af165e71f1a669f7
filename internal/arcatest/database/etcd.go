package database

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"arca/internal/arcatest"
)

// An Etcd is one node of etcd.
type Etcd struct {
	*Server
	count atomic.Int64
}

// NewEtcd starts a server.
func NewEtcd(tb testing.TB) *Etcd {
	tb.Helper()
	server := find(tb, "etcd-server", "etcd")
	e := &Etcd{Server: newServer(tb)}
	peers := fmt.Sprintf("http://127.0.0.1:%d", arcatest.FreePort(tb))
	e.argv = []string{
		server, "--data-dir=" + filepath.Join(e.dir, "data"), "--listen-client-urls=" + e.Address(), "--advertise-client-urls=" + e.Address(),
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers, "--logger=zap", "--log-level=warn",
	}
	e.stop = syscall.SIGTERM
	e.ready = func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Address()+"/health", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %d, %w", res.StatusCode, err)
		}
		return nil
	}
	e.Start()
	return e
}

// Address is where it listens.
func (e *Etcd) Address() string { return fmt.Sprintf("http://127.0.0.1:%d", e.Port) }

// NewPath returns a path without entries.
func (e *Etcd) NewPath() string { return fmt.Sprintf("/p%d/", e.count.Add(1)) }
