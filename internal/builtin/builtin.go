// Package builtin is the list of the parts: which engines this program has.
package builtin

import (
	"maps"
	"slices"

	"arca/internal/auth/approle"
	"arca/internal/auth/cert"
	"arca/internal/auth/jwt"
	"arca/internal/auth/kubernetes"
	"arca/internal/auth/ldap"
	"arca/internal/auth/userpass"
	"arca/internal/core"
	"arca/internal/directory"
	"arca/internal/engine"
	"arca/internal/secrets/kes"
	"arca/internal/secrets/kmip"
	"arca/internal/secrets/kv"
	"arca/internal/secrets/transit"
	"arca/internal/sys"
)

// part is an engine with its compiled routes; Variants by name.
type part struct {
	engine   engine.Engine
	routes   *engine.Table
	variants map[string]part
}

func newPart(e engine.Engine) part {
	p := part{engine: e, routes: engine.NewTable(e.Routes())}
	if v, ok := e.(engine.Varier); ok {
		p.variants = map[string]part{}
		for name, variant := range v.Variants() {
			p.variants[name] = newPart(variant)
		}
	}
	return p
}

// A Catalog is the list of engines, compiled. It is immutable.
type Catalog struct {
	secrets, auth map[string]part
	system        part
	sys           *sys.Engine
}

// New makes the list for a core.
func New(c *core.Core) *Catalog {
	system := sys.New(c)
	k := &Catalog{secrets: map[string]part{}, auth: map[string]part{}, sys: system}
	for _, e := range append([]engine.Engine{system, sys.Cubbyhole{}, directory.New()}, secrets()...) {
		k.secrets[e.Type()] = newPart(e)
	}
	for _, e := range append([]engine.Engine{sys.NewTokens(c)}, auths()...) {
		k.auth[e.Type()] = newPart(e)
	}
	k.system = k.secrets[system.Type()]
	return k
}

// Bind finishes the wiring, once the core is made.
func (k *Catalog) Bind(c *core.Core) { k.sys.Bind(c.SealManager()) }

// Find implements mount.Catalog.
func (k *Catalog) Find(auth bool, typ string, options map[string]string) (engine.Engine, *engine.Table, bool) {
	parts := k.secrets
	if auth {
		parts = k.auth
	}
	p, ok := parts[typ]
	if !ok {
		return nil, nil, false
	}
	if v, varies := p.engine.(engine.Varier); varies {
		if p, ok = p.variants[v.Variant(options)]; !ok {
			return nil, nil, false
		}
	}
	return p.engine, p.routes, true
}

// System implements core.Catalog.
func (k *Catalog) System() *engine.Table { return k.system.routes }

// Names implements core.Catalog.
func (k *Catalog) Names(auth bool) []string {
	parts := k.secrets
	if auth {
		parts = k.auth
	}
	var out []string
	for name, p := range parts {
		if _, hall := p.engine.(engine.Hall); !hall {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Parts calls fn for every engine.
func (k *Catalog) Parts(fn func(auth bool, e engine.Engine, routes *engine.Table)) {
	for _, auth := range []bool{false, true} {
		parts := k.secrets
		if auth {
			parts = k.auth
		}
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			fn(auth, parts[name].engine, parts[name].routes)
		}
	}
}

// secrets lists the secrets engines.
func secrets() []engine.Engine {
	return []engine.Engine{kes.New(), kmip.New(), kv.Engine{}, transit.New()}
}

// auths lists the auth methods.
func auths() []engine.Engine {
	return []engine.Engine{approle.New(), cert.New(), jwt.New("jwt"), jwt.New("oidc"), kubernetes.New(), ldap.New(), userpass.New()}
}
