package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// explainRoutes tell why a request is allowed or refused. Vault has nothing like
// it.
func (e *Engine) explainRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("policies/explain", e.explain, engine.ID("policies-explain"),
			engine.Help("Tell which rules allow or refuse a request of a token, an entity or a list of policies.")),
		engine.Write("policies/explain-self", e.explainSelf, engine.ID("policies-explain-self"),
			engine.Help("Tell which rules allow or refuse a request of the caller's token.")),
	}
}

type explainSelfIn struct {
	Operation  string          `api:"operation" help:"What is done: read, list, write (create or update), create, update, patch or delete."`
	Path       string          `api:"path" help:"The path."`
	Namespace  *string         `api:"namespace" help:"Full path of the namespace in which the request is made; that of this request by default."`
	Parameters json.RawMessage `api:"parameters" help:"Parameters of the request: an object."`
	WrapTTL    time.Duration   `api:"wrap_ttl" help:"Time for which the answer is to be wrapped."`
}

type explainIn struct {
	explainSelfIn
	Token    string   `api:"token" help:"The token for which the request is judged."`
	Accessor string   `api:"accessor" help:"Accessor of the token."`
	EntityID string   `api:"entity_id" help:"Id of an entity, with no policies but its own and its groups'."`
	Policies []string `api:"policies" help:"Names of policies."`
	// Proposed are texts to judge by in place of those that are stored.
	Proposed map[string]string `api:"proposed" help:"Texts of policies by name, to judge by in place of what is stored."`
}

const maxProposed = 20

// texts parses the proposed policies.
func (in *explainIn) texts() (map[string]*policy.Policy, error) {
	if len(in.Proposed) > maxProposed {
		return nil, errs.New(errs.Invalid, "at most %d policies can be proposed at a time", maxProposed)
	}
	out := make(map[string]*policy.Policy, len(in.Proposed))
	for name, text := range in.Proposed {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" || name == policy.RootName {
			return nil, errs.New(errs.Invalid, "%q is no name of a policy that could be written", name)
		}
		p, err := policy.Parse(name, text)
		if err != nil {
			return nil, err
		}
		out[name] = p
	}
	return out, nil
}

// A subject is for whom a request is judged.
type subject struct {
	token *token.Entry
	// refused says why the token is no good, whatever it asks.
	refused string
	// shown is the path of the namespace whose policies, with those below unless only
	// is set, the asker may see.
	shown string
	only  bool
	// proposed are texts in place of stored ones, nil for none.
	proposed map[string]*policy.Policy
}

func (e *Engine) explainSelf(_ context.Context, call *engine.Call, in explainSelfIn) (*engine.Response, error) {
	t, err := self(call)
	if err != nil {
		return nil, err
	}
	own, err := desks(call).Namespaces.ByID(call.Tx, t.NamespaceID)
	if err != nil {
		return nil, err
	}
	return in.answer(call, subject{token: t, shown: own.Path, only: true})
}

func (e *Engine) explain(_ context.Context, call *engine.Call, in explainIn) (*engine.Response, error) {
	given := 0
	for _, set := range []bool{in.Token != "", in.Accessor != "", in.EntityID != "", len(in.Policies) > 0} {
		if set {
			given++
		}
	}
	if given != 1 {
		return nil, errs.New(errs.Invalid, "one of token, accessor, entity_id and policies must be given")
	}
	s, err := in.subject(call)
	if err != nil {
		return nil, err
	}
	s.shown = call.NamespacePath
	if s.proposed, err = in.texts(); err != nil {
		return nil, err
	}
	return in.answer(call, s)
}

func (in *explainIn) subject(call *engine.Call) (subject, error) {
	d := desks(call)
	switch {
	case in.EntityID != "":
		t, err := within(call, &token.Entry{NamespaceID: identity.NamespaceOf(in.EntityID), EntityID: in.EntityID}, nil)
		if isBad(err) {
			return subject{refused: "entity_gone"}, nil
		}
		if err != nil {
			return subject{}, err
		}
		return holder(call, t)
	case len(in.Policies) > 0:
		if err := engine.CheckPolicies(in.Policies); err != nil {
			return subject{}, err
		}
		names := make([]string, len(in.Policies))
		for i, name := range in.Policies {
			names[i] = strings.ToLower(strings.TrimSpace(name))
			if names[i] == policy.RootName && ns(call) != namespace.RootID {
				return subject{}, errs.New(errs.Invalid, "the policy root is in the root namespace only")
			}
		}
		slices.Sort(names)
		return subject{token: &token.Entry{NamespaceID: ns(call), Policies: slices.Compact(names)}}, nil
	}
	find := func(now time.Time) (*token.Entry, error) {
		var t *token.Entry
		var err error
		if in.Token != "" {
			t, err = d.Tokens.Lookup(call.Tx, in.Token, now)
		} else {
			t, err = d.Tokens.ByAccessor(call.Tx, in.Accessor, now)
		}
		return within(call, t, err)
	}
	t, err := find(call.Now)
	if isBad(err) {
		if _, err = find(time.Time{}); err == nil {
			return subject{refused: "token_expired"}, nil // its record is not removed yet
		}
		if isBad(err) {
			return subject{refused: "token_invalid"}, nil
		}
	}
	if err != nil {
		return subject{}, err
	}
	return holder(call, t)
}

// holder looks at who stands behind a token.
func holder(call *engine.Call, t *token.Entry) (subject, error) {
	if t.EntityID != "" {
		switch _, err := desks(call).Identity.Person(call.Tx, t.EntityID); {
		case errors.Is(err, identity.ErrDisabled):
			return subject{refused: "entity_disabled"}, nil
		case errors.Is(err, identity.ErrNotFound):
			return subject{refused: "entity_gone"}, nil
		case err != nil:
			return subject{}, err
		}
	}
	return subject{token: t}, nil
}

var explainOps = map[string]engine.Operation{
	"read": engine.OpRead, "list": engine.OpList, "create": engine.OpCreate, "update": engine.OpUpdate,
	"write": engine.OpUpdate, "patch": engine.OpPatch, "delete": engine.OpDelete,
}

// query is the request that is asked about.
func (in *explainSelfIn) query(call *engine.Call) (*core.Query, error) {
	op, ok := explainOps[strings.ToLower(in.Operation)]
	if !ok {
		return nil, errs.New(errs.Invalid, "operation must be read, list, write, create, update, patch or delete")
	}
	path := strings.TrimPrefix(in.Path, "/")
	if path == "" {
		return nil, errs.New(errs.Invalid, "path must be supplied")
	}
	if op == engine.OpList && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	q := &core.Query{
		Op: op, Write: strings.EqualFold(in.Operation, "write"), Namespace: call.SentNamespace, Path: path, WrapTTL: in.WrapTTL,
	}
	if in.Namespace != nil {
		if q.Namespace = mount.Canonical(*in.Namespace); q.Namespace == "/" || q.Namespace == "root/" {
			q.Namespace = ""
		}
	}
	if len(in.Parameters) > 0 && string(in.Parameters) != "null" {
		var err error
		if q.Params, err = param.ParseObject(in.Parameters); err != nil {
			return nil, errs.New(errs.Invalid, "parameters must be an object")
		}
	}
	return q, nil
}

func (in *explainSelfIn) answer(call *engine.Call, s subject) (*engine.Response, error) {
	q, err := in.query(call)
	if err != nil {
		return nil, err
	}
	if s.refused != "" {
		x := &core.Account{Reason: s.refused, Op: q.Op, Namespace: q.Namespace, Path: q.Path}
		return data(account(x, q, s)), nil
	}
	acl, err := s.acl(call)
	if err != nil {
		return nil, err
	}
	x, err := desks(call).Explain(call.Tx, acl, s.token.NamespaceID, q)
	if err != nil {
		return nil, err
	}
	out := account(x, q, s)
	return data(out), s.policies(call, out)
}

func (s *subject) acl(call *engine.Call) (*policy.ACL, error) {
	if len(s.proposed) > 0 {
		return desks(call).ProposedACL(call.Tx, s.token, ns(call), s.proposed)
	}
	return aclOf(call, s.token)
}

// policies adds the names of the policies in force, and of those that do not
// exist.
func (s *subject) policies(call *engine.Call, out map[string]any) error {
	sets, err := desks(call).PolicySets(call.Tx, s.token)
	if err != nil {
		return err
	}
	names, missing := []string{}, []string{}
	for _, set := range sets {
		for _, name := range set.Names {
			_, err := desks(call).Policies.Get(call.Tx, set.NamespaceID, name)
			proposed := s.proposed[name] != nil && set.NamespaceID == ns(call)
			switch {
			case err == nil, proposed:
				names = append(names, set.Path+name)
			case errors.Is(err, storage.ErrNotFound):
				missing = append(missing, set.Path+name)
			default:
				return err
			}
		}
	}
	out["policies"], out["missing_policies"] = names, missing
	return nil
}

func account(x *core.Account, q *core.Query, s subject) map[string]any {
	op := x.Op.String()
	if q.Write {
		op = "write"
	}
	open := s.seesAll(x.Rules)
	out := map[string]any{
		"allowed": x.Allowed, "reason": x.Reason, "operation": op, "path": x.Path, "namespace": x.Namespace,
		"message": message(x, q, open), "rules": s.sources(x.Rules), "overridden": s.sources(x.Passed), "unresolved": s.sources(x.Void),
	}
	if q.Write && len(x.As) > 0 {
		as := make([]string, len(x.As))
		for i, o := range x.As {
			as[i] = o.String()
		}
		out["allowed_as"] = as
	}
	switch x.Reason {
	case policy.NoRule.String(), policy.Denied.String(), policy.NoCapability.String():
		out["missing"] = policy.Needs(x.Op).Names()
	case "sudo_required":
		out["missing"] = policy.Sudo.Names()
	}
	if x.Param != "" && open {
		out["parameter"] = x.Param
	}
	if x.Why == policy.WrapTTL && open {
		out["min_wrapping_ttl"], out["max_wrapping_ttl"] = int64(x.Rule.MinWrap.Seconds()), int64(x.Rule.MaxWrap.Seconds())
	}
	return out
}

// sees reports whether the asker may see more of a rule than the name of its policy. Who
// asks for their own token has no right to read anything, and sees what their own
// namespace gives them; who may ask for others' reads the policies of theirs and below.
func (s *subject) sees(src policy.Source) bool {
	if s.only {
		return src.Namespace == s.shown
	}
	return strings.HasPrefix(src.Namespace, s.shown)
}

// seesAll reports whether the asker may see all of the rules.
func (s *subject) seesAll(list []policy.Source) bool {
	return !slices.ContainsFunc(list, func(src policy.Source) bool { return !s.sees(src) })
}

// sources shows rules. Of a namespace that is not the asker's it shows the names
// of policies and no more.
func (s *subject) sources(list []policy.Source) []map[string]any {
	out := make([]map[string]any, len(list))
	for i, src := range list {
		m := map[string]any{"policy": src.Policy, "namespace": src.Namespace}
		if s.sees(src) {
			m["path"], m["capabilities"] = src.Pattern, src.Capabilities.Names()
			if src.Line > 0 {
				m["line"] = src.Line
			}
			if src.Resolved != "" {
				m["resolved_path"] = src.Resolved
			}
		}
		out[i] = m
	}
	return out
}

// message says in a sentence what the other members say in words.
// Of rules that the asker does not see it names no parameter.
func message(x *core.Account, q *core.Query, open bool) string {
	switch x.Reason {
	case "token_invalid":
		return "no valid token is known by this: it was revoked, has expired, or never existed in this namespace or below"
	case "token_expired":
		return "the token or one that it descends from has expired"
	case "entity_disabled":
		return "the entity behind the token is disabled"
	case "entity_gone":
		return "the entity does not exist any more"
	case "namespace_unreachable":
		return fmt.Sprintf("the token cannot be used in the namespace %q: it is neither its own nor below it, or does not exist", x.Namespace)
	case "namespace_locked":
		return "the namespace is locked"
	case "root_namespace_only":
		return "the path can be used in the root namespace only"
	case "no_token_needed":
		return "the path needs no token"
	case "sudo_required":
		return "the path is protected: its rule must give sudo, too"
	}
	if x.Param != "" && !open {
		return "the rule has conditions on parameters that the request does not meet"
	}
	return verdictMessage(x, q)
}

func verdictMessage(x *core.Account, q *core.Query) string {
	switch x.Why {
	case policy.Granted:
		if x.NoRoute {
			return "policies allow it, but nothing answers at this path"
		}
		return "policies allow it"
	case policy.NoRule:
		return "no rule of these policies matches the path"
	case policy.Denied:
		return "a rule denies the path"
	case policy.NoCapability:
		text := fmt.Sprintf("the rule for the path does not give %q", x.Op)
		if q.Write && len(x.As) == 1 {
			text += fmt.Sprintf(", so that only a %s is allowed", x.As[0])
		}
		return text
	case policy.WrapTTL:
		if q.WrapTTL == 0 {
			return "the rule demands that the answer is wrapped"
		}
		return "the time of wrapping is not within the rule's bounds"
	case policy.ParamRequired:
		return fmt.Sprintf("the rule requires the parameter %q", x.Param)
	case policy.ParamDenied:
		return fmt.Sprintf("the rule denies the parameter %q, or its value", x.Param)
	case policy.ParamNotAllowed:
		return fmt.Sprintf("the parameter %q is not among those that the rule allows", x.Param)
	case policy.ValueNotAllowed:
		return fmt.Sprintf("the value of the parameter %q is not among those that the rule allows", x.Param)
	}
	return ""
}
