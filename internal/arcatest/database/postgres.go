package database

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Password is that of the user in the databases.
const Password = "s3cret/of the+database"

// A Postgres is PostgreSQL's server.
type Postgres struct {
	*Server
	count atomic.Int64
}

// NewPostgres starts a server.
func NewPostgres(tb testing.TB) *Postgres {
	tb.Helper()
	const at = "/usr/lib/postgresql/*/bin"
	initdb, server := find(tb, "postgresql", "initdb", at), find(tb, "postgresql", "postgres", at)
	p := &Postgres{Server: newServer(tb, "postgres")}
	word := filepath.Join(p.dir, "password")
	if err := os.WriteFile(word, []byte(Password), 0o644); err != nil {
		tb.Fatal(err)
	}
	data := filepath.Join(p.dir, "data")
	p.run(initdb, "-D", data, "-U", "vault", "-A", "scram-sha-256", "--pwfile="+word, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	p.argv = []string{
		server, "-D", data, "-p", fmt.Sprint(p.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + p.dir,
		"-c", "max_connections=100", "-c", "shared_buffers=32MB",
	}
	p.stop = syscall.SIGINT // a fast shutdown
	p.ready = func(ctx context.Context) error {
		c, err := pgconn.Connect(ctx, p.url("postgres"))
		if err != nil {
			return err
		}
		return c.Close(ctx)
	}
	p.Start()
	return p
}

// StartReplica starts the server, once it was stopped, as a replica, which only reads.
func (p *Postgres) StartReplica() {
	p.tb.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "data", "standby.signal"), nil, 0o600); err != nil {
		p.tb.Fatal(err)
	}
	p.Start()
}

// StartPromoted starts the server, once it was stopped, as a replica, and makes that the primary.
func (p *Postgres) StartPromoted() {
	p.tb.Helper()
	p.StartReplica()
	p.Exec(p.url("postgres"), "SELECT pg_promote()")
}

func (p *Postgres) url(name string) string {
	return fmt.Sprintf("postgres://vault:%s@127.0.0.1:%d/%s?sslmode=disable", strings.NewReplacer("/", "%2F", " ", "%20", "+", "%2B").Replace(Password), p.Port, name)
}

// NewDatabase makes an empty database and returns its URL.
func (p *Postgres) NewDatabase() string {
	p.tb.Helper()
	name := fmt.Sprint("d", p.count.Add(1))
	p.Exec(p.url("postgres"), "CREATE DATABASE "+name)
	return p.url(name)
}

// Exec runs statements and returns the rows of the last, as text.
func (p *Postgres) Exec(url, sql string) (rows [][]string) {
	p.tb.Helper()
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }() // nothing is under way
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		p.tb.Fatalf("%s: %v", sql, err)
	}
	for _, row := range results[len(results)-1].Rows {
		var texts []string
		for _, v := range row {
			texts = append(texts, string(v))
		}
		rows = append(rows, texts)
	}
	return rows
}
