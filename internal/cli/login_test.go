package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const lookupRoot = `{"request_id":"r","data":{"accessor":"acc","id":"root","policies":["root"],"renewable":false,"ttl":0,"meta":null}}`

const rootTable = `Key                  Value
---                  -----
token                root
token_accessor       acc
token_duration       ∞
token_renewable      false
token_policies       ["root"]
identity_policies    []
policies             ["root"]
`

// S3-9, S3-64: a token given to login is checked, kept, and used afterwards.
func TestLoginKeepsToken(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"GET auth/token/lookup-self": {body: lookupRoot}})
	home := t.TempDir()
	env := []string{"VAULT_ADDR=" + f.URL}
	got := vaultAt(t, home, env, "root\n", "login", "-")
	if got.code != 0 || !strings.HasSuffix(got.out, "\n\n"+rootTable) || got.stderr != "" {
		t.Fatalf("login: %+v", got)
	}
	path := filepath.Join(home, ".vault-token")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("token file: %v %v", info, err)
	}
	if text, _ := os.ReadFile(path); string(text) != "root" {
		t.Errorf("token file holds %q", text)
	}
	// S3-46
	if got := vaultAt(t, home, env, "", "print", "token"); got.out != "root\n" {
		t.Errorf("print token: %+v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLoginFlags(t *testing.T) {
	t.Parallel()
	user := `{"auth":{"client_token":"hvs.u","accessor":"a","policies":["default"],"token_policies":["default"],"lease_duration":2764800,"renewable":true,"metadata":{"username":"lou"}}}`
	mfa := `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"rid","mfa_constraints":{"e":{"any":[{"type":"totp","id":"mid","uses_passcode":true}]}}}},` +
		`"warnings":["A login request was issued that is subject to MFA validation. Please make sure to validate the login by sending another request to mfa/validate endpoint."]}`
	f := newFake(t, map[string]answer{
		"PUT auth/userpass/login/lou": {body: user},
		"PUT auth/clup/login/lou":     {body: user},
		"PUT auth/mfa/login/lou":      {body: mfa},
		"GET auth/token/lookup-self":  {body: lookupRoot},
	})
	const notice = "The token was not stored in token helper. Set the VAULT_TOKEN environment\n" +
		"variable or pass the token below with each request to Vault.\n"
	for _, tc := range []struct {
		name string
		args string
		want result
	}{
		{"token only", "-method=userpass -path=clup -token-only username=lou password=pw", result{out: "hvs.u"}},
		{"field", "-method=userpass -field=token_policies username=lou password=pw", result{out: "[default]"}},
		{"no print", "-method=userpass -no-print username=lou password=pw", result{}},
		{"no store", "-field=token -no-store root", result{out: "root", stderr: notice}},
		{"contradiction", "-no-store -no-print root", result{code: 1, stderr: "-no-store and -no-print cannot be used together\n"}},
		{
			"unknown method", "-method=nosuch",
			result{code: 1, stderr: "Unknown auth method: nosuch. Use \"vault auth list\" to see the complete list of\n" +
				"auth methods. Additionally, some auth methods are only available via the HTTP\nAPI.\n"},
		},
		{"surplus", "a b", result{code: 1, stderr: "Error parsing configuration: invalid key/value pair \"b\": format must be key=value\n"}},
		{
			"mfa", "-method=userpass -path=mfa -non-interactive username=lou password=pw",
			result{
				out: "Key                                      Value\n---                                      -----\n" +
					"mfa_request_id                           rid\nmfa_constraint_e_totp_id                 mid\n" +
					"mfa_constraint_e_totp_uses_passcode      true\n",
				stderr: "A login request was issued that is subject to MFA validation. Please make sure\n" +
					"to validate the login by sending another request to sys/mfa/validate endpoint.\n\n" +
					"WARNING! The following warnings were returned from Vault:\n\n" +
					"  * A login request was issued that is subject to MFA validation. Please\n" +
					"  make sure to validate the login by sending another request to mfa/validate\n  endpoint.\n\n",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := vault(t, []string{"VAULT_ADDR=" + f.URL}, "", append([]string{"login"}, strings.Fields(tc.args)...)...)
			if squeeze(got.out) != squeeze(tc.want.out) || got.code != tc.want.code || got.stderr != tc.want.stderr {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

// squeeze makes runs of blanks equal.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

// The external helper of ~/.vault gets the operation as its last argument and
// the token on standard input.
func TestTokenHelperProgram(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("uses a shell script")
	}
	home := t.TempDir()
	script := writeFile(t, home, "helper", "#!/bin/sh\ncase $1 in get) cat \"$HOME/kept\" 2>/dev/null;; store) cat >\"$HOME/kept\";; esac\nexit 0\n")
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, home, ".vault", "token_helper = \""+script+"\"\n")
	f := newFake(t, map[string]answer{"GET auth/token/lookup-self": {body: lookupRoot}})
	env := []string{"VAULT_ADDR=" + f.URL, "PATH=" + os.Getenv("PATH")}
	if got := vaultAt(t, home, env, "", "login", "-no-print", "root"); got.code != 0 {
		t.Fatalf("login: %+v", got)
	}
	if text, _ := os.ReadFile(filepath.Join(home, "kept")); string(text) != "root" {
		t.Errorf("helper kept %q", text)
	}
	if got := vaultAt(t, home, env, "", "print", "token"); got.out != "root\n" {
		t.Errorf("print token: %+v", got)
	}
}
