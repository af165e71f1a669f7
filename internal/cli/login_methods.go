package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"

	"github.com/hashicorp/vault/api"
	"golang.org/x/term"
)

// A loginMethod is one way to log in by the command line.
type loginMethod struct {
	name  string
	bare  string // parameter that an argument without "=" sets
	help  string
	login func(c *call, client *api.Client, params map[string]string) (*api.Secret, error)
}

// loginMethods lists them. Types that name another's protocol (radius, okta:
// user and password) share its function.
func loginMethods() []loginMethod {
	user := func(name string) loginMethod {
		return loginMethod{
			name: name, login: loginUser,
			help: "Usage: vault login -method=" + name + " [options] username=NAME [password=TEXT]\n\n" +
				"username   name; that of the system's user by default\n" +
				"password   password; asked for when missing, password=- reads standard input\n" +
				"mount      where the method is mounted (also -path)",
		}
	}
	return []loginMethod{
		{
			name: "token", bare: "token", login: loginToken,
			help: "Usage: vault login [options] [TOKEN]\n\n" +
				"The token is asked for when missing; - reads standard input.",
		},
		user("userpass"), user("ldap"), user("okta"), user("radius"),
		{
			name: "approle", login: loginAppRole,
			help: "Usage: vault login -method=approle [options] role_id=ID [secret_id=ID]\n\n" +
				"role_id     the role's id\nsecret_id   a secret id of the role\nmount       where the method is mounted (also -path)",
		},
		{
			name: "cert", login: loginCert,
			help: "Usage: vault login -method=cert -client-cert=FILE -client-key=FILE [name=ROLE]\n\n" +
				"name    role to try; all by default\nmount   where the method is mounted (also -path)",
		},
		{
			name: "jwt", login: loginJWT,
			help: "Usage: vault login -method=jwt [options] role=NAME jwt=TOKEN\n\n" +
				"role    role to log in to\njwt     the token; jwt=@file and jwt=- work\nmount   where the method is mounted (also -path)",
		},
		{
			name: "oidc", login: loginOIDC,
			help: "Usage: vault login -method=oidc [options] [role=NAME]\n\n" +
				"role            role to log in to; the mount's default by default\n" +
				"mount           where the method is mounted (also -path)\n" +
				"listenaddress   address to listen on for the provider's answer; localhost\n" +
				"port            port to listen on; 8250, 0 for any that is free\n" +
				"callbackhost, callbackport, callbackmethod\n" +
				"                parts of the address to which the provider sends back; those of the listener\n" +
				"skip_browser    true to open no browser: the address is printed",
		},
		{
			name: "kubernetes", login: loginKubernetes,
			help: "Usage: vault login -method=kubernetes [options] role=NAME [jwt=TOKEN]\n\n" +
				"role    role to log in to\njwt     service account token; the pod's own by default\n" +
				"mount   where the method is mounted (also -path)",
		},
		{
			name: "github", login: loginGitHub,
			help: "Usage: vault login -method=github [options] token=TOKEN\n\n" +
				"token   personal access token; asked for when missing\nmount   where the method is mounted (also -path)",
		},
	}
}

func findLoginMethod(name string) (loginMethod, bool) {
	for _, m := range loginMethods() {
		if m.name == name {
			return m, true
		}
	}
	return loginMethod{}, false
}

// loginToken checks a token by looking it up with itself.
func loginToken(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	token := strings.TrimSpace(params["token"])
	if token == "" {
		var err error
		if token, err = c.secretPrompt("Token (will be hidden): "); err != nil {
			return nil, fmt.Errorf("no token given: %w", err)
		}
	}
	if token == "" {
		return nil, errors.New("a token must be passed to auth, please view the help for more information")
	}
	client.SetToken(token)
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	s, err := client.Auth().Token().LookupSelfWithContext(c.ctx)
	if err != nil {
		return nil, fmt.Errorf("error looking up token: %w", err)
	}
	if s == nil {
		return nil, errors.New("empty response from lookup-self")
	}
	return fromLookup(token, s), nil
}

func loginUser(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	name := firstOf(params["username"], c.env.get("VAULT_LDAP_USERNAME"), c.env["LOGNAME"], c.env["USER"])
	if name == "" {
		return nil, errors.New("'username' must be supplied")
	}
	password, ok := params["password"]
	if !ok {
		var err error
		if password, err = c.secretPrompt("Password (will be hidden): "); err != nil {
			return nil, usagef("Error parsing configuration: no password given: %w", err)
		}
	}
	data := map[string]any{"password": strings.TrimSuffix(password, "\n")}
	for _, k := range []string{"passcode", "nonce", "provider", "totp", "method"} { // second factors of okta and ldap
		if v, ok := params[k]; ok {
			data[k] = v
		}
	}
	return client.Logical().WriteWithContext(c.ctx, "auth/"+params["mount"]+"/login/"+url.PathEscape(name), data)
}

func loginAppRole(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	return loginFields(c, client, params, "role_id", "secret_id")
}

func loginCert(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	return loginFields(c, client, params, "name")
}

func loginJWT(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	params["jwt"] = strings.TrimSpace(params["jwt"])
	return loginFields(c, client, params, "role", "jwt")
}

func loginKubernetes(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	if params["jwt"] == "" {
		b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/token")
		if err != nil {
			return nil, fmt.Errorf("no jwt given: %w", err)
		}
		params["jwt"] = string(b)
	}
	return loginJWT(c, client, params)
}

func loginGitHub(c *call, client *api.Client, params map[string]string) (*api.Secret, error) {
	if params["token"] == "" {
		token, err := c.secretPrompt("GitHub Personal Access Token (will be hidden): ")
		if err != nil {
			return nil, fmt.Errorf("no token given: %w", err)
		}
		params["token"] = token
	}
	return loginFields(c, client, params, "token")
}

// loginFields sends the named parameters to the method's login path.
func loginFields(c *call, client *api.Client, params map[string]string, names ...string) (*api.Secret, error) {
	data := map[string]any{}
	for _, k := range names {
		if v, ok := params[k]; ok {
			data[k] = v
		}
	}
	return client.Logical().WriteWithContext(c.ctx, "auth/"+params["mount"]+"/login", data)
}

// readPassword reads a line without echo. It asks when the echo is off already: what is typed, or pasted, at once must not
// show either.
func readPassword(in io.Reader, ask func()) (string, error) {
	f, ok := in.(fder)
	if !ok {
		return "", errNoTerminal
	}
	before, err := term.MakeRaw(int(f.Fd())) // no echo among others, until ReadPassword sees to it
	if err != nil {
		return "", errNoTerminal
	}
	defer func() { _ = term.Restore(int(f.Fd()), before) }() // it was its state a moment ago
	// An interrupt must not leave the terminal like this.
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	defer signal.Stop(interrupt)
	ask()
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() { // ends with the line, or with the program
		text, err := term.ReadPassword(int(f.Fd()))
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		return string(l.text), l.err
	case <-interrupt:
		return "", errors.New("interrupted")
	}
}
