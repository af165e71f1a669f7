package core

import (
	"context"
	"time"

	"arca/internal/barrier"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// builtinMounts are the mounts of every namespace, which nobody can remove.
var builtinMounts = []mount.Row{
	{
		Path: "sys/", Type: "system", Description: "system endpoints used for control, policy and debugging",
		Config: mount.Config{PassthroughHeaders: []string{"Accept"}},
	},
	{
		Path: "identity/", Type: "identity", Description: "identity store",
		Config: mount.Config{PassthroughHeaders: []string{"Authorization"}},
	},
	{Path: "cubbyhole/", Type: "cubbyhole", Description: "per-token private secret storage", Local: true},
	{
		Path: "auth/token/", Type: "token", Description: "token based credentials",
		Config: mount.Config{TokenType: "default-service"},
	},
}

// bootstrap fills a new store: the mounts and policies that always exist and
// the first root token, in one transaction. The seal's manager calls it once.
func (c *Core) bootstrap(ctx context.Context, ring *barrier.Keyring) (rootToken string, err error) {
	a, err := c.desks(ring)
	if err != nil {
		return "", err
	}
	defer a.cancel()
	err = a.DB.Update(ctx, func(tx storage.Tx) error {
		if err := a.Furnish(ctx, tx, namespace.RootID); err != nil {
			return err
		}
		if err := a.Identity.MarkFolded(tx); err != nil {
			return err
		}
		rootToken, err = a.rootToken(tx, "")
		return err
	})
	if closeErr := a.DB.Close(); err == nil {
		err = closeErr
	}
	return rootToken, err
}

// Furnish puts into a new namespace what every one has.
func (a *Active) Furnish(ctx context.Context, tx storage.Tx, ns string) error {
	for _, row := range builtinMounts {
		if row.Type == "token" && ns != namespace.RootID {
			row.Config.TokenType = engine.TokenDefault.String()
		}
		if _, err := a.Mounts.Create(ctx, tx, ns, row); err != nil {
			return err
		}
	}
	return a.Policies.Put(tx, ns, policy.DefaultName, policy.Default)
}

// rootToken makes a root token that never expires.
func (a *Active) rootToken(tx storage.Tx, id string) (string, error) {
	return a.MakeToken(tx, &token.Entry{
		Policies: []string{policy.RootName}, Path: "auth/token/root", DisplayName: "root",
		Created: time.Now(), NamespaceID: namespace.RootID,
	}, id)
}

// The shape of a token from sys/generate-root: the short form, which all
// clients take, so that the one-time pad has the length that tools expect.
const (
	rootTokenPrefix = "s."
	rootTokenLength = 24
)

// newRootToken makes the token that sys/generate-root gives.
func (c *Core) newRootToken(ctx context.Context) (id string, err error) {
	a, err := c.enter()
	if err != nil {
		return "", err
	}
	defer a.leave()
	err = a.DB.Update(ctx, func(tx storage.Tx) error {
		id, err = a.rootToken(tx, rootTokenPrefix+token.Random(rootTokenLength))
		return err
	})
	return id, err
}

// DevSetup prepares a development server: a root token of a known id in place
// of the first one, and KV version 2 at secret/.
func (c *Core) DevSetup(ctx context.Context, first, rootID string, withKV bool) (string, error) {
	a, err := c.enter()
	if err != nil {
		return "", err
	}
	defer a.leave()
	id := first
	err = a.DB.Update(ctx, func(tx storage.Tx) error {
		if rootID != "" {
			e := &token.Entry{
				Policies: []string{policy.RootName}, Path: "auth/token/create", DisplayName: "token",
				Created: time.Now(), NamespaceID: namespace.RootID,
			}
			if id, err = a.MakeToken(tx, e, rootID); err != nil {
				return errs.New(errs.Invalid, "create the development root token: %w", err)
			}
			old, err := a.Tokens.Lookup(tx, first, time.Now())
			if err != nil {
				return err
			}
			if err := a.Tokens.Revoke(tx, old, time.Now()); err != nil {
				return err
			}
		}
		if !withKV {
			return nil
		}
		_, err := a.Mounts.Create(ctx, tx, namespace.RootID, mount.Row{
			Path: "secret/", Type: "kv", Description: "key/value secret storage",
			Options: map[string]string{"version": "2"}, HasOptions: true,
		})
		return err
	})
	return id, err
}
