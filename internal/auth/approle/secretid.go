package approle

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/param"
	"arca/internal/storage"
)

// A secretID is stored under the hash of its value.
type secretID struct {
	Version    int               `json:"v"`
	Accessor   string            `json:"a"`
	Uses       int               `json:"uses,omitempty"` // left; 0 is without limit
	Created    time.Time         `json:"ct"`
	Updated    time.Time         `json:"ut"`
	Expires    time.Time         `json:"exp,omitzero"`
	TTL        time.Duration     `json:"ttl,omitempty"`
	Metadata   map[string]string `json:"meta,omitempty"`
	CIDRs      []netip.Prefix    `json:"cidrs,omitempty"`
	TokenCIDRs []netip.Prefix    `json:"token_cidrs,omitempty"`
}

func (s *secretID) expired(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

func secretDir(uid string) string   { return "s/" + uid + "/" }
func accessorDir(uid string) string { return "a/" + uid + "/" }

const endDir = "x/"

// endKey sorts by the time in seconds.
func endKey(at time.Time, uid, hash string) string {
	return fmt.Sprintf("%s%012d/%s/%s", endDir, at.Unix(), uid, hash)
}

// hash is the name under which the role keeps a secret id.
func (r *role) hash(value string) string {
	m, kept := r.macs.Get().(*mac)
	if !kept {
		m = &mac{Hash: hmac.New(sha256.New, r.Key)}
	}
	m.Reset()
	m.in = append(m.in[:0], value...)
	m.Write(m.in)
	base64.RawURLEncoding.Encode(m.text[:], m.Sum(m.sum[:0]))
	name := string(m.text[:])
	clear(m.in)
	r.macs.Put(m)
	return name
}

// mac is a keyed hash with the buffers that its use needs.
type mac struct {
	hash.Hash
	in   []byte
	sum  [sha256.Size]byte
	text [(sha256.Size*8 + 5) / 6]byte // base64 without padding
}

func (r *role) secretID(tx storage.Tx, hash string) (*secretID, error) {
	raw, err := tx.Get(secretDir(r.UID) + hash)
	if err != nil {
		return nil, err
	}
	s, _, err := decodeSecretID("", raw)
	return s, err
}

// decodeSecretID decodes a secret id and tells about how much memory it takes.
func decodeSecretID(_ string, raw []byte) (*secretID, int, error) {
	s := &secretID{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, 0, fmt.Errorf("decode secret id: %w", err)
	}
	return s, 2*len(raw) + 256, nil
}

func (r *role) putSecretID(tx storage.Tx, hash string, s *secretID) error {
	s.Version = 1
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return tx.Put(secretDir(r.UID)+hash, raw)
}

func (r *role) removeSecretID(tx storage.Tx, hash string, s *secretID) error {
	keys := []string{secretDir(r.UID) + hash, accessorDir(r.UID) + s.Accessor}
	if !s.Expires.IsZero() {
		keys = append(keys, endKey(s.Expires, r.UID, hash))
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

type makeIn struct {
	nameIn
	SecretID   string         `api:"secret_id" help:"The secret id, where the caller may choose it."`
	Metadata   string         `api:"metadata" help:"JSON object of text, kept with the tokens."`
	CIDRs      []string       `api:"cidr_list" help:"Addresses from which one can log in; within those of the role."`
	TokenCIDRs []string       `api:"token_bound_cidrs" help:"Addresses from which the tokens may be used."`
	Uses       *int           `api:"num_uses" help:"How often it can be used."`
	TTL        *time.Duration `api:"ttl" help:"How long it lives."`
}

func (e *Engine) makeSecretID(_ context.Context, call *engine.Call, in makeIn) (*engine.Response, error) {
	in.SecretID = uuid.NewString()
	return e.register(call, &in)
}

func (e *Engine) makeCustomSecretID(_ context.Context, call *engine.Call, in makeIn) (*engine.Response, error) {
	switch {
	case in.SecretID == "":
		return nil, errs.New(errs.Invalid, "missing secret_id")
	case len(in.SecretID) > maxIDBytes:
		return nil, errs.New(errs.Invalid, "secret_id is longer than %d bytes", maxIDBytes)
	case strings.TrimSpace(in.SecretID) != in.SecretID: // logins are trimmed
		return nil, errs.New(errs.Invalid, "secret_id begins or ends with a blank: nobody could log in with it")
	}
	return e.register(call, &in)
}

func (e *Engine) register(call *engine.Call, in *makeIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.NotFound, "role %q does not exist", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if !r.BindSecretID {
		return nil, errs.New(errs.Invalid, "bind_secret_id is not set on the role")
	}
	s, err := r.newSecretID(call, in)
	if err != nil {
		return nil, err
	}
	hash := r.hash(in.SecretID)
	if _, err := r.secretID(call.Tx, hash); err == nil {
		return nil, errs.List(errs.Failed, "failed to store secret_id: SecretID is already registered")
	} else if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	if err := r.putSecretID(call.Tx, hash, s); err != nil {
		return nil, err
	}
	if err := call.Tx.Put(accessorDir(r.UID)+s.Accessor, []byte(hash)); err != nil {
		return nil, err
	}
	if !s.Expires.IsZero() {
		if err := call.Tx.Put(endKey(s.Expires, r.UID, hash), []byte(in.Name)); err != nil {
			return nil, err
		}
	}
	// As many as are made, so that those that have ended never pile up.
	if err := sweep(call.Tx, call.Now, 4); err != nil {
		return nil, err
	}
	return &engine.Response{Accessor: s.Accessor, Data: map[string]any{
		"secret_id": in.SecretID, "secret_id_accessor": s.Accessor, "secret_id_num_uses": s.Uses, "secret_id_ttl": seconds(s.TTL),
	}}, nil
}

// newSecretID checks what was asked for against the role.
func (r *role) newSecretID(call *engine.Call, in *makeIn) (*secretID, error) {
	s := &secretID{Accessor: uuid.NewString(), Uses: r.SecretNumUses, TTL: r.SecretTTL, Created: call.Now, Updated: call.Now}
	if in.Uses != nil {
		switch {
		case *in.Uses < 0:
			return nil, errs.New(errs.Invalid, "num_uses cannot be negative")
		case r.SecretNumUses != 0 && (*in.Uses == 0 || *in.Uses > r.SecretNumUses):
			return nil, errs.New(errs.Invalid, "num_uses cannot be higher than the role's secret_id_num_uses")
		}
		s.Uses = *in.Uses
	}
	if in.TTL != nil {
		if r.SecretTTL != 0 && (*in.TTL == 0 || *in.TTL > r.SecretTTL) {
			return nil, errs.New(errs.Invalid, "ttl cannot be longer than the role's secret_id_ttl")
		}
		s.TTL = *in.TTL
	}
	if s.TTL > call.Mount.MaxTTL {
		s.TTL = call.Mount.MaxTTL
	}
	if s.TTL > 0 {
		s.Expires = call.Now.Add(s.TTL)
	}
	var err error
	if s.Metadata, err = parseMetadata(in.Metadata); err != nil {
		return nil, err
	}
	if s.CIDRs, err = parseBlocks(in.CIDRs); err != nil {
		return nil, err
	}
	if len(r.SecretCIDRs) > 0 && !inside(s.CIDRs, r.SecretCIDRs) {
		return nil, errs.List(errs.Failed, fmt.Sprintf(
			"failed to verify subset relationship between CIDR blocks on the role %q and CIDR blocks on the secret ID %q: %%!w(<nil>)",
			blocks(r.SecretCIDRs), blocks(s.CIDRs)))
	}
	if s.TokenCIDRs, err = grant.ParsePrefixes(in.TokenCIDRs); err != nil {
		return nil, err
	}
	if len(r.BoundCIDRs) > 0 && !inside(s.TokenCIDRs, r.BoundCIDRs) {
		return nil, errs.New(errs.Invalid, "token_bound_cidrs %q lie outside of the role's %q", blocks(s.TokenCIDRs), blocks(r.BoundCIDRs))
	}
	return s, nil
}

// inside reports whether every inner prefix lies in one of the outer ones.
func inside(inner, outer []netip.Prefix) bool {
	for _, p := range inner {
		found := false
		for _, o := range outer {
			found = found || o.Bits() <= p.Bits() && o.Contains(p.Addr())
		}
		if !found {
			return false
		}
	}
	return true
}

// maxMetadataBytes leaves room for the rest of the records of the tokens.
const maxMetadataBytes = 32 << 10

// parseMetadata reads a JSON object of text, or "a=b,c=d".
func parseMetadata(text string) (map[string]string, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	if len(text) > maxMetadataBytes {
		return nil, errs.New(errs.Invalid, "metadata has at most %d bytes: each token keeps it", maxMetadataBytes)
	}
	bad := errs.New(errs.Invalid, "failed to parse metadata: failed to parse the input: invalid <key,value> format")
	out := map[string]string{}
	if strings.HasPrefix(text, "{") {
		obj, err := param.ParseObject([]byte(text))
		if err != nil {
			return nil, bad
		}
		for _, m := range obj {
			var value string
			if json.Unmarshal(m.Value, &value) != nil {
				return nil, bad
			}
			out[m.Key] = value
		}
		return out, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, bad
		}
		out[k] = strings.TrimSpace(v)
	}
	return out, nil
}

func (e *Engine) listSecretIDs(_ context.Context, call *engine.Call, in listSecretsIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	return keys(call.Tx, accessorDir(r.UID), in.Paging)
}

type listSecretsIn struct {
	nameIn
	engine.Paging
}

type findIn struct {
	nameIn
	SecretID *string `api:"secret_id" help:"The secret id."`
	Accessor *string `api:"secret_id_accessor" help:"Accessor of the secret id."`
}

// find looks up a secret id by its value or its accessor, as the path says. The
// result is nil when there is none of this value.
func (in *findIn) find(call *engine.Call) (r *role, hash string, s *secretID, err error) {
	byAccessor := strings.Contains(call.Path, "/secret-id-accessor/")
	switch {
	case byAccessor && (in.Accessor == nil || *in.Accessor == ""):
		return nil, "", nil, errs.New(errs.Invalid, "missing secret_id_accessor")
	case !byAccessor && (in.SecretID == nil || *in.SecretID == ""):
		return nil, "", nil, errs.New(errs.Invalid, "missing secret_id")
	}
	r, err = getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", nil, errs.New(errs.NotFound, "role %q does not exist", in.Name)
	}
	if err != nil {
		return nil, "", nil, err
	}
	if byAccessor {
		raw, err := call.Tx.Get(accessorDir(r.UID) + *in.Accessor)
		if errors.Is(err, storage.ErrNotFound) {
			return r, "", nil, &noAccessor{*in.Accessor}
		}
		if err != nil {
			return nil, "", nil, err
		}
		hash = string(raw)
	} else {
		hash = r.hash(*in.SecretID)
	}
	s, err = r.secretID(call.Tx, hash)
	if errors.Is(err, storage.ErrNotFound) || err == nil && s.expired(call.Now) {
		if byAccessor {
			return r, "", nil, &noAccessor{*in.Accessor}
		}
		return r, hash, nil, nil
	}
	return r, hash, s, err
}

// noAccessor is an accessor that names no secret id.
type noAccessor struct{ accessor string }

func (e *noAccessor) Error() string {
	return fmt.Sprintf("failed to find accessor entry for secret_id_accessor: %q", e.accessor)
}

func (e *Engine) lookup(_ context.Context, call *engine.Call, in findIn) (*engine.Response, error) {
	_, _, s, err := in.find(call)
	var none *noAccessor
	if errors.As(err, &none) {
		return &engine.Response{Missing: true, Data: map[string]any{"error": none.Error()}}, nil
	}
	if err != nil || s == nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"secret_id_accessor": s.Accessor, "secret_id_num_uses": s.Uses, "secret_id_ttl": seconds(s.TTL), "creation_time": s.Created,
		"last_updated_time": s.Updated, "expiration_time": s.Expires, "metadata": metadata(s.Metadata), "cidr_list": blocks(s.CIDRs),
		"token_bound_cidrs": blocks(s.TokenCIDRs),
	}}, nil
}

func metadata(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (e *Engine) destroy(_ context.Context, call *engine.Call, in findIn) (*engine.Response, error) {
	r, hash, s, err := in.find(call)
	var none *noAccessor
	if errors.As(err, &none) {
		return nil, errs.List(errs.Failed, none.Error())
	}
	if err != nil || s == nil {
		return nil, err
	}
	return nil, r.removeSecretID(call.Tx, hash, s)
}

// sweep removes up to limit secret ids whose time is over.
func sweep(tx storage.Tx, now time.Time, limit int) error {
	type end struct{ key, uid, hash, role string }
	var ends []end
	for kv, err := range tx.Scan(endDir, "") {
		if err != nil {
			return err
		}
		at, rest, _ := strings.Cut(strings.TrimPrefix(kv.Key, endDir), "/")
		if len(ends) == limit || at >= fmt.Sprintf("%012d", now.Unix()) {
			break
		}
		uid, hash, _ := strings.Cut(rest, "/")
		ends = append(ends, end{kv.Key, uid, hash, string(kv.Value)})
	}
	for _, it := range ends {
		r := &role{UID: it.uid}
		s, err := r.secretID(tx, it.hash)
		switch {
		case errors.Is(err, storage.ErrNotFound): // removed with its role
			err = tx.Delete(it.key)
		case err == nil:
			err = r.removeSecretID(tx, it.hash, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const maxTidied = 10_000

func (e *Engine) tidy(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	if err := sweep(call.Tx, call.Now, maxTidied); err != nil {
		return nil, err
	}
	res := &engine.Response{Accepted: true}
	res.Warn("Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs.")
	return res, nil
}
