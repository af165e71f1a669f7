// Package seals makes the seals that open by themselves from the seal stanzas of
// the configuration: another server's transit engine, the KMS of AWS, Google's
// cloud, Azure, Oracle's cloud and Alibaba's, a KMIP server, a PKCS#11 token, or a
// key beside the configuration.
//
// Each does no more than encrypt and decrypt 32 bytes, by the service's own HTTP
// API: the makers' SDKs would add a third to the program for two calls each. The
// options and environment variables are those of
// https://developer.hashicorp.com/vault/docs/configuration/seal; variables made
// for a seal count more than the file, those of every client (VAULT_ADDR,
// VAULT_TOKEN) less, as a server's own environment often has them for itself.
package seals

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"

	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/server/hsm"
)

// Shamir is the type of the seal that needs key shares.
const Shamir = "shamir"

// Open makes the seals of the stanzas; nobody is asked yet. modules are the process's
// PKCS#11 libraries. An error is Invalid and says what is wrong in which stanza.
func Open(stanzas config.Seals, getenv func(string) string, modules *hsm.Modules) ([]seal.Wrapper, error) {
	stanzas = withEnv(stanzas, getenv)
	var out []seal.Wrapper
	priorities := map[string]int{}
	names := map[string]bool{}
	for i := range stanzas {
		s := &stanzas[i]
		if s.Type == Shamir {
			continue
		}
		o := &options{stanza: s, getenv: getenv, modules: modules}
		sealer, err := open(o)
		if err != nil {
			return nil, source.Errorf(s.Pos, "seal %q: %s", s.Type, err.Error())
		}
		w := seal.Wrapper{Type: s.Type, Name: s.Options["name"], Disabled: s.Disabled, Sealer: sealer}
		if w.Name == "" {
			w.Name = s.Type
		}
		if names[w.Name] {
			return nil, source.Errorf(s.Pos, `seal %q: there are two seals of the name %q: give each a name of its own (name = "...")`, s.Type, w.Name)
		}
		names[w.Name] = true
		if p := s.Options["priority"]; p != "" {
			if priorities[w.Name], err = strconv.Atoi(p); err != nil || priorities[w.Name] < 1 {
				return nil, source.Errorf(s.Pos, "seal %q: priority %q is no number from 1 on", s.Type, p)
			}
		}
		out = append(out, w)
	}
	slices.SortStableFunc(out, func(a, b seal.Wrapper) int { return cmp.Compare(priorities[a.Name], priorities[b.Name]) })
	return out, nil
}

// withEnv adds the seal that VAULT_SEAL_TYPE names, where no stanza does.
func withEnv(stanzas config.Seals, getenv func(string) string) config.Seals {
	t := getenv("VAULT_SEAL_TYPE")
	if t == "" || slices.ContainsFunc(stanzas, func(s config.Seal) bool { return s.Type == t }) {
		return stanzas
	}
	return append(slices.Clone(stanzas), config.Seal{Type: t, Options: map[string]string{}})
}

func open(o *options) (seal.Sealer, error) {
	switch o.stanza.Type {
	case "static":
		return newStatic(o)
	case "transit":
		return newTransit(o)
	case "awskms":
		return newAWS(o)
	case "gcpckms":
		return newGoogle(o)
	case "azurekeyvault":
		return newAzure(o)
	case "ocikms":
		return newOracle(o)
	case "alicloudkms":
		return newAlibaba(o)
	case "kmip":
		return newKMIP(o)
	case "pkcs11":
		return newPKCS11(o)
	}
	return nil, errs.New(errs.Invalid, "this type is not known; there are shamir, static, transit, awskms, gcpckms, azurekeyvault, ocikms, alicloudkms, kmip and pkcs11")
}

// options are those of one stanza.
type options struct {
	stanza  *config.Seal
	getenv  func(string) string
	modules *hsm.Modules
}

// first is the value of an option that variables override, the first that is set.
func (o *options) first(name string, variables ...string) string {
	for _, v := range variables {
		if text := o.getenv(v); text != "" {
			return text
		}
	}
	return o.stanza.Options[name]
}

// or is the value of an option, else that of a variable.
func (o *options) or(name string, variables ...string) string {
	if text := o.stanza.Options[name]; text != "" {
		return text
	}
	return o.first("", variables...)
}

func (o *options) truth(name string, variables ...string) (bool, error) {
	text := o.first(name, variables...)
	if text == "" {
		return false, nil
	}
	yes, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, errs.New(errs.Invalid, "%s = %q is neither true nor false", name, text)
	}
	return yes, nil
}

func missing(name string) error { return errs.New(errs.Invalid, "%s is missing", name) }

// Try has a seal encrypt and decrypt something.
func Try(ctx context.Context, w *seal.Wrapper) error {
	probe := make([]byte, 32)
	_, _ = rand.Read(probe) // never fails (crypto/rand, since Go 1.24)
	sealed, err := w.Sealer.Encrypt(ctx, probe)
	if err != nil {
		return err
	}
	back, err := w.Sealer.Decrypt(ctx, sealed)
	if err == nil && !bytes.Equal(back, probe) {
		err = errs.New(errs.Failed, "it gives back something else than it was given")
	}
	return err
}
