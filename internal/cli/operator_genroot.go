package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"

	"github.com/hashicorp/vault/api"
)

// genRootFlags are the flags of operator generate-root.
type genRootFlags struct {
	init, cancel, status, generateOTP *bool
	drToken, recoveryToken            *bool
	decode, otp, nonce, pgpKey        *string
}

// genRootTarget is the API for one of the three sorts of tokens made from keys.
type genRootTarget struct {
	noun   string
	status func(context.Context) (*api.GenerateRootStatusResponse, error)
	init   func(ctx context.Context, otp, pgpKey string) (*api.GenerateRootStatusResponse, error)
	update func(ctx context.Context, shard, nonce string) (*api.GenerateRootStatusResponse, error)
	cancel func(context.Context) error
}

func newGenRootTarget(sys *api.Sys, g genRootFlags) genRootTarget {
	switch {
	case *g.drToken:
		return genRootTarget{
			"DR operation token", sys.GenerateDROperationTokenStatusWithContext, sys.GenerateDROperationTokenInitWithContext,
			sys.GenerateDROperationTokenUpdateWithContext, sys.GenerateDROperationTokenCancelWithContext,
		}
	case *g.recoveryToken:
		return genRootTarget{
			"Recovery operation token", sys.GenerateRecoveryOperationTokenStatusWithContext,
			sys.GenerateRecoveryOperationTokenInitWithContext, sys.GenerateRecoveryOperationTokenUpdateWithContext,
			sys.GenerateRecoveryOperationTokenCancelWithContext,
		}
	}
	return genRootTarget{
		"Root token", sys.GenerateRootStatusWithContext, sys.GenerateRootInitWithContext,
		sys.GenerateRootUpdateWithContext, sys.GenerateRootCancelWithContext,
	}
}

func generateRootCommand() command {
	return command{
		name: "operator generate-root", usage: "[options] [KEY]", shared: withHTTP | withFormat,
		summary: "Make a root token from the unseal keys",
		about: `Makes a new root token when enough holders of unseal keys agree. The token comes
out encrypted, with a one-time password or a PGP key.

    $ vault operator generate-root -init
    $ vault operator generate-root -nonce=NONCE
    $ vault operator generate-root -decode=TOKEN -otp=PASSWORD`,
		setup: func(f *flagSet) runFunc {
			g := genRootFlags{
				init:          f.Bool("init", false, "Start."),
				cancel:        f.Bool("cancel", false, "Stop and forget what was given."),
				status:        f.Bool("status", false, "Show the state."),
				generateOTP:   f.Bool("generate-otp", false, "Print a one-time password for -init."),
				drToken:       f.Bool("dr-token", false, "Make a token for a DR secondary."),
				recoveryToken: f.Bool("recovery-token", false, "Make a token for recovery mode."),
				decode:        f.String("decode", "", "token", "Decrypt the token with -otp; - reads standard input."),
				otp:           f.String("otp", "", "password", "One-time password."),
				nonce:         f.String("nonce", "", "nonce", "Nonce that -init printed."),
				pgpKey:        f.String("pgp-key", "", "file", "PGP public key, or keybase:NAME, that encrypts the token."),
			}
			return func(c *call) error { return runGenerateRoot(c, g) }
		},
	}
}

func runGenerateRoot(c *call, g genRootFlags) error {
	if err := c.counted(0, 1, "0-1"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	target := newGenRootTarget(client.Sys(), g)
	switch {
	case *g.generateOTP:
		return printOTP(c, target)
	case *g.decode != "":
		return decodeRoot(c, *g.decode, *g.otp)
	case *g.cancel:
		if err := target.cancel(c.ctx); err != nil {
			return failf("Error canceling root token generation: %w", err)
		}
		c.printf("Success! %s generation canceled (if it was started)\n", target.noun)
		return nil
	case *g.init:
		return initRoot(c, target, g)
	case *g.status:
		status, err := target.status(c.ctx)
		if err != nil {
			return failf("Error getting root generation status: %w", err)
		}
		return c.printRoot(status)
	}
	return provideRoot(c, target, g)
}

// printOTP makes a password as long as the server's next token.
func printOTP(c *call, target genRootTarget) error {
	status, err := target.status(c.ctx)
	if err != nil {
		return failf("Error getting root generation status: %w", err)
	}
	otp, err := randomText(status.OTPLength)
	if err != nil {
		return failf("Error generating OTP: %w", err)
	}
	return c.show(otp, func() string { return otp + "\n" })
}

func randomText(n int) (string, error) {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := make([]byte, n)
	for i := range b {
		x, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", err
		}
		b[i] = letters[x.Int64()]
	}
	return string(b), nil
}

// decodeRoot takes the password off an encoded token.
func decodeRoot(c *call, encoded, otp string) error {
	if encoded == "-" {
		var err error
		if encoded, err = c.readArg(encoded); err != nil {
			return failf("Failed to read from stdin: %w", err)
		}
	}
	if otp == "" {
		return usagef("Missing otp: use -otp to supply it")
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return usagef("Error decoding root token: error decoding base64'd token: %w", err)
	}
	if len(b) != len(otp) {
		return usagef("Error decoding root token: error xoring token: length of byte slices is not equivalent: %d != %d",
			len(b), len(otp))
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	token := string(b)
	return c.show(map[string]string{"token": token}, func() string { return token + "\n" })
}

func initRoot(c *call, target genRootTarget, g genRootFlags) error {
	pgpKey := ""
	if *g.pgpKey != "" {
		keys, err := c.pgpKeys([]string{*g.pgpKey})
		if err != nil {
			return usagef("%w", err)
		}
		pgpKey = keys[0]
	}
	status, err := target.init(c.ctx, *g.otp, pgpKey)
	if err != nil {
		return failf("Error initializing root generation: %w", err)
	}
	return c.printRoot(status)
}

func provideRoot(c *call, target genRootTarget, g genRootFlags) error {
	status, err := target.status(c.ctx)
	if err != nil {
		return failf("Error getting root generation status: %w", err)
	}
	if !status.Started {
		return usagef("No root generation is in progress. Start a root generation with the -init flag.")
	}
	key, nonce, err := c.shareAndNonce(*g.nonce, status.Nonce, "Operation nonce", "Unseal Key (will be hidden): ")
	if err != nil {
		return err
	}
	if status, err = target.update(c.ctx, key, nonce); err != nil {
		return failf("Error posting unseal key: %w", err)
	}
	status.OTPLength = 0 // of use before the start only
	return c.printRoot(status)
}

func (c *call) printRoot(s *api.GenerateRootStatusResponse) error {
	return c.show(s, func() string {
		rows := [][]string{
			{"Nonce", s.Nonce},
			{"Started", fmt.Sprint(s.Started)},
			{"Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required)},
			{"Complete", fmt.Sprint(s.Complete)},
		}
		row := func(key, value string) {
			if value != "" {
				rows = append(rows, []string{key, value})
			}
		}
		row("PGP Fingerprint", s.PGPFingerprint)
		row("Encoded Token", firstOf(s.EncodedToken, s.EncodedRootToken))
		row("OTP", s.OTP)
		if s.OTPLength > 0 {
			row("OTP Length", fmt.Sprint(s.OTPLength))
		}
		return table(nil, rows)
	})
}
