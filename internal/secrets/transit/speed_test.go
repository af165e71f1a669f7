package transit

import (
	"strings"
	"testing"

	"arca/internal/engine"
)

// What one request costs without the hall and the door.
func BenchmarkTransit(b *testing.B) {
	s := newBench(b)
	s.post("keys/aes")
	s.post("keys/ed", "type", "ed25519")
	plain := b64(strings.Repeat("x", 1024))
	one := `{"plaintext":"` + plain + `"}`
	for name, c := range map[string][2]string{
		"encrypt":  {"encrypt/aes", one},
		"batch100": {"encrypt/aes", `{"batch_input":[` + strings.TrimSuffix(strings.Repeat(one+",", 100), ",") + `]}`},
		"decrypt":  {"decrypt/aes", `{"ciphertext":"` + str(s.post("encrypt/aes", "plaintext", plain), "ciphertext") + `"}`},
		"hmac":     {"hmac/aes", `{"input":"` + plain + `"}`},
		"ed25519":  {"sign/ed", `{"input":"` + plain + `"}`},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.do(engine.OpUpdate, c[0], c[1]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
