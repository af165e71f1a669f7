package transit

import (
	"encoding/base64"
	"testing"
)

func FuzzEncoder(f *testing.F) {
	e := newEncoder()
	for n := range 40 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(255 - 37*i)
		}
		f.Add("x", b)
	}
	f.Fuzz(func(t *testing.T, before string, src []byte) {
		want := before + base64.StdEncoding.EncodeToString(src)
		if got := e.append([]byte(before), src); string(got) != want {
			t.Errorf("%x: got %s, want %s", src, got, want)
		}
		if got := e.append(append(make([]byte, 0, 4096), before...), src); string(got) != want {
			t.Errorf("%x, with room: got %s, want %s", src, got, want)
		}
	})
}

func BenchmarkEncoder(b *testing.B) {
	e, src := newEncoder(), make([]byte, 1052)
	dst := make([]byte, 0, 2048)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		dst = e.append(dst[:0], src)
	}
}

func BenchmarkLibraryEncoder(b *testing.B) {
	src := make([]byte, 1052)
	dst := make([]byte, 0, 2048)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		dst = base64.StdEncoding.AppendEncode(dst[:0], src)
	}
}
