package kes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
	"arca/internal/keyring"
	"arca/internal/storage"
)

// Refusals with KES's texts, which its clients compare.
var (
	errNoKey        = errs.With(errs.NotFound, store.ErrNotFound)
	errExists       = errs.With(errs.Conflict, store.ErrExists)
	errNotAuthentic = errs.With(errs.Invalid, key.ErrNotAuthentic)
	errNoPolicy     = errs.New(errs.NotFound, "policy does not exist")
	errNoIdentity   = errs.New(errs.NotFound, "identity does not exist")
)

// maxBulk is how many ciphertexts one call opens.
const maxBulk = 1000

// callRoutes are KES's calls. Their paths are KES's, so that policies name them
// as they do in KES's configuration.
func (e *Engine) callRoutes() []engine.Route {
	read := func(pattern, id, help string, h engine.Handler[callIn]) engine.Route {
		return engine.Read("v1/"+pattern, e.authorized(h), engine.ForDoor, engine.NoParamWarn, engine.ID("kes-call-"+id), engine.Help(help))
	}
	write := func(pattern, id, help string, h engine.Handler[callIn]) engine.Route {
		return engine.Write("v1/"+pattern, e.authorized(h), engine.ForDoor, engine.NoParamWarn, engine.ID("kes-call-"+id), engine.Help(help))
	}
	compute := func(pattern, id, help string, h engine.Handler[callIn]) engine.Route { // a standby makes it, unless a version is due
		r := write(pattern, id, help, h)
		r.Computes = true
		return r
	}
	return []engine.Route{
		write("key/create/{name}", "create-key", "KES's call: make a key.", e.callCreate),
		write("key/import/{name}", "import-key", "KES's call: make a key of given bytes.", e.callImport),
		read("key/describe/{name}", "describe-key", "KES's call: tell about a key.", e.callDescribe),
		read("key/list/{name...}", "list-keys", "KES's call: list keys.", e.callList),
		engine.Delete("v1/key/delete/{name}", e.authorized(e.callDelete), engine.ForDoor, engine.NoParamWarn, engine.ID("kes-call-delete-key"), engine.Help("KES's call: delete a key.")),
		compute("key/encrypt/{name}", "encrypt", "KES's call: encrypt.", e.callEncrypt),
		compute("key/generate/{name}", "generate", "KES's call: encrypt a data key.", e.callEncrypt),
		compute("key/decrypt/{name}", "decrypt", "KES's call: decrypt.", e.callDecrypt),
		compute("key/bulk/decrypt/{name}", "bulk-decrypt", "KES's call: decrypt several ciphertexts.", e.callDecrypt),
		compute("key/hmac/{name}", "hmac", "KES's call: make an HMAC.", e.callHMAC),
		read("policy/describe/{name}", "describe-policy", "KES's call: tell about a policy.", e.callPolicy),
		read("policy/read/{name}", "read-policy", "KES's call: read a policy.", e.callPolicy),
		read("policy/list/{name...}", "list-policies", "KES's call: list policies.", e.callPolicies),
		read("identity/describe/{name}", "describe-identity", "KES's call: tell about an identity.", e.callIdentity),
		read("identity/list/{name...}", "list-identities", "KES's call: list identities.", e.callIdentities),
		engine.Read("v1/identity/self/describe", e.callSelf, engine.ForDoor, engine.NoParamWarn, engine.ID("kes-call-describe-self"), engine.Help("KES's call: tell about the caller.")),
		// What a door serves by itself: whether a caller may have it.
		read("ready", "ready", "Whether the caller may ask if the server is ready.", nothing),
		read("status", "status", "Whether the caller may ask for the status.", nothing),
		read("metrics", "metrics", "Whether the caller may ask for the metrics.", nothing),
		read("api", "api", "Whether the caller may ask for the calls.", nothing),
		read("log/{name}", "log", "Whether the caller may follow a log.", nothing),
		engine.Read("v1/judge/{path...}", e.callJudge, engine.ForDoor, engine.NoParamWarn, engine.ID("kes-call-judge"), engine.Help("Whether the caller may make a call; puts on record why a door refuses one.")),
	}
}

type callIn struct {
	Name string `api:"name" help:"Name, or the prefix of a listing."`
}

func nothing(context.Context, *engine.Call, callIn) (*engine.Response, error) { return nil, nil }

// who returns the identity of the connection's certificate.
func who(call *engine.Call) (string, error) {
	if call.Request == nil || call.Request.TLS == nil {
		return "", identity.ErrNone
	}
	cert, err := identity.Pick(call.Request.TLS.PeerCertificates)
	if err != nil {
		return "", err
	}
	id := identity.Of(cert)
	// Audit devices may record the header, which the door sets: nobody who comes by
	// another door puts somebody else's there.
	for _, told := range call.Request.Header[identityHeader] {
		if told != id {
			return "", errs.New(errs.Invalid, "the header %s names another than the certificate", identityHeader)
		}
	}
	return id, nil
}

const identityHeader = "X-Kes-Identity"

// authorized puts the mount's policies before a handler.
func (e *Engine) authorized(h engine.Handler[callIn]) engine.Handler[callIn] {
	return func(ctx context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
		if err := e.allow(call, "/"+call.Path); err != nil {
			return nil, err
		}
		return h(ctx, call, in)
	}
}

// allow refuses a call that the mount's policies do not allow the caller.
func (e *Engine) allow(call *engine.Call, path string) error {
	id, err := who(call)
	if err != nil {
		return err
	}
	row, err := e.identity(call, id)
	if errs.Is(err, errs.NotFound) {
		return policy.ErrDenied
	}
	if err != nil || row.Admin {
		return err
	}
	rules, err := e.policy(call, row.Policy)
	if errs.Is(err, errs.NotFound) {
		return policy.ErrDenied
	}
	if err != nil {
		return err
	}
	if !rules.rules.Allows(path) {
		return policy.ErrDenied
	}
	return nil
}

type judgeIn struct {
	Path    string `api:"path" help:"Path of the call."`
	Judged  bool   `api:"judged" help:"Say whether the caller may make it, before anything else."`
	Refusal string `api:"refusal" help:"Why the door refuses the call."`
	Code    int    `api:"code" help:"The code that the door answers, for the audit log."`
}

// callJudge is for a door that answers by itself: what is wrong with a call that its
// caller may not make is told to nobody but the audit log.
func (e *Engine) callJudge(_ context.Context, call *engine.Call, in judgeIn) (*engine.Response, error) {
	if in.Judged {
		if err := e.allow(call, "/"+in.Path); err != nil {
			return nil, err
		}
	}
	if in.Refusal != "" {
		return nil, errs.New(errs.Invalid, "%s", in.Refusal)
	}
	return nil, nil
}

// bytesOf reads a byte string of the body.
func bytesOf(call *engine.Call, name string) ([]byte, error) {
	raw := call.Request.Params.Get(name)
	if raw == nil {
		return nil, nil
	}
	// A text, so that audit devices hash it: they leave numbers as they are.
	var text *string
	if json.Unmarshal(raw, &text) != nil { // its error may quote the body
		return nil, errs.New(errs.Invalid, "%s is not base64", name)
	}
	if text == nil {
		return nil, nil
	}
	out, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%s is not base64", name)
	}
	return out, nil
}

func answer(fields map[string]any) (*engine.Response, error) {
	return &engine.Response{Data: fields}, nil
}

func text(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func (e *Engine) callCreate(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	id, err := who(call)
	if err != nil {
		return nil, err
	}
	_, err = e.create(call, making{name: in.Name, cipher: key.Default(), by: id})
	return nil, err
}

func (e *Engine) callImport(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	id, err := who(call)
	if err != nil {
		return nil, err
	}
	secret, err := bytesOf(call, "key")
	if err != nil {
		return nil, err
	}
	var name string
	raw := call.Request.Params.Get("cipher")
	_ = json.Unmarshal(raw, &name)
	c, ok := key.ParseCipher(name)
	if raw == nil { // of a client of 2023
		ok = true
	}
	if !ok || !c.Usable() {
		return nil, errs.New(errs.MediaType, "the cipher is not supported: use AES256 or ChaCha20")
	}
	if len(secret) != key.Size {
		return nil, errs.New(errs.MediaType, "invalid key size: a key of %s has %d bytes", c, key.Size)
	}
	// It was used elsewhere, perhaps: ciphertexts of other servers open.
	_, err = e.create(call, making{name: in.Name, cipher: c, secret: secret, by: id, at: call.Now, foreign: true})
	return nil, err
}

func (e *Engine) callDescribe(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	newest, err := e.version(call, k, k.Latest)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{
		"name": k.Name, "id": newest.ID(), "algorithm": cipherOf(k).String(), "created_at": createdAt(k), "created_by": k.Meta[metaBy],
	})
}

func (e *Engine) callDelete(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	if _, err := e.get(call, in.Name); err != nil {
		return nil, err
	}
	return nil, e.ring.Delete(ring(call), in.Name)
}

// maxPage is how many names a listing returns at a time.
const maxPage = 10_000

func (e *Engine) callList(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	return listing(call.Tx, ringDir+"k/", in.Name)
}

// listing answers a page with the name to go on from.
func listing(tx storage.Tx, dir, pattern string) (*engine.Response, error) {
	prefix, from, err := key.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	names, next, err := page(tx, dir, prefix, from, maxPage)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{"names": orEmpty(names), "next": next})
}

// due rotates a key whose time has come.
func (e *Engine) due(call *engine.Call, k *keyring.Key) (*keyring.Key, error) {
	if !k.Due(call.Now) {
		return k, nil
	}
	return e.rotate(call, k)
}

// callEncrypt encrypts what the door gives, which makes the data keys of generate itself.
func (e *Engine) callEncrypt(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	plaintext, err := bytesOf(call, "plaintext")
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	context, err := bytesOf(call, "context")
	if err != nil {
		return nil, err
	}
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	if k, err = e.due(call, k); err != nil {
		return nil, err
	}
	newest, err := e.version(call, k, k.Latest)
	if err != nil {
		return nil, err
	}
	ciphertext, err := newest.EncryptAs(uint32(k.Latest), plaintext, context)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"ciphertext": text(ciphertext)}
	return answer(out)
}

// open decrypts one ciphertext with the version that sealed it.
func (e *Engine) open(call *engine.Call, k *keyring.Key, ciphertext, context []byte) ([]byte, error) {
	tries := [2]int{int(min(key.VersionOf(ciphertext), uint32(keyring.MaxVersions))), 0}
	if k.Meta[metaOrigin] == originKES && tries[0] != 1 {
		tries[1] = 1 // it may have been made elsewhere
	}
	for _, n := range tries {
		if n == 0 || k.ToOpen(n) != nil {
			continue
		}
		v, err := e.version(call, k, n)
		if err != nil {
			return nil, err
		}
		if plaintext, err := v.Decrypt(ciphertext, context); err == nil {
			return plaintext, nil
		}
	}
	return nil, errNotAuthentic
}

type sealed struct {
	Ciphertext []byte `json:"ciphertext"`
	Context    []byte `json:"context"`
}

func (e *Engine) callDecrypt(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	if raw := call.Request.Params.Get("sealed"); raw != nil {
		return e.decryptAll(call, k, raw)
	}
	ciphertext, err := bytesOf(call, "ciphertext")
	if err != nil {
		return nil, err
	}
	context, err := bytesOf(call, "context")
	if err != nil {
		return nil, err
	}
	plaintext, err := e.open(call, k, ciphertext, context)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return answer(map[string]any{"plaintext": text(plaintext)})
}

// decryptAll opens all of several, or none.
func (e *Engine) decryptAll(call *engine.Call, k *keyring.Key, raw []byte) (*engine.Response, error) {
	var all []sealed
	if json.Unmarshal(raw, &all) != nil {
		return nil, errs.New(errs.Invalid, "sealed is no list of ciphertexts")
	}
	if len(all) > maxBulk {
		return nil, errs.New(errs.Invalid, "more than %d ciphertexts in one call", maxBulk)
	}
	out := make([]string, 0, len(all))
	for _, s := range all {
		plaintext, err := e.open(call, k, s.Ciphertext, s.Context)
		if err != nil {
			return nil, err
		}
		out = append(out, text(plaintext))
		clear(plaintext)
	}
	return answer(map[string]any{"plaintexts": out})
}

func (e *Engine) callHMAC(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	message, err := bytesOf(call, "message")
	if err != nil {
		return nil, err
	}
	k, err := e.get(call, in.Name)
	if err != nil {
		return nil, err
	}
	newest, err := e.version(call, k, k.Latest)
	if err != nil {
		return nil, err
	}
	sum, err := newest.HMAC(message)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{"hmac": text(sum)})
}

func (e *Engine) callPolicy(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	row, err := e.policy(call, in.Name)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"name": in.Name, "created_at": row.CreatedAt, "created_by": row.CreatedBy}
	if strings.HasPrefix(call.Path, "v1/policy/read/") {
		out["allow"], out["deny"] = orEmpty(row.Allow), orEmpty(row.Deny)
	}
	return answer(out)
}

func (e *Engine) callPolicies(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	return listing(call.Tx, policyDir, in.Name)
}

// person is what KES tells of an identity: of an admin, not who has made it one.
func person(row *identityRow) map[string]any {
	by := row.CreatedBy
	if row.Admin {
		by = ""
	}
	return map[string]any{"admin": row.Admin, "policy": row.Policy, "created_at": row.CreatedAt, "created_by": by}
}

func (e *Engine) callIdentity(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	row, err := e.identity(call, in.Name)
	if err != nil {
		return nil, err
	}
	return answer(person(row))
}

func (e *Engine) callIdentities(_ context.Context, call *engine.Call, in callIn) (*engine.Response, error) {
	return listing(call.Tx, identityDir, in.Name)
}

// callSelf needs no rule: everybody may know what they may.
func (e *Engine) callSelf(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	id, err := who(call)
	if err != nil {
		return nil, err
	}
	row, err := e.identity(call, id)
	if err != nil {
		return nil, err
	}
	out := person(row)
	out["identity"] = id
	if !row.Admin {
		if rules, err := e.policy(call, row.Policy); err == nil {
			out["allow"], out["deny"] = orEmpty(rules.Allow), orEmpty(rules.Deny)
		}
	}
	return answer(out)
}
