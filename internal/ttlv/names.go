// Code generated from the tables of the KMIP specifications 1.0 to 2.1. DO NOT EDIT.

package ttlv

// A named value of an enumeration, or bit of a mask.
type named struct {
	value uint32
	name  string
}

// enumeration are the names of the values that a tag can have; nil for a tag that is
// no enumeration of the specifications.
func enumeration(tag Tag) []named {
	switch tag {
	case TagAdjustmentType:
		return namesAdjustmentType
	case TagAlternativeNameType:
		return namesAlternativeNameType
	case TagAsynchronousIndicator:
		return namesAsynchronousIndicator
	case TagAttestationType:
		return namesAttestationType
	case TagBatchErrorContinuationOption:
		return namesBatchErrorContinuationOption
	case TagBlockCipherMode:
		return namesBlockCipherMode
	case TagCancellationResult:
		return namesCancellationResult
	case TagCertificateRequestType:
		return namesCertificateRequestType
	case TagCertificateType:
		return namesCertificateType
	case TagClientRegistrationMethod:
		return namesClientRegistrationMethod
	case TagCredentialType:
		return namesCredentialType
	case TagCryptographicAlgorithm:
		return namesCryptographicAlgorithm
	case TagCryptographicUsageMask:
		return namesCryptographicUsageMask
	case TagDRBGAlgorithm:
		return namesDRBGAlgorithm
	case TagData:
		return namesData
	case TagDerivationMethod:
		return namesDerivationMethod
	case TagDestroyAction:
		return namesDestroyAction
	case TagDigitalSignatureAlgorithm:
		return namesDigitalSignatureAlgorithm
	case TagEncodingOption:
		return namesEncodingOption
	case TagEndpointRole:
		return namesEndpointRole
	case TagFIPS186Variation:
		return namesFIPS186Variation
	case TagHashingAlgorithm:
		return namesHashingAlgorithm
	case TagInteropFunction:
		return namesInteropFunction
	case TagKeyCompressionType:
		return namesKeyCompressionType
	case TagKeyFormatType:
		return namesKeyFormatType
	case TagKeyRoleType:
		return namesKeyRoleType
	case TagKeyValueLocationType:
		return namesKeyValueLocationType
	case TagKeyWrapType:
		return namesKeyWrapType
	case TagLinkType:
		return namesLinkType
	case TagMaskGenerator:
		return namesMaskGenerator
	case TagMaskGeneratorHashingAlgorithm:
		return namesMaskGeneratorHashingAlgorithm
	case TagNISTKeyType:
		return namesNISTKeyType
	case TagNameType:
		return namesNameType
	case TagObjectGroupMember:
		return namesObjectGroupMember
	case TagObjectType:
		return namesObjectType
	case TagOperation:
		return namesOperation
	case TagPKCS_11Function:
		return namesPKCS_11Function
	case TagPKCS_11ReturnCode:
		return namesPKCS_11ReturnCode
	case TagPaddingMethod:
		return namesPaddingMethod
	case TagProcessingStage:
		return namesProcessingStage
	case TagProfileName:
		return namesProfileName
	case TagProtectionLevel:
		return namesProtectionLevel
	case TagProtectionStorageMask:
		return namesProtectionStorageMask
	case TagPutFunction:
		return namesPutFunction
	case TagQueryFunction:
		return namesQueryFunction
	case TagRNGAlgorithm:
		return namesRNGAlgorithm
	case TagRNGMode:
		return namesRNGMode
	case TagRecommendedCurve:
		return namesRecommendedCurve
	case TagResultReason:
		return namesResultReason
	case TagResultStatus:
		return namesResultStatus
	case TagRevocationReasonCode:
		return namesRevocationReasonCode
	case TagSecretDataType:
		return namesSecretDataType
	case TagShreddingAlgorithm:
		return namesShreddingAlgorithm
	case TagSplitKeyMethod:
		return namesSplitKeyMethod
	case TagState:
		return namesState
	case TagStorageStatusMask:
		return namesStorageStatusMask
	case TagTicketType:
		return namesTicketType
	case TagUniqueIdentifier:
		return namesUniqueIdentifier
	case TagUnwrapMode:
		return namesUnwrapMode
	case TagUsageLimitsUnit:
		return namesUsageLimitsUnit
	case TagValidationAuthorityType:
		return namesValidationAuthorityType
	case TagValidationType:
		return namesValidationType
	case TagValidityIndicator:
		return namesValidityIndicator
	case TagWrappingMethod:
		return namesWrappingMethod
	}
	return nil
}

// Nothing changes these.
var (
	namesAdjustmentType = []named{
		{0x1, "Increment"},
		{0x2, "Decrement"},
		{0x3, "Negate"},
	}
	namesAlternativeNameType = []named{
		{0x1, "UninterpretedTextString"},
		{0x2, "URI"},
		{0x3, "ObjectSerialNumber"},
		{0x4, "EmailAddress"},
		{0x5, "DNSName"},
		{0x6, "X_500DistinguishedName"},
		{0x7, "IPAddress"},
	}
	namesAsynchronousIndicator = []named{
		{0x1, "Mandatory"},
		{0x2, "Optional"},
		{0x3, "Prohibited"},
	}
	namesAttestationType = []named{
		{0x1, "TPMQuote"},
		{0x2, "TCGIntegrityReport"},
		{0x3, "SAMLAssertion"},
	}
	namesBatchErrorContinuationOption = []named{
		{0x1, "Continue"},
		{0x2, "Stop"},
		{0x3, "Undo"},
	}
	namesBlockCipherMode = []named{
		{0x1, "CBC"},
		{0x2, "ECB"},
		{0x3, "PCBC"},
		{0x4, "CFB"},
		{0x5, "OFB"},
		{0x6, "CTR"},
		{0x7, "CMAC"},
		{0x8, "CCM"},
		{0x9, "GCM"},
		{0xa, "CBCMAC"},
		{0xb, "XTS"},
		{0xc, "AESKeyWrapPadding"},
		{0xd, "NISTKeyWrap"},
		{0xe, "X9_102AESKW"},
		{0xf, "X9_102TDKW"},
		{0x10, "X9_102AKW1"},
		{0x11, "X9_102AKW2"},
		{0x12, "AEAD"},
	}
	namesCancellationResult = []named{
		{0x1, "Canceled"},
		{0x2, "UnableToCancel"},
		{0x3, "Completed"},
		{0x4, "Failed"},
		{0x5, "Unavailable"},
	}
	namesCertificateRequestType = []named{
		{0x1, "CRMF"},
		{0x2, "PKCS_10"},
		{0x3, "PEM"},
		{0x4, "PGP"},
	}
	namesCertificateType = []named{
		{0x1, "X_509"},
		{0x2, "PGP"},
	}
	namesClientRegistrationMethod = []named{
		{0x1, "Unspecified"},
		{0x2, "ServerPreGenerated"},
		{0x3, "ServerOnDemand"},
		{0x4, "ClientGenerated"},
		{0x5, "ClientRegistered"},
	}
	namesCredentialType = []named{
		{0x1, "UsernameAndPassword"},
		{0x2, "Device"},
		{0x3, "Attestation"},
		{0x4, "OneTimePassword"},
		{0x5, "HashedPassword"},
		{0x6, "Ticket"},
	}
	namesCryptographicAlgorithm = []named{
		{0x1, "DES"},
		{0x2, "DES3"},
		{0x3, "AES"},
		{0x4, "RSA"},
		{0x5, "DSA"},
		{0x6, "ECDSA"},
		{0x7, "HMACSHA1"},
		{0x7, "HMAC_SHA1"},
		{0x8, "HMACSHA224"},
		{0x8, "HMAC_SHA224"},
		{0x9, "HMACSHA256"},
		{0x9, "HMAC_SHA256"},
		{0xa, "HMACSHA384"},
		{0xa, "HMAC_SHA384"},
		{0xb, "HMACSHA512"},
		{0xb, "HMAC_SHA512"},
		{0xc, "HMACMD5"},
		{0xc, "HMAC_MD5"},
		{0xd, "DH"},
		{0xe, "ECDH"},
		{0xf, "ECMQV"},
		{0x10, "Blowfish"},
		{0x11, "Camellia"},
		{0x12, "CAST5"},
		{0x13, "IDEA"},
		{0x14, "MARS"},
		{0x15, "RC2"},
		{0x16, "RC4"},
		{0x17, "RC5"},
		{0x18, "SKIPJACK"},
		{0x19, "Twofish"},
		{0x1a, "EC"},
		{0x1b, "OneTimePad"},
		{0x1c, "ChaCha20"},
		{0x1d, "Poly1305"},
		{0x1e, "ChaCha20Poly1305"},
		{0x1f, "SHA3_224"},
		{0x20, "SHA3_256"},
		{0x21, "SHA3_384"},
		{0x22, "SHA3_512"},
		{0x23, "HMACSHA3_224"},
		{0x24, "HMACSHA3_256"},
		{0x25, "HMACSHA3_384"},
		{0x26, "HMACSHA3_512"},
		{0x27, "SHAKE_128"},
		{0x28, "SHAKE_256"},
		{0x29, "ARIA"},
		{0x2a, "SEED"},
		{0x2b, "SM2"},
		{0x2c, "SM3"},
		{0x2d, "SM4"},
		{0x2e, "GOSTR34_10_2012"},
		{0x2f, "GOSTR34_11_2012"},
		{0x30, "GOSTR34_13_2015"},
		{0x31, "GOST28147_89"},
		{0x32, "XMSS"},
		{0x33, "SPHINCS_256"},
		{0x34, "McEliece"},
		{0x35, "McEliece_6960119"},
		{0x36, "McEliece_8192128"},
		{0x37, "Ed25519"},
		{0x38, "Ed448"},
		{0x39, "MLKEM_512"},
		{0x3a, "MLKEM_768"},
		{0x3b, "MLKEM_1024"},
		{0x3c, "MLDSA_44"},
		{0x3d, "MLDSA_65"},
		{0x3e, "MLDSA_87"},
	}
	namesCryptographicUsageMask = []named{
		{0x1, "Sign"},
		{0x2, "Verify"},
		{0x4, "Encrypt"},
		{0x8, "Decrypt"},
		{0x10, "WrapKey"},
		{0x20, "UnwrapKey"},
		{0x40, "Export"},
		{0x80, "MACGenerate"},
		{0x100, "MACVerify"},
		{0x200, "DeriveKey"},
		{0x400, "ContentCommitment"},
		{0x400, "ContentCommitmentNonRepudiation"},
		{0x400, "NonRepudiation"},
		{0x800, "KeyAgreement"},
		{0x1000, "CertificateSign"},
		{0x2000, "CRLSign"},
		{0x4000, "GenerateCryptogram"},
		{0x8000, "ValidateCryptogram"},
		{0x10000, "TranslateEncrypt"},
		{0x20000, "TranslateDecrypt"},
		{0x40000, "TranslateWrap"},
		{0x80000, "TranslateUnwrap"},
		{0x100000, "Authenticate"},
		{0x200000, "Unrestricted"},
		{0x400000, "FPEEncrypt"},
		{0x800000, "FPEDecrypt"},
	}
	namesDRBGAlgorithm = []named{
		{0x1, "Unspecified"},
		{0x2, "DualEC"},
		{0x3, "Hash"},
		{0x4, "HMAC"},
		{0x5, "CTR"},
	}
	namesData = []named{
		{0x1, "Decrypt"},
		{0x2, "Encrypt"},
		{0x3, "Hash"},
		{0x4, "MACMACData"},
		{0x5, "RNGRetrieve"},
		{0x6, "SignSignatureData"},
		{0x7, "SignatureVerify"},
	}
	namesDerivationMethod = []named{
		{0x1, "PBKDF2"},
		{0x2, "HASH"},
		{0x3, "HMAC"},
		{0x4, "ENCRYPT"},
		{0x5, "NIST800_108C"},
		{0x6, "NIST800_108F"},
		{0x7, "NIST800_108DPI"},
		{0x8, "AsymmetricKey"},
		{0x9, "AWSSignatureVersion4"},
		{0xa, "HKDF"},
	}
	namesDestroyAction = []named{
		{0x1, "Unspecified"},
		{0x2, "KeyMaterialDeleted"},
		{0x3, "KeyMaterialShredded"},
		{0x4, "MetaDataDeleted"},
		{0x5, "MetaDataShredded"},
		{0x6, "Deleted"},
		{0x7, "Shredded"},
	}
	namesDigitalSignatureAlgorithm = []named{
		{0x1, "MD2WithRSAEncryption"},
		{0x1, "MD2WithRSAEncryptionPKCS_1V1_5"},
		{0x2, "MD5WithRSAEncryption"},
		{0x2, "MD5WithRSAEncryptionPKCS_1V1_5"},
		{0x3, "SHA_1WithRSAEncryption"},
		{0x3, "SHA_1WithRSAEncryptionPKCS_1V1_5"},
		{0x4, "SHA_224WithRSAEncryption"},
		{0x4, "SHA_224WithRSAEncryptionPKCS_1V1_5"},
		{0x5, "SHA_256WithRSAEncryption"},
		{0x5, "SHA_256WithRSAEncryptionPKCS_1V1_5"},
		{0x6, "SHA_384WithRSAEncryption"},
		{0x6, "SHA_384WithRSAEncryptionPKCS_1V1_5"},
		{0x7, "SHA_512WithRSAEncryption"},
		{0x7, "SHA_512WithRSAEncryptionPKCS_1V1_5"},
		{0x8, "RSASSAPSS"},
		{0x8, "RSASSAPSSPKCS_1V2_1"},
		{0x9, "DSAWithSHA_1"},
		{0xa, "DSAWithSHA224"},
		{0xb, "DSAWithSHA256"},
		{0xc, "ECDSAWithSHA_1"},
		{0xd, "ECDSAWithSHA224"},
		{0xe, "ECDSAWithSHA256"},
		{0xf, "ECDSAWithSHA384"},
		{0x10, "ECDSAWithSHA512"},
		{0x11, "SHA3_256WithRSAEncryption"},
		{0x12, "SHA3_384WithRSAEncryption"},
		{0x13, "SHA3_512WithRSAEncryption"},
	}
	namesEncodingOption = []named{
		{0x1, "NoEncoding"},
		{0x2, "TTLVEncoding"},
	}
	namesEndpointRole = []named{
		{0x1, "Client"},
		{0x2, "Server"},
	}
	namesFIPS186Variation = []named{
		{0x1, "Unspecified"},
		{0x2, "GPXOriginal"},
		{0x3, "GPXChangeNotice"},
		{0x4, "XOriginal"},
		{0x5, "XChangeNotice"},
		{0x6, "KOriginal"},
		{0x7, "KChangeNotice"},
	}
	namesHashingAlgorithm = []named{
		{0x1, "MD2"},
		{0x2, "MD4"},
		{0x3, "MD5"},
		{0x4, "SHA_1"},
		{0x5, "SHA_224"},
		{0x6, "SHA_256"},
		{0x7, "SHA_384"},
		{0x8, "SHA_512"},
		{0x9, "RIPEMD_160"},
		{0xa, "Tiger"},
		{0xb, "Whirlpool"},
		{0xc, "SHA_512_224"},
		{0xd, "SHA_512_256"},
		{0xe, "SHA3_224"},
		{0xe, "SHA_3_224"},
		{0xf, "SHA3_256"},
		{0xf, "SHA_3_256"},
		{0x10, "SHA3_384"},
		{0x10, "SHA_3_384"},
		{0x11, "SHA3_512"},
		{0x11, "SHA_3_512"},
	}
	namesInteropFunction = []named{
		{0x1, "Begin"},
		{0x2, "End"},
		{0x3, "Reset"},
	}
	namesKeyCompressionType = []named{
		{0x1, "ECPublicKeyTypeUncompressed"},
		{0x2, "ECPublicKeyTypeX9_62CompressedPrime"},
		{0x3, "ECPublicKeyTypeX9_62CompressedChar2"},
		{0x4, "ECPublicKeyTypeX9_62Hybrid"},
	}
	namesKeyFormatType = []named{
		{0x1, "Raw"},
		{0x2, "Opaque"},
		{0x3, "PKCS_1"},
		{0x4, "PKCS_8"},
		{0x5, "X_509"},
		{0x6, "ECPrivateKey"},
		{0x7, "TransparentSymmetricKey"},
		{0x8, "TransparentDSAPrivateKey"},
		{0x9, "TransparentDSAPublicKey"},
		{0xa, "TransparentRSAPrivateKey"},
		{0xb, "TransparentRSAPublicKey"},
		{0xc, "TransparentDHPrivateKey"},
		{0xd, "TransparentDHPublicKey"},
		{0xe, "TransparentECDSAPrivateKey"},
		{0xf, "TransparentECDSAPublicKey"},
		{0x10, "TransparentECDHPrivateKey"},
		{0x11, "TransparentECDHPublicKey"},
		{0x12, "TransparentECMQVPrivateKey"},
		{0x13, "TransparentECMQVPublicKey"},
		{0x14, "TransparentECPrivateKey"},
		{0x15, "TransparentECPublicKey"},
		{0x16, "PKCS_12"},
		{0x17, "PKCS_10"},
	}
	namesKeyRoleType = []named{
		{0x1, "BDK"},
		{0x2, "CVK"},
		{0x3, "DEK"},
		{0x4, "MKAC"},
		{0x5, "MKSMC"},
		{0x6, "MKSMI"},
		{0x7, "MKDAC"},
		{0x8, "MKDN"},
		{0x9, "MKCP"},
		{0xa, "MKOTH"},
		{0xb, "KEK"},
		{0xc, "MAC16609"},
		{0xd, "MAC97971"},
		{0xe, "MAC97972"},
		{0xf, "MAC97973"},
		{0x10, "MAC97974"},
		{0x11, "MAC97975"},
		{0x12, "ZPK"},
		{0x13, "PVKIBM"},
		{0x14, "PVKPVV"},
		{0x15, "PVKOTH"},
		{0x16, "DUKPT"},
		{0x17, "IV"},
		{0x18, "TRKBK"},
	}
	namesKeyValueLocationType = []named{
		{0x1, "UninterpretedTextString"},
		{0x2, "URI"},
	}
	namesKeyWrapType = []named{
		{0x1, "NotWrapped"},
		{0x2, "AsRegistered"},
	}
	namesLinkType = []named{
		{0x101, "CertificateLink"},
		{0x102, "PublicKeyLink"},
		{0x103, "PrivateKeyLink"},
		{0x104, "DerivationBaseObjectLink"},
		{0x105, "DerivedKeyLink"},
		{0x106, "ReplacementObjectLink"},
		{0x107, "ReplacedObjectLink"},
		{0x108, "ParentLink"},
		{0x109, "ChildLink"},
		{0x10a, "PreviousLink"},
		{0x10b, "NextLink"},
		{0x10c, "PKCS_12CertificateLink"},
		{0x10d, "PKCS_12PasswordLink"},
		{0x10e, "WrappingKeyLink"},
	}
	namesMaskGenerator = []named{
		{0x1, "MFG1"},
		{0x1, "MGF1"},
	}
	namesMaskGeneratorHashingAlgorithm = []named{
		{0x1, "MD2"},
		{0x2, "MD4"},
		{0x3, "MD5"},
		{0x4, "SHA_1"},
		{0x5, "SHA_224"},
		{0x6, "SHA_256"},
		{0x7, "SHA_384"},
		{0x8, "SHA_512"},
		{0x9, "RIPEMD_160"},
		{0xa, "Tiger"},
		{0xb, "Whirlpool"},
		{0xc, "SHA_512_224"},
		{0xd, "SHA_512_256"},
		{0xe, "SHA3_224"},
		{0xe, "SHA_3_224"},
		{0xf, "SHA3_256"},
		{0xf, "SHA_3_256"},
		{0x10, "SHA3_384"},
		{0x10, "SHA_3_384"},
		{0x11, "SHA3_512"},
		{0x11, "SHA_3_512"},
	}
	namesNISTKeyType = []named{
		{0x1, "PrivateSignatureKey"},
		{0x2, "PublicSignatureVerificationKey"},
		{0x3, "SymmetricAuthenticationKey"},
		{0x4, "PrivateAuthenticationKey"},
		{0x5, "PublicAuthenticationKey"},
		{0x6, "SymmetricDataEncryptionKey"},
		{0x7, "SymmetricKeyWrappingKey"},
		{0x8, "SymmetricRandomNumberGenerationKey"},
		{0x9, "SymmetricMasterKey"},
		{0xa, "PrivateKeyTransportKey"},
		{0xb, "PublicKeyTransportKey"},
		{0xc, "SymmetricKeyAgreementKey"},
		{0xd, "PrivateStaticKeyAgreementKey"},
		{0xe, "PublicStaticKeyAgreementKey"},
		{0xf, "PrivateEphemeralKeyAgreementKey"},
		{0x10, "PublicEphemeralKeyAgreementKey"},
		{0x11, "SymmetricAuthorizationKey"},
		{0x12, "PrivateAuthorizationKey"},
		{0x13, "PublicAuthorizationKey"},
	}
	namesNameType = []named{
		{0x1, "UninterpretedTextString"},
		{0x2, "URI"},
	}
	namesObjectGroupMember = []named{
		{0x1, "GroupMemberFresh"},
		{0x2, "GroupMemberDefault"},
	}
	namesObjectType = []named{
		{0x1, "Certificate"},
		{0x2, "SymmetricKey"},
		{0x3, "PublicKey"},
		{0x4, "PrivateKey"},
		{0x5, "SplitKey"},
		{0x6, "Template"},
		{0x7, "SecretData"},
		{0x8, "OpaqueObject"},
		{0x9, "PGPKey"},
		{0xa, "CertificateRequest"},
	}
	namesOperation = []named{
		{0x1, "Create"},
		{0x2, "CreateKeyPair"},
		{0x3, "Register"},
		{0x4, "ReKey"},
		{0x5, "DeriveKey"},
		{0x6, "Certify"},
		{0x7, "ReCertify"},
		{0x8, "Locate"},
		{0x9, "Check"},
		{0xa, "Get"},
		{0xb, "GetAttributes"},
		{0xc, "GetAttributeList"},
		{0xd, "AddAttribute"},
		{0xe, "ModifyAttribute"},
		{0xf, "DeleteAttribute"},
		{0x10, "ObtainLease"},
		{0x11, "GetUsageAllocation"},
		{0x12, "Activate"},
		{0x13, "Revoke"},
		{0x14, "Destroy"},
		{0x15, "Archive"},
		{0x16, "Recover"},
		{0x17, "Validate"},
		{0x18, "Query"},
		{0x19, "Cancel"},
		{0x1a, "Poll"},
		{0x1b, "Notify"},
		{0x1c, "Put"},
		{0x1d, "ReKeyKeyPair"},
		{0x1e, "DiscoverVersions"},
		{0x1f, "Encrypt"},
		{0x20, "Decrypt"},
		{0x21, "Sign"},
		{0x22, "SignatureVerify"},
		{0x23, "MAC"},
		{0x24, "MACVerify"},
		{0x25, "RNGRetrieve"},
		{0x26, "RNGSeed"},
		{0x27, "Hash"},
		{0x28, "CreateSplitKey"},
		{0x29, "JoinSplitKey"},
		{0x2a, "Import"},
		{0x2b, "Export"},
		{0x2c, "Log"},
		{0x2d, "Login"},
		{0x2e, "Logout"},
		{0x2f, "DelegatedLogin"},
		{0x30, "AdjustAttribute"},
		{0x31, "SetAttribute"},
		{0x32, "SetEndpointRole"},
		{0x33, "PKCS_11"},
		{0x34, "Interop"},
		{0x35, "ReProvision"},
		{0x36, "SetDefaults"},
		{0x37, "SetConstraints"},
		{0x38, "GetConstraints"},
		{0x39, "QueryAsynchronousRequests"},
		{0x3a, "Process"},
		{0x3b, "Ping"},
	}
	namesPKCS_11Function = []named{
		{0x1, "C_Initialize"},
		{0x2, "C_Finalize"},
		{0x3, "C_GetInfo"},
	}
	namesPKCS_11ReturnCode = []named{
		{0x0, "OK"},
	}
	namesPaddingMethod = []named{
		{0x1, "None"},
		{0x2, "OAEP"},
		{0x3, "PKCS5"},
		{0x4, "SSL3"},
		{0x5, "Zeros"},
		{0x6, "ANSIX9_23"},
		{0x7, "ISO10126"},
		{0x8, "PKCS1V1_5"},
		{0x9, "X9_31"},
		{0xa, "PSS"},
	}
	namesProcessingStage = []named{
		{0x1, "Submitted"},
		{0x2, "InProcess"},
		{0x3, "Completed"},
	}
	namesProfileName = []named{
		{0x1, "BaselineServerBasicKMIPV1_2"},
		{0x2, "BaselineServerTLSV1_2KMIPV1_2"},
		{0x3, "BaselineClientBasicKMIPV1_2"},
		{0x4, "BaselineClientTLSV1_2KMIPV1_2"},
		{0x5, "CompleteServerBasicKMIPV1_2"},
		{0x6, "CompleteServerTLSV1_2KMIPV1_2"},
		{0x7, "TapeLibraryClientKMIPV1_0"},
		{0x8, "TapeLibraryClientKMIPV1_1"},
		{0x9, "TapeLibraryClientKMIPV1_2"},
		{0xa, "TapeLibraryServerKMIPV1_0"},
		{0xb, "TapeLibraryServerKMIPV1_1"},
		{0xc, "TapeLibraryServerKMIPV1_2"},
		{0xd, "SymmetricKeyLifecycleClientKMIPV1_0"},
		{0xe, "SymmetricKeyLifecycleClientKMIPV1_1"},
		{0xf, "SymmetricKeyLifecycleClientKMIPV1_2"},
		{0x10, "SymmetricKeyLifecycleServerKMIPV1_0"},
		{0x11, "SymmetricKeyLifecycleServerKMIPV1_1"},
		{0x12, "SymmetricKeyLifecycleServerKMIPV1_2"},
		{0x13, "AsymmetricKeyLifecycleClientKMIPV1_0"},
		{0x14, "AsymmetricKeyLifecycleClientKMIPV1_1"},
		{0x15, "AsymmetricKeyLifecycleClientKMIPV1_2"},
		{0x16, "AsymmetricKeyLifecycleServerKMIPV1_0"},
		{0x17, "AsymmetricKeyLifecycleServerKMIPV1_1"},
		{0x18, "AsymmetricKeyLifecycleServerKMIPV1_2"},
		{0x19, "BasicCryptographicClientKMIPV1_2"},
		{0x1a, "BasicCryptographicServerKMIPV1_2"},
		{0x1b, "AdvancedCryptographicClientKMIPV1_2"},
		{0x1c, "AdvancedCryptographicServerKMIPV1_2"},
		{0x1d, "RNGCryptographicClientKMIPV1_2"},
		{0x1e, "RNGCryptographicServerKMIPV1_2"},
		{0x1f, "BasicSymmetricKeyFoundryClientKMIPV1_0"},
		{0x20, "IntermediateSymmetricKeyFoundryClientKMIPV1_0"},
		{0x21, "AdvancedSymmetricKeyFoundryClientKMIPV1_0"},
		{0x22, "BasicSymmetricKeyFoundryClientKMIPV1_1"},
		{0x23, "IntermediateSymmetricKeyFoundryClientKMIPV1_1"},
		{0x24, "AdvancedSymmetricKeyFoundryClientKMIPV1_1"},
		{0x25, "BasicSymmetricKeyFoundryClientKMIPV1_2"},
		{0x26, "IntermediateSymmetricKeyFoundryClientKMIPV1_2"},
		{0x27, "AdvancedSymmetricKeyFoundryClientKMIPV1_2"},
		{0x28, "SymmetricKeyFoundryServerKMIPV1_0"},
		{0x29, "SymmetricKeyFoundryServerKMIPV1_1"},
		{0x2a, "SymmetricKeyFoundryServerKMIPV1_2"},
		{0x2b, "OpaqueManagedObjectStoreClientKMIPV1_0"},
		{0x2c, "OpaqueManagedObjectStoreClientKMIPV1_1"},
		{0x2d, "OpaqueManagedObjectStoreClientKMIPV1_2"},
		{0x2e, "OpaqueManagedObjectStoreServerKMIPV1_0"},
		{0x2f, "OpaqueManagedObjectStoreServerKMIPV1_1"},
		{0x30, "OpaqueManagedObjectStoreServerKMIPV1_2"},
		{0x31, "SuiteBMinLOS_128ClientKMIPV1_0"},
		{0x32, "SuiteBMinLOS_128ClientKMIPV1_1"},
		{0x33, "SuiteBMinLOS_128ClientKMIPV1_2"},
		{0x34, "SuiteBMinLOS_128ServerKMIPV1_0"},
		{0x35, "SuiteBMinLOS_128ServerKMIPV1_1"},
		{0x36, "SuiteBMinLOS_128ServerKMIPV1_2"},
		{0x37, "SuiteBMinLOS_192ClientKMIPV1_0"},
		{0x38, "SuiteBMinLOS_192ClientKMIPV1_1"},
		{0x39, "SuiteBMinLOS_192ClientKMIPV1_2"},
		{0x3a, "SuiteBMinLOS_192ServerKMIPV1_0"},
		{0x3b, "SuiteBMinLOS_192ServerKMIPV1_1"},
		{0x3c, "SuiteBMinLOS_192ServerKMIPV1_2"},
		{0x3d, "StorageArrayWithSelfEncryptingDriveClientKMIPV1_0"},
		{0x3e, "StorageArrayWithSelfEncryptingDriveClientKMIPV1_1"},
		{0x3f, "StorageArrayWithSelfEncryptingDriveClientKMIPV1_2"},
		{0x40, "StorageArrayWithSelfEncryptingDriveServerKMIPV1_0"},
		{0x41, "StorageArrayWithSelfEncryptingDriveServerKMIPV1_1"},
		{0x42, "StorageArrayWithSelfEncryptingDriveServerKMIPV1_2"},
		{0x43, "HTTPSClientKMIPV1_0"},
		{0x44, "HTTPSClientKMIPV1_1"},
		{0x45, "HTTPSClientKMIPV1_2"},
		{0x46, "HTTPSServerKMIPV1_0"},
		{0x47, "HTTPSServerKMIPV1_1"},
		{0x48, "HTTPSServerKMIPV1_2"},
		{0x49, "JSONClientKMIPV1_0"},
		{0x4a, "JSONClientKMIPV1_1"},
		{0x4b, "JSONClientKMIPV1_2"},
		{0x4c, "JSONServerKMIPV1_0"},
		{0x4d, "JSONServerKMIPV1_1"},
		{0x4e, "JSONServerKMIPV1_2"},
		{0x4f, "XMLClientKMIPV1_0"},
		{0x50, "XMLClientKMIPV1_1"},
		{0x51, "XMLClientKMIPV1_2"},
		{0x52, "XMLServerKMIPV1_0"},
		{0x53, "XMLServerKMIPV1_1"},
		{0x54, "XMLServerKMIPV1_2"},
		{0x55, "BaselineServerBasicKMIPV1_3"},
		{0x56, "BaselineServerTLSV1_2KMIPV1_3"},
		{0x57, "BaselineClientBasicKMIPV1_3"},
		{0x58, "BaselineClientTLSV1_2KMIPV1_3"},
		{0x59, "CompleteServerBasicKMIPV1_3"},
		{0x5a, "CompleteServerTLSV1_2KMIPV1_3"},
		{0x5b, "TapeLibraryClientKMIPV1_3"},
		{0x5c, "TapeLibraryServerKMIPV1_3"},
		{0x5d, "SymmetricKeyLifecycleClientKMIPV1_3"},
		{0x5e, "SymmetricKeyLifecycleServerKMIPV1_3"},
		{0x5f, "AsymmetricKeyLifecycleClientKMIPV1_3"},
		{0x60, "AsymmetricKeyLifecycleServerKMIPV1_3"},
		{0x61, "BasicCryptographicClientKMIPV1_3"},
		{0x62, "BasicCryptographicServerKMIPV1_3"},
		{0x63, "AdvancedCryptographicClientKMIPV1_3"},
		{0x64, "AdvancedCryptographicServerKMIPV1_3"},
		{0x65, "RNGCryptographicClientKMIPV1_3"},
		{0x66, "RNGCryptographicServerKMIPV1_3"},
		{0x67, "BasicSymmetricKeyFoundryClientKMIPV1_3"},
		{0x68, "IntermediateSymmetricKeyFoundryClientKMIPV1_3"},
		{0x69, "AdvancedSymmetricKeyFoundryClientKMIPV1_3"},
		{0x6a, "SymmetricKeyFoundryServerKMIPV1_3"},
		{0x6b, "OpaqueManagedObjectStoreClientKMIPV1_3"},
		{0x6c, "OpaqueManagedObjectStoreServerKMIPV1_3"},
		{0x6d, "SuiteBMinLOS_128ClientKMIPV1_3"},
		{0x6e, "SuiteBMinLOS_128ServerKMIPV1_3"},
		{0x6f, "SuiteBMinLOS_192ClientKMIPV1_3"},
		{0x70, "SuiteBMinLOS_192ServerKMIPV1_3"},
		{0x71, "StorageArrayWithSelfEncryptingDriveClientKMIPV1_3"},
		{0x72, "StorageArrayWithSelfEncryptingDriveServerKMIPV1_3"},
		{0x73, "HTTPSClientKMIPV1_3"},
		{0x74, "HTTPSServerKMIPV1_3"},
		{0x75, "JSONClientKMIPV1_3"},
		{0x76, "JSONServerKMIPV1_3"},
		{0x77, "XMLClientKMIPV1_3"},
		{0x78, "XMLServerKMIPV1_3"},
		{0x79, "BaselineServerBasicKMIPV1_4"},
		{0x7a, "BaselineServerTLSV1_2KMIPV1_4"},
		{0x7b, "BaselineClientBasicKMIPV1_4"},
		{0x7c, "BaselineClientTLSV1_2KMIPV1_4"},
		{0x7d, "CompleteServerBasicKMIPV1_4"},
		{0x7e, "CompleteServerTLSV1_2KMIPV1_4"},
		{0x7f, "TapeLibraryClientKMIPV1_4"},
		{0x80, "TapeLibraryServerKMIPV1_4"},
		{0x81, "SymmetricKeyLifecycleClientKMIPV1_4"},
		{0x82, "SymmetricKeyLifecycleServerKMIPV1_4"},
		{0x83, "AsymmetricKeyLifecycleClientKMIPV1_4"},
		{0x84, "AsymmetricKeyLifecycleServerKMIPV1_4"},
		{0x85, "BasicCryptographicClientKMIPV1_4"},
		{0x86, "BasicCryptographicServerKMIPV1_4"},
		{0x87, "AdvancedCryptographicClientKMIPV1_4"},
		{0x88, "AdvancedCryptographicServerKMIPV1_4"},
		{0x89, "RNGCryptographicClientKMIPV1_4"},
		{0x8a, "RNGCryptographicServerKMIPV1_4"},
		{0x8b, "BasicSymmetricKeyFoundryClientKMIPV1_4"},
		{0x8c, "IntermediateSymmetricKeyFoundryClientKMIPV1_4"},
		{0x8d, "AdvancedSymmetricKeyFoundryClientKMIPV1_4"},
		{0x8e, "SymmetricKeyFoundryServerKMIPV1_4"},
		{0x8f, "OpaqueManagedObjectStoreClientKMIPV1_4"},
		{0x90, "OpaqueManagedObjectStoreServerKMIPV1_4"},
		{0x91, "SuiteBMinLOS_128ClientKMIPV1_4"},
		{0x92, "SuiteBMinLOS_128ServerKMIPV1_4"},
		{0x93, "SuiteBMinLOS_192ClientKMIPV1_4"},
		{0x94, "SuiteBMinLOS_192ServerKMIPV1_4"},
		{0x95, "StorageArrayWithSelfEncryptingDriveClientKMIPV1_4"},
		{0x96, "StorageArrayWithSelfEncryptingDriveServerKMIPV1_4"},
		{0x97, "HTTPSClientKMIPV1_4"},
		{0x98, "HTTPSServerKMIPV1_4"},
		{0x99, "JSONClientKMIPV1_4"},
		{0x9a, "JSONServerKMIPV1_4"},
		{0x9b, "XMLClientKMIPV1_4"},
		{0x9c, "XMLServerKMIPV1_4"},
		{0x104, "CompleteServerBasic"},
		{0x105, "CompleteServerTLSV1_2"},
		{0x106, "TapeLibraryClient"},
		{0x107, "TapeLibraryServer"},
		{0x108, "SymmetricKeyLifecycleClient"},
		{0x109, "SymmetricKeyLifecycleServer"},
		{0x10a, "AsymmetricKeyLifecycleClient"},
		{0x10b, "AsymmetricKeyLifecycleServer"},
		{0x10c, "BasicCryptographicClient"},
		{0x10d, "BasicCryptographicServer"},
		{0x10e, "AdvancedCryptographicClient"},
		{0x10f, "AdvancedCryptographicServer"},
		{0x110, "RNGCryptographicClient"},
		{0x111, "RNGCryptographicServer"},
		{0x112, "BasicSymmetricKeyFoundryClient"},
		{0x113, "IntermediateSymmetricKeyFoundryClient"},
		{0x114, "AdvancedSymmetricKeyFoundryClient"},
		{0x115, "SymmetricKeyFoundryServer"},
		{0x116, "OpaqueManagedObjectStoreClient"},
		{0x117, "OpaqueManagedObjectStoreServer"},
		{0x11c, "StorageArrayWithSelfEncryptingDriveClient"},
		{0x11d, "StorageArrayWithSelfEncryptingDriveServer"},
		{0x11e, "HTTPSClient"},
		{0x11f, "HTTPSServer"},
		{0x120, "JSONClient"},
		{0x121, "JSONServer"},
		{0x122, "XMLClient"},
		{0x123, "XMLServer"},
		{0x124, "AESXTSClient"},
		{0x125, "AESXTSServer"},
		{0x126, "QuantumSafeClient"},
		{0x127, "QuantumSafeServer"},
		{0x128, "PKCS_11Client"},
		{0x129, "PKCS_11Server"},
		{0x12a, "BaselineClient"},
		{0x12b, "BaselineServer"},
		{0x12c, "CompleteServer"},
	}
	namesProtectionLevel = []named{
		{0x1, "High"},
		{0x2, "Low"},
	}
	namesProtectionStorageMask = []named{
		{0x1, "Software"},
		{0x2, "Hardware"},
		{0x4, "OnProcessor"},
		{0x8, "OnSystem"},
		{0x10, "OffSystem"},
		{0x20, "Hypervisor"},
		{0x40, "OperatingSystem"},
		{0x80, "Container"},
		{0x100, "OnPremises"},
		{0x200, "OffPremises"},
		{0x400, "SelfManaged"},
		{0x800, "Outsourced"},
		{0x1000, "Validated"},
		{0x2000, "SameJurisdiction"},
	}
	namesPutFunction = []named{
		{0x1, "New"},
		{0x2, "Replace"},
	}
	namesQueryFunction = []named{
		{0x1, "QueryOperations"},
		{0x2, "QueryObjects"},
		{0x3, "QueryServerInformation"},
		{0x4, "QueryApplicationNamespaces"},
		{0x5, "QueryExtensionList"},
		{0x6, "QueryExtensionMap"},
		{0x7, "QueryAttestationTypes"},
		{0x8, "QueryRNGs"},
		{0x9, "QueryValidations"},
		{0xa, "QueryProfiles"},
		{0xb, "QueryCapabilities"},
		{0xc, "QueryClientRegistrationMethods"},
		{0xd, "QueryDefaultsInformation"},
		{0xe, "QueryStorageProtectionMasks"},
	}
	namesRNGAlgorithm = []named{
		{0x1, "Unspecified"},
		{0x2, "FIPS186_2"},
		{0x3, "DRBG"},
		{0x4, "NRBG"},
		{0x5, "ANSIX9_31"},
		{0x6, "ANSIX9_62"},
	}
	namesRNGMode = []named{
		{0x1, "Unspecified"},
		{0x2, "SharedInstantiation"},
		{0x3, "NonSharedInstantiation"},
	}
	namesRecommendedCurve = []named{
		{0x1, "P_192"},
		{0x2, "K_163"},
		{0x3, "B_163"},
		{0x4, "P_224"},
		{0x5, "K_233"},
		{0x6, "B_233"},
		{0x7, "P_256"},
		{0x8, "K_283"},
		{0x9, "B_283"},
		{0xa, "P_384"},
		{0xb, "K_409"},
		{0xc, "B_409"},
		{0xd, "P_521"},
		{0xe, "K_571"},
		{0xf, "B_571"},
		{0x10, "SECP112R1"},
		{0x11, "SECP112R2"},
		{0x12, "SECP128R1"},
		{0x13, "SECP128R2"},
		{0x14, "SECP160K1"},
		{0x15, "SECP160R1"},
		{0x16, "SECP160R2"},
		{0x17, "SECP192K1"},
		{0x18, "SECP224K1"},
		{0x19, "SECP256K1"},
		{0x1a, "SECT113R1"},
		{0x1b, "SECT113R2"},
		{0x1c, "SECT131R1"},
		{0x1d, "SECT131R2"},
		{0x1e, "SECT163R1"},
		{0x1f, "SECT193R1"},
		{0x20, "SECT193R2"},
		{0x21, "SECT239K1"},
		{0x22, "ANSIX9P192V2"},
		{0x23, "ANSIX9P192V3"},
		{0x24, "ANSIX9P239V1"},
		{0x25, "ANSIX9P239V2"},
		{0x26, "ANSIX9P239V3"},
		{0x27, "ANSIX9C2PNB163V1"},
		{0x28, "ANSIX9C2PNB163V2"},
		{0x29, "ANSIX9C2PNB163V3"},
		{0x2a, "ANSIX9C2PNB176V1"},
		{0x2b, "ANSIX9C2TNB191V1"},
		{0x2c, "ANSIX9C2TNB191V2"},
		{0x2d, "ANSIX9C2TNB191V3"},
		{0x2e, "ANSIX9C2PNB208W1"},
		{0x2f, "ANSIX9C2TNB239V1"},
		{0x30, "ANSIX9C2TNB239V2"},
		{0x31, "ANSIX9C2TNB239V3"},
		{0x32, "ANSIX9C2PNB272W1"},
		{0x33, "ANSIX9C2PNB304W1"},
		{0x34, "ANSIX9C2TNB359V1"},
		{0x35, "ANSIX9C2PNB368W1"},
		{0x36, "ANSIX9C2TNB431R1"},
		{0x37, "BRAINPOOLP160R1"},
		{0x38, "BRAINPOOLP160T1"},
		{0x39, "BRAINPOOLP192R1"},
		{0x3a, "BRAINPOOLP192T1"},
		{0x3b, "BRAINPOOLP224R1"},
		{0x3c, "BRAINPOOLP224T1"},
		{0x3d, "BRAINPOOLP256R1"},
		{0x3e, "BRAINPOOLP256T1"},
		{0x3f, "BRAINPOOLP320R1"},
		{0x40, "BRAINPOOLP320T1"},
		{0x41, "BRAINPOOLP384R1"},
		{0x42, "BRAINPOOLP384T1"},
		{0x43, "BRAINPOOLP512R1"},
		{0x44, "BRAINPOOLP512T1"},
		{0x45, "CURVE25519"},
		{0x46, "CURVE448"},
	}
	namesResultReason = []named{
		{0x1, "ItemNotFound"},
		{0x2, "ResponseTooLarge"},
		{0x3, "AuthenticationNotSuccessful"},
		{0x4, "InvalidMessage"},
		{0x5, "OperationNotSupported"},
		{0x6, "MissingData"},
		{0x7, "InvalidField"},
		{0x8, "FeatureNotSupported"},
		{0x9, "OperationCanceledByRequester"},
		{0xa, "CryptographicFailure"},
		{0xb, "IllegalOperation"},
		{0xc, "PermissionDenied"},
		{0xd, "ObjectArchived"},
		{0xe, "IndexOutOfBounds"},
		{0xf, "ApplicationNamespaceNotSupported"},
		{0x10, "KeyFormatTypeNotSupported"},
		{0x11, "KeyCompressionTypeNotSupported"},
		{0x12, "EncodingOptionError"},
		{0x13, "KeyValueNotPresent"},
		{0x14, "AttestationRequired"},
		{0x15, "AttestationFailed"},
		{0x16, "Sensitive"},
		{0x17, "NotExtractable"},
		{0x18, "ObjectAlreadyExists"},
		{0x19, "InvalidTicket"},
		{0x1a, "UsageLimitExceeded"},
		{0x1b, "NumericRange"},
		{0x1c, "InvalidDataType"},
		{0x1d, "ReadOnlyAttribute"},
		{0x1e, "MultiValuedAttribute"},
		{0x1f, "UnsupportedAttribute"},
		{0x20, "AttributeInstanceNotFound"},
		{0x21, "AttributeNotFound"},
		{0x22, "AttributeReadOnly"},
		{0x23, "AttributeSingleValued"},
		{0x24, "BadCryptographicParameters"},
		{0x25, "BadPassword"},
		{0x26, "CodecError"},
		{0x28, "IllegalObjectType"},
		{0x29, "IncompatibleCryptographicUsageMask"},
		{0x2a, "InternalServerError"},
		{0x2b, "InvalidAsynchronousCorrelationValue"},
		{0x2c, "InvalidAttribute"},
		{0x2d, "InvalidAttributeValue"},
		{0x2e, "InvalidCorrelationValue"},
		{0x2f, "InvalidCSR"},
		{0x30, "InvalidObjectType"},
		{0x32, "KeyWrapTypeNotSupported"},
		{0x34, "MissingInitializationVector"},
		{0x35, "NonUniqueNameAttribute"},
		{0x36, "ObjectDestroyed"},
		{0x37, "ObjectNotFound"},
		{0x39, "NotAuthorised"},
		{0x3a, "ServerLimitExceeded"},
		{0x3b, "UnknownEnumeration"},
		{0x3c, "UnknownMessageExtension"},
		{0x3d, "UnknownTag"},
		{0x3e, "UnsupportedCryptographicParameters"},
		{0x3f, "UnsupportedProtocolVersion"},
		{0x40, "WrappingObjectArchived"},
		{0x41, "WrappingObjectDestroyed"},
		{0x42, "WrappingObjectNotFound"},
		{0x43, "WrongKeyLifecycleState"},
		{0x44, "ProtectionStorageUnavailable"},
		{0x45, "PKCS_11CodecError"},
		{0x46, "PKCS_11InvalidFunction"},
		{0x47, "PKCS_11InvalidInterface"},
		{0x48, "PrivateProtectionStorageUnavailable"},
		{0x49, "PublicProtectionStorageUnavailable"},
		{0x4a, "UnknownObjectGroup"},
		{0x4b, "ConstraintViolation"},
		{0x4c, "DuplicateProcessRequest"},
		{0x100, "GeneralFailure"},
	}
	namesResultStatus = []named{
		{0x0, "Success"},
		{0x1, "OperationFailed"},
		{0x2, "OperationPending"},
		{0x3, "OperationUndone"},
	}
	namesRevocationReasonCode = []named{
		{0x1, "Unspecified"},
		{0x2, "KeyCompromise"},
		{0x3, "CACompromise"},
		{0x4, "AffiliationChanged"},
		{0x5, "Superseded"},
		{0x6, "CessationOfOperation"},
		{0x7, "PrivilegeWithdrawn"},
	}
	namesSecretDataType = []named{
		{0x1, "Password"},
		{0x2, "Seed"},
	}
	namesShreddingAlgorithm = []named{
		{0x1, "Unspecified"},
		{0x2, "Cryptographic"},
		{0x3, "Unsupported"},
	}
	namesSplitKeyMethod = []named{
		{0x1, "XOR"},
		{0x2, "PolynomialSharingGF216"},
		{0x3, "PolynomialSharingPrimeField"},
		{0x4, "PolynomialSharingGF28"},
		{0x4, "PolynomialSharingGF2_8"},
	}
	namesState = []named{
		{0x1, "PreActive"},
		{0x2, "Active"},
		{0x3, "Deactivated"},
		{0x4, "Compromised"},
		{0x5, "Destroyed"},
		{0x6, "DestroyedCompromised"},
	}
	namesStorageStatusMask = []named{
		{0x1, "OnLineStorage"},
		{0x2, "ArchivalStorage"},
		{0x4, "DestroyedStorage"},
	}
	namesTicketType = []named{
		{0x1, "Login"},
	}
	namesUniqueIdentifier = []named{
		{0x1, "IDPlaceholder"},
		{0x2, "Certify"},
		{0x3, "Create"},
		{0x4, "CreateKeyPair"},
		{0x5, "CreateKeyPairPrivateKey"},
		{0x6, "CreateKeyPairPublicKey"},
		{0x7, "CreateSplitKey"},
		{0x8, "DeriveKey"},
		{0x9, "Import"},
		{0xa, "JoinSplitKey"},
		{0xb, "Locate"},
		{0xc, "Register"},
		{0xd, "ReKey"},
		{0xe, "ReCertify"},
		{0xf, "ReKeyKeyPair"},
		{0x10, "ReKeyKeyPairPrivateKey"},
		{0x11, "ReKeyKeyPairPublicKey"},
	}
	namesUnwrapMode = []named{
		{0x1, "Unspecified"},
		{0x2, "Processed"},
		{0x3, "NotProcessed"},
	}
	namesUsageLimitsUnit = []named{
		{0x1, "Byte"},
		{0x2, "Object"},
	}
	namesValidationAuthorityType = []named{
		{0x1, "Unspecified"},
		{0x2, "NISTCMVP"},
		{0x3, "CommonCriteria"},
	}
	namesValidationType = []named{
		{0x1, "Unspecified"},
		{0x2, "Hardware"},
		{0x3, "Software"},
		{0x4, "Firmware"},
		{0x5, "Hybrid"},
	}
	namesValidityIndicator = []named{
		{0x1, "Valid"},
		{0x2, "Invalid"},
		{0x3, "Unknown"},
	}
	namesWrappingMethod = []named{
		{0x1, "Encrypt"},
		{0x2, "MACSign"},
		{0x3, "EncryptThenMACSign"},
		{0x4, "MACSignThenEncrypt"},
		{0x5, "TR_31"},
	}
)
