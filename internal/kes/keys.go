package kes

import (
	"crypto/rand"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/key"
)

// maxPage is how many names a listing returns at a time: clients read a megabyte.
const maxPage = 10_000

// maxBulk is how many ciphertexts one call opens.
const maxBulk = 1000

func (d *Door) createKey(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	if err := r.state.Keys.Create(r.ctx, r.caller(), name, nil, key.Default()); err != nil {
		return fromStore(err)
	}
	return r.empty()
}

func (d *Door) importKey(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in struct {
		Key    []byte `json:"key"`
		Cipher string `json:"cipher"`
		// As of 2023.
		Bytes     []byte `json:"bytes"`
		Algorithm string `json:"algorithm"`
	}
	if err := d.read(r, &in, true); err != nil {
		return err
	}
	defer func() { clear(in.Key); clear(in.Bytes) }()
	secret, cipherName, kind := in.Key, in.Cipher, errs.MediaType
	if in.Bytes != nil && in.Key == nil {
		secret, cipherName, kind = in.Bytes, in.Algorithm, errs.Invalid
	}
	cipher, ok := key.ParseCipher(cipherName)
	if cipherName == "" && kind == errs.Invalid {
		ok = true // of 2023: not specified
	}
	if !ok || !cipher.Usable() {
		return errs.New(errs.MediaType, "the cipher is not supported: use AES256 or ChaCha20")
	}
	if len(secret) != key.Size {
		return errs.New(kind, "invalid key size: a key of %s has %d bytes", cipher, key.Size)
	}
	if err := r.state.Keys.Create(r.ctx, r.caller(), name, secret, cipher); err != nil {
		return fromStore(err)
	}
	return r.empty()
}

func (d *Door) describeKey(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	about, err := r.state.Keys.Describe(r.ctx, r.caller(), name)
	if err != nil {
		return fromStore(err)
	}
	return r.json(struct {
		Name      string    `json:"name"`
		ID        string    `json:"id,omitempty"`
		Algorithm string    `json:"algorithm"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by,omitempty"`
	}{r.argument, about.ID, about.Cipher.String(), about.CreatedAt, about.CreatedBy})
}

func (d *Door) deleteKey(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	if err := r.state.Keys.Delete(r.ctx, r.caller(), name); err != nil {
		return fromStore(err)
	}
	return r.empty()
}

func (d *Door) listKeys(r *request) error {
	prefix, from, err := key.ParsePattern(r.argument)
	if err != nil {
		return err
	}
	if _, err := r.place(d.lists, nil); err != nil {
		return err
	}
	names, next, err := r.state.Keys.List(r.ctx, r.caller(), prefix, from, maxPage)
	if err != nil {
		return fromStore(err)
	}
	return r.names("names", names, prefix, next)
}

// names answers a listing. What goes on with it is the prefix, a tilde, which is
// in no name, and the rest of the next name, so that a rule for the prefix covers
// it too.
func (r *request) names(field string, names []string, prefix, next string) error {
	if names == nil {
		names = []string{}
	}
	out := map[string]any{field: names}
	if next != "" {
		out["continue_at"] = prefix + "~" + next[len(prefix):]
	}
	return r.json(out)
}

func (d *Door) encrypt(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in struct {
		Plaintext []byte `json:"plaintext"`
		Context   []byte `json:"context"`
	}
	if err := d.read(r, &in, true); err != nil {
		return err
	}
	defer clear(in.Plaintext)
	ciphertext, err := r.state.Keys.Encrypt(r.ctx, r.caller(), name, in.Plaintext, in.Context)
	if err != nil {
		return fromStore(err)
	}
	b := appendField(append(make([]byte, 0, 32+len(ciphertext)*4/3), '{'), "ciphertext", ciphertext)
	return r.raw(append(b, '}'))
}

func (d *Door) generate(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in struct {
		Context []byte `json:"context"`
	}
	if err := d.read(r, &in, false); err != nil {
		return err
	}
	plaintext := make([]byte, key.Size)
	_, _ = rand.Read(plaintext) // never fails
	ciphertext, err := r.state.Keys.Encrypt(r.ctx, r.caller(), name, plaintext, in.Context)
	if err != nil {
		return fromStore(err)
	}
	b := appendField(append(make([]byte, 0, 192), '{'), "plaintext", plaintext)
	b = appendField(append(b, ','), "ciphertext", ciphertext)
	clear(plaintext)
	return r.raw(append(b, '}'))
}

func (d *Door) decrypt(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in Sealed
	if err := d.read(r, &in, true); err != nil {
		return err
	}
	plain, err := r.state.Keys.Decrypt(r.ctx, r.caller(), name, []Sealed{in})
	if err != nil {
		return fromStore(err)
	}
	b := appendField(append(make([]byte, 0, 32+len(plain[0])*4/3), '{'), "plaintext", plain[0])
	clear(plain[0])
	return r.raw(append(b, '}'))
}

// bulkDecrypt opens all of several ciphertexts, or none.
func (d *Door) bulkDecrypt(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in []Sealed
	if err := d.read(r, &in, true); err != nil {
		return err
	}
	if len(in) > maxBulk {
		return errs.New(errs.Invalid, "more than %d ciphertexts in one call", maxBulk)
	}
	plain, err := r.state.Keys.Decrypt(r.ctx, r.caller(), name, in)
	if err != nil {
		return fromStore(err)
	}
	b := []byte{'['}
	for i, p := range plain {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendField(append(b, '{'), "plaintext", p), '}')
		clear(p)
	}
	return r.raw(append(b, ']'))
}

func (d *Door) hmac(r *request) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	var in struct {
		Message []byte `json:"message"`
	}
	if err := d.read(r, &in, true); err != nil {
		return err
	}
	sum, err := r.state.Keys.HMAC(r.ctx, r.caller(), name, in.Message)
	if err != nil {
		return fromStore(err)
	}
	b := appendField(append(make([]byte, 0, 64), '{'), "hmac", sum)
	return r.raw(append(b, '}'))
}
