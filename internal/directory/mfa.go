package directory

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"image/png"
	"regexp"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/mfa"
	"arca/internal/namespace"
	"arca/internal/param"
)

// mfaRoutes serve the second factors of logins
// (https://developer.hashicorp.com/vault/api-docs/secret/identity/mfa).
func (e Engine) mfaRoutes() []engine.Route {
	return []engine.Route{
		engine.List("mfa/method", e.listMethods, engine.ID("mfa-list-methods"), engine.Help("List the MFA methods.")),
		engine.Read("mfa/method/{method_id}", e.readMethod, engine.ID("mfa-read-method"), engine.Help("Read an MFA method.")),
		engine.List("mfa/method/totp", e.listMethods, engine.ID("mfa-list-totp-methods"), engine.Help("List the TOTP methods.")),
		engine.Write("mfa/method/totp", e.createMethod, engine.ID("mfa-create-totp-method"), engine.Help("Make a TOTP method.")),
		engine.Write("mfa/method/totp/generate", e.generate, engine.ID("mfa-generate-totp-secret"),
			engine.Help("Make the caller's own secret for a TOTP method.")),
		engine.Write("mfa/method/totp/admin-generate", e.adminGenerate, engine.ID("mfa-admin-generate-totp-secret"),
			engine.Help("Make an entity's secret for a TOTP method.")),
		engine.Write("mfa/method/totp/admin-destroy", e.adminDestroy, engine.ID("mfa-admin-destroy-totp-secret"),
			engine.Help("Destroy an entity's secret for a TOTP method.")),
		engine.Read("mfa/method/totp/{method_id}", e.readMethod, engine.ID("mfa-read-totp-method"), engine.Help("Read a TOTP method.")),
		engine.Write("mfa/method/totp/{method_id}", e.updateMethod, engine.ID("mfa-update-totp-method"), engine.Help("Change a TOTP method.")),
		engine.Delete("mfa/method/totp/{method_id}", e.deleteMethod, engine.ID("mfa-delete-totp-method"), engine.Help("Delete a TOTP method.")),
		engine.Write("mfa/method/{method_id}", e.refuseType, engine.Help("Refused: of the MFA methods only totp is supported.")),
		engine.Read("mfa/method/{type}/{method_id}", e.readOtherMethod, engine.Help("Refused: of the MFA methods only totp is supported.")),
		engine.List("mfa/login-enforcement", e.listEnforcements, engine.ID("mfa-list-login-enforcements"), engine.Help("List whose logins need MFA.")),
		engine.Read("mfa/login-enforcement/{name}", e.readEnforcement, engine.ID("mfa-read-login-enforcement"), engine.Help("Read whose logins need MFA.")),
		engine.Write("mfa/login-enforcement/{name}", e.writeEnforcement, engine.ID("mfa-write-login-enforcement"), engine.Help("Say whose logins need MFA.")),
		engine.Delete("mfa/login-enforcement/{name}", e.deleteEnforcement, engine.ID("mfa-delete-login-enforcement"), engine.Help("Let logins pass without MFA.")),
	}
}

const typeTOTP = "totp"

type methodIn struct {
	ID        string         `api:"method_id" help:"Id of the method."`
	Name      string         `api:"method_name" help:"A name that logins may use for it."`
	Issuer    string         `api:"issuer" help:"Name of who asks for the codes, as apps show it."`
	Period    *time.Duration `api:"period" help:"How long a code is good; 30 seconds when absent."`
	KeySize   *int           `api:"key_size" help:"Bytes of secrets; 20 when absent."`
	QRSize    *int           `api:"qr_size" help:"Pixels of the square code; 200 when absent, 0 for none."`
	Algorithm string         `api:"algorithm" help:"SHA1, SHA256 or SHA512."`
	Digits    *int           `api:"digits" help:"6 or 8."`
	Skew      *int           `api:"skew" help:"Steps of time before and after that are taken, too: 0 or 1."`
	Attempts  *int           `api:"max_validation_attempts" help:"Wrong codes until an entity must wait; 5 when absent."`
}

func or[T any](v *T, standard T) T {
	if v == nil {
		return standard
	}
	return *v
}

func (in *methodIn) method(id string) *mfa.Method {
	m := &mfa.Method{
		ID: id, Name: in.Name, Issuer: in.Issuer, Period: int(or(in.Period, 30*time.Second) / time.Second), KeySize: or(in.KeySize, 20),
		QRSize: or(in.QRSize, 200), Algorithm: in.Algorithm, Digits: or(in.Digits, 6), Skew: or(in.Skew, 1), Attempts: or(in.Attempts, 5),
	}
	if m.Algorithm == "" {
		m.Algorithm = "SHA1"
	}
	return m
}

func (Engine) createMethod(_ context.Context, call *engine.Call, in methodIn) (*engine.Response, error) {
	m := in.method("")
	if err := desks(call).MFA.PutMethod(call.Tx, call.NamespaceID, m); err != nil {
		return nil, err
	}
	return answer(map[string]any{"method_id": m.ID}), nil
}

func (Engine) updateMethod(_ context.Context, call *engine.Call, in methodIn) (*engine.Response, error) {
	if !formOfID(in.ID) {
		return nil, engine.ErrPath
	}
	have, err := methodOf(call, in.ID)
	if err != nil {
		return nil, missing(err)
	}
	m := in.method(have.ID)
	m.Name = have.Name
	return nil, desks(call).MFA.PutMethod(call.Tx, have.NamespaceID, m)
}

type methodIDIn struct {
	ID string `api:"method_id" help:"Id of the method."`
}

type typeIn struct {
	methodIDIn
	Type string `api:"type" help:"Type of the method."`
}

func (Engine) refuseType(_ context.Context, _ *engine.Call, in methodIDIn) (*engine.Response, error) {
	return nil, errs.New(errs.Invalid, "MFA methods of type %q are not supported: use totp", in.ID)
}

func (Engine) readOtherMethod(_ context.Context, _ *engine.Call, in typeIn) (*engine.Response, error) {
	return nil, errs.New(errs.Invalid, "failed to find the method ID under MFA type %s.", in.Type) //nolint:revive // the API's text
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.\w+)?$`)

func formOfID(id string) bool { return len(id) < 128 && uuidForm.MatchString(id) }

// methodOf finds a method of the call's namespace.
func methodOf(call *engine.Call, id string) (*mfa.Method, error) {
	m, err := desks(call).MFA.Method(call.Tx, id)
	if errors.Is(err, mfa.ErrNotFound) || err == nil && m.NamespaceID != call.NamespaceID {
		return nil, identity.ErrNotFound
	}
	return m, err
}

func showMethod(call *engine.Call, m *mfa.Method) map[string]any {
	return map[string]any{
		"id": m.ID, "name": m.Name, "type": typeTOTP, "issuer": m.Issuer, "period": m.Period, "key_size": m.KeySize, "qr_size": m.QRSize,
		"algorithm": m.Algorithm, "digits": m.Digits, "skew": m.Skew, "max_validation_attempts": m.Attempts,
		"namespace_id": call.NamespaceID, "namespace_path": call.NamespacePath,
	}
}

func (Engine) readMethod(_ context.Context, call *engine.Call, in methodIDIn) (*engine.Response, error) {
	if !formOfID(in.ID) {
		return nil, engine.ErrPath
	}
	m, err := methodOf(call, in.ID)
	if err != nil {
		return nil, missing(err)
	}
	return answer(showMethod(call, m)), nil
}

func (Engine) deleteMethod(_ context.Context, call *engine.Call, in methodIDIn) (*engine.Response, error) {
	m, err := methodOf(call, in.ID)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, err := desks(call).Namespaces.ByID(call.Tx, m.NamespaceID)
	if err != nil {
		return nil, err
	}
	below, err := idsBelow(call, n, nil)
	if err != nil {
		return nil, err
	}
	return nil, desks(call).MFA.DeleteMethod(call.Tx, m, below)
}

// idsBelow appends the ids of all namespaces below n. A method is deleted seldom
// enough to look at them all.
func idsBelow(call *engine.Call, n *namespace.Namespace, ids []string) ([]string, error) {
	list, err := desks(call).Namespaces.List(call.Tx, n, "", 0)
	if err != nil {
		return nil, err
	}
	for _, child := range list {
		if ids, err = idsBelow(call, child, append(ids, child.ID)); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (Engine) listMethods(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	ids, err := desks(call).MFA.MethodIDs(call.Tx, call.NamespaceID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(ids))
	for _, id := range ids {
		m, err := desks(call).MFA.Method(call.Tx, id)
		if err != nil {
			return nil, err
		}
		info[id] = showMethod(call, m)
	}
	return listed(ids, info, nil)
}

type secretIn struct {
	Method string `api:"method_id" help:"Id of the method."`
	Entity string `api:"entity_id" help:"Id of the entity."`
}

type ownSecretIn struct {
	Method string `api:"method_id" help:"Id of the method."`
}

// usable finds a method that entities of the call's namespace may use: of this
// namespace, or one above.
func usable(call *engine.Call, id string) (*mfa.Method, error) {
	m, err := desks(call).MFA.Method(call.Tx, id)
	if err != nil {
		return nil, err
	}
	n, err := desks(call).Namespaces.ByID(call.Tx, m.NamespaceID)
	if err != nil {
		return nil, mfa.ErrNotFound
	}
	if !strings.HasPrefix(call.NamespacePath, n.Path) {
		return nil, mfa.ErrNotFound
	}
	return m, nil
}

// find checks both, and finds the method.
func (in *secretIn) find(call *engine.Call) (*mfa.Method, error) {
	if in.Method == "" {
		return nil, errs.New(errs.Invalid, "missing method ID")
	}
	if in.Entity == "" {
		return nil, errs.New(errs.Invalid, "missing entityID")
	}
	m, err := usable(call, in.Method)
	if errors.Is(err, mfa.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "invalid method ID")
	}
	if err != nil {
		return nil, err
	}
	if _, err := store(call).Entity(call.Tx, call.NamespaceID, in.Entity); errors.Is(err, identity.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "invalid entity ID")
	} else if err != nil {
		return nil, err
	}
	return m, nil
}

func (e Engine) generate(ctx context.Context, call *engine.Call, in ownSecretIn) (*engine.Response, error) {
	return e.adminGenerate(ctx, call, secretIn{Method: in.Method, Entity: call.Caller.EntityID})
}

func (Engine) adminGenerate(_ context.Context, call *engine.Call, in secretIn) (*engine.Response, error) {
	m, err := in.find(call)
	if err != nil {
		return nil, err
	}
	s := desks(call).MFA
	if _, err := s.SecretOf(call.Tx, in.Entity, m.ID); err == nil {
		return &engine.Response{Bare: true, Warnings: []string{"Entity already has a secret for MFA method \"" + m.Name + "\""}}, nil
	} else if !errors.Is(err, mfa.ErrNotFound) {
		return nil, err
	}
	secret := m.NewSecret()
	if err := s.PutSecret(call.Tx, in.Entity, m.ID, secret); err != nil {
		return nil, err
	}
	algorithm := otp.AlgorithmSHA1
	for _, a := range []otp.Algorithm{otp.AlgorithmSHA256, otp.AlgorithmSHA512} {
		if a.String() == m.Algorithm {
			algorithm = a
		}
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: m.Issuer, AccountName: in.Entity, Period: uint(m.Period), Digits: otp.Digits(m.Digits), Algorithm: algorithm, Secret: secret.Key,
	})
	if err != nil {
		return nil, errors.New("make the address of an MFA secret")
	}
	out := map[string]any{"url": key.URL()}
	if m.QRSize > 0 {
		image, err := key.Image(m.QRSize, m.QRSize)
		if err != nil {
			return nil, errs.New(errs.Invalid, "the square code does not fit into qr_size=%d", m.QRSize)
		}
		var b bytes.Buffer
		if err := png.Encode(&b, image); err != nil {
			return nil, err
		}
		out["barcode"] = base64.StdEncoding.EncodeToString(b.Bytes())
	}
	return answer(out), nil
}

func (Engine) adminDestroy(_ context.Context, call *engine.Call, in secretIn) (*engine.Response, error) {
	m, err := in.find(call)
	if err != nil {
		return nil, err
	}
	return nil, desks(call).MFA.DeleteSecret(call.Tx, in.Entity, m.ID)
}

type enforcementIn struct {
	Name      string   `api:"name" help:"Name of the enforcement."`
	Methods   []string `api:"mfa_method_ids" help:"Methods of which one must be used."`
	Accessors []string `api:"auth_method_accessors" help:"Auth mounts whose logins need it."`
	Types     []string `api:"auth_method_types" help:"Types of auth mounts whose logins need it."`
	Groups    []string `api:"identity_group_ids" help:"Groups whose members need it."`
	Entities  []string `api:"identity_entity_ids" help:"Entities that need it."`
}

func (in *enforcementIn) check(call *engine.Call) error {
	if len(in.Methods) == 0 {
		return errs.New(errs.Invalid, "missing method ids")
	}
	if len(in.Accessors)+len(in.Types)+len(in.Groups)+len(in.Entities) == 0 {
		return errs.New(errs.Invalid, "One of auth_method_accessors, auth_method_types, identity_group_ids, identity_entity_ids must be specified") //nolint:revive // the API's text
	}
	for _, id := range in.Methods {
		if _, err := usable(call, id); errors.Is(err, mfa.ErrNotFound) {
			return errs.New(errs.Invalid, "one of the provided method ids doesn't exist")
		} else if err != nil {
			return err
		}
	}
	mounts, err := desks(call).Mounts.List(call.Tx, call.NamespaceID, true)
	if err != nil {
		return err
	}
	types := map[string]bool{}
	for _, m := range mounts {
		types[m.Type] = true
	}
	for _, accessor := range in.Accessors {
		if _, err := mountOf(call, accessor); errs.Is(err, errs.Invalid) {
			return errs.New(errs.Invalid, "one of the auth method accessors provided is invalid")
		} else if err != nil {
			return err
		}
	}
	for _, t := range in.Types {
		if !types[t] {
			return errs.New(errs.Invalid, "one of the auth method types provided is invalid")
		}
	}
	for _, id := range in.Groups {
		if _, err := store(call).Group(call.Tx, identity.NamespaceOf(id), id); errors.Is(err, identity.ErrNotFound) {
			return errs.New(errs.Invalid, "one of the provided group ids doesn't exist")
		} else if err != nil {
			return err
		}
	}
	for _, id := range in.Entities {
		if _, err := store(call).Entity(call.Tx, call.NamespaceID, id); errors.Is(err, identity.ErrNotFound) {
			return errs.New(errs.Invalid, "one of the provided entity ids doesn't exist")
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (Engine) writeEnforcement(_ context.Context, call *engine.Call, in enforcementIn) (*engine.Response, error) {
	if err := in.check(call); err != nil {
		return nil, err
	}
	return nil, desks(call).MFA.PutEnforcement(call.Tx, call.NamespaceID, &mfa.Enforcement{
		Name: in.Name, Methods: in.Methods, Accessors: in.Accessors, Types: in.Types, Groups: in.Groups, Entities: in.Entities,
	})
}

func showEnforcement(call *engine.Call, e *mfa.Enforcement) map[string]any {
	return map[string]any{
		"id": e.ID, "name": e.Name, "mfa_method_ids": e.Methods, "auth_method_accessors": param.OrEmpty(e.Accessors),
		"auth_method_types": param.OrEmpty(e.Types), "identity_group_ids": param.OrEmpty(e.Groups), "identity_entity_ids": param.OrEmpty(e.Entities),
		"namespace_id": call.NamespaceID, "namespace_path": call.NamespacePath,
	}
}

func (Engine) readEnforcement(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	list, err := desks(call).MFA.Enforcements(call.Tx, call.NamespaceID)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.Name == in.Name {
			return answer(showEnforcement(call, e)), nil
		}
	}
	return nil, errNotFound
}

func (Engine) listEnforcements(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	list, err := desks(call).MFA.Enforcements(call.Tx, call.NamespaceID)
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(list))
	info := make(map[string]any, len(list))
	for _, e := range list {
		keys = append(keys, e.Name)
		info[e.Name] = showEnforcement(call, e)
	}
	return listed(keys, info, nil)
}

func (Engine) deleteEnforcement(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, desks(call).MFA.DeleteEnforcement(call.Tx, call.NamespaceID, in.Name)
}
