package transit

import (
	"bytes"
	"encoding/base64"
	"testing"
)

func FuzzAppendBase64(f *testing.F) {
	for n := range 100 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(255 - 37*i)
		}
		f.Add("x", b)
	}
	f.Fuzz(func(t *testing.T, before string, src []byte) {
		want := before + base64.StdEncoding.EncodeToString(src)
		if got := appendBase64([]byte(before), src); string(got) != want {
			t.Errorf("%x: got %s, want %s", src, got, want)
		}
		if got := appendBase64(append(make([]byte, 0, 4096), before...), src); string(got) != want {
			t.Errorf("%x, with room: got %s, want %s", src, got, want)
		}
	})
}

// sameAsLibrary compares result and error, and sees that nothing is written outside.
func sameAsLibrary(t *testing.T, src []byte) {
	t.Helper()
	size := base64.StdEncoding.DecodedLen(len(src))
	want := make([]byte, size)
	wantN, wantErr := base64.StdEncoding.Decode(want, src)
	guard := bytes.Repeat([]byte{0xa5}, 64)
	room := append(make([]byte, size, size+len(guard)), guard...)
	n, err := decodeBase64(room[:size], src)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || n != wantN || !bytes.Equal(room[:n], want[:wantN]) {
		t.Errorf("%q: got %d, %x, %v, want %d, %x, %v", src, n, room[:n], err, wantN, want[:wantN], wantErr)
	}
	if !bytes.Equal(room[size:], guard) {
		t.Errorf("%q: written behind the room", src)
	}
}

// Every byte at every place of a text that is long enough for the vectors.
func TestDecodeBase64(t *testing.T) {
	whole := make([]byte, 128)
	for i := range whole {
		whole[i] = byte(37 * i)
	}
	text := []byte(base64.StdEncoding.EncodeToString(whole))
	for at := range text {
		for c := range 256 {
			was := text[at]
			text[at] = byte(c)
			sameAsLibrary(t, text)
			text[at] = was
		}
		sameAsLibrary(t, text[:at])
		sameAsLibrary(t, append(append(bytes.Clone(text[:at]), "\r\n"...), text[at:]...))
		sameAsLibrary(t, append(append(bytes.Clone(text[:at]), "=="...), text[at:]...))
	}
}

func FuzzDecodeBase64(f *testing.F) {
	for _, s := range []string{"", "AA==", "AA", "A===", "AAAA\nAAAA", base64.StdEncoding.EncodeToString(make([]byte, 100))} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		sameAsLibrary(t, src)
		sameAsLibrary(t, []byte(base64.StdEncoding.EncodeToString(src)))
	})
}

func BenchmarkBase64(b *testing.B) {
	src := make([]byte, 1052)
	text := appendBase64(nil, src)
	b.Run("append", func(b *testing.B) {
		dst := make([]byte, 0, 2048)
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			dst = appendBase64(dst[:0], src)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := decodeBase64(src[:cap(src)], text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
