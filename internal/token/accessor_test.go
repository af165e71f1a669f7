package token

import (
	"crypto/rand"
	"testing"
)

func TestBase62(t *testing.T) {
	cases := [][16]byte{{}, {15: 1}, {15: 61}, {15: 62}, {0: 0xff, 1: 0xff, 7: 0xff, 8: 0xff, 15: 0xff}}
	all := [16]byte{}
	for i := range all {
		all[i] = 0xff
	}
	cases = append(cases, all)
	for range 1000 {
		var b [16]byte
		rand.Read(b[:])
		cases = append(cases, b)
	}
	for _, want := range cases {
		text := encode62(want)
		got, ok := decode62(text)
		if !ok || got != want || len(text) != accessorLength {
			t.Fatalf("%x became %q and then %x, %t", want, text, got, ok)
		}
	}
	for _, bad := range []string{"", "short", "zzzzzzzzzzzzzzzzzzzzzz", "000000000000000000000-", "0000000000000000000000000"} {
		if b, ok := decode62(bad); ok {
			t.Errorf("%q was read as %x", bad, b)
		}
	}
}

func TestAccessors(t *testing.T) {
	a, err := newAccessors(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := newHasher([]byte("key"))
	for _, ns := range []string{"root"} {
		key := h.key("hvs.some-token")
		ns2, key2, ok := a.key(a.of(ns, key))
		if !ok || ns2 != ns || key2 != key {
			t.Errorf("accessor of %s/%s leads to %s/%s, %t", ns, key, ns2, key2, ok)
		}
		if _, _, ok := a.key(a.of(ns, key) + ".root/m/x/s"); ok {
			t.Error("an accessor names a part of the store")
		}
	}
}

func FuzzAccessor(f *testing.F) {
	a, err := newAccessors(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("0123456789abcdefghijkl")
	f.Add("0123456789abcdefghijkl.ns")
	f.Fuzz(func(t *testing.T, text string) {
		ns, key, ok := a.key(text)
		if ok && a.of(ns, key) != text {
			t.Fatalf("%q leads to %s/%s and back to %q", text, ns, key, a.of(ns, key))
		}
	})
}
