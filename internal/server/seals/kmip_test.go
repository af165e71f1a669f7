package seals

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/config"
	"arca/internal/seal"
	"arca/internal/ttlv"
)

// A kmipServer is arca's own, with a client's certificate in files.
type kmipServer struct {
	endpoint, ca, cert, key string // files but for the first
	pair                    tls.Certificate
}

func newKMIPServer(t *testing.T) *kmipServer {
	t.Helper()
	s := arcatest.New(t, arcatest.Config{})
	k := &kmipServer{endpoint: fmt.Sprint("127.0.0.1:", arcatest.FreePort(t))}
	s.Must("POST", "sys/mounts/kmip", s.Root, map[string]any{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, map[string]any{"listen_addrs": k.endpoint})
	s.Must("POST", "kmip/scope/s", s.Root, nil)
	s.Must("POST", "kmip/scope/s/role/r", s.Root, map[string]any{"operation_all": true})
	cred, _ := arcatest.Dig(s.Must("POST", "kmip/scope/s/role/r/credential/generate", s.Root, map[string]any{"format": "pem"}), "data").(map[string]any)
	ca := s.Must("GET", "kmip/ca", s.Root, nil)
	dir := t.TempDir()
	for to, text := range map[*string]any{&k.cert: cred["certificate"], &k.key: cred["private_key"], &k.ca: arcatest.Dig(ca, "data", "ca_pem")} {
		*to = filepath.Join(dir, fmt.Sprint(len(fmt.Sprint(text))))
		if err := os.WriteFile(*to, []byte(fmt.Sprint(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if k.pair, err = tls.LoadX509KeyPair(k.cert, k.key); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", k.endpoint)
		if err == nil {
			_ = conn.Close()
			return k
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (k *kmipServer) stanza(key string, more ...string) config.Seal {
	return stanza("kmip", append([]string{
		"endpoint", k.endpoint, "kms_key_id", key, "client_cert", k.cert, "client_key", k.key, "ca_cert", k.ca, "server_name", "localhost",
	}, more...)...)
}

func (k *kmipServer) open(t *testing.T, key string) *kmip {
	t.Helper()
	s, ok := must(t, none, k.stanza(key)).(*kmip)
	if !ok {
		t.Fatal("another seal")
	}
	return s
}

// newKey makes an active AES key, as an operator would before.
func (k *kmipServer) newKey(t *testing.T) string {
	t.Helper()
	s := k.open(t, "-")
	attr := func(name string, v *ttlv.Node) *ttlv.Node {
		return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), v.Retag(ttlv.TagAttributeValue))
	}
	out, err := s.ask(t.Context(), ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagTemplateAttribute,
		attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), attr("Cryptographic Length", ttlv.Int(0, 256)),
		attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskEncrypt|ttlv.MaskDecrypt)))))
	if err != nil {
		t.Fatal(err)
	}
	id := out.Get(ttlv.TagUniqueIdentifier).Text()
	if _, err := s.ask(t.Context(), ttlv.OperationActivate, ttlv.Text(ttlv.TagUniqueIdentifier, id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestKMIP(t *testing.T) {
	t.Parallel()
	server := newKMIPServer(t)
	one, two := server.newKey(t), server.newKey(t)
	a, b := server.open(t, one), server.open(t, two)
	sealed := there(t, a)
	if !a.Current(sealed) || b.Current(sealed) {
		t.Error("what is to be encrypted anew is not told apart")
	}
	if back, err := b.Decrypt(t.Context(), sealed); err != nil || len(back) != 32 {
		t.Errorf("a key that was replaced decrypts no more: %v", err)
	}
	for i := range sealed {
		spoilt := append([]byte(nil), sealed...)
		spoilt[i] ^= 1
		if back, err := a.Decrypt(t.Context(), spoilt); err == nil && string(back) != "0123456789abcdef0123456789abcdef" {
			t.Errorf("a change at %d gives %q", i, back)
		}
	}
	if _, err := server.open(t, "nosuch").Encrypt(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "ItemNotFound") {
		t.Errorf("a key that is not there: %v", err)
	}
	// Another authority is not trusted, and who has no certificate is told so.
	other := newKMIPServer(t)
	s := server.stanza(one, "ca_cert", other.ca)
	if _, err := must(t, none, s).Encrypt(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another authority: %v", err)
	}
	s = server.stanza(one, "client_cert", other.cert, "client_key", other.key)
	if _, err := must(t, none, s).Encrypt(t.Context(), []byte("x")); err == nil {
		t.Error("a stranger's certificate is taken")
	}
}

// newPair makes an active pair of RSA keys.
func (k *kmipServer) newPair(t *testing.T) (public, private string) {
	t.Helper()
	s := k.open(t, "-")
	attr := func(name string, v *ttlv.Node) *ttlv.Node {
		return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), v.Retag(ttlv.TagAttributeValue))
	}
	out, err := s.ask(t.Context(), ttlv.OperationCreateKeyPair,
		ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmRSA)), attr("Cryptographic Length", ttlv.Int(0, 2048))),
		ttlv.Struct(ttlv.TagPrivateKeyTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskDecrypt)))),
		ttlv.Struct(ttlv.TagPublicKeyTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskEncrypt)))))
	if err != nil {
		t.Fatal(err)
	}
	public, private = out.Get(ttlv.TagPublicKeyUniqueIdentifier).Text(), out.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text()
	for _, id := range []string{public, private} {
		if _, err := s.ask(t.Context(), ttlv.OperationActivate, ttlv.Text(ttlv.TagUniqueIdentifier, id)); err != nil {
			t.Fatal(err)
		}
	}
	return public, private
}

// A pair of RSA keys is named by either of its keys, and what was encrypted in one way is decrypted when another is configured.
func TestKMIPRSA(t *testing.T) {
	t.Parallel()
	server := newKMIPServer(t)
	public, private := server.newPair(t)
	symmetric := server.newKey(t)
	with := func(key, alg string) *kmip {
		s, ok := must(t, none, server.stanza(key, "encrypt_alg", alg)).(*kmip)
		if !ok {
			t.Fatal("another seal")
		}
		return s
	}
	whole := make([]byte, 64) // the root key with the seal-wrap key
	var all []*kmip
	for _, alg := range []string{"RSA_OAEP_SHA256", "RSA_OAEP_SHA384", "RSA_OAEP_SHA512"} {
		for _, key := range []string{public, private} {
			k := with(key, alg)
			there(t, k)
			all = append(all, k)
		}
	}
	all = append(all, with(symmetric, "AES_GCM"))
	for i, k := range all {
		sealed, err := k.Encrypt(t.Context(), whole)
		if err != nil {
			t.Fatalf("%s: %v", k.alg, err)
		}
		for j, other := range all {
			if back, err := other.Decrypt(t.Context(), sealed); err != nil || len(back) != len(whole) {
				t.Errorf("%s decrypts %s: %v", other.alg, k.alg, err)
			}
			if other.Current(sealed) != (i == j) {
				t.Errorf("%d is taken for what %d gives: %v", i, j, other.Current(sealed))
			}
		}
	}
	if _, err := with(symmetric, "RSA_OAEP_SHA256").Encrypt(t.Context(), whole); err == nil || !strings.Contains(err.Error(), "no key of RSA") {
		t.Errorf("a symmetric key: %v", err)
	}
	s := server.stanza(public, "encrypt_alg", "RSA_PKCS1")
	if _, err := open(&options{stanza: &s, getenv: none}); err == nil || !strings.Contains(err.Error(), "encrypt_alg") {
		t.Errorf("another algorithm: %v", err)
	}
}

// Servers that speak an older version get it; what is no answer is an error, soon.
func TestKMIPServers(t *testing.T) {
	t.Parallel()
	real := newKMIPServer(t)
	id := real.newKey(t)
	proxied := real.open(t, id)
	answer := func(status, reason uint32) []byte {
		return ttlv.Struct(ttlv.TagResponseMessage, ttlv.Struct(ttlv.TagResponseHeader), ttlv.Struct(ttlv.TagBatchItem,
			ttlv.Enum(ttlv.TagResultStatus, status), ttlv.Enum(ttlv.TagResultReason, reason), ttlv.Text(ttlv.TagResultMessage, "no"))).Encode()
	}
	for name, c := range map[string]struct {
		serve func(version int64, message []byte) []byte
		works bool
	}{
		"1.3": {func(version int64, message []byte) []byte {
			if version > 3 {
				return answer(1, ttlv.ResultReasonInvalidMessage)
			}
			out, err := proxied.exchange(context.Background(), message)
			if err != nil {
				t.Error(err)
			}
			return out
		}, true},
		"refuses":    {func(int64, []byte) []byte { return answer(1, ttlv.ResultReasonPermissionDenied) }, false},
		"no version": {func(int64, []byte) []byte { return answer(1, ttlv.ResultReasonUnsupportedProtocolVersion) }, false},
		"empty":      {func(int64, []byte) []byte { return answer(0, 0) }, false},
		"nonsense":   {func(int64, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, false},
		"large":      {func(int64, []byte) []byte { return []byte{0x42, 0, 0x7b, 1, 0x7f, 0xff, 0xff, 0xf8} }, false},
		"silent":     {func(int64, []byte) []byte { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{real.pair}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						message := make([]byte, 4096)
						n, err := conn.Read(message)
						if err != nil {
							return
						}
						root, err := ttlv.Decode(message[:n])
						if err != nil {
							return
						}
						v := root.Get(ttlv.TagRequestHeader).Get(ttlv.TagProtocolVersion).Get(ttlv.TagProtocolVersionMinor).Int
						_, _ = conn.Write(c.serve(v, message[:n])) // the client may be gone
						_, _ = conn.Read(message)                  // until it is
					}()
				}
			}()
			s := real.open(t, id)
			s.endpoint, s.timeout = l.Addr().String(), 2*time.Second
			s.tls = &tls.Config{InsecureSkipVerify: true}
			if c.works {
				there(t, seal.Sealer(s))
				return
			}
			if out, err := s.Encrypt(t.Context(), []byte("x")); err == nil {
				t.Errorf("answered %q", out)
			}
		})
	}
}
