package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func policyTestCommand() command {
	return command{
		name: "policy test", usage: "[options] [NAME=]POLICY.hcl … REQUESTS", shared: withHTTP,
		summary: "Try proposed policies on requests before they are written",
		about: `Judges requests by policies as they are proposed, in place of those of the same
names on the server, without writing anything. REQUESTS is a file, or - for
standard input, of lines

    allow OPERATION PATH [key=value …]
    deny  OPERATION PATH [key=value …]
    {"type":"request",…}

where the last form is a record of an audit log in JSON: it is judged by the
policies that its token had, and what was decided then is what is expected.
Blank lines and those that begin with # say nothing. Needs the right to update
sys/policies/explain. Exits with 0 when all is as expected, with 2 when not.
Vault has no such command.

    $ arca policy test web.hcl requests.txt
    $ arca policy test -policy=default web=new.hcl audit.log`,
		setup: func(f *flagSet) runFunc {
			more := f.List("policy", "names", "Other policies that the tokens have; may be repeated.")
			return func(c *call) error { return runPolicyTest(c, *more) }
		},
	}
}

const maxPolicyTestLine = 4 << 20 // bytes

// A trial is one request with what is expected of it.
type trial struct {
	allow      bool
	operation  string
	path       string
	namespace  string
	policies   []string // of a recorded request
	parameters map[string]any
}

func runPolicyTest(c *call, more []string) error {
	if err := c.between(2, -1); err != nil {
		return err
	}
	files, requests := c.args[:len(c.args)-1], c.args[len(c.args)-1]
	proposed := map[string]string{}
	names := append([]string(nil), more...)
	for _, arg := range files {
		name, file, found := strings.Cut(arg, "=")
		if !found {
			file = arg
			name = strings.TrimSuffix(filepath.Base(arg), filepath.Ext(arg))
		}
		text, err := os.ReadFile(file) //nolint:gosec // named by who runs the command
		if err != nil {
			return usagef("Error reading policy: %w", err)
		}
		proposed[strings.ToLower(name)] = string(text)
		names = append(names, name)
	}
	in := c.Stdio.In
	if requests != "-" {
		f, err := os.Open(requests) //nolint:gosec // as above
		if err != nil {
			return usagef("Error reading requests: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxPolicyTestLine)
	tried, differ := 0, 0
	for n := 1; lines.Scan(); n++ {
		t, err := c.parseTrial(lines.Text())
		if err != nil {
			return usagef("%s:%d: %w", requests, n, err)
		}
		if t == nil {
			continue
		}
		x, err := c.try(t, names, proposed)
		if err != nil {
			return failf("%s:%d: %w", requests, n, err)
		}
		tried++
		if x.Allowed != t.allow {
			differ++
			c.printf("%s:%d: %s", requests, n, x.text())
		}
	}
	if err := lines.Err(); err != nil {
		return usagef("Error reading requests: %w", err)
	}
	c.printf("%d requests, %d not as expected\n", tried, differ)
	if differ > 0 {
		return exit(exitFailure)
	}
	return nil
}

// parseTrial reads a line; nil is one that says nothing.
func (c *call) parseTrial(line string) (*trial, error) {
	line = strings.TrimSpace(line)
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil, nil
	case strings.HasPrefix(line, "{"):
		return parseRecord(line)
	}
	words := strings.Fields(line)
	if len(words) < 3 || words[0] != "allow" && words[0] != "deny" {
		return nil, errors.New("expected: allow|deny OPERATION PATH [key=value …]")
	}
	t := &trial{allow: words[0] == "allow", operation: words[1], path: cleanPath(words[2])}
	if len(words) > 3 {
		t.parameters = map[string]any{}
		for _, w := range words[3:] {
			k, v, found := strings.Cut(w, "=")
			if !found {
				return nil, fmt.Errorf("%q has not the form key=value", w)
			}
			t.parameters[k] = v
		}
	}
	return t, nil
}

// parseRecord reads a record of an audit log; nil is one that tells of no decision
// about policies.
func parseRecord(line string) (*trial, error) {
	var r struct {
		Type string `json:"type"`
		Auth struct {
			Policies []string `json:"policies"`
			Results  *struct {
				Allowed bool `json:"allowed"`
			} `json:"policy_results"`
		} `json:"auth"`
		Request struct {
			Operation string `json:"operation"`
			Path      string `json:"path"`
			Namespace struct {
				Path string `json:"path"`
			} `json:"namespace"`
		} `json:"request"`
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return nil, fmt.Errorf("no record of an audit log: %w", err)
	}
	if r.Type != "request" || r.Auth.Results == nil || len(r.Auth.Policies) == 0 || r.Request.Path == "" {
		return nil, nil
	}
	return &trial{
		allow: r.Auth.Results.Allowed, operation: r.Request.Operation, path: r.Request.Path, namespace: r.Request.Namespace.Path, policies: r.Auth.Policies,
	}, nil
}

// try asks the server about one request.
func (c *call) try(t *trial, names []string, proposed map[string]string) (*explanation, error) {
	body := map[string]any{"operation": t.operation, "path": t.path, "policies": names, "proposed": proposed}
	if t.policies != nil {
		body["policies"], body["namespace"] = t.policies, t.namespace
	}
	if len(t.parameters) > 0 {
		body["parameters"] = t.parameters
	}
	s, err := c.request(http.MethodPost, "sys/policies/explain", body)
	if err != nil {
		return nil, err
	}
	return explanationOf(s)
}
