package database

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

// A MariaDB is MariaDB's server.
type MariaDB struct {
	*Server
	root  *sql.DB
	count atomic.Int64
}

// NewMariaDB starts a server, with a user vault who has the Password and all rights.
func NewMariaDB(tb testing.TB) *MariaDB {
	tb.Helper()
	install, server := find(tb, "mariadb-server", "mariadb-install-db"), find(tb, "mariadb-server", "mariadbd", "/usr/sbin")
	m := &MariaDB{Server: newServer(tb, "mysql")}
	data, socket := filepath.Join(m.dir, "data"), filepath.Join(m.dir, "s")
	m.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	m.argv = []string{
		server, "--no-defaults", "--datadir=" + data, "--socket=" + socket, fmt.Sprint("--port=", m.Port), "--bind-address=127.0.0.1",
		"--skip-name-resolve", "--pid-file=" + filepath.Join(m.dir, "pid"), "--innodb-buffer-pool-size=32M", "--max-allowed-packet=16M",
	}
	m.stop = syscall.SIGTERM
	cfg := driver.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.MultiStatements, cfg.Logger = "root", "unix", socket, true, nolog{}
	c, err := driver.NewConnector(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	m.root = sql.OpenDB(c)
	tb.Cleanup(func() { _ = m.root.Close() }) // the server ends, too
	m.ready = func(ctx context.Context) error { return m.root.PingContext(ctx) }
	m.Start()
	m.Exec("CREATE USER vault@'127.0.0.1' IDENTIFIED BY '" + Password + "'; GRANT ALL ON *.* TO vault@'127.0.0.1'")
	return m
}

type nolog struct{}

// Print implements the driver's Logger.
func (nolog) Print(...any) {}

// Address is where it listens.
func (m *MariaDB) Address() string { return fmt.Sprintf("127.0.0.1:%d", m.Port) }

// NewDatabase returns the name of a database that does not exist.
func (m *MariaDB) NewDatabase() string { return fmt.Sprint("d", m.count.Add(1)) }

// Exec runs statements.
func (m *MariaDB) Exec(text string) {
	m.tb.Helper()
	if _, err := m.root.ExecContext(context.Background(), text); err != nil {
		m.tb.Fatalf("%s: %v", text, err)
	}
}
