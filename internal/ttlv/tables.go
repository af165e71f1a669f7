// Code generated from the tables of the KMIP specifications 1.0 to 2.1. DO NOT EDIT.

// They were made once from the tables that OASIS published; the project has no
// generator. Put a mistake right here.

package ttlv

// The tags of the specifications (KMIP 2.1, section 11.55; 1.4, section 9.1.3.1).
const (
	TagActivationDate                        Tag = 0x420001
	TagApplicationData                       Tag = 0x420002
	TagApplicationNamespace                  Tag = 0x420003
	TagApplicationSpecificInformation        Tag = 0x420004
	TagArchiveDate                           Tag = 0x420005
	TagAsynchronousCorrelationValue          Tag = 0x420006
	TagAsynchronousIndicator                 Tag = 0x420007
	TagAttribute                             Tag = 0x420008
	TagAttributeIndex                        Tag = 0x420009
	TagAttributeName                         Tag = 0x42000a
	TagAttributeValue                        Tag = 0x42000b
	TagAuthentication                        Tag = 0x42000c
	TagBatchCount                            Tag = 0x42000d
	TagBatchErrorContinuationOption          Tag = 0x42000e
	TagBatchItem                             Tag = 0x42000f
	TagBatchOrderOption                      Tag = 0x420010
	TagBlockCipherMode                       Tag = 0x420011
	TagCancellationResult                    Tag = 0x420012
	TagCertificate                           Tag = 0x420013
	TagCertificateIdentifier                 Tag = 0x420014
	TagCertificateIssuer                     Tag = 0x420015
	TagCertificateIssuerAlternativeName      Tag = 0x420016
	TagCertificateIssuerDistinguishedName    Tag = 0x420017
	TagCertificateRequest                    Tag = 0x420018
	TagCertificateRequestType                Tag = 0x420019
	TagCertificateSubject                    Tag = 0x42001a
	TagCertificateSubject_AlternativeName    Tag = 0x42001b
	TagCertificateSubjectDistinguishedName   Tag = 0x42001c
	TagCertificateType                       Tag = 0x42001d
	TagCertificateValue                      Tag = 0x42001e
	TagCommonTemplateAttribute               Tag = 0x42001f
	TagCompromiseDate                        Tag = 0x420020
	TagCompromise_Date                       Tag = 0x420020
	TagCompromiseOccurrenceDate              Tag = 0x420021
	TagContactInformation                    Tag = 0x420022
	TagCredential                            Tag = 0x420023
	TagCredentialType                        Tag = 0x420024
	TagCredentialValue                       Tag = 0x420025
	TagCriticalityIndicator                  Tag = 0x420026
	TagCRTCoefficient                        Tag = 0x420027
	TagCryptographicAlgorithm                Tag = 0x420028
	TagCryptographicDomainParameters         Tag = 0x420029
	TagCryptographicLength                   Tag = 0x42002a
	TagCryptographicParameters               Tag = 0x42002b
	TagCryptographicUsageMask                Tag = 0x42002c
	TagCustomAttribute                       Tag = 0x42002d
	TagD                                     Tag = 0x42002e
	TagDeactivationDate                      Tag = 0x42002f
	TagDerivationData                        Tag = 0x420030
	TagDerivationMethod                      Tag = 0x420031
	TagDerivationParameters                  Tag = 0x420032
	TagDestroyDate                           Tag = 0x420033
	TagDigest                                Tag = 0x420034
	TagDigestValue                           Tag = 0x420035
	TagEncryptionKeyInformation              Tag = 0x420036
	TagG                                     Tag = 0x420037
	TagHashingAlgorithm                      Tag = 0x420038
	TagInitialDate                           Tag = 0x420039
	TagInitializationVector                  Tag = 0x42003a
	TagIssuer                                Tag = 0x42003b
	TagIterationCount                        Tag = 0x42003c
	TagIVCounterNonce                        Tag = 0x42003d
	TagJ                                     Tag = 0x42003e
	TagKey                                   Tag = 0x42003f
	TagKeyBlock                              Tag = 0x420040
	TagKeyCompressionType                    Tag = 0x420041
	TagKeyFormatType                         Tag = 0x420042
	TagKeyMaterial                           Tag = 0x420043
	TagKeyPartIdentifier                     Tag = 0x420044
	TagKeyValue                              Tag = 0x420045
	TagKeyWrappingData                       Tag = 0x420046
	TagKeyWrappingSpecification              Tag = 0x420047
	TagLastChangeDate                        Tag = 0x420048
	TagLeaseTime                             Tag = 0x420049
	TagLink                                  Tag = 0x42004a
	TagLinkType                              Tag = 0x42004b
	TagLinkedObjectIdentifier                Tag = 0x42004c
	TagMACSignature                          Tag = 0x42004d
	TagMACSignatureKeyInformation            Tag = 0x42004e
	TagMaximumItems                          Tag = 0x42004f
	TagMaximumResponseSize                   Tag = 0x420050
	TagMessageExtension                      Tag = 0x420051
	TagModulus                               Tag = 0x420052
	TagName                                  Tag = 0x420053
	TagNameType                              Tag = 0x420054
	TagNameValue                             Tag = 0x420055
	TagObjectGroup                           Tag = 0x420056
	TagObjectType                            Tag = 0x420057
	TagOffset                                Tag = 0x420058
	TagOpaqueDataType                        Tag = 0x420059
	TagOpaqueDataValue                       Tag = 0x42005a
	TagOpaqueObject                          Tag = 0x42005b
	TagOperation                             Tag = 0x42005c
	TagOperationPolicyName                   Tag = 0x42005d
	TagP                                     Tag = 0x42005e
	TagPaddingMethod                         Tag = 0x42005f
	TagPrimeExponentP                        Tag = 0x420060
	TagPrimeExponentQ                        Tag = 0x420061
	TagPrimeFieldSize                        Tag = 0x420062
	TagPrivateExponent                       Tag = 0x420063
	TagPrivateKey                            Tag = 0x420064
	TagPrivateKeyTemplateAttribute           Tag = 0x420065
	TagPrivateKeyUniqueIdentifier            Tag = 0x420066
	TagProcessStartDate                      Tag = 0x420067
	TagProtectStopDate                       Tag = 0x420068
	TagProtocolVersion                       Tag = 0x420069
	TagProtocolVersionMajor                  Tag = 0x42006a
	TagProtocolVersionMinor                  Tag = 0x42006b
	TagPublicExponent                        Tag = 0x42006c
	TagPublicKey                             Tag = 0x42006d
	TagPublicKeyTemplateAttribute            Tag = 0x42006e
	TagPublicKeyUniqueIdentifier             Tag = 0x42006f
	TagPutFunction                           Tag = 0x420070
	TagQ                                     Tag = 0x420071
	TagQString                               Tag = 0x420072
	TagQlength                               Tag = 0x420073
	TagQueryFunction                         Tag = 0x420074
	TagRecommendedCurve                      Tag = 0x420075
	TagReplacedUniqueIdentifier              Tag = 0x420076
	TagRequestHeader                         Tag = 0x420077
	TagRequestMessage                        Tag = 0x420078
	TagRequestPayload                        Tag = 0x420079
	TagResponseHeader                        Tag = 0x42007a
	TagResponseMessage                       Tag = 0x42007b
	TagResponsePayload                       Tag = 0x42007c
	TagResultMessage                         Tag = 0x42007d
	TagResultReason                          Tag = 0x42007e
	TagResultStatus                          Tag = 0x42007f
	TagRevocationMessage                     Tag = 0x420080
	TagRevocationReason                      Tag = 0x420081
	TagRevocationReasonCode                  Tag = 0x420082
	TagKeyRoleType                           Tag = 0x420083
	TagSalt                                  Tag = 0x420084
	TagSecretData                            Tag = 0x420085
	TagSecretDataType                        Tag = 0x420086
	TagSerialNumber                          Tag = 0x420087
	TagServerInformation                     Tag = 0x420088
	TagSplitKey                              Tag = 0x420089
	TagSplitKeyMethod                        Tag = 0x42008a
	TagSplitKeyParts                         Tag = 0x42008b
	TagSplitKeyThreshold                     Tag = 0x42008c
	TagState                                 Tag = 0x42008d
	TagStorageStatusMask                     Tag = 0x42008e
	TagSymmetricKey                          Tag = 0x42008f
	TagTemplate                              Tag = 0x420090
	TagTemplateAttribute                     Tag = 0x420091
	TagTimeStamp                             Tag = 0x420092
	TagUniqueBatchItemID                     Tag = 0x420093
	TagUniqueIdentifier                      Tag = 0x420094
	TagUsageLimits                           Tag = 0x420095
	TagUsageLimitsCount                      Tag = 0x420096
	TagUsageLimitsTotal                      Tag = 0x420097
	TagUsageLimitsUnit                       Tag = 0x420098
	TagUsername                              Tag = 0x420099
	TagValidityDate                          Tag = 0x42009a
	TagValidityIndicator                     Tag = 0x42009b
	TagVendorExtension                       Tag = 0x42009c
	TagVendorIdentification                  Tag = 0x42009d
	TagWrappingMethod                        Tag = 0x42009e
	TagX                                     Tag = 0x42009f
	TagY                                     Tag = 0x4200a0
	TagPassword                              Tag = 0x4200a1
	TagDeviceIdentifier                      Tag = 0x4200a2
	TagEncodingOption                        Tag = 0x4200a3
	TagExtensionInformation                  Tag = 0x4200a4
	TagExtensionName                         Tag = 0x4200a5
	TagExtensionTag                          Tag = 0x4200a6
	TagExtensionType                         Tag = 0x4200a7
	TagFresh                                 Tag = 0x4200a8
	TagMachineIdentifier                     Tag = 0x4200a9
	TagMediaIdentifier                       Tag = 0x4200aa
	TagNetworkIdentifier                     Tag = 0x4200ab
	TagObjectGroupMember                     Tag = 0x4200ac
	TagCertificateLength                     Tag = 0x4200ad
	TagDigitalSignatureAlgorithm             Tag = 0x4200ae
	TagCertificateSerialNumber               Tag = 0x4200af
	TagDeviceSerialNumber                    Tag = 0x4200b0
	TagIssuerAlternativeName                 Tag = 0x4200b1
	TagIssuerDistinguishedName               Tag = 0x4200b2
	TagSubjectAlternativeName                Tag = 0x4200b3
	TagSubjectDistinguishedName              Tag = 0x4200b4
	TagX_509CertificateIdentifier            Tag = 0x4200b5
	TagX_509CertificateIssuer                Tag = 0x4200b6
	TagX_509CertificateSubject               Tag = 0x4200b7
	TagKeyValueLocation                      Tag = 0x4200b8
	TagKeyValueLocationValue                 Tag = 0x4200b9
	TagKeyValueLocationType                  Tag = 0x4200ba
	TagKeyValuePresent                       Tag = 0x4200bb
	TagOriginalCreationDate                  Tag = 0x4200bc
	TagPGPKey                                Tag = 0x4200bd
	TagPGPKeyVersion                         Tag = 0x4200be
	TagAlternativeName                       Tag = 0x4200bf
	TagAlternativeNameValue                  Tag = 0x4200c0
	TagAlternativeNameType                   Tag = 0x4200c1
	TagData                                  Tag = 0x4200c2
	TagSignatureData                         Tag = 0x4200c3
	TagDataLength                            Tag = 0x4200c4
	TagRandomIV                              Tag = 0x4200c5
	TagMACData                               Tag = 0x4200c6
	TagAttestationType                       Tag = 0x4200c7
	TagNonce                                 Tag = 0x4200c8
	TagNonceID                               Tag = 0x4200c9
	TagNonceValue                            Tag = 0x4200ca
	TagAttestationMeasurement                Tag = 0x4200cb
	TagAttestationAssertion                  Tag = 0x4200cc
	TagIVLength                              Tag = 0x4200cd
	TagTagLength                             Tag = 0x4200ce
	TagFixedFieldLength                      Tag = 0x4200cf
	TagCounterLength                         Tag = 0x4200d0
	TagInitialCounterValue                   Tag = 0x4200d1
	TagInvocationFieldLength                 Tag = 0x4200d2
	TagAttestationCapableIndicator           Tag = 0x4200d3
	TagOffsetItems                           Tag = 0x4200d4
	TagLocatedItems                          Tag = 0x4200d5
	TagCorrelationValue                      Tag = 0x4200d6
	TagInitIndicator                         Tag = 0x4200d7
	TagFinalIndicator                        Tag = 0x4200d8
	TagRNGParameters                         Tag = 0x4200d9
	TagRNGAlgorithm                          Tag = 0x4200da
	TagDRBGAlgorithm                         Tag = 0x4200db
	TagFIPS186Variation                      Tag = 0x4200dc
	TagPredictionResistance                  Tag = 0x4200dd
	TagRandomNumberGenerator                 Tag = 0x4200de
	TagValidationInformation                 Tag = 0x4200df
	TagValidationAuthorityType               Tag = 0x4200e0
	TagValidationAuthorityCountry            Tag = 0x4200e1
	TagValidationAuthorityURI                Tag = 0x4200e2
	TagValidationVersionMajor                Tag = 0x4200e3
	TagValidationVersionMinor                Tag = 0x4200e4
	TagValidationType                        Tag = 0x4200e5
	TagValidationLevel                       Tag = 0x4200e6
	TagValidationCertificateIdentifier       Tag = 0x4200e7
	TagValidationCertificateURI              Tag = 0x4200e8
	TagValidationVendorURI                   Tag = 0x4200e9
	TagValidationProfile                     Tag = 0x4200ea
	TagProfileInformation                    Tag = 0x4200eb
	TagProfileName                           Tag = 0x4200ec
	TagServerURI                             Tag = 0x4200ed
	TagServerPort                            Tag = 0x4200ee
	TagStreamingCapability                   Tag = 0x4200ef
	TagAsynchronousCapability                Tag = 0x4200f0
	TagAttestationCapability                 Tag = 0x4200f1
	TagUnwrapMode                            Tag = 0x4200f2
	TagDestroyAction                         Tag = 0x4200f3
	TagShreddingAlgorithm                    Tag = 0x4200f4
	TagRNGMode                               Tag = 0x4200f5
	TagClientRegistrationMethod              Tag = 0x4200f6
	TagCapabilityInformation                 Tag = 0x4200f7
	TagKeyWrapType                           Tag = 0x4200f8
	TagBatchUndoCapability                   Tag = 0x4200f9
	TagBatchContinueCapability               Tag = 0x4200fa
	TagPKCS_12FriendlyName                   Tag = 0x4200fb
	TagDescription                           Tag = 0x4200fc
	TagComment                               Tag = 0x4200fd
	TagAuthenticatedEncryptionAdditionalData Tag = 0x4200fe
	TagAuthenticatedEncryptionTag            Tag = 0x4200ff
	TagSaltLength                            Tag = 0x420100
	TagMaskGenerator                         Tag = 0x420101
	TagMaskGeneratorHashingAlgorithm         Tag = 0x420102
	TagPSource                               Tag = 0x420103
	TagTrailerField                          Tag = 0x420104
	TagClientCorrelationValue                Tag = 0x420105
	TagServerCorrelationValue                Tag = 0x420106
	TagDigestedData                          Tag = 0x420107
	TagCertificateSubjectCN                  Tag = 0x420108
	TagCertificateSubjectO                   Tag = 0x420109
	TagCertificateSubjectOU                  Tag = 0x42010a
	TagCertificateSubjectEmail               Tag = 0x42010b
	TagCertificateSubjectC                   Tag = 0x42010c
	TagCertificateSubjectST                  Tag = 0x42010d
	TagCertificateSubjectL                   Tag = 0x42010e
	TagCertificateSubjectUID                 Tag = 0x42010f
	TagCertificateSubjectSerialNumber        Tag = 0x420110
	TagCertificateSubjectTitle               Tag = 0x420111
	TagCertificateSubjectDC                  Tag = 0x420112
	TagCertificateSubjectDNQualifier         Tag = 0x420113
	TagCertificateIssuerCN                   Tag = 0x420114
	TagCertificateIssuerO                    Tag = 0x420115
	TagCertificateIssuerOU                   Tag = 0x420116
	TagCertificateIssuerEmail                Tag = 0x420117
	TagCertificateIssuerC                    Tag = 0x420118
	TagCertificateIssuerST                   Tag = 0x420119
	TagCertificateIssuerL                    Tag = 0x42011a
	TagCertificateIssuerUID                  Tag = 0x42011b
	TagCertificateIssuerSerialNumber         Tag = 0x42011c
	TagCertificateIssuerTitle                Tag = 0x42011d
	TagCertificateIssuerDC                   Tag = 0x42011e
	TagCertificateIssuerDNQualifier          Tag = 0x42011f
	TagSensitive                             Tag = 0x420120
	TagAlwaysSensitive                       Tag = 0x420121
	TagExtractable                           Tag = 0x420122
	TagNeverExtractable                      Tag = 0x420123
	TagReplaceExisting                       Tag = 0x420124
	TagAttributes                            Tag = 0x420125
	TagCommonAttributes                      Tag = 0x420126
	TagPrivateKeyAttributes                  Tag = 0x420127
	TagPublicKeyAttributes                   Tag = 0x420128
	TagExtensionEnumeration                  Tag = 0x420129
	TagExtensionAttribute                    Tag = 0x42012a
	TagExtensionParentStructureTag           Tag = 0x42012b
	TagExtensionDescription                  Tag = 0x42012c
	TagServerName                            Tag = 0x42012d
	TagServerSerialNumber                    Tag = 0x42012e
	TagServerVersion                         Tag = 0x42012f
	TagServerLoad                            Tag = 0x420130
	TagProductName                           Tag = 0x420131
	TagBuildLevel                            Tag = 0x420132
	TagBuildDate                             Tag = 0x420133
	TagClusterInfo                           Tag = 0x420134
	TagAlternateFailoverEndpoints            Tag = 0x420135
	TagShortUniqueIdentifier                 Tag = 0x420136
	TagTag                                   Tag = 0x420138
	TagCertificateRequestUniqueIdentifier    Tag = 0x420139
	TagNISTKeyType                           Tag = 0x42013a
	TagAttributeReference                    Tag = 0x42013b
	TagCurrentAttribute                      Tag = 0x42013c
	TagNewAttribute                          Tag = 0x42013d
	TagCertificateRequestValue               Tag = 0x420140
	TagLogMessage                            Tag = 0x420141
	TagProfileVersion                        Tag = 0x420142
	TagProfileVersionMajor                   Tag = 0x420143
	TagProfileVersionMinor                   Tag = 0x420144
	TagProtectionLevel                       Tag = 0x420145
	TagProtectionPeriod                      Tag = 0x420146
	TagQuantumSafe                           Tag = 0x420147
	TagQuantumSafeCapability                 Tag = 0x420148
	TagTicket                                Tag = 0x420149
	TagTicketType                            Tag = 0x42014a
	TagTicketValue                           Tag = 0x42014b
	TagRequestCount                          Tag = 0x42014c
	TagRights                                Tag = 0x42014d
	TagObjects                               Tag = 0x42014e
	TagOperations                            Tag = 0x42014f
	TagRight                                 Tag = 0x420150
	TagEndpointRole                          Tag = 0x420151
	TagDefaultsInformation                   Tag = 0x420152
	TagObjectDefaults                        Tag = 0x420153
	TagEphemeral                             Tag = 0x420154
	TagServerHashedPassword                  Tag = 0x420155
	TagOneTimePassword                       Tag = 0x420156
	TagHashedPassword                        Tag = 0x420157
	TagAdjustmentType                        Tag = 0x420158
	TagPKCS_11Interface                      Tag = 0x420159
	TagPKCS_11Function                       Tag = 0x42015a
	TagPKCS_11InputParameters                Tag = 0x42015b
	TagPKCS_11OutputParameters               Tag = 0x42015c
	TagPKCS_11ReturnCode                     Tag = 0x42015d
	TagProtectionStorageMask                 Tag = 0x42015e
	TagProtectionStorageMasks                Tag = 0x42015f
	TagInteropFunction                       Tag = 0x420160
	TagInteropIdentifier                     Tag = 0x420161
	TagAdjustmentValue                       Tag = 0x420162
	TagCommonProtectionStorageMasks          Tag = 0x420163
	TagPrivateProtectionStorageMasks         Tag = 0x420164
	TagPublicProtectionStorageMasks          Tag = 0x420165
	TagObjectGroups                          Tag = 0x420166
	TagObjectTypes                           Tag = 0x420167
	TagConstraints                           Tag = 0x420168
	TagConstraint                            Tag = 0x420169
	TagRotateInterval                        Tag = 0x42016a
	TagRotateAutomatic                       Tag = 0x42016b
	TagRotateOffset                          Tag = 0x42016c
	TagRotateDate                            Tag = 0x42016d
	TagRotateGeneration                      Tag = 0x42016e
	TagRotateName                            Tag = 0x42016f
	TagRotateNameValue                       Tag = 0x420170
	TagRotateNameType                        Tag = 0x420171
	TagRotateLatest                          Tag = 0x420172
	TagAsynchronousRequest                   Tag = 0x420173
	TagSubmissionDate                        Tag = 0x420174
	TagProcessingStage                       Tag = 0x420175
	TagAsynchronousCorrelationValues         Tag = 0x420176
)

// The values of ObjectType.
const (
	ObjectTypeCertificate        uint32 = 1
	ObjectTypeSymmetricKey       uint32 = 2
	ObjectTypePublicKey          uint32 = 3
	ObjectTypePrivateKey         uint32 = 4
	ObjectTypeSplitKey           uint32 = 5
	ObjectTypeTemplate           uint32 = 6
	ObjectTypeSecretData         uint32 = 7
	ObjectTypeOpaqueObject       uint32 = 8
	ObjectTypePGPKey             uint32 = 9
	ObjectTypeCertificateRequest uint32 = 10
)

// The values of Operation.
const (
	OperationCreate                    uint32 = 1
	OperationCreateKeyPair             uint32 = 2
	OperationRegister                  uint32 = 3
	OperationReKey                     uint32 = 4
	OperationDeriveKey                 uint32 = 5
	OperationCertify                   uint32 = 6
	OperationReCertify                 uint32 = 7
	OperationLocate                    uint32 = 8
	OperationCheck                     uint32 = 9
	OperationGet                       uint32 = 10
	OperationGetAttributes             uint32 = 11
	OperationGetAttributeList          uint32 = 12
	OperationAddAttribute              uint32 = 13
	OperationModifyAttribute           uint32 = 14
	OperationDeleteAttribute           uint32 = 15
	OperationObtainLease               uint32 = 16
	OperationGetUsageAllocation        uint32 = 17
	OperationActivate                  uint32 = 18
	OperationRevoke                    uint32 = 19
	OperationDestroy                   uint32 = 20
	OperationArchive                   uint32 = 21
	OperationRecover                   uint32 = 22
	OperationValidate                  uint32 = 23
	OperationQuery                     uint32 = 24
	OperationCancel                    uint32 = 25
	OperationPoll                      uint32 = 26
	OperationNotify                    uint32 = 27
	OperationPut                       uint32 = 28
	OperationReKeyKeyPair              uint32 = 29
	OperationDiscoverVersions          uint32 = 30
	OperationEncrypt                   uint32 = 31
	OperationDecrypt                   uint32 = 32
	OperationSign                      uint32 = 33
	OperationSignatureVerify           uint32 = 34
	OperationMAC                       uint32 = 35
	OperationMACVerify                 uint32 = 36
	OperationRNGRetrieve               uint32 = 37
	OperationRNGSeed                   uint32 = 38
	OperationHash                      uint32 = 39
	OperationCreateSplitKey            uint32 = 40
	OperationJoinSplitKey              uint32 = 41
	OperationImport                    uint32 = 42
	OperationExport                    uint32 = 43
	OperationLog                       uint32 = 44
	OperationLogin                     uint32 = 45
	OperationLogout                    uint32 = 46
	OperationDelegatedLogin            uint32 = 47
	OperationAdjustAttribute           uint32 = 48
	OperationSetAttribute              uint32 = 49
	OperationSetEndpointRole           uint32 = 50
	OperationPKCS_11                   uint32 = 51
	OperationInterop                   uint32 = 52
	OperationReProvision               uint32 = 53
	OperationSetDefaults               uint32 = 54
	OperationSetConstraints            uint32 = 55
	OperationGetConstraints            uint32 = 56
	OperationQueryAsynchronousRequests uint32 = 57
	OperationProcess                   uint32 = 58
	OperationPing                      uint32 = 59
)

// The values of ResultStatus.
const (
	ResultStatusSuccess          uint32 = 0
	ResultStatusOperationFailed  uint32 = 1
	ResultStatusOperationPending uint32 = 2
	ResultStatusOperationUndone  uint32 = 3
)

// The values of ResultReason.
const (
	ResultReasonItemNotFound                        uint32 = 1
	ResultReasonResponseTooLarge                    uint32 = 2
	ResultReasonAuthenticationNotSuccessful         uint32 = 3
	ResultReasonInvalidMessage                      uint32 = 4
	ResultReasonOperationNotSupported               uint32 = 5
	ResultReasonMissingData                         uint32 = 6
	ResultReasonInvalidField                        uint32 = 7
	ResultReasonFeatureNotSupported                 uint32 = 8
	ResultReasonOperationCanceledByRequester        uint32 = 9
	ResultReasonCryptographicFailure                uint32 = 10
	ResultReasonIllegalOperation                    uint32 = 11
	ResultReasonPermissionDenied                    uint32 = 12
	ResultReasonObjectArchived                      uint32 = 13
	ResultReasonIndexOutOfBounds                    uint32 = 14
	ResultReasonApplicationNamespaceNotSupported    uint32 = 15
	ResultReasonKeyFormatTypeNotSupported           uint32 = 16
	ResultReasonKeyCompressionTypeNotSupported      uint32 = 17
	ResultReasonEncodingOptionError                 uint32 = 18
	ResultReasonKeyValueNotPresent                  uint32 = 19
	ResultReasonAttestationRequired                 uint32 = 20
	ResultReasonAttestationFailed                   uint32 = 21
	ResultReasonSensitive                           uint32 = 22
	ResultReasonNotExtractable                      uint32 = 23
	ResultReasonObjectAlreadyExists                 uint32 = 24
	ResultReasonInvalidTicket                       uint32 = 25
	ResultReasonUsageLimitExceeded                  uint32 = 26
	ResultReasonNumericRange                        uint32 = 27
	ResultReasonInvalidDataType                     uint32 = 28
	ResultReasonReadOnlyAttribute                   uint32 = 29
	ResultReasonMultiValuedAttribute                uint32 = 30
	ResultReasonUnsupportedAttribute                uint32 = 31
	ResultReasonAttributeInstanceNotFound           uint32 = 32
	ResultReasonAttributeNotFound                   uint32 = 33
	ResultReasonAttributeReadOnly                   uint32 = 34
	ResultReasonAttributeSingleValued               uint32 = 35
	ResultReasonBadCryptographicParameters          uint32 = 36
	ResultReasonBadPassword                         uint32 = 37
	ResultReasonCodecError                          uint32 = 38
	ResultReasonIllegalObjectType                   uint32 = 40
	ResultReasonIncompatibleCryptographicUsageMask  uint32 = 41
	ResultReasonInternalServerError                 uint32 = 42
	ResultReasonInvalidAsynchronousCorrelationValue uint32 = 43
	ResultReasonInvalidAttribute                    uint32 = 44
	ResultReasonInvalidAttributeValue               uint32 = 45
	ResultReasonInvalidCorrelationValue             uint32 = 46
	ResultReasonInvalidCSR                          uint32 = 47
	ResultReasonInvalidObjectType                   uint32 = 48
	ResultReasonKeyWrapTypeNotSupported             uint32 = 50
	ResultReasonMissingInitializationVector         uint32 = 52
	ResultReasonNonUniqueNameAttribute              uint32 = 53
	ResultReasonObjectDestroyed                     uint32 = 54
	ResultReasonObjectNotFound                      uint32 = 55
	ResultReasonNotAuthorised                       uint32 = 57
	ResultReasonServerLimitExceeded                 uint32 = 58
	ResultReasonUnknownEnumeration                  uint32 = 59
	ResultReasonUnknownMessageExtension             uint32 = 60
	ResultReasonUnknownTag                          uint32 = 61
	ResultReasonUnsupportedCryptographicParameters  uint32 = 62
	ResultReasonUnsupportedProtocolVersion          uint32 = 63
	ResultReasonWrappingObjectArchived              uint32 = 64
	ResultReasonWrappingObjectDestroyed             uint32 = 65
	ResultReasonWrappingObjectNotFound              uint32 = 66
	ResultReasonWrongKeyLifecycleState              uint32 = 67
	ResultReasonProtectionStorageUnavailable        uint32 = 68
	ResultReasonPKCS_11CodecError                   uint32 = 69
	ResultReasonPKCS_11InvalidFunction              uint32 = 70
	ResultReasonPKCS_11InvalidInterface             uint32 = 71
	ResultReasonPrivateProtectionStorageUnavailable uint32 = 72
	ResultReasonPublicProtectionStorageUnavailable  uint32 = 73
	ResultReasonUnknownObjectGroup                  uint32 = 74
	ResultReasonConstraintViolation                 uint32 = 75
	ResultReasonDuplicateProcessRequest             uint32 = 76
	ResultReasonGeneralFailure                      uint32 = 256
)

// The values of State.
const (
	StatePreActive            uint32 = 1
	StateActive               uint32 = 2
	StateDeactivated          uint32 = 3
	StateCompromised          uint32 = 4
	StateDestroyed            uint32 = 5
	StateDestroyedCompromised uint32 = 6
)

// The values of CryptographicAlgorithm.
const (
	CryptographicAlgorithmDES              uint32 = 1
	CryptographicAlgorithmDES3             uint32 = 2
	CryptographicAlgorithmAES              uint32 = 3
	CryptographicAlgorithmRSA              uint32 = 4
	CryptographicAlgorithmDSA              uint32 = 5
	CryptographicAlgorithmECDSA            uint32 = 6
	CryptographicAlgorithmHMACSHA1         uint32 = 7
	CryptographicAlgorithmHMACSHA224       uint32 = 8
	CryptographicAlgorithmHMACSHA256       uint32 = 9
	CryptographicAlgorithmHMACSHA384       uint32 = 10
	CryptographicAlgorithmHMACSHA512       uint32 = 11
	CryptographicAlgorithmHMACMD5          uint32 = 12
	CryptographicAlgorithmDH               uint32 = 13
	CryptographicAlgorithmECDH             uint32 = 14
	CryptographicAlgorithmECMQV            uint32 = 15
	CryptographicAlgorithmBlowfish         uint32 = 16
	CryptographicAlgorithmCamellia         uint32 = 17
	CryptographicAlgorithmCAST5            uint32 = 18
	CryptographicAlgorithmIDEA             uint32 = 19
	CryptographicAlgorithmMARS             uint32 = 20
	CryptographicAlgorithmRC2              uint32 = 21
	CryptographicAlgorithmRC4              uint32 = 22
	CryptographicAlgorithmRC5              uint32 = 23
	CryptographicAlgorithmSKIPJACK         uint32 = 24
	CryptographicAlgorithmTwofish          uint32 = 25
	CryptographicAlgorithmEC               uint32 = 26
	CryptographicAlgorithmOneTimePad       uint32 = 27
	CryptographicAlgorithmChaCha20         uint32 = 28
	CryptographicAlgorithmPoly1305         uint32 = 29
	CryptographicAlgorithmChaCha20Poly1305 uint32 = 30
	CryptographicAlgorithmSHA3_224         uint32 = 31
	CryptographicAlgorithmSHA3_256         uint32 = 32
	CryptographicAlgorithmSHA3_384         uint32 = 33
	CryptographicAlgorithmSHA3_512         uint32 = 34
	CryptographicAlgorithmHMACSHA3_224     uint32 = 35
	CryptographicAlgorithmHMACSHA3_256     uint32 = 36
	CryptographicAlgorithmHMACSHA3_384     uint32 = 37
	CryptographicAlgorithmHMACSHA3_512     uint32 = 38
	CryptographicAlgorithmSHAKE_128        uint32 = 39
	CryptographicAlgorithmSHAKE_256        uint32 = 40
	CryptographicAlgorithmARIA             uint32 = 41
	CryptographicAlgorithmSEED             uint32 = 42
	CryptographicAlgorithmSM2              uint32 = 43
	CryptographicAlgorithmSM3              uint32 = 44
	CryptographicAlgorithmSM4              uint32 = 45
	CryptographicAlgorithmGOSTR34_10_2012  uint32 = 46
	CryptographicAlgorithmGOSTR34_11_2012  uint32 = 47
	CryptographicAlgorithmGOSTR34_13_2015  uint32 = 48
	CryptographicAlgorithmGOST28147_89     uint32 = 49
	CryptographicAlgorithmXMSS             uint32 = 50
	CryptographicAlgorithmSPHINCS_256      uint32 = 51
	CryptographicAlgorithmMcEliece         uint32 = 52
	CryptographicAlgorithmMcEliece_6960119 uint32 = 53
	CryptographicAlgorithmMcEliece_8192128 uint32 = 54
	CryptographicAlgorithmEd25519          uint32 = 55
	CryptographicAlgorithmEd448            uint32 = 56
	CryptographicAlgorithmMLKEM_512        uint32 = 57 // from here on of the draft of KMIP 3.0
	CryptographicAlgorithmMLKEM_768        uint32 = 58
	CryptographicAlgorithmMLKEM_1024       uint32 = 59
	CryptographicAlgorithmMLDSA_44         uint32 = 60
	CryptographicAlgorithmMLDSA_65         uint32 = 61
	CryptographicAlgorithmMLDSA_87         uint32 = 62
)

// The values of KeyFormatType.
const (
	KeyFormatTypeRaw                        uint32 = 1
	KeyFormatTypeOpaque                     uint32 = 2
	KeyFormatTypePKCS_1                     uint32 = 3
	KeyFormatTypePKCS_8                     uint32 = 4
	KeyFormatTypeX_509                      uint32 = 5
	KeyFormatTypeECPrivateKey               uint32 = 6
	KeyFormatTypeTransparentSymmetricKey    uint32 = 7
	KeyFormatTypeTransparentDSAPrivateKey   uint32 = 8
	KeyFormatTypeTransparentDSAPublicKey    uint32 = 9
	KeyFormatTypeTransparentRSAPrivateKey   uint32 = 10
	KeyFormatTypeTransparentRSAPublicKey    uint32 = 11
	KeyFormatTypeTransparentDHPrivateKey    uint32 = 12
	KeyFormatTypeTransparentDHPublicKey     uint32 = 13
	KeyFormatTypeTransparentECDSAPrivateKey uint32 = 14
	KeyFormatTypeTransparentECDSAPublicKey  uint32 = 15
	KeyFormatTypeTransparentECDHPrivateKey  uint32 = 16
	KeyFormatTypeTransparentECDHPublicKey   uint32 = 17
	KeyFormatTypeTransparentECMQVPrivateKey uint32 = 18
	KeyFormatTypeTransparentECMQVPublicKey  uint32 = 19
	KeyFormatTypeTransparentECPrivateKey    uint32 = 20
	KeyFormatTypeTransparentECPublicKey     uint32 = 21
	KeyFormatTypePKCS_12                    uint32 = 22
	KeyFormatTypePKCS_10                    uint32 = 23
)

// The values of BlockCipherMode.
const (
	BlockCipherModeCBC               uint32 = 1
	BlockCipherModeECB               uint32 = 2
	BlockCipherModePCBC              uint32 = 3
	BlockCipherModeCFB               uint32 = 4
	BlockCipherModeOFB               uint32 = 5
	BlockCipherModeCTR               uint32 = 6
	BlockCipherModeCMAC              uint32 = 7
	BlockCipherModeCCM               uint32 = 8
	BlockCipherModeGCM               uint32 = 9
	BlockCipherModeCBCMAC            uint32 = 10
	BlockCipherModeXTS               uint32 = 11
	BlockCipherModeAESKeyWrapPadding uint32 = 12
	BlockCipherModeNISTKeyWrap       uint32 = 13
	BlockCipherModeX9_102AESKW       uint32 = 14
	BlockCipherModeX9_102TDKW        uint32 = 15
	BlockCipherModeX9_102AKW1        uint32 = 16
	BlockCipherModeX9_102AKW2        uint32 = 17
	BlockCipherModeAEAD              uint32 = 18
)

// The values of PaddingMethod.
const (
	PaddingMethodNone      uint32 = 1
	PaddingMethodOAEP      uint32 = 2
	PaddingMethodPKCS5     uint32 = 3
	PaddingMethodSSL3      uint32 = 4
	PaddingMethodZeros     uint32 = 5
	PaddingMethodANSIX9_23 uint32 = 6
	PaddingMethodISO10126  uint32 = 7
	PaddingMethodPKCS1V1_5 uint32 = 8
	PaddingMethodX9_31     uint32 = 9
	PaddingMethodPSS       uint32 = 10
)

// The values of HashingAlgorithm.
const (
	HashingAlgorithmMD2         uint32 = 1
	HashingAlgorithmMD4         uint32 = 2
	HashingAlgorithmMD5         uint32 = 3
	HashingAlgorithmSHA_1       uint32 = 4
	HashingAlgorithmSHA_224     uint32 = 5
	HashingAlgorithmSHA_256     uint32 = 6
	HashingAlgorithmSHA_384     uint32 = 7
	HashingAlgorithmSHA_512     uint32 = 8
	HashingAlgorithmRIPEMD_160  uint32 = 9
	HashingAlgorithmTiger       uint32 = 10
	HashingAlgorithmWhirlpool   uint32 = 11
	HashingAlgorithmSHA_512_224 uint32 = 12
	HashingAlgorithmSHA_512_256 uint32 = 13
	HashingAlgorithmSHA3_224    uint32 = 14
	HashingAlgorithmSHA3_256    uint32 = 15
	HashingAlgorithmSHA3_384    uint32 = 16
	HashingAlgorithmSHA3_512    uint32 = 17
)

// The values of NameType.
const (
	NameTypeUninterpretedTextString uint32 = 1
	NameTypeURI                     uint32 = 2
)

// The values of RevocationReasonCode.
const (
	RevocationReasonCodeUnspecified          uint32 = 1
	RevocationReasonCodeKeyCompromise        uint32 = 2
	RevocationReasonCodeCACompromise         uint32 = 3
	RevocationReasonCodeAffiliationChanged   uint32 = 4
	RevocationReasonCodeSuperseded           uint32 = 5
	RevocationReasonCodeCessationOfOperation uint32 = 6
	RevocationReasonCodePrivilegeWithdrawn   uint32 = 7
)

// The values of QueryFunction.
const (
	QueryFunctionQueryOperations                uint32 = 1
	QueryFunctionQueryObjects                   uint32 = 2
	QueryFunctionQueryServerInformation         uint32 = 3
	QueryFunctionQueryApplicationNamespaces     uint32 = 4
	QueryFunctionQueryExtensionList             uint32 = 5
	QueryFunctionQueryExtensionMap              uint32 = 6
	QueryFunctionQueryAttestationTypes          uint32 = 7
	QueryFunctionQueryRNGs                      uint32 = 8
	QueryFunctionQueryValidations               uint32 = 9
	QueryFunctionQueryProfiles                  uint32 = 10
	QueryFunctionQueryCapabilities              uint32 = 11
	QueryFunctionQueryClientRegistrationMethods uint32 = 12
	QueryFunctionQueryDefaultsInformation       uint32 = 13
	QueryFunctionQueryStorageProtectionMasks    uint32 = 14
)

// The values of RecommendedCurve.
const (
	RecommendedCurveP_192            uint32 = 1
	RecommendedCurveK_163            uint32 = 2
	RecommendedCurveB_163            uint32 = 3
	RecommendedCurveP_224            uint32 = 4
	RecommendedCurveK_233            uint32 = 5
	RecommendedCurveB_233            uint32 = 6
	RecommendedCurveP_256            uint32 = 7
	RecommendedCurveK_283            uint32 = 8
	RecommendedCurveB_283            uint32 = 9
	RecommendedCurveP_384            uint32 = 10
	RecommendedCurveK_409            uint32 = 11
	RecommendedCurveB_409            uint32 = 12
	RecommendedCurveP_521            uint32 = 13
	RecommendedCurveK_571            uint32 = 14
	RecommendedCurveB_571            uint32 = 15
	RecommendedCurveSECP112R1        uint32 = 16
	RecommendedCurveSECP112R2        uint32 = 17
	RecommendedCurveSECP128R1        uint32 = 18
	RecommendedCurveSECP128R2        uint32 = 19
	RecommendedCurveSECP160K1        uint32 = 20
	RecommendedCurveSECP160R1        uint32 = 21
	RecommendedCurveSECP160R2        uint32 = 22
	RecommendedCurveSECP192K1        uint32 = 23
	RecommendedCurveSECP224K1        uint32 = 24
	RecommendedCurveSECP256K1        uint32 = 25
	RecommendedCurveSECT113R1        uint32 = 26
	RecommendedCurveSECT113R2        uint32 = 27
	RecommendedCurveSECT131R1        uint32 = 28
	RecommendedCurveSECT131R2        uint32 = 29
	RecommendedCurveSECT163R1        uint32 = 30
	RecommendedCurveSECT193R1        uint32 = 31
	RecommendedCurveSECT193R2        uint32 = 32
	RecommendedCurveSECT239K1        uint32 = 33
	RecommendedCurveANSIX9P192V2     uint32 = 34
	RecommendedCurveANSIX9P192V3     uint32 = 35
	RecommendedCurveANSIX9P239V1     uint32 = 36
	RecommendedCurveANSIX9P239V2     uint32 = 37
	RecommendedCurveANSIX9P239V3     uint32 = 38
	RecommendedCurveANSIX9C2PNB163V1 uint32 = 39
	RecommendedCurveANSIX9C2PNB163V2 uint32 = 40
	RecommendedCurveANSIX9C2PNB163V3 uint32 = 41
	RecommendedCurveANSIX9C2PNB176V1 uint32 = 42
	RecommendedCurveANSIX9C2TNB191V1 uint32 = 43
	RecommendedCurveANSIX9C2TNB191V2 uint32 = 44
	RecommendedCurveANSIX9C2TNB191V3 uint32 = 45
	RecommendedCurveANSIX9C2PNB208W1 uint32 = 46
	RecommendedCurveANSIX9C2TNB239V1 uint32 = 47
	RecommendedCurveANSIX9C2TNB239V2 uint32 = 48
	RecommendedCurveANSIX9C2TNB239V3 uint32 = 49
	RecommendedCurveANSIX9C2PNB272W1 uint32 = 50
	RecommendedCurveANSIX9C2PNB304W1 uint32 = 51
	RecommendedCurveANSIX9C2TNB359V1 uint32 = 52
	RecommendedCurveANSIX9C2PNB368W1 uint32 = 53
	RecommendedCurveANSIX9C2TNB431R1 uint32 = 54
	RecommendedCurveBRAINPOOLP160R1  uint32 = 55
	RecommendedCurveBRAINPOOLP160T1  uint32 = 56
	RecommendedCurveBRAINPOOLP192R1  uint32 = 57
	RecommendedCurveBRAINPOOLP192T1  uint32 = 58
	RecommendedCurveBRAINPOOLP224R1  uint32 = 59
	RecommendedCurveBRAINPOOLP224T1  uint32 = 60
	RecommendedCurveBRAINPOOLP256R1  uint32 = 61
	RecommendedCurveBRAINPOOLP256T1  uint32 = 62
	RecommendedCurveBRAINPOOLP320R1  uint32 = 63
	RecommendedCurveBRAINPOOLP320T1  uint32 = 64
	RecommendedCurveBRAINPOOLP384R1  uint32 = 65
	RecommendedCurveBRAINPOOLP384T1  uint32 = 66
	RecommendedCurveBRAINPOOLP512R1  uint32 = 67
	RecommendedCurveBRAINPOOLP512T1  uint32 = 68
	RecommendedCurveCURVE25519       uint32 = 69
	RecommendedCurveCURVE448         uint32 = 70
)

// The values of LinkType.
const (
	LinkTypeCertificateLink          uint32 = 257
	LinkTypePublicKeyLink            uint32 = 258
	LinkTypePrivateKeyLink           uint32 = 259
	LinkTypeDerivationBaseObjectLink uint32 = 260
	LinkTypeDerivedKeyLink           uint32 = 261
	LinkTypeReplacementObjectLink    uint32 = 262
	LinkTypeReplacedObjectLink       uint32 = 263
	LinkTypeParentLink               uint32 = 264
	LinkTypeChildLink                uint32 = 265
	LinkTypePreviousLink             uint32 = 266
	LinkTypeNextLink                 uint32 = 267
	LinkTypePKCS_12CertificateLink   uint32 = 268
	LinkTypePKCS_12PasswordLink      uint32 = 269
	LinkTypeWrappingKeyLink          uint32 = 270
)

// The values of KeyRoleType.
const (
	KeyRoleTypeBDK      uint32 = 1
	KeyRoleTypeCVK      uint32 = 2
	KeyRoleTypeDEK      uint32 = 3
	KeyRoleTypeMKAC     uint32 = 4
	KeyRoleTypeMKSMC    uint32 = 5
	KeyRoleTypeMKSMI    uint32 = 6
	KeyRoleTypeMKDAC    uint32 = 7
	KeyRoleTypeMKDN     uint32 = 8
	KeyRoleTypeMKCP     uint32 = 9
	KeyRoleTypeMKOTH    uint32 = 10
	KeyRoleTypeKEK      uint32 = 11
	KeyRoleTypeMAC16609 uint32 = 12
	KeyRoleTypeMAC97971 uint32 = 13
	KeyRoleTypeMAC97972 uint32 = 14
	KeyRoleTypeMAC97973 uint32 = 15
	KeyRoleTypeMAC97974 uint32 = 16
	KeyRoleTypeMAC97975 uint32 = 17
	KeyRoleTypeZPK      uint32 = 18
	KeyRoleTypePVKIBM   uint32 = 19
	KeyRoleTypePVKPVV   uint32 = 20
	KeyRoleTypePVKOTH   uint32 = 21
	KeyRoleTypeDUKPT    uint32 = 22
	KeyRoleTypeIV       uint32 = 23
	KeyRoleTypeTRKBK    uint32 = 24
)

// The values of CertificateType.
const (
	CertificateTypeX_509 uint32 = 1
	CertificateTypePGP   uint32 = 2
)

// The values of SecretDataType.
const (
	SecretDataTypePassword uint32 = 1
	SecretDataTypeSeed     uint32 = 2
)

// The values of BatchErrorContinuationOption.
const (
	BatchErrorContinuationOptionContinue uint32 = 1
	BatchErrorContinuationOptionStop     uint32 = 2
	BatchErrorContinuationOptionUndo     uint32 = 3
)

// The values of WrappingMethod.
const (
	WrappingMethodEncrypt            uint32 = 1
	WrappingMethodMACSign            uint32 = 2
	WrappingMethodEncryptThenMACSign uint32 = 3
	WrappingMethodMACSignThenEncrypt uint32 = 4
	WrappingMethodTR_31              uint32 = 5
)

// The values of EncodingOption.
const (
	EncodingOptionNoEncoding   uint32 = 1
	EncodingOptionTTLVEncoding uint32 = 2
)

// The values of KeyCompressionType.
const (
	KeyCompressionTypeECPublicKeyTypeUncompressed         uint32 = 1
	KeyCompressionTypeECPublicKeyTypeX9_62CompressedPrime uint32 = 2
	KeyCompressionTypeECPublicKeyTypeX9_62CompressedChar2 uint32 = 3
	KeyCompressionTypeECPublicKeyTypeX9_62Hybrid          uint32 = 4
)

// The values of UsageLimitsUnit.
const (
	UsageLimitsUnitByte   uint32 = 1
	UsageLimitsUnitObject uint32 = 2
)

// The values of CredentialType.
const (
	CredentialTypeUsernameAndPassword uint32 = 1
	CredentialTypeDevice              uint32 = 2
	CredentialTypeAttestation         uint32 = 3
	CredentialTypeOneTimePassword     uint32 = 4
	CredentialTypeHashedPassword      uint32 = 5
	CredentialTypeTicket              uint32 = 6
)

// The values of DerivationMethod.
const (
	DerivationMethodPBKDF2               uint32 = 1
	DerivationMethodHASH                 uint32 = 2
	DerivationMethodHMAC                 uint32 = 3
	DerivationMethodENCRYPT              uint32 = 4
	DerivationMethodNIST800_108C         uint32 = 5
	DerivationMethodNIST800_108F         uint32 = 6
	DerivationMethodNIST800_108DPI       uint32 = 7
	DerivationMethodAsymmetricKey        uint32 = 8
	DerivationMethodAWSSignatureVersion4 uint32 = 9
	DerivationMethodHKDF                 uint32 = 10
)

// The values of ValidityIndicator.
const (
	ValidityIndicatorValid   uint32 = 1
	ValidityIndicatorInvalid uint32 = 2
	ValidityIndicatorUnknown uint32 = 3
)

// The values of ObjectGroupMember.
const (
	ObjectGroupMemberGroupMemberFresh   uint32 = 1
	ObjectGroupMemberGroupMemberDefault uint32 = 2
)

// The values of DigitalSignatureAlgorithm.
const (
	DigitalSignatureAlgorithmMD2WithRSAEncryption      uint32 = 1
	DigitalSignatureAlgorithmMD5WithRSAEncryption      uint32 = 2
	DigitalSignatureAlgorithmSHA_1WithRSAEncryption    uint32 = 3
	DigitalSignatureAlgorithmSHA_224WithRSAEncryption  uint32 = 4
	DigitalSignatureAlgorithmSHA_256WithRSAEncryption  uint32 = 5
	DigitalSignatureAlgorithmSHA_384WithRSAEncryption  uint32 = 6
	DigitalSignatureAlgorithmSHA_512WithRSAEncryption  uint32 = 7
	DigitalSignatureAlgorithmRSASSAPSS                 uint32 = 8
	DigitalSignatureAlgorithmDSAWithSHA_1              uint32 = 9
	DigitalSignatureAlgorithmDSAWithSHA224             uint32 = 10
	DigitalSignatureAlgorithmDSAWithSHA256             uint32 = 11
	DigitalSignatureAlgorithmECDSAWithSHA_1            uint32 = 12
	DigitalSignatureAlgorithmECDSAWithSHA224           uint32 = 13
	DigitalSignatureAlgorithmECDSAWithSHA256           uint32 = 14
	DigitalSignatureAlgorithmECDSAWithSHA384           uint32 = 15
	DigitalSignatureAlgorithmECDSAWithSHA512           uint32 = 16
	DigitalSignatureAlgorithmSHA3_256WithRSAEncryption uint32 = 17
	DigitalSignatureAlgorithmSHA3_384WithRSAEncryption uint32 = 18
	DigitalSignatureAlgorithmSHA3_512WithRSAEncryption uint32 = 19
)

// The values of KeyWrapType.
const (
	KeyWrapTypeNotWrapped   uint32 = 1
	KeyWrapTypeAsRegistered uint32 = 2
)

// The values of AlternativeNameType.
const (
	AlternativeNameTypeUninterpretedTextString uint32 = 1
	AlternativeNameTypeURI                     uint32 = 2
	AlternativeNameTypeObjectSerialNumber      uint32 = 3
	AlternativeNameTypeEmailAddress            uint32 = 4
	AlternativeNameTypeDNSName                 uint32 = 5
	AlternativeNameTypeX_500DistinguishedName  uint32 = 6
	AlternativeNameTypeIPAddress               uint32 = 7
)

// The values of SplitKeyMethod.
const (
	SplitKeyMethodXOR                         uint32 = 1
	SplitKeyMethodPolynomialSharingGF216      uint32 = 2
	SplitKeyMethodPolynomialSharingPrimeField uint32 = 3
	SplitKeyMethodPolynomialSharingGF28       uint32 = 4
)

// The values of CancellationResult.
const (
	CancellationResultCanceled       uint32 = 1
	CancellationResultUnableToCancel uint32 = 2
	CancellationResultCompleted      uint32 = 3
	CancellationResultFailed         uint32 = 4
	CancellationResultUnavailable    uint32 = 5
)

// The values of RNGAlgorithm.
const (
	RNGAlgorithmUnspecified uint32 = 1
	RNGAlgorithmFIPS186_2   uint32 = 2
	RNGAlgorithmDRBG        uint32 = 3
	RNGAlgorithmNRBG        uint32 = 4
	RNGAlgorithmANSIX9_31   uint32 = 5
	RNGAlgorithmANSIX9_62   uint32 = 6
)

// The values of DRBGAlgorithm.
const (
	DRBGAlgorithmUnspecified uint32 = 1
	DRBGAlgorithmDualEC      uint32 = 2
	DRBGAlgorithmHash        uint32 = 3
	DRBGAlgorithmHMAC        uint32 = 4
	DRBGAlgorithmCTR         uint32 = 5
)

// The values of RNGMode.
const (
	RNGModeUnspecified            uint32 = 1
	RNGModeSharedInstantiation    uint32 = 2
	RNGModeNonSharedInstantiation uint32 = 3
)

// The values of UnwrapMode.
const (
	UnwrapModeUnspecified  uint32 = 1
	UnwrapModeProcessed    uint32 = 2
	UnwrapModeNotProcessed uint32 = 3
)

// The values of DestroyAction.
const (
	DestroyActionUnspecified         uint32 = 1
	DestroyActionKeyMaterialDeleted  uint32 = 2
	DestroyActionKeyMaterialShredded uint32 = 3
	DestroyActionMetaDataDeleted     uint32 = 4
	DestroyActionMetaDataShredded    uint32 = 5
	DestroyActionDeleted             uint32 = 6
	DestroyActionShredded            uint32 = 7
)

// The values of ShreddingAlgorithm.
const (
	ShreddingAlgorithmUnspecified   uint32 = 1
	ShreddingAlgorithmCryptographic uint32 = 2
	ShreddingAlgorithmUnsupported   uint32 = 3
)

// The values of ProfileName.
const (
	ProfileNameBaselineServerBasicKMIPV1_2                       uint32 = 1
	ProfileNameBaselineServerTLSV1_2KMIPV1_2                     uint32 = 2
	ProfileNameBaselineClientBasicKMIPV1_2                       uint32 = 3
	ProfileNameBaselineClientTLSV1_2KMIPV1_2                     uint32 = 4
	ProfileNameCompleteServerBasicKMIPV1_2                       uint32 = 5
	ProfileNameCompleteServerTLSV1_2KMIPV1_2                     uint32 = 6
	ProfileNameTapeLibraryClientKMIPV1_0                         uint32 = 7
	ProfileNameTapeLibraryClientKMIPV1_1                         uint32 = 8
	ProfileNameTapeLibraryClientKMIPV1_2                         uint32 = 9
	ProfileNameTapeLibraryServerKMIPV1_0                         uint32 = 10
	ProfileNameTapeLibraryServerKMIPV1_1                         uint32 = 11
	ProfileNameTapeLibraryServerKMIPV1_2                         uint32 = 12
	ProfileNameSymmetricKeyLifecycleClientKMIPV1_0               uint32 = 13
	ProfileNameSymmetricKeyLifecycleClientKMIPV1_1               uint32 = 14
	ProfileNameSymmetricKeyLifecycleClientKMIPV1_2               uint32 = 15
	ProfileNameSymmetricKeyLifecycleServerKMIPV1_0               uint32 = 16
	ProfileNameSymmetricKeyLifecycleServerKMIPV1_1               uint32 = 17
	ProfileNameSymmetricKeyLifecycleServerKMIPV1_2               uint32 = 18
	ProfileNameAsymmetricKeyLifecycleClientKMIPV1_0              uint32 = 19
	ProfileNameAsymmetricKeyLifecycleClientKMIPV1_1              uint32 = 20
	ProfileNameAsymmetricKeyLifecycleClientKMIPV1_2              uint32 = 21
	ProfileNameAsymmetricKeyLifecycleServerKMIPV1_0              uint32 = 22
	ProfileNameAsymmetricKeyLifecycleServerKMIPV1_1              uint32 = 23
	ProfileNameAsymmetricKeyLifecycleServerKMIPV1_2              uint32 = 24
	ProfileNameBasicCryptographicClientKMIPV1_2                  uint32 = 25
	ProfileNameBasicCryptographicServerKMIPV1_2                  uint32 = 26
	ProfileNameAdvancedCryptographicClientKMIPV1_2               uint32 = 27
	ProfileNameAdvancedCryptographicServerKMIPV1_2               uint32 = 28
	ProfileNameRNGCryptographicClientKMIPV1_2                    uint32 = 29
	ProfileNameRNGCryptographicServerKMIPV1_2                    uint32 = 30
	ProfileNameBasicSymmetricKeyFoundryClientKMIPV1_0            uint32 = 31
	ProfileNameIntermediateSymmetricKeyFoundryClientKMIPV1_0     uint32 = 32
	ProfileNameAdvancedSymmetricKeyFoundryClientKMIPV1_0         uint32 = 33
	ProfileNameBasicSymmetricKeyFoundryClientKMIPV1_1            uint32 = 34
	ProfileNameIntermediateSymmetricKeyFoundryClientKMIPV1_1     uint32 = 35
	ProfileNameAdvancedSymmetricKeyFoundryClientKMIPV1_1         uint32 = 36
	ProfileNameBasicSymmetricKeyFoundryClientKMIPV1_2            uint32 = 37
	ProfileNameIntermediateSymmetricKeyFoundryClientKMIPV1_2     uint32 = 38
	ProfileNameAdvancedSymmetricKeyFoundryClientKMIPV1_2         uint32 = 39
	ProfileNameSymmetricKeyFoundryServerKMIPV1_0                 uint32 = 40
	ProfileNameSymmetricKeyFoundryServerKMIPV1_1                 uint32 = 41
	ProfileNameSymmetricKeyFoundryServerKMIPV1_2                 uint32 = 42
	ProfileNameOpaqueManagedObjectStoreClientKMIPV1_0            uint32 = 43
	ProfileNameOpaqueManagedObjectStoreClientKMIPV1_1            uint32 = 44
	ProfileNameOpaqueManagedObjectStoreClientKMIPV1_2            uint32 = 45
	ProfileNameOpaqueManagedObjectStoreServerKMIPV1_0            uint32 = 46
	ProfileNameOpaqueManagedObjectStoreServerKMIPV1_1            uint32 = 47
	ProfileNameOpaqueManagedObjectStoreServerKMIPV1_2            uint32 = 48
	ProfileNameSuiteBMinLOS_128ClientKMIPV1_0                    uint32 = 49
	ProfileNameSuiteBMinLOS_128ClientKMIPV1_1                    uint32 = 50
	ProfileNameSuiteBMinLOS_128ClientKMIPV1_2                    uint32 = 51
	ProfileNameSuiteBMinLOS_128ServerKMIPV1_0                    uint32 = 52
	ProfileNameSuiteBMinLOS_128ServerKMIPV1_1                    uint32 = 53
	ProfileNameSuiteBMinLOS_128ServerKMIPV1_2                    uint32 = 54
	ProfileNameSuiteBMinLOS_192ClientKMIPV1_0                    uint32 = 55
	ProfileNameSuiteBMinLOS_192ClientKMIPV1_1                    uint32 = 56
	ProfileNameSuiteBMinLOS_192ClientKMIPV1_2                    uint32 = 57
	ProfileNameSuiteBMinLOS_192ServerKMIPV1_0                    uint32 = 58
	ProfileNameSuiteBMinLOS_192ServerKMIPV1_1                    uint32 = 59
	ProfileNameSuiteBMinLOS_192ServerKMIPV1_2                    uint32 = 60
	ProfileNameStorageArrayWithSelfEncryptingDriveClientKMIPV1_0 uint32 = 61
	ProfileNameStorageArrayWithSelfEncryptingDriveClientKMIPV1_1 uint32 = 62
	ProfileNameStorageArrayWithSelfEncryptingDriveClientKMIPV1_2 uint32 = 63
	ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_0 uint32 = 64
	ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_1 uint32 = 65
	ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_2 uint32 = 66
	ProfileNameHTTPSClientKMIPV1_0                               uint32 = 67
	ProfileNameHTTPSClientKMIPV1_1                               uint32 = 68
	ProfileNameHTTPSClientKMIPV1_2                               uint32 = 69
	ProfileNameHTTPSServerKMIPV1_0                               uint32 = 70
	ProfileNameHTTPSServerKMIPV1_1                               uint32 = 71
	ProfileNameHTTPSServerKMIPV1_2                               uint32 = 72
	ProfileNameJSONClientKMIPV1_0                                uint32 = 73
	ProfileNameJSONClientKMIPV1_1                                uint32 = 74
	ProfileNameJSONClientKMIPV1_2                                uint32 = 75
	ProfileNameJSONServerKMIPV1_0                                uint32 = 76
	ProfileNameJSONServerKMIPV1_1                                uint32 = 77
	ProfileNameJSONServerKMIPV1_2                                uint32 = 78
	ProfileNameXMLClientKMIPV1_0                                 uint32 = 79
	ProfileNameXMLClientKMIPV1_1                                 uint32 = 80
	ProfileNameXMLClientKMIPV1_2                                 uint32 = 81
	ProfileNameXMLServerKMIPV1_0                                 uint32 = 82
	ProfileNameXMLServerKMIPV1_1                                 uint32 = 83
	ProfileNameXMLServerKMIPV1_2                                 uint32 = 84
	ProfileNameBaselineServerBasicKMIPV1_3                       uint32 = 85
	ProfileNameBaselineServerTLSV1_2KMIPV1_3                     uint32 = 86
	ProfileNameBaselineClientBasicKMIPV1_3                       uint32 = 87
	ProfileNameBaselineClientTLSV1_2KMIPV1_3                     uint32 = 88
	ProfileNameCompleteServerBasicKMIPV1_3                       uint32 = 89
	ProfileNameCompleteServerTLSV1_2KMIPV1_3                     uint32 = 90
	ProfileNameTapeLibraryClientKMIPV1_3                         uint32 = 91
	ProfileNameTapeLibraryServerKMIPV1_3                         uint32 = 92
	ProfileNameSymmetricKeyLifecycleClientKMIPV1_3               uint32 = 93
	ProfileNameSymmetricKeyLifecycleServerKMIPV1_3               uint32 = 94
	ProfileNameAsymmetricKeyLifecycleClientKMIPV1_3              uint32 = 95
	ProfileNameAsymmetricKeyLifecycleServerKMIPV1_3              uint32 = 96
	ProfileNameBasicCryptographicClientKMIPV1_3                  uint32 = 97
	ProfileNameBasicCryptographicServerKMIPV1_3                  uint32 = 98
	ProfileNameAdvancedCryptographicClientKMIPV1_3               uint32 = 99
	ProfileNameAdvancedCryptographicServerKMIPV1_3               uint32 = 100
	ProfileNameRNGCryptographicClientKMIPV1_3                    uint32 = 101
	ProfileNameRNGCryptographicServerKMIPV1_3                    uint32 = 102
	ProfileNameBasicSymmetricKeyFoundryClientKMIPV1_3            uint32 = 103
	ProfileNameIntermediateSymmetricKeyFoundryClientKMIPV1_3     uint32 = 104
	ProfileNameAdvancedSymmetricKeyFoundryClientKMIPV1_3         uint32 = 105
	ProfileNameSymmetricKeyFoundryServerKMIPV1_3                 uint32 = 106
	ProfileNameOpaqueManagedObjectStoreClientKMIPV1_3            uint32 = 107
	ProfileNameOpaqueManagedObjectStoreServerKMIPV1_3            uint32 = 108
	ProfileNameSuiteBMinLOS_128ClientKMIPV1_3                    uint32 = 109
	ProfileNameSuiteBMinLOS_128ServerKMIPV1_3                    uint32 = 110
	ProfileNameSuiteBMinLOS_192ClientKMIPV1_3                    uint32 = 111
	ProfileNameSuiteBMinLOS_192ServerKMIPV1_3                    uint32 = 112
	ProfileNameStorageArrayWithSelfEncryptingDriveClientKMIPV1_3 uint32 = 113
	ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_3 uint32 = 114
	ProfileNameHTTPSClientKMIPV1_3                               uint32 = 115
	ProfileNameHTTPSServerKMIPV1_3                               uint32 = 116
	ProfileNameJSONClientKMIPV1_3                                uint32 = 117
	ProfileNameJSONServerKMIPV1_3                                uint32 = 118
	ProfileNameXMLClientKMIPV1_3                                 uint32 = 119
	ProfileNameXMLServerKMIPV1_3                                 uint32 = 120
	ProfileNameBaselineServerBasicKMIPV1_4                       uint32 = 121
	ProfileNameBaselineServerTLSV1_2KMIPV1_4                     uint32 = 122
	ProfileNameBaselineClientBasicKMIPV1_4                       uint32 = 123
	ProfileNameBaselineClientTLSV1_2KMIPV1_4                     uint32 = 124
	ProfileNameCompleteServerBasicKMIPV1_4                       uint32 = 125
	ProfileNameCompleteServerTLSV1_2KMIPV1_4                     uint32 = 126
	ProfileNameTapeLibraryClientKMIPV1_4                         uint32 = 127
	ProfileNameTapeLibraryServerKMIPV1_4                         uint32 = 128
	ProfileNameSymmetricKeyLifecycleClientKMIPV1_4               uint32 = 129
	ProfileNameSymmetricKeyLifecycleServerKMIPV1_4               uint32 = 130
	ProfileNameAsymmetricKeyLifecycleClientKMIPV1_4              uint32 = 131
	ProfileNameAsymmetricKeyLifecycleServerKMIPV1_4              uint32 = 132
	ProfileNameBasicCryptographicClientKMIPV1_4                  uint32 = 133
	ProfileNameBasicCryptographicServerKMIPV1_4                  uint32 = 134
	ProfileNameAdvancedCryptographicClientKMIPV1_4               uint32 = 135
	ProfileNameAdvancedCryptographicServerKMIPV1_4               uint32 = 136
	ProfileNameRNGCryptographicClientKMIPV1_4                    uint32 = 137
	ProfileNameRNGCryptographicServerKMIPV1_4                    uint32 = 138
	ProfileNameBasicSymmetricKeyFoundryClientKMIPV1_4            uint32 = 139
	ProfileNameIntermediateSymmetricKeyFoundryClientKMIPV1_4     uint32 = 140
	ProfileNameAdvancedSymmetricKeyFoundryClientKMIPV1_4         uint32 = 141
	ProfileNameSymmetricKeyFoundryServerKMIPV1_4                 uint32 = 142
	ProfileNameOpaqueManagedObjectStoreClientKMIPV1_4            uint32 = 143
	ProfileNameOpaqueManagedObjectStoreServerKMIPV1_4            uint32 = 144
	ProfileNameSuiteBMinLOS_128ClientKMIPV1_4                    uint32 = 145
	ProfileNameSuiteBMinLOS_128ServerKMIPV1_4                    uint32 = 146
	ProfileNameSuiteBMinLOS_192ClientKMIPV1_4                    uint32 = 147
	ProfileNameSuiteBMinLOS_192ServerKMIPV1_4                    uint32 = 148
	ProfileNameStorageArrayWithSelfEncryptingDriveClientKMIPV1_4 uint32 = 149
	ProfileNameStorageArrayWithSelfEncryptingDriveServerKMIPV1_4 uint32 = 150
	ProfileNameHTTPSClientKMIPV1_4                               uint32 = 151
	ProfileNameHTTPSServerKMIPV1_4                               uint32 = 152
	ProfileNameJSONClientKMIPV1_4                                uint32 = 153
	ProfileNameJSONServerKMIPV1_4                                uint32 = 154
	ProfileNameXMLClientKMIPV1_4                                 uint32 = 155
	ProfileNameXMLServerKMIPV1_4                                 uint32 = 156
	ProfileNameCompleteServerBasic                               uint32 = 260
	ProfileNameCompleteServerTLSV1_2                             uint32 = 261
	ProfileNameTapeLibraryClient                                 uint32 = 262
	ProfileNameTapeLibraryServer                                 uint32 = 263
	ProfileNameSymmetricKeyLifecycleClient                       uint32 = 264
	ProfileNameSymmetricKeyLifecycleServer                       uint32 = 265
	ProfileNameAsymmetricKeyLifecycleClient                      uint32 = 266
	ProfileNameAsymmetricKeyLifecycleServer                      uint32 = 267
	ProfileNameBasicCryptographicClient                          uint32 = 268
	ProfileNameBasicCryptographicServer                          uint32 = 269
	ProfileNameAdvancedCryptographicClient                       uint32 = 270
	ProfileNameAdvancedCryptographicServer                       uint32 = 271
	ProfileNameRNGCryptographicClient                            uint32 = 272
	ProfileNameRNGCryptographicServer                            uint32 = 273
	ProfileNameBasicSymmetricKeyFoundryClient                    uint32 = 274
	ProfileNameIntermediateSymmetricKeyFoundryClient             uint32 = 275
	ProfileNameAdvancedSymmetricKeyFoundryClient                 uint32 = 276
	ProfileNameSymmetricKeyFoundryServer                         uint32 = 277
	ProfileNameOpaqueManagedObjectStoreClient                    uint32 = 278
	ProfileNameOpaqueManagedObjectStoreServer                    uint32 = 279
	ProfileNameStorageArrayWithSelfEncryptingDriveClient         uint32 = 284
	ProfileNameStorageArrayWithSelfEncryptingDriveServer         uint32 = 285
	ProfileNameHTTPSClient                                       uint32 = 286
	ProfileNameHTTPSServer                                       uint32 = 287
	ProfileNameJSONClient                                        uint32 = 288
	ProfileNameJSONServer                                        uint32 = 289
	ProfileNameXMLClient                                         uint32 = 290
	ProfileNameXMLServer                                         uint32 = 291
	ProfileNameAESXTSClient                                      uint32 = 292
	ProfileNameAESXTSServer                                      uint32 = 293
	ProfileNameQuantumSafeClient                                 uint32 = 294
	ProfileNameQuantumSafeServer                                 uint32 = 295
	ProfileNamePKCS_11Client                                     uint32 = 296
	ProfileNamePKCS_11Server                                     uint32 = 297
	ProfileNameBaselineClient                                    uint32 = 298
	ProfileNameBaselineServer                                    uint32 = 299
	ProfileNameCompleteServer                                    uint32 = 300
)

// The values of AsynchronousIndicator.
const (
	AsynchronousIndicatorMandatory  uint32 = 1
	AsynchronousIndicatorOptional   uint32 = 2
	AsynchronousIndicatorProhibited uint32 = 3
)

// The bits of Cryptographic Usage Mask.
const (
	MaskSign               uint32 = 0x1
	MaskVerify             uint32 = 0x2
	MaskEncrypt            uint32 = 0x4
	MaskDecrypt            uint32 = 0x8
	MaskWrapKey            uint32 = 0x10
	MaskUnwrapKey          uint32 = 0x20
	MaskExport             uint32 = 0x40
	MaskMACGenerate        uint32 = 0x80
	MaskMACVerify          uint32 = 0x100
	MaskDeriveKey          uint32 = 0x200
	MaskNonRepudiation     uint32 = 0x400
	MaskKeyAgreement       uint32 = 0x800
	MaskCertificateSign    uint32 = 0x1000
	MaskCRLSign            uint32 = 0x2000
	MaskGenerateCryptogram uint32 = 0x4000
	MaskValidateCryptogram uint32 = 0x8000
	MaskTranslateEncrypt   uint32 = 0x10000
	MaskTranslateDecrypt   uint32 = 0x20000
	MaskTranslateWrap      uint32 = 0x40000
	MaskTranslateUnwrap    uint32 = 0x80000
	MaskAuthenticate       uint32 = 0x100000
	MaskUnrestricted       uint32 = 0x200000
	MaskFPEEncrypt         uint32 = 0x400000
	MaskFPEDecrypt         uint32 = 0x800000
)

// name is what the specifications call a tag; "" for one they do not know.
func (t Tag) name() string {
	switch t {
	case 0x420001:
		return "ActivationDate"
	case 0x420002:
		return "ApplicationData"
	case 0x420003:
		return "ApplicationNamespace"
	case 0x420004:
		return "ApplicationSpecificInformation"
	case 0x420005:
		return "ArchiveDate"
	case 0x420006:
		return "AsynchronousCorrelationValue"
	case 0x420007:
		return "AsynchronousIndicator"
	case 0x420008:
		return "Attribute"
	case 0x420009:
		return "AttributeIndex"
	case 0x42000a:
		return "AttributeName"
	case 0x42000b:
		return "AttributeValue"
	case 0x42000c:
		return "Authentication"
	case 0x42000d:
		return "BatchCount"
	case 0x42000e:
		return "BatchErrorContinuationOption"
	case 0x42000f:
		return "BatchItem"
	case 0x420010:
		return "BatchOrderOption"
	case 0x420011:
		return "BlockCipherMode"
	case 0x420012:
		return "CancellationResult"
	case 0x420013:
		return "Certificate"
	case 0x420014:
		return "CertificateIdentifier"
	case 0x420015:
		return "CertificateIssuer"
	case 0x420016:
		return "CertificateIssuerAlternativeName"
	case 0x420017:
		return "CertificateIssuerDistinguishedName"
	case 0x420018:
		return "CertificateRequest"
	case 0x420019:
		return "CertificateRequestType"
	case 0x42001a:
		return "CertificateSubject"
	case 0x42001b:
		return "CertificateSubject_AlternativeName"
	case 0x42001c:
		return "CertificateSubjectDistinguishedName"
	case 0x42001d:
		return "CertificateType"
	case 0x42001e:
		return "CertificateValue"
	case 0x42001f:
		return "CommonTemplateAttribute"
	case 0x420020:
		return "CompromiseDate"
	case 0x420021:
		return "CompromiseOccurrenceDate"
	case 0x420022:
		return "ContactInformation"
	case 0x420023:
		return "Credential"
	case 0x420024:
		return "CredentialType"
	case 0x420025:
		return "CredentialValue"
	case 0x420026:
		return "CriticalityIndicator"
	case 0x420027:
		return "CRTCoefficient"
	case 0x420028:
		return "CryptographicAlgorithm"
	case 0x420029:
		return "CryptographicDomainParameters"
	case 0x42002a:
		return "CryptographicLength"
	case 0x42002b:
		return "CryptographicParameters"
	case 0x42002c:
		return "CryptographicUsageMask"
	case 0x42002d:
		return "CustomAttribute"
	case 0x42002e:
		return "D"
	case 0x42002f:
		return "DeactivationDate"
	case 0x420030:
		return "DerivationData"
	case 0x420031:
		return "DerivationMethod"
	case 0x420032:
		return "DerivationParameters"
	case 0x420033:
		return "DestroyDate"
	case 0x420034:
		return "Digest"
	case 0x420035:
		return "DigestValue"
	case 0x420036:
		return "EncryptionKeyInformation"
	case 0x420037:
		return "G"
	case 0x420038:
		return "HashingAlgorithm"
	case 0x420039:
		return "InitialDate"
	case 0x42003a:
		return "InitializationVector"
	case 0x42003b:
		return "Issuer"
	case 0x42003c:
		return "IterationCount"
	case 0x42003d:
		return "IVCounterNonce"
	case 0x42003e:
		return "J"
	case 0x42003f:
		return "Key"
	case 0x420040:
		return "KeyBlock"
	case 0x420041:
		return "KeyCompressionType"
	case 0x420042:
		return "KeyFormatType"
	case 0x420043:
		return "KeyMaterial"
	case 0x420044:
		return "KeyPartIdentifier"
	case 0x420045:
		return "KeyValue"
	case 0x420046:
		return "KeyWrappingData"
	case 0x420047:
		return "KeyWrappingSpecification"
	case 0x420048:
		return "LastChangeDate"
	case 0x420049:
		return "LeaseTime"
	case 0x42004a:
		return "Link"
	case 0x42004b:
		return "LinkType"
	case 0x42004c:
		return "LinkedObjectIdentifier"
	case 0x42004d:
		return "MACSignature"
	case 0x42004e:
		return "MACSignatureKeyInformation"
	case 0x42004f:
		return "MaximumItems"
	case 0x420050:
		return "MaximumResponseSize"
	case 0x420051:
		return "MessageExtension"
	case 0x420052:
		return "Modulus"
	case 0x420053:
		return "Name"
	case 0x420054:
		return "NameType"
	case 0x420055:
		return "NameValue"
	case 0x420056:
		return "ObjectGroup"
	case 0x420057:
		return "ObjectType"
	case 0x420058:
		return "Offset"
	case 0x420059:
		return "OpaqueDataType"
	case 0x42005a:
		return "OpaqueDataValue"
	case 0x42005b:
		return "OpaqueObject"
	case 0x42005c:
		return "Operation"
	case 0x42005d:
		return "OperationPolicyName"
	case 0x42005e:
		return "P"
	case 0x42005f:
		return "PaddingMethod"
	case 0x420060:
		return "PrimeExponentP"
	case 0x420061:
		return "PrimeExponentQ"
	case 0x420062:
		return "PrimeFieldSize"
	case 0x420063:
		return "PrivateExponent"
	case 0x420064:
		return "PrivateKey"
	case 0x420065:
		return "PrivateKeyTemplateAttribute"
	case 0x420066:
		return "PrivateKeyUniqueIdentifier"
	case 0x420067:
		return "ProcessStartDate"
	case 0x420068:
		return "ProtectStopDate"
	case 0x420069:
		return "ProtocolVersion"
	case 0x42006a:
		return "ProtocolVersionMajor"
	case 0x42006b:
		return "ProtocolVersionMinor"
	case 0x42006c:
		return "PublicExponent"
	case 0x42006d:
		return "PublicKey"
	case 0x42006e:
		return "PublicKeyTemplateAttribute"
	case 0x42006f:
		return "PublicKeyUniqueIdentifier"
	case 0x420070:
		return "PutFunction"
	case 0x420071:
		return "Q"
	case 0x420072:
		return "QString"
	case 0x420073:
		return "Qlength"
	case 0x420074:
		return "QueryFunction"
	case 0x420075:
		return "RecommendedCurve"
	case 0x420076:
		return "ReplacedUniqueIdentifier"
	case 0x420077:
		return "RequestHeader"
	case 0x420078:
		return "RequestMessage"
	case 0x420079:
		return "RequestPayload"
	case 0x42007a:
		return "ResponseHeader"
	case 0x42007b:
		return "ResponseMessage"
	case 0x42007c:
		return "ResponsePayload"
	case 0x42007d:
		return "ResultMessage"
	case 0x42007e:
		return "ResultReason"
	case 0x42007f:
		return "ResultStatus"
	case 0x420080:
		return "RevocationMessage"
	case 0x420081:
		return "RevocationReason"
	case 0x420082:
		return "RevocationReasonCode"
	case 0x420083:
		return "KeyRoleType"
	case 0x420084:
		return "Salt"
	case 0x420085:
		return "SecretData"
	case 0x420086:
		return "SecretDataType"
	case 0x420087:
		return "SerialNumber"
	case 0x420088:
		return "ServerInformation"
	case 0x420089:
		return "SplitKey"
	case 0x42008a:
		return "SplitKeyMethod"
	case 0x42008b:
		return "SplitKeyParts"
	case 0x42008c:
		return "SplitKeyThreshold"
	case 0x42008d:
		return "State"
	case 0x42008e:
		return "StorageStatusMask"
	case 0x42008f:
		return "SymmetricKey"
	case 0x420090:
		return "Template"
	case 0x420091:
		return "TemplateAttribute"
	case 0x420092:
		return "TimeStamp"
	case 0x420093:
		return "UniqueBatchItemID"
	case 0x420094:
		return "UniqueIdentifier"
	case 0x420095:
		return "UsageLimits"
	case 0x420096:
		return "UsageLimitsCount"
	case 0x420097:
		return "UsageLimitsTotal"
	case 0x420098:
		return "UsageLimitsUnit"
	case 0x420099:
		return "Username"
	case 0x42009a:
		return "ValidityDate"
	case 0x42009b:
		return "ValidityIndicator"
	case 0x42009c:
		return "VendorExtension"
	case 0x42009d:
		return "VendorIdentification"
	case 0x42009e:
		return "WrappingMethod"
	case 0x42009f:
		return "X"
	case 0x4200a0:
		return "Y"
	case 0x4200a1:
		return "Password"
	case 0x4200a2:
		return "DeviceIdentifier"
	case 0x4200a3:
		return "EncodingOption"
	case 0x4200a4:
		return "ExtensionInformation"
	case 0x4200a5:
		return "ExtensionName"
	case 0x4200a6:
		return "ExtensionTag"
	case 0x4200a7:
		return "ExtensionType"
	case 0x4200a8:
		return "Fresh"
	case 0x4200a9:
		return "MachineIdentifier"
	case 0x4200aa:
		return "MediaIdentifier"
	case 0x4200ab:
		return "NetworkIdentifier"
	case 0x4200ac:
		return "ObjectGroupMember"
	case 0x4200ad:
		return "CertificateLength"
	case 0x4200ae:
		return "DigitalSignatureAlgorithm"
	case 0x4200af:
		return "CertificateSerialNumber"
	case 0x4200b0:
		return "DeviceSerialNumber"
	case 0x4200b1:
		return "IssuerAlternativeName"
	case 0x4200b2:
		return "IssuerDistinguishedName"
	case 0x4200b3:
		return "SubjectAlternativeName"
	case 0x4200b4:
		return "SubjectDistinguishedName"
	case 0x4200b5:
		return "X_509CertificateIdentifier"
	case 0x4200b6:
		return "X_509CertificateIssuer"
	case 0x4200b7:
		return "X_509CertificateSubject"
	case 0x4200b8:
		return "KeyValueLocation"
	case 0x4200b9:
		return "KeyValueLocationValue"
	case 0x4200ba:
		return "KeyValueLocationType"
	case 0x4200bb:
		return "KeyValuePresent"
	case 0x4200bc:
		return "OriginalCreationDate"
	case 0x4200bd:
		return "PGPKey"
	case 0x4200be:
		return "PGPKeyVersion"
	case 0x4200bf:
		return "AlternativeName"
	case 0x4200c0:
		return "AlternativeNameValue"
	case 0x4200c1:
		return "AlternativeNameType"
	case 0x4200c2:
		return "Data"
	case 0x4200c3:
		return "SignatureData"
	case 0x4200c4:
		return "DataLength"
	case 0x4200c5:
		return "RandomIV"
	case 0x4200c6:
		return "MACData"
	case 0x4200c7:
		return "AttestationType"
	case 0x4200c8:
		return "Nonce"
	case 0x4200c9:
		return "NonceID"
	case 0x4200ca:
		return "NonceValue"
	case 0x4200cb:
		return "AttestationMeasurement"
	case 0x4200cc:
		return "AttestationAssertion"
	case 0x4200cd:
		return "IVLength"
	case 0x4200ce:
		return "TagLength"
	case 0x4200cf:
		return "FixedFieldLength"
	case 0x4200d0:
		return "CounterLength"
	case 0x4200d1:
		return "InitialCounterValue"
	case 0x4200d2:
		return "InvocationFieldLength"
	case 0x4200d3:
		return "AttestationCapableIndicator"
	case 0x4200d4:
		return "OffsetItems"
	case 0x4200d5:
		return "LocatedItems"
	case 0x4200d6:
		return "CorrelationValue"
	case 0x4200d7:
		return "InitIndicator"
	case 0x4200d8:
		return "FinalIndicator"
	case 0x4200d9:
		return "RNGParameters"
	case 0x4200da:
		return "RNGAlgorithm"
	case 0x4200db:
		return "DRBGAlgorithm"
	case 0x4200dc:
		return "FIPS186Variation"
	case 0x4200dd:
		return "PredictionResistance"
	case 0x4200de:
		return "RandomNumberGenerator"
	case 0x4200df:
		return "ValidationInformation"
	case 0x4200e0:
		return "ValidationAuthorityType"
	case 0x4200e1:
		return "ValidationAuthorityCountry"
	case 0x4200e2:
		return "ValidationAuthorityURI"
	case 0x4200e3:
		return "ValidationVersionMajor"
	case 0x4200e4:
		return "ValidationVersionMinor"
	case 0x4200e5:
		return "ValidationType"
	case 0x4200e6:
		return "ValidationLevel"
	case 0x4200e7:
		return "ValidationCertificateIdentifier"
	case 0x4200e8:
		return "ValidationCertificateURI"
	case 0x4200e9:
		return "ValidationVendorURI"
	case 0x4200ea:
		return "ValidationProfile"
	case 0x4200eb:
		return "ProfileInformation"
	case 0x4200ec:
		return "ProfileName"
	case 0x4200ed:
		return "ServerURI"
	case 0x4200ee:
		return "ServerPort"
	case 0x4200ef:
		return "StreamingCapability"
	case 0x4200f0:
		return "AsynchronousCapability"
	case 0x4200f1:
		return "AttestationCapability"
	case 0x4200f2:
		return "UnwrapMode"
	case 0x4200f3:
		return "DestroyAction"
	case 0x4200f4:
		return "ShreddingAlgorithm"
	case 0x4200f5:
		return "RNGMode"
	case 0x4200f6:
		return "ClientRegistrationMethod"
	case 0x4200f7:
		return "CapabilityInformation"
	case 0x4200f8:
		return "KeyWrapType"
	case 0x4200f9:
		return "BatchUndoCapability"
	case 0x4200fa:
		return "BatchContinueCapability"
	case 0x4200fb:
		return "PKCS_12FriendlyName"
	case 0x4200fc:
		return "Description"
	case 0x4200fd:
		return "Comment"
	case 0x4200fe:
		return "AuthenticatedEncryptionAdditionalData"
	case 0x4200ff:
		return "AuthenticatedEncryptionTag"
	case 0x420100:
		return "SaltLength"
	case 0x420101:
		return "MaskGenerator"
	case 0x420102:
		return "MaskGeneratorHashingAlgorithm"
	case 0x420103:
		return "PSource"
	case 0x420104:
		return "TrailerField"
	case 0x420105:
		return "ClientCorrelationValue"
	case 0x420106:
		return "ServerCorrelationValue"
	case 0x420107:
		return "DigestedData"
	case 0x420108:
		return "CertificateSubjectCN"
	case 0x420109:
		return "CertificateSubjectO"
	case 0x42010a:
		return "CertificateSubjectOU"
	case 0x42010b:
		return "CertificateSubjectEmail"
	case 0x42010c:
		return "CertificateSubjectC"
	case 0x42010d:
		return "CertificateSubjectST"
	case 0x42010e:
		return "CertificateSubjectL"
	case 0x42010f:
		return "CertificateSubjectUID"
	case 0x420110:
		return "CertificateSubjectSerialNumber"
	case 0x420111:
		return "CertificateSubjectTitle"
	case 0x420112:
		return "CertificateSubjectDC"
	case 0x420113:
		return "CertificateSubjectDNQualifier"
	case 0x420114:
		return "CertificateIssuerCN"
	case 0x420115:
		return "CertificateIssuerO"
	case 0x420116:
		return "CertificateIssuerOU"
	case 0x420117:
		return "CertificateIssuerEmail"
	case 0x420118:
		return "CertificateIssuerC"
	case 0x420119:
		return "CertificateIssuerST"
	case 0x42011a:
		return "CertificateIssuerL"
	case 0x42011b:
		return "CertificateIssuerUID"
	case 0x42011c:
		return "CertificateIssuerSerialNumber"
	case 0x42011d:
		return "CertificateIssuerTitle"
	case 0x42011e:
		return "CertificateIssuerDC"
	case 0x42011f:
		return "CertificateIssuerDNQualifier"
	case 0x420120:
		return "Sensitive"
	case 0x420121:
		return "AlwaysSensitive"
	case 0x420122:
		return "Extractable"
	case 0x420123:
		return "NeverExtractable"
	case 0x420124:
		return "ReplaceExisting"
	case 0x420125:
		return "Attributes"
	case 0x420126:
		return "CommonAttributes"
	case 0x420127:
		return "PrivateKeyAttributes"
	case 0x420128:
		return "PublicKeyAttributes"
	case 0x420129:
		return "ExtensionEnumeration"
	case 0x42012a:
		return "ExtensionAttribute"
	case 0x42012b:
		return "ExtensionParentStructureTag"
	case 0x42012c:
		return "ExtensionDescription"
	case 0x42012d:
		return "ServerName"
	case 0x42012e:
		return "ServerSerialNumber"
	case 0x42012f:
		return "ServerVersion"
	case 0x420130:
		return "ServerLoad"
	case 0x420131:
		return "ProductName"
	case 0x420132:
		return "BuildLevel"
	case 0x420133:
		return "BuildDate"
	case 0x420134:
		return "ClusterInfo"
	case 0x420135:
		return "AlternateFailoverEndpoints"
	case 0x420136:
		return "ShortUniqueIdentifier"
	case 0x420138:
		return "Tag"
	case 0x420139:
		return "CertificateRequestUniqueIdentifier"
	case 0x42013a:
		return "NISTKeyType"
	case 0x42013b:
		return "AttributeReference"
	case 0x42013c:
		return "CurrentAttribute"
	case 0x42013d:
		return "NewAttribute"
	case 0x420140:
		return "CertificateRequestValue"
	case 0x420141:
		return "LogMessage"
	case 0x420142:
		return "ProfileVersion"
	case 0x420143:
		return "ProfileVersionMajor"
	case 0x420144:
		return "ProfileVersionMinor"
	case 0x420145:
		return "ProtectionLevel"
	case 0x420146:
		return "ProtectionPeriod"
	case 0x420147:
		return "QuantumSafe"
	case 0x420148:
		return "QuantumSafeCapability"
	case 0x420149:
		return "Ticket"
	case 0x42014a:
		return "TicketType"
	case 0x42014b:
		return "TicketValue"
	case 0x42014c:
		return "RequestCount"
	case 0x42014d:
		return "Rights"
	case 0x42014e:
		return "Objects"
	case 0x42014f:
		return "Operations"
	case 0x420150:
		return "Right"
	case 0x420151:
		return "EndpointRole"
	case 0x420152:
		return "DefaultsInformation"
	case 0x420153:
		return "ObjectDefaults"
	case 0x420154:
		return "Ephemeral"
	case 0x420155:
		return "ServerHashedPassword"
	case 0x420156:
		return "OneTimePassword"
	case 0x420157:
		return "HashedPassword"
	case 0x420158:
		return "AdjustmentType"
	case 0x420159:
		return "PKCS_11Interface"
	case 0x42015a:
		return "PKCS_11Function"
	case 0x42015b:
		return "PKCS_11InputParameters"
	case 0x42015c:
		return "PKCS_11OutputParameters"
	case 0x42015d:
		return "PKCS_11ReturnCode"
	case 0x42015e:
		return "ProtectionStorageMask"
	case 0x42015f:
		return "ProtectionStorageMasks"
	case 0x420160:
		return "InteropFunction"
	case 0x420161:
		return "InteropIdentifier"
	case 0x420162:
		return "AdjustmentValue"
	case 0x420163:
		return "CommonProtectionStorageMasks"
	case 0x420164:
		return "PrivateProtectionStorageMasks"
	case 0x420165:
		return "PublicProtectionStorageMasks"
	case 0x420166:
		return "ObjectGroups"
	case 0x420167:
		return "ObjectTypes"
	case 0x420168:
		return "Constraints"
	case 0x420169:
		return "Constraint"
	case 0x42016a:
		return "RotateInterval"
	case 0x42016b:
		return "RotateAutomatic"
	case 0x42016c:
		return "RotateOffset"
	case 0x42016d:
		return "RotateDate"
	case 0x42016e:
		return "RotateGeneration"
	case 0x42016f:
		return "RotateName"
	case 0x420170:
		return "RotateNameValue"
	case 0x420171:
		return "RotateNameType"
	case 0x420172:
		return "RotateLatest"
	case 0x420173:
		return "AsynchronousRequest"
	case 0x420174:
		return "SubmissionDate"
	case 0x420175:
		return "ProcessingStage"
	case 0x420176:
		return "AsynchronousCorrelationValues"
	}
	return ""
}

// The values of TicketType.
const (
	TicketTypeLogin uint32 = 1
)

// The values of AdjustmentType.
const (
	AdjustmentTypeIncrement uint32 = 1
	AdjustmentTypeDecrement uint32 = 2
	AdjustmentTypeNegate    uint32 = 3
)

// The values of EndpointRole.
const (
	EndpointRoleClient uint32 = 1
	EndpointRoleServer uint32 = 2
)

// The values of PKCS_11Function.
const (
	PKCS_11FunctionC_Initialize uint32 = 1
	PKCS_11FunctionC_Finalize   uint32 = 2
	PKCS_11FunctionC_GetInfo    uint32 = 3
)

// The values of PKCS_11ReturnCode.
const (
	PKCS_11ReturnCodeOK uint32 = 0
)

// The values of InteropFunction.
const (
	InteropFunctionBegin uint32 = 1
	InteropFunctionEnd   uint32 = 2
	InteropFunctionReset uint32 = 3
)

// The values of ProtectionLevel.
const (
	ProtectionLevelHigh uint32 = 1
	ProtectionLevelLow  uint32 = 2
)

// The values of ProcessingStage.
const (
	ProcessingStageSubmitted uint32 = 1
	ProcessingStageInProcess uint32 = 2
	ProcessingStageCompleted uint32 = 3
)

// The values of ClientRegistrationMethod.
const (
	ClientRegistrationMethodUnspecified        uint32 = 1
	ClientRegistrationMethodServerPreGenerated uint32 = 2
	ClientRegistrationMethodServerOnDemand     uint32 = 3
	ClientRegistrationMethodClientGenerated    uint32 = 4
	ClientRegistrationMethodClientRegistered   uint32 = 5
)

// The values of ValidationAuthorityType.
const (
	ValidationAuthorityTypeUnspecified    uint32 = 1
	ValidationAuthorityTypeNISTCMVP       uint32 = 2
	ValidationAuthorityTypeCommonCriteria uint32 = 3
)

// The values of ValidationType.
const (
	ValidationTypeUnspecified uint32 = 1
	ValidationTypeHardware    uint32 = 2
	ValidationTypeSoftware    uint32 = 3
	ValidationTypeFirmware    uint32 = 4
	ValidationTypeHybrid      uint32 = 5
)

// The values of KeyValueLocationType.
const (
	KeyValueLocationTypeUninterpretedTextString uint32 = 1
	KeyValueLocationTypeURI                     uint32 = 2
)

// The values of NISTKeyType.
const (
	NISTKeyTypePrivateSignatureKey                uint32 = 1
	NISTKeyTypePublicSignatureVerificationKey     uint32 = 2
	NISTKeyTypeSymmetricAuthenticationKey         uint32 = 3
	NISTKeyTypePrivateAuthenticationKey           uint32 = 4
	NISTKeyTypePublicAuthenticationKey            uint32 = 5
	NISTKeyTypeSymmetricDataEncryptionKey         uint32 = 6
	NISTKeyTypeSymmetricKeyWrappingKey            uint32 = 7
	NISTKeyTypeSymmetricRandomNumberGenerationKey uint32 = 8
	NISTKeyTypeSymmetricMasterKey                 uint32 = 9
	NISTKeyTypePrivateKeyTransportKey             uint32 = 10
	NISTKeyTypePublicKeyTransportKey              uint32 = 11
	NISTKeyTypeSymmetricKeyAgreementKey           uint32 = 12
	NISTKeyTypePrivateStaticKeyAgreementKey       uint32 = 13
	NISTKeyTypePublicStaticKeyAgreementKey        uint32 = 14
	NISTKeyTypePrivateEphemeralKeyAgreementKey    uint32 = 15
	NISTKeyTypePublicEphemeralKeyAgreementKey     uint32 = 16
	NISTKeyTypeSymmetricAuthorizationKey          uint32 = 17
	NISTKeyTypePrivateAuthorizationKey            uint32 = 18
	NISTKeyTypePublicAuthorizationKey             uint32 = 19
)

// The values of MaskGenerator.
const (
	MaskGeneratorMFG1 uint32 = 1
	MaskGeneratorMGF1 uint32 = 1
)

// The values of CertificateRequestType.
const (
	CertificateRequestTypeCRMF    uint32 = 1
	CertificateRequestTypePKCS_10 uint32 = 2
	CertificateRequestTypePEM     uint32 = 3
	CertificateRequestTypePGP     uint32 = 4
)

// The values of SplitKeyMethod.
const (
	SplitKeyMethodPolynomialSharingGF2_8 uint32 = 4
)
