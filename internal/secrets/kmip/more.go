package kmip

import (
	"slices"

	"arca/internal/ttlv"
	versions "arca/internal/version"
)

// Operations of KMIP 2 that have no object, or only its attributes.

// setAttribute makes an attribute of which there is one have a value, whether it had
// one before or not (KMIP 2.0, section 6.1.55).
func (b *batch) setAttribute(p *ttlv.Node) (*ttlv.Node, error) {
	o, g, err := b.changing(p)
	if err != nil {
		return nil, err
	}
	have := o.instances(g.name)
	if len(have) > 1 {
		return nil, newer(fail(ttlv.ResultReasonIllegalOperation, "the object has several of %s: use Modify Attribute", g.name), ttlv.ResultReasonMultiValuedAttribute)
	}
	if g.rights&modify == 0 || len(have) == 0 && g.rights&(add|atMake) == 0 {
		return nil, newer(denied("%s cannot be changed", g.name), ttlv.ResultReasonAttributeReadOnly)
	}
	if err := b.freeName(o, &g); err != nil {
		return nil, err
	}
	c := o.clone()
	if err := b.checkChange(c, &g); err != nil {
		return nil, err
	}
	a := newAttribute(g.name, g.value)
	if len(have) == 1 {
		a.Index = have[0].Index
	}
	c.drop(g.name)
	c.Attrs = append(c.Attrs, a)
	if _, err := b.changed(o, c, a); err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}

// adjustAttribute changes an attribute by a step (KMIP 2.0, section 6.1.3).
func (b *batch) adjustAttribute(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	name := p.Get(ttlv.TagAttributeName).Text() // the reference, in the form of KMIP 1
	k, ok := kindOfName(name)
	if !ok {
		return nil, missing("Attribute Reference")
	}
	if k.rights&modify == 0 {
		return nil, newer(denied("%s cannot be changed", k.name), ttlv.ResultReasonAttributeReadOnly)
	}
	have := o.instances(k.name)
	switch {
	case len(have) == 0:
		return nil, newer(fail(ttlv.ResultReasonItemNotFound, "the object has no %s", k.name), ttlv.ResultReasonAttributeNotFound)
	case len(have) > 1:
		return nil, newer(fail(ttlv.ResultReasonIllegalOperation, "the object has several of %s", k.name), ttlv.ResultReasonMultiValuedAttribute)
	}
	how, err := enum(p, ttlv.TagAdjustmentType)
	if err != nil {
		return nil, err
	}
	old := have[0].node()
	value := &ttlv.Node{Tag: old.Tag, Type: old.Type, Int: old.Int}
	step := int64(1)
	if n := p.Get(ttlv.TagAdjustmentValue); n != nil {
		step = n.Int
	}
	numeric := slices.Contains([]ttlv.Type{ttlv.Integer, ttlv.LongInteger, ttlv.Interval, ttlv.DateTime, ttlv.DateTimeExtended}, old.Type)
	switch {
	case how == ttlv.AdjustmentTypeIncrement && numeric:
		value.Int += step
	case how == ttlv.AdjustmentTypeDecrement && numeric:
		value.Int -= step
	case how == ttlv.AdjustmentTypeNegate && old.Type == ttlv.Boolean:
		value.Int = 1 - old.Int
	case how == ttlv.AdjustmentTypeNegate && (old.Type == ttlv.Integer || old.Type == ttlv.LongInteger):
		value.Int = -old.Int
	default:
		return nil, newer(invalid("%s cannot be adjusted so", k.name), ttlv.ResultReasonInvalidDataType)
	}
	if !inRangeOf(value) || step < 0 && value.Int > old.Int != (how == ttlv.AdjustmentTypeDecrement) {
		return nil, newer(invalid("%s would leave the range of its type", k.name), ttlv.ResultReasonNumericRange)
	}
	g := given{kind: k, index: have[0].Index, value: value}
	c := o.clone()
	if err := b.checkChange(c, &g); err != nil {
		return nil, err
	}
	a := newAttribute(k.name, g.value)
	a.Index = have[0].Index
	c.drop(k.name)
	c.Attrs = append(c.Attrs, a)
	if _, err := b.changed(o, c, a); err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}

func inRangeOf(n *ttlv.Node) bool {
	switch n.Type { //nolint:exhaustive // the others have 64 bits, or are no numbers
	case ttlv.Integer:
		return n.Int == int64(int32(n.Int))
	case ttlv.Interval:
		return n.Int >= 0 && n.Int <= 1<<32-1
	}
	return true
}

func (*batch) ping(*ttlv.Node) (*ttlv.Node, error) { return response(), nil }

// interop marks where a test begins and ends; there is nothing to be done.
func (*batch) interop(p *ttlv.Node) (*ttlv.Node, error) {
	if n, err := enum(p, ttlv.TagInteropFunction); err != nil || n == 0 {
		return nil, missing("Interop Function")
	}
	return response(), nil
}

const maxLogBytes = 8 << 10

// log puts a text of the client into the audit log, where every request is.
func (b *batch) log(p *ttlv.Node) (*ttlv.Node, error) {
	n := p.Get(ttlv.TagLogMessage)
	if n == nil || n.Type != ttlv.TextString || len(n.Bytes) > maxLogBytes {
		return nil, invalid("Log Message is a text of at most %d bytes", maxLogBytes)
	}
	return response(), nil
}

// setEndpointRole leaves the roles as they are: this side is the server.
func (*batch) setEndpointRole(p *ttlv.Node) (*ttlv.Node, error) {
	role, err := enum(p, ttlv.TagEndpointRole)
	if err != nil {
		return nil, err
	}
	if role != ttlv.EndpointRoleServer {
		return nil, fail(ttlv.ResultReasonOperationNotSupported, "this server does not become a client")
	}
	return response(ttlv.Enum(ttlv.TagEndpointRole, role)), nil
}

// Functions of PKCS #11 that are there (KMIP 2.0, section 6.1.38).
func (b *batch) pkcs11(p *ttlv.Node) (*ttlv.Node, error) {
	fn, err := enum(p, ttlv.TagPKCS_11Function)
	if err != nil {
		return nil, err
	}
	out := response(ttlv.Enum(ttlv.TagPKCS_11Function, fn))
	switch fn {
	case ttlv.PKCS_11FunctionC_Initialize:
		out.Add(ttlv.Bytes(ttlv.TagCorrelationValue, []byte(newUUID())))
	case ttlv.PKCS_11FunctionC_GetInfo:
		if p.Get(ttlv.TagCorrelationValue) == nil {
			return nil, newer(missing("Correlation Value"), ttlv.ResultReasonInvalidCorrelationValue)
		}
		// CK_INFO: version of Cryptoki, manufacturer, flags, description, version of the library.
		info := append([]byte{2, 40}, filled("arca", 32)...)
		info = append(append(info, make([]byte, 8)...), filled("arca "+versions.Arca, 32)...)
		out.Add(ttlv.Bytes(ttlv.TagPKCS_11OutputParameters, append(info, 1, 0)))
	case ttlv.PKCS_11FunctionC_Finalize:
	default:
		return nil, newer(fail(ttlv.ResultReasonOperationNotSupported, "this function of PKCS #11 is not there"), ttlv.ResultReasonPKCS_11InvalidFunction)
	}
	return out.Add(ttlv.Enum(ttlv.TagPKCS_11ReturnCode, ttlv.PKCS_11ReturnCodeOK)), nil
}

// filled is a text with blanks behind it.
func filled(s string, n int) []byte {
	out := slices.Repeat([]byte{' '}, n)
	copy(out, s)
	return out
}
