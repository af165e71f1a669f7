// Package kms asks services outside to sign and to decrypt with keys that they keep
// and never give away: what is behind managed keys. There are AWS KMS, Azure Key Vault,
// Google's Cloud KMS, and PKCS#11 tokens where the program is built for them.
//
// Each is asked by its own HTTP API, with the clients that the key stores of KES have.
// What a service says is not believed where it can be checked: a public key must be of
// the kind that was configured, and whoever asks for a signature verifies it.
package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
	"arca/internal/managed"
	"arca/internal/server/hsm"
)

// Bounds of what is asked of a service.
const (
	askTimeout  = 20 * time.Second
	maxParallel = 64 // for one key; others wait

	maxAnswer    = 64 << 10 // bytes of an answer
	maxValue     = 16 << 10 // of one with a signature or a plaintext, of which a request may want thousands
	maxSignature = 1024     // bytes: what RSA makes with 8192 bits
	maxPlaintext = 1024
	maxRef       = 2048 // the longest id of a service: an ARN of AWS
)

// A Config says what the server has for its managed keys.
type Config struct {
	Getenv func(string) string // nil: nothing is set
	// Libraries are the PKCS#11 libraries of the kms_library stanzas, by their names in
	// lower case.
	Libraries map[string]string
	Modules   *hsm.Modules // the process's libraries; nil: there are no others than these
}

// Services implement managed.Services.
type Services struct{ cfg Config }

var _ managed.Services = (*Services)(nil)

// New makes the services.
func New(cfg Config) *Services {
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Modules == nil {
		cfg.Modules = &hsm.Modules{}
	}
	return &Services{cfg: cfg}
}

// Check implements managed.Services.
func (s *Services) Check(k *managed.Key, own bool) error {
	switch k.Type {
	case managed.AWS:
		return s.checkAWS(k, own)
	case managed.Azure:
		return s.checkAzure(k, own)
	case managed.Google:
		return s.checkGoogle(k, own)
	case managed.PKCS11:
		return s.checkPKCS11(k, own)
	}
	return errUnsupported(k.Type)
}

// Open implements managed.Services.
func (s *Services) Open(k *managed.Key) (engine.KMS, error) {
	var kms engine.KMS
	var err error
	switch k.Type {
	case managed.AWS:
		kms, err = s.openAWS(k)
	case managed.Azure:
		kms, err = s.openAzure(k)
	case managed.Google:
		kms, err = s.openGoogle(k)
	case managed.PKCS11:
		kms, err = s.openPKCS11(k)
	default:
		err = errUnsupported(k.Type)
	}
	if err != nil {
		return nil, err
	}
	return &guard{name: k.Name, kms: kms, busy: make(chan struct{}, maxParallel)}, nil
}

func errUnsupported(typ string) error {
	return errs.New(errs.Invalid, "unsupported managed key type: %q", typ)
}

// getenv is the first variable that is set.
func (s *Services) getenv(names ...string) string {
	for _, n := range names {
		if v := s.cfg.Getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// A guard bounds what is asked of a service, in time and number, and gives errors a kind.
type guard struct {
	name string
	kms  engine.KMS
	busy chan struct{}
}

// enter waits for its turn.
func (g *guard) enter(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	select {
	case g.busy <- struct{}{}:
		return ctx, func() { <-g.busy; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, errs.New(errs.Unavailable, "managed key %q: too many wait for its service already", g.name)
	}
}

// Public implements engine.KMS.
func (g *guard) Public(ctx context.Context) (*engine.KMSKey, error) {
	ctx, leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	k, err := g.kms.Public(ctx)
	if err == nil && len(k.Ref) > maxRef {
		err = errRef
	}
	if err != nil {
		return nil, g.tell(ctx, err)
	}
	return k, nil
}

// Sign implements engine.KMS.
func (g *guard) Sign(ctx context.Context, ref string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	sig, err := g.kms.Sign(ctx, ref, digest, opts)
	if err == nil && len(sig) == 0 {
		err = errs.New(errs.Unavailable, "the service answered without a signature")
	}
	if err == nil && len(sig) > maxSignature {
		err = errs.New(errs.Unavailable, "the service answered with what is too long for a signature")
	}
	if err != nil {
		return nil, g.tell(ctx, err)
	}
	return sig, nil
}

// Decrypt implements engine.KMS.
func (g *guard) Decrypt(ctx context.Context, ref string, ciphertext []byte) ([]byte, error) {
	ctx, leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	plain, err := g.kms.Decrypt(ctx, ref, ciphertext)
	if err == nil && len(plain) > maxPlaintext {
		err = errs.New(errs.Unavailable, "the service answered with what is too long for a plaintext")
	}
	if err != nil {
		return nil, g.tell(ctx, err)
	}
	return plain, nil
}

// Scheme implements engine.KMS.
func (g *guard) Scheme() (crypto.Hash, string) { return g.kms.Scheme() }

// A Refusal is what a service answered instead of what it was asked for. Its text has
// the service's code only: what it said beside that may be somebody else's secret, as an
// address may lead anywhere.
type Refusal struct {
	code   int
	kind   string
	detail string
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.kind == "" {
		return fmt.Sprintf("the service answers %d %s", r.code, http.StatusText(r.code))
	}
	return fmt.Sprintf("the service answers %d %s: %s", r.code, http.StatusText(r.code), r.kind)
}

// Detail is what the service said, shortened, for who may see it.
func (r *Refusal) Detail() string { return r.detail }

var errRef = errs.New(errs.Unavailable, "the service calls the key by an id of more than %d bytes", maxRef)

// plainWord is what the services' own codes look like.
var plainWord = regexp.MustCompile(`^[A-Z][A-Za-z0-9_]{0,79}$`)

// codeOf is the service's word for a failure where that is one of the codes of AWS KMS
// (https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html, and those of
// its operations) or of Google's services
// (https://cloud.google.com/apis/design/errors#handling_errors); else it is empty: an
// address that leads elsewhere would have its words shown to whoever set it.
func codeOf(kind string) string {
	switch kind = kind[strings.LastIndexByte(kind, '#')+1:]; kind {
	case "AccessDeniedException", "AlreadyExistsException", "CloudHsmClusterInvalidConfigurationException", "CustomKeyStoreInvalidStateException",
		"CustomKeyStoreNotFoundException", "DependencyTimeoutException", "DisabledException", "DryRunOperationException", "ExpiredTokenException",
		"IncompleteSignature", "IncompleteSignatureException", "IncorrectKeyException", "InternalFailure", "InvalidAliasNameException", "InvalidArnException",
		"InvalidCiphertextException", "InvalidClientTokenId", "InvalidGrantTokenException", "InvalidKeyUsageException", "InvalidSignatureException",
		"KMSInternalException", "KMSInvalidStateException", "KeyUnavailableException", "LimitExceededException", "MalformedPolicyDocumentException",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "NotFoundException", "OptInRequired", "RequestExpired",
		"SerializationException", "ServiceUnavailable", "TagException", "ThrottlingException", "UnknownOperationException", "UnrecognizedClientException",
		"UnsupportedOperationException", "ValidationError", "ValidationException", "XksKeyAlreadyInUseException", "XksKeyInvalidConfigurationException",
		"XksKeyNotFoundException",
		"ABORTED", "ALREADY_EXISTS", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND",
		"OUT_OF_RANGE", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN":
		return kind
	}
	return ""
}

// word shows a service's word where it is one of those that the service has.
func word(w string, known ...string) string {
	if slices.Contains(known, w) {
		return strconv.Quote(w)
	}
	return "another"
}

// passing are refusals that say nothing of the request: it may be sent again.
func passing(s *rest.StatusError) bool {
	return s.Code >= 500 || s.Code == http.StatusTooManyRequests || s.Code == http.StatusRequestTimeout ||
		strings.Contains(s.Kind, "Throttling") || strings.Contains(s.Kind, "LimitExceeded")
}

// tell gives an error its kind and says whose it is.
func (g *guard) tell(ctx context.Context, err error) error {
	var said *rest.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &said):
		r := &Refusal{code: said.Code, kind: codeOf(said.Kind), detail: said.Message}
		if r.kind == "" && plainWord.MatchString(said.Kind) { // who may see what it said may see this, too
			r.detail = strings.TrimSuffix(rest.Redact(said.Kind)+": "+r.detail, ": ")
		}
		if passing(said) {
			return errs.New(errs.Unavailable, "managed key %q: %w", g.name, r)
		}
		return errs.New(errs.Invalid, "managed key %q: %w", g.name, r)
	case ctx.Err() != nil:
		return errs.New(errs.Unavailable, "managed key %q: its service did not answer in time", g.name)
	case store.IsUnreachable(err):
		return errs.New(errs.Unavailable, "managed key %q: its service cannot be reached", g.name)
	case errs.KindOf(err) == errs.Internal:
		return errs.New(errs.Unavailable, "managed key %q: the service cannot be used: %s", g.name, rest.Redact(err.Error()))
	}
	return errs.New(errs.KindOf(err), "managed key %q: %w", g.name, err)
}

// spec is the kind of key that is configured: RSA of a size, or ECDSA over a curve.
type spec struct {
	bits  int
	curve string // P-256, P-384, P-521
}

func (s spec) String() string {
	if s.bits > 0 {
		return fmt.Sprintf("RSA of %d bits", s.bits)
	}
	return "ECDSA over " + s.curve
}

// hash is the one that belongs to a curve; 0 is any.
func (s spec) hash() crypto.Hash {
	switch s.curve {
	case "P-256":
		return crypto.SHA256
	case "P-384":
		return crypto.SHA384
	case "P-521":
		return crypto.SHA512
	}
	return 0
}

// parseBits reads key_bits.
func parseBits(text string) (int, error) {
	if text == "2048" || text == "3072" || text == "4096" {
		return strconv.Atoi(text)
	}
	return 0, errs.New(errs.Invalid, "key_bits %q is none of 2048, 3072, 4096", text)
}

// parseCurve reads curve.
func parseCurve(text string) (string, error) {
	switch c := strings.ToUpper(text); c {
	case "P256", "P384", "P521":
		return "P-" + c[1:], nil
	}
	return "", errs.New(errs.Invalid, "curve %q is none of P256, P384, P521", text)
}

const maxModulusBits = 8192

// specOf says what kind a public key is of; other kinds are refused.
func specOf(key crypto.PublicKey) (spec, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= maxModulusBits && k.E >= 3 && k.E&1 == 1 {
			return spec{bits: n}, nil
		}
		return spec{}, errs.New(errs.Invalid, "the service's key is an RSA key of a size that is not supported")
	case *ecdsa.PublicKey:
		if c := k.Params().Name; slices.Contains([]string{"P-256", "P-384", "P-521"}, c) {
			return spec{curve: c}, nil
		}
	}
	return spec{}, errs.New(errs.Invalid, "the service's key is neither of RSA nor of ECDSA over P-256, P-384 or P-521")
}

// public checks that a service's key is of the kind that is configured. The zero spec is any.
func public(key crypto.PublicKey, want spec, ref string) (*engine.KMSKey, error) {
	got, err := specOf(key)
	if err != nil {
		return nil, err
	}
	if want != (spec{}) && got != want {
		return nil, errs.New(errs.Invalid, "the service's key is %s, but the managed key is configured as %s", got, want)
	}
	return &engine.KMSKey{Key: key, Ref: ref}, nil
}

// parsePublic reads a public key, PKIX in DER.
func parsePublic(der []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the service answered with what is no public key")
	}
	return key, nil
}

// sha2 is the number in the names of hashes that all services know: 256, 384, 512.
func sha2(h crypto.Hash, service string) (string, error) {
	switch h { //nolint:exhaustive // the services know no others
	case crypto.SHA256:
		return "256", nil
	case crypto.SHA384:
		return "384", nil
	case crypto.SHA512:
		return "512", nil
	}
	return "", errs.New(errs.Invalid, "%s signs hashes of sha2-256, sha2-384 and sha2-512 only", service)
}

// isPSS reports whether a signature is to be padded by PSS.
func isPSS(opts crypto.SignerOpts) bool {
	_, ok := opts.(*rsa.PSSOptions)
	return ok
}

// signs and decrypts say what a key is for.
func signs(k *managed.Key) bool {
	return slices.Contains(k.Usages, engine.UseSign) || slices.Contains(k.Usages, engine.UseVerify)
}

func decrypts(k *managed.Key) bool {
	return slices.Contains(k.Usages, engine.UseDecrypt) || slices.Contains(k.Usages, engine.UseEncrypt)
}

// oneUse refuses usages of both kinds, where a service's keys have one.
func oneUse(k *managed.Key, service string) error {
	if signs(k) == decrypts(k) {
		return errs.New(errs.Invalid, "a key of %s either signs or decrypts: usages are sign,verify or encrypt,decrypt", service)
	}
	return nil
}

func missing(names ...string) error {
	return errs.New(errs.Invalid, "missing %s", strings.Join(names, " and "))
}

// wait waits for what a service makes in the background; it reports false when ctx ends first.
func wait(ctx context.Context, try int) bool {
	t := time.NewTimer(200 * time.Millisecond << min(try, 4))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
