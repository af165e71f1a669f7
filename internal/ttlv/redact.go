package ttlv

// leftOut stands where something was taken out.
const leftOut = "(left out)"

// secret reports whether what is under a tag opens something, or is what a client has
// encrypted or signed.
func secret(t Tag) bool {
	switch t { //nolint:exhaustive // the others are no secrets
	case TagKeyMaterial, TagKeyValue, TagPassword, TagOpaqueDataValue, TagTicketValue, TagData, TagDigestedData, TagDerivationData, TagSalt,
		TagOneTimePassword, TagHashedPassword, TagServerHashedPassword, TagNonceValue, TagAttestationMeasurement, TagAttestationAssertion,
		TagPKCS_11InputParameters, TagPKCS_11OutputParameters, TagCorrelationValue, TagAsynchronousCorrelationValue, TagAsynchronousCorrelationValues, TagMACData:
		return true
	}
	return false
}

// Redacted is a message without key material, passwords, tickets, and the data that
// operations work on, so that it can be shown. The node itself does not change.
func (n *Node) Redacted() *Node {
	out := *n
	if n.Type != Structure {
		if secret(n.Tag) {
			out.Type, out.Int, out.Bytes = TextString, 0, []byte(leftOut)
		}
		return &out
	}
	out.Children = make([]*Node, 0, len(n.Children))
	for _, c := range n.Children {
		if c.Type == Structure && secret(c.Tag) && c.Tag != TagKeyValue { // a transparent key; beside it there may be attributes
			c = Text(c.Tag, leftOut)
		}
		out.Children = append(out.Children, c.Redacted())
	}
	return &out
}
