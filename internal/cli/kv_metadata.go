package cli

import (
	"sort"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

func kvMetadataGetCommand() command {
	return command{
		name: "kv metadata get", usage: "[options] PATH", shared: withAll,
		summary: "Show a secret's metadata and versions",
		about: `Shows a secret's settings and all its versions, not their data.

    $ vault kv metadata get -mount=secret creds`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			return func(c *call) error { return runKVMetadataGet(c, *mount) }
		},
	}
}

// metadataCall resolves a path for the metadata commands, which version 1 does
// not have.
func (c *call) metadataCall(mount string) (*api.Client, string, error) {
	if err := c.exactly(1); err != nil {
		return nil, "", err
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return nil, "", err
	}
	if !t.v2 {
		return nil, "", usagef("Metadata not supported on KV Version 1")
	}
	return client, t.at("metadata"), nil
}

func runKVMetadataGet(c *call, mount string) error {
	client, path, err := c.metadataCall(mount)
	if err != nil {
		return err
	}
	s, err := client.Logical().ReadWithContext(c.ctx, path)
	if err != nil {
		return failf("Error reading %s: %w", path, err)
	}
	if s == nil {
		return failf("No value found at %s", path)
	}
	if c.globals.field != "" || !c.isTable() || s.WrapInfo != nil {
		return c.printSecret(s)
	}
	c.printWarnings(s.Warnings)
	versions, _ := s.Data["versions"].(map[string]any)
	delete(s.Data, "versions")
	c.printPath("Metadata Path", path)
	c.printf("%s\n%s", mapBanner("Metadata", s.Data), mapTable(s.Data))
	numbers := sortedKeys(versions)
	sort.Slice(numbers, func(i, j int) bool {
		a, _ := strconv.Atoi(numbers[i]) // the server's own keys
		b, _ := strconv.Atoi(numbers[j])
		return a < b
	})
	for _, n := range numbers {
		if m, ok := versions[n].(map[string]any); ok {
			c.printf("\n%s\n%s", mapBanner("Version "+n, m), mapTable(m))
		}
	}
	return nil
}

// metadataFlags are the settings that put and patch share.
type metadataFlags struct {
	mount       *string
	maxVersions *int
	casRequired *bool
	deleteAfter *time.Duration
	custom      *map[string]string
	remove      *[]string // patch only
}

func declareMetadata(f *flagSet, patch bool) metadataFlags {
	m := metadataFlags{
		mount:       kvMountFlag(f),
		maxVersions: f.Int("max-versions", 0, "How many versions to keep; 0 is the engine's setting."),
		casRequired: f.Bool("cas-required", false, "Demand -cas for writes."),
		deleteAfter: f.Duration("delete-version-after", "Age at which versions are deleted."),
		custom:      f.Map("custom-metadata", "Note of one's own; may be repeated."),
	}
	if patch {
		m.remove = f.Strings("remove-custom-metadata", "key", "Note to remove; may be repeated.")
	}
	return m
}

// body holds what was given on the command line, and nothing else.
func (m metadataFlags) body(c *call) map[string]any {
	data := map[string]any{}
	if c.flags.given("max-versions") {
		data["max_versions"] = *m.maxVersions
	}
	if c.flags.given("cas-required") {
		data["cas_required"] = *m.casRequired
	}
	if c.flags.given("delete-version-after") {
		data["delete_version_after"] = m.deleteAfter.String()
	}
	custom := map[string]any{}
	for k, v := range *m.custom {
		custom[k] = v
	}
	if m.remove != nil {
		for _, k := range *m.remove {
			custom[k] = nil
		}
	}
	if len(custom) > 0 {
		data["custom_metadata"] = custom
	}
	return data
}

func kvMetadataPutCommand() command {
	return command{
		name: "kv metadata put", usage: "[options] PATH", shared: withHTTP | withFormat,
		summary: "Set a secret's settings",
		about: `Sets a secret's settings; the secret itself need not exist yet.

    $ vault kv metadata put -mount=secret -max-versions=5 -custom-metadata=owner=ann creds`,
		setup: func(f *flagSet) runFunc {
			m := declareMetadata(f, false)
			return func(c *call) error {
				client, path, err := c.metadataCall(*m.mount)
				if err != nil {
					return err
				}
				s, err := client.Logical().WriteWithContext(c.ctx, path, m.body(c))
				if err != nil {
					return failf("Error writing data to %s: %w", path, err)
				}
				return c.written(s, path)
			}
		},
	}
}

func kvMetadataPatchCommand() command {
	return command{
		name: "kv metadata patch", usage: "[options] PATH", shared: withHTTP | withFormat,
		summary: "Change some of a secret's settings",
		about: `Changes the settings given and leaves the others.

    $ vault kv metadata patch -mount=secret -remove-custom-metadata=owner creds`,
		setup: func(f *flagSet) runFunc {
			m := declareMetadata(f, true)
			return func(c *call) error {
				client, path, err := c.metadataCall(*m.mount)
				if err != nil {
					return err
				}
				s, err := client.Logical().JSONMergePatch(c.ctx, path, m.body(c))
				if err != nil {
					return failf("Error writing data to %s: %w", path, err)
				}
				return c.written(s, path)
			}
		},
	}
}

func kvMetadataDeleteCommand() command {
	return command{
		name: "kv metadata delete", usage: "[options] PATH", shared: withHTTP | withFormat,
		summary: "Delete a secret with all its versions",
		about: `Deletes a secret's metadata and with it all versions, for good.

    $ vault kv metadata delete -mount=secret creds`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			return func(c *call) error {
				client, path, err := c.metadataCall(*mount)
				if err != nil {
					return err
				}
				s, err := client.Logical().DeleteWithContext(c.ctx, path)
				if err != nil {
					return failf("Error deleting %s: %w", path, err)
				}
				return c.deleted(s, path)
			}
		},
	}
}
