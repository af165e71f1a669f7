//go:build pkcs11 && cgo

package seals

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/miekg/pkcs11"

	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/server/hsm"
)

// token encrypts on a token by PKCS#11: with AES-GCM, or with RSA-OAEP.
type token struct {
	module    *hsm.Module
	login     hsm.Login
	label, id string // one or both say which key
	mechanism uint   // 0: by the key's type
	oaep      uint   // hash of RSA-OAEP
	generate  bool   // make an AES key where there is none
}

func newPKCS11(o *options) (seal.Sealer, error) {
	lib := o.first("lib", "VAULT_HSM_LIB")
	h := &token{
		login: hsm.Login{
			Slot: o.first("slot", "VAULT_HSM_SLOT"), Token: o.first("token_label", "VAULT_HSM_TOKEN_LABEL"), PIN: o.first("pin", "VAULT_HSM_PIN"),
		},
		label: o.first("key_label", "VAULT_HSM_KEY_LABEL"), id: o.first("key_id", "VAULT_HSM_KEY_ID"), module: o.modules.Get(lib),
	}
	switch {
	case lib == "":
		return nil, missing("lib")
	case h.login.Slot == "" && h.login.Token == "":
		return nil, missing("slot or token_label")
	case h.login.PIN == "":
		return nil, missing("pin")
	case h.label == "" && h.id == "":
		return nil, missing("key_label or key_id")
	}
	var err error
	if text := o.first("mechanism", "VAULT_HSM_MECHANISM"); text != "" {
		n, err := strconv.ParseUint(text, 0, 32)
		if err != nil || uint(n) != pkcs11.CKM_AES_GCM && uint(n) != pkcs11.CKM_RSA_PKCS_OAEP {
			return nil, errs.New(errs.Invalid, "mechanism %q is neither 0x1087 (AES-GCM) nor 0x0009 (RSA-OAEP)", text)
		}
		h.mechanism = uint(n)
	}
	switch hash := strings.ToLower(o.first("rsa_oaep_hash", "VAULT_HSM_RSA_OAEP_HASH")); hash {
	case "", "sha256":
		h.oaep = pkcs11.CKM_SHA256
	case "sha1":
		h.oaep = pkcs11.CKM_SHA_1
	case "sha384":
		h.oaep = pkcs11.CKM_SHA384
	case "sha512":
		h.oaep = pkcs11.CKM_SHA512
	default:
		return nil, errs.New(errs.Invalid, "rsa_oaep_hash %q is none of sha1, sha256, sha384, sha512", hash)
	}
	h.generate, err = o.truth("generate_key", "VAULT_HSM_GENERATE_KEY")
	return h, err
}

// hsmBlob is what is stored.
type hsmBlob struct {
	Mechanism uint   `json:"mechanism"`
	IV        []byte `json:"iv,omitempty"`
	Sealed    []byte `json:"sealed"`
}

// Encrypt implements seal.Sealer.
func (h *token) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	var sealed []byte
	err := h.module.Work(ctx, h.login, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		b := hsmBlob{Mechanism: h.mechanism}
		key, err := h.find(c, s, true, &b.Mechanism)
		if err != nil {
			return err
		}
		if b.Mechanism == pkcs11.CKM_AES_GCM {
			b.IV = make([]byte, 12)
			_, _ = rand.Read(b.IV) // never fails (crypto/rand, since Go 1.24)
		}
		m, free := h.params(&b)
		defer free()
		if err := c.EncryptInit(s, m, key); err != nil {
			return err
		}
		if b.Sealed, err = c.Encrypt(s, plain); err != nil {
			return err
		}
		sealed, err = json.Marshal(b)
		return err
	})
	if err != nil {
		return nil, err // the library may still be at it: sealed is its
	}
	return sealed, nil
}

// Decrypt implements seal.Sealer.
func (h *token) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	var b hsmBlob
	if json.Unmarshal(sealed, &b) != nil || b.Mechanism != pkcs11.CKM_AES_GCM && b.Mechanism != pkcs11.CKM_RSA_PKCS_OAEP {
		return nil, errs.New(errs.Failed, "what was stored under the PKCS#11 seal cannot be decoded")
	}
	var plain []byte
	err := h.module.Work(ctx, h.login, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		key, err := h.find(c, s, false, &b.Mechanism)
		if err != nil {
			return err
		}
		m, free := h.params(&b)
		defer free()
		if err := c.DecryptInit(s, m, key); err != nil {
			return err
		}
		plain, err = c.Decrypt(s, b.Sealed)
		return err
	})
	if err != nil {
		return nil, err // as above
	}
	return plain, nil
}

func (h *token) params(b *hsmBlob) (m []*pkcs11.Mechanism, free func()) {
	if b.Mechanism == pkcs11.CKM_AES_GCM {
		p := pkcs11.NewGCMParams(b.IV, nil, 128)
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(b.Mechanism, p)}, p.Free
	}
	mgf := map[uint]uint{
		pkcs11.CKM_SHA_1: pkcs11.CKG_MGF1_SHA1, pkcs11.CKM_SHA256: pkcs11.CKG_MGF1_SHA256,
		pkcs11.CKM_SHA384: pkcs11.CKG_MGF1_SHA384, pkcs11.CKM_SHA512: pkcs11.CKG_MGF1_SHA512,
	}[h.oaep]
	p := pkcs11.NewOAEPParams(h.oaep, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil)
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(b.Mechanism, p)}, func() {}
}

// find finds the key. Where the mechanism is not given, it is what the key's type
// allows; an AES key is preferred.
func (h *token) find(c *pkcs11.Ctx, s pkcs11.SessionHandle, encrypt bool, mechanism *uint) (pkcs11.ObjectHandle, error) {
	classes := []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PUBLIC_KEY}
	if !encrypt {
		classes[1] = pkcs11.CKO_PRIVATE_KEY
	}
	for i, m := range []uint{pkcs11.CKM_AES_GCM, pkcs11.CKM_RSA_PKCS_OAEP} {
		if *mechanism != 0 && *mechanism != m {
			continue
		}
		key, err := hsm.Search(c, s, classes[i], h.name())
		if err != nil {
			return 0, err
		}
		if key != 0 {
			*mechanism = m
			return key, nil
		}
	}
	if encrypt && h.generate && *mechanism != pkcs11.CKM_RSA_PKCS_OAEP {
		*mechanism = pkcs11.CKM_AES_GCM
		return h.make(c, s)
	}
	return 0, errs.New(errs.Unavailable, "the token has no key with the label %q and the id %q", h.label, h.id)
}

func (h *token) name() []*pkcs11.Attribute {
	var out []*pkcs11.Attribute
	if h.label != "" {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_LABEL, h.label))
	}
	if h.id != "" {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(h.id)))
	}
	return out
}

// make makes an AES-256 key that stays on the token.
func (h *token) make(c *pkcs11.Ctx, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	return c.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, append(h.name(),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	))
}
