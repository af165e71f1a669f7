package cli

import "fmt"

func versionCommand() command {
	return command{
		name: "version", usage: "",
		summary: "Show the version",
		about:   "Shows the Vault version this program is compatible with, and its own.",
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				c.printf("%s\n", c.versionLine())
				return nil
			}
		},
	}
}

func versionHistoryCommand() command {
	return command{
		name: "version-history", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show the versions the server has run",
		about:   "Shows which versions have run on this storage, and since when.",
		setup:   func(f *flagSet) runFunc { return runVersionHistory },
	}
}

func runVersionHistory(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	s, err := c.request("LIST", "sys/version-history", nil)
	if err != nil {
		return c.apiFailure("Error reading version history", err)
	}
	keys, ok := listKeys(s)
	if !ok {
		return failf("Invalid response returned from Vault")
	}
	return c.show(s, func() string {
		info, _ := s.Data["key_info"].(map[string]any)
		var rows [][]string
		for _, k := range keys {
			m, _ := info[fmt.Sprint(k)].(map[string]any)
			build, _ := m["build_date"].(string)
			rows = append(rows, []string{fmt.Sprint(k), fmt.Sprint(m["timestamp_installed"]), build})
		}
		return table([]string{"Version", "Installation Time", "Build Date"}, rows)
	})
}

func monitorCommand() command {
	return command{
		name: "monitor", usage: "[options]", shared: withHTTP,
		summary: "Follow the server's log",
		about: `Prints the server's log as it is written, until interrupted.

    $ vault monitor -log-level=debug`,
		setup: func(f *flagSet) runFunc {
			level := f.String("log-level", "info", "level", "trace, debug, info, warn or error.")
			f.oneOf("trace", "debug", "info", "warn", "error")
			form := f.String("log-format", "standard", "format", "standard or json.")
			f.oneOf("standard", "json")
			return func(c *call) error { return runMonitor(c, *level, *form) }
		},
	}
}

func runMonitor(c *call, level, form string) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	switch level {
	case "trace", "debug", "info", "warn", "error":
	default:
		return usagef("%s is an unknown log level. Valid log levels are: trace, debug, info, warn, error", level)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	client.SetClientTimeout(0)
	lines, err := client.Sys().Monitor(c.ctx, level, form)
	if err != nil {
		return failf("Error starting monitor: %w", err)
	}
	for line := range lines {
		c.printf("%s\n", line)
	}
	return nil
}
