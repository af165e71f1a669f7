package keyring

import (
	"os"
	"testing"
	"time"

	"arca/internal/storage"
)

// What a key costs with very many versions: ARCA_MEASURE=1 go test -run Measure -v.
func TestMeasureVersions(t *testing.T) {
	if os.Getenv("ARCA_MEASURE") == "" {
		t.Skip("ARCA_MEASURE is not set")
	}
	b := newBench(t)
	k := b.create(Key{Name: "k", Spec: Spec{Type: AES256GCM}})
	took := func(n int, fn func(tx storage.Tx) error) time.Duration {
		start := time.Now()
		for range n {
			b.update(fn)
		}
		return time.Since(start) / time.Duration(n)
	}
	for _, upTo := range []int{10, 1_000, 100_000} {
		for k.Latest < upTo {
			k = b.rotate("k")
		}
		rotate := took(200, func(tx storage.Tx) error {
			m, err := Generate(k.Spec)
			if err != nil {
				return err
			}
			k, err = b.ring.Rotate(tx, k, m, b.now)
			return err
		})
		i := 0
		use := took(1000, func(tx storage.Tx) error {
			i++
			k, err := b.ring.Get(tx, "k")
			if err != nil {
				return err
			}
			v, err := b.ring.Version(tx, k, 1+i*7919%k.Latest)
			if err != nil {
				return err
			}
			_, err = k.Encrypt(v, nil, []byte("x"), CryptOptions{})
			return err
		})
		t.Logf("%d versions: rotate %s, use any %s", k.Latest, rotate, use)
	}
	start := time.Now()
	b.update(func(tx storage.Tx) error {
		_, err := b.ring.Trim(tx, k, k.Latest-5)
		return err
	})
	t.Logf("trim all but 6: %s", time.Since(start))
}
