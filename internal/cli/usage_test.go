package cli

import (
	"strings"
	"testing"
)

// TestUsage checks what wrong command lines say and how they end, in the words
// of the scenarios cli/usage-errors and cli/errors.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		code int
		want string // standard error without its line end; "" is anything
	}{
		{`read`, 1, `Not enough arguments (expected 1, got 0)`},
		{`write cubbyhole/x`, 1, `Must supply data or use -force`},
		{`write cubbyhole/x a=@nosuchfile`, 1, `Failed to parse K=V data: invalid key/value pair "a=@nosuchfile": error reading file: open nosuchfile: no such file or directory`},
		{`delete`, 1, `Not enough arguments (expected at least 1, got 0)`},
		{`kv put`, 1, `Not enough arguments (expected >1, got 0)`},
		{`kv put secret/x`, 1, `Must supply data`},
		{`kv rollback secret/x`, 1, `Version flag must be specified`},
		{`kv undelete secret/x`, 1, `No versions provided, use the "-versions" flag to specify the version to undelete.`},
		{`token renew a b c`, 1, `Too many arguments (expected 1, got 3)`},
		{`token lookup a b`, 1, `Too many arguments (expected 0-1, got 2)`},
		{`token revoke`, 1, `Not enough arguments (expected 1 or -self, got 0)`},
		{`token revoke -self x`, 1, `Too many arguments with -self (expected 0, got 1)`},
		{`token lookup -field=x`, 1, `flag provided but not defined: -field`},
		{`read -format=xml x`, 1, `Invalid output format: xml`},
		{`audit enable`, 1, `Error enabling audit device: audit type missing. Valid types include 'file', 'socket' and 'syslog'.`},
		{`lease renew`, 1, `Missing ID!`},
		{`operator raft snapshot save`, 1, `Incorrect arguments (expected 1, got 0)`},
		{`operator seal extra`, 1, `Too many arguments (expected 0, got 1)`},
		{`operator raft nosuch`, 1, ``},
		{`nosuch`, 127, ``},
		{`-output-curl-string status`, 1, ``},
		{`read -address=http://127.0.0.1:1 secret/x`, 2, `Error reading secret/x: Get "http://127.0.0.1:1/v1/secret/x": dial tcp 127.0.0.1:1: connect: connection refused`},
		// T13: the missing file is named.
		{`policy write readwrite secrets-readwrite.hcl`, 2, `Error opening policy file: open secrets-readwrite.hcl: no such file or directory`},
		// S3-6: without a terminal there is no prompt to hang on.
		{`operator unseal`, 1, ``},
		{`read -ca-cert=nofile.crt a/b`, 2, `failed to setup TLS config: Error loading CA File: open nofile.crt: no such file or directory`},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			got := vault(t, nil, "", strings.Fields(tc.args)...)
			if got.code != tc.code || got.out != "" || got.stderr == "" || (tc.want != "" && got.stderr != tc.want+"\n") {
				t.Errorf("got %d %q %q, want %d %q", got.code, got.out, got.stderr, tc.code, tc.want)
			}
		})
	}
}
