package seal

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// keyed is a KMS that decrypts what any of its keys made: Decrypt is told no key, the
// ciphertext names it.
type keyed struct {
	key  byte
	gone map[byte]bool // keys that were deleted
}

var errGone = errors.New("the key is pending deletion")

func (k *keyed) Encrypt(_ context.Context, plain []byte) ([]byte, error) {
	if k.gone[k.key] {
		return nil, errGone
	}
	return append([]byte{k.key}, plain...), nil
}

func (k *keyed) Decrypt(_ context.Context, sealed []byte) ([]byte, error) {
	if k.gone[sealed[0]] {
		return nil, errGone
	}
	return slices.Clone(sealed[1:]), nil
}

func (k *keyed) Current(sealed []byte) bool { return sealed[0] == k.key }

// A KMS whose key was replaced in the configuration gets the root key under the new one,
// under its name or another: the old one may be deleted once the status says so.
func TestReplacedKey(t *testing.T) {
	t.Parallel()
	for what, names := range map[string]string{
		"in place":                      "awskms=B",
		"with a new name":               "b=B",
		"beside the other, renamed one": "b=B a=A",
	} {
		gone := map[byte]bool{}
		of := func(name string, key byte) Wrapper {
			return Wrapper{Type: "awskms", Name: name, Sealer: &keyed{key, gone}}
		}
		next := map[string][]Wrapper{"awskms=B": {of("awskms", 'B')}, "b=B": {of("b", 'B')}, "b=B a=A": {of("b", 'B'), of("a", 'A')}}[names]
		n := configured(t, newNode(t, newStore(t)), of("awskms", 'A'))
		mustInit(t, n, 1, 1)
		n = configured(t, n, next...)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(what, err)
		}
		if whole(t, n) {
			t.Errorf("%s: fully wrapped at once", what)
		}
		n.tend(t.Context())
		if !whole(t, n) {
			t.Errorf("%s: not fully wrapped", what)
		}
		c, err := n.config(t.Context())
		if err != nil || c.Wrapped[0].Root[0] != 'B' || len(c.Wrapped) != len(next) {
			t.Errorf("%s: %d, the first under %c, %v", what, len(c.Wrapped), c.Wrapped[0].Root[0], err)
		}
		gone['A'] = true
		n = configured(t, n, next...)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Errorf("%s, and the old key deleted: %v", what, err)
		}
	}
}
