package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A kvTarget is a secret's place: its mount with a trailing slash, the path
// inside it, and the engine's version.
type kvTarget struct {
	mount, path string
	v2          bool
}

// at returns the API path of the secret in one of version 2's parts (data,
// metadata, undelete, destroy), or its only path in version 1.
func (t kvTarget) at(part string) string {
	if !t.v2 {
		return strings.Trim(t.mount+t.path, "/")
	}
	return strings.Trim(t.mount+part+"/"+t.path, "/")
}

// kvMountFlag declares -mount.
func kvMountFlag(f *flagSet) *string {
	return f.String("mount", "", "path", "Mount of the engine; PATH is then the path inside it.")
}

// target resolves a path, with or without -mount. It asks the server where the
// mount ends and which version it is; any right on the mount allows that.
func (c *call) target(client *api.Client, mount, path string) (kvTarget, error) {
	path = cleanPath(path)
	ask := path
	if mount != "" {
		mount = cleanPath(mount)
		ask = mount
	}
	at, version, err := kvPreflight(c, client, ask)
	if err != nil {
		return kvTarget{}, &exitError{exitFailure, err}
	}
	t := kvTarget{mount: at, v2: version == 2}
	switch {
	case mount == "":
		t.path = strings.TrimPrefix(path+"/", at)
	case at == "":
		t.mount, t.path = mount+"/", path
	default:
		t.path = strings.TrimPrefix(mount+"/", at) + path
	}
	t.path = strings.TrimSuffix(t.path, "/")
	return t, nil
}

// kvPreflight asks for a path's mount and version. The question is sent even
// when the command itself is only printed (-output-curl-string), and is never
// wrapped. A server without that endpoint is taken for version 1.
func kvPreflight(c *call, client *api.Client, path string) (mount string, version int, err error) {
	curl, hcl, wrapping := client.OutputCurlString(), client.OutputPolicy(), client.CurrentWrappingLookupFunc()
	client.SetOutputCurlString(false)
	client.SetOutputPolicy(false)
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	defer func() {
		client.SetOutputCurlString(curl)
		client.SetOutputPolicy(hcl)
		client.SetWrappingLookupFunc(wrapping)
	}()
	s, err := c.request(http.MethodGet, "sys/internal/ui/mounts/"+path, nil)
	var refused *api.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return "", 1, nil
	}
	if err != nil {
		return "", 0, err
	}
	if s == nil {
		return "", 1, nil
	}
	mount, _ = s.Data["path"].(string)
	options, _ := s.Data["options"].(map[string]any)
	version, err = strconv.Atoi(fmt.Sprint(options["version"]))
	if err != nil {
		version = 1 // mounts made without the option are version 1
	}
	return mount, version, nil
}

// kvCall is the start that all kv commands share.
func (c *call) kvCall(mount string) (*api.Client, kvTarget, error) {
	client, err := c.client()
	if err != nil {
		return nil, kvTarget{}, err
	}
	path := ""
	if len(c.args) > 0 {
		path = c.args[0]
	}
	t, err := c.target(client, mount, path)
	return client, t, err
}

func kvGetCommand() command {
	return command{
		name: "kv get", usage: "[options] PATH", shared: withAll,
		summary: "Show a secret",
		about: `Shows a secret's data; in version 2 also the version's metadata.

    $ vault kv get -mount=secret creds
    $ vault kv get -field=password secret/creds`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			version := f.Int("version", 0, "Version to show; 0 is the newest.")
			return func(c *call) error { return runKVGet(c, *mount, *version) }
		},
	}
}

func runKVGet(c *call, mount string, version int) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	path := t.at("data")
	s, err := readVersion(c, client, path, version, t.v2)
	if err != nil {
		return failf("Error reading %s: %w", path, err)
	}
	if s == nil {
		return failf("No value found at %s", path)
	}
	if c.globals.field != "" {
		return c.printKVField(s, t)
	}
	if !c.isTable() || s.WrapInfo != nil {
		return c.printSecret(s)
	}
	c.printWarnings(s.Warnings)
	data := s.Data
	if t.v2 {
		data, _ = s.Data["data"].(map[string]any)
		c.printPath("Secret Path", path)
		if m, ok := s.Data["metadata"].(map[string]any); ok {
			c.printf("%s\n%s", mapBanner("Metadata", m), mapTable(m))
			if data != nil {
				c.printf("\n")
			}
		}
	}
	if data != nil {
		c.printf("%s\n%s", mapBanner("Data", data), mapTable(data))
	}
	return nil
}

// printKVField looks for a field in the secret's data, then in the answer.
func (c *call) printKVField(s *api.Secret, t kvTarget) error {
	if t.v2 && s.WrapInfo == nil {
		if data, ok := s.Data["data"].(map[string]any); ok {
			return c.printField(&api.Secret{Data: data}, c.globals.field)
		}
		return usagef("No data found at %s", t.at("data"))
	}
	return c.printField(s, c.globals.field)
}

func (c *call) printPath(title, path string) {
	c.printf("%s\n%s\n\n", banner(title, len(path)), path)
}

// readVersion reads a secret; version 0 is the newest.
func readVersion(c *call, client *api.Client, path string, version int, v2 bool) (*api.Secret, error) {
	var params map[string][]string
	if v2 && version > 0 {
		params = map[string][]string{"version": {strconv.Itoa(version)}}
	}
	return client.Logical().ReadWithDataWithContext(c.ctx, path, params)
}

func kvPutCommand() command {
	return command{
		name: "kv put", usage: "[options] PATH key=value …", shared: withAll,
		summary: "Write a secret",
		about: `Writes a secret; in version 2 a new version of it. Values may come from a file
(key=@file) or standard input (key=-), all of them as JSON (@file, -).

    $ vault kv put -mount=secret creds user=ann password=@pw.txt
    $ vault kv put -cas=0 secret/creds user=ann`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			cas := f.Int("cas", -1, "Write only if this is the newest version; 0: only if there is none.")
			return func(c *call) error { return runKVPut(c, *mount, *cas) }
		},
	}
}

func runKVPut(c *call, mount string, cas int) error {
	if err := c.counted(1, -1, ">1"); err != nil {
		return err
	}
	if len(c.args) == 1 {
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
	path := t.at("data")
	if t.v2 {
		data = kvBody(data, cas)
	}
	s, err := client.Logical().WriteWithContext(c.ctx, path, data)
	if err != nil {
		return failf("Error writing data to %s: %w", path, err)
	}
	return c.kvWritten(s, path)
}

// kvBody is the body of a version 2 write; cas below 0 means unchecked.
func kvBody(data map[string]any, cas int) map[string]any {
	options := map[string]any{}
	if cas >= 0 {
		options["cas"] = cas
	}
	return map[string]any{"data": data, "options": options}
}

// kvWritten reports a write: version 2 answers with the version's metadata.
func (c *call) kvWritten(s *api.Secret, path string) error {
	if s == nil || c.globals.field != "" || !c.isTable() || s.WrapInfo != nil {
		return c.written(s, path)
	}
	c.printWarnings(s.Warnings)
	c.printPath("Secret Path", path)
	c.printf("%s\n%s", mapBanner("Metadata", s.Data), mapTable(s.Data))
	return nil
}

func kvListCommand() command {
	return command{
		name: "kv list", usage: "[options] [PATH]", shared: withHTTP | withFormat,
		summary: "List secrets",
		about: `Lists the names under a path; names that end in "/" have more under them.

    $ vault kv list -mount=secret apps`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			return func(c *call) error { return runKVList(c, *mount) }
		},
	}
}

func runKVList(c *call, mount string) error {
	low := 1
	if mount != "" {
		low = 0
	}
	if err := c.counted(low, 1, "1"); err != nil {
		return err
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	path := t.at("metadata")
	s, err := client.Logical().ListWithContext(c.ctx, path)
	if err != nil {
		return failf("Error listing %s: %w", path, err)
	}
	return c.printList(s, path)
}

func kvDeleteCommand() command {
	return command{
		name: "kv delete", usage: "[options] PATH", shared: withAll,
		summary: "Delete a secret",
		about: `Deletes a secret; in version 2 its newest version, or those of -versions, which
"kv undelete" brings back.

    $ vault kv delete -mount=secret -versions=1,2 creds`,
		setup: func(f *flagSet) runFunc {
			mount := kvMountFlag(f)
			versions := f.List("versions", "numbers", "Versions to delete.")
			return func(c *call) error { return runKVDelete(c, *mount, *versions) }
		},
	}
}

func runKVDelete(c *call, mount string, versions []string) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, t, err := c.kvCall(mount)
	if err != nil {
		return err
	}
	path := t.at("data")
	var s *api.Secret
	if t.v2 && len(versions) > 0 {
		s, err = client.Logical().WriteWithContext(c.ctx, t.at("delete"), map[string]any{"versions": versions})
	} else {
		s, err = client.Logical().DeleteWithContext(c.ctx, path)
	}
	if err != nil {
		return failf("Error deleting %s: %w", path, err)
	}
	return c.deleted(s, path)
}

// deleted reports a deletion.
func (c *call) deleted(s *api.Secret, path string) error {
	if s != nil {
		return c.printSecret(s)
	}
	if c.isTable() {
		c.printf("Success! Data deleted (if it existed) at: %s\n", path)
	}
	return nil
}

func kvEnableVersioningCommand() command {
	return command{
		name: "kv enable-versioning", usage: "[options] MOUNT", shared: withHTTP,
		summary: "Turn a version 1 engine into version 2",
		about: `Upgrades a key-value engine in place: its secrets become the first versions.

    $ vault kv enable-versioning secret`,
		setup: func(f *flagSet) runFunc { return runKVEnableVersioning },
	}
}

// S0-23
func runKVEnableVersioning(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	mount := mountPath(c.args[0])
	options := map[string]string{"version": "2"}
	err = client.Sys().TuneMountAllowNilWithContext(c.ctx, strings.TrimSuffix(mount, "/"), api.TuneMountConfigInput{Options: &options})
	if err != nil {
		return failf("Error tuning secrets engine %s: %w", mount, err)
	}
	c.printf("Success! Tuned the secrets engine at: %s\n", mount)
	return nil
}

// mountPath is a mount's name with its one trailing slash.
func mountPath(s string) string { return cleanPath(s) + "/" }
