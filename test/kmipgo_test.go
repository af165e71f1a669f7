package test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipclient"

	"arca/internal/arcatest"
)

// The client of ovh/kmip-go, which others wrote, goes through what one does with a KMIP server, in
// each version of the protocol that it speaks.
func TestKMIPGo(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), fileStorage)
	port := arcatest.FreePort(t)
	n.must("POST", "sys/mounts/kmip", map[string]any{"type": "kmip"})
	n.must("POST", "kmip/config", map[string]any{"listen_addrs": fmt.Sprint("127.0.0.1:", port), "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	n.must("POST", "kmip/scope/s", nil)
	n.must("POST", "kmip/scope/s/role/r", map[string]any{"operation_all": true})
	ca := n.must("GET", "kmip/ca", nil)["data"].(map[string]any)["ca_pem"].(string)
	cred := n.must("POST", "kmip/scope/s/role/r/credential/generate", map[string]any{"format": "pem"})["data"].(map[string]any)
	dial := func(more ...kmipclient.Option) *kmipclient.Client {
		t.Helper()
		c, err := kmipclient.Dial(fmt.Sprint("127.0.0.1:", port), append(more, kmipclient.WithRootCAPem([]byte(ca)), kmipclient.WithServerName("localhost"),
			kmipclient.WithClientCertPEM([]byte(cred["certificate"].(string)), []byte(cred["private_key"].(string))))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	if c := dial(); c.Version() != kmip.V1_4 {
		t.Errorf("it has agreed to %v", c.Version())
	}
	for _, v := range []kmip.ProtocolVersion{kmip.V1_0, kmip.V1_1, kmip.V1_2, kmip.V1_3, kmip.V1_4} {
		t.Run(v.String(), func(t *testing.T) {
			g := &kmipGo{t, dial(kmipclient.WithKmipVersions(v)), v.String()}
			g.keys()
			g.others()
			g.batch()
			if v.ProtocolVersionMinor >= 2 {
				g.cryptography()
			}
		})
	}
}

// kmipGo is what the client does in one version of the protocol.
type kmipGo struct {
	t       *testing.T
	c       *kmipclient.Client
	version string
}

// done is what an operation has come to; the test ends where it failed.
func done[T any](t *testing.T, out T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keys is the life of a symmetric key.
func (g *kmipGo) keys() {
	t, c, label := g.t, g.c, "key of "+g.version
	made, err := c.Create().AES(256, kmip.CryptographicUsageEncrypt|kmip.CryptographicUsageDecrypt).WithName(label).WithAttribute("x-owner", "us").Exec()
	id := done(t, made, err).UniqueIdentifier
	found, err := c.Locate().WithName(label).WithObjectType(kmip.ObjectTypeSymmetricKey).Exec()
	if got := done(t, found, err).UniqueIdentifier; !slices.Equal(got, []string{id}) {
		t.Errorf("located %v, made %s", got, id)
	}
	_, err = c.Activate(id).Exec()
	done(t, 0, err)
	given, err := c.Get(id).Exec()
	key, ok := done(t, given, err).Object.(*kmip.SymmetricKey)
	if !ok {
		t.Fatalf("got a %v", given.ObjectType)
	}
	if raw, err := key.KeyMaterial(); err != nil || len(raw) != 32 {
		t.Errorf("the key has %d bytes, %v", len(raw), err)
	}
	_, err = c.AddAttribute(id, kmip.AttributeNameContactInformation, "desk 1").Exec()
	done(t, 0, err)
	_, err = c.ModifyAttribute(id, kmip.AttributeNameContactInformation, "desk 2").Exec()
	done(t, 0, err)
	attrs, err := c.GetAttributes(id, kmip.AttributeNameContactInformation, kmip.AttributeNameState).Exec()
	have := map[kmip.AttributeName]any{}
	for _, a := range done(t, attrs, err).Attribute {
		have[a.AttributeName] = a.AttributeValue
	}
	if have[kmip.AttributeNameContactInformation] != "desk 2" || have[kmip.AttributeNameState] != kmip.StateActive {
		t.Errorf("the attributes are %v", have)
	}
	_, err = c.DeleteAttribute(id, kmip.AttributeNameContactInformation).Exec()
	done(t, 0, err)
	names, err := c.GetAttributeList(id).Exec()
	if list := done(t, names, err).AttributeName; slices.Contains(list, kmip.AttributeNameContactInformation) || !slices.Contains(list, "x-owner") {
		t.Errorf("it has the attributes %v", list)
	}
	all, err := c.GetAttributes(id).Exec() // whatever the version knows, the client can read
	done(t, all, err)
	again, err := c.Rekey(id).Exec()
	next := done(t, again, err).UniqueIdentifier
	found, err = c.Locate().WithName(label).Exec()
	if got := done(t, found, err).UniqueIdentifier; !slices.Equal(got, []string{next}) {
		t.Errorf("the name belongs to %v, the new key is %s", got, next)
	}
	for _, id := range []string{id, next} {
		if _, err := c.Destroy(id).Exec(); err == nil {
			t.Error("an active key was destroyed")
		}
		_, err = c.Revoke(id).WithRevocationReasonCode(kmip.RevocationReasonCodeCessationOfOperation).Exec()
		done(t, 0, err)
		_, err = c.Destroy(id).Exec()
		done(t, 0, err)
		if _, err := c.Get(id).Exec(); err == nil {
			t.Error("a destroyed key was given out")
		}
	}
}

// others are objects that are no symmetric keys, and what the server says of itself.
func (g *kmipGo) others() {
	t, c := g.t, g.c
	made, err := c.Register().SecretString(kmip.SecretDataTypePassword, "open sesame").WithName("secret of " + g.version).Exec()
	id := done(t, made, err).UniqueIdentifier
	given, err := c.Get(id).Exec()
	if raw, err := done(t, given, err).Object.(*kmip.SecretData).Data(); err != nil || string(raw) != "open sesame" {
		t.Errorf("the secret is %q, %v", raw, err)
	}
	pair, err := c.CreateKeyPair().RSA(2048, kmip.CryptographicUsageSign, kmip.CryptographicUsageVerify).Exec()
	ids := done(t, pair, err)
	private, err := c.Get(ids.PrivateKeyUniqueIdentifier).Exec()
	if key, err := done(t, private, err).Object.(*kmip.PrivateKey).RSA(); err != nil || key.N.BitLen() != 2048 {
		t.Errorf("the private key: %v", err)
	}
	said, err := c.Query().All().Exec()
	if ops := done(t, said, err).Operations; !slices.Contains(ops, kmip.OperationGet) {
		t.Errorf("the operations are %v", ops)
	}
}

// batch is several operations in one message, that of a key that has just been made among them.
func (g *kmipGo) batch() {
	t := g.t
	out, err := g.c.Create().AES(128, kmip.CryptographicUsageEncrypt).WithName("batch of " + g.version).
		Then(func(c *kmipclient.Client) kmipclient.PayloadBuilder { return c.Activate("") }).
		Then(func(c *kmipclient.Client) kmipclient.PayloadBuilder { return c.Get("") }).Exec()
	if payloads, err := done(t, out, err).Unwrap(); err != nil || len(payloads) != 3 {
		t.Errorf("the batch has %d answers, %v", len(payloads), err)
	}
}

// cryptography is what the server works out with keys that it has.
func (g *kmipGo) cryptography() {
	t, c := g.t, g.c
	made, err := c.Create().AES(256, kmip.CryptographicUsageEncrypt|kmip.CryptographicUsageDecrypt).Exec()
	id := done(t, made, err).UniqueIdentifier
	_, err = c.Activate(id).Exec()
	done(t, 0, err)
	params := kmip.CryptographicParameters{BlockCipherMode: kmip.BlockCipherModeCBC, PaddingMethod: kmip.PaddingMethodPKCS5, CryptographicAlgorithm: kmip.CryptographicAlgorithmAES}
	text := []byte("a text of some length")
	sealed, err := c.Encrypt(id).WithCryptographicParameters(params).Data(text).Exec()
	done(t, sealed, err)
	opened, err := c.Decrypt(id).WithCryptographicParameters(params).WithIvCounterNonce(sealed.IVCounterNonce).Data(sealed.Data).Exec()
	if !bytes.Equal(done(t, opened, err).Data, text) {
		t.Errorf("decrypted, it is %q", opened.Data)
	}
	pair, err := c.CreateKeyPair().ECDSA(kmip.RecommendedCurveP_256, kmip.CryptographicUsageSign, kmip.CryptographicUsageVerify).Exec()
	ids := done(t, pair, err)
	for _, id := range []string{ids.PrivateKeyUniqueIdentifier, ids.PublicKeyUniqueIdentifier} {
		_, err = c.Activate(id).Exec()
		done(t, 0, err)
	}
	if g.version != "1.4" { // the client signs digests, which the others have not
		return
	}
	signer, err := c.Signer(t.Context(), ids.PrivateKeyUniqueIdentifier, ids.PublicKeyUniqueIdentifier)
	done(t, signer, err)
	digest := sha256.Sum256(text)
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if len(done(t, signature, err)) == 0 {
		t.Error("the signature is empty")
	}
}
