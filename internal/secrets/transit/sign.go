package transit

import (
	"cmp"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
)

func (e *Engine) signRoutes() []engine.Route {
	sign := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.sign, engine.Computes, engine.ID(id), engine.Help("Sign data."))
	}
	verify := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.verify, engine.Computes, engine.ID(id), engine.Help("Verify a signature or MAC."))
	}
	mac := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.hmac, engine.Computes, engine.ID(id), engine.Help("Make an HMAC."))
	}
	cmac := func(pattern, id string) engine.Route {
		return engine.Write(pattern, e.cmac, engine.Computes, engine.ID(id), engine.Help("Make a CMAC."))
	}
	return []engine.Route{
		sign("sign/{name}", "transit-sign"), sign("sign/{name}/{urlalgorithm}", "transit-sign-with-algorithm"),
		verify("verify/{name}", "transit-verify"), verify("verify/{name}/{urlalgorithm}", "transit-verify-with-algorithm"),
		mac("hmac/{name}", "transit-generate-hmac"), mac("hmac/{name}/{urlalgorithm}", "transit-generate-hmac-with-algorithm"),
		cmac("cmac/{name}", "transit-generate-cmac"), cmac("cmac/{name}/{url_mac_length}", "transit-generate-cmac-with-mac-length"),
	}
}

// howIn says how a signature is made.
type howIn struct {
	URLAlgorithm string `api:"urlalgorithm" help:"The hash algorithm, in the path."`
	Algorithm    string `api:"algorithm" help:"Older name of hash_algorithm."`
	Hash         string `api:"hash_algorithm" help:"sha1, sha2-224 to -512, sha3-224 to -512, or none."`
	Prehashed    bool   `api:"prehashed" help:"The input is a hash already."`
	Padding      string `api:"signature_algorithm" help:"Of RSA: pss or pkcs1v15."`
	Marshaling   string `api:"marshaling_algorithm" help:"Of ECDSA: asn1 or jws." default:"asn1"`
	Salt         string `api:"salt_length" help:"Of PSS: auto, hash, or a number of bytes." default:"auto"`
	Label        string `api:"signature_context" help:"Context of Ed25519ctx, Ed25519ph and ML-DSA, in base64."`
}

// how is howIn, checked.
type how struct {
	keyring.SignOptions
	encoding  *base64.Encoding
	hashNamed bool // the request names it
}

const defaultHash = "sha2-256"

func (in *howIn) parse() (h how, err error) {
	name := defaultHash
	for _, n := range []string{in.Algorithm, in.Hash, in.URLAlgorithm} {
		if n != "" {
			name, h.hashNamed = n, true
		}
	}
	hash, ok := keyring.HashOf(name)
	if !ok {
		return h, errs.New(errs.Invalid, "invalid hash algorithm %q", name)
	}
	h.SignOptions = keyring.SignOptions{Hash: hash, Prehashed: in.Prehashed, Padding: in.Padding}
	if hash == 0 && (!in.Prehashed || in.Padding != "pkcs1v15") {
		return h, errs.New(errs.Invalid, "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
	}
	switch in.Marshaling {
	case "asn1":
		h.encoding = base64.StdEncoding
	case "jws":
		h.encoding, h.Raw = base64.RawURLEncoding, true
	default:
		return h, errs.New(errs.Invalid, "invalid marshaling type %q", in.Marshaling)
	}
	switch strings.ToLower(in.Salt) {
	case "auto":
		h.Salt = rsa.PSSSaltLengthAuto
	case "hash":
		h.Salt = rsa.PSSSaltLengthEqualsHash
	default:
		if h.Salt, err = strconv.Atoi(in.Salt); err != nil || h.Salt < rsa.PSSSaltLengthEqualsHash {
			return h, errs.New(errs.Invalid, "salt length neither 'auto', 'hash', nor an int: %s", in.Salt)
		}
	}
	h.Label, err = decodePlain([]byte(in.Label))
	return h, err
}

// forItem is h with the contexts of an item.
func (h how) forItem(it *item) (how, error) {
	var err error
	if h.Context, err = decodePlain(it.context); err != nil {
		return h, err
	}
	if len(it.label) > 0 {
		h.Label, err = decodePlain(it.label)
	}
	return h, err
}

type signIn struct {
	nameIn
	howIn
	Input   string          `api:"input" help:"The data, in base64."`
	Context string          `api:"context" help:"Context of a derived key, in base64."`
	Version int             `api:"key_version" help:"Version of the key; 0 is the newest."`
	Batch   json.RawMessage `api:"batch_input" help:"Several items at once, each with input and context."`
}

var errInput = errs.New(errs.Invalid, "missing input")

func (e *Engine) sign(ctx context.Context, call *engine.Call, in signIn) (*engine.Response, error) {
	h, err := in.parse()
	if err != nil {
		return nil, err
	}
	k, err := e.current(call, in.Name, errNoSigning)
	if err != nil {
		return nil, err
	}
	if !k.Type.Signs() {
		return nil, errs.New(errs.Invalid, "key type %s does not support signing", k.Type)
	}
	batch := given(in.Batch)
	items := []item{{input: []byte(in.Input), hasInput: true, context: []byte(in.Context)}}
	if batch {
		if items, err = parseBatch(in.Batch); err != nil {
			return nil, err
		}
	}
	w := &worker{e: e, call: call, key: k}
	n, err := k.ToUse(in.Version, "signing")
	if err != nil {
		return nil, err
	}
	v, err := w.version(n)
	if err != nil {
		return nil, err
	}
	r := newResults(batch, 256*len(items))
	if k.Type == keyring.Managed {
		if err := w.signOutside(r, batch, items, v, h); err != nil {
			return nil, err
		}
		return r.response(), nil
	}
	for i := range items {
		if err := gone(ctx); err != nil {
			return nil, err
		}
		it := &items[i]
		err := w.signItem(r, it, v, h)
		switch {
		case err == nil:
		case batch && shown(err):
			r.fail(it, err, func() { r.version(0) })
		case errors.Is(err, keyring.ErrPublic) || errors.Is(err, keyring.ErrPadding):
			return nil, failed(err)
		default:
			return nil, err
		}
	}
	return r.response(), nil
}

func (w *worker) signItem(r *results, it *item, v *keyring.Version, h how) error {
	input, h, err := it.toSign(h)
	if err != nil {
		return err
	}
	sig, public, err := w.key.Sign(v, input, h.SignOptions)
	if err != nil {
		return err
	}
	r.signature(it, v.Number, sig, public, h)
	return nil
}

// toSign is the input of an item, and how it is to be signed.
func (it *item) toSign(h how) ([]byte, how, error) {
	if !it.hasInput {
		return nil, h, errInput
	}
	input, err := decode64(it.input)
	if err != nil {
		return nil, h, err
	}
	h, err = h.forItem(it)
	return input, h, err
}

// signature is the result of an item that was signed.
func (r *results) signature(it *item, version int, sig, public []byte, h how) {
	r.open()
	r.name("signature")
	r.out = append(h.encoding.AppendEncode(appendPrefix(append(r.out, '"'), version), sig), '"')
	r.version(version)
	if len(public) > 0 {
		name := "public_key"
		if r.batch {
			name = "publickey"
		}
		r.text(name, base64.StdEncoding.EncodeToString(public))
	}
	r.close(it, false)
}

type verifyIn struct {
	nameIn
	howIn
	Input     string          `api:"input" help:"The data, in base64."`
	Context   string          `api:"context" help:"Context of a derived key, in base64."`
	Signature string          `api:"signature" help:"What sign gave."`
	HMAC      string          `api:"hmac" help:"What hmac gave."`
	CMAC      string          `api:"cmac" help:"What cmac gave."`
	MACLength int             `api:"mac_length" help:"Length of the CMAC in bytes; 0 is 16."`
	Batch     json.RawMessage `api:"batch_input" help:"Several items at once, each with input and signature, hmac or cmac."`
}

// Kinds of proof.
const (
	bySignature = iota + 1
	byHMAC
	byCMAC
)

func (it *item) proof() int {
	switch {
	case len(it.signature) > 0:
		return bySignature
	case len(it.hmac) > 0:
		return byHMAC
	case len(it.cmac) > 0:
		return byCMAC
	}
	return 0
}

func (e *Engine) verify(ctx context.Context, call *engine.Call, in verifyIn) (*engine.Response, error) {
	batch := given(in.Batch)
	items := []item{{
		input: []byte(in.Input), hasInput: true, context: []byte(in.Context), signature: []byte(in.Signature), hmac: []byte(in.HMAC),
		cmac: []byte(in.CMAC), macLength: in.MACLength,
	}}
	var err error
	if batch {
		if items, err = parseBatch(in.Batch); err != nil {
			return nil, err
		}
	}
	proof, err := proofOf(items, batch)
	if err != nil {
		return nil, err
	}
	missing := errNoKey
	var h how
	var hash crypto.Hash
	switch proof {
	case bySignature:
		missing = errs.New(errs.Invalid, "signature verification key not found")
		h, err = in.parse()
	case byHMAC:
		hash, err = macHash(in.Algorithm, in.Hash, in.URLAlgorithm)
	}
	if err != nil {
		return nil, err
	}
	k, err := e.get(call, in.Name, missing)
	if err != nil {
		return nil, err
	}
	if proof == bySignature && !k.Type.Signs() {
		return nil, errs.New(errs.Invalid, "key type %s does not support verification", k.Type)
	}
	if proof != bySignature && k.Type == keyring.Managed {
		return nil, errManagedMAC
	}
	w := &worker{e: e, call: call, key: k}
	r := newResults(batch, 64*len(items))
	for i := range items {
		if err := gone(ctx); err != nil {
			return nil, err
		}
		it := &items[i]
		var valid bool
		switch proof {
		case bySignature:
			valid, err = w.verifySignature(it, h)
		case byHMAC:
			valid, err = w.verifyHMAC(it, hash)
		default:
			valid, err = w.verifyCMAC(it, cmp.Or(it.macLength, in.MACLength))
		}
		switch {
		case err == nil:
			r.open()
			r.boolean("valid", valid)
			r.close(it, false)
		case !batch || !shown(err):
			return nil, err
		default:
			r.fail(it, err, func() { r.boolean("valid", false) })
		}
	}
	return r.response(), nil
}

// proofOf says what is to be verified, which must be the same for all items.
func proofOf(items []item, batch bool) (int, error) {
	proof := 0
	for i := range items {
		p := items[i].proof()
		if proof != 0 && p != 0 && p != proof {
			return 0, errs.New(errs.Invalid, "elements of batch_input must all provide either 'signature' or 'hmac'")
		}
		proof = max(proof, p)
	}
	switch {
	case proof != 0:
		return proof, nil
	case batch:
		return 0, errs.New(errs.Invalid, "no batch_input elements have 'signature' or 'hmac'")
	}
	return 0, errs.New(errs.Invalid, "neither a 'signature' nor an 'hmac' were given to verify")
}

func (w *worker) verifySignature(it *item, h how) (bool, error) {
	if !it.hasInput {
		return false, errInput
	}
	input, err := decode64(it.input)
	if err != nil {
		return false, err
	}
	if h, err = h.forItem(it); err != nil {
		return false, err
	}
	if len(it.signature) == 0 {
		return false, errs.New(errs.Invalid, "missing signature")
	}
	n, text, err := splitPrefix(it.signature, "signature")
	if err != nil {
		return false, err
	}
	v, err := w.toVerify(n, "invalid signature")
	if err != nil {
		return false, err
	}
	if w.key.Type == keyring.Managed {
		m, err := w.outside(v, engine.UseVerify)
		if err != nil {
			return false, err
		}
		if h, err = h.within(m); err != nil {
			return false, err
		}
	}
	sig := make([]byte, h.encoding.DecodedLen(len(text)))
	size, err := h.encoding.Decode(sig, text)
	if err != nil {
		return false, errs.New(errs.Invalid, "invalid base64 signature value")
	}
	return w.key.Verify(v, input, sig[:size], h.SignOptions)
}

// toVerify fetches version n, if it may verify.
func (w *worker) toVerify(n int, what string) (*keyring.Version, error) {
	if err := w.key.ToOpen(n); errors.Is(err, keyring.ErrTooNew) {
		return nil, errs.New(errs.Invalid, "%s: %w", what, err)
	} else if err != nil {
		return nil, err
	}
	return w.version(n)
}

// macHash is the hash of an HMAC: the last that is named.
func macHash(names ...string) (crypto.Hash, error) {
	name := defaultHash
	for _, n := range names {
		if n != "" {
			name = n
		}
	}
	h, ok := keyring.HashOf(name)
	if !ok || h == 0 || h == crypto.SHA1 {
		return 0, errs.New(errs.Invalid, `unsupported algorithm '\x00'`) // Vault shows the number of no hash
	}
	return h, nil
}

func (w *worker) verifyHMAC(it *item, h crypto.Hash) (bool, error) {
	if !it.hasInput {
		return false, errInput
	}
	input, err := decode64(it.input)
	if err != nil {
		return false, err
	}
	v, mac, err := w.openMAC(it.hmac, "HMAC")
	if err != nil {
		return false, err
	}
	return hmac.Equal(v.MAC(h, input), mac), nil
}

// openMAC reads "vault:v1:…" and fetches the version that made it.
func (w *worker) openMAC(text []byte, what string) (*keyring.Version, []byte, error) {
	if len(text) == 0 {
		return nil, nil, errs.New(errs.Invalid, "missing %s", strings.ToLower(what))
	}
	n, rest, err := splitPrefix(text, what)
	if err != nil {
		return nil, nil, err
	}
	mac := make([]byte, base64.StdEncoding.DecodedLen(len(rest)))
	size, err := base64.StdEncoding.Decode(mac, rest)
	if err != nil {
		return nil, nil, errs.New(errs.Invalid, "unable to decode verification %s as base64: %s", what, err.Error())
	}
	v, err := w.toVerify(n, "invalid "+what)
	return v, mac[:size], err
}

func (w *worker) verifyCMAC(it *item, length int) (bool, error) {
	if !it.hasInput {
		return false, errInput
	}
	input, err := decode64(it.input)
	if err != nil {
		return false, err
	}
	v, mac, err := w.openMAC(it.cmac, "CMAC")
	if err != nil {
		return false, err
	}
	want, err := v.CMAC(input, length)
	return err == nil && hmac.Equal(want, mac), err
}

type hmacIn struct {
	nameIn
	URLAlgorithm string          `api:"urlalgorithm" help:"The hash algorithm, in the path."`
	Algorithm    string          `api:"algorithm" help:"sha2-224 to -512, sha3-224 to -512."`
	Input        *string         `api:"input" help:"The data, in base64."`
	Version      int             `api:"key_version" help:"Version of the key; 0 is the newest."`
	Batch        json.RawMessage `api:"batch_input" help:"Several items at once, each with input."`
}

func (e *Engine) hmac(_ context.Context, call *engine.Call, in hmacIn) (*engine.Response, error) {
	k, err := e.current(call, in.Name, errNoKey)
	if err != nil {
		return nil, err
	}
	if k.Type == keyring.Managed {
		return nil, errManagedMAC
	}
	h, err := macHash(in.Algorithm, in.URLAlgorithm)
	if err != nil {
		return nil, err
	}
	return e.macs(call, k, macsIn{name: "hmac", version: in.Version, input: in.Input, batch: in.Batch}, func(v *keyring.Version, input []byte, _ *item) ([]byte, error) {
		return v.MAC(h, input), nil
	})
}

type cmacIn struct {
	nameIn
	URLLength int             `api:"url_mac_length" help:"Length in bytes, in the path."`
	Length    int             `api:"mac_length" help:"Length in bytes; 0 is 16."`
	Input     *string         `api:"input" help:"The data, in base64."`
	Version   int             `api:"key_version" help:"Version of the key; 0 is the newest."`
	Batch     json.RawMessage `api:"batch_input" help:"Several items at once, each with input and mac_length."`
}

func (e *Engine) cmac(_ context.Context, call *engine.Call, in cmacIn) (*engine.Response, error) {
	k, err := e.current(call, in.Name, errNoKey)
	if err != nil {
		return nil, err
	}
	if !k.Type.CMACs() {
		return nil, errs.New(errs.Invalid, "key type %s does not support CMAC", k.Type)
	}
	return e.macs(call, k, macsIn{name: "cmac", version: in.Version, input: in.Input, batch: in.Batch}, func(v *keyring.Version, input []byte, it *item) ([]byte, error) {
		n := in.Length
		if it.macLength != 0 {
			n = it.macLength
		}
		if in.URLLength != 0 {
			n = in.URLLength
		}
		return v.CMAC(input, n)
	})
}

// macsIn is what hmac and cmac have in common; name is that of the result.
type macsIn struct {
	name    string
	version int
	input   *string
	batch   json.RawMessage
}

func (e *Engine) macs(call *engine.Call, k *keyring.Key, in macsIn, mac func(v *keyring.Version, input []byte, it *item) ([]byte, error)) (*engine.Response, error) {
	batch := given(in.batch)
	items := []item{{hasInput: in.input != nil}}
	if in.input != nil {
		items[0].input = []byte(*in.input)
	}
	var err error
	if batch {
		if items, err = parseBatch(in.batch); err != nil {
			return nil, err
		}
	}
	what := strings.ToUpper(in.name)
	n, err := k.ToUse(in.version, what)
	if err != nil {
		return nil, err
	}
	w := &worker{e: e, call: call, key: k}
	v, err := w.version(n)
	if err != nil {
		return nil, err
	}
	r := newResults(batch, 128*len(items))
	for i := range items {
		it := &items[i]
		sum, err := func() ([]byte, error) {
			if !it.hasInput {
				return nil, errs.New(errs.Invalid, "missing input for %s", what)
			}
			input, err := decode64(it.input)
			if err != nil {
				return nil, err
			}
			return mac(v, input, it)
		}()
		switch {
		case err == nil:
			r.open()
			r.name(in.name)
			r.out = append(base64.StdEncoding.AppendEncode(appendPrefix(append(r.out, '"'), n), sum), '"')
			r.close(it, false)
		case !batch || !shown(err):
			return nil, err
		default:
			r.fail(it, err, nil)
		}
	}
	return r.response(), nil
}
