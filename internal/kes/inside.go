package kes

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
	"arca/internal/param"
)

// Core serves requests: core.Core.
type Core interface {
	Handle(ctx context.Context, req *engine.Request) (*engine.Response, error)
	Sealed() bool
}

// Inside is the keys and policies of a mount of the type kes. Each call is one
// request of the hall, which the mount judges by the caller's certificate: keys,
// policies and what is written are of one transaction.
type Inside struct {
	Core      Core
	Namespace string // canonical: "" is the root, else "a/b/"
	Mount     string // with a slash at its end
	// Forward sends a request of the API to the active node of a cluster; nil when
	// there is no other node. An error of the kind NotActive says that nothing has
	// happened.
	Forward func(ctx context.Context, r *http.Request, body []byte) (*http.Response, error)
}

var (
	_ Keys    = Inside{}
	_ Access  = Inside{}
	_ Witness = Inside{}
)

// identityHeader tells audit devices, if they are told to record it, who asked.
const identityHeader = "X-Kes-Identity"

// ask makes one of the mount's calls, and decodes its answer into out, if there
// is one. fields are the body, also of a read.
func (i Inside) ask(ctx context.Context, by Caller, op engine.Operation, path string, fields map[string]any, out any) error {
	req := &engine.Request{
		ID: requestID(), Op: op, Namespace: i.Namespace, Path: i.Mount + path,
		Header: map[string][]string{identityHeader: {by.Identity}}, TLS: by.tls(),
		Door: true,
	}
	if by.HTTP != nil {
		req.Remote, _ = netip.ParseAddrPort(by.HTTP.RemoteAddr) // none of a test
	}
	var body []byte
	if fields != nil {
		var err error
		if body, err = json.Marshal(fields); err != nil {
			return err
		}
		defer clear(body)
		if req.Params, err = param.ParseObject(body); err != nil {
			return err
		}
	}
	res, err := i.Core.Handle(ctx, req)
	if errs.Is(err, errs.NotActive) && i.Forward != nil {
		err = i.elsewhere(ctx, by, req, body, out)
	} else if err == nil {
		by.onRecord()
		return decode(res, out)
	}
	if err == nil || !errs.Is(err, errs.Sealed) && !errs.Is(err, errs.NotActive) {
		by.onRecord()
	}
	return asKES(err)
}

// onRecord notes that the hall has seen the request, and its audit devices with it.
func (c Caller) onRecord() {
	if c.recorded != nil {
		*c.recorded = true
	}
}

// decode puts the mount's answer into out, if there is one.
func decode(res *engine.Response, out any) error {
	if out == nil {
		return nil
	}
	if res == nil {
		return errs.New(errs.Internal, "the mount answers nothing")
	}
	raw, err := res.Encode()
	if err != nil {
		return err
	}
	defer clear(raw)
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("decode the mount's answer: %w", err)
	}
	return nil
}

// asKES makes KES's of a refusal: the mount's own come with KES's words; others of
// the hall, such as that there is no such mount, are failures of the server.
func asKES(err error) error {
	switch errs.KindOf(err) {
	case errs.NotFound:
		if errors.Is(err, store.ErrNotFound) || err.Error() == ErrNoPolicy.Error() || err.Error() == ErrNoIdentity.Error() {
			return err
		}
		return errs.New(errs.Failed, "the mount for KES: %w", err)
	case errs.Denied: // what the hall says where there is no mount
		if errors.Is(err, policy.ErrDenied) {
			return err
		}
		return errs.New(errs.Failed, "the mount for KES: %w", err)
	case errs.Unsupported, errs.Failed:
		return errs.New(errs.Failed, "the mount for KES: %w", err)
	case errs.Sealed, errs.Unavailable, errs.NotActive:
		return &store.UnreachableError{Err: err}
	case errs.Internal, errs.Invalid, errs.Conflict, errs.TooLarge, errs.MediaType, errs.Limited, errs.Precondition:
	}
	return err
}

// tls is the connection with the certificate that counts.
func (c Caller) tls() *tls.ConnectionState {
	state := &tls.ConnectionState{}
	if c.HTTP != nil && c.HTTP.TLS != nil {
		*state = *c.HTTP.TLS
	}
	state.PeerCertificates = nil
	if c.Certificate != nil {
		state.PeerCertificates = []*x509.Certificate{c.Certificate}
	}
	return state
}

// requestID makes a random UUID (RFC 9562, version 4).
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Create implements Keys.
func (i Inside) Create(ctx context.Context, by Caller, name string, secret []byte, c key.Cipher) error {
	if secret == nil {
		return i.ask(ctx, by, engine.OpUpdate, "v1/key/create/"+name, nil, nil)
	}
	fields := map[string]any{"key": secret}
	if c != key.Unspecified {
		fields["cipher"] = c.String()
	}
	return i.ask(ctx, by, engine.OpUpdate, "v1/key/import/"+name, fields, nil)
}

// Describe implements Keys.
func (i Inside) Describe(ctx context.Context, by Caller, name string) (Description, error) {
	var out struct {
		ID        string    `json:"id"`
		Algorithm string    `json:"algorithm"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
	}
	err := i.ask(ctx, by, engine.OpRead, "v1/key/describe/"+name, nil, &out)
	c, _ := key.ParseCipher(out.Algorithm)
	return Description{c, out.ID, out.CreatedAt, out.CreatedBy}, err
}

// Delete implements Keys.
func (i Inside) Delete(ctx context.Context, by Caller, name string) error {
	return i.ask(ctx, by, engine.OpDelete, "v1/key/delete/"+name, nil, nil)
}

// List implements Keys. The mount's pages are as large as the door's.
func (i Inside) List(ctx context.Context, by Caller, _, _ string, _ int) ([]string, string, error) {
	return i.list(ctx, by)
}

// list asks for the path that the client has asked for, which the mount judges,
// too.
func (i Inside) list(ctx context.Context, by Caller) ([]string, string, error) {
	var out struct {
		Names []string `json:"names"`
		Next  string   `json:"next"`
	}
	err := i.ask(ctx, by, engine.OpRead, strings.TrimPrefix(by.Path, "/"), nil, &out)
	return out.Names, out.Next, err
}

// Encrypt implements Keys.
func (i Inside) Encrypt(ctx context.Context, by Caller, name string, plaintext, context []byte) ([]byte, error) {
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	if plaintext == nil {
		plaintext = []byte{}
	}
	call := "encrypt/"
	if strings.HasPrefix(by.Path, "/v1/key/generate/") {
		call = "generate/"
	}
	err := i.ask(ctx, by, engine.OpUpdate, "v1/key/"+call+name, map[string]any{"plaintext": plaintext, "context": context}, &out)
	return out.Ciphertext, err
}

// Decrypt implements Keys.
func (i Inside) Decrypt(ctx context.Context, by Caller, name string, sealed []Sealed) ([][]byte, error) {
	call := "decrypt/"
	if strings.HasPrefix(by.Path, "/v1/key/bulk/") {
		call = "bulk/decrypt/"
	}
	if sealed == nil {
		sealed = []Sealed{}
	}
	var out struct {
		Plaintexts [][]byte `json:"plaintexts"`
	}
	err := i.ask(ctx, by, engine.OpUpdate, "v1/key/"+call+name, map[string]any{"sealed": sealed}, &out)
	if err == nil && len(out.Plaintexts) != len(sealed) {
		err = errs.New(errs.Internal, "the mount answers %d plaintexts to %d ciphertexts", len(out.Plaintexts), len(sealed))
	}
	return out.Plaintexts, err
}

// HMAC implements Keys.
func (i Inside) HMAC(ctx context.Context, by Caller, name string, message []byte) ([]byte, error) {
	var out struct {
		HMAC []byte `json:"hmac"`
	}
	if message == nil {
		message = []byte{}
	}
	err := i.ask(ctx, by, engine.OpUpdate, "v1/key/hmac/"+name, map[string]any{"message": message}, &out)
	return out.HMAC, err
}

// Status implements Keys: the mount answers, after it has judged the caller. A node
// that is sealed judges nobody, and tells no more than that. Of a call that is free, the
// mount is told only.
func (i Inside) Status(ctx context.Context, by Caller) (time.Duration, error) {
	if i.Core.Sealed() {
		return 0, &store.UnreachableError{Err: errs.New(errs.Sealed, "arca is sealed")}
	}
	start := time.Now()
	var err error
	if by.Free {
		err = i.judge(ctx, by, 0, "", false)
	} else {
		err = i.ask(ctx, by, engine.OpRead, strings.TrimPrefix(by.Path, "/"), nil, nil)
	}
	return time.Since(start), err
}

// Authorize implements Access. Calls on keys, policies and identities are judged
// by the mount itself, within their transaction, and those for the status with it.
func (i Inside) Authorize(ctx context.Context, by Caller) error {
	switch {
	case by.Path == "/v1/ready", by.Path == "/v1/status":
		return nil
	case isOwn(by.Path):
		return i.known(ctx, by)
	}
	return i.ask(ctx, by, engine.OpRead, strings.TrimPrefix(by.Path, "/"), nil, nil)
}

func isOwn(path string) bool {
	for _, own := range []string{"/v1/key/", "/v1/policy/", "/v1/identity/"} {
		if strings.HasPrefix(path, own) {
			return true
		}
	}
	return false
}

// known keeps who may not make the call from sending large bodies, which are read
// before the mount judges.
func (i Inside) known(ctx context.Context, by Caller) error {
	if by.HTTP == nil || by.HTTP.ContentLength >= 0 && by.HTTP.ContentLength <= smallBody {
		return nil
	}
	by.recorded = nil // the call itself is still to come
	return i.judge(ctx, by, 0, "", true)
}

// judge asks whether the caller may make the call, and puts on record that it was
// refused for another reason, if there is one: code and text. Audit devices show the
// code, and hash the text.
func (i Inside) judge(ctx context.Context, by Caller, code int, refusal string, judged bool) error {
	fields := map[string]any{"judged": judged}
	if refusal != "" {
		fields["code"], fields["refusal"] = code, refusal
	}
	return i.ask(ctx, by, engine.OpRead, "v1/judge/"+strings.TrimPrefix(by.Path, "/"), fields, nil)
}

// Witness implements Witness.
func (i Inside) Witness(ctx context.Context, by Caller, refusal error, judge bool) error {
	code, text := 0, ""
	if refusal != nil {
		code, text = status(refusal)
	}
	err := i.judge(ctx, by, code, text, judge)
	if !judge || errs.Is(err, errs.Invalid) && err.Error() == text {
		return refusal
	}
	if err == nil {
		err = refusal // none but this was to be answered
	}
	return err
}

// Policy implements Access.
func (i Inside) Policy(ctx context.Context, by Caller, name string) (*policy.Policy, error) {
	call := "describe/"
	if strings.HasPrefix(by.Path, "/v1/policy/read/") {
		call = "read/"
	}
	out := &policy.Policy{}
	return out, i.ask(ctx, by, engine.OpRead, "v1/policy/"+call+url.PathEscape(name), nil, (*policyAnswer)(out))
}

// policyAnswer is a policy as the mount answers it.
type policyAnswer policy.Policy

// UnmarshalJSON implements json.Unmarshaler.
func (p *policyAnswer) UnmarshalJSON(b []byte) error {
	var in struct {
		Allow     []string  `json:"allow"`
		Deny      []string  `json:"deny"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
	}
	err := json.Unmarshal(b, &in)
	p.Allow, p.Deny, p.CreatedAt, p.CreatedBy = in.Allow, in.Deny, in.CreatedAt, in.CreatedBy
	return err
}

// Policies implements Access.
func (i Inside) Policies(ctx context.Context, by Caller, _, _ string, _ int) ([]string, string, error) {
	return i.list(ctx, by)
}

// Identity implements Access.
func (i Inside) Identity(ctx context.Context, by Caller, id string) (*Person, error) {
	path := "v1/identity/self/describe"
	if id != "" {
		path = "v1/identity/describe/" + id
	}
	var out struct {
		Admin     bool      `json:"admin"`
		Policy    string    `json:"policy"`
		CreatedAt time.Time `json:"created_at"`
		CreatedBy string    `json:"created_by"`
		Allow     []string  `json:"allow"`
		Deny      []string  `json:"deny"`
	}
	if err := i.ask(ctx, by, engine.OpRead, path, nil, &out); err != nil {
		return nil, err
	}
	p := &Person{Admin: out.Admin, Policy: out.Policy, CreatedAt: out.CreatedAt, CreatedBy: out.CreatedBy}
	if id == "" && !p.Admin {
		p.Rules = &policy.Policy{Allow: out.Allow, Deny: out.Deny}
	}
	return p, nil
}

// Identities implements Access.
func (i Inside) Identities(ctx context.Context, by Caller, _, _ string, _ int) ([]string, string, error) {
	return i.list(ctx, by)
}
