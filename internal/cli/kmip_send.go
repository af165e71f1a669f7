package cli

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"

	"arca/internal/ttlv"
)

// Messages of KMIP by the API and a token, on behalf of a role: kmip send for any, kmip create,
// get and locate for what is asked for most.

// kmipMount declares where the engine is.
func kmipMount(f *flagSet) *string {
	return f.String("mount", "kmip", "path", "Where the engine is mounted.")
}

func kmipSendCommand() command {
	return command{
		name: "kmip send", usage: "[options] SCOPE ROLE [OPERATION …] [name=value …]", shared: withHTTP | withFormat,
		summary: "Send a KMIP message on behalf of a role",
		about: `Has the server run a KMIP message as a client of a role would send it, by the API
and a token, without a client's certificate. The operations choose the message,
or -template does: a name that "kmip template list" shows, or a message in XML
from a file (@message.xml) or from standard input (-). What has the form
name=value is for the marks PARAMETER_name of the message. With -format=raw the
answer is printed in XML. Exits with 2 when an operation fails.

    $ arca kmip send finance accounting create name=invoices length=256
    $ arca kmip send finance accounting locate get name=invoices
    $ arca kmip send -template=@message.xml finance accounting id=4711`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			template := f.String("template", "", "template", "Name of a template, @file with a message in XML, or - for one from standard input.")
			return func(c *call) error { return runKMIPSend(c, *mount, *template) }
		},
	}
}

func runKMIPSend(c *call, mount, template string) error {
	if err := c.between(2, -1); err != nil {
		return err
	}
	var operations, pairs []string
	for _, arg := range c.args[2:] {
		if strings.Contains(arg, "=") {
			pairs = append(pairs, arg)
		} else {
			operations = append(operations, arg)
		}
	}
	if len(operations) == 0 && template == "" {
		return usagef("Name the operations, or give -template")
	}
	params, err := c.parseData(pairs)
	if err != nil {
		return err
	}
	if template, err = c.value(template); err != nil {
		return usagef("Error reading the template: %w", err)
	}
	answer, err := c.sendKMIP(mount, c.args[:2], operations, template, params)
	if err != nil {
		return err
	}
	if answer.wrapped() {
		return c.printSecret(answer.secret)
	}
	if c.globals.format == "raw" {
		c.printf("%s\n", harmless(answer.xml))
	} else if err := c.show(answer.items, answer.text); err != nil {
		return err
	}
	return answer.failure(false)
}

// A kmipAnswer is what a message has come to.
type kmipAnswer struct {
	secret *api.Secret
	xml    string
	items  []kmipItem
}

// A kmipItem is what one operation of a message has come to.
type kmipItem struct {
	Operation string         `json:"operation,omitempty"`
	Status    string         `json:"status"`
	Reason    string         `json:"reason,omitempty"`
	Message   string         `json:"message,omitempty"`
	Payload   map[string]any `json:"payload,omitempty"`
}

// wrapped reports whether the answer is behind a wrapping token.
func (a *kmipAnswer) wrapped() bool { return a.secret.WrapInfo != nil }

// failure is the end of a command whose message had an operation that failed; tell says that
// nothing of it was shown.
func (a *kmipAnswer) failure(tell bool) error {
	for _, it := range a.items {
		switch {
		case it.Reason == "" && it.Status != "OperationFailed" && it.Status != "OperationUndone":
		case tell:
			return failf("%s", printable(it.Operation+": "+it.Reason+": "+it.Message))
		default:
			return exit(exitFailure)
		}
	}
	return nil
}

// text has a table for each operation.
func (a *kmipAnswer) text() string {
	var tables []string
	for _, it := range a.items {
		var rows [][]string
		for _, row := range [][]string{{"Operation", it.Operation}, {"Status", it.Status}, {"Reason", it.Reason}, {"Message", it.Message}} {
			if row[1] != "" {
				rows = append(rows, []string{row[0], printable(row[1])})
			}
		}
		tables = append(tables, table(nil, append(rows, nestedRows("", it.Payload)...)))
	}
	return strings.Join(tables, "\n")
}

// sendKMIP has the server run a message for the role that scope and role name.
func (c *call) sendKMIP(mount string, role, operations []string, template string, params map[string]any) (*kmipAnswer, error) {
	segments := []string{"scope", role[0], "role", role[1], "client"}
	for _, op := range operations {
		segments = append(segments, strings.ToLower(op))
	}
	path, err := kmipPath(mount, segments...)
	if err != nil {
		return nil, err
	}
	body := map[string]any{}
	if template != "" {
		body["template"] = template
	}
	if len(params) > 0 {
		body["params"] = params
	}
	s, err := c.request(http.MethodPost, path, body)
	if err != nil {
		return nil, c.apiFailure("Error sending the message", err)
	}
	if s == nil {
		return nil, failf("Error sending the message: the server gave no answer")
	}
	answer := &kmipAnswer{secret: s}
	if answer.wrapped() {
		return answer, nil
	}
	if answer.xml, answer.items, err = kmipItems(s); err != nil {
		return nil, failf("Error reading the answer: %w", err)
	}
	return answer, nil
}

// kmipItems takes the answer of the API apart.
func kmipItems(s *api.Secret) (text string, items []kmipItem, err error) {
	text, ok := s.Data["response"].(string)
	if !ok {
		return "", nil, errors.New("it has no message")
	}
	texts := ttlv.NewTexts()
	root, err := texts.DecodeXML([]byte(strings.TrimSuffix(strings.TrimPrefix(text, "<KMIP>"), "</KMIP>")))
	if err != nil {
		return "", nil, err
	}
	name := func(n *ttlv.Node) string {
		if n == nil {
			return ""
		}
		return n.Show(n.Tag)
	}
	for _, n := range root.All(ttlv.TagBatchItem) {
		it := kmipItem{
			Operation: name(n.Get(ttlv.TagOperation)), Status: name(n.Get(ttlv.TagResultStatus)), Reason: name(n.Get(ttlv.TagResultReason)),
			Message: name(n.Get(ttlv.TagResultMessage)),
		}
		if p := n.Get(ttlv.TagResponsePayload); p != nil {
			it.Payload, _ = texts.Plain(p, p.Tag).(map[string]any) // of a structure it is one
		}
		items = append(items, it)
	}
	return text, items, nil
}

// nestedRows are the printable members of v, however deep, by names with dots between them. An attribute
// of KMIP has its own name.
func nestedRows(name string, v any) [][]string {
	under := func(part string) string {
		if name == "" {
			return part
		}
		return name + "." + part
	}
	switch v := v.(type) {
	case map[string]any:
		if attr, ok := v["AttributeName"].(string); ok && v["AttributeValue"] != nil {
			return nestedRows(attr, v["AttributeValue"])
		}
		var rows [][]string
		for _, k := range sortedKeys(v) {
			rows = append(rows, nestedRows(under(k), v[k])...)
		}
		return rows
	case []any:
		var words []string
		for _, x := range v {
			if _, deep := x.(map[string]any); deep {
				words = nil
				break
			}
			words = append(words, fmt.Sprint(x))
		}
		if words != nil {
			return [][]string{{printable(name), printable(strings.Join(words, ", "))}}
		}
		var rows [][]string
		for i, x := range v {
			rows = append(rows, nestedRows(fmt.Sprintf("%s[%d]", name, i), x)...)
		}
		return rows
	}
	return [][]string{{printable(name), printable(fmt.Sprint(v))}}
}

func kmipCreateCommand() command {
	return command{
		name: "kmip create", usage: "[options] SCOPE ROLE", shared: withAll,
		summary: "Make a symmetric key on behalf of a role",
		about: `Makes a symmetric key as a client of a role would, and prints its identifier.

    $ arca kmip create -name=invoices finance accounting
    $ arca kmip create -field=unique_identifier -algorithm=AES -length=128 finance accounting`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			params := map[string]*string{
				"name":       f.String("name", "", "name", "Name of the key; none when it is not given."),
				"algorithm":  f.String("algorithm", "", "name", "Algorithm of the key; AES when it is not given."),
				"length":     f.String("length", "", "bits", "Length of the key; 256 when it is not given."),
				"usage_mask": f.String("usage", "", "names", `What it is for, as KMIP calls it; "Encrypt Decrypt" when it is not given.`),
			}
			return func(c *call) error {
				if err := c.exactly(2); err != nil {
					return err
				}
				return c.kmipOperation(*mount, []string{"create"}, "", givenParams(params))
			}
		},
	}
}

// givenParams are the parameters that have a value.
func givenParams(params map[string]*string) map[string]any {
	out := map[string]any{}
	for name, v := range params {
		if *v != "" {
			out[name] = *v
		}
	}
	return out
}

// kmipOperation sends a message and prints the values that the last operation's answer has.
func (c *call) kmipOperation(mount string, operations []string, template string, params map[string]any) error {
	answer, err := c.sendKMIP(mount, c.args[:2], operations, template, params)
	if err != nil {
		return err
	}
	if answer.wrapped() {
		return c.printSecret(answer.secret)
	}
	if err := answer.failure(true); err != nil {
		return err
	}
	if len(answer.items) == 0 {
		return failf("Error reading the answer: it has no operation")
	}
	out := *answer.secret
	out.Data = map[string]any{}
	leaves(out.Data, "", answer.items[len(answer.items)-1].Payload)
	return c.printNested(&out)
}

// leaves collects the values in v that are none of structures, by their own names in small
// letters; of several with the same name there is a list.
func leaves(into map[string]any, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			leaves(into, snake(k), v[k])
		}
	case []any:
		for _, x := range v {
			leaves(into, name, x)
		}
	default:
		switch have := into[name].(type) {
		case nil:
			into[name] = v
		case []any:
			into[name] = append(have, v)
		default:
			into[name] = []any{have, v}
		}
	}
}

// snake is a name of KMIP (CryptographicAlgorithm) as the API writes names
// (cryptographic_algorithm).
func snake(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
}

func kmipGetCommand() command {
	return command{
		name: "kmip get", usage: "[options] SCOPE ROLE [ID]", shared: withAll,
		summary: "Get an object on behalf of a role, with its material",
		about: `Gets an object as a client of a role would, by its identifier or by its name.
The answer has the object's material, in hexadecimal.

    $ arca kmip get finance accounting 9f0c6e5e-7d0c-4d4b-8f0e-6a5a4c3e2d1b
    $ arca kmip get -name=invoices -field=key_material finance accounting`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			name := f.String("name", "", "name", "Name of the object, in place of its identifier.")
			return func(c *call) error {
				if *name != "" {
					if err := c.counted(2, 2, "2 with -name"); err != nil {
						return err
					}
					return c.kmipOperation(*mount, nil, "locate_get", map[string]any{"name": *name})
				}
				if err := c.counted(3, 3, "3, or 2 and -name"); err != nil {
					return err
				}
				return c.kmipOperation(*mount, []string{"get"}, "", map[string]any{"unique_identifier": c.args[2]})
			}
		},
	}
}

func kmipLocateCommand() command {
	return command{
		name: "kmip locate", usage: "[options] SCOPE ROLE", shared: withAll,
		summary: "Find objects on behalf of a role",
		about: `Prints the identifiers of the objects that a client of a role would find by a
name, by the value of an attribute, or by both; without either those of all that
are in the scope, as many as one answer has room for. Exits with 2 when there is
none.

    $ arca kmip locate -name=invoices finance accounting
    $ arca kmip locate -attribute=State=Active -attribute-type=Enumeration finance accounting`,
		setup: func(f *flagSet) runFunc {
			mount := kmipMount(f)
			name := f.String("name", "", "name", "Name of the objects.")
			attribute := f.String("attribute", "", "name=value", "An attribute, as KMIP calls it, and its value.")
			kind := f.String("attribute-type", "TextString", "type", "Type of the attribute's value.")
			f.oneOf("TextString", "Enumeration", "Integer", "Boolean", "DateTime", "ByteString", "Interval", "LongInteger", "BigInteger")
			return func(c *call) error { return runKMIPLocate(c, *mount, *name, *attribute, *kind) }
		},
	}
}

func runKMIPLocate(c *call, mount, name, attribute, kind string) error {
	if err := c.exactly(2); err != nil {
		return err
	}
	params := map[string]any{}
	if name != "" {
		params["name"] = name
	}
	if attribute != "" {
		key, value, ok := strings.Cut(attribute, "=")
		if !ok {
			return usagef("-attribute must be of the form name=value")
		}
		params["attr_name"], params["attr_value"], params["attr_type"] = key, value, kind
	}
	answer, err := c.sendKMIP(mount, c.args, []string{"locate"}, "", params)
	if err != nil {
		return err
	}
	if answer.wrapped() {
		return c.printSecret(answer.secret)
	}
	if err := answer.failure(true); err != nil {
		return err
	}
	found := map[string]any{}
	for _, it := range answer.items {
		leaves(found, "", it.Payload)
	}
	out := *answer.secret
	out.Data = nil
	switch ids := found["unique_identifier"].(type) {
	case string:
		out.Data = map[string]any{"keys": []any{ids}}
	case []any:
		out.Data = map[string]any{"keys": ids}
	}
	return c.printList(&out, cleanPath(mount)+"/scope/"+c.args[0])
}
