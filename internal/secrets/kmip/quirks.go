package kmip

import (
	"maps"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/ttlv"
)

// Quirks are how answers are shaped for clients that cannot read all that the protocol lets a
// server say. A role names the client (field client); without that, answers are as the
// specification has them. What a client asks for by name it gets, whatever its quirks; what
// changes is what a server says of its own accord. docs/kmip.md has the reasons.
type quirks struct {
	// uncorrelated leaves Client and Server Correlation Value out of the header.
	uncorrelated bool
	// located is the first version in which Locate tells how many there are; the zero value is
	// that of the specification, 1.3.
	located version
	// attributes are those that Get Attributes answers when none is named, beside custom ones;
	// nil is all.
	attributes map[string]bool
	// private and public are the formats in which keys on elliptic curves are given when none is
	// asked for; 0 is the usual one.
	private, public uint32
}

// clients are the quirks by the name that a role gives.
func clients() map[string]*quirks {
	set := func(names ...string) map[string]bool {
		out := map[string]bool{}
		for _, n := range names {
			out[n] = true
		}
		return out
	}
	// What every version of libkmip knows; it stops at the first attribute beside these.
	libkmip := set(attrID, attrName, attrType, attrAlgorithm, attrLength, attrPolicy, attrMask, attrState)
	// What PyKMIP makes a value of; others raise NotImplementedError, or are no value at all. Of a
	// Digest it wants the Key Format Type, which those of KMIP 1.0 and of certificates lack.
	pykmip := set(attrID, attrName, attrType, attrAlgorithm, attrLength, attrParameters, attrCertType, attrCertLength, attrPolicy, attrMask, attrLease, attrState,
		attrInitial, attrActivation, attrProcessStart, attrProtectStop, attrDeactivation, attrDestroyed, attrOccurrence, attrCompromised, attrArchived, attrGroup, attrFresh,
		attrAppInfo, attrContact, attrChanged, attrSensitive)
	older := map[string]bool{} // those of KMIP 1.0
	for _, k := range kinds {
		if k.since == 0 {
			older[k.name] = true
		}
	}
	return map[string]*quirks{
		"libkmip":  {attributes: libkmip, located: version{1, 4}},
		"pykmip":   {attributes: pykmip, uncorrelated: true, private: ttlv.KeyFormatTypePKCS_8, public: ttlv.KeyFormatTypeX_509},
		"synology": {attributes: older},
	}
}

// checkClient refuses the name of a client whose quirks are not known; "" is none.
func (e *Engine) checkClient(name string) error {
	if _, ok := e.quirks[name]; ok || name == "" {
		return nil
	}
	return errs.New(errs.Invalid, "there is no client %q: it must be one of %s, or empty for answers as the specification has them",
		name, strings.Join(slices.Sorted(maps.Keys(e.quirks)), ", "))
}

// actsAs has the batch act on behalf of a role of a scope.
func (b *batch) actsAs(scope string, r *role) {
	b.scope, b.role = scope, r
	if r.Client != "" {
		b.quirks = b.e.quirks[r.Client] // nil for one of a later version
	}
}

// counts reports whether Locate tells how many objects there are.
func (b *batch) counts() bool {
	if b.quirks != nil && b.quirks.located != (version{}) {
		return b.v.atLeast(b.quirks.located.major, b.quirks.located.minor)
	}
	return b.v.atLeast(1, 3)
}

// unasked are the attributes of an object that the client gets when it names none.
func (b *batch) unasked(o *object) []attribute {
	all := o.visible(b.v, b.now)
	if b.quirks == nil || b.quirks.attributes == nil {
		return all
	}
	return slices.DeleteFunc(all, func(a attribute) bool {
		_, known := kindsByName[a.Name]
		return known && !b.quirks.attributes[a.Name]
	})
}

// usualFor is the format in which the client gets a key when it asks for none; 0 is the one
// that all get.
func (b *batch) usualFor(o *object) uint32 {
	if b.quirks == nil || b.operation != ttlv.OperationGet { // what is exported is as its attributes say
		return 0
	}
	switch n := o.get(attrAlgorithm); {
	case n == nil || !curveAlgorithm(uint32(n.Int)):
		return 0
	case o.Type == ttlv.ObjectTypePrivateKey:
		return b.quirks.private
	case o.Type == ttlv.ObjectTypePublicKey:
		return b.quirks.public
	}
	return 0
}

func curveAlgorithm(algorithm uint32) bool {
	switch algorithm {
	case ttlv.CryptographicAlgorithmEC, ttlv.CryptographicAlgorithmECDSA, ttlv.CryptographicAlgorithmECDH, ttlv.CryptographicAlgorithmECMQV,
		ttlv.CryptographicAlgorithmEd25519:
		return true
	}
	return false
}
