package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

func policyExplainCommand() command {
	return command{
		name: "policy explain", usage: "[options] OPERATION PATH [key=value …]", shared: withHTTP | withFormat,
		summary: "Tell why a request is allowed or refused",
		about: `Tells which rule of which policy allows or refuses an operation (read, list,
write, create, update, patch, delete) on a path, and what is missing. Without
an option it is about the token in use, about which everybody may ask. Exits
with 0 when the request is allowed, with 2 when it is refused. Vault has no
such command.

    $ arca policy explain read secret/data/creds
    $ arca policy explain -accessor=abcd write secret/data/creds data=@creds.json
    $ arca policy explain -policy=web -policy=default list secret/metadata`,
		setup: func(f *flagSet) runFunc {
			token := f.String("token", "", "token", "Token to ask about.")
			accessor := f.String("accessor", "", "accessor", "Accessor of the token to ask about.")
			entity := f.String("entity", "", "id", "Id of the entity to ask about.")
			policies := f.List("policy", "names", "Policies to ask about; may be repeated.")
			return func(c *call) error {
				who := map[string]any{}
				for name, value := range map[string]string{"token": *token, "accessor": *accessor, "entity_id": *entity} {
					if value != "" {
						who[name] = value
					}
				}
				if len(*policies) > 0 {
					who["policies"] = *policies
				}
				if len(who) > 1 {
					return usagef("Only one of -token, -accessor, -entity and -policy can be given")
				}
				return runPolicyExplain(c, who)
			}
		},
	}
}

func runPolicyExplain(c *call, who map[string]any) error {
	if err := c.between(2, -1); err != nil {
		return err
	}
	data, err := c.parseData(c.args[2:])
	if err != nil {
		return err
	}
	body := who
	path := "sys/policies/explain"
	if len(who) == 0 {
		path = "sys/policies/explain-self"
		body["namespace"] = canonicalNamespace(c.globals.namespace)
	}
	body["operation"], body["path"] = c.args[0], cleanPath(c.args[1])
	if len(data) > 0 {
		body["parameters"] = data
	}
	if c.globals.wrapTTL > 0 {
		body["wrap_ttl"] = c.globals.wrapTTL.String()
		c.globals.wrapTTL = 0 // it is asked about, not for
	}
	s, err := c.request(http.MethodPost, path, body)
	if err != nil {
		return failf("Error explaining %s: %w", c.args[1], err)
	}
	x, err := explanationOf(s)
	if err != nil {
		return failf("Error explaining %s: %w", c.args[1], err)
	}
	if err := c.show(s.Data, x.text); err != nil {
		return err
	}
	if !x.Allowed {
		return exit(exitFailure)
	}
	return nil
}

// An explanation is what sys/policies/explain answers.
type explanation struct {
	Allowed         bool            `json:"allowed"`
	Operation       string          `json:"operation"`
	Path            string          `json:"path"`
	Message         string          `json:"message"`
	Missing         []string        `json:"missing"`
	Policies        []string        `json:"policies"`
	MissingPolicies []string        `json:"missing_policies"`
	Rules           []explainedRule `json:"rules"`
	Overridden      []explainedRule `json:"overridden"`
	Unresolved      []explainedRule `json:"unresolved"`
}

type explainedRule struct {
	Policy       string   `json:"policy"`
	Namespace    string   `json:"namespace"`
	Line         int      `json:"line"`
	Path         string   `json:"path"`
	Resolved     string   `json:"resolved_path"`
	Capabilities []string `json:"capabilities"`
}

func explanationOf(s *api.Secret) (*explanation, error) {
	if s == nil {
		return nil, errors.New("the server gave no explanation")
	}
	raw, err := json.Marshal(s.Data)
	if err != nil {
		return nil, err
	}
	var x explanation
	return &x, json.Unmarshal(raw, &x)
}

func (x *explanation) text() string {
	var b strings.Builder
	verdict := "refused"
	if x.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(&b, "%s %s: %s: %s\n", x.Operation, x.Path, verdict, x.Message)
	line := func(label string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", label, strings.Join(values, ", "))
		}
	}
	line("missing", x.Missing)
	line("policies", x.Policies)
	line("policies that do not exist", x.MissingPolicies)
	rules := func(label string, list []explainedRule) {
		for _, r := range list {
			b.WriteString(label + ": " + r.String() + "\n")
		}
	}
	rules("rule", x.Rules)
	rules("overridden by it", x.Overridden)
	rules("template without a value, or with a slash in it", x.Unresolved)
	return b.String()
}

// String writes a rule in a line: web:3 path "a/*" [read].
func (r explainedRule) String() string {
	text := r.Namespace + r.Policy
	if r.Line > 0 {
		text += fmt.Sprintf(":%d", r.Line)
	}
	if r.Path != "" {
		text += fmt.Sprintf(" path %q", r.Path)
	}
	if r.Resolved != "" {
		text += fmt.Sprintf(" = %q", r.Resolved)
	}
	if len(r.Capabilities) > 0 {
		text += " [" + strings.Join(r.Capabilities, " ") + "]"
	}
	return text
}

// explain tells on standard error why the server refused what it was asked
// last, if the user wants to know. The exit code stays.
func (c *call) explain(err error) {
	if !c.globals.explain || c.sent == nil {
		return
	}
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
		return
	}
	r := *c.sent
	c.sent = nil
	body := map[string]any{"operation": r.operation, "path": r.path, "namespace": canonicalNamespace(c.globals.namespace)}
	if r.parameters != nil {
		body["parameters"] = r.parameters
	}
	if c.globals.wrapTTL > 0 {
		body["wrap_ttl"] = c.globals.wrapTTL.String()
		c.globals.wrapTTL = 0
	}
	s, err := c.request(http.MethodPost, "sys/policies/explain-self", body)
	if errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden {
		c.errorf("\nThe token may not ask why: it is not valid (revoked, expired, used up, or not from this address), or has not the policy default.")
		return
	}
	var x *explanation
	if err == nil {
		x, err = explanationOf(s)
	}
	if err != nil {
		c.errorf("\nThe server cannot tell why: %s", err)
		return
	}
	c.errorf("\n%s", x.text())
}

// A sentRequest is one whose refusal may have to be explained.
type sentRequest struct {
	operation, path string
	parameters      any // of the body
}

// noteRequest keeps what a request asks for.
func (c *call) noteRequest(r *api.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if at, ok := strings.CutPrefix(path, "sys/internal/ui/mounts/"); ok {
		path = at // by which kv commands look for their mount
	}
	s := &sentRequest{path: path}
	switch r.Method {
	case "LIST":
		s.operation = "list"
	case http.MethodGet:
		s.operation = "read"
		if r.Params.Get("list") == "true" {
			s.operation = "list"
		}
	case http.MethodDelete:
		s.operation = "delete"
	case http.MethodPatch:
		s.operation = "patch"
	default:
		s.operation = "write"
	}
	if len(r.BodyBytes) > 0 {
		var members map[string]any
		if json.Unmarshal(r.BodyBytes, &members) == nil {
			s.parameters = members
		}
	}
	query := map[string]any{}
	for name, values := range r.Params {
		if name != "list" && len(values) > 0 {
			query[name] = values[0]
		}
	}
	if s.parameters == nil && len(query) > 0 {
		s.parameters = query
	}
	c.sent = s
}
