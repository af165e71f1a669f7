package kmip

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/ttlv"
)

// maxPairs bounds how many RSA keys one message may have made.
const maxPairs = 32

// pairs are RSA keys that were made before the transaction of their message: that
// takes long, and a transaction may run again. Each goes to one object.
type pairs struct {
	made map[int32][]*rsa.PrivateKey
	used map[int32]int
}

// take returns a key that was made, nil when there is none.
func (p *pairs) take(bits int32) *rsa.PrivateKey {
	if p == nil || p.used[bits] >= len(p.made[bits]) {
		return nil
	}
	p.used[bits]++
	return p.made[bits][p.used[bits]-1]
}

func rsaLengths() []int32 { return []int32{1024, 2048, 3072, 4096} }

// prepared has the RSA keys made that a message asks for.
func (b *batch) prepared(m *message) error {
	if made, ok := b.call.Asked.(map[int32][]*rsa.PrivateKey); ok {
		b.pairs = &pairs{made, map[int32]int{}}
		return nil
	}
	var want map[int32]int
	n := 0
	for i := range m.items {
		it := &m.items[i]
		if it.op == nil || !it.op.pair || !b.role.may(it.op.flag) {
			continue
		}
		if bits := b.rsaBits(it); bits != 0 {
			if n++; n > maxPairs {
				break
			}
			if want == nil {
				want = map[int32]int{}
			}
			want[bits]++
		}
	}
	if n == 0 {
		return nil
	}
	if !b.tx.Writable() {
		return errs.New(errs.Internal, "keys are made by what only reads")
	}
	return engine.Ask(func(ctx context.Context) (any, error) {
		made := map[int32][]*rsa.PrivateKey{}
		for bits, n := range want {
			for range n {
				if err := ctx.Err(); err != nil {
					return nil, errs.With(errs.Unavailable, err)
				}
				k, err := rsa.GenerateKey(rand.Reader, int(bits))
				if err != nil {
					return nil, err
				}
				made[bits] = append(made[bits], k)
			}
		}
		return made, nil
	})
}

// rsaBits is the length of the RSA key that an item will ask for, 0 for none or
// where that is not known yet.
func (b *batch) rsaBits(it *item) int32 {
	probe := &object{}
	for _, tag := range []ttlv.Tag{ttlv.TagPrivateKeyTemplateAttribute, ttlv.TagCommonTemplateAttribute} {
		list, err := b.template(it.payload.Get(tag))
		if err != nil {
			return 0
		}
		for _, g := range list {
			if (g.name == attrAlgorithm || g.name == attrLength) && !probe.has(g.name) {
				probe.set(g.name, g.value)
			}
		}
	}
	if id := it.payload.Get(ttlv.TagPrivateKeyUniqueIdentifier); id != nil {
		if o, err := b.object(id.Text()); err == nil {
			for _, name := range []string{attrAlgorithm, attrLength} {
				if n := o.get(name); n != nil && !probe.has(name) {
					probe.set(name, n)
				}
			}
		}
	}
	a, l := probe.get(attrAlgorithm), probe.get(attrLength)
	if a == nil || l == nil || uint32(a.Int) != ttlv.CryptographicAlgorithmRSA || !slices.Contains(rsaLengths(), int32(l.Int)) {
		return 0
	}
	return int32(l.Int)
}
