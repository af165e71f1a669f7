package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// What operators look at in a KMIP engine: clients, their messages and certificates, objects.

const (
	kmipPage  = 500  // objects that are asked for at once
	kmipLimit = 1000 // that are shown where nothing else was said
)

// kmipCommands are those that ask a server of ours by its API.
func kmipCommands() []command {
	list := []command{
		kmipSendCommand(), kmipCreateCommand(), kmipGetCommand(), kmipLocateCommand(), kmipTemplateListCommand(), kmipTemplateReadCommand(),
		kmipClientListCommand(), kmipClientReadCommand(), kmipCredentialListCommand(),
		kmipTraceStartCommand(), kmipTraceReadCommand(), kmipTraceStopCommand(), kmipTraceListCommand(),
		kmipObjectListCommand(), kmipObjectReadCommand(), kmipObjectStatsCommand(), kmipObjectRevokeCommand(), kmipObjectDestroyCommand(),
	}
	for _, verb := range [][2]string{
		{"activate", "Activate an object"},
		{"archive", "Archive an object"},
		{"recover", "Take an object out of the archive"},
		{"restore", "Take a destroyed object back, while its scope keeps the material"},
	} {
		list = append(list, kmipObjectCommand(verb[0], verb[1]))
	}
	return list
}

// kmipPath is a path of the engine at a mount. Arguments are single segments of it: one that led
// to another path would have something else changed than was named.
func kmipPath(mount string, segments ...string) (string, error) {
	path := cleanPath(mount)
	for _, s := range segments {
		if s == "" || s == "." || s == ".." || strings.Contains(s, "/") {
			return "", usagef("%q cannot be the name or the id of anything", s)
		}
		path += "/" + s
	}
	return path, nil
}

// kmipRead reads a path of the engine; what is not there is an error.
func (c *call) kmipRead(path string, query url.Values) (*api.Secret, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	s, err := client.Logical().ReadWithDataWithContext(c.ctx, path, query)
	if err != nil {
		return nil, failf("Error reading %s: %w", path, err)
	}
	if s == nil {
		return nil, failf("No value found at %s", path)
	}
	return s, nil
}

// kmipList lists a path of the engine with parameters; nil is an empty list.
func (c *call) kmipList(path string, query url.Values) (*api.Secret, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	params := url.Values{"list": {"true"}}
	for k, v := range query {
		params[k] = v
	}
	s, err := client.Logical().ReadWithDataWithContext(c.ctx, path, params)
	if err != nil {
		return nil, failf("Error listing %s: %w", path, err)
	}
	return s, nil
}

// printNested is printSecret with a row for each value, however deep it lies.
func (c *call) printNested(s *api.Secret) error {
	if c.globals.field != "" || s.WrapInfo != nil {
		return c.printSecret(s)
	}
	if c.isTable() {
		c.printWarnings(s.Warnings)
	}
	return c.show(s, func() string { return table([]string{"Key", "Value"}, nestedRows("", s.Data)) })
}

// printDetailed prints a list with what is known of each key.
func (c *call) printDetailed(s *api.Secret, path string) error {
	c.globals.detailed = true
	return c.printList(s, path)
}

// infoOf is what a list knows of a key.
func infoOf(s *api.Secret, key any) map[string]any {
	all, _ := s.Data["key_info"].(map[string]any)
	one, _ := all[fmt.Sprint(key)].(map[string]any)
	return one
}

// kmipReadCommand makes a command that shows one path of the engine; path makes its segments of
// the arguments, of which there are args.
func kmipReadCommand(name, usage, summary, about string, args int, path func(args []string) []string) command {
	return command{
		name: name, usage: "[options] " + usage, shared: withAll, summary: summary, about: about,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error {
				if err := c.exactly(args); err != nil {
					return err
				}
				at, err := kmipPath(*mount, path(c.args)...)
				if err != nil {
					return err
				}
				s, err := c.kmipRead(at, nil)
				if err != nil {
					return err
				}
				return c.printNested(s)
			}
		},
	}
}

func kmipTemplateListCommand() command {
	return command{
		name: "kmip template list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List the messages that kmip send has ready",
		about: `Lists the templates of messages that the engine has ready.

    $ arca kmip template list`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error { return runKMIPNames(c, cleanPath(*mount)+"/template") }
		},
	}
}

// runKMIPNames lists the names at a path.
func runKMIPNames(c *call, path string) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	s, err := c.kmipList(path, nil)
	if err != nil {
		return err
	}
	return c.printList(s, path)
}

func kmipTemplateReadCommand() command {
	return command{
		name: "kmip template read", usage: "[options] NAME", shared: withAll,
		summary: "Show a message that kmip send has ready",
		about: `Prints a template: a message in XML with marks (PARAMETER_name) that parameters take
the place of. It may be changed and sent.

    $ arca kmip template read create > message.xml
    $ arca kmip send -template=@message.xml finance accounting name=invoices`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error {
				if err := c.exactly(1); err != nil {
					return err
				}
				path, err := kmipPath(*mount, "template", c.args[0])
				if err != nil {
					return err
				}
				s, err := c.kmipRead(path, nil)
				if err != nil {
					return err
				}
				if text, ok := s.Data["template"].(string); ok && c.globals.field == "" && c.isTable() {
					c.printf("%s\n", strings.TrimRight(text, "\n"))
					return nil
				}
				return c.printSecret(s)
			}
		},
	}
}

func kmipClientListCommand() command {
	return command{
		name: "kmip client list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List the clients that have come",
		about: `Lists the clients that came to the engine's listeners in the last 90 days, by the
serial numbers of their certificates: whose they are, when they came last, from
where, and which versions of the protocol they spoke.

    $ arca kmip client list`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error {
				if err := c.exactly(0); err != nil {
					return err
				}
				path := cleanPath(*mount) + "/client"
				s, err := c.kmipList(path, nil)
				if err != nil {
					return err
				}
				return c.printDetailed(s, path)
			}
		},
	}
}

func kmipClientReadCommand() command {
	return kmipReadCommand("kmip client read", "SERIAL", "Show what a client uses, and what failed",
		`Shows what is known of a client by the serial number of its certificate: its
scope and role, when it came first and last, from where, the versions and the
operations that it uses, and the last that failed. It is the first to look at
when a client does not work; its messages are behind "kmip trace".

    $ arca kmip client read 4711`, 1, func(args []string) []string { return []string{"client", args[0]} })
}

func kmipCredentialListCommand() command {
	return command{
		name: "kmip credential list", usage: "[options] SCOPE ROLE", shared: withHTTP | withFormat,
		summary: "List the certificates of a role's clients, and when they end",
		about: `Lists the certificates of a role that are valid, those that end first before the
others: their serial numbers, when they end, in how many seconds, and which of
them came of another by renewal. Exits with 2 when there is none.

    $ arca kmip credential list finance accounting
    $ arca kmip credential list -ending=7d finance accounting`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			ending := f.Duration("ending", "Only those that end within this time.")
			return func(c *call) error { return runKMIPCredentials(c, *mount, *ending) }
		},
	}
}

func runKMIPCredentials(c *call, mount string, ending time.Duration) error {
	if err := c.exactly(2); err != nil {
		return err
	}
	path, err := kmipPath(mount, "scope", c.args[0], "role", c.args[1], "credential")
	if err != nil {
		return err
	}
	s, err := c.kmipList(path, url.Values{"detail": {"true"}})
	if err != nil {
		return err
	}
	keys, ok := listKeys(s)
	if !ok {
		return c.printDetailed(s, path)
	}
	left := func(key any) int64 {
		n, _ := infoOf(s, key)["expires_in"].(json.Number)
		seconds, _ := n.Int64() // 0 where the server does not say it
		return seconds
	}
	if ending > 0 {
		keys = slices.DeleteFunc(keys, func(k any) bool { return left(k) > int64(ending/time.Second) })
		known := map[string]any{}
		for _, k := range keys {
			known[fmt.Sprint(k)] = infoOf(s, k)
		}
		s.Data["key_info"] = known
	}
	slices.SortStableFunc(keys, func(a, b any) int { return cmp.Compare(left(a), left(b)) })
	if s.Data["keys"] = keys; len(keys) == 0 {
		s.Data = nil
	}
	return c.printDetailed(s, path)
}

func kmipTraceStartCommand() command {
	return command{
		name: "kmip trace start", usage: "[options] SERIAL", shared: withHTTP,
		summary: "Keep the messages of a client for a while",
		about: `Has the server keep the messages of a client, by the serial number of its
certificate, without key material, passwords and data, for a while.

    $ arca kmip trace start -duration=1h 4711`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			duration := f.Duration("duration", "For how long, at most a day; ten minutes when it is not given.")
			return func(c *call) error {
				body := map[string]any{}
				if f.given("duration") {
					body["duration"] = duration.String()
				}
				return runKMIPTrace(c, http.MethodPost, *mount, body, "Success! Messages are kept of: %s\n")
			}
		},
	}
}

func kmipTraceStopCommand() command {
	return command{
		name: "kmip trace stop", usage: "[options] SERIAL", shared: withHTTP,
		summary: "Keep the messages of a client no more",
		about: `Ends a trace; the messages that were kept are forgotten.

    $ arca kmip trace stop 4711`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error {
				return runKMIPTrace(c, http.MethodDelete, *mount, nil, "Success! Messages are not kept any more of: %s\n")
			}
		},
	}
}

func runKMIPTrace(c *call, method, mount string, body any, done string) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	path, err := kmipPath(mount, "trace", c.args[0])
	if err != nil {
		return err
	}
	if _, err := c.request(method, path, body); err != nil {
		return c.apiFailure("Error changing the trace", err)
	}
	c.printf(done, c.args[0])
	return nil
}

func kmipTraceListCommand() command {
	return command{
		name: "kmip trace list", usage: "[options]", shared: withHTTP | withFormat,
		summary: "List the clients whose messages are kept",
		about: `Lists the serial numbers of the certificates of clients whose messages are kept.

    $ arca kmip trace list`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error { return runKMIPNames(c, cleanPath(*mount)+"/trace") }
		},
	}
}

func kmipTraceReadCommand() command {
	return command{
		name: "kmip trace read", usage: "[options] SERIAL", shared: withAll,
		summary: "Show the messages of a client",
		about: `Prints the messages of a client that the node has kept, and its answers, in XML.
They are at the node that the client speaks with: ask that one (-address).

    $ arca kmip trace read 4711
    $ arca kmip trace read -hex 4711`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			hex := f.Bool("hex", false, "Print the bytes in hexadecimal in place of XML.")
			return func(c *call) error { return runKMIPTraceRead(c, *mount, *hex) }
		},
	}
}

func runKMIPTraceRead(c *call, mount string, hex bool) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	path, err := kmipPath(mount, "trace", c.args[0])
	if err != nil {
		return err
	}
	s, err := c.kmipRead(path, nil)
	if err != nil {
		return err
	}
	if c.globals.field != "" || s.WrapInfo != nil || !c.isTable() {
		return c.printSecret(s)
	}
	c.printf("Until %v\n", s.Data["until"])
	messages, _ := s.Data["messages"].([]any)
	for _, m := range messages {
		one, _ := m.(map[string]any)
		c.printf("\n%s\n", banner(printable(fmt.Sprintf("%v %v", one["time"], one["remote_address"])), 0))
		for _, part := range []string{"request", "response"} {
			text := indented(fmt.Sprint(one[part]))
			if v, ok := one[part+"_hex"]; ok && hex {
				text = printable(fmt.Sprint(v))
			}
			c.printf("%s:\n%s\n", part, text)
		}
	}
	return nil
}

// indented is XML of KMIP, which is of elements alone, with one on each line.
func indented(text string) string {
	var b strings.Builder
	depth := 0
	for i, part := range strings.SplitAfter(strings.ReplaceAll(text, "><", ">\n<"), "\n") {
		closes := strings.HasPrefix(part, "</")
		if closes && i > 0 {
			depth--
		}
		b.WriteString(strings.Repeat("  ", max(depth, 0)) + printable(strings.TrimSuffix(part, "\n")))
		if strings.HasSuffix(part, "\n") {
			b.WriteByte('\n')
		}
		if line := strings.TrimSpace(part); !closes && !strings.HasSuffix(line, "/>") && !strings.Contains(line, "</") {
			depth++
		}
	}
	return b.String()
}

func kmipObjectListCommand() command {
	return command{
		name: "kmip object list", usage: "[options] SCOPE", shared: withHTTP | withFormat,
		summary: "List objects, and when they were used last",
		about: `Lists the objects of a scope in the order in which they were made: their names,
types and states, and when each was used last, by which operation and role. With
-unused only those that were not used for so long, or never: an object that was
just made is one of them. Exits with 2 when there is none.

    $ arca kmip object list finance
    $ arca kmip object list -unused=90d -format=json finance`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			after := f.String("after", "", "id", "Begin behind this object.")
			limit := f.Int("limit", kmipLimit, "How many objects to list at most.")
			unused := f.Duration("unused", "Only those that were not used for so long.")
			return func(c *call) error { return runKMIPObjects(c, *mount, *after, *limit, *unused) }
		},
	}
}

func runKMIPObjects(c *call, mount, after string, limit int, unused time.Duration) error {
	if err := c.exactly(1); err != nil {
		return err
	}
	if limit < 1 {
		return usagef("-limit must be at least 1")
	}
	path, err := kmipPath(mount, "scope", c.args[0], "object")
	if err != nil {
		return err
	}
	keys, known := []any{}, map[string]any{}
	for more := true; more; {
		query := url.Values{"detail": {"true"}, "limit": {strconv.Itoa(kmipPage)}}
		if after != "" {
			query.Set("after", after)
		}
		s, err := c.kmipList(path, query)
		if err != nil {
			return err
		}
		page, _ := listKeys(s)
		more = len(page) == kmipPage
		for _, k := range page {
			info := infoOf(s, k)
			if unused > 0 && usedSince(info, time.Now().Add(-unused)) {
				continue
			}
			if len(keys) == limit {
				more = false
				c.errorf("There are more: go on with -after=%v", keys[limit-1])
				break
			}
			keys = append(keys, k)
			known[fmt.Sprint(k)] = info
		}
		if len(page) > 0 {
			after = fmt.Sprint(page[len(page)-1])
		}
	}
	out := &api.Secret{}
	if len(keys) > 0 {
		out.Data = map[string]any{"keys": keys, "key_info": known}
	}
	if c.isTable() {
		for _, info := range known {
			if one, ok := info.(map[string]any); ok && one["last_used"] != nil {
				one["last_used"] = useText(one["last_used"])
			}
		}
	}
	return c.printDetailed(out, path)
}

// usedSince reports whether an object was used after a time.
func usedSince(info map[string]any, since time.Time) bool {
	last, _ := info["last_used"].(map[string]any)
	text, _ := last["time"].(string)
	at, err := time.Parse(time.RFC3339, text)
	return err == nil && at.After(since)
}

// useText is the last use of an object in a line.
func useText(v any) string {
	last, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	text := fmt.Sprintf("%v %v by %v", last["time"], last["operation"], last["role"])
	if serial := last["serial_number"]; serial != nil {
		text += fmt.Sprintf(" (%v)", serial)
	}
	return text
}

func kmipObjectReadCommand() command {
	return kmipReadCommand("kmip object read", "SCOPE ID", "Show what is known of an object",
		`Shows the attributes of an object, and when it was used last, by which operation,
role and certificate. Its material is not shown.

    $ arca kmip object read finance 9f0c6e5e-7d0c-4d4b-8f0e-6a5a4c3e2d1b`, 2,
		objectPath)
}

func objectPath(args []string) []string { return []string{"scope", args[0], "object", args[1]} }

func kmipObjectStatsCommand() command {
	return kmipReadCommand("kmip object stats", "SCOPE", "Count the objects of a scope by type and state",
		`Counts the objects of a scope, by their types and states.

    $ arca kmip object stats finance`, 1, func(args []string) []string { return []string{"scope", args[0], "stats"} })
}

// kmipObjectCommand makes a command that does one thing to an object.
func kmipObjectCommand(verb, summary string) command {
	return command{
		name: "kmip object " + verb, usage: "[options] SCOPE ID", shared: withHTTP,
		summary: summary,
		about: summary + `, as an operator, not as a client.

    $ arca kmip object ` + verb + ` finance 9f0c6e5e-7d0c-4d4b-8f0e-6a5a4c3e2d1b`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error { return runKMIPObject(c, http.MethodPost, *mount, "/"+verb, map[string]any{}) }
		},
	}
}

func runKMIPObject(c *call, method, mount, verb string, body any) error {
	if err := c.exactly(2); err != nil {
		return err
	}
	path, err := kmipPath(mount, objectPath(c.args)...)
	if err != nil {
		return err
	}
	path += verb
	if _, err := c.request(method, path, body); err != nil {
		return c.apiFailure("Error changing the object", err)
	}
	c.printf("Success! Done at: %s\n", path)
	return nil
}

func kmipObjectRevokeCommand() command {
	return command{
		name: "kmip object revoke", usage: "[options] SCOPE ID", shared: withHTTP,
		summary: "Revoke an object",
		about: `Revokes an object, as an operator, not as a client.

    $ arca kmip object revoke -reason=KeyCompromise finance 9f0c6e5e-7d0c-4d4b-8f0e-6a5a4c3e2d1b`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			params := map[string]*string{
				"reason":  f.String("reason", "", "name", "Why, as KMIP calls it; CessationOfOperation when it is not given."),
				"message": f.String("message", "", "text", "What there is to say about it."),
			}
			return func(c *call) error {
				return runKMIPObject(c, http.MethodPost, *mount, "/revoke", givenParams(params))
			}
		},
	}
}

func kmipObjectDestroyCommand() command {
	return command{
		name: "kmip object destroy", usage: "[options] SCOPE ID", shared: withHTTP,
		summary: "Destroy an object",
		about: `Destroys an object, as an operator, not as a client. Its material is gone, but for
a scope that keeps it for a while (retention).

    $ arca kmip object destroy finance 9f0c6e5e-7d0c-4d4b-8f0e-6a5a4c3e2d1b`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			return func(c *call) error { return runKMIPObject(c, http.MethodDelete, *mount, "", nil) }
		},
	}
}
