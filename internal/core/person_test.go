package core_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"arca/internal/arcatest"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// people is a server with the namespaces ns1, ns1/sub and ns2, and ann, who logs
// in by userpass in the root namespace.
type people struct {
	*arcatest.Server
	t      *testing.T
	ann    string // token
	entity string
}

func newPeople(t *testing.T) *people {
	t.Helper()
	p := &people{Server: arcatest.New(t, arcatest.Config{}), t: t}
	for _, path := range []string{"sys/namespaces/ns1", "sys/namespaces/ns2", "ns1/sys/namespaces/sub"} {
		p.Must("POST", path, p.Root, nil)
	}
	for _, n := range []string{"ns1/", "ns1/sub/", "ns2/"} {
		p.Must("POST", n+"sys/mounts/kv", p.Root, map[string]any{"type": "kv"})
		p.Must("POST", n+"kv/a", p.Root, map[string]any{"k": "v"})
		p.policy(n+"sys/policies/acl/reader", "kv/*", "read")
	}
	p.Must("POST", "sys/auth/userpass", p.Root, map[string]any{"type": "userpass"})
	p.Must("POST", "auth/userpass/users/ann", p.Root, map[string]any{"password": "correct"})
	p.login()
	return p
}

func (p *people) policy(at, path string, caps ...string) {
	p.t.Helper()
	p.Must("POST", at, p.Root, map[string]any{"policy": fmt.Sprintf("path %q { capabilities = [%s] }", path, quoted(caps))})
}

func quoted(list []string) (out string) {
	for i, s := range list {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", s)
	}
	return out
}

func (p *people) login() {
	p.t.Helper()
	out := p.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	p.ann, _ = arcatest.Dig(out, "auth", "client_token").(string)
	p.entity, _ = arcatest.Dig(out, "auth", "entity_id").(string)
}

func (p *people) status(want int, path, token string) {
	p.t.Helper()
	if code, out := p.Do("GET", path, token, nil); code != want {
		p.t.Errorf("GET %s: status %d: %v, want %d", path, code, out, want)
	}
}

// Policies of groups hold in the groups' namespaces, for members of those above
// and below; everywhere when the administrator says so.
func TestGroupsOfOtherNamespaces(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.status(403, "ns1/kv/a", p.ann)
	for _, n := range []string{"ns1/", "ns1/sub/", "ns2/"} {
		p.Must("POST", n+"identity/group/name/readers", p.Root, map[string]any{"policies": "reader", "member_entity_ids": p.entity})
		p.status(200, n+"kv/a", p.ann)
	}
	out := p.Must("GET", "auth/token/lookup-self", p.ann, nil)
	if got, _ := arcatest.Dig(out, "data", "external_namespace_policies").(map[string]any); len(got) != 3 {
		t.Errorf("external policies %v", got)
	}
	p.status(403, "ns1/sys/mounts", p.ann)

	// One who belongs to ns1 is in a group of ns2, which is neither above nor below.
	p.Must("POST", "ns1/sys/auth/userpass", p.Root, map[string]any{"type": "userpass"})
	p.Must("POST", "ns1/auth/userpass/users/bob", p.Root, map[string]any{"password": "correct"})
	out = p.Must("POST", "ns1/auth/userpass/login/bob", "", map[string]any{"password": "correct"})
	bob, _ := arcatest.Dig(out, "auth", "client_token").(string)
	p.Must("POST", "ns2/identity/group/name/readers", p.Root, map[string]any{"member_entity_ids": arcatest.Dig(out, "auth", "entity_id")})
	p.status(403, "ns2/kv/a", bob)
	p.status(403, "ns1/kv/a", bob)
	if code, _ := p.Do("POST", "sys/config/group-policy-application", p.Root, map[string]any{"group_policy_application_mode": "all"}); code != 400 {
		t.Errorf("a mode that there is not: status %d", code)
	}
	p.Must("POST", "sys/config/group-policy-application", p.Root, map[string]any{"group_policy_application_mode": "any"})
	p.status(200, "ns2/kv/a", bob)
	p.status(403, "ns2/sys/mounts", bob)
	p.status(403, "sys/mounts", bob)
	// Help tells what is there: abroad only where a policy grants something.
	p.status(200, "ns2/kv/a?help=1", bob)
	p.status(200, "ns1/kv/a?help=1", bob)
	for _, path := range []string{"ns2/sys/mounts?help=1", "ns2/nothing/a?help=1", "sys/mounts?help=1"} {
		p.status(403, path, bob)
	}
	p.Must("POST", "sys/namespaces/api-lock/lock/ns1", p.Root, nil)
	p.status(403, "ns2/kv/a?help=1", bob)
	p.status(403, "ns2/kv/a", bob)
	p.status(503, "ns1/kv/a?help=1", bob)
	p.Must("POST", "sys/namespaces/api-lock/unlock/ns1", p.Root, nil)
	p.status(200, "ns2/kv/a", bob)
	out = p.Must("GET", "sys/config/group-policy-application", p.Root, nil)
	if got := arcatest.Dig(out, "data", "group_policy_application_mode"); got != "any" {
		t.Errorf("mode %v", got)
	}
	p.Must("POST", "sys/config/group-policy-application", p.Root, map[string]any{"group_policy_application_mode": "within_namespace_hierarchy"})
	p.status(403, "ns2/kv/a", bob)

	// A group of a namespace that is gone does no harm.
	p.Must("DELETE", "sys/namespaces/ns2", p.Root, nil)
	p.status(200, "ns1/kv/a", p.ann)
	p.login()
	p.status(200, "ns1/sub/kv/a", p.ann)
}

// A token made in a namespace below belongs to whom its parent belongs to: their
// policies hold for it, and it ends with them.
func TestTokenBelowKeepsEntity(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.policy("sys/policies/acl/maker", "ns1/auth/token/create", "update", "sudo")
	p.policy("sys/policies/acl/own", "ns1/kv/a", "read")
	p.Must("POST", "identity/entity/id/"+p.entity, p.Root, map[string]any{"policies": []string{"maker", "own"}})
	out := p.Must("POST", "ns1/auth/token/create", p.ann, map[string]any{})
	child, _ := arcatest.Dig(out, "auth", "client_token").(string)
	if got := arcatest.Dig(out, "auth", "entity_id"); got != p.entity {
		t.Errorf("entity %v, want %s", got, p.entity)
	}
	p.status(200, "ns1/kv/a", child)
	p.status(403, "kv/a", child)
	p.Must("POST", "identity/entity/id/"+p.entity, p.Root, map[string]any{"disabled": true})
	p.status(403, "ns1/kv/a", child)
	p.status(403, "ns1/auth/token/lookup-self", child)
}

// A name that an earlier version stored is in lower case soon after a node of this
// one has become active: a login that gives it otherwise is of the same entity.
func TestNamesOfEarlierVersions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap()})
		s.Must("POST", "sys/auth/userpass", s.Root, object{"type": "userpass"})
		s.Must("POST", "auth/userpass/users/ann", s.Root, object{"password": "correct"})
		login := func() any {
			return arcatest.Dig(s.Must("POST", "auth/userpass/login/ann", "", object{"password": "correct"}), "auth", "entity_id")
		}
		was := login()
		const index, mark = "n/root/i/ef/", "n/root/i/lower"
		err := s.Core.Active().DB.Update(context.Background(), func(tx storage.Tx) error {
			if _, err := tx.Get(mark); err != nil {
				return fmt.Errorf("a new store is not marked: %w", err)
			}
			for e, err := range tx.Scan(index, "") {
				if err != nil {
					return err
				}
				if err := tx.Put(strings.TrimSuffix(e.Key, "ann")+"Ann", e.Value); err != nil {
					return err
				}
				if err := tx.Delete(e.Key); err != nil {
					return err
				}
			}
			return tx.Delete(mark)
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Restart()
		synctest.Wait()
		expect(t, "the entity", login(), was)
	})
}
