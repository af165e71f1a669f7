package cli

import (
	"strings"
	"testing"
)

const (
	kv2Mount = `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`
	kv2Put   = `{"request_id":"r","data":{"created_time":"2023-01-02T11:04:21.01853116Z","custom_metadata":null,` +
		`"deletion_time":"","destroyed":false,"version":1}}`
	kv2Get = `{"request_id":"r","data":{"data":{"user":"user1","password":"s1cret0"},"metadata":{` +
		`"created_time":"2023-01-02T11:04:21.01853116Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}}`
	denied = `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`
	sealed = `{"type":"shamir","initialized":true,"sealed":true,"t":1,"n":1,"progress":0,"nonce":"","version":"1.12.2",` +
		`"build_date":"2022-11-23T12:53:46Z","migration":false,"recovery_seal":false,"storage_type":"raft"}`
	fresh = `{"type":"shamir","initialized":false,"sealed":true,"t":0,"n":0,"progress":0,"nonce":"","version":"1.12.2",` +
		`"build_date":"2022-11-23T12:53:46Z","migration":false,"recovery_seal":false,"storage_type":"raft"}`
	isSealed = `{"errors":["Vault is sealed"]}`
)

// TestOutput compares whole outputs, as the guides and scenarios show them.
func TestOutput(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		args    []string
		stdin   string
		env     []string
		answers map[string]answer
		want    result
	}{
		{
			name: "S4-37 kv put shows path and metadata",
			args: []string{"kv", "put", "secret/secret1", "user=user1", "password=s1cret0"},
			answers: map[string]answer{
				"GET sys/internal/ui/mounts/secret/secret1": {body: kv2Mount},
				"PUT secret/data/secret1":                   {body: kv2Put},
			},
			want: result{out: `=== Secret Path ===
secret/data/secret1

======= Metadata =======
Key                Value
---                -----
created_time       2023-01-02T11:04:21.01853116Z
custom_metadata    <nil>
deletion_time      n/a
destroyed          false
version            1
`},
		},
		{
			name: "S4-38 kv get shows data sorted",
			args: []string{"kv", "get", "secret/secret1"},
			answers: map[string]answer{
				"GET sys/internal/ui/mounts/secret/secret1": {body: kv2Mount},
				"GET secret/data/secret1":                   {body: kv2Get},
			},
			want: result{out: `=== Secret Path ===
secret/data/secret1

======= Metadata =======
Key                Value
---                -----
created_time       2023-01-02T11:04:21.01853116Z
custom_metadata    <nil>
deletion_time      n/a
destroyed          false
version            1

====== Data ======
Key         Value
---         -----
password    s1cret0
user        user1
`},
		},
		{
			name: "S4-36 kv put refused",
			args: []string{"kv", "put", "secret/secret1", "user=user1"},
			answers: map[string]answer{
				"GET sys/internal/ui/mounts/secret/secret1": {body: kv2Mount},
				"PUT secret/data/secret1":                   {403, denied},
			},
			want: result{code: 2, stderr: `Error writing data to secret/data/secret1: Error making API request.

URL: PUT {{addr}}/v1/secret/data/secret1
Code: 403. Errors:

* 1 error occurred:
	* permission denied


`},
		},
		{
			name: "S4-19 status of a new server",
			args: []string{"status"},
			answers: map[string]answer{
				"GET sys/seal-status": {body: fresh}, "GET sys/leader": {503, isSealed},
			},
			want: result{code: 2, out: `Key                Value
---                -----
Seal Type          shamir
Initialized        false
Sealed             true
Total Shares       0
Threshold          0
Unseal Progress    0/0
Unseal Nonce       n/a
Version            1.12.2
Build Date         2022-11-23T12:53:46Z
Storage Type       raft
HA Enabled         true
`},
		},
		{
			name: "S4-22 status sealed",
			args: []string{"status"},
			answers: map[string]answer{
				"GET sys/seal-status": {body: sealed}, "GET sys/leader": {503, isSealed},
			},
			want: result{code: 2, out: `Key                Value
---                -----
Seal Type          shamir
Initialized        true
Sealed             true
Total Shares       1
Threshold          1
Unseal Progress    0/1
Unseal Nonce       n/a
Version            1.12.2
Build Date         2022-11-23T12:53:46Z
Storage Type       raft
HA Enabled         true
`},
		},
		{
			name: "S4-24 unseal with argument, then open",
			args: []string{"operator", "unseal", "UEDYFGa/oVUehw5eflXt2mdoE8zJD3QVub8b++rNCm8="},
			answers: map[string]answer{
				"PUT sys/unseal": {body: strings.Replace(sealed, `"sealed":true`, `"sealed":false,"cluster_name":"c","cluster_id":"i"`, 1)},
				"GET sys/leader": {body: `{"ha_enabled":true,"is_self":true,"active_time":"2023-01-02T11:04:21Z",` +
					`"leader_address":"https://a:8200","leader_cluster_address":"https://a:8201","raft_committed_index":38,"raft_applied_index":38}`},
			},
			want: result{out: `Key                     Value
---                     -----
Seal Type               shamir
Initialized             true
Sealed                  false
Total Shares            1
Threshold               1
Version                 1.12.2
Build Date              2022-11-23T12:53:46Z
Storage Type            raft
Cluster Name            c
Cluster ID              i
HA Enabled              true
HA Cluster              https://a:8201
HA Mode                 active
Active Since            2023-01-02T11:04:21Z
Raft Committed Index    38
Raft Applied Index      38
`},
		},
		{
			name: "S4-35 token create -field has no line end in a pipe",
			args: []string{"token", "create", "-policy=readonly", "-field=token"},
			answers: map[string]answer{
				"POST auth/token/create": {body: `{"auth":{"client_token":"hvs.abc","policies":["default","readonly"]}}`},
			},
			want: result{out: "hvs.abc"},
		},
		{
			name:    "S0-30 read role-id, flag behind the path",
			args:    []string{"read", "auth/approle/role/kes-server/role-id", "-format=yaml"},
			answers: map[string]answer{"GET auth/approle/role/kes-server/role-id": {body: `{"request_id":"r","data":{"role_id":"x"}}`}},
			want:    result{out: "data:\n  role_id: x\nlease_duration: 0\nlease_id: \"\"\nrenewable: false\nrequest_id: r\nwarnings: null\n"},
		},
		{
			name: "S0-31 write -f",
			args: []string{"write", "-f", "auth/approle/role/kes-server/secret-id"},
			answers: map[string]answer{"PUT auth/approle/role/kes-server/secret-id": {
				body: `{"data":{"secret_id":"s","secret_id_accessor":"a","secret_id_num_uses":0,"secret_id_ttl":0}}`,
			}},
			want: result{out: "Key                   Value\n---                   -----\nsecret_id             s\n" +
				"secret_id_accessor    a\nsecret_id_num_uses    0\nsecret_id_ttl         0s\n"},
		},
		{
			name:    "T3 reading a secret-id names the write",
			args:    []string{"read", "auth/approle/role/r/secret-id"},
			answers: map[string]answer{"GET auth/approle/role/r/secret-id": {405, `{"errors":["unsupported operation"]}`}},
			want: result{code: 2, stderr: "Error reading auth/approle/role/r/secret-id: Error making API request.\n\n" +
				"URL: GET {{addr}}/v1/auth/approle/role/r/secret-id\nCode: 405. Errors:\n\n* unsupported operation\n\n" +
				"A secret id is generated, not read: vault write -f auth/approle/role/r/secret-id\n"},
		},
		{
			name:    "S3-8 list without a right",
			args:    []string{"list", "auth/token/accessors"},
			answers: nil,
			want: result{code: 2, stderr: "Error listing auth/token/accessors: Error making API request.\n\n" +
				"URL: GET {{addr}}/v1/auth/token/accessors?list=true\nCode: 403. Errors:\n\n* permission denied\n"},
		},
		{
			name: "S3-42 audit list",
			args: []string{"audit", "list", "-detailed"},
			answers: map[string]answer{"GET sys/audit": {
				body: `{"data":{"file/":{"type":"file","description":"","options":{"file_path":"a.log"},"local":false,"path":"file/"}}}`,
			}},
			want: result{out: "Path     Type    Description    Replication    Options\n" +
				"----     ----    -----------    -----------    -------\n" +
				"file/    file    n/a            replicated     file_path=a.log\n"},
		},
		{
			name:    "policy list",
			args:    []string{"policy", "list"},
			answers: map[string]answer{"GET sys/policies/acl?list=true": {body: `{"data":{"keys":["default","root"]}}`}},
			want:    result{out: "default\nroot\n"},
		},
		{
			name: "S3-59 raft list-peers",
			args: []string{"operator", "raft", "list-peers"},
			answers: map[string]answer{"GET sys/storage/raft/configuration": {
				body: `{"data":{"config":{"servers":[{"node_id":"n1","address":"a:8201","leader":true,"voter":true},` +
					`{"node_id":"n2","address":"b:8201","leader":false,"voter":true}]}}}`,
			}},
			want: result{out: "Node    Address    State       Voter\n----    -------    -----       -----\n" +
				"n1      a:8201     leader      true\nn2      b:8201     follower    true\n"},
		},
		{
			name: "wrapped answer",
			args: []string{"read", "-wrap-ttl=5m", "a/b"},
			answers: map[string]answer{"GET a/b": {
				body: `{"wrap_info":{"token":"hvs.w","accessor":"acc","ttl":300,"creation_time":"2023-01-02T11:04:21Z","creation_path":"a/b"}}`,
			}},
			want: result{out: "Key                              Value\n---                              -----\n" +
				"wrapping_token:                  hvs.w\nwrapping_accessor:               acc\nwrapping_token_ttl:              5m\n" +
				"wrapping_token_creation_time:    2023-01-02 11:04:21 +0000 UTC\nwrapping_token_creation_path:    a/b\n"},
		},
		{
			name:    "warnings go to standard error",
			args:    []string{"write", "a/b", "x=1"},
			answers: map[string]answer{"PUT a/b": {body: `{"data":{"k":"v"},"warnings":["Policy \"other\" does not exist"]}`}},
			want: result{
				out:    "Key    Value\n---    -----\nk      v\n",
				stderr: "WARNING! The following warnings were returned from Vault:\n\n  * Policy \"other\" does not exist\n\n",
			},
		},
		{
			name:    "empty list as JSON",
			args:    []string{"list", "-format=json", "a"},
			answers: map[string]answer{"GET a?list=true": {404, `{"errors":[]}`}},
			want:    result{code: 2, out: "{}\n"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, tc.answers)
			got := vault(t, f.env(tc.env...), tc.stdin, tc.args...)
			got.stderr = f.shown(got.stderr)
			if got != tc.want {
				t.Errorf("got code %d\nstdout:\n%s\nstderr:\n%s\nwant code %d\nstdout:\n%s\nstderr:\n%s",
					got.code, got.out, got.stderr, tc.want.code, tc.want.out, tc.want.stderr)
			}
		})
	}
}

// TestRequests checks what commands send.
func TestRequests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy := writeFile(t, dir, "p.hcl", `path "a" {}`)
	for _, tc := range []struct {
		name  string
		args  []string
		stdin string
		want  string
	}{
		{"S0-21 kv version 1", []string{"secrets", "enable", "-version=1", "kv"}, "", `POST /v1/sys/mounts/kv {"type":"kv","description":"","config":{"options":null,"default_lease_ttl":"0s","max_lease_ttl":"0s","force_no_cache":false},"local":false,"seal_wrap":false,"external_entropy_access":false,"options":{"version":"1"}}`},
		{"S4-31 kv version 2", []string{"secrets", "enable", "-version=2", "-path=secret", "kv"}, "", `POST /v1/sys/mounts/secret {"type":"kv","description":"","config":{"options":null,"default_lease_ttl":"0s","max_lease_ttl":"0s","force_no_cache":false},"local":false,"seal_wrap":false,"external_entropy_access":false,"options":{"version":"2"}}`},
		{"S0-27 auth enable", []string{"auth", "enable", "approle"}, "", `POST /v1/sys/auth/approle {"type":"approle","description":"","config":{"options":null,"default_lease_ttl":"0s","max_lease_ttl":"0s","force_no_cache":false},"local":false,"seal_wrap":false,"external_entropy_access":false,"options":null}`},
		{"S0-28 write pairs", []string{"write", "auth/approle/role/kes-server", "token_num_uses=0", "secret_id_num_uses=0", "period=5m"}, "", `PUT /v1/auth/approle/role/kes-server {"period":"5m","secret_id_num_uses":"0","token_num_uses":"0"}`},
		{"S0-26 policy write", []string{"policy", "write", "kes-policy", policy}, "", `PUT /v1/sys/policies/acl/kes-policy {"policy":"path \"a\" {}"}`},
		{"policy write with a slash", []string{"policy", "write", "Team/dev", policy}, "", `PUT /v1/sys/policies/acl/team/dev {"policy":"path \"a\" {}"}`},
		{"S0-23 enable versioning", []string{"kv", "enable-versioning", "kv"}, "", `POST /v1/sys/mounts/kv/tune {"options":{"version":"2"}}`},
		{"S3-41 audit file", []string{"audit", "enable", "file", "file_path=path/to/file.log"}, "", `PUT /v1/sys/audit/file {"type":"file","description":"","options":{"file_path":"path/to/file.log"},"local":false}`},
		{"S3-44 audit socket", []string{"audit", "enable", "socket", "address=127.0.0.1:9090"}, "", `PUT /v1/sys/audit/socket {"type":"socket","description":"","options":{"address":"127.0.0.1:9090"},"local":false}`},
		{"S3-45 audit path", []string{"audit", "enable", "-path=audit_path", "file", "file_path=/x"}, "", `PUT /v1/sys/audit/audit_path {"type":"file","description":"","options":{"file_path":"/x"},"local":false}`},
		{"S3-22 token lookup argument", []string{"token", "lookup", "hvs.x"}, "", `POST /v1/auth/token/lookup {"token":"hvs.x"}`},
		{"S2-22 delete with a parameter", []string{"delete", "kmip/scope/finance", "force=true"}, "", `DELETE /v1/kmip/scope/finance?force=true`},
		{"S2-15 read with a parameter", []string{"read", "kmip/x", "serial_number=5"}, "", `GET /v1/kmip/x?serial_number=5`},
		{"data from stdin", []string{"write", "a/b", "-"}, `{"n":7.50,"s":"x"}`, `PUT /v1/a/b {"n":7.50,"s":"x"}`},
		{"repeated key", []string{"write", "a/b", "k=1", "k=2"}, "", `PUT /v1/a/b {"k":["1","2"]}`},
		{"force sends null", []string{"write", "-force", "a/b"}, "", `PUT /v1/a/b null`},
		{"rotate", []string{"operator", "rotate"}, "", `PUT /v1/sys/rotate`},
		{"namespace create", []string{"namespace", "create", "t"}, "", `POST /v1/sys/namespaces/t {}`},
		{"tune sends what was given", []string{"secrets", "tune", "-description=", "-max-lease-ttl=2h", "kv/"}, "", `POST /v1/sys/mounts/kv/tune {"description":"","max_lease_ttl":"2h0m0s"}`},
		{"lease prefix", []string{"lease", "revoke", "-prefix", "a/"}, "", `PUT /v1/sys/leases/revoke-prefix/a {"sync":false}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, nil)
			vault(t, f.env(), tc.stdin, tc.args...)
			if got := f.last(); got != tc.want {
				t.Errorf("sent\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// T5, S3-27: an agent's address without a scheme is completed.
func TestAgentAddress(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"GET a/b": {body: `{"data":{"k":"v"}}`}})
	env := []string{"VAULT_AGENT_ADDR=" + strings.TrimPrefix(f.URL, "http://"), "VAULT_ADDR=http://127.0.0.1:1"}
	if got := vault(t, env, "", "read", "-field=k", "a/b"); got.out != "v" {
		t.Errorf("through the agent: %+v", got)
	}
	if got := vault(t, env, "", "read", "-address="+f.URL, "-field=k", "a/b"); got.out != "v" {
		t.Errorf("-address over the agent: %+v", got)
	}
}

// T8: step-down takes an address.
func TestStepDownAddress(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"PUT sys/step-down": {status: 204}})
	got := vault(t, []string{"VAULT_TOKEN=x", "VAULT_ADDR=http://127.0.0.1:1"}, "", "operator", "step-down", f.URL)
	if want := "Success! Stepped down: " + f.URL + "\n"; got.code != 0 || got.out != want {
		t.Errorf("got %+v", got)
	}
}

// ARCA_ variables are synonyms; VAULT_ ones win.
func TestSynonyms(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"GET a/b": {body: `{"data":{"k":"v"}}`}})
	if got := vault(t, []string{"ARCA_ADDR=" + f.URL, "ARCA_TOKEN=t", "ARCA_FORMAT=json", "ARCA_NAMESPACE=ns1"}, "", "read", "-field=k", "a/b"); got.out != "\"v\"\n" {
		t.Errorf("got %+v", got)
	}
	if h := f.headers[0]; h.Get("X-Vault-Token") != "t" || h.Get("X-Vault-Namespace") != "ns1/" {
		t.Errorf("headers %v", h)
	}
	got := Synonyms([]string{"ARCA_ADDR=a", "ARCA_TOKEN=b", "VAULT_TOKEN=c", "OTHER=d"})
	if len(got) != 1 || got["VAULT_ADDR"] != "a" {
		t.Errorf("Synonyms: %v", got)
	}
}
