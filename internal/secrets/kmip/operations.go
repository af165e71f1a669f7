package kmip

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"

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
	v10, v11, v12, v14, v2 := version{1, 0}, version{1, 1}, version{1, 2}, version{1, 4}, version{2, 0}
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
		{ttlv.OperationDeriveKey, "Derive Key", "derive_key", v10, false, false, false, (*batch).deriveKey},
		{ttlv.OperationCertify, "Certify", "certify", v10, false, false, false, (*batch).certify},
		{ttlv.OperationReCertify, "Re-certify", "recertify", v10, false, false, false, (*batch).recertify},
		{ttlv.OperationValidate, "Validate", "validate", v10, true, false, false, (*batch).validate},
		{ttlv.OperationPoll, "Poll", "poll", v10, false, false, false, nil},
		{ttlv.OperationCancel, "Cancel", "cancel", v10, false, false, false, (*batch).cancel},
		{ttlv.OperationCreateSplitKey, "Create Split Key", "create_split_key", v12, false, false, false, (*batch).createSplitKey},
		{ttlv.OperationJoinSplitKey, "Join Split Key", "join_split_key", v12, false, false, false, (*batch).joinSplitKey},
		{ttlv.OperationImport, "Import", "import", v14, false, false, false, (*batch).importObject},
		{ttlv.OperationExport, "Export", "export", v14, true, false, false, (*batch).export},
		{ttlv.OperationLog, "Log", "log", v2, true, false, false, (*batch).log},
		{ttlv.OperationLogin, "Login", "login", v2, false, false, false, (*batch).login},
		{ttlv.OperationLogout, "Logout", "login", v2, false, false, false, (*batch).logout},
		{ttlv.OperationDelegatedLogin, "Delegated Login", "login", v2, false, false, false, (*batch).delegatedLogin},
		{ttlv.OperationAdjustAttribute, "Adjust Attribute", "adjust_attribute", v2, false, false, false, (*batch).adjustAttribute},
		{ttlv.OperationSetAttribute, "Set Attribute", "set_attribute", v2, false, false, false, (*batch).setAttribute},
		{ttlv.OperationSetDefaults, "Set Defaults", "set_defaults", version{2, 1}, false, false, false, (*batch).setDefaults},
		{ttlv.OperationSetConstraints, "Set Constraints", "set_constraints", version{2, 1}, false, false, false, (*batch).setConstraints},
		{ttlv.OperationGetConstraints, "Get Constraints", "get_constraints", version{2, 1}, true, false, false, (*batch).getConstraints},
		{ttlv.OperationSetEndpointRole, "Set Endpoint Role", "", v2, true, true, false, (*batch).setEndpointRole},
		{ttlv.OperationPKCS_11, "PKCS #11", "query", v2, true, false, false, (*batch).pkcs11},
		{ttlv.OperationInterop, "Interop", "", v2, true, true, false, (*batch).interop},
		{ttlv.OperationReProvision, "Re-Provision", "reprovision", v2, false, false, false, (*batch).reProvision},
		{ttlv.OperationQueryAsynchronousRequests, "Query Asynchronous Requests", "poll", version{2, 1}, true, false, false, (*batch).queryAsynchronous},
		{ttlv.OperationProcess, "Process", "poll", version{2, 1}, true, false, false, (*batch).process},
		{ttlv.OperationPing, "Ping", "", v2, true, true, false, (*batch).ping},
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
	if c.Type != ttlv.Enumeration || c.Int == 0 { // none has a value 0
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
		certifies, err := b.certifies()
		if err != nil {
			return nil, err
		}
		for _, o := range table() {
			if (o.code == ttlv.OperationCertify || o.code == ttlv.OperationReCertify) && !certifies {
				continue
			}
			if b.v.atLeast(o.since.major, o.since.minor) && (o.always || b.role.may(o.flag)) && b.mentions(o.code) {
				out.Add(ttlv.Enum(ttlv.TagOperation, o.code))
			}
		}
	}
	if asked[ttlv.QueryFunctionQueryObjects] {
		for _, t := range []uint32{
			ttlv.ObjectTypeCertificate, ttlv.ObjectTypeSymmetricKey, ttlv.ObjectTypePublicKey, ttlv.ObjectTypePrivateKey, ttlv.ObjectTypeSplitKey,
			ttlv.ObjectTypeTemplate, ttlv.ObjectTypeSecretData, ttlv.ObjectTypeOpaqueObject, ttlv.ObjectTypePGPKey, ttlv.ObjectTypeCertificateRequest,
		} {
			if b.knows(t) {
				out.Add(ttlv.Enum(ttlv.TagObjectType, t))
			}
		}
	}
	if asked[ttlv.QueryFunctionQueryServerInformation] {
		info := ttlv.Struct(ttlv.TagServerInformation, ttlv.Text(tagServerName, "arca"), ttlv.Text(tagServerVersion, versions.Arca))
		if b.v.major >= 2 {
			info = ttlv.Struct(ttlv.TagServerInformation, ttlv.Text(ttlv.TagServerName, "arca"), ttlv.Text(ttlv.TagServerVersion, versions.Arca),
				ttlv.Text(ttlv.TagProductName, "arca"))
		}
		out.Add(ttlv.Text(ttlv.TagVendorIdentification, "arca"), info)
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
	if asked[ttlv.QueryFunctionQueryProfiles] && b.v.atLeast(1, 3) {
		for _, p := range profiles(b.v) {
			out.Add(ttlv.Struct(ttlv.TagProfileInformation, ttlv.Enum(ttlv.TagProfileName, p)))
		}
	}
	if asked[ttlv.QueryFunctionQueryCapabilities] && b.v.atLeast(1, 3) {
		c := ttlv.Struct(ttlv.TagCapabilityInformation, ttlv.Bool(ttlv.TagStreamingCapability, true), ttlv.Bool(ttlv.TagAsynchronousCapability, true),
			ttlv.Bool(ttlv.TagAttestationCapability, false))
		if b.v.atLeast(1, 4) {
			c.Add(ttlv.Bool(ttlv.TagBatchUndoCapability, true), ttlv.Bool(ttlv.TagBatchContinueCapability, true))
		}
		c.Add(ttlv.Enum(ttlv.TagUnwrapMode, ttlv.UnwrapModeProcessed), ttlv.Enum(ttlv.TagDestroyAction, ttlv.DestroyActionKeyMaterialDeleted),
			ttlv.Enum(ttlv.TagShreddingAlgorithm, ttlv.ShreddingAlgorithmUnspecified), ttlv.Enum(ttlv.TagRNGMode, ttlv.RNGModeSharedInstantiation))
		out.Add(c)
	}
	if asked[ttlv.QueryFunctionQueryClientRegistrationMethods] && b.v.atLeast(1, 3) {
		// Certificates are made when an administrator asks for them, or are signed.
		out.Add(ttlv.Enum(ttlv.TagClientRegistrationMethod, ttlv.ClientRegistrationMethodServerPreGenerated),
			ttlv.Enum(ttlv.TagClientRegistrationMethod, ttlv.ClientRegistrationMethodClientGenerated))
	}
	if asked[ttlv.QueryFunctionQueryDefaultsInformation] && b.v.major >= 2 {
		n, err := b.defaultsNode()
		if err != nil {
			return nil, err
		}
		out.Add(n)
	}
	if asked[ttlv.QueryFunctionQueryStorageProtectionMasks] && b.v.major >= 2 {
		out.Add(ttlv.Struct(ttlv.TagProtectionStorageMasks, ttlv.Int(ttlv.TagProtectionStorageMask, storageSoftware)))
	}
	return out, nil
}

// profiles are those whose published cases pass.
func profiles(v version) []uint32 {
	switch {
	case v.major >= 2:
		return []uint32{
			ttlv.ProfileNameBaselineServer, ttlv.ProfileNameSymmetricKeyLifecycleServer, ttlv.ProfileNameAsymmetricKeyLifecycleServer,
			ttlv.ProfileNameSymmetricKeyFoundryServer, ttlv.ProfileNameOpaqueManagedObjectStoreServer, ttlv.ProfileNameTapeLibraryServer,
			ttlv.ProfileNameStorageArrayWithSelfEncryptingDriveServer, ttlv.ProfileNameAESXTSServer, ttlv.ProfileNameQuantumSafeServer,
		}
	case v.minor == 4:
		return []uint32{
			ttlv.ProfileNameBaselineServerBasicKMIPV1_4, ttlv.ProfileNameSymmetricKeyLifecycleServerKMIPV1_4, ttlv.ProfileNameAsymmetricKeyLifecycleServerKMIPV1_4,
			ttlv.ProfileNameSymmetricKeyFoundryServerKMIPV1_4, ttlv.ProfileNameOpaqueManagedObjectStoreServerKMIPV1_4, ttlv.ProfileNameTapeLibraryServerKMIPV1_4,
			ttlv.ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_4,
		}
	}
	return []uint32{
		ttlv.ProfileNameBaselineServerBasicKMIPV1_3, ttlv.ProfileNameSymmetricKeyLifecycleServerKMIPV1_3, ttlv.ProfileNameAsymmetricKeyLifecycleServerKMIPV1_3,
		ttlv.ProfileNameSymmetricKeyFoundryServerKMIPV1_3, ttlv.ProfileNameOpaqueManagedObjectStoreServerKMIPV1_3, ttlv.ProfileNameTapeLibraryServerKMIPV1_3,
		ttlv.ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_3,
	}
}

func (b *batch) create(p *ttlv.Node) (*ttlv.Node, error) {
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	if typ != ttlv.ObjectTypeSymmetricKey && (typ != ttlv.ObjectTypeSecretData || b.v.major < 2) {
		return nil, newer(invalid("Create makes symmetric keys, and in KMIP 2 secret data"), ttlv.ResultReasonInvalidObjectType)
	}
	if err := protection(p, ttlv.TagProtectionStorageMasks); err != nil {
		return nil, err
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	attrs, err := attrsOf(list)
	if err != nil {
		return nil, err
	}
	if attrs, err = b.withDefaults(typ, attrs); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(attrs, func(a attribute) bool { return a.Name == attrQuantum && a.node().Int == 1 }) && !quantumSafe(attrs) {
		return nil, errNotSafe
	}
	if typ == ttlv.ObjectTypeSecretData {
		return b.createSecret(attrs)
	}
	o, node, err := b.makeSymmetric(attrs, nil)
	if err != nil {
		return nil, err
	}
	return response(ttlv.Enum(ttlv.TagObjectType, typ), idNode(o)), b.commit(o, node)
}

var errNotSafe = fail(ttlv.ResultReasonGeneralFailure, "a key of this algorithm and length is not safe against quantum computers")

// quantumSafe reports whether a symmetric key keeps its strength: 256 bits do.
func quantumSafe(attrs []attribute) bool {
	n := (&object{Attrs: attrs}).get(attrLength)
	return n != nil && n.Int >= 256
}

// createSecret makes secret data of random bytes.
func (b *batch) createSecret(attrs []attribute) (*ttlv.Node, error) {
	length := (&object{Attrs: attrs}).get(attrLength)
	if length == nil || length.Int < 8 || length.Int%8 != 0 || length.Int > maxKeyBits {
		return nil, invalid("%s must be a multiple of 8, at most %d", attrLength, maxKeyBits)
	}
	raw := make([]byte, length.Int/8)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	o, node, err := b.fromMaterial(ttlv.ObjectTypeSecretData, attrs, raw, ttlv.SecretDataTypePassword)
	if err != nil {
		return nil, err
	}
	return response(ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSecretData), idNode(o)), b.commit(o, node)
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
	case probe.get(attrMask) == nil && b.v.major == 1:
		return nil, nil, missing(attrMask)
	case probe.get(attrMask) == nil:
		attrs = append(attrs, newAttribute(attrMask, ttlv.Int(0, 0)))
	}
	raw, err := newSymmetric(uint32(alg.Int), length.Int)
	if err != nil {
		return nil, nil, err
	}
	node := symmetricNode(raw, uint32(alg.Int), int32(length.Int))
	o, err := b.prepare(ttlv.ObjectTypeSymmetricKey, attrs, func(o *object) error {
		o.set(attrCreated, date(b.now))
		b.formatted(o, ttlv.KeyFormatTypeRaw)
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
	if out, err := b.getOpen(p); out != nil || err != nil {
		return out, err
	}
	o, node, err := b.given(p)
	if err != nil {
		return nil, err
	}
	if o.truth(attrFresh) {
		if o, err = b.load(o.hash()); err != nil { // one that wraps itself has changed
			return nil, err
		}
		c := o.clone()
		c.set(attrFresh, ttlv.Bool(0, false))
		if err := b.save(o, c); err != nil {
			return nil, err
		}
	}
	return response(ttlv.Enum(ttlv.TagObjectType, o.Type), idNode(o), node), nil
}

// given is an object with its structure, as a request wants to have it.
func (b *batch) given(p *ttlv.Node) (*object, *ttlv.Node, error) {
	o, err := b.usable(p)
	if err != nil {
		return nil, nil, err
	}
	wrapping := p.Get(ttlv.TagKeyWrappingSpecification)
	if !o.truth(attrExtractable) && o.has(attrExtractable) && o.Type != ttlv.ObjectTypeTemplate {
		return nil, nil, fail(ttlv.ResultReasonNotExtractable, "the object cannot be extracted")
	}
	if o.truth(attrSensitive) && wrapping == nil {
		return nil, nil, fail(ttlv.ResultReasonSensitive, "the object is sensitive: it leaves the server wrapped only")
	}
	format, err := enum(p, ttlv.TagKeyFormatType)
	if err != nil {
		return nil, nil, err
	}
	compression, err := enum(p, ttlv.TagKeyCompressionType)
	if err != nil {
		return nil, nil, err
	}
	if o.has(attrPresent) && !o.truth(attrPresent) { // the material is elsewhere
		return o, b.elsewhere(o), nil
	}
	node, err := b.material(o)
	if err != nil {
		return nil, nil, err
	}
	if w, err := enum(p, ttlv.TagKeyWrapType); err != nil {
		return nil, nil, err
	} else if w == ttlv.KeyWrapTypeNotWrapped {
		if node, err = b.unwrapped(node); err != nil {
			return nil, nil, err
		}
	}
	if node, err = b.inFormat(o, node, format, compression); err != nil {
		return nil, nil, err
	}
	if wrapping != nil {
		if node, err = b.wrap(o, node, wrapping); err != nil {
			return nil, nil, err
		}
	}
	return o, node, nil
}

// elsewhere is the structure of an object whose material the server does not have.
func (*batch) elsewhere(o *object) *ttlv.Node {
	format := o.get(attrFormat)
	if format == nil {
		format = ttlv.Enum(0, ttlv.KeyFormatTypeRaw)
	}
	block := ttlv.Struct(ttlv.TagKeyBlock, format.Retag(ttlv.TagKeyFormatType))
	if n := o.get(attrAlgorithm); n != nil {
		block.Add(n.Retag(ttlv.TagCryptographicAlgorithm))
	}
	if n := o.get(attrLength); n != nil {
		block.Add(n.Retag(ttlv.TagCryptographicLength))
	}
	return ttlv.Struct(tagOf(o.Type), block)
}
