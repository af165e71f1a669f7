package cli

import (
	"fmt"

	"github.com/hashicorp/vault/api"
)

func authEnableCommand() command {
	return command{
		name: "auth enable", usage: "[options] TYPE", shared: withHTTP,
		summary: "Enable an auth method",
		about: `Mounts an auth method at its type's name or at -path, below auth/.

    $ vault auth enable approle`,
		setup: func(f *flagSet) runFunc {
			path := f.String("path", "", "path", "Where to mount it; its type by default.")
			plugin := f.String("plugin-name", "", "name", "Plugin to run when TYPE is \"plugin\".")
			local := f.Bool("local", false, "Keep it out of replication.")
			sealWrap := f.Bool("seal-wrap", false, "Have its values wrapped by the seal too.")
			entropy := f.Bool("external-entropy-access", false, "Let it draw from external entropy.")
			m := declareMount(f, true)
			return func(c *call) error {
				return runAuthEnable(c, *path, *plugin, m, &api.EnableAuthOptions{
					Local: *local, SealWrap: *sealWrap, ExternalEntropyAccess: *entropy,
				})
			}
		},
	}
}

func runAuthEnable(c *call, path, plugin string, m mountFlags, in *api.EnableAuthOptions) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	kind, what := pluginType(c.args[0], plugin)
	if path == "" {
		path = kind
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	in.Type, in.Description = kind, *m.description
	in.Config, in.Options = m.config(c), m.optionMap()
	if err := client.Sys().EnableAuthWithOptionsWithContext(c.ctx, cleanPath(path), in); err != nil {
		return failf("Error enabling %s auth: %w", what, err)
	}
	c.printf("Success! Enabled %s auth method at: %s\n", what, mountPath(path))
	return nil
}

func authDisableCommand() command {
	return command{
		name: "auth disable", usage: "[options] PATH", shared: withHTTP,
		summary: "Disable an auth method",
		about: `Removes the auth method at a path; the tokens it gave are revoked.

    $ vault auth disable approle/`,
		setup: func(f *flagSet) runFunc { return runAuthDisable },
	}
}

func runAuthDisable(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	if err := client.Sys().DisableAuthWithContext(c.ctx, path); err != nil {
		return failf("Error disabling auth method at %s: %w", path, err)
	}
	c.printf("Success! Disabled the auth method (if it existed) at: %s\n", path)
	return nil
}

func authListCommand() command {
	return command{
		name: "auth list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List auth methods",
		about: `Lists the mounted auth methods.

    $ vault auth list -detailed`,
		setup: func(f *flagSet) runFunc { return runAuthList },
	}
}

func runAuthList(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	mounts, err := client.Sys().ListAuthWithContext(c.ctx)
	if err != nil {
		return failf("Error listing enabled authentications: %w", err)
	}
	return c.show(mounts, func() string {
		var rows [][]string
		for _, path := range sortedKeys(mounts) {
			m := mounts[path]
			if c.globals.detailed {
				rows = append(rows, detailedAuth(path, m))
				continue
			}
			rows = append(rows, []string{path, m.Type, m.Accessor, m.Description, m.PluginVersion})
		}
		if c.globals.detailed {
			return table(detailedAuthColumns(), rows)
		}
		return table([]string{"Path", "Type", "Accessor", "Description", "Version"}, rows)
	})
}

func detailedAuthColumns() []string {
	return []string{
		"Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Token Type", "Replication", "Seal Wrap",
		"External Entropy Access", "Options", "Description", "UUID", "Version", "Running Version", "Running SHA256",
		"Deprecation Status",
	}
}

func detailedAuth(path string, m *api.AuthMount) []string {
	row := detailedMount(path, m)
	row[5] = m.Config.TokenType
	return row
}

func authMoveCommand() command {
	return command{
		name: "auth move", usage: "[options] FROM TO", shared: withHTTP,
		summary: "Move an auth method",
		about: `Moves an auth method to another path, given in full.

    $ vault auth move auth/approle auth/apps`,
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				return c.move("auth method", func(from, to string) string {
					return fmt.Sprintf("Success! Finished moving auth method %s to %s", from, to)
				})
			}
		},
	}
}

func authTuneCommand() command {
	return command{
		name: "auth tune", usage: "[options] PATH", shared: withHTTP,
		summary: "Change an auth method's settings",
		about: `Changes the settings given and leaves the others.

    $ vault auth tune -max-lease-ttl=1h userpass/`,
		setup: func(f *flagSet) runFunc {
			m := declareMount(f, true)
			return func(c *call) error { return runTune(c, "auth method", "auth/", m) }
		},
	}
}

func authHelpCommand() command {
	return command{
		name: "auth help", usage: "[options] TYPE|PATH", shared: withHTTP,
		summary: "Show how to log in with an auth method",
		about: `Shows the parameters of "vault login" for a type, or the help of the method
mounted at a path.

    $ vault auth help userpass`,
		setup: func(f *flagSet) runFunc { return runAuthHelp },
	}
}

func runAuthHelp(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	for _, m := range loginMethods() {
		if m.name == cleanPath(c.args[0]) {
			c.printf("%s\n", m.help)
			return nil
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	mounts, err := client.Sys().ListAuthWithContext(c.ctx)
	if err != nil {
		return failf("Error listing auth methods: %w", err)
	}
	mount, ok := mounts[path]
	if !ok {
		return usagef("No auth method available on the server at %q", path)
	}
	for _, m := range loginMethods() {
		if m.name == mount.Type {
			c.printf("%s\n", m.help)
			return nil
		}
	}
	help, err := client.HelpWithContext(c.ctx, "auth/"+cleanPath(path))
	if err != nil {
		return failf("Error retrieving help: %w", err)
	}
	c.printf("%s\n", help.Help)
	return nil
}
