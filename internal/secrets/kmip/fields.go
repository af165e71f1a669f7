package kmip

import (
	"slices"

	"arca/internal/ttlv"
)

// first2 is the first tag that KMIP 2.0 has added.
const first2 = ttlv.TagAttributes

// several are fields that may be there more than once.
func several(op uint32, tag ttlv.Tag) bool {
	switch tag { //nolint:exhaustive // the others come once
	case ttlv.TagAttribute, ttlv.TagAttributeName, ttlv.TagAttributeReference, ttlv.TagQueryFunction, ttlv.TagProtocolVersion:
		return true
	case ttlv.TagUniqueIdentifier:
		return op == ttlv.OperationDeriveKey || op == ttlv.OperationJoinSplitKey || op == ttlv.OperationValidate
	case ttlv.TagCertificate:
		return op == ttlv.OperationValidate
	}
	return false
}

// fields are what the payload of an operation's request may have (KMIP 1.4, chapter 4; 2.1,
// section 6.1).
func fields(op uint32) []ttlv.Tag {
	template := []ttlv.Tag{ttlv.TagTemplateAttribute, ttlv.TagAttributes, ttlv.TagProtectionStorageMasks}
	pair := []ttlv.Tag{
		ttlv.TagCommonTemplateAttribute, ttlv.TagPrivateKeyTemplateAttribute, ttlv.TagPublicKeyTemplateAttribute, ttlv.TagCommonAttributes,
		ttlv.TagPrivateKeyAttributes, ttlv.TagPublicKeyAttributes, ttlv.TagCommonProtectionStorageMasks, ttlv.TagPrivateProtectionStorageMasks,
		ttlv.TagPublicProtectionStorageMasks,
	}
	objects := []ttlv.Tag{
		ttlv.TagCertificate, ttlv.TagSymmetricKey, ttlv.TagPublicKey, ttlv.TagPrivateKey, ttlv.TagSecretData, ttlv.TagOpaqueObject, ttlv.TagTemplate,
		ttlv.TagSplitKey, ttlv.TagPGPKey, ttlv.TagCertificateRequest,
	}
	stream := []ttlv.Tag{
		ttlv.TagUniqueIdentifier, ttlv.TagCryptographicParameters, ttlv.TagData, ttlv.TagCorrelationValue, ttlv.TagInitIndicator, ttlv.TagFinalIndicator,
	}
	with := func(tags ...ttlv.Tag) []ttlv.Tag { return append(tags, template...) }
	switch op {
	case ttlv.OperationCreate:
		return with(ttlv.TagObjectType)
	case ttlv.OperationCreateKeyPair:
		return pair
	case ttlv.OperationRegister:
		return append(with(ttlv.TagObjectType, ttlv.TagKeyWrapType), objects...)
	case ttlv.OperationImport:
		return append(with(ttlv.TagUniqueIdentifier, ttlv.TagObjectType, ttlv.TagReplaceExisting, ttlv.TagKeyWrapType, ttlv.TagAttribute), objects...)
	case ttlv.OperationReKey:
		return with(ttlv.TagUniqueIdentifier, ttlv.TagOffset)
	case ttlv.OperationReKeyKeyPair:
		return append(pair, ttlv.TagPrivateKeyUniqueIdentifier, ttlv.TagOffset)
	case ttlv.OperationDeriveKey:
		return with(ttlv.TagObjectType, ttlv.TagUniqueIdentifier, ttlv.TagDerivationMethod, ttlv.TagDerivationParameters)
	case ttlv.OperationCertify, ttlv.OperationReCertify:
		return with(ttlv.TagUniqueIdentifier, ttlv.TagCertificateRequestType, ttlv.TagCertificateRequest, ttlv.TagCertificateRequestValue, ttlv.TagOffset)
	case ttlv.OperationLocate:
		return with(ttlv.TagMaximumItems, ttlv.TagOffsetItems, ttlv.TagStorageStatusMask, ttlv.TagObjectGroupMember, ttlv.TagAttribute)
	case ttlv.OperationCheck:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagUsageLimitsCount, ttlv.TagCryptographicUsageMask, ttlv.TagLeaseTime}
	case ttlv.OperationGet, ttlv.OperationExport:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagKeyFormatType, ttlv.TagKeyWrapType, ttlv.TagKeyCompressionType, ttlv.TagKeyWrappingSpecification}
	case ttlv.OperationGetAttributes:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagAttributeName, ttlv.TagAttributeReference}
	case ttlv.OperationAddAttribute, ttlv.OperationModifyAttribute, ttlv.OperationSetAttribute:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagAttribute, ttlv.TagNewAttribute, ttlv.TagCurrentAttribute}
	case ttlv.OperationDeleteAttribute:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagAttributeName, ttlv.TagAttributeIndex, ttlv.TagCurrentAttribute, ttlv.TagAttributeReference}
	case ttlv.OperationAdjustAttribute:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagAttributeReference, ttlv.TagAdjustmentType, ttlv.TagAdjustmentValue}
	case ttlv.OperationGetAttributeList, ttlv.OperationObtainLease, ttlv.OperationActivate, ttlv.OperationDestroy, ttlv.OperationArchive, ttlv.OperationRecover:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier}
	case ttlv.OperationGetUsageAllocation:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagUsageLimitsCount}
	case ttlv.OperationRevoke:
		return []ttlv.Tag{ttlv.TagUniqueIdentifier, ttlv.TagRevocationReason, ttlv.TagCompromiseOccurrenceDate}
	case ttlv.OperationValidate:
		return []ttlv.Tag{ttlv.TagCertificate, ttlv.TagUniqueIdentifier, ttlv.TagValidityDate}
	case ttlv.OperationQuery:
		return []ttlv.Tag{ttlv.TagQueryFunction}
	case ttlv.OperationDiscoverVersions:
		return []ttlv.Tag{ttlv.TagProtocolVersion}
	case ttlv.OperationQueryAsynchronousRequests:
		return []ttlv.Tag{ttlv.TagAsynchronousCorrelationValues, ttlv.TagOperations}
	case ttlv.OperationPoll, ttlv.OperationCancel, ttlv.OperationProcess:
		return []ttlv.Tag{ttlv.TagAsynchronousCorrelationValue}
	case ttlv.OperationEncrypt, ttlv.OperationDecrypt:
		return append(stream, ttlv.TagIVCounterNonce, ttlv.TagAuthenticatedEncryptionAdditionalData, ttlv.TagAuthenticatedEncryptionTag)
	case ttlv.OperationSign, ttlv.OperationSignatureVerify:
		return append(stream, ttlv.TagDigestedData, ttlv.TagSignatureData)
	case ttlv.OperationMAC, ttlv.OperationMACVerify:
		return append(stream, ttlv.TagMACData)
	case ttlv.OperationHash:
		return stream[1:]
	case ttlv.OperationRNGRetrieve:
		return []ttlv.Tag{ttlv.TagDataLength}
	case ttlv.OperationRNGSeed:
		return []ttlv.Tag{ttlv.TagData}
	case ttlv.OperationCreateSplitKey:
		return with(ttlv.TagObjectType, ttlv.TagUniqueIdentifier, ttlv.TagSplitKeyParts, ttlv.TagSplitKeyThreshold, ttlv.TagSplitKeyMethod, ttlv.TagPrimeFieldSize)
	case ttlv.OperationJoinSplitKey:
		return with(ttlv.TagObjectType, ttlv.TagUniqueIdentifier, ttlv.TagSecretDataType)
	case ttlv.OperationLog:
		return []ttlv.Tag{ttlv.TagLogMessage}
	case ttlv.OperationLogin, ttlv.OperationDelegatedLogin:
		return []ttlv.Tag{ttlv.TagLeaseTime, ttlv.TagRequestCount, ttlv.TagUsageLimits, ttlv.TagTicketType, ttlv.TagRights}
	case ttlv.OperationLogout:
		return []ttlv.Tag{ttlv.TagTicket}
	case ttlv.OperationSetDefaults:
		return []ttlv.Tag{ttlv.TagDefaultsInformation}
	case ttlv.OperationSetConstraints:
		return []ttlv.Tag{ttlv.TagConstraints}
	case ttlv.OperationSetEndpointRole:
		return []ttlv.Tag{ttlv.TagEndpointRole}
	case ttlv.OperationPKCS_11:
		return []ttlv.Tag{ttlv.TagPKCS_11Interface, ttlv.TagPKCS_11Function, ttlv.TagCorrelationValue, ttlv.TagPKCS_11InputParameters}
	case ttlv.OperationInterop:
		return []ttlv.Tag{ttlv.TagInteropFunction, ttlv.TagInteropIdentifier}
	case ttlv.OperationReProvision:
		return []ttlv.Tag{ttlv.TagCertificateRequest, ttlv.TagCertificateRequestType, ttlv.TagCertificateRequestValue, ttlv.TagCertificate}
	}
	return nil
}

// checkFields refuses a payload with fields that the operation, or the version, does not
// have, or with one twice of which there is one: what is ignored would be what the
// client relied on.
func (e *Engine) checkFields(op uint32, p *ttlv.Node, v version) error {
	allowed := e.fields[op]
	for i, c := range p.Children {
		if !slices.Contains(allowed, c.Tag) || v.major < 2 && c.Tag >= first2 {
			return newer(invalid("the operation has no field %s", c.Tag), ttlv.ResultReasonUnknownTag)
		}
		if several(op, c.Tag) {
			continue
		}
		for _, other := range p.Children[:i] {
			if other.Tag == c.Tag {
				return fail(ttlv.ResultReasonInvalidMessage, "%s is there twice", c.Tag)
			}
		}
	}
	return nil
}
