package kmip

import (
	"context"
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// What operators do with objects by the API: list them, see what is known of them, and
// change their state. Key material is not given out here.

const maxCounted = 100_000 // objects that the statistics of a scope look at

type objectIn struct {
	scopeIn
	ID string `api:"id" help:"Identifier of the object."`
}

// asOperator is a batch that serves one request of the API, in KMIP 2's terms.
func (e *Engine) asOperator(ctx context.Context, call *engine.Call, name string) (*batch, error) {
	s, err := scopeOf(call.Tx, name)
	if err != nil {
		return nil, err
	}
	return &batch{e: e, ctx: ctx, call: call, tx: call.Tx, now: call.Now, v: version{2, 1}, scope: s.ID, role: &role{Ops: []string{opAll}}}, nil
}

// plainly is an error of the protocol as the API has it.
func plainly(err error) error {
	var f *fault
	switch {
	case !errors.As(err, &f):
		return err
	case f.reason == ttlv.ResultReasonItemNotFound:
		return errNotFound
	}
	return errs.New(errs.Invalid, "%s", f.text)
}

type listObjectsIn struct {
	scopeIn
	Detail bool `api:"detail" help:"Show when each was used last, too."`
	engine.Paging
}

// listObjects lists identifiers in the order in which objects were made. after is an
// identifier.
func (e *Engine) listObjects(ctx context.Context, call *engine.Call, in listObjectsIn) (*engine.Response, error) {
	b, err := e.asOperator(ctx, call, in.Scope)
	if err != nil {
		return nil, err
	}
	from := ""
	if in.After != "" {
		o, err := b.object(in.After)
		if err != nil {
			return nil, plainly(err)
		}
		from = orderDir(b.scope) + o.Order
	}
	limit := maxLocated
	if in.Limit > 0 {
		limit = min(in.Limit, maxLocated)
	}
	keys, info := []string{}, map[string]any{}
	for kv, err := range b.tx.Scan(orderDir(b.scope), from) {
		if err != nil {
			return nil, err
		}
		if len(keys) == limit {
			break
		}
		if kv.Key == from {
			continue
		}
		o, err := b.load(string(kv.Value))
		if err != nil {
			return nil, err
		}
		keys = append(keys, o.ID)
		known := map[string]any{"object_type": ttlv.EnumName(ttlv.TagObjectType, o.Type)}
		if !o.stateless() {
			known["state"] = ttlv.EnumName(ttlv.TagState, o.state(b.now))
		}
		if n := o.get(attrName); n != nil {
			known["name"] = n.Get(ttlv.TagNameValue).Text()
		}
		if in.Detail {
			last, err := b.lastUse(o)
			if err != nil {
				return nil, err
			}
			if last != nil {
				known["last_used"] = last
			}
		}
		info[o.ID] = known
	}
	if len(keys) == 0 {
		return nil, errNotFound
	}
	return data(map[string]any{"keys": keys, "key_info": info}), nil
}

// readObject shows all attributes of an object.
func (e *Engine) readObject(ctx context.Context, call *engine.Call, in objectIn) (*engine.Response, error) {
	b, err := e.asOperator(ctx, call, in.Scope)
	if err != nil {
		return nil, err
	}
	o, err := b.object(in.ID)
	if err != nil {
		return nil, plainly(err)
	}
	attrs := map[string]any{}
	for _, a := range o.visible(b.v, b.now) {
		tag := ttlv.TagAttributeValue
		name := a.Name
		if k, ok := kindsByName[a.Name]; ok {
			tag = k.tag
		} else if strings.HasPrefix(name, vendorPrefix) {
			vendor, rest := vendorOf(name)
			name = vendor + "-" + rest
		}
		k, _ := kindOfName(a.Name)
		v := e.texts().Plain(a.node(), tag)
		if k.rights&multi == 0 {
			attrs[name] = v
		} else {
			have, _ := attrs[name].([]any)
			attrs[name] = append(have, v)
		}
	}
	out := map[string]any{"id": o.ID, "attributes": attrs}
	last, err := b.lastUse(o)
	if err != nil {
		return nil, err
	}
	if last != nil {
		out["last_used"] = last
	}
	return data(out), nil
}

// act makes a handler of an operation on one object.
func (e *Engine) act(op func(b *batch, p *ttlv.Node) (*ttlv.Node, error)) func(context.Context, *engine.Call, objectIn) (*engine.Response, error) {
	return func(ctx context.Context, call *engine.Call, in objectIn) (*engine.Response, error) {
		return e.actOn(ctx, call, in, op)
	}
}

func (e *Engine) actOn(ctx context.Context, call *engine.Call, in objectIn, op func(b *batch, p *ttlv.Node) (*ttlv.Node, error), more ...*ttlv.Node) (*engine.Response, error) {
	b, err := e.asOperator(ctx, call, in.Scope)
	if err != nil {
		return nil, err
	}
	_, err = op(b, ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, in.ID)).Add(more...))
	return nil, plainly(err)
}

type revokeObjectIn struct {
	objectIn
	Reason  string `api:"reason" help:"Why, as the protocol calls it: CessationOfOperation (the default), KeyCompromise, …"`
	Message string `api:"message" help:"What there is to say about it."`
}

func (e *Engine) revokeObject(ctx context.Context, call *engine.Call, in revokeObjectIn) (*engine.Response, error) {
	code := ttlv.RevocationReasonCodeCessationOfOperation
	if in.Reason != "" {
		v, ok := ttlv.EnumValue(ttlv.TagRevocationReasonCode, in.Reason)
		if !ok {
			return nil, errs.New(errs.Invalid, "there is no reason %q", in.Reason)
		}
		code = v
	}
	reason := ttlv.Struct(ttlv.TagRevocationReason, ttlv.Enum(ttlv.TagRevocationReasonCode, code))
	if in.Message != "" {
		reason.Add(ttlv.Text(ttlv.TagRevocationMessage, plain(in.Message)))
	}
	return e.actOn(ctx, call, in.objectIn, (*batch).revoke, reason)
}

// restore takes a destroyed object back, while its scope keeps the material.
func (b *batch) restore(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.byID(p)
	if err != nil {
		return nil, err
	}
	if !o.destroyed() {
		return nil, invalid("the object is not destroyed")
	}
	if _, err := b.tx.Get(materialKey(b.scope, o.hash())); errors.Is(err, storage.ErrNotFound) {
		return nil, invalid("the material of the object is gone for good")
	} else if err != nil {
		return nil, err
	}
	for _, a := range o.instances(attrName) {
		other, err := b.named(a.node().Get(ttlv.TagNameValue).Text())
		if err != nil {
			return nil, err
		}
		if other != nil {
			return nil, invalid("another object has its name by now")
		}
	}
	c := o.clone()
	c.drop(attrDestroyed)
	return response(idNode(o)), b.save(o, c)
}

// settings are those of the scope, which are shared: change a copy. One that is gone has none.
func (b *batch) settings() (*scope, error) {
	if b.within != nil {
		return b.within, nil
	}
	name, err := nameOf(b.tx, scopeIDKey(b.scope))
	if errors.Is(err, errStranger) {
		return &scope{}, nil
	}
	if err != nil {
		return nil, err
	}
	b.within, err = b.e.scopes.Get(b.tx, scopeKey(name))
	return b.within, err
}

// retention is how long the scope keeps the material of destroyed objects; 0 is not at
// all.
func (b *batch) retention() (time.Duration, error) {
	s, err := b.settings()
	if err != nil {
		return 0, err
	}
	return s.Retention, nil
}

// thawed refuses an operation that changes objects while the scope is frozen.
func (b *batch) thawed(o *operation) error {
	tickets := o.flag == "login" || o.flag == "poll" || o.flag == "cancel" // which are no objects
	if o.reads || o.always || tickets {
		return nil
	}
	s, err := b.settings()
	if err != nil {
		return err
	}
	if s.Frozen {
		return denied("the scope is frozen: its objects are used, and not changed")
	}
	return nil
}

// stats counts the objects of a scope by type and state.
func (e *Engine) stats(ctx context.Context, call *engine.Call, in scopeIn) (*engine.Response, error) {
	b, err := e.asOperator(ctx, call, in.Scope)
	if err != nil {
		return nil, err
	}
	types, states, n, all := map[string]int{}, map[string]int{}, 0, true
	for kv, err := range b.tx.Scan(orderDir(b.scope), "") {
		if err != nil {
			return nil, err
		}
		if n == maxCounted {
			all = false
			break
		}
		if n++; n%256 == 0 && ctx.Err() != nil {
			return nil, errs.With(errs.Unavailable, ctx.Err())
		}
		o, err := b.load(string(kv.Value))
		if err != nil {
			return nil, err
		}
		types[ttlv.EnumName(ttlv.TagObjectType, o.Type)]++
		if !o.stateless() {
			states[ttlv.EnumName(ttlv.TagState, o.state(b.now))]++
		}
	}
	return data(map[string]any{"objects": n, "complete": all, "by_type": types, "by_state": states}), nil
}
