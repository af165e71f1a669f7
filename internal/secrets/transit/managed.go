package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"sync"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// Keys of type managed_key have their private parts with a service outside, of which
// the namespace knows by sys/managed-keys. A version keeps the public part, and the name
// by which the service knows this very key for ever: what is encrypted or verified is
// done here, what is decrypted or signed is asked there, outside of the transaction, and
// what is signed is verified before anybody gets it.

var (
	errManaged      = errs.New(errs.Invalid, "managed_key_name and managed_key_id are for keys of type managed_key")
	errManagedNone  = errs.New(errs.Invalid, "either managed_key_name or managed_key_id must be specified for keys of type managed_key")
	errManagedOut   = errs.New(errs.Invalid, "keys of type managed_key can neither be exported nor backed up: their service keeps them")
	errManagedTurns = errs.New(errs.Invalid, "Auto rotation can not be set for managed keys")
	errManagedMAC   = errs.New(errs.Invalid, "keys of type managed_key make no MACs")
	errMeanwhile    = errs.New(errs.Conflict, "the key was changed by another request meanwhile: try again")
)

// createManaged is create for keys of type managed_key.
func (e *Engine) createManaged(call *engine.Call, in *createIn) (*engine.Response, error) {
	k := keyring.Key{Name: in.Name, Spec: keyring.Spec{Type: keyring.Managed}, Derived: in.Derived, Convergent: in.Convergent}
	switch {
	case in.Managed == "" && in.ManagedID == "":
		return nil, errManagedNone
	case in.Exportable || in.Backup:
		return nil, errManagedOut
	case in.AutoRotate != 0:
		return nil, errManagedTurns
	case in.Derived || in.Convergent:
		_, err := e.ring.Create(call.Tx, k, nil, call.Now) // refuses it
		return nil, failed(err)
	}
	if err := keyring.CheckName(in.Name); err != nil {
		return nil, err
	}
	got, err := e.ring.Get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		var m *keyring.Material
		if m, err = e.managedMaterial(call, in.Managed, in.ManagedID); err != nil {
			return nil, err
		}
		got, err = e.ring.Create(call.Tx, k, m, call.Now)
	}
	if err != nil {
		return nil, err
	}
	return e.show(call, got, nil, shownInWrites)
}

// rotateManaged makes a version of another managed key, or of what has become of the same.
func (e *Engine) rotateManaged(call *engine.Call, k *keyring.Key, in *rotateIn) (*engine.Response, error) {
	if in.Managed == "" && in.ManagedID == "" {
		return nil, errManagedNone
	}
	m, err := e.managedMaterial(call, in.Managed, in.ManagedID)
	if err != nil {
		return nil, err
	}
	if k, err = e.ring.Rotate(call.Tx, k, m, call.Now); err != nil {
		return nil, err
	}
	return e.show(call, k, nil, shownInWrites)
}

// found is a managed key as its service showed it.
type found struct {
	id  string
	key *engine.KMSKey
}

// managedMaterial asks for the public part of a managed key, which is made where it is
// not there and may be.
func (e *Engine) managedMaterial(call *engine.Call, name, id string) (*keyring.Material, error) {
	m, err := managedKey(call, name, id)
	if err != nil {
		return nil, err
	}
	f, asked := call.Asked.(found)
	switch {
	case !asked:
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			k, err := m.KMS.Public(ctx)
			return found{m.ID, k}, err
		})
	case f.id != m.ID:
		return nil, errMeanwhile
	}
	return keyring.ManagedMaterial(f.key.Key, keyring.Outside{ID: m.ID, Ref: f.key.Ref, OAEP: f.key.OAEP})
}

func managedKey(call *engine.Call, name, id string) (*engine.ManagedKey, error) {
	if call.Managed == nil {
		return nil, errs.New(errs.Invalid, "managed keys cannot be used here")
	}
	return call.Managed.ManagedKey(name, id)
}

// outside finds the managed key behind a version, for a use.
func (w *worker) outside(v *keyring.Version, use string) (*engine.ManagedKey, error) {
	where := v.Material().Outside
	if where == nil {
		return nil, errs.New(errs.Internal, "a version of a managed_key without one")
	}
	if w.managed == nil || w.managed.ID != where.ID {
		m, err := managedKey(w.call, "", where.ID)
		if err != nil {
			return nil, err
		}
		w.managed = m
	}
	return w.managed, w.managed.Allows(use)
}

// A job is what a service is asked for an item; without do nobody is asked.
type job struct {
	of keyring.Outside
	do func(ctx context.Context) ([]byte, error)
}

// An answer is what came of a job.
type answer struct {
	of  keyring.Outside
	out []byte
	err error
}

// Bounds of a batch of which a service is asked.
const (
	maxAsking = 8    // items at once
	maxAsked  = 4096 // items; all answers are kept until the last has come
)

// askable refuses a batch of more items than a service is asked about.
func askable(items []item) error {
	if len(items) > maxAsked {
		return errs.New(errs.Invalid, "batch_input has %d items; with keys of type managed_key, whose service is asked for each, there may be %d: send several requests", len(items), maxAsked)
	}
	return nil
}

// ask has jobs done outside of the transaction: with the first run of the handler it
// returns the question, with the second the answers. An error that is not an item's own
// ends the request.
func (e *Engine) ask(call *engine.Call, jobs []job) ([]answer, error) {
	if got, asked := call.Asked.([]answer); asked {
		if len(got) != len(jobs) {
			return nil, errMeanwhile
		}
		for i := range jobs {
			if jobs[i].do != nil && jobs[i].of != got[i].of {
				return nil, errMeanwhile
			}
		}
		return got, nil
	}
	out := make([]answer, len(jobs))
	some := false
	for i := range jobs {
		out[i].of = jobs[i].of
		some = some || jobs[i].do != nil
	}
	if !some {
		return out, nil
	}
	return nil, engine.Ask(func(ctx context.Context) (any, error) { return out, doAll(ctx, jobs, out) })
}

// doAll does jobs, some at once, until one fails by no fault of its item.
func doAll(ctx context.Context, jobs []job, out []answer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	turns := make(chan struct{}, maxAsking)
	for i := range jobs {
		if jobs[i].do == nil {
			continue
		}
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-turns }()
			out[i].out, out[i].err = jobs[i].do(ctx)
			if out[i].err != nil && !shown(out[i].err) {
				cancel(out[i].err)
			}
		})
	}
	work.Wait()
	if ctx.Err() == nil {
		return nil
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return gone(ctx)
}

// within brings h to what the managed key can do: where it signs in one way only, that
// is meant unless another is named, which is refused.
func (h how) within(m *engine.ManagedKey) (how, error) {
	hash, padding := m.KMS.Scheme()
	switch {
	case hash == 0:
	case !h.hashNamed:
		h.Hash = hash
	case h.Hash != hash:
		return h, errs.New(errs.Invalid, "the managed key %q signs hashes of %s only: that is the hash_algorithm to give", m.Name, hash)
	}
	switch {
	case padding == "":
	case h.Padding == "":
		h.Padding = padding
	case h.Padding != padding:
		return h, errs.New(errs.Invalid, "the managed key %q signs with signature_algorithm %s only", m.Name, padding)
	}
	return h, nil
}

// signOutside is what sign does with a managed_key.
func (w *worker) signOutside(r *results, batch bool, items []item, v *keyring.Version, h how) error {
	if err := askable(items); err != nil {
		return err
	}
	m, err := w.outside(v, engine.UseSign)
	if err != nil {
		return err
	}
	if h, err = h.within(m); err != nil {
		return err
	}
	jobs, bad, digests := make([]job, len(items)), make([]error, len(items)), make([][]byte, len(items))
	for i := range items {
		var opts crypto.SignerOpts
		if digests[i], opts, bad[i] = toSign(&items[i], v, h); bad[i] == nil {
			where := *v.Material().Outside
			jobs[i] = job{where, func(ctx context.Context) ([]byte, error) {
				sig, err := m.KMS.Sign(ctx, where.Ref, digests[i], opts)
				if err == nil { // who lies is asked for no more; what is answered is verified again below, as the key may have changed meanwhile
					_, err = v.Signed(digests[i], sig, h.SignOptions)
				}
				return sig, err
			}}
		}
	}
	got, err := w.e.ask(w.call, jobs)
	if err != nil {
		return err
	}
	for i := range items {
		err, sig := bad[i], got[i].out
		if err == nil {
			err = got[i].err
		}
		if err == nil {
			sig, err = v.Signed(digests[i], sig, h.SignOptions)
		}
		switch {
		case err == nil:
			r.signature(&items[i], v.Number, sig, nil, h)
		case batch && shown(err):
			r.fail(&items[i], err, func() { r.version(0) })
		default:
			return err
		}
	}
	return nil
}

func toSign(it *item, v *keyring.Version, h how) (digest []byte, opts crypto.SignerOpts, err error) {
	input, h, err := it.toSign(h)
	if err != nil {
		return nil, nil, err
	}
	return v.ToSign(input, h.SignOptions)
}

// openOutside decrypts the items of a managed_key: an error for each that fails.
func (w *worker) openOutside(items []item) (plain [][]byte, bad []error, err error) {
	if err := askable(items); err != nil {
		return nil, nil, err
	}
	jobs, bad := make([]job, len(items)), make([]error, len(items))
	for i := range items {
		if jobs[i], err = w.toOpen(&items[i]); err != nil && !shown(err) {
			return nil, nil, err
		}
		bad[i] = err
	}
	got, err := w.e.ask(w.call, jobs)
	if err != nil {
		return nil, nil, err
	}
	plain = make([][]byte, len(items))
	for i := range items {
		if bad[i] == nil {
			plain[i], bad[i] = got[i].out, got[i].err
		}
	}
	return plain, bad, nil
}

func (w *worker) toOpen(it *item) (job, error) {
	o, err := w.options(it)
	if err != nil {
		return job{}, err
	}
	if len(o.AAD) > 0 {
		return job{}, errs.New(errs.Invalid, "associated data provided for non-AEAD cipher suite %s", w.key.Type)
	}
	number, text, err := w.sealedWith(it)
	if err != nil {
		return job{}, err
	}
	v, err := w.version(number)
	if err != nil {
		return job{}, err
	}
	if err := v.CheckOAEP(o.Padding); err != nil {
		return job{}, err
	}
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(raw, text)
	if err != nil {
		return job{}, errCiphertext64
	}
	m, err := w.outside(v, engine.UseDecrypt)
	if err != nil {
		return job{}, err
	}
	if key, ok := v.PublicKey().(*rsa.PublicKey); ok && n != key.Size() {
		return job{}, errs.New(errs.Invalid, "failed to RSA decrypt the ciphertext: it has %d bytes, not %d", n, key.Size())
	}
	where := *v.Material().Outside
	return job{where, func(ctx context.Context) ([]byte, error) { return m.KMS.Decrypt(ctx, where.Ref, raw[:n]) }}, nil
}

// A signer is a managed key as x509 signs with it.
type signer struct {
	ctx    context.Context //nolint:containedctx // crypto.Signer has none; the signer lives as long as one question
	kms    engine.KMS
	ref    string
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.kms.Sign(s.ctx, s.ref, digest, opts)
}

// csrOutside has a certificate request signed by a managed key.
func (w *worker) csrOutside(v *keyring.Version, template *x509.CertificateRequest) ([]byte, error) {
	m, err := w.outside(v, engine.UseSign)
	if err != nil {
		return nil, err
	}
	hash, padding := m.KMS.Scheme()
	if _, isRSA := v.PublicKey().(*rsa.PublicKey); isRSA {
		template.SignatureAlgorithm = rsaAlgorithm(hash, padding == "pss")
	}
	where := *v.Material().Outside
	got, err := w.e.ask(w.call, []job{{where, func(ctx context.Context) ([]byte, error) {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, &signer{ctx, m.KMS, where.Ref, v.PublicKey()})
		var k *errs.Error
		if err != nil && !errors.As(err, &k) {
			err = errs.New(errs.Invalid, "could not create certificate request: %w", err)
		}
		return der, err
	}}})
	if err != nil {
		return nil, err
	}
	if got[0].err != nil {
		return nil, got[0].err
	}
	made, err := x509.ParseCertificateRequest(got[0].out)
	if err != nil || made.CheckSignature() != nil || !bytes.Equal(made.RawSubjectPublicKeyInfo, v.Material().Public) {
		return nil, errs.New(errs.Failed, "what the service signed is no signature by version %d of the key: the managed key has become another one, or the service lies", v.Number)
	}
	return got[0].out, nil
}

func rsaAlgorithm(hash crypto.Hash, pss bool) x509.SignatureAlgorithm {
	switch {
	case hash == crypto.SHA512 && pss:
		return x509.SHA512WithRSAPSS
	case hash == crypto.SHA512:
		return x509.SHA512WithRSA
	case pss:
		return x509.SHA256WithRSAPSS
	}
	return x509.SHA256WithRSA
}
