package engine

import (
	"context"
	"crypto"
	"slices"

	"arca/internal/errs"
)

// A KMS is one key that a service outside keeps and never gives away. Its methods
// ask that service: they belong into Ask, are bounded in time, and their errors have
// a kind: Invalid when the service refuses, Unavailable when it does not answer.
type KMS interface {
	// Public finds the key, and makes it where there is none and that is allowed.
	Public(ctx context.Context) (*KMSKey, error)
	// Sign signs a digest. opts are a hash, or *rsa.PSSOptions with the length of its
	// salt as that of the hash; a signature of ECDSA is ASN.1. ref is that of Public.
	Sign(ctx context.Context, ref string, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// Decrypt opens what was encrypted with the public key by RSA-OAEP, with the
	// hash of Public and without a label.
	Decrypt(ctx context.Context, ref string, ciphertext []byte) ([]byte, error)
	// Scheme is the hash and the padding ("pss", "pkcs1v15") with which alone the key
	// signs; 0 and "" are any. Nobody is asked.
	Scheme() (hash crypto.Hash, padding string)
}

// A KMSKey is what a service shows of a key.
type KMSKey struct {
	// Key is an *rsa.PublicKey or an *ecdsa.PublicKey.
	Key crypto.PublicKey
	// Ref names the key to the service so that it means this very key for ever, also
	// when the name under which it was found comes to mean another.
	Ref string
	// OAEP is the hash with which the key decrypts by RSA-OAEP; 0 is SHA-256.
	OAEP crypto.Hash
}

// Usages of managed keys, by the names that Vault's API shows.
const (
	UseEncrypt = "encrypt"
	UseDecrypt = "decrypt"
	UseSign    = "sign"
	UseVerify  = "verify"
)

// A ManagedKey is a KMS' key as a namespace knows it, which the mount that asks may use.
type ManagedKey struct {
	Name, ID, Type string
	Usages         []string
	KMS            KMS
}

// Allows refuses, with kind Invalid, a usage that the key is not for.
func (k *ManagedKey) Allows(usage string) error {
	if !slices.Contains(k.Usages, usage) {
		return errs.New(errs.Invalid, "the usages of the managed key %q do not include %s", k.Name, usage)
	}
	return nil
}

// ManagedKeys finds managed keys for a call, in its transaction.
type ManagedKeys interface {
	// ManagedKey finds one by its name, its id, or both. The error is Invalid when there
	// is none, or the call's mount may not use it.
	ManagedKey(name, id string) (*ManagedKey, error)
}
