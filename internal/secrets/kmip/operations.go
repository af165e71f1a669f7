package kmip

import (
	"crypto/sha256"

	"arca/internal/ttlv"
	versions "arca/internal/version"
)

// An operation of the protocol.
type operation struct {
	code   uint32
	name   string
	flag   string // of a role
	since  version
	reads  bool // writes nothing, as a rule
	always bool // needs no flag
	pair   bool // may make an RSA key
	run    func(b *batch, payload *ttlv.Node) (*ttlv.Node, error)
}

// table are the operations that are served.
func table() []operation {
	v10, v11, v12 := version{1, 0}, version{1, 1}, version{1, 2}
	return []operation{
		{ttlv.OperationCreate, "Create", "create", v10, false, false, false, (*batch).create},
		{ttlv.OperationCreateKeyPair, "Create Key Pair", "create_keypair", v10, false, false, true, (*batch).createKeyPair},
		{ttlv.OperationRegister, "Register", "register", v10, false, false, false, (*batch).register},
		{ttlv.OperationReKey, "Re-key", "rekey", v10, false, false, false, (*batch).rekey},
		{ttlv.OperationLocate, "Locate", "locate", v10, true, false, false, (*batch).locate},
		{ttlv.OperationCheck, "Check", "check", v10, true, false, false, (*batch).check},
		{ttlv.OperationGet, "Get", "get", v10, true, false, false, (*batch).get},
		{ttlv.OperationGetAttributes, "Get Attributes", "get_attributes", v10, true, false, false, (*batch).getAttributes},
		{ttlv.OperationGetAttributeList, "Get Attribute List", "get_attribute_list", v10, true, false, false, (*batch).getAttributeList},
		{ttlv.OperationAddAttribute, "Add Attribute", "add_attribute", v10, false, false, false, (*batch).addAttribute},
		{ttlv.OperationModifyAttribute, "Modify Attribute", "modify_attribute", v10, false, false, false, (*batch).modifyAttribute},
		{ttlv.OperationDeleteAttribute, "Delete Attribute", "delete_attribute", v10, false, false, false, (*batch).deleteAttribute},
		{ttlv.OperationObtainLease, "Obtain Lease", "obtain_lease", v10, true, false, false, (*batch).obtainLease},
		{ttlv.OperationGetUsageAllocation, "Get Usage Allocation", "get_usage_allocation", v10, false, false, false, (*batch).getUsageAllocation},
		{ttlv.OperationActivate, "Activate", "activate", v10, false, false, false, (*batch).activate},
		{ttlv.OperationRevoke, "Revoke", "revoke", v10, false, false, false, (*batch).revoke},
		{ttlv.OperationDestroy, "Destroy", "destroy", v10, false, false, false, (*batch).destroy},
		{ttlv.OperationArchive, "Archive", "archive", v10, false, false, false, (*batch).archive},
		{ttlv.OperationRecover, "Recover", "recover", v10, false, false, false, (*batch).recover},
		{ttlv.OperationQuery, "Query", "query", v10, true, false, false, (*batch).query},
		{ttlv.OperationDiscoverVersions, "Discover Versions", "discover_versions", v10, true, true, false, (*batch).discoverVersions},
		{ttlv.OperationEncrypt, "Encrypt", "encrypt", v12, true, false, false, (*batch).encrypt},
		{ttlv.OperationDecrypt, "Decrypt", "decrypt", v12, true, false, false, (*batch).decrypt},
		{ttlv.OperationSign, "Sign", "sign", v12, true, false, false, (*batch).sign},
		{ttlv.OperationSignatureVerify, "Signature Verify", "signature_verify", v12, true, false, false, (*batch).signatureVerify},
		{ttlv.OperationMAC, "MAC", "mac", v12, true, false, false, (*batch).mac},
		{ttlv.OperationMACVerify, "MAC Verify", "mac_verify", v12, true, false, false, (*batch).macVerify},
		{ttlv.OperationRNGRetrieve, "RNG Retrieve", "rng_retrieve", v12, true, false, false, (*batch).rngRetrieve},
		{ttlv.OperationRNGSeed, "RNG Seed", "rng_seed", v12, true, false, false, (*batch).rngSeed},
		{ttlv.OperationHash, "Hash", "hash", v12, true, false, false, (*batch).hash},
		{ttlv.OperationReKeyKeyPair, "Re-key Key Pair", "rekey_keypair", v11, false, false, true, (*batch).rekeyKeyPair},
	}
}

func response(children ...*ttlv.Node) *ttlv.Node {
	return ttlv.Struct(ttlv.TagResponsePayload, children...)
}

func idNode(o *object) *ttlv.Node { return ttlv.Text(ttlv.TagUniqueIdentifier, o.ID) }

// enum reads a field that must be an enumeration; 0 when it is absent.
func enum(n *ttlv.Node, tag ttlv.Tag) (uint32, error) {
	c := n.Get(tag)
	if c == nil {
		return 0, nil
	}
	if c.Type != ttlv.Enumeration {
		return 0, invalid("%s is an enumeration", tag)
	}
	return uint32(c.Int), nil
}

func (b *batch) discoverVersions(p *ttlv.Node) (*ttlv.Node, error) {
	out := response()
	asked := p.All(ttlv.TagProtocolVersion)
	for _, v := range supported() {
		want := len(asked) == 0
		for _, n := range asked {
			major, minor := n.Get(ttlv.TagProtocolVersionMajor), n.Get(ttlv.TagProtocolVersionMinor)
			want = want || major != nil && minor != nil && major.Int == int64(v.major) && minor.Int == int64(v.minor)
		}
		if want {
			out.Add(v.node())
		}
	}
	return out, nil
}

// Tags of our own, in what Query tells of the server.
const (
	tagServerName    ttlv.Tag = 0x540001
	tagServerVersion ttlv.Tag = 0x540002
)

func (b *batch) query(p *ttlv.Node) (*ttlv.Node, error) {
	asked := map[uint32]bool{}
	for _, n := range p.All(ttlv.TagQueryFunction) {
		asked[uint32(n.Int)] = true
	}
	if len(asked) == 0 {
		return nil, missing("Query Function")
	}
	out := response()
	if asked[ttlv.QueryFunctionQueryOperations] {
		for _, o := range table() {
			if b.v.atLeast(o.since.major, o.since.minor) && (o.always || b.role.may(o.flag)) {
				out.Add(ttlv.Enum(ttlv.TagOperation, o.code))
			}
		}
	}
	if asked[ttlv.QueryFunctionQueryObjects] {
		for _, t := range []uint32{
			ttlv.ObjectTypeCertificate, ttlv.ObjectTypeSymmetricKey, ttlv.ObjectTypePublicKey, ttlv.ObjectTypePrivateKey, ttlv.ObjectTypeTemplate,
			ttlv.ObjectTypeSecretData, ttlv.ObjectTypeOpaqueObject,
		} {
			out.Add(ttlv.Enum(ttlv.TagObjectType, t))
		}
	}
	if asked[ttlv.QueryFunctionQueryServerInformation] {
		out.Add(ttlv.Text(ttlv.TagVendorIdentification, "arca"),
			ttlv.Struct(ttlv.TagServerInformation, ttlv.Text(tagServerName, "arca"), ttlv.Text(tagServerVersion, versions.Arca)))
	}
	list, tags := asked[ttlv.QueryFunctionQueryExtensionList], asked[ttlv.QueryFunctionQueryExtensionMap]
	if (list || tags) && b.v.atLeast(1, 1) {
		for _, x := range []struct {
			name string
			tag  ttlv.Tag
		}{{"Server Name", tagServerName}, {"Server Version", tagServerVersion}} {
			n := ttlv.Struct(ttlv.TagExtensionInformation, ttlv.Text(ttlv.TagExtensionName, x.name))
			if tags {
				n.Add(ttlv.Int(ttlv.TagExtensionTag, int32(x.tag)), ttlv.Int(ttlv.TagExtensionType, int32(ttlv.TextString)))
			}
			out.Add(n)
		}
	}
	if asked[ttlv.QueryFunctionQueryRNGs] && b.v.atLeast(1, 3) {
		out.Add(ttlv.Struct(ttlv.TagRNGParameters, ttlv.Enum(ttlv.TagRNGAlgorithm, ttlv.RNGAlgorithmDRBG), ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES),
			ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Enum(ttlv.TagDRBGAlgorithm, ttlv.DRBGAlgorithmCTR)))
	}
	if asked[ttlv.QueryFunctionQueryCapabilities] && b.v.atLeast(1, 3) {
		c := ttlv.Struct(ttlv.TagCapabilityInformation, ttlv.Bool(ttlv.TagStreamingCapability, false), ttlv.Bool(ttlv.TagAsynchronousCapability, false),
			ttlv.Bool(ttlv.TagAttestationCapability, false))
		if b.v.atLeast(1, 4) {
			c.Add(ttlv.Bool(ttlv.TagBatchUndoCapability, true), ttlv.Bool(ttlv.TagBatchContinueCapability, true))
		}
		c.Add(ttlv.Enum(ttlv.TagUnwrapMode, ttlv.UnwrapModeNotProcessed), ttlv.Enum(ttlv.TagDestroyAction, ttlv.DestroyActionKeyMaterialDeleted),
			ttlv.Enum(ttlv.TagShreddingAlgorithm, ttlv.ShreddingAlgorithmUnspecified), ttlv.Enum(ttlv.TagRNGMode, ttlv.RNGModeSharedInstantiation))
		out.Add(c)
	}
	return out, nil
}

func (b *batch) create(p *ttlv.Node) (*ttlv.Node, error) {
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	if typ != ttlv.ObjectTypeSymmetricKey {
		return nil, invalid("Create makes symmetric keys only")
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	attrs, err := attrsOf(list)
	if err != nil {
		return nil, err
	}
	o, node, err := b.makeSymmetric(attrs, nil)
	if err != nil {
		return nil, err
	}
	return response(ttlv.Enum(ttlv.TagObjectType, typ), idNode(o)), b.commit(o, node)
}

// makeSymmetric prepares a key with new material; see prepare.
func (b *batch) makeSymmetric(attrs []attribute, from *object) (*object, *ttlv.Node, error) {
	probe := &object{Attrs: attrs}
	alg, length := probe.get(attrAlgorithm), probe.get(attrLength)
	switch {
	case alg == nil:
		return nil, nil, missing(attrAlgorithm)
	case length == nil:
		return nil, nil, missing(attrLength)
	case probe.get(attrMask) == nil:
		return nil, nil, missing(attrMask)
	}
	raw, err := newSymmetric(uint32(alg.Int), length.Int)
	if err != nil {
		return nil, nil, err
	}
	node := symmetricNode(raw, uint32(alg.Int), int32(length.Int))
	o, err := b.prepare(ttlv.ObjectTypeSymmetricKey, attrs, func(o *object) error {
		o.set(attrCreated, date(b.now))
		o.set(attrDigest, digest(raw, ttlv.KeyFormatTypeRaw, b.v))
		return nil
	}, from)
	return o, node, err
}

// digest is the attribute for the material of a key.
func digest(raw []byte, format uint32, v version) *ttlv.Node {
	sum := sha256.Sum256(raw)
	n := ttlv.Struct(ttlv.TagAttributeValue, ttlv.Enum(ttlv.TagHashingAlgorithm, ttlv.HashingAlgorithmSHA_256), ttlv.Bytes(ttlv.TagDigestValue, sum[:]))
	if v.atLeast(1, 1) && format != 0 {
		n.Add(ttlv.Enum(ttlv.TagKeyFormatType, format))
	}
	return n
}

// get gives out an object.
func (b *batch) get(p *ttlv.Node) (*ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	wrapping := p.Get(ttlv.TagKeyWrappingSpecification)
	if !o.truth(attrExtractable) && o.has(attrExtractable) && o.Type != ttlv.ObjectTypeTemplate {
		return nil, fail(ttlv.ResultReasonNotExtractable, "the object cannot be extracted")
	}
	if o.truth(attrSensitive) && wrapping == nil {
		return nil, fail(ttlv.ResultReasonSensitive, "the object is sensitive: it leaves the server wrapped only")
	}
	format, err := enum(p, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, err
	}
	if c := p.Get(ttlv.TagKeyCompressionType); c != nil && c.Int != int64(ttlv.KeyCompressionTypeECPublicKeyTypeUncompressed) {
		return nil, fail(ttlv.ResultReasonKeyCompressionTypeNotSupported, "keys are not compressed here")
	}
	node, err := b.material(o)
	if err != nil {
		return nil, err
	}
	if node, err = b.inFormat(o, node, format); err != nil {
		return nil, err
	}
	if wrapping != nil {
		if node, err = b.wrap(o, node, wrapping); err != nil {
			return nil, err
		}
	}
	if o.truth(attrFresh) {
		c := o.clone()
		c.set(attrFresh, ttlv.Bool(0, false))
		if err := b.save(o, c); err != nil {
			return nil, err
		}
	}
	return response(ttlv.Enum(ttlv.TagObjectType, o.Type), idNode(o), node), nil
}
