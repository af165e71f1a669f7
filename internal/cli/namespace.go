package cli

import (
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

func namespaceCreateCommand() command {
	return command{
		name: "namespace create", usage: "[options] PATH", shared: withAll,
		summary: "Create a namespace",
		about: `Creates a namespace inside the present one.

    $ vault namespace create team-a
    $ vault namespace create -namespace=team-a dev`,
		setup: func(f *flagSet) runFunc {
			custom := f.Map("custom-metadata", "Note of one's own; may be repeated.")
			return func(c *call) error { return runNamespaceCreate(c, *custom) }
		},
	}
}

func runNamespaceCreate(c *call, custom map[string]string) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	data := map[string]any{}
	if len(custom) > 0 {
		data["custom_metadata"] = custom
	}
	s, err := c.request(http.MethodPost, "sys/namespaces/"+cleanPath(c.args[0]), data)
	if err != nil {
		return c.apiFailure("Error creating namespace", err)
	}
	return c.written(s, cleanPath(c.args[0]))
}

// apiFailure prefixes a request's error; a client that could not be made says
// so by itself.
func (c *call) apiFailure(what string, err error) error {
	if c.cached == nil {
		return err
	}
	return failf("%s: %w", what, err)
}

func namespaceListCommand() command {
	return command{
		name: "namespace list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List namespaces",
		about:   "Lists the namespaces directly inside the present one.",
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				if err := c.exactly(0); err != nil {
					return err
				}
				client, err := c.client()
				if err != nil {
					return err
				}
				s, err := client.Logical().ListWithContext(c.ctx, "sys/namespaces")
				if err != nil {
					return failf("Error listing namespaces: %w", err)
				}
				if _, ok := listKeys(s); !ok && c.isTable() {
					return failf("No namespaces found")
				}
				return c.printList(s, "sys/namespaces")
			}
		},
	}
}

func namespaceLookupCommand() command {
	return command{
		name: "namespace lookup", usage: "[options] PATH", shared: withHTTP | withFormat,
		summary: "Show a namespace",
		about: `Shows a namespace inside the present one.

    $ vault namespace lookup team-a`,
		setup: func(f *flagSet) runFunc { return runNamespaceLookup },
	}
}

func runNamespaceLookup(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Logical().ReadWithContext(c.ctx, "sys/namespaces/"+cleanPath(c.args[0]))
	if err != nil {
		return failf("Error looking up namespace: %w", err)
	}
	if s == nil {
		return failf("Namespace not found")
	}
	return c.printSecret(s)
}

func namespaceDeleteCommand() command {
	return command{
		name: "namespace delete", usage: "[options] PATH", shared: withHTTP | withFormat,
		summary: "Delete a namespace",
		about: `Deletes a namespace with all that is in it. It must not contain namespaces.

    $ vault namespace delete team-a`,
		setup: func(f *flagSet) runFunc { return runNamespaceDelete },
	}
}

func runNamespaceDelete(c *call) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := mountPath(c.args[0])
	s, err := client.Logical().DeleteWithContext(c.ctx, "sys/namespaces/"+cleanPath(path))
	if err != nil {
		return failf("Error deleting namespace: %w", err)
	}
	switch {
	case s != nil && s.Data["status"] != nil && c.isTable():
		c.printf("Success! Namespace deletion scheduled: %s\n", path)
	case s != nil && len(s.Warnings) > 0 && s.Data == nil && c.isTable():
		for _, w := range s.Warnings {
			c.errorf("%s", capitalized(w))
		}
	case s != nil:
		return c.printSecret(s)
	default:
		c.printf("Success! Namespace deleted at: %s\n", path)
	}
	return nil
}

func capitalized(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func namespacePatchCommand() command {
	return command{
		name: "namespace patch", usage: "[options] PATH", shared: withAll,
		summary: "Change a namespace's notes",
		about: `Changes the notes given and leaves the others.

    $ vault namespace patch -custom-metadata=owner=ann -remove-custom-metadata=team team-a`,
		setup: func(f *flagSet) runFunc {
			custom := f.Map("custom-metadata", "Note of one's own; may be repeated.")
			remove := f.Strings("remove-custom-metadata", "key", "Note to remove; may be repeated.")
			return func(c *call) error { return runNamespacePatch(c, *custom, *remove) }
		},
	}
}

func runNamespacePatch(c *call, custom map[string]string, remove []string) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	notes := map[string]any{}
	for k, v := range custom {
		notes[k] = v
	}
	for _, k := range remove {
		notes[k] = nil
	}
	data := map[string]any{}
	if len(notes) > 0 {
		data["custom_metadata"] = notes
	}
	s, err := client.Logical().JSONMergePatch(c.ctx, "sys/namespaces/"+cleanPath(c.args[0]), data)
	if err != nil {
		return failf("Error patching namespace: %w", err)
	}
	if s == nil {
		return failf("Namespace not found")
	}
	return c.printSecret(s)
}

func namespaceLockCommand() command {
	return command{
		name: "namespace lock", usage: "[options] [PATH]", shared: withHTTP | withFormat,
		summary: "Lock a namespace",
		about: `Refuses all requests in a namespace and those inside it, until it is unlocked
with the key that this prints.

    $ vault namespace lock team-a`,
		setup: func(f *flagSet) runFunc {
			return func(c *call) error { return runNamespaceLock(c, "lock", nil) }
		},
	}
}

func namespaceUnlockCommand() command {
	return command{
		name: "namespace unlock", usage: "[options] -unlock-key=KEY [PATH]", shared: withHTTP | withFormat,
		summary: "Unlock a namespace",
		about: `Ends a lock. A root token needs no key.

    $ vault namespace unlock -unlock-key=KEY team-a`,
		setup: func(f *flagSet) runFunc {
			return func(c *call) error {
				data := map[string]any{}
				if c.globals.unlockKey != "" {
					data["unlock_key"] = c.globals.unlockKey
				}
				return runNamespaceLock(c, "unlock", data)
			}
		},
	}
}

func runNamespaceLock(c *call, verb string, data map[string]any) error {
	if err := c.between(0, 1); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	path := "sys/namespaces/api-lock/" + verb
	if len(c.args) == 1 {
		path += "/" + cleanPath(c.args[0])
	}
	var s *api.Secret
	if s, err = client.Logical().WriteWithContext(c.ctx, path, data); err != nil {
		return failf("Error %sing namespace: %w", verb, err)
	}
	if s != nil {
		return c.printSecret(s)
	}
	c.printf("Success! Namespace %sed\n", verb)
	return nil
}
