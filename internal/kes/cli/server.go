package cli

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"arca/internal/kes/config"
	"arca/internal/kes/key"
	"arca/internal/kes/server"
	"arca/internal/kes/store"
)

const serverUsage = `Usage:
    kes server [OPTIONS]

Starts a KES server.

Options:
        --addr IP:PORT       the address, instead of the file's (default 0.0.0.0:7373)
        --config FILE        the configuration file
        --dev                a development server: keys in memory, and an API key that
                             may do everything
        --auth on|off        whether clients' certificates are verified, instead of tls.auth
        --mlock              keep the memory from being written to swap
    -h, --help               print this text

A hang-up signal (SIGHUP) makes the server read the file again.
`

func (c *call) server() error {
	for _, old := range []string{"auth", "key", "cert"} {
		if c.is(old) {
			c.warnf("the flag --%s is deprecated: set tls.%s in the configuration file", old, old)
		}
	}
	auth := strings.ToLower(c.text("auth"))
	if c.is("auth") && auth != "on" && auth != "off" {
		return fmt.Errorf("--auth: %q is neither on nor off", auth)
	}
	switch {
	case c.is("dev") && c.is("config"):
		return errors.New("--dev and --config exclude one another")
	case !c.is("dev") && c.text("config") == "":
		return errors.New("--config is missing: name the configuration file, or try --dev")
	}
	return server.Run(c.ctx, server.Options{
		Address: c.text("addr"), Config: c.text("config"), Dev: c.is("dev"), Auth: auth, Mlock: c.is("mlock"),
	}, server.Env{Out: c.Out, Err: c.Err, Lookup: c.lookup})
}

func (a *app) lookup(name string) (string, bool) {
	v, ok := a.env[name]
	return v, ok
}

const migrateUsage = `Usage:
    kes migrate --from FILE --to FILE [OPTIONS] [PATTERN]

Copies keys from the key store of one configuration file to that of another, byte
for byte. What has no name of a key is told of and left out, and ends it with an
error.

Options:
        --from FILE          configuration of the key store to copy from
        --to FILE            configuration of the key store to copy to
    -f, --force              overwrite keys that exist
        --merge              keep keys that exist; one that is another there is told, and the exit code is 1
    -q, --quiet              print nothing
    -h, --help               print this text
`

func (c *call) migrate() error {
	if c.is("server") || c.is("api-key") || c.is("enclave") {
		return errors.New("migration to another KMS (-s, -e, -a) is not supported: use --to with a key store's configuration")
	}
	if c.is("force") && c.is("merge") {
		return errors.New("--force and --merge exclude one another")
	}
	if c.text("from") == "" || c.text("to") == "" {
		return errors.New("--from and --to are needed: the configuration files of the two key stores")
	}
	from, to, err := c.openStores()
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	defer func() { _ = to.Close() }()
	prefix := ""
	if len(c.args) == 1 {
		prefix = strings.TrimSuffix(c.args[0], "*")
	}
	done, err := c.copyAll(c.ctx, from, to, prefix)
	if err != nil {
		return fmt.Errorf("%w (%d keys were copied)", err, done.copied)
	}
	if !c.is("quiet") {
		c.printf("Keys copied: %d\n", done.copied)
		if done.same > 0 {
			c.printf("Keys that were the same: %d\n", done.same)
		}
		if done.kept > 0 {
			c.printf("Keys kept: %d\n", done.kept)
		}
	}
	return incomplete(done.copied, []shortfall{
		{done.misnamed, "an entry of the key store with a name that is no key's"},
		{done.others, "a key that is another there"},
	})
}

// openStores opens the two stores of a copy. They are not one: keys that were replaced
// there would be deleted first.
func (c *call) openStores() (from, to store.Store, err error) {
	source, err := config.Read(c.text("from"), c.lookup)
	if err != nil {
		return nil, nil, err
	}
	target, err := config.Read(c.text("to"), c.lookup)
	if err != nil {
		return nil, nil, err
	}
	if source.KeyStore.IsSame(&target.KeyStore) {
		return nil, nil, errors.New("--from and --to name the same key store: nothing is to be copied")
	}
	if from, err = source.KeyStore.OpenReadOnly(c.ctx, nil); err != nil {
		return nil, nil, err
	}
	if to, err = target.KeyStore.Open(c.ctx, nil); err != nil {
		_ = from.Close() // nothing was written
		return nil, nil, err
	}
	return from, to, nil
}

// storePage is how many names of a key store are listed at a time: to most stores,
// each page is a look at all names.
const storePage = 100_000

// counts are what became of the keys that were to be copied.
type counts struct{ copied, kept, same, misnamed, others int }

// copyAll copies page after page.
func (c *call) copyAll(ctx context.Context, from, to store.Store, prefix string) (n counts, err error) {
	for at := ""; ; {
		names, next, err := from.List(ctx, prefix, at, storePage)
		if err != nil {
			return n, fmt.Errorf("list the keys: %w", err)
		}
		for _, name := range names {
			if err := key.CheckKnown(name); err != nil { // a store may tell any
				c.warnf("%q: %v; it is left out", name, err)
				n.misnamed++
				continue
			}
			if err := c.copyOne(ctx, from, to, name, &n); err != nil {
				return n, err
			}
		}
		if next == "" {
			return n, nil
		}
		at = next
	}
}

// copyOne copies a key. One that was deleted meanwhile is none.
func (c *call) copyOne(ctx context.Context, from, to store.Store, name string, n *counts) error {
	value, err := from.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the key %q: %w", name, err)
	}
	defer clear(value)
	if c.is("force") {
		if isThere(ctx, to, name, value) {
			n.same++
			return nil
		}
		err = to.Set(ctx, name, value)
	} else {
		err = to.Create(ctx, name, value)
	}
	switch {
	case err == nil:
		n.copied++
		return nil
	case errors.Is(err, store.ErrExists) && c.is("merge"):
	case errors.Is(err, store.ErrExists):
		return fmt.Errorf("write the key %q: it exists already; overwrite with --force, or keep with --merge", name)
	default:
		return fmt.Errorf("write the key %q: %w", name, err)
	}
	found, err := to.Get(ctx, name)
	defer clear(found)
	switch {
	case errors.Is(err, store.ErrNotFound): // deleted meanwhile
	case err != nil:
		return fmt.Errorf("compare the key %q: %w", name, err)
	case subtle.ConstantTimeCompare(found, value) == 1:
		n.same++
	default:
		c.warnf("%q: it is another there, and is kept: what it has sealed here will not open there", name)
		n.kept++
		n.others++
	}
	return nil
}

// isThere reports whether a store has that very value; then it is not replaced, which
// may be to delete it first.
func isThere(ctx context.Context, s store.Store, name string, value []byte) bool {
	found, err := s.Get(ctx, name)
	defer clear(found)
	return err == nil && subtle.ConstantTimeCompare(found, value) == 1
}

const updateUsage = `Usage:
    kes update [OPTIONS] [VERSION]

This program does not update itself: use the way it was installed by.

Options (accepted for older scripts):
    -d, --downgrade          allow an older version
    -o, --output FILE        write the program there
        --os OS              for another system
        --arch ARCH          for another processor
        --minisign-key KEY   the key that signs releases
    -k, --insecure           do not check certificates
    -h, --help               print this text
`

func (c *call) update() error {
	return errors.New("this program does not update itself: install its new version the way this one was installed")
}
