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
known there. Keys that exist are kept; so are policies and identities that were
changed or deleted in arca, of which it tells.

Arca is named by VAULT_ADDR and VAULT_TOKEN (and VAULT_NAMESPACE, VAULT_CACERT, …).

Options:
        --from FILE          the KES server's configuration file
        --mount PATH         the mount (default kes)
        --keys-only          leave policies and identities
        --overwrite          write policies and identities as they are in FILE,
                             whatever was changed in arca
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
	f.on("overwrite")
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

// access writes policies, identities and the admin. What was changed or deleted in
// arca stays so, unless it is to be overwritten.
func (i *importer) access(cfg *config.Config) error {
	set := cfg.Policies
	var policies, identities, kept int
	for _, name := range slices.Sorted(maps.Keys(set.Policies)) {
		p := set.Policies[name]
		written, err := i.row("policies/"+name, map[string]any{"allow": p.Allow, "deny": p.Deny})
		if err != nil {
			return fmt.Errorf("write the policy %q: %w", name, err)
		}
		count(written, &policies, &kept)
	}
	for _, id := range slices.Sorted(maps.Keys(set.Identities)) {
		if !identity.Is(id) {
			i.warnf("%q is no identity, and is left out", id)
			continue
		}
		written, err := i.row("identities/"+strings.ToLower(id), map[string]any{"policy": set.Identities[id]})
		if err != nil {
			return fmt.Errorf("write the identity %s: %w", id, err)
		}
		count(written, &identities, &kept)
	}
	if identity.Is(set.Admin) {
		written, err := i.row("identities/"+strings.ToLower(set.Admin), map[string]any{"admin": true})
		if err != nil {
			return fmt.Errorf("write the admin %s: %w", set.Admin, err)
		}
		count(written, &identities, &kept)
	}
	if len(cfg.TLS.Proxies) > 0 {
		i.warnf("TLS proxies stand in arca's configuration: listener \"kes\" { tls_proxy_identities = [...] }")
	}
	if i.is("quiet") {
		return nil
	}
	i.printf("Policies:         %d\nIdentities:       %d\n", policies, identities)
	if kept > 0 {
		i.printf("Left unchanged:   %d\n", kept)
	}
	return nil
}

func count(written bool, all, kept *int) {
	if written {
		*all++
	} else {
		*kept++
	}
}

// row writes a policy or an identity, and reports whether arca has it now as it is in
// the file. It tells of what is left as an operator has made it.
func (i *importer) row(at string, fields map[string]any) (written bool, err error) {
	fields["imported"], fields["overwrite"] = true, i.is("overwrite")
	_, err = i.arca.WriteWithContext(i.ctx, i.mount+"/"+at, fields)
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest || len(refused.Errors) != 1 {
		return err == nil, err
	}
	switch says := refused.Errors[0]; {
	case strings.HasSuffix(says, "and is kept"), strings.HasSuffix(says, "and stays so"), strings.HasPrefix(says, "there is no policy"):
		i.warnf("%s/%s: %s; --overwrite writes it as it is in the file", i.mount, at, says)
		return false, nil
	}
	return false, err
}
