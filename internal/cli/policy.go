package cli

import (
	"bytes"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/printer"
)

func policyReadCommand() command {
	return command{
		name: "policy read", usage: "[options] NAME", shared: withHTTP | withFormat,
		summary: "Show a policy",
		about: `Shows the text of an ACL policy.

    $ vault policy read default`,
		setup: func(f *flagSet) runFunc { return runPolicyRead },
	}
}

func runPolicyRead(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	name := policyName(c.args[0])
	rules, err := client.Sys().GetPolicyWithContext(c.ctx, name)
	if err != nil {
		return failf("Error reading policy named %s: %w", name, err)
	}
	if rules == "" {
		return failf("No policy named: %s", name)
	}
	return c.show(map[string]string{"policy": rules}, func() string { return strings.TrimSpace(rules) + "\n" })
}

// policyName is the form in which the server keeps names.
func policyName(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func policyWriteCommand() command {
	return command{
		name: "policy write", usage: "[options] NAME FILE", shared: withHTTP,
		summary: "Write a policy",
		about: `Uploads an ACL policy from a file, or from standard input (-).

    $ vault policy write web web.hcl`,
		setup: func(f *flagSet) runFunc { return runPolicyWrite },
	}
}

// S0-26, S4-33, T13: a missing file is named.
func runPolicyWrite(c *call) error {
	if err := c.exactly(2); err != nil {
		return err
	}
	name := policyName(c.args[0])
	var rules []byte
	var err error
	if path := strings.TrimSpace(c.args[1]); path == "-" {
		rules, err = io.ReadAll(c.Stdio.In)
	} else {
		rules, err = os.ReadFile(c.env.expand(path))
	}
	if err != nil {
		return failf("Error opening policy file: %w", err)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Sys().PutPolicyWithContext(c.ctx, name, string(rules)); err != nil {
		return failf("Error uploading policy: %w", err)
	}
	c.printf("Success! Uploaded policy: %s\n", name)
	return nil
}

func policyListCommand() command {
	return command{
		name: "policy list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List policies",
		about:   "Lists the names of the ACL policies.",
		setup:   func(f *flagSet) runFunc { return runPolicyList },
	}
}

func runPolicyList(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	names, err := client.Sys().ListPoliciesWithContext(c.ctx)
	if err != nil {
		return failf("Error listing policies: %w", err)
	}
	return c.show(names, func() string { return strings.Join(names, "\n") + "\n" })
}

func policyDeleteCommand() command {
	return command{
		name: "policy delete", usage: "[options] NAME", shared: withHTTP,
		summary: "Delete a policy",
		about: `Deletes an ACL policy. Tokens that name it lose its rights at once.

    $ vault policy delete web`,
		setup: func(f *flagSet) runFunc { return runPolicyDelete },
	}
}

func runPolicyDelete(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	name := policyName(c.args[0])
	if err := client.Sys().DeletePolicyWithContext(c.ctx, name); err != nil {
		return failf("Error deleting %s: %w", name, err)
	}
	c.printf("Success! Deleted policy: %s\n", name)
	return nil
}

func policyFmtCommand() command {
	return command{
		name: "policy fmt", usage: "FILE",
		summary: "Format a policy file",
		about: `Rewrites a policy file in the usual layout. The server is not asked.

    $ vault policy fmt web.hcl`,
		setup: func(f *flagSet) runFunc { return runPolicyFmt },
	}
}

func runPolicyFmt(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	path := c.env.expand(strings.TrimSpace(c.args[0]))
	source, err := os.ReadFile(path) //nolint:gosec // the user names it
	if err != nil {
		return usagef("Error reading source file: %w", err)
	}
	if _, err := hcl.ParseBytes(source); err != nil {
		return usagef("failed to parse policy: %w", err)
	}
	formatted, err := printer.Format(source)
	if err != nil {
		return usagef("Error formatting source: %w", err)
	}
	if !bytes.Equal(source, formatted) {
		info, err := os.Stat(path)
		if err != nil {
			return usagef("Error writing result: %w", err)
		}
		if err := os.WriteFile(path, formatted, info.Mode().Perm()); err != nil {
			return usagef("Error writing result: %w", err)
		}
	}
	c.printf("Success! Formatted policy: %s\n", path)
	return nil
}
