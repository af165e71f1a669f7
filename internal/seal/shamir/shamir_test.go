package shamir

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// Products and inverses from FIPS 197, 4.2 and 4.2.1, and the S-box's example.
func TestField(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]byte{
		{0x57, 0x83, 0xc1},
		{0x57, 0x13, 0xfe},
		{0x57, 0x02, 0xae},
		{0x57, 0x10, 0x07},
		{0x53, 0xca, 0x01},
		{0x00, 0xff, 0x00},
		{0x01, 0xab, 0xab},
	} {
		if got := mul(c[0], c[1]); got != c[2] {
			t.Errorf("%#x * %#x = %#x, want %#x", c[0], c[1], got, c[2])
		}
		if got := mul(c[1], c[0]); got != c[2] {
			t.Errorf("%#x * %#x = %#x, want %#x", c[1], c[0], got, c[2])
		}
	}
	for a := 1; a < 256; a++ {
		if got := mul(byte(a), inverse(byte(a))); got != 1 {
			t.Errorf("%#x times its inverse is %#x", a, got)
		}
	}
	if got := inverse(0); got != 0 {
		t.Errorf("inverse of 0 is %#x", got)
	}
}

// Worked by hand: the polynomials 0x2a + 7x and 0x99 + 0x57x + 0x13x^2.
func TestKnownShares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		shares [][]byte
		want   []byte
	}{
		{"two", [][]byte{{0x2d, 1}, {0x24, 2}}, []byte{0x2a}},
		{"the other way round", [][]byte{{0x24, 2}, {0x2d, 1}}, []byte{0x2a}},
		{"three", [][]byte{
			{0x99 ^ 0x57 ^ 0x13, 1},
			{0x99 ^ 0xae ^ 0x4c, 2}, // 0x13 * 4 = 0x4c
			{0x99 ^ 0xf9 ^ 0x5f, 3}, // 0x57 * 3 = 0xf9, 0x13 * 5 = 0x5f
		}, []byte{0x99}},
	} {
		got, err := Combine(c.shares)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, %v; want %x", c.name, got, err, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		shares [][]byte
		want   error
	}{
		{"none", nil, ErrTooFew},
		{"one", [][]byte{{1, 2}}, ErrTooFew},
		{"empty", [][]byte{{}, {}}, ErrShort},
		{"no secret", [][]byte{{1}, {2}}, ErrShort},
		{"lengths", [][]byte{{1, 1}, {1, 1, 2}}, ErrLengths},
		{"duplicate", [][]byte{{1, 7}, {2, 7}}, ErrDuplicate},
		{"point zero", [][]byte{{1, 0}, {2, 7}}, ErrPoint},
	} {
		if _, err := Combine(c.shares); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, c := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {256, 2}, {0, 0}, {-1, -1}} {
		if _, err := Split([]byte("secret"), c[0], c[1]); !errors.Is(err, ErrCounts) {
			t.Errorf("split %d/%d: %v", c[0], c[1], err)
		}
	}
	if _, err := Split(nil, 2, 2); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty secret: %v", err)
	}
}

// S0-16, S0-20: any t of n shares restore the secret, fewer do not.
func TestSplitCombine(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		n := 2 + rnd.IntN(30)
		th := 2 + rnd.IntN(n-1)
		secret := make([]byte, 1+rnd.IntN(40))
		for i := range secret {
			secret[i] = byte(rnd.Uint32())
		}
		shares, err := Split(secret, n, th)
		if err != nil {
			t.Fatal(err)
		}
		rnd.Shuffle(n, func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
		got, err := Combine(shares[:th])
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d: %x, %v; want %x", th, n, got, err, secret)
		}
		if got, err = Combine(shares); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("all of %d: %x, %v; want %x", n, got, err, secret)
		}
		if th > 2 && len(secret) >= 16 {
			if got, _ = Combine(shares[:th-1]); bytes.Equal(got, secret) {
				t.Fatalf("%d of %d restore a secret of threshold %d", th-1, n, th)
			}
		}
	}
	shares, err := Split([]byte{1, 2, 3}, MaxShares, MaxShares)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Combine(shares); err != nil || !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("255 of 255: %x, %v", got, err)
	}
}

// With fewer shares than the threshold each secret is as likely as any other:
// the share of one point takes every value about equally often.
func TestOneShareTellsNothing(t *testing.T) {
	t.Parallel()
	const rounds = 64 * 256
	var seen [256]int
	for range rounds {
		shares, err := Split([]byte{0x42}, 2, 2)
		if err != nil {
			t.Fatal(err)
		}
		seen[shares[0][0]]++
	}
	for v, n := range seen {
		if n < 16 || n > 144 { // 64 expected, deviation 8: six and ten of them
			t.Errorf("value %#x came %d times in %d", v, n, rounds)
		}
	}
}

func FuzzCombine(f *testing.F) {
	f.Add([]byte{0x2d, 1, 0x24, 2}, 2, 2)
	f.Add([]byte{}, 0, 0)
	f.Fuzz(func(t *testing.T, b []byte, n, size int) {
		if n < 0 || n > 300 || size < 0 || size > 64 || n*size > len(b) {
			return
		}
		var shares [][]byte
		for i := range n {
			shares = append(shares, b[i*size:(i+1)*size])
		}
		before := bytes.Clone(b)
		secret, err := Combine(shares)
		if (err == nil) != (secret != nil) || err == nil && len(secret) != size-1 {
			t.Fatalf("%x, %v", secret, err)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the shares were changed")
		}
	})
}

func BenchmarkCombine(b *testing.B) {
	shares, err := Split(make([]byte, 32), 5, 3)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Combine(shares[:3]); err != nil {
			b.Fatal(err)
		}
	}
}
