package archtest

import (
	"slices"
	"strings"
	"testing"
)

// A layer is a group of packages with the same rights. A name that ends with
// "/..." covers everything below it.
type layer struct {
	name     string
	packages []string
	// may lists the layers that it may import, besides those that are named in
	// "ground", which all may import.
	may []string
	// among says that its packages may import one another.
	among bool
}

// layers is the house from the ground up. A new package is entered here first:
// where it stands is a decision, not an accident.
func layers() []layer {
	return []layer{
		{name: "ground", packages: []string{"errs", "param", "version", "logging", "memory", "mlock", "telemetry", "chain", "tracing", "keywrap", "pkcs12", "ttlv", "bounded", "socket"}, among: true},
		{name: "clouds", packages: []string{"aws", "aws/...", "consul"}, among: true},
		{name: "storage", packages: []string{"storage", "storage/..."}, among: true, may: []string{"clouds"}},
		{name: "barrier", packages: []string{"barrier"}, may: []string{"storage"}},
		{name: "seal", packages: []string{"seal", "seal/...", "cluster", "cluster/..."}, may: []string{"storage", "barrier"}, among: true},
		{name: "contract", packages: []string{"engine"}, may: []string{"storage"}},
		{
			name: "desks", packages: []string{"namespace", "mount", "policy", "token", "lease", "audit", "audit/...", "identity", "mfa", "quota", "activity", "managed"},
			may: []string{"storage", "barrier", "contract"}, among: true,
		},
		{name: "hall", packages: []string{"core"}, may: []string{"storage", "barrier", "seal", "contract", "desks"}},
		{name: "rooms", packages: []string{"secrets/...", "auth/..."}, may: []string{"storage", "contract", "tools", "kes parts"}},
		{name: "tools", packages: []string{"keyring", "certs", "grant", "redirect"}, may: []string{"storage", "contract"}, among: true},
		{name: "hall's room", packages: []string{"sys", "directory", "issuer"}, among: true, may: []string{"storage", "barrier", "seal", "contract", "desks", "hall", "tools"}},
		{name: "builtin", packages: []string{"builtin"}, may: []string{"contract", "hall", "rooms", "hall's room"}},
		{name: "wire", packages: []string{"wire"}},
		// What KES is apart from HTTP: keys, identities, policies, key stores. The
		// stand-alone server and arca's own door stand on it.
		{name: "kes parts", packages: []string{"kes/key", "kes/identity", "kes/policy", "kes/store", "kes/store/...", "kes/cache"}, among: true, may: []string{"clouds"}},
		{name: "doors", packages: []string{"api", "kes", "kmip", "ui"}, may: []string{"contract", "wire", "kes parts"}},
		{name: "config", packages: []string{"config", "config/..."}, among: true},
		{name: "listener", packages: []string{"listener", "listener/..."}, may: []string{"config", "wire"}, among: true},
		{
			name: "server", packages: []string{"server", "server/..."}, among: true,
			may: []string{"storage", "barrier", "seal", "contract", "desks", "hall", "builtin", "hall's room", "doors", "config", "listener", "kes parts", "wire", "clouds"},
		},
		// The stand-alone KES server is a program of its own beside the Vault server:
		// it has a door and key stores, and nothing of the hall.
		{name: "kes server", packages: []string{"kes/config", "kes/server"}, among: true, may: []string{"doors", "wire", "kes parts"}},
		{name: "kes client", packages: []string{"kes/cli"}, may: []string{"kes server", "kes parts"}},
		{name: "client", packages: []string{"cli", "cli/...", "agent", "proxy"}, among: true},
		{name: "program", packages: []string{"cmd/arca"}, may: []string{"server", "client", "kes client"}},
		{name: "tests", packages: []string{"archtest", "arcatest", "arcatest/...", "test"}, may: []string{"*"}, among: true},
	}
}

// exceptions are imports that a layer as a whole may not have, each with its
// reason.
func exceptions() map[string]string {
	return map[string]string{
		"api -> namespace": "the canonical form of a namespace's name is needed before the hall is reached",
	}
}

func layerOf(all []layer, pkg string) *layer {
	for i, l := range all {
		for _, p := range l.packages {
			if below, ok := strings.CutSuffix(p, "/..."); ok && strings.HasPrefix(pkg, below+"/") || p == pkg {
				return &all[i]
			}
		}
	}
	return nil
}

// TestImports checks that imports go down only.
func TestImports(t *testing.T) {
	t.Parallel()
	all, except := layers(), exceptions()
	used := map[string]bool{}
	for _, p := range load(t) {
		from := layerOf(all, p.path)
		if from == nil {
			t.Errorf("package %s stands in no layer: enter it in internal/archtest/layers_test.go and docs/ARCHITECTURE.md", p.path)
			continue
		}
		for imp, file := range p.imports(false) {
			path, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			path = strings.TrimPrefix(path, "internal/")
			to := layerOf(all, path)
			if to == nil || to.name == "ground" {
				continue // an unknown package is reported as itself
			}
			rule := p.path + " -> " + path
			if except[rule] != "" {
				used[rule] = true
				continue
			}
			if !from.allows(to) {
				t.Errorf("%s: %s (%s) must not import %s (%s)", file, p.path, from.name, path, to.name)
			}
		}
	}
	for rule := range except {
		if !used[rule] {
			t.Errorf("the exception %q is no longer needed: remove it", rule)
		}
	}
}

func (l *layer) allows(to *layer) bool {
	if to.name == "tests" {
		return l.name == "tests"
	}
	return l.name == to.name && l.among || slices.Contains(l.may, to.name) || slices.Contains(l.may, "*")
}

// TestLayersAreAcyclic checks the table itself: a layer may only name such as
// may not, directly or by others, name it.
func TestLayersAreAcyclic(t *testing.T) {
	t.Parallel()
	may := map[string][]string{}
	for _, l := range layers() {
		may[l.name] = l.may
	}
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		if slices.Contains(path, name) {
			t.Fatalf("layers in a circle: %s", strings.Join(append(path, name), " -> "))
		}
		for _, next := range may[name] {
			if next == "*" {
				continue
			}
			if _, ok := may[next]; !ok {
				t.Fatalf("layer %q names an unknown layer %q", name, next)
			}
			visit(next, append(slices.Clone(path), name))
		}
	}
	for name := range may {
		visit(name, nil)
	}
}

// TestHTTPStaysOutside checks that only what talks HTTP knows of HTTP: kinds of
// errors turn into status codes at the door.
func TestHTTPStaysOutside(t *testing.T) {
	t.Parallel()
	all := layers()
	inside := []string{"storage", "barrier", "seal", "contract", "desks", "hall"}
	for _, p := range load(t) {
		l := layerOf(all, p.path)
		if l == nil || !slices.Contains(inside, l.name) || p.path == "audit" || p.path == "storage/etcd" {
			continue // audit has a device that sends by HTTP; etcd is asked by HTTP
		}
		if file, ok := p.imports(false)["net/http"]; ok {
			t.Errorf("%s: %s (%s) must not import net/http", file, p.path, l.name)
		}
	}
}
