package sys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maps"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/managed"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/storage"
)

// managedRoutes are sys/managed-keys: keys that services outside keep.
func (e *Engine) managedRoutes() []engine.Route {
	const path = "managed-keys/{type}/{name}"
	return []engine.Route{
		engine.List("managed-keys/{type}", e.listManaged, engine.ID("managed-keys-list"), engine.Help("List the managed keys of a type.")),
		engine.Read(path, e.readManaged, engine.ID("managed-keys-read"), engine.Help("Read a managed key, without its credentials.")),
		engine.Write(path, e.writeManaged, engine.Exists(e.hasManaged), engine.ID("managed-keys-write"), engine.Help("Create or change a managed key.")),
		engine.Delete(path, e.deleteManaged, engine.ID("managed-keys-delete"), engine.Help("Forget a managed key; its service keeps it.")),
		engine.Write(path+"/test/sign", e.testManaged, engine.ID("managed-keys-test-sign"),
			engine.Help("Have a managed key sign something, and verify that. It is generated where it is not there and that is allowed.")),
	}
}

type managedTypeIn struct {
	Type string `api:"type" help:"awskms, azurekeyvault, gcpckms or pkcs11."`
}

type managedIn struct {
	managedTypeIn
	Name string `api:"name,lower" help:"Name of the key, which no other of the namespace has."`
}

type managedListIn struct {
	managedTypeIn
	paging
}

type managedWriteIn struct {
	managedIn
	AllowGenerate *bool     `api:"allow_generate_key" help:"Generate the key in the service where it is not there."`
	AllowReplace  *bool     `api:"allow_replace_key" help:"Taken and shown: nothing replaces keys."`
	AllowStore    *bool     `api:"allow_store_key" help:"Taken and shown: nothing brings keys into a service."`
	AnyMount      *bool     `api:"any_mount" help:"Let each mount of the namespace use the key, not only those whose allowed_managed_keys name it."`
	Usages        *[]string `api:"usages" help:"What the key is for: encrypt, decrypt, sign, verify, wrap, unwrap, mac, random; sign and verify when absent."`

	AccessKey    *string `api:"access_key" help:"awskms: id of the access key."`
	Algorithm    *string `api:"algorithm" help:"gcpckms: algorithm of the key, such as EC_SIGN_P256_SHA256."`
	ClientID     *string `api:"client_id" help:"azurekeyvault: id of the client."`
	ClientSecret *string `api:"client_secret" help:"azurekeyvault: secret of the client."`
	Credentials  *string `api:"credentials" help:"gcpckms: file with the key of a service account, or its JSON."`
	CryptoKey    *string `api:"crypto_key" help:"gcpckms: name of the key."`
	CryptoKeyVer *string `api:"crypto_key_version" help:"gcpckms: version of the key; 1 when absent."`
	Curve        *string `api:"curve" help:"P256, P384 or P521, of a key of ECDSA."`
	Endpoint     *string `api:"endpoint" help:"Address of the service, in place of its own."`
	Environment  *string `api:"environment" help:"azurekeyvault: which of Azure's clouds; AZUREPUBLICCLOUD when absent."`
	ForceRW      *string `api:"force_rw_session" help:"pkcs11: open sessions that can write."`
	KeyBits      *string `api:"key_bits" help:"2048, 3072 or 4096, of an RSA key."`
	KeyID        *string `api:"key_id" help:"pkcs11: id of the key; this or key_label."`
	KeyLabel     *string `api:"key_label" help:"pkcs11: label of the key; this or key_id."`
	KeyName      *string `api:"key_name" help:"azurekeyvault: name of the key."`
	KeyRing      *string `api:"key_ring" help:"gcpckms: name of the key ring."`
	KeyType      *string `api:"key_type" help:"awskms: RSA or ECDSA; azurekeyvault: RSA-HSM."`
	KMSKey       *string `api:"kms_key" help:"awskms: alias, id or ARN of the key; an alias where keys may be generated."`
	Library      *string `api:"library" help:"pkcs11: name of a kms_library stanza."`
	MaxParallel  *string `api:"max_parallel" help:"pkcs11: taken and shown; a library does one thing at a time."`
	Mechanism    *string `api:"mechanism" help:"pkcs11: 0x1041 (ECDSA), 0x000D (RSA-PSS), 0x0001 (RSA PKCS#1 v1.5) or 0x0009 (RSA-OAEP)."`
	PIN          *string `api:"pin" help:"pkcs11: PIN of the token's user."`
	Project      *string `api:"project" help:"gcpckms: id of the project."`
	Region       *string `api:"region" help:"Region of the service."`
	Resource     *string `api:"resource" help:"azurekeyvault: domain of the vault; vault.azure.net when absent."`
	OAEPHash     *string `api:"rsa_oaep_hash" help:"pkcs11: hash of RSA-OAEP: sha256 (the default) or sha1."`
	SecretKey    *string `api:"secret_key" help:"awskms: the secret access key."`
	Slot         *string `api:"slot" help:"pkcs11: number of the slot, decimal; this or token_label."`
	TenantID     *string `api:"tenant_id" help:"azurekeyvault: id of the tenant."`
	TokenLabel   *string `api:"token_label" help:"pkcs11: label of the token; this or slot."`
	VaultName    *string `api:"vault_name" help:"azurekeyvault: name of the vault."`
}

// given are the parameters of types of keys, by name.
func (in *managedWriteIn) given() map[string]*string {
	return map[string]*string{
		"access_key": in.AccessKey, "algorithm": in.Algorithm, "client_id": in.ClientID, "client_secret": in.ClientSecret,
		"credentials": in.Credentials, "crypto_key": in.CryptoKey, "crypto_key_version": in.CryptoKeyVer, "curve": in.Curve, "endpoint": in.Endpoint,
		"environment": in.Environment, "force_rw_session": in.ForceRW, "key_bits": in.KeyBits, "key_id": in.KeyID, "key_label": in.KeyLabel,
		"key_name": in.KeyName, "key_ring": in.KeyRing, "key_type": in.KeyType, "kms_key": in.KMSKey, "library": in.Library,
		"max_parallel": in.MaxParallel, "mechanism": in.Mechanism, "pin": in.PIN, "project": in.Project, "region": in.Region, "resource": in.Resource,
		"rsa_oaep_hash": in.OAEPHash, "secret_key": in.SecretKey, "slot": in.Slot, "tenant_id": in.TenantID, "token_label": in.TokenLabel,
		"vault_name": in.VaultName,
	}
}

func (e *Engine) listManaged(_ context.Context, call *engine.Call, in managedListIn) (*engine.Response, error) {
	if err := managed.CheckType(in.Type); err != nil {
		return nil, err
	}
	names, err := desks(call).Managed.List(call.Tx, ns(call), in.Type, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

// managedKey finds a key; nil is none.
func managedKey(call *engine.Call, in *managedIn) (*managed.Key, error) {
	if err := managed.CheckType(in.Type); err != nil {
		return nil, err
	}
	k, err := desks(call).Managed.Get(call.Tx, ns(call), in.Type, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // as said
	}
	return k, err
}

func (e *Engine) hasManaged(_ context.Context, call *engine.Call, in managedIn) (bool, error) {
	k, err := managedKey(call, &in)
	if errs.Is(err, errs.Invalid) {
		return false, nil // the handler says so
	}
	return k != nil, err
}

const redacted = "redacted"

func (e *Engine) readManaged(_ context.Context, call *engine.Call, in managedIn) (*engine.Response, error) {
	k, err := managedKey(call, &in)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, errNotFound
	}
	out := map[string]any{
		"UUID": k.ID, "type": k.Type, "name": k.Name, "any_mount": k.AnyMount, "allow_generate_key": k.AllowGenerate,
		"allow_replace_key": k.AllowReplace, "allow_store_key": k.AllowStore, "usages": k.Usages,
	}
	for _, p := range managed.Params(k.Type) {
		out[p.Name] = shownParam(p, k.Params[p.Name])
	}
	return data(out), nil
}

func shownParam(p managed.Param, value string) any {
	switch {
	case p.Secret && value != "":
		return redacted
	case p.Kind == managed.Number:
		n, _ := strconv.ParseInt(value, 0, 64) // was checked; "" is 0
		return n
	case p.Kind == managed.Truth:
		return value == "true"
	}
	return value
}

func (e *Engine) writeManaged(_ context.Context, call *engine.Call, in managedWriteIn) (*engine.Response, error) {
	old, err := managedKey(call, &in.managedIn)
	if err != nil {
		return nil, err
	}
	k := managed.Key{Name: in.Name, Type: in.Type, Params: map[string]string{}}
	if old != nil {
		k = *old
		k.Params = maps.Clone(old.Params)
	}
	param.Take(&k.AllowGenerate, in.AllowGenerate)
	param.Take(&k.AllowReplace, in.AllowReplace)
	param.Take(&k.AllowStore, in.AllowStore)
	param.Take(&k.AnyMount, in.AnyMount)
	if in.Usages != nil || k.Usages == nil {
		if k.Usages, err = managed.ParseUsages(value(in.Usages)); err != nil {
			return nil, err
		}
	}
	own := map[string]bool{}
	for _, p := range managed.Params(k.Type) {
		own[p.Name] = true
	}
	for name, text := range in.given() {
		switch {
		case text == nil:
		case !own[name] && *text != "":
			return nil, errs.New(errs.Invalid, "%s is no parameter of managed keys of type %s", name, k.Type)
		case *text == "":
			delete(k.Params, name)
		default:
			k.Params[name] = *text
		}
	}
	return nil, desks(call).Managed.Put(call.Tx, ns(call), &k)
}

// value is what a pointer shows, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (e *Engine) deleteManaged(_ context.Context, call *engine.Call, in managedIn) (*engine.Response, error) {
	k, err := managedKey(call, &in)
	if err != nil || k == nil {
		return nil, err
	}
	transit := false
	for _, auth := range []bool{false, true} {
		mounts, err := desks(call).Mounts.List(call.Tx, ns(call), auth)
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			transit = transit || !auth && m.Type == "transit"
			for _, n := range m.Config.ManagedKeys {
				if strings.EqualFold(n, k.Name) {
					return nil, errs.New(errs.Invalid, "the managed key %q is in the allowed_managed_keys of the mount %q: take it out there first", k.Name, m.Path)
				}
			}
		}
	}
	if err := desks(call).Managed.Delete(call.Tx, ns(call), k); err != nil || !k.AnyMount || !transit {
		return nil, err
	}
	return &engine.Response{Warnings: []string{"Each mount of the namespace could use the managed key: versions of transit keys that were made of it neither sign nor decrypt any more, also not with another managed key of the same name."}}, nil
}

type managedTestIn struct {
	managedIn
	Hash   string `api:"hash_algorithm" help:"sha2-256, sha2-384, sha2-512 and so on; when absent sha2-256, or the only one that the key takes."`
	UsePSS *bool  `api:"use_pss" help:"Of RSA: pad by PSS. When absent PKCS#1 v1.5, or the only one that the key takes."`
}

// tested is the answer of testManaged's question.
type tested struct{}

func (e *Engine) testManaged(_ context.Context, call *engine.Call, in managedTestIn) (*engine.Response, error) {
	if _, done := call.Asked.(tested); done {
		return nil, nil
	}
	k, err := managedKey(call, &in.managedIn)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, errNotFound
	}
	key, err := desks(call).Managed.Open(call.Tx, ns(call), k.Type, k.Name)
	if err != nil {
		return nil, err
	}
	if err := key.Allows(engine.UseSign); err != nil {
		return nil, err
	}
	hash, padding := key.KMS.Scheme()
	if in.Hash != "" || hash == 0 {
		name := in.Hash
		if name == "" {
			name = "sha2-256"
		}
		var ok bool
		if hash, ok = keyring.HashOf(name); !ok || hash == 0 {
			return nil, errs.New(errs.Invalid, "unsupported hash_algorithm %q", in.Hash)
		}
	}
	pss := padding == "pss"
	param.Take(&pss, in.UsePSS)
	root := ns(call) == namespace.RootID
	return nil, engine.Ask(func(ctx context.Context) (any, error) {
		err := trySigning(ctx, key.KMS, hash, pss)
		var d interface{ Detail() string }
		if root && errors.As(err, &d) && d.Detail() != "" { // its operator may see what the service said
			err = errs.New(errs.KindOf(err), "%w: %s", err, d.Detail())
		}
		return tested{}, err
	})
}

// trySigning has a key sign a random digest, and verifies the signature.
func trySigning(ctx context.Context, kms engine.KMS, hash crypto.Hash, pss bool) error {
	k, err := kms.Public(ctx)
	if err != nil {
		return err
	}
	digest := make([]byte, hash.Size())
	_, _ = rand.Read(digest) // never fails (crypto/rand, since Go 1.24)
	padding := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	var opts crypto.SignerOpts = hash
	if _, isRSA := k.Key.(*rsa.PublicKey); isRSA && pss {
		opts = padding
	}
	sig, err := kms.Sign(ctx, k.Ref, digest, opts)
	if err != nil {
		return err
	}
	good := false
	switch p := k.Key.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(p, digest, sig)
	case *rsa.PublicKey:
		if pss {
			good = rsa.VerifyPSS(p, hash, digest, sig, padding) == nil
		} else {
			good = rsa.VerifyPKCS1v15(p, hash, digest, sig) == nil
		}
	}
	if !good {
		return errs.New(errs.Failed, "what the service answered is no signature by the key that it shows")
	}
	return nil
}
