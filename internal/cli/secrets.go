package cli

import (
	"fmt"

	"github.com/hashicorp/vault/api"
)

func secretsEnableCommand() command {
	return command{
		name: "secrets enable", usage: "[options] TYPE", shared: withHTTP,
		summary: "Enable a secrets engine",
		about: `Mounts a secrets engine at its type's name or at -path.

    $ vault secrets enable -version=2 -path=secret kv`,
		setup: func(f *flagSet) runFunc {
			path := f.String("path", "", "path", "Where to mount it; its type by default.")
			plugin := f.String("plugin-name", "", "name", "Plugin to run when TYPE is \"plugin\".")
			local := f.Bool("local", false, "Keep it out of replication.")
			sealWrap := f.Bool("seal-wrap", false, "Have its values wrapped by the seal too.")
			entropy := f.Bool("external-entropy-access", false, "Let it draw from external entropy.")
			m := declareMount(f, false)
			return func(c *call) error {
				return runSecretsEnable(c, *path, *plugin, m, &api.MountInput{
					Local: *local, SealWrap: *sealWrap, ExternalEntropyAccess: *entropy,
				})
			}
		},
	}
}

func runSecretsEnable(c *call, path, plugin string, m mountFlags, in *api.MountInput) error {
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
	if err := client.Sys().MountWithContext(c.ctx, cleanPath(path), in); err != nil {
		return failf("Error enabling: %w", err)
	}
	c.printf("Success! Enabled the %s secrets engine at: %s\n", what, mountPath(path))
	return nil
}

// pluginType resolves the old form "plugin" with -plugin-name to a type, and
// says how to call it.
func pluginType(arg, plugin string) (kind, shown string) {
	if arg == "plugin" && plugin != "" {
		return plugin, plugin
	}
	return arg, arg
}

func secretsDisableCommand() command {
	return command{
		name: "secrets disable", usage: "[options] PATH", shared: withHTTP,
		summary: "Disable a secrets engine",
		about: `Removes the engine at a path with all its data; its leases are revoked.

    $ vault secrets disable transit/`,
		setup: func(f *flagSet) runFunc { return runSecretsDisable },
	}
}

func runSecretsDisable(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	if err := client.Sys().UnmountWithContext(c.ctx, path); err != nil {
		return failf("Error disabling secrets engine at %s: %w", path, err)
	}
	c.printf("Success! Disabled the secrets engine (if it existed) at: %s\n", path)
	return nil
}

func secretsListCommand() command {
	return command{
		name: "secrets list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List secrets engines",
		about: `Lists the mounted secrets engines.

    $ vault secrets list -detailed`,
		setup: func(f *flagSet) runFunc { return runSecretsList },
	}
}

func runSecretsList(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	mounts, err := client.Sys().ListMountsWithContext(c.ctx)
	if err != nil {
		return failf("Error listing secrets engines: %w", err)
	}
	return c.show(mounts, func() string {
		var rows [][]string
		for _, path := range sortedKeys(mounts) {
			m := mounts[path]
			if c.globals.detailed {
				rows = append(rows, detailedMount(path, m))
				continue
			}
			rows = append(rows, []string{path, m.Type, m.Accessor, m.Description})
		}
		if c.globals.detailed {
			return table(detailedColumns(), rows)
		}
		return table([]string{"Path", "Type", "Accessor", "Description"}, rows)
	})
}

func detailedColumns() []string {
	return []string{
		"Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Force No Cache", "Replication", "Seal Wrap",
		"External Entropy Access", "Options", "Description", "UUID", "Version", "Running Version", "Running SHA256",
		"Deprecation Status",
	}
}

func detailedMount(path string, m *api.MountOutput) []string {
	return []string{
		path, m.Type, m.Accessor, mountTTL(m.Config.DefaultLeaseTTL), mountTTL(m.Config.MaxLeaseTTL),
		fmt.Sprint(m.Config.ForceNoCache), replication(m.Local), fmt.Sprint(m.SealWrap),
		fmt.Sprint(m.ExternalEntropyAccess), fmt.Sprint(m.Options), m.Description, m.UUID, m.PluginVersion,
		m.RunningVersion, m.RunningSha256, m.DeprecationStatus,
	}
}

// mountTTL shows a mount's TTL in seconds; 0 is the system's.
func mountTTL(seconds int) string {
	if seconds == 0 {
		return "system"
	}
	return fmt.Sprint(seconds)
}

func replication(local bool) string {
	if local {
		return "local"
	}
	return "replicated"
}

func secretsMoveCommand() command {
	return command{
		name: "secrets move", usage: "[options] FROM TO", shared: withHTTP,
		summary: "Move a secrets engine",
		about: `Moves an engine to another path, or to another namespace by full paths. Its
leases are revoked; its data stays.

    $ vault secrets move secret/ kv/`,
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				return c.move("secrets engine", func(from, to string) string {
					return fmt.Sprintf("Success! Finished moving secrets engine %s to %s", from, to)
				})
			}
		},
	}
}

func secretsTuneCommand() command {
	return command{
		name: "secrets tune", usage: "[options] PATH", shared: withHTTP,
		summary: "Change a secrets engine's settings",
		about: `Changes the settings given and leaves the others.

    $ vault secrets tune -default-lease-ttl=1h transit/`,
		setup: func(f *flagSet) runFunc {
			m := declareMount(f, false)
			return func(c *call) error { return runTune(c, "secrets engine", "", m) }
		},
	}
}

// runTune tunes a mount; prefix is "auth/" for auth methods.
func runTune(c *call, what, prefix string, m mountFlags) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	if err := client.Sys().TuneMountAllowNilWithContext(c.ctx, prefix+cleanPath(path), m.tune(c)); err != nil {
		return failf("Error tuning %s %s: %w", what, path, err)
	}
	c.printf("Success! Tuned the %s at: %s\n", what, path)
	return nil
}
