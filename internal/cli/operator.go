package cli

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

func unsealCommand() command {
	return command{
		name: "operator unseal", usage: "[options] [KEY]", shared: withHTTP | withFormat,
		summary: "Give an unseal key",
		about: `Gives the server one unseal key, in base64 or hex. It is asked for when missing,
which keeps it out of the shell's history. The server opens when enough different
keys were given.

    $ vault operator unseal
    $ vault operator unseal -reset

A server with a seal that opens by itself needs no keys. With -migrate they take it
over to the seal that its configuration has now; with -recovery the recovery keys
open it when its seal is lost.

    $ vault operator unseal -recovery`,
		setup: func(f *flagSet) runFunc {
			reset := f.Bool("reset", false, "Forget the keys given so far.")
			migrate := f.Bool("migrate", false, "The key takes part in a seal migration.")
			recovery := f.Bool("recovery", false, "The key is a recovery key, to open a server whose seals are lost.")
			return func(c *call) error { return runUnseal(c, *reset, *migrate, *recovery) }
		},
	}
}

// S0-20, S3-6, S4-23
func runUnseal(c *call, reset, migrate, recovery bool) error {
	if err := c.counted(0, 1, "1"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var status *api.SealStatusResponse
	if reset {
		if status, err = client.Sys().ResetUnsealProcessWithContext(c.ctx); err != nil {
			return failf("Error resetting unseal process: %w", err)
		}
		return c.printSealStatus(client, status)
	}
	key := ""
	if len(c.args) == 1 {
		key = strings.TrimSpace(c.args[0])
	}
	if key == "" {
		if key, err = c.secretPrompt("Unseal Key (will be hidden): "); err != nil {
			return usagef("An error occurred attempting to ask for an unseal key: %w. Give the key as an argument, "+
				"or run the command on a terminal.", err)
		}
	}
	if recovery {
		return unsealByRecovery(c, client, key)
	}
	status, err = client.Sys().UnsealWithOptionsWithContext(c.ctx, &api.UnsealOpts{Key: key, Migrate: migrate})
	if err != nil {
		return failf("Error unsealing: %w", err)
	}
	return c.printSealStatus(client, status)
}

// unsealByRecovery gives a recovery key, for which the client's own function has no
// word.
func unsealByRecovery(c *call, client *api.Client, key string) error {
	if _, err := client.Logical().WriteWithContext(c.ctx, "sys/unseal", map[string]any{"key": key, "recovery": true}); err != nil {
		return failf("Error unsealing: %w", err)
	}
	status, err := client.Sys().SealStatusWithContext(c.ctx)
	if err != nil {
		return failf("Error checking seal status: %w", err)
	}
	return c.printSealStatus(client, status)
}

func sealCommand() command {
	return command{
		name: "operator seal", usage: "[options]", shared: withHTTP,
		summary: "Seal the server",
		about:   `Makes the server forget its keys. It serves nothing until it is unsealed.`,
		setup:   func(f *flagSet) runFunc { return runSeal },
	}
}

func runSeal(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Sys().SealWithContext(c.ctx); err != nil {
		return failf("Error sealing: %w", err)
	}
	c.printf("Success! Vault is sealed.\n")
	return nil
}

func stepDownCommand() command {
	return command{
		name: "operator step-down", usage: "[options] [ADDRESS]", shared: withHTTP,
		summary: "Make the active node hand over",
		about: `Makes the active node give up its lead, so that another node takes it. An
argument is the node's address, like -address.`,
		setup: func(f *flagSet) runFunc { return runStepDown },
	}
}

// T8: the course notes give the address as an argument; it is taken as one.
func runStepDown(c *call) error {
	if err := c.between(0, 1); err != nil {
		return err
	}
	if len(c.args) == 1 {
		c.globals.address, c.globals.agentAddress = nodeAddress(c.args[0], "https"), ""
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Sys().StepDownWithContext(c.ctx); err != nil {
		return failf("Error stepping down: %w", err)
	}
	c.printf("Success! Stepped down: %s\n", client.Address())
	return nil
}

// nodeAddress completes an address that has no scheme or port.
func nodeAddress(s, scheme string) string {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "://") {
		return s
	}
	host := s
	if strings.HasPrefix(s, "[") {
		_, host, _ = strings.Cut(s, "]")
	}
	if !strings.Contains(host, ":") {
		s += ":8200"
	}
	return scheme + "://" + s
}

func keyStatusCommand() command {
	return command{
		name: "operator key-status", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show the encryption key's state",
		about: `Shows the number and age of the key that encrypts the storage, and how often it
was used.`,
		setup: func(f *flagSet) runFunc { return runKeyStatus },
	}
}

func runKeyStatus(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	status, err := client.Sys().KeyStatusWithContext(c.ctx)
	if err != nil {
		return failf("Error reading key status: %w", err)
	}
	return c.show(status, func() string { return keyStatusTable(status) })
}

func keyStatusTable(k *api.KeyStatus) string {
	return table(nil, [][]string{
		{"Key Term", fmt.Sprint(k.Term)},
		{"Install Time", k.InstallTime.UTC().Format(time.RFC822)},
		{"Encryption Count", fmt.Sprint(k.Encryptions)},
	})
}

func rotateCommand() command {
	return command{
		name: "operator rotate", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Make a new encryption key",
		about: `Adds a key to the keyring that encrypts the storage; new values use it, old ones
stay readable. Unseal keys do not change.`,
		setup: func(f *flagSet) runFunc { return runRotate },
	}
}

func runRotate(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if _, err := c.request(http.MethodPut, "sys/rotate", nil); err != nil {
		return failf("Error rotating key: %w", err)
	}
	status, err := client.Sys().KeyStatusWithContext(c.ctx)
	if err != nil {
		return failf("Error reading key status: %w", err)
	}
	return c.show(status, func() string { return "Success! Rotated key\n\n" + keyStatusTable(status) })
}

func membersCommand() command {
	return command{
		name: "operator members", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show the cluster's nodes",
		about:   "Shows the nodes of a cluster as the active node knows them.",
		setup:   func(f *flagSet) runFunc { return runMembers },
	}
}

func runMembers(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	status, err := client.Sys().HAStatusWithContext(c.ctx)
	if err != nil {
		return failf("Error reading HA status: %w", err)
	}
	return c.show(status, func() string {
		var rows [][]string
		for _, n := range status.Nodes {
			echo := ""
			if n.LastEcho != nil {
				echo = n.LastEcho.Format(time.RFC3339)
			}
			rows = append(rows, []string{
				n.Hostname, n.APIAddress, n.ClusterAddress, fmt.Sprint(n.ActiveNode), n.Version, n.UpgradeVersion,
				n.RedundancyZone, echo,
			})
		}
		return table([]string{
			"Host Name", "API Address", "Cluster Address", "Active Node", "Version", "Upgrade Version",
			"Redundancy Zone", "Last Echo",
		}, rows)
	})
}
