package kmip

import (
	"crypto/rand"
	"math/big"
	"slices"

	"arca/internal/ttlv"
)

const (
	maxParts       = 255
	maxSecretBytes = 16 << 10 // of what is split
)

// A splitting is how a secret lies in parts (KMIP 1.4, section 2.2.5).
type splitting struct {
	parts, threshold int
	method           uint32
	prime            *big.Int // of PolynomialSharingPrimeField
	size             int      // bytes of the secret
}

func (b *batch) parseSplitting(p *ttlv.Node) (s splitting, err error) {
	parts, threshold := p.Get(ttlv.TagSplitKeyParts), p.Get(ttlv.TagSplitKeyThreshold)
	if parts == nil || threshold == nil || parts.Type != ttlv.Integer || threshold.Type != ttlv.Integer ||
		threshold.Int < 1 || parts.Int < threshold.Int || parts.Int < 2 || parts.Int > maxParts {
		return s, invalid("a key has 2 to %d parts, of which Split Key Threshold are needed", maxParts)
	}
	s.parts, s.threshold = int(parts.Int), int(threshold.Int)
	if s.method, err = enum(p, ttlv.TagSplitKeyMethod); err != nil {
		return s, err
	}
	switch s.method {
	case ttlv.SplitKeyMethodXOR:
		if s.parts != s.threshold {
			return s, invalid("with XOR all parts are needed")
		}
	case ttlv.SplitKeyMethodPolynomialSharingGF216, ttlv.SplitKeyMethodPolynomialSharingGF28:
	case ttlv.SplitKeyMethodPolynomialSharingPrimeField:
		n := p.Get(ttlv.TagPrimeFieldSize)
		if n == nil || n.Type != ttlv.BigInteger || len(n.Bytes) > maxKeyBits/8+8 {
			return s, missing("Prime Field Size")
		}
		if s.prime = n.BigInt(); s.prime.Cmp(big.NewInt(maxParts)) <= 0 || !s.prime.ProbablyPrime(20) {
			return s, invalid("Prime Field Size is no prime above %d", maxParts)
		}
	default:
		return s, missing("Split Key Method")
	}
	return s, nil
}

// split makes the parts of a secret.
func (s *splitting) split(secret []byte) ([][]byte, error) {
	if len(secret) == 0 || len(secret) > maxSecretBytes {
		return nil, invalid("what is split has 1 to %d bytes", maxSecretBytes)
	}
	if s.method == ttlv.SplitKeyMethodPolynomialSharingGF216 && len(secret)%2 != 0 {
		return nil, cryptoFailure("by GF(2^16), keys of whole pairs of bytes are split")
	}
	out := make([][]byte, s.parts)
	switch s.method {
	case ttlv.SplitKeyMethodXOR:
		last := slices.Clone(secret)
		for i := range out[:s.parts-1] {
			out[i] = make([]byte, len(secret))
			if _, err := rand.Read(out[i]); err != nil {
				return nil, err
			}
			for j := range last {
				last[j] ^= out[i][j]
			}
		}
		out[s.parts-1] = last
		return out, nil
	case ttlv.SplitKeyMethodPolynomialSharingPrimeField:
		return s.splitPrime(secret)
	}
	// Parts have numbers below 256. These lie in GF(2^8) within GF(2^16) too, so that
	// either field is the same, byte by byte.
	coefficients := make([]byte, (s.threshold-1)*len(secret))
	if _, err := rand.Read(coefficients); err != nil {
		return nil, err
	}
	for i := range out {
		out[i] = make([]byte, len(secret))
		for j := range secret {
			v := byte(0)
			for k := s.threshold - 2; k >= 0; k-- {
				v = times(v^coefficients[k*len(secret)+j], byte(i+1))
			}
			out[i][j] = v ^ secret[j]
		}
	}
	return out, nil
}

// times multiplies in GF(2^8), modulo x^8 + x^4 + x^3 + x + 1, in constant time.
func times(a, b byte) (p byte) {
	for range 8 {
		p ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return p
}

// inverse is a^254.
func inverse(a byte) byte {
	out := byte(1)
	for i := range 8 {
		if i > 0 {
			out = times(out, a)
		}
		a = times(a, a)
	}
	return times(out, 1)
}

func (s *splitting) splitPrime(secret []byte) ([][]byte, error) {
	v := new(big.Int).SetBytes(secret)
	if v.Cmp(s.prime) >= 0 {
		return nil, cryptoFailure("the key is not below Prime Field Size")
	}
	coefficients := []*big.Int{v}
	for range s.threshold - 1 {
		c, err := rand.Int(rand.Reader, s.prime)
		if err != nil {
			return nil, err
		}
		coefficients = append(coefficients, c)
	}
	size := (s.prime.BitLen() + 7) / 8
	out := make([][]byte, s.parts)
	for i := range out {
		x, y := big.NewInt(int64(i+1)), new(big.Int)
		for k := len(coefficients) - 1; k >= 0; k-- {
			y.Mod(y.Add(y.Mul(y, x), coefficients[k]), s.prime)
		}
		out[i] = y.FillBytes(make([]byte, size))
	}
	return out, nil
}

// join puts a secret together of enough parts, by their numbers from 1.
func (s *splitting) join(numbers []int, parts [][]byte) ([]byte, error) {
	few := cryptoFailure("these are not enough different parts of one key")
	if len(parts) < s.threshold {
		return nil, few
	}
	size := len(parts[0])
	for i, n := range numbers {
		if n < 1 || n > maxParts || slices.Contains(numbers[:i], n) || len(parts[i]) != size {
			return nil, few
		}
	}
	switch s.method {
	case ttlv.SplitKeyMethodXOR:
		out := make([]byte, size)
		for _, p := range parts {
			for j := range out {
				out[j] ^= p[j]
			}
		}
		return out, nil
	case ttlv.SplitKeyMethodPolynomialSharingPrimeField:
		return s.joinPrime(numbers, parts)
	}
	out := make([]byte, size)
	for i, p := range parts {
		l := byte(1)
		for k, n := range numbers {
			if k != i {
				l = times(l, times(byte(n), inverse(byte(n)^byte(numbers[i]))))
			}
		}
		for j := range out {
			out[j] ^= times(l, p[j])
		}
	}
	return out, nil
}

func (s *splitting) joinPrime(numbers []int, parts [][]byte) ([]byte, error) {
	sum := new(big.Int)
	for i, p := range parts {
		l := new(big.Int).SetBytes(p)
		for k, n := range numbers {
			if k != i {
				d := new(big.Int).ModInverse(new(big.Int).Mod(big.NewInt(int64(n-numbers[i])), s.prime), s.prime)
				if d == nil {
					return nil, cryptoFailure("these parts do not belong together")
				}
				l.Mod(l.Mul(l.Mul(l, big.NewInt(int64(n))), d), s.prime)
			}
		}
		sum.Mod(sum.Add(sum, l), s.prime)
	}
	size := s.size
	if size == 0 {
		size = (s.prime.BitLen() + 7) / 8
	}
	if sum.BitLen() > size*8 {
		return nil, cryptoFailure("these parts do not belong together")
	}
	return sum.FillBytes(make([]byte, size)), nil
}

func (s *splitting) node(number int, raw []byte, alg uint32, bits int32) *ttlv.Node {
	n := ttlv.Struct(ttlv.TagSplitKey, ttlv.Int(ttlv.TagSplitKeyParts, int32(s.parts)), ttlv.Int(ttlv.TagKeyPartIdentifier, int32(number)),
		ttlv.Int(ttlv.TagSplitKeyThreshold, int32(s.threshold)), ttlv.Enum(ttlv.TagSplitKeyMethod, s.method))
	if s.prime != nil {
		n.Add(ttlv.Big(ttlv.TagPrimeFieldSize, s.prime))
	}
	return n.Add(keyNode(ttlv.TagSplitKey, ttlv.KeyFormatTypeRaw, ttlv.Bytes(ttlv.TagKeyMaterial, raw), alg, bits).Children[0])
}

// createSplitKey splits a key that is there, or a new one.
func (b *batch) createSplitKey(p *ttlv.Node) (*ttlv.Node, error) {
	s, err := b.parseSplitting(p)
	if err != nil {
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
	if slices.ContainsFunc(attrs, func(a attribute) bool { return a.Name == attrName }) {
		return nil, invalid("the parts of a key cannot all have the same name")
	}
	var from *object
	var secret []byte
	if p.Get(ttlv.TagUniqueIdentifier) == nil { // else it is what that is
		if attrs, err = b.withDefaults(ttlv.ObjectTypeSplitKey, attrs); err != nil {
			return nil, err
		}
	}
	probe := &object{Attrs: attrs}
	if p.Get(ttlv.TagUniqueIdentifier) != nil {
		if from, err = b.usable(p); err != nil {
			return nil, err
		}
		if from.Type != ttlv.ObjectTypeSymmetricKey && from.Type != ttlv.ObjectTypeSecretData {
			return nil, fail(ttlv.ResultReasonIllegalOperation, "symmetric keys and secret data are split")
		}
		if !from.truth(attrExtractable) {
			return nil, fail(ttlv.ResultReasonNotExtractable, "the object cannot be extracted")
		}
		if from.truth(attrSensitive) {
			return nil, fail(ttlv.ResultReasonSensitive, "the object is sensitive")
		}
		node, err := b.material(from)
		if err != nil {
			return nil, err
		}
		if secret, err = rawOf(node); err != nil {
			return nil, err
		}
		for _, name := range []string{attrAlgorithm, attrLength, attrMask} {
			if n := from.get(name); n != nil && !probe.has(name) {
				attrs = append(attrs, newAttribute(name, n))
			}
		}
	} else {
		alg, length := probe.get(attrAlgorithm), probe.get(attrLength)
		if alg == nil || length == nil || !probe.has(attrMask) {
			return nil, missing(attrAlgorithm + ", " + attrLength + " and " + attrMask)
		}
		if secret, err = newSymmetric(uint32(alg.Int), length.Int); err != nil {
			return nil, err
		}
	}
	parts, err := s.split(secret)
	if err != nil {
		return nil, err
	}
	return b.commitParts(&s, attrs, from, parts)
}

// commitParts writes the parts of a key, each with links to its neighbours.
func (b *batch) commitParts(s *splitting, attrs []attribute, from *object, parts [][]byte) (*ttlv.Node, error) {
	probe := &object{Attrs: attrs}
	alg, bits := uint32(0), int32(0)
	if n := probe.get(attrAlgorithm); n != nil {
		alg = uint32(n.Int)
	}
	if n := probe.get(attrLength); n != nil {
		bits = int32(n.Int)
	}
	objects := make([]*object, len(parts))
	for i, raw := range parts {
		o, err := b.prepare(ttlv.ObjectTypeSplitKey, slices.Clone(attrs), func(o *object) error {
			o.set(attrCreated, date(b.now))
			b.formatted(o, ttlv.KeyFormatTypeRaw)
			o.set(attrDigest, digest(raw, ttlv.KeyFormatTypeRaw, b.v))
			return nil
		}, nil)
		if err != nil {
			return nil, err
		}
		objects[i] = o
	}
	out := response()
	for i, o := range objects {
		if from != nil {
			o.addLink(ttlv.LinkTypeParentLink, from.ID)
		}
		if i > 0 {
			o.addLink(ttlv.LinkTypePreviousLink, objects[i-1].ID)
		}
		if i+1 < len(objects) {
			o.addLink(ttlv.LinkTypeNextLink, objects[i+1].ID)
		}
		if err := b.commit(o, s.node(i+1, parts[i], alg, bits)); err != nil {
			return nil, err
		}
		out.Add(idNode(o))
	}
	return out, nil
}

// joinSplitKey puts a key together.
func (b *batch) joinSplitKey(p *ttlv.Node) (*ttlv.Node, error) {
	typ, err := enum(p, ttlv.TagObjectType)
	if err != nil {
		return nil, err
	}
	if typ != ttlv.ObjectTypeSymmetricKey && typ != ttlv.ObjectTypeSecretData {
		return nil, newer(invalid("symmetric keys and secret data are put together"), ttlv.ResultReasonInvalidObjectType)
	}
	ids := p.All(ttlv.TagUniqueIdentifier)
	if len(ids) == 0 || len(ids) > maxParts {
		return nil, invalid("a key is put together of 1 to %d parts", maxParts)
	}
	var s splitting
	var numbers []int
	var parts [][]byte
	inherited := []attribute{}
	for i, n := range ids {
		next, number, raw, o, err := b.part(n)
		if err != nil {
			return nil, err
		}
		same := next.parts == s.parts && next.threshold == s.threshold && next.method == s.method && (next.prime == nil) == (s.prime == nil) &&
			(s.prime == nil || s.prime.Cmp(next.prime) == 0)
		if i > 0 && !same {
			return nil, cryptoFailure("these are not parts of one key")
		}
		s, numbers, parts = next, append(numbers, number), append(parts, raw)
		if i == 0 {
			for _, name := range []string{attrAlgorithm, attrLength, attrMask} {
				if v := o.get(name); v != nil {
					inherited = append(inherited, newAttribute(name, v))
				}
			}
		}
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	attrs, err := attrsOf(list)
	if err != nil {
		return nil, err
	}
	for _, a := range inherited {
		if !slices.ContainsFunc(attrs, func(x attribute) bool { return x.Name == a.Name }) {
			attrs = append(attrs, a)
		}
	}
	if attrs, err = b.withDefaults(typ, attrs); err != nil {
		return nil, err
	}
	if n := (&object{Attrs: attrs}).get(attrLength); n != nil && n.Int > 0 && n.Int <= maxSecretBytes*8 {
		s.size = int(n.Int+7) / 8
	}
	raw, err := s.join(numbers, parts)
	if err != nil {
		return nil, err
	}
	kind, err := enum(p, ttlv.TagSecretDataType)
	if err != nil {
		return nil, err
	}
	if kind == 0 {
		kind = ttlv.SecretDataTypeSeed
	}
	o, node, err := b.fromMaterial(typ, attrs, raw, kind)
	if err != nil {
		return nil, err
	}
	return response(idNode(o)), b.commit(o, node)
}

// part reads one part of a key.
func (b *batch) part(n *ttlv.Node) (s splitting, number int, raw []byte, o *object, err error) {
	id, err := b.textID(n)
	if err == nil {
		o, err = b.object(id)
	}
	if err == nil {
		err = b.online(o)
	}
	if err != nil {
		return s, 0, nil, nil, err
	}
	if o.Type != ttlv.ObjectTypeSplitKey {
		return s, 0, nil, nil, fail(ttlv.ResultReasonIllegalOperation, "the object is no part of a split key")
	}
	node, err := b.material(o)
	if err != nil {
		return s, 0, nil, nil, err
	}
	if s, err = b.parseSplitting(node); err != nil {
		return s, 0, nil, nil, err
	}
	raw, err = rawOf(node)
	if k := node.Get(ttlv.TagKeyPartIdentifier); k != nil {
		number = int(k.Int)
	}
	return s, number, raw, o, err
}
