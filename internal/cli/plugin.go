package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"
)

// pluginArg parses TYPE NAME, or NAME alone (the old form: type unknown).
func pluginArg(args []string) (kind api.PluginType, name string, err error) {
	if len(args) == 1 {
		return api.PluginTypeUnknown, strings.TrimSpace(args[0]), nil
	}
	kind, err = api.ParsePluginType(strings.TrimSpace(args[0]))
	if err != nil {
		return kind, "", usagef("Type must be one of auth, database or secret, not %q", args[0])
	}
	return kind, strings.TrimSpace(args[1]), nil
}

func pluginListCommand() command {
	return command{
		name: "plugin list", usage: "[options] [TYPE]", shared: withHTTP | withFormat,
		summary: "List plugins",
		about: `Lists the plugins of the catalog, all or of one type: auth, database, secret.

    $ vault plugin list -detailed secret`,
		setup: func(f *flagSet) runFunc { return runPluginList },
		words: func(int) []string { return []string{"auth", "database", "secret"} },
	}
}

func runPluginList(c *call) error {
	if err := c.between(0, 1); err != nil {
		return err
	}
	in := &api.ListPluginsInput{}
	if len(c.args) == 1 {
		kind, err := api.ParsePluginType(strings.TrimSpace(c.args[0]))
		if err != nil {
			return usagef("Type must be one of auth, database or secret, not %q", c.args[0])
		}
		in.Type = kind
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Sys().ListPluginsWithContext(c.ctx, in)
	if err != nil {
		return failf("Error listing available plugins: %w", err)
	}
	if c.globals.detailed {
		return c.show(map[string]any{"plugins": list.Details}, func() string {
			var rows [][]string
			for _, d := range list.Details {
				rows = append(rows, []string{d.Name, d.Type, d.Version, orNA(d.DeprecationStatus)})
			}
			return table([]string{"Name", "Type", "Version", "Deprecation Status"}, rows)
		})
	}
	byType := map[string][]string{}
	var rows [][]string
	for _, kind := range api.PluginTypes {
		for _, name := range list.PluginsByType[kind] {
			byType[kind.String()] = append(byType[kind.String()], name)
			rows = append(rows, []string{name, kind.String(), versionOf(list.Details, kind.String(), name)})
		}
	}
	if !c.isTable() && in.Type != api.PluginTypeUnknown {
		return c.show(byType[in.Type.String()], nil)
	}
	return c.show(byType, func() string { return table([]string{"Name", "Type", "Version"}, rows) })
}

func versionOf(details []api.PluginDetails, kind, name string) string {
	for _, d := range details {
		if d.Type == kind && d.Name == name {
			return d.Version
		}
	}
	return ""
}

func pluginInfoCommand() command {
	return command{
		name: "plugin info", usage: "[options] TYPE NAME", shared: withAll,
		summary: "Show a plugin",
		about: `Shows a plugin of the catalog.

    $ vault plugin info auth userpass`,
		setup: func(f *flagSet) runFunc {
			version := f.String("version", "", "version", "Version of the plugin.")
			return func(c *call) error { return runPluginInfo(c, *version) }
		},
	}
}

func runPluginInfo(c *call, version string) error {
	if err := c.between(1, 2); err != nil {
		return err
	}
	kind, name, err := pluginArg(c.args)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	info, err := client.Sys().GetPluginWithContext(c.ctx, &api.GetPluginInput{Type: kind, Name: name, Version: version})
	if err != nil {
		return failf("Error reading plugin named %s: %w", name, err)
	}
	if info == nil {
		return failf("No value found for plugin %q", name)
	}
	data := map[string]any{
		"args": info.Args, "builtin": info.Builtin, "command": info.Command, "name": info.Name,
		"sha256": info.SHA256, "deprecation_status": info.DeprecationStatus, "version": info.Version,
	}
	for k, v := range map[string]string{"oci_image": info.OCIImage, "runtime": info.Runtime} {
		if v != "" {
			data[k] = v
		}
	}
	if c.globals.field != "" {
		return c.printField(&api.Secret{Data: data}, c.globals.field)
	}
	return c.show(data, func() string { return mapTable(data) })
}

func pluginRegisterCommand() command {
	return command{
		name: "plugin register", usage: "[options] TYPE NAME", shared: withHTTP,
		summary: "Register a plugin",
		about: `Enters a program of the plugin directory in the catalog.

    $ vault plugin register -sha256=d3f0a8be… secret my-plugin`,
		setup: func(f *flagSet) runFunc {
			in := &api.RegisterPluginInput{}
			args := f.Strings("args", "arg", "Argument to start it with; may be repeated.")
			env := f.Strings("env", "key=value", "Variable to start it with; may be repeated.")
			cmd := f.String("command", "", "name", "Program; the plugin's name by default.")
			sha := f.String("sha256", "", "hex", "SHA-256 of the program.")
			version := f.String("version", "", "version", "Version of the plugin.")
			image := f.String("oci_image", "", "image", "Container image to run instead of a program.")
			runtime := f.String("runtime", "", "name", "Runtime of the container.")
			return func(c *call) error {
				in.Args, in.Env, in.Command, in.SHA256, in.Version = *args, *env, *cmd, *sha, *version
				in.OCIImage, in.Runtime = *image, *runtime
				return runPluginRegister(c, in)
			}
		},
	}
}

func runPluginRegister(c *call, in *api.RegisterPluginInput) error {
	if err := c.between(1, 2); err != nil {
		return err
	}
	kind, name, err := pluginArg(c.args)
	if err != nil {
		return err
	}
	if in.SHA256 == "" && in.OCIImage == "" {
		return usagef("SHA256 is required for all plugins that are programs: use -sha256")
	}
	in.Type, in.Name = kind, name
	if in.Command == "" && in.OCIImage == "" {
		in.Command = name
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	resp, err := client.Sys().RegisterPluginWithContextDetailed(c.ctx, in)
	if err != nil {
		return failf("Error registering plugin %s: %w", name, err)
	}
	if resp != nil {
		c.printWarnings(resp.Warnings)
	}
	c.printf("Success! Registered plugin: %s\n", name)
	return nil
}

func pluginDeregisterCommand() command {
	return command{
		name: "plugin deregister", usage: "[options] TYPE NAME", shared: withHTTP,
		summary: "Remove a plugin from the catalog",
		about: `Removes a plugin from the catalog; mounts that run it keep running.

    $ vault plugin deregister secret my-plugin`,
		setup: func(f *flagSet) runFunc {
			version := f.String("version", "", "version", "Version of the plugin.")
			return func(c *call) error { return runPluginDeregister(c, *version) }
		},
	}
}

func runPluginDeregister(c *call, version string) error {
	if err := c.between(1, 2); err != nil {
		return err
	}
	kind, name, err := pluginArg(c.args)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	err = client.Sys().DeregisterPluginWithContext(c.ctx, &api.DeregisterPluginInput{Name: name, Type: kind, Version: version})
	if err != nil {
		return failf("Error deregistering plugin named %s: %w", name, err)
	}
	c.printf("Success! Deregistered plugin (if it was registered): %s\n", name)
	return nil
}

func pluginReloadCommand() command {
	return command{
		name: "plugin reload", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Restart a plugin's processes",
		about: `Restarts a plugin, by its name or by the mounts that run it.

    $ vault plugin reload -type=secret -plugin=my-plugin
    $ vault plugin reload -mounts=a/,b/`,
		setup: func(f *flagSet) runFunc {
			plugin := f.String("plugin", "", "name", "Plugin to restart.")
			kind := f.String("type", "", "type", "Its type; then it is restarted in all namespaces.")
			mounts := f.List("mounts", "paths", "Mounts whose plugin to restart.")
			scope := f.String("scope", "", "scope", "global: on all nodes.")
			return func(c *call) error { return runPluginReload(c, *plugin, *kind, *scope, *mounts) }
		},
	}
}

func runPluginReload(c *call, plugin, kind, scope string, mounts []string) error {
	switch {
	case len(c.args) > 0:
		return c.exactly(0)
	case plugin == "" && len(mounts) == 0:
		return usagef("No plugins specified, must specify exactly one of -plugin or -mounts")
	case plugin != "" && len(mounts) > 0:
		return usagef("Must specify exactly one of -plugin or -mounts")
	case scope != "" && scope != "global":
		return usagef("Invalid reload scope: %s", scope)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var id string
	if kind != "" {
		parsed, perr := api.ParsePluginType(kind)
		if perr != nil {
			return usagef("Type must be one of auth, database or secret, not %q", kind)
		}
		id, err = client.Sys().RootReloadPlugin(c.ctx, &api.RootReloadPluginInput{Plugin: plugin, Type: parsed, Scope: scope})
	} else {
		id, err = client.Sys().ReloadPluginWithContext(c.ctx, &api.ReloadPluginInput{Plugin: plugin, Mounts: mounts, Scope: scope})
	}
	if err != nil {
		return failf("Error reloading plugin/mounts: %w", err)
	}
	what := "plugin: " + plugin
	if plugin == "" {
		what = fmt.Sprintf("mounts: %s", mounts)
	}
	if scope == "global" && id != "" {
		c.printf("Success! Reloading %s, reload_id: %s\n", what, id)
		return nil
	}
	c.printf("Success! Reloaded %s\n", what)
	return nil
}

func pluginReloadStatusCommand() command {
	return command{
		name: "plugin reload-status", usage: "[options] RELOAD_ID", shared: withHTTP | withFormat,
		summary: "Show how far a global reload is",
		about:   "Shows the nodes that have finished a reload started with -scope=global.",
		setup:   func(f *flagSet) runFunc { return runPluginReloadStatus },
	}
}

func runPluginReloadStatus(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	status, err := client.Sys().ReloadPluginStatusWithContext(c.ctx, &api.ReloadPluginStatusInput{
		ReloadID: strings.TrimSpace(c.args[0]),
	})
	if err != nil {
		return failf("Error retrieving plugin reload status: %w", err)
	}
	return c.show(status, func() string {
		var rows [][]string
		for _, node := range sortedKeys(status.Results) {
			r := status.Results[node]
			done := "success"
			if r.Error != "" {
				done = r.Error
			}
			rows = append(rows, []string{node, r.Timestamp.String(), done})
		}
		return table([]string{"Participant", "Time", "Result"}, rows)
	})
}

// runtimePath is where the catalog keeps a container runtime.
func runtimePath(name string) string {
	return "sys/plugins/runtimes/catalog/container/" + url.PathEscape(strings.TrimSpace(name))
}

func pluginRuntimeListCommand() command {
	return command{
		name: "plugin runtime list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List plugin runtimes",
		about:   "Lists the container runtimes that plugins may run in.",
		setup: func(f *flagSet) runFunc {
			f.String("type", "", "type", "Type of runtime: container.")
			return func(c *call) error {
				if err := c.exactly(0); err != nil {
					return err
				}
				client, err := c.client()
				if err != nil {
					return err
				}
				s, err := client.Logical().ReadWithContext(c.ctx, "sys/plugins/runtimes/catalog")
				if err != nil {
					return failf("Error listing available plugin runtimes: %w", err)
				}
				if s == nil {
					return failf("No tables returned from the server")
				}
				return c.printSecret(s)
			}
		},
	}
}

func pluginRuntimeInfoCommand() command {
	return command{
		name: "plugin runtime info", usage: "[options] NAME", shared: withHTTP | withFormat,
		summary: "Show a plugin runtime",
		about:   "Shows a container runtime.",
		setup: func(f *flagSet) runFunc {
			f.String("type", "container", "type", "Type of runtime: container.")
			return func(c *call) error {
				if err := c.exactly(1); err != nil {
					return err
				}
				client, err := c.client()
				if err != nil {
					return err
				}
				s, err := client.Logical().ReadWithContext(c.ctx, runtimePath(c.args[0]))
				if err != nil {
					return failf("Error reading plugin runtime named %s: %w", c.args[0], err)
				}
				if s == nil {
					return failf("No value found for plugin runtime %q", c.args[0])
				}
				return c.printSecret(s)
			}
		},
	}
}

func pluginRuntimeRegisterCommand() command {
	return command{
		name: "plugin runtime register", usage: "[options] NAME", shared: withHTTP,
		summary: "Register a plugin runtime",
		about:   "Enters a container runtime in the catalog.",
		setup: func(f *flagSet) runFunc {
			f.String("type", "container", "type", "Type of runtime: container.")
			oci := f.String("oci_runtime", "", "name", "OCI runtime, such as runsc.")
			parent := f.String("cgroup_parent", "", "name", "Control group to run in.")
			cpu := f.Int("cpu_nanos", 0, "CPU limit per container, in billionths.")
			memory := f.Int("memory_bytes", 0, "Memory limit per container.")
			rootless := f.Bool("rootless", false, "Run without root.")
			return func(c *call) error {
				data := map[string]any{
					"oci_runtime": *oci, "cgroup_parent": *parent, "cpu_nanos": *cpu, "memory_bytes": *memory,
					"rootless": *rootless,
				}
				if err := c.exactly(1); err != nil {
					return err
				}
				client, err := c.client()
				if err != nil {
					return err
				}
				if _, err := client.Logical().WriteWithContext(c.ctx, runtimePath(c.args[0]), data); err != nil {
					return failf("Error registering plugin runtime %s: %w", c.args[0], err)
				}
				c.printf("Success! Registered plugin runtime: %s\n", c.args[0])
				return nil
			}
		},
	}
}

func pluginRuntimeDeregisterCommand() command {
	return command{
		name: "plugin runtime deregister", usage: "[options] NAME", shared: withHTTP,
		summary: "Remove a plugin runtime",
		about:   "Removes a container runtime from the catalog.",
		setup: func(f *flagSet) runFunc {
			f.String("type", "container", "type", "Type of runtime: container.")
			return func(c *call) error {
				if err := c.exactly(1); err != nil {
					return err
				}
				client, err := c.client()
				if err != nil {
					return err
				}
				if _, err := client.Logical().DeleteWithContext(c.ctx, runtimePath(c.args[0])); err != nil {
					return failf("Error deregistering plugin runtime named %s: %w", c.args[0], err)
				}
				c.printf("Success! Deregistered plugin runtime: %s\n", c.args[0])
				return nil
			}
		},
	}
}
