package cli

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/api"
)

func kvPatchCommand() command {
	return command{
		name: "kv patch", usage: "[options] PATH key=value …", shared: withAll,
		summary: "Change some keys of a secret",
		about: `Adds to or changes the newest version of a secret without touching its other
keys (version 2 only). The method "patch" needs the patch capability, "rw" reads
and writes; without -method the second is tried when the first is refused.

    $ vault kv patch -mount=secret creds password=new`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			cas := f.Int("cas", 0, "Patch only if this is the newest version.")
			method := f.String("method", "", "method", "How: patch or rw.")
			f.oneOf("patch", "rw")
			remove := f.List("remove-data", "keys", "Keys to remove.")
			return func(c *call) error { return runKVPatch(c, *mount, *method, *cas, *remove) }
		},
	}
}

func runKVPatch(c *call, mount, method string, cas int, remove []string) error {
	if err := c.counted(1, -1, ">1"); err != nil {
		return err
	}
	if len(c.args) == 1 && len(remove) == 0 {
		return usagef("Must supply data")
	}
	data, err := c.parseData(c.args[1:])
	if err != nil {
		return err
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	if !t.v2 {
		return failf("K/V engine mount must be version 2 for patch support")
	}
	for _, key := range remove {
		if _, ok := data[key]; ok {
			return usagef("%q is both set and removed", key)
		}
		data[key] = nil
	}
	path := t.at("data")
	var s *api.Secret
	switch method {
	case "rw":
		s, err = c.readThenWrite(client, path, data)
	case "patch", "":
		s, err = client.Logical().JSONMergePatch(c.ctx, path, patchBody(data, cas))
		if method == "" && cas == 0 && patchRefused(err) {
			s, err = c.readThenWrite(client, path, data)
		}
	default:
		return failf("Unsupported method provided to -method flag: %s", method)
	}
	var done *exitError
	switch {
	case errors.As(err, &done):
		return err
	case err != nil:
		return failf("Error writing data to %s: %w", path, err)
	}
	return c.kvWritten(s, path)
}

func patchBody(data map[string]any, cas int) map[string]any {
	options := map[string]any{}
	if cas > 0 {
		options["cas"] = cas
	}
	return map[string]any{"data": data, "options": options}
}

// patchRefused reports whether the server does not know or allow PATCH, so
// that reading and writing may still do.
func patchRefused(err error) bool {
	var refused *api.ResponseError
	return errors.As(err, &refused) &&
		(refused.StatusCode == http.StatusForbidden || refused.StatusCode == http.StatusMethodNotAllowed)
}

// readThenWrite patches by reading the newest version and writing the sum,
// checked against that version.
func (c *call) readThenWrite(client *api.Client, path string, changes map[string]any) (*api.Secret, error) {
	s, err := client.Logical().ReadWithContext(c.ctx, path)
	if err != nil {
		return nil, failf("Error doing pre-read at %s: %w", path, err)
	}
	if s == nil {
		return nil, failf("No value found at %s", path)
	}
	data, ok := s.Data["data"].(map[string]any)
	if !ok {
		return nil, failf("No data found at %s; patch only works on existing data", path)
	}
	version, err := currentVersion(s)
	if err != nil {
		return nil, failf("%w", err)
	}
	for k, v := range changes {
		if v == nil {
			delete(data, k)
			continue
		}
		data[k] = v
	}
	return client.Logical().WriteWithContext(c.ctx, path, kvBody(data, version))
}

// currentVersion reads the version number from a secret's metadata.
func currentVersion(s *api.Secret) (int, error) {
	m, _ := s.Data["metadata"].(map[string]any)
	n, ok := m["version"].(interface{ Int64() (int64, error) })
	if !ok {
		return 0, errors.New("no version in the secret's metadata")
	}
	v, err := n.Int64()
	return int(v), err
}

func kvUndeleteCommand() command {
	return kvVersionsCommand("undelete", "Bring back deleted versions",
		"Brings back versions that were deleted but not destroyed.\n\n    $ vault kv undelete -mount=secret -versions=2 creds")
}

func kvDestroyCommand() command {
	return kvVersionsCommand("destroy", "Destroy versions for good",
		"Removes the data of versions for good.\n\n    $ vault kv destroy -mount=secret -versions=1,2 creds")
}

// kvVersionsCommand makes the two commands that act on listed versions.
func kvVersionsCommand(verb, summary, about string) command {
	return command{
		name: "kv " + verb, usage: "[options] PATH", shared: withAll, summary: summary, about: about,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			versions := f.List("versions", "numbers", "Versions to "+verb+".")
			return func(c *call) error { return runKVVersions(c, verb, *mount, *versions) }
		},
	}
}

func runKVVersions(c *call, verb, mount string, versions []string) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	if len(versions) == 0 {
		return usagef("No versions provided, use the \"-versions\" flag to specify the version to %s.", verb)
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	if !t.v2 {
		return usagef("%s not supported on KV Version 1", map[string]string{"undelete": "Undelete", "destroy": "Destroy"}[verb])
	}
	path := t.at(verb)
	s, err := client.Logical().WriteWithContext(c.ctx, path, map[string]any{"versions": versions})
	if err != nil {
		return failf("Error writing data to %s: %w", path, err)
	}
	return c.written(s, path)
}

func kvRollbackCommand() command {
	return command{
		name: "kv rollback", usage: "[options] PATH", shared: withAll,
		summary: "Make an old version the newest",
		about: `Writes the data of an earlier version as a new version.

    $ vault kv rollback -mount=secret -version=2 creds`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			version := f.Int("version", 0, "Version whose data becomes the newest.")
			return func(c *call) error { return runKVRollback(c, *mount, *version) }
		},
	}
}

func runKVRollback(c *call, mount string, version int) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	switch {
	case !c.flags.given("version"):
		return usagef("Version flag must be specified")
	case version <= 0:
		return usagef("Invalid value %d for the version flag", version)
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	if !t.v2 {
		return failf("K/V engine mount must be version 2 for rollback support")
	}
	path := t.at("data")
	newest, err := readVersion(c, client, path, 0, true)
	if err != nil {
		return failf("Error doing pre-read at %s: %w", path, err)
	}
	if newest == nil {
		return failf("No value found at %s", path)
	}
	cas, err := currentVersion(newest)
	if err != nil {
		return failf("%w", err)
	}
	data, err := rollbackData(c, client, path, version)
	if err != nil {
		return err
	}
	s, err := client.Logical().WriteWithContext(c.ctx, path, kvBody(data, cas))
	if err != nil {
		return failf("Error writing data to %s: %w", path, err)
	}
	return c.written(s, path)
}

// rollbackData reads the data of the version to return to.
func rollbackData(c *call, client *api.Client, path string, version int) (map[string]any, error) {
	s, err := readVersion(c, client, path, version, true)
	if err != nil {
		return nil, failf("Error doing pre-read at %s: %w", path, err)
	}
	if s == nil {
		return nil, failf("No value found at %s", path)
	}
	metadata, _ := s.Data["metadata"].(map[string]any)
	if deleted := metadata["deletion_time"]; deleted != nil && fmt.Sprint(deleted) != "" {
		return nil, failf("Cannot roll back to a version that has been deleted")
	}
	if metadata["destroyed"] == true {
		return nil, failf("Cannot roll back to a version that has been destroyed")
	}
	data, ok := s.Data["data"].(map[string]any)
	if !ok {
		return nil, failf("No data found at %s; rollback only works on existing data", path)
	}
	return data, nil
}
