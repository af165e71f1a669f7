package sys

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"arca/internal/barrier"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// sealTable gives the routes of the seal over an empty store.
func sealTable(t *testing.T) *engine.Table {
	t.Helper()
	b := storagetest.NewMap()
	raw := storage.Open(b, storage.Config{})
	t.Cleanup(func() { _ = raw.Close() })
	m, err := seal.New(seal.Config{
		Raw:         raw,
		Bootstrap:   func(context.Context, *barrier.Keyring) (string, error) { return "s.root", nil },
		Opened:      func(context.Context, *barrier.Keyring, seal.Cluster) error { return nil },
		RootToken:   func(context.Context) (string, error) { return "s.abcdefghijklmnopqrstuvwx", nil },
		StorageType: "inmem", ClusterName: "c", Version: "1.2.3",
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{seal: m}
	return engine.NewTable(e.sealRoutes())
}

// do serves one request and answers its body, or "kind: text" of the error.
func do(t *testing.T, table *engine.Table, op engine.Operation, path, body string) string {
	t.Helper()
	params, err := param.ParseObject([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	call := &engine.Call{Request: &engine.Request{Op: op, Path: path, Params: params}, Op: op}
	route, err := table.Match(op, path, call)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	res, err := route.Run(t.Context(), call)
	switch {
	case err != nil:
		return errs.KindOf(err).String() + ": " + err.Error()
	case res == nil:
		return ""
	case res.Raw != nil:
		if len(res.Warnings) > 0 {
			t.Errorf("%s: warnings %q", path, res.Warnings)
		}
		return strings.TrimSpace(string(res.Raw.Body))
	}
	b, err := res.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var varying = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|"(build_date|arca_version|install_time)":"[^"]*"`)

// S4-19 to S4-26: the members and their order, as clients see them.
func TestSealRoutes(t *testing.T) {
	t.Parallel()
	table := sealTable(t)
	check := func(op engine.Operation, path, body, want string) {
		t.Helper()
		got := varying.ReplaceAllString(do(t, table, op, path, body), "?")
		if got != want {
			t.Errorf("%s %s %s\n got %s\nwant %s", op, path, body, got, want)
		}
	}
	const (
		read, write, del = engine.OpRead, engine.OpUpdate, engine.OpDelete
		noKey            = "invalid: 'key' must be specified in request body as JSON"
		sealed           = "sealed: Vault is sealed"
	)
	check(read, "init", "", `{"initialized":false}`)
	check(read, "seal-status", "", `{"type":"shamir","initialized":false,"sealed":true,"t":0,"n":0,"progress":0,"nonce":"","version":"1.2.3",?,"migration":false,"recovery_seal":false,"storage_type":"inmem",?}`)
	check(write, "init", `{"secret_shares":"x","secret_threshold":1}`,
		"invalid: failed to decode JSON input: json: cannot unmarshal string into Go struct field InitRequest.secret_shares of type int")
	check(write, "init", `{"secret_shares":1,"secret_threshold":1,"recovery_shares":5,"recovery_threshold":3}`,
		"invalid: parameters recovery_shares,recovery_threshold not applicable to seal type shamir")
	check(write, "init", `{"secret_shares":1,"secret_threshold":1,"stored_shares":-1}`,
		"invalid: invalid seal configuration: stored keys cannot be negative")

	var ini struct {
		Keys       []string
		KeysBase64 []string `json:"keys_base64"`
		RootToken  string   `json:"root_token"`
	}
	text := do(t, table, write, "init", `{"secret_shares":1,"secret_threshold":1,"unknown":true}`)
	if err := json.Unmarshal([]byte(text), &ini); err != nil || len(ini.Keys) != 1 || len(ini.Keys[0]) != 64 || len(ini.KeysBase64[0]) != 44 || ini.RootToken != "s.root" {
		t.Fatalf("init answered %s", text)
	}
	key := `{"key":"` + ini.KeysBase64[0] + `"`
	check(read, "init", "", `{"initialized":true}`)
	for _, path := range []string{"rekey/init", "rekey/verify", "generate-root/attempt", "rekey-recovery-key/init", "key-status", "rotate/config"} {
		check(read, path, "", sealed)
	}
	check(write, "unseal", ``, noKey+", or 'reset' set to true")
	check(write, "unseal", `{"key":"00"}`, "invalid: 'key' must be a valid hex or base64 string")
	check(write, "unseal", `{"key":["00"]}`, "invalid: failed to decode JSON input: json: cannot unmarshal array into Go struct field UnsealRequest.key of type string")
	check(write, "unseal", `{"key":"`+ini.Keys[0]+`"}`, `{"type":"shamir","initialized":true,"sealed":false,"t":1,"n":1,"progress":0,"nonce":"","version":"1.2.3",?,"migration":false,"cluster_name":"c","cluster_id":"?","recovery_seal":false,"storage_type":"inmem",?}`)
	check(write, "unseal", `{"reset":true}`, "invalid: vault is unsealed")

	check(read, "key-status", "", `{"encryptions":0,?,"term":1}`)
	check(write, "rotate", "", "")
	check(read, "key-status", "", `{"encryptions":0,?,"term":2}`)
	check(read, "rotate/config", "", `{"enabled":true,"interval":0,"max_operations":3865470566}`)
	check(write, "rotate/config", `{"max_operations":2000000,"interval":"24h"}`, "")
	check(read, "rotate/config", "", `{"enabled":true,"interval":"24h0m0s","max_operations":2000000}`)
	check(write, "rotate/config", `{"interval":"soon"}`, `invalid: Field validation failed: error converting input for field "interval": time: invalid duration "soon"`)

	check(write, "rekey-recovery-key/update", `{}`, "invalid: recovery rekeying not supported")
	check(read, "rekey/recovery-key-backup", "", "invalid: no backed-up keys found")
	check(read, "rekey/backup", "", "invalid: no backed-up keys found")
	check(del, "rekey/backup", "", "")
	check(read, "rekey/init", "", `{"nonce":"","started":false,"t":0,"n":0,"progress":0,"required":1,"pgp_fingerprints":null,"backup":false,"verification_required":false}`)
	check(write, "rekey/update", `{}`, noKey)
	nonce := nonceOf(t, do(t, table, write, "rekey/init", `{"secret_shares":2,"secret_threshold":2,"require_verification":true}`))
	text = do(t, table, write, "rekey/update", key+`,"nonce":"`+nonce+`"}`)
	if !regexp.MustCompile(`^{"nonce":"[^"]*","complete":true,"keys":\["[^]]*\],"keys_base64":\["[^]]*\],"pgp_fingerprints":null,"backup":false,"verification_required":true,"verification_nonce":"[^"]{36}"}$`).MatchString(text) {
		t.Errorf("rekey/update answered %s", text)
	}
	check(read, "rekey/verify", "", `{"nonce":"?","started":true,"t":2,"n":2,"progress":0}`)
	check(del, "rekey/verify", "", `{"nonce":"?","started":true,"t":2,"n":2,"progress":0}`)
	check(del, "rekey/init", "", "")

	check(read, "generate-root/attempt", "", `{"nonce":"","started":false,"progress":0,"required":1,"complete":false,"encoded_token":"","encoded_root_token":"","pgp_fingerprint":"","otp":"","otp_length":26}`)
	check(write, "generate-root/update", `{"nonce":"x"}`, noKey)
	nonce = nonceOf(t, do(t, table, write, "generate-root/attempt", `{"otp":"abcdefghijklmnopqrstuvwxyz"}`))
	text = do(t, table, write, "generate-root/update", key+`,"nonce":"`+nonce+`"}`)
	encoded := regexp.MustCompile(`"encoded_token":"([^"]+)"`).FindStringSubmatch(text)
	if encoded == nil || !strings.Contains(text, `"complete":true`) {
		t.Fatalf("generate-root/update answered %s", text)
	}
	check(write, "decode-token", `{"encoded_token":"`+encoded[1]+`","otp":"abcdefghijklmnopqrstuvwxyz"}`, `{"token":"s.abcdefghijklmnopqrstuvwx"}`)
	check(write, "decode-token", `{"encoded_token":"`+encoded[1]+`"}`, "invalid: missing otp")
	check(del, "generate-root/attempt", "", "")
}

func nonceOf(t *testing.T, text string) string {
	t.Helper()
	var in struct{ Nonce string }
	if err := json.Unmarshal([]byte(text), &in); err != nil || in.Nonce == "" {
		t.Fatalf("no nonce in %s", text)
	}
	return in.Nonce
}
