//go:build pkcs11 && cgo

package seals

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"arca/internal/errs"
	"arca/internal/seal"
)

// hsm encrypts on a token by PKCS#11: with AES-GCM, or with RSA-OAEP. The token is
// asked for everything anew each time, so that one that was pulled out, or whose
// server was restarted, is found again.
type hsm struct {
	lib         string
	slot, token string // one or both say which token
	pin         string
	label, id   string // one or both say which key
	mechanism   uint   // 0: by the key's type
	oaep        uint   // hash of RSA-OAEP
	generate    bool   // make an AES key where there is none

	busy chan struct{} // holds a value while the library works: it cannot be interrupted

	mu  sync.Mutex
	ctx *pkcs11.Ctx // nil until the library is loaded; guarded by mu
}

func newPKCS11(o *options) (seal.Sealer, error) {
	h := &hsm{
		lib: o.first("lib", "VAULT_HSM_LIB"), slot: o.first("slot", "VAULT_HSM_SLOT"), token: o.first("token_label", "VAULT_HSM_TOKEN_LABEL"),
		pin: o.first("pin", "VAULT_HSM_PIN"), label: o.first("key_label", "VAULT_HSM_KEY_LABEL"), id: o.first("key_id", "VAULT_HSM_KEY_ID"),
		busy: make(chan struct{}, 1),
	}
	switch {
	case h.lib == "":
		return nil, missing("lib")
	case h.slot == "" && h.token == "":
		return nil, missing("slot or token_label")
	case h.pin == "":
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
func (h *hsm) Encrypt(ctx context.Context, plain []byte) (sealed []byte, err error) {
	err = h.work(ctx, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
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
	return sealed, err
}

// Decrypt implements seal.Sealer.
func (h *hsm) Decrypt(ctx context.Context, sealed []byte) (plain []byte, err error) {
	var b hsmBlob
	if json.Unmarshal(sealed, &b) != nil || b.Mechanism != pkcs11.CKM_AES_GCM && b.Mechanism != pkcs11.CKM_RSA_PKCS_OAEP {
		return nil, errs.New(errs.Failed, "what was stored under the PKCS#11 seal cannot be decoded")
	}
	err = h.work(ctx, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
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
	return plain, err
}

func (h *hsm) params(b *hsmBlob) (m []*pkcs11.Mechanism, free func()) {
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

// work runs fn with a session in which the user is logged in. The library cannot be
// interrupted: when ctx ends first, what it does is left to itself, and nothing else
// begins until it is done.
func (h *hsm) work(ctx context.Context, fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	select {
	case h.busy <- struct{}{}:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the PKCS#11 library is still busy: %w", ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-h.busy }()
		done <- h.session(fn)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the PKCS#11 library does not answer: %w", ctx.Err())
	}
}

func (h *hsm) session(fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.once(fn)
	if err != nil && h.ctx != nil { // loaded anew: it learns of tokens when it is initialised
		_ = h.ctx.Finalize() // it may be that what fails is this
		h.ctx.Destroy()
		h.ctx = nil
		err = h.once(fn)
	}
	return err
}

func (h *hsm) once(fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	if h.ctx == nil {
		c := pkcs11.New(h.lib)
		if c == nil {
			return errs.New(errs.Invalid, "lib: %s cannot be loaded as a PKCS#11 library", h.lib)
		}
		if err := c.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			c.Destroy()
			return err
		}
		h.ctx = c
	}
	slot, err := h.findSlot()
	if err != nil {
		return err
	}
	s, err := h.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer func() { _ = h.ctx.CloseSession(s) }() // nothing depends on it
	err = h.ctx.Login(s, pkcs11.CKU_USER, h.pin)
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return err
	}
	return fn(h.ctx, s)
}

func (h *hsm) findSlot() (uint, error) {
	slots, err := h.ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var want uint64
	if h.slot != "" {
		if want, err = strconv.ParseUint(h.slot, 0, 64); err != nil {
			return 0, errs.New(errs.Invalid, "slot %q is no number", h.slot)
		}
	}
	for _, s := range slots {
		if h.slot != "" && uint64(s) != want {
			continue
		}
		if h.token != "" {
			info, err := h.ctx.GetTokenInfo(s)
			if err != nil || strings.TrimRight(info.Label, " \x00") != h.token {
				continue
			}
		}
		return s, nil
	}
	return 0, errs.New(errs.Unavailable, "there is no token in slot %q with the label %q", h.slot, h.token)
}

// find finds the key. Where the mechanism is not given, it is what the key's type
// allows; an AES key is preferred.
func (h *hsm) find(c *pkcs11.Ctx, s pkcs11.SessionHandle, encrypt bool, mechanism *uint) (pkcs11.ObjectHandle, error) {
	classes := []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PUBLIC_KEY}
	if !encrypt {
		classes[1] = pkcs11.CKO_PRIVATE_KEY
	}
	for i, m := range []uint{pkcs11.CKM_AES_GCM, pkcs11.CKM_RSA_PKCS_OAEP} {
		if *mechanism != 0 && *mechanism != m {
			continue
		}
		key, err := h.search(c, s, classes[i])
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

func (h *hsm) name() []*pkcs11.Attribute {
	var out []*pkcs11.Attribute
	if h.label != "" {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_LABEL, h.label))
	}
	if h.id != "" {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(h.id)))
	}
	return out
}

func (h *hsm) search(c *pkcs11.Ctx, s pkcs11.SessionHandle, class uint) (pkcs11.ObjectHandle, error) {
	if err := c.FindObjectsInit(s, append(h.name(), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))); err != nil {
		return 0, err
	}
	found, _, err := c.FindObjects(s, 2)
	if finalErr := c.FindObjectsFinal(s); err == nil {
		err = finalErr
	}
	switch {
	case err != nil || len(found) == 0:
		return 0, err
	case len(found) > 1:
		return 0, errs.New(errs.Invalid, "the token has several keys with the label %q and the id %q", h.label, h.id)
	}
	return found[0], nil
}

// make makes an AES-256 key that stays on the token.
func (h *hsm) make(c *pkcs11.Ctx, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	return c.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, append(h.name(),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	))
}
