//go:build pkcs11 && cgo

package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"

	"github.com/miekg/pkcs11"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/managed"
	"arca/internal/server/hsm"
)

// onToken is a key pair on a PKCS#11 token. What it does is its mechanism's.
type onToken struct {
	module    *hsm.Module
	login     hsm.Login
	label     string
	id        []byte
	mechanism uint
	oaep      crypto.Hash
	spec      spec // the zero spec is any
	generate  bool
}

// tokenKind says what a mechanism is for.
func tokenKind(mechanism uint) (isRSA, decrypts bool, err error) {
	switch mechanism {
	case pkcs11.CKM_ECDSA:
		return false, false, nil
	case pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_PSS:
		return true, false, nil
	case pkcs11.CKM_RSA_PKCS_OAEP:
		return true, true, nil
	}
	return false, false, errs.New(errs.Invalid, "mechanism is none of 0x1041 (ECDSA), 0x000D (RSA-PSS), 0x0001 (RSA PKCS#1 v1.5) and 0x0009 (RSA-OAEP)")
}

func (s *Services) checkPKCS11(k *managed.Key, own bool) error {
	p := k.Params
	switch {
	case own: // ten wrong PINs would lock the operator's token
		return errs.New(errs.Invalid, "managed keys of type %s are for the root namespace only", managed.PKCS11)
	case p["library"] == "":
		return missing("library")
	case s.cfg.Libraries[strings.ToLower(p["library"])] == "":
		return errs.New(errs.Invalid, "this server's configuration has no kms_library of the name %q", p["library"])
	case p["pin"] == "":
		return missing("pin")
	case p["slot"] == "" && p["token_label"] == "":
		return missing("slot or token_label")
	case p["key_label"] == "" && p["key_id"] == "":
		return missing("key_label or key_id")
	case p["mechanism"] == "":
		return missing("mechanism")
	case k.AllowGenerate && p["key_label"] == "":
		return errs.New(errs.Invalid, "key_label is needed where allow_generate_key is true: a key that is generated gets it")
	}
	if err := normalise(p); err != nil {
		return err
	}
	t, err := s.token(k)
	if err != nil {
		return err
	}
	_, opens, _ := tokenKind(t.mechanism) // was checked
	if signs(k) == opens || decrypts(k) != opens {
		return errs.New(errs.Invalid, "the usages do not fit the mechanism: they are encrypt,decrypt of 0x0009 (RSA-OAEP), sign,verify of the others")
	}
	if k.AllowGenerate && t.spec == (spec{}) {
		return errs.New(errs.Invalid, "key_bits, or curve of ECDSA, is needed where allow_generate_key is true")
	}
	return nil
}

// normalise brings numbers and truths into the form in which they are kept.
func normalise(p map[string]string) error {
	if p["max_parallel"] == "" {
		p["max_parallel"] = "1"
	}
	for name, most := range map[string]int{"mechanism": 32, "slot": 63, "max_parallel": 31} {
		if p[name] == "" {
			continue
		}
		n, err := strconv.ParseUint(p[name], 0, most)
		if err != nil {
			return errs.New(errs.Invalid, "%s %q is no number", name, p[name])
		}
		p[name] = strconv.FormatUint(n, 10)
	}
	if text := p["force_rw_session"]; text != "" {
		yes, err := strconv.ParseBool(text)
		if err != nil {
			return errs.New(errs.Invalid, "force_rw_session %q is neither true nor false", text)
		}
		p["force_rw_session"] = strconv.FormatBool(yes)
	}
	return nil
}

func (s *Services) openPKCS11(k *managed.Key) (engine.KMS, error) { return s.token(k) }

func (s *Services) token(k *managed.Key) (*onToken, error) {
	p := k.Params
	path := s.cfg.Libraries[strings.ToLower(p["library"])]
	if path == "" {
		return nil, errs.New(errs.Invalid, "this server's configuration has no kms_library of the name %q", p["library"])
	}
	n, err := strconv.ParseUint(p["mechanism"], 0, 32)
	if err != nil {
		return nil, errs.New(errs.Invalid, "mechanism %q is no number", p["mechanism"])
	}
	t := &onToken{
		module: s.cfg.Modules.Get(path), login: hsm.Login{Slot: p["slot"], Token: p["token_label"], PIN: p["pin"]}, label: p["key_label"],
		id: []byte(p["key_id"]), mechanism: uint(n), generate: k.AllowGenerate,
	}
	if text, ok := strings.CutPrefix(p["key_id"], "0x"); ok {
		if t.id, err = hex.DecodeString(text); err != nil {
			return nil, errs.New(errs.Invalid, "key_id begins with 0x, but is not hexadecimal")
		}
	}
	switch strings.ToLower(p["rsa_oaep_hash"]) {
	case "", "sha256":
		t.oaep = crypto.SHA256
	case "sha1":
		t.oaep = crypto.SHA1
	default:
		return nil, errs.New(errs.Invalid, "rsa_oaep_hash %q is neither sha256 nor sha1", p["rsa_oaep_hash"])
	}
	isRSA, _, err := tokenKind(t.mechanism)
	switch {
	case err != nil:
	case isRSA && p["key_bits"] != "" && p["key_bits"] != "0":
		t.spec.bits, err = parseBits(p["key_bits"])
	case !isRSA && p["curve"] != "":
		t.spec.curve, err = parseCurve(p["curve"])
	}
	return t, err
}

func (t *onToken) name() []*pkcs11.Attribute {
	var out []*pkcs11.Attribute
	if t.label != "" {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.label))
	}
	if len(t.id) > 0 {
		out = append(out, pkcs11.NewAttribute(pkcs11.CKA_ID, t.id))
	}
	return out
}

// work runs fn with a session; what the token refuses is the request's fault.
func (t *onToken) work(ctx context.Context, fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	err := t.module.Work(ctx, t.login, fn)
	if hsm.IsRefusal(err) {
		return errs.New(errs.Invalid, "the token refuses: %s", err.Error())
	}
	return err
}

// Public implements engine.KMS.
func (t *onToken) Public(ctx context.Context) (*engine.KMSKey, error) {
	var k *engine.KMSKey
	err := t.work(ctx, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		private, err := hsm.Search(c, s, pkcs11.CKO_PRIVATE_KEY, t.name())
		if err != nil {
			return err
		}
		if private == 0 {
			if !t.generate {
				return errs.New(errs.Invalid, "the token has no private key of this label and id")
			}
			if private, err = t.make(c, s); err != nil {
				return err
			}
		}
		key, err := t.read(c, s, private)
		if err != nil {
			return err
		}
		if k, err = public(key, t.spec, ""); err == nil {
			k.OAEP = t.oaep
		}
		return err
	})
	if err != nil {
		return nil, err // the library may still be at it: k is its
	}
	return k, nil
}

// read reads the public part: of the public key beside the private one or, of RSA, of
// that itself.
func (t *onToken) read(c *pkcs11.Ctx, s pkcs11.SessionHandle, private pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	from, err := hsm.Search(c, s, pkcs11.CKO_PUBLIC_KEY, t.name())
	if err != nil {
		return nil, err
	}
	if t.mechanism == pkcs11.CKM_ECDSA {
		if from == 0 {
			return nil, errs.New(errs.Invalid, "the token has no public key beside the private one")
		}
		a, err := c.GetAttributeValue(s, from, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
		if err != nil {
			return nil, err
		}
		return parsePoint(a[0].Value, a[1].Value)
	}
	if from == 0 {
		from = private
	}
	a, err := c.GetAttributeValue(s, from, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil)})
	if err != nil {
		return nil, err
	}
	if len(a[0].Value) > maxModulusBits/8+1 || len(a[1].Value) > 4 {
		return nil, errs.New(errs.Invalid, "the token's key is an RSA key of a size that is not supported")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: int(new(big.Int).SetBytes(a[1].Value).Int64())}, nil
}

// Names of curves (RFC 5480).
func curveOIDs() map[string]asn1.ObjectIdentifier {
	return map[string]asn1.ObjectIdentifier{"P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35}}
}

// parsePoint reads a public key of ECDSA: the curve's name and the point, as an octet
// string, which some tokens leave out.
func parsePoint(params, point []byte) (crypto.PublicKey, error) {
	bad := errs.New(errs.Invalid, "the token's key is neither of RSA nor of ECDSA over P-256, P-384 or P-521")
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil, bad
	}
	var raw []byte
	if rest, err := asn1.Unmarshal(point, &raw); err != nil || len(rest) > 0 {
		raw = point
	}
	for name, c := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		if oid.Equal(curveOIDs()[name]) {
			k, err := ecdsa.ParseUncompressedPublicKey(c, raw)
			if err != nil {
				return nil, bad
			}
			return k, nil
		}
	}
	return nil, bad
}

// make makes a key pair that stays on the token.
func (t *onToken) make(c *pkcs11.Ctx, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	id := t.id
	if len(id) == 0 {
		id = make([]byte, 16)
		_, _ = rand.Read(id) // never fails (crypto/rand, since Go 1.24)
	}
	both := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.label), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	}
	open := append([]*pkcs11.Attribute{}, both...)
	secret := append(both, pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))
	if t.mechanism == pkcs11.CKM_RSA_PKCS_OAEP {
		open = append(open, pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true))
		secret = append(secret, pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true))
	} else {
		open = append(open, pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true))
		secret = append(secret, pkcs11.NewAttribute(pkcs11.CKA_SIGN, true))
	}
	how := uint(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN)
	if t.mechanism == pkcs11.CKM_ECDSA {
		how = pkcs11.CKM_EC_KEY_PAIR_GEN
		params, err := asn1.Marshal(curveOIDs()[t.spec.curve])
		if err != nil {
			return 0, err
		}
		open = append(open, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params))
	} else {
		open = append(open, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, t.spec.bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	_, private, err := c.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(how, nil)}, open, secret)
	return private, err
}

// tokenHash is a hash as PKCS#11 names it, with the mask of it and its name in ASN.1.
func tokenHash(h crypto.Hash) (hash, mgf uint, oid asn1.ObjectIdentifier, err error) {
	switch h { //nolint:exhaustive // tokens know no others
	case crypto.SHA1:
		return pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, nil
	case crypto.SHA224:
		return pkcs11.CKM_SHA224, pkcs11.CKG_MGF1_SHA224, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, nil
	case crypto.SHA256:
		return pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, nil
	case crypto.SHA384:
		return pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, nil
	case crypto.SHA512:
		return pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, nil
	}
	return 0, 0, nil, errs.New(errs.Invalid, "tokens sign hashes of sha1 and sha2 only")
}

// digestInfo is what RSA signs by PKCS #1 v1.5 (RFC 8017, section 9.2); without a hash it
// is the data as they are.
func digestInfo(h crypto.Hash, digest []byte) ([]byte, error) {
	if h == 0 {
		return digest, nil
	}
	_, _, oid, err := tokenHash(h)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}, digest})
}

// Sign implements engine.KMS.
func (t *onToken) Sign(ctx context.Context, _ string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	m := pkcs11.NewMechanism(t.mechanism, nil)
	data := digest
	var err error
	switch {
	case t.mechanism == pkcs11.CKM_RSA_PKCS && !isPSS(opts):
		data, err = digestInfo(opts.HashFunc(), digest)
	case t.mechanism == pkcs11.CKM_RSA_PKCS_PSS && isPSS(opts):
		var hash, mgf uint
		hash, mgf, _, err = tokenHash(opts.HashFunc())
		m = pkcs11.NewMechanism(t.mechanism, pkcs11.NewPSSParams(hash, mgf, uint(len(digest))))
	case t.mechanism == pkcs11.CKM_ECDSA:
	default:
		err = errs.New(errs.Invalid, "the key's mechanism does not sign so")
	}
	if err != nil {
		return nil, err
	}
	var sig []byte
	err = t.work(ctx, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		key, err := t.private(c, s)
		if err != nil {
			return err
		}
		if err := c.SignInit(s, []*pkcs11.Mechanism{m}, key); err != nil {
			return err
		}
		sig, err = c.Sign(s, data)
		return err
	})
	switch {
	case err != nil:
		return nil, err // as above
	case t.mechanism != pkcs11.CKM_ECDSA:
		return sig, nil
	}
	half := len(sig) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
}

func (t *onToken) private(c *pkcs11.Ctx, s pkcs11.SessionHandle) (pkcs11.ObjectHandle, error) {
	key, err := hsm.Search(c, s, pkcs11.CKO_PRIVATE_KEY, t.name())
	if err == nil && key == 0 {
		err = errs.New(errs.Invalid, "the token has no private key of this label and id")
	}
	return key, err
}

// Decrypt implements engine.KMS.
func (t *onToken) Decrypt(ctx context.Context, _ string, ciphertext []byte) ([]byte, error) {
	hash, mgf, _, err := tokenHash(t.oaep)
	if err != nil {
		return nil, err
	}
	var plain []byte
	err = t.work(ctx, func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		key, err := t.private(c, s)
		if err != nil {
			return err
		}
		p := pkcs11.NewOAEPParams(hash, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil)
		if err := c.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, p)}, key); err != nil {
			return err
		}
		plain, err = c.Decrypt(s, ciphertext)
		return err
	})
	if err != nil {
		return nil, err // as above
	}
	return plain, nil
}

// Scheme implements engine.KMS.
func (t *onToken) Scheme() (crypto.Hash, string) {
	switch t.mechanism {
	case pkcs11.CKM_RSA_PKCS:
		return 0, "pkcs1v15"
	case pkcs11.CKM_RSA_PKCS_PSS:
		return 0, "pss"
	}
	return 0, ""
}
