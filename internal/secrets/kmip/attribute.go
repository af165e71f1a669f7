package kmip

import (
	"slices"
	"strings"
	"time"

	"arca/internal/ttlv"
)

// Names of attributes that the server works with.
const (
	attrID           = "Unique Identifier"
	attrName         = "Name"
	attrType         = "Object Type"
	attrAlgorithm    = "Cryptographic Algorithm"
	attrLength       = "Cryptographic Length"
	attrParameters   = "Cryptographic Parameters"
	attrDomain       = "Cryptographic Domain Parameters"
	attrCertType     = "Certificate Type"
	attrCertLength   = "Certificate Length"
	attrCertID       = "X.509 Certificate Identifier"
	attrCertSubject  = "X.509 Certificate Subject"
	attrCertIssuer   = "X.509 Certificate Issuer"
	attrOldCertID    = "Certificate Identifier"
	attrOldSubject   = "Certificate Subject"
	attrOldIssuer    = "Certificate Issuer"
	attrSignatureAlg = "Digital Signature Algorithm"
	attrDigest       = "Digest"
	attrPolicy       = "Operation Policy Name"
	attrMask         = "Cryptographic Usage Mask"
	attrLease        = "Lease Time"
	attrLimits       = "Usage Limits"
	attrState        = "State"
	attrInitial      = "Initial Date"
	attrActivation   = "Activation Date"
	attrProcessStart = "Process Start Date"
	attrProtectStop  = "Protect Stop Date"
	attrDeactivation = "Deactivation Date"
	attrDestroyed    = "Destroy Date"
	attrOccurrence   = "Compromise Occurrence Date"
	attrCompromised  = "Compromise Date"
	attrReason       = "Revocation Reason"
	attrArchived     = "Archive Date"
	attrGroup        = "Object Group"
	attrFresh        = "Fresh"
	attrLink         = "Link"
	attrAppInfo      = "Application Specific Information"
	attrContact      = "Contact Information"
	attrChanged      = "Last Change Date"
	attrAlternative  = "Alternative Name"
	attrPresent      = "Key Value Present"
	attrLocation     = "Key Value Location"
	attrCreated      = "Original Creation Date"
	attrRNG          = "Random Number Generator"
	attrFriendly     = "PKCS#12 Friendly Name"
	attrDescription  = "Description"
	attrComment      = "Comment"
	attrSensitive    = "Sensitive"
	attrAlways       = "Always Sensitive"
	attrExtractable  = "Extractable"
	attrNever        = "Never Extractable"
	attrShortID      = "Short Unique Identifier"
	attrFormat       = "Key Format Type"
	attrLevel        = "Protection Level"
	attrPeriod       = "Protection Period"
	attrStorage      = "Protection Storage Mask"
	attrQuantum      = "Quantum Safe"
	attrNIST         = "NIST Key Type"
	attrOpaqueType   = "Opaque Data Type"

	attrRotateAuto       = "Rotate Automatic"
	attrRotateDate       = "Rotate Date"
	attrRotateGeneration = "Rotate Generation"
	attrRotateInterval   = "Rotate Interval"
	attrRotateLatest     = "Rotate Latest"
	attrRotateName       = "Rotate Name"
	attrRotateOffset     = "Rotate Offset"
)

// Who may do what with an attribute.
const (
	multi   = 1 << iota // there may be several
	atMake              // a client may give it when the object is made
	add                 // ... or add it later
	modify              // ... or change it
	remove              // ... or take it away
	dropped             // KMIP 2 has it no more
	all     = atMake | add | modify | remove
)

// A kind is what is known of an attribute (KMIP 1.4, chapter 3; 2.1, chapter 4).
type kind struct {
	name   string
	tag    ttlv.Tag // under which KMIP 2 has it
	typ    ttlv.Type
	since  int32 // minor version of KMIP 1, or v20
	rights int
}

// v20 is KMIP 2.0 as kind.since.
const v20 = 10

// kinds are the attributes in the order in which they are shown; kindsByName and
// kindsByTag find them. Nothing changes them.
var (
	kinds = []kind{
		{attrID, ttlv.TagUniqueIdentifier, ttlv.TextString, 0, 0},
		{attrName, ttlv.TagName, ttlv.Structure, 0, multi | all},
		{attrType, ttlv.TagObjectType, ttlv.Enumeration, 0, 0},
		{attrAlgorithm, ttlv.TagCryptographicAlgorithm, ttlv.Enumeration, 0, atMake},
		{attrLength, ttlv.TagCryptographicLength, ttlv.Integer, 0, atMake},
		{attrParameters, ttlv.TagCryptographicParameters, ttlv.Structure, 0, multi | all},
		{attrDomain, ttlv.TagCryptographicDomainParameters, ttlv.Structure, 0, atMake},
		{attrCertType, ttlv.TagCertificateType, ttlv.Enumeration, 0, atMake},
		{attrCertLength, ttlv.TagCertificateLength, ttlv.Integer, 1, 0},
		{attrCertID, ttlv.TagX_509CertificateIdentifier, ttlv.Structure, 1, 0},
		{attrCertSubject, ttlv.TagX_509CertificateSubject, ttlv.Structure, 1, 0},
		{attrCertIssuer, ttlv.TagX_509CertificateIssuer, ttlv.Structure, 1, 0},
		{attrOldCertID, ttlv.TagCertificateIdentifier, ttlv.Structure, 0, dropped},
		{attrOldSubject, ttlv.TagCertificateSubject, ttlv.Structure, 0, dropped},
		{attrOldIssuer, ttlv.TagCertificateIssuer, ttlv.Structure, 0, dropped},
		{attrSignatureAlg, ttlv.TagDigitalSignatureAlgorithm, ttlv.Enumeration, 1, 0},
		{attrDigest, ttlv.TagDigest, ttlv.Structure, 0, multi},
		{attrPolicy, ttlv.TagOperationPolicyName, ttlv.TextString, 0, atMake | add | dropped},
		{attrMask, ttlv.TagCryptographicUsageMask, ttlv.Integer, 0, atMake},
		{attrLease, ttlv.TagLeaseTime, ttlv.Interval, 0, 0},
		{attrLimits, ttlv.TagUsageLimits, ttlv.Structure, 0, atMake | add | modify | remove},
		{attrState, ttlv.TagState, ttlv.Enumeration, 0, 0},
		{attrInitial, ttlv.TagInitialDate, ttlv.DateTime, 0, 0},
		{attrActivation, ttlv.TagActivationDate, ttlv.DateTime, 0, atMake | add | modify},
		{attrProcessStart, ttlv.TagProcessStartDate, ttlv.DateTime, 0, atMake | add | modify},
		{attrProtectStop, ttlv.TagProtectStopDate, ttlv.DateTime, 0, atMake | add | modify},
		{attrDeactivation, ttlv.TagDeactivationDate, ttlv.DateTime, 0, atMake | add | modify},
		{attrDestroyed, ttlv.TagDestroyDate, ttlv.DateTime, 0, 0},
		{attrOccurrence, ttlv.TagCompromiseOccurrenceDate, ttlv.DateTime, 0, 0},
		{attrCompromised, ttlv.TagCompromiseDate, ttlv.DateTime, 0, 0},
		{attrReason, ttlv.TagRevocationReason, ttlv.Structure, 0, 0},
		{attrArchived, ttlv.TagArchiveDate, ttlv.DateTime, 0, 0},
		{attrGroup, ttlv.TagObjectGroup, ttlv.TextString, 0, multi | all},
		{attrFresh, ttlv.TagFresh, ttlv.Boolean, 1, atMake},
		{attrLink, ttlv.TagLink, ttlv.Structure, 0, multi | all},
		{attrAppInfo, ttlv.TagApplicationSpecificInformation, ttlv.Structure, 0, multi | all},
		{attrContact, ttlv.TagContactInformation, ttlv.TextString, 0, all},
		{attrChanged, ttlv.TagLastChangeDate, ttlv.DateTime, 0, 0},
		{attrAlternative, ttlv.TagAlternativeName, ttlv.Structure, 2, multi | all},
		{attrPresent, ttlv.TagKeyValuePresent, ttlv.Boolean, 2, 0},
		{attrLocation, ttlv.TagKeyValueLocation, ttlv.Structure, 2, multi | all},
		{attrCreated, ttlv.TagOriginalCreationDate, ttlv.DateTime, 2, atMake},
		{attrRNG, ttlv.TagRandomNumberGenerator, ttlv.Structure, 3, atMake},
		{attrFriendly, ttlv.TagPKCS_12FriendlyName, ttlv.TextString, 4, all},
		{attrDescription, ttlv.TagDescription, ttlv.TextString, 4, all},
		{attrComment, ttlv.TagComment, ttlv.TextString, 4, all},
		{attrSensitive, ttlv.TagSensitive, ttlv.Boolean, 4, atMake | modify},
		{attrAlways, ttlv.TagAlwaysSensitive, ttlv.Boolean, 4, 0},
		{attrExtractable, ttlv.TagExtractable, ttlv.Boolean, 4, atMake | modify},
		{attrNever, ttlv.TagNeverExtractable, ttlv.Boolean, 4, 0},
		{attrShortID, ttlv.TagShortUniqueIdentifier, ttlv.ByteString, v20, 0},
		{attrFormat, ttlv.TagKeyFormatType, ttlv.Enumeration, v20, 0},
		{attrLevel, ttlv.TagProtectionLevel, ttlv.Enumeration, v20, atMake | add | modify | remove},
		{attrPeriod, ttlv.TagProtectionPeriod, ttlv.Interval, v20, atMake | add | modify | remove},
		{attrStorage, ttlv.TagProtectionStorageMask, ttlv.Integer, v20, 0},
		{attrQuantum, ttlv.TagQuantumSafe, ttlv.Boolean, v20, atMake | add | modify | remove},
		{attrNIST, ttlv.TagNISTKeyType, ttlv.Enumeration, v20, multi | all},
		{attrOpaqueType, ttlv.TagOpaqueDataType, ttlv.Enumeration, v20, 0},
		{attrRotateAuto, ttlv.TagRotateAutomatic, ttlv.Boolean, v20 + 1, all},
		{attrRotateDate, ttlv.TagRotateDate, ttlv.DateTime, v20 + 1, 0},
		{attrRotateGeneration, ttlv.TagRotateGeneration, ttlv.Integer, v20 + 1, 0},
		{attrRotateInterval, ttlv.TagRotateInterval, ttlv.Interval, v20 + 1, all},
		{attrRotateLatest, ttlv.TagRotateLatest, ttlv.Boolean, v20 + 1, 0},
		{attrRotateName, ttlv.TagRotateName, ttlv.Structure, v20 + 1, all},
		{attrRotateOffset, ttlv.TagRotateOffset, ttlv.Interval, v20 + 1, all},
		{"Certificate Subject CN", ttlv.TagCertificateSubjectCN, ttlv.TextString, v20, multi},
		{"Certificate Subject O", ttlv.TagCertificateSubjectO, ttlv.TextString, v20, multi},
		{"Certificate Subject OU", ttlv.TagCertificateSubjectOU, ttlv.TextString, v20, multi},
		{"Certificate Subject Email", ttlv.TagCertificateSubjectEmail, ttlv.TextString, v20, multi},
		{"Certificate Subject C", ttlv.TagCertificateSubjectC, ttlv.TextString, v20, multi},
		{"Certificate Subject ST", ttlv.TagCertificateSubjectST, ttlv.TextString, v20, multi},
		{"Certificate Subject L", ttlv.TagCertificateSubjectL, ttlv.TextString, v20, multi},
		{"Certificate Subject UID", ttlv.TagCertificateSubjectUID, ttlv.TextString, v20, multi},
		{"Certificate Subject SerialNumber", ttlv.TagCertificateSubjectSerialNumber, ttlv.TextString, v20, multi},
		{"Certificate Subject Title", ttlv.TagCertificateSubjectTitle, ttlv.TextString, v20, multi},
		{"Certificate Subject DC", ttlv.TagCertificateSubjectDC, ttlv.TextString, v20, multi},
		{"Certificate Subject DNQualifier", ttlv.TagCertificateSubjectDNQualifier, ttlv.TextString, v20, multi},
		{"Certificate Issuer CN", ttlv.TagCertificateIssuerCN, ttlv.TextString, v20, multi},
		{"Certificate Issuer O", ttlv.TagCertificateIssuerO, ttlv.TextString, v20, multi},
		{"Certificate Issuer OU", ttlv.TagCertificateIssuerOU, ttlv.TextString, v20, multi},
		{"Certificate Issuer Email", ttlv.TagCertificateIssuerEmail, ttlv.TextString, v20, multi},
		{"Certificate Issuer C", ttlv.TagCertificateIssuerC, ttlv.TextString, v20, multi},
		{"Certificate Issuer ST", ttlv.TagCertificateIssuerST, ttlv.TextString, v20, multi},
		{"Certificate Issuer L", ttlv.TagCertificateIssuerL, ttlv.TextString, v20, multi},
		{"Certificate Issuer UID", ttlv.TagCertificateIssuerUID, ttlv.TextString, v20, multi},
		{"Certificate Issuer SerialNumber", ttlv.TagCertificateIssuerSerialNumber, ttlv.TextString, v20, multi},
		{"Certificate Issuer Title", ttlv.TagCertificateIssuerTitle, ttlv.TextString, v20, multi},
		{"Certificate Issuer DC", ttlv.TagCertificateIssuerDC, ttlv.TextString, v20, multi},
		{"Certificate Issuer DNQualifier", ttlv.TagCertificateIssuerDNQualifier, ttlv.TextString, v20, multi},
	}
	kindsByName = func() map[string]kind {
		out := make(map[string]kind, len(kinds))
		for _, k := range kinds {
			out[k.name] = k
		}
		return out
	}()
	kindsByTag = func() map[ttlv.Tag]kind {
		out := make(map[ttlv.Tag]kind, len(kinds))
		for _, k := range kinds {
			out[k.tag] = k
		}
		return out
	}()
)

// kindOfName finds an attribute by its name. Custom ones begin with "x-", those that
// only a server makes with "y-".
func kindOfName(name string) (kind, bool) {
	if k, ok := kindsByName[name]; ok {
		return k, true
	}
	switch {
	case strings.HasPrefix(name, "x-"):
		return kind{name: name, rights: multi | all}, true
	case strings.HasPrefix(name, "y-"):
		return kind{name: name, rights: multi}, true
	case strings.HasPrefix(name, vendorPrefix):
		return kind{name: name, since: v20, rights: multi | all}, true
	}
	return kind{}, false
}

// known reports whether clients of a version know the attribute.
func (k kind) known(v version) bool {
	if v.major == 1 {
		return k.since <= v.minor
	}
	return k.rights&dropped == 0 && k.since <= v20+v.minor
}

// Bounds on attributes.
const (
	maxAttributes     = 1000 // of an object
	maxAttributeBytes = 64 << 10
	maxObjectBytes    = 512 << 10 // of all attributes of an object
	maxNameBytes      = 256       // of an attribute's own name
	maxIndex          = 10_000
	maxTemplates      = 16 // named in one request
)

// An attribute is one instance.
type attribute struct {
	Name  string `json:"n"`
	Index int32  `json:"i,omitempty"`
	// Value is encoded under the tag Attribute Value; nil for one that was not read from the store.
	Value []byte `json:"v"`

	decoded *ttlv.Node // of Value; shared, not to be changed
}

func newAttribute(name string, value *ttlv.Node) attribute {
	if value.Tag != ttlv.TagAttributeValue {
		value = value.Retag(ttlv.TagAttributeValue)
	}
	return attribute{Name: name, decoded: value}
}

// size is how many bytes the value has, encoded.
func (a *attribute) size() int {
	if a.Value != nil {
		return len(a.Value)
	}
	return a.decoded.Size()
}

func (a *attribute) appendValue(dst []byte) []byte {
	if a.Value != nil {
		return append(dst, a.Value...)
	}
	return a.decoded.Append(dst)
}

func (a *attribute) node() *ttlv.Node {
	if a.decoded != nil {
		return a.decoded
	}
	n, err := ttlv.Decode(a.Value)
	if err != nil {
		return nil // it was encoded by us
	}
	return n
}

// show is the attribute as clients see it.
func (a *attribute) show() *ttlv.Node {
	n := ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, a.Name))
	if a.Index != 0 {
		n.Add(ttlv.Int(ttlv.TagAttributeIndex, a.Index))
	}
	return n.Add(a.node())
}

// A given is an attribute as a client sent it.
type given struct {
	kind
	index    int32
	hasIndex bool
	value    *ttlv.Node // nil where only a name is wanted
}

// parseAttribute checks an attribute of a request.
func (b *batch) parseAttribute(n *ttlv.Node) (g given, err error) {
	name := n.Get(ttlv.TagAttributeName)
	if name == nil || name.Type != ttlv.TextString || len(name.Bytes) == 0 || len(name.Bytes) > maxNameBytes {
		return g, missing("Attribute Name")
	}
	k, ok := kindsByName[string(name.Bytes)] // makes no string, as most are there
	if !ok {
		k, ok = kindOfName(name.Text())
	}
	if !ok || !k.known(b.v) {
		return g, invalid("the attribute %q is not supported", name.Text())
	}
	g.kind = k
	if i := n.Get(ttlv.TagAttributeIndex); i != nil {
		if i.Type != ttlv.Integer || i.Int < 0 || i.Int > maxIndex {
			return g, invalid("the index of %s is no number from 0", k.name)
		}
		g.index, g.hasIndex = int32(i.Int), true
	}
	g.value = n.Get(ttlv.TagAttributeValue)
	if g.value == nil {
		return g, nil
	}
	return g, g.check()
}

// check looks at the value's type, and at the parts of structures.
func (g *given) check() error {
	if g.typ != 0 && g.value.Type != g.typ {
		return invalid("the value of %s has the wrong type", g.name)
	}
	if g.value.Size() > maxAttributeBytes {
		return invalid("the value of %s is too large", g.name)
	}
	need := func(tag ttlv.Tag, typ ttlv.Type) error {
		if p := g.value.Get(tag); p == nil || p.Type != typ {
			return invalid("%s needs %s", g.name, tag)
		}
		return nil
	}
	named := func(value, typ ttlv.Tag) error {
		if err := need(value, ttlv.TextString); err != nil {
			return err
		}
		return need(typ, ttlv.Enumeration)
	}
	switch g.name {
	case attrName:
		return named(ttlv.TagNameValue, ttlv.TagNameType)
	case attrLink:
		return named(ttlv.TagLinkedObjectIdentifier, ttlv.TagLinkType)
	case attrAppInfo:
		return need(ttlv.TagApplicationNamespace, ttlv.TextString)
	case attrLimits:
		if err := need(ttlv.TagUsageLimitsTotal, ttlv.LongInteger); err != nil {
			return err
		}
		return need(ttlv.TagUsageLimitsUnit, ttlv.Enumeration)
	case attrRotateName:
		return named(ttlv.TagRotateNameValue, ttlv.TagRotateNameType)
	case attrAlternative:
		return named(ttlv.TagAlternativeNameValue, ttlv.TagAlternativeNameType)
	}
	return nil
}

// template reads the attributes of a Template-Attribute, with those of the
// templates that it names; own ones win.
func (b *batch) template(n *ttlv.Node) (out []given, err error) {
	if n == nil {
		return nil, nil
	}
	if n.Type != ttlv.Structure {
		return nil, invalid("%s is no structure", n.Tag)
	}
	own := make([]given, 0, min(len(n.Children), maxAttributes))
	names := 0
	for _, a := range n.Children {
		if a.Tag == ttlv.TagName {
			names++
		}
		if a.Tag != ttlv.TagAttribute {
			continue
		}
		g, err := b.parseAttribute(a)
		if err != nil {
			return nil, err
		}
		if g.value == nil {
			return nil, invalid("%s has no value", g.name)
		}
		own = append(own, g)
	}
	switch {
	case len(own) > maxAttributes:
		return nil, invalid("there are more than %d attributes", maxAttributes)
	case names > maxTemplates:
		return nil, invalid("more than %d templates are named", maxTemplates)
	case names == 0:
		return own, nil
	}
	for _, name := range n.All(ttlv.TagName) {
		o, err := b.named(name.Get(ttlv.TagNameValue).Text())
		if err != nil {
			return nil, err
		}
		if o == nil || o.Type != ttlv.ObjectTypeTemplate {
			return nil, fail(ttlv.ResultReasonItemNotFound, "there is no such template")
		}
		for _, a := range o.Attrs {
			if a.Index >= templateIndex {
				k, _ := kindOfName(a.Name)
				if k.rights&multi != 0 || !slices.ContainsFunc(own, func(g given) bool { return g.name == a.Name }) {
					out = append(out, given{kind: k, value: a.node()})
				}
			}
		}
	}
	if len(out)+len(own) > maxAttributes {
		return nil, invalid("there are more than %d attributes", maxAttributes)
	}
	return append(out, own...), nil
}

// templateIndex is from where the indices of attributes count that a template has
// for others.
const templateIndex = 1 << 20

// ownAttributes is about how many attributes the server itself gives an object.
const ownAttributes = 12

// attrsOf makes instances of what a client gave, with indices.
func attrsOf(list []given) (out []attribute, err error) {
	out = make([]attribute, 0, len(list)+ownAttributes)
	for _, g := range list {
		if g.rights&atMake == 0 {
			return nil, denied("%s cannot be given", g.name)
		}
		a := newAttribute(g.name, g.value)
		for _, have := range out {
			if have.Name == g.name {
				if g.rights&multi == 0 {
					return nil, invalid("%s can be given once", g.name)
				}
				a.Index = max(a.Index, have.Index+1)
			}
		}
		if g.hasIndex && g.index > a.Index && g.index < templateIndex {
			a.Index = g.index
		}
		out = append(out, a)
	}
	return out, nil
}

func date(t time.Time) *ttlv.Node { return ttlv.Time(ttlv.TagAttributeValue, t) }
