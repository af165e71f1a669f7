package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const initAnswer = `{"keys":["5040"],"keys_base64":["UEA="],"root_token":"hvs.AJxt0CgXT9BcVe5dMNeI0Unm"}`

// S4-20, S4-21, S4-27, T11: the JSON has the guide's members in the guide's
// order, then those of the API.
func TestInitJSON(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"PUT sys/init": {body: initAnswer}})
	got := vault(t, f.env(), "", "operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json")
	want := `{
  "unseal_keys_b64": [
    "UEA="
  ],
  "unseal_keys_hex": [
    "5040"
  ],
  "unseal_shares": 1,
  "unseal_threshold": 1,
  "recovery_keys_b64": [],
  "recovery_keys_hex": [],
  "recovery_keys_shares": 0,
  "recovery_keys_threshold": 0,
  "root_token": "hvs.AJxt0CgXT9BcVe5dMNeI0Unm",
  "keys": [
    "5040"
  ],
  "keys_base64": [
    "UEA="
  ]
}
`
	if got.code != 0 || got.out != want {
		t.Errorf("got %d\n%s%s", got.code, got.out, got.stderr)
	}
}

// S0-15, S0-18, S3-63: the text form, with the defaults 5 and 3.
func TestInitText(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"PUT sys/init": {
		body: `{"keys":["1","2","3","4","5"],"keys_base64":["a","b","c","d","e"],"root_token":"s.zaU4Gbcu0Wh46uj2V3VuUde0"}`,
	}})
	got := vault(t, f.env(), "", "operator", "init")
	want := `Unseal Key 1: a
Unseal Key 2: b
Unseal Key 3: c
Unseal Key 4: d
Unseal Key 5: e

Initial Root Token: s.zaU4Gbcu0Wh46uj2V3VuUde0

Vault initialized with 5 key shares and a key threshold of 3. Please securely
distribute the key shares printed above. When the Vault is re-sealed,
restarted, or stopped, you must supply at least 3 of these keys to unseal it
before it can start servicing requests.
`
	if !strings.HasPrefix(got.out, want) {
		t.Errorf("got\n%s%s", got.out, got.stderr)
	}
	if last := f.last(); !strings.Contains(last, `"secret_shares":5,"secret_threshold":3`) {
		t.Errorf("sent %s", last)
	}
}

// S3-33: a seal that opens itself gives recovery keys.
func TestInitRecovery(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{
		"GET sys/seal-status": {body: `{"type":"awskms","recovery_seal":true,"sealed":true}`},
		"PUT sys/init":        {body: `{"keys":[],"keys_base64":[],"recovery_keys":["1"],"recovery_keys_base64":["a"],"root_token":"t"}`},
	})
	got := vault(t, f.env(), "", "operator", "init", "-recovery-shares=1", "-recovery-threshold=1")
	want := "Recovery Key 1: a\n\nInitial Root Token: t\n\nSuccess! Vault is initialized\n"
	if !strings.HasPrefix(got.out, want) {
		t.Errorf("got\n%s%s", got.out, got.stderr)
	}
}

func TestRekey(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{
		"GET sys/rekey/init":   {body: `{"nonce":"n","started":true,"t":2,"n":3,"progress":1,"required":2}`},
		"PUT sys/rekey/update": {body: `{"nonce":"n","complete":true,"keys":["1","2","3"],"keys_base64":["a","b","c"]}`},
	})
	got := vault(t, f.env(), "key\n", "operator", "rekey", "-nonce=n", "-")
	want := `Key 1: a
Key 2: b
Key 3: c

Operation nonce: n

Vault unseal keys rekeyed to 3 key shares and a key threshold of 2. Please
securely distribute the key shares printed above. When Vault is re-sealed,
restarted, or stopped, you must supply at least 2 of these keys to unseal it
before it can start servicing requests.
`
	if got.code != 0 || got.out != want {
		t.Errorf("got %+v", got)
	}
	if last := f.last(); last != `PUT /v1/sys/rekey/update {"key":"key","nonce":"n"}` {
		t.Errorf("sent %s", last)
	}
}

func TestGenerateRootDecode(t *testing.T) {
	t.Parallel()
	// "abc" under the one-time password "xyz"
	for _, tc := range []struct {
		args []string
		want result
	}{
		{[]string{"-decode=GRsZ", "-otp=xyz"}, result{out: "abc\n"}},
		{[]string{"-decode=GRsZ"}, result{code: 1, stderr: "Missing otp: use -otp to supply it\n"}},
		{[]string{"-decode=GRsZ", "-otp=short"}, result{code: 1, stderr: "Error decoding root token: error xoring token: " +
			"length of byte slices is not equivalent: 3 != 5\n"}},
	} {
		if got := vault(t, nil, "", append([]string{"operator", "generate-root"}, tc.args...)...); got != tc.want {
			t.Errorf("%v: got %+v", tc.args, got)
		}
	}
}

// S3-65, T9: a bare leader address is completed, and tried with http as well.
func TestRaftJoinBareAddress(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]answer{"POST sys/storage/raft/join": {body: `{"joined":false}`}})
	vault(t, f.env(), "", "operator", "raft", "join", "10.0.0.5")
	all := strings.Join(f.requests, "\n")
	for _, want := range []string{`"leader_api_addr":"https://10.0.0.5:8200"`, `"leader_api_addr":"http://10.0.0.5:8200"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
}

func TestNodeAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.0.0.5": "https://10.0.0.5:8200", "a:82": "https://a:82", "http://a": "http://a",
		"[::1]": "https://[::1]:8200", "[::1]:82": "https://[::1]:82",
	} {
		if got := nodeAddress(in, "https"); got != want {
			t.Errorf("nodeAddress(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSnapshotInspect(t *testing.T) {
	t.Parallel()
	meta := `{"Version":1,"ID":"bolt-snapshot","Index":38,"Term":3,"Size":5}`
	good := fmt.Sprintf("%x  meta.json\n%x  state.bin\n", sha256.Sum256([]byte(meta)), sha256.Sum256([]byte("12345")))
	archive := func(state, sums string) []byte {
		var b bytes.Buffer
		gz := gzip.NewWriter(&b)
		tw := tar.NewWriter(gz)
		for _, file := range [][2]string{{"meta.json", meta}, {"state.bin", state}, {"SHA256SUMS", sums}, {"SHA256SUMS.sealed", "x"}} {
			if file[1] == "" {
				continue
			}
			if err := tw.WriteHeader(&tar.Header{Name: file[0], Mode: 0o600, Size: int64(len(file[1]))}); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write([]byte(file[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(tw.Close(), gz.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	whole := archive("12345", good)
	wrongEnd := bytes.Clone(whole)
	wrongEnd[len(wrongEnd)-6] ^= 1 // gzip's checksum
	onlyMeta, _, _ := strings.Cut(good, "\n")
	for name, tt := range map[string]struct {
		file []byte
		err  string
	}{
		"whole":            {whole, ""},
		"state":            {archive("12346", good), "the archive is damaged: state.bin does not have the checksum that it should have"},
		"no state":         {archive("", good), "the archive is damaged: state.bin does not have the checksum that it should have"},
		"checksums":        {archive("12345", onlyMeta), "the archive is damaged: SHA256SUMS does not name all"},
		"no checksums":     {archive("12345", ""), "the archive has no SHA256SUMS"},
		"checksum of gzip": {wrongEnd, "gzip: invalid checksum"},
		"truncated":        {whole[:len(whole)/2], "unexpected EOF"},
		"nothing":          {nil, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			info, err := inspectSnapshot(bytes.NewReader(tt.file))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || info.Index != 38 || info.Term != 3 || len(info.Files) != 4 {
				t.Errorf("got %+v, %v", info, err)
			}
		})
	}
}

func FuzzInspectSnapshot(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = inspectSnapshot(bytes.NewReader(b)) })
}

func TestRaftJoinFiles(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	for name, want := range map[string]string{
		"leader-ca-cert": "leader CA certificate", "leader-client-cert": "leader client certificate", "leader-client-key": "leader client key",
	} {
		got := vault(t, f.env(), "", "operator", "raft", "join", "-"+name+"=@/nowhere", "https://a:8200")
		if got.code != 1 || !strings.Contains(got.stderr, "Failed to parse "+want+": ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
