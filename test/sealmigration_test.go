package test

import (
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest/database"
)

func staticSeal(name, digits string, disabled bool) string {
	return fmt.Sprintf("seal \"static\" {\n  name = %q\n  disabled = \"%t\"\n  current_key_id = \"1\"\n  current_key = %q\n}\n", name, disabled, strings.Repeat(digits, 32))
}

// migrate gives the node's shares with the word "migrate".
func (n *node) migrate() {
	n.t.Helper()
	for _, k := range n.keys {
		n.must("PUT", "sys/unseal", map[string]any{"key": k, "migrate": true})
	}
	if st := n.get("sys/seal-status"); st.body["sealed"] != false {
		n.t.Fatalf("sealed after unseal -migrate: %v", st.body)
	}
}

// sealedBy is the type and the names of the seals, as the node sees them.
func (n *node) sealedBy() (typ string, migrating, whole bool) {
	n.t.Helper()
	st, backends := n.get("sys/seal-status"), n.get("sys/seal-backend-status")
	typ, _ = st.body["type"].(string)
	return typ, st.body["migration"] == true, backends.body["fully_wrapped"] == true
}

// roll goes over to other seals as Vault's procedure has it: the standbys first, one after
// the other, each with -migrate; then the active node steps down, and the new one
// migrates; what was the active one is restarted at last.
func (c *trio) roll(base map[*node]string, stanzas, typ string) {
	c.t.Helper()
	last := c.leader()
	was, _, _ := last.sealedBy()
	for _, n := range c.standbys() {
		n.kill()
		n.config = base[n] + stanzas
		n.start()
		n.migrate()
		c.await(3)
		if got, migrating, _ := n.sealedBy(); got != was || !migrating {
			c.t.Fatalf("a standby of the new configuration: type %s, migrating %t", got, migrating)
		}
	}
	if c.leader() != last {
		c.t.Fatal("another node leads")
	}
	last.must("PUT", "sys/step-down", nil)
	for _, n := range c.nodes {
		await(c.t, "the migration to "+typ, func() bool {
			got, migrating, whole := n.sealedBy()
			if n == last { // which has the seals of before
				return got == typ && (typ == "shamir" || was == "shamir" || !whole)
			}
			return got == typ && !migrating && whole
		})
	}
	last.kill()
	last.config = base[last] + stanzas
	last.start()
	if typ == "shamir" {
		last.unseal()
	}
	c.await(3)
	for _, n := range c.nodes {
		await(c.t, "the secret", func() bool { return n.get("kv/a").text("data", "b") == "c" })
		if got, migrating, whole := n.sealedBy(); got != typ || migrating || !whole {
			c.t.Errorf("after the migration to %s: type %s, migrating %t, whole %t", typ, got, migrating, whole)
		}
	}
}

// A cluster of three goes from Shamir to a seal that opens by itself, to another and
// back, node by node without an outage; and with all nodes restarted at once. S3-29..S3-33
func TestClusterSealMigration(t *testing.T) {
	t.Parallel()
	c := newTrioWith(t, patient) // another leader would migrate before its turn
	c.leader().must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	c.leader().must("POST", "kv/a", map[string]any{"b": "c"})
	base := map[*node]string{}
	for _, n := range c.nodes {
		base[n] = n.config
	}
	c.roll(base, staticSeal("one", "a1", false), "static")
	c.roll(base, staticSeal("one", "a1", true)+staticSeal("two", "b2", false), "static")
	c.roll(base, staticSeal("two", "b2", true), "shamir")

	for _, stanzas := range []string{staticSeal("three", "c3", false), staticSeal("three", "c3", true)} {
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.config = base[n] + stanzas
			n.start()
		}
		for _, n := range c.nodes {
			n.migrate()
		}
		c.await(3)
		for _, n := range c.nodes {
			await(t, "the migration", func() bool {
				typ, migrating, whole := n.sealedBy()
				return !migrating && whole && (typ == "static") == strings.Contains(stanzas, "false")
			})
		}
	}
	for _, n := range c.nodes {
		await(t, "the secret", func() bool { return n.get("kv/a").text("data", "b") == "c" })
	}
}

// A node that was down while the others migrated opens with -migrate and the shares of
// before, under the new configuration, and has what it missed; the next time it opens by
// itself.
func TestClusterSealMigrationMissesANode(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.leader().must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	base := map[*node]string{}
	for _, n := range c.nodes {
		base[n] = n.config
	}
	for i, stanzas := range []string{staticSeal("one", "a1", false), staticSeal("one", "a1", true) + staticSeal("two", "b2", false)} {
		missing, other := c.standbys()[0], c.standbys()[1]
		last := c.leader()
		missing.kill()
		other.kill()
		other.config = base[other] + stanzas
		other.start()
		other.migrate()
		// There were too few nodes for a leader meanwhile: either of the two is it now.
		await(t, "a leader", func() bool { return other.get("kv/none").code == 404 })
		if c.leader() == last {
			last.must("PUT", "sys/step-down", nil)
		}
		await(t, "the migration", func() bool {
			typ, migrating, whole := other.sealedBy()
			return typ == "static" && !migrating && whole
		})
		secret := fmt.Sprint("kv/", i)
		await(t, "a write", func() bool {
			a, err := other.call(t.Context(), "POST", secret, other.root, map[string]any{"b": "c"})
			return err == nil && a.code == 204
		})
		last.kill()
		last.config = base[last] + stanzas
		last.start()

		missing.config = base[missing] + stanzas
		missing.start()
		missing.migrate()
		c.await(3)
		await(t, "what it missed", func() bool { return missing.get(secret).text("data", "b") == "c" })
		await(t, "the end of its migration", func() bool {
			typ, migrating, whole := missing.sealedBy()
			return typ == "static" && !migrating && whole
		})
		missing.kill()
		missing.start()
		c.await(3)
		await(t, "the missing node, which opens by itself", func() bool { return missing.get(secret).text("data", "b") == "c" })
	}
}

// Two servers on a database migrate one after the other, and one that shares it with nobody
// does so as soon as it is opened.
func TestDatabaseSealMigration(t *testing.T) {
	t.Parallel()
	server := database.NewPostgres(t)
	p := newPair(t, postgresStanza(server.NewDatabase(), "  ha_enabled = \"true\"\n"))
	last, n := p.active()
	last.must("POST", "sys/mounts/kv", map[string]any{"type": "kv"})
	last.must("POST", "kv/a", map[string]any{"b": "c"})
	base := map[*node]string{n: n.config, last: last.config}
	n.kill()
	n.config = base[n] + staticSeal("one", "a1", false)
	n.start()
	n.migrate()
	if typ, migrating, _ := n.sealedBy(); typ != "shamir" || !migrating {
		t.Errorf("the standby of the new configuration: type %s, migrating %t", typ, migrating)
	}
	await(t, "a known standby", func() bool { return n.get("kv/a").text("data", "b") == "c" })
	last.must("PUT", "sys/step-down", nil)
	await(t, "the migration", func() bool {
		typ, migrating, whole := n.sealedBy()
		return typ == "static" && !migrating && whole
	})
	last.kill()
	last.config = base[last] + staticSeal("one", "a1", false)
	last.start()
	await(t, "the last node, which opens by itself", func() bool { return last.get("kv/a").text("data", "b") == "c" })

	alone := newNodeOf(t, t.TempDir(), "disable_mlock = true\n"+postgresStanza(server.NewDatabase(), "")+plainListener)
	alone.start()
	alone.initialise()
	config := alone.config
	for _, want := range []string{"static", "shamir"} {
		alone.kill()
		alone.config = config + staticSeal("one", "a1", want == "shamir")
		alone.start()
		alone.migrate()
		if typ, migrating, whole := alone.sealedBy(); typ != want || migrating || !whole {
			t.Errorf("alone: type %s, migrating %t, whole %t", typ, migrating, whole)
		}
	}
}
