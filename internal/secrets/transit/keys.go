package transit

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strconv"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/storage"
)

func (e *Engine) keyRoutes() []engine.Route {
	return []engine.Route{
		engine.List("keys", e.list, engine.ID("transit-list-keys"), engine.Help("List the keys.")),
		engine.Read("keys/{name}", e.read, engine.ID("transit-read-key"), engine.Help("Read what is known of a key.")),
		engine.Write("keys/{name}", e.create, engine.ID("transit-create-key"), engine.Help("Create a key.")),
		engine.Delete("keys/{name}", e.delete, engine.ID("transit-delete-key"), engine.Help("Delete a key for good.")),
		engine.Write("keys/{name}/config", e.configure, engine.ID("transit-configure-key"), engine.Help("Configure a key.")),
		engine.Write("keys/{name}/rotate", e.rotate, engine.ID("transit-rotate-key"), engine.Help("Make a new version of a key.")),
		engine.Write("keys/{name}/trim", e.trim, engine.ID("transit-trim-key"), engine.Help("Wipe old versions of a key.")),
		engine.Delete("keys/{name}/soft-delete", e.softDelete, engine.ID("transit-soft-delete-key"), engine.Help("Make a key unusable until it is restored.")),
		engine.Write("keys/{name}/soft-delete", e.softDelete, engine.ID("transit-soft-delete-key-by-post"), engine.Help("Make a key unusable until it is restored.")),
		engine.Write("keys/{name}/soft-delete-restore", e.softRestore, engine.ID("transit-soft-delete-restore-key"), engine.Help("Make a soft deleted key usable again.")),
	}
}

func (e *Engine) list(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := e.ring.List(call.Tx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

type createIn struct {
	nameIn
	Type       string        `api:"type" help:"Type of the key." default:"aes256-gcm96"`
	Derived    bool          `api:"derived" help:"Each use gives a context, from which its key is derived."`
	Convergent bool          `api:"convergent_encryption" help:"The same plaintext and context give the same ciphertext; needs derived."`
	Exportable bool          `api:"exportable" help:"The key can be exported. Cannot be taken back."`
	Backup     bool          `api:"allow_plaintext_backup" help:"The key can be backed up. Cannot be taken back."`
	Context    string        `api:"context" help:"Context, in base64, for the public key of a derived key in the answer."`
	Size       int           `api:"key_size" help:"Bytes of an hmac key: 32 to 512."`
	AutoRotate time.Duration `api:"auto_rotate_period" help:"Rotate by itself after this time; at least an hour, 0 is never."`
	ParamSet   string        `api:"parameter_set" help:"Parameter set of ml-dsa and hybrid keys: 44, 65 or 87."`
	HybridPQC  string        `api:"hybrid_key_type_pqc" help:"Post-quantum part of a hybrid key: ml-dsa."`
	HybridEC   string        `api:"hybrid_key_type_ec" help:"Elliptic part of a hybrid key: ecdsa-p256, ecdsa-p384, ecdsa-p521 or ed25519."`
	Managed    string        `api:"managed_key_name" help:"Name of the managed key behind a key of type managed_key."`
	ManagedID  string        `api:"managed_key_id" help:"Id of the managed key behind a key of type managed_key."`
}

func (e *Engine) create(_ context.Context, call *engine.Call, in createIn) (*engine.Response, error) {
	if err := keyring.CheckPeriod(in.AutoRotate); err != nil {
		return nil, err
	}
	if in.Type != string(keyring.Managed) && (in.Managed != "" || in.ManagedID != "") {
		return nil, errManaged
	}
	if in.Convergent && !in.Derived {
		return nil, errs.New(errs.Invalid, "convergent encryption requires derivation to be enabled")
	}
	if in.HybridPQC != "" && in.HybridPQC != string(keyring.MLDSA) {
		return nil, errs.New(errs.Invalid, "invalid hybrid_key_type_pqc %q: it must be ml-dsa", in.HybridPQC)
	}
	context, err := base64.StdEncoding.DecodeString(in.Context)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to base64-decode context")
	}
	k := keyring.Key{
		Name: in.Name, Derived: in.Derived, Convergent: in.Convergent, Exportable: in.Exportable, BackupAllowed: in.Backup,
		AutoRotate: in.AutoRotate,
		Spec: keyring.Spec{
			Type: keyring.Type(in.Type), SizeBytes: in.Size, ParameterSet: in.ParamSet, EC: keyring.Type(in.HybridEC),
		},
	}
	if k.Type != keyring.HMAC && in.Size != 0 {
		return nil, errs.New(errs.Invalid, "key_size is not valid for algorithms that do not support variable key sizes")
	}
	if err := k.Check(); err != nil {
		return nil, err
	}
	if k.Type == keyring.Managed {
		return e.createManaged(call, &in)
	}
	if k.Convergent && !k.Type.Converges() || k.Derived && !k.Type.Derives() {
		_, err := e.ring.Create(call.Tx, k, nil, call.Now) // refuses it
		return nil, failed(err)
	}
	got, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		got, err = e.make(call, k)
	}
	if err != nil {
		return nil, err
	}
	return e.show(call, got, context, shownInWrites)
}

// make creates a key with its first version.
func (e *Engine) make(call *engine.Call, k keyring.Key) (*keyring.Key, error) {
	if err := keyring.CheckName(k.Name); err != nil {
		return nil, err
	}
	m, err := e.material(call, k.Spec)
	if err != nil {
		return nil, err
	}
	return e.ring.Create(call.Tx, k, m, call.Now)
}

type readIn struct {
	nameIn
	Context string `api:"context" help:"Context, in base64, for the public key of a derived key."`
}

func (e *Engine) read(_ context.Context, call *engine.Call, in readIn) (*engine.Response, error) {
	context, err := base64.StdEncoding.DecodeString(in.Context)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to base64-decode context")
	}
	k, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	if k.Due(call.Now) {
		if k, err = e.rotateNow(call, k); err != nil {
			return nil, err
		}
	}
	return e.show(call, k, context, shownInReads)
}

// How many versions an answer shows, the newest ones: a key may have very many,
// and rotating it must not cost more for that.
const (
	shownInReads  = 10_000
	shownInWrites = 1_000
)

// show answers what is known of a key.
func (e *Engine) show(call *engine.Call, k *keyring.Key, context []byte, limit int) (*engine.Response, error) {
	data := map[string]any{
		"name": k.Name, "type": string(k.Type), "derived": k.Derived, "deletion_allowed": k.DeletionAllowed,
		"min_available_version": k.MinAvailable, "min_decryption_version": k.MinDecryption,
		"min_encryption_version": k.MinEncryption, "latest_version": k.Latest, "exportable": k.Exportable,
		"allow_plaintext_backup": k.BackupAllowed, "auto_rotate_period": int64(k.AutoRotate / time.Second),
		"imported_key": k.Imported, "supports_encryption": k.Type.Encrypts(), "supports_decryption": k.Type.Encrypts(),
		"supports_signing": k.Type.Signs(), "supports_derivation": k.Type.Derives(),
	}
	if k.SoftDeleted {
		data["soft_deleted"] = true
	}
	if k.Imported {
		data["imported_key_allow_rotation"] = k.RotationAllowed
	}
	if k.Derived {
		data["kdf"] = "hkdf_sha256"
		data["convergent_encryption"] = k.Convergent
		if k.Convergent {
			data["convergent_encryption_version"] = -1 // it is each version's own
		}
	}
	if k.Type == keyring.HMAC {
		data["key_size"] = k.SizeBytes
	}
	if k.ParameterSet != "" {
		data["parameter_set"] = k.ParameterSet
	}
	if k.Type == keyring.Hybrid {
		data["hybrid_key_type_pqc"], data["hybrid_key_type_ec"] = string(keyring.MLDSA), string(k.EC)
	}
	from := max(1, k.MinDecryption, k.MinAvailable)
	if k.Latest-from >= limit {
		call.Warn("only the newest %d of %d versions are shown", limit, k.Latest-from+1)
		from = k.Latest - limit + 1
	}
	versions, err := e.showVersions(call, k, context, from, limit)
	if err != nil {
		return nil, err
	}
	data["keys"] = versions
	return &engine.Response{Data: data}, nil
}

func (e *Engine) showVersions(call *engine.Call, k *keyring.Key, context []byte, from, limit int) (map[string]any, error) {
	infos, err := e.ring.Infos(call.Tx, k, from, limit)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(infos))
	for i := range infos {
		in := &infos[i]
		if k.Type.Symmetric() {
			out[strconv.Itoa(in.Number)] = in.Created.Unix()
			continue
		}
		public := in.Public
		if k.Derived {
			public = nil
			if len(context) > 0 && in.Private {
				v, err := e.ring.Version(call.Tx, k, in.Number)
				if err != nil {
					return nil, err
				}
				if public, err = k.DerivePublic(v, context); err != nil {
					return nil, err
				}
			}
		}
		shown := map[string]any{
			"name": shownName(k.Type), "public_key": showPublic(k.Type, public), "creation_time": in.Created.Format(time.RFC3339Nano),
			"certificate_chain": showChain(in.Chain),
		}
		if in.Outside != nil {
			shown["managed_key_id"] = in.Outside.ID
		}
		out[strconv.Itoa(in.Number)] = shown
	}
	return out, nil
}

func shownName(t keyring.Type) string {
	switch t { //nolint:exhaustive // the others are called by their types
	case keyring.ECDSAP256:
		return "P-256"
	case keyring.ECDSAP384:
		return "P-384"
	case keyring.ECDSAP521:
		return "P-521"
	}
	return string(t)
}

// showPublic is a public key as text: PEM where it is DER, else base64.
func showPublic(t keyring.Type, public []byte) string {
	switch t { //nolint:exhaustive // the others are not DER
	case keyring.ECDSAP256, keyring.ECDSAP384, keyring.ECDSAP521, keyring.RSA2048, keyring.RSA3072, keyring.RSA4096, keyring.Managed:
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	}
	return base64.StdEncoding.EncodeToString(public)
}

func showChain(chain [][]byte) string {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return string(out)
}

func (e *Engine) delete(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	k, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "error deleting policy %s: could not delete key; not found", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if !k.DeletionAllowed {
		return nil, errs.New(errs.Invalid, "error deleting policy %s: deletion is not allowed for this key", in.Name)
	}
	return nil, e.ring.Delete(call.Tx, in.Name)
}

type configureIn struct {
	nameIn
	MinDecryption *int           `api:"min_decryption_version" help:"Oldest version that decrypts and verifies."`
	MinEncryption *int           `api:"min_encryption_version" help:"Oldest version that encrypts and signs; 0 is the newest only."`
	Deletion      *bool          `api:"deletion_allowed" help:"The key may be deleted."`
	Exportable    *bool          `api:"exportable" help:"The key can be exported. Cannot be taken back."`
	Backup        *bool          `api:"allow_plaintext_backup" help:"The key can be backed up. Cannot be taken back."`
	AutoRotate    *time.Duration `api:"auto_rotate_period" help:"Rotate by itself after this time; at least an hour, 0 is never."`
}

func (e *Engine) configure(_ context.Context, call *engine.Call, in configureIn) (*engine.Response, error) {
	k, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "no existing key named %s could be found", in.Name)
	}
	if err != nil {
		return nil, err
	}
	next := *k
	if err := in.versions(call, &next); err != nil {
		return nil, err
	}
	if in.Deletion != nil {
		next.DeletionAllowed = *in.Deletion
	}
	if k.Type == keyring.Managed {
		switch yes := func(p *bool) bool { return p != nil && *p }; {
		case in.AutoRotate != nil && *in.AutoRotate != 0:
			return nil, errManagedTurns
		case yes(in.Exportable) || yes(in.Backup):
			return nil, errManagedOut
		}
	}
	next.Exportable = next.Exportable || in.Exportable != nil && *in.Exportable
	next.BackupAllowed = next.BackupAllowed || in.Backup != nil && *in.Backup
	if in.AutoRotate != nil {
		if err := keyring.CheckPeriod(*in.AutoRotate); err != nil {
			return nil, err
		}
		next.AutoRotate = *in.AutoRotate
	}
	switch {
	case next.MinEncryption > 0 && next.MinAvailable > next.MinEncryption:
		return nil, errs.New(errs.Invalid, "min encryption version should not be less than min available version")
	case next.MinAvailable > next.MinDecryption:
		return nil, errs.New(errs.Invalid, "min decryption version should not be less then min available version")
	}
	if err := e.ring.Put(call.Tx, &next); err != nil {
		return nil, err
	}
	return e.show(call, &next, nil, shownInWrites)
}

// versions takes the minimum versions over.
func (in *configureIn) versions(call *engine.Call, k *keyring.Key) error {
	if in.MinDecryption != nil {
		n := *in.MinDecryption
		if n < 0 {
			return errs.New(errs.Invalid, "min decryption version cannot be negative")
		}
		if n == 0 {
			n = 1
			call.Warn("since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1")
		}
		if n > k.Latest {
			return errs.New(errs.Invalid, "cannot set min decryption version of %d, latest key version is %d", n, k.Latest)
		}
		k.MinDecryption = n
	}
	if in.MinEncryption != nil {
		n := *in.MinEncryption
		if n < 0 {
			return errs.New(errs.Invalid, "min encryption version cannot be negative")
		}
		if n > k.Latest {
			return errs.New(errs.Invalid, "cannot set min encryption version of %d, latest key version is %d", n, k.Latest)
		}
		k.MinEncryption = n
	}
	if k.MinEncryption > 0 && k.MinEncryption < k.MinDecryption {
		return errs.New(errs.Invalid, "cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d", k.MinEncryption, k.MinDecryption)
	}
	return nil
}

type rotateIn struct {
	nameIn
	Managed   string `api:"managed_key_name" help:"Name of the managed key for the next version of a key of type managed_key."`
	ManagedID string `api:"managed_key_id" help:"Id of the managed key for the next version of a key of type managed_key."`
}

func (e *Engine) rotate(_ context.Context, call *engine.Call, in rotateIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name, errs.New(errs.Invalid, "key not found"))
	switch {
	case err != nil:
		return nil, err
	case k.Type == keyring.Managed:
		return e.rotateManaged(call, k, &in)
	case in.Managed != "" || in.ManagedID != "":
		return nil, errManaged
	}
	if err := k.CanRotate(); err != nil {
		return nil, failed(err)
	}
	if k, err = e.rotateNow(call, k); err != nil {
		return nil, err
	}
	return e.show(call, k, nil, shownInWrites)
}

type trimIn struct {
	nameIn
	Least *int `api:"min_available_version" help:"Oldest version that is kept; those below are wiped."`
}

func (e *Engine) trim(_ context.Context, call *engine.Call, in trimIn) (*engine.Response, error) {
	k, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "invalid key name")
	}
	if err != nil {
		return nil, err
	}
	if in.Least == nil {
		return nil, errs.New(errs.Invalid, "missing min_available_version")
	}
	var text string
	switch n := *in.Least; {
	case n < k.MinAvailable:
		text = "minimum available version cannot be decremented"
	case k.MinEncryption == 0:
		text = "minimum available version cannot be set when minimum encryption version is not set"
	case k.MinDecryption == 0:
		text = "minimum available version cannot be set when minimum decryption version is not set"
	case n > k.MinEncryption:
		text = "minimum available version cannot be greater than minmum encryption version"
	case n > k.MinDecryption:
		text = "minimum available version cannot be greater than minimum decryption version"
	case n < 0:
		text = "minimum available version cannot be negative"
	case n == 0:
		text = "minimum available version should be positive"
	}
	if text != "" {
		return nil, errs.New(errs.Invalid, "%s", text)
	}
	if k, err = e.ring.Trim(call.Tx, k, *in.Least); err != nil {
		return nil, err
	}
	return e.show(call, k, nil, shownInWrites)
}

func (e *Engine) softDelete(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, e.soft(call, in.Name, true)
}

func (e *Engine) softRestore(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, e.soft(call, in.Name, false)
}

func (e *Engine) soft(call *engine.Call, name string, deleted bool) error {
	k, err := e.ring.Get(call.Tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return errs.New(errs.Invalid, "key not found")
	}
	if err != nil || k.SoftDeleted == deleted {
		return err
	}
	next := *k
	next.SoftDeleted = deleted
	return e.ring.Put(call.Tx, &next)
}
