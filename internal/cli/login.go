package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/hashicorp/vault/api"
)

// loginFlags are the flags of `login`.
type loginFlags struct {
	method, path                *string
	noStore, noPrint, tokenOnly *bool
}

func loginCommand() command {
	return command{
		name: "login", usage: "[options] [TOKEN | key=value …]", shared: withAll,
		summary: "Log in",
		about: `Logs in and keeps the token for the commands that follow. Without -method the
argument is a token, asked for when missing; otherwise arguments are the method's
parameters (see "vault auth help TYPE").

    $ vault login
    $ vault login -method=userpass username=ann
    $ vault login -method=cert -client-cert=ann.pem -client-key=ann.key name=web`,
		setup: func(f *flagSet) runFunc {
			method := f.String("method", "token", "type", "Auth method to use.")
			for _, m := range loginMethods() {
				f.oneOf(append(f.infos[len(f.infos)-1].values, m.name)...)
			}
			l := loginFlags{
				method:    method,
				path:      f.String("path", "", "path", "Where it is mounted; its type by default."),
				noStore:   f.Bool("no-store", false, "Do not keep the token."),
				noPrint:   f.Bool("no-print", false, "Print nothing."),
				tokenOnly: f.Bool("token-only", false, "Print the token only and do not keep it."),
			}
			return func(c *call) error { return runLogin(c, l) }
		},
	}
}

// S3-9, S3-50
func runLogin(c *call, l loginFlags) error {
	if *l.tokenOnly {
		*l.noStore, c.globals.field = true, "token"
	}
	if *l.noStore && *l.noPrint {
		return usagef("-no-store and -no-print cannot be used together")
	}
	method, ok := findLoginMethod(*l.method)
	if !ok {
		return usagef("Unknown auth method: %s. Use \"vault auth list\" to see the complete list of\n"+
			"auth methods. Additionally, some auth methods are only available via the HTTP\nAPI.", *l.method)
	}
	params, err := c.loginParams(method)
	if err != nil {
		return err
	}
	if *l.path != "" {
		params["mount"] = strings.Trim(*l.path, "/")
	} else if params["mount"] == "" {
		params["mount"] = method.name
	}
	client, err := c.loginClient()
	if err != nil {
		return err
	}
	secret, err := method.login(c, client, params)
	var usage *exitError
	switch {
	case errors.As(err, &usage):
		return usage
	case err != nil:
		return failf("Error authenticating: %w", err)
	case secret == nil:
		return failf("Vault returned an empty secret")
	}
	if secret.Auth != nil && secret.Auth.MFARequirement != nil {
		if c.globals.nonInteractive {
			c.mfaNotice()
			return c.printSecret(secret)
		}
		if secret, err = c.validateMFA(client, secret.Auth.MFARequirement); err != nil {
			return err
		}
	}
	return c.loggedIn(client, secret, l)
}

// loginParams reads the arguments. The token method takes a bare token, any
// method "-" for its main secret on standard input where it has one.
func (c *call) loginParams(method loginMethod) (map[string]string, error) {
	args := c.args
	first := ""
	if method.bare != "" && len(args) > 0 && !strings.Contains(args[0], "=") {
		token, err := c.readArg(args[0])
		if err != nil {
			return nil, usagef("Error parsing configuration: %w", err)
		}
		first, args = token, args[1:]
	}
	for _, arg := range args {
		if arg == "-" {
			return nil, usagef("Error parsing configuration: %q reads JSON from standard input only before other arguments; "+
				"use key=- for one value", arg)
		}
	}
	params, err := c.parseStrings(args)
	if err != nil {
		return nil, usagef("Error parsing configuration: %w", err)
	}
	if first != "" {
		params[method.bare] = first
	}
	return params, nil
}

// loginClient is a client without a token: what is stored may have expired, and
// a login needs none.
func (c *call) loginClient() (*api.Client, error) {
	client, err := c.newClient()
	if err != nil {
		return nil, &exitError{exitFailure, err}
	}
	client.ClearToken()
	return client, nil
}

// loggedIn keeps the token and prints what was asked for.
func (c *call) loggedIn(client *api.Client, secret *api.Secret, l loginFlags) error {
	if secret.WrapInfo != nil {
		return c.loggedInWrapped(client, secret, l)
	}
	token, err := secret.TokenID()
	if err != nil || token == "" {
		return failf("Vault returned empty token")
	}
	if !*l.noStore {
		if err := c.keep(token); err != nil {
			return err
		}
		if c.env.get("VAULT_TOKEN") != "" {
			c.errorf("WARNING! The VAULT_TOKEN environment variable is set! The value of this\n" +
				"variable will take precedence; if this is unwanted please unset VAULT_TOKEN or\n" +
				"update its value accordingly.\n")
		}
	} else if !*l.tokenOnly {
		c.errorf("The token was not stored in token helper. Set the VAULT_TOKEN environment\n" +
			"variable or pass the token below with each request to Vault.\n")
	}
	if *l.noPrint {
		return nil
	}
	if c.globals.field == "" && c.isTable() {
		c.printf("Success! You are now authenticated. The token information displayed below is\n" +
			"already stored in the token helper. You do NOT need to run \"vault login\" again.\n" +
			"Future Vault requests will automatically use this token.\n\n")
	}
	return c.printSecret(secret)
}

// loggedInWrapped handles -wrap-ttl: the wrapped token is printed, or opened
// when it is to be kept.
func (c *call) loggedInWrapped(client *api.Client, secret *api.Secret, l loginFlags) error {
	if *l.noStore {
		if c.globals.field == "token" {
			c.globals.field = "wrapping_token"
		}
		return c.printSecret(secret)
	}
	client.SetToken("")
	opened, err := client.Logical().UnwrapWithContext(c.ctx, secret.WrapInfo.Token)
	if err != nil {
		return failf("Failed to unwrap token: %w", err)
	}
	return c.loggedIn(client, opened, l)
}

func (c *call) keep(token string) error {
	helper, err := c.tokenHelper()
	if err != nil {
		return failf("Error initializing token helper. Please verify that the token helper is available and properly configured. Error: %w", err)
	}
	if err := helper.store(token); err != nil {
		return failf("Error storing token: %w", err)
	}
	return nil
}

// mfaNotice says that a login is not finished.
func (c *call) mfaNotice() {
	c.errorf("A login request was issued that is subject to MFA validation. Please make sure\n" +
		"to validate the login by sending another request to sys/mfa/validate endpoint.")
	c.errorf("")
}

// validateMFA is the second phase of a login: it asks for the codes of one
// method of every constraint and sends them.
func (c *call) validateMFA(client *api.Client, r *api.MFARequirement) (*api.Secret, error) {
	payload := map[string]any{}
	names := make([]string, 0, len(r.MFAConstraints))
	for name := range r.MFAConstraints {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		methods := r.MFAConstraints[name].Any
		if len(methods) == 0 {
			continue
		}
		m := methods[0] // any one of them satisfies the constraint
		code := ""
		if m.UsesPasscode {
			var err error
			code, err = c.secretPrompt(fmt.Sprintf("Enter the passphrase for methodID %q of type %q: ", m.ID, m.Type))
			if err != nil {
				return nil, failf("failed to read the passphrase with error %q. please validate the login by sending "+
					"a request to sys/mfa/validate", err.Error())
			}
		} else {
			c.errorf("Asking Vault to perform MFA validation with upstream service. You should receive a " +
				"notification in your authenticator app shortly")
		}
		payload[m.ID] = []string{code}
	}
	secret, err := client.Sys().MFAValidateWithContext(c.ctx, r.MFARequestID, payload)
	if err != nil {
		return nil, failf("Error authenticating: %w", err)
	}
	return secret, nil
}

// secretPrompt asks without echo, or fails when there is nobody to ask.
func (c *call) secretPrompt(question string) (string, error) {
	if c.globals.nonInteractive {
		return "", errNoTerminal
	}
	if c.Ask != nil {
		return c.Ask(question)
	}
	if !isTerminal(c.Stdio.In) {
		return "", errNoTerminal
	}
	text, err := readPassword(c.Stdio.In, func() { _, _ = io.WriteString(c.Stdio.Err, question) })
	_, _ = io.WriteString(c.Stdio.Err, "\n")
	return strings.TrimSpace(text), err
}

var errNoTerminal = errors.New("standard input is not a terminal")

// fromLookup makes a login's answer of a token's own look-up.
func fromLookup(token string, s *api.Secret) *api.Secret {
	str := func(k string) string { v, _ := s.Data[k].(string); return v }
	a := &api.SecretAuth{
		ClientToken: token, Accessor: str("accessor"), EntityID: str("entity_id"),
		Policies: stringList(s.Data["policies"]), TokenPolicies: stringList(s.Data["policies"]),
		IdentityPolicies: stringList(s.Data["identity_policies"]),
	}
	a.Policies = append(a.Policies[:len(a.Policies):len(a.Policies)], a.IdentityPolicies...)
	a.Renewable, _ = s.Data["renewable"].(bool)
	a.Orphan, _ = s.Data["orphan"].(bool)
	if n, ok := s.Data["ttl"].(json.Number); ok {
		seconds, _ := n.Int64() // a server's number; 0 reads as no end
		a.LeaseDuration = int(seconds)
	}
	if meta, ok := s.Data["meta"].(map[string]any); ok {
		a.Metadata = map[string]string{}
		for k, v := range meta {
			a.Metadata[k] = fmt.Sprint(v)
		}
	}
	return &api.Secret{RequestID: s.RequestID, Auth: a}
}

func stringList(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, x := range list {
		out = append(out, fmt.Sprint(x))
	}
	return out
}
