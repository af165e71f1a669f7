package cli

import (
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

func leaseLookupCommand() command {
	return command{
		name: "lease lookup", usage: "[options] ID", shared: withAll,
		summary: "Show a lease",
		about: `Shows when a lease was given and when it ends.

    $ vault lease lookup database/creds/readonly/2f6a614c`,
		setup: func(f *flagSet) runFunc { return runLeaseLookup },
	}
}

func runLeaseLookup(c *call) error {
	id, err := c.leaseID()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Sys().LookupWithContext(c.ctx, id)
	if err != nil {
		return failf("error looking up lease id %s: %w", id, err)
	}
	return c.printSecret(s)
}

// leaseID is the one argument of lookup and renew.
func (c *call) leaseID() (string, error) {
	switch len(c.args) {
	case 0:
		return "", usagef("Missing ID!")
	case 1:
		return strings.TrimSpace(c.args[0]), nil
	}
	return "", usagef("Too many arguments (expected 1, got %d)", len(c.args))
}

func leaseRenewCommand() command {
	return command{
		name: "lease renew", usage: "[options] ID", shared: withAll,
		summary: "Renew a lease",
		about: `Prolongs a lease.

    $ vault lease renew -increment=1h database/creds/readonly/2f6a614c`,
		setup: func(f *flagSet) runFunc {
			increment := f.Duration("increment", "Time asked for, from now.")
			f.also("i")
			return func(c *call) error { return runLeaseRenew(c, *increment) }
		},
	}
}

func runLeaseRenew(c *call, increment time.Duration) error {
	id, err := c.leaseID()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Sys().RenewWithContext(c.ctx, id, int(increment/time.Second))
	if err != nil {
		return failf("Error renewing %s: %w", id, err)
	}
	return c.printSecret(s)
}

func leaseRevokeCommand() command {
	return command{
		name: "lease revoke", usage: "[options] ID", shared: withHTTP,
		summary: "Revoke leases",
		about: `Revokes a lease, or with -prefix all leases below a path.

    $ vault lease revoke database/creds/readonly/2f6a614c
    $ vault lease revoke -prefix database/creds`,
		setup: func(f *flagSet) runFunc {
			prefix := f.Bool("prefix", false, "ID is a prefix: revoke all leases below it.")
			force := f.Bool("force", false, "Forget the leases even if revoking them fails (with -prefix).")
			f.also("f")
			sync := f.Bool("sync", false, "Wait until they are revoked.")
			return func(c *call) error { return runLeaseRevoke(c, *prefix, *force, *sync) }
		},
	}
}

func runLeaseRevoke(c *call, prefix, force, sync bool) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	if force && !prefix {
		return usagef("Specifying -force requires also specifying -prefix")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	id := strings.TrimSpace(c.args[0])
	if force {
		c.errorf("Leases are forgotten without being revoked where they were issued; clean up there by hand.")
	}
	err = client.Sys().RevokeWithOptionsWithContext(c.ctx, &api.RevokeOptions{
		LeaseID: id, Prefix: prefix, Force: force, Sync: sync,
	})
	switch {
	case err != nil && force:
		return failf("Error force revoking leases with prefix %s: %w", id, err)
	case err != nil && prefix:
		return failf("Error revoking leases with prefix %s: %w", id, err)
	case err != nil:
		return failf("Error revoking lease %s: %w", id, err)
	}
	switch {
	case !sync:
		c.printf("All revocation operations queued successfully!\n")
	case force:
		c.printf("Success! Force revoked any leases with prefix: %s\n", id)
	case prefix:
		c.printf("Success! Revoked any leases with prefix: %s\n", id)
	default:
		c.printf("Success! Revoked lease: %s\n", id)
	}
	return nil
}
