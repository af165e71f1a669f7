package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

const migrationPath = "sys/storage/migration"

func migrationStartCommand() command {
	return command{
		name: "operator migration start", usage: "[options]", shared: withHTTP,
		summary: "Begin to migrate a running server's storage",
		about: `Has the active node copy its storage, encrypted as it is, into the one that its
configuration names, and follow what changes there. All goes on meanwhile. The stanza
is as that of a storage; the files are read anew, so no restart is needed:

    storage_destination "postgresql" {
      connection_url = "postgres://vault@db/vault"
    }

The target must be empty, and no server may use it. When the status says "following",
the servers go over with "operator migration switch".

    $ vault operator migration start`,
		setup: func(f *flagSet) runFunc { return runMigrationStart },
	}
}

func runMigrationStart(c *call) error {
	client, err := c.migrationClient()
	if err != nil {
		return err
	}
	if _, err := client.Logical().WriteWithContext(c.ctx, migrationPath, nil); err != nil {
		return failf("Error starting the migration: %w", err)
	}
	c.app.printf("%s\n", "Success! The migration has begun; how far it is: vault operator migration status")
	return nil
}

func (c *call) migrationClient() (*api.Client, error) {
	if err := c.exactly(0); err != nil {
		return nil, err
	}
	return c.client()
}

func migrationStatusCommand() command {
	return command{
		name: "operator migration status", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show how far the migration of the storage is",
		about: `Shows the state of the migration: none, opening, copying, following (all is there,
and what changes follows), or failed, with the reason.`,
		setup: func(f *flagSet) runFunc { return runMigrationStatus },
	}
}

func runMigrationStatus(c *call) error {
	client, err := c.migrationClient()
	if err != nil {
		return err
	}
	s, err := client.Logical().ReadWithContext(c.ctx, migrationPath)
	if err != nil {
		return failf("Error reading the migration's status: %w", err)
	}
	if s == nil {
		return failf("No migration status found")
	}
	return c.show(s, func() string {
		rows := [][]string{{"State", fmt.Sprint(s.Data["state"])}}
		for _, r := range [][2]string{{"Storage Type", "storage_type"}, {"Started", "started"}, {"Entries Copied", "copied"}, {"Entries Behind", "behind"}, {"Error", "error"}} {
			if v, ok := s.Data[r[1]]; ok {
				rows = append(rows, []string{r[0], fmt.Sprint(v)})
			}
		}
		return table([]string{"Key", "Value"}, rows)
	})
}

func migrationSwitchCommand() command {
	return command{
		name: "operator migration switch", usage: "[options]", shared: withHTTP,
		summary: "Go over to the storage that the running one was copied into",
		about: `Lets writes wait while the last of them are copied, and makes the target the storage
of this cluster. Its nodes seal themselves and cannot be unsealed any more: start them
with the target in the place of their storage stanza. The same keys open it.

    $ vault operator migration switch`,
		setup: func(f *flagSet) runFunc { return runMigrationSwitch },
	}
}

func runMigrationSwitch(c *call) error {
	client, err := c.migrationClient()
	if err != nil {
		return err
	}
	client.SetMaxRetries(0)
	c.askActive(client)
	if _, err := client.Logical().WriteWithContext(c.ctx, migrationPath+"/switch", nil); err != nil {
		if _, sealed := client.Sys().SealStatusWithContext(c.ctx); sealed != nil && strings.Contains(sealed.Error(), "this storage was migrated to ") {
			return failf("Error switching to the new storage: %w\nThe old one is marked as migrated. See whether the new one says that it is initialized.", err)
		}
		return failf("Error switching to the new storage: %w", err)
	}
	c.app.printf("%s\n", "Success! The storage was migrated. Start the servers on the new one.")
	return nil
}

// activeTime is how long the active node may take to be reached.
const activeTime = 5 * time.Second

// askActive has the client ask the active node itself, if it can reach that: a standby seals itself, and closes its connections, as soon as it
// hears of the switch, often before it has the active node's answer.
func (c *call) askActive(client *api.Client) {
	if c.globals.outputCurl || c.globals.outputHCL {
		return
	}
	leader, err := client.Sys().LeaderWithContext(c.ctx)
	if err != nil || leader.IsSelf || leader.LeaderAddress == "" {
		return
	}
	given := client.Address()
	if strings.HasPrefix(given, "https:") && !strings.HasPrefix(leader.LeaderAddress, "https:") {
		return // the token is not for all to read
	}
	if client.SetAddress(leader.LeaderAddress) == nil {
		ctx, cancel := context.WithTimeout(c.ctx, activeTime)
		defer cancel()
		if it, err := client.Sys().LeaderWithContext(ctx); err == nil && it.IsSelf {
			return
		}
	}
	_ = client.SetAddress(given) // it was taken before
}

func migrationCancelCommand() command {
	return command{
		name: "operator migration cancel", usage: "[options]", shared: withHTTP,
		summary: "Cancel the migration of the storage",
		about:   `Ends the migration, and forgets one that has failed. What was copied stays in the target.`,
		setup:   func(f *flagSet) runFunc { return runMigrationCancel },
	}
}

func runMigrationCancel(c *call) error {
	client, err := c.migrationClient()
	if err != nil {
		return err
	}
	if _, err := client.Logical().DeleteWithContext(c.ctx, migrationPath); err != nil {
		return failf("Error cancelling the migration: %w", err)
	}
	c.app.printf("%s\n", "Success! There is no migration any more. Empty the target before another one.")
	return nil
}
