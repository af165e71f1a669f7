package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// rekeyFlags are the flags of operator rekey.
type rekeyFlags struct {
	init, cancel, status, verify         *bool
	backup, backupDelete, backupRetrieve *bool
	shares, threshold                    *int
	nonce, target                        *string
	pgpKeys                              *[]string
}

// rekeyTarget is the API for one of the two sorts of keys.
type rekeyTarget struct {
	noun         string // "Unseal" or "Recovery", for prompts
	status       func(context.Context) (*api.RekeyStatusResponse, error)
	init         func(context.Context, *api.RekeyInitRequest) (*api.RekeyStatusResponse, error)
	update       func(ctx context.Context, shard, nonce string) (*api.RekeyUpdateResponse, error)
	cancel       func(context.Context) error
	verifyStatus func(context.Context) (*api.RekeyVerificationStatusResponse, error)
	verify       func(ctx context.Context, shard, nonce string) (*api.RekeyVerificationUpdateResponse, error)
	verifyCancel func(context.Context) error
	retrieve     func(context.Context) (*api.RekeyRetrieveResponse, error)
	deleteBackup func(context.Context) error
}

func newRekeyTarget(sys *api.Sys, name string) (rekeyTarget, error) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "barrier":
		return rekeyTarget{
			"Unseal", sys.RekeyStatusWithContext, sys.RekeyInitWithContext, sys.RekeyUpdateWithContext,
			sys.RekeyCancelWithContext, sys.RekeyVerificationStatusWithContext, sys.RekeyVerificationUpdateWithContext,
			sys.RekeyVerificationCancelWithContext, sys.RekeyRetrieveBackupWithContext, sys.RekeyDeleteBackupWithContext,
		}, nil
	case "recovery", "hsm":
		return rekeyTarget{
			"Recovery", sys.RekeyRecoveryKeyStatusWithContext, sys.RekeyRecoveryKeyInitWithContext,
			sys.RekeyRecoveryKeyUpdateWithContext, sys.RekeyRecoveryKeyCancelWithContext,
			sys.RekeyRecoveryKeyVerificationStatusWithContext, sys.RekeyRecoveryKeyVerificationUpdateWithContext,
			sys.RekeyRecoveryKeyVerificationCancelWithContext, sys.RekeyRetrieveRecoveryBackupWithContext,
			sys.RekeyDeleteRecoveryBackupWithContext,
		}, nil
	}
	return rekeyTarget{}, usagef("Unknown target: %s", name)
}

func rekeyCommand() command {
	return command{
		// rotate-keys is OpenBao's name for it, which the notice of init uses.
		name: "operator rekey", aliases: []string{"operator rotate-keys"}, usage: "[options] [KEY]",
		shared: withHTTP | withFormat, summary: "Make new unseal keys",
		about: `Replaces the unseal keys, and with them the root key, or with -target=recovery the
recovery keys. One person starts, then holders of the present keys give theirs, with
the operation's nonce. Backups of before are opened by the keys of before.

    $ vault operator rekey -init -key-shares=5 -key-threshold=3
    $ vault operator rekey -nonce=NONCE
    $ vault operator rekey -cancel`,
		setup: func(f *flagSet) runFunc {
			r := rekeyFlags{
				init:           f.Bool("init", false, "Start."),
				cancel:         f.Bool("cancel", false, "Stop and forget what was given."),
				status:         f.Bool("status", false, "Show the state."),
				verify:         f.Bool("verify", false, "Act on the verification of the new keys; with -init demand one."),
				shares:         f.Int("key-shares", 5, "Number of new keys (5)."),
				threshold:      f.Int("key-threshold", 3, "Number of them needed (3)."),
				nonce:          f.String("nonce", "", "nonce", "Nonce that -init printed."),
				pgpKeys:        f.List("pgp-keys", "files", "PGP public keys, or keybase:NAME, that encrypt the new keys."),
				backup:         f.Bool("backup", false, "Keep the encrypted new keys on the server."),
				backupRetrieve: f.Bool("backup-retrieve", false, "Show the keys kept by -backup."),
				backupDelete:   f.Bool("backup-delete", false, "Delete the keys kept by -backup."),
			}
			r.target = f.String("target", "barrier", "which", "barrier or recovery.")
			f.oneOf("barrier", "recovery")
			return func(c *call) error { return runRekey(c, r) }
		},
	}
}

func runRekey(c *call, r rekeyFlags) error {
	if err := c.counted(0, 1, "0-1"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	target, err := newRekeyTarget(client.Sys(), *r.target)
	if err != nil {
		return err
	}
	switch {
	case *r.backupDelete:
		if err := target.deleteBackup(c.ctx); err != nil {
			return failf("Error deleting rekey backup: %w", err)
		}
		c.printf("Success! Deleted rekey backup (if it existed)\n")
		return nil
	case *r.backupRetrieve:
		return retrieveRekeyBackup(c, target)
	case *r.cancel:
		return cancelRekey(c, target, *r.verify)
	case *r.init:
		return initRekey(c, target, r)
	case *r.status:
		return rekeyStatus(c, target, *r.verify)
	}
	return provideRekey(c, target, r)
}

func retrieveRekeyBackup(c *call, target rekeyTarget) error {
	backup, err := target.retrieve(c.ctx)
	if err != nil {
		return failf("Error retrieving rekey stored keys: %w", err)
	}
	data := map[string]any{"nonce": backup.Nonce, "keys": backup.Keys, "keys_base64": backup.KeysB64}
	return c.show(&api.Secret{Data: data}, func() string { return mapTable(data) })
}

func cancelRekey(c *call, target rekeyTarget, verify bool) error {
	cancel, what := target.cancel, "rekeying"
	if verify {
		cancel, what = target.verifyCancel, "verification"
	}
	if err := cancel(c.ctx); err != nil {
		return failf("Error canceling rekey: %w", err)
	}
	c.printf("Success! Canceled %s (if it was started)\n", what)
	return nil
}

func initRekey(c *call, target rekeyTarget, r rekeyFlags) error {
	keys, err := c.pgpKeys(*r.pgpKeys)
	if err != nil {
		return usagef("%w", err)
	}
	status, err := target.init(c.ctx, &api.RekeyInitRequest{
		SecretShares: *r.shares, SecretThreshold: *r.threshold, PGPKeys: keys,
		Backup: *r.backup, RequireVerification: *r.verify,
	})
	if err != nil {
		return failf("Error initializing rekey: %w", err)
	}
	if len(keys) == 0 {
		c.errorf("WARNING! If you lose the keys after they are returned, there is no recovery.\n" +
			"Consider canceling this operation and re-initializing with the -pgp-keys flag\n" +
			"to protect the returned unseal keys along with -backup to allow recovery of\n" +
			"the encrypted keys in case of emergency. You can delete the backed up keys\n" +
			"later using the -delete flag.\n")
	}
	return c.printRekey(status)
}

func rekeyStatus(c *call, target rekeyTarget, verify bool) error {
	if verify {
		status, err := target.verifyStatus(c.ctx)
		if err != nil {
			return failf("Error reading rekey status: %w", err)
		}
		return c.printVerification(status)
	}
	status, err := target.status(c.ctx)
	if err != nil {
		return failf("Error reading rekey status: %w", err)
	}
	return c.printRekey(status)
}

func (c *call) printRekey(s *api.RekeyStatusResponse) error {
	return c.show(s, func() string {
		rows := [][]string{{"Nonce", s.Nonce}, {"Started", fmt.Sprint(s.Started)}}
		if s.Started {
			rows = append(rows,
				[]string{"Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required)},
				[]string{"New Shares", fmt.Sprint(s.N)},
				[]string{"New Threshold", fmt.Sprint(s.T)},
				[]string{"Verification Required", fmt.Sprint(s.VerificationRequired)})
			if s.VerificationNonce != "" {
				rows = append(rows, []string{"Verification Nonce", s.VerificationNonce})
			}
		}
		if len(s.PGPFingerprints) > 0 {
			rows = append(rows, []string{"PGP Fingerprints", fmt.Sprint(s.PGPFingerprints)},
				[]string{"Backup", fmt.Sprint(s.Backup)})
		}
		return table([]string{"Key", "Value"}, rows)
	})
}

func (c *call) printVerification(s *api.RekeyVerificationStatusResponse) error {
	return c.show(s, func() string {
		return table([]string{"Key", "Value"}, [][]string{
			{"Started", fmt.Sprint(s.Started)},
			{"New Shares", fmt.Sprint(s.N)},
			{"New Threshold", fmt.Sprint(s.T)},
			{"Verification Nonce", s.Nonce},
			{"Verification Progress", fmt.Sprintf("%d/%d", s.Progress, s.T)},
		})
	})
}

// provideRekey gives one key: the argument, standard input (-), or asked for.
func provideRekey(c *call, target rekeyTarget, r rekeyFlags) error {
	var started bool
	var nonce string
	threshold := 0
	if *r.verify {
		status, err := target.verifyStatus(c.ctx)
		if err != nil {
			return failf("Error getting rekey status: %w", err)
		}
		started, nonce = status.Started, status.Nonce
	} else {
		status, err := target.status(c.ctx)
		if err != nil {
			return failf("Error getting rekey status: %w", err)
		}
		started, nonce, threshold = status.Started, status.Nonce, status.T
	}
	if !started {
		return usagef("No rekey is in progress. Start a rekey process with the -init flag.")
	}
	key, nonce, err := c.shareAndNonce(*r.nonce, nonce, "Rekey operation nonce", target.noun+" Key (will be hidden): ")
	if err != nil {
		return err
	}
	if *r.verify {
		done, err := target.verify(c.ctx, key, nonce)
		if err != nil {
			return failf("Error posting verification: %w", err)
		}
		if !done.Complete {
			return rekeyStatus(c, target, true)
		}
		c.printf("Success! Rekey verification complete. The new keys are in force.\n")
		return nil
	}
	done, err := target.update(c.ctx, key, nonce)
	if err != nil {
		return failf("Error posting unseal key: %w", err)
	}
	if !done.Complete {
		return rekeyStatus(c, target, false)
	}
	return c.printNewKeys(target, done, threshold)
}

// shareAndNonce finds the key to give and the nonce to give it with. A key
// that no one is asked for needs the nonce said, so that it cannot serve
// another operation than the one meant.
func (c *call) shareAndNonce(given, current, label, prompt string) (key, nonce string, err error) {
	if len(c.args) == 0 {
		c.errorf("%s: %s", label, current)
		if key, err = c.secretPrompt(prompt); err != nil {
			return "", "", usagef("An error occurred attempting to ask for the key: %w", err)
		}
		return key, current, nil
	}
	if given == "" {
		return "", "", usagef("Missing nonce value: specify it via the -nonce flag")
	}
	if key, err = c.readArg(c.args[0]); err != nil {
		return "", "", failf("Failed to read key from stdin: %w", err)
	}
	return key, given, nil
}

func (c *call) printNewKeys(target rekeyTarget, done *api.RekeyUpdateResponse, threshold int) error {
	shares := len(done.KeysB64)
	return c.show(done, func() string {
		var b strings.Builder
		b.WriteString(keysText("Key", done.KeysB64, done.PGPFingerprints))
		fmt.Fprintf(&b, "\nOperation nonce: %s\n\n", done.Nonce)
		if done.VerificationRequired {
			fmt.Fprintf(&b, "The new keys take effect when they are verified: every holder runs\n"+
				"\"vault operator rekey -verify\" with the new key. Verification nonce: %s\n", done.VerificationNonce)
			return b.String()
		}
		fmt.Fprintf(&b, `Vault %s keys rekeyed to %d key shares and a key threshold of %[3]d. Please
securely distribute the key shares printed above. When Vault is re-sealed,
restarted, or stopped, you must supply at least %[3]d of these keys to unseal it
before it can start servicing requests.
`, strings.ToLower(target.noun), shares, threshold)
		return b.String()
	})
}
