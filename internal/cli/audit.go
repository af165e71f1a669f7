package cli

import (
	"strings"

	"github.com/hashicorp/vault/api"
)

func auditEnableCommand() command {
	return command{
		name: "audit enable", usage: "[options] TYPE [key=value …]", shared: withHTTP,
		summary: "Enable an audit device",
		about: `Starts to record every request and answer to a file, socket or syslog.

    $ vault audit enable file file_path=/var/log/vault/audit.log
    $ vault audit enable -path=net socket address=10.0.0.5:9090 socket_type=tcp

A device takes the records that its filter matches, all without one; fallback=true
takes what no other does; exclude leaves fields out.

    $ vault audit enable -path=kv file file_path=/var/log/vault/kv.log filter='mount_type == kv'
    $ vault audit enable -path=rest file file_path=/var/log/vault/rest.log fallback=true`,
		setup: func(f *flagSet) runFunc {
			path := f.String("path", "", "path", "Name of the device; its type by default.")
			description := f.String("description", "", "text", "What it is for.")
			local := f.Bool("local", false, "Keep it out of replication.")
			return func(c *call) error {
				return runAuditEnable(c, *path, &api.EnableAuditOptions{Description: *description, Local: *local})
			}
		},
	}
}

// S3-41, S3-44, S3-45
func runAuditEnable(c *call, path string, in *api.EnableAuditOptions) error {
	if len(c.args) < 1 {
		return usagef("Error enabling audit device: audit type missing. Valid types include 'file', 'socket' and 'syslog'.")
	}
	in.Type = strings.TrimSpace(c.args[0])
	if path == "" {
		path = in.Type
	}
	options, err := c.parseStrings(c.args[1:])
	if err != nil {
		return usagef("Failed to parse K=V data: %w", err)
	}
	in.Options = options
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Sys().EnableAuditWithOptionsWithContext(c.ctx, cleanPath(path), in); err != nil {
		return failf("Error enabling audit device: %w", err)
	}
	c.printf("Success! Enabled the %s audit device at: %s\n", in.Type, mountPath(path))
	return nil
}

func auditDisableCommand() command {
	return command{
		name: "audit disable", usage: "[options] PATH", shared: withHTTP,
		summary: "Disable an audit device",
		about: `Stops recording to a device. What it has recorded stays.

    $ vault audit disable file/`,
		setup: func(f *flagSet) runFunc { return runAuditDisable },
	}
}

func runAuditDisable(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	if err := client.Sys().DisableAuditWithContext(c.ctx, path); err != nil {
		return failf("Error disabling audit device: %w", err)
	}
	c.printf("Success! Disabled audit device (if it was enabled) at: %s\n", path)
	return nil
}

func auditListCommand() command {
	return command{
		name: "audit list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List audit devices",
		about: `Lists the audit devices; exits with 2 when there is none.

    $ vault audit list -detailed`,
		setup: func(f *flagSet) runFunc { return runAuditList },
	}
}

// S3-42
func runAuditList(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	devices, err := client.Sys().ListAuditWithContext(c.ctx)
	if err != nil {
		return failf("Error listing audits: %w", err)
	}
	if len(devices) == 0 {
		if c.isTable() {
			c.printf("No audit devices are enabled.\n")
		} else if err := c.show(map[string]any{}, nil); err != nil {
			return err
		}
		return exit(exitFailure)
	}
	return c.show(devices, func() string {
		heading := []string{"Path", "Type", "Description"}
		if c.globals.detailed {
			heading = append(heading, "Replication", "Options")
		}
		var rows [][]string
		for _, path := range sortedKeys(devices) {
			d := devices[path]
			row := []string{path, d.Type, d.Description}
			if c.globals.detailed {
				row = append(row, replication(d.Local), optionList(d.Options))
			}
			rows = append(rows, row)
		}
		return table(heading, rows)
	})
}

func optionList(options map[string]string) string {
	pairs := make([]string, 0, len(options))
	for _, k := range sortedKeys(options) {
		pairs = append(pairs, k+"="+options[k])
	}
	return strings.Join(pairs, " ")
}
