package kms

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/store/aws"
	"arca/internal/kes/store/rest"
	"arca/internal/managed"
)

const amazonName = "AWS KMS"

// amazon is a key of AWS KMS, by its JSON protocol
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html).
type amazon struct {
	client   *rest.Client
	key      string
	spec     spec
	decrypts bool
	generate bool
	name     string
}

func (s *Services) checkAWS(k *managed.Key, own bool) error {
	p := k.Params
	if p["region"] == "" {
		if p["region"] = s.getenv("AWS_REGION", "AWS_DEFAULT_REGION"); p["region"] == "" {
			p["region"] = "us-east-1"
		}
	}
	p["key_type"] = strings.ToUpper(p["key_type"])
	if p["key_type"] == "" {
		return missing("key_type")
	}
	if _, err := amazonSpec(p); err != nil {
		return err
	}
	if err := oneUse(k, amazonName); err != nil {
		return err
	}
	if _, err := rest.Base(amazonEndpoint(p), "endpoint"); err != nil {
		return err
	}
	switch id, secret := p["access_key"], p["secret_key"]; {
	case p["key_type"] == "ECDSA" && decrypts(k):
		return errs.New(errs.Invalid, "keys of ECDSA do not decrypt: usages are sign,verify")
	case p["kms_key"] == "":
		return missing("kms_key")
	case k.AllowGenerate && !strings.HasPrefix(p["kms_key"], "alias/"):
		return errs.New(errs.Invalid, "kms_key must be an alias (alias/...) where allow_generate_key is true: a key that is generated gets this name")
	case (id == "") != (secret == ""):
		return errs.New(errs.Invalid, "access_key and secret_key are given together, or neither")
	case own && id == "":
		return errs.New(errs.Invalid, "access_key and secret_key are needed outside of the root namespace, where the server's own credentials are not used")
	}
	return nil
}

func amazonSpec(p map[string]string) (spec, error) {
	switch p["key_type"] {
	case "RSA":
		bits, err := parseBits(p["key_bits"])
		return spec{bits: bits}, err
	case "ECDSA":
		curve, err := parseCurve(p["curve"])
		return spec{curve: curve}, err
	}
	return spec{}, errs.New(errs.Invalid, "key_type %q is neither RSA nor ECDSA", p["key_type"])
}

func amazonEndpoint(p map[string]string) string {
	if p["endpoint"] != "" {
		return p["endpoint"]
	}
	endpoint := "https://kms." + p["region"] + ".amazonaws.com"
	if strings.HasPrefix(p["region"], "cn-") {
		endpoint += ".cn"
	}
	return endpoint
}

func (s *Services) openAWS(k *managed.Key) (engine.KMS, error) {
	p := k.Params
	sp, err := amazonSpec(p)
	if err != nil {
		return nil, err
	}
	base, err := rest.Base(amazonEndpoint(p), "endpoint")
	if err != nil {
		return nil, err
	}
	a := &amazon{key: p["kms_key"], spec: sp, decrypts: decrypts(k), generate: k.AllowGenerate, name: k.Name}
	a.client, err = aws.NewClient(aws.Config{Endpoint: base, Region: p["region"], AccessKey: p["access_key"], SecretKey: p["secret_key"]}, "kms")
	return a, err
}

func (a *amazon) do(ctx context.Context, action string, in, out any) error {
	return a.ask(ctx, action, in, out, maxAnswer)
}

func (a *amazon) ask(ctx context.Context, action string, in, out any, most int64) error {
	return a.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/", In: in, Out: out, Max: most, Header: http.Header{"X-Amz-Target": {"TrentService." + action}},
	})
}

// refused reports whether the service answered with one of its codes.
func refused(err error, code string) bool {
	var said *rest.StatusError
	return errors.As(err, &said) && strings.HasSuffix(said.Kind, code)
}

type amazonKey struct {
	KeyID string `json:"KeyId"`
}

// Public implements engine.KMS.
func (a *amazon) Public(ctx context.Context) (*engine.KMSKey, error) {
	k, err := a.find(ctx, a.key)
	if !refused(err, "NotFoundException") || !a.generate {
		return k, err
	}
	id, err := a.make(ctx)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ { // not all of the service knows a new key at once
		k, err = a.find(ctx, id)
		young := refused(err, "NotFoundException") || refused(err, "KMSInvalidStateException")
		if !young || try >= 5 || !wait(ctx, try) {
			return k, err
		}
	}
}

func (a *amazon) find(ctx context.Context, id string) (*engine.KMSKey, error) {
	var out struct {
		KeyID     string `json:"KeyId"`
		PublicKey []byte
		KeyUsage  string
	}
	if err := a.do(ctx, "GetPublicKey", amazonKey{id}, &out); err != nil {
		return nil, err
	}
	if out.KeyUsage != a.usage() {
		return nil, errs.New(errs.Invalid, "the usage of the service's key is %s, the managed key's usages need %q",
			word(out.KeyUsage, "SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"), a.usage())
	}
	if out.KeyID == "" {
		return nil, errs.New(errs.Unavailable, "the service answered without the id of the key")
	}
	key, err := parsePublic(out.PublicKey)
	if err != nil {
		return nil, err
	}
	return public(key, a.spec, out.KeyID)
}

func (a *amazon) usage() string {
	if a.decrypts {
		return "ENCRYPT_DECRYPT"
	}
	return "SIGN_VERIFY"
}

// make makes a key and gives it the alias. When another node has been quicker, that
// one's key counts.
func (a *amazon) make(ctx context.Context) (id string, err error) {
	in := struct {
		Description, KeySpec, KeyUsage string
	}{"managed key " + a.name, "", a.usage()}
	switch a.spec {
	case spec{bits: 2048}:
		in.KeySpec = "RSA_2048"
	case spec{bits: 3072}:
		in.KeySpec = "RSA_3072"
	case spec{bits: 4096}:
		in.KeySpec = "RSA_4096"
	default:
		in.KeySpec = "ECC_NIST_" + strings.ReplaceAll(a.spec.curve, "-", "")
	}
	var out struct{ KeyMetadata amazonKey }
	client := *a.client
	client.Retries = 0 // an answer that is lost has made a key, or given it its name
	once := &amazon{client: &client}
	if err := once.do(ctx, "CreateKey", in, &out); err != nil {
		return "", err
	}
	id = out.KeyMetadata.KeyID
	if id == "" {
		return "", errs.New(errs.Unavailable, "the service answered without the id of the key that it made")
	}
	if len(id) > maxRef {
		return "", errRef
	}
	err = once.do(ctx, "CreateAlias", map[string]string{"AliasName": a.key, "TargetKeyId": id}, nil)
	if err == nil {
		return id, nil
	}
	var said *rest.StatusError
	if !errors.As(err, &said) || passing(said) { // it may have got the name all the same
		return "", errs.New(errs.Unavailable, "the service made the key %s; whether that got the name %s is not known", id, a.key)
	}
	// Nobody would find the key again: it goes, and costs nothing any more.
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout/4)
	defer cancel()
	gone := a.do(again, "ScheduleKeyDeletion", map[string]any{"KeyId": id, "PendingWindowInDays": 7}, nil)
	if refused(err, "AlreadyExistsException") {
		return a.key, nil
	}
	if gone != nil {
		return "", errs.New(errs.Unavailable, "the service made the key %s but did not give it the name %s, and it could not be deleted: delete it by hand: %w", id, a.key, err)
	}
	return "", err
}

// Sign implements engine.KMS.
func (a *amazon) Sign(ctx context.Context, ref string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	n, err := sha2(opts.HashFunc(), amazonName)
	if err == nil && a.spec.hash() != 0 && opts.HashFunc() != a.spec.hash() {
		err = errs.New(errs.Invalid, "a key over %s signs hashes of %s only at %s", a.spec.curve, a.spec.hash(), amazonName)
	}
	if err != nil {
		return nil, err
	}
	algorithm := "ECDSA_SHA_" + n
	switch {
	case a.spec.bits > 0 && isPSS(opts):
		algorithm = "RSASSA_PSS_SHA_" + n
	case a.spec.bits > 0:
		algorithm = "RSASSA_PKCS1_V1_5_SHA_" + n
	}
	in := struct {
		KeyID            string `json:"KeyId"`
		Message          []byte
		MessageType      string
		SigningAlgorithm string
	}{ref, digest, "DIGEST", algorithm}
	var out struct{ Signature []byte }
	err = a.ask(ctx, "Sign", in, &out, maxValue)
	return out.Signature, err
}

// Decrypt implements engine.KMS.
func (a *amazon) Decrypt(ctx context.Context, ref string, ciphertext []byte) ([]byte, error) {
	in := struct {
		KeyID               string `json:"KeyId"`
		CiphertextBlob      []byte
		EncryptionAlgorithm string
	}{ref, ciphertext, "RSAES_OAEP_SHA_256"}
	var out struct{ Plaintext []byte }
	err := a.ask(ctx, "Decrypt", in, &out, maxValue)
	return out.Plaintext, err
}

// Scheme implements engine.KMS.
func (a *amazon) Scheme() (crypto.Hash, string) { return a.spec.hash(), "" }
