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
known there. Keys that exist are kept, and those that were deleted in arca are not
brought back; nor are policies and identities that were changed or deleted there. It
tells of all that it leaves out, and ends with an error where clients would miss it:
a key that is another in arca, and an entry that is no key or has no key's name.

Arca is named by VAULT_ADDR and VAULT_TOKEN (and VAULT_NAMESPACE, VAULT_CACERT, …).

Options:
        --from FILE          the KES server's configuration file
        --mount PATH         the mount (default kes)
        --keys-only          leave policies and identities
        --overwrite          write policies and identities as they are in FILE, and
                             bring keys back, whatever was changed and deleted in
                             arca; a key that is another there is never overwritten
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
	t, err := to.keys(cfg)
	if err != nil {
		return fmt.Errorf("%w (%d keys were copied)", err, t.copied)
	}
	if !c.is("quiet") {
		c.printf("Keys copied:      %d\nKeys kept:        %d\n", t.copied, t.kept)
		if t.deleted > 0 {
			c.printf("Keys left out:    %d, which were deleted in arca\n", t.deleted)
		}
	}
	misnamed := 0
	if !c.is("keys-only") {
		if misnamed, err = to.access(cfg); err != nil {
			return err
		}
	}
	return incomplete(t.copied, []shortfall{
		{t.others, "another key in arca than in the key store: what the KES server's clients have encrypted with it does not open there"},
		{t.misnamed, "an entry of the key store with a name that is no key's"},
		{misnamed, "a policy with a name that arca does not take"},
		{t.broken, "an entry of the key store that is no key"},
		{t.refused, "a key that arca refuses"},
	})
}

// A shortfall is what was left out, though somebody may miss it.
type shortfall struct {
	n    int
	what string
}

// incomplete is the error of a copy that has left something out; the warnings have told
// what. It is nil when nothing was.
func incomplete(copied int, all []shortfall) error {
	var texts []string
	for _, s := range all {
		if s.n > 0 {
			texts = append(texts, fmt.Sprintf("%d × %s", s.n, s.what))
		}
	}
	if texts == nil {
		return nil
	}
	return fmt.Errorf("not all was copied: %s (%d keys were copied)", strings.Join(texts, "; "), copied)
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
	mu                                         sync.Mutex
	copied, kept                               int   // guarded by mu
	deleted, others, misnamed, broken, refused int   // guarded by mu
	err                                        error // guarded by mu: the first that ended it
}

// keys copies the keys of the store, page after page. The KES server may go on
// meanwhile: what is deleted there is left out. So is what cannot be copied, one by one.
func (i *importer) keys(cfg *config.Config) (*tally, error) {
	t := &tally{}
	from, err := cfg.KeyStore.OpenReadOnly(i.ctx, nil)
	if err != nil {
		return t, err
	}
	defer func() { _ = from.Close() }()
	prefix := ""
	if len(i.args) == 1 {
		prefix = strings.TrimSuffix(i.args[0], "*")
	}
	ctx, cancel := context.WithCancel(i.ctx)
	defer cancel()
	for at := ""; ; {
		names, next, err := from.List(ctx, prefix, at, storePage)
		if err != nil {
			return t, fmt.Errorf("list the keys: %w", err)
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
			return t, t.err
		}
		if next == "" {
			return t, nil
		}
		at = next
	}
}

// key copies one key, unless another has failed before.
func (i *importer) key(ctx context.Context, from store.Store, name string, t *tally) error {
	if ctx.Err() != nil {
		return nil
	}
	err := i.copyKey(ctx, from, name)
	t.mu.Lock()
	defer t.mu.Unlock()
	var left *leftError
	switch {
	case err == nil:
		t.copied++
	case errors.Is(err, errKept):
		t.kept++
	case errors.Is(err, store.ErrNotFound): // it was deleted meanwhile
	case errors.As(err, &left):
		*left.in(t)++
		i.warnf("%q: %v", name, err)
	default:
		if t.err == nil {
			t.err = err
		}
		return err
	}
	return nil
}

// errKept says that arca has that very key.
var errKept = errors.New("the key exists")

// A leftError says why a key is left out, and where that is counted.
type leftError struct {
	text string
	in   func(*tally) *int
}

func (e *leftError) Error() string { return e.text }

func (i *importer) copyKey(ctx context.Context, from store.Store, name string) error {
	if err := key.CheckKnown(name); err != nil { // before it is part of a path
		return &leftError{err.Error() + "; it is left out", func(t *tally) *int { return &t.misnamed }}
	}
	stored, err := from.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read the key %q: %w", name, err)
	}
	defer clear(stored)
	if _, err := key.Decode(stored); err != nil {
		return &leftError{"the entry is no key, and is left out: " + err.Error(), func(t *tally) *int { return &t.broken }}
	}
	out, err := i.arca.WriteWithContext(ctx, i.mount+"/keys/"+name+"/import", map[string]any{
		"stored": string(stored), "imported": true, "overwrite": i.is("overwrite"),
	})
	if err == nil {
		if out != nil && out.Data["kept"] == true {
			return errKept
		}
		return nil
	}
	if says, yes := refusal(err); yes {
		left := &leftError{says, func(t *tally) *int { return &t.refused }}
		switch {
		case strings.HasSuffix(says, "and stays so"):
			left.text, left.in = says+"; --overwrite brings it back", func(t *tally) *int { return &t.deleted }
		case strings.HasSuffix(says, "and is kept"), says == store.ErrExists.Error():
			left.in = func(t *tally) *int { return &t.others }
		}
		return left
	}
	return fmt.Errorf("write the key %q: %w", name, err)
}

// refusal returns why arca does not take what it was sent.
func refusal(err error) (says string, yes bool) {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || len(refused.Errors) != 1 {
		return "", false
	}
	switch refused.StatusCode {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return refused.Errors[0], true
	}
	return "", false
}

// access writes policies, identities and the admin. What was changed or deleted in
// arca stays so, unless it is to be overwritten. It returns how many policies have names
// that arca does not take.
func (i *importer) access(cfg *config.Config) (misnamed int, err error) {
	set := cfg.Policies
	var policies, identities, kept int
	for _, name := range slices.Sorted(maps.Keys(set.Policies)) {
		if err := key.CheckKnown(name); err != nil {
			i.warnf("policy %q: %v; it is left out", name, err)
			misnamed++
			continue
		}
		p := set.Policies[name]
		written, err := i.row("policies/"+name, map[string]any{"allow": p.Allow, "deny": p.Deny})
		if err != nil {
			return misnamed, fmt.Errorf("write the policy %q: %w", name, err)
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
			return misnamed, fmt.Errorf("write the identity %s: %w", id, err)
		}
		count(written, &identities, &kept)
	}
	if identity.Is(set.Admin) {
		written, err := i.row("identities/"+strings.ToLower(set.Admin), map[string]any{"admin": true})
		if err != nil {
			return misnamed, fmt.Errorf("write the admin %s: %w", set.Admin, err)
		}
		count(written, &identities, &kept)
	}
	if len(cfg.API) > 0 {
		i.warnf("the settings of api stand in arca's configuration: listener \"kes\" { api \"/v1/ready\" { skip_auth = true } }")
	}
	if len(cfg.TLS.Proxies) > 0 {
		i.warnf("TLS proxies stand in arca's configuration: listener \"kes\" { tls_proxy_identities = [...] }")
	}
	if i.is("quiet") {
		return misnamed, nil
	}
	i.printf("Policies:         %d\nIdentities:       %d\n", policies, identities)
	if kept > 0 {
		i.printf("Left unchanged:   %d\n", kept)
	}
	return misnamed, nil
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
	says, refused := refusal(err)
	switch {
	case !refused:
		return err == nil, err
	case strings.HasSuffix(says, "and is kept"), strings.HasSuffix(says, "and stays so"), strings.HasPrefix(says, "there is no policy"):
		i.warnf("%s/%s: %s; --overwrite writes it as it is in the file", i.mount, at, says)
		return false, nil
	}
	return false, err
}
