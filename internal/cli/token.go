package cli

import (
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// tokenCreateFlags are the flags of `token create`.
type tokenCreateFlags struct {
	id, displayName, kind, role, alias *string
	ttl, explicitMaxTTL, period        *time.Duration
	policies                           *[]string
	metadata                           *map[string]string
	uses                               *int
	renewable, orphan, noDefault       *bool
}

func tokenCreateCommand() command {
	return command{
		name: "token create", usage: "[options]", shared: withAll,
		summary: "Create a token",
		about: `Creates a token, a child of the one in use unless -orphan says otherwise. It has
the parent's policies unless -policy names others.

    $ vault token create -policy=readonly -ttl=1h
    $ TOKEN=$(vault token create -policy=readonly -field=token)`,
		setup: func(f *flagSet) runFunc {
			t := tokenCreateFlags{
				id:             f.String("id", "", "token", "Id of the token; made up by default."),
				displayName:    f.String("display-name", "", "name", "Name shown in audit logs."),
				ttl:            f.Duration("ttl", "Life of the token; it may be renewed."),
				explicitMaxTTL: f.Duration("explicit-max-ttl", "Life of the token that no renewal prolongs."),
				period:         f.Duration("period", "Renewing the token within this time keeps it alive for ever."),
				renewable:      f.Bool("renewable", true, "Whether it may be renewed."),
				orphan:         f.Bool("orphan", false, "It has no parent and survives the one in use."),
				noDefault:      f.Bool("no-default-policy", false, "Leave the policy \"default\" out."),
				uses:           f.Int("use-limit", 0, "How often it may be used; 0 is without limit."),
				role:           f.String("role", "", "name", "Token role to create it by."),
				kind:           f.String("type", "service", "type", "service or batch."),
				alias:          f.String("entity-alias", "", "name", "Entity alias to tie it to (with -role)."),
				policies:       f.Strings("policy", "name", "Policy; may be repeated."),
				metadata:       f.Map("metadata", "Note kept with the token; may be repeated."),
			}
			return func(c *call) error { return runTokenCreate(c, t) }
		},
	}
}

// S4-35
func runTokenCreate(c *call, t tokenCreateFlags) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	in := &api.TokenCreateRequest{
		ID: *t.id, Policies: *t.policies, Metadata: *t.metadata, TTL: t.ttl.String(),
		ExplicitMaxTTL: t.explicitMaxTTL.String(), Period: t.period.String(), NoParent: *t.orphan,
		NoDefaultPolicy: *t.noDefault, DisplayName: *t.displayName, NumUses: *t.uses,
		Renewable: t.renewable, Type: *t.kind, EntityAlias: *t.alias,
	}
	var s *api.Secret
	if *t.role != "" {
		s, err = client.Auth().Token().CreateWithRoleWithContext(c.ctx, in, *t.role)
	} else {
		s, err = client.Auth().Token().CreateWithContext(c.ctx, in)
	}
	if err != nil {
		return failf("Error creating token: %w", err)
	}
	return c.printSecret(s)
}

func tokenLookupCommand() command {
	return command{
		name: "token lookup", usage: "[options] [TOKEN|ACCESSOR]", shared: withHTTP | withFormat,
		summary: "Show what a token is",
		about: `Shows a token's properties: of the one in use, of the one given, or of the one
an accessor names.

    $ vault token lookup
    $ vault token lookup -accessor 9793c9b3-e04a-46f3-e7b8-748d7da248da`,
		setup: func(f *flagSet) runFunc {
			accessor := f.Bool("accessor", false, "The argument is an accessor.")
			return func(c *call) error { return runTokenLookup(c, *accessor) }
		},
	}
}

// S3-22
func runTokenLookup(c *call, accessor bool) error {
	switch n := len(c.args); {
	case accessor && n < 1:
		return usagef("Not enough arguments with -accessor (expected 1, got %d)", n)
	case accessor && n > 1:
		return usagef("Too many arguments with -accessor (expected 1, got %d)", n)
	}
	if err := c.between(0, 1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	tokens := client.Auth().Token()
	var s *api.Secret
	switch {
	case len(c.args) == 0:
		s, err = tokens.LookupSelfWithContext(c.ctx)
	case accessor:
		s, err = tokens.LookupAccessorWithContext(c.ctx, strings.TrimSpace(c.args[0]))
	default:
		s, err = tokens.LookupWithContext(c.ctx, strings.TrimSpace(c.args[0]))
	}
	if err != nil {
		return failf("Error looking up token: %w", err)
	}
	return c.printSecret(s)
}

func tokenRenewCommand() command {
	return command{
		name: "token renew", usage: "[options] [TOKEN|ACCESSOR]", shared: withHTTP | withFormat,
		summary: "Renew a token",
		about: `Prolongs the life of the token in use, of the one given, or of the one an
accessor names.

    $ vault token renew -increment=2h`,
		setup: func(f *flagSet) runFunc {
			accessor := f.Bool("accessor", false, "The argument is an accessor.")
			increment := f.Duration("increment", "Time asked for, from now.")
			f.also("i")
			return func(c *call) error { return runTokenRenew(c, *accessor, *increment) }
		},
	}
}

func runTokenRenew(c *call, accessor bool, increment time.Duration) error {
	if accessor && len(c.args) < 1 {
		return usagef("Not enough arguments with -accessor (expected 1, got 0)")
	}
	if err := c.counted(0, 1, "1"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	tokens, seconds := client.Auth().Token(), int(increment/time.Second)
	var s *api.Secret
	switch {
	case len(c.args) == 0:
		s, err = tokens.RenewSelfWithContext(c.ctx, seconds)
	case accessor:
		s, err = tokens.RenewAccessorWithContext(c.ctx, strings.TrimSpace(c.args[0]), seconds)
	default:
		token := strings.TrimSpace(c.args[0])
		if token == client.Token() {
			s, err = tokens.RenewSelfWithContext(c.ctx, seconds) // needs fewer rights
		} else {
			s, err = tokens.RenewWithContext(c.ctx, token, seconds)
		}
	}
	if err != nil {
		return failf("Error renewing token: %w", err)
	}
	return c.printSecret(s)
}

func tokenRevokeCommand() command {
	return command{
		name: "token revoke", usage: "[options] [TOKEN|ACCESSOR]", shared: withHTTP,
		summary: "Revoke a token",
		about: `Revokes a token, with its children and leases unless -mode says otherwise.

    $ vault token revoke -self
    $ vault token revoke -mode=orphan hvs.CAES…`,
		setup: func(f *flagSet) runFunc {
			accessor := f.Bool("accessor", false, "The argument is an accessor.")
			self := f.Bool("self", false, "Revoke the token in use.")
			mode := f.String("mode", "", "mode", "orphan: leave the children; path: all tokens made at a path.")
			f.oneOf("orphan", "path")
			return func(c *call) error { return runTokenRevoke(c, *accessor, *self, *mode) }
		},
	}
}

func runTokenRevoke(c *call, accessor, self bool, mode string) error {
	switch n := len(c.args); {
	case n < 1 && !self:
		return usagef("Not enough arguments (expected 1 or -self, got %d)", n)
	case n > 0 && self:
		return usagef("Too many arguments with -self (expected 0, got %d)", n)
	case n > 1:
		return usagef("Too many arguments (expected 1 or -self, got %d)", n)
	case self && accessor:
		return usagef("Cannot use -self with -accessor!")
	case self && mode != "":
		return usagef("Cannot use -self with -mode!")
	case accessor && mode != "":
		return usagef("Cannot use -accessor with -mode!")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	tokens := client.Auth().Token()
	arg := ""
	if len(c.args) == 1 {
		arg = strings.TrimSpace(c.args[0])
	}
	switch {
	case self:
		err = tokens.RevokeSelfWithContext(c.ctx, "")
	case accessor:
		err = tokens.RevokeAccessorWithContext(c.ctx, arg)
	case mode == "":
		err = tokens.RevokeTreeWithContext(c.ctx, arg)
	case mode == "orphan":
		err = tokens.RevokeOrphanWithContext(c.ctx, arg)
	case mode == "path":
		err = client.Sys().RevokePrefixWithContext(c.ctx, arg)
	default:
		return usagef("Unknown mode %q: use orphan or path", mode)
	}
	if err != nil {
		return failf("Error revoking token: %w", err)
	}
	c.printf("Success! Revoked token (if it existed)\n")
	return nil
}

func tokenCapabilitiesCommand() command {
	return command{
		name: "token capabilities", usage: "[options] [TOKEN] PATH", shared: withHTTP | withFormat,
		summary: "Show what a token may do at a path",
		about: `Shows the capabilities that a token has at a path.

    $ vault token capabilities secret/data/creds`,
		setup: func(f *flagSet) runFunc { return runTokenCapabilities },
	}
}

func runTokenCapabilities(c *call) error {
	if err := c.between(1, 2); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var capabilities []string
	if len(c.args) == 1 {
		capabilities, err = client.Sys().CapabilitiesSelfWithContext(c.ctx, c.args[0])
	} else {
		capabilities, err = client.Sys().CapabilitiesWithContext(c.ctx, c.args[0], c.args[1])
	}
	if err != nil {
		return failf("Error listing capabilities: %w", err)
	}
	if len(capabilities) == 0 {
		return failf("No capabilities found")
	}
	return c.show(capabilities, func() string { return strings.Join(capabilities, ", ") + "\n" })
}

func printTokenCommand() command {
	return command{
		name: "print token", usage: "", shared: withHTTP,
		summary: "Print the token in use",
		about:   "Prints the token that requests are sent with: VAULT_TOKEN or the stored one.",
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				client, err := c.client()
				if err != nil {
					return err
				}
				c.printf("%s\n", client.Token())
				return nil
			}
		},
	}
}
