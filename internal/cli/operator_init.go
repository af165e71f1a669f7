package cli

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/hashicorp/vault/api"
)

// initOutput is the JSON of operator init. The first nine members and their
// order are the CLI's; keys and keys_base64 are the API's names, which scripts
// that read the same file use (trap T11, S4-27).
type initOutput struct {
	UnsealKeysB64     []string `json:"unseal_keys_b64"`
	UnsealKeysHex     []string `json:"unseal_keys_hex"`
	UnsealShares      int      `json:"unseal_shares"`
	UnsealThreshold   int      `json:"unseal_threshold"`
	RecoveryKeysB64   []string `json:"recovery_keys_b64"`
	RecoveryKeysHex   []string `json:"recovery_keys_hex"`
	RecoveryShares    int      `json:"recovery_keys_shares"`
	RecoveryThreshold int      `json:"recovery_keys_threshold"`
	RootToken         string   `json:"root_token"`
	Keys              []string `json:"keys"`
	KeysB64           []string `json:"keys_base64"`
}

// initFlags are the flags of operator init.
type initFlags struct {
	status                            *bool
	shares, threshold                 *int
	recoveryShares, recoveryThreshold *int
	storedShares                      *int
	pgpKeys, recoveryPGPKeys          *[]string
	rootPGPKey, consulService         *string
	consulAuto                        *bool
}

func initCommand() command {
	return command{
		name: "operator init", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Initialise a new server",
		about: `Makes the keys of a new storage and prints them, with the first root token, for
the only time.

    $ vault operator init
    $ vault operator init -key-shares=1 -key-threshold=1 -format=json
    $ vault operator init -key-shares=2 -key-threshold=2 -pgp-keys=ann.asc,bob.asc`,
		setup: func(f *flagSet) runFunc {
			i := initFlags{
				status:            f.Bool("status", false, "Only tell whether it is initialised: exit code 0 yes, 2 no."),
				shares:            f.Int("key-shares", 5, "Number of unseal keys (5)."),
				threshold:         f.Int("key-threshold", 3, "Number of them needed to unseal (3)."),
				recoveryShares:    f.Int("recovery-shares", 5, "Number of recovery keys, with a seal that opens itself (5)."),
				recoveryThreshold: f.Int("recovery-threshold", 3, "Number of them needed (3)."),
				storedShares:      f.Int("stored-shares", 0, "Ignored; kept for old scripts."),
				pgpKeys:           f.List("pgp-keys", "files", "PGP public keys, or keybase:NAME, that encrypt the unseal keys."),
				recoveryPGPKeys:   f.List("recovery-pgp-keys", "files", "PGP public keys that encrypt the recovery keys."),
				rootPGPKey:        f.String("root-token-pgp-key", "", "file", "PGP public key that encrypts the root token."),
				consulAuto:        f.Bool("consul-auto", false, "Ignored; kept for old scripts."),
				consulService:     f.String("consul-service", "vault", "name", "Ignored; kept for old scripts."),
			}
			return func(c *call) error { return runInit(c, i) }
		},
	}
}

// S0-15, S0-18, S3-5, S3-63, S4-20
func runInit(c *call, i initFlags) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if *i.status {
		return initStatus(c, client)
	}
	in := &api.InitRequest{SecretShares: *i.shares, SecretThreshold: *i.threshold}
	if in.PGPKeys, err = c.pgpKeys(*i.pgpKeys); err != nil {
		return usagef("%w", err)
	}
	if in.RecoveryPGPKeys, err = c.pgpKeys(*i.recoveryPGPKeys); err != nil {
		return usagef("%w", err)
	}
	if *i.rootPGPKey != "" {
		keys, err := c.pgpKeys([]string{*i.rootPGPKey})
		if err != nil {
			return usagef("%w", err)
		}
		in.RootTokenPGPKey = keys[0]
	}
	// Which keys the seal wants is the server's matter: ask, so that the flags
	// of the other sort are not sent.
	recovery := sealHasRecovery(c, client)
	if recovery {
		in.SecretShares, in.SecretThreshold = 0, 0
		in.RecoveryShares, in.RecoveryThreshold = *i.recoveryShares, *i.recoveryThreshold
	} else if c.flags.given("recovery-shares") || c.flags.given("recovery-threshold") {
		in.RecoveryShares, in.RecoveryThreshold = *i.recoveryShares, *i.recoveryThreshold
	}
	resp, err := client.Sys().InitWithContext(c.ctx, in)
	if err != nil {
		return failf("Error initializing: %w", err)
	}
	out := newInitOutput(in, resp)
	return c.show(out, out.text)
}

// sealHasRecovery asks whether the server's seal opens itself. When the server
// does not answer, init itself will say so.
func sealHasRecovery(c *call, client *api.Client) bool {
	if client.OutputCurlString() || client.OutputPolicy() {
		return false
	}
	status, err := client.Sys().SealStatusWithContext(c.ctx)
	return err == nil && status.RecoverySeal
}

func initStatus(c *call, client *api.Client) error {
	ok, err := client.Sys().InitStatusWithContext(c.ctx)
	if err != nil {
		return usagef("Error checking init status: %w", err)
	}
	text, code := "Vault is not initialized", exitFailure
	if ok {
		text, code = "Vault is initialized", exitOK
	}
	if c.isTable() {
		c.printf("%s\n", text)
	} else if err := c.show(ok, nil); err != nil {
		return err
	}
	return exit(code)
}

func newInitOutput(in *api.InitRequest, resp *api.InitResponse) *initOutput {
	list := func(s []string) []string { return append([]string{}, s...) } // [] rather than null, as the guide shows
	return &initOutput{
		UnsealKeysB64: list(resp.KeysB64), UnsealKeysHex: list(resp.Keys),
		UnsealShares: in.SecretShares, UnsealThreshold: in.SecretThreshold,
		RecoveryKeysB64: list(resp.RecoveryKeysB64), RecoveryKeysHex: list(resp.RecoveryKeys),
		RecoveryShares: in.RecoveryShares, RecoveryThreshold: in.RecoveryThreshold,
		RootToken: resp.RootToken, Keys: list(resp.Keys), KeysB64: list(resp.KeysB64),
	}
}

// text is the form for people; its key and token lines are what scripts cut.
func (o *initOutput) text() string {
	var b strings.Builder
	for i, key := range o.UnsealKeysB64 {
		fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, key)
	}
	for i, key := range o.RecoveryKeysB64 {
		fmt.Fprintf(&b, "Recovery Key %d: %s\n", i+1, key)
	}
	fmt.Fprintf(&b, "\nInitial Root Token: %s\n\n", o.RootToken)
	if len(o.UnsealKeysB64) > 0 {
		fmt.Fprintf(&b, `Vault initialized with %[1]d key shares and a key threshold of %[2]d. Please securely
distribute the key shares printed above. When the Vault is re-sealed,
restarted, or stopped, you must supply at least %[2]d of these keys to unseal it
before it can start servicing requests.

Vault does not store the generated root key. Without at least %[2]d keys to
reconstruct the root key, Vault will remain permanently sealed!

It is possible to generate new unseal keys, provided you have a quorum
of existing unseal keys shares. See "vault operator rotate-keys" for more
information.
`, o.UnsealShares, o.UnsealThreshold)
		return b.String()
	}
	b.WriteString("Success! Vault is initialized\n")
	if len(o.RecoveryKeysB64) > 0 {
		fmt.Fprintf(&b, `
Recovery key initialized with %d key shares and a key threshold of %d. Please
securely distribute the key shares printed above.
`, o.RecoveryShares, o.RecoveryThreshold)
	}
	return b.String()
}

// pgpKeys reads public keys as the API wants them: base64 of the binary key.
// A file may hold an armoured key, that base64, or the binary key;
// keybase:NAME is left to the server of that name.
func (c *call) pgpKeys(names []string) ([]string, error) {
	keys := make([]string, 0, len(names))
	for _, name := range names {
		if strings.HasPrefix(name, "keybase:") {
			key, err := keybaseKey(c.ctx, strings.TrimPrefix(name, "keybase:"))
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
			continue
		}
		path := c.env.expand(strings.TrimPrefix(name, "@"))
		text, err := os.ReadFile(path) //nolint:gosec // the user names it
		if err != nil {
			return nil, fmt.Errorf("read PGP key: %w", err)
		}
		key, err := pgpKey(text)
		if err != nil {
			return nil, fmt.Errorf("read PGP key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return keys, nil
}

func pgpKey(text []byte) (string, error) {
	trimmed := strings.TrimSpace(string(text))
	if strings.HasPrefix(trimmed, "-----BEGIN PGP") {
		entities, err := openpgp.ReadArmoredKeyRing(strings.NewReader(trimmed))
		if err != nil {
			return "", err
		}
		if len(entities) != 1 {
			return "", fmt.Errorf("%d keys instead of one", len(entities))
		}
		var b strings.Builder
		if err := entities[0].Serialize(&b); err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString([]byte(b.String())), nil
	}
	if _, err := base64.StdEncoding.DecodeString(trimmed); err == nil {
		return trimmed, nil
	}
	return base64.StdEncoding.EncodeToString(text), nil
}

// keysText lists keys; PGP fingerprints, if any, stand beside them.
func keysText(label string, keysB64, fingerprints []string) string {
	var b strings.Builder
	for i, key := range keysB64 {
		if len(fingerprints) > i {
			fmt.Fprintf(&b, "%s %d fingerprint: %s; value: %s\n", label, i+1, fingerprints[i], key)
			continue
		}
		fmt.Fprintf(&b, "%s %d: %s\n", label, i+1, key)
	}
	return b.String()
}
