package database

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"arca/internal/arcatest"
)

// A Consul is one server of Consul.
type Consul struct{ *Server }

// FindConsul is Consul's program, if there is one: ARCA_CONSUL, or that of the path. Debian has no package of it.
func FindConsul() string {
	if named := os.Getenv("ARCA_CONSUL"); named != "" {
		return named
	}
	path, _ := exec.LookPath("consul") // "" if there is none
	return path
}

// NewConsul starts a server, of the program that FindConsul found.
func NewConsul(tb testing.TB, program string) *Consul {
	tb.Helper()
	c := &Consul{Server: newServer(tb)}
	port := func(name string) string { return fmt.Sprintf("-%s-port=%d", name, arcatest.FreePort(tb)) }
	c.argv = []string{
		program, "agent", "-server", "-bootstrap-expect=1", "-data-dir=" + filepath.Join(c.dir, "data"), "-bind=127.0.0.1", "-client=127.0.0.1",
		fmt.Sprintf("-http-port=%d", c.Port), "-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1", port("server"), port("serf-lan"), "-log-level=error",
	}
	c.stop = syscall.SIGINT
	c.ready = func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Address()+"/v1/kv/ready", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		said, err := io.ReadAll(io.LimitReader(res.Body, 100))
		_ = res.Body.Close() // it was read
		if err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("%d %s: %w", res.StatusCode, said, err)
		}
		return nil
	}
	c.Start()
	return c
}

// Address is where it listens.
func (c *Consul) Address() string { return fmt.Sprintf("http://127.0.0.1:%d", c.Port) }
