package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"arca/internal/kes/config"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
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
	copied, kept, incomplete := to.keys(cfg)
	if incomplete != nil && !errors.Is(incomplete, errNoKeys) {
		return fmt.Errorf("%w (%d keys were copied)", incomplete, copied)
	}
	if !c.is("quiet") {
		c.printf("Keys copied:      %d\nKeys kept:        %d\n", copied, kept)
	}
	if !c.is("keys-only") {
		if err := to.access(cfg); err != nil {
			return err
		}
	}
	if incomplete != nil {
		return fmt.Errorf("%w (%d keys were copied)", incomplete, copied)
	}
	return nil
}

// An importer writes into a mount.
type importer struct {
	*call
	arca  *api.Logical
	mount string
}

// importers is how many keys are copied at a time: a store far away answers slowly,
// and arca writes what comes together at once.
const importers = 16

// A tally is what has become of the keys so far.
type tally struct {
	mu                   sync.Mutex
	copied, kept, broken int   // guarded by mu
	err                  error // guarded by mu: the first that ended it
}

// keys copies the keys of the store, page after page. The KES server may go on
// meanwhile: what is deleted there is left out, and what is no key is told.
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
	ctx, cancel := context.WithCancel(i.ctx)
	defer cancel()
	t := &tally{}
	for at := ""; ; {
		names, next, err := from.List(ctx, prefix, at, storePage)
		if err != nil {
			return t.copied, t.kept, fmt.Errorf("list the keys: %w", err)
		}
		work := make(chan string)
		var workers sync.WaitGroup
		for range importers {
			workers.Go(func() {
				for name := range work {
					if i.key(ctx, from, name, t) != nil {
						cancel()
					}
				}
			})
		}
		for _, name := range names {
			work <- name
		}
		close(work)
		workers.Wait()
		if t.err != nil {
			return t.copied, t.kept, t.err
		}
		if next == "" {
			break
		}
		at = next
	}
	if t.broken > 0 {
		err = fmt.Errorf("%d %w", t.broken, errNoKeys)
	}
	return t.copied, t.kept, err
}

// key copies one key, unless another has failed before.
func (i *importer) key(ctx context.Context, from store.Store, name string, t *tally) error {
	if ctx.Err() != nil {
		return nil
	}
	exists, err := i.copyKey(ctx, from, name)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, errNoKey):
		t.broken++
		i.warnf("%q: %v", name, err)
		return nil
	case errors.Is(err, store.ErrNotFound):
		return nil // it was deleted meanwhile
	case err != nil:
		if t.err == nil {
			t.err = err
		}
		return err
	case exists:
		t.kept++
	default:
		t.copied++
	}
	return nil
}

// errNoKey says that an entry of the store is no key.
var errNoKey = errors.New("the entry is no key, and is left out")

// errNoKeys says that some were not, and all others were copied.
var errNoKeys = errors.New("entries of the key store are no keys")

func (i *importer) copyKey(ctx context.Context, from store.Store, name string) (exists bool, err error) {
	stored, err := from.Get(ctx, name)
	if err != nil {
		return false, fmt.Errorf("read the key %q: %w", name, err)
	}
	defer clear(stored)
	if _, err := key.Decode(stored); err != nil {
		return false, fmt.Errorf("%w: %w", errNoKey, err)
	}
	_, err = i.arca.WriteWithContext(ctx, i.mount+"/keys/"+name+"/import", map[string]any{"stored": string(stored)})
	switch {
	case err == nil:
		return false, nil
	case alreadyExists(err):
		return true, nil
	}
	return false, fmt.Errorf("write the key %q: %w", name, err)
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
