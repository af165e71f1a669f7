package transit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
)

func (e *Engine) cryptRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("encrypt/{name}", e.encrypt, engine.Exists(e.exists), engine.Computes, engine.ID("transit-encrypt"), engine.Help("Encrypt data.")),
		engine.Write("decrypt/{name}", e.decrypt, engine.Computes, engine.ID("transit-decrypt"), engine.Help("Decrypt data.")),
		engine.Write("rewrap/{name}", e.rewrap, engine.Computes, engine.ID("transit-rewrap"), engine.Help("Decrypt data and encrypt it with the newest version.")),
		engine.Write("datakey/{kind}/{name}", e.dataKey, engine.Computes, engine.ID("transit-generate-data-key"), engine.Help("Make a key and encrypt it.")),
	}
}

// prefix is in front of the version in all that the engine gives out.
const prefix = "vault:v"

func appendPrefix(dst []byte, version int) []byte {
	dst = append(dst, prefix...)
	return append(strconv.AppendInt(dst, int64(version), 10), ':')
}

// splitPrefix takes "vault:v1:text" apart. what is the errors' word for it.
func splitPrefix(text []byte, what string) (version int, rest []byte, err error) {
	text, ok := bytes.CutPrefix(text, []byte(prefix))
	if !ok {
		return 0, nil, errs.New(errs.Invalid, "invalid %s: no prefix", what)
	}
	number, rest, ok := bytes.Cut(text, []byte{':'})
	if !ok {
		return 0, nil, errs.New(errs.Invalid, "invalid %s: wrong number of fields", what)
	}
	version, err = strconv.Atoi(string(number))
	if err != nil || version < 0 {
		return 0, nil, errs.New(errs.Invalid, "invalid %s: version number could not be decoded", what)
	}
	return max(version, 1), rest, nil // Vault's first ciphertexts said 0
}

// A worker does the items of one request with one key. It keeps the version used
// last and room for bytes.
type worker struct {
	e    *Engine
	call *engine.Call
	key  *keyring.Key
	v    *keyring.Version
	room []byte
	note []byte // room for contexts and associated data

	managed *engine.ManagedKey // used last
}

func (w *worker) version(n int) (*keyring.Version, error) {
	if w.v == nil || w.v.Number != n {
		v, err := w.e.ring.Version(w.call.Tx, w.key, n)
		if err != nil {
			return nil, err
		}
		w.v = v
	}
	return w.v, nil
}

var errNonce = errs.New(errs.Invalid, "provided nonce not allowed for this key")

// options decodes what goes with an item.
func (w *worker) options(it *item) (o keyring.CryptOptions, err error) {
	if len(it.context) > 0 {
		if o.Context, err = decodePlain(it.context); err != nil {
			return o, err
		}
	}
	if len(it.nonce) > 0 {
		if _, err = decodePlain(it.nonce); err == nil {
			err = errNonce
		}
		return o, err
	}
	if len(it.aad) > 0 {
		if o.AAD, err = decodePlain(it.aad); err != nil {
			return o, err
		}
	}
	o.Padding = it.padding
	return o, nil
}

// decodePlain reads base64; its error is that of the library, as Vault shows it.
func decodePlain(text []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := decodeBase64(out, text)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	return out[:n], nil
}

func grow(room []byte, n int) []byte {
	if cap(room) < n {
		return make([]byte, n, n+n/4)
	}
	return room[:n]
}

// encrypt appends "vault:v1:…" of plaintext to dst.
func (w *worker) encrypt(dst, plaintext []byte, version int, o keyring.CryptOptions) (out []byte, used int, err error) {
	n, err := w.key.ToUse(version, "encryption")
	if err != nil {
		return nil, 0, err
	}
	v, err := w.version(n)
	if err != nil {
		return nil, 0, err
	}
	if w.key.Type == keyring.Managed {
		if _, err := w.outside(v, engine.UseEncrypt); err != nil {
			return nil, 0, err
		}
	}
	sealed, err := w.key.Encrypt(v, w.note[:0], plaintext, o)
	if err != nil {
		return nil, 0, err
	}
	w.note = sealed
	return appendBase64(appendPrefix(dst, n), sealed), n, nil
}

var (
	errMissingCiphertext = errs.New(errs.Invalid, "missing ciphertext to decrypt")
	errCiphertext64      = errs.New(errs.Invalid, "invalid ciphertext: could not decode base64")
	errCiphertextNew     = errs.New(errs.Invalid, "invalid ciphertext: version is too new")
)

// decrypt returns the plaintext of an item, in the worker's room.
func (w *worker) decrypt(it *item, o keyring.CryptOptions) ([]byte, error) {
	n, text, err := w.sealedWith(it)
	if err != nil {
		return nil, err
	}
	w.room = grow(w.room, base64.StdEncoding.DecodedLen(len(text)))
	size, err := decodeBase64(w.room, text)
	if err != nil {
		return nil, errCiphertext64
	}
	v, err := w.version(n)
	if err != nil {
		return nil, err
	}
	return w.key.Decrypt(v, w.room[:size], o)
}

// sealedWith says with which version an item is encrypted, which may decrypt it.
func (w *worker) sealedWith(it *item) (n int, text []byte, err error) {
	if len(it.ciphertext) == 0 {
		return 0, nil, errMissingCiphertext
	}
	if n, text, err = splitPrefix(it.ciphertext, "ciphertext"); err != nil {
		return 0, nil, err
	}
	if err = w.key.ToOpen(n); errors.Is(err, keyring.ErrTooNew) {
		err = errCiphertextNew
	}
	return n, text, err
}

type encryptIn struct {
	nameIn
	Plaintext  *string         `api:"plaintext" help:"The plaintext, in base64."`
	Context    string          `api:"context" help:"Context of a derived key, in base64."`
	Nonce      string          `api:"nonce" help:"Not used by keys that are made today."`
	AAD        string          `api:"associated_data" help:"Associated data, in base64."`
	Padding    string          `api:"padding_scheme" help:"Of RSA: oaep or pkcs1v15."`
	Version    int             `api:"key_version" help:"Version of the key; 0 is the newest."`
	Batch      json.RawMessage `api:"batch_input" help:"Several items at once, each with plaintext, context and so on."`
	Type       string          `api:"type" help:"Type of a key that is made by this request." default:"aes256-gcm96"`
	Convergent bool            `api:"convergent_encryption" help:"Whether a key that is made by this request is convergent."`
	Partial    *int            `api:"partial_failure_response_code" help:"Status when some items of a batch fail; 400 if not given."`
}

// given reports whether a batch was sent.
func given(batch json.RawMessage) bool { return len(batch) > 0 && string(batch) != "null" }

var errPlaintext = errs.New(errs.Invalid, "missing plaintext to encrypt")

func (e *Engine) encrypt(ctx context.Context, call *engine.Call, in encryptIn) (*engine.Response, error) {
	batch := given(in.Batch)
	var items []item
	var err error
	if batch {
		if items, err = parseBatch(in.Batch); err != nil {
			return nil, err
		}
		for i := range items {
			if !items[i].hasPlaintext {
				return nil, errBatch("'[" + strconv.Itoa(i) + "].plaintext' missing plaintext to encrypt")
			}
			if (len(items[i].context) > 0) != (len(items[0].context) > 0) {
				return nil, errs.New(errs.Invalid, "context should be set either in all the request blocks or in none")
			}
		}
	} else {
		if in.Plaintext == nil {
			return nil, errPlaintext
		}
		items = []item{{
			plaintext: []byte(*in.Plaintext), context: []byte(in.Context), nonce: []byte(in.Nonce), aad: []byte(in.AAD),
			padding: in.Padding, version: in.Version,
		}}
	}
	k, err := e.current(call, in.Name, errNoKey)
	if errors.Is(err, errNoKey) {
		k, err = e.upsert(call, &in, len(items[0].context) > 0)
	}
	if err != nil {
		return nil, err
	}
	if !k.Type.Encrypts() {
		return nil, errs.New(errs.Invalid, "message encryption not supported for key type %s", k.Type)
	}
	w := &worker{e: e, call: call, key: k}
	r := newResults(batch, len(in.Batch)+len(items[0].plaintext)+96*len(items)) // room for nonces, tags and names
	for i := range items {
		if err := gone(ctx); err != nil {
			return nil, err
		}
		err := w.encryptItem(r, &items[i])
		if err == nil {
			continue
		}
		if !batch || !shown(err) {
			return nil, err
		}
		r.fail(&items[i], err, nil)
	}
	return r.partial(call, in.Partial), nil
}

func (w *worker) encryptItem(r *results, it *item) error {
	o, err := w.options(it)
	if err != nil {
		return err
	}
	w.room = grow(w.room, base64.StdEncoding.DecodedLen(len(it.plaintext)))
	size, err := decodeBase64(w.room, it.plaintext)
	if err != nil {
		return errs.With(errs.Invalid, err)
	}
	return w.seal(r, it, w.room[:size], o)
}

// seal encrypts and writes the item's result; on an error nothing is written.
func (w *worker) seal(r *results, it *item, plaintext []byte, o keyring.CryptOptions) error {
	mark := len(r.out)
	r.open()
	r.name("ciphertext")
	r.out = append(r.out, '"')
	out, n, err := w.encrypt(r.out, plaintext, it.version, o)
	if err != nil {
		r.out = r.out[:mark]
		return err
	}
	r.out = append(out, '"')
	r.version(n)
	r.close(it, false)
	return nil
}

// upsert makes the key of an encryption that has none, if that is allowed.
func (e *Engine) upsert(call *engine.Call, in *encryptIn, derived bool) (*keyring.Key, error) {
	c, err := getConfig[keysConfig](call.Tx, keysConfigKey)
	if err != nil {
		return nil, err
	}
	if call.Op != engine.OpCreate || c.NoUpsert {
		return nil, errNoKey
	}
	k := keyring.Key{Name: in.Name, Derived: derived, Convergent: in.Convergent, Spec: keyring.Spec{Type: keyring.Type(in.Type)}}
	switch {
	case !k.Type.Known():
		return nil, errs.New(errs.Invalid, "unknown key type %s", in.Type)
	case !k.Type.Symmetric() || !k.Type.Encrypts():
		return nil, errs.New(errs.Invalid, "key type %s not supported for this operation", in.Type)
	case k.Convergent && !derived:
		return nil, errs.New(errs.Invalid, "convergent encryption requires derivation to be enabled, so context is required")
	}
	return e.make(call, k)
}

type decryptIn struct {
	nameIn
	Ciphertext string          `api:"ciphertext" help:"What encrypt gave."`
	Context    string          `api:"context" help:"Context of a derived key, in base64."`
	Nonce      string          `api:"nonce" help:"Not used by keys that are made today."`
	AAD        string          `api:"associated_data" help:"Associated data, in base64."`
	Padding    string          `api:"padding_scheme" help:"Of RSA: oaep or pkcs1v15."`
	Batch      json.RawMessage `api:"batch_input" help:"Several items at once, each with ciphertext, context and so on."`
	Partial    *int            `api:"partial_failure_response_code" help:"Status when some items of a batch fail; 400 if not given."`
}

func (e *Engine) decrypt(ctx context.Context, call *engine.Call, in decryptIn) (*engine.Response, error) {
	batch := given(in.Batch)
	items := []item{{
		ciphertext: []byte(in.Ciphertext), context: []byte(in.Context), nonce: []byte(in.Nonce), aad: []byte(in.AAD), padding: in.Padding,
	}}
	var err error
	if batch {
		if items, err = parseBatch(in.Batch); err != nil {
			return nil, err
		}
	}
	k, err := e.get(call, in.Name, errNoKey)
	if err != nil {
		return nil, err
	}
	w := &worker{e: e, call: call, key: k}
	open, err := w.opener(items)
	if err != nil {
		return nil, err
	}
	r := newResults(batch, len(in.Batch)+len(in.Ciphertext)+64*len(items))
	for i := range items {
		if err := gone(ctx); err != nil {
			return nil, err
		}
		it := &items[i]
		plain, err := open(i)
		switch {
		case err == nil:
			r.open()
			r.name("plaintext")
			r.out = append(appendBase64(append(r.out, '"'), plain), '"')
			r.close(it, false)
		case !batch || !shown(err):
			return nil, err
		default:
			r.fail(it, err, func() { r.text("plaintext", "") })
		}
	}
	return r.partial(call, in.Partial), nil
}

// opener returns what decrypts the items one by one: now or, with a managed_key, by what
// its service has answered about them all.
func (w *worker) opener(items []item) (func(i int) ([]byte, error), error) {
	if w.key.Type != keyring.Managed {
		return func(i int) ([]byte, error) { return w.decryptItem(&items[i]) }, nil
	}
	plain, bad, err := w.openOutside(items)
	if err != nil {
		return nil, err
	}
	return func(i int) ([]byte, error) { return plain[i], bad[i] }, nil
}

func (w *worker) decryptItem(it *item) ([]byte, error) {
	if len(it.ciphertext) == 0 {
		return nil, errMissingCiphertext
	}
	o, err := w.options(it)
	if err != nil {
		return nil, err
	}
	return w.decrypt(it, o)
}

type rewrapIn struct {
	nameIn
	Ciphertext string          `api:"ciphertext" help:"What encrypt gave."`
	Context    string          `api:"context" help:"Context of a derived key, in base64."`
	Nonce      string          `api:"nonce" help:"Not used by keys that are made today."`
	Version    int             `api:"key_version" help:"Version of the key to encrypt with; 0 is the newest."`
	AAD        string          `api:"associated_data" help:"Associated data, in base64."`
	Decrypt    string          `api:"decrypt_padding_scheme" help:"Of RSA, for decryption: oaep or pkcs1v15."`
	Encrypt    string          `api:"encrypt_padding_scheme" help:"Of RSA, for encryption: oaep or pkcs1v15."`
	Batch      json.RawMessage `api:"batch_input" help:"Several items at once, each with ciphertext, context and so on."`
}

func (e *Engine) rewrap(ctx context.Context, call *engine.Call, in rewrapIn) (*engine.Response, error) {
	batch := given(in.Batch)
	items := []item{{
		ciphertext: []byte(in.Ciphertext), context: []byte(in.Context), nonce: []byte(in.Nonce), aad: []byte(in.AAD), version: in.Version,
		opening: in.Decrypt, sealing: in.Encrypt,
	}}
	var err error
	if batch { // as in Vault, the schemes of the request do not hold for items
		if items, err = parseBatch(in.Batch); err != nil {
			return nil, err
		}
	}
	if !batch && in.Ciphertext == "" {
		return nil, errMissingCiphertext
	}
	k, err := e.current(call, in.Name, errNoKey)
	if err != nil {
		return nil, err
	}
	w := &worker{e: e, call: call, key: k}
	for i := range items {
		items[i].padding = items[i].opening
	}
	open, err := w.opener(items)
	if err != nil {
		return nil, err
	}
	r := newResults(batch, len(in.Batch)+len(in.Ciphertext)+64*len(items))
	for i := range items {
		if err := gone(ctx); err != nil {
			return nil, err
		}
		it := &items[i]
		plain, err := open(i)
		if err == nil {
			it.padding = it.sealing
			var o keyring.CryptOptions
			if o, err = w.options(it); err == nil {
				err = w.seal(r, it, plain, o)
			}
		}
		switch {
		case err == nil:
		case !batch || !shown(err):
			return nil, err
		default:
			r.fail(it, err, nil)
		}
	}
	return r.response(), nil
}

type dataKeyIn struct {
	nameIn
	Kind    string `api:"kind" help:"plaintext or wrapped: whether the key is shown, too."`
	Context string `api:"context" help:"Context of a derived key, in base64."`
	Nonce   string `api:"nonce" help:"Not used by keys that are made today."`
	AAD     string `api:"associated_data" help:"Associated data, in base64."`
	Padding string `api:"padding_scheme" help:"Of RSA: oaep or pkcs1v15."`
	Bits    int    `api:"bits" help:"Bits of the key: 128, 256 or 512." default:"256"`
	Version int    `api:"key_version" help:"Version of the key; 0 is the newest."`
}

func (e *Engine) dataKey(_ context.Context, call *engine.Call, in dataKeyIn) (*engine.Response, error) {
	if in.Kind != "plaintext" && in.Kind != "wrapped" {
		return nil, errs.New(errs.Invalid, "Invalid path, must be 'plaintext' or 'wrapped'")
	}
	it := item{
		context: []byte(in.Context), nonce: []byte(in.Nonce), aad: []byte(in.AAD), padding: in.Padding, version: in.Version,
	}
	k, err := e.current(call, in.Name, errNoKey)
	if err != nil {
		return nil, err
	}
	w := &worker{e: e, call: call, key: k}
	o, err := w.options(&it)
	if err != nil {
		return nil, err
	}
	plain, err := keyring.DataKey(in.Bits)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	sealed, n, err := w.encrypt(nil, plain, in.Version, o)
	if err != nil {
		return nil, err
	}
	data := map[string]any{"ciphertext": string(sealed), "key_version": n}
	if in.Kind == "plaintext" {
		data["plaintext"] = base64.StdEncoding.EncodeToString(plain)
	}
	return &engine.Response{Data: data}, nil
}
