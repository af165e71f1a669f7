package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"arca/internal/kes/config"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
)

const importUsage = `Usage:
    kes import --from FILE [OPTIONS] [PATTERN]

Takes a KES server over into arca: copies the keys of its key store, and the
policies, identities and the admin of its configuration file, into a mount of the
type kes. What the server's clients have encrypted opens there, and its clients are
known there. Keys that exist are kept.

Arca is named by VAULT_ADDR and VAULT_TOKEN (and VAULT_NAMESPACE, VAULT_CACERT, …).

Options:
        --from FILE          the KES server's configuration file
        --mount PATH         the mount (default kes)
        --keys-only          leave policies and identities
    -q, --quiet              print nothing
    -h, --help               print this text

Examples:
    arca secrets enable kes
    arca kes import --from /etc/kes/config.yml
`

func importFlags(f *flags) {
	f.takes("from")
	f.takes("mount")
	f.on("keys-only")
	f.on("quiet", "q")
}

func (c *call) importAll() error {
	if c.text("from") == "" {
		return errors.New("--from is missing: name the configuration file of the KES server")
	}
	cfg, err := config.Read(c.text("from"), c.lookup)
	if err != nil {
		return err
	}
	client, err := api.NewClient(nil)
	if err != nil {
		return fmt.Errorf("arca: %w", err)
	}
	if client.Token() == "" {
		return errors.New("arca's token is missing: set VAULT_TOKEN")
	}
	mount := strings.Trim(c.text("mount"), "/")
	if mount == "" {
		mount = "kes"
	}
	to := &importer{call: c, arca: client.Logical(), mount: mount}
	copied, kept, err := to.keys(cfg)
	if err != nil {
		return fmt.Errorf("%w (%d keys were copied)", err, copied)
	}
	if !c.is("quiet") {
		c.printf("Keys copied:      %d\nKeys kept:        %d\n", copied, kept)
	}
	if c.is("keys-only") {
		return nil
	}
	return to.access(cfg)
}

// An importer writes into a mount.
type importer struct {
	*call
	arca  *api.Logical
	mount string
}

// keys copies the keys of the store, page after page.
func (i *importer) keys(cfg *config.Config) (copied, kept int, err error) {
	from, err := cfg.KeyStore.Open(i.ctx, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = from.Close() }()
	prefix := ""
	if len(i.args) == 1 {
		prefix = strings.TrimSuffix(i.args[0], "*")
	}
	for at := ""; ; {
		names, next, err := from.List(i.ctx, prefix, at, 1000)
		if err != nil {
			return copied, kept, fmt.Errorf("list the keys: %w", err)
		}
		for _, name := range names {
			stored, err := from.Get(i.ctx, name)
			if err != nil {
				return copied, kept, fmt.Errorf("read the key %q: %w", name, err)
			}
			if _, err := key.Decode(stored); err != nil {
				return copied, kept, fmt.Errorf("read the key %q: %w", name, err)
			}
			_, err = i.arca.WriteWithContext(i.ctx, i.mount+"/keys/"+name+"/import", map[string]any{"stored": string(stored)})
			clear(stored)
			switch {
			case err == nil:
				copied++
			case alreadyExists(err):
				kept++
			default:
				return copied, kept, fmt.Errorf("write the key %q: %w", name, err)
			}
		}
		if next == "" {
			return copied, kept, nil
		}
		at = next
	}
}

func alreadyExists(err error) bool {
	var refused *api.ResponseError
	return errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest && slices.Contains(refused.Errors, "key already exists")
}

// access writes policies, identities and the admin.
func (i *importer) access(cfg *config.Config) error {
	set := cfg.Policies
	for _, name := range slices.Sorted(maps.Keys(set.Policies)) {
		p := set.Policies[name]
		if _, err := i.arca.WriteWithContext(i.ctx, i.mount+"/policies/"+name, map[string]any{"allow": p.Allow, "deny": p.Deny}); err != nil {
			return fmt.Errorf("write the policy %q: %w", name, err)
		}
	}
	written := 0
	for _, id := range slices.Sorted(maps.Keys(set.Identities)) {
		if !identity.Is(id) {
			i.warnf("%q is no identity, and is left out", id)
			continue
		}
		if _, err := i.arca.WriteWithContext(i.ctx, i.mount+"/identities/"+strings.ToLower(id), map[string]any{"policy": set.Identities[id]}); err != nil {
			return fmt.Errorf("write the identity %s: %w", id, err)
		}
		written++
	}
	if identity.Is(set.Admin) {
		if _, err := i.arca.WriteWithContext(i.ctx, i.mount+"/identities/"+strings.ToLower(set.Admin), map[string]any{"admin": true}); err != nil {
			return fmt.Errorf("write the admin %s: %w", set.Admin, err)
		}
		written++
	}
	if len(cfg.TLS.Proxies) > 0 {
		i.warnf("TLS proxies stand in arca's configuration: listener \"kes\" { tls_proxy_identities = [...] }")
	}
	if !i.is("quiet") {
		i.printf("Policies:         %d\nIdentities:       %d\n", len(set.Policies), written)
	}
	return nil
}
