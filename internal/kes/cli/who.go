package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"arca/internal/kes/identity"
)

func whoCommands() table {
	return table{
		group("policy", "Look at policies. They stand in the server's configuration file.",
			"ls", "list policies", "info", "tell about a policy", "show", "print a policy's rules"),
		{name: "policy ls", most: 1, flags: listing, run: func(c *call) error { return c.listNames("policy", "Policy") }, usage: usage("policy ls [PATTERN]", "Lists the policies whose names begin so.", listingUsage)},
		{name: "policy info", least: 1, most: 1, flags: listing, run: (*call).policyInfo, usage: usage("policy info NAME", "Tells about a policy.", listingUsage)},
		{name: "policy show", least: 1, most: 1, flags: listing, run: (*call).policyShow, usage: usage("policy show NAME", "Prints a policy's rules.", listingUsage)},
		{
			name: "identity", most: 1, run: (*call).identity, flags: func(f *flags) { f.takes("color"); f.on("insecure", "k") },
			usage: "Usage:\n    kes identity [KEYFILE | CERTIFICATE | API-KEY]\n    kes identity COMMAND\n\n" +
				"Makes a new API key; or tells the identity of a certificate or an API key, or the\nAPI key of a file with an Ed25519 private key.\n\n" +
				"Commands:\n    new                  make an identity\n    of                   tell an identity\n    info                 tell what an identity may\n    ls                   list identities\n" +
				"\nOptions:\n    -h, --help               print this text\n",
		},
		{name: "identity new", most: 1, flags: newIdentityFlags, run: (*call).identityNew, usage: newIdentityUsage},
		{name: "identity of", least: 1, most: 1, flags: func(f *flags) { f.takes("color") }, run: (*call).identityOf, usage: usage("identity of CERTIFICATE | API-KEY", "Tells an identity: the SHA-256 of the public key.", "    -h, --help               print this text\n")},
		{name: "identity info", most: 1, flags: listing, run: (*call).identityInfo, usage: usage("identity info [IDENTITY]", "Tells what you, or an identity, may.", listingUsage)},
		{name: "identity ls", most: 1, flags: listing, run: func(c *call) error { return c.listNames("identity", "Identity") }, usage: usage("identity ls [PATTERN]", "Lists the identities that begin so.", listingUsage)},
		// As of 2021.
		{name: "tool", flags: func(*flags) {}, most: -1, run: (*call).tool, usage: usage("tool identity new | of", "Does what kes identity new and of do.", "")},
	}
}

func (c *call) tool() error {
	if len(c.args) < 2 || c.args[0] != "identity" {
		return &usageError{c.cmd.usage}
	}
	a := *c.app
	a.Args = a.Args[1:]
	return a.dispatch()
}

type ruleSet map[string]struct{}

type policyOut struct {
	Name      string    `json:"name,omitempty"`
	Allow     ruleSet   `json:"allow,omitempty"`
	Deny      ruleSet   `json:"deny,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
}

func (c *call) policyInfo() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var out policyOut
	if err := client.do(c.ctx, http.MethodGet, "/v1/policy/describe/"+url.PathEscape(c.args[0]), nil, &out); err != nil {
		return fmt.Errorf("describe policy %q: %w", c.args[0], err)
	}
	if c.is("json") {
		return c.printJSON(out)
	}
	c.row("Name", out.Name)
	c.row("Date", out.CreatedAt.UTC().Format(dateFormat))
	c.row("Created by", out.CreatedBy)
	return nil
}

func (c *call) policyShow() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var out policyOut
	if err := client.do(c.ctx, http.MethodGet, "/v1/policy/read/"+url.PathEscape(c.args[0]), nil, &out); err != nil {
		return fmt.Errorf("read policy %q: %w", c.args[0], err)
	}
	if c.is("json") || !c.tty {
		out.Name = ""
		return c.printJSON(out)
	}
	c.rules(out.Allow, out.Deny)
	c.printf("\n")
	c.row("Created at", out.CreatedAt.UTC().Format(dateFormat))
	c.row("Created by", out.CreatedBy)
	return nil
}

func (c *call) rules(allow, deny ruleSet) {
	for _, kind := range []struct {
		name string
		set  ruleSet
	}{{"Allow", allow}, {"Deny", deny}} {
		if len(kind.set) == 0 {
			continue
		}
		c.printf("%s\n", c.heading(kind.name))
		for _, r := range slices.Sorted(maps.Keys(kind.set)) {
			c.printf("  · %s\n", r)
		}
	}
}

func (c *call) identityInfo() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	path, what := "/v1/identity/self/describe", "describe yourself"
	if len(c.args) == 1 {
		path, what = "/v1/identity/describe/"+url.PathEscape(c.args[0]), fmt.Sprintf("describe identity %q", c.args[0])
	}
	var raw json.RawMessage
	if err := client.do(c.ctx, http.MethodGet, path, nil, &raw); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var out struct {
		Identity  string    `json:"identity"`
		Admin     bool      `json:"admin,omitempty"`
		Policy    string    `json:"policy,omitempty"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by,omitempty"`
		Allow     ruleSet   `json:"allow,omitempty"`
		Deny      ruleSet   `json:"deny,omitempty"`
	}
	if json.Unmarshal(raw, &out) != nil {
		return errors.New("the server's answer is not what a KES server answers")
	}
	if len(c.args) == 1 {
		out.Identity = c.args[0]
	}
	if len(c.args) == 1 && out.Policy != "" {
		var rules policyOut
		err := client.do(c.ctx, http.MethodGet, "/v1/policy/read/"+url.PathEscape(out.Policy), nil, &rules)
		var answer *apiError
		switch {
		case errors.As(err, &answer) && answer.code/100 == 4: // who may see the identity need not see these
		case err != nil:
			return fmt.Errorf("read policy %q: %w", out.Policy, err)
		default:
			out.Allow, out.Deny = rules.Allow, rules.Deny
		}
	}
	if c.is("json") {
		return c.printJSON(out)
	}
	c.row("Identity", out.Identity)
	c.row("Created At", out.CreatedAt.UTC().Format(dateFormat))
	if out.Admin {
		c.row("Role", "Admin")
		return nil
	}
	c.row("Role", "User")
	if out.CreatedBy != "" {
		c.row("Created By", out.CreatedBy)
	}
	c.row("Policy", out.Policy)
	c.rules(out.Allow, out.Deny)
	return nil
}

// identity is a new API key, or what a file or key says.
func (c *call) identity() error {
	if len(c.args) == 0 {
		return c.printNewKey()
	}
	if strings.HasPrefix(c.args[0], identity.Prefix) {
		return c.identityOf()
	}
	data, err := os.ReadFile(c.args[0])
	if err != nil {
		return fmt.Errorf("%q is neither a command of kes identity, nor an API key, nor a file that can be read: %w", c.args[0], err)
	}
	if _, err := identity.ParseCertificate(data); err == nil {
		return c.identityOf()
	}
	private, err := identity.ParsePrivateKey(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.args[0], err)
	}
	k := identity.KeyOf(private)
	if !c.tty {
		c.printf("%s", k.Text())
		return nil
	}
	c.printf("\n  API key:   %s\n  Identity:  %s\n", k.Text(), k.Identity())
	return nil
}

func (c *call) identityOf() error {
	var id string
	if strings.HasPrefix(c.args[0], identity.Prefix) {
		k, err := identity.ParseAPIKey(c.args[0])
		if err != nil {
			return err
		}
		id = k.Identity()
	} else {
		data, err := os.ReadFile(c.args[0])
		if err != nil {
			return err
		}
		cert, err := identity.ParseCertificate(data)
		if err != nil {
			return fmt.Errorf("%s: %w", c.args[0], err)
		}
		id = identity.Of(cert)
	}
	if !c.tty {
		c.printf("%s", id)
		return nil
	}
	c.printf("\n  Identity:  %s\n", id)
	return nil
}

func (c *call) printNewKey() error {
	k := identity.NewAPIKey()
	if !c.tty {
		c.printf("%s\n", k.Text())
		return nil
	}
	c.printf("\nYour API key:\n\n   %s\n\nIt is shown this once: keep it like a password.\n\nYour identity:\n\n   %s\n\n"+
		"The identity is no secret: give it to who runs the server. Told again by:\n   kes identity of %s\n", k.Text(), k.Identity(), k.Text())
	return nil
}
