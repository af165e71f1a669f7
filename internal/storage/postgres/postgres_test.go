package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"arca/internal/arcatest/database"
	"arca/internal/storage"
	"arca/internal/storage/postgres"
	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
	"arca/internal/storage/storagetest"
)

func open(t *testing.T, cfg postgres.Config) *postgres.Driver {
	t.Helper()
	d, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openLock(t *testing.T, cfg postgres.Config) *postgres.Lock {
	t.Helper()
	l, err := postgres.OpenLock(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	p := database.NewPostgres(t)
	t.Run("contract", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend {
			return remotetest.Lead(t, remote.Config{Driver: open(t, postgres.Config{URL: p.NewDatabase()})})
		})
	})
	t.Run("model", func(t *testing.T) {
		storagetest.TestModel(t, func(t *testing.T) storage.Backend {
			return remotetest.Lead(t, remote.Config{Driver: open(t, postgres.Config{URL: p.NewDatabase()})})
		})
	})
	t.Run("nodes", func(t *testing.T) {
		remotetest.TestNodes(t, func(t *testing.T) func() (remote.Driver, remote.Lock) {
			url := p.NewDatabase()
			return func() (remote.Driver, remote.Lock) {
				return open(t, postgres.Config{URL: url}), openLock(t, postgres.Config{URL: url})
			}
		})
	})
	t.Run("renewal", func(t *testing.T) {
		cfg := postgres.Config{URL: p.NewDatabase()}
		remotetest.TestRenewal(t, func() (remote.Driver, remote.Lock) { return open(t, cfg), openLock(t, cfg) })
	})
	t.Run("late renewal", func(t *testing.T) {
		cfg := postgres.Config{URL: p.NewDatabase()}
		t.Run("fence", func(t *testing.T) { remotetest.TestLateRenewal(t, open(t, cfg)) })
		t.Run("lock", func(t *testing.T) { remotetest.TestLateRenewal(t, openLock(t, cfg)) })
	})
	t.Run("renewal in a write", func(t *testing.T) {
		remotetest.TestRenewalInWrite(t, open(t, postgres.Config{URL: p.NewDatabase()}))
	})
	t.Run("schema", func(t *testing.T) { testSchema(t, p) })
	t.Run("timeline", func(t *testing.T) { testTimeline(t, p) })
	t.Run("made by hand", func(t *testing.T) { testMade(t, p) })
	t.Run("read-only", func(t *testing.T) { testReadOnly(t, p) })
	t.Run("in use", func(t *testing.T) { testInUse(t, p) })
	t.Run("killed", func(t *testing.T) { testKilled(t, p) })
	t.Run("stopped", func(t *testing.T) { testStopped(t, p) })
	t.Run("lost", func(t *testing.T) {
		remotetest.TestLost(t, remote.Config{Driver: open(t, postgres.Config{URL: p.NewDatabase()})}, remotetest.Outage{
			Stop: p.Stop, Start: p.Start, Pause: p.Pause, Continue: p.Continue,
		})
	})
}

// testKilled ends the server's side of connections: one that nobody uses, and one that writes.
func testKilled(t *testing.T, p *database.Postgres) {
	url := p.NewDatabase()
	d := open(t, postgres.Config{URL: url})
	defer func() { _ = d.Close() }()
	h, err := d.Claim(t.Context(), remote.Claim{ID: "me", Value: "me", TTL: time.Minute, Steal: true})
	if err != nil || h.ID != "me" {
		t.Fatal(h, err)
	}
	put := func(value string) error {
		return d.Write(t.Context(), "me", &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte(value)}}}, nil)
	}
	if err := put("1"); err != nil {
		t.Fatal(err)
	}
	others := `FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()`
	p.Exec(url, `SELECT pg_terminate_backend(pid, 10000) `+others) // and waits until they are gone
	if err := put("2"); err != nil {
		t.Errorf("a connection that was closed while nobody used it: %v", err)
	}
	n := 2
	endWhile(t, p, url, others, "it wrote", func() error { n++; return put(strconv.Itoa(n)) })
	if err := put("last"); err != nil {
		t.Errorf("the write after that: %v", err)
	}
	renew := func() error {
		_, err := d.Renew(t.Context(), remote.Claim{ID: "me", Value: "me", TTL: time.Minute})
		return err
	}
	p.Exec(url, `SELECT pg_terminate_backend(pid, 10000) `+others)
	if err := renew(); err != nil {
		t.Errorf("a renewal by a connection that was closed while nobody used it: %v", err)
	}
	endWhile(t, p, url, others, "it renewed", renew)
	if err := renew(); err != nil {
		t.Errorf("the renewal after that: %v", err)
	}
	claim := func() error {
		_, err := d.Claim(t.Context(), remote.Claim{ID: "me", Value: "me", TTL: time.Minute, Steal: true})
		return err
	}
	p.Exec(url, `SELECT pg_terminate_backend(pid, 10000) `+others)
	if err := claim(); err != nil {
		t.Errorf("a claim by a connection that was closed while nobody used it: %v", err)
	}
	endWhile(t, p, url, others, "it claimed", claim) // nor is a claim made twice
}

// TestPromoted: a replica takes the place of the server. It may lack what that one had acknowledged, so a term ends there, whoever was the first to
// notice, or nobody; and the next one begins.
func TestPromoted(t *testing.T) {
	t.Parallel()
	p := database.NewPostgres(t)
	cfg := postgres.Config{URL: p.NewDatabase()}
	terms := 0
	claim := func(t *testing.T, d *postgres.Driver) remote.Claim {
		t.Helper()
		terms++
		c := remote.Claim{ID: "term" + strconv.Itoa(terms), Value: "{}", TTL: time.Minute, Steal: true}
		_, err := d.Claim(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := d.Renew(t.Context(), c); err != nil || h.ID != c.ID {
			t.Fatalf("a renewal: %+v, %v", h, err)
		}
		return c
	}
	for _, c := range []struct {
		name    string
		notices func(d *postgres.Driver) // while no server is there
		then    func(d *postgres.Driver, c remote.Claim) error
	}{
		{"renewal", func(*postgres.Driver) {}, func(d *postgres.Driver, c remote.Claim) error {
			h, err := d.Renew(t.Context(), c)
			if h.ID != c.ID {
				t.Errorf("the claim that was made elsewhere is said to be that of %q", h.ID)
			}
			return err
		}},
		{"renewal after a read", func(d *postgres.Driver) { _, _ = d.Get(t.Context(), "k") }, func(d *postgres.Driver, c remote.Claim) error {
			_, err := d.Renew(t.Context(), c)
			return err
		}},
		{"write after a read", func(d *postgres.Driver) { _, _ = d.Get(t.Context(), "k") }, func(d *postgres.Driver, c remote.Claim) error {
			return d.Write(t.Context(), c.ID, &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, cfg)
			defer func() { _ = d.Close() }()
			term := claim(t, d)
			p.Stop()
			c.notices(d)
			p.StartPromoted()
			if err := c.then(d, term); !errors.Is(err, remote.ErrLost) || errors.Is(err, remote.ErrUnknown) {
				t.Errorf("the term goes on at another server: %v", err)
			}
			if h, err := d.Holder(t.Context()); err != nil || h.ID != term.ID {
				t.Errorf("the holder: %+v, %v", h, err)
			}
			claim(t, d)
		})
	}
}

// TestReplica: what is connected with is a replica by now. Nothing is read there, and a write ends the term.
func TestReplica(t *testing.T) {
	t.Parallel()
	p := database.NewPostgres(t)
	d := open(t, postgres.Config{URL: p.NewDatabase()})
	defer func() { _ = d.Close() }()
	term := remote.Claim{ID: "term", Value: "{}", TTL: time.Minute, Steal: true}
	if _, err := d.Claim(t.Context(), term); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	_, _ = d.Get(t.Context(), "k") // in vain
	p.StartReplica()
	if _, err := d.Get(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "this server only reads") {
		t.Errorf("a read: %v", err)
	}
	for range 2 {
		err := d.Write(t.Context(), term.ID, &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}, nil)
		if !errors.Is(err, remote.ErrLost) || errors.Is(err, remote.ErrUnknown) || !strings.Contains(err.Error(), "this server only reads") {
			t.Errorf("a write: %v", err)
		}
	}
	if _, err := d.Renew(t.Context(), term); !errors.Is(err, remote.ErrLost) {
		t.Errorf("a renewal: %v", err)
	}
}

// TestReplicaBeside: connection_url names two servers, of which one only follows. Where the primary takes no more connections nothing is read from that
// one, which may lack what was acknowledged; and the term goes on.
func TestReplicaBeside(t *testing.T) {
	t.Parallel()
	primary, replica := database.NewPostgres(t), database.NewPostgres(t)
	url := primary.NewDatabase()
	term := remote.Claim{ID: "term", Value: "{}", TTL: time.Minute, Steal: true}
	begin := func(url, value string) *postgres.Driver {
		d := open(t, postgres.Config{URL: url})
		if _, err := d.Claim(t.Context(), term); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(t.Context(), term.ID, &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte(value)}}}, nil); err != nil {
			t.Fatal(err)
		}
		return d
	}
	if err := begin(replica.NewDatabase(), "old").Close(); err != nil {
		t.Fatal(err)
	}
	replica.Stop()
	replica.StartReplica()
	host := func(p *database.Postgres) string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }
	d := begin(strings.Replace(url, host(primary), host(primary)+","+host(replica), 1), "new")
	defer func() { _ = d.Close() }()
	primary.Exec(primary.NewDatabase(), `ALTER DATABASE d1 ALLOW_CONNECTIONS false`)
	if err := d.With(t.Context(), func(*pgconn.PgConn) error { // the connection that is kept
		if value, err := d.Get(t.Context(), "k"); err == nil || errors.Is(err, remote.ErrLost) {
			t.Errorf("read %q, %v", value, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if h, err := d.Renew(t.Context(), term); err != nil || h.ID != term.ID {
		t.Errorf("a renewal: %+v, %v", h, err)
	}
	if value, err := d.Get(t.Context(), "k"); err != nil || string(value) != "new" {
		t.Errorf("read %q, %v", value, err)
	}
}

// TestReplicaUnknown: a server that does not say whether it is a replica is one that does not know the question, or none to be asked.
func TestReplicaUnknown(t *testing.T) {
	t.Parallel()
	p := database.NewPostgres(t)
	url := p.NewDatabase()
	p.Exec(url, `CREATE SCHEMA other`)
	for code, taken := range map[string]bool{"42883": true, "57014": false, "40001": false} {
		d := open(t, postgres.Config{URL: url})
		p.Exec(url, `CREATE OR REPLACE FUNCTION other.pg_is_in_recovery() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '`+code+`'; END$$`)
		p.Exec(url, `ALTER ROLE CURRENT_USER SET search_path = other, public, pg_catalog`)
		if err := d.With(t.Context(), func(*pgconn.PgConn) error { // the connection that is kept
			if _, err := d.Get(t.Context(), "k"); errors.Is(err, storage.ErrNotFound) != taken {
				t.Errorf("%s: %v", code, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		p.Exec(url, `ALTER ROLE CURRENT_USER RESET search_path`)
		_ = d.Close() // only read
	}
}

// TestPromotedEarlier: a replica takes the place of the server that lacks the newest claim, and has what was before: that of an earlier process, or that
// it was given back.
func TestPromotedEarlier(t *testing.T) {
	t.Parallel()
	p := database.NewPostgres(t)
	cfg := postgres.Config{URL: p.NewDatabase()}
	for _, given := range []bool{false, true} {
		d := open(t, cfg)
		earlier := remote.Claim{ID: "earlier", Value: "{}", TTL: time.Minute, Steal: true}
		if _, err := d.Claim(t.Context(), earlier); err != nil {
			t.Fatal(err)
		}
		want := earlier.ID
		if given {
			want = ""
			if err := d.Release(t.Context(), earlier.ID); err != nil {
				t.Fatal(err)
			}
		}
		lost := remote.Claim{ID: "lost", Value: "{}", TTL: time.Minute}
		if h, err := d.Renew(t.Context(), lost); err != nil || h.ID != want {
			t.Errorf("given back %t: at the same server: %+v, %v", given, h, err)
		}
		p.Stop()
		_, _ = d.Get(t.Context(), "k") // in vain
		p.StartPromoted()
		if h, err := d.Renew(t.Context(), lost); !errors.Is(err, remote.ErrMoved) || h.ID != want {
			t.Errorf("given back %t: at another server: %+v, %v", given, h, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// testReadOnly has a server say that it only reads by now: its connection is closed, and so is that to where the next attempt led.
func testReadOnly(t *testing.T, p *database.Postgres) {
	d := open(t, postgres.Config{URL: p.NewDatabase()})
	defer func() { _ = d.Close() }()
	var used []*pgconn.PgConn
	if err := d.With(t.Context(), func(c *pgconn.PgConn) error {
		used = append(used, c)
		return &pgconn.PgError{Code: "25006"}
	}); err == nil || !strings.Contains(err.Error(), "this server only reads") {
		t.Error(err)
	}
	if len(used) != 2 {
		t.Fatalf("%d attempts", len(used))
	}
	for i, c := range used {
		if !c.IsClosed() {
			t.Errorf("the connection of attempt %d is open", i+1)
		}
	}
}

// testInUse has a read under way, by a connection that was kept and by a new one, while a renewal finds another server: nobody gets either afterwards.
func testInUse(t *testing.T, p *database.Postgres) {
	url := p.NewDatabase()
	d := open(t, postgres.Config{URL: url})
	defer func() { _ = d.Close() }()
	term := remote.Claim{ID: "term", Value: "{}", TTL: time.Minute, Steal: true}
	if _, err := d.Claim(t.Context(), term); err != nil {
		t.Fatal(err)
	}
	with := func(fn func(c *pgconn.PgConn)) {
		t.Helper()
		if err := d.With(t.Context(), func(c *pgconn.PgConn) error { fn(c); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var used []*pgconn.PgConn
	with(func(kept *pgconn.PgConn) {
		with(func(made *pgconn.PgConn) {
			used = append(used, kept, made)
			p.Exec(url, `UPDATE vault_kv_store SET value = convert_to(json_build_object('id', 'term', 'timeline', '7FFFFFFF')::text, 'UTF8')`)
			if _, err := d.Renew(t.Context(), term); !errors.Is(err, remote.ErrLost) {
				t.Errorf("a renewal at another server: %v", err)
			}
		})
	})
	for i, c := range used {
		if !c.IsClosed() {
			t.Errorf("connection %d, of before, is kept", i+1)
		}
	}
}

// endWhile has what is done wait for a lock, and ends its connection meanwhile.
func endWhile(t *testing.T, p *database.Postgres, url, others, what string, do func() error) {
	t.Helper()
	holds := make(chan struct{})
	go func() {
		defer close(holds)
		p.Exec(url, `BEGIN; LOCK TABLE vault_kv_store IN ACCESS EXCLUSIVE MODE;
DO $$ BEGIN FOR i IN 1..2000 LOOP
  PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot();
  PERFORM pg_terminate_backend(pid) `+others+` AND wait_event_type = 'Lock';
  EXIT WHEN FOUND;
END LOOP; END $$; COMMIT`)
	}()
	for done := false; !done; { // until one meets with it
		err := do()
		if err != nil && !errors.Is(err, remote.ErrLost) {
			t.Errorf("a connection that was lost while %s: %v", what, err)
		}
		select {
		case <-holds:
			done = true
		default:
			done = err != nil
		}
		if done && err == nil {
			t.Errorf("a connection that was lost while %s: no error", what)
		}
	}
	<-holds
}

// testStopped has a writer stand still before its COMMIT, as a process that is stopped does: who takes over does not wait for
// it, and it has written nothing.
func testStopped(t *testing.T, p *database.Postgres) {
	t.Parallel()
	url := p.NewDatabase()
	stopped, next := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	claim := func(d *postgres.Driver, id string) (remote.Holder, error) {
		return d.Claim(ctx, remote.Claim{ID: id, Value: id, TTL: time.Minute, Steal: true})
	}
	if h, err := claim(stopped, "stopped"); err != nil || h.ID != "stopped" {
		t.Fatal(h, err)
	}
	taken := false
	err := stopped.Write(t.Context(), "stopped", &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}, func(storage.Before) {
		h, err := claim(next, "next")
		if taken = err == nil && h.ID == "next"; !taken {
			t.Errorf("taking over: %v, %v", h, err)
		}
	})
	if taken && err == nil {
		t.Error("a write whose transaction ended before its COMMIT is acknowledged")
	}
	if _, err := next.Get(t.Context(), "k"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what was not committed: %v", err)
	}
}

// testSchema opens what arca cannot use.
func testSchema(t *testing.T, p *database.Postgres) {
	for _, c := range []struct {
		name, sql string
		cfg       postgres.Config
		want      string
	}{
		{"missing", "", postgres.Config{SkipCreate: true}, `there is no table "vault_kv_store", and skip_create_table forbids to make it: make it by hand (docs/storage.md), or remove skip_create_table`},
		{"column", `CREATE TABLE vault_kv_store (path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA)`, postgres.Config{}, "has no column parent_path text"},
		{"type", `CREATE TABLE vault_kv_store (parent_path TEXT COLLATE "C", path TEXT COLLATE "C", key TEXT COLLATE "C", value TEXT COLLATE "C")`, postgres.Config{}, "has no column value bytea"},
		{"collation", `CREATE COLLATION de (provider = icu, locale = 'de'); CREATE TABLE vault_kv_store (parent_path TEXT COLLATE "C", path TEXT COLLATE de, key TEXT COLLATE "C", value BYTEA)`, postgres.Config{}, `sorts its column path by the collation de, not "C"`},
		{"unlogged", `CREATE UNLOGGED TABLE vault_kv_store (parent_path TEXT COLLATE "C", path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA)`, postgres.Config{}, "is UNLOGGED"},
		{"foreign", `CREATE TABLE vault_kv_store (parent_path TEXT COLLATE "C", path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA, PRIMARY KEY (path, key)); INSERT INTO vault_kv_store VALUES ('/', '/core/', 'keyring', 'x')`, postgres.Config{}, `holds entries that arca did not write ("/core/keyring", for one)`},
		{"password", "", postgres.Config{URL: "postgres://vault:hunter2@127.0.0.1:1/x"}, "PostgreSQL cannot be reached"},
		{"url", "", postgres.Config{URL: "postgres://vault:hunter2@127.0.0.1:port/x"}, "connection_url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.cfg.URL == "" {
				c.cfg.URL = p.NewDatabase()
			}
			if c.sql != "" {
				p.Exec(c.cfg.URL, c.sql)
			}
			_, err := postgres.Open(t.Context(), c.cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), database.Password)) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// testTimeline opens databases that do not tell their timeline: those that never will do without, others are not opened.
func testTimeline(t *testing.T, p *database.Postgres) {
	for code, ever := range map[string]bool{"42883": false, "42501": false, "0A000": false, "55000": false, "53200": true, "57014": true} {
		url := p.NewDatabase()
		p.Exec(url, `CREATE SCHEMA odd; CREATE FUNCTION odd.pg_walfile_name(pg_lsn) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '`+code+`'; END $$`)
		d, err := postgres.Open(t.Context(), postgres.Config{URL: url + "&search_path=odd,pg_catalog,public"})
		if ever {
			if err == nil || !strings.Contains(err.Error(), "not today") {
				t.Errorf("refused with %s: %v", code, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("refused with %s: %v", code, err)
			continue
		}
		remotetest.TestLateRenewal(t, d)
	}
}

// testMade uses tables as Vault's documentation defines them, of names and a schema that are not the usual ones, by a user
// who may make none.
func testMade(t *testing.T, p *database.Postgres) {
	url := p.NewDatabase()
	p.Exec(url, `CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."k v" (
  parent_path TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C", key TEXT COLLATE "C", value BYTEA, CONSTRAINT pkey PRIMARY KEY (path, key));
CREATE INDEX parent_path_idx ON "Odd"."k v" (parent_path);
CREATE TABLE "Odd".locks (ha_key TEXT COLLATE "C" NOT NULL, ha_identity TEXT COLLATE "C" NOT NULL, ha_value TEXT COLLATE "C",
  valid_until TIMESTAMP WITH TIME ZONE NOT NULL, CONSTRAINT ha_key PRIMARY KEY (ha_key));
CREATE ROLE small LOGIN PASSWORD 'small'; GRANT USAGE ON SCHEMA "Odd" TO small;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "Odd" TO small; ALTER ROLE small SET synchronous_commit = off`)
	at := strings.Index(url, "@")
	cfg := postgres.Config{URL: "postgres://small:small" + url[at:], Table: "Odd.k v", HATable: "Odd.locks", SkipCreate: true, MaxOpen: 2}
	b := remotetest.Lead(t, remote.Config{Driver: open(t, cfg), Lock: openLock(t, cfg)})
	if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "a"); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := p.Exec(url, `SELECT path FROM "Odd"."k v" WHERE path = 'a'`); len(got) != 1 {
		t.Errorf("rows %v", got)
	}
	if got := p.Exec(url, `SELECT convert_from(value, 'UTF8')::json->>'timeline' FROM "Odd"."k v" WHERE path LIKE '%fence'`); len(got) != 1 || len(got[0][0]) != 8 {
		t.Errorf("the fence's timeline: %v", got)
	}
}

// TestKeyOrder compares the order of keys with that of their texts.
func TestKeyOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	key := func() string {
		b := make([]byte, rnd.IntN(5))
		for i := range b {
			b[i] = [...]byte{0, 1, 2, 'a', 0x7f, 0x80, 0xc3, 0xff}[rnd.IntN(8)]
		}
		return string(b)
	}
	for range 20_000 {
		a, b := key(), key()
		ea, eb := postgres.Encode(a), postgres.Encode(b)
		if strings.Compare(a, b) != strings.Compare(ea, eb) || strings.HasPrefix(a, b) != strings.HasPrefix(ea, eb) {
			t.Fatalf("%q and %q become %q and %q", a, b, ea, eb)
		}
		if back, err := postgres.Decode([]byte(ea)); err != nil || back != a {
			t.Fatalf("%q comes back as %q, %v", a, back, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a", "\x01\x01", "\x01", "é", "€", "\xff", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := postgres.Decode(text)
		if err == nil && postgres.Encode(key) != string(text) {
			t.Errorf("%q is taken for %q", text, key)
		}
	})
}
