package mysql_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // which the test looks with

	"arca/internal/arcatest/database"
	"arca/internal/storage"
	"arca/internal/storage/mysql"
	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
	"arca/internal/storage/storagetest"
)

func open(t *testing.T, cfg mysql.Config) *mysql.Driver {
	t.Helper()
	d, err := mysql.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openLock(t *testing.T, cfg mysql.Config) *mysql.Lock {
	t.Helper()
	l, err := mysql.OpenLock(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestMySQL runs against MariaDB: Debian has no server of MySQL's own.
func TestMySQL(t *testing.T) {
	t.Parallel()
	m := database.NewMariaDB(t)
	config := func() mysql.Config {
		return mysql.Config{Address: m.Address(), Username: "vault", Password: database.Password, Database: m.NewDatabase()}
	}
	t.Run("contract", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend {
			return remotetest.Lead(t, remote.Config{Driver: open(t, config())})
		})
	})
	t.Run("model", func(t *testing.T) {
		storagetest.TestModel(t, func(t *testing.T) storage.Backend {
			return remotetest.Lead(t, remote.Config{Driver: open(t, config())})
		})
	})
	t.Run("nodes", func(t *testing.T) {
		remotetest.TestNodes(t, func(t *testing.T) func() (remote.Driver, remote.Lock) {
			cfg := config()
			return func() (remote.Driver, remote.Lock) { return open(t, cfg), openLock(t, cfg) }
		})
	})
	t.Run("renewal", func(t *testing.T) {
		cfg := config()
		remotetest.TestRenewal(t, func() (remote.Driver, remote.Lock) { return open(t, cfg), openLock(t, cfg) })
	})
	t.Run("late renewal", func(t *testing.T) {
		cfg := config()
		t.Run("fence", func(t *testing.T) { remotetest.TestLateRenewal(t, open(t, cfg)) })
		t.Run("lock", func(t *testing.T) { remotetest.TestLateRenewal(t, openLock(t, cfg)) })
	})
	t.Run("renewal in a write", func(t *testing.T) { remotetest.TestRenewalInWrite(t, open(t, config())) })
	t.Run("schema", func(t *testing.T) { testSchema(t, m, config) })
	t.Run("made by hand", func(t *testing.T) { testMade(t, m) })
	t.Run("demoted", func(t *testing.T) { testDemoted(t, m) })
	t.Run("another server", func(t *testing.T) { testAnother(t, m, config()) })
	t.Run("another server, earlier", func(t *testing.T) { testAnotherEarlier(t, m, config()) })
	t.Run("a server that does not tell", func(t *testing.T) { testUntold(t, m, config) })
	t.Run("lost", func(t *testing.T) {
		remotetest.TestLost(t, remote.Config{Driver: open(t, config())}, remotetest.Outage{
			Stop: m.Stop, Start: m.Start, Pause: m.Pause, Continue: m.Continue,
		})
	})
}

// testDemoted makes the server one that only reads, as a failover does with the old primary, and the primary again: whatever
// was connected with it is given up, and the node begins anew.
func testDemoted(t *testing.T, m *database.MariaDB) {
	name := m.NewDatabase()
	m.Exec("CREATE DATABASE " + name + "; CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'plain'; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON " +
		name + ".* TO plain@'127.0.0.1'")
	look, err := sql.Open("mysql", "vault:"+database.Password+"@tcp("+m.Address()+")/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = look.Close() }) // nothing was written
	connections := func() (ids []int64) {
		t.Helper()
		rows, err := look.QueryContext(t.Context(), "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'plain'")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	s := remote.New(remote.Config{
		Driver: open(t, mysql.Config{Address: m.Address(), Username: "plain", Password: "plain", Database: name}), Name: "mysql",
	})
	var leads atomic.Int64
	s.Bind(remote.Events{Lead: func() { leads.Add(1) }})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put := func(value string) error {
		return s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte(value)}})
	}
	if err := put("1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	before := connections()
	if len(before) < 2 {
		t.Fatalf("%d connections: the test needs one of reads and one of writes", len(before))
	}
	m.Exec("SET GLOBAL read_only = 1")
	err = put("2")
	if !errors.Is(err, storage.ErrNotApplied) || !strings.Contains(err.Error(), "only reads") {
		t.Errorf("a write to a server that only reads: %v", err)
	}
	m.Exec("SET GLOBAL read_only = 0")
	remotetest.Await(t, "the node to begin anew", func() bool { return leads.Load() == 2 && s.Leading() })
	remotetest.Await(t, "the connections to end", func() bool {
		return !slices.ContainsFunc(connections(), func(id int64) bool { return slices.Contains(before, id) })
	})
	if got, err := s.Get(t.Context(), "a"); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := put("3"); err != nil {
		t.Error(err)
	}
}

// testAnother has a replica take the place of the server, also where nobody has noticed that connections were lost. It may lack what that one had
// acknowledged, so a term ends there, and the next one begins.
func testAnother(t *testing.T, m *database.MariaDB, cfg mysql.Config) {
	d := open(t, cfg)
	defer func() { _ = d.Close() }()
	defer m.Exec("SET GLOBAL server_id = 1")
	for i, then := range []func(c remote.Claim) error{
		func(c remote.Claim) error {
			h, err := d.Renew(t.Context(), c)
			if h.ID != c.ID {
				t.Errorf("the claim that was made elsewhere is said to be that of %q", h.ID)
			}
			return err
		},
		func(c remote.Claim) error {
			return d.Write(t.Context(), c.ID, &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}, nil)
		},
	} {
		c := remote.Claim{ID: fmt.Sprint("term", i), Value: "{}", TTL: time.Minute, Steal: true}
		if _, err := d.Claim(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := then(c); err != nil {
			t.Fatalf("at the same server: %v", err)
		}
		m.Exec(fmt.Sprint("SET GLOBAL server_id = ", 2+i))
		if err := then(c); !errors.Is(err, remote.ErrLost) || errors.Is(err, remote.ErrUnknown) {
			t.Errorf("the term goes on at another server: %v", err)
		}
	}
}

// testAnotherEarlier has a replica take the place of the server that lacks the newest claim, and has what was before: that of an earlier process, or that
// it was given back.
func testAnotherEarlier(t *testing.T, m *database.MariaDB, cfg mysql.Config) {
	d := open(t, cfg)
	defer func() { _ = d.Close() }()
	defer m.Exec("SET GLOBAL server_id = 1")
	for i, want := range []string{"earlier", ""} {
		if _, err := d.Claim(t.Context(), remote.Claim{ID: "earlier", Value: "{}", TTL: time.Minute, Steal: true}); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if err := d.Release(t.Context(), "earlier"); err != nil {
				t.Fatal(err)
			}
		}
		lost := remote.Claim{ID: "lost", Value: "{}", TTL: time.Minute}
		if h, err := d.Renew(t.Context(), lost); err != nil || h.ID != want {
			t.Errorf("%q: at the same server: %+v, %v", want, h, err)
		}
		m.Exec(fmt.Sprint("SET GLOBAL server_id = ", 2+i))
		if h, err := d.Renew(t.Context(), lost); !errors.Is(err, remote.ErrMoved) || h.ID != want {
			t.Errorf("%q: at another server: %+v, %v", want, h, err)
		}
	}
}

// through is the address of a proxy to a server, which replaces one word of what clients send with another that is as long.
func through(t *testing.T, server, word, by string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() }) // clients have closed their connections before
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				t.Error(err)
				return
			}
			all.Go(func() { _, _ = io.Copy(client, up); _ = client.Close() }) // till either closes
			all.Go(func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					_, _ = up.Write(bytes.ReplaceAll(buf[:n], []byte(word), []byte(by))) // of no bytes at the end
					if err != nil {
						break
					}
				}
				_ = up.Close() // with the client's end
			})
		}
	})
	return l.Addr().String()
}

// testUntold has a server that does not tell which it is, as a proxy or one that only speaks like MySQL: it is used without. Other refusals end the start.
func testUntold(t *testing.T, m *database.MariaDB, config func() mysql.Config) {
	cfg := config()
	cfg.Address = through(t, m.Address(), "@@hostname", "@@hostnot_")
	var said bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	d := open(t, cfg)
	defer func() { _ = d.Close() }()
	defer m.Exec("SET GLOBAL server_id = 1")
	if n := strings.Count(said.String(), "does not tell which server it is"); n != 1 {
		t.Errorf("it said: %s", said.String())
	}
	c := remote.Claim{ID: "term", Value: "{}", TTL: time.Minute, Steal: true}
	if _, err := d.Claim(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	m.Exec("SET GLOBAL server_id = 2")
	if h, err := d.Renew(t.Context(), c); err != nil || h.ID != c.ID {
		t.Errorf("a renewal: %+v, %v", h, err)
	}
	if err := d.Write(t.Context(), c.ID, &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}, nil); err != nil {
		t.Errorf("a write: %v", err)
	}
	cfg.Address = through(t, m.Address(), "@@hostname", "nocolumn_1")
	if other, err := mysql.Open(t.Context(), cfg); err == nil {
		t.Error("it is opened whatever the refusal")
		_ = other.Close()
	}
}

// testSchema opens what arca cannot use.
func testSchema(t *testing.T, m *database.MariaDB, config func() mysql.Config) {
	for _, c := range []struct{ name, sql, want string }{
		{"column", "CREATE TABLE DB.vault (vault_key VARBINARY(3072) PRIMARY KEY)", "lacks a column"},
		{"short keys", "CREATE TABLE DB.vault (vault_key VARBINARY(512) PRIMARY KEY, vault_value MEDIUMBLOB)", "has the column vault_key varbinary(512), which must be varbinary(3072)"},
		{"short values", "CREATE TABLE DB.vault (vault_key VARBINARY(3072) PRIMARY KEY, vault_value BLOB)", "vault_value blob, which must be mediumblob"},
		{"engine", "CREATE TABLE DB.vault (vault_key VARBINARY(512) PRIMARY KEY, vault_value MEDIUMBLOB) ENGINE=MyISAM", "is of the engine MyISAM"},
		{"foreign", "CREATE TABLE DB.vault (vault_key VARBINARY(3072) PRIMARY KEY, vault_value MEDIUMBLOB); INSERT INTO DB.vault VALUES ('core/keyring', 'x')", `holds entries that arca did not write ("core/keyring", for one)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config()
			m.Exec("CREATE DATABASE " + cfg.Database + "; " + strings.ReplaceAll(c.sql, "DB.", cfg.Database+"."))
			if _, err := mysql.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	cfg := config()
	cfg.Password = "hunter2"
	if _, err := mysql.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "check username and password") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a wrong password: %v", err)
	}
	cfg.Address = "127.0.0.1:1"
	if _, err := mysql.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "MySQL cannot be reached") {
		t.Errorf("no server: %v", err)
	}
}

// testMade uses tables with odd names, made by an administrator, as a user who may make none.
func testMade(t *testing.T, m *database.MariaDB) {
	m.Exec("CREATE DATABASE `o-dd`; CREATE TABLE `o-dd`.`k ``v` (vault_key VARBINARY(3072), vault_value MEDIUMBLOB, PRIMARY KEY (vault_key)); " +
		"CREATE TABLE `o-dd`.locks (node_job VARBINARY(512) NOT NULL, current_leader VARBINARY(512) NOT NULL, PRIMARY KEY (node_job)); " +
		"CREATE USER small@'127.0.0.1' IDENTIFIED BY 'small'; GRANT SELECT, INSERT, UPDATE, DELETE ON `o-dd`.* TO small@'127.0.0.1'")
	cfg := mysql.Config{
		Address: m.Address(), Username: "small", Password: "small", Database: "o-dd", Table: "k `v", LockTable: "locks", MaxOpen: 2,
	}
	b := remotetest.Lead(t, remote.Config{Driver: open(t, cfg), Lock: openLock(t, cfg)})
	if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "a"); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
}
