package kmip

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// A scope is a set of objects. Its id is never given again, so that certificates
// of one that was deleted do not come back to life.
type scope struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	// Retention is how long the material of destroyed objects is kept, so that an
	// operator may restore them.
	Retention time.Duration `json:"retention,omitempty"`
	// Frozen says that clients change nothing.
	Frozen bool `json:"frozen,omitempty"`
	// Defaults and Constraints are what clients have laid down for new objects: TTLV, in base64.
	Defaults    string `json:"defaults,omitempty"`
	Constraints string `json:"constraints,omitempty"`
	// Unnoted says that names of objects made before version 2 may not be noted yet; those up to a
	// key of the order of creation are. See names.go.
	Unnoted bool   `json:"unnoted,omitempty"`
	UpTo    string `json:"up_to,omitempty"`
}

// A role is what its certificates may do.
type role struct {
	Version int           `json:"v"`
	ID      string        `json:"id"`
	Ops     []string      `json:"ops,omitempty"` // "operation_get", sorted
	Key     keyKind       `json:"key,omitzero"`
	TTL     time.Duration `json:"ttl,omitempty"`
	CA      string        `json:"ca,omitempty"` // name of the authority; "" is the mount's own
	Rates   rates         `json:"rates,omitzero"`
	Client  string        `json:"client,omitempty"` // whose quirks its clients have; "" for none
}

const idLength = 5

// newID makes a short id that is free in dir.
func newID(tx storage.Tx, dir string) (string, error) {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for {
		var b [idLength]byte
		for i := range b {
			var r [1]byte
			for {
				if _, err := rand.Read(r[:]); err != nil {
					return "", err
				}
				if int(r[0]) < 256/len(letters)*len(letters) {
					break
				}
			}
			b[i] = letters[int(r[0])%len(letters)]
		}
		_, err := tx.Get(dir + string(b[:]))
		if errors.Is(err, storage.ErrNotFound) {
			return string(b[:]), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func decoded[T any](key string, raw []byte) (*T, int, error) {
	v := new(T)
	if json.Unmarshal(raw, v) != nil {
		return nil, 0, errs.New(errs.Internal, "the record %q cannot be decoded", key)
	}
	return v, 2*len(raw) + 256, nil
}

func scopeKey(name string) string       { return "scope/" + name }
func scopeIDKey(id string) string       { return "sid/" + id }
func roleKey(scope, name string) string { return "role/" + scope + "/" + name }
func roleIDKey(scope, id string) string { return "rid/" + scope + "/" + id }
func credDir(scope, role string) string { return "cred/" + scope + "/" + role + "/" }

type scopeIn struct {
	Scope string `api:"scope" help:"Name of the scope."`
}

type roleIn struct {
	scopeIn
	Role string `api:"role" help:"Name of the role."`
}

func (e *Engine) checkName(what, name string) error {
	if !e.names.MatchString(name) {
		return errs.New(errs.Invalid, "the %s's name must be of letters, digits, dots, dashes and underscores, at most 128", what)
	}
	return nil
}

func (e *Engine) listScopes(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	return list(call.Tx, "scope/", in)
}

func (e *Engine) readScope(_ context.Context, call *engine.Call, in scopeIn) (*engine.Response, error) {
	s, err := scopeOf(call.Tx, in.Scope)
	if err != nil {
		return nil, err
	}
	objects, err := count(call.Tx, orderDir(s.ID), 1_000_000)
	if err != nil {
		return nil, err
	}
	roles, err := count(call.Tx, roleKey(s.ID, ""), 1_000_000)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"id": s.ID, "objects": objects, "roles": roles}
	if s.Retention > 0 {
		out["retention"] = int64(s.Retention / time.Second)
	}
	if s.Frozen {
		out["frozen"] = true
	}
	for name, text := range map[string]string{"defaults": s.Defaults, "constraints": s.Constraints} {
		if text == "" {
			continue
		}
		n, err := keptNode(text)
		if err != nil {
			return nil, err
		}
		out[name] = string(e.texts().EncodeXML(n))
	}
	return data(out), nil
}

func count(tx storage.Tx, dir string, limit int) (n int, err error) {
	for _, err := range tx.Keys(dir, "") {
		if err != nil {
			return n, err
		}
		if n++; n >= limit {
			break
		}
	}
	return n, nil
}

type writeScopeIn struct {
	scopeIn
	Retention *time.Duration `api:"retention" help:"How long the material of destroyed objects is kept, so that they can be restored; 0 is not at all."`
	Frozen    *bool          `api:"frozen" help:"Clients may use and read objects, and neither make nor change any."`
	// What clients have laid down is taken away, not changed: they know what they need.
	NoDefaults    bool `api:"clear_defaults" help:"Take away the defaults for new objects that clients have set (Set Defaults)."`
	NoConstraints bool `api:"clear_constraints" help:"Take away the constraints for objects that clients have set (Set Constraints)."`
}

func (e *Engine) writeScope(_ context.Context, call *engine.Call, in writeScopeIn) (*engine.Response, error) {
	if err := e.checkName("scope", in.Scope); err != nil {
		return nil, err
	}
	if in.Retention != nil && (*in.Retention < 0 || *in.Retention > caLife) {
		return nil, errs.New(errs.Invalid, "retention must be at most ten years")
	}
	s, err := scopeOf(call.Tx, in.Scope)
	if err == nil {
		before := *s
		param.Take(&s.Retention, in.Retention)
		param.Take(&s.Frozen, in.Frozen)
		if in.NoDefaults {
			s.Defaults = ""
		}
		if in.NoConstraints {
			s.Constraints = ""
		}
		if *s == before {
			return nil, nil
		}
		return nil, putScope(call.Tx, in.Scope, s)
	}
	if !errors.Is(err, errNotFound) {
		return nil, err
	}
	id, err := newID(call.Tx, scopeIDKey(""))
	if err != nil {
		return nil, err
	}
	if err := call.Tx.Put(scopeIDKey(id), []byte(in.Scope)); err != nil {
		return nil, err
	}
	made := &scope{Version: scopeVersion, ID: id}
	param.Take(&made.Retention, in.Retention)
	param.Take(&made.Frozen, in.Frozen)
	return nil, putScope(call.Tx, in.Scope, made)
}

type deleteScopeIn struct {
	scopeIn
	Force bool `api:"force" help:"Delete the scope's objects, too."`
}

func (e *Engine) deleteScope(_ context.Context, call *engine.Call, in deleteScopeIn) (*engine.Response, error) {
	s, err := scopeOf(call.Tx, in.Scope)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !in.Force {
		held, err := e.full(call.Tx, s.ID)
		if err != nil {
			return nil, err
		}
		if held {
			return nil, errs.New(errs.Invalid, "scope %q holds managed objects: delete these first, or use force=true", in.Scope)
		}
	}
	for _, dir := range []string{"role/" + s.ID + "/", "rid/" + s.ID + "/", "cred/" + s.ID + "/", "line/" + s.ID + "/", "o/" + s.ID + "/", "m/" + s.ID + "/", usedDir + s.ID + "/", "k/" + s.ID + "/", "a/" + s.ID + "/", orderDir(s.ID), "i/" + s.ID + "/", nameDir + s.ID + "/"} {
		if err := call.Tx.DeletePrefix(dir); err != nil {
			return nil, err
		}
	}
	// The id stays taken.
	if err := call.Tx.Put(scopeIDKey(s.ID), nil); err != nil {
		return nil, err
	}
	return nil, call.Tx.Delete(scopeKey(in.Scope))
}

// full reports whether a scope has an object that is not destroyed.
func (e *Engine) full(tx storage.Tx, scope string) (bool, error) {
	for kv, err := range tx.Scan(orderDir(scope), "") {
		if err != nil {
			return false, err
		}
		o, err := e.objects.Get(tx, objectKey(scope, string(kv.Value)))
		if err != nil || !o.destroyed() {
			return true, err
		}
	}
	return false, nil
}

func (e *Engine) listRoles(_ context.Context, call *engine.Call, in struct {
	scopeIn
	engine.Paging
},
) (*engine.Response, error) {
	s, err := scopeOf(call.Tx, in.Scope)
	if err != nil {
		return nil, err
	}
	return list(call.Tx, roleKey(s.ID, ""), in.Paging)
}

// operations are the flags of a role. Some have two spellings.
func operations() []string {
	return []string{
		"activate", "add_attribute", "adjust_attribute", "archive", "cancel", "certify", "check", "create", "create_keypair", "create_split_key", "decrypt",
		"delete_attribute", "derive_key", "destroy", "discover_versions", "encrypt", "export", "get", "get_attribute_list", "get_attributes", "get_constraints",
		"get_usage_allocation", "hash", "import", "join_split_key", "locate", "log", "login", "mac", "mac_verify", "modify_attribute", "obtain_lease", "poll", "query",
		"recertify", "recover", "register", "rekey", "rekey_keypair", "reprovision", "revoke", "rng_retrieve", "rng_seed", "set_attribute",
		"set_constraints", "set_defaults", "sign",
		"signature_verify", "validate",
	}
}

const (
	opPrefix = "operation_"
	opAll    = opPrefix + "all"
	opNone   = opPrefix + "none"
)

// apart reports whether a flag is not in operation_all: what Set Defaults and Set Constraints
// lay down acts on clients of other roles, so each is given by itself, also beside operation_all.
func apart(flag string) bool {
	return flag == opPrefix+"set_constraints" || flag == opPrefix+"set_defaults"
}

// flag is the one spelling by which an operation is kept.
func flag(name string) string {
	switch name {
	case opPrefix + "create_key_pair":
		return opPrefix + "create_keypair"
	case opPrefix + "rekey_key_pair":
		return opPrefix + "rekey_keypair"
	}
	return name
}

type writeRoleIn struct {
	roleIn
	KeyType *string        `api:"tls_client_key_type" help:"Type of the certificates' keys, in place of the default."`
	KeyBits *int           `api:"tls_client_key_bits" help:"Length of the certificates' keys."`
	TTL     *time.Duration `api:"tls_client_ttl" help:"How long the certificates are valid."`
	CA      *string        `api:"ca" help:"Name of the generated authority that issues the certificates, in place of the mount's own."`
	Rate    *int           `api:"max_operations_per_second" help:"How many operations clients of the role may ask for in a second, at each node; 0 is what config says."`
	Each    *int           `api:"max_operations_per_second_per_client" help:"... and each of its certificates."`
	Client  *string        `api:"client" help:"Kind of its clients, which chooses how answers are shaped for them: libkmip, pykmip or synology; empty for answers as the specification has them."`
	Rest    param.Object   `api:"*,rest"`
}

func (e *Engine) writeRole(_ context.Context, call *engine.Call, in writeRoleIn) (*engine.Response, error) {
	if err := e.checkName("role", in.Role); err != nil {
		return nil, err
	}
	s, err := scopeOf(call.Tx, in.Scope)
	if err != nil {
		return nil, err
	}
	r, err := get[role](call.Tx, roleKey(s.ID, in.Role))
	if errors.Is(err, errNotFound) {
		r = &role{Version: 1}
		if r.ID, err = newID(call.Tx, roleIDKey(s.ID, "")); err != nil {
			return nil, err
		}
		if err := call.Tx.Put(roleIDKey(s.ID, r.ID), []byte(in.Role)); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if in.KeyType != nil || in.KeyBits != nil {
		if r.Key, err = r.Key.change(in.KeyType, in.KeyBits, "tls_client_key"); err != nil {
			return nil, err
		}
	}
	param.Take(&r.TTL, in.TTL)
	if r.TTL < 0 || r.TTL > caLife {
		return nil, errs.New(errs.Invalid, "tls_client_ttl must be at most ten years")
	}
	param.Take(&r.Rates.Role, in.Rate)
	param.Take(&r.Rates.Client, in.Each)
	if err := r.Rates.check("max_operations_per_second", "max_operations_per_second_per_client"); err != nil {
		return nil, err
	}
	if in.CA != nil && *in.CA != r.CA {
		if *in.CA != "" {
			if _, err := issuer(call.Tx, *in.CA, nil); err != nil {
				return nil, err
			}
			if err := call.Tx.Put(useDir+*in.CA+"/"+s.ID+"/"+in.Role, nil); err != nil {
				return nil, err
			}
		}
		r.CA = *in.CA
	}
	param.Take(&r.Client, in.Client)
	if err := e.checkClient(r.Client); err != nil {
		return nil, err
	}
	if err := r.setOps(in.Rest); err != nil {
		return nil, err
	}
	return nil, storage.PutJSON(call.Tx, roleKey(s.ID, in.Role), r)
}

// setOps changes what the role may do by the flags of a request.
func (r *role) setOps(rest param.Object) error {
	given := map[string]bool{}
	for _, m := range rest {
		if !strings.HasPrefix(m.Key, opPrefix) {
			continue
		}
		name := flag(m.Key)
		if name != opAll && name != opNone && !slices.Contains(operations(), strings.TrimPrefix(name, opPrefix)) {
			return errs.New(errs.Invalid, "there is no operation %q", m.Key)
		}
		var on bool
		switch text := strings.Trim(string(m.Value), `"`); text {
		case "true", "1", "True", "TRUE", "t", "T":
			on = true
		case "false", "0", "False", "FALSE", "f", "F", "null":
		default:
			return errs.New(errs.Invalid, "%s must be true or false", m.Key)
		}
		given[name] = on
	}
	if given[opAll] || given[opNone] {
		for name, on := range given {
			if on && (name != opAll && name != opNone && (given[opNone] || !apart(name)) || given[opAll] && given[opNone]) {
				return errs.New(errs.Invalid, "operation_all and operation_none stand alone: no other operation can be given beside them, but operation_set_defaults and operation_set_constraints beside operation_all")
			}
		}
		r.Ops = nil
		for name, on := range given {
			if on {
				r.Ops = append(r.Ops, name)
			}
		}
		slices.Sort(r.Ops)
		return nil
	}
	single, alone := false, false // alone is not beside operation_all
	for name := range given {
		single = single || name != opAll && name != opNone
		alone = alone || name != opAll && name != opNone && !apart(name)
	}
	ops := map[string]bool{}
	for _, op := range r.Ops {
		_, cleared := given[op]
		ops[op] = !cleared && !(op == opAll && alone || op == opNone && single)
	}
	for name, on := range given {
		ops[name] = on
	}
	r.Ops = nil
	for name, on := range ops {
		if on {
			r.Ops = append(r.Ops, name)
		}
	}
	slices.Sort(r.Ops)
	return nil
}

// may reports whether the role allows an operation, by its flag without prefix.
func (r *role) may(op string) bool {
	return slices.Contains(r.Ops, opAll) && !apart(opPrefix+op) || slices.Contains(r.Ops, opPrefix+op) ||
		op == "set_attribute" && slices.Contains(r.Ops, opPrefix+"modify_attribute")
}

func (e *Engine) findRole(tx storage.Tx, in roleIn) (*scope, *role, error) {
	s, err := scopeOf(tx, in.Scope)
	if err != nil {
		return nil, nil, err
	}
	r, err := get[role](tx, roleKey(s.ID, in.Role))
	return s, r, err
}

func (e *Engine) readRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	_, r, err := e.findRole(call.Tx, in)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"tls_client_key_type": r.Key.Type, "tls_client_key_bits": r.Key.Bits, "tls_client_ttl": int64(r.TTL / time.Second)}
	if r.CA != "" {
		out["ca"] = r.CA
	}
	if r.Client != "" {
		out["client"] = r.Client
	}
	if r.Rates.Role != 0 {
		out["max_operations_per_second"] = r.Rates.Role
	}
	if r.Rates.Client != 0 {
		out["max_operations_per_second_per_client"] = r.Rates.Client
	}
	for _, op := range r.Ops {
		out[op] = true
		switch op {
		case opPrefix + "create_keypair":
			out[opPrefix+"create_key_pair"] = true
		case opPrefix + "rekey_keypair":
			out[opPrefix+"rekey_key_pair"] = true
		}
	}
	return data(out), nil
}

func (e *Engine) deleteRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	s, r, err := e.findRole(call.Tx, in)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{credDir(s.ID, r.ID), "line/" + s.ID + "/" + r.ID + "/", ticketDir(s.ID, r.ID), asyncDir(s.ID, r.ID)} {
		if err := call.Tx.DeletePrefix(dir); err != nil {
			return nil, err
		}
	}
	if err := call.Tx.Put(roleIDKey(s.ID, r.ID), nil); err != nil { // the id stays taken
		return nil, err
	}
	return nil, call.Tx.Delete(roleKey(s.ID, in.Role))
}
