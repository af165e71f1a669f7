package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

func (i *Issuer) keyRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("oidc/config", i.readConfig, engine.ID("oidc-read-configuration"), engine.Help("Read the issuer of identity tokens.")),
		engine.Write("oidc/config", i.writeConfig, engine.ID("oidc-configure"), engine.Help("Set the issuer of identity tokens.")),
		engine.List("oidc/key", i.listKeys, engine.ID("oidc-list-keys"), engine.Help("List the signing keys.")),
		engine.Read("oidc/key/{name}", i.readKey, engine.ID("oidc-read-key"), engine.Help("Read a signing key's settings.")),
		engine.Write("oidc/key/{name}", i.writeKey, engine.ID("oidc-write-key"), engine.Help("Make or change a signing key.")),
		engine.Delete("oidc/key/{name}", i.deleteKey, engine.ID("oidc-delete-key"), engine.Help("Delete a signing key.")),
		engine.Write("oidc/key/{name}/rotate", i.rotateKey, engine.ID("oidc-rotate-key"), engine.Help("Sign with a new key from now on.")),
	}
}

const (
	defaultKey = "default"
	day        = 24 * time.Hour
	maxRetired = 1000
)

// algorithms with which tokens are signed, in the API's order.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// A key signs tokens. It rotates when it signs and its time has come: nothing
// runs for keys that nobody uses. The next key is published before it signs.
type key struct {
	Version   int                     `json:"v"`
	Algorithm jose.SignatureAlgorithm `json:"alg"`
	Period    time.Duration           `json:"period"`
	Verify    time.Duration           `json:"verify"` // how long a retired key is still published
	Clients   []string                `json:"clients,omitempty"`
	Rotate    time.Time               `json:"rotate"` // when it is due
	Signing   jose.JSONWebKey         `json:"signing"`
	Next      jose.JSONWebKey         `json:"next"`
	Retired   []retired               `json:"retired,omitempty"`
}

type retired struct {
	Key   jose.JSONWebKey `json:"key"` // public
	Until time.Time       `json:"until"`
}

func generate(alg jose.SignatureAlgorithm) (jose.JSONWebKey, error) {
	var private any
	var err error
	switch alg { //nolint:exhaustive // checked before
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	return jose.JSONWebKey{Key: private, KeyID: uuid.NewString(), Algorithm: string(alg), Use: "sig"}, err
}

// fill makes the two keys of a new one, or of one whose algorithm has changed.
func (k *key) fill(now time.Time) (err error) {
	if k.Signing, err = generate(k.Algorithm); err != nil {
		return err
	}
	k.Rotate = now.Add(k.Period)
	k.Next, err = generate(k.Algorithm)
	return err
}

// turn rotates: the next key signs, and the old one verifies for a while.
func (k *key) turn(now time.Time, verify time.Duration) (err error) {
	k.Retired = slices.DeleteFunc(k.Retired, func(r retired) bool { return !now.Before(r.Until) })
	if len(k.Retired) >= maxRetired {
		return errs.New(errs.Invalid, "%d retired keys still verify: wait until some of them do not", len(k.Retired))
	}
	k.Retired = append(k.Retired, retired{k.Signing.Public(), now.Add(verify)})
	k.Signing = k.Next
	k.Rotate = now.Add(k.Period)
	k.Next, err = generate(k.Algorithm)
	return err
}

// public are the keys that verify.
func (k *key) public(now time.Time) []jose.JSONWebKey {
	out := []jose.JSONWebKey{k.Signing.Public(), k.Next.Public()}
	for _, r := range k.Retired {
		if now.Before(r.Until) {
			out = append(out, r.Key)
		}
	}
	return out
}

func (k *key) allows(clientID string) bool {
	return slices.Contains(k.Clients, "*") || slices.Contains(k.Clients, clientID)
}

// keyOf finds a key. The key default is always there, and made when it is first
// needed to sign.
func keyOf(call *engine.Call, name string) (*key, error) {
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	k, err := storage.GetJSON[key](at(call), "key/"+name)
	if errors.Is(err, storage.ErrNotFound) && name == defaultKey {
		return &key{Algorithm: jose.RS256, Period: day, Verify: day, Clients: []string{"*"}}, nil
	}
	return k, err
}

// sign signs claims with a key, which rotates first when that is due.
func sign(call *engine.Call, name string, k *key, claims []byte) (string, error) {
	switch {
	case k.Signing.Key == nil:
		if err := storeFresh(call, name, k); err != nil {
			return "", err
		}
	case !call.Now.Before(k.Rotate):
		if err := k.turn(call.Now, k.Verify); err != nil {
			return "", err
		}
		if err := storeKey(call, name, k); err != nil {
			return "", err
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: k.Signing}, nil)
	if err != nil {
		return "", errors.New("sign an identity token")
	}
	sig, err := signer.Sign(claims)
	if err != nil {
		return "", errors.New("sign an identity token")
	}
	return sig.CompactSerialize()
}

func storeFresh(call *engine.Call, name string, k *key) error {
	if err := k.fill(call.Now); err != nil {
		return err
	}
	return storeKey(call, name, k)
}

func storeKey(call *engine.Call, name string, k *key) error {
	k.Version = 1
	return storage.PutJSON(at(call), "key/"+name, k)
}

type keyIn struct {
	nameIn
	Algorithm *string        `api:"algorithm" help:"RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA."`
	Period    *time.Duration `api:"rotation_period" help:"How long one key signs; 24 hours when absent."`
	Verify    *time.Duration `api:"verification_ttl" help:"How long a key that no longer signs is published; 24 hours when absent."`
	Clients   *[]string      `api:"allowed_client_ids" help:"Client ids whose roles and clients may use it; * is all."`
}

func (i *Issuer) writeKey(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	k, err := keyOf(call, in.Name)
	fresh := errors.Is(err, storage.ErrNotFound)
	if fresh {
		k, err = &key{Algorithm: jose.RS256, Period: day, Verify: day}, nil
	}
	if err != nil {
		return nil, err
	}
	before := k.Algorithm
	if in.Algorithm != nil {
		k.Algorithm = jose.SignatureAlgorithm(*in.Algorithm)
	}
	if in.Period != nil {
		k.Period = *in.Period
	}
	if in.Verify != nil {
		k.Verify = *in.Verify
	}
	if in.Clients != nil {
		k.Clients = *in.Clients
	}
	switch {
	case !slices.Contains(algorithms, k.Algorithm):
		return nil, errs.New(errs.Invalid, "unknown signing algorithm %q", k.Algorithm)
	case k.Period < time.Minute:
		return nil, errs.New(errs.Invalid, "rotation_period must be at least one minute")
	case k.Verify > 10*k.Period:
		return nil, errs.New(errs.Invalid, "verification_ttl cannot be longer than 10x rotation_period")
	case len(k.Clients) > 10_000:
		return nil, errs.New(errs.Invalid, "allowed_client_ids holds more than 10000 ids")
	}
	if !fresh {
		if err := checkTTLs(call, in.Name, k.Verify); err != nil {
			return nil, err
		}
	}
	switch {
	case k.Signing.Key == nil:
		err = k.fill(call.Now)
	case before != k.Algorithm:
		if k.Next, err = generate(k.Algorithm); err == nil {
			err = k.turn(call.Now, k.Verify)
		}
	case in.Period != nil && call.Now.Add(k.Period).Before(k.Rotate):
		k.Rotate = call.Now.Add(k.Period)
	}
	if err != nil {
		return nil, err
	}
	return nil, storeKey(call, in.Name, k)
}

// checkTTLs refuses a verification_ttl that ends before tokens do.
func checkTTLs(call *engine.Call, name string, verify time.Duration) error {
	names, err := at(call).List("used/role/"+name+"/", "", 0)
	if err != nil {
		return err
	}
	for _, n := range names {
		r, err := storage.GetJSON[role](at(call), "role/"+n)
		if err != nil {
			return err
		}
		if r.TTL > verify {
			return errs.New(errs.Invalid, "unable to update key %q because it is currently referenced by one or more roles with a token ttl greater than %d seconds",
				name, int64(verify/time.Second))
		}
	}
	if names, err = at(call).List("used/client/"+name+"/", "", 0); err != nil {
		return err
	}
	for _, n := range names {
		c, err := clientOf(call, n)
		if err != nil {
			return err
		}
		if c.IDTTL > verify {
			return errs.New(errs.Invalid, "unable to update key %q because it is currently referenced by one or more clients with an id_token_ttl greater than %d seconds",
				name, int64(verify/time.Second))
		}
	}
	return nil
}

func (i *Issuer) readKey(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	k, err := keyOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	return answer(map[string]any{
		"algorithm": k.Algorithm, "rotation_period": int64(k.Period / time.Second), "verification_ttl": int64(k.Verify / time.Second),
		"allowed_client_ids": param.OrEmpty(k.Clients),
	}), nil
}

func (i *Issuer) listKeys(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := list(at(call), in, "key/", defaultKey)
	return listed(names, nil, err)
}

// deleteKey removes a key that no role and no client uses.
func (i *Issuer) deleteKey(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	if in.Name == defaultKey {
		return nil, errs.New(errs.Invalid, "deletion of key %q not allowed", defaultKey)
	}
	if checkName(in.Name) != nil {
		return nil, nil
	}
	for _, kind := range []string{"role", "client"} {
		if err := unused(at(call), "key", in.Name, kind, kind+"s"); err != nil {
			return nil, err
		}
	}
	return nil, at(call).Delete("key/" + in.Name)
}

// unused refuses to delete what others use.
func unused(tx storage.Tx, what, name, kind, by string) error {
	names, err := users(tx, kind, name)
	if err != nil || len(names) == 0 {
		return err
	}
	if len(names) > 20 {
		names[20] = "..."
	}
	return errs.New(errs.Invalid, "unable to delete %s %q because it is currently referenced by these %s: %s", what, name, by, strings.Join(names, ", "))
}

type rotateIn struct {
	nameIn
	Verify *time.Duration `api:"verification_ttl" help:"How long the key that signs now is still published."`
}

func (i *Issuer) rotateKey(_ context.Context, call *engine.Call, in rotateIn) (*engine.Response, error) {
	k, err := keyOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "no named key found at %q", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if k.Signing.Key == nil {
		return nil, storeFresh(call, in.Name, k)
	}
	verify := k.Verify
	if in.Verify != nil {
		verify = *in.Verify
	}
	if err := k.turn(call.Now, verify); err != nil {
		return nil, err
	}
	return nil, storeKey(call, in.Name, k)
}

// hash is the left half of a text's hash by a key's algorithm, as at_hash and
// c_hash have it (OpenID Connect Core, 3.1.3.6).
func (k *key) hash(text string) []byte {
	h := crypto.SHA512
	switch k.Algorithm { //nolint:exhaustive // the others are of 512 bits
	case jose.RS256, jose.ES256:
		h = crypto.SHA256
	case jose.RS384, jose.ES384:
		h = crypto.SHA384
	}
	w := h.New()
	w.Write([]byte(text))
	sum := w.Sum(nil)
	return sum[:len(sum)/2]
}
